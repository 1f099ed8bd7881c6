using System.Collections.Concurrent;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Client;

/// <summary>A witness's answer.</summary>
/// <param name="Status">The HTTP status: 200, 400, 403, 404, 409, 422 or 503.</param>
/// <param name="Body">The cosignature line, the size of its tree, or a sentence.</param>
/// <param name="Type">The body's media type.</param>
public sealed record WitnessAnswer(int Status, string Body, string Type = "text/plain; charset=utf-8");

/// <summary>
/// A participant's witness (C2SP tlog-witness): it cosigns a service's checkpoint once it has a proof that every tree of that service that
/// it cosigned before is a prefix of the new one. Of each log, it keeps the checkpoint that it cosigned last, which is on the disk before
/// it answers. It does not ask who calls, because a checkpoint's own signature says whose it is. Safe for concurrent use.
/// </summary>
/// <remarks>
/// Anybody can post, so a refusal proves nothing by itself. Two signed checkpoints are a conflict only if together they prove that the
/// log has two histories: they have the same size and different roots, or a consistency proof that leads to the root of the greater one
/// shows another root at the size of the smaller. A signed checkpoint whose proof is just wrong is kept as unproved, until a cosigned
/// checkpoint of its size decides whether it is a conflict. Files in the folder, named after the log (<see cref="HashOf"/>):
/// <code>
/// HASH.checkpoint                        the checkpoint that was cosigned last
/// HASH.conflict-SIZE-ROOT.shown          of each conflict, the checkpoint that contradicts; root in lower-case hexadecimal
/// HASH.conflict-SIZE-ROOT.known          the checkpoint that it contradicts
/// HASH.conflict-SIZE-ROOT.proof          the consistency proof, base64 lines, where it needed one
/// HASH.unproved-SIZE-ROOT                a signed checkpoint that was offered with a wrong proof
/// </code>
/// </remarks>
public sealed class Witness : IDisposable
{
    /// <summary>The greatest length of a request, in bytes: a note, and 63 hashes.</summary>
    public const int MaxRequest = SignedNote.MaxLength + 4096;

    /// <summary>How many conflicts of a log are kept: 64. The first ones stay; later ones are counted and not kept.</summary>
    public const int MaxConflicts = 64;

    /// <summary>How many unproved checkpoints of a log are kept: 64. A further one replaces a checkpoint that is not greater than the one
    /// cosigned last, because it can no longer be proved, or one that has waited for <see cref="UnprovedLife"/>. So a flood cannot drive
    /// out the others. A full list is reported once.</summary>
    public const int MaxUnproved = 64;

    /// <summary>How long an unproved checkpoint keeps its place: 7 days.</summary>
    public static readonly TimeSpan UnprovedLife = TimeSpan.FromDays(7);

    private const int MaxHashes = 63;
    private readonly ConcurrentDictionary<string, Lock> _locks = [];
    private readonly ConcurrentDictionary<string, bool> _full = [];
    private readonly ConcurrentDictionary<string, bool> _damaged = [];
    private readonly ConcurrentDictionary<string, bool> _doubtful = [];
    private readonly string _folder;
    private readonly Func<Agreement> _agreement;
    private readonly Func<Func<CosignatureKey, string>, string> _withKey;
    private readonly TimeProvider _time;
    private readonly FileStream _alone;

    /// <summary>Opens a witness.</summary>
    /// <param name="folder">Where it keeps what it cosigned; created if missing. Do not restore it from a backup: with an older state, the
    /// witness would sign what contradicts its earlier signatures. Begin a new key instead.</param>
    /// <param name="agreement">The agreement in force, which names the services' keys.</param>
    /// <param name="key">The participant's key for cosignatures.</param>
    /// <param name="time">The clock.</param>
    /// <exception cref="IOException">The folder cannot be used, or another witness uses it.</exception>
    public Witness(string folder, Func<Agreement> agreement, CosignatureKey key, TimeProvider time)
        : this(folder, agreement, use => use(key), time) { }

