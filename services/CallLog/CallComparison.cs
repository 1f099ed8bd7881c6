using Google.Protobuf.Reflection;
using Ministries.CallLog.V1;

namespace Ministries.CallLog;

/// <summary>How the two sides' accounts of a call compare.</summary>
public static class CallComparison
{
    /// <summary>How far two sides' clocks may be apart for their times to match.</summary>
    public static readonly TimeSpan TimeTolerance = TimeSpan.FromMinutes(5);

    /// <summary>Compares the two sides' accounts that count; null: only one side has such an account.</summary>
    /// <param name="call">The call.</param>
    /// <param name="linked">The records of the same call that its reader may see.</param>
    public static Comparison? Compare(Call call, params IEnumerable<Call> linked)
    {
        if (AccountsOf(call, linked) is not [{ } first, { } second])
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
                        : a.Stance == b.Stance && a.Basis == b.Basis && Accounts.SameSet(a.Prisoners, b.Prisoners) ? Match.Matched
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
                        !Commitments.Same(a, b) ? Match.Unspecified
                        : Equals(a.DueTime, b.DueTime) ? Match.Matched
                        : Match.Differs,
                    (a, b) => a.Participant == b.Participant && a.Kind == b.Kind ? Match.Differs : Match.Unspecified
                ),
            },
        };
    }

    // The account that counts of each side; null where a side gave none.
    private static Account?[] AccountsOf(Call call, IEnumerable<Call> linked)
    {
        var readouts = linked.Prepend(call).SelectMany(c => c.Readouts).ToArray();
        return
        [
            .. call.Sides.Select(side =>
                readouts
                    .Where(r => r.Participant == side.Participant)
                    .Select(Accounts.Counting)
                    .OfType<ReadoutVersion>()
                    .MaxBy(v => v.Position)
                    ?.Account
            ),
        ];
    }

    private static FieldComparison Single(CodedField field, bool same) =>
        new() { Field = field, Match = same ? Match.Matched : Match.Differs };

    /// <summary>Pairs items, by the strictest rule first. An item that no rule pairs is on one side only.</summary>
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

    /// <summary>An enum value as the contract names it, without its prefix.</summary>
    private static string Named<T>(string prefix, T value)
        where T : struct, Enum
    {
        var member = typeof(T).GetField(value.ToString())!;
        var original = (OriginalNameAttribute)Attribute.GetCustomAttribute(member, typeof(OriginalNameAttribute))!;
        return original.Name[prefix.Length..];
    }
}
