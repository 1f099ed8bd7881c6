using Google.Protobuf.WellKnownTypes;
using Ministries.Types.V1;

namespace Ministries.Sealing;

/// <summary>To whom something is sealed.</summary>
/// <param name="Participant">The participant's id.</param>
/// <param name="KeyId">The id of its key for sealing in the agreement.</param>
/// <param name="Key">The key.</param>
public sealed record Recipient(string Participant, string KeyId, XWingPublicKey Key)
{
    /// <summary>A participant with the newest of its keys for sealing that is in force.</summary>
    /// <param name="participant">The participant, as the agreement has it.</param>
    /// <param name="now">When.</param>
    /// <param name="field">The path of the field that is to be sealed, for the error.</param>
    /// <exception cref="SealException"><see cref="SealFault.NoSealingKey"/>: none is in force. <see cref="SealFault.InvalidKey"/>: the
    /// agreement has a key that is none.</exception>
    public static Recipient Of(Participant participant, Timestamp now, string field)
    {
        var newest = participant
            .SealingKeys.Where(k =>
                k.ValidFromTime is { } from
                && from <= now
                && (k.ValidUntilTime is not { } until || now < until)
                && (k.RevokeTime is not { } revoked || now < revoked)
            )
            .MaxBy(k => k.ValidFromTime);
        if (newest is null)
            throw new SealException(SealFault.NoSealingKey, field, $"{participant.Id} has no key for sealing in force.");
        return XWingPublicKey.TryRead(newest.PublicKey.Span) is { } key
            ? new(participant.Id, newest.Id, key)
            : throw new SealException(SealFault.InvalidKey, field, $"the key {newest.Id} of {participant.Id} is not valid.");
    }
}
