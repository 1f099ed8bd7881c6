using System.Diagnostics;
using System.Text.RegularExpressions;
using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;
using Ministries.Errors.V1;
using Ministries.Hosting;
using Ministries.Ledger.V1;

namespace Ministries.Local;

/// <summary>Tells the story while it happens, keeps what was told, and checks what it must have come to.</summary>
/// <param name="screen">Where it is told.</param>
/// <param name="started">When the program started (<see cref="Stopwatch.GetTimestamp"/>).</param>
public sealed class Teller(Screen screen, long started)
{
    private readonly List<(Step Step, string RequestId)> _steps = [];
    private readonly List<Check> _checks = [];
    private int _part;

    /// <summary>What was done; a step's trace is found by its request id.</summary>
    public IReadOnlyList<(Step Step, string RequestId)> Steps => _steps;

    /// <summary>What was expected.</summary>
    public IReadOnlyList<Check> Checks => _checks;

    /// <summary>The request id of the call that began it.</summary>
    public string CallRequestId { get; private set; } = "";

    /// <summary>From the start to the first thing that somebody did.</summary>
    public TimeSpan? FirstResult { get; private set; }

    /// <summary>A part of the main job begins.</summary>
    public void Begin(int part, string title)
    {
        _part = part;
        screen.Chapter(part, title);
    }

    /// <summary>A participant does something, and it is accepted.</summary>
    /// <exception cref="StoryException">It is refused.</exception>
    public async Task<T> Does<T>(Party party, string what, Func<Party, AsyncUnaryCall<T>> call)
        where T : IMessage
    {
        try
        {
            // The record may have changed between the reading of its etag and the write; a ministry's clerk would look again.
            for (var attempt = 1; ; attempt++)
            {
                try
                {
                    using var sent = call(party);
                    var answer = await sent;
                    Keep(party, what, null, (answer.Descriptor.FindFieldByName("receipt")?.Accessor.GetValue(answer) as Receipt)?.Position);
                    return answer;
                }
                catch (RpcException e) when (attempt < 5 && InfoOf(e)?.Reason is "STALE" or "CUSTODY_ANSWER_OUTDATED") { }
            }
        }
        catch (RpcException e)
        {
            Keep(party, what, Why(e, expected: false), null);
            _checks.Add(new Check($"{party.Id} {what}", false, e.Status.Detail));
            throw new StoryException($"{party.Id} was refused when it {what}: {e.Status.Detail}{Faults(e)}");
        }
    }

    /// <summary>A participant would do something, and it is refused for the reason expected.</summary>
    public async Task IsRefused<T>(Party party, string what, Reason reason, Func<Party, AsyncUnaryCall<T>> call)
        where T : IMessage
    {
        var expected = $"{party.Id} {what} and is refused: {Refusals.NameOf(reason)}";
        try
        {
            using var sent = call(party);
            await sent;
            Keep(party, what, null, null);
            _checks.Add(new Check(expected, false, "it was accepted"));
        }
        catch (RpcException e)
        {
            var found = Why(e, InfoOf(e)?.Reason == Refusals.NameOf(reason));
            Keep(party, what, found, null);
            _checks.Add(new Check(expected, found.Expected, found.Expected ? null : found.Reason + Faults(e)));
        }
    }

    /// <summary>A service did something of its own.</summary>
    public void Tells(string service, string what) => screen.Reaction(service, what);

    /// <summary>Two accounts are compared, field by field.</summary>
    public void Compares(IEnumerable<(string Field, string Match)> fields) => screen.Comparison(fields);

    /// <summary>The last step was the call that begins the trace.</summary>
    public void CallLogged() => CallRequestId = _steps[^1].RequestId;

    /// <summary>Something must have come to be.</summary>
    public Task Expect<T>(string what, T expected, Func<T> found) => Expect(what, expected, () => Task.FromResult(found()));

    /// <summary>Something must have come to be.</summary>
    public async Task Expect<T>(string what, T expected, Func<Task<T>> found)
    {
        try
        {
            var is_ = await found();
            Holds(what, EqualityComparer<T>.Default.Equals(is_, expected), $"{is_}");
        }
        catch (RpcException e)
        {
            Holds(what, false, InfoOf(e)?.Reason ?? e.StatusCode.ToString());
        }
    }

    /// <summary>The story cannot go on.</summary>
    public void Broke(string why)
    {
        _checks.Add(new Check("the story is played to its end", false, why));
        screen.Broke(why);
    }

    /// <summary>Something holds or does not.</summary>
    public void Holds(string what, bool holds, string found = "")
    {
        var check = new Check(what, holds, holds ? null : found);
        _checks.Add(check);
        if (!holds)
            screen.Failed(check);
    }

    /// <summary>The reason in a refusal.</summary>
    public static ErrorInfo? InfoOf(RpcException e) => e.GetRpcStatus()?.GetDetail<ErrorInfo>();

    private void Keep(Party party, string what, StepRefusal? refusal, ulong? position)
    {
        FirstResult ??= Stopwatch.GetElapsedTime(started);
        var last = party.Last;
        var step = new Step(
            _part,
            DateTimeOffset.UtcNow,
            party.Id,
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

    private static StepRefusal Why(RpcException e, bool expected)
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

    private static string Faults(RpcException e) =>
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