    /// <summary>Opens a witness whose key may change.</summary>
    /// <param name="folder">Where it keeps what it cosigned, as above.</param>
    /// <param name="agreement">The agreement in force, which names the services' keys.</param>
    /// <param name="withKey">Does something with the participant's key for cosignatures. The key is not replaced meanwhile.</param>
    /// <param name="time">The clock.</param>
    /// <exception cref="IOException">The folder cannot be used, or another witness uses it.</exception>
    public Witness(string folder, Func<Agreement> agreement, Func<Func<CosignatureKey, string>, string> withKey, TimeProvider time)
    {
        (_folder, _agreement, _withKey, _time) = (folder, agreement, withKey, time);
        PrivateFiles.MakeFolder(folder);
        _alone = PrivateFiles.Open(Path.Combine(folder, "lock"), FileMode.OpenOrCreate);
    }

    /// <summary>The public key in the form that verifiers are given.</summary>
    public string Verifier => _withKey(key => key.Verifier);

    /// <summary>Called once for each conflict: a log is proved to have two histories. The text says how many conflicts there are. Never
    /// null.</summary>
    public Action<string> Alarm { get; init; } = _ => { };

    /// <summary>Called once for each signed checkpoint that was offered with a wrong proof and is kept. Never null.</summary>
    public Action<string> Warn { get; init; } = _ => { };

    /// <inheritdoc/>
    public void Dispose() => _alone.Dispose();

