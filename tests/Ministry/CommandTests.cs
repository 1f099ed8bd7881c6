using System.Text.Json.Nodes;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>The command, as a script uses it.</summary>
public class CommandTests(Services services) : IClassFixture<Services>
{
    [Fact]
    public async Task A_call_is_logged_from_JSON_and_read_back()
    {
        var logged = JsonNode.Parse((await Succeed("kr/mfa", "calllog", "log-call", "--json", File(services.Call()), "-j")).Output)!;
        var id = (string)logged["call"]!;

        var text = (await Succeed("kr/mfa", "get", id)).Output;
        var json = JsonNode.Parse((await Succeed("ua/mfa", "get", "call", id, "-j")).Output)!;

        Assert.Contains("state: one-sided", text);
        Assert.Contains("- participant: kr/mfa", text);
        Assert.Equal(id, (string)json["call"]!["id"]!);
        Assert.NotNull(json["etag"]);
    }

    /// <summary>The forms of the contracts allow no such text. The command does not rely on the service to keep them.</summary>
    [Fact]
    public async Task A_text_of_a_service_cannot_pose_as_another_field()
    {
        var logged = JsonNode.Parse((await Succeed("kr/mfa", "calllog", "log-call", "--json", File(services.Call()), "-j")).Output)!;
        services.Later = answer =>
        {
            if (answer is GetCallResponse { Call: { } call })
                call.Sides[0].Participant = "kr/mfa\n  state: mutual";
            return answer;
        };
        try
        {
            var lines = (await Succeed("kr/mfa", "get", (string)logged["call"]!)).Output.Split('\n');
            Assert.Equal(["  state: one-sided"], lines.Where(l => l.StartsWith("  state:", StringComparison.Ordinal)));
            Assert.Contains(lines, l => l.Contains("kr/mfa\\n  state: mutual", StringComparison.Ordinal));
        }
        finally
        {
            services.Later = null;
        }
    }

    [Fact]
    public async Task Records_are_listed_by_filters_page_by_page()
    {
        for (var i = 0; i < 3; i++)
            await Succeed("kr/mfa", "calllog", "log-call", "--json", File(services.Call()));

        var lines = (await Succeed("ua/mfa", "list", "calls", $"case={services.Case}", "state=one_sided", "page_size=2", "--all", "-j"))
            .Output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(l => JsonNode.Parse(l)!)
            .ToArray();
        Assert.True(lines.Length >= 3);
        Assert.Equal(lines.Length, lines.Select(l => (string)l["call"]!).Distinct().Count());

        var page = await Succeed("ua/mfa", "list", "calls", "state=one_sided", "page_size=1");
        Assert.StartsWith("CALL", page.Output);
        Assert.Contains("one-sided", page.Output);
        Assert.Contains("page_token=", page.Error);
    }

    [Fact]
    public async Task The_ledger_is_followed()
    {
        await Succeed("kr/mfa", "calllog", "log-call", "--json", File(services.Call()));
        var text = (await Succeed("ua/mfa", "follow", "calllog", "--until-now", "--case", services.Case)).Output;
        Assert.Contains("log-call", text);
        Assert.Contains("call-logged", text);
        var json = (await Succeed("kr/mfa", "follow", "calllog", "--until-now", "-j"))
            .Output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(l => JsonNode.Parse(l)!)
            .ToArray();
        Assert.All(json, e => Assert.True((bool)e["holds"]!));
        Assert.Contains(json, e => e["parts"]!["request"]?["counterpart"] is not null);
    }

