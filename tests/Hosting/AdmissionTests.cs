using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Ledger;
using Ministries.Types.V1;

namespace Ministries.Hosting.Tests;

/// <summary>What happens to calls for which there is no free place. The tests hold the ledger up, so that calls stay in progress.</summary>
public sealed class AdmissionTests : IAsyncLifetime
{
    private readonly Running _running = new()
    {
        Limits = new EdgeLimits
        {
            MaxCalls = 5,
            MaxCallsPerParticipant = 4,
            MaxCallsBesideOthers = 3,
            OwnPlaces = 2,
            PlacesForFlash = 1,
            MaxConnectionsPerParticipant = 3,
            RefusalDelay = TimeSpan.FromMilliseconds(1),
            PrecedenceDelay = TimeSpan.FromSeconds(30),
        },
    };

    private readonly ManualResetEventSlim _go = new();
    private readonly List<AsyncUnaryCall<LogCallResponse>> _waiting = [];
    private Task<Outcome> _holding = Task.FromResult<Outcome>(null!);
    private CallLogService.CallLogServiceClient _one = null!,
        _other = null!;

    public async ValueTask InitializeAsync()
    {
        await _running.InitializeAsync();
        (_one, _other) = (_running.Calling("kr/mfa"), _running.Calling("ua/mfa"));
        _holding = await _running.Hold(_go);
    }

    public async ValueTask DisposeAsync()
    {
        _go.Set();
        await _holding;
        await Task.WhenAll(_waiting.Select(async w => await w.ResponseAsync.ContinueWith(_ => { })));
        await _running.DisposeAsync();
        _go.Dispose();
    }

    [Fact]
    public async Task A_participant_at_its_limit_of_calls_is_told_to_try_later_before_its_signature_is_checked()
    {
        await Fill(_one, 4);
        var (info, status) = await Refused(_one);
        Assert.Equal(StatusCode.ResourceExhausted, (StatusCode)status.Code);
        Assert.True(status.GetDetail<Google.Rpc.RetryInfo>()!.RetryDelay.ToTimeSpan() > TimeSpan.Zero);
        Assert.Equal("the participant has as many calls in progress as it may have", info.Metadata["limit"]);
        Assert.Equal(
            ("FORM", "service limits", "the operator"),
            (info.Metadata["basis"], info.Metadata["source"], info.Metadata["supplier"])
        );
        Assert.All((string[])["missing", "unlock"], word => Assert.NotEmpty(info.Metadata[word]));
        // This is neither signed nor a message.
        Running.Is("OVERLOADED", await _running.Post([1, 2, 3]));
        Assert.Equal(4, _running.Ledger.QueueLength);
    }

    [Fact]
    public async Task One_participants_flood_leaves_places_for_others_and_for_its_own_reads()
    {
        await Fill(_one, 4);
        await Refused(_one);
        await _one.ListCallsAsync(new ListCallsRequest { Case = Running.Case }, cancellationToken: Running.Cancel);
        // Each participant has two places of its own, although there are only five in all.
        await Fill(_other, 2, already: 4);
        Assert.Equal("the service has as many calls in progress as it may have", (await Refused(_other)).Info.Metadata["limit"]);
    }

    [Fact]
    public async Task While_another_calls_a_participant_may_have_fewer_calls_in_progress()
    {
        await Fill(_other, 1);
        await Fill(_one, 3, already: 1);
        Assert.Equal("the participant has as many calls in progress as it may have", (await Refused(_one)).Info.Metadata["limit"]);
    }

    [Fact]
    public async Task A_FLASH_call_finds_a_place_where_others_find_none_and_is_committed_first()
    {
        await Fill(_one, 4);
        await Refused(_one, Precedence.Immediate);
        Log(_one, Precedence.Flash);
        await Until(5);
        await Refused(_one, Precedence.Flash);
        _go.Set();
        var answers = await Task.WhenAll(_waiting.Select(w => w.ResponseAsync));
        Assert.Equal(answers.Min(a => a.Receipt.Position), answers[^1].Receipt.Position);
    }

