using System.Globalization;
using System.Security.Cryptography;
using Google.Protobuf;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Npgsql;
using LedgerRows = Ministries.Ledger.Rows;

namespace Ministries.Benchmarks;

/// <summary>Processor time, user and system, of what is not a child of this process.</summary>
internal static class ProcessorTime
{
    // Linux counts the time of other processes in hundredths of a second.
    private const double Tick = 10_000;

    /// <summary>Of all processes of a PostgreSQL server so far, in microseconds.</summary>
    public static async Task<double> OfPostgres(string database)
    {
        await using var source = NpgsqlDataSource.Create(database);
        await using var select = source.CreateCommand("select pg_backend_pid()");
        var server = Stat((int)(await select.ExecuteScalarAsync())!)![1];
        // Its own, that of its children that ended, and that of those who live.
        var ticks = Stat((int)server)![11..15].Sum();
        foreach (var process in Directory.EnumerateDirectories("/proc"))
            if (
                int.TryParse(Path.GetFileName(process), CultureInfo.InvariantCulture, out var id)
                && Stat(id) is { } stat
                && stat[1] == server
            )
                ticks += stat[11] + stat[12];
        return ticks * Tick;
    }

    /// <summary>Of this process while it does something again and again, in microseconds for each time.</summary>
    /// <param name="time">How long it does it.</param>
    /// <param name="work">What it does.</param>
    public static double Of(TimeSpan time, Action work)
    {
        for (var i = 0; i < 200; i++)
            work();
        var (began, before, times) = (System.Diagnostics.Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime, 0);
        for (; System.Diagnostics.Stopwatch.GetElapsedTime(began) < time; times++)
            work();
        return (Environment.CpuUsage.TotalTime - before).TotalMicroseconds / times;
    }

    // The numbers of /proc/<id>/stat from the state on, which is no number; null: there is no such process any more.
    private static long[]? Stat(int id)
    {
        try
        {
            var text = File.ReadAllText($"/proc/{id}/stat");
            return
            [
                .. text[(text.LastIndexOf(')') + 2)..]
                    .Split(' ')
                    .Select(n => long.TryParse(n, NumberStyles.Integer, CultureInfo.InvariantCulture, out var number) ? number : 0),
            ];
        }
        catch (IOException)
        {
            return null;
        }
    }
}

/// <summary>An entry of a logged call as a service recorded it, with the rows that belong to it.</summary>
internal sealed record RecordedCall(NewEntry Entry, StreamRow Stream, IReadOnlyList<string> Keys)
{
    /// <summary>The last one of a ledger in which calls were logged.</summary>
    public static async Task<RecordedCall> Last(string database)
    {
        await using var source = NpgsqlDataSource.Create(database);
        await using var select = source.CreateCommand(
            """
            select e.position, e.participant, e.case_id, e.audience, e.trace_parent, e.trace_state, e.header, e.request_id, e.digest,
                e.request_type, e.request, e.parts, e.event_type, s.number, s.kind, s.key, s.fold, s.state, s.audience, s.keys
            from entries e join streams s using (position) where s.kind = 'call' order by e.position desc limit 1
            """
        );
        await using var r = await select.ExecuteReaderAsync();
        await r.ReadAsync();
        var position = (ulong)r.GetInt64(0);
        var row = new EntryRow(
            position,
            r.GetString(1),
            r.GetString(2),
            r.GetFieldValue<string[]>(3),
            r.GetString(4),
            r.GetString(5),
            r.GetFieldValue<byte[]>(6),
            PartBytes: 0
        );
        PartRow[] parts =
        [
            StoredParts.ToRequest(position, r.GetString(9), r.GetFieldValue<byte[]>(10)),
            .. StoredParts.Decode(position, r.GetFieldValue<byte[]>(11)),
        ];
        var entry = new NewEntry(
            row,
            r.GetString(7),
            r.GetFieldValue<byte[]>(8),
            parts,
            [new EventRow(1, r.GetString(12), 1, position, 0)]
        );
        var keys = r.GetFieldValue<string[]>(19);
        var stream = new StreamRow(
            (ulong)r.GetInt64(13),
            new StreamId(r.GetString(14), r.GetString(15)),
            1,
            r.GetInt32(16),
            r.GetFieldValue<byte[]>(17),
            position,
            null,
            r.GetFieldValue<string[]>(18),
            keys,
            New: true
        );
        return new RecordedCall(entry, stream, keys);
    }

