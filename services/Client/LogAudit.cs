using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Text;
using Grpc.Core;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;

namespace Ministries.Client;

/// <summary>How a log broke its promise only to grow.</summary>
public enum LogBreak
{
    /// <summary>Two roots were signed over as many entries: two histories were shown (a split view).</summary>
    TwoRoots,

    /// <summary>What was signed before is no prefix of the log: an entry was rewritten, left out or moved.</summary>
    NotAPrefix,

    /// <summary>The log has fewer entries than were signed before: it was cut off, or put back to an earlier state.</summary>
    Truncated,

    /// <summary>The tiles that the service shows are not of the tree that it signed.</summary>
    TilesDoNotMatch,

    /// <summary>The service has answered thousands of writes and has not let its log be read since.</summary>
    NotShown,
}

/// <summary>A service's log contradicts what the service signed. Where two checkpoints show it, only the holder of the service's key
/// can have made them.</summary>
public sealed class InvalidLogException : Exception
{
    internal InvalidLogException(string service, LogBreak @break, string what, string? one = null, string? other = null)
        : base($"the log of {service} is broken ({@break}): {what}") =>
        (Service, Break, What, One, Other) = (service, @break, what, one, other);

    /// <summary>The service's name.</summary>
    public string Service { get; }

    /// <summary>How it is broken.</summary>
    public LogBreak Break { get; }

    /// <summary>A checkpoint that the service signed; null: it is not shown by two checkpoints.</summary>
    public string? One { get; }

    /// <summary>The checkpoint that contradicts it.</summary>
    public string? Other { get; }

    internal string What { get; }
}

/// <summary>The result of auditing a log from outside. A broken log gives an <see cref="InvalidLogException"/> instead.</summary>
/// <param name="Service">The service's name.</param>
/// <param name="Checkpoint">The newest checkpoint: the service signed it, and the tiles are of its tree.</param>
/// <param name="Linked">How many earlier checkpoints the log extends: that of the last audit, and those of receipts since.</param>
/// <param name="LinkedSize">The number of entries under the greatest of them; zero: there was none.</param>
/// <param name="Entries">How many entries' hashes were read one by one; zero: none, only the tree's upper tiles were read.</param>
/// <param name="Cosigned">The greatest checkpoint with the demanded cosignatures; null: there is none. It is a prefix of the newest.
/// </param>
/// <param name="Cosignatures">The cosignatures on it, good and bad.</param>
/// <param name="Compared">By participant, the number of entries for which its witness has the same log.</param>
/// <param name="NotCompared">By participant, why its witness was not asked with success.</param>
/// <param name="Verified">How many entries were read and verified: those that are for this participant; zero: none was asked for.</param>
/// <param name="Signatures">How many of them had their request and its signature shown, and verified.</param>
public sealed record LogAudit(
    string Service,
    Checkpoint Checkpoint,
    int Linked,
    ulong LinkedSize,
    ulong Entries,
    Checkpoint? Cosigned,
    IReadOnlyList<Cosignature> Cosignatures,
    IReadOnlyDictionary<string, ulong> Compared,
    IReadOnlyDictionary<string, string> NotCompared,
    long Verified = 0,
    long Signatures = 0
)
{
    /// <summary>Checkpoints that were seen before, or that witnesses have, which are not of this log and do not count: the key that signed
    /// them was revoked or has ended, and nothing dates them before (<see cref="LogKeys"/>). A thief of that key may have made them.
    /// </summary>
    public IReadOnlyList<string> Doubtful { get; init; } = [];

    /// <summary>The participants with a good cosignature on <see cref="Cosigned"/>, each once.</summary>
    public IReadOnlyList<string> Cosigners =>
        [.. Cosignatures.Where(c => c.Wrong is null).Select(c => c.Participant).Distinct().Order(StringComparer.Ordinal)];
}

public sealed partial class MinistryClient
{
    private readonly ConcurrentDictionary<string, SeenLog> _seen = [];

    /// <summary>
    /// Checks a service's log from outside: it fetches the log's checkpoint and as many tiles as are needed. Every checkpoint that this
    /// client has seen (that of the last audit, and those of all receipts since) must belong to the history that the log shows now. The
    /// agreement's witnesses must have seen that history too. So if two participants are shown two histories, they cannot both agree with
    /// the same witnesses.
    /// </summary>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    /// <param name="whole">Whether to read the hash of every entry and compute the root from these alone.</param>
    /// <param name="entries">Whether to read, besides, every entry that is for this participant, and verify it
    /// (<see cref="EntriesAudit"/>).
    /// </param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="InvalidLogException">The log has two histories, or does not show the one that was signed.</exception>
    /// <exception cref="InvalidEntryException">An entry is not what the log has at its place, or was altered, or not signed.</exception>
    /// <exception cref="EntryMissingException">An entry that is for the participant was left out.</exception>
    /// <exception cref="HttpRequestException">The service cannot be reached.</exception>
    public Task<LogAudit> Audit(string service, bool whole = false, bool entries = false, CancellationToken cancel = default) =>
        Run(service, new Extent(whole, entries, true, null), cancel);

