using System.Diagnostics;
using Google.Protobuf;
using Grpc.Core;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>Runs every write that has passed the edge: it asks other services, commits and adds the receipt.</summary>
public sealed class Writes
{
    private readonly ServiceLedger _ledger;
    private readonly Access _access;
    private readonly Admission _admission;
    private readonly TimeProvider _time;

    internal Writes(ServiceLedger ledger, Access access, Admission admission, TimeProvider time) =>
        (_ledger, _access, _admission, _time) = (ledger, access, admission, time);

    /// <summary>Runs one write by its rule.</summary>
    /// <param name="request">The request, as received.</param>
    /// <param name="context">The call.</param>
    /// <param name="rule">The rule that decides.</param>
    /// <param name="ask">Asks another service before the command is queued; null: nothing is asked.</param>
    /// <param name="keeps">Whether an answer becomes a part of the entry, which its participant sees; null: every answer does. The rule
    /// decides by one that is not kept, too.</param>
    /// <param name="elsewhere">Whether another service is asked for a request; null: it is for every request. A question to the own ledger
    /// needs no place among those to others.</param>
    /// <exception cref="RpcException">The refusal.</exception>
    public Task<TResponse> Run<TRequest, TResponse>(
        TRequest request,
        ServerCallContext context,
        Rule<TRequest, TResponse> rule,
        Func<TRequest, Participant, CancellationToken, Task<IMessage?>>? ask = null,
        Func<IMessage, bool>? keeps = null,
        Func<TRequest, bool>? elsewhere = null
    )
        where TRequest : class, IMessage<TRequest>, new()
        where TResponse : class, IMessage<TResponse>, new() => Run<TRequest, TResponse>(request, context, rule.Run, ask, keeps, elsewhere);

    /// <summary>Runs one write. The response is the rule's answer with its receipt; a refusal is thrown as a rich gRPC status.
    /// </summary>
    /// <param name="request">The request, as received.</param>
    /// <param name="context">The call.</param>
    /// <param name="rule">The rule that decides.</param>
    /// <param name="ask">Asks another service before the command is queued. It is not called if the request was answered before. If the
    /// other service does not answer, the write is refused with that service's name, and the refusal is not stored (D9: unreachable means
    /// refused). If too many writes ask at once (<see cref="EdgeLimits.MaxQuestions"/>), the write is refused before it asks.</param>
    /// <param name="keeps">Whether an answer becomes a part of the entry, which its participant sees; null: every answer does. The rule
    /// decides by one that is not kept, too.</param>
    /// <param name="elsewhere">Whether another service is asked for a request; null: it is for every request. A question to the own ledger
    /// needs no place among those to others.</param>
    /// <exception cref="RpcException">The refusal.</exception>
    public async Task<TResponse> Run<TRequest, TResponse>(
        TRequest request,
        ServerCallContext context,
        Func<TRequest, RuleContext, Decision> rule,
        Func<TRequest, Participant, CancellationToken, Task<IMessage?>>? ask = null,
        Func<IMessage, bool>? keeps = null,
        Func<TRequest, bool>? elsewhere = null
    )
        where TRequest : class, IMessage<TRequest>
        where TResponse : class, IMessage<TResponse>
    {
        for (var tries = 1; ; tries++)
            try
            {
                return await RunOnce<TRequest, TResponse>(request, context, rule, ask, keeps, elsewhere);
            }
            catch (AgreementReplacedException) when (tries < 3)
            {
                // The ledger has a newer version, which is about to be in force here.
                await Task.Delay(TimeSpan.FromMilliseconds(10 * tries), context.CancellationToken);
                _access.Renew(EdgeCall.Of(context), context.GetHttpContext());
            }
    }