    /// <summary>The same call again, so many times, as a committer writes them together.</summary>
    /// <param name="from">The first position, and the numbers of streams and events but one.</param>
    /// <param name="count">How many.</param>
    public LedgerRows Again(ulong from, int count)
    {
        var rows = new LedgerRows();
        for (var position = from; position < from + (ulong)count; position++)
        {
            var number = position + 1;
            rows.Entries.Add(
                new NewEntry(
                    Entry.Row with
                    {
                        Position = position,
                    },
                    Guid.NewGuid().ToString(),
                    Entry.Digest,
                    Entry.Parts,
                    [new EventRow(number, Entry.FirstEvent!.Type, number, position, 0)]
                )
            );
            rows.Streams.Add(
                Stream with
                {
                    Number = number,
                    Id = new StreamId(Stream.Id.Kind, $"{Stream.Id.Key[..5]}{Guid.NewGuid():N}"),
                    Position = position,
                }
            );
            rows.Changes.Add(new ChangeRow(number, 1, position, "0"));
            rows.Keys.AddRange(Keys.Select(k => new KeyRow(Stream.Id.Kind, k, number)));
        }
        return rows;
    }
}

/// <summary>
/// What no software that does the same could leave out, in microseconds of processor time for each write: a gRPC call over TLS, the
/// verification of one Ed25519 signature, and the rows of one entry, which PostgreSQL is given with those of 63 others. And what makes a
/// write provable, which it could leave out.
/// </summary>
internal sealed class Unavoidable
{
    public const int Together = 64;
    private static readonly TimeSpan Time = TimeSpan.FromSeconds(0.5);

    private Unavoidable() { }

    /// <summary>The server's of a gRPC call over TLS that answers at once.</summary>
    public double Call { get; private init; }

    /// <summary>Of verifying one Ed25519 signature.</summary>
    public double Verification { get; private init; }

    /// <summary>PostgreSQL's and its client's, of an entry's rows.</summary>
    public double EntryRows { get; private init; }

    /// <summary>Of a write.</summary>
    public double OfWrite => Call + Verification + EntryRows;

    /// <summary>Of an event whose effect is an entry of another ledger: the rows of two entries.</summary>
    public double OfEvent => 2 * EntryRows;

    /// <summary>Measures them.</summary>
    /// <param name="bench">The bench.</param>
    /// <param name="database">A ledger in which calls were logged.</param>
    /// <param name="call">The processor time of a server's gRPC call, as row R has it; null: none is made.</param>
    public static async Task<Unavoidable> Measure(Bench bench, string database, double? call)
    {
        var recorded = await RecordedCall.Last(database);
        var text = RandomNumberGenerator.GetBytes(400);
        using var key = NSec.Cryptography.Key.Create(NSec.Cryptography.SignatureAlgorithm.Ed25519);
        var publicKey = key.PublicKey.Export(NSec.Cryptography.KeyBlobFormat.RawPublicKey);
        var signature = NSec.Cryptography.SignatureAlgorithm.Ed25519.Sign(key, text);
        return new Unavoidable
        {
            Call = call ?? 0,
            Verification = ProcessorTime.Of(Time, () => StrictEd25519.Verifies(publicKey, text, signature)),
            EntryRows = await Inserts(bench, recorded),
        };
    }

