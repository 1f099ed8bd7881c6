using Google.Protobuf;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Consular.V1;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Trust;

namespace Ministries.Consular;

/// <summary>The consular service's edge: one line for each write; what it does is in <see cref="Transfers"/> and
/// <see cref="Accesses"/>.</summary>
/// <param name="writes">The way of writes.</param>
/// <param name="reads">The way of reads.</param>
/// <param name="departure">What custody is asked before a departure.</param>
/// <param name="secrets">What etags are made with.</param>
public sealed class ConsularService(Writes writes, Reads reads, Departure departure, RecordSecrets secrets)
    : V1.ConsularService.ConsularServiceBase
{
    /// <summary>The service, as its host needs to know it.</summary>
    public static Service Definition { get; } =
        new()
        {
            Name = "consular",
            Streams = [Transfers.Kind, Accesses.Kind, Dossiers.Kind, Dossiers.Calls, Cases.Kind],
            Map = routes => routes.Serve<ConsularService>(V1.ConsularService.BindService),
            Reactions = Consular.Reactions.All,
            Duties = Consular.Duties.All,
            Register = services => services.AddSingleton<Departure>().AddSingleton<ConsularService>(),
        };

    /// <inheritdoc/>
    public override Task<RequestAccessResponse> RequestAccess(RequestAccessRequest request, ServerCallContext context) =>
        writes.Run<RequestAccessRequest, RequestAccessResponse>(request, context, Accesses.Request);

    /// <inheritdoc/>
    public override Task<DecideAccessResponse> DecideAccess(DecideAccessRequest request, ServerCallContext context) =>
        writes.Run<DecideAccessRequest, DecideAccessResponse>(request, context, Accesses.Decide);

    /// <inheritdoc/>
    public override Task<NotifyVisitResponse> NotifyVisit(NotifyVisitRequest request, ServerCallContext context) =>
        writes.Run<NotifyVisitRequest, NotifyVisitResponse>(request, context, Accesses.Notify);

    /// <inheritdoc/>
    public override Task<RecordVisitResponse> RecordVisit(RecordVisitRequest request, ServerCallContext context) =>
        writes.Run<RecordVisitRequest, RecordVisitResponse>(request, context, Accesses.RecordVisit);

    /// <inheritdoc/>
    public override Task<CloseAccessResponse> CloseAccess(CloseAccessRequest request, ServerCallContext context) =>
        writes.Run<CloseAccessRequest, CloseAccessResponse>(request, context, Accesses.Close);

    /// <inheritdoc/>
    public override Task<DraftTransferRequestResponse> DraftTransferRequest(
        DraftTransferRequestRequest request,
        ServerCallContext context
    ) => writes.Run<DraftTransferRequestRequest, DraftTransferRequestResponse>(request, context, Transfers.Draft);

    /// <inheritdoc/>
    public override Task<DiscardDraftResponse> DiscardDraft(DiscardDraftRequest request, ServerCallContext context) =>
        writes.Run<DiscardDraftRequest, DiscardDraftResponse>(request, context, Transfers.Discard);

    /// <inheritdoc/>
    public override Task<SubmitTransferRequestResponse> SubmitTransferRequest(
        SubmitTransferRequestRequest request,
        ServerCallContext context
    ) => writes.Run<SubmitTransferRequestRequest, SubmitTransferRequestResponse>(request, context, Transfers.Submit);

    /// <inheritdoc/>
    public override Task<BeginReviewResponse> BeginReview(BeginReviewRequest request, ServerCallContext context) =>
        writes.Run<BeginReviewRequest, BeginReviewResponse>(request, context, Transfers.Review);

    /// <inheritdoc/>
    public override Task<RecordTransfereeAssessmentResponse> RecordTransfereeAssessment(
        RecordTransfereeAssessmentRequest request,
        ServerCallContext context
    ) => writes.Run<RecordTransfereeAssessmentRequest, RecordTransfereeAssessmentResponse>(request, context, Transfers.Assess);

    /// <inheritdoc/>
    public override Task<GiveAssuranceResponse> GiveAssurance(GiveAssuranceRequest request, ServerCallContext context) =>
        writes.Run<GiveAssuranceRequest, GiveAssuranceResponse>(request, context, Transfers.Assure);

    /// <inheritdoc/>
    public override Task<DecideTransferResponse> DecideTransfer(DecideTransferRequest request, ServerCallContext context) =>
        writes.Run<DecideTransferRequest, DecideTransferResponse>(
            request,
            context,
            Transfers.Decide,
            (r, act, cancel) => r.Agreed ? departure.Ask(r.Case, r.Transfer, act, cancel) : Task.FromResult<IMessage?>(null)
        );

    /// <inheritdoc/>
    public override Task<ScheduleHandoverResponse> ScheduleHandover(ScheduleHandoverRequest request, ServerCallContext context) =>
        writes.Run<ScheduleHandoverRequest, ScheduleHandoverResponse>(
            request,
            context,
            Transfers.Schedule,
            (r, act, cancel) => departure.Ask(r.Case, r.Transfer, act, cancel)
        );

    /// <inheritdoc/>
    public override Task<BeginTransitResponse> BeginTransit(BeginTransitRequest request, ServerCallContext context) =>
        writes.Run<BeginTransitRequest, BeginTransitResponse>(
            request,
            context,
            Transfers.Begin,
            (r, act, cancel) => departure.Ask(r.Case, r.Transfer, act, cancel)
        );

    /// <inheritdoc/>
    public override Task<AbortHandoverResponse> AbortHandover(AbortHandoverRequest request, ServerCallContext context) =>
        writes.Run<AbortHandoverRequest, AbortHandoverResponse>(request, context, Transfers.Abort);

    /// <inheritdoc/>
    public override Task<ConfirmHandoverResponse> ConfirmHandover(ConfirmHandoverRequest request, ServerCallContext context) =>
        writes.Run<ConfirmHandoverRequest, ConfirmHandoverResponse>(request, context, Transfers.Confirm, departure.Ask);

    /// <inheritdoc/>
    public override Task<SuspendTransferResponse> SuspendTransfer(SuspendTransferRequest request, ServerCallContext context) =>
        writes.Run<SuspendTransferRequest, SuspendTransferResponse>(request, context, Transfers.Suspend);

    /// <inheritdoc/>
    public override Task<ResumeTransferResponse> ResumeTransfer(ResumeTransferRequest request, ServerCallContext context) =>
        writes.Run<ResumeTransferRequest, ResumeTransferResponse>(
            request,
            context,
            Transfers.Resume,
            (r, act, cancel) => departure.Ask(r.Case, r.Transfer, act, cancel)
        );

    /// <inheritdoc/>
    public override Task<WithdrawTransferRequestResponse> WithdrawTransferRequest(
        WithdrawTransferRequestRequest request,
        ServerCallContext context
    ) => writes.Run<WithdrawTransferRequestRequest, WithdrawTransferRequestResponse>(request, context, Transfers.Withdraw);

    /// <inheritdoc/>
    public override Task<ReportTreatmentFailureResponse> ReportTreatmentFailure(
        ReportTreatmentFailureRequest request,
        ServerCallContext context
    ) => writes.Run<ReportTreatmentFailureRequest, ReportTreatmentFailureResponse>(request, context, Transfers.ReportFailure);

    /// <inheritdoc/>
    public override Task<RecordCorrectiveMeasuresResponse> RecordCorrectiveMeasures(
        RecordCorrectiveMeasuresRequest request,
        ServerCallContext context
    ) => writes.Run<RecordCorrectiveMeasuresRequest, RecordCorrectiveMeasuresResponse>(request, context, Transfers.RecordMeasures);

    /// <inheritdoc/>
    public override Task<RequestReturnResponse> RequestReturn(RequestReturnRequest request, ServerCallContext context) =>
        writes.Run<RequestReturnRequest, RequestReturnResponse>(request, context, Transfers.RequestReturn);

    /// <inheritdoc/>
    public override Task<ConfirmReturnResponse> ConfirmReturn(ConfirmReturnRequest request, ServerCallContext context) =>
        writes.Run<ConfirmReturnRequest, ConfirmReturnResponse>(request, context, Transfers.ConfirmReturn);

    /// <inheritdoc/>
    public override Task<CloseTransferResponse> CloseTransfer(CloseTransferRequest request, ServerCallContext context) =>
        writes.Run<CloseTransferRequest, CloseTransferResponse>(request, context, Transfers.Close);

    /// <inheritdoc/>
    public override Task<CorrectRecordResponse> CorrectRecord(CorrectRecordRequest request, ServerCallContext context) =>
        writes.Run<CorrectRecordRequest, CorrectRecordResponse>(request, context, Correct);

    /// <inheritdoc/>
    public override Task<GetAccessResponse> GetAccess(GetAccessRequest request, ServerCallContext context) =>
        reads.Show(
            request,
            context,
            Accesses.Kind,
            request.Access,
            (access, reader) =>
            {
                var shown = Accesses.Show(access, reader.Participant);
                return new GetAccessResponse { Access = shown, Etag = secrets.EtagOf(shown) };
            }
        );

    /// <inheritdoc/>
    public override async Task<ListAccessesResponse> ListAccesses(ListAccessesRequest request, ServerCallContext context)
    {
        var (accesses, next, reader) = await reads.List(
            request,
            context,
            Accesses.Kind,
            Key("case", request.Case),
            Prisoner(request.Case, request.Prisoner),
            Key("state", request.State),
            Key("kind", request.Kind)
        );
        return new ListAccessesResponse { Accesses = { accesses.Select(a => Accesses.Show(a, reader.Participant)) }, NextPageToken = next };
    }

    /// <inheritdoc/>
    public override Task<GetTransferResponse> GetTransfer(GetTransferRequest request, ServerCallContext context) =>
        reads.Show(
            request,
            context,
            Transfers.Kind,
            request.Transfer,
            (transfer, reader) =>
            {
                var shown = Transfers.Show(transfer, reader.Participant);
                return new GetTransferResponse { Transfer = shown, Etag = secrets.EtagOf(shown) };
            }
        );

    /// <inheritdoc/>
    public override async Task<ListTransfersResponse> ListTransfers(ListTransfersRequest request, ServerCallContext context)
    {
        var (transfers, next, reader) = await reads.List(
            request,
            context,
            Transfers.Kind,
            Key("case", request.Case),
            Prisoner(request.Case, request.Prisoner),
            Key("state", request.State),
            Key("route", request.Route),
            Key("call", request.Call)
        );
        return new ListTransfersResponse
        {
            Transfers = { transfers.Select(t => Transfers.Show(t, reader.Participant)) },
            NextPageToken = next,
        };
    }

    /// <summary>The rule of CorrectRecord: that of the kind of record named.</summary>
    public static Decision Correct(View view, CorrectRecordRequest request, RuleContext act) =>
        request.Record.StartsWith("access_", StringComparison.Ordinal)
            ? Accesses.Correct(view, request, act)
            : Transfers.Correct(view, request, act);

    private static string? Key(string name, string value) => value.Length == 0 ? null : $"{name}:{value}";

    private static string? Key<T>(string name, T value)
        where T : struct, Enum => EqualityComparer<T>.Default.Equals(value, default) ? null : $"{name}:{value}";

    private static string? Prisoner(string @case, string prisoner) =>
        prisoner.Length == 0 ? null : $"prisoner:{Dossiers.Key(@case, prisoner)}";
}