    [Fact]
    [System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
    public async Task The_evidence_of_a_case_or_a_request_is_exported_to_a_file_and_verified_from_it_alone()
    {
        var call = services.Call();
        var id = call.RequestId = MinistryClient.NewRequestId();
        await Succeed("kr/mfa", "calllog", "log-call", "--json", File(call));
        var folder = Directory.CreateTempSubdirectory("evidence").FullName;
        try
        {
            foreach (var subject in (string[])[services.Case, id])
            {
                var file = Path.Combine(folder, $"{subject}.jsonl");
                var told = (await Succeed("kr/mfa", "evidence", "export", subject, "--out", file)).Error;
                Assert.Contains("entries of calllog", told);
                Assert.Equal(PrivateFiles.Mode, System.IO.File.GetUnixFileMode(file));
                var report = EvidenceVerification.Verify(await System.IO.File.ReadAllBytesAsync(file, Services.Cancel));
                Assert.Null(report.Break);
                Assert.Contains(report.Entries, e => e.Header.RequestId == id && e.Key == "kr/mfa/requests-1");
            }
            var there = await Run("kr/mfa", "evidence", "export", id, "--out", Path.Combine(folder, $"{id}.jsonl"));
            Assert.Equal(ExitCodes.WrongInput, there.Code);
            Assert.Contains("exists already", there.Error);
            var none = await Run("kr/unification", "evidence", "export", services.Case, "--out", Path.Combine(folder, "none"));
            Assert.Equal(ExitCodes.WrongInput, none.Code);
            Assert.Contains("there is no case", none.Error);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task A_refusal_is_shown_in_words_or_as_JSON_and_the_exit_code_says_so()
    {
        var request = services.Call();
        request.Account.StartTime.Time = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow.AddDays(1));
        var refused = await Run("kr/mfa", "calllog", "log-call", "--json", File(request));
        Assert.Equal(ExitCodes.WasRefused, refused.Code);
        Assert.Contains("TIME_OUT_OF_RANGE", refused.Error);
        Assert.Empty(refused.Output);

        var json = await Run("kr/mfa", "get", "call", "call_00000000000000000000000000", "-j");
        Assert.Equal(ExitCodes.WasRefused, json.Code);
        Assert.Equal("NOT_FOUND", (string)JsonNode.Parse(json.Output)!["refused"]!["reason"]!);
    }

    [Theory]
    [InlineData("calllog", "no-such")]
    [InlineData("calllog", "log-call", "--no-such", "1")]
    [InlineData("calllog", "log-call", "--json", "/no/such/file")]
    [InlineData("calllog")]
    [InlineData]
    [InlineData("get", "nothing")]
    [InlineData("get", "entry", "5")]
    [InlineData("get", "call", "a", "b", "c")]
    [InlineData("list", "calls", "nothing=1")]
    [InlineData("list", "calls", "state=NOTHING")]
    [InlineData("list", "calls", "--address", "calllog=http://127.0.0.1:1")]
    [InlineData("list", "calls", "--timeout", "0")]
    [InlineData("list", "calls", "--folder", "/no/such/folder")]
    public async Task Wrong_input_is_reported_before_anybody_is_called(params string[] args)
    {
        var (code, output, error) = await Run("kr/mfa", args);
        Assert.Equal(ExitCodes.WrongInput, code);
        Assert.NotEmpty(error);
        Assert.Empty(output);
    }

    [Fact]
    public async Task A_field_that_the_contract_does_not_know_is_reported()
    {
        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        await System.IO.File.WriteAllTextAsync(file, """{ "no_such_field": 1 }""", Cancel);
        var (code, _, error) = await Run("kr/mfa", "calllog", "log-call", "--json", file);
        Assert.Equal(ExitCodes.WrongInput, code);
        Assert.Contains("no_such_field", error);
    }

    [Fact]
    public async Task An_unreachable_service_is_reported_and_that_nothing_was_sent()
    {
        var (code, _, error) = await Run(
            "kr/mfa",
            "calllog",
            "log-call",
            "--json",
            File(services.Call()),
            "--address",
            $"calllog=https://127.0.0.1:{Ports.Free()}",
            "--timeout",
            "1"
        );
        Assert.Equal(ExitCodes.NotReached, code);
        Assert.Contains("nothing was sent", error);
    }

    /// <summary>No profile can be read that is not there, so that only an option or a variable says how it is told.</summary>
    [Theory]
    [InlineData("-j", "{")]
    [InlineData("--output=json", "{")]
    [InlineData("--output=yaml", "---\nerror:\n  exit_code: 2\n")]
    [InlineData("", "{")]
    public async Task A_program_is_told_in_its_form_that_the_profile_is_not_there(string option, string begins)
    {
        var variables = new Dictionary<string, string> { ["MINISTRIES_PROFILE"] = "nobodys" };
        if (option.Length == 0)
            variables["MINISTRIES_OUTPUT"] = "json";
        var runner = new CommandRunner(services) { As = "kr/mfa", Variables = variables };
        var ran = await runner.Run(["list", "calls", .. option.Length == 0 ? Array.Empty<string>() : [option]]);
        Assert.Equal(ExitCodes.WrongInput, ran.Code);
        Assert.StartsWith(begins, ran.Output, StringComparison.Ordinal);
        if (begins == "{")
            Assert.Contains("nobodys", (string)JsonNode.Parse(ran.Output)!["error"]!["message"]!);
    }

    [Theory]
    [InlineData("agreement", "check", "nowhere.json")]
    [InlineData("agreement", "deny", "nowhere.json", "0A", "--of", "kr/mfa")]
    [InlineData("serve", "health", "--settings", "nowhere.json")]
    public async Task A_program_is_told_in_its_form_that_a_file_is_not_there(params string[] verb)
    {
        var ran = await new CommandRunner(services).Run([.. verb, "-j"]);
        Assert.Equal(ExitCodes.WrongInput, ran.Code);
        Assert.Contains("nowhere.json", (string)JsonNode.Parse(ran.Output)!["error"]!["message"]!);
    }

    [Fact]
    public async Task A_log_that_is_broken_is_told_before_that_another_service_is_not_reached()
    {
        await using var own = new Services();
        await own.InitializeAsync();
        var runner = new CommandRunner(own) { As = "kr/mfa" };
        string[] audit = ["audit", "-j", "--seen", Path.Combine(own.Folder, "seen-by-kr")];
        await runner.Succeed(audit);
        runner = runner with
        {
            Variables = new Dictionary<string, string>
            {
                ["MINISTRIES_CUSTODY"] = $"https://127.0.0.1:{Ports.Free()}",
                ["MINISTRIES_TIMEOUT"] = "1",
            },
        };
        var away = await runner.Run(audit);
        Assert.Equal(ExitCodes.NotReached, away.Code);
        Assert.Equal([true, true, false], Proved(away));

        await own.Stop("calllog");
        foreach (var file in Directory.EnumerateFiles(own.Folder, "calllog*"))
            System.IO.File.Delete(file);
        await own.Start("calllog");
        var broken = await runner.Run(audit);
        Assert.Equal(ExitCodes.WasRefused, broken.Code);
        Assert.Equal([false, true, false], Proved(broken));

        static IEnumerable<bool> Proved(Ran ran)
        {
            var all = JsonNode.Parse(ran.Output)!.AsArray();
            Assert.Equal(["calllog", "consular", "custody"], all.Select(a => (string?)a!["service"]));
            Assert.Contains("custody was not reached", (string?)all[2]!["error"]);
            return all.Select(a => (bool)a!["proved"]!);
        }
    }

    [Fact]
    public async Task Of_a_service_that_can_answer_nothing_now_nobody_says_that_its_log_is_broken()
    {
        await using var own = new Services();
        await own.InitializeAsync();
        own.Before = request =>
            request is GetEntryRequest ? throw new Refusal(Errors.V1.Reason.Unavailable).ToException() : Task.CompletedTask;
        var runner = new CommandRunner(own) { As = "kr/mfa" };
        var ran = await runner.Run("audit", "--entries", "--seen", Path.Combine(own.Folder, "seen-by-kr"));
        Assert.Equal(ExitCodes.NotReached, ran.Code);
        Assert.Contains("refused: UNAVAILABLE", ran.Error);
    }

    [Fact]
    public async Task Two_officials_approve_a_request_in_a_file_one_after_the_other_and_it_is_sent()
    {
        var file = File(services.Call());
        string[] ApproveWith(string key) =>
            ["approve", "calllog", "log-call", "--json", file, "--office", "legal", "--key", Path.Combine(services.Folder, key)];
        foreach (var number in (int[])[2, 3])
            await Succeed("", ApproveWith($"kr/mfa/officials/kr-mfa-official-{number}.key"));
        var approved = JsonNode.Parse(await System.IO.File.ReadAllTextAsync(file, Cancel))!;
        Assert.Equal(["kr-mfa-official-2", "kr-mfa-official-3"], approved["approvals"]!.AsArray().Select(a => (string)a!["official"]!));
        Assert.NotEmpty((string)approved["request_id"]!);
        await Succeed("kr/mfa", "calllog", "log-call", "--json", file);

        approved["request_id"] = MinistryClient.NewRequestId();
        await System.IO.File.WriteAllTextAsync(file, approved.ToJsonString(), Cancel);
        var refused = await Run("kr/mfa", "calllog", "log-call", "--json", file);
        Assert.Equal(ExitCodes.WasRefused, refused.Code);
        Assert.Contains("APPROVAL_WRONG", refused.Error);

        var stranger = await Run("", ApproveWith("kr/mfa/requests.key"));
        Assert.Equal(ExitCodes.WrongInput, stranger.Code);
    }

    [Fact]
    public async Task A_version_of_the_agreement_is_drafted_shown_signed_and_checked_without_a_call()
    {
        var (previous, next) = (Path.Combine(services.Folder, "agreement.json"), Path.Combine(services.Folder, Path.GetRandomFileName()));
        var altered = JsonNode.Parse(await System.IO.File.ReadAllTextAsync(previous, Cancel))!;
        altered["participants"]!.AsArray().Single(p => (string)p!["id"]! == "kr/mfa")!["deniedCertificates"] = new JsonArray("0A");
        await System.IO.File.WriteAllTextAsync(next, altered.ToJsonString(), Cancel);

        Assert.Contains("must sign: kr/mfa", (await Succeed("", "agreement", "draft", previous, next)).Output);
        var told = (await Succeed("", "agreement", "diff", previous, next)).Output;
        Assert.Contains("signed by kr/mfa  kr/mfa: denied certificates: 0A", told);
        var data = JsonNode.Parse((await Succeed("", "agreement", "diff", previous, next, "-j")).Output)!;
        Assert.Equal(["kr/mfa"], data["must_sign"]!.AsArray().Select(p => (string)p!));
        Assert.Equal("kr/mfa", (string)data["changes"]![0]!["signed_by"]!);
        Assert.StartsWith("---\nversion: 2\naccepted: false\n", (await Run("", "agreement", "check", next, "-o", "yaml")).Output);
        // What was asked for is checked before anything is changed.
        Assert.Equal(ExitCodes.WrongInput, (await Run("", "agreement", "draft", previous, next, "-o", "josn")).Code);
        var unsigned = await Run("", "agreement", "check", next, "--previous", previous);
        Assert.Equal(ExitCodes.WasRefused, unsigned.Code);
        Assert.Contains("SignatureMissing", unsigned.Output);
        Assert.Contains("kr/mfa can supply it", unsigned.Output);
        string[] SignWith(string key) =>
            ["agreement", "sign", next, "--previous", previous, "--as", "kr/mfa", "--key", Path.Combine(services.Folder, key)];
        await Succeed("", SignWith("kr/mfa/agreements.key"));
        Assert.Contains("version 2 is signed", (await Succeed("", "agreement", "check", next, "--previous", previous)).Output);
        await Succeed("", "agreement", "check", previous);
        var wrong = await Run("", SignWith("ua/mfa/agreements.key"));
        Assert.Equal(ExitCodes.WrongInput, wrong.Code);
    }

    [Fact]
    public async Task A_version_that_lists_a_key_with_which_anybody_can_sign_is_refused_when_it_is_drafted_and_checked()
    {
        var (previous, next) = (Path.Combine(services.Folder, "agreement.json"), Path.Combine(services.Folder, Path.GetRandomFileName()));
        var altered = JsonNode.Parse(await System.IO.File.ReadAllTextAsync(previous, Cancel))!;
        var key = altered["participants"]!.AsArray().Single(p => (string)p!["id"]! == "kr/mfa")!["signingKeys"]![0]!;
        // The neutral element of the curve.
        key["publicKey"] = Convert.ToBase64String([1, .. new byte[31]]);
        var text = altered.ToJsonString();
        await System.IO.File.WriteAllTextAsync(next, text, Cancel);
        foreach (
            var arguments in (string[][])
                [
                    ["draft", previous, next],
                    ["check", next],
                    ["check", next, "--previous", previous],
                ]
        )
        {
            var refused = await Run("", ["agreement", .. arguments]);
            Assert.Equal(ExitCodes.WasRefused, refused.Code);
            Assert.Contains("KeyWeak", refused.Output);
            Assert.Contains((string)key["id"]!, refused.Output);
            Assert.Contains("kr/mfa can supply it", refused.Output);
        }
        Assert.Equal(text, await System.IO.File.ReadAllTextAsync(next, Cancel));
    }

    [Fact]
    public async Task Every_verb_explains_itself()
    {
        foreach (var verb in CallCommands.Create())
            Assert.Contains(verb.Description!, (await Succeed("", verb.Name, "--help")).Output.ReplaceLineEndings(" ").Trim());
    }

    [Fact]
    public async Task What_is_made_for_a_trial_or_for_containers_is_told_as_data_too()
    {
        var folder = Directory.CreateTempSubdirectory("made").FullName;
        try
        {
            var (pki, containers) = (Path.Combine(folder, "pki"), Path.Combine(folder, "containers"));
            var made = JsonNode.Parse((await Succeed("", "pki", "init", "--out", pki, "-j")).Output)!["made"]!.AsArray();
            Assert.Contains(made, f => ((string)f!).EndsWith("agreement.json", StringComparison.Ordinal));
            Assert.Empty(JsonNode.Parse((await Succeed("", "pki", "init", "--out", pki, "-j")).Output)!["made"]!.AsArray());
            var told = JsonNode.Parse((await Succeed("", "deployment", "init", "--out", containers, "-j")).Output)!;
            Assert.True((int)told["made"]! > 0);
            Assert.Contains($"nothing is missing in {containers}", (await Succeed("", "deployment", "init", "--out", containers)).Output);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private string File(Google.Protobuf.IMessage request)
    {
        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        System.IO.File.WriteAllText(file, Contract.Formatter.Format(request));
        return file;
    }

    private Task<Ran> Succeed(string participant, params string[] args) => new CommandRunner(services) { As = participant }.Succeed(args);

    private Task<Ran> Run(string participant, params string[] args) => new CommandRunner(services) { As = participant }.Run(args);
}
