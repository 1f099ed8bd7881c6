using System.Collections.Concurrent;
using System.Diagnostics;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Client;
using Ministries.Custody.V1;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Cluster;

/// <summary>An answer that a ministry got. It must be in the ledger, once, for ever.</summary>
/// <param name="Service">The service that answered.</param>
/// <param name="Participant">Who was answered.</param>
/// <param name="RequestId">The request's id.</param>
/// <param name="Position">The entry's position.</param>
/// <param name="EntryHash">SHA-256 of the entry's header, as hexadecimal digits.</param>
internal sealed record Answered(string Service, string Participant, string RequestId, ulong Position, string EntryHash);

/// <summary>
/// The load: calls are logged and cases are opened, in turn, whether or not earlier ones were answered. The client checks each receipt. A
/// write is sent until it is answered, the same each time, and now and then once more.
/// </summary>
internal sealed class Writes : IDisposable
{
    private const int MostWaiting = 2000;
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);

    private readonly MinistryClient _kr,
        _hq;
    private readonly double _rate;
    private readonly Random _random;
    private readonly Dictionary<string, Silence> _silences = new()
    {
        ["calllog"] = new("writes to calllog"),
        ["custody"] = new("writes to custody"),
    };
    private readonly ConcurrentQueue<Answered> _answered = [];
    private readonly ConcurrentQueue<string> _wrong = [];
    private readonly ConcurrentDictionary<Task, byte> _waiting = [];
    private string _case = "";

    public Writes(string folder, Plan plan)
    {
        (_kr, _hq) = (Service.ClientOf("kr/mfa", folder), Service.ClientOf("ua/coordination-hq", folder));
        (_rate, _random) = (plan.Rate, new Random(plan.Seed));
    }

    /// <summary>What was answered so far.</summary>
    public IReadOnlyCollection<Answered> Answered => _answered;

    /// <summary>What no answer should have been.</summary>
    public IReadOnlyCollection<string> Wrong => _wrong;

    /// <summary>How many writes wait for their answer.</summary>
    public int Pending => _waiting.Count;

    /// <summary>The longest time without an answer of one of the two services that are written to.</summary>
    public Outage Outage => _silences.Values.Select(s => s.Longest).MaxBy(o => o.Time)!;

    /// <summary>Begins a measurement of the outage.</summary>
    public void Measure()
    {
        foreach (var silence in _silences.Values)
            silence.Begin();
    }

    /// <summary>Opens the case in which calls are logged.</summary>
    public async Task Prepare()
    {
        var opened = await Until(() => _hq.Custody.OpenCaseAsync(Opening()).ResponseAsync);
        (_case, var etag) = (opened.Case, opened.Etag);
        foreach (var (party, part) in new[] { ("ua/mfa", Part.DetainingPower), ("kr/mfa", Part.RequestingState) })
        {
            var admission = new AdmitPartyRequest
            {
                Actor = ActorOf("ua/coordination-hq"),
                Etag = etag,
                Case = _case,
                Participant = party,
                Part = part,
            };
            etag = (await Until(() => _hq.Custody.AdmitPartyAsync(admission).ResponseAsync)).Etag;
        }
        // The call log learns of the case by its events.
        await Until(() => _kr.CallLog.LogCallAsync(Call()).ResponseAsync, "NOT_FOUND", "NOT_A_PARTY", "PARTY_NEEDED");
    }

    /// <summary>Writes until it is told to stop, and returns when all writes have been answered, or a minute later.</summary>
    public async Task Run(CancellationToken stop)
    {
        var (began, number) = (Stopwatch.GetTimestamp(), 0L);
        while (!stop.IsCancellationRequested)
        {
            await Task.Delay(5, default(CancellationToken));
            for (; number < _rate * Stopwatch.GetElapsedTime(began).TotalSeconds; number++)
                if (_waiting.Count < MostWaiting)
                    Begin(number);
        }
        await Task.WhenAll(_waiting.Keys)
            .WaitAsync(TimeSpan.FromMinutes(1), CancellationToken.None)
            .ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <summary>Checks that the checkpoints of all receipts are of the one history that the services show.</summary>
    /// <returns>What is wrong; empty: nothing.</returns>
    public async Task<IReadOnlyList<string>> AuditLogs()
    {
        var wrong = new List<string>();
        foreach (var (client, service) in new[] { (_kr, "calllog"), (_hq, "custody") })
            try
            {
                await client.Audit(service);
            }
            catch (Exception e) when (e is InvalidLogException or HttpRequestException or OperationCanceledException)
            {
                wrong.Add($"the log of {service}: {e.Message}");
            }
        return wrong;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _kr.Dispose();
        _hq.Dispose();
    }

    private void Begin(long number)
    {
        var again = _random.Next(8) == 0;
        var task = Task.Run(() => number % 2 == 0 ? LogCall(again) : OpenCase(again));
        _waiting[task] = 0;
        task.ContinueWith(
            t =>
            {
                _waiting.Remove(t, out _);
                if (t.Exception is { } fault)
                    _wrong.Enqueue(fault.GetBaseException().Message);
            },
            TaskScheduler.Default
        );
    }

    private async Task LogCall(bool again)
    {
        var request = Call();
        for (var times = again ? 2 : 1; times > 0; times--)
        {
            var response = await Until(() => _kr.CallLog.LogCallAsync(request).ResponseAsync);
            Took("calllog", "kr/mfa", request.RequestId, response.Receipt);
        }
    }

    private async Task OpenCase(bool again)
    {
        var request = Opening();
        for (var times = again ? 2 : 1; times > 0; times--)
        {
            var response = await Until(() => _hq.Custody.OpenCaseAsync(request).ResponseAsync);
            Took("custody", "ua/coordination-hq", request.RequestId, response.Receipt);
        }
    }

    private void Took(string service, string participant, string id, Receipt receipt)
    {
        _silences[service].End();
        _answered.Enqueue(new Answered(service, participant, id, receipt.Position, Convert.ToHexStringLower(receipt.EntryHash.Span)));
    }

    // Sends the same write until its outcome is known.
    private static async Task<T> Until<T>(Func<Task<T>> send, params string[] passing)
    {
        while (true)
            try
            {
                return await send();
            }
            catch (RefusedException e) when (e.Reason is "UNAVAILABLE" or "OVERLOADED" || passing.Contains(e.Reason))
            {
                await Task.Delay(Pause);
            }
            catch (RpcException e)
                when (e.StatusCode
                        is StatusCode.Unavailable
                            or StatusCode.DeadlineExceeded
                            or StatusCode.Cancelled
                            or StatusCode.ResourceExhausted
                            or StatusCode.Internal
                )
            {
                await Task.Delay(Pause);
            }
    }

    private LogCallRequest Call() =>
        new()
        {
            Case = _case,
            Counterpart = "ua/mfa",
            Actor = ActorOf("kr/mfa"),
            Account = new Account
            {
                StartTime = new ZonedTime
                {
                    Time = new Timestamp { Seconds = 1742169600 },
                    TimeZone = "Asia/Seoul",
                },
                Channel = Channel.Telephone,
                Attendees =
                {
                    new Attendee
                    {
                        Participant = "kr/mfa",
                        Office = "minister",
                        Official = "kr-1",
                    },
                    new Attendee { Participant = "ua/mfa", Office = "minister" },
                },
                Subjects = { Subject.Transfer },
            },
        };

    private static OpenCaseRequest Opening() => new() { Actor = ActorOf("ua/coordination-hq") };

    private static Actor ActorOf(string participant) =>
        new()
        {
            Office = "desk",
            Official = Pki.OfficialOf(participant, 1),
            Authority = "order-1",
        };
}
