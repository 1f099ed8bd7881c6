using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>What an agreement's keys for sealing must be. Nothing is sealed or opened here.</summary>
public static class SealingKeys
{
    /// <summary>The size of a public key, in bytes: 1216. It is an ML-KEM-768 encapsulation key of 1184 bytes (FIPS 203) and an X25519
    /// public key of 32 bytes (RFC 7748), as X-Wing has them.</summary>
    public const int PublicKeyBytes = 1216;

    /// <summary>How many a participant can have, ended ones included: 64.</summary>
    public const int MaxPerParticipant = 64;

    // ML-KEM-768: three polynomials of 256 coefficients below q, each of 12 bits.
    private const int Coefficients = 3 * 256;
    private const int Q = 3329;

    /// <summary>Whether bytes are a public key: of its size, and with every coefficient of the ML-KEM key below 3329 (the modulus check of
    /// FIPS 203, 7.2).</summary>
    /// <param name="publicKey">The bytes.</param>
    public static bool IsPublicKey(ReadOnlySpan<byte> publicKey)
    {
        if (publicKey.Length != PublicKeyBytes)
            return false;
        // Two coefficients stand in three bytes.
        for (var i = 0; i < Coefficients / 2; i++)
        {
            var three = publicKey.Slice(3 * i, 3);
            if ((three[0] | (three[1] & 15) << 8) >= Q || (three[1] >> 4 | three[2] << 4) >= Q)
                return false;
        }
        return true;
    }

    /// <summary>What is wrong with the keys for sealing of a participant, as a text that says what is missing; null: nothing.</summary>
    /// <param name="participant">The participant.</param>
    internal static AgreementFault? Malformed(Participant participant)
    {
        if (participant.SealingKeys.Count == 0)
            return null;
        if (!AgreementVersions.Signs(participant))
            return Form($"no key for sealing of {participant.Id}: only ministries, observers and Protecting Powers open what is sealed");
        if (participant.SealingKeys.Count > MaxPerParticipant)
            return Form($"at most {MaxPerParticipant} keys for sealing of {participant.Id}");
        foreach (var key in participant.SealingKeys)
        {
            if (key.Id.Length is 0 or > 64 || !key.Id.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '/' or '-'))
                return Form(
                    $"ids of keys for sealing of {participant.Id} of 1 to 64 letters, digits, dots, hyphens, underscores and slashes"
                );
            if (!IsPublicKey(key.PublicKey.Span))
                return new(
                    AgreementWrong.KeyWeak,
                    $"a public key of X-Wing as {key.Id}: {PublicKeyBytes} bytes, with every coefficient of its ML-KEM half below {Q}",
                    [participant.Id]
                );
            if (key.ValidUntilTime is { } until && key.ValidFromTime is { } from && until <= from)
                return Form($"an end of {key.Id} after its begin");
        }
        return null;

        AgreementFault Form(string missing) => new(AgreementWrong.FormWrong, missing, [participant.Id]);
    }
}
