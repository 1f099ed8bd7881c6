using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Collections;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using CorrectRecordRequest = Ministries.CallLog.V1.CorrectRecordRequest;
using CorrectRecordResponse = Ministries.CallLog.V1.CorrectRecordResponse;
using DutyFellDue = Ministries.CallLog.V1.DutyFellDue;
using RecordCorrected = Ministries.CallLog.V1.RecordCorrected;
using Route = Ministries.Types.V1.Route;

namespace Ministries.CallLog;

/// <summary>
/// Calls: their states, rules and refusals. A call is what each side said that it was (D20): accounts are added and never
/// changed, and each counts for the side that gave it. What state the call and its commitments are in follows from what is there
/// and was not corrected.
/// </summary>
public static class Calls
{
    /// <summary>The greatest size of a call's record in bytes; corrections may take it to half as much again.</summary>
    public const int MaxBytes = 2 << 20;

    /// <summary>The greatest number of versions of one side's readout, and of contests, links and settlements.</summary>
    public const int MaxItems = 32;

    /// <summary>The greatest number of commitments of a call.</summary>
    public const int MaxCommitments = 64;

    /// <summary>The greatest number of transfer requests tied to a commitment.</summary>
    public const int MaxTied = 128;

    /// <summary>How far two sides' clocks may be apart for their times to match.</summary>
    public static readonly TimeSpan TimeTolerance = TimeSpan.FromMinutes(5);

    /// <summary>How long after a call a commitment may be due.</summary>
    public static readonly TimeSpan LongestCommitment = TimeSpan.FromDays(5 * 366);

    /// <summary>The stream of calls. It also folds the consular service's events on tied transfer requests.</summary>
    public static readonly StreamKind<Call> Kind = new(
        "call",
        1,
        Apply,
        AudienceOf,
        c =>
            [
                $"case:{c.Case}",
                StateKey(c.State)!,
                .. c.Sides.Select(s => ParticipantKey(s.Participant)!),
                .. c
                    .Readouts.Select(Counting)
                    .OfType<ReadoutVersion>()
                    .SelectMany(v => v.Account?.Prisoners ?? [])
                    .Distinct()
                    .Select(p => PrisonerKey(c.Case, p)!),
                .. c.Commitments.Select(x => x.State).Distinct().Select(s => CommitmentKey(s)!),
            ],
        c => c.Commitments.Min(DueOf)
    );

    /// <summary>The key under which the calls of a case are listed; null: of every case.</summary>
    public static string? CaseKey(string @case) => @case.Length == 0 ? null : $"case:{@case}";

    /// <summary>The key under which calls in a state are listed; null: in every state.</summary>
    public static string? StateKey(CallState state) => state == CallState.Unspecified ? null : $"state:{state}";

    /// <summary>The key under which the calls of a side are listed; null: of any.</summary>
    public static string? ParticipantKey(string participant) => participant.Length == 0 ? null : $"side:{participant}";

    /// <summary>The key under which the calls about a prisoner are listed; null: about anybody.</summary>
    public static string? PrisonerKey(string @case, string prisoner) => prisoner.Length == 0 ? null : $"prisoner:{@case}/{prisoner}";

    /// <summary>The key under which calls with a commitment in a state are listed; null: with any or none.</summary>
    public static string? CommitmentKey(CommitmentState state) => state == CommitmentState.Unspecified ? null : $"commitment:{state}";

    // ---- what happened -----------------------------------------------------------------------------------------------------

    private static IEnumerable<string> AudienceOf(Call call) =>
        call
            .Sides.Select(s => Audience.State(call.Case, s.State))
            .Append(Audience.Observers(call.Case))
            .SelectMany(a => Audience.Marked(a, call.Classification));

