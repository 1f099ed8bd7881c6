using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>A checkpoint, judged by its signatures (<see cref="LogKeys"/>).</summary>
/// <param name="Tree">The tree that it describes; null: none of the log's keys signed it, or a signature names one but was not made with
/// it.</param>
/// <param name="Wrong">Why it does not count; null: it counts.</param>
/// <param name="Cosignatures">The cosignatures of participants on it, good and bad; those of strangers are left out.</param>
public sealed record JudgedCheckpoint(Checkpoint? Tree, string? Wrong, IReadOnlyList<Cosignature> Cosignatures)
{
    /// <summary>Whether it counts as the log's.</summary>
    public bool Counts => Wrong is null;

    /// <summary>The participants whose cosignatures on it count, each once; none if a cosignature names a key but was not made with it,
    /// because such a note must not be trusted (C2SP signed-note).</summary>
    public IReadOnlyList<string> Cosigners =>
        Cosignatures.Any(c => c.Time is null)
            ? []
            : [.. Cosignatures.Where(c => c.Wrong is null).Select(c => c.Participant).Distinct().Order(StringComparer.Ordinal)];
}

/// <summary>
/// The keys that sign a log: those of its service for checkpoints, and those of the participants for cosignatures, as one or more versions
/// of the agreement list them. Only this class decides whether a checkpoint counts.
/// </summary>
/// <remarks>
/// A checkpoint carries no time of its own, so a thief of a key can sign any tree with it, however old. Therefore:
/// <list type="bullet">
/// <item>a checkpoint counts while the key that signed it is in force;</item>
/// <item>once the key has ended or been revoked, it counts only if something that the thief does not control dates it before that:
/// cosignatures by keys that are not revoked, of as many participants as the agreement demands, at least one; or the verifier's own
/// memory of when it saw it;</item>
/// <item>otherwise it does not count by itself. If a consistency proof leads from it to a checkpoint that counts, it says nothing new,
/// and what was proved in its tree stays proved;</item>
/// <item>a cosignature's time is only what its signer says: a cosignature by a revoked key counts only if others date the same
/// checkpoint, in the same way, before that key was revoked.</item>
/// </list>
/// A key that a later version no longer lists counts as revoked when that version was recorded.
/// </remarks>
public sealed class LogKeys
{
    private readonly List<(CheckpointKey Key, SigningKey Listed)> _own = [];
    private readonly Lazy<List<(string Participant, CosignatureKey Key, SigningKey Listed)>> _theirs;
    private readonly uint _demanded;

    private LogKeys(IReadOnlyList<(Agreement Agreement, DateTimeOffset? Followed)> greatestFirst, string service)
    {
        Service = service;
        foreach (var (agreement, followed) in greatestFirst)
        foreach (var key in agreement.Participants.Where(p => p.Id == $"service/{service}").SelectMany(p => p.SigningKeys))
        {
            if (key.Use != SigningKeyUse.Checkpoints || !StrictEd25519.IsKey(key.PublicKey.Span))
                continue;
            var own = CheckpointKey.FromPublic($"{agreement.TrustDomain}/{service}", key.PublicKey.Span);
            if (_own.All(k => k.Key.Verifier != own.Verifier))
                _own.Add((own, Until(key, followed)));
        }
        _demanded = Math.Max(1, greatestFirst[0].Agreement.CosignaturesDemanded);
        _theirs = new(() =>
        {
            var theirs = new List<(string Participant, CosignatureKey Key, SigningKey Listed)>();
            foreach (var (agreement, followed) in greatestFirst)
            foreach (var (participant, key, cosigner) in Cosigners.KeysOf(agreement))
                if (theirs.All(k => k.Key.Verifier != cosigner.Verifier))
                    theirs.Add((participant.Id, cosigner, Until(key, followed)));
            return theirs;
        });
    }

    /// <summary>The service's name, such as <c>calllog</c>.</summary>
    public string Service { get; }

    /// <summary>The keys as one version lists them, usually that in force.</summary>
    /// <param name="agreement">The version.</param>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    public static LogKeys Of(Agreement agreement, string service) => new([(agreement, null)], service);

    /// <summary>The keys of all versions that a ledger recorded, each as the latest version that lists it shows it.</summary>
    /// <param name="history">The versions.</param>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    public static LogKeys Of(KeyHistory history, string service) =>
        new([.. history.Versions.Reverse().Select(v => (v, history.AdoptedAt(v.Version + 1)))], service);

    /// <summary>Whether the service may sign with the key at a moment.</summary>
    /// <param name="key">The key.</param>
    /// <param name="at">The moment.</param>
    public bool IsInForce(CheckpointKey key, DateTimeOffset at) =>
        _own.Any(k => k.Key.Verifier == key.Verifier && RequestSignatures.IsValidAt(k.Listed, at));

    /// <summary>The tree of a checkpoint that the service shows as its present one; null: no key that is in force signed it.</summary>
    /// <param name="note">The checkpoint, a signed note.</param>
    /// <param name="at">The moment.</param>
    public Checkpoint? Present(string note, DateTimeOffset at) =>
        SignedNote.Read(note) is { } read && SignedBy(read, out var tree) is { } by && by.Any(k => RequestSignatures.IsValidAt(k, at))
            ? tree
            : null;

