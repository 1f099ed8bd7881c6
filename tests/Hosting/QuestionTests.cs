using Google.Protobuf;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Types.V1;

namespace Ministries.Hosting.Tests;

/// <summary>Writes that ask another service while too many ask at once.</summary>
public sealed class QuestionTests : IAsyncLifetime
{
    private readonly Running _running = new()
    {
        Limits = new EdgeLimits
        {
            MaxQuestions = 3,
            MaxQuestionsPerParticipant = 2,
            OwnQuestions = 1,
            RefusalDelay = TimeSpan.FromMilliseconds(1),
        },
    };

    private readonly List<AsyncUnaryCall<LogCallResponse>> _waiting = [];
    private CallLogService.CallLogServiceClient _one = null!,
        _other = null!;

    public async ValueTask InitializeAsync()
    {
        await _running.InitializeAsync();
        (_one, _other) = (_running.Calling("kr/mfa"), _running.Calling("ua/mfa"));
    }

    public async ValueTask DisposeAsync()
    {
        await Task.WhenAll(_waiting.Select(async w => await w.ResponseAsync.ContinueWith(_ => { })));
        await _running.DisposeAsync();
    }

    [Fact]
    public async Task Whoever_asks_another_service_much_at_once_is_told_to_try_later_and_others_ask_all_the_same()
    {
        var answered = Running.Request();
        await _one.LogCallAsync(answered, cancellationToken: Running.Cancel);
        var (asking, answer) = (0, new TaskCompletionSource<IMessage?>(TaskCreationOptions.RunContinuationsAsynchronously));
        _running.Ask = _ =>
        {
            Interlocked.Increment(ref asking);
            return answer.Task;
        };
        await Ask(_one, 2);
        Assert.Equal(
            "as many of the participant's writes ask another service as may at once",
            (await AdmissionTests.Refused(_one, Precedence.Flash)).Info.Metadata["limit"]
        );
        Assert.Equal(2, asking);
        // A request that was answered before needs no question.
        await _one.LogCallAsync(answered, cancellationToken: Running.Cancel);
        await Ask(_other, 1);
        const string all = "as many writes ask another service as may at once";
        Assert.Equal(all, (await AdmissionTests.Refused(_other)).Info.Metadata["limit"]);
        // A further participant has a place of its own, although no common place is left.
        var third = _running.Calling("icrc");
        await Ask(third, 1);
        Assert.Equal(all, (await AdmissionTests.Refused(third)).Info.Metadata["limit"]);
        // A place is free again when the question was answered or failed.
        answer.SetResult(null);
        // The third has no capacity to log a call, which its rule says once there is an answer.
        await Task.WhenAll(_waiting.Take(3).Select(w => w.ResponseAsync));
        _running.Ask = _ => throw new RpcException(new Grpc.Core.Status(StatusCode.Unavailable, ""));
        for (var i = 0; i < 4; i++)
            await Running.Refused("UNAVAILABLE", () => _one.LogCallAsync(Running.Request()).ResponseAsync);
        _running.Ask = _ => Task.FromResult<IMessage?>(null);
        await _one.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);

        async Task Ask(CallLogService.CallLogServiceClient client, int questions)
        {
            var before = asking;
            for (var i = 0; i < questions; i++)
                _waiting.Add(client.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel));
            await Running.Until(() => Task.FromResult(asking == before + questions), "they ask");
        }
    }

    [Fact]
    public void The_writes_of_one_replica_leave_most_places_at_another_service_to_reactions()
    {
        var limits = new EdgeLimits();
        const int callsOfOne = 2,
            participants = 5;
        // Those that fill the common places have none of their own left.
        var own = participants - limits.MaxQuestions / limits.MaxQuestionsPerParticipant;
        Assert.InRange(callsOfOne * (limits.MaxQuestions + own * limits.OwnQuestions), 1, limits.MaxCallsBesideOthers / 2);
    }
}