    private static void Apply(Call call, IMessage @event, FoldedEntry entry)
    {
        switch (@event)
        {
            case CallLogged e:
                call.Id = e.Call;
                call.Case = e.Case;
                call.Sides.AddRange(e.Sides);
                call.LogTime = entry.Time;
                call.Classification = entry.Request is LogCallRequest logged
                    ? logged.Classification?.Clone() ?? new Classification()
                    // Nobody is told more because the request was erased.
                    : new Classification { Level = Level.Secret, ReleasableTo = { e.Sides.Select(s => s.Participant) } };
                Give(call, e.Participant, (entry.Request as LogCallRequest)?.Account, null, e.Commitments, entry);
                break;
            case ReadoutSubmitted e:
                Give(call, e.Participant, (entry.Request as SubmitReadoutRequest)?.Account, null, e.Commitments, entry);
                break;
            case ReadoutAmended e:
                var amended = entry.Request as AmendReadoutRequest;
                Give(call, e.Participant, amended?.Account, amended?.Reason, e.Commitments, entry);
                break;
            case ReadoutContested e:
                var contested = entry.Request as ContestReadoutRequest;
                call.Contests.Add(
                    new Contest
                    {
                        Participant = e.Participant,
                        Version = contested?.Version ?? 0,
                        Fields = { contested?.Fields ?? [] },
                        Reason = contested?.Reason?.Clone(),
                        Position = entry.Position,
                        ContestTime = entry.Time,
                    }
                );
                break;
            case CallsLinked e:
                call.Links.Add(
                    new Link
                    {
                        Call = call.Id == e.Call ? e.SameAsCall : e.Call,
                        Participant = entry.Participant,
                        Position = entry.Position,
                    }
                );
                break;
            case CommitmentSettled e:
                Commitment(call, e.Commitment)!
                    .Settlements.Add(
                        new Settlement
                        {
                            Kind = e.Kind,
                            Participant = entry.Participant,
                            Position = entry.Position,
                            SettleTime = entry.Time,
                            SupersededBy = (entry.Request as SettleCommitmentRequest)?.SupersededBy ?? "",
                        }
                    );
                break;
            case DutyFellDue e:
                foreach (var id in e.Commitments)
                    Commitment(call, id)!.OverdueTime = e.DueTime;
                break;
            case RecordCorrected e:
                Correct(call, e.Position);
                call.Corrections.Add(
                    new Correction
                    {
                        Position = e.Position,
                        Participant = e.Participant,
                        CorrectTime = entry.Time,
                        Reason = (entry.Request as CorrectRecordRequest)?.Reason?.Clone(),
                    }
                );
                break;
            case TransferRequestDrafted e:
                Tie(call, e.Commitment, e.Transfer, e.Prisoner, e.Participant, TiedRequestState.Drafted);
                break;
            case DraftDiscarded e:
                Tie(call, e.Commitment, e.Transfer, e.Prisoner, null, TiedRequestState.Discarded);
                break;
            case TransferRequestSubmitted e:
                Tie(call, e.Commitment, e.Transfer, e.Prisoner, e.Participant, TiedRequestState.Submitted);
                break;
        }
        call.State =
            call.Contests.Any(c => !c.Corrected) ? CallState.Contested
            : call.Readouts.Count(r => Counting(r) is not null) + (call.Links.Any(l => !l.Corrected) ? 1 : 0) > 1 ? CallState.Mutual
            : CallState.OneSided;
        foreach (var commitment in call.Commitments)
        {
            var before = commitment.State;
            commitment.State = StateOf(commitment);
            if (commitment.State == CommitmentState.Open && before != CommitmentState.Open)
                commitment.OpenTime = entry.Time;
        }
    }

    private static void Give(
        Call call,
        string participant,
        Account? account,
        Text? reason,
        RepeatedField<string> commitments,
        FoldedEntry entry
    )
    {
        var readout = call.Readouts.FirstOrDefault(r => r.Participant == participant);
        if (readout is null)
            call.Readouts.Add(readout = new Readout { Participant = participant });
        account = account?.Clone();
        if (account?.Minutes is { } minutes)
            minutes.Digest = ByteString.CopyFrom(SHA256.HashData(minutes.Content.Span));
        readout.Versions.Add(
            new ReadoutVersion
            {
                Number = (uint)readout.Versions.Count + 1,
                Position = entry.Position,
                GiveTime = entry.Time,
                Account = account,
                Reason = reason?.Clone(),
            }
        );
        for (var i = 0; i < (account?.Commitments.Count ?? 0); i++)
        {
            var terms = account!.Commitments[i];
            var commitment = Said(call, terms);
            if (commitment is null)
                call.Commitments.Add(commitment = new Commitment { Id = commitments[i], Terms = terms.Clone() });
            commitment.Sayings.Add(new Saying { Participant = participant, Position = entry.Position });
        }
    }

    private static void Correct(Call call, ulong position)
    {
        foreach (var version in call.Readouts.SelectMany(r => r.Versions))
            version.Corrected |= version.Position == position;
        foreach (var contest in call.Contests)
            contest.Corrected |= contest.Position == position;
        foreach (var link in call.Links)
            link.Corrected |= link.Position == position;
        foreach (var commitment in call.Commitments)
        {
            foreach (var saying in commitment.Sayings)
                saying.Corrected |= saying.Position == position;
            foreach (var settlement in commitment.Settlements)
                settlement.Corrected |= settlement.Position == position;
        }
    }

    private static void Tie(Call call, string id, string transfer, string prisoner, string? participant, TiedRequestState state)
    {
        var commitment = Commitment(call, id)!;
        var tied = commitment.Requests.FirstOrDefault(r => r.Transfer == transfer);
        if (tied is null)
            commitment.Requests.Add(
                tied = new TiedRequest
                {
                    Transfer = transfer,
                    Prisoner = prisoner,
                    Participant = participant ?? commitment.Terms.Participant,
                }
            );
        // Of events that come out of order, the one that tells more stands.
        tied.State = state switch
        {
            TiedRequestState.Submitted => state,
            _ when tied.State == TiedRequestState.Unspecified => state,
            TiedRequestState.Discarded when tied.State == TiedRequestState.Drafted => state,
            _ => tied.State,
        };
    }

    private static CommitmentState StateOf(Commitment commitment) =>
        commitment.Settlements.LastOrDefault(s => !s.Corrected) is { } settlement
            ? settlement.Kind switch
            {
                SettlementKind.Kept => CommitmentState.Kept,
                SettlementKind.Released => CommitmentState.Released,
                SettlementKind.Superseded => CommitmentState.Superseded,
                SettlementKind.Unspecified => CommitmentState.Unspecified,
            }
        : commitment.Sayings.All(s => s.Corrected) ? CommitmentState.Suspended
        : commitment.OverdueTime is not null ? CommitmentState.Overdue
        : CommitmentState.Open;

