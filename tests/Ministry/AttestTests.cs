using System.Text.Json.Nodes;
using Google.Protobuf.WellKnownTypes;
using Ministries.Custody.V1;
using Ministries.Sealing;
using Ministries.Types.V1;
using NSec.Cryptography;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>Who attests a statement has opened it, and has made its commitments again.</summary>
public sealed class AttestTests(Services services) : IClassFixture<Services>
{
    private const string Hq = "ua/coordination-hq";
    private const string Interpreter = "interpreter-3";

    private static readonly AttesterRole[] Roles = [AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer];

    [Fact]
    public async Task What_is_sealed_gets_its_commitments_and_who_opens_it_attests_it()
    {
        var icrc = services.As("icrc");
        var statement = await Record(["icrc", Hq], _ => { });
        using var key = Key.Create(SignatureAlgorithm.Ed25519);
        var request = Request(statement);
        var opened = await icrc.Attest(request, key, cancel: Cancel);
        Assert.Equal(["KR"], opened.Message.AcceptedDestinations);
        Assert.Equal(WishCommitments.Bytes, opened.Message.WishSecret.Length);
        await icrc.Custody.AttestStatementAsync(request, cancellationToken: Cancel);
        var seen = (
            await icrc.Custody.GetStatementAsync(new GetStatementRequest { Statement = statement }, cancellationToken: Cancel)
        ).Statement;
        Assert.Equal([Interpreter], seen.Attestations.Select(a => a.Official));
    }

    [Fact]
    public async Task Commitments_to_something_else_than_what_is_sealed_are_not_signed()
    {
        var statement = await Record(
            ["icrc"],
            request =>
            {
                request.Commitments.Clear();
                request.Commitments.Add(
                    WishCommitments.Make(request.Case, request.Prisoner, ["KR", "CH"], new byte[WishCommitments.Bytes])
                );
            }
        );
        using var key = Key.Create(SignatureAlgorithm.Ed25519);
        var request = Request(statement);
        var thrown = await Assert.ThrowsAsync<SealException>(() => services.As("icrc").Attest(request, key, cancel: Cancel));
        Assert.Equal((SealFault.CommitmentDiffers, "commitments"), (thrown.Fault, thrown.Field));
        Assert.True(request.Signature.IsEmpty);
    }

    [Fact]
    public async Task An_interpreter_who_is_no_recipient_is_refused_and_told_why()
    {
        var statement = await Record(["icrc"], _ => { });
        using var key = Key.Create(SignatureAlgorithm.Ed25519);
        var request = Request(statement);
        var thrown = await Assert.ThrowsAsync<SealException>(() => services.As(Hq).Attest(request, key, cancel: Cancel));
        Assert.Equal(SealFault.WrongRecipient, thrown.Fault);
        Assert.Contains($"it is not sealed to {Hq}, so its official cannot know what he would attest", thrown.Message);
        Assert.True(request.Signature.IsEmpty);
    }

    [Fact]
    public void Commitments_that_are_given_with_a_content_must_be_those_to_it()
    {
        var icrc = services.As("icrc");
        var request = new RecordStatementRequest { Case = services.Case, Prisoner = services.Prisoners[0] };
        var content = Content();
        icrc.Seal(request, content, ["icrc"]);
        Assert.True(
            WishCommitments.Verify(
                request.Commitments,
                request.Case,
                request.Prisoner,
                content.AcceptedDestinations,
                content.WishSecret.Span
            )
        );
        content.AcceptedDestinations.Add("CH");
        Assert.Throws<ArgumentException>(() => icrc.Seal(request, content, ["icrc"]));
    }

    [Fact]
    public async Task The_command_signs_for_an_official_what_it_has_opened_and_nothing_else()
    {
        var key = Path.Combine(services.Folder, "icrc", "officials", $"{Trust.Pki.OfficialOf("icrc", 2)}.key");
        var icrc = new CommandRunner(services) { As = "icrc" };
        var good = await Record(["icrc"], _ => { });
        await icrc.Succeed(Attest(good));
        var seen = (
            await services.As("icrc").Custody.GetStatementAsync(new GetStatementRequest { Statement = good }, cancellationToken: Cancel)
        ).Statement;
        Assert.Single(seen.Attestations);
        var ran = await (icrc with { As = Hq }).Run(Attest(await Record(["icrc"], _ => { })));
        Assert.Equal(2, ran.Code);
        Assert.Contains("cannot know what he would attest", ran.Error);

        string[] Attest(string statement) =>
            [
                .. (string[])["custody", "attest-statement", "--statement", statement, "--role", "interpreter", "--sign-with", key],
                .. (string[])["--actor.office", "delegation", "--actor.official", Interpreter, "--actor.authority", "order-1", "--yes"],
            ];
    }

