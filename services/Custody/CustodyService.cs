using Grpc.Core;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Hosting;
using Ministries.Ledger;
using CorrectRecordRequest = Ministries.Custody.V1.CorrectRecordRequest;
using CorrectRecordResponse = Ministries.Custody.V1.CorrectRecordResponse;

namespace Ministries.Custody;

/// <summary>The gRPC edge of custody.</summary>
/// <param name="writes">The way of writes.</param>
/// <param name="reads">The way of reads.</param>
/// <param name="ledger">The ledger, for its number of entries.</param>
/// <param name="time">The clock.</param>
/// <param name="secrets">What etags and the basis of answers are made with.</param>
public sealed class CustodyService(Writes writes, Reads reads, ServiceLedger ledger, TimeProvider time, RecordSecrets secrets)
    : V1.CustodyService.CustodyServiceBase
{
    /// <summary>The service, as its host needs to know it.</summary>
    public static Service Definition { get; } =
        new()
        {
            Name = "custody",
            Streams = [Cases.Kind, Prisoners.Kind, Statements.Kind],
            Map = routes => routes.Serve<CustodyService>(V1.CustodyService.BindService),
            Reactions = Custody.Reactions.All,
            Duties = Custody.Duties.All,
            Register = services => services.AddSingleton<CustodyService>(),
        };

    /// <inheritdoc/>
    public override Task<OpenCaseResponse> OpenCase(OpenCaseRequest request, ServerCallContext context) =>
        writes.Run(request, context, CaseRules.OpenCase);

    /// <inheritdoc/>
    public override Task<AdmitPartyResponse> AdmitParty(AdmitPartyRequest request, ServerCallContext context) =>
        writes.Run(request, context, CaseRules.AdmitParty);

    /// <inheritdoc/>
    public override Task<RemovePartyResponse> RemoveParty(RemovePartyRequest request, ServerCallContext context) =>
        writes.Run(request, context, CaseRules.RemoveParty);

    /// <inheritdoc/>
    public override Task<CloseCaseResponse> CloseCase(CloseCaseRequest request, ServerCallContext context) =>
        writes.Run(request, context, CaseRules.CloseCase);

    /// <inheritdoc/>
    public override Task<ReopenCaseResponse> ReopenCase(ReopenCaseRequest request, ServerCallContext context) =>
        writes.Run(request, context, CaseRules.ReopenCase);

    /// <inheritdoc/>
    public override Task<RegisterPrisonerResponse> RegisterPrisoner(RegisterPrisonerRequest request, ServerCallContext context) =>
        writes.Run(request, context, Prisoners.RegisterPrisoner);

    /// <inheritdoc/>
    public override Task<RecordStatusResponse> RecordStatus(RecordStatusRequest request, ServerCallContext context) =>
        writes.Run(request, context, Prisoners.RecordStatus);

    /// <inheritdoc/>
    public override Task<RecordProceedingsResponse> RecordProceedings(RecordProceedingsRequest request, ServerCallContext context) =>
        writes.Run(request, context, Prisoners.RecordProceedings);

    /// <inheritdoc/>
    public override Task<RecordClaimResponse> RecordClaim(RecordClaimRequest request, ServerCallContext context) =>
        writes.Run(request, context, Prisoners.RecordClaim);

    /// <inheritdoc/>
    public override Task<RecordStatementResponse> RecordStatement(RecordStatementRequest request, ServerCallContext context) =>
        writes.Run(request, context, Statements.RecordStatement);

    /// <inheritdoc/>
    public override Task<AttestStatementResponse> AttestStatement(AttestStatementRequest request, ServerCallContext context) =>
        writes.Run(request, context, Statements.AttestStatement);

    /// <inheritdoc/>
    public override Task<RevokeAttestationResponse> RevokeAttestation(RevokeAttestationRequest request, ServerCallContext context) =>
        writes.Run(request, context, Statements.RevokeAttestation);

    /// <inheritdoc/>
    public override Task<RecordRiskAssessmentResponse> RecordRiskAssessment(
        RecordRiskAssessmentRequest request,
        ServerCallContext context
    ) => writes.Run(request, context, Prisoners.RecordRiskAssessment);

    /// <inheritdoc/>
    public override Task<RecordFitnessResponse> RecordFitness(RecordFitnessRequest request, ServerCallContext context) =>
        writes.Run(request, context, Prisoners.RecordFitness);

    /// <inheritdoc/>
    public override Task<AnnounceMoveResponse> AnnounceMove(AnnounceMoveRequest request, ServerCallContext context) =>
        writes.Run(request, context, Prisoners.AnnounceMove);

    /// <inheritdoc/>
    public override Task<NotifyBureauResponse> NotifyBureau(NotifyBureauRequest request, ServerCallContext context) =>
        writes.Run(request, context, Prisoners.NotifyBureau);

    /// <inheritdoc/>
    public override Task<LinkDuplicateResponse> LinkDuplicate(LinkDuplicateRequest request, ServerCallContext context) =>
        writes.Run(request, context, Prisoners.LinkDuplicate);

    /// <inheritdoc/>
    public override Task<ConfirmDuplicateResponse> ConfirmDuplicate(ConfirmDuplicateRequest request, ServerCallContext context) =>
        writes.Run(request, context, Prisoners.ConfirmDuplicate);

    /// <inheritdoc/>
    public override Task<CorrectRecordResponse> CorrectRecord(CorrectRecordRequest request, ServerCallContext context) =>
        writes.Run(request, context, Prisoners.CorrectRecord);

    /// <inheritdoc/>
    public override async Task<CheckStandingResponse> CheckStanding(CheckStandingRequest request, ServerCallContext context)
    {
        // Read before the record: what is answered is at least as new.
        var position = ledger.Size;
        var records = await Records(request.Case, request.Prisoner, context);
        var before = await SaidBefore(records, context);
        var @case = await reads.Peek(Cases.Kind, request.Case, context.CancellationToken);
        var (permissions, now) = (Reads.PermissionsOf(context), time.GetUtcNow());
        return new CheckStandingResponse
        {
            Position = position,
            Standings =
            {
                request.Destinations.Select(d =>
                    Standings.Of(records, before, @case!, new(request.Route, d), request.Openings, now, permissions, secrets)
                ),
            },
        };
    }

    /// <inheritdoc/>
    public override async Task<CheckReadinessResponse> CheckReadiness(CheckReadinessRequest request, ServerCallContext context)
    {
        var position = ledger.Size;
        var records = await Records(request.Case, request.Prisoner, context);
        var answer = Readiness.Of(records, request.Route, request.Destination, time.GetUtcNow(), Reads.PermissionsOf(context));
        answer.Position = position;
        return answer;
    }

    /// <inheritdoc/>
    public override Task<GetCaseResponse> GetCase(GetCaseRequest request, ServerCallContext context) =>
        reads.Show(
            request,
            context,
            Cases.Kind,
            request.Case,
            (@case, reader) =>
            {
                var shown = Cases.Show(@case, reader);
                return new GetCaseResponse { Case = shown, Etag = secrets.EtagOf(shown) };
            }
        );

    /// <inheritdoc/>
    public override async Task<ListCasesResponse> ListCases(ListCasesRequest request, ServerCallContext context)
    {
        var (cases, next, reader) = await reads.List(request, context, Cases.Kind, CaseRules.StateKey(request.State));
        return new ListCasesResponse { Cases = { cases.Select(c => Cases.Show(c, reader)) }, NextPageToken = next };
    }

    /// <inheritdoc/>
    public override Task<GetPrisonerResponse> GetPrisoner(GetPrisonerRequest request, ServerCallContext context) =>
        reads.Show(
            request,
            context,
            Prisoners.Kind,
            Prisoners.KeyOf(request.Case, request.Prisoner),
            (prisoner, reader) =>
            {
                var shown = PrisonerVisibility.Show(prisoner, reader);
                return new GetPrisonerResponse { Prisoner = shown, Etag = secrets.EtagOf(shown) };
            }
        );

    /// <inheritdoc/>
    public override async Task<ListPrisonersResponse> ListPrisoners(ListPrisonersRequest request, ServerCallContext context)
    {
        var (prisoners, next, reader) = await reads.List(
            request,
            context,
            Prisoners.Kind,
            Prisoners.CaseKey(request.Case),
            Prisoners.HeldKey(request.Held)
        );
        return new ListPrisonersResponse
        {
            Prisoners = { prisoners.Select(p => PrisonerVisibility.Show(p, reader)) },
            NextPageToken = next,
        };
    }

    /// <inheritdoc/>
    public override Task<GetStatementResponse> GetStatement(GetStatementRequest request, ServerCallContext context) =>
        reads.Show(
            request,
            context,
            Statements.Kind,
            request.Statement,
            (statement, reader) =>
            {
                var shown = StatementVisibility.Show(statement, reader);
                return new GetStatementResponse { Statement = shown, Etag = secrets.EtagOf(shown) };
            }
        );

    /// <inheritdoc/>
    public override async Task<ListStatementsResponse> ListStatements(ListStatementsRequest request, ServerCallContext context)
    {
        var (statements, next, reader) = await reads.List(
            request,
            context,
            Statements.Kind,
            Statements.CaseKey(request.Case),
            Statements.PrisonerKey(request.Case, request.Prisoner)
        );
        return new ListStatementsResponse
        {
            Statements = { statements.Select(s => StatementVisibility.Show(s, reader)) },
            NextPageToken = next,
        };
    }

    /// <inheritdoc/>
    public override async Task<CheckAttestationResponse> CheckAttestation(CheckAttestationRequest request, ServerCallContext context)
    {
        await reads.Get(request, context, Prisoners.Kind, Prisoners.KeyOf(request.Case, request.Prisoner));
        var records = await Records(request.Case, request.Prisoner, context);
        var answer = new CheckAttestationResponse();
        foreach (var opened in Standings.EverAttested(records, request.Destination, request.Openings, Reads.PermissionsOf(context)))
            if (await reads.Peek(Statements.Kind, opened.Statement_, context.CancellationToken) is { } statement)
                answer.Statements.Add(StatementVisibility.ShowAttested(statement));
        return answer.Statements.Count > 0 ? answer : throw await Reads.NotFound(context);
    }

    // The prisoner's record and those of the same person that are no longer kept.
    private async Task<IReadOnlyList<Prisoner>> Records(string @case, string reference, ServerCallContext context)
    {
        var records = new List<Prisoner>();
        if (await reads.Peek(Prisoners.Kind, Prisoners.KeyOf(@case, reference), context.CancellationToken) is not { } prisoner)
            throw new Refusal(Reason.NotFound).ToException();
        records.Add(prisoner);
        foreach (var duplicate in prisoner.Duplicates)
            if (await reads.Peek(Prisoners.Kind, Prisoners.KeyOf(@case, duplicate), context.CancellationToken) is { } other)
                records.Add(other);
        return records;
    }

    // The statements under references that were linked to one of these, made before the link was undone.
    private async Task<IReadOnlyList<Statement>> SaidBefore(IReadOnlyList<Prisoner> records, ServerCallContext context)
    {
        var found = new Dictionary<string, Prisoner>();
        foreach (var reference in records.SelectMany(r => r.FormerLinks).Select(l => l.Prisoner).Distinct())
            if (await reads.Peek(Prisoners.Kind, Prisoners.KeyOf(records[0].Case, reference), context.CancellationToken) is { } other)
                found[reference] = other;
        return Readiness.SaidBefore(records, found.GetValueOrDefault);
    }
}