    // ---- what there is -----------------------------------------------------------------------------------------------------

    /// <summary>When the commitment falls overdue; null: it does not. Where it became open again after its due time, then.
    /// </summary>
    public static DateTimeOffset? DueOf(Commitment commitment) =>
        commitment.State != CommitmentState.Open || commitment.Terms.DueTime is not { } due
            ? null
            : (due > commitment.OpenTime ? due : commitment.OpenTime).ToDateTimeOffset();

    /// <summary>The version of a readout that counts: the last that was not corrected; null: none does.</summary>
    public static ReadoutVersion? Counting(Readout readout) => readout.Versions.LastOrDefault(v => !v.Corrected);

    /// <summary>The commitment of this id; null: there is none.</summary>
    public static Commitment? Commitment(Call call, string id) => call.Commitments.FirstOrDefault(c => c.Id == id);

    /// <summary>The commitment that the terms speak of; null: they say a new one. Who promised, what, for whom, by which route
    /// and to where make it the same; another due time does not.</summary>
    public static Commitment? Said(Call call, CommitmentTerms terms) => call.Commitments.FirstOrDefault(c => Same(c.Terms, terms));

    /// <summary>Whether the commitment was kept, released or superseded.</summary>
    public static bool IsSettled(Commitment commitment) =>
        commitment.State switch
        {
            CommitmentState.Kept or CommitmentState.Released or CommitmentState.Superseded => true,
            CommitmentState.Open or CommitmentState.Overdue or CommitmentState.Suspended or CommitmentState.Unspecified => false,
        };

    /// <summary>The call as a participant may see it: of sealed minutes that are not for it only that there are some, of transfer
    /// requests that are not submitted only its own, of links only those to records that it may see.</summary>
    /// <param name="call">The call, which the participant may see.</param>
    /// <param name="participant">The participant.</param>
    /// <param name="sees">Whether it may see the call of this id.</param>
    public static Call Shown(Call call, string participant, Func<string, bool> sees)
    {
        var shown = call.Clone();
        foreach (var readout in shown.Readouts)
        foreach (var account in readout.Versions.Select(v => v.Account).Where(a => a?.Minutes is not null))
            account.Minutes = Seals.Show(account.Minutes, readout.Participant, participant);
        foreach (var commitment in shown.Commitments)
        {
            Keep(commitment.Requests, r => r.State == TiedRequestState.Submitted || r.Participant == participant);
            commitment.Withheld.Add("requests");
        }
        Keep(shown.Links, l => sees(l.Call));
        shown.Withheld.Add("links");
        return shown;
    }

    /// <summary>A call in short.</summary>
    /// <param name="shown">The call as its reader may see it (<see cref="Shown(Call, string, Func{string, bool})"/>).</param>
    /// <param name="secrets">What etags are made with.</param>
    public static CallSummary Summary(Call shown, RecordSecrets secrets) =>
        new()
        {
            Call = shown.Id,
            Case = shown.Case,
            Etag = secrets.EtagOf(shown),
            State = shown.State,
            Sides = { shown.Sides },
            Level = shown.Classification.Level,
            LogTime = shown.LogTime,
            OpenCommitments = (uint)shown.Commitments.Count(c => c.State == CommitmentState.Open),
            OverdueCommitments = (uint)shown.Commitments.Count(c => c.State == CommitmentState.Overdue),
        };

    // ---- how accounts compare ----------------------------------------------------------------------------------------------

    /// <summary>Compares the two sides' accounts that count; null while only one side's does.</summary>
    /// <param name="call">The call.</param>
    /// <param name="linked">The records of the same call that its reader may see.</param>
    public static Comparison? Compare(Call call, params IEnumerable<Call> linked)
    {
        var readouts = linked.Prepend(call).SelectMany(c => c.Readouts).ToArray();
        var accounts = call
            .Sides.Select(side =>
                readouts
                    .Where(r => r.Participant == side.Participant)
                    .Select(Counting)
                    .OfType<ReadoutVersion>()
                    .MaxBy(v => v.Position)
                    ?.Account
            )
            .ToArray();
        if (accounts is not [{ } first, { } second])
            return null;
        var (one, two) = (call.Sides[0].Participant, call.Sides[1].Participant);
        var apart = (first.StartTime.Time - second.StartTime.Time).ToTimeSpan().Duration();
        return new Comparison
        {
            FirstParticipant = one,
            SecondParticipant = two,
            Fields =
            {
                Single(CodedField.Time, apart <= TimeTolerance),
                Single(CodedField.Channel, first.Channel == second.Channel),
                Items(
                    CodedField.Attendees,
                    one,
                    two,
                    first.Attendees,
                    second.Attendees,
                    a => $"{a.Participant} {a.Office}",
                    (a, b) => a.Equals(b) ? Match.Matched : Match.Unspecified,
                    (a, b) => SamePost(a, b) && (a.Official.Length == 0 || b.Official.Length == 0) ? Match.Matched : Match.Unspecified,
                    (a, b) => SamePost(a, b) ? Match.Differs : Match.Unspecified
                ),
                Items(
                    CodedField.Subjects,
                    one,
                    two,
                    first.Subjects,
                    second.Subjects,
                    s => Named("SUBJECT_", s),
                    (a, b) => a == b ? Match.Matched : Match.Unspecified
                ),
                Items(
                    CodedField.Prisoners,
                    one,
                    two,
                    first.Prisoners,
                    second.Prisoners,
                    p => p,
                    (a, b) => a == b ? Match.Matched : Match.Unspecified
                ),
                Items(
                    CodedField.Positions,
                    one,
                    two,
                    first.Positions,
                    second.Positions,
                    p => $"{p.Participant} {Named("SUBJECT_", p.Subject)}",
                    (a, b) =>
                        a.Participant != b.Participant || a.Subject != b.Subject ? Match.Unspecified
                        : a.Stance == b.Stance && a.Basis == b.Basis && SameSet(a.Prisoners, b.Prisoners) ? Match.Matched
                        : Match.Differs
                ),
                Items(
                    CodedField.Commitments,
                    one,
                    two,
                    first.Commitments,
                    second.Commitments,
                    c => $"{c.Participant} {Named("COMMITMENT_KIND_", c.Kind)}",
                    (a, b) =>
                        !Same(a, b) ? Match.Unspecified
                        : Equals(a.DueTime, b.DueTime) ? Match.Matched
                        : Match.Differs,
                    (a, b) => a.Participant == b.Participant && a.Kind == b.Kind ? Match.Differs : Match.Unspecified
                ),
            },
        };
    }

