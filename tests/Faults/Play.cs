using System.Collections.Concurrent;
using System.Diagnostics;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;

namespace Ministries.Faults.Tests;

/// <summary>One case, as the participants who played it saw it.</summary>
internal sealed class Played
{
    public string Case = "";
    public string Call = "";
    public readonly List<string> Prisoners = [];
    public readonly Dictionary<string, int> Statuses = [];
    public readonly List<string> Transfers = [];
}

/// <summary>A participant got an answer that is impossible if everything works.</summary>
internal sealed class UnexpectedAnswerException(string what) : Exception(what);

/// <summary>Plays cases: the first steps of the main job, in which every service receives events of the others.</summary>
internal sealed class Play(Func<string, Ministry> ministry, int seed)
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3),
        Pause = TimeSpan.FromMilliseconds(150);
    private static readonly Timestamp Captured = new DateTimeOffset(2025, 1, 9, 6, 0, 0, TimeSpan.Zero).ToTimestamp();

    private readonly Ministry _hq = ministry("ua/coordination-hq"),
        _ua = ministry("ua/mfa"),
        _kr = ministry("kr/mfa");
    private int _cases;

    /// <summary>The cases that were played to their end.</summary>
    public ConcurrentBag<Played> Done { get; } = [];

    /// <summary>Cases that were only opened, so that custody has something to publish whatever the others do.</summary>
    public ConcurrentBag<string> Opened { get; } = [];

    /// <summary>Opens a case to which nobody else is admitted.</summary>
    public async Task Open(CancellationToken cancel) => Opened.Add((await Opening(cancel)).Case);

    /// <summary>Plays case after case until told to stop. Cases that were begun are finished.</summary>
    public async Task Run(int atOnce, CancellationToken stop, CancellationToken cancel)
    {
        await Task.WhenAll(
            Enumerable
                .Range(0, atOnce)
                .Select(async _ =>
                {
                    do Done.Add(await One(cancel));
                    while (!stop.IsCancellationRequested);
                })
        );
    }

    /// <summary>Plays one case.</summary>
    public async Task<Played> One(CancellationToken cancel)
    {
        var random = new Random(seed + Interlocked.Increment(ref _cases));
        var (played, moves) = (new Played(), random.Next(2, 6));
        var opened = await Opening(cancel);
        played.Case = opened.Case;
        var etag = opened.Etag;
        foreach (
            var (party, part) in new[] { ("ua/mfa", Part.DetainingPower), ("kr/mfa", Part.RequestingState), ("icrc", Part.NeutralObserver) }
        )
            etag = Taken(
                await Send(
                    _hq,
                    "custody",
                    id => new AdmitPartyRequest
                    {
                        RequestId = id,
                        Actor = _hq.Actor,
                        Etag = etag,
                        Case = played.Case,
                        Participant = party,
                        Part = part,
                    },
                    (i, r, o) => Custody(i).AdmitPartyAsync(r, o),
                    cancel
                )
            ).Etag;

        for (var i = 0; i < 2; i++)
        {
            var seen = await _hq.Read("custody", (i, o) => Custody(i).GetCaseAsync(new() { Case = played.Case }, o), cancel);
            var registered = Taken(
                await Send(
                    _hq,
                    "custody",
                    id => new RegisterPrisonerRequest
                    {
                        RequestId = id,
                        Actor = _hq.Actor,
                        Etag = seen.Etag,
                        Case = played.Case,
                        Status = CustodyState.Captured,
                        CaptureTime = Captured,
                        Identity = SealedForm.To("ua/coordination-hq"),
                    },
                    (i, r, o) => Custody(i).RegisterPrisonerAsync(r, o),
                    cancel
                )
            );
            played.Prisoners.Add(registered.Prisoner);
        }
        await Task.WhenAll(Talk(played, cancel), Hold(played, moves, cancel));
        return played;
    }

    private async Task<OpenCaseResponse> Opening(CancellationToken cancel) =>
        Taken(
            await Send(
                _hq,
                "custody",
                id => new OpenCaseRequest { RequestId = id, Actor = _hq.Actor },
                (i, r, o) => Custody(i).OpenCaseAsync(r, o),
                cancel
            )
        );

    // The detaining power records the prisoners' statuses.
    private async Task Hold(Played played, int moves, CancellationToken cancel)
    {
        foreach (var prisoner in played.Prisoners)
        {
            var recorded = 1;
            for (var move = 0; move < moves; move++)
            {
                var seen = await _hq.Read(
                    "custody",
                    (i, o) => Custody(i).GetPrisonerAsync(new() { Case = played.Case, Prisoner = prisoner }, o),
                    cancel
                );
                // Others may change the record meanwhile. Then it is read and sent again.
                var (response, reason) = await Send(
                    _hq,
                    "custody",
                    id => new RecordStatusRequest
                    {
                        RequestId = id,
                        Actor = _hq.Actor,
                        Etag = seen.Etag,
                        Case = played.Case,
                        Prisoner = prisoner,
                        Status = seen.Prisoner.State switch
                        {
                            CustodyState.Captured => CustodyState.Registered,
                            CustodyState.Registered or CustodyState.Hospitalised => CustodyState.Interned,
                            _ => CustodyState.Hospitalised,
                        },
                        StatusTime = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow),
                    },
                    (i, r, o) => Custody(i).RecordStatusAsync(r, o),
                    cancel
                );
                if (response is not null)
                    recorded++;
                else if (reason != "STALE")
                    throw new UnexpectedAnswerException($"RecordStatus was refused with {reason}");
            }
            played.Statuses[prisoner] = recorded;
        }
    }

    // The requesting state logs the call, the drafts come, it submits them; the other side gives its own readout.
    private async Task Talk(Played played, CancellationToken cancel)
    {
        var account = AccountOf(played);
        await LogCall(played, account, cancel);
        var drafts = await For(
            async () =>
            {
                var page = await _kr.Read(
                    "consular",
                    (i, o) => Consular(i).ListTransfersAsync(new() { Case = played.Case, Call = played.Call }, o),
                    cancel
                );
                return page.Transfers.Count == 2 ? page.Transfers : null;
            },
            $"drafts for {played.Call}",
            cancel
        );
        foreach (var draft in drafts)
        {
            await Submit(played, draft.Id, cancel);
            played.Transfers.Add(draft.Id);
        }
        await GiveReadout(played, account, cancel);
    }

    private async Task LogCall(Played played, Account account, CancellationToken cancel)
    {
        var logged = await Until(
            () =>
                Send(
                    _kr,
                    "calllog",
                    id => new LogCallRequest
                    {
                        RequestId = id,
                        Actor = _kr.Actor,
                        Case = played.Case,
                        Counterpart = "ua/mfa",
                        Account = account,
                    },
                    (i, r, o) => CallLog(i).LogCallAsync(r, o),
                    cancel
                ),
            cancel
        );
        played.Call = logged.Call;
    }

    private Task<SubmitTransferRequestResponse> Submit(Played played, string transfer, CancellationToken cancel) =>
        Until(
            async () =>
            {
                var seen = await _kr.Read("consular", (i, o) => Consular(i).GetTransferAsync(new() { Transfer = transfer }, o), cancel);
                return await Send(
                    _kr,
                    "consular",
                    id => new SubmitTransferRequestRequest
                    {
                        RequestId = id,
                        Actor = _kr.Actor,
                        Etag = seen.Etag,
                        Case = played.Case,
                        Transfer = transfer,
                        NoteVerbale = "NV-1",
                    },
                    (i, r, o) => Consular(i).SubmitTransferRequestAsync(r, o),
                    cancel
                );
            },
            cancel
        );

    private Task<SubmitReadoutResponse> GiveReadout(Played played, Account account, CancellationToken cancel) =>
        Until(
            async () =>
            {
                var seen = await _ua.Read("calllog", (i, o) => CallLog(i).GetCallAsync(new() { Call = played.Call }, o), cancel);
                return await Send(
                    _ua,
                    "calllog",
                    id => new SubmitReadoutRequest
                    {
                        RequestId = id,
                        Actor = _ua.Actor,
                        Etag = seen.Etag,
                        Case = played.Case,
                        Call = played.Call,
                        Account = account,
                    },
                    (i, r, o) => CallLog(i).SubmitReadoutAsync(r, o),
                    cancel
                );
            },
            cancel
        );

    private static Account AccountOf(Played played)
    {
        var account = LoggedCalls.About(DateTimeOffset.UtcNow.AddMinutes(-5), null, played.Prisoners);
        account.Minutes = SealedForm.To("kr/mfa");
        return account;
    }

    private static CallLogService.CallLogServiceClient CallLog(CallInvoker invoker) => new(invoker);

    private static CustodyService.CustodyServiceClient Custody(CallInvoker invoker) => new(invoker);

    private static ConsularService.ConsularServiceClient Consular(CallInvoker invoker) => new(invoker);

    private static Task<(TResponse? Response, string Reason)> Send<TRequest, TResponse>(
        Ministry by,
        string service,
        Func<string, TRequest> make,
        Func<CallInvoker, TRequest, CallOptions, AsyncUnaryCall<TResponse>> call,
        CancellationToken cancel
    )
        where TResponse : class, IMessage<TResponse>
    {
        var id = by.NewRequestId();
        var request = make(id);
        return by.Write(service, id, (invoker, options) => call(invoker, request, options), cancel);
    }

    private static T Taken<T>((T? Response, string Reason) answer)
        where T : class => answer.Response ?? throw new UnexpectedAnswerException($"{typeof(T).Name}: refused with {answer.Reason}");

    // The service may not yet have received the event on which this depends. Then it refuses, and is asked again under a new id.
    private static Task<T> Until<T>(Func<Task<(T? Response, string Reason)>> attempt, CancellationToken cancel)
        where T : class =>
        For(
            async () =>
            {
                var (response, reason) = await attempt();
                return response is not null || reason is "NOT_FOUND" or "STALE"
                    ? response
                    : throw new UnexpectedAnswerException($"{typeof(T).Name}: refused with {reason}");
            },
            typeof(T).Name,
            cancel
        );

    /// <summary>Waits for something to be there.</summary>
    public static async Task<T> For<T>(Func<Task<T?>> look, string what, CancellationToken cancel)
        where T : class
    {
        var began = Stopwatch.GetTimestamp();
        while (true)
        {
            if (await look() is { } found)
                return found;
            if (Stopwatch.GetElapsedTime(began) > Patience)
                throw new TimeoutException($"{what} did not come within {Patience}");
            await Task.Delay(Pause, cancel);
        }
    }
}
