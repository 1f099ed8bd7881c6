using System.Globalization;

namespace Ministries.Faults.Tests;

/// <summary>Nothing is lost and nothing is doubled, whatever dies. And if it were, these tests would notice.</summary>
public class FaultTests(ITestOutputHelper output)
{
    /// <summary>The seed: MINISTRIES_SEED, to repeat a failure; by default another one each time.</summary>
    private static readonly int Seed = int.TryParse(
        Environment.GetEnvironmentVariable("MINISTRIES_SEED"),
        CultureInfo.InvariantCulture,
        out var seed
    )
        ? seed
        : Random.Shared.Next(1_000_000);

    [Fact(Timeout = 600_000)]
    public async Task Nothing_is_lost_and_nothing_doubled_whatever_is_killed()
    {
        var result = await Run(Scenario.Points.Count, "", TestContext.Current.CancellationToken);
        Assert.Empty(result.Complaints);
        Assert.NotNull(result.Recovery);
        Assert.All(Scenario.Points, point => Assert.True(result.Points.ContainsKey(point), $"nothing ended at {point}"));
    }

    [Theory(Timeout = 600_000)]
    [InlineData("request-id", "is there 2 times")]
    [InlineData("confirm", "had no effect and is not with the broker")]
    [InlineData("commit-before-ack", "had no effect and is not with the broker")]
    [InlineData("gap-filling", "had no effect")]
    public async Task Taking_out_a_protection_is_noticed(string protection, string complaint)
    {
        var result = await Run(0, protection, TestContext.Current.CancellationToken);
        Assert.Contains(result.Complaints, c => c.Contains(complaint, StringComparison.Ordinal));
    }

    /// <summary>How often each trouble happens to the whole case: MINISTRIES_ROUNDS; not set: six troubles happen once, of which two are
    /// drawn from two kinds.</summary>
    private static readonly int Rounds = int.TryParse(
        Environment.GetEnvironmentVariable("MINISTRIES_ROUNDS"),
        CultureInfo.InvariantCulture,
        out var rounds
    )
        ? rounds
        : 0;

    [Fact(Timeout = 3_600_000)]
    public async Task The_whole_case_is_played_to_its_end_and_both_ledgers_keep_the_law_whatever_fails()
    {
        var verdict = await WholeCase.Run(Seed, Rounds, Say, TestContext.Current.CancellationToken);
        foreach (var complaint in verdict.Complaints.Take(20))
            Say(complaint);
        Assert.Empty(verdict.Complaints);
        Assert.True(verdict.Cases >= 2, $"only {verdict.Cases} cases were played");
        var missing = Troubles.Always.Except(verdict.Troubles).ToList();
        Assert.SkipUnless(
            missing.Count == 0,
            $"all that was played is right, but this machine cannot have {string.Join(", ", missing)}: the process may not mount a disk"
        );
    }

    [Fact]
    public void A_short_play_has_all_that_fills_up_and_troubles_of_two_other_kinds()
    {
        static Trouble Of(string name, string kind) => new(name, kind, (_, _) => Task.CompletedTask);
        Trouble[] all =
        [
            .. Troubles.Always.Select(name => Of(name, "filled up")),
            .. Enumerable.Range(0, 9).Select(i => Of($"killed {i}", "killed")),
            Of("paused", "paused"),
            Of("cut off", "cut off"),
        ];
        for (var seed = 0; seed < 100; seed++)
        {
            var drawn = Troubles.Draw(all, 2, new Random(seed));
            Assert.Subset(drawn.Select(t => t.Name).ToHashSet(), Troubles.Always.ToHashSet());
            Assert.Equal(2, drawn.Where(t => t.Kind != "filled up").Select(t => t.Kind).Distinct().Count());
            Assert.Equal(Troubles.Always.Count + 2, drawn.Length);
        }
    }

    private void Say(string what)
    {
        output.WriteLine(what);
        Console.WriteLine(what);
    }

    private async Task<Result> Run(int rounds, string removed, CancellationToken cancel)
    {
        var result = await Scenario.Run(Seed, rounds, removed, Say, cancel);
        foreach (var complaint in result.Complaints.Take(20))
            Say(complaint);
        return result;
    }
}
