using System.Security.Cryptography;
using Google.Protobuf;
using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Benchmarks;

/// <summary>
/// The work that no software for the same purpose can avoid, in microseconds of processor time for each write: a gRPC call over TLS, the
/// verification of one Ed25519 signature, and the rows of one entry, which PostgreSQL gets together with those of 63 others. Also the work
/// that makes a write provable, which could be avoided.
/// </summary>
internal sealed class Unavoidable
{
    public const int Together = 64;
    private static readonly TimeSpan Time = TimeSpan.FromSeconds(0.5);

    private Unavoidable() { }

    /// <summary>The server's time for a gRPC call over TLS that answers at once.</summary>
    public double Call { get; private init; }

    /// <summary>The time to verify one Ed25519 signature.</summary>
    public double Verification { get; private init; }

    /// <summary>The time of PostgreSQL and its client for an entry's rows.</summary>
    public double EntryRows { get; private init; }

    /// <summary>How many rows an entry has: its own, the state's, the change's, and one for each key of a list.</summary>
    public int RowCount { get; private init; }

    /// <summary>The unavoidable time of a write.</summary>
    public double OfWrite => Call + Verification + EntryRows;

    /// <summary>The unavoidable time of an event whose effect is an entry of another ledger: the rows of two entries.</summary>
    public double OfEvent => 2 * EntryRows;

    /// <summary>Measures them.</summary>
    /// <param name="bench">The bench.</param>
    /// <param name="database">A ledger in which calls were logged.</param>
    /// <param name="call">The processor time of a server's gRPC call, as row R measured it; null: no call is made.</param>
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
            RowCount = 3 + recorded.Keys.Count,
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
        // The first round does not count, because the tables are empty and nothing is prepared yet.
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
    /// audiences, the tree, a share of the checkpoint, the receipt. Each is done as the service does it, by calling the same
    /// code.</summary>
    /// <param name="bench">The bench.</param>
    /// <param name="database">A ledger in which signed calls were logged.</param>
    public static async Task<double> Provable(Bench bench, string database)
    {
        using var proving = new Proving(bench, database, (await RecordedCall.Last(database)).Entry);
        return ProcessorTime.Of(4 * Time, proving.Batch) / Together;
    }

    /// <summary>What the service does to prove a recorded entry, done again and again.</summary>
    private sealed class Proving : IDisposable
    {
        private readonly Bench _bench;
        private readonly NewEntry _recorded;
        private readonly EntryHeader _header;
        private readonly byte[] _request;
        private readonly Participant _caller;
        private readonly RequestSignature _signature;
        private readonly IReadOnlyList<AudienceNumber> _numbers;
        private readonly Checkpoints _checkpoints;
        private readonly TreeEdge _tree = new(0, []);

        public Proving(Bench bench, string database, NewEntry recorded)
        {
            byte[] Part(PartKind kind) => recorded.Parts.Single(p => p.Kind == kind).Data!;
            (_bench, _recorded) = (bench, recorded);
            _header = EntryHeader.Parser.ParseFrom(recorded.Row.Header);
            _request = Part(PartKind.Request);
            _caller = bench.Permissions.Participant(_header.Participant)!;
            _signature = RequestSignature.Parser.ParseFrom(Part(PartKind.Signature));
            _numbers = AudienceNumbers.Parser.ParseFrom(Part(PartKind.Audience)).Numbers;
            _checkpoints = new Checkpoints(
                bench.OptionsOf(database).Key,
                Path.Combine(bench.Folder, $"{Guid.NewGuid()}.checkpoint"),
                judge: null
            );
        }

        /// <summary>Proves the entries that share one checkpoint.</summary>
        public void Batch()
        {
            for (var i = 0; i < Together; i++)
            {
                Check();
                Commit();
            }
            var view = _tree.TakeView();
            var signed = _checkpoints.Advance(_tree.Size, TreeView.RootOf([.. view.Edge().SelectMany(h => h)]))!;
            for (var i = 1; i <= Together; i++)
                Receipt(view, signed, view.Size - (ulong)i);
        }

        private void Check()
        {
            var at = _header.CommitTime.ToDateTimeOffset();
            if (
                RequestSignatures.Check(_signature, _header.Method, _request, _header.RequestId, _caller, _bench.Permissions, at, "calllog")
                is not
                (null, null)
            )
                throw new InvalidOperationException("the recorded signature is refused");
        }

        // Salts, digests of parts and audiences, the tree.
        private void Commit()
        {
            var salts = RandomNumberGenerator.GetBytes(32 * (6 + _numbers.Count));
            foreach (var part in _recorded.Parts)
                ByteString.CopyFrom(Digests.OfPart(salts.AsSpan(0, 32), part.Data));
            foreach (var number in _numbers)
                Digests.OfAudience(number);
            TreeHash.Record(_recorded.Row.Header);
            _tree.Add(TreeHash.Leaf(_recorded.Row.Header), []);
        }

        private void Receipt(TreeView view, Checkpoint signed, ulong position) =>
            new Receipt
            {
                Service = "calllog",
                Position = position,
                CommitTime = _header.CommitTime,
                EntryHash = ByteString.CopyFrom(new byte[32]),
                TreeSize = view.Size,
                RootHash = ByteString.CopyFrom(signed.Root),
                InclusionProof = { view.Inclusion(position).Select(h => ByteString.CopyFrom(h)) },
                Checkpoint = signed.Text,
            }.ToByteArray();

        public void Dispose() => _checkpoints.Dispose();
    }
}
