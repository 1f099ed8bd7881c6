using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using static Ministries.CallLog.Tests.CaseFixture;

namespace Ministries.CallLog.Tests;

/// <summary>Only what is coded is compared, field by field and item by item.</summary>
public class ComparisonTests
{
    private readonly CaseFixture _fixture = new();

    /// <summary>What the second side says otherwise than the first; what becomes of which field; its items that do not match. All
    /// other fields match.</summary>
    public static TheoryData<string, CodedField, Match, string> Cases =>
        new()
        {
            { "nothing", CodedField.Time, Match.Matched, "" },
            { "four minutes later", CodedField.Time, Match.Matched, "" },
            { "six minutes later", CodedField.Time, Match.Differs, "" },
            { "six minutes earlier", CodedField.Time, Match.Differs, "" },
            { "another zone", CodedField.Time, Match.Matched, "" },
            { "another channel", CodedField.Channel, Match.Differs, "" },
            { "an official's id more", CodedField.Attendees, Match.Matched, "" },
            { "another official", CodedField.Attendees, Match.Differs, "kr/mfa minister Differs" },
            { "an attendee more", CodedField.Attendees, Match.OneSideOnly, "ua/mfa interpreter OneSideOnly ua/mfa" },
            { "an attendee less", CodedField.Attendees, Match.OneSideOnly, "ua/mfa minister OneSideOnly kr/mfa" },
            { "attendees in another order", CodedField.Attendees, Match.Matched, "" },
            { "a subject more", CodedField.Subjects, Match.OneSideOnly, "ACCESS OneSideOnly ua/mfa" },
            { "subjects in another order", CodedField.Subjects, Match.Matched, "" },
            { "another position", CodedField.Positions, Match.Differs, "kr/mfa CITIZENSHIP Differs" },
            { "a position on another ground", CodedField.Positions, Match.Differs, "kr/mfa CITIZENSHIP Differs" },
            { "a position on one prisoner", CodedField.Positions, Match.Differs, "kr/mfa CITIZENSHIP Differs" },
            { "no position", CodedField.Positions, Match.OneSideOnly, "kr/mfa CITIZENSHIP OneSideOnly kr/mfa" },
            { "a position of its own", CodedField.Positions, Match.OneSideOnly, "ua/mfa TRANSFER OneSideOnly ua/mfa" },
            { "another due time", CodedField.Commitments, Match.Differs, "kr/mfa REQUEST_TRANSFER Differs" },
            { "another route", CodedField.Commitments, Match.Differs, "kr/mfa REQUEST_TRANSFER Differs" },
            { "another destination", CodedField.Commitments, Match.Differs, "kr/mfa REQUEST_TRANSFER Differs" },
            { "no commitment", CodedField.Commitments, Match.OneSideOnly, "kr/mfa REQUEST_TRANSFER OneSideOnly kr/mfa" },
            { "a commitment more", CodedField.Commitments, Match.OneSideOnly, "ua/mfa ARRANGE_ACCESS OneSideOnly ua/mfa" },
            {
                "one differs, one is alone",
                CodedField.Commitments,
                Match.Differs,
                "kr/mfa REQUEST_TRANSFER Differs, ua/mfa ARRANGE_ACCESS OneSideOnly ua/mfa"
            },
            { "prisoners in another order", CodedField.Commitments, Match.Matched, "" },
            { "minutes", CodedField.Channel, Match.Matched, "" },
        };

    [Theory, MemberData(nameof(Cases))]
    public void A_field_matches_is_on_one_side_only_or_differs(string what, CodedField field, Match match, string items)
    {
        var logged = _fixture.Log();
        _fixture.Submit(Ua, logged.Call, Account(a => Change(a, what)));

        var comparison = CallComparison.Compare(_fixture.Call(logged))!;

        Assert.Equal((Kr, Ua), (comparison.FirstParticipant, comparison.SecondParticipant));
        Assert.Equal(System.Enum.GetValues<CodedField>()[1..], comparison.Fields.Select(f => f.Field));
        Assert.All(comparison.Fields, f => Assert.Equal(f.Field == field ? match : Match.Matched, f.Match));
        Assert.Equal(
            items,
            string.Join(
                ", ",
                comparison
                    .Fields.SelectMany(f => f.Items)
                    .Where(i => i.Match != Match.Matched)
                    .Select(i => $"{i.Item} {i.Match} {i.OnlyParticipant}".TrimEnd())
            )
        );
    }