    /// <summary>As <see cref="Audit"/>, and verifies some entries that were read: that each is the one that the log has at its place, and
    /// that its parts and its signature are right. So whoever follows a ledger verifies it as it grows, and reads nothing twice.</summary>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    /// <param name="shown">The entries, in the order of the ledger; none: the log alone is checked.</param>
    /// <param name="witnesses">Whether the witnesses are asked, too.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="InvalidLogException">The log has two histories, or does not show the one that was signed.</exception>
    /// <exception cref="InvalidEntryException">An entry is not what the log has at its place, or was altered, or not signed.</exception>
    /// <exception cref="HttpRequestException">The service cannot be reached.</exception>
    public Task<LogAudit> Verify(string service, IReadOnlyList<Entry> shown, bool witnesses = true, CancellationToken cancel = default) =>
        Run(service, new Extent(false, false, witnesses, shown), cancel);

    /// <summary>Verifies the header of an entry that is shown without its parts: the header must be the one that the log has at its
    /// position.</summary>
    /// <inheritdoc cref="Verify(string, IReadOnlyList{Entry}, bool, CancellationToken)"/>
    private Task<LogAudit> VerifyHeader(string service, Google.Protobuf.ByteString header, CancellationToken cancel) =>
        Run(service, new Extent(false, false, false, [new Entry { Header = header }], HeadersAlone: true), cancel);

    private async Task<LogAudit> Run(string service, Extent extent, CancellationToken cancel)
    {
        var seen = SeenOf(service);
        await seen.OneAtATime.WaitAsync(cancel);
        try
        {
            var (linked, pending) = seen.Take();
            // Each audit begins with another replica. One that is away does not keep the log from being audited.
            var replicas = ReplicasOf(service);
            for (var left = replicas.Count; ; left--)
                try
                {
                    var address = replicas[(int)(seen.NextReplica() % (uint)replicas.Count)];
                    return await new Auditor(this, service, seen).Run(address, linked, pending, extent, cancel);
                }
                catch (Exception e)
                    when (left > 1 && (e is HttpRequestException or TaskCanceledException) && !cancel.IsCancellationRequested)
                {
                    // The next replica is asked.
                }
        }
        catch (InvalidLogException e) when (e.Break != LogBreak.TilesDoNotMatch)
        {
            seen.Break(e);
            throw;
        }
        finally
        {
            seen.OneAtATime.Release();
        }
    }

    private IReadOnlyList<Uri> ReplicasOf(string service) =>
        _settings.Services.TryGetValue(service, out var first)
            ? [first, .. _settings.FurtherAddresses.GetValueOrDefault(service) ?? []]
            : throw new InvalidOperationException($"no address of {service} is set");

    // What an audit looks at: all hashes; all entries for the participant; the witnesses; entries that were read already.
    private sealed record Extent(bool Whole, bool Entries, bool Witnesses, IReadOnlyList<Entry>? Given, bool HeadersAlone = false);

    internal SeenLog SeenOf(string service) =>
        _seen.GetOrAdd(
            service,
            name => new SeenLog(
                name,
                _settings.SeenFolder,
                _time,
                (c, time) => LogKeys.Of(Agreement, name).Judge(c.Text, _time.GetUtcNow(), time).Counts
            )
        );

    /// <summary>Remembers the checkpoint of a valid receipt. After a number of receipts the log is audited in the background; no write
    /// waits for it.</summary>
    private void Remember(string service, Receipt receipt)
    {
        var seen = SeenOf(service);
        int waiting;
        try
        {
            waiting = seen.Add(new Checkpoint(receipt.TreeSize, receipt.RootHash.ToByteArray(), receipt.Checkpoint));
        }
        catch (InvalidLogException e) when (e.Break == LogBreak.NotShown)
        {
            // The service may show the log again, so the audit is tried later. Until then no receipt counts.
            AuditBeside(service, seen);
            throw;
        }
        if (_settings.AuditEvery > 0 && (waiting % _settings.AuditEvery == 0 || seen.TakeUp()))
            AuditBeside(service, seen);
    }