    [Fact]
    public async Task An_official_reads_what_he_attests_before_he_signs_wherever_it_goes_then()
    {
        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        var key = Path.Combine(services.Folder, "icrc", "officials", $"{Trust.Pki.OfficialOf("icrc", 2)}.key");
        var icrc = new CommandRunner(services) { As = "icrc" };
        string[] attest =
        [
            .. (string[])["custody", "attest-statement", "--statement", await Record(["icrc"], _ => { }), "--role", "interpreter"],
            .. (string[])["--actor.office", "delegation", "--actor.official", Interpreter, "--actor.authority", "order-1"],
            .. (string[])["--sign-with", key],
        ];

        var no = await (icrc with { Typed = "n\n" }).Run([.. attest, "--out", file]);
        Assert.Equal(ExitCodes.Declined, no.Code);
        Assert.Contains("Invented words.", no.Error);
        Assert.Contains("nothing was signed", no.Error);
        Assert.False(File.Exists(file));

        var shown = await icrc.Succeed([.. attest, "--dry-run", "-j"]);
        Assert.Contains("Invented words.", shown.Error);
        Assert.Null(JsonNode.Parse(shown.Output)!["request"]!["signature"]);

        await (icrc with { Typed = "y\n" }).Succeed([.. attest, "--out", file]);
        Assert.NotNull(JsonNode.Parse(await File.ReadAllTextAsync(file, Cancel))!["signature"]);
        Assert.Equal(ExitCodes.Declined, (await (icrc with { Typed = "n\n" }).Run(attest)).Code);
        await (icrc with { Typed = "y\n" }).Succeed(attest);
    }

    [Fact]
    public async Task An_official_reads_the_translations_that_he_attests()
    {
        var key = Path.Combine(services.Folder, "icrc", "officials", $"{Trust.Pki.OfficialOf("icrc", 2)}.key");
        var content = Content();
        content.Words.Translations.Add(
            new Translation
            {
                Language = "ko",
                Text = "An invented translation.",
                Translator = "translator-1",
            }
        );
        var statement = await Record(["icrc"], _ => { }, content);
        var icrc = new CommandRunner(services) { As = "icrc", Typed = "n\n" };
        var shown = await icrc.Run([
            .. (string[])["custody", "attest-statement", "--statement", statement, "--role", "interpreter", "--sign-with", key],
            .. (string[])["--actor.office", "delegation", "--actor.official", Interpreter, "--actor.authority", "order-1"],
        ]);
        Assert.Equal(ExitCodes.Declined, shown.Code);
        foreach (var words in (string[])["Invented words.", "An invented translation.", "translator-1"])
            Assert.Contains(words, shown.Error);
        Assert.Contains("An invented translation.", (await icrc.Succeed("open", statement)).Output);
    }

    private static StatementContent Content() =>
        new()
        {
            AcceptedDestinations = { "KR" },
            Words = new Text { Language = "en", Text_ = "Invented words." },
        };

    private static AttestStatementRequest Request(string statement) =>
        new()
        {
            Actor = new Actor(Services.Actor) { Official = Interpreter },
            Statement = statement,
            Role = AttesterRole.Interpreter,
        };

    private async Task<string> Record(string[] recipients, Action<RecordStatementRequest> change, StatementContent? content = null)
    {
        var icrc = services.As("icrc");
        var now = DateTimeOffset.UtcNow.ToTimestamp();
        var prisoner = services.Prisoners[0];
        var get = new GetPrisonerRequest { Case = services.Case, Prisoner = prisoner };
        var request = new RecordStatementRequest
        {
            Actor = Services.Actor,
            Case = services.Case,
            Prisoner = prisoner,
            Etag = (await icrc.Custody.GetPrisonerAsync(get, cancellationToken: Cancel)).Etag,
            StatementTime = now,
            Language = "ko",
            LanguageUnderstood = true,
            Uncoerced = true,
            Interpreter = Interpreter,
            Interview = new Interview
            {
                WithoutWitnesses = true,
                PlaceKind = PlaceKind.Hospital,
                InterviewTime = now,
                Attendants =
                {
                    Roles.Select(role => new Attendant
                    {
                        Role = role,
                        Participant = "icrc",
                        Official = role == AttesterRole.Interpreter ? Interpreter : Trust.Pki.OfficialOf("icrc", (int)role),
                    }),
                },
                OptionsExplained =
                {
                    OptionExplained.Home,
                    OptionExplained.RequestingState,
                    OptionExplained.Elsewhere,
                    OptionExplained.Stay,
                    OptionExplained.Wait,
                },
                Safeguards =
                {
                    Safeguard.Voluntary,
                    Safeguard.Confidential,
                    Safeguard.ProtectionExplained,
                    Safeguard.ReadBack,
                    Safeguard.Medical,
                },
            },
        };
        icrc.Seal(request, content ?? Content(), recipients);
        change(request);
        return (await icrc.Custody.RecordStatementAsync(request, cancellationToken: Cancel)).Statement;
    }
}