    private static void Change(Account a, string what)
    {
        var (attendees, position, commitment) = (a.Attendees, a.Positions[0], a.Commitments[0]);
        void Later(double minutes) => a.StartTime.Time = (Began + TimeSpan.FromMinutes(minutes)).ToTimestamp();
        var access = new CommitmentTerms { Participant = Ua, Kind = CommitmentKind.ArrangeAccess };
        switch (what)
        {
            case "nothing":
                break;
            case "four minutes later":
                Later(4);
                break;
            case "six minutes later":
                Later(6);
                break;
            case "six minutes earlier":
                Later(-6);
                break;
            case "another zone":
                a.StartTime.TimeZone = "Europe/Kyiv";
                break;
            case "another channel":
                a.Channel = Channel.Video;
                break;
            case "an official's id more":
                attendees[1].Official = "ua-1";
                break;
            case "another official":
                attendees[0].Official = "kr-2";
                break;
            case "an attendee more":
                attendees.Add(new Attendee { Participant = Ua, Office = "interpreter" });
                break;
            case "an attendee less":
                attendees.RemoveAt(1);
                break;
            case "attendees in another order":
                (attendees[0], attendees[1]) = (attendees[1], attendees[0]);
                break;
            case "a subject more":
                a.Subjects.Add(Subject.Access);
                break;
            case "subjects in another order":
                (a.Subjects[0], a.Subjects[1]) = (a.Subjects[1], a.Subjects[0]);
                break;
            case "another position":
                position.Stance = Stance.Offered;
                break;
            case "a position on another ground":
                position.Basis = "";
                break;
            case "a position on one prisoner":
                position.Prisoners.RemoveAt(1);
                break;
            case "no position":
                a.Positions.Clear();
                break;
            case "a position of its own":
                a.Positions.Add(
                    new StatedPosition
                    {
                        Participant = Ua,
                        Subject = Subject.Transfer,
                        Stance = Stance.Reserved,
                    }
                );
                break;
            case "another due time":
                commitment.DueTime = (Began + TimeSpan.FromDays(30)).ToTimestamp();
                break;
            case "another route":
                commitment.Route = Route.Release;
                break;
            case "another destination":
                commitment.Destination = "KP";
                break;
            case "no commitment":
                a.Commitments.Clear();
                break;
            case "a commitment more":
                a.Commitments.Add(access);
                break;
            case "one differs, one is alone":
                commitment.Route = Route.Release;
                a.Commitments.Add(access);
                break;
            case "prisoners in another order":
                (commitment.Prisoners[0], commitment.Prisoners[1]) = (commitment.Prisoners[1], commitment.Prisoners[0]);
                break;
            case "minutes":
                a.Minutes = SealedForm.To(Ua);
                break;
            default:
                throw new ArgumentException(what);
        }
    }

    [Fact]
    public void A_prisoner_of_whom_one_side_alone_spoke_is_on_one_side_only()
    {
        var logged = _fixture.Log();
        _fixture.Submit(
            Ua,
            logged.Call,
            Account(a =>
            {
                a.Prisoners.RemoveAt(1);
                a.Positions.Clear();
                a.Commitments.Clear();
            })
        );
        var field = CallComparison.Compare(_fixture.Call(logged))!.Fields.Single(f => f.Field == CodedField.Prisoners);
        Assert.Equal((Match.OneSideOnly, Second, Kr), (field.Match, field.Items[1].Item, field.Items[1].OnlyParticipant));
    }

    [Fact]
    public void What_neither_side_says_matches()
    {
        var logged = _fixture.Log(but: r => r.Account = Bare());
        _fixture.Submit(Ua, logged.Call, Bare());
        Assert.All(CallComparison.Compare(_fixture.Call(logged))!.Fields, f => Assert.Equal(Match.Matched, f.Match));

        static Account Bare() =>
            Account(a =>
            {
                a.Prisoners.Clear();
                a.Positions.Clear();
                a.Commitments.Clear();
            });
    }

    [Fact]
    public void The_exact_pair_is_found_before_the_near_one()
    {
        var logged = _fixture.Log(but: r => r.Account = Account(a => a.Commitments.Insert(0, Terms(t => t.Route = Route.Release))));
        _fixture.Submit(Ua, logged.Call);
        var items = CallComparison.Compare(_fixture.Call(logged))!.Fields.Single(f => f.Field == CodedField.Commitments).Items;
        Assert.Equal([Match.OneSideOnly, Match.Matched], items.Select(i => i.Match));
    }

    [Fact]
    public void One_account_alone_is_not_compared() => Assert.Null(CallComparison.Compare(_fixture.Call(_fixture.Log())));

    [Fact]
    public void The_version_that_counts_is_compared()
    {
        var logged = _fixture.Log();
        _fixture.Submit(Ua, logged.Call, Account(a => a.Channel = Channel.Video));
        _fixture.Amend(Ua, logged.Call);
        Assert.Equal(Match.Matched, Channels());
        _fixture.Correct(Ua, logged.Call, _fixture.Call(logged).Readouts[1].Versions[1].Position);
        Assert.Equal(Match.Differs, Channels());

        Match Channels() => CallComparison.Compare(_fixture.Call(logged))!.Fields.Single(f => f.Field == CodedField.Channel).Match;
    }

    [Fact]
    public void Linked_records_are_compared_across()
    {
        var (one, two) = (_fixture.Log(), _fixture.Log(Ua, r => r.Account.Channel = Channel.Video));
        _fixture.Link(Ua, one.Call, two.Call);

        var comparison = CallComparison.Compare(_fixture.Call(one), _fixture.Call(two))!;

        Assert.Equal((Kr, Ua), (comparison.FirstParticipant, comparison.SecondParticipant));
        Assert.Equal([CodedField.Channel], comparison.Fields.Where(f => f.Match != Match.Matched).Select(f => f.Field));
        Assert.Null(CallComparison.Compare(_fixture.Call(one)));
    }
}