    private void AuditBeside(string service, SeenLog seen)
    {
        if (_settings.AuditEvery <= 0 || seen.OneAtATime.CurrentCount == 0)
            return;
        _besides[service] = Task.Run(async () =>
        {
            try
            {
                using var late = new CancellationTokenSource(TimeSpan.FromSeconds(30), _time);
                using var end = CancellationTokenSource.CreateLinkedTokenSource(late.Token, _closing.Token);
                await Audit(service, cancel: end.Token);
            }
            catch (Exception)
            {
                // A broken log is thrown at the next receipt. Any other failure is tried again after the next receipt.
            }
        });
    }

    /// <summary>One audit of one log.</summary>
    private sealed class Auditor(MinistryClient client, string service, SeenLog seen)
    {
        /// <summary>How often a replica that shows less than was signed is looked at again, and after what time.</summary>
        private const int MaxLooks = 10;
        private static readonly TimeSpan LookAgain = TimeSpan.FromMilliseconds(500);

        private readonly LogKeys _keys = LogKeys.Of(client.Agreement, service);

        // An earlier checkpoint, which the newest must extend if it counts. One that does not count may be made with a stolen key.
        private sealed record Earlier(Checkpoint Checkpoint, bool Counts, string? Witness = null);

        public async Task<LogAudit> Run(
            Uri address,
            Checkpoint? linked,
            IReadOnlyList<Checkpoint> pending,
            Extent extent,
            CancellationToken cancel
        )
        {
            using var http = Open(
                ServiceChannel.Handler(
                    service,
                    () => client.Certificate,
                    () => client._agreement.Current.Authorities,
                    ConnectTimeout,
                    client._time
                ),
                address,
                HttpVersionPolicy.RequestVersionExact
            );
            var (compared, notCompared) = extent.Witnesses ? await AskWitnesses(cancel) : ([], []);
            var positions = (extent.Given ?? []).Select(PositionOf).ToList();
            // The service is asked after the witnesses: whatever they have seen, it must show too.
            IReadOnlyList<Checkpoint> before = linked is null ? pending : [.. pending, linked];
            var least = positions.Count == 0 ? 0 : positions.Max() + 1;
            var (newest, cosigned) = await ReadCheckpoints(http, least, cancel);
            var earlier = EarlierOnes(before, compared, cosigned?.Tree);
            // A replica hears within a second or two what another one signed.
            for (var looks = 0; looks < MaxLooks && client.ReplicasOf(service).Count > 1 && IsBehind(newest, earlier); looks++)
            {
                await Task.Delay(LookAgain, client._time, cancel);
                (newest, cosigned) = await ReadCheckpoints(http, least, cancel);
                earlier = EarlierOnes(before, compared, cosigned?.Tree);
            }
            RefuseTruncated(newest, earlier);
            var tiles = new RemoteTiles(http, service, newest);
            var roots = await RootsOf(tiles, newest, earlier, positions, cancel);
            var doubtful = NotOfThisLog(newest, earlier, roots);
            foreach (var witness in doubtful.Select(d => d.Witness).OfType<string>())
                if (compared.TryRemove(witness, out _))
                    notCompared[witness] =
                        "what it shows is not of this log, and signed with a key whose time is over: nothing dates it before";
            var shown = extent.Entries || positions.Count > 0 ? new EntriesAudit(service, await AgreementsIn(newest.Size, cancel)) : null;
            var entries =
                extent.Whole || extent.Entries
                    ? await tiles.ReadAll(shown, client.Follow(service, 0, "", untilNow: true, cancel), cancel)
                    : 0;
            if (positions.Count > 0)
                shown!.Take(extent.Given!, tiles.LeafAt, extent.HeadersAlone);
            seen.Link(newest, pending);
            return new LogAudit(
                service,
                newest,
                pending.Count + (linked is null ? 0 : 1),
                pending.Select(c => c.Size).Append(linked?.Size ?? 0).Max(),
                entries,
                cosigned?.Tree,
                cosigned?.Cosignatures ?? [],
                compared.ToDictionary(c => c.Key, c => c.Value.Tree!.Size),
                notCompared,
                shown?.Entries ?? 0,
                shown?.Signatures ?? 0
            )
            {
                Doubtful = [.. doubtful.Select(d => d.Checkpoint.Text)],
            };
        }

        private ulong PositionOf(Entry entry)
        {
            try
            {
                return EntryHeader.Parser.ParseFrom(entry.Header).Position;
            }
            catch (Google.Protobuf.InvalidProtocolBufferException)
            {
                throw new InvalidEntryException(service, "a header that cannot be read");
            }
        }