    private async Task<TResponse> RunOnce<TRequest, TResponse>(
        TRequest request,
        ServerCallContext context,
        Func<TRequest, RuleContext, Decision> rule,
        Func<TRequest, Participant, CancellationToken, Task<IMessage?>>? ask,
        Func<IMessage, bool>? keeps,
        Func<TRequest, bool>? elsewhere
    )
        where TRequest : class, IMessage<TRequest>
        where TResponse : class, IMessage<TResponse>
    {
        var call = EdgeCall.Of(context);
        var (permissions, caller, signed) = (call.Agreement.Permissions, call.Caller.Participant, call.Signed);
        var cancel = context.CancellationToken;
        call.Span?.SetTag("ministries.request_id", signed.RequestId);
        if (RequestShape.Text(RequestShape.Of(request.Descriptor).Case, request) is { Length: > 0 } named)
            call.Span?.SetTag("ministries.case", named);

        Decision Decide(View view, DateTimeOffset now, IMessage? about)
        {
            if (view.Find(Agreements.Kind, Agreements.Key)?.Version > permissions.Agreement.Version || !signed.HoldsAt(now))
                throw new AgreementReplacedException();
            return rule(request, ContextOf(call, view, now, about));
        }

        // A repeated request gets its old answer, even if its signature has expired since. So an old answer is looked for before the
        // request is refused or another service is asked.
        var outcome =
            ask is null && signed.Refused is null
                ? null
                : await _ledger.FindAnswer(caller.Id, signed.RequestId, call.Name, call.Message, cancel);
        if ((outcome is null ? signed.Refused : signed.WhereAnswered) is { } wrong)
            throw Refuse(context, wrong);
        if (outcome is null)
        {
            var (asked, missed) = ask is null
                ? default
                : await Ask(context, elsewhere?.Invoke(request) != false, () => ask(request, caller, cancel), cancel);
            outcome = await _ledger.Commit(
                missed is null
                    ? CommandOf(
                        request,
                        call,
                        asked is not null && keeps?.Invoke(asked) != false ? asked : null,
                        (view, now) => Decide(view, now, asked),
                        stores: true
                    )
                    // Without an answer, the rule still runs: what it refuses before it needs the answer, it refuses for the usual reason.
                    : CommandOf(
                        request,
                        call,
                        null,
                        (view, now) =>
                            Decide(view, now, null) is { Refusal: { Reason: not Reason.Unavailable } } decision ? decision : missed,
                        stores: false
                    ),
                cancel
            );
        }
        return await Respond<TResponse>(outcome, context, cancel);
    }

    private RuleContext ContextOf(EdgeCall call, View view, DateTimeOffset now, IMessage? asked) =>
        new()
        {
            View = view,
            Caller = call.Caller.Participant,
            Permissions = call.Agreement.Permissions,
            Method = call.Name,
            RequestId = call.Signed.RequestId,
            Now = now,
            Asked = asked,
            Secrets = _ledger.Secrets,
            Approved = call.Signed.Approved,
            Verifies = SigningKeys.Verifies,
        };

    private static Command CommandOf(
        IMessage request,
        EdgeCall call,
        IMessage? asked,
        Func<View, DateTimeOffset, Decision> decide,
        bool stores
    ) =>
        new()
        {
            Participant = call.Caller.Participant.Id,
            RequestId = call.Signed.RequestId,
            Method = call.Name,
            Request = request,
            Bytes = call.Message,
            Asked = asked,
            Signature = call.Signed.Signature,
            AgreementVersion = call.Agreement.Permissions.Agreement.Version,
            Decide = decide,
            StoresRefusal = stores,
            Precedence = RequestShape.Of(request.Descriptor).Precedence is { } precedence ? (int)precedence.Accessor.GetValue(request) : 0,
            TraceParent = Activity.Current?.Id ?? "",
            TraceState = Activity.Current?.TraceStateString ?? "",
        };

    // Answers with the receipt, or throws the refusal.
    private async Task<TResponse> Respond<TResponse>(Outcome outcome, ServerCallContext context, CancellationToken cancel)
        where TResponse : class, IMessage<TResponse>
    {
        var span = EdgeCall.Of(context).Span;
        if (outcome.Repeated)
        {
            span?.SetTag("ministries.repeated", true);
            Metrics.Repeated();
        }
        if (outcome.Position is { } position)
            span?.SetTag("ministries.position", (long)position);
        if (outcome.Refusal is { } refusal)
        {
            if (refusal.Reason == Reason.NotFound)
                await Evenly.Wait(context);
            throw Refuse(context, refusal);
        }
        var response = ((TResponse)outcome.Answer!).Clone();
        var answer = RequestShape.Of(response.Descriptor);
        answer.Receipt!.Accessor.SetValue(response, await _ledger.ReceiptOf(outcome, cancel));
        if (RequestShape.Text(answer.Record, response) is { Length: > 0 } record)
            span?.SetTag("ministries.record", record);
        return response;
    }

    // The other service's answer, or the refusal because there is none.
    private async Task<(IMessage? Asked, Refusal? Missed)> Ask(
        ServerCallContext context,
        bool elsewhere,
        Func<Task<IMessage?>> ask,
        CancellationToken cancel
    )
    {
        var call = EdgeCall.Of(context);
        if (elsewhere && await _admission.EnterQuestion(call) is { } full)
            throw Refuse(context, full);
        try
        {
            return (await ask(), null);
        }
        catch (RpcException e) when (!cancel.IsCancellationRequested)
        {
            var asked = e is PeerException peer ? peer.Method : "another service";
            return (
                null,
                new Refusal(Reason.Unavailable, new Dictionary<string, string> { ["missing"] = $"an answer to {asked}", ["asked"] = asked })
            );
        }
        finally
        {
            if (elsewhere)
                _admission.LeaveQuestion(call);
        }
    }

    private static RpcException Refuse(ServerCallContext context, Refusal refusal)
    {
        Refusals.Trace(context.GetHttpContext(), refusal);
        return refusal.ToException();
    }
}
