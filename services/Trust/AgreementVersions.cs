using System.Collections;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Keys;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>What one version of the agreement changes, and who must agree to it.</summary>
/// <param name="What">The change, in plain words.</param>
/// <param name="Of">The participant whose signature alone is needed, because the change is its own affair; null: everybody must
/// sign.</param>
/// <param name="ReplacesKey">Whether it changes only the participant's keys for agreements. Then all others together may sign instead,
/// because it may have lost those keys.</param>
public sealed record AgreementChange(string What, string? Of = null, bool ReplacesKey = false);

/// <summary>Why a version of the agreement does not follow from the one before, in the order in which it is checked; what is wrong
/// with the version by itself is checked before that.</summary>
public enum AgreementWrong
{
    /// <summary>Its number is not the next one.</summary>
    VersionNotNext = 1,

    /// <summary>It names no digest of the preceding version, or a wrong one.</summary>
    PreviousDigestWrong,

    /// <summary>It is valid from an earlier time than the version before.</summary>
    ValidFromEarlier,

    /// <summary>A ministry, observer or Protecting Power would have no key that is valid for the next version.</summary>
    KeyForAgreementsMissing,

    /// <summary>A signature names a key that is not one of its participant's keys for agreements.</summary>
    SignatureKeyUnknown,

    /// <summary>A signature is not the key's over this version.</summary>
    SignatureWrong,

    /// <summary>A participant signed with a key that this version adds. Such a key counts only from the next version on.</summary>
    SignatureKeyTooNew,

    /// <summary>A participant signed with a key that is not valid yet, no longer valid or revoked.</summary>
    SignatureKeyNotValid,

    /// <summary>A participant whom the changes affect has not signed.</summary>
    SignatureMissing,

    /// <summary>A key is not an Ed25519 key, is one with which anybody can sign, or is a key for sealing that is no X-Wing key.</summary>
    KeyWeak,

    /// <summary>A name, a time or an enum value in it is not of the form that every verifier reads alike.</summary>
    FormWrong,
}

/// <summary>What is wrong with a version of the agreement.</summary>
/// <param name="Wrong">What, by name.</param>
/// <param name="Missing">What is missing, in plain words.</param>
/// <param name="Suppliers">The participants who can supply it; none: the author of the version.</param>
public sealed record AgreementFault(AgreementWrong Wrong, string Missing, IReadOnlyList<string> Suppliers)
{
    /// <inheritdoc/>
    public override string ToString() =>
        $"{Wrong}; what is missing: {Missing}; "
        + (Suppliers.Count == 0 ? "its author can supply it" : $"{string.Join(", ", Suppliers)} can supply it");
}

/// <summary>
/// The agreement's versions, each signed by those whom its changes affect: a participant signs alone for its own keys, authorities and
/// systems and for what it gives up; every ministry, observer and Protecting Power of the version before signs for all else. So nobody, not
/// even the operator, can replace another's key unnoticed.
/// </summary>
public static class AgreementVersions
{
    /// <summary>The method of the entries by which a service takes over a version; the entry's request is the version.</summary>
    public const string Method = "agreement";

    private const int SignaturesField = Agreement.SignaturesFieldNumber;

    // Of the Third Geneva Convention.
    private const int LastArticle = 143;

    private const int MaxReservations = 64;

    // The fields of its own block that a participant may change by its signature alone. All others need everybody's signature.
    private static readonly HashSet<int> OwnFields =
    [
        Participant.AuthorityCertificatesFieldNumber,
        Participant.SystemsFieldNumber,
        Participant.DeniedCertificatesFieldNumber,
        Participant.SigningKeysFieldNumber,
        Participant.SealingKeysFieldNumber,
        Participant.CapacitiesFieldNumber,
        Participant.ClearanceFieldNumber,
        Participant.OfficialsFieldNumber,
    ];

    // The fields that change with every version.
    private static readonly HashSet<int> Frame =
    [
        Agreement.VersionFieldNumber,
        Agreement.ValidFromTimeFieldNumber,
        Agreement.PreviousDigestFieldNumber,
        SignaturesField,
        Agreement.ParticipantsFieldNumber,
    ];

    /// <summary>Whether the participant signs versions: a ministry, an observer or a Protecting Power.</summary>
    public static bool Signs(Participant participant) =>
        participant.Kind is ParticipantKind.Ministry or ParticipantKind.NeutralObserver or ParticipantKind.ProtectingPower;