        /// <summary>The newest checkpoint, and the cosigned one where it counts. The newest is never the smaller of the two, and has at
        /// least some entries.</summary>
        private async Task<(Checkpoint Newest, JudgedCheckpoint? Cosigned)> ReadCheckpoints(
            HttpClient http,
            ulong least,
            CancellationToken cancel
        )
        {
            var newest = await ReadCheckpoint(http, cancel);
            // An entry is shown a moment before the checkpoint over it is signed.
            for (var tries = 0; newest.Size < least; tries++)
            {
                if (tries == 20)
                    throw new InvalidEntryException(service, $"entry {least - 1} is not in the log, which has {newest.Size} entries");
                await Task.Delay(TimeSpan.FromMilliseconds(100), client._time, cancel);
                newest = await ReadCheckpoint(http, cancel);
            }
            var cosigned = await Text(http, "checkpoint/cosigned", cancel) is { } text ? _keys.Judge(text, client._time.GetUtcNow()) : null;
            if (cosigned is not { Counts: true, Tree: { } tree })
                return (newest, null);
            return (tree.Size > newest.Size ? await ReadCheckpoint(http, cancel) : newest, cosigned);
        }

        private Earlier[] EarlierOnes(
            IEnumerable<Checkpoint> before,
            IReadOnlyDictionary<string, JudgedCheckpoint> compared,
            Checkpoint? cosigned
        )
        {
            var now = client._time.GetUtcNow();
            return
            [
                .. before
                    .Select(c => new Earlier(c, _keys.Judge(c.Text, now, seen.TimeOf(c)).Counts))
                    .Concat(compared.Select(c => new Earlier(c.Value.Tree!, c.Value.Counts, c.Key)))
                    .Concat(cosigned is null ? [] : [new Earlier(cosigned, true)])
                    .Where(e => e.Checkpoint.Size > 0),
            ];
        }

        private static bool IsBehind(Checkpoint newest, Earlier[] earlier) => earlier.Any(e => e.Counts && e.Checkpoint.Size > newest.Size);

        private void RefuseTruncated(Checkpoint newest, Earlier[] earlier)
        {
            foreach (var (one, _, _) in earlier.Where(e => e.Counts))
                if (one.Size > newest.Size)
                    throw new InvalidLogException(
                        service,
                        LogBreak.Truncated,
                        $"it shows {newest.Size} entries, and has signed a checkpoint over {one.Size}",
                        one.Text,
                        newest.Text
                    );
        }

        /// <summary>The roots that the tiles have at the sizes of the earlier checkpoints, by size. The tiles are verified against the
        /// newest checkpoint, so that the roots can be relied upon.</summary>
        private async Task<Dictionary<ulong, byte[]>> RootsOf(
            RemoteTiles tiles,
            Checkpoint newest,
            Earlier[] earlier,
            IEnumerable<ulong> leaves,
            CancellationToken cancel
        )
        {
            if (newest.Size > 0 && !(await tiles.RootOf(newest.Size, cancel)).AsSpan().SequenceEqual(newest.Root))
                throw new InvalidLogException(
                    service,
                    LogBreak.TilesDoNotMatch,
                    $"the tiles do not lead to the root that it signed over {newest.Size} entries"
                );
            var roots = new Dictionary<ulong, byte[]>();
            foreach (var (one, _, _) in earlier)
                if (one.Size <= newest.Size)
                    roots[one.Size] = await tiles.RootOf(one.Size, cancel);
            foreach (var tile in leaves.Select(l => l >> 8).Distinct())
                await tiles.ReadLeaves(tile, cancel);
            await tiles.Check(cancel);
            return roots;
        }

        /// <summary>The earlier checkpoints that are not of this log and do not count.</summary>
        /// <exception cref="InvalidLogException">One that counts is not of this log.</exception>
        private List<Earlier> NotOfThisLog(Checkpoint newest, Earlier[] earlier, Dictionary<ulong, byte[]> roots)
        {
            var others = new List<Earlier>();
            foreach (var one in earlier)
            {
                var checkpoint = one.Checkpoint;
                if (roots.TryGetValue(checkpoint.Size, out var root) && root.AsSpan().SequenceEqual(checkpoint.Root))
                    continue;
                if (one.Counts)
                    throw new InvalidLogException(
                        service,
                        checkpoint.Size == newest.Size ? LogBreak.TwoRoots : LogBreak.NotAPrefix,
                        checkpoint.Size == newest.Size
                            ? $"two histories of {checkpoint.Size} entries were signed"
                            : $"what was signed as its first {checkpoint.Size} entries is not what it shows as them: one was rewritten, "
                                + "left out or moved",
                        checkpoint.Text,
                        newest.Text
                    );
                others.Add(one);
            }
            return others;
        }

