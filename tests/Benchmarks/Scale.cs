using System.Diagnostics;
using System.Security.Cryptography;
using Ministries.Client;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using NSec.Cryptography;

namespace Ministries.Benchmarks;

/// <summary>The rows about large ledgers and long runs.</summary>
internal static class Scale
{
    /// <summary>G: writes at a large ledger, against writes at an empty one. The large ledger is filled by its own committer.</summary>
    public static async Task<Line> Grown(Bench bench)
    {
        var entries = bench.Plan.Full ? 5_000_000 : 150_000;
        await using var great = await bench.Service("calllog", "seed without-relay tells");
        await using var empty = await bench.Service("calllog", "seed without-relay");
        var began = Stopwatch.GetTimestamp();
        var size = great.Size;
        for (var left = entries; left > 0; left -= 50_000)
        {
            great.Order($"log {Math.Min(left, 50_000)}");
            await great.CameTo(size += (ulong)Math.Min(left, 50_000));
        }
        var filled = Stopwatch.GetElapsedTime(began);
        await using var toGreat = await Driver.Create(bench, great, "kr/mfa", new Writer(bench, receipts: true), connections: 4);
        await using var toEmpty = await Driver.Create(bench, empty, "kr/mfa", new Writer(bench, receipts: true), connections: 4);
        var (ratio, ours, theirs) = await Rows.Compare(bench.Plan, time => toGreat.Rate(64, time), time => toEmpty.Rate(64, time));
        return new Line(
            "G",
            $"writes at a ledger of {entries:N0} entries, 64 callers",
            "the same at an empty one",
            ratio,
            "≥ 0.9 at 5 million",
            bench.Plan.Full ? ratio.Median >= 0.9 : null,
            $"{ours.Median:F0}/s against {theirs.Median:F0}/s; filled in {filled.TotalSeconds:F0} s"
        );
    }

    /// <summary>V: verifying every entry of a log, with all signatures and the tree, against the cryptography that it needs.</summary>
    public static async Task<Line> Audit(Bench bench)
    {
        var count = bench.Plan.Full ? 100_000 : 20_000;
        await using var service = await bench.Service("calllog", "seed without-relay");
        await using (var driver = await Driver.Create(bench, service, "kr/mfa", new Writer(bench, receipts: true)))
            for (var left = count; left > 0; left -= 20_000)
                await driver.Closed(64, TimeSpan.FromMinutes(5), driver.Prepare(Math.Min(left, 20_000)));
        await using var own = await bench.OpenLedger(service.Database);
        var entries = new List<Entry>();
        for (
            var page = await own.Ledger.ReadEntries(0, null, null, 1000, default);
            ;
            page = await own.Ledger.ReadEntries(page.Next, null, null, 1000, default)
        )
        {
            entries.AddRange(page.Entries.Select(e => e.Entry));
            if (page.Complete)
                break;
        }
        var checkpoint = await own.Ledger.ReadCheckpoint(default);
        var leaves = entries.Select(e => TreeHash.Leaf(e.Header.ToByteArray())).ToArray();
        var agreements = entries.Where(e => EntryHeader.Parser.ParseFrom(e.Header).Method == AgreementVersions.Method).ToList();
        var bare = entries.Select(e => Bare.Of(e, bench.Permissions)).ToArray();
        var chunks = entries.Chunk(4096).ToArray();
        await Rows.Warm(bench.Plan, _ => Task.FromResult(entries.Count / Ours()));
        await Rows.Warm(bench.Plan, _ => Task.FromResult(entries.Count / Theirs()));
        var (one, other) = (new List<double>(), new List<double>());
        for (var round = 0; round < bench.Plan.Rounds; round++)
        {
            one.Add(Ours());
            other.Add(Theirs());
        }
        var ratio = Figures.Of(one.Zip(other, (a, b) => a / b));
        double Each(List<double> seconds) => 1e6 * Figures.Of(seconds).Median / entries.Count;
        return new Line(
            "V",
            $"audit of a log of {entries.Count:N0} entries: each entry, signature and the tree",
            "SHA-256 and Ed25519 of the same bytes alone",
            ratio,
            "≤ 1.3",
            ratio.Median <= 1.3,
            $"{Each(one):F1} µs against {Each(other):F1} µs an entry, on {Environment.ProcessorCount} cores"
        );

        double Ours()
        {
            var began = Stopwatch.GetTimestamp();
            var (audit, edge, filled) = (new EntriesAudit("calllog", agreements), new TreeEdge(0, []), new List<TileRow>());
            foreach (var chunk in chunks)
                audit.Take(chunk, at => leaves[at]);
            audit.End();
            foreach (var leaf in leaves)
                edge.Add(leaf, filled);
            if (!edge.TakeView().Root().AsSpan().SequenceEqual(checkpoint.Root) || audit.Signatures < count)
                throw new InvalidOperationException("the audit has not proved what it should");
            return Stopwatch.GetElapsedTime(began).TotalSeconds;
        }

        double Theirs()
        {
            var began = Stopwatch.GetTimestamp();
            foreach (var chunk in bare.Chunk(4096))
                Parallel.For(0, chunk.Length, i => chunk[i].Verify());
            return Stopwatch.GetElapsedTime(began).TotalSeconds;
        }
    }

    /// <summary>What must be hashed and verified for an entry, prepared: its header, its leaf, a node of the tree, its parts with their
    /// salts, the request's frame; the signature with what it is over and its key.</summary>
    private sealed record Bare(byte[][] Hashed, (PublicKey Key, byte[] Base, byte[] Bytes)? Signed)
    {
        public static Bare Of(Entry entry, Permissions permissions)
        {
            byte[] Part(PartKind kind) => entry.Parts.FirstOrDefault(p => p.Kind == kind)?.Data.ToByteArray() ?? [];
            var hashed = new List<byte[]> { entry.Header.ToByteArray(), new byte[33], new byte[65] };
            hashed.AddRange(entry.Parts.Select(p => (byte[])[.. p.Salt, .. p.Data]));
            if (Part(PartKind.Signature) is not { Length: > 0 } bytes)
                return new([.. hashed], null);
            hashed.Add([0, 0, 0, 0, 0, .. Part(PartKind.Request)]);
            var (signature, header) = (RequestSignature.Parser.ParseFrom(bytes), EntryHeader.Parser.ParseFrom(entry.Header));
            var fields = SignatureFields.Read(signature.SignatureInput, signature.Signature)!;
            string Value(string component) =>
                component switch
                {
                    "@method" => "POST",
                    "@path" => $"/{header.Method}",
                    "@authority" => signature.Authority,
                    "content-type" => signature.ContentType,
                    _ => signature.ContentDigest,
                };
            return new(
                [.. hashed],
                (
                    PublicKey.Import(
                        SignatureAlgorithm.Ed25519,
                        permissions.SigningKey(fields.KeyId!)!.Value.Key.PublicKey.Span,
                        KeyBlobFormat.RawPublicKey
                    ),
                    HttpSignature.Base(fields.Components.Select(c => KeyValuePair.Create(c, Value(c))), fields.Parameters),
                    fields.Bytes
                )
            );
        }

        public void Verify()
        {
            Span<byte> hash = stackalloc byte[32];
            foreach (var bytes in Hashed)
                SHA256.HashData(bytes, hash);
            if (Signed is { } signed && !SignatureAlgorithm.Ed25519.Verify(signed.Key, signed.Base, signed.Bytes))
                throw new InvalidOperationException("a signature does not hold");
        }
    }
}