    private static FieldComparison Single(CodedField field, bool same) =>
        new() { Field = field, Match = same ? Match.Matched : Match.Differs };

    /// <summary>Pairs items by the strictest rule first; an item that none pairs is on one side only.</summary>
    private static FieldComparison Items<T>(
        CodedField field,
        string one,
        string two,
        IReadOnlyCollection<T> first,
        IReadOnlyCollection<T> second,
        Func<T, string> name,
        params Func<T, T, Match>[] rules
    )
    {
        var firsts = first.ToArray();
        var seconds = second.ToList();
        var outcomes = new Match[firsts.Length];
        foreach (var rule in rules)
            for (var i = 0; i < firsts.Length; i++)
            {
                if (outcomes[i] != Match.Unspecified)
                    continue;
                var other = seconds.FindIndex(s => rule(firsts[i], s) != Match.Unspecified);
                if (other < 0)
                    continue;
                outcomes[i] = rule(firsts[i], seconds[other]);
                seconds.RemoveAt(other);
            }
        var result = new FieldComparison { Field = field };
        for (var i = 0; i < firsts.Length; i++)
            result.Items.Add(
                outcomes[i] == Match.Unspecified ? Only(firsts[i], one) : new ItemComparison { Item = name(firsts[i]), Match = outcomes[i] }
            );
        result.Items.AddRange(seconds.Select(s => Only(s, two)));
        result.Match =
            result.Items.Any(i => i.Match == Match.Differs) ? Match.Differs
            : result.Items.Any(i => i.Match == Match.OneSideOnly) ? Match.OneSideOnly
            : Match.Matched;
        return result;

        ItemComparison Only(T item, string participant) =>
            new()
            {
                Item = name(item),
                Match = Match.OneSideOnly,
                OnlyParticipant = participant,
            };
    }

    private static bool SamePost(Attendee a, Attendee b) => a.Participant == b.Participant && a.Office == b.Office;

    private static bool Same(CommitmentTerms a, CommitmentTerms b) =>
        a.Participant == b.Participant
        && a.Kind == b.Kind
        && a.Route == b.Route
        && a.Destination == b.Destination
        && SameSet(a.Prisoners, b.Prisoners);

    private static bool SameSet(IEnumerable<string> a, IEnumerable<string> b) => a.ToHashSet().SetEquals(b);

    /// <summary>An enum value as the contract names it, without its prefix.</summary>
    private static string Named<T>(string prefix, T value)
        where T : struct, System.Enum
    {
        var member = typeof(T).GetField(value.ToString())!;
        var original = (Google.Protobuf.Reflection.OriginalNameAttribute)
            Attribute.GetCustomAttribute(member, typeof(Google.Protobuf.Reflection.OriginalNameAttribute))!;
        return original.Name[prefix.Length..];
    }

    private static void Keep<T>(RepeatedField<T> list, Func<T, bool> keep)
    {
        for (var i = list.Count - 1; i >= 0; i--)
            if (!keep(list[i]))
                list.RemoveAt(i);
    }

    // ---- what may be done --------------------------------------------------------------------------------------------------

