using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Hosting;

namespace Ministries.CallLog;

/// <summary>The gRPC edge of the call log.</summary>
/// <param name="writes">Runs the writes.</param>
/// <param name="reads">Runs the reads.</param>
/// <param name="secrets">What etags are made with.</param>
public sealed class CallLogService(Writes writes, Reads reads, RecordSecrets secrets) : V1.CallLogService.CallLogServiceBase
{
    /// <summary>The service, as its host needs to know it.</summary>
    public static Service Definition { get; } =
        new()
        {
            Name = "calllog",
            Streams = [Calls.Kind, Cases.Kind],
            Map = routes => routes.Serve<CallLogService>(V1.CallLogService.BindService),
            Reactions = CallLog.Reactions.All,
            Duties = CallLog.Duties.All,
            Register = services => services.AddSingleton<CallLogService>(),
        };

    /// <inheritdoc/>
    public override Task<LogCallResponse> LogCall(LogCallRequest request, ServerCallContext context) =>
        writes.Run(request, context, Calls.LogCall);

    /// <inheritdoc/>
    public override Task<SubmitReadoutResponse> SubmitReadout(SubmitReadoutRequest request, ServerCallContext context) =>
        writes.Run(request, context, Calls.SubmitReadout);

    /// <inheritdoc/>
    public override Task<AmendReadoutResponse> AmendReadout(AmendReadoutRequest request, ServerCallContext context) =>
        writes.Run(request, context, Calls.AmendReadout);

    /// <inheritdoc/>
    public override Task<ContestReadoutResponse> ContestReadout(ContestReadoutRequest request, ServerCallContext context) =>
        writes.Run(request, context, Calls.ContestReadout);

    /// <inheritdoc/>
    public override Task<LinkCallsResponse> LinkCalls(LinkCallsRequest request, ServerCallContext context) =>
        writes.Run(request, context, Calls.LinkCalls);

    /// <inheritdoc/>
    public override Task<SettleCommitmentResponse> SettleCommitment(SettleCommitmentRequest request, ServerCallContext context) =>
        writes.Run(request, context, Calls.SettleCommitment);

    /// <inheritdoc/>
    public override Task<CorrectRecordResponse> CorrectRecord(CorrectRecordRequest request, ServerCallContext context) =>
        writes.Run(request, context, Calls.CorrectRecord);

    /// <inheritdoc/>
    public override async Task<GetCallResponse> GetCall(GetCallRequest request, ServerCallContext context)
    {
        var (call, reader) = await reads.Get(request, context, Calls.Kind, request.Call);
        var linked = await Linked(call, reader, context);
        var shown = CallVisibility.Show(call, reader.Participant.Id, linked.ContainsKey);
        var same = shown.Links.Where(l => !l.Corrected).Select(l => linked[l.Call]);
        return new GetCallResponse
        {
            Call = shown,
            Etag = secrets.EtagOf(shown),
            Comparison = CallComparison.Compare(call, same),
        };
    }

    /// <inheritdoc/>
    public override async Task<ListCallsResponse> ListCalls(ListCallsRequest request, ServerCallContext context)
    {
        if (request.Prisoner.Length > 0 && request.Case.Length == 0)
            throw Refusals.Invalid("prisoner", "needs a case too, because a reference belongs to a case").ToException();
        var (calls, next, reader) = await reads.List(
            request,
            context,
            Calls.Kind,
            Calls.CaseKey(request.Case),
            Calls.StateKey(request.State),
            Calls.ParticipantKey(request.Participant),
            Calls.PrisonerKey(request.Case, request.Prisoner),
            Calls.CommitmentKey(request.CommitmentState)
        );
        var response = new ListCallsResponse { NextPageToken = next };
        foreach (var call in calls)
        {
            var linked = await Linked(call, reader, context);
            response.Calls.Add(CallVisibility.Summary(CallVisibility.Show(call, reader.Participant.Id, linked.ContainsKey), secrets));
        }
        return response;
    }

    /// <summary>The records linked with a call, as far as the reader may see them.</summary>
    private async Task<Dictionary<string, V1.Call>> Linked(V1.Call call, Reader reader, ServerCallContext context)
    {
        var linked = new Dictionary<string, V1.Call>();
        foreach (var id in call.Links.Select(l => l.Call).Distinct())
            if (
                await reads.Peek(Calls.Kind, id, context.CancellationToken) is { } other
                && Calls.Kind.AudienceOf(other).Any(reader.Tokens.Contains)
            )
                linked[id] = other;
        return linked;
    }
}
