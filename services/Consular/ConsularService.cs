using Google.Protobuf;
using Grpc.Core;
using Ministries.Consular.V1;
using Ministries.Hosting;
using Ministries.Types.V1;

namespace Ministries.Consular;

/// <summary>The consular service's edge: one line for each write; what it does is in <see cref="Transfers"/>,
/// <see cref="Accesses"/> and <see cref="PlaceVisits"/>.</summary>
/// <param name="writes">The way of writes.</param>
/// <param name="reads">The way of reads.</param>
/// <param name="custody">What custody is asked before a custody.</param>
/// <param name="secrets">What etags are made with.</param>
public sealed class ConsularService(Writes writes, Reads reads, CustodyQuestions custody, RecordSecrets secrets)
    : V1.ConsularService.ConsularServiceBase
{
    /// <summary>The service, as its host needs to know it.</summary>
    public static Service Definition { get; } =
        new()
        {
            Name = "consular",
            Streams = [Transfers.Kind, Accesses.Kind, PlaceVisits.Kind, Dossiers.Kind, Dossiers.Calls, Dossiers.Links, Cases.Kind],
            Map = routes => routes.Serve<ConsularService>(V1.ConsularService.BindService),
            Reactions = Consular.Reactions.All,
            Duties = Consular.Duties.All,
            Register = services => services.AddSingleton<CustodyQuestions>().AddSingleton<ConsularService>(),
        };

    /// <inheritdoc/>
    public override Task<RequestAccessResponse> RequestAccess(RequestAccessRequest request, ServerCallContext context) =>
        writes.Run(request, context, Accesses.RequestAccess);

    /// <inheritdoc/>
    public override Task<DecideAccessResponse> DecideAccess(DecideAccessRequest request, ServerCallContext context) =>
        writes.Run(request, context, Accesses.DecideAccess);

    /// <inheritdoc/>
    public override Task<NotifyVisitResponse> NotifyVisit(NotifyVisitRequest request, ServerCallContext context) =>
        writes.Run(request, context, Accesses.NotifyVisit);

    /// <inheritdoc/>
    public override Task<RecordVisitResponse> RecordVisit(RecordVisitRequest request, ServerCallContext context) =>
        writes.Run(request, context, Accesses.RecordVisit);

    /// <inheritdoc/>
    public override Task<CloseAccessResponse> CloseAccess(CloseAccessRequest request, ServerCallContext context) =>
        writes.Run(request, context, Accesses.CloseAccess);

    /// <inheritdoc/>
    public override Task<NotifyPlaceVisitResponse> NotifyPlaceVisit(NotifyPlaceVisitRequest request, ServerCallContext context) =>
        writes.Run(request, context, PlaceVisits.NotifyPlaceVisit);

    /// <inheritdoc/>
    public override Task<RecordPlaceVisitResponse> RecordPlaceVisit(RecordPlaceVisitRequest request, ServerCallContext context) =>
        writes.Run(request, context, PlaceVisits.RecordPlaceVisit);

    /// <inheritdoc/>
    public override Task<DraftTransferRequestResponse> DraftTransferRequest(
        DraftTransferRequestRequest request,
        ServerCallContext context
    ) => writes.Run(request, context, Transfers.DraftTransferRequest);

    /// <inheritdoc/>
    public override Task<DiscardDraftResponse> DiscardDraft(DiscardDraftRequest request, ServerCallContext context) =>
        writes.Run(request, context, Transfers.DiscardDraft);

    /// <inheritdoc/>
    public override Task<SubmitTransferRequestResponse> SubmitTransferRequest(
        SubmitTransferRequestRequest request,
        ServerCallContext context
    ) => writes.Run(request, context, Transfers.SubmitTransferRequest);

    /// <inheritdoc/>
    public override Task<BeginReviewResponse> BeginReview(BeginReviewRequest request, ServerCallContext context) =>
        writes.Run(request, context, Transfers.BeginReview);

    /// <inheritdoc/>
    public override Task<RecordTransfereeAssessmentResponse> RecordTransfereeAssessment(
        RecordTransfereeAssessmentRequest request,
        ServerCallContext context
    ) => writes.Run(request, context, Transfers.RecordTransfereeAssessment);

    /// <inheritdoc/>
    public override Task<GiveAssuranceResponse> GiveAssurance(GiveAssuranceRequest request, ServerCallContext context) =>
        writes.Run(request, context, Transfers.GiveAssurance);

    /// <inheritdoc/>
    public override Task<DecideTransferResponse> DecideTransfer(DecideTransferRequest request, ServerCallContext context) =>
        writes.Run(
            request,
            context,
            Transfers.DecideTransfer,
            (r, caller, cancel) =>
                r.Agreed ? custody.Ask(r.Case, r.Transfer, caller, cancel, r.Openings) : Task.FromResult<IMessage?>(null),
            elsewhere: static r => r.Agreed
        );

    /// <inheritdoc/>
    public override Task<ScheduleHandoverResponse> ScheduleHandover(ScheduleHandoverRequest request, ServerCallContext context) =>
        writes.Run(request, context, Transfers.ScheduleHandover, (r, caller, cancel) => custody.Ask(r.Case, r.Transfer, caller, cancel));

    /// <inheritdoc/>
    public override Task<BeginTransitResponse> BeginTransit(BeginTransitRequest request, ServerCallContext context) =>
        writes.Run(request, context, Transfers.BeginTransit, (r, caller, cancel) => custody.Ask(r.Case, r.Transfer, caller, cancel));

    /// <inheritdoc/>
    public override Task<AbortHandoverResponse> AbortHandover(AbortHandoverRequest request, ServerCallContext context) =>
        writes.Run(request, context, Transfers.AbortHandover);

    /// <inheritdoc/>
    public override Task<ConfirmHandoverResponse> ConfirmHandover(ConfirmHandoverRequest request, ServerCallContext context) =>
        writes.Run(
            request,
            context,
            Transfers.ConfirmHandover,
            (r, caller, cancel) => custody.Ask(r, caller, Reads.PermissionsOf(context), cancel),
            CustodyQuestions.IsKept
        );

    /// <inheritdoc/>
    public override Task<SuspendTransferResponse> SuspendTransfer(SuspendTransferRequest request, ServerCallContext context) =>
        writes.Run(request, context, Transfers.SuspendTransfer);

    /// <inheritdoc/>
    public override Task<ResumeTransferResponse> ResumeTransfer(ResumeTransferRequest request, ServerCallContext context) =>
        writes.Run(
            request,
            context,
            Transfers.ResumeTransfer,
            (r, caller, cancel) => custody.Ask(r.Case, r.Transfer, caller, cancel, r.Openings)
        );

    /// <inheritdoc/>
    public override Task<WithdrawTransferRequestResponse> WithdrawTransferRequest(
        WithdrawTransferRequestRequest request,
        ServerCallContext context
    ) => writes.Run(request, context, Transfers.WithdrawTransferRequest);

    /// <inheritdoc/>
    public override Task<ReportTreatmentFailureResponse> ReportTreatmentFailure(
        ReportTreatmentFailureRequest request,
        ServerCallContext context
    ) => writes.Run(request, context, Transfers.ReportTreatmentFailure);

    /// <inheritdoc/>
    public override Task<RecordCorrectiveMeasuresResponse> RecordCorrectiveMeasures(
        RecordCorrectiveMeasuresRequest request,
        ServerCallContext context
    ) => writes.Run(request, context, Transfers.RecordCorrectiveMeasures);

    /// <inheritdoc/>
    public override Task<RequestReturnResponse> RequestReturn(RequestReturnRequest request, ServerCallContext context) =>
        writes.Run(request, context, Transfers.RequestReturn);

    /// <inheritdoc/>
    public override Task<WithdrawReturnResponse> WithdrawReturn(WithdrawReturnRequest request, ServerCallContext context) =>
        writes.Run(request, context, Transfers.WithdrawReturn);

    /// <inheritdoc/>
    public override Task<ConfirmReturnResponse> ConfirmReturn(ConfirmReturnRequest request, ServerCallContext context) =>
        writes.Run(request, context, Transfers.ConfirmReturn, custody.Ask, CustodyQuestions.IsKept);

    /// <inheritdoc/>
    public override Task<CloseTransferResponse> CloseTransfer(CloseTransferRequest request, ServerCallContext context) =>
        writes.Run(request, context, Transfers.CloseTransfer);

    /// <inheritdoc/>
    public override Task<CorrectRecordResponse> CorrectRecord(CorrectRecordRequest request, ServerCallContext context) =>
        writes.Run(request, context, CorrectionOf(request));

    /// <inheritdoc/>
    public override Task<GetAccessResponse> GetAccess(GetAccessRequest request, ServerCallContext context) =>
        reads.Show(
            request,
            context,
            Accesses.Kind,
            request.Access,
            (access, reader) =>
            {
                var shown = AccessVisibility.Show(access, reader.Participant);
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
            request.State == AccessState.Unspecified ? null : Accesses.StateKey(SideOf(Reads.CallerOf(context)), request.State),
            Key("kind", request.Kind)
        );
        return new ListAccessesResponse
        {
            Accesses = { accesses.Select(a => AccessVisibility.Show(a, reader.Participant)) },
            NextPageToken = next,
        };
    }

    /// <inheritdoc/>
    public override Task<GetPlaceVisitResponse> GetPlaceVisit(GetPlaceVisitRequest request, ServerCallContext context) =>
        reads.Show(
            request,
            context,
            PlaceVisits.Kind,
            request.PlaceVisit,
            (visit, reader) =>
            {
                var shown = PlaceVisits.Show(visit, reader.Participant);
                return new GetPlaceVisitResponse { PlaceVisit = shown, Etag = secrets.EtagOf(shown) };
            }
        );

    /// <inheritdoc/>
    public override async Task<ListPlaceVisitsResponse> ListPlaceVisits(ListPlaceVisitsRequest request, ServerCallContext context)
    {
        var (visits, next, reader) = await reads.List(
            request,
            context,
            PlaceVisits.Kind,
            Key("case", request.Case),
            Key("state", request.State)
        );
        return new ListPlaceVisitsResponse
        {
            PlaceVisits = { visits.Select(v => PlaceVisits.Show(v, reader.Participant)) },
            NextPageToken = next,
        };
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
                var shown = TransferVisibility.Show(transfer, reader.Participant);
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
            Transfers = { transfers.Select(t => TransferVisibility.Show(t, reader.Participant)) },
            NextPageToken = next,
        };
    }

    /// <summary>The rule of CorrectRecord for the kind of record that is named.</summary>
    public static Rule<CorrectRecordRequest, CorrectRecordResponse> CorrectionOf(CorrectRecordRequest request) =>
        request.Record.Split('_')[0] switch
        {
            "access" => Accesses.CorrectRecord,
            "placevisit" => PlaceVisits.CorrectRecord,
            _ => Transfers.CorrectRecord,
        };

    private static string SideOf(Participant reader) => reader.IsNeutral() ? "" : reader.State;

    private static string? Key(string name, string value) => value.Length == 0 ? null : $"{name}:{value}";

    private static string? Key<T>(string name, T value)
        where T : struct, Enum => EqualityComparer<T>.Default.Equals(value, default) ? null : $"{name}:{value}";

    private static string? Prisoner(string @case, string prisoner) =>
        prisoner.Length == 0 ? null : $"prisoner:{Dossiers.Key(@case, prisoner)}";
}