    /// <summary>One side logs a call.</summary>
    public static Decision Log(View view, LogCallRequest request, RuleContext act)
    {
        var @case = view.Find(Cases.Kind, request.Case);
        if (Gate.Check(act, request, @case) is { } refusal)
            return refusal;
        var counterpart = act.Permissions.Participant(request.Counterpart);
        if (
            counterpart is not { Kind: ParticipantKind.Ministry }
            || counterpart.State == act.Caller.State
            || @case!.Parties.All(p => p.Participant != counterpart.Id)
        )
            return Decision.Refuse(Reason.CounterpartNotASide, ("field", "counterpart"));
        if (new[] { act.Caller, counterpart }.FirstOrDefault(p => !Allows(request.Classification, p)) is { } excluded)
            return Decision.Refuse(Reason.MarkingExcludesSide, ("participant", excluded.Id));
        var call = new Call
        {
            Id = act.NewId("call"),
            Case = request.Case,
            Sides =
            {
                new Side { Participant = act.Caller.Id, State = act.Caller.State },
                new Side { Participant = counterpart.Id, State = counterpart.State },
            },
        };
        if (Check(request.Account, call, @case, act) is { } fault)
            return fault;
        var logged = new CallLogged
        {
            Case = call.Case,
            Call = call.Id,
            Participant = act.Caller.Id,
            Prisoners = { request.Account.Prisoners },
            TransferCommitments = { NewTransfers(call, request.Account, act) },
            Commitments = { IdsOf(call, request.Account, act) },
            Sides = { call.Sides },
        };
        call.Classification = request.Classification ?? new Classification();
        return Decision.Accept(
            call.Case,
            [.. AudienceOf(call)],
            [new Change(logged, [Kind.Id(call.Id)])],
            after =>
            {
                var (shown, etag) = After(after, call.Id, act);
                return new LogCallResponse
                {
                    Call = shown.Id,
                    Etag = etag,
                    State = shown.State,
                    Commitments = { IdsOf(shown, request.Account) },
                };
            }
        );
    }

    /// <summary>The other side gives its own account.</summary>
    public static Decision SubmitReadout(View view, SubmitReadoutRequest request, RuleContext act)
    {
        if (!Opened(view, request, request.Case, request.Call, request.Etag, act, out var call, out var @case, out var refusal))
            return refusal;
        if (call.State == CallState.Mutual || call.Readouts.Any(r => r.Participant == act.Caller.Id))
            return Decision.Refuse(Reason.ReadoutAlreadyGiven);
        if (Check(request.Account, call, @case, act) is { } fault)
            return fault;
        if (Full(call, request))
            return Decision.Refuse(Reason.RecordFull);
        return Done(
            call,
            new ReadoutSubmitted
            {
                Case = call.Case,
                Call = call.Id,
                Participant = act.Caller.Id,
                TransferCommitments = { NewTransfers(call, request.Account, act) },
                Commitments = { IdsOf(call, request.Account, act) },
            },
            act,
            (shown, etag) =>
                new SubmitReadoutResponse
                {
                    Call = shown.Id,
                    Etag = etag,
                    State = shown.State,
                    Commitments = { IdsOf(shown, request.Account) },
                }
        );
    }

    /// <summary>A side amends its own readout: a new version.</summary>
    public static Decision AmendReadout(View view, AmendReadoutRequest request, RuleContext act)
    {
        if (!Opened(view, request, request.Case, request.Call, request.Etag, act, out var call, out var @case, out var refusal))
            return refusal;
        if (call.Readouts.FirstOrDefault(r => r.Participant == act.Caller.Id) is not { } own)
            return Decision.Refuse(Reason.ReadoutNotGiven);
        if (Check(request.Account, call, @case, act) is { } fault)
            return fault;
        if (own.Versions.Count >= MaxItems || Full(call, request))
            return Decision.Refuse(Reason.RecordFull);
        return Done(
            call,
            new ReadoutAmended
            {
                Case = call.Case,
                Call = call.Id,
                Participant = act.Caller.Id,
                TransferCommitments = { NewTransfers(call, request.Account, act) },
                Commitments = { IdsOf(call, request.Account, act) },
            },
            act,
            (shown, etag) =>
                new AmendReadoutResponse
                {
                    Call = shown.Id,
                    Etag = etag,
                    State = shown.State,
                    Version = (uint)own.Versions.Count + 1,
                    Commitments = { IdsOf(shown, request.Account) },
                }
        );
    }

    /// <summary>A side contests the other side's readout.</summary>
    public static Decision ContestReadout(View view, ContestReadoutRequest request, RuleContext act)
    {
        if (!Opened(view, request, request.Case, request.Call, request.Etag, act, out var call, out _, out var refusal))
            return refusal;
        if (request.Participant == act.Caller.Id)
            return Decision.Refuse(Reason.OwnReadout, ("field", "participant"));
        var counting = call.Readouts.Where(r => r.Participant == request.Participant).Select(Counting).FirstOrDefault();
        if (counting is null || counting.Number != request.Version)
            return Decision.Refuse(Reason.NoReadoutToContest, ("field", "version"));
        if (call.Contests.Any(c => c.Participant == act.Caller.Id && c.Version == request.Version && !c.Corrected))
            return Decision.Refuse(Reason.AlreadyContested);
        if (call.Contests.Count >= MaxItems || Full(call, request))
            return Decision.Refuse(Reason.RecordFull);
        return Done(
            call,
            new ReadoutContested
            {
                Case = call.Case,
                Call = call.Id,
                Participant = act.Caller.Id,
            },
            act,
            (shown, etag) =>
                new ContestReadoutResponse
                {
                    Call = shown.Id,
                    Etag = etag,
                    State = shown.State,
                }
        );
    }

