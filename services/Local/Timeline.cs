using System.Diagnostics;
using System.Text.RegularExpressions;
using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;
using Ministries.Errors.V1;
using Ministries.Hosting;
using Ministries.Ledger.V1;

namespace Ministries.Local;

/// <summary>The steps of the story: performs each, shows it, keeps it for the report, and checks what it must lead to.</summary>
/// <param name="screen">Where the steps are shown.</param>
/// <param name="started">When the program started (<see cref="Stopwatch.GetTimestamp"/>).</param>
public sealed class Timeline(Screen screen, long started)
{
    private readonly List<(Step Step, string RequestId)> _steps = [];
    private readonly List<Check> _checks = [];
    private int _part;

    /// <summary>What was done; a step's trace is found by its request id.</summary>
    public IReadOnlyList<(Step Step, string RequestId)> Steps => _steps;

    /// <summary>The expectations, and whether each holds.</summary>
    public IReadOnlyList<Check> Checks => _checks;

    /// <summary>The request id of the write that logged the call.</summary>
    public string CallRequestId { get; private set; } = "";

    /// <summary>The time from the start to the first step.</summary>
    public TimeSpan? FirstResult { get; private set; }

    /// <summary>Begins a part of the story.</summary>
    public void Begin(int part, string title)
    {
        _part = part;
        screen.Chapter(part, title);
    }

    /// <summary>Performs a step that must be accepted.</summary>
    /// <exception cref="StoryException">It is refused.</exception>
    public async Task<T> Perform<T>(ParticipantClient client, string what, Func<ParticipantClient, AsyncUnaryCall<T>> call)
        where T : IMessage
    {
        try
        {
            var answer = await Call(client, call);
            Record(client, what, null, (answer.Descriptor.FindFieldByName("receipt")?.Accessor.GetValue(answer) as Receipt)?.Position);
            return answer;
        }
        catch (RpcException e)
        {
            Record(client, what, RefusalOf(e, expected: false), null);
            _checks.Add(new Check($"{client.Id} {what}", false, e.Status.Detail));
            throw new StoryException($"{client.Id} was refused when it {what}: {e.Status.Detail}{FieldFaultsOf(e)}");
        }
    }

    /// <summary>Performs a step that must be refused for a reason.</summary>
    public async Task ExpectRefusal<T>(
        ParticipantClient client,
        string what,
        Reason reason,
        Func<ParticipantClient, AsyncUnaryCall<T>> call
    )
        where T : IMessage
    {
        var expected = $"{client.Id} {what} and is refused: {Refusals.NameOf(reason)}";
        try
        {
            await Call(client, call);
            Record(client, what, null, null);
            _checks.Add(new Check(expected, false, "it was accepted"));
        }
        catch (RpcException e)
        {
            var found = RefusalOf(e, InfoOf(e)?.Reason == Refusals.NameOf(reason));
            Record(client, what, found, null);
            _checks.Add(new Check(expected, found.Expected, found.Expected ? null : found.Reason + FieldFaultsOf(e)));
        }
    }

    // The record may have changed after its etag was read or after custody was asked. The refusal says to try again, under a new request
    // id.
    private static async Task<T> Call<T>(ParticipantClient client, Func<ParticipantClient, AsyncUnaryCall<T>> call)
    {
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                using var sent = call(client);
                return await sent;
            }
            catch (RpcException e) when (attempt < 5 && InfoOf(e)?.Reason is "STALE" or "CUSTODY_ANSWER_OUTDATED") { }
        }
    }

    /// <summary>Shows what a service did by itself.</summary>
    public void ShowReaction(string service, string what) => screen.Reaction(service, what);

    /// <summary>Shows how two accounts of a call compare, field by field.</summary>
    public void ShowComparison(IEnumerable<(string Field, string Match)> fields) => screen.Comparison(fields);

    /// <summary>Marks the last step as the write that logged the call: the trace that is shown begins with it.</summary>
    public void MarkCallLogged() => CallRequestId = _steps[^1].RequestId;

    /// <summary>Checks that a value is the expected one.</summary>
    public Task Expect<T>(string what, T expected, Func<T> found) => Expect(what, expected, () => Task.FromResult(found()));

    /// <summary>Checks that a value is the expected one.</summary>
    public async Task Expect<T>(string what, T expected, Func<Task<T>> found)
    {
        try
        {
            var actual = await found();
            Verify(what, EqualityComparer<T>.Default.Equals(actual, expected), $"{actual}");
        }
        catch (RpcException e)
        {
            Verify(what, false, InfoOf(e)?.Reason ?? e.StatusCode.ToString());
        }
    }

    /// <summary>Notes that the story cannot go on.</summary>
    public void Abort(string why)
    {
        _checks.Add(new Check("the story is played to its end", false, why));
        screen.ShowAborted(why);
    }

    /// <summary>Notes and shows whether an expectation holds.</summary>
    public void Verify(string what, bool holds, string found = "")
    {
        var check = new Check(what, holds, holds ? null : found);
        _checks.Add(check);
        if (!holds)
            screen.Failed(check);
    }

    /// <summary>The reason in a refusal.</summary>
    public static ErrorInfo? InfoOf(RpcException e) => e.GetRpcStatus()?.GetDetail<ErrorInfo>();

    private void Record(ParticipantClient client, string what, StepRefusal? refusal, ulong? position)
    {
        FirstResult ??= Stopwatch.GetElapsedTime(started);
        var last = client.LastWrite;
        var step = new Step(
            _part,
            DateTimeOffset.UtcNow,
            client.Id,
            last.Method,
            what,
            Math.Round(last.Milliseconds, 1),
            last.Method.Split('.') is ["ministries", var service, ..] ? service : "",
            position,
            refusal,
            ""
        );
        _steps.Add((step, last.RequestId));
        screen.Step(step);
    }

    private static StepRefusal RefusalOf(RpcException e, bool expected)
    {
        var info = InfoOf(e);
        string Of(string key) => info?.Metadata.TryGetValue(key, out var value) == true ? value : "";
        return new StepRefusal(
            info?.Reason ?? e.StatusCode.ToString(),
            Of("basis"),
            Of("source"),
            Of("missing"),
            Of("supplier"),
            Of("unlock"),
            expected
        );
    }

    private static string FieldFaultsOf(RpcException e) =>
        e.GetRpcStatus()?.GetDetail<BadRequest>() is { } bad
            ? string.Concat(bad.FieldViolations.Select(v => $"; {v.Field}: {v.Description}"))
            : "";
}

/// <summary>Names as people read them.</summary>
public static partial class Words
{
    /// <summary>The value's name as the contracts write it, without the prefix of its type.</summary>
    public static string Of<T>(T value)
        where T : struct, Enum => Hump().Replace(value.ToString(), "_").ToUpperInvariant();

    [GeneratedRegex("(?<=[a-z0-9])(?=[A-Z])")]
    private static partial Regex Hump();
}
