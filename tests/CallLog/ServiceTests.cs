using Google.Protobuf;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.CallLog.V1;
using Ministries.Client;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;
using static Ministries.CallLog.Tests.CaseFixture;

namespace Ministries.CallLog.Tests;

/// <summary>The call log as its callers meet it: over TLS, from its host, with a ledger in a file.</summary>
public sealed class ServiceTests : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("calllog").FullName;
    private readonly CaseFixture _fixture = new();
    private readonly Dictionary<string, MinistryClient> _clients = [];
    private readonly MemoryBroker _broker = new();
    private WebApplication _host = null!;
    private Uri _address = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System, SealedForm.Key);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        _host = await ServiceHost.Build(
            CallLogService.Definition,
            ServiceSetup.SettingsIn(_folder, "calllog") with
            {
                // The others are not there: what custody would have published, the test records.
                Peers = new Dictionary<string, Uri> { ["custody"] = new("https://127.0.0.1:1"), ["consular"] = new("https://127.0.0.1:1") },
            },
            builder,
            _broker,
            Cancel
        );
        await _host.StartAsync(Cancel);
        _address = ServiceSetup.AddressOf(_host);
        foreach (var e in CaseOfTwo())
            await Happen(e);
    }

    // What custody publishes when the case is opened: its parties, then its two prisoners.
    private IEnumerable<IMessage> CaseOfTwo()
    {
        yield return new CaseOpened
        {
            Case = _fixture.Case,
            DetainingPower = "UA",
            Participant = Headquarters,
        };
        foreach (
            var (participant, part, state) in ((string, Part, string)[])
                [(Ua, Part.DetainingPower, "UA"), (Kr, Part.RequestingState, "KR"), (Icrc, Part.NeutralObserver, "")]
        )
            yield return new PartyAdmitted
            {
                Case = _fixture.Case,
                Participant = participant,
                Part = part,
                State = state,
            };
        foreach (var prisoner in (string[])[First, Second])
            yield return new PrisonerRegistered
            {
                Case = _fixture.Case,
                Prisoner = prisoner,
                DetainingPower = "UA",
            };
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var client in _clients.Values)
            client.Dispose();
        await _host.StopAsync(CancellationToken.None);
        await _host.DisposeAsync();
        await _broker.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task A_call_goes_from_one_side_to_both_to_contested_with_the_etag_of_each_answer_good_for_the_next()
    {
        var logged = await Log(Kr);
        Assert.Null((await Get(Kr, logged.Call)).Comparison);
        var seen = await Get(Ua, logged.Call);

        var submitted = await As(Ua)
            .SubmitReadoutAsync(
                new SubmitReadoutRequest
                {
                    Actor = CaseFixture.Actor,
                    Case = _fixture.Case,
                    Call = logged.Call,
                    Etag = seen.Etag,
                    Account = Account(a => (a.Channel, a.Commitments[0].DueTime) = (Channel.Video, null)),
                },
                cancellationToken: Cancel
            );
        var contested = await As(Ua)
            .ContestReadoutAsync(
                InForm(
                    Ua,
                    new ContestReadoutRequest
                    {
                        RequestId = Guid.NewGuid().ToString(),
                        Actor = CaseFixture.Actor,
                        Case = _fixture.Case,
                        Call = logged.Call,
                        Etag = submitted.Etag,
                        Participant = Kr,
                        Version = 1,
                        Explanation = Explained(Ua, Kr),
                    }
                ),
                cancellationToken: Cancel
            );
        var settled = await As(Ua)
            .SettleCommitmentAsync(
                new SettleCommitmentRequest
                {
                    Actor = CaseFixture.Actor,
                    Case = _fixture.Case,
                    Call = logged.Call,
                    Etag = contested.Etag,
                    Commitment = logged.Commitments[0],
                    Settlement = SettlementKind.Released,
                },
                cancellationToken: Cancel
            );
        var corrected = await As(Ua)
            .CorrectRecordAsync(
                InForm(
                    Ua,
                    new V1.CorrectRecordRequest
                    {
                        RequestId = Guid.NewGuid().ToString(),
                        Actor = CaseFixture.Actor,
                        Case = _fixture.Case,
                        Call = logged.Call,
                        Etag = settled.Etag,
                        Position = contested.Receipt.Position,
                        Explanation = Explained(Ua, Kr),
                    }
                ),
                cancellationToken: Cancel
            );

        Assert.Equal(
            [CallState.OneSided, CallState.Mutual, CallState.Contested, CallState.Contested, CallState.Mutual],
            [logged.State, submitted.State, contested.State, settled.State, corrected.State]
        );
        var read = await Get(Ua, logged.Call);
        Assert.Equal(corrected.Etag, read.Etag);
        Assert.Equal([CodedField.Channel], read.Comparison.Fields.Where(f => f.Match != Match.Matched).Select(f => f.Field));
        var listed = Assert.Single((await List(Ua, r => r.State = CallState.Mutual)).Calls);
        Assert.Equal((logged.Call, corrected.Etag), (listed.Call, listed.Etag));
    }

    [Fact]
    public async Task Linked_records_are_compared_for_those_who_see_both()
    {
        var one = await Log(Kr);
        var two = await Log(Ua, r => r.Classification = new Classification { ReleasableTo = { Kr, Ua } });

        var linked = await As(Kr)
            .LinkCallsAsync(
                new LinkCallsRequest
                {
                    Actor = CaseFixture.Actor,
                    Case = _fixture.Case,
                    Call = one.Call,
                    Etag = one.Etag,
                    SameAsCall = two.Call,
                    SameAsEtag = (await Get(Kr, two.Call)).Etag,
                },
                cancellationToken: Cancel
            );

        Assert.Equal((await Get(Kr, one.Call)).Etag, linked.Etag);
        Assert.Equal((await Get(Kr, two.Call)).Etag, linked.SameAsEtag);
        Assert.NotNull((await Get(Ua, one.Call)).Comparison);
        var observed = await Get(Icrc, one.Call);
        Assert.Null(observed.Comparison);
        Assert.Empty(observed.Call.Links);
        Assert.Equal("NOT_FOUND", (await Assert.ThrowsAsync<RefusedException>(() => Get(Icrc, two.Call))).Reason);
        Assert.Equal([one.Call], (await List(Icrc)).Calls.Select(c => c.Call));
    }

    [Fact]
    public async Task Calls_are_listed_by_their_filters()
    {
        var about = await Log(Kr);
        var general = await Log(
            Ua,
            r =>
                r.Account = Account(a =>
                {
                    a.Prisoners.Clear();
                    a.Positions.Clear();
                    a.Commitments.Clear();
                })
        );
        Assert.Equal([about.Call, general.Call], (await List(Kr)).Calls.Select(c => c.Call));
        Assert.Equal([about.Call], (await List(Kr, r => (r.Case, r.Prisoner) = (_fixture.Case, First))).Calls.Select(c => c.Call));
        Assert.Equal([about.Call], (await List(Kr, r => r.CommitmentState = CommitmentState.Open)).Calls.Select(c => c.Call));
        Assert.Equal(2, (await List(Kr, r => (r.Participant, r.State) = (Ua, CallState.OneSided))).Calls.Count);
        Assert.Empty((await List(Kr, r => r.State = CallState.Mutual)).Calls);
        Assert.Empty((await List(Unification)).Calls);
        Assert.Equal(
            "prisoner",
            Assert.Single((await Assert.ThrowsAsync<RefusedException>(() => List(Kr, r => r.Prisoner = First))).Faults).Field
        );
        var page = await List(Kr, r => r.PageSize = 1);
        Assert.Equal([general.Call], (await List(Kr, r => (r.PageSize, r.PageToken) = (1, page.NextPageToken))).Calls.Select(c => c.Call));
    }

    [Fact]
    public async Task Minutes_come_back_to_whom_they_are_for()
    {
        var minutes = SealedForm.To(Ua);
        var logged = await Log(Kr, r => r.Account.Minutes = minutes);
        Assert.Equal(minutes.Content, (await Get(Ua, logged.Call)).Call.Readouts[0].Versions[0].Account.Minutes.Content);
        Assert.True((await Get(Icrc, logged.Call)).Call.Readouts[0].Versions[0].Account.Minutes.Content.IsEmpty);
    }

    private V1.CallLogService.CallLogServiceClient As(string participant)
    {
        if (!_clients.TryGetValue(participant, out var client))
            _clients[participant] = client = new MinistryClient(
                MinistrySettings.In(_folder, participant, new Dictionary<string, Uri> { ["calllog"] = _address })
            );
        return client.CallLog;
    }

    private async Task<LogCallResponse> Log(string by, Action<LogCallRequest>? but = null)
    {
        var request = _fixture.LogRequest(by, but);
        // The host's clock is the machine's: what was due in 2025 would fall overdue between two steps of a test.
        foreach (var commitment in request.Account.Commitments)
            commitment.DueTime = null;
        request.RequestId = Guid.NewGuid().ToString();
        return await As(by).LogCallAsync(InForm(by, request), cancellationToken: Cancel);
    }

    // With the form that the service demands of what is sealed in it.
    private T InForm<T>(string by, T request)
        where T : IMessage => SealedForm.In(request, by, Signing.Agreement(_folder));

    private async Task<GetCallResponse> Get(string by, string call) =>
        await As(by).GetCallAsync(new GetCallRequest { Call = call }, cancellationToken: Cancel);

    private async Task<ListCallsResponse> List(string by, Action<ListCallsRequest>? but = null)
    {
        var request = new ListCallsRequest();
        but?.Invoke(request);
        return await As(by).ListCallsAsync(request, cancellationToken: Cancel);
    }

    /// <summary>Records an event of custody as the bus would.</summary>
    private async Task Happen(IMessage e)
    {
        var permissions = _host.Services.GetRequiredService<Agreements>().InForce.Permissions;
        var outcome = await CustodyEvents.Record(_host.Services.GetRequiredService<ServiceLedger>(), e, permissions, Cancel);
        Assert.Null(outcome.Refusal);
    }
}