    /// <summary>A side says that two records are of the same call.</summary>
    public static Decision LinkCalls(View view, LinkCallsRequest request, RuleContext act)
    {
        if (
            !Seen(view, request, request.Case, request.Call, act, out var call, out var @case, out var refusal)
            || !Seen(view, request, request.Case, request.SameAsCall, act, out var other, out _, out refusal)
        )
            return refusal;
        if (Gate.Saw(act, request.Etag, Shown(view, call, @case, act)) is { } stale)
            return stale;
        if (Gate.Saw(act, request.SameAsEtag, Shown(view, other, @case, act)) is { } otherStale)
            return otherStale;
        if (!IsSide(call, act))
            return Decision.Refuse(Reason.NotASide);
        if (
            !SameSet(call.Sides.Select(s => s.Participant), other.Sides.Select(s => s.Participant))
            || call.Sides[0].Participant == other.Sides[0].Participant
        )
            return Decision.Refuse(Reason.CallsNotOfBothSides, ("field", "same_as_call"));
        if (call.Links.Concat(other.Links).Any(l => !l.Corrected))
            return Decision.Refuse(Reason.AlreadyLinked);
        if (call.Links.Count >= MaxItems || other.Links.Count >= MaxItems || Full(call, request) || Full(other, request))
            return Decision.Refuse(Reason.RecordFull);
        var linked = new CallsLinked
        {
            Case = call.Case,
            Call = call.Id,
            SameAsCall = other.Id,
        };
        // Seen by who may see both: nobody learns from the link of a record that is not for him.
        string[] audience = [.. AudienceOf(call).Intersect(AudienceOf(other))];
        return Decision.Accept(
            call.Case,
            audience,
            [new Change(linked, [Kind.Id(call.Id), Kind.Id(other.Id)])],
            after =>
            {
                var (shown, etag) = After(after, call.Id, act);
                return new LinkCallsResponse
                {
                    Call = shown.Id,
                    Etag = etag,
                    State = shown.State,
                    SameAsEtag = After(after, other.Id, act).Etag,
                };
            }
        );
    }

    /// <summary>The side to which a commitment is owed settles it.</summary>
    public static Decision SettleCommitment(View view, SettleCommitmentRequest request, RuleContext act)
    {
        if (
            !Opened(
                view,
                request,
                request.Case,
                request.Call,
                request.Etag,
                act,
                out var call,
                out var @case,
                out var refusal,
                closedToo: true
            )
        )
            return refusal;
        if (Commitment(call, request.Commitment) is not { } commitment)
            return Decision.Refuse(Reason.NotFound, ("field", "commitment"));
        if (request.Settlement != SettlementKind.Superseded && request.SupersededBy.Length + request.SupersededByCall.Length > 0)
            return Invalid([("superseded_by", "only where the settlement is SUPERSEDED")]);
        if (act.Permissions.Participant(commitment.Terms.Participant)?.State == act.Caller.State)
            return Decision.Refuse(Reason.NotOwedToCaller);
        if (IsSettled(commitment))
            return Decision.Refuse(Reason.CommitmentAlreadySettled);
        IEnumerable<string> audience = AudienceOf(call);
        if (request.Settlement == SettlementKind.Superseded)
        {
            var of = request.SupersededByCall.Length == 0 ? call : view.Find(Kind, request.SupersededByCall);
            var by =
                of is null
                || of.Case != call.Case
                || !Cases.MaySee(act.Caller, @case, Kind.AudienceOf(of))
                || !SameSet(of.Sides.Select(s => s.Participant), call.Sides.Select(s => s.Participant))
                    ? null
                    : Commitment(of, request.SupersededBy);
            if (by is null || by.Id == commitment.Id || IsSettled(by))
                return Decision.Refuse(Reason.SupersedingCommitmentMissing, ("field", "superseded_by"));
            // The request names that call: nobody learns from it of a record that is not for him.
            audience = audience.Intersect(AudienceOf(of!));
        }
        if (commitment.Settlements.Count >= MaxItems || Full(call, request))
            return Decision.Refuse(Reason.RecordFull);
        return Done(
            call,
            new CommitmentSettled
            {
                Case = call.Case,
                Call = call.Id,
                Commitment = commitment.Id,
                Kind = request.Settlement,
            },
            act,
            (shown, etag) =>
                new SettleCommitmentResponse
                {
                    Call = shown.Id,
                    Etag = etag,
                    State = shown.State,
                },
            audience
        );
    }

