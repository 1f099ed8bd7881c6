using System.Text.RegularExpressions;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>A signer has been shown everything that is signed, and nothing else.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed partial class ShownTests(Services services) : IClassFixture<Services>
{
    private const string Hq = "ua/coordination-hq";

    [Theory]
    [InlineData(false, "agreed: no"), InlineData(true, "agreed: yes")]
    public async Task An_official_who_approves_a_decision_is_shown_which_one_it_is(bool agreed, string shown)
    {
        var request = new DecideTransferRequest
        {
            RequestId = MinistryClient.NewRequestId(),
            Actor = Services.Actor,
            Etag = "etag",
            Case = services.Case,
            Transfer = $"transfer_{services.Case.Split('_')[1]}",
            Agreed = agreed,
            NoteVerbale = "UA-1",
        };
        Assert.Contains(shown, (await Approve(Hq, "consular", "decide-transfer", request)).Error);
    }

    [Fact]
    public async Task A_sender_is_shown_the_no_of_what_he_sends()
    {
        string[] decide = ["consular", "decide-transfer", "--note-verbale", "UA-1", "--etag", "etag", "--case", services.Case];
        string[] official = ["--office", "legal", "--official", "o-17", "--authority", "order-12"];
        var runner = new CommandRunner(services) { As = Hq, Typed = "n\n" };
        var ran = await runner.Run([.. decide, "--transfer", $"transfer_{services.Case.Split('_')[1]}", .. official]);
        Assert.Contains("agreed: no", ran.Error);
        Assert.Equal(ExitCodes.Declined, ran.Code);
    }

    /// <summary>Every yes or no in a write, and in what is sealed for it.</summary>
    [Fact]
    public void No_no_is_left_out_of_what_is_shown()
    {
        var writes = Contract
            .Services.SelectMany(Contract.MethodsOf)
            .Select(m => m.InputType)
            .Where(t => t.FindFieldByNumber(1) is { Name: "request_id" });
        var types = new HashSet<MessageDescriptor>();
        foreach (var type in writes.Concat(PersonalDataReflection.Descriptor.MessageTypes))
            Add(type);
        var plain = types
            .SelectMany(t => t.Fields.InDeclarationOrder())
            .Where(f => f is { FieldType: FieldType.Bool, HasPresence: false } && !Flag.IsOutputOnly(f))
            // It stands with its date.
            .Where(f => f.ContainingType != PartialDate.Descriptor)
            .ToList();
        Assert.Contains(plain, f => f.FullName == "ministries.consular.v1.DecideTransferRequest.agreed");
        Assert.All(
            plain,
            f => Assert.Contains($"{Words.Of(f)}: no\n", Written((IMessage)Activator.CreateInstance(f.ContainingType.ClrType)!, null))
        );

        void Add(MessageDescriptor type)
        {
            if (types.Add(type))
                foreach (var field in type.Fields.InDeclarationOrder().Where(f => f.FieldType == FieldType.Message && !f.IsMap))
                    Add(field.MessageType);
        }
    }

    [Fact]
    public void A_no_is_not_said_of_what_was_not_opened()
    {
        var request = new PersonRequest
        {
            Words = new Text { Language = "en", Text_ = "Invented words." },
        };
        Assert.Contains("visits-opposed: no", Opened(null));
        Assert.Contains("notification-wanted: no", Opened([1, 2]));
        Assert.DoesNotContain("visits-opposed", Opened([1, 2]));

        string Opened(IReadOnlyList<uint>? fields)
        {
            var text = new StringWriter();
            SealedMessages.Write(new Screen(text, ShellOf(null)), request, fields, 0);
            return text.ToString();
        }
    }

    [Fact]
    public async Task A_date_that_was_assessed_is_shown_as_that()
    {
        var hq = services.As(Hq);
        var identity = Identity;
        identity.BirthDate = new PartialDate
        {
            Year = 2005,
            Month = 3,
            Assessed = true,
        };
        var seen = await hq.Custody.GetCaseAsync(new GetCaseRequest { Case = services.Case }, cancellationToken: Cancel);
        var request = new RegisterPrisonerRequest
        {
            Actor = Services.Actor,
            Etag = seen.Etag,
            Case = services.Case,
            Status = CustodyState.Registered,
            CaptureTime = Timestamp.FromDateTime(new DateTime(2025, 1, 9, 0, 0, 0, DateTimeKind.Utc)),
        };
        await hq.Seal(request, identity, Cancel);
        var prisoner = (await hq.Custody.RegisterPrisonerAsync(request, cancellationToken: Cancel)).Prisoner;
        var runner = new CommandRunner(services) { As = Hq };
        Assert.Contains("birth-date: 2005-03 (assessed)", (await runner.Succeed("open", prisoner)).Output);
        Assert.Contains("birth-date: 2005\n", (await runner.Succeed("open", services.Prisoners[0])).Output);
    }

    [Fact]
    public void A_date_is_shown_whole_though_the_contract_does_not_allow_it() =>
        Assert.Contains(
            "birth-date: 2005-00-07\n",
            Written(
                new PersonIdentity
                {
                    BirthDate = new() { Year = 2005, Day = 7 },
                },
                null
            )
        );

    [Fact]
    public async Task A_request_that_the_contract_does_not_allow_is_not_approved()
    {
        var call = services.Call();
        call.RequestId = MinistryClient.NewRequestId();
        call.Account.Attendees[0].Office = new string('x', 70) + " your key: of somebody else";
        var ran = await Approve("kr/mfa", "calllog", "log-call", call);
        Assert.Equal(2, ran.Code);
        Assert.Contains("account.attendees[0].office", ran.Error);
    }

    [Theory]
    [InlineData("spaces"), InlineData("a long word"), InlineData("signs of two columns"), InlineData("signs that a selector makes wider")]
    public void A_text_of_others_does_not_pose_as_the_next_field(string by)
    {
        const string Forged = "accepted-destinations: KR";
        const int Columns = 80;
        var fill = by switch
        {
            "spaces" => new string(' ', Columns),
            "signs that a selector makes wider" => $" {string.Concat(Enumerable.Repeat("©\uFE0F", Columns / 2 - 4))} ",
            "a long word" => $" {new string('x', Columns - 8)} ",
            _ => $" {string.Concat(Enumerable.Repeat("⌚", Columns / 2 - 4))} ",
        };
        var content = new StatementContent
        {
            Words = new Text { Language = "en", Text_ = $"No.{fill}    {Forged}" },
        };
        var rows = Written(content, Columns).Split('\n');
        Assert.All(rows, r => Assert.True(Screen.ColumnsOf(r) <= Columns, r));
        Assert.DoesNotContain(rows, r => r.TrimStart().StartsWith(Forged, StringComparison.Ordinal));
        Assert.Contains(Forged, string.Join('\n', rows));
    }

    [Fact]
    public async Task In_a_terminal_no_row_begins_as_a_field_that_the_request_has_not()
    {
        const string Forged = "agreed: yes";
        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        var words = $"No.{new string(' ', 80)}    {Forged} {new string('x', 70)} {Forged}";
        var minutes = $$"""{ "minutes": { "language": "en", "text": "{{words}}" } }""";
        var call = services.Call();
        call.RequestId = MinistryClient.NewRequestId();
        services.As("kr/mfa").Seal(call, JsonParser.Default.Parse<CallMinutes>(minutes), ["kr/mfa"]);
        await File.WriteAllTextAsync(file, Contract.Formatter.Format(call), Cancel);
        using var terminal = new PseudoTerminal(
            services,
            PseudoTerminal.Line(["ministry", .. VerbTests.Approval(services, file, "kr/mfa/officials/kr-mfa-official-2.key")]),
            ("COLUMNS", "80"),
            ("NO_COLOR", "1")
        );
        await terminal.Until("Approve it as");
        await terminal.Type("n\n");
        await terminal.End();
        var rows = Rows().Split(terminal.Output);
        Assert.All(rows, r => Assert.True(Screen.ColumnsOf(r) <= 80, r));
        Assert.DoesNotContain(rows, r => r.TrimStart().StartsWith(Forged, StringComparison.Ordinal));
        Assert.Contains(rows, r => r.Contains(Forged, StringComparison.Ordinal));
    }

    // Ends before anything is signed.
    private async Task<Ran> Approve(string participant, string service, string method, IMessage request)
    {
        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        await File.WriteAllTextAsync(file, Contract.Formatter.Format(request), Cancel);
        var key = Path.Combine(services.Folder, participant, "officials", $"{Trust.Pki.OfficialOf(participant, 2)}.key");
        return await (new CommandRunner(services) { Typed = "n\n" }).Run([
            "approve",
            service,
            method,
            "--json",
            file,
            "--office",
            "legal",
            "--key",
            key,
        ]);
    }

    private static Shell ShellOf(int? columns) =>
        new()
        {
            Variable = _ => null,
            Input = () => TextReader.Null,
            Columns = columns,
        };

    private static string Written(IMessage message, int? columns)
    {
        var text = new StringWriter();
        new Fields(new Screen(text, ShellOf(columns)), whole: true).Write(message);
        return text.ToString();
    }

    [GeneratedRegex("\r?\n")]
    private static partial Regex Rows();
}
