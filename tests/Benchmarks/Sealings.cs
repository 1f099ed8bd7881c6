using System.Diagnostics;
using System.Security.Cryptography;
using Google.Protobuf;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Fixtures;
using Ministries.Sealing;

namespace Ministries.Benchmarks;

/// <summary>The rows of the table that measure sealing.</summary>
internal static class Sealings
{
    private const int Recipients = 4;

    // Sizes as in a record: short codes, a name, a remark, a summary.
    private static readonly int[] Lengths = [8, 24, 40, 40, 120, 200, 700, 1500];

    /// <summary>K: a record of 8 fields to 4 recipients, sealed, and opened by one of them.</summary>
    public static async Task<Line> Record(Bench bench)
    {
        var texts = Lengths.Select(l => new string('x', l)).ToArray();
        // Any message of 8 fields: what is measured does not depend on what they mean.
        var record = new TransferRequestSubmitted
        {
            Case = texts[0],
            Transfer = texts[1],
            Prisoner = texts[2],
            Participant = texts[3],
            Call = texts[4],
            Commitment = texts[5],
            DetainingPower = texts[6],
            AcceptingPower = texts[7],
        };
        var identities = Enumerable
            .Range(0, Recipients)
            .Select(i => SealingIdentity.FromSeed($"key-{i}", SealingIdentity.NewSeed()))
            .ToArray();
        var recipients = identities.Select((identity, i) => new Recipient($"participant-{i}", identity.Id, identity.PublicKey)).ToArray();
        var context = new SealContext(Hosts.Case, Guid.NewGuid().ToString(), "identity", "kr/mfa");
        var opener = new Opener(recipients[^1].Participant, [identities[^1]]);
        if (!opener.Open<TransferRequestSubmitted>(Sealer.Seal(record, context, recipients), context).Equals(record))
            throw new InvalidOperationException("another record than was sealed");
        var bare = new Bare(identities);
        var (ratio, ours, theirs) = await Rows.Compare(
            bench.Plan,
            time => Rate(time, () => opener.Open<TransferRequestSubmitted>(Sealer.Seal(record, context, recipients), context)),
            time => Rate(time, bare.Run)
        );
        foreach (var identity in identities)
            identity.Dispose();
        return new Line(
            "K",
            $"a record of {Lengths.Length} fields to {Recipients} recipients, sealed, and opened by one; one thread, its processor time",
            "the X-Wing and ChaCha20-Poly1305 operations alone that it needs",
            ratio,
            "≥ 0.85",
            ratio.Median >= 0.85,
            $"{1e6 / ours.Median:F0} µs against {1e6 / theirs.Median:F0} µs"
        );
    }

    /// <summary>K': a write that carries something sealed, of 1 KB, against the same write without it. The service checks the form of what
    /// is sealed, keeps it and shows it, and opens nothing.</summary>
    public static async Task<Line> Write(Bench bench)
    {
        var service = await bench.SharedCallLog();
        await using var driver = await Driver.Create(bench, service, "kr/mfa", new Writer(bench, receipts: true), connections: 4);
        var (with, without) = (new List<(double Service, double Postgres)>(), new List<(double Service, double Postgres)>());
        var (_, ours, theirs) = await Rows.Compare(
            bench.Plan,
            time => Measure(time, Sealed, with),
            time => Measure(time, Writer.Request, without)
        );
        var ratio = Figures.Of(Last(without).Zip(Last(with), (a, b) => (a.Service + a.Postgres) / (b.Service + b.Postgres)));
        return new Line(
            "K'",
            "a write with a sealed field of 1 KB to one recipient, all included as W; processor time of service and PostgreSQL",
            "the same write without it",
            ratio,
            "≥ 0.9",
            ratio.Median >= 0.9,
            $"{Costs(with)} against {Costs(without)}; {ours.Median:F0}/s against {theirs.Median:F0}/s; "
                + $"requests of {Sealed().CalculateSize()} and {Writer.Request().CalculateSize()} bytes"
        );

        // Only its form is right. The service cannot tell it from content that opens.
        LogCallRequest Sealed()
        {
            var request = Writer.Request();
            request.Account.Minutes = SealedForm.To("kr/mfa");
            return SealedForm.In(
                request,
                "kr/mfa",
                bench.Agreement,
                content => content.Fields[0].Ciphertext = ByteString.CopyFrom(RandomNumberGenerator.GetBytes(1024 + Seals.TagBytes))
            );
        }

        string Costs(List<(double Service, double Postgres)> costs) =>
            $"{Figures.Of(Last(costs).Select(c => c.Service)).Median:F0} µs of the service and "
            + $"{Figures.Of(Last(costs).Select(c => c.Postgres)).Median:F0} of PostgreSQL";

        async Task<double> Measure(TimeSpan time, Func<LogCallRequest> make, List<(double Service, double Postgres)> costs)
        {
            var calls = driver.Prepare(10_000 * time.TotalSeconds, make);
            var (before, postgres) = (service.ProcessorTime, await ProcessorTime.OfPostgres(service.Database));
            var measured = await driver.Closed(Rows.Callers, time, calls);
            var database = await ProcessorTime.OfPostgres(service.Database) - postgres;
            costs.Add(((service.ProcessorTime - before).TotalMicroseconds / measured.Count, database / measured.Count));
            return measured.Rate;
        }

        IEnumerable<(double Service, double Postgres)> Last(List<(double Service, double Postgres)> costs) =>
            costs.TakeLast(bench.Plan.Rounds);
    }

    // How often it is done in a second of this process's processor time. Other work of the machine is not counted.
    private static Task<double> Rate(TimeSpan time, Action once)
    {
        var (began, before) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime);
        var times = 0;
        do once();
        while (++times % 16 != 0 || Stopwatch.GetElapsedTime(began) < time);
        return Task.FromResult(times / (Environment.CpuUsage.TotalTime - before).TotalSeconds);
    }

    /// <summary>The operations that no sealing to several recipients can do without, and nothing else: no key is derived, nothing is
    /// padded, written or read.</summary>
    private sealed class Bare(SealingIdentity[] identities)
    {
        private readonly byte[] _key = RandomNumberGenerator.GetBytes(32);
        private readonly byte[] _associated = new byte[36];
        private readonly byte[] _encapsulation = new byte[XWing.EncapsulationBytes];
        private readonly byte[] _secret = new byte[32];
        private readonly byte[][] _padded = [.. Lengths.Select(l => new byte[Padding.SizeFor(l + 3)])];

        public void Run()
        {
            var wrap = default((byte[], byte[]));
            foreach (var identity in identities)
            {
                XWing.TryEncapsulate(identity.PublicKey, _encapsulation, _secret);
                wrap = Encrypt(_secret);
            }
            var fields = _padded.Select(Encrypt).ToArray();
            identities[^1].PrivateHalf.TryDecapsulate(_encapsulation, _secret);
            Decrypt(wrap);
            foreach (var field in fields)
                Decrypt(field);
        }

        private (byte[] Ciphertext, byte[] Tag) Encrypt(byte[] plain)
        {
            var (ciphertext, tag) = (new byte[plain.Length], new byte[16]);
            using var aead = new ChaCha20Poly1305(_key);
            aead.Encrypt(stackalloc byte[12], plain, ciphertext, tag, _associated);
            return (ciphertext, tag);
        }

        private void Decrypt((byte[] Ciphertext, byte[] Tag) field)
        {
            using var aead = new ChaCha20Poly1305(_key);
            aead.Decrypt(stackalloc byte[12], field.Ciphertext, field.Tag, new byte[field.Ciphertext.Length], _associated);
        }
    }
}
