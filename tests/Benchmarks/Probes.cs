using System.Diagnostics;
using System.Security.Cryptography;
using Grpc.Core;
using Ministries.Custody.V1;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Benchmarks;

/// <summary>Whether the time of a refusal reveals records that its reader may not know of (D22).</summary>
internal static class Probes
{
    /// <summary>How many of each kind are timed: 400.</summary>
    private const int Times = 400;

    /// <summary>How far the share of pairs in which the hidden record's answer came later may be from one half. For 400 and 400 answers
    /// with the same distribution, it is within this in 99 of 100 cases.</summary>
    private const double Most = 0.053;

    /// <summary>P: the answer about a record that is hidden from the caller, against the answer about one that does not exist.</summary>
    public static async Task<Line> Refusals(Bench bench)
    {
        const string owner = "ua/coordination-hq",
            prober = "kr/mfa";
        await using var custody = await bench.Service("custody", "without-relay");
        var (hidden, response) = await Rows.Register(bench.Reach(custody, owner, "custody", channels: 1)[0], owner, bench.Agreement);
        var prisoner = response.Prisoner.Prisoner_;
        var channel = bench.Reach(custody, prober, "custody", channels: 1)[0];
        var (client, ledger) = (new CustodyService.CustodyServiceClient(channel), new LedgerService.LedgerServiceClient(channel));
        // The registration is the last entry.
        var position = (await ledger.GetCheckpointAsync(new())).TreeSize - 1;
        (string Name, Func<string, string, ulong, Task> Ask)[] ways =
        [
            ("GetPrisoner", async (@case, of, _) => await client.GetPrisonerAsync(new() { Case = @case, Prisoner = of })),
            ("RecordClaim", async (@case, of, _) => await client.RecordClaimAsync(Claim(@case, of))),
            ("GetEntry", async (_, _, at) => await ledger.GetEntryAsync(new() { Position = at })),
            ("GetSealed", async (_, _, at) => await ledger.GetSealedAsync(new() { Position = at, Field = "identity" })),
            ("ListPrisoners", async (@case, _, _) => DemandNone((await client.ListPrisonersAsync(new() { Case = @case })).Prisoners)),
            (
                "ListStatements",
                async (@case, of, _) => DemandNone((await client.ListStatementsAsync(new() { Case = @case, Prisoner = of })).Statements)
            ),
        ];
        var told = new List<(string Name, double Share, double Hidden, double Absent)>();
        foreach (var (name, ask) in ways)
        {
            var (there, not) = (new List<double>(), new List<double>());
            // In turn and in alternating order, so that changes over time affect both alike. The first hundred are for warming up.
            for (var i = -50; i < Times; i++)
                foreach (var known in (bool[])[i % 2 == 0, i % 2 != 0])
                {
                    var time = await Time(
                        known ? () => ask(hidden, prisoner, position) : () => ask(Random("case_"), Random("pris_"), position + 1_000_000)
                    );
                    if (i >= 0)
                        (known ? there : not).Add(time);
                }
            var later = there.Sum(t => not.Count(n => t > n) + 0.5 * not.Count(n => t == n)) / ((double)Times * Times);
            told.Add((name, later, Figures.Of(there).Median, Figures.Of(not).Median));
        }
        var worst = told.MaxBy(t => Math.Abs(t.Share - 0.5));
        return new Line(
            "P",
            $"{Times} refusals about a record that is hidden from the caller",
            $"{Times} about one that is not there",
            Figures.Of(told.Select(t => t.Hidden / t.Absent)),
            $"the hidden one's later in {0.5 - Most:P1} to {0.5 + Most:P1} of all pairs",
            Math.Abs(worst.Share - 0.5) <= Most,
            string.Join("; ", told.Select(t => $"{t.Name} {t.Share:P1}, {t.Hidden:F2} ms against {t.Absent:F2} ms"))
        );
    }

    // An empty page is a list's way to say that there is nothing.
    private static void DemandNone<T>(IReadOnlyCollection<T> shown)
    {
        if (shown.Count > 0)
            throw new InvalidOperationException("it was shown");
        throw new RpcException(new Status(StatusCode.NotFound, ""));
    }

    private static async Task<double> Time(Func<Task> ask)
    {
        var began = Stopwatch.GetTimestamp();
        try
        {
            await ask();
        }
        catch (RpcException e) when (e.StatusCode == StatusCode.NotFound)
        {
            return Stopwatch.GetElapsedTime(began).TotalMilliseconds;
        }
        throw new InvalidOperationException("it was not refused");
    }

    private static RecordClaimRequest Claim(string @case, string prisoner) =>
        new()
        {
            RequestId = Guid.NewGuid().ToString(),
            Actor = new Actor
            {
                Office = "consular-office",
                Official = "o-1",
                Authority = "order-1",
            },
            Etag = new string('0', 32),
            Case = @case,
            Prisoner = prisoner,
            Claimant = "KR",
            StateClaimed = "KR",
            Basis = ClaimBasis.Constitution,
        };

    private static string Random(string prefix) => prefix + RandomNumberGenerator.GetString("0123456789abcdefghjkmnpqrstvwxyz", 26);
}
