using System.Collections.Concurrent;
using System.Collections.Frozen;
using System.Diagnostics;
using Google.Protobuf;
using Google.Protobuf.Collections;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Ministries.Errors.V1;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>The way of every write: identity, form, what is asked elsewhere, the commit, the receipt.</summary>
/// <param name="ledger">The service's ledger.</param>
/// <param name="agreements">The agreement in force.</param>
/// <param name="time">The clock.</param>
/// <param name="bus">How the relay is; null: there is none.</param>
public sealed class Writes(ServiceLedger ledger, Agreements agreements, TimeProvider time, BusStatus? bus = null)
{
    private static readonly ConcurrentDictionary<MessageDescriptor, Shape> Shapes = new();

    /// <summary>Runs one write. The response is the rule's answer with its receipt; a refusal is thrown as a rich gRPC status.
    /// </summary>
    /// <param name="request">The request, as received.</param>
    /// <param name="context">The call.</param>
    /// <param name="rule">The rule that decides.</param>
    /// <param name="ask">Asks another service before the command is queued. Not called where the request has its answer. What it
    /// cannot get is a refusal that names what was asked, and is not stored (D9: unreachable means refused).</param>
    /// <exception cref="RpcException">The refusal.</exception>
    public async Task<TResponse> Run<TRequest, TResponse>(
        TRequest request, ServerCallContext context, Func<View, TRequest, Act, Decision> rule,
        Func<TRequest, Act, CancellationToken, Task<IMessage?>>? ask = null)
        where TRequest : class, IMessage<TRequest> where TResponse : class, IMessage<TResponse>
    {
        for (var tries = 1; ; tries++)
            try
            {
                return await RunOnce<TRequest, TResponse>(request, context, rule, ask);
            }
            catch (TermsOver) when (tries < 3)
            {
                // The version that the ledger has is about to be in force here.
                await Task.Delay(TimeSpan.FromMilliseconds(10 * tries), context.CancellationToken);
            }
    }

    private async Task<TResponse> RunOnce<TRequest, TResponse>(
        TRequest request, ServerCallContext context, Func<View, TRequest, Act, Decision> rule,
        Func<TRequest, Act, CancellationToken, Task<IMessage?>>? ask)
        where TRequest : class, IMessage<TRequest> where TResponse : class, IMessage<TResponse>
    {
        var terms = agreements.InForce;
        var caller = terms.Permissions.Participant(context.CallerOf().Participant.Id) ??
            throw Refuse(context, new Refusal(Reason.CallerUnknown));
        // The ledger is the queue when the broker is down, but not without end.
        if (bus is { Overloaded: true } && caller.Kind != ParticipantKind.Operator) throw Refuse(context, new Refusal(Reason.Overloaded));
        var shape = Shapes.GetOrAdd(request.Descriptor, static d => new Shape(d));
        var requestId = shape.Text(shape.RequestId, request);
        var method = context.NameOf();
        var bytes = context.BytesOf();
        var cancel = context.CancellationToken;
        var signature = Probe.WithoutTrust ? null : context.SignatureOf();
        var (refused, whereAnswered) = Probe.WithoutTrust ? default : RequestSignatures.Check(
            signature, method, bytes.Span, requestId, caller, terms.Permissions, time.GetUtcNow(), ledger.Service);
        // Once, before the command queues: the rule, which may run again, counts those whose approvals were verified here.
        var (approved, unapproved) = shape.Approvals is { } given && refused is null
            ? Approvals.Check(
                (RepeatedField<Approval>)given.Accessor.GetValue(request), method, bytes.Span, caller, terms.Permissions, time.GetUtcNow())
            : default;
        refused ??= unapproved;
        // The keys must hold when it is committed, too.
        var keys = refused is null && signature is not null ? KeysOf(signature, shape.Approvals, request, terms.Permissions) : [];
        var span = Call.Of(context).Span;
        span?.SetTag("ministries.request_id", requestId);
        if (shape.Text(shape.Case, request) is { Length: > 0 } named) span?.SetTag("ministries.case", named);

        Act ActAt(DateTimeOffset now, IMessage? asked) => new()
        {
            Caller = caller, Permissions = terms.Permissions, Method = method, RequestId = requestId, Now = now, Asked = asked,
            Approved = approved ?? FrozenSet<string>.Empty,
        };

        Command CommandOf(IMessage? asked, Func<View, DateTimeOffset, Decision> decide, bool stores) => new()
        {
            Participant = caller.Id, RequestId = requestId, Method = method, Request = request, Bytes = bytes, Asked = asked,
            Signature = signature, AgreementVersion = terms.Permissions.Agreement.Version, Decide = decide, StoresRefusal = stores,
            Precedence = shape.Precedence is { } precedence ? (int)precedence.Accessor.GetValue(request) : 0,
            TraceParent = Activity.Current?.Id ?? "", TraceState = Activity.Current?.TraceStateString ?? "",
        };

        Decision Judged(View view, DateTimeOffset now, IMessage? about)
        {
            if (view.Find(Agreements.Kind, Agreements.Key)?.Version > terms.Permissions.Agreement.Version ||
                keys.Any(k => !RequestSignatures.IsValidAt(k, now))) throw new TermsOver();
            return rule(view, request, ActAt(now, about));
        }

        // An old request gets its old answer, whatever the time: so whether there is one is asked where that makes a difference.
        var outcome = ask is null && refused is null
            ? null : await ledger.FindAnswer(caller.Id, requestId, method, bytes, cancel);
        if ((outcome is null ? refused : whereAnswered) is { } wrong) throw Refuse(context, wrong);
        if (outcome is null)
        {
            var (asked, missed) = ask is null ? default : await Ask(() => ask(request, ActAt(time.GetUtcNow(), null), cancel), cancel);
            outcome = await ledger.Commit(
                missed is null
                    ? CommandOf(asked, (view, now) => Judged(view, now, asked), stores: true)
                    // Silence comes where the rule asks for the answer: what it refuses before is told as when there is one.
                    : CommandOf(null, (view, now) => Judged(view, now, null) is
                        { Refusal: { Reason: not Reason.Unavailable } } decision ? decision : missed,
                        stores: false),
                cancel);
        }
        if (outcome.Repeated)
        {
            span?.SetTag("ministries.repeated", true);
            Metrics.Repeated();
        }
        if (outcome.Position is { } position) span?.SetTag("ministries.position", (long)position);
        if (outcome.Refusal is { } refusal) throw Refuse(context, refusal);
        var response = ((TResponse)outcome.Answer!).Clone();
        var answer = Shapes.GetOrAdd(response.Descriptor, static d => new Shape(d));
        if (!Probe.WithoutTrust) answer.Receipt!.Accessor.SetValue(response, await ledger.ReceiptOf(outcome, cancel));
        if (answer.Text(answer.Record, response) is { Length: > 0 } record) span?.SetTag("ministries.record", record);
        return response;
    }