    /// <summary>SHA-256 of a version's bytes without its signatures: what the next version names as its predecessor.</summary>
    public static byte[] DigestOf(Agreement agreement) => SHA256.HashData(WireWalk.Without(agreement.ToByteArray(), SignaturesField));

    /// <summary>Signs a version for a participant; a signature of the same key is replaced. Nothing but signatures may change
    /// afterwards.</summary>
    /// <param name="agreement">The version.</param>
    /// <param name="participant">The participant.</param>
    /// <param name="keyId">The key's id in the preceding version; where the participant is new, in this one.</param>
    /// <param name="key">The key.</param>
    public static void Sign(Agreement agreement, string participant, string keyId, Signer key)
    {
        var signature = new AgreementSignature
        {
            Participant = participant,
            KeyId = keyId,
            Signature = ByteString.CopyFrom(key.Sign(TextOf(agreement))),
        };
        if (agreement.Signatures.FirstOrDefault(s => s.KeyId == keyId) is { } old)
            agreement.Signatures.Remove(old);
        agreement.Signatures.Add(signature);
    }

    /// <summary>Turns an altered copy of a version into the next version: it sets the number and the predecessor's digest, and removes the
    /// signatures.</summary>
    /// <param name="previous">The version before.</param>
    /// <param name="next">The altered copy.</param>
    public static void Follow(Agreement previous, Agreement next)
    {
        next.Version = previous.Version + 1;
        next.PreviousDigest = ByteString.CopyFrom(DigestOf(previous));
        next.Signatures.Clear();
    }

