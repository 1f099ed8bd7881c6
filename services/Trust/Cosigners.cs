using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>A cosignature on a checkpoint, judged.</summary>
/// <param name="Participant">Whose key it names.</param>
/// <param name="Key">The key's id in the agreement.</param>
/// <param name="Time">When the witness says that it cosigned; null: the signature is not its key's.</param>
/// <param name="Wrong">Why it does not count; null: it does.</param>
public sealed record Cosignature(string Participant, string Key, DateTimeOffset? Time, string? Wrong);

/// <summary>Finds the participants that cosigned a checkpoint. The agreement lists their keys for cosignatures, each under the name
/// <c>&lt;trust domain&gt;/witness/&lt;participant id&gt;</c>.</summary>
public static class Cosigners
{
    /// <summary>The cosignatures of participants on a checkpoint, good and bad; those of strangers are ignored.</summary>
    /// <param name="checkpoint">The checkpoint, a signed note.</param>
    /// <param name="agreement">The agreement, which names the keys. A key must be valid at the time of the cosignature, so what it signed
    /// before its end still counts.</param>
    public static IReadOnlyList<Cosignature> On(string checkpoint, Agreement agreement)
    {
        if (SignedNote.Read(checkpoint) is not { } note)
            return [];
        var judged = new List<Cosignature>();
        foreach (var (participant, key, cosigner) in KeysOf(agreement))
        foreach (var signature in note.Signatures.Where(cosigner.Names))
        {
            var time = cosigner.Verify(note, signature);
            judged.Add(
                new Cosignature(
                    participant.Id,
                    key.Id,
                    time,
                    time is null ? "the signature is not its key's over this checkpoint"
                        : !RequestSignatures.IsValidAt(key, time.Value) ? "its key was not valid at that time"
                        : null
                )
            );
        }
        return judged;
    }

    /// <summary>The participants that cosigned a checkpoint with a good cosignature, each once; none if a cosignature names a key but was
    /// not made with it, because such a note must not be trusted (C2SP signed-note).</summary>
    /// <param name="checkpoint">The checkpoint, a signed note.</param>
    /// <param name="agreement">The agreement.</param>
    public static IReadOnlyList<string> Of(string checkpoint, Agreement agreement)
    {
        var all = On(checkpoint, agreement);
        return all.Any(c => c.Time is null)
            ? []
            : [.. all.Where(c => c.Wrong is null).Select(c => c.Participant).Distinct().Order(StringComparer.Ordinal)];
    }

    /// <summary>The keys for cosignatures that the agreement lists. Services and the operator cannot be witnesses, because witnesses exist
    /// so that nobody need trust them.</summary>
    /// <param name="agreement">The agreement.</param>
    public static IEnumerable<(Participant Participant, SigningKey Key, CosignatureKey Cosigner)> KeysOf(Agreement agreement) =>
        from participant in agreement.Participants
        where participant.Kind is not (ParticipantKind.Service or ParticipantKind.Operator)
        from key in participant.SigningKeys
        where key.Use == SigningKeyUse.Cosignatures && StrictEd25519.IsKey(key.PublicKey.Span)
        select (
            participant,
            key,
            CosignatureKey.FromPublic(CosignatureKey.NameOf(agreement.TrustDomain, participant.Id), key.PublicKey.Span)
        );

    /// <summary>What is wrong with what the agreement says of witnesses; null: nothing.</summary>
    /// <param name="agreement">The agreement.</param>
    public static string? Wrong(Agreement agreement)
    {
        var keys = KeysOf(agreement).Select(k => k.Participant.Id).ToHashSet();
        foreach (var witness in agreement.Witnesses)
        {
            if (!keys.Contains(witness.Participant))
                return $"the witness {witness.Participant} has no key for cosignatures";
            if (
                !Uri.TryCreate(witness.Address, UriKind.Absolute, out var address)
                || address.Scheme != Uri.UriSchemeHttps
                || !witness.Address.EndsWith('/')
            )
                return $"the witness {witness.Participant} needs an address that begins with https: and ends with a slash";
        }
        if (agreement.Witnesses.Select(w => w.Participant).Distinct().Count() != agreement.Witnesses.Count)
            return "a participant is named as a witness twice";
        if (agreement.CosignaturesDemanded > agreement.Witnesses.Count)
            return $"{agreement.CosignaturesDemanded} cosignatures are demanded of {agreement.Witnesses.Count} witnesses";
        return agreement is { CosignaturesDemanded: > 0, CosignatureSeconds: < 1 or > 86_400 }
            ? "cosignatures are demanded, but not within 1 to 86400 seconds"
            : null;
    }

    /// <summary>A receipt as text that other tools can verify offline (C2SP tlog-proof).</summary>
    /// <param name="receipt">The receipt.</param>
    public static string ProofOf(Receipt receipt) =>
        new LogProof(receipt.Position, [.. receipt.InclusionProof.Select(h => h.ToByteArray())], receipt.Checkpoint).ToString();
}