    /// <summary>A side says that an entry of its own was wrong.</summary>
    public static Decision Correct(View view, CorrectRecordRequest request, RuleContext act)
    {
        if (!Opened(view, request, request.Case, request.Call, request.Etag, act, out var call, out _, out var refusal, closedToo: true))
            return refusal;
        var own = call
            .Readouts.Where(r => r.Participant == act.Caller.Id)
            .SelectMany(r => r.Versions)
            .Where(v => !v.Corrected)
            .Select(v => v.Position)
            .Concat(call.Contests.Where(c => c.Participant == act.Caller.Id && !c.Corrected).Select(c => c.Position))
            .Concat(call.Links.Where(l => l.Participant == act.Caller.Id && !l.Corrected).Select(l => l.Position))
            .Concat(
                call.Commitments.SelectMany(c => c.Settlements)
                    .Where(s => s.Participant == act.Caller.Id && !s.Corrected)
                    .Select(s => s.Position)
            );
        if (!own.Contains(request.Position))
            return Decision.Refuse(Reason.NotCorrectable, ("field", "position"));
        if (call.CalculateSize() + request.CalculateSize() > MaxBytes + MaxBytes / 2)
            return Decision.Refuse(Reason.RecordFull);
        var corrected = new RecordCorrected
        {
            Case = call.Case,
            Record = call.Id,
            Position = request.Position,
            Participant = act.Caller.Id,
            Commitments =
            {
                from commitment in call.Commitments
                let said = commitment.Sayings.Where(s => !s.Corrected).ToArray()
                where said.Length > 0 && said.All(s => s.Position == request.Position)
                select commitment.Id,
            },
        };
        // A link is an entry of both records.
        var streams = call.Links.Where(l => l.Position == request.Position).Select(l => l.Call).Prepend(call.Id).Select(Kind.Id);
        foreach (var stream in streams)
            view.Find(Kind, stream.Key);
        return Decision.Accept(
            call.Case,
            [.. AudienceOf(call)],
            [new Change(corrected, [.. streams])],
            after =>
            {
                var (shown, etag) = After(after, call.Id, act);
                return new CorrectRecordResponse
                {
                    Call = shown.Id,
                    Etag = etag,
                    State = shown.State,
                };
            }
        );
    }

    /// <summary>Commitments fall overdue.</summary>
    /// <param name="view">The states.</param>
    /// <param name="id">The call.</param>
    /// <param name="act">When.</param>
    public static Decision FallDue(View view, string id, RuleContext act)
    {
        var call = view.Find(Kind, id);
        var due = call?.Commitments.Where(c => DueOf(c) <= act.Now).ToArray() ?? [];
        if (call is null || due.Length == 0)
            return Decision.Accept(call?.Case ?? "", [], []);
        var fell = new DutyFellDue
        {
            Case = call.Case,
            Call = call.Id,
            Duty = "commitment-overdue",
            DueTime = due.Min(DueOf)!.Value.ToTimestamp(),
            Commitments = { due.Select(c => c.Id) },
        };
        return Decision.Accept(call.Case, [.. AudienceOf(call)], [new Change(fell, [Kind.Id(call.Id)])]);
    }

    private static bool Allows(Classification? marking, Participant participant) =>
        marking is null
        || (marking.Level <= Level.Restricted || marking.Level <= participant.Clearance)
            && (marking.ReleasableTo.Count == 0 || marking.ReleasableTo.Contains(participant.Id));

    private static bool IsSide(Call call, RuleContext act) => call.Sides.Any(s => s.Participant == act.Caller.Id);

    private static bool Full(Call call, IMessage request) => call.CalculateSize() + request.CalculateSize() > MaxBytes;

    private static Call Shown(View view, Call call, Case @case, RuleContext act) =>
        Shown(call, act.Caller.Id, id => view.Find(Kind, id) is { } other && Cases.MaySee(act.Caller, @case, Kind.AudienceOf(other)));

    private static (Call Shown, string Etag) After(View after, string id, RuleContext act)
    {
        var call = after.Find(Kind, id)!;
        var shown = Shown(after, call, after.Find(Cases.Kind, call.Case)!, act);
        return (shown, act.EtagOf(shown));
    }

    private static Decision Done(
        Call call,
        IMessage @event,
        RuleContext act,
        Func<Call, string, IMessage> answer,
        IEnumerable<string>? audience = null
    ) =>
        Decision.Accept(
            call.Case,
            [.. audience ?? AudienceOf(call)],
            [new Change(@event, [Kind.Id(call.Id)])],
            after =>
            {
                var (shown, etag) = After(after, call.Id, act);
                return answer(shown, etag);
            }
        );

    /// <summary>Finds a call of the case that the caller may see.</summary>
    private static bool Seen(
        View view,
        IMessage request,
        string inCase,
        string id,
        RuleContext act,
        out Call call,
        out Case @case,
        out Refusal refusal,
        bool closedToo = false
    )
    {
        @case = view.Find(Cases.Kind, inCase)!;
        call = view.Find(Kind, id)!;
        refusal =
            Gate.Check(act, request, @case, closedToo: closedToo)
            ?? (
                call is null || call.Case != inCase || !Cases.MaySee(act.Caller, @case, Kind.AudienceOf(call))
                    ? new Refusal(Reason.NotFound)
                    : null
            )!;
        return refusal is null;
    }

    /// <summary>Finds a call of which the caller is a side and which it saw as it is.</summary>
    private static bool Opened(
        View view,
        IMessage request,
        string inCase,
        string id,
        string etag,
        RuleContext act,
        out Call call,
        out Case @case,
        out Refusal refusal,
        bool closedToo = false
    )
    {
        if (!Seen(view, request, inCase, id, act, out call, out @case, out refusal, closedToo))
            return false;
        refusal = (Gate.Saw(act, etag, Shown(view, call, @case, act)) ?? (IsSide(call, act) ? null : new Refusal(Reason.NotASide)))!;
        return refusal is null;
    }