    /// <summary>Judges checkpoints at the moment at which each is asked about.</summary>
    /// <param name="time">The clock.</param>
    public CheckpointJudge Judging(TimeProvider time) =>
        note =>
        {
            var judged = Judge(note, time.GetUtcNow());
            return (judged.Tree, judged.Counts);
        };

    /// <summary>Judges a checkpoint.</summary>
    /// <param name="note">The checkpoint, a signed note.</param>
    /// <param name="at">The moment at which it is judged; null: unknown, such as for a file that is read years later. Then a revoked key
    /// counts as revoked whenever that was, and a key with an end may have signed before it.</param>
    /// <param name="seen">When the verifier itself got it, by a memory of its own; null: it has none.</param>
    /// <param name="covers">The latest commit time of an entry in its tree, so it was signed after that; null: unknown.</param>
    public JudgedCheckpoint Judge(string note, DateTimeOffset? at, DateTimeOffset? seen = null, DateTimeOffset? covers = null)
    {
        if (SignedNote.Read(note) is not { } read)
            return new(null, "it is no signed note", []);
        var (cosignatures, dates) = CosignaturesOn(read, at);
        if (SignedBy(read, out var tree) is not { } by)
            return new(null, "a signature on it is not its key's", cosignatures);
        if (tree is null)
            return new(null, "it is not signed with a key that the agreement lists for the service", cosignatures);
        var wrongs = by.Select(WrongOf).ToList();
        return new(tree, wrongs.Contains(null) ? null : wrongs[0], cosignatures);

        string? WrongOf(SigningKey key)
        {
            if (key.ValidFromTime is { } from && from.ToDateTimeOffset() > at)
                return $"its key {key.Id} is not valid yet";
            if (Earliest(key.RevokeTime?.ToDateTimeOffset(), key.ValidUntilTime?.ToDateTimeOffset()) is { } over && covers >= over)
                return $"it has an entry of a time at which its key {key.Id} was no longer valid";
            if (EndOf(key, at) is not { } end || seen < end || dates.Count(d => d < end) >= _demanded)
                return null;
            return $"its key {key.Id} was {(key.RevokeTime is null ? "ended" : "revoked")}, and nothing shows that it signed this before";
        }
    }

    // When the key ended; null: it has not. If the moment is unknown, a revocation counts and an end does not.
    private static DateTimeOffset? EndOf(SigningKey key, DateTimeOffset? at)
    {
        var (revoked, until) = (key.RevokeTime?.ToDateTimeOffset(), key.ValidUntilTime?.ToDateTimeOffset());
        return Earliest(at is null || revoked <= at ? revoked : null, until <= at ? until : null);
    }

    private static DateTimeOffset? Earliest(DateTimeOffset? one, DateTimeOffset? other) => one is null || other < one ? other : one;

    // Which of the service's keys signed it; null: a signature names one but was not made with it.
    private List<SigningKey>? SignedBy(SignedNote note, out Checkpoint? tree)
    {
        tree = null;
        var by = new List<SigningKey>();
        foreach (var (key, listed) in _own)
        foreach (var signature in note.Signatures.Where(key.Names))
        {
            if (key.Verify($"{note.Text}\n{signature.Line}") is not { } verified)
                return null;
            tree = verified with { Text = note.ToString() };
            by.Add(listed);
        }
        return by;
    }

    // The cosignatures on a note, and the earliest time of each participant's cosignatures by keys that are not revoked.
    private (IReadOnlyList<Cosignature> Cosignatures, IReadOnlyList<DateTimeOffset> Dates) CosignaturesOn(
        SignedNote note,
        DateTimeOffset? at
    )
    {
        var read = new List<(Cosignature Cosignature, DateTimeOffset? Revoked)>();
        foreach (var (participant, key, listed) in _theirs.Value)
        foreach (var signature in note.Signatures.Where(key.Names))
        {
            var time = key.Verify(note, signature);
            read.Add(
                (
                    new Cosignature(
                        participant,
                        listed.Id,
                        time,
                        time is null ? "the signature is not its key's over this checkpoint"
                            : !RequestSignatures.IsValidAt(listed, time.Value) ? "its key was not valid at that time"
                            : null
                    ),
                    listed.RevokeTime?.ToDateTimeOffset() is { } revoked && (at is null || revoked <= at) ? revoked : null
                )
            );
        }
        var dates = read.Where(r => r.Cosignature.Wrong is null && r.Revoked is null)
            .GroupBy(r => r.Cosignature.Participant)
            .Select(g => g.Min(r => r.Cosignature.Time!.Value))
            .ToList();
        return (
            [
                .. read.Select(r =>
                    r.Cosignature.Wrong is null && r.Revoked is { } end && dates.Count(d => d < end) < _demanded
                        ? r.Cosignature with
                        {
                            Wrong = "its key was revoked, and its time is its own word alone",
                        }
                        : r.Cosignature
                ),
            ],
            dates
        );
    }

    private static SigningKey Until(SigningKey key, DateTimeOffset? followed)
    {
        if (followed is not { } gone || key.RevokeTime is { } revoked && revoked.ToDateTimeOffset() <= gone)
            return key;
        var ended = key.Clone();
        ended.RevokeTime = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTimeOffset(gone);
        return ended;
    }
}
