using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;

namespace Ministries.Custody.Tests;

/// <summary>What a party that watches custody's ledger sees of what the prisoner says: nothing, where the ledger is covered
/// (D22).</summary>
public sealed class WatcherTests
{
    private const string Nothing = "nothing";

    private static readonly Dictionary<string, Action<CaseFixture>> Hidden = new()
    {
        [Nothing] = _ => { },
        ["a statement"] = f => f.Record(f.StatementRequest(CaseFixture.Icrc, "KR")),
        ["a statement and three attestations"] = f => f.Says("KR"),
        ["a statement that accepts nothing, and three attestations"] = f => f.Says(),
        ["unfit"] = f => f.Do(CaseFixture.Hq, f.FitnessRequest(fit: false), Prisoners.RecordFitness),
        ["proceedings"] = f => f.Do(CaseFixture.Hq, f.ProceedingsRequest(), Prisoners.RecordProceedings),
    };

    public static TheoryData<string> Happened => [.. Hidden.Keys.Where(h => h != Nothing)];

    [Theory]
    [MemberData(nameof(Happened))]
    public async Task A_party_that_watches_the_covered_ledger_cannot_tell_that_it_was_recorded(string happened) =>
        Assert.Equal(await Watched(Nothing, covers: true), await Watched(happened, covers: true));

    /// <summary>The comparison finds what there is to find.</summary>
    [Theory]
    [MemberData(nameof(Happened))]
    public async Task Without_cover_the_ledgers_growth_tells(string happened)
    {
        var nothing = await Watched(Nothing, covers: false);
        Assert.Equal(nothing, await Watched(Nothing, covers: false));
        Assert.NotEqual(nothing, await Watched(happened, covers: false));
    }

    // All that kr/mfa sees of the ledger, commit by commit.
    private static async Task<string> Watched(string happened, bool covers)
    {
        var fixture = new CaseFixture();
        fixture.Register();
        var before = fixture.RuleRunner.Accepted.Count;
        Hidden[happened](fixture);
        var after = fixture.RuleRunner.Accepted.Count;
        if (covers)
            fixture.RuleRunner.Cover((ulong)before + 8);
        // The runner numbers requests. These have ids of their own, so that they are the same in each run.
        const string Service = "ministries.custody.v1.CustodyService";
        var admission = fixture.AdmitRequest(CaseFixture.Unification, Part.RequestingState);
        var (decision, _) = fixture.RuleRunner.Play(
            CaseFixture.Hq,
            admission,
            CaseRules.AdmitParty.Run,
            $"{Service}/AdmitParty",
            requestId: "own"
        );
        Assert.Equal(Reason.Unspecified, RuleRunner.ReasonOf(decision));
        // What it writes itself it sees in all its parts, with what it was answered.
        var claim = fixture.ClaimRequest(CaseFixture.Kr, "KR", "KR");
        (decision, _) = fixture.RuleRunner.Play(
            CaseFixture.Kr,
            claim,
            Prisoners.RecordClaim.Run,
            $"{Service}/RecordClaim",
            requestId: "claim"
        );
        Assert.Equal(Reason.Unspecified, RuleRunner.ReasonOf(decision));
        var reader = fixture.Reader(CaseFixture.Kr);
        return await WatchedLedger.Watch("custody", covers, reader, fixture.RuleRunner.Accepted, before..after);
    }
}