    private static async Task<double> Inserts(Bench bench, RecordedCall recorded)
    {
        var database = await bench.Postgres.CreateDatabase();
        await using (await bench.OpenLedger(database)) { }
        await using var store = Store.For(bench.OptionsOf(database));
        var rounds = new List<double>();
        ulong size = 0;
        // The first round is not counted: the tables are empty and nothing is prepared yet.
        for (var round = 0; round <= bench.Plan.Rounds; round++)
        {
            var batches = Enumerable.Range(0, 40).Select(i => recorded.Again(size + (ulong)(i * Together), Together)).ToList();
            var (before, own) = (await ProcessorTime.OfPostgres(database), Environment.CpuUsage.TotalTime);
            foreach (var rows in batches)
            {
                await using var session = await store.OpenWaiting();
                var head = await session.LockHead();
                size += Together;
                await session.Write(rows, head with { Size = size, Streams = size, Events = size });
                await session.Commit();
            }
            var taken = await ProcessorTime.OfPostgres(database) - before + (Environment.CpuUsage.TotalTime - own).TotalMicroseconds;
            if (round > 0)
                rounds.Add(taken / (batches.Count * Together));
        }
        return Figures.Of(rounds).Median;
    }

    /// <summary>What makes a write provable, in microseconds of processor time: the signature's check, salts and digests of parts and
    /// audiences, the tree, a share of the checkpoint, the receipt. Each is done as the service does it, by calling the same code.</summary>
    /// <param name="bench">The bench.</param>
    /// <param name="database">A ledger in which signed calls were logged.</param>
    public static async Task<double> Provable(Bench bench, string database)
    {
        var recorded = (await RecordedCall.Last(database)).Entry;
        var header = EntryHeader.Parser.ParseFrom(recorded.Row.Header);
        byte[] Part(PartKind kind) => recorded.Parts.Single(p => p.Kind == kind).Data!;
        var signature = RequestSignature.Parser.ParseFrom(Part(PartKind.Signature));
        var numbers = AudienceNumbers.Parser.ParseFrom(Part(PartKind.Audience)).Numbers;
        var (request, caller, at) = (
            Part(PartKind.Request),
            bench.Permissions.Participant(header.Participant)!,
            header.CommitTime.ToDateTimeOffset()
        );
        using var checkpoints = new Checkpoints(
            bench.OptionsOf(database).Key,
            Path.Combine(bench.Folder, $"{Guid.NewGuid()}.checkpoint"),
            judge: null
        );
        var tree = new TreeEdge(0, []);

        return ProcessorTime.Of(
                4 * Time,
                () =>
                {
                    for (var i = 0; i < Together; i++)
                        if (
                            RequestSignatures.Check(
                                signature,
                                header.Method,
                                request,
                                header.RequestId,
                                caller,
                                bench.Permissions,
                                at,
                                "calllog"
                            )
                            is not
                            (null, null)
                        )
                            throw new InvalidOperationException("the recorded signature is refused");
                        else
                            Commit();
                    var view = tree.TakeView();
                    var signed = checkpoints.Advance(tree.Size, TreeView.RootOf([.. view.Edge().SelectMany(h => h)]))!;
                    for (var i = 1; i <= Together; i++)
                        Receipt(view, signed, view.Size - (ulong)i);
                }
            ) / Together;

        // Salts, digests of parts and audiences, the tree.
        void Commit()
        {
            var salts = RandomNumberGenerator.GetBytes(32 * (6 + numbers.Count));
            foreach (var part in recorded.Parts)
                ByteString.CopyFrom(Digests.OfPart(salts.AsSpan(0, 32), part.Data));
            foreach (var number in numbers)
                Digests.OfAudience(number);
            TreeHash.Record(recorded.Row.Header);
            tree.Add(TreeHash.Leaf(recorded.Row.Header), []);
        }

        void Receipt(TreeView view, Checkpoint signed, ulong position) =>
            new Receipt
            {
                Service = "calllog",
                Position = position,
                CommitTime = header.CommitTime,
                EntryHash = ByteString.CopyFrom(new byte[32]),
                TreeSize = view.Size,
                RootHash = ByteString.CopyFrom(signed.Root),
                InclusionProof = { view.Inclusion(position).Select(h => ByteString.CopyFrom(h)) },
                Checkpoint = signed.Text,
            }.ToByteArray();
    }
}
