using Google.Protobuf;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>What every write is asked before its own rules, in this order: need to know, capacity, grant, side,
/// approvals, open case.</summary>
public static class Gate
{
    /// <summary>Checks whether the caller may make this write at all; null: it may.</summary>
    /// <param name="context">Who asks for what.</param>
    /// <param name="request">The request; its <c>actor</c> is read where it has one.</param>
    /// <param name="case">The case; null: there is none with the id that the request names.</param>
    /// <param name="prisoner">The prisoner's reference, where the write is about one.</param>
    /// <param name="opensCase">True for the one write that needs no case.</param>
    /// <param name="closedToo">True for what may be written in a closed case: facts, corrections and what 12(3) demands.</param>
    /// <param name="side">The refusal if the caller is not of the side that may do it; null: the caller is.</param>
    /// <param name="approvals">How many officials must approve it at least, whatever the agreement says.</param>
    public static Refusal? Check(
        RuleContext context,
        IMessage request,
        Case? @case,
        string? prisoner = null,
        bool opensCase = false,
        bool closedToo = false,
        Refusal? side = null,
        uint approvals = 0
    )
    {
        if (@case is null && !opensCase)
            return new Refusal(Reason.NotFound);
        var parts = Cases.PartsOf(context.Caller, @case, prisoner);
        if (parts.Count == 0)
            return new Refusal(Reason.NotFound);
        if (prisoner is not null && @case!.Prisoners.All(p => p.Prisoner != prisoner))
            return new Refusal(Reason.NotFound);
        if (
            CapacityFor(context.Method) is { } capacity
            && context.Caller.Kind is not (ParticipantKind.Service or ParticipantKind.Operator)
            && !context.Caller.Capacities.Contains(capacity)
        )
            return new Refusal(Reason.NoCapacity);
        if (!context.Granted.CoversAny(parts))
            return new Refusal(Reason.NotGranted);
        if (side is not null)
            return side;
        if (Approvals(context, request, approvals) is { } refusal)
            return refusal;
        if (@case is { State: CaseState.Closed } && !closedToo)
            return new Refusal(Reason.CaseClosed);
        return null;
    }

    /// <summary>Checks that the caller saw the record as it is; null: he did.</summary>
    /// <param name="context">Who asks for what.</param>
    /// <param name="etag">The etag that the request carries.</param>
    /// <param name="shown">The record as it is shown to this caller now.</param>
    public static Refusal? CheckEtag(RuleContext context, string etag, IMessage shown) =>
        etag == context.EtagOf(shown) ? null : new Refusal(Reason.Stale);

    /// <summary>Checks that no content is sealed to a participant that may not be told it (D13, D15). Content is for neutral participants,
    /// and for organs of the caller's state, of the power that holds or last held the prisoner, and of the states that are sides of the
    /// record. A separate rule decides what else is released, and to whom. Null: all recipients are allowed.</summary>
    /// <param name="context">Who asks for what.</param>
    /// <param name="request">The request.</param>
    /// <param name="case">The case.</param>
    /// <param name="prisoner">The prisoner's reference, where there is one yet.</param>
    /// <param name="sides">The states that are sides of the record.</param>
    /// <param name="origins">The prisoner's powers of origin, as far as they are known.</param>
    public static Refusal? Recipients(
        RuleContext context,
        IMessage request,
        Case @case,
        string? prisoner,
        IReadOnlyCollection<string> sides,
        IReadOnlyCollection<string> origins
    )
    {
        var holds = @case.Prisoners.FirstOrDefault(p => p.Prisoner == prisoner)?.LastDetainingPower ?? "";
        var released = Seals.WithPaths(request).FirstOrDefault(s => !s.Sealed.Recipients.All(MayBeSealedTo));
        bool MayBeSealedTo(string recipient) =>
            MayBeTold(context, recipient, holds, origins)
            || context.Permissions.Participant(recipient) is { } organ && sides.Any(organ.ActsFor);

        return released.Sealed is null
            ? null
            : new Refusal(Reason.RecipientNotReleased, new Dictionary<string, string> { ["field"] = released.Path });
    }

    /// <summary>Whether a prisoner's data may be sealed to a participant without a release (D13, D15): it is the caller, neutral, an organ
    /// of the caller's state, or of the power that holds him or held him last. A Protecting Power of a power of origin is none of these.
    /// </summary>
    /// <param name="context">Who asks for what.</param>
    /// <param name="participant">The participant. One that the agreement does not know may be an organ of any state tomorrow.</param>
    /// <param name="holds">The power that holds or last held the prisoner; empty: none.</param>
    /// <param name="origins">The prisoner's powers of origin, as far as they are known; null: none is.</param>
    public static bool MayBeTold(RuleContext context, string participant, string holds, IReadOnlyCollection<string>? origins = null) =>
        participant == context.Caller.Id
        || context.Permissions.Participant(participant) is { } recipient
            && (
                recipient.IsNeutral() && origins?.Contains(recipient.State) != true
                || recipient.State.Length > 0 && context.ActsFor(recipient.State)
                || recipient.ActsFor(holds)
            );

    /// <summary>The capacity that a write of the method's service asks for; null: none.</summary>
    public static Capacity? CapacityFor(string method) =>
        method.Split('.') switch
        {
            ["ministries", "calllog", ..] => Capacity.Calls,
            ["ministries", "custody", ..] => Capacity.Custody,
            ["ministries", "consular", ..] => Capacity.Consular,
            _ => null,
        };

    /// <summary>Checks that enough officials approve the request; null: they do.</summary>
    /// <param name="context">Who asks for what.</param>
    /// <param name="request">The request; its actor is no approver.</param>
    /// <param name="atLeast">How many must approve it, whatever the agreement says.</param>
    public static Refusal? Approvals(RuleContext context, IMessage request, uint atLeast = 0)
    {
        var demanded = Math.Max(atLeast, context.Permissions.ApprovalsDemanded(context.Method));
        if (demanded == 0)
            return null;
        var actor = (request.Descriptor.FindFieldByName("actor")?.Accessor.GetValue(request) as Actor)?.Official;
        var given = context.Approved.Count(o => o != actor);
        return given >= demanded
            ? null
            : new Refusal(Reason.ApprovalsMissing, new Dictionary<string, string> { ["demanded"] = $"{demanded}", ["given"] = $"{given}" });
    }
}