    [Fact]
    public async Task Places_are_given_back_when_calls_end_are_cancelled_or_fail()
    {
        await Fill(_one, 4);
        var size = _running.Ledger.Size;
        foreach (var call in _waiting)
            call.Dispose();
        await Until(0);
        await Fill(_one, 4);
        _go.Set();
        await Task.WhenAll(_waiting.Skip(4).Select(w => w.ResponseAsync));
        Assert.Equal(size + 4, _running.Ledger.Size);
        _running.Ask = _ => throw new InvalidOperationException("what nobody outside may read");
        for (var i = 0; i < 9; i++)
            await Running.Refused("INTERNAL", () => _one.LogCallAsync(Running.Request()).ResponseAsync);
        _running.Ask = null;
        await _one.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);
    }

    [Fact]
    public async Task A_call_whose_deadline_passes_before_its_commit_leaves_nothing()
    {
        var request = Running.Request();
        var e = await Assert.ThrowsAsync<RpcException>(async () =>
            await _one.LogCallAsync(request, deadline: DateTime.UtcNow.AddSeconds(1), cancellationToken: Running.Cancel)
        );
        Assert.Equal(StatusCode.DeadlineExceeded, e.StatusCode);
        await Until(0);
        var size = _running.Ledger.Size;
        _go.Set();
        var answer = await _one.LogCallAsync(request, cancellationToken: Running.Cancel);
        Assert.Equal(size, answer.Receipt.Position);
    }

    [Fact]
    public async Task The_connections_of_a_participant_are_limited()
    {
        _go.Set();
        await _holding;
        await _one.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);
        var more = new[] { _running.Http(_running.CertificateOf("kr/mfa")), _running.Http(_running.CertificateOf("kr/mfa")) };
        var checkpoint = new Uri(_running.Address, "/checkpoint");
        foreach (var client in more)
            Assert.True((await client.GetAsync(checkpoint, Running.Cancel)).IsSuccessStatusCode);
        await Assert.ThrowsAsync<HttpRequestException>(() =>
            _running.Http(_running.CertificateOf("kr/mfa")).GetAsync(checkpoint, Running.Cancel)
        );
        Assert.True((await _running.Http(_running.CertificateOf("ua/mfa")).GetAsync(checkpoint, Running.Cancel)).IsSuccessStatusCode);
        more[0].Dispose();
        await Running.Until(
            async () =>
            {
                try
                {
                    return (await _running.Http(_running.CertificateOf("kr/mfa")).GetAsync(checkpoint, Running.Cancel)).IsSuccessStatusCode;
                }
                catch (HttpRequestException)
                {
                    return false;
                }
            },
            "a connection that ended makes room for another"
        );
    }

    private async Task Fill(CallLogService.CallLogServiceClient client, int calls, int already = 0)
    {
        for (var i = 0; i < calls; i++)
            Log(client, Precedence.Routine);
        await Until(already + calls);
    }

    private void Log(CallLogService.CallLogServiceClient client, Precedence precedence)
    {
        var request = Running.Request();
        request.Precedence = precedence;
        _waiting.Add(client.LogCallAsync(request, cancellationToken: Running.Cancel));
    }

    private Task Until(int waiting) => Running.Until(() => Task.FromResult(_running.Ledger.QueueLength == waiting), $"{waiting} wait");

    internal static Task<(Google.Rpc.ErrorInfo Info, Google.Rpc.Status Status)> Refused(
        CallLogService.CallLogServiceClient client,
        Precedence precedence = Precedence.Routine
    ) =>
        Running.Refused(
            "OVERLOADED",
            () =>
            {
                var request = Running.Request();
                request.Precedence = precedence;
                return client.LogCallAsync(request, cancellationToken: Running.Cancel).ResponseAsync;
            }
        );
}
