using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using static Ministries.Consular.Tests.AdviceTests;
using static Ministries.Consular.Tests.CaseFixture;

namespace Ministries.Consular.Tests;

/// <summary>The advice of the refusals of access to a prisoner, for <see cref="AdviceTests"/>.</summary>
internal static class AccessAdvice
{
    // ---- access ------------------------------------------------------------------------------------------------------------

    public static Advice<CaseFixture>[] OnAccess =>
        [
            new(Reason.AccessAlreadyOpen, "requested; closed", f => OpenAlready(f, Requested(f), close: true)),
            new(Reason.AccessAlreadyOpen, "requested; gone on with", f => OpenAlready(f, Requested(f), close: false)),
            new(Reason.AccessAlreadyOpen, "notified; closed", NotifiedAlready),
            new(Reason.SendingStateNotDecided, "a grant", f => Granted(f, r => r.SendingState = SendingStateDecision.Unspecified)),
            new(Reason.SendingStateNotDecided, "a denial", f => Denied(f, r => r.SendingState = SendingStateDecision.Unspecified)),
            new(Reason.SendingStateDoesNotCount, "it counts", f => Granted(f, r => r.SendingState = SendingStateDecision.DoesNotCount)),
            new(
                Reason.SendingStateDoesNotCount,
                "denied",
                f => Granted(f, r => r.SendingState = SendingStateDecision.DoesNotCount, r => Deny(f, r))
            ),
            new(Reason.RightsNotRecorded, "not told; he was", f => Granted(f, r => r.RightsToldTime = null)),
            new(Reason.RightsNotRecorded, "told in the future; in the past", f => Granted(f, r => r.RightsToldTime = f.In(1))),
            new(Reason.RightsNotRecorded, "no request of his own; recorded", f => Granted(f, r => r.PersonRequest = null)),
            new(Reason.RightsNotRecorded, "no request of his own; denied", f => Granted(f, r => r.PersonRequest = null, r => Deny(f, r))),
            new(Reason.VisitsNotOwn, "the detaining power's record without it", f => Visited(f, Ua, r => r.Last = true)),
            new(Reason.VisitsNotOwn, "the visiting side ends them", VisitsEnded),
            new(Reason.VisitInOtherCustody, "the visiting side records it", f => InOtherCustody(f, Icrc)),
            new(Reason.VisitInOtherCustody, "the power that held him then records it", f => InOtherCustody(f, Kr)),
        ];

    private static Advised OpenAlready(CaseFixture f, string id, bool close)
    {
        var ask = () => RequestAccess(f);
        return new(
            () => ask(),
            () =>
            {
                if (close)
                    Done(Close(f, id, Kr));
                else
                    ask = Granted(f, id).Ask;
            }
        );
    }

    private static Advised NotifiedAlready(CaseFixture f)
    {
        var id = Notified(f);
        return new(() => f.Try(Icrc, new NotifyVisitRequest { Prisoner = First }, Accesses.NotifyVisit), () => Done(Close(f, id, Icrc)));
    }

    private static Advised Granted(CaseFixture f, Action<DecideAccessRequest> wrong, Action<DecideAccessRequest>? right = null) =>
        Granted(f, Requested(f), wrong, right);

    private static Advised Granted(
        CaseFixture f,
        string id,
        Action<DecideAccessRequest>? wrong = null,
        Action<DecideAccessRequest>? right = null
    ) => Advice.OfRequest(() => Grant(f, id), r => DecideAccess(f, r), wrong ?? (_ => { }), right);

    private static Advised Denied(CaseFixture f, Action<DecideAccessRequest> wrong) => Denied(f, Requested(f), wrong);

    private static Advised VisitDenied(CaseFixture f, Action<DecideAccessRequest> wrong) => Denied(f, Notified(f), wrong);

    private static Advised Denied(CaseFixture f, string id, Action<DecideAccessRequest> wrong) =>
        Advice.OfRequest(() => Denial(f, id), r => DecideAccess(f, r), wrong);

    private static Advised Visited(CaseFixture f, string by, Action<RecordVisitRequest> wrong)
    {
        var id = Notified(f);
        return Advice.OfRequest(() => Visit(f, id), r => f.Try(by, r, Accesses.RecordVisit), wrong);
    }

    private static Advised VisitsEnded(CaseFixture f)
    {
        var (id, by) = (Notified(f), Ua);
        return new(() => f.Try(by, new RecordVisitRequest(Visit(f, id)) { Last = true }, Accesses.RecordVisit), () => by = Icrc);
    }

    private static Advised InOtherCustody(CaseFixture f, string recorder)
    {
        var (id, by) = (Notified(f), Ua);
        f.Pass("UA", "KR");
        f.RuleRunner.Now += TimeSpan.FromHours(4);
        return new(() => f.Try(by, Visit(f, id), Accesses.RecordVisit), () => by = recorder);
    }

    public static Advised RequestedAnew(CaseFixture f)
    {
        var closed = Requested(f);
        Done(Close(f, closed, Kr));
        return Ended(closed, () => Requested(f), id => DecideAccess(f, Grant(f, id)));
    }

    // ---- denials of access -------------------------------------------------------------------------------------------------