        private async Task<List<Entry>> AgreementsIn(ulong size, CancellationToken cancel)
        {
            var entries = new List<Entry>();
            for (var version = 1ul; ; version++)
                try
                {
                    if (entries.Count > 0 && EntryHeader.Parser.ParseFrom(entries[^1].Header).Position >= size)
                        return entries[..^1];
                    entries.Add(
                        (
                            await client
                                .LedgerOf(service)
                                .GetEntryAsync(new GetEntryRequest { AgreementVersion = version }, cancellationToken: cancel)
                        ).Entry
                    );
                }
                catch (RpcException e) when (e.StatusCode == StatusCode.NotFound)
                {
                    if (entries.Count > 0 || version >= client.Agreement.Version)
                        return entries;
                }
        }

        private async Task<(
            ConcurrentDictionary<string, JudgedCheckpoint> Compared,
            ConcurrentDictionary<string, string> Not
        )> AskWitnesses(CancellationToken cancel)
        {
            var (compared, not) = (new ConcurrentDictionary<string, JudgedCheckpoint>(), new ConcurrentDictionary<string, string>());
            var path = $"{Witness.HashOf($"{client.Agreement.TrustDomain}/{service}")}/checkpoint";
            await Task.WhenAll(
                client.Agreement.Witnesses.Select(async witness =>
                {
                    using var http = Open(
                        ServiceChannel.HandlerOf(
                            witness.Participant,
                            () => client.Certificate,
                            () => client._agreement.Current.Authorities,
                            ConnectTimeout,
                            client._time
                        ),
                        new Uri(witness.Address),
                        HttpVersionPolicy.RequestVersionOrLower
                    );
                    try
                    {
                        if (await Text(http, path, cancel) is not { } text)
                            not[witness.Participant] = "it has no checkpoint of this log";
                        else if (_keys.Judge(text, client._time.GetUtcNow()) is not { Tree: not null } theirs)
                            not[witness.Participant] = "what it shows is not signed by the service";
                        else
                            compared[witness.Participant] = theirs;
                    }
                    catch (Exception e)
                        when (e is HttpRequestException || e is OperationCanceledException && !cancel.IsCancellationRequested)
                    {
                        not[witness.Participant] = "it cannot be reached";
                    }
                })
            );
            return (compared, not);
        }

        private static HttpClient Open(HttpMessageHandler handler, Uri address, HttpVersionPolicy policy) =>
            new(handler)
            {
                BaseAddress = address,
                DefaultRequestVersion = HttpVersion.Version20,
                DefaultVersionPolicy = policy,
                MaxResponseContentBufferSize = 1 << 20,
                Timeout = TimeSpan.FromSeconds(10),
            };

        private async Task<Checkpoint> ReadCheckpoint(HttpClient http, CancellationToken cancel) =>
            await Text(http, "checkpoint", cancel) is { } text && _keys.Present(text, client._time.GetUtcNow()) is { } checkpoint
                ? checkpoint
                : throw new InvalidLogException(
                    service,
                    LogBreak.TilesDoNotMatch,
                    "its checkpoint is not signed with a key that the agreement lists and that is valid now"
                );

        private static async Task<string?> Text(HttpClient http, string path, CancellationToken cancel)
        {
            using var answer = await http.GetAsync(new Uri(path, UriKind.Relative), cancel);
            if (answer.StatusCode == HttpStatusCode.NotFound)
                return null;
            // The answer is read as UTF-8, whatever character set it claims.
            return Encoding.UTF8.GetString(await answer.EnsureSuccessStatusCode().Content.ReadAsByteArrayAsync(cancel));
        }
    }

    /// <summary>The tiles under one checkpoint, fetched when they are asked for.</summary>
    private sealed class RemoteTiles(HttpClient http, string service, Checkpoint checkpoint)
    {
        private readonly Dictionary<(int Level, ulong Index), Tile> _tiles = [];

        /// <summary>The root of the first entries.</summary>
        public async Task<byte[]> RootOf(ulong size, CancellationToken cancel)
        {
            var view = new TreeView(size, _tiles);
            while (true)
            {
                var root = view.Root();
                var missed = view.TakeMissed();
                if (missed.Count == 0)
                    return root;
                foreach (var (level, index) in missed)
                    _tiles[(level, index)] = await Read(level, index, cancel);
            }
        }

        /// <summary>Reads a tile of leaves unless it was read. It is checked with the others.</summary>
        public async Task ReadLeaves(ulong index, CancellationToken cancel)
        {
            if (!_tiles.ContainsKey((0, index)))
                _tiles[(0, index)] = await Read(0, index, cancel);
        }