    private static SigningKey[] KeysOf(RequestSignature signature, FieldDescriptor? approvals, IMessage request, Permissions permissions)
    {
        IEnumerable<string?> ids = [SignatureFields.Read(signature.SignatureInput, signature.Signature)?.KeyId];
        if (approvals is not null)
            ids = ids.Concat(((RepeatedField<Approval>)approvals.Accessor.GetValue(request)).Select(a => a.KeyId));
        return [.. ids.Select(i => permissions.SigningKey(i ?? "")).Where(k => k is not null).Select(k => k!.Value.Key)];
    }

    // The answer, or the refusal for want of one.
    private static async Task<(IMessage? Asked, Refusal? Missed)> Ask(Func<Task<IMessage?>> ask, CancellationToken cancel)
    {
        try
        {
            return (await ask(), null);
        }
        catch (RpcException e) when (!cancel.IsCancellationRequested)
        {
            var asked = e is PeerException peer ? peer.Method : "another service";
            return (null, new Refusal(Reason.Unavailable, new Dictionary<string, string>
            {
                ["missing"] = $"an answer to {asked}", ["asked"] = asked,
            }));
        }
    }

    private static RpcException Refuse(ServerCallContext context, Refusal refusal)
    {
        Refusals.Trace(context.GetHttpContext(), refusal);
        return refusal.ToException();
    }

    /// <summary>Where a message has what every write's request or response has.</summary>
    private sealed class Shape(MessageDescriptor type)
    {
        public readonly FieldDescriptor? RequestId = Find(type, "request_id", FieldType.String);
        public readonly FieldDescriptor? Case = Find(type, "case", FieldType.String);
        public readonly FieldDescriptor? Precedence = Find(type, "precedence", FieldType.Enum);
        public readonly FieldDescriptor? Approvals =
            type.FindFieldByNumber(Trust.Approvals.Field) is { Name: "approvals" } field ? field : null;

        public readonly FieldDescriptor? Receipt = Find(type, "receipt", FieldType.Message);

        // Of a response: the id of the record, after its receipt. A prisoner's reference goes into no trace (D16).
        public readonly FieldDescriptor? Record =
            type.FindFieldByNumber(2) is { FieldType: FieldType.String, IsRepeated: false, Name: not "prisoner" } field ? field : null;

        public string Text(FieldDescriptor? field, IMessage message) => (string?)field?.Accessor.GetValue(message) ?? "";

        private static FieldDescriptor? Find(MessageDescriptor type, string name, FieldType kind) =>
            type.FindFieldByName(name) is { IsRepeated: false } field && field.FieldType == kind ? field : null;
    }
}
