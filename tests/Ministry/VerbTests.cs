using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Sealing;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>The typed verbs against real services: writes, their safety, and what becomes of them.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public class VerbTests(Services services) : IClassFixture<Services>
{
    private static readonly string[] Official = ["--office", "consular-department", "--official", "o-17", "--authority", "order-12"];

    private string[] LogCall =>
        [
            "calllog",
            "log-call",
            "--case",
            services.Case,
            "--with",
            "ua/mfa",
            "--subject",
            "transfer,citizenship",
            "--start",
            "2025-03-17T10:00+09:00",
            "--channel",
            "telephone",
            "--attendee",
            "participant=kr/mfa,office=minister",
            "--attendee",
            "participant=ua/mfa,office=minister",
            .. Official,
        ];

    [Fact]
    public async Task A_call_is_logged_in_one_line_and_the_answer_shows_position_request_id_and_receipt()
    {
        var output = (
            await Kr.Succeed([
                .. LogCall,
                "--prisoner",
                services.Prisoners[0],
                "--commitment",
                $"participant=kr/mfa,kind=meet,prisoners={services.Prisoners[0]},due-time=2025-04-17T10:00+09:00",
            ])
        ).Output;

        Assert.Matches("recorded by calllog at position [0-9]+\n", output);
        Assert.Contains("state: one-sided", output);
        Assert.Contains("etag: ", output);
        Assert.Matches("request-id: [0-9a-f-]{36}\n", output);
        var receipt = Line(output, "receipt");
        Assert.NotEmpty(Contract.Parser.Parse<Receipt>(await File.ReadAllTextAsync(receipt, Cancel)).Checkpoint);
        using var client = services.As("kr/mfa");
        var call = (await client.CallLog.GetCallAsync(new GetCallRequest { Call = Line(output, "call") }, cancellationToken: Cancel)).Call;
        var account = call.Readouts[0].Versions[0].Account;
        Assert.Equal(("Asia/Seoul", new DateTime(2025, 3, 17, 1, 0, 0)), (account.StartTime.TimeZone, account.StartTime.Time.ToDateTime()));
        Assert.Equal([Subject.Transfer, Subject.Citizenship], account.Subjects);
        Assert.Equal(CommitmentKind.Meet, Assert.Single(call.Commitments).Terms.Kind);
    }

    [Fact]
    public async Task A_mistake_is_named_by_its_flag_before_anybody_is_called()
    {
        var nobody = Kr with
        {
            Variables = new Dictionary<string, string> { ["MINISTRIES_CALLLOG"] = $"https://127.0.0.1:{Ports.Free()}" },
        };
        foreach (
            var (arguments, said) in ((string[], string)[])
                [
                    (["--channel", "telefone"], "--channel is one of telephone,"),
                    (["--channel", "telefone"], "did you mean telephone?"),
                    (["--start", "2025-03-17T10:00"], "--start is a time with its zone"),
                    (["--start", "2025-03-17T10:00+03:00"], "needs the name of its zone"),
                    (["--start", "2025-03-17T10:00+09:00[Europe/Kyiv]"], "contradicts itself"),
                    (["--with", "UA"], "--counterpart must be a participant's id"),
                    (["--attendee", "participant=kr/mfa"], "--account.attendees (account.attendees[2].office) is missing"),
                    (["--attendee", "offce=x"], "has no offce"),
                    (["--prisoner", "pris_1"], "must be a reference that custody gave"),
                    (["--minutes", "They said"], "never stand on a command line"),
                ]
        )
        {
            // What is given once only is replaced.
            var flag = Array.IndexOf(LogCall, arguments[0]);
            var without = flag < 0 || arguments[0] == "--attendee" ? LogCall : LogCall.Take(flag).Concat(LogCall.Skip(flag + 2));
            var ran = await nobody.Run([.. without, .. arguments]);
            Assert.Equal(2, ran.Code);
            Assert.Contains(said, ran.Error);
            Assert.Empty(ran.Output);
        }
        Assert.Contains(
            "--account.channel is missing",
            (await nobody.Run(["calllog", "log-call", "--case", services.Case, .. Official])).Error
        );
    }

    [Fact]
    public async Task Personal_data_come_from_a_file_or_the_input_and_are_sealed_and_opened()
    {
        const string Minutes = """{ "minutes": { "language": "en", "text": "They spoke of an invented matter." } }""";
        var output = (await (Kr with { Input = Minutes }).Succeed([.. LogCall, "--minutes", "-"])).Output;
        var call = Line(output, "call");

        Assert.Contains("sealed to kr/mfa", (await Kr.Succeed("get", call)).Output);
        Assert.Contains("They spoke of an invented matter.", (await Kr.Succeed("open", call)).Output);
        Assert.Matches($"{call} +CallMinutes +kr/mfa", (await Kr.Succeed("open", "--case", services.Case)).Output);
        var other = Kr with { As = "ua/mfa" };
        Assert.Contains("sealed, not for you ·", (await other.Succeed("get", call)).Output);
        Assert.Equal(2, (await other.Run("open", call)).Code);
    }

    [Fact]
    public async Task The_etag_and_the_case_are_read_from_the_record()
    {
        var call = Line((await Kr.Succeed(LogCall)).Output, "call");
        var contest = await (Kr with { As = "ua/mfa" }).Succeed([
            "calllog",
            "contest-readout",
            "--call",
            call,
            "--participant",
            "kr/mfa",
            "--version",
            "1",
            "--explanation",
            Explanation(),
            .. Official,
        ]);
        Assert.Contains("state: contested", contest.Output);
    }

    [Fact]
    public async Task A_record_that_changes_between_reading_and_writing_is_shown_with_what_changed()
    {
        var call = Line((await Kr.Succeed(LogCall)).Output, "call");
        string[] contest =
        [
            "calllog",
            "contest-readout",
            "--call",
            call,
            "--participant",
            "kr/mfa",
            "--version",
            "1",
            "--explanation",
            Explanation(),
        ];
        string[] readout =
        [
            "calllog",
            "submit-readout",
            "--call",
            call,
            "--start",
            "2025-03-17T03:00+02:00[Europe/Kyiv]",
            "--channel",
            "telephone",
            "--subject",
            "transfer",
            "--attendee",
            "participant=ua/mfa,office=minister",
        ];
        // While the person reads the question, his own colleague writes.
        var reader = new Meanwhile(() => (Kr with { As = "ua/mfa" }).Succeed([.. readout, .. Official]));
        var ran = await (Kr with { As = "ua/mfa", Reader = reader }).Run([.. contest, .. Official]);

        Assert.Equal(1, ran.Code);
        Assert.Contains("STALE", ran.Error);
        Assert.Contains("The call changed since it was read", ran.Error);
        Assert.Contains("state: CALL_STATE_ONE_SIDED → CALL_STATE_MUTUAL", ran.Error);
    }

    [Fact]
    public async Task A_refusal_is_told_also_where_the_record_cannot_be_read_again()
    {
        var call = Line((await Kr.Succeed(LogCall)).Output, "call");
        var refused = false;
        services.Before = request =>
        {
            if (request is GetCallRequest && refused)
                throw new Refusal(Errors.V1.Reason.NotFound).ToException();
            if (request is not ContestReadoutRequest)
                return Task.CompletedTask;
            refused = true;
            throw new Refusal(Errors.V1.Reason.Stale).ToException();
        };
        string[] contest = ["calllog", "contest-readout", "--call", call, "--participant", "kr/mfa", "--version", "1"];
        var ran = await (Kr with { As = "ua/mfa" }).Run([.. contest, "--explanation", Explanation(), .. Official]);
        services.Before = null;
        Assert.Equal(ExitCodes.WasRefused, ran.Code);
        Assert.Contains("refused: STALE", ran.Error);
        Assert.DoesNotContain("NOT_FOUND", ran.Error);
    }

    /// <summary>Absent says that nothing is known, and no that he is not.</summary>
    [Theory]
    [InlineData("false", "serious: no\n")]
    [InlineData("true", "serious: yes\n")]
    public async Task A_no_that_the_contract_tells_from_nothing_is_shown(string said, string shown)
    {
        var hq = Kr with { As = "ua/coordination-hq" };
        string[] record = ["custody", "record-status", "--prisoner", services.Prisoners[0], "--case", services.Case];
        string[] status = ["--status", "hospitalised", "--status-time", "2025-02-01T10:00Z", "--serious", said, "--dry-run"];
        Assert.Contains(shown, (await hq.Succeed([.. record, .. status, .. Official])).Output);
        Assert.DoesNotContain("serious", (await hq.Succeed([.. record, .. status[..4], "--dry-run", .. Official])).Output);
    }

    [Fact]
    public async Task A_dry_run_shows_what_would_be_signed_and_sends_nothing()
    {
        var before = await Calls();
        var output = (await Kr.Succeed([.. LogCall, "--dry-run"])).Output;
        Assert.Contains("nothing is sent", output);
        Assert.Contains("\"@path\": /ministries.calllog.v1.CallLogService/LogCall", output);
        Assert.Contains("\"@signature-params\": (\"@method\"", output);
        Assert.Contains("keyid=\"kr/mfa/requests-1\"", output);
        Assert.Matches("content-digest: sha-256=:[A-Za-z0-9+/=]+:", output);
        Assert.Equal(before, await Calls());
        var json = JsonNode.Parse((await Kr.Succeed([.. LogCall, "--dry-run", "-j"])).Output)!;
        Assert.Equal(services.Case, (string)json["request"]!["case"]!);
    }

    [Fact]
    public async Task A_verb_passes_over_an_address_at_which_nobody_answers()
    {
        var addresses = $"https://127.0.0.1:{Ports.Free()},{services.Addresses["custody"]}".TrimEnd('/');
        Assert.Contains(services.Case, (await Kr.Succeed("list", "cases", "--address", $"custody={addresses}")).Output);
    }

    [Fact]
    public async Task A_write_is_asked_about_on_a_terminal_and_no_sends_nothing()
    {
        var before = await Calls();
        var no = await (Kr with { Typed = "n\n" }).Run(LogCall);
        Assert.Equal(ExitCodes.Declined, no.Code);
        Assert.Contains("Send it as kr/mfa? It stays in the ledger. [y/N]", no.Error);
        Assert.Contains("channel: telephone", no.Error);
        Assert.Contains("approvals: 0 of 0", no.Error);
        Assert.Contains("nothing was sent", no.Error);
        Assert.Equal(before, await Calls());
        await (Kr with { Typed = "y\n" }).Succeed(LogCall);
        await (Kr with { Typed = "" }).Succeed([.. LogCall, "--yes"]);
        Assert.Equal(before + 2, await Calls());
    }

    [Fact]
    public async Task A_write_without_an_answer_is_sent_again_as_it_was_by_its_request_id()
    {
        const string Minutes = """{ "minutes": { "language": "en", "text": "Invented." } }""";
        var impatient = Kr with
        {
            Variables = new Dictionary<string, string> { ["MINISTRIES_TIMEOUT"] = "3" },
            Input = Minutes,
        };
        var lost = await Unanswered(() => impatient.Run([.. LogCall, "--minutes", "-"]));
        Assert.Equal(3, lost.Code);
        Assert.Contains("calllog was not reached at https://127.0.0.1:", lost.Error);
        Assert.Contains("address:   MINISTRIES_CALLLOG", lost.Error);
        Assert.Contains($"agreement: {Path.Combine(services.Folder, "agreement.json")}", lost.Error);
        var id = lost.Error.Split("request_id: ")[1].Split('\n')[0];
        var kept = Path.Combine(services.Folder, "kr/mfa/receipts", $"sent-{id}.json");
        Assert.True(File.Exists(kept));
        Assert.Contains(id, (await Kr.Run("doctor")).Output);
        Assert.Contains($"again: ministry calllog log-call --request-id {id}", (await Kr.Succeed("sent")).Output);
        // Elsewhere, too, it is signed with the key that was named here.
        var named = Path.GetRelativePath(Environment.CurrentDirectory, Path.Combine(services.Folder, "kr/mfa/requests.key"));
        Assert.Contains(
            $"--requests-key {Path.Combine(services.Folder, "kr/mfa/requests.key")}",
            (await Kr.Succeed("sent", "--requests-key", named)).Output
        );
        // A later command that reaches nobody knows no more of it.
        Assert.Contains("It is not known", (await Nobody.Run("calllog", "log-call", "--request-id", id)).Error);
        Assert.True(File.Exists(kept));

        var sent = await Kr.Succeed("calllog", "log-call", "--request-id", id);
        Assert.Contains(id, sent.Output);
        Assert.False(File.Exists(kept));
        var other = await Kr.Run("calllog", "log-call", "--request-id", "NO-UUID");
        Assert.Equal(2, other.Code);
    }

    /// <summary>An attempt before the refused one may have been recorded: with a new id it would be made twice.</summary>
    [Fact]
    public async Task A_write_that_is_to_come_again_later_is_kept_and_is_the_same_then()
    {
        services.Before = request =>
            request is LogCallRequest ? throw new Refusal(Errors.V1.Reason.Overloaded).ToException() : Task.CompletedTask;
        var refused = await Kr.Run(LogCall);
        services.Before = null;
        Assert.Equal(ExitCodes.WasRefused, refused.Code);
        Assert.Contains("refused: OVERLOADED", refused.Error);
        var id = refused.Error.Split("request_id: ")[1].Split('\n')[0];
        Assert.Contains(id, (await Kr.Succeed("sent")).Output);
        Assert.Contains(id, (await Kr.Succeed("calllog", "log-call", "--request-id", id)).Output);
        Assert.DoesNotContain(id, (await Kr.Succeed("sent")).Output);
    }

    /// <summary>The service commits before it fails, or not: nobody knows.</summary>
    [Fact]
    public async Task A_write_at_which_the_service_failed_is_kept_and_is_the_same_then()
    {
        var recorded = 0ul;
        services.Later = answer =>
        {
            if (answer is not LogCallResponse logged)
                return answer;
            recorded = logged.Receipt.Position;
            var info = new Google.Rpc.ErrorInfo { Reason = "INTERNAL", Domain = Refusals.Domain };
            throw new Google.Rpc.Status
            {
                Code = (int)Google.Rpc.Code.Internal,
                Details = { Google.Protobuf.WellKnownTypes.Any.Pack(info) },
            }.ToRpcException();
        };
        var failed = await Kr.Run(LogCall);
        services.Later = null;
        Assert.Equal(ExitCodes.WasRefused, failed.Code);
        Assert.Contains("refused: INTERNAL", failed.Error);
        var id = IdIn(failed);
        Assert.Contains(id, (await Kr.Succeed("sent")).Output);
        Assert.Contains($"at position {recorded}\n", (await Kr.Succeed("calllog", "log-call", "--request-id", id)).Output);
        Assert.DoesNotContain(id, (await Kr.Succeed("sent")).Output);
    }

    /// <summary>The service refuses for these before it looks for the answer that it gave.</summary>
    [Theory]
    [InlineData(Reason.SignatureExpired)]
    [InlineData(Reason.SignatureKeyUnknown)]
    [InlineData(Reason.CertificateNotAccepted)]
    [InlineData(Reason.RequestInvalid)]
    [InlineData(Reason.NotGranted)]
    public async Task A_write_without_an_answer_is_not_forgotten_because_it_is_refused_when_it_is_sent_again(Reason reason)
    {
        var id = IdIn(await Refused(Reason.Overloaded, LogCall));
        var refused = await Refused(reason, ["calllog", "log-call", "--request-id", id]);
        Assert.Equal(ExitCodes.WasRefused, refused.Code);
        Assert.Equal(id, IdIn(refused));
        Assert.Contains(id, (await Kr.Succeed("calllog", "log-call", "--request-id", id)).Output);
    }

    /// <summary>The client itself repeats an attempt. The first is recorded, and its answer is lost.</summary>
    [Theory]
    [InlineData(Reason.RequestInvalid)]
    [InlineData(Reason.NotGranted)]
    public async Task A_write_is_not_forgotten_because_a_repeated_attempt_of_the_same_command_is_refused(Reason reason)
    {
        var (recorded, attempts) = (0ul, 0);
        services.Later = answer =>
        {
            if (answer is not LogCallResponse logged)
                return answer;
            recorded = logged.Receipt.Position;
            throw new RpcException(new Status(StatusCode.Unavailable, "the answer is lost"));
        };
        services.Before = request =>
            request is LogCallRequest && Interlocked.Increment(ref attempts) > 1
                ? throw new Refusal(reason).ToException()
                : Task.CompletedTask;
        Ran refused;
        try
        {
            refused = await Kr.Run(LogCall);
        }
        finally
        {
            (services.Later, services.Before) = (null, null);
        }
        Assert.Equal((ExitCodes.WasRefused, 2), (refused.Code, attempts));
        var id = IdIn(refused);
        Assert.Contains(id, (await Kr.Succeed("sent")).Output);
        Assert.Contains($"at position {recorded}\n", (await Kr.Succeed("calllog", "log-call", "--request-id", id)).Output);
        Assert.DoesNotContain(id, (await Kr.Succeed("sent")).Output);
    }

    [Fact]
    public async Task A_refusal_that_is_the_answer_for_ever_ends_the_waiting()
    {
        var id = IdIn(await Refused(Reason.Overloaded, LogCall));
        var refused = await Refused(Reason.Stale, ["calllog", "log-call", "--request-id", id]);
        Assert.DoesNotContain("request_id: ", refused.Error);
        Assert.DoesNotContain(id, (await Kr.Succeed("sent")).Output);
        // Of a new write it is enough that the service decided.
        Assert.DoesNotContain("request_id: ", (await Refused(Reason.RequestInvalid, LogCall)).Error);
        // A write whose caller was refused can be sent as it is once the cause is mended.
        Assert.Contains(IdIn(await Refused(Reason.SignatureExpired, LogCall)), (await Kr.Succeed("sent")).Output);
    }

    [Fact]
    public async Task A_write_whose_receipt_cannot_be_kept_ends_with_its_id_and_is_the_same_then()
    {
        var receipts = Path.Combine(services.Folder, Path.GetRandomFileName());
        var recorded = 0ul;
        services.Later = answer =>
        {
            if (answer is not LogCallResponse logged)
                return answer;
            recorded = logged.Receipt.Position;
            Directory.Move(receipts, $"{receipts}-aside");
            File.WriteAllText(receipts, "");
            return answer;
        };
        var ended = await Kr.Run([.. LogCall, "--receipts", receipts]);
        services.Later = null;
        File.Delete(receipts);
        Directory.Move($"{receipts}-aside", receipts);
        Assert.Equal(ExitCodes.WasRefused, ended.Code);
        Assert.Contains("its receipt cannot be kept", ended.Error);
        Assert.Contains("It was recorded.", ended.Error);
        string[] again = ["calllog", "log-call", "--request-id", IdIn(ended), "--receipts", receipts];
        Assert.Contains($"at position {recorded}\n", (await Kr.Succeed(again)).Output);
        Assert.Equal([$"calllog-{recorded}.json"], Directory.GetFiles(receipts).Select(Path.GetFileName));
        Assert.All(Directory.GetFiles(receipts), f => Assert.Equal(PrivateFiles.Mode, File.GetUnixFileMode(f)));
    }

    [Fact]
    public async Task A_write_whose_receipt_proves_nothing_ends_with_its_id_and_is_kept()
    {
        services.Later = answer =>
        {
            if (answer is LogCallResponse logged)
                logged.Call = "call_0";
            return answer;
        };
        var ended = await Kr.Run(LogCall);
        services.Later = null;
        Assert.Equal(ExitCodes.WasRefused, ended.Code);
        Assert.Contains("proves nothing", ended.Error);
        Assert.Contains(IdIn(ended), (await Kr.Succeed("sent")).Output);
    }

    [Fact]
    public async Task A_write_that_waits_takes_no_other_content_and_is_asked_about()
    {
        var id = IdIn(await Refused(Reason.Overloaded, LogCall));
        string[] again = ["calllog", "log-call", "--request-id", id];
        var (file, before) = (Path.Combine(services.Folder, Path.GetRandomFileName()), await Calls());
        await File.WriteAllTextAsync(file, "{}", Cancel);
        foreach (
            var other in (string[][])
                [
                    ["--subject", "transfer"],
                    ["--json", file],
                    ["--account.minutes.to", "kr/mfa"],
                ]
        )
        {
            var ran = await Kr.Run([.. again, .. other]);
            Assert.Equal(ExitCodes.WrongInput, ran.Code);
            Assert.Contains($"{id} waits and is sent as it was: leave out {other[0]}", ran.Error);
        }
        var no = await (Kr with { Typed = "n\n" }).Run(again);
        Assert.Equal(ExitCodes.Declined, no.Code);
        Assert.Contains("channel: telephone", no.Error);
        Assert.Contains("it was not sent again", no.Error);
        Assert.Equal(id, IdIn(no));
        Assert.Equal(before, await Calls());
        await (Kr with { Typed = "y\n" }).Succeed(again);
        Assert.Equal(before + 1, await Calls());
    }

    [Fact]
    public async Task The_line_that_sends_a_write_again_does_so_in_any_shell_and_only_as_its_participant()
    {
        var receipts = Path.Combine(services.Folder, Path.GetRandomFileName());
        var shared = Kr with { Variables = new Dictionary<string, string> { ["MINISTRIES_RECEIPTS"] = receipts } };
        var told = await Refused(Reason.Overloaded, LogCall, shared);
        var (id, line) = (IdIn(told), told.Error.Split('\n').Single(l => l.StartsWith("  ministry ", StringComparison.Ordinal)).Trim());

        // Another participant with the same folder sees whose it is.
        var other = shared with
        {
            As = "ua/mfa",
        };
        var ran = await other.Run("calllog", "log-call", "--request-id", id);
        Assert.Equal(ExitCodes.WrongInput, ran.Code);
        Assert.Contains("of a write of kr/mfa, not of ua/mfa", ran.Error);
        Assert.Contains($"  again: {line}\n", (await other.Succeed("sent")).Output);
        var listed = Assert.Single(JsonNode.Parse((await other.Succeed("sent", "-j")).Output)!.AsArray())!;
        Assert.Equal(("kr/mfa", line), ((string)listed["participant"]!, (string)listed["command"]!));

        var words = await Processes.Output(new ProcessStartInfo("bash", ["-c", $"printf '%s\\n' {line}"]));
        string[] unset = ["FOLDER", "CALLLOG", "CUSTODY", "CONSULAR"];
        var empty = new CommandRunner(services) { Variables = unset.ToDictionary(name => $"MINISTRIES_{name}", _ => "") };
        Assert.Contains(id, (await empty.Succeed(words.Split('\n')[1..^1])).Output);
        Assert.DoesNotContain(id, (await other.Succeed("sent")).Output);
    }

    [Fact]
    public async Task A_write_without_an_answer_is_not_sent_where_it_is_only_to_be_shown()
    {
        services.Before = request =>
            request is LogCallRequest ? throw new Refusal(Errors.V1.Reason.Overloaded).ToException() : Task.CompletedTask;
        var id = (await Kr.Run(LogCall)).Error.Split("request_id: ")[1].Split('\n')[0];
        services.Before = null;
        string[] again = ["calllog", "log-call", "--request-id", id];
        var before = await Calls();
        var shown = (await Kr.Succeed([.. again, "--dry-run"])).Output;
        Assert.Contains("nothing is sent", shown);
        Assert.Contains(id, shown);
        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        await Kr.Succeed([.. again, "--out", file]);
        Assert.Contains(id, await File.ReadAllTextAsync(file, Cancel));
        Assert.Equal(before, await Calls());
        await Kr.Succeed(again);
        Assert.Equal(before + 1, await Calls());
    }

    [Fact]
    public async Task An_interrupted_write_ends_without_a_stack_trace_and_says_how_to_send_it_again()
    {
        using var interrupt = new CancellationTokenSource();
        var ran = await Unanswered(() => (Kr with { Interrupt = interrupt.Token }).Run(LogCall), interrupt.Cancel);
        Assert.Equal(130, ran.Code);
        Assert.Contains("ministry calllog log-call --request-id ", ran.Error);
        Assert.DoesNotContain("   at ", ran.Error);
        var id = ran.Error.Split("request_id: ")[1].Split('\n')[0];

        Assert.Contains("`ministry sent` lists", (await Kr.Run("doctor", "-j")).Output);
        Assert.Contains(
            id,
            JsonNode.Parse((await Kr.Succeed("sent", "list", "-j")).Output)!.AsArray().Select(s => (string)s!["request_id"]!)
        );
        Assert.Equal([id], (await Kr.Succeed("completion", "words", "--", "sent", "drop", id[..20])).Output.Split('\n')[..^1]);
        Assert.Equal(2, (await Kr.Run("sent", "drop", id, MinistryClient.NewRequestId())).Code);
        await Kr.Succeed("sent", "drop", id);
        Assert.DoesNotContain(id, (await Kr.Succeed("sent")).Output);
        Assert.Equal(2, (await Kr.Run("sent", "drop", id)).Code);
    }

    [Fact]
    public async Task A_write_that_cannot_have_been_sent_leaves_nothing_behind()
    {
        using var silent = new TcpListener(IPAddress.Loopback, 0);
        silent.Start();
        foreach (
            var runner in (CommandRunner[])
                [
                    Nobody,
                    Kr with
                    {
                        Variables = new Dictionary<string, string>
                        {
                            ["MINISTRIES_CALLLOG"] = $"https://{silent.LocalEndpoint}",
                            ["MINISTRIES_TIMEOUT"] = "1",
                        },
                    },
                ]
        )
        {
            var before = Waiting();
            var ran = await runner.Run(LogCall);
            Assert.Equal(3, ran.Code);
            Assert.Contains("nothing was sent", ran.Error);
            Assert.DoesNotContain("not known", ran.Error);
            Assert.Equal(before, Waiting());
        }

        string[] Waiting() =>
            Directory.Exists(Path.Combine(services.Folder, "kr/mfa/receipts"))
                ? Directory.GetFiles(Path.Combine(services.Folder, "kr/mfa/receipts"), "sent-*")
                : [];
    }

    [Fact]
    public async Task A_person_is_asked_though_a_value_comes_from_the_input()
    {
        const string Minutes = """{ "minutes": { "language": "en", "text": "Invented." } }""";
        var before = await Calls();
        var no = await (Kr with { Input = Minutes, Typed = "n\n" }).Run([.. LogCall, "--minutes", "-"]);
        Assert.Contains("[y/N]", no.Error);
        Assert.Equal(before, await Calls());
        await (Kr with { Input = Minutes, Typed = "y\n" }).Succeed([.. LogCall, "--minutes", "-"]);
        Assert.Equal(before + 1, await Calls());

        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        await File.WriteAllTextAsync(file, Minutes, Cancel);
        using var terminal = new PseudoTerminal(
            services,
            $"cat {file} | {PseudoTerminal.Line(["ministry", .. LogCall, "--minutes", "-"])}",
            ("MINISTRIES_ZONE", "Asia/Seoul")
        );
        await terminal.Until("[y/N]");
        await terminal.Type("n\n");
        Assert.Equal(ExitCodes.Declined, await terminal.End());
        Assert.Contains("nothing was sent", terminal.Output);
        Assert.Equal(before + 1, await Calls());
    }

    [Fact]
    public async Task A_person_is_asked_though_errors_go_into_a_file()
    {
        var (file, before) = (Path.Combine(services.Folder, Path.GetRandomFileName()), await Calls());
        using var terminal = new PseudoTerminal(
            services,
            $"{PseudoTerminal.Line(["ministry", .. LogCall])} 2>{file}",
            ("MINISTRIES_ZONE", "Asia/Seoul")
        );
        await terminal.Until("[y/N]");
        Assert.Contains("telephone", terminal.Output);
        await terminal.Type("n\n");
        Assert.Equal(ExitCodes.Declined, await terminal.End());
        Assert.Contains("nothing was sent", terminal.Output);
        Assert.Equal(before, await Calls());
    }

    [Fact]
    public async Task The_input_is_read_for_one_value_and_two_that_need_it_are_named()
    {
        foreach (
            var (arguments, said) in ((string[], string)[])
                [
                    (["--json", "-", "--minutes", "-"], "--json and --minutes read standard input"),
                    (["--minutes", "@-", "--account", "-"], "--account and --minutes read standard input"),
                ]
        )
        {
            var ran = await (Kr with { Input = "{}" }).Run([.. LogCall, .. arguments]);
            Assert.Equal(2, ran.Code);
            Assert.Contains(said, ran.Error);
        }
        // Of one alone, a request comes from the input.
        var request = Contract.Formatter.Format(services.Call());
        Assert.Contains("recorded", (await (Kr with { Input = request }).Succeed("calllog", "log-call", "--json", "-")).Output);
    }

    [Fact]
    public async Task A_request_is_written_out_for_officials_who_read_it_in_words_and_sent_with_their_approvals()
    {
        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        await Kr.Succeed([.. LogCall, "--out", file]);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));
        string[] Approve(string key) => Approval(services, file, key);
        var nobody = new CommandRunner(services);

        var shown = await (nobody with { Typed = "y\n" }).Succeed(Approve("kr/mfa/officials/kr-mfa-official-2.key"));
        Assert.Contains("One side logs a call with its account of it.", shown.Error);
        Assert.Contains("counterpart: ua/mfa", shown.Error);
        Assert.Contains("your key: kr/mfa/approvals-2, of kr-mfa-official-2", shown.Error);
        var text = await File.ReadAllTextAsync(file, Cancel);

        foreach (
            var (runner, key, said) in ((CommandRunner, string, string)[])
                [
                    (nobody, "kr/mfa/officials/kr-mfa-official-2.key", "approved it already"),
                    (nobody, "ua/mfa/officials/ua-mfa-official-1.key", "does not count"),
                    (Kr, "ua/mfa/officials/ua-mfa-official-1.key", "counts only for its own participant"),
                    (nobody, "kr/mfa/requests.key", "is no key for approvals"),
                ]
        )
        {
            var refused = await runner.Run(Approve(key));
            Assert.Equal(2, refused.Code);
            Assert.Contains(said, refused.Error);
        }
        Assert.Equal(
            ExitCodes.Declined,
            (await (nobody with { Typed = "n\n" }).Run(Approve("kr/mfa/officials/kr-mfa-official-3.key"))).Code
        );
        Assert.Equal(text, await File.ReadAllTextAsync(file, Cancel));
        await Kr.Succeed("calllog", "log-call", "--json", file);

        var changed = JsonNode.Parse(text)!;
        changed["account"]!["channel"] = "CHANNEL_VIDEO";
        await File.WriteAllTextAsync(file, changed.ToJsonString(), Cancel);
        Assert.Contains("the request was changed since", (await nobody.Run(Approve("kr/mfa/officials/kr-mfa-official-3.key"))).Error);
    }

    [Fact]
    public async Task What_is_sealed_in_a_request_is_shown_to_an_official_who_can_open_it()
    {
        const string Words = "They spoke of an invented matter.";
        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        var minutes = $$"""{ "minutes": { "language": "en", "text": "{{Words}}" } }""";
        await (Kr with { Input = minutes }).Succeed([.. LogCall, "--minutes", "-", "--out", file]);
        string[] Approve(string key) => Approval(services, file, $"kr/mfa/officials/kr-mfa-official-{key}.key");
        var shown = await (new CommandRunner(services) { Typed = "n\n" }).Run(Approve("2"));
        Assert.Contains("account.minutes, sealed to kr/mfa:", shown.Error);
        Assert.Contains(Words, shown.Error);

        // On a machine of his own he has the agreement, and not the ministry's key.
        var own = Directory.CreateTempSubdirectory("official").FullName;
        try
        {
            File.Copy(Path.Combine(services.Folder, "agreement.json"), Path.Combine(own, "agreement.json"));
            var variables = new Dictionary<string, string> { ["MINISTRIES_FOLDER"] = own };
            var hidden = await new CommandRunner(services) { Typed = "n\n", Variables = variables }.Run(Approve("2"));
            Assert.DoesNotContain(Words, hidden.Error);
            Assert.Contains("account.minutes is sealed to kr/mfa: what it says is not shown here", hidden.Error);
        }
        finally
        {
            Directory.Delete(own, recursive: true);
        }

        // What was sealed for another request is not this one's, and of one without an id it is another's too: it gets one of its own.
        var request = JsonNode.Parse(await File.ReadAllTextAsync(file, Cancel))!;
        foreach (var id in (string[])[MinistryClient.NewRequestId(), ""])
        {
            request["request_id"] = id;
            await File.WriteAllTextAsync(file, request.ToJsonString(), Cancel);
            var moved = await (new CommandRunner(services) { Typed = "n\n" }).Run(Approve("2"));
            Assert.Contains("account.minutes is sealed to kr/mfa, and cannot be shown", moved.Error);
            Assert.DoesNotContain(Words, moved.Error);
        }
    }

    /// <summary>Who prepares a request may want him to read something else than he signs.</summary>
    [Fact]
    public async Task An_official_is_shown_another_message_as_none_and_a_text_that_deceives_with_a_mark_and_no_line_of_a_clerks()
    {
        const string Forged = "  your key: of somebody else";
        var call = services.Call();
        call.RequestId = MinistryClient.NewRequestId();
        var client = services.As("kr/mfa");
        var own = Recipient.Of(
            client.Agreement.Participants.First(p => p.Id == "kr/mfa"),
            Google.Protobuf.WellKnownTypes.Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow),
            "minutes"
        );
        var context = new SealContext(call.Case, call.RequestId, "account.minutes", "kr/mfa");

        call.Account.Minutes = Sealer.Seal(new PersonIdentity { Rank = "private" }, context, [own]);
        var another = await Shown();
        Assert.Contains("account.minutes is sealed to kr/mfa, and cannot be shown", another);
        Assert.DoesNotContain("rank: private", another);

        var minutes = new CallMinutes
        {
            Minutes = new Text { Language = "en", Text_ = "yes \u202Eon" },
        };
        call.Account.Minutes = Sealer.Seal(minutes, context, [own]);
        var deceiving = await Shown();
        Assert.Contains("not as the contract declares it: minutes", deceiving);
        Assert.DoesNotContain("\u202E", deceiving);

        call.Account.Minutes.Recipients.Add($"icrc\n{Forged}");
        Assert.DoesNotContain(Forged, (await Shown()).Split('\n'));

        async Task<string> Shown()
        {
            var file = Path.Combine(services.Folder, Path.GetRandomFileName());
            await File.WriteAllTextAsync(file, Contract.Formatter.Format(call), Cancel);
            string[] words = ["approve", "calllog", "log-call", "--json", file, "--office", "legal", "--key"];
            var key = Path.Combine(services.Folder, "kr/mfa/officials/kr-mfa-official-2.key");
            return (await (new CommandRunner(services) { Typed = "n\n" }).Run([.. words, key])).Error;
        }
    }

    [Fact]
    public async Task An_acting_officials_own_approval_is_refused()
    {
        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        await Kr.Succeed([
            .. LogCall.SkipLast(Official.Length),
            "--office",
            "legal",
            "--official",
            "kr-mfa-official-1",
            "--authority",
            "order-12",
            "--out",
            file,
        ]);
        var ran = await new CommandRunner(services).Run(Approval(services, file, "kr/mfa/officials/kr-mfa-official-1.key"));
        Assert.Equal(2, ran.Code);
        Assert.Contains("his own approval does not count", ran.Error);
    }

    [Fact]
    public async Task A_prisoner_is_registered_from_a_file_and_a_statement_gets_its_commitments()
    {
        var hq = Kr with { As = "ua/coordination-hq" };
        var identity = Path.Combine(services.Folder, Path.GetRandomFileName());
        await File.WriteAllTextAsync(identity, """{ "name": { "original": "Ra Ma-ba", "script": "Latn" }, "rank": "private" }""", Cancel);
        // A case of its own, because others count its prisoners.
        var @case = Line((await hq.Succeed(["custody", "open-case", .. Official])).Output, "case");
        var prisoner = Line(
            (
                await hq.Succeed([
                    "custody",
                    "register-prisoner",
                    "--case",
                    @case,
                    "--status",
                    "registered",
                    "--capture",
                    "2025-01-09T00:00Z",
                    "--identity",
                    $"@{identity}",
                    .. Official,
                ])
            ).Output,
            "prisoner"
        );
        Assert.Contains("Ra Ma-ba", (await hq.Succeed("open", prisoner)).Output);
        var words = Path.Combine(services.Folder, Path.GetRandomFileName());
        await File.WriteAllTextAsync(words, """{ "accepted_destinations": ["KR"] }""", Cancel);
        var recorded = await hq.Succeed([
            "custody",
            "record-statement",
            "--case",
            @case,
            "--prisoner",
            prisoner,
            "--statement-time",
            "2025-02-01T10:00Z",
            "--language",
            "ko",
            "--language-understood",
            "--uncoerced",
            "--without-interpreter",
            "--content",
            $"@{words}",
            .. Official,
        ]);
        Assert.Contains("statement: statement_", recorded.Output);
    }

    private CommandRunner Kr => new(services) { As = "kr/mfa" };

    private CommandRunner Nobody =>
        Kr with
        {
            Variables = new Dictionary<string, string>
            {
                ["MINISTRIES_CALLLOG"] = $"https://127.0.0.1:{Ports.Free()}",
                ["MINISTRIES_TIMEOUT"] = "1",
            },
        };

    private static string IdIn(Ran ran) => ran.Error.Split("request_id: ")[1].Split('\n')[0];

    // Runs something while the call log refuses every call that is logged.
    private async Task<Ran> Refused(Reason reason, string[] words, CommandRunner? runner = null)
    {
        services.Before = request => request is LogCallRequest ? throw new Refusal(reason).ToException() : Task.CompletedTask;
        try
        {
            return await (runner ?? Kr).Run(words);
        }
        finally
        {
            services.Before = null;
        }
    }

    // While something runs, the call log answers no write.
    private async Task<Ran> Unanswered(Func<Task<Ran>> run, Action? arrived = null)
    {
        var over = new TaskCompletionSource();
        services.Before = request =>
        {
            if (request is not LogCallRequest)
                return Task.CompletedTask;
            arrived?.Invoke();
            return over.Task;
        };
        try
        {
            return await run();
        }
        finally
        {
            services.Before = null;
            over.SetResult();
        }
    }

    // Why a readout is contested is sealed, so it stands in a file.
    private string Explanation()
    {
        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        File.WriteAllText(file, """{ "reason": { "language": "en", "text": "not so" } }""");
        return $"@{file}";
    }

    private async Task<int> Calls()
    {
        using var client = services.As("kr/mfa");
        var page = await client.CallLog.ListCallsAsync(new ListCallsRequest { PageSize = 200 }, cancellationToken: Cancel);
        return page.Calls.Count;
    }

    private static string Line(string output, string name) =>
        output.Split('\n').Single(l => l.StartsWith($"{name}: ", StringComparison.Ordinal))[(name.Length + 2)..];

    // A person who takes his time: something happens before he answers.
    private sealed class Meanwhile(Func<Task> happens) : TextReader
    {
        public override string ReadLine()
        {
            happens().GetAwaiter().GetResult();
            return "y";
        }
    }

    /// <summary>The words with which an official of the legal office approves a call.</summary>
    /// <param name="services">The services.</param>
    /// <param name="file">The file of the request.</param>
    /// <param name="key">The file of his key, in the folder of the services.</param>
    internal static string[] Approval(Services services, string file, string key) =>
        ["approve", "calllog", "log-call", "--json", file, "--office", "legal", "--key", Path.Combine(services.Folder, key)];
}