        /// <summary>The leaf at a position, whose tile was read.</summary>
        public ReadOnlyMemory<byte> LeafAt(ulong position) => _tiles[(0, position >> 8)].NodeAt(0, (int)(position & 0xff));

        /// <summary>Checks each full tile against the tile above it. The root alone does not prove full tiles.</summary>
        public async Task Check(CancellationToken cancel)
        {
            var unchecked_ = new Queue<(int Level, ulong Index)>(_tiles.Keys);
            while (unchecked_.TryDequeue(out var at))
            {
                var tile = _tiles[at];
                if (tile.Width < Tile.Full)
                    continue;
                var above = (at.Level + 1, at.Index >> 8);
                if (!_tiles.TryGetValue(above, out var parent))
                {
                    _tiles[above] = parent = await Read(above.Item1, above.Item2, cancel);
                    unchecked_.Enqueue(above);
                }
                if (!parent.NodeAt(0, (int)(at.Index & 0xff)).AsSpan().SequenceEqual(tile.Root))
                    throw Wrong($"{at.Level}/{at.Index}");
            }
            // Tiles at the right edge that were fetched for this check contribute to the root, so it is computed again.
            if (checkpoint.Size > 0 && !(await RootOf(checkpoint.Size, cancel)).AsSpan().SequenceEqual(checkpoint.Root))
                throw Wrong("of the edge");
        }

        /// <summary>Reads every entry's record and hash, and computes the root from them. If an audit is given, it verifies the entries
        /// themselves.</summary>
        public async Task<ulong> ReadAll(EntriesAudit? audit, IAsyncEnumerable<FollowEntriesResponse> shown, CancellationToken cancel)
        {
            var edge = new TreeEdge(0, []);
            var filled = new List<TileRow>();
            await using var entries = shown.GetAsyncEnumerator(cancel);
            var (more, some) = (audit is not null && await entries.MoveNextAsync(), new List<Entry>());
            var (leaves, first) = (new List<byte[]>(), 0ul);
            for (ulong index = 0; index << 8 < checkpoint.Size; index++)
            {
                var tile = await Read(0, index, cancel);
                var records = await Bytes("entries", index, tile.Width, 34, cancel);
                for (var i = 0; i < tile.Width; i++)
                {
                    var record = records.AsSpan(34 * i, 34);
                    if (
                        record[0] != 0
                        || record[1] != 32
                        || !System.Security.Cryptography.SHA256.HashData([0, .. record[2..]]).AsSpan().SequenceEqual(tile.NodeAt(0, i))
                    )
                        throw Wrong($"of records {index}");
                    edge.Add(tile.NodeAt(0, i), filled);
                    if (audit is not null)
                        leaves.Add(tile.NodeAt(0, i));
                }
                filled.Clear();
                // Entries are verified in batches of some thousand, so that all processors have work.
                if (audit is null || leaves.Count < Together && (index + 1) << 8 < checkpoint.Size)
                    continue;
                for (
                    var until = first + (ulong)leaves.Count;
                    more && entries.Current.NextPosition <= until;
                    more = await entries.MoveNextAsync()
                )
                    if (entries.Current.Entry is { } entry)
                        some.Add(entry);
                audit.Take(some, at => at >= first && at - first < (ulong)leaves.Count ? leaves[(int)(at - first)] : default);
                first += (ulong)leaves.Count;
                some.Clear();
                leaves.Clear();
            }
            audit?.End();
            var root = edge.Size == 0 ? checkpoint.Root : edge.TakeView().Root();
            return root.AsSpan().SequenceEqual(checkpoint.Root)
                ? edge.Size
                : throw new InvalidLogException(
                    service,
                    LogBreak.TilesDoNotMatch,
                    $"its {edge.Size} entries do not lead to the root that it signed"
                );
        }

        private const int Together = 4096;

        private async Task<Tile> Read(int level, ulong index, CancellationToken cancel)
        {
            var hashes = checkpoint.Size >> (8 * level);
            var width = (int)Math.Min(Tile.Full, hashes - (index << 8));
            return Tile.Of(await Bytes(level.ToString(CultureInfo.InvariantCulture), index, width, 32, cancel));
        }

