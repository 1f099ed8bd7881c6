using Google.Protobuf;
using Ministries.Consular.V1;
using Ministries.Custody.V1;

namespace Ministries.Faults.Tests;

/// <summary>An event of a service's own, as its ledger holds it.</summary>
/// <param name="Position">The position of its entry.</param>
/// <param name="Event">The event.</param>
/// <param name="Request">The request that led to it; null: another service's event did, or a clock.</param>
internal sealed record Recorded(ulong Position, IMessage Event, IMessage? Request);

/// <summary>
/// Judges two ledgers, custody's and the consular service's, by the law alone: no rule of the services is asked. No man is held by two
/// powers or by none (D1), nobody departs without a word of his that is in force for where he goes (D9), and what one ledger says of a
/// hand-over the other says too.
/// </summary>
internal static class Law
{
    // Interviewer, interpreter and observer.
    private const int Attesters = 3;

    /// <summary>What breaks it.</summary>
    /// <param name="custody">Custody's own events, in order.</param>
    /// <param name="consular">The consular service's own events, in order.</param>
    public static IReadOnlyList<string> Breaches(IReadOnlyList<Recorded> custody, IReadOnlyList<Recorded> consular) =>
        [.. Held(custody, consular), .. Departed(custody, consular)];

    private static IEnumerable<string> Held(IReadOnlyList<Recorded> custody, IReadOnlyList<Recorded> consular)
    {
        var (holders, passings) = (new Dictionary<(string, string), string>(), new List<(string, string, string, string)>());
        foreach (var recorded in custody)
            switch (recorded.Event)
            {
                case PrisonerRegistered e:
                    if (e.DetainingPower.Length == 0)
                        yield return $"{e.Prisoner} is registered and held by nobody";
                    if (!holders.TryAdd((e.Case, e.Prisoner), e.DetainingPower))
                        yield return $"{e.Prisoner} is registered twice";
                    break;
                case CustodyTransferred e:
                    var holder = holders.GetValueOrDefault((e.Case, e.Prisoner), "");
                    if (e.FromPower != holder)
                        yield return $"{e.Prisoner}: custody passes from {e.FromPower}, and {(holder.Length > 0 ? holder : "nobody")} holds him";
                    if (e.ToPower.Length == 0 || e.ToPower == e.FromPower)
                        yield return $"{e.Prisoner}: custody passes to {(e.ToPower.Length > 0 ? e.ToPower : "nobody")}";
                    if (e.Breaches.Count > 0)
                        yield return $"{e.Prisoner}: custody passed against {string.Join(", ", e.Breaches)}";
                    holders[(e.Case, e.Prisoner)] = e.ToPower;
                    passings.Add((e.Case, e.Prisoner, e.FromPower, e.ToPower));
                    break;
                case StatusRecorded { Ended: true } e:
                    yield return $"{e.Prisoner}: custody ended, and nobody released him";
                    break;
            }
        // Both sides' confirmations are in the other ledger: each of them passed custody, once, and nothing else did.
        var confirmed = consular.Select(r => PassingOf(r.Event)).OfType<(string, string, string, string)>().ToList();
        foreach (var passing in passings.Concat(confirmed).Distinct())
            if (passings.Count(p => p == passing) is var passed && confirmed.Count(c => c == passing) is var both && passed != both)
                yield return $"{passing.Item2}: {both} hand-overs from {passing.Item3} to {passing.Item4} are confirmed, custody passed {passed} times";
    }

    private static (string, string, string, string)? PassingOf(IMessage e) =>
        e switch
        {
            HandoverConfirmed h => (h.Case, h.Prisoner, h.FromPower, h.ToPower),
            ReturnConfirmed r => (r.Case, r.Prisoner, r.FromPower, r.ToPower),
            _ => null,
        };

    private static IEnumerable<string> Departed(IReadOnlyList<Recorded> custody, IReadOnlyList<Recorded> consular)
    {
        var destinations = consular.Select(r => r.Event).OfType<TransferRequestDrafted>().ToDictionary(d => d.Transfer, d => d.Destination);
        foreach (var recorded in consular)
            // What custody was asked for when it was decided: its ledger had so many entries then.
            if (
                recorded.Event switch
                {
                    TransferDecided { Agreed: true } e => (e.Case, e.Prisoner, e.Transfer, e.CustodyPosition),
                    HandoverScheduled e => (e.Case, e.Prisoner, e.Transfer, e.CustodyPosition),
                    TransitBegun e => (e.Case, e.Prisoner, e.Transfer, e.CustodyPosition),
                    TransferResumed e => (e.Case, e.Prisoner, e.Transfer, e.CustodyPosition),
                    HandoverConfirmed e => (e.Case, e.Prisoner, e.Transfer, e.CustodyPosition),
                    _ => default((string Case, string Prisoner, string Transfer, ulong Asked)?),
                }
                    is { } step
                && Objection(custody, consular, step.Case, step.Prisoner, destinations[step.Transfer], step.Asked) is { } why
            )
                yield return $"{step.Prisoner}: {recorded.Event.Descriptor.Name} at {recorded.Position} of consular, though {why}";
        foreach (var recorded in custody)
            if (
                recorded.Event is CustodyTransferred e
                && Objection(custody, consular, e.Case, e.Prisoner, e.ToPower, recorded.Position) is { } why
            )
                yield return $"{e.Prisoner}: custody passed to {e.ToPower} at {recorded.Position}, though {why}";
    }

    // Why his word was not in force for a destination when custody's ledger had so many entries; null: it was. His last word counts,
    // whoever wrote it down: it must be attested by all, and open to the destination with what the powers gave to show it.
    private static string? Objection(
        IReadOnlyList<Recorded> custody,
        IReadOnlyList<Recorded> consular,
        string @case,
        string prisoner,
        string destination,
        ulong before
    )
    {
        var known = custody.TakeWhile(r => r.Position < before).ToList();
        var said = known.LastOrDefault(r => r.Event is StatementRecorded s && s.Case == @case && s.Prisoner == prisoner);
        if (said is not { Event: StatementRecorded statement })
            return "he had said nothing";
        var attested = known.Count(r => r.Event is StatementAttested a && a.Statement == statement.Statement);
        if (attested < Attesters)
            return $"{attested} had attested what he said last";
        if (known.Any(r => r.Event is AttestationRevoked a && a.Statement == statement.Statement))
            return "an attestation of what he said last was revoked";
        var openings = consular.SelectMany(r =>
            r.Request switch
            {
                DecideTransferRequest d => d.Openings,
                ResumeTransferRequest s => s.Openings,
                ConfirmReturnRequest c => c.Openings,
                _ => (IEnumerable<ByteString>)[],
            }
        );
        return
            said.Request is RecordStatementRequest request
            && openings.Any(o => WishCommitments.Matches(request.Commitments, o, @case, prisoner, destination))
            ? null
            : $"what he said last does not open to {destination}";
    }
}