    /// <summary>The hash by which a log is named in addresses: SHA-256 of its origin, in lower-case hexadecimal.</summary>
    public static string HashOf(string origin) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(origin)));

    /// <summary>The checkpoint of a log that was cosigned last, with the log's signature and the cosignature; null: there is none.
    /// </summary>
    /// <param name="originHash">The log (<see cref="HashOf"/>).</param>
    public string? CheckpointOf(string originHash)
    {
        if (originHash.Length != 64 || !originHash.All(char.IsAsciiHexDigitLower))
            return null;
        var path = PathOf(originHash);
        return File.Exists(path) ? File.ReadAllText(path) : null;
    }

    /// <summary>Answers <c>add-checkpoint</c>.</summary>
    /// <param name="request">The request's body.</param>
    public WitnessAnswer AddCheckpoint(string request)
    {
        if (Read(request) is not var (old, proof, note) || note.Tree is not { } tree)
            return new(400, "the request is not of the form that tlog-witness prescribes\n");
        var agreement = _agreement();
        var now = _time.GetUtcNow();
        var listed = agreement
            .Participants.Where(p =>
                p.Kind == ParticipantKind.Service && note.Origin == $"{agreement.TrustDomain}/{p.Id[(p.Id.IndexOf('/') + 1)..]}"
            )
            .SelectMany(p => p.SigningKeys)
            .ToArray();
        if (listed.Length == 0)
            return new(404, "the agreement has no service of this origin\n");
        var keys = listed
            .Where(k => k.Use == SigningKeyUse.Checkpoints && k.PublicKey.Length == 32 && RequestSignatures.IsValidAt(k, now))
            .Select(k => CheckpointKey.FromPublic(note.Origin, k.PublicKey.Span))
            .ToArray();
        var by = keys.Where(k => note.Signatures.Any(k.Names)).ToArray();
        if (by.Length == 0)
            return new(403, "it is not signed with a key that the agreement lists for the service, valid now\n");
        if (by.Any(k => note.Signatures.Count(k.Names) > 1 || k.Verify(note.ToString()) is null))
            return new(403, "a signature on it is not its key's\n");
        if (old > tree.Size)
            return new(400, "the old size is greater than that of the checkpoint\n");
        var hash = HashOf(note.Origin);
        // Only the signatures that were verified are kept.
        var verified = note with
        {
            Signatures = [.. note.Signatures.Where(s => by.Any(k => k.Names(s)))],
        };
        // Nothing may come between reading the last cosigned checkpoint and replacing it.
        lock (_locks.GetOrAdd(hash, _ => new Lock()))
        {
            var kept = CheckpointOf(hash);
            var last = kept is null ? null : SignedNote.Read(kept)?.Tree;
            // A witness that has lost its last cosigned checkpoint must cosign nothing. Anybody can ask again, so this is reported once.
            if (kept is not null && last is null)
            {
                if (_damaged.TryAdd(hash, true))
                    Alarm(
                        $"{PathOf(hash)} was damaged and holds no checkpoint: nothing of {note.Origin} is cosigned. Begin a new key for "
                            + "cosignatures and another folder"
                    );
                return new(503, "the witness has lost what it cosigned last of this log\n");
            }
            // This is checked whatever size the request starts from.
            if (last?.Size == tree.Size && !Same(last, tree))
                KeepConflict(hash, kept!, verified);
            if (old != (last?.Size ?? 0))
                return new(409, $"{(last?.Size ?? 0).ToString(CultureInfo.InvariantCulture)}\n", "text/x.tlog.size");
            if (Wrong(last, tree, proof) is { } wrong)
            {
                if (last is { Size: > 0 } && tree.Size > last.Size)
                    Doubt(hash, kept!, last, verified, proof);
                return new(422, $"{wrong}\n");
            }
            var line = _withKey(key => key.Cosign(note, now));
            // Unproved checkpoints of this size are decided before the new checkpoint is written. In the other order, if the process ended
            // in between, they would never be looked at again, because they are below the last cosigned checkpoint.
            Decide(hash, verified);
            WholeFile.Write(PathOf(hash), $"{verified}{line}");
            return new(200, line);
        }
    }

    private static bool Same(Checkpoint one, Checkpoint other) => one.Root.AsSpan().SequenceEqual(other.Root);

    private static string? Wrong(Checkpoint? last, Checkpoint tree, IReadOnlyList<byte[]> proof)
    {
        if (tree.Size == 0 && !tree.Root.AsSpan().SequenceEqual(SHA256.HashData([])))
            return "an empty tree has another root";
        if (last is null or { Size: 0 })
            return proof.Count == 0 ? null : "every tree follows from the empty one: there is nothing to prove";
        if (last.Size == tree.Size && !Same(last, tree))
            return $"the log has shown another root at size {tree.Size}";
        return Proofs.Extends(last.Size, last.Root, tree.Size, tree.Root, proof)
            ? null
            : $"it is not proved that the tree of size {last.Size} is a prefix of this one";
    }

    /// <summary>Handles a greater checkpoint whose proof does not show that it extends the last one. The proof may show the opposite, or
    /// may just be wrong.</summary>
    private void Doubt(string hash, string kept, Checkpoint last, SignedNote note, IReadOnlyList<byte[]> proof)
    {
        var tree = note.Tree!;
        if (Proofs.PrefixOf(last.Size, tree.Size, tree.Root, proof) is { } prefix && !prefix.AsSpan().SequenceEqual(last.Root))
        {
            KeepConflict(hash, kept, note, proof);
            return;
        }
        var path = Path.Combine(_folder, $"{hash}.unproved-{NameOf(tree)}");
        if (File.Exists(path))
            return;
        var unproved = Directory.GetFiles(_folder, $"{hash}.unproved-*");
        foreach (var other in unproved.Where(u => IsOf(u, tree.Size)))
        {
            if (!Counts(other))
                continue;
            KeepConflict(hash, File.ReadAllText(other), note);
            return;
        }
        if (unproved.Length >= MaxUnproved)
        {
            var past = unproved.Where(u => SizeOf(u) <= last.Size).ToList();
            var oldest = (past.Count > 0 ? past : [.. unproved]).MinBy(File.GetLastWriteTimeUtc)!;
            if (past.Count == 0 && _time.GetUtcNow() - File.GetLastWriteTimeUtc(oldest) < UnprovedLife)
            {
                if (_doubtful.TryAdd(hash, true))
                    Warn(
                        $"{MaxUnproved} checkpoints of {note.Origin} came with wrong proofs and wait to be decided; no more are kept, of which "
                            + $"the first is over {tree.Size} entries with the root {Convert.ToHexStringLower(tree.Root)}"
                    );
                return;
            }
            File.Delete(oldest);
        }
        _doubtful.TryRemove(hash, out _);
        WholeFile.Write(path, note.ToString());
        File.SetLastWriteTimeUtc(path, _time.GetUtcNow().UtcDateTime);
        Warn(
            $"a checkpoint of {note.Origin} over {tree.Size} entries came with a wrong proof that it goes on from {last.Size}: whoever "
                + $"sent it made the proof up, or the log has two histories; {path} has it until a checkpoint of its size decides"
        );
    }

    /// <summary>Decides the unproved checkpoints of the size that is now cosigned: each is the same checkpoint or a conflict.</summary>
    private void Decide(string hash, SignedNote cosigned)
    {
        foreach (var path in Directory.GetFiles(_folder, $"{hash}.unproved-*").Where(u => IsOf(u, cosigned.Tree!.Size)))
        {
            if (SignedNote.Read(File.ReadAllText(path)) is { Tree: { } tree } note && !Same(tree, cosigned.Tree!) && Counts(path))
                KeepConflict(hash, cosigned.ToString(), note);
            File.Delete(path);
        }
    }

    // Whether an unproved checkpoint still counts: its key may have been revoked since for a time before the file was written.
    private bool Counts(string path)
    {
        var note = File.ReadAllText(path);
        var origin = SignedNote.Read(note)?.Origin ?? "";
        return LogKeys
            .Of(_agreement(), origin[(origin.IndexOf('/') + 1)..])
            .Judge(note, _time.GetUtcNow(), File.GetLastWriteTimeUtc(path))
            .Counts;
    }

    /// <summary>Keeps a checkpoint that is proved to contradict another one, with that other one; both are signed by the log.</summary>
    private void KeepConflict(string hash, string known, SignedNote note, IReadOnlyList<byte[]>? proof = null)
    {
        var path = Path.Combine(_folder, $"{hash}.conflict-{NameOf(note.Tree!)}");
        if (File.Exists($"{path}.shown"))
            return;
        var count = Directory.GetFiles(_folder, $"{hash}.conflict-*.shown").Length + 1;
        if (count > MaxConflicts)
        {
            if (_full.TryAdd(hash, true))
                Alarm($"the log {note.Origin} has more than {MaxConflicts} conflicts: no more are kept");
            return;
        }
        WholeFile.Write($"{path}.known", known);
        if (proof is not null)
            WholeFile.Write($"{path}.proof", string.Concat(proof.Select(h => $"{Convert.ToBase64String(h)}\n")));
        // This file is written last, so that the others exist where it does.
        WholeFile.Write($"{path}.shown", note.ToString());
        Alarm($"the log {note.Origin} has two histories, conflict {count}: it signed both {path}.known and {path}.shown");
    }

    private static string NameOf(Checkpoint tree) =>
        $"{tree.Size.ToString(CultureInfo.InvariantCulture)}-{Convert.ToHexStringLower(tree.Root)}";

    private static bool IsOf(string path, ulong size) =>
        path.Contains($".unproved-{size.ToString(CultureInfo.InvariantCulture)}-", StringComparison.Ordinal);

    // The name of an unproved checkpoint says its size.
    private static ulong SizeOf(string path) =>
        ulong.TryParse(
            path[(path.LastIndexOf(".unproved-", StringComparison.Ordinal) + 10)..].Split('-')[0],
            NumberStyles.None,
            CultureInfo.InvariantCulture,
            out var size
        )
            ? size
            : 0;

    private string PathOf(string hash) => Path.Combine(_folder, $"{hash}.checkpoint");

    private static (ulong Old, IReadOnlyList<byte[]> Proof, SignedNote Note)? Read(string request)
    {
        var end = request.IndexOf("\n\n", StringComparison.Ordinal);
        if (end < 0 || request.Length > MaxRequest)
            return null;
        var lines = request[..end].Split('\n');
        if (
            !lines[0].StartsWith("old ", StringComparison.Ordinal)
            || lines.Length - 1 > MaxHashes
            || !ulong.TryParse(lines[0].AsSpan(4), NumberStyles.None, CultureInfo.InvariantCulture, out var old)
            || lines[0] != $"old {old.ToString(CultureInfo.InvariantCulture)}"
        )
            return null;
        var proof = new List<byte[]>();
        foreach (var line in lines[1..])
        {
            var hash = new byte[33];
            if (!Convert.TryFromBase64String(line, hash, out var length) || length != 32 || line.Length != 44)
                return null;
            proof.Add(hash[..32]);
        }
        return SignedNote.Read(request[(end + 2)..]) is { } note ? (old, proof, note) : null;
    }
}