        private async Task<byte[]> Bytes(string level, ulong index, int width, int each, CancellationToken cancel)
        {
            var path = new StringBuilder((index % 1000).ToString("000", CultureInfo.InvariantCulture));
            for (var rest = index / 1000; rest > 0; rest /= 1000)
                path.Insert(0, $"x{(rest % 1000).ToString("000", CultureInfo.InvariantCulture)}/");
            if (width < Tile.Full)
                path.Append(CultureInfo.InvariantCulture, $".p/{width}");
            using var answer = await http.GetAsync(new Uri($"tile/{level}/{path}", UriKind.Relative), cancel);
            if (answer.StatusCode == HttpStatusCode.NotFound)
                throw Wrong($"{level}/{index}");
            var bytes = await answer.EnsureSuccessStatusCode().Content.ReadAsByteArrayAsync(cancel);
            return bytes.Length == width * each ? bytes : throw Wrong($"{level}/{index}");
        }

        private InvalidLogException Wrong(string tile) =>
            new(
                service,
                LogBreak.TilesDoNotMatch,
                $"the tile {tile} is missing, or is not of the tree that it signed over {checkpoint.Size} entries"
            );
    }
}

/// <summary>
/// What a client has seen of a service's log: the last checkpoint that was found to extend all earlier ones, and those seen since. They are
/// kept in a folder, if there is one: <c>&lt;service&gt;.checkpoint</c> (seen when the file was written), <c>&lt;service&gt;.seen</c> (each
/// line a checkpoint in base64, a space, and when it was seen in Unix seconds) and, once the log is broken, <c>&lt;service&gt;.broken</c>
/// with the proof. The time when a checkpoint was seen dates it if its key is revoked later (<see cref="LogKeys"/>).
/// </summary>
internal sealed class SeenLog
{
    /// <summary>How many checkpoints may wait for an audit before no further receipt is accepted.</summary>
    internal const int MaxPending = 4096;

    private readonly Lock _lock = new();
    private readonly string _service;
    private readonly string? _path;
    private readonly SortedDictionary<ulong, Checkpoint> _pending = [];
    private readonly Dictionary<ulong, DateTimeOffset> _times = [];
    private readonly TimeProvider _time;
    private readonly Func<Checkpoint, DateTimeOffset, bool> _counts;
    private Checkpoint? _linked;
    private DateTimeOffset _linkedTime;
    private InvalidLogException? _broken;
    private int _remembered;
    private uint _replica;

    /// <summary>Reads what is remembered.</summary>
    /// <param name="service">The service's name.</param>
    /// <param name="folder">The folder; null: it is remembered as long as this object lives.</param>
    /// <param name="time">The clock; null: the system's.</param>
    /// <param name="counts">Whether a checkpoint that was seen at a time counts now; null: each does.</param>
    public SeenLog(string service, string? folder, TimeProvider? time = null, Func<Checkpoint, DateTimeOffset, bool>? counts = null)
    {
        (_service, _time, _counts) = (service, time ?? TimeProvider.System, counts ?? ((_, _) => true));
        if (folder is null)
            return;
        PrivateFiles.MakeFolder(folder);
        _path = Path.Combine(folder, service);
        if (File.Exists($"{_path}.checkpoint"))
            (_linked, _linkedTime) = (
                SignedNote.Read(File.ReadAllText($"{_path}.checkpoint"))?.Tree,
                File.GetLastWriteTimeUtc($"{_path}.checkpoint")
            );
        if (File.Exists($"{_path}.seen"))
            foreach (var line in File.ReadAllLines($"{_path}.seen"))
            {
                var bytes = new byte[line.Length];
                // An incomplete line is of a receipt that was not returned to any caller.
                if (
                    line.Split(' ') is [var note, var seconds]
                    && Convert.TryFromBase64String(note, bytes, out var length)
                    && long.TryParse(seconds, NumberStyles.None, CultureInfo.InvariantCulture, out var unix)
                    && unix <= LastSecond
                    && SignedNote.Read(Encoding.UTF8.GetString(bytes, 0, length))?.Tree is { } tree
                )
                    Note(tree, DateTimeOffset.FromUnixTimeSeconds(unix));
            }
        _remembered = _linked is null && _pending.Count == 0 ? 0 : 1;
        if (!File.Exists($"{_path}.broken"))
            return;
        var (what, one, other) = Read(File.ReadAllText($"{_path}.broken"));
        _broken = new InvalidLogException(service, Enum.Parse<LogBreak>(what.Split(' ', 2)[0]), what.Split(' ', 2)[1], one, other);
    }

    /// <summary>Whether what is remembered from before is to be compared with what the service shows now; true once.</summary>
    public bool TakeUp() => Interlocked.Exchange(ref _remembered, 0) == 1;

    /// <summary>A number that is another one each time.</summary>
    public uint NextReplica() => Interlocked.Increment(ref _replica);

    /// <summary>Held while the log is being audited.</summary>
    public SemaphoreSlim OneAtATime { get; } = new(1);

