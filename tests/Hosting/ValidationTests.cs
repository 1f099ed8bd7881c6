using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Contracts;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Hosting.Tests;

/// <summary>Each form and each declaration, with values that pass and values that fail.</summary>
public class ValidationTests
{
    private const string Id = "case_00000000000000000000000001";

    public static TheoryData<string, string, bool> Forms
    {
        get
        {
            var rows = new TheoryData<string, string, bool>();
            Rows(
                StringForms.RequestId,
                ["018f3b1e-7c2a-7000-8000-0123456789ab", "00000000-0000-4000-8000-000000000000"],
                [
                    "",
                    "0123456789abcdef",
                    new string('A', 64),
                    "________--------",
                    "RI-CHONG-SU-11TH-STORM-CORPS-1999-05-01",
                    "018F3B1E-7C2A-7000-8000-0123456789AB",
                    "018f3b1e7c2a700080000123456789ab",
                    "{018f3b1e-7c2a-7000-8000-0123456789ab}",
                    "018f3b1e-7c2a-7000-8000-0123456789a",
                    "018f3b1e-7c2a-7000-8000-0123456789abc",
                    "018f3b1e-7c2a-7000-80000-123456789ab",
                    "018f3b1e-7c2a-7000-8000-0123456789ag",
                    "018f3b1e-7c2a-7000-8000-0123456789ab\n",
                    " 018f3b1e-7c2a-7000-8000-0123456789ab",
                    "urn:uuid:018f3b1e-7c2a-7000-8000-0123456789ab",
                    "agreement-2",
                    "custody/500/0",
                ]
            );
            Rows(
                StringForms.FieldPath,
                ["identity", "account.minutes", "a1_b.c"],
                ["", "Identity", "a.", ".a", "a..b", "a.1", "a[0]", "a b", "a\n", new string('a', 129)]
            );
            Rows(
                StringForms.MessageName,
                ["ministries.type.v1.PersonIdentity", "a.B"],
                ["", "PersonIdentity", "a.b", ".A", "A.B", "a.B.C", "a.b.C_D", "a.B\n", $"a.{new string('B', 127)}"]
            );
            Rows(
                StringForms.RecordId,
                ["call_0123456789abcdefghjkmnpqrs", "transferrecor_0000000000000000000000000z"],
                [
                    "",
                    "call",
                    "call_",
                    "call_0123456789abcdefghjkmnpqr",
                    "call_0123456789abcdefghjkmnpqrst",
                    "CALL_0123456789abcdefghjkmnpqrs",
                    "call_0123456789ABCDEFGHJKMNPQRS",
                    "call_i123456789abcdefghjkmnpqrs",
                    "call_l123456789abcdefghjkmnpqrs",
                    "call_o123456789abcdefghjkmnpqrs",
                    "call_u123456789abcdefghjkmnpqrs",
                    "_0123456789abcdefghjkmnpqrs",
                    "transferrecord_0000000000000000000000000z",
                    "call_0123456789abcdefghjkmnpqrs\n",
                    "pris_0123456789abcdefghjkmnpqrs",
                ]
            );
            Rows(
                StringForms.Prisoner,
                ["pris_0123456789abcdefghjkmnpqrs", "pris_00000000000000000000000000"],
                [
                    "",
                    "CANARY-NAME-RI-CHONG-SU",
                    "A",
                    "PW-0001",
                    "pris_",
                    "pris_0123456789abcdefghjkmnpqr",
                    "pris_0123456789abcdefghjkmnpqrst",
                    "PRIS_0123456789abcdefghjkmnpqrs",
                    "pris_0123456789ABCDEFGHJKMNPQRS",
                    "pris_i123456789abcdefghjkmnpqrs",
                    "call_0123456789abcdefghjkmnpqrs",
                    "pris_0123456789abcdefghjkmnpqrs\n",
                    "pris_0123456789abcdefghjkmnpq/s",
                ]
            );
            Rows(
                StringForms.Participant,
                ["icrc", "kr/mfa", "ua/coordination-hq", "service/calllog", new string('a', 64)],
                [
                    "",
                    "/mfa",
                    "kr/",
                    "kr//mfa",
                    "kr/mfa/x",
                    "KR/mfa",
                    "kr-/mfa",
                    "-kr/mfa",
                    "kr--x/mfa",
                    "kr mfa",
                    new string('a', 65),
                    "kr/mfa\n",
                ]
            );
            Rows(StringForms.State, ["KR", "UA", "ZZ"], ["", "K", "KOR", "kr", "K1", "KR\n"]);
            Rows(
                StringForms.Language,
                [
                    "ko",
                    "uk",
                    "en-GB",
                    "zh-Hant-TW",
                    "sr-Latn-RS",
                    "de-1996",
                    "sl-rozaj-biske",
                    "de-CH-x-phonebk",
                    "x-own",
                    "es-419",
                    "zh-cmn-Hans-CN",
                    "en-a-myext-b-another",
                ],
                ["", "k", "ko_KR", "ko-", "-ko", "ko--KR", "123", "ko-KR ", "en-a", new string('a', 9), "ko-" + new string('x', 33), "ko\n"]
            );
            Rows(
                StringForms.TimeZone,
                // Links of the time zone database are names too.
                ["UTC", "Asia/Seoul", "Europe/Kyiv", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "Asia/Calcutta", "Europe/Kiev"],
                [
                    "KST",
                    "Nowhere",
                    "Mars/Olympus",
                    "Asia/Soul",
                    "EST",
                    "GB-Eire",
                    "ROK",
                    "posixrules",
                    "posix/Asia/Seoul",
                    "right/Asia/Seoul",
                    "Korea Standard Time",
                    "FLE Standard Time",
                    "asia/seoul",
                    "Asia/seoul",
                    "../Asia/Seoul",
                    "Asia/../Asia/Seoul",
                    "Asia/Seoul/",
                    "./Asia/Seoul",
                    "Asia/Seoul\n",
                    "Asia/Seoul\0",
                    "Asia",
                    "zone.tab",
                    "UTC+9",
                    "Etc/Unknown",
                    "utc",
                    "",
                    "/Seoul",
                    "Asia/",
                    "Asia//Seoul",
                    "Asia/Seoul/x/y",
                    "+09:00",
                    "Asia Seoul",
                    new string('A', 41),
                    "UTC\n",
                ]
            );
            Rows(
                StringForms.Code,
                ["a", "consular-department", "note/2025.114_b", new string('Z', 64)],
                ["", "a b", "é", new string('Z', 65), "a\n", "a:b"]
            );
            Rows(
                StringForms.Official,
                ["o-1", "kr-mfa-official-3", new string('Z', 64)],
                ["", "a b", "é", new string('Z', 65), "a\n", "a:b"]
            );
            Rows(
                StringForms.Text,
                [
                    "",
                    "line\nline\ttab",
                    "남조선",
                    "🕊",
                    "a\u200e",
                    ".",
                    "  x  ",
                    "ناروێ\u200cها",
                    "e\u0301",
                    "👨\u200d👩\u200d👧",
                    "to \u2068אבג\u2069 and on",
                    "\u2067א\u2066b\u2069ג\u2069\nnext",
                    "\u2800x",
                ],
                [
                    "\0",
                    "x\r\n",
                    "x\u001b[31m",
                    "x\u007f",
                    "x\u0085",
                    "x\u009b31m",
                    // Characters that reverse or nest the order of the text.
                    "He \u202edid not\u202c agree",
                    "\u202ax",
                    "\u202bx",
                    "x\u202c",
                    "\u202dx",
                    // An isolate that reaches beyond its line, or closes what it did not open.
                    "\u2066x",
                    "x\u2069",
                    "\u2067x\u2069\u2069",
                    "\u2068x\ny\u2069",
                    "\u2067x\u2028y\u2069",
                    "\u2069x\u2066",
                    // A hidden text in a visible one: "no".
                    "yes\U000e006e\U000e006f",
                    "\U000e0001x",
                    "x\U000e007f",
                    // Texts without a visible character.
                    " ",
                    "   ",
                    "\n",
                    "\t\n ",
                    "\u200b",
                    "\u200b\u200c\u200d\u2060\ufeff",
                    "\u00a0",
                    "\u3000",
                    "\u00ad",
                    "\u034f",
                    "\u0301",
                    "\u115f",
                    "\u1160",
                    "\u3164",
                    "\uffa0",
                    "\u2800\u2800",
                    "\u180e",
                    "\u200e",
                    "\ufe0f",
                    "\U000e0041",
                    "\U0001d159",
                    "\ufffc",
                    "\ue000",
                    "\u2066\u2069",
                    "\u17b4",
                    "\u2061",
                    "\u2028",
                ]
            );
            Rows(StringForms.Etag, ["a", new string('_', 64)], ["", new string('a', 65), "a=", "\"a\"", "a\n"]);
            Rows(StringForms.PageToken, ["a", new string('-', 512)], ["", new string('a', 513), "a=", "a+b"]);
            return rows;

            void Rows(StringForm form, string[] good, string[] bad)
            {
                foreach (var text in good)
                    rows.Add(form.Name, text, true);
                foreach (var text in bad)
                    rows.Add(form.Name, text, false);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void A_form_accepts_what_it_declares_and_nothing_else(string form, string text, bool good) =>
        Assert.Equal(good, ValueRules.Check(StringForms.All.Single(f => f.Name == form), text) is null);

    [Fact]
    public void Every_form_has_its_rows() =>
        Assert.Equal(StringForms.All.Select(f => f.Name).Order(), Forms.Select(r => r.Data.Item1).Distinct().Order());

    [Fact]
    public void A_good_request_has_no_faults() => Assert.Empty(Faults(Good()));

    [Fact]
    public void All_violations_are_reported_at_once_with_their_paths()
    {
        var request = Good();
        request.RequestId = "";
        request.Actor.Office = "";
        request.Account.StartTime.TimeZone = "seoul time";
        request.Account.Attendees.Add(new Attendee());
        request.Account.Prisoners.AddRange(["pris_00000000000000000000000001", "pw-2", "pris_00000000000000000000000001"]);
        var faults = Faults(request);
        Assert.Contains("request_id", faults);
        Assert.Contains("actor.office", faults);
        Assert.Contains("account.start_time.time_zone", faults);
        Assert.Contains("account.prisoners[1]", faults);
        Assert.Contains("account.prisoners[2]", faults);
        Assert.Contains(faults, f => f.StartsWith($"account.attendees[{request.Account.Attendees.Count - 1}].", StringComparison.Ordinal));
    }

    [Fact]
    public void No_fault_repeats_a_value()
    {
        var request = Good();
        request.Actor.Official = "Private Kim, of the 11th";
        Assert.DoesNotContain(Validation.Check(request), f => f.Description.Contains("Kim", StringComparison.Ordinal));
    }

    [Fact]
    public void An_enum_value_that_the_contract_does_not_know_is_a_fault()
    {
        var request = Good();
        request.Precedence = (Precedence)99;
        request.Account.Subjects.Add((Subject)9999);
        Assert.Equal(["precedence", $"account.subjects[{request.Account.Subjects.Count - 1}]"], Faults(request));
    }

    [Theory]
    [InlineData(-2208988801, 0, false)]
    [InlineData(-2208988800, 0, true)]
    [InlineData(7258118399, 999_999_999, true)]
    [InlineData(7258118400, 0, false)]
    [InlineData(long.MaxValue, 0, false)]
    [InlineData(long.MinValue, 0, false)]
    [InlineData(0, -1, false)]
    [InlineData(0, 1_000_000_000, false)]
    public void A_time_must_be_in_its_range(long seconds, int nanos, bool good)
    {
        var request = Good();
        request.Account.StartTime.Time = new Timestamp { Seconds = seconds, Nanos = nanos };
        Assert.Equal(good ? [] : ["account.start_time.time"], Faults(request).Distinct());
    }

    [Theory]
    [InlineData(1999, 0, 0, true)]
    [InlineData(1999, 12, 31, true)]
    [InlineData(2024, 2, 29, true)]
    [InlineData(2023, 2, 29, false)]
    [InlineData(1999, 0, 3, false)]
    [InlineData(1999, 13, 0, false)]
    [InlineData(0, 1, 1, false)]
    [InlineData(10000, 1, 1, false)]
    public void A_partial_date_must_be_in_the_calendar(int year, int month, int day, bool good) =>
        Assert.Equal(
            good,
            Validation
                .Check(
                    new PartialDate
                    {
                        Year = year,
                        Month = month,
                        Day = day,
                    }
                )
                .Count == 0
        );

    [Theory]
    [InlineData(0, true)]
    [InlineData(200, true)]
    [InlineData(201, false)]
    [InlineData(-1, false)]
    public void A_number_must_be_in_its_range(int size, bool good) =>
        Assert.Equal(good, Validation.Check(new Operations.V1.ListDeadLettersRequest { PageSize = size }).Count == 0);

    [Fact]
    public void Fields_that_the_service_sets_must_be_left_out()
    {
        var @sealed = new Sealed
        {
            Scheme = "ministries-sealed-v1",
            Recipients = { "icrc" },
            Content = ByteString.CopyFromUtf8("x"),
        };
        Assert.Empty(Faults(@sealed));
        @sealed.Digest = ByteString.CopyFromUtf8("y");
        Assert.Equal(["digest"], Faults(@sealed));
    }

    [Theory]
    [InlineData("ministries-sealed-v1", true)]
    [InlineData("plain-text", false)]
    [InlineData("ministries-sealed-v2", false)]
    public void Content_is_sealed_by_the_scheme_that_was_agreed_on(string scheme, bool good)
    {
        var @sealed = new Sealed
        {
            Scheme = scheme,
            Recipients = { "icrc" },
            Content = ByteString.CopyFromUtf8("x"),
        };
        Assert.Equal(good ? [] : ["scheme"], Faults(@sealed));
    }

    [Fact]
    public void Sizes_and_counts_are_bounded()
    {
        var @sealed = new Sealed
        {
            Scheme = "ministries-sealed-v1",
            Recipients = { Enumerable.Range(0, 17).Select(i => $"p{i}") },
            Content = ByteString.CopyFrom(new byte[65537]),
        };
        Assert.Equal(["recipients", "content"], Faults(@sealed));
        Assert.Equal(["text"], Faults(new Text { Language = "ko", Text_ = Content() }));

        // Counted in bytes of UTF-8, not in characters.
        static string Content() => new('남', 2731);
    }

    [Fact]
    public void A_required_number_is_not_zero() => Assert.Equal(["from_size"], Faults(new GetConsistencyProofRequest()));

    [Fact]
    public void The_number_of_reported_faults_is_limited()
    {
        var request = new ListEventsRequest();
        request.After.AddRange(Enumerable.Range(0, 64).Select(_ => new EventCursor()));
        Assert.Equal(64, Faults(request).Count);
        var many = new CheckStandingRequest
        {
            Case = Id,
            Prisoner = "pris_00000000000000000000000001",
            Route = Route.Release,
        };
        many.Destinations.AddRange(Enumerable.Range(0, 1000).Select(_ => "x"));
        Assert.Equal(["destinations"], Faults(many));
    }

    [Fact]
    public void Every_reason_makes_a_status()
    {
        foreach (var reason in System.Enum.GetValues<Reason>().Where(r => r != Reason.Unspecified))
        {
            var status = new Refusal(reason).ToStatus();
            var info = status.Details[0].Unpack<Google.Rpc.ErrorInfo>();
            Assert.Equal(("ministries", Refusals.NameOf(reason)), (info.Domain, info.Reason));
            Assert.InRange(status.Code, 1, 16);
            Assert.Equal(["basis", "missing", "source", "supplier", "unlock"], info.Metadata.Keys.Order());
        }
    }

    private static List<string> Faults(IMessage request) => [.. Validation.Check(request).Select(f => f.Field)];

    internal static LogCallRequest Good() =>
        new()
        {
            RequestId = "00000000-0000-4000-8000-000000000001",
            Case = Id,
            Counterpart = "ua/mfa",
            Actor = new Actor
            {
                Office = "minister",
                Official = "o-1",
                Authority = "order-7",
            },
            Account = new Account
            {
                StartTime = new ZonedTime
                {
                    Time = Timestamp.FromDateTimeOffset(new(2025, 3, 17, 8, 0, 0, TimeSpan.Zero)),
                    TimeZone = "Asia/Seoul",
                },
                Channel = System.Enum.GetValues<Channel>().Max(),
                Attendees =
                {
                    new Attendee { Participant = "kr/mfa", Office = "minister" },
                },
                Subjects = { System.Enum.GetValues<Subject>().Max() },
            },
        };
}