    /// <summary>What is wrong with a version by itself, whoever signed it (<c>protos/EVIDENCE.md</c>, section 4); null: nothing. Names
    /// become lines of checkpoints and of what is signed: a name of another form could be read as something else.</summary>
    /// <param name="agreement">The version.</param>
    public static AgreementFault? Malformed(Agreement agreement)
    {
        if (!IsName(agreement.TrustDomain, 64, c => IsLower(c) || c is '.' or '-'))
            return Form("a trust domain of 1 to 64 lowercase letters, digits, dots and hyphens");
        if (StrictForm.Wrong(agreement) is { } wrong)
            return Form($"times and values that are known: {wrong}");
        foreach (var participant in agreement.Participants)
        {
            if (!IsName(participant.Id, 64, c => IsLower(c) || c is '.' or '-' or '_' or '/'))
                return Form("participants' ids of 1 to 64 lowercase letters, digits, dots, hyphens, underscores and slashes");
            if (!participant.Officials.All(o => IsName(o, 64, c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '/' or '-')))
                return Form($"codes of officials of {participant.Id} of 1 to 64 letters, digits, dots, hyphens, underscores and slashes");
            if (Twice(participant.Officials) is { } twice)
                return twice;
            foreach (var key in participant.SigningKeys)
            {
                if (!IsName(key.Id, 128, c => c is > ' ' and <= '~' and not '"' and not '\\'))
                    return Form(
                        $"keys' ids of {participant.Id} of 1 to 128 printable ASCII characters but space, quotation mark and backslash"
                    );
                if (!StrictEd25519.IsKey(key.PublicKey.Span))
                    return new(
                        AgreementWrong.KeyWeak,
                        $"a public key of Ed25519 as {key.Id}: this one is none, or of small order",
                        [participant.Id]
                    );
            }
            if (SealingKeys.Malformed(participant) is { } seals)
                return seals;
        }
        foreach (var state in agreement.States)
        {
            if (state.Reservations.Count > MaxReservations || !state.Reservations.All(a => a is >= 1 and <= LastArticle))
                return Form($"at most {MaxReservations} reservations of {state.Code}, each the number of an article, 1 to {LastArticle}");
            if (Twice(state.Reservations.Select(a => $"the reservation of {state.Code} on Article {a}")) is { } twice)
                return twice;
        }
        return Twice(agreement.Participants.Select(p => p.Id))
            ?? Twice(agreement.Participants.SelectMany(p => p.SigningKeys).Select(k => k.Id))
            ?? Twice(agreement.Participants.SelectMany(p => p.SealingKeys).Select(k => k.Id))
            ?? Twice(agreement.States.Select(s => s.Code))
            ?? Twice(agreement.Bureaux.Select(b => $"the bureau of {b.State}"))
            ?? Twice(agreement.ApprovalDemands.Select(d => d.Method))
            ?? Shared();

        // A key under two ids could be revoked under one of them and still sign under the other. With one key for two officials or two
        // witnesses, one of them could act as both.
        // Two participants with one key for sealing could each open what is meant for the other.
        AgreementFault? Shared() =>
            agreement
                .Participants.SelectMany(p => p.SigningKeys.Select(k => (k.Id, k.PublicKey)))
                .Concat(agreement.Participants.SelectMany(p => p.SealingKeys.Select(k => (k.Id, k.PublicKey))))
                .GroupBy(k => k.PublicKey)
                .FirstOrDefault(g => g.Count() > 1)
                is { } shared
                ? Form($"a public key of its own for each of {string.Join(", ", shared.Select(k => k.Id))}")
                : null;
        static AgreementFault Form(string missing) => new(AgreementWrong.FormWrong, missing, []);
        static bool IsLower(char c) => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c);
        static bool IsName(string text, int longest, Func<char, bool> holds) =>
            text.Length > 0 && text.Length <= longest && text.All(holds);
        static AgreementFault? Twice(IEnumerable<string> names) =>
            names.GroupBy(n => n).FirstOrDefault(g => g.Count() > 1) is { } twice
                ? Form($"one block for {twice.Key}, which is there twice")
                : null;
    }

    /// <summary>Checks that a version follows from the previous one and is signed by the participants that it affects; null: no
    /// fault.</summary>
    /// <param name="previous">The version before; null: the first that is seen, which everybody in it signs.</param>
    /// <param name="next">The version.</param>
    /// <param name="at">When it is taken over: its signatures' keys must be valid then.</param>
    public static AgreementFault? Check(Agreement? previous, Agreement next, DateTimeOffset at)
    {
        if (Malformed(next) is { } malformed)
            return malformed;
        if (previous is not null && next.Version != previous.Version + 1)
            return new(AgreementWrong.VersionNotNext, $"version {previous.Version + 1}, which comes before {next.Version}", []);
        if (
            previous is not null
                ? !next.PreviousDigest.Span.SequenceEqual(DigestOf(previous))
                : next.Version == 1 != next.PreviousDigest.IsEmpty
        )
            return new(
                AgreementWrong.PreviousDigestWrong,
                previous is null
                    ? "the digest of the preceding version, which version 1 alone has not"
                    : $"the digest of version {previous.Version} as it was adopted: {Convert.ToHexStringLower(DigestOf(previous))}",
                []
            );
        if (previous is not null && (next.ValidFromTime ?? new Timestamp()) < (previous.ValidFromTime ?? new Timestamp()))
            return new(AgreementWrong.ValidFromEarlier, $"a time not before that of version {previous.Version}", []);
        foreach (var participant in next.Participants.Where(p => Signs(p) && !p.Equals(Find(previous, p.Id))))
            if (!KeysOf(participant).Any(k => RequestSignatures.IsValidAt(k, at)))
                return new(
                    AgreementWrong.KeyForAgreementsMissing,
                    $"a key for agreements of {participant.Id} that is valid",
                    [participant.Id]
                );

        var signed = new HashSet<string>();
        var uncounted = new Dictionary<string, AgreementWrong>();
        var text = TextOf(next);
        foreach (var signature in next.Signatures)
        {
            var id = signature.Participant;
            var old = KeyOf(previous, id, signature.KeyId);
            var key = old ?? KeyOf(next, id, signature.KeyId);
            if (key is null)
                return new(AgreementWrong.SignatureKeyUnknown, $"{signature.KeyId} among the keys for agreements of {id}", [id]);
            if (!SigningKeys.Verifies(key.PublicKey, text, signature.Signature))
                return new(AgreementWrong.SignatureWrong, $"a signature of {id} over version {next.Version} as it stands here", [id]);
            if (old is null && previous is not null && Find(previous, id) is { } before && Signs(before))
                uncounted[id] = AgreementWrong.SignatureKeyTooNew;
            else if (!RequestSignatures.IsValidAt(key, at))
                uncounted[id] = AgreementWrong.SignatureKeyNotValid;
            else
                signed.Add(id);
        }

        var missing = Missing(previous, next, signed);
        if (missing.Count == 0)
            return null;
        if (missing.FirstOrDefault(uncounted.ContainsKey) is { } first)
            return new(
                uncounted[first],
                uncounted[first] == AgreementWrong.SignatureKeyTooNew
                    ? $"{first}'s signature with a key that version {previous!.Version} lists"
                    : $"{first}'s signature with a key that is valid now and not revoked",
                [first]
            );
        return new(AgreementWrong.SignatureMissing, $"the signatures of {string.Join(", ", missing)} over version {next.Version}", missing);
    }

    /// <summary>Who must still sign.</summary>
    /// <param name="previous">The version before; null: the first that is seen.</param>
    /// <param name="next">The version.</param>
    /// <param name="signed">Those who have signed validly.</param>
    public static IReadOnlyList<string> Missing(Agreement? previous, Agreement next, IReadOnlySet<string> signed)
    {
        var everybody = (previous ?? next).Participants.Where(Signs).Select(p => p.Id).ToList();
        if (previous is null)
            return [.. everybody.Except(signed)];
        // A participant that joins signs that it is listed with these keys.
        var needed = next.Participants.Where(Signs).Select(p => p.Id).Except(everybody).ToHashSet();
        foreach (var affair in Between(previous, next).GroupBy(c => c.Of))
            if (affair.Key is not { } own)
                needed.UnionWith(everybody);
            else if (
                !signed.Contains(own)
                && affair.All(c => c.ReplacesKey)
                && everybody.Count > 2
                && everybody.All(p => p == own || signed.Contains(p))
            )
                continue;
            else
                needed.Add(own);
        return [.. needed.Except(signed).Order(StringComparer.Ordinal)];
    }

    /// <summary>What a version changes of the one before, in plain words, and who must sign each change.</summary>
    public static IReadOnlyList<AgreementChange> Between(Agreement previous, Agreement next)
    {
        var changes = new List<AgreementChange>();
        foreach (var field in Agreement.Descriptor.Fields.InFieldNumberOrder().Where(f => !Frame.Contains(f.FieldNumber)))
            changes.AddRange(ChangesOf(field, previous, next).Select(what => new AgreementChange(what)));
        foreach (var gone in previous.Participants.Where(p => Find(next, p.Id) is null))
            changes.Add(new($"{gone.Id} no longer takes part"));
        foreach (var participant in next.Participants)
            if (Find(previous, participant.Id) is { } before)
                changes.AddRange(ChangesOf(before, participant));
            else
                changes.Add(new($"{participant.Id} takes part: {participant.Name}"));
        if (
            !next
                .Participants.Select(p => p.Id)
                .Where(i => Find(previous, i) is not null)
                .SequenceEqual(previous.Participants.Select(p => p.Id).Where(i => Find(next, i) is not null))
        )
            changes.Add(new("participants: in another order"));
        // A version that changes nothing needs everybody's signature as well.
        if (changes.Count == 0)
            changes.Add(new("nothing but its number and the time from which it holds"));
        return changes;
    }

    private static IEnumerable<AgreementChange> ChangesOf(Participant before, Participant after)
    {
        var signs = Signs(before) && Signs(after);
        foreach (var field in Participant.Descriptor.Fields.InFieldNumberOrder())
        {
            var own = signs && OwnFields.Contains(field.FieldNumber);
            if (field.FieldNumber == Participant.CapacitiesFieldNumber)
                own &= !after.Capacities.Except(before.Capacities).Any();
            if (field.FieldNumber == Participant.ClearanceFieldNumber)
                own &= after.Clearance < before.Clearance;
            if (field.FieldNumber == Participant.SigningKeysFieldNumber)
            {
                foreach (var (what, key) in KeyChanges(before, after))
                    yield return new($"{after.Id}: {what}", own ? after.Id : null, own && key.Use == SigningKeyUse.Agreements);
                continue;
            }
            foreach (var what in ChangesOf(field, before, after))
                yield return new($"{after.Id}: {what}", own ? after.Id : null);
        }
        if (
            before.SigningKeys.Count == after.SigningKeys.Count
            && !before.SigningKeys.Equals(after.SigningKeys)
            && !KeyChanges(before, after).Any()
        )
            yield return new($"{after.Id}: signing keys: in another order", signs ? after.Id : null);
    }

    private static IEnumerable<(string What, SigningKey Key)> KeyChanges(Participant before, Participant after)
    {
        foreach (var gone in before.SigningKeys.Where(k => after.SigningKeys.All(n => n.Id != k.Id)))
            yield return ($"key {gone.Id} ({Name(gone.Use)}) is no longer listed", gone);
        foreach (var key in after.SigningKeys)
        {
            var old = before.SigningKeys.FirstOrDefault(k => k.Id == key.Id);
            if (old is null)
                yield return (
                    $"new key {key.Id} ({Name(key.Use)}{(key.Official.Length > 0 ? $" of {key.Official}" : "")}), "
                        + $"{Convert.ToHexStringLower(SHA256.HashData(key.PublicKey.Span))[..16]}",
                    key
                );
            else if (!old.Equals(key))
                foreach (var field in SigningKey.Descriptor.Fields.InFieldNumberOrder())
                foreach (var what in ChangesOf(field, old, key))
                    // If a key's use changes, others cannot sign instead, as they can for a key that stays for agreements.
                    yield return ($"key {key.Id} ({Name(old.Use)}): {what}", old.Use == key.Use ? old : new SigningKey());
        }

        static string Name(SigningKeyUse use) => use.ToString().ToLowerInvariant();
    }

    // The changes of one field, each in words.
    private static IEnumerable<string> ChangesOf(FieldDescriptor field, IMessage before, IMessage after)
    {
        if (Equals(field.Accessor.GetValue(before), field.Accessor.GetValue(after)))
            yield break;
        var name = field.Name.Replace('_', ' ');
        var (old, now) = (Items(field, before), Items(field, after));
        if (!field.IsRepeated)
            yield return $"{name}: {Text(now)} instead of {Text(old)}";
        else if (old.ToHashSet().SetEquals(now))
            yield return $"{name}: in another order or number";
        else
        {
            foreach (var gone in old.Except(now))
                yield return $"{name}: no longer {gone}";
            foreach (var added in now.Except(old))
                yield return $"{name}: {added}";
        }

        static string Text(IReadOnlyList<string> items) => items is [{ Length: > 0 } one] ? one : "none";
    }

    // The values of a field in words; of a grant, each method by itself.
    private static List<string> Items(FieldDescriptor field, IMessage message) =>
        field.Accessor.GetValue(message) switch
        {
            IEnumerable<Grant> grants => [.. grants.SelectMany(g => g.Methods.Select(m => $"{g.Part} may call {m}"))],
            IEnumerable<ApprovalDemand> demands => [.. demands.Select(d => $"{d.Officials} officials must approve {d.Method}")],
            IEnumerable<string> texts when field.Name.EndsWith("certificates", StringComparison.Ordinal) => [.. texts.Select(Certificate)],
            ByteString bytes => [Convert.ToHexStringLower(bytes.Span)],
            string text => [text],
            IEnumerable list => [.. list.Cast<object>().Select(Words)],
            null => [],
            var value => [Words(value)],
        };

    private static string Words(object value) =>
        value switch
        {
            Timestamp time => JsonFormatter.ToDiagnosticString(time).Trim('"'),
            SealingKey key => Words(key),
            IMessage message => JsonFormatter.Default.Format(message),
            _ => Convert.ToString(value, CultureInfo.InvariantCulture) ?? "",
        };

    // Its public key is too long to be read, and is compared by its digest.
    private static string Words(SealingKey key) =>
        $"{key.Id}, {Convert.ToHexStringLower(SHA256.HashData(key.PublicKey.Span))[..16]}"
        + (key.ValidFromTime is { } from ? $", from {Words(from)}" : "")
        + (key.ValidUntilTime is { } until ? $", until {Words(until)}" : "")
        + (key.RevokeTime is { } revoked ? $", revoked {Words(revoked)}" : "");

    private static string Certificate(string text) =>
        text.StartsWith("-----", StringComparison.Ordinal)
            ? $"certificate {Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)))}"
            : text;

    private static Participant? Find(Agreement? agreement, string id) => agreement?.Participants.FirstOrDefault(p => p.Id == id);

    private static IEnumerable<SigningKey> KeysOf(Participant? participant) =>
        participant?.SigningKeys.Where(k => k.Use == SigningKeyUse.Agreements) ?? [];

    private static SigningKey? KeyOf(Agreement? agreement, string participant, string keyId) =>
        Find(agreement, participant) is { } found && Signs(found) ? KeysOf(found).FirstOrDefault(k => k.Id == keyId) : null;

    private static byte[] TextOf(Agreement agreement) =>
        Encoding.UTF8.GetBytes(
            $"ministries.agreement.v1\n{agreement.TrustDomain}\n{agreement.Version.ToString(CultureInfo.InvariantCulture)}\n"
                + $"{agreement.PreviousDigest.ToBase64()}\n{Convert.ToBase64String(DigestOf(agreement))}\n"
        );
}
