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
        var sides = new Accounted(call.Sides[0].Participant, call.Sides[1].Participant, first, second);
        return new Comparison
        {
            FirstParticipant = sides.FirstParticipant,
            SecondParticipant = sides.SecondParticipant,
            Fields = { Rows.Select(compare => compare(sides)) },
        };
    }

    private sealed record Accounted(string FirstParticipant, string SecondParticipant, Account First, Account Second);

    // How each coded field is compared, in the order in which a comparison shows them.
    private static readonly Func<Accounted, FieldComparison>[] Rows =
    [
        Single(CodedField.Time, (a, b) => (a.StartTime.Time - b.StartTime.Time).ToTimeSpan().Duration() <= TimeTolerance),
        Single(CodedField.Channel, (a, b) => a.Channel == b.Channel),
        Items(
            CodedField.Attendees,
            a => a.Attendees,
            a => $"{a.Participant} {a.Office}",
            Same,
            SamePostWithoutName,
            SamePostWithAnotherName
        ),
        Items(CodedField.Subjects, a => a.Subjects, s => Named("SUBJECT_", s), Same),
        Items(CodedField.Prisoners, a => a.Prisoners, p => p, Same),
        Items(CodedField.Positions, a => a.Positions, p => $"{p.Participant} {Named("SUBJECT_", p.Subject)}", SamePosition),
        Items(
            CodedField.Commitments,
            a => a.Commitments,
            c => $"{c.Participant} {Named("COMMITMENT_KIND_", c.Kind)}",
            SameCommitment,
            AnotherOfTheKind
        ),
    ];

    // These rules pair items. Each says Unspecified of two items that it does not pair.
    private static Match Same<T>(T a, T b) => EqualityComparer<T>.Default.Equals(a, b) ? Match.Matched : Match.Unspecified;

    private static Match SamePostWithoutName(Attendee a, Attendee b) =>
        SamePost(a, b) && (a.Official.Length == 0 || b.Official.Length == 0) ? Match.Matched : Match.Unspecified;

    private static Match SamePostWithAnotherName(Attendee a, Attendee b) => SamePost(a, b) ? Match.Differs : Match.Unspecified;

    private static bool SamePost(Attendee a, Attendee b) => a.Participant == b.Participant && a.Office == b.Office;

    private static Match SamePosition(StatedPosition a, StatedPosition b) =>
        a.Participant != b.Participant || a.Subject != b.Subject ? Match.Unspecified
        : a.Stance == b.Stance && a.Basis == b.Basis && Accounts.SameSet(a.Prisoners, b.Prisoners) ? Match.Matched
        : Match.Differs;

    private static Match SameCommitment(CommitmentTerms a, CommitmentTerms b) =>
        !Commitments.Same(a, b) ? Match.Unspecified
        : Equals(a.DueTime, b.DueTime) ? Match.Matched
        : Match.Differs;

    private static Match AnotherOfTheKind(CommitmentTerms a, CommitmentTerms b) =>
        a.Participant == b.Participant && a.Kind == b.Kind ? Match.Differs : Match.Unspecified;

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

    private static Func<Accounted, FieldComparison> Single(CodedField field, Func<Account, Account, bool> same) =>
        sides => new() { Field = field, Match = same(sides.First, sides.Second) ? Match.Matched : Match.Differs };

    /// <summary>Pairs items, by the strictest rule first. An item that no rule pairs is on one side only.</summary>
    private static Func<Accounted, FieldComparison> Items<T>(
        CodedField field,
        Func<Account, IEnumerable<T>> items,
        Func<T, string> name,
        params Func<T, T, Match>[] rules
    ) => sides => Paired(field, sides, items, name, rules);

    private static FieldComparison Paired<T>(
        CodedField field,
        Accounted sides,
        Func<Account, IEnumerable<T>> items,
        Func<T, string> name,
        Func<T, T, Match>[] rules
    )
    {
        var firsts = items(sides.First).ToArray();
        var seconds = items(sides.Second).ToList();
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
                outcomes[i] == Match.Unspecified
                    ? Only(firsts[i], sides.FirstParticipant)
                    : new ItemComparison { Item = name(firsts[i]), Match = outcomes[i] }
            );
        result.Items.AddRange(seconds.Select(s => Only(s, sides.SecondParticipant)));
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

    /// <summary>An enum value as the contract names it, without its prefix.</summary>
    private static string Named<T>(string prefix, T value)
        where T : struct, Enum
    {
        var member = typeof(T).GetField(value.ToString())!;
        var original = (OriginalNameAttribute)Attribute.GetCustomAttribute(member, typeof(OriginalNameAttribute))!;
        return original.Name[prefix.Length..];
    }
}