    public static Advice<CaseFixture>[] OnDenials =>
        [
            new(Reason.DenialWithoutGround, "consular access", f => Denied(f, r => r.DenialGround = DenialGround.Unspecified)),
            new(Reason.DenialWithoutGround, "a visit", f => VisitDenied(f, r => r.DenialGround = DenialGround.Unspecified)),
            new(Reason.DenialWithoutNecessity, "on that ground", f => VisitDenied(f, r => r.DenialGround = DenialGround.ConditionsNotMet)),
            new(Reason.DenialWithoutNecessity, "the visit is", VisitedInsteadOfDenied),
            new(Reason.DenialWithoutExpiry, "consular access", f => Denied(f, r => r.DenialExpireTime = null)),
            new(Reason.DenialWithoutExpiry, "a visit", f => VisitDenied(f, r => r.DenialExpireTime = null)),
            new(Reason.DenialWithoutReason, "named", f => VisitDenied(f, r => r.DenialReason = "")),
            new(Reason.DenialReasonUsed, "a new one", f => DeniedAgain(f, r => r.DenialReason = "necessity/another")),
            new(Reason.DenialReasonUsed, "the visit is", f => DeniedAgain(f, LetBe)),
            new(Reason.DenialLimitReached, "until the latest time", DeniedUntilTheLatestTime),
            new(Reason.DenialLimitReached, "the visit is", VisitedAfterLongDenials),
        ];

    private static Advised VisitedInsteadOfDenied(CaseFixture f)
    {
        var id = Notified(f);
        var ask = Denied(f, id, r => r.DenialGround = DenialGround.ConditionsNotMet).Ask;
        return new(() => ask(), () => ask = Visiting(f, id));
    }

    private static Advised DeniedAgain(CaseFixture f, Action<DecideAccessRequest> right)
    {
        var id = Notified(f);
        Done(DecideAccess(f, Denial(f, id)));
        return Advice.OfRequest(() => Denial(f, id), r => DecideAccess(f, r), _ => { }, right);
    }

    private static void LetBe(DecideAccessRequest r) => (r.Granted, r.DenialGround) = (true, DenialGround.Unspecified);

    private static Advised DeniedUntilTheLatestTime(CaseFixture f)
    {
        var id = DeniedFor160Days(f);
        var (end, latest) = (f.In(24 * 80), "");
        return new(
            () =>
            {
                var refusal = f.Play(Ua, Renewal(f, id, "third", end), Accesses.DecideAccess).Decision.Refusal;
                latest = refusal?.Metadata?["latest_expire_time"] ?? "";
                return refusal?.Reason ?? Reason.Unspecified;
            },
            () => end = Timestamp.Parser.ParseJson($"\"{latest}\"")
        );
    }

    private static Advised VisitedAfterLongDenials(CaseFixture f)
    {
        var id = DeniedFor160Days(f);
        f.RuleRunner.Now += TimeSpan.FromDays(1);
        var ask = () => DecideAccess(f, Renewal(f, id, "third", f.In(24 * 80)));
        return new(() => ask(), () => ask = Visiting(f, id));
    }

    private static string DeniedFor160Days(CaseFixture f)
    {
        var id = Notified(f);
        foreach (var reason in (string[])["first", "second"])
        {
            Done(DecideAccess(f, Renewal(f, id, reason, f.In(24 * 80))));
            f.RuleRunner.Now += TimeSpan.FromDays(80);
            f.AccessFallsDue(id);
        }
        return id;
    }

    private static DecideAccessRequest Renewal(CaseFixture f, string id, string reason, Timestamp end) =>
        new(Denial(f, id)) { DenialReason = reason, DenialExpireTime = end };

    private static Func<Reason> Visiting(CaseFixture f, string id) => () => f.Try(Icrc, Visit(f, id), Accesses.RecordVisit);

    // ---- steps -------------------------------------------------------------------------------------------------------------

    internal static Reason RequestAccess(CaseFixture f) => f.Try(Kr, new RequestAccessRequest { Prisoner = First }, Accesses.RequestAccess);

    private static string Requested(CaseFixture f) =>
        ((RequestAccessResponse)f.Do(Kr, new RequestAccessRequest { Prisoner = First }, Accesses.RequestAccess)).Access;

    private static string Notified(CaseFixture f) =>
        ((NotifyVisitResponse)f.Do(Icrc, new NotifyVisitRequest { Prisoner = First }, Accesses.NotifyVisit)).Access;

    private static Reason DecideAccess(CaseFixture f, DecideAccessRequest request) => f.Try(Ua, request, Accesses.DecideAccess);

    private static Reason Close(CaseFixture f, string id, string by) =>
        f.Try(by, new CloseAccessRequest { Access = id }, Accesses.CloseAccess);

    private static DecideAccessRequest Grant(CaseFixture f, string id) =>
        new()
        {
            Access = id,
            Granted = true,
            SendingState = SendingStateDecision.Counts,
            RightsToldTime = f.In(-1),
            PersonRequest = Sealed(Icrc),
        };

    private static DecideAccessRequest Denial(CaseFixture f, string id) =>
        new()
        {
            Access = id,
            SendingState = SendingStateDecision.DoesNotCount,
            DenialGround = DenialGround.ImperativeMilitaryNecessity,
            DenialExpireTime = f.In(48),
            DenialReason = "necessity",
        };

    private static void Deny(CaseFixture f, DecideAccessRequest r) =>
        (r.Granted, r.DenialGround, r.DenialExpireTime) = (false, DenialGround.ConditionsNotMet, f.In(48));

    private static RecordVisitRequest Visit(CaseFixture f, string id) =>
        new()
        {
            Access = id,
            StartTime = f.In(-2),
            DurationMinutes = 60,
            WithoutWitnesses = true,
            Language = "ko",
            Interpreter = "i-1",
            Report = Sealed(),
        };
}
