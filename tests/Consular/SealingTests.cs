using Ministries.Consular.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>To whom content about a person is sealed in requests and access: to nobody but the neutral, the caller's own organs, the power
/// that holds him and the sides of the record (D13, D15).</summary>
public sealed class SealingTests
{
    private readonly CaseFixture _fixture = new();

    /// <summary>Every write of the service that carries content about a person.</summary>
    public static TheoryData<string, string, bool> Writes()
    {
        var data = new TheoryData<string, string, bool>();
        foreach (
            var write in (string[])
                ["request for access", "visit", "draft", "submission", "assessment", "plan", "failure", "measures", "correction", "place"]
        )
        {
            // What is Russia's, which is no side, and so may be his power of origin.
            data.Add(write, CaseFixture.Ru, false);
            data.Add(write, "nobody/here", false);
            data.Add(write, CaseFixture.Icrc, true);
            data.Add(write, CaseFixture.Ua, true);
            // Of a place no requesting state is told, nor before a request is submitted who would be asked.
            data.Add(write, CaseFixture.Kr, write != "place");
        }
        return data;
    }

    [Theory, MemberData(nameof(Writes))]
    public void Content_is_sealed_to_whom_it_may_be_told_alone(string write, string recipient, bool allowed)
    {
        var decision = Play(write, CaseFixture.Sealed(recipient));
        Assert.Equal(allowed ? Reason.Unspecified : Reason.RecipientNotReleased, RuleRunner.ReasonOf(decision));
        if (!allowed)
            Assert.DoesNotContain(recipient, string.Join(' ', decision.Refusal!.Metadata!.Values), StringComparison.Ordinal);
    }

    private Decision Play(string write, Sealed content)
    {
        switch (write)
        {
            case "request for access":
                var asked = new RequestAccessRequest { Prisoner = CaseFixture.First };
                var access = ((RequestAccessResponse)_fixture.Do(CaseFixture.Kr, asked, Accesses.RequestAccess)).Access;
                return Of(
                    CaseFixture.Ua,
                    new DecideAccessRequest
                    {
                        Access = access,
                        Granted = true,
                        SendingState = SendingStateDecision.Counts,
                        RightsToldTime = _fixture.In(-1),
                        PersonRequest = content,
                    },
                    Accesses.DecideAccess
                );
            case "visit":
                asked = new RequestAccessRequest { Prisoner = CaseFixture.First };
                access = ((RequestAccessResponse)_fixture.Do(CaseFixture.Kr, asked, Accesses.RequestAccess)).Access;
                return Of(
                    CaseFixture.Kr,
                    new RecordVisitRequest
                    {
                        Access = access,
                        StartTime = _fixture.In(-1),
                        Report = content,
                        AcknowledgedBreaches = { Invariant.D18 },
                    },
                    Accesses.RecordVisit
                );
            case "place":
                var notified = (NotifyPlaceVisitResponse)
                    _fixture.Do(CaseFixture.Icrc, new NotifyPlaceVisitRequest { Place = "place-1" }, PlaceVisits.NotifyPlaceVisit);
                var visit = new RecordPlaceVisitRequest
                {
                    PlaceVisit = notified.PlaceVisit,
                    StartTime = _fixture.In(-1),
                    Report = content,
                };
                return Of(CaseFixture.Icrc, visit, PlaceVisits.RecordPlaceVisit);
            case "draft":
                var draft = new DraftTransferRequestRequest
                {
                    Prisoner = CaseFixture.First,
                    Route = Route.Article12Transfer,
                    Destination = "KR",
                    Content = content,
                };
                return Of(CaseFixture.Kr, draft, Transfers.DraftTransferRequest);
            case "submission":
                var submission = new SubmitTransferRequestRequest { Transfer = _fixture.Draft(), Content = content };
                return Of(CaseFixture.Kr, submission, Transfers.SubmitTransferRequest);
            case "assessment":
                var assessment = _fixture.Assessment(_fixture.To(State.UnderReview));
                assessment.Content = content;
                return Of(CaseFixture.Ua, assessment, Transfers.RecordTransfereeAssessment);
            case "plan":
                var plan = _fixture.Schedule(_fixture.To(State.Agreed));
                plan.Place = content;
                return Of(CaseFixture.Ua, plan, Transfers.ScheduleHandover);
            case "failure":
                var failure = new ReportTreatmentFailureRequest { Transfer = _fixture.To(State.Monitored), Content = content };
                return Of(CaseFixture.Icrc, failure, Transfers.ReportTreatmentFailure);
            case "measures":
                var transfer = _fixture.To(State.Monitored);
                _fixture.Report(transfer);
                var measures = new RecordCorrectiveMeasuresRequest
                {
                    Transfer = transfer,
                    Failure = _fixture.Transfer(transfer).Failures[0].Id,
                    Content = content,
                };
                return Of(CaseFixture.Ua, measures, Transfers.RecordCorrectiveMeasures);
            default:
                transfer = _fixture.To(State.UnderReview);
                var act = _fixture.Transfer(transfer).Acts.Last(a => a.Participant == CaseFixture.Ua);
                var correction = new V1.CorrectRecordRequest
                {
                    Record = transfer,
                    Position = act.Position,
                    Reason = content,
                };
                return Of(CaseFixture.Ua, correction, Transfers.CorrectRecord);
        }
    }

    private Decision Of<T, TResponse>(string participant, T request, Rule<T, TResponse> rule)
        where T : class, Google.Protobuf.IMessage<T>, new()
        where TResponse : class, Google.Protobuf.IMessage<TResponse>, new() => _fixture.Play(participant, request, rule).Decision;
}