    /// <summary>Adds a receipt's checkpoint. Returns how many checkpoints wait for an audit.</summary>
    /// <exception cref="InvalidLogException">The log is broken, by this one or since before.</exception>
    public int Add(Checkpoint checkpoint)
    {
        lock (_lock)
        {
            if (_broken is { } broken)
                throw new InvalidLogException(_service, broken.Break, broken.What, broken.One, broken.Other);
            if (_linked is not null && _linked.Size == checkpoint.Size && _linked.Root.AsSpan().SequenceEqual(checkpoint.Root))
                return _pending.Count;
            if (_pending.Count >= MaxPending && !_pending.ContainsKey(checkpoint.Size))
                throw new InvalidLogException(
                    _service,
                    LogBreak.NotShown,
                    $"{_pending.Count} of its checkpoints could not be compared with its log"
                );
            if (Note(checkpoint, _time.GetUtcNow()) && _path is not null)
                PrivateFiles.Append($"{_path}.seen", LineOf(checkpoint));
            return _pending.Count;
        }
    }

    /// <summary>When a checkpoint that is remembered was seen; null: it is not remembered.</summary>
    public DateTimeOffset? TimeOf(Checkpoint checkpoint)
    {
        lock (_lock)
            return ReferenceEquals(checkpoint, _linked) ? _linkedTime
                : _times.TryGetValue(checkpoint.Size, out var time) ? time
                : null;
    }

    private const long LastSecond = 253_402_300_799;

    private string LineOf(Checkpoint checkpoint) =>
        $"{Convert.ToBase64String(Encoding.UTF8.GetBytes(checkpoint.Text))} {_times[checkpoint.Size].ToUnixTimeSeconds().ToString(CultureInfo.InvariantCulture)}\n";

    /// <summary>What the next audit must compare with the log.</summary>
    /// <exception cref="InvalidLogException">The log is broken since before.</exception>
    public (Checkpoint? Linked, IReadOnlyList<Checkpoint> Pending) Take()
    {
        lock (_lock)
        {
            if (_broken is { } broken)
                throw new InvalidLogException(_service, broken.Break, broken.What, broken.One, broken.Other);
            return (_linked, [.. _pending.Values]);
        }
    }

    /// <summary>Notes that all of these belong to one history, which ends at the newest.</summary>
    public void Link(Checkpoint newest, IReadOnlyList<Checkpoint> looked)
    {
        lock (_lock)
        {
            if (newest.Size > 0)
                (_linked, _linkedTime) = (newest, _time.GetUtcNow());
            // Checkpoints that were added meanwhile have not been audited.
            foreach (var one in looked.Where(o => ReferenceEquals(_pending.GetValueOrDefault(o.Size), o)))
            {
                _pending.Remove(one.Size);
                _times.Remove(one.Size);
            }
            if (_path is null || newest.Size == 0)
                return;
            WholeFile.Write($"{_path}.checkpoint", newest.Text);
            WholeFile.Write($"{_path}.seen", string.Concat(_pending.Values.Select(LineOf)));
        }
    }

    /// <summary>Notes that the log is broken. Nothing of it is accepted any more.</summary>
    public void Break(InvalidLogException e)
    {
        lock (_lock)
        {
            _broken ??= e;
            if (_path is not null)
                WholeFile.Write($"{_path}.broken", $"{e.Break} {e.What}\n\n{e.One}\n{e.Other}");
        }
    }

    private bool Note(Checkpoint checkpoint, DateTimeOffset time)
    {
        foreach (var known in (Checkpoint?[])[_linked, _pending.GetValueOrDefault(checkpoint.Size)])
        {
            if (known is null || known.Size != checkpoint.Size)
                continue;
            if (known.Root.AsSpan().SequenceEqual(checkpoint.Root))
                return false;
            // A checkpoint from after its key's revocation proves nothing.
            if (!_counts(known, ReferenceEquals(known, _linked) ? _linkedTime : _times[known.Size]))
                continue;
            var e = new InvalidLogException(
                _service,
                LogBreak.TwoRoots,
                $"two histories of {checkpoint.Size} entries were signed",
                known.Text,
                checkpoint.Text
            );
            Break(e);
            throw e;
        }
        (_pending[checkpoint.Size], _times[checkpoint.Size]) = (checkpoint, time);
        return true;
    }

    // A sentence, and two signed notes, each of which has one empty line.
    private static (string What, string? One, string? Other) Read(string text)
    {
        var parts = text.Split("\n\n");
        if (parts.Length < 5)
            return (parts[0].TrimEnd('\n'), null, null);
        return (parts[0], $"{parts[1]}\n\n{parts[2]}\n", $"{parts[3]}\n\n{parts[4]}");
    }
}