    private static Refusal Invalid(IEnumerable<(string Field, string Description)> faults) =>
        new(Reason.RequestInvalid, null, [.. faults.Select(f => new FieldFault { Field = f.Field, Description = f.Description })]);

    /// <summary>What the declarations of an account's fields cannot say.</summary>
    private static Refusal? Check(Account account, Call call, Case @case, RuleContext act)
    {
        var faults = Faults(account).ToArray();
        if (faults.Length > 0)
            return Invalid(faults);
        if (account.Prisoners.Any(p => @case.Prisoners.All(known => known.Prisoner != p)))
            return new Refusal(Reason.NotFound, Field("account.prisoners"));
        var start = account.StartTime.Time;
        if (start > act.Time)
            return new Refusal(Reason.TimeOutOfRange, Field("account.start_time"));
        for (var i = 0; i < account.Commitments.Count; i++)
            if (account.Commitments[i].DueTime is { } due && (due <= start || (due - start).ToTimeSpan() > LongestCommitment))
                return new Refusal(Reason.TimeOutOfRange, Field($"account.commitments[{i}].due_time"));
        var outsiders = account
            .Attendees.Select((a, i) => (a.Participant, Path: $"account.attendees[{i}].participant"))
            .Concat(account.Positions.Select((p, i) => (p.Participant, Path: $"account.positions[{i}].participant")))
            .Concat(account.Commitments.Select((c, i) => (c.Participant, Path: $"account.commitments[{i}].participant")))
            .Where(named => !@case.Parties.Any(p => p.Participant == named.Participant && call.Sides.Any(s => s.State == p.State)));
        if (outsiders.FirstOrDefault() is { Path: { } path })
            return new Refusal(Reason.AccountNamesOutsider, Field(path));
        var more = account.Commitments.Count(c => Said(call, c) is null);
        return call.Commitments.Count + more > MaxCommitments ? new Refusal(Reason.RecordFull) : null;

        static Dictionary<string, string> Field(string path) => new() { ["field"] = path };
    }

    private static IEnumerable<(string Field, string Description)> Faults(Account account)
    {
        for (var i = 0; i < account.Attendees.Count; i++)
            if (account.Attendees.Take(i).Contains(account.Attendees[i]))
                yield return ($"account.attendees[{i}]", "is named twice");
        for (var i = 0; i < account.Positions.Count; i++)
        {
            var position = account.Positions[i];
            if (account.Positions.Take(i).Any(p => p.Participant == position.Participant && p.Subject == position.Subject))
                yield return ($"account.positions[{i}]", "is a second position of the participant on the subject");
            if (!account.Subjects.Contains(position.Subject))
                yield return ($"account.positions[{i}].subject", "is none of the account's subjects");
            if (position.Prisoners.Except(account.Prisoners).Any())
                yield return ($"account.positions[{i}].prisoners", "names one who is none of the account's prisoners");
        }
        for (var i = 0; i < account.Commitments.Count; i++)
        {
            var (terms, path) = (account.Commitments[i], $"account.commitments[{i}]");
            if (account.Commitments.Take(i).Any(c => Same(c, terms)))
                yield return (path, "is said twice");
            if (terms.Prisoners.Except(account.Prisoners).Any())
                yield return ($"{path}.prisoners", "names one who is none of the account's prisoners");
            if (terms.Kind == CommitmentKind.RequestTransfer)
            {
                if (terms.Route == Route.Unspecified)
                    yield return ($"{path}.route", "is needed to request a transfer");
                if (terms.Destination.Length == 0)
                    yield return ($"{path}.destination", "is needed to request a transfer");
                if (terms.Prisoners.Count == 0)
                    yield return ($"{path}.prisoners", "is needed to request a transfer");
            }
            else
            {
                if (terms.Route != Route.Unspecified)
                    yield return ($"{path}.route", "only to request a transfer");
                if (terms.Destination.Length > 0)
                    yield return ($"{path}.destination", "only to request a transfer");
            }
        }
    }

    /// <summary>The commitments of the caller's own side to request a transfer that it had not said before.</summary>
    private static IEnumerable<TransferCommitment> NewTransfers(Call call, Account account, RuleContext act) =>
        from item in account.Commitments.Select((terms, index) => (terms, index))
        let terms = item.terms
        let before = Said(call, terms)
        where
            terms.Kind == CommitmentKind.RequestTransfer
            && act.Permissions.Participant(terms.Participant)?.State == act.Caller.State
            && (before is null || !IsSettled(before) && before.Sayings.All(s => s.Participant != act.Caller.Id))
        select new TransferCommitment
        {
            Commitment = before?.Id ?? act.NewId("commitment", item.index),
            Participant = terms.Participant,
            Prisoners = { terms.Prisoners },
            Route = terms.Route,
            Destination = terms.Destination,
        };

    /// <summary>The ids of an account's commitments, in their order: of one that was said before its own, of each other a new one.
    /// </summary>
    private static IEnumerable<string> IdsOf(Call call, Account account, RuleContext act) =>
        account.Commitments.Select((terms, index) => Said(call, terms)?.Id ?? act.NewId("commitment", index));

    private static IEnumerable<string> IdsOf(Call call, Account account) => account.Commitments.Select(c => Said(call, c)!.Id);
}
