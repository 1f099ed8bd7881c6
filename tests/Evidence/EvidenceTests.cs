using System.Diagnostics;
using System.Text;
using Google.Protobuf;
using Ministries.Client;
using Ministries.Evidence.V1;
using Ministries.Ledger.V1;
using Ministries.Ministry;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Evidence.Tests;

/// <summary>What an evidence file proves, and that nobody can change it, not even its exporter. Both verifiers judge it.</summary>
public sealed class EvidenceTests(CaseFiles files)
{
    private const string Seoul = "kr/mfa";
    private const string Headquarters = "ua/coordination-hq";

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_case_is_proved_by_the_signatures_of_all_who_acted()
    {
        foreach (var participant in (string[])[Seoul, Headquarters])
        {
            var file = files.Of(participant);
            var report = EvidenceVerification.Verify(file, AgreementVersions.DigestOf(Agreement()));
            Assert.Null(report.Break);
            Assert.True(report.Anchored);
            Assert.Null((await Node.Verify([file], Cancel))[0]);
            Assert.Equal(["calllog", "consular", "custody"], report.Logs.Select(l => l.Service));
            Assert.All(report.Logs, l => Assert.Equal(["icrc", Seoul], l.Cosigned.Select(c => c.Participant)));
            Assert.Subset(
                report.Entries.Where(e => e.Key.Length > 0).Select(e => e.Header.Participant).ToHashSet(),
                new HashSet<string> { Seoul, Headquarters, "ua/mfa" }
            );
        }
        var decided = EvidenceVerification
            .Verify(files.Of(Seoul))
            .Entries.Where(e => e.Header.Method.EndsWith("/DecideTransfer", StringComparison.Ordinal))
            .ToList();
        Assert.Equal(2, decided.Count);
        Assert.All(decided, e => Assert.Equal(["ua-coordination-hq-official-2", "ua-coordination-hq-official-3"], e.Approvers));
    }

    [Fact]
    public void An_observers_entries_are_marked_as_privileged_and_the_rest_is_proved()
    {
        var report = EvidenceVerification.Verify(files.Of(Headquarters));
        var observers = report.Entries.Where(e => e.Header.Participant == "icrc").ToList();
        Assert.Contains(observers, e => e.Header.Method.EndsWith("/AttestStatement", StringComparison.Ordinal));
        Assert.All(observers, e => Assert.True(e.Privileged && e.Parts.Count == 0));
        Assert.DoesNotContain(report.Entries, e => e.Privileged && e.Header.Participant != "icrc");
        var text = new StringWriter();
        var shell = new Shell { Variable = _ => null, Input = () => TextReader.Null };
        EvidenceText.Write(report, new Screen(text, shell));
        Assert.Contains($"that a neutral observer made {observers.Count} entries, and what it wrote in them", text.ToString());
        Assert.Contains("by the service's word; privileged, not shown", text.ToString());
        // Nothing in the file shows their signatures.
        Assert.DoesNotContain("signed by it", text.ToString());
    }

    [Theory]
    [InlineData("the later ones show no numbers"), InlineData("none shows a number"), InlineData("none shows a number of an audience")]
    public async Task An_entry_that_its_exporter_left_out_is_not_said_to_be_there(string shown)
    {
        var lines = CaseFiles.LinesOf(files.Of(Seoul));
        var consular = lines
            .SkipWhile(l => l.Log?.Service != "consular")
            .Skip(1)
            .TakeWhile(l => l.Entry is not null)
            .Select(l => (Line: l, l.Entry, EntryHeader.Parser.ParseFrom(l.Entry.Header).Position))
            .ToList();
        var (left, at) = (consular[^3], consular.Count - 3);
        var dropped = left.Entry.Audience.Select(n => n.Audience).ToHashSet();
        Assert.NotEmpty(dropped);
        lines.Remove(left.Line);
        foreach (var (_, entry, _) in shown == "the later ones show no numbers" ? consular[at..] : consular)
            if (shown != "none shows a number of an audience")
                entry.Audience.Clear();
            else
                foreach (var number in entry.Audience.Where(n => dropped.Contains(n.Audience)).ToList())
                    entry.Audience.Remove(number);
        var file = files.Sealed(lines, Seoul);

        var report = EvidenceVerification.Verify(file);
        Assert.Null(report.Break);
        var reached = consular.Where(e => e.Line != left.Line && e.Entry.Audience.Count > 0).Select(e => (ulong?)e.Position).Max();
        var log = report.Logs.Single(l => l.Service == "consular");
        Assert.DoesNotContain(log.Complete, c => c.Position > reached || c.Position >= left.Position && dropped.Contains(c.Audience));
        var json = EvidenceText.ToJson(report);
        var said = json["proved"]!.AsArray().Select(l => (string)l!).Where(l => l.Contains("left out of consular")).ToList();
        Assert.Equal(reached is null ? 0 : 1, said.Count);
        var not = json["not_proved"]!.AsArray().Select(l => (string)l!).Where(l => l.Contains("left out of consular")).ToList();
        var unproved = $"that nothing was left out of consular{(reached is null ? "" : $" after entry {reached}")}";
        Assert.Equal(reached == consular[^1].Position ? 0 : 1, not.Count);
        Assert.All(not, l => Assert.StartsWith(unproved, l));

        var path = Path.Combine(files.Folder, Path.GetRandomFileName());
        await File.WriteAllBytesAsync(path, file, Cancel);
        var (code, text) = await Node.Run(Cancel, path);
        Assert.Equal(0, code);
        Assert.Equal(not.Count > 0, text.Contains(unproved, StringComparison.Ordinal));
        var proved = text[..text.IndexOf("Not proved", StringComparison.Ordinal)];
        Assert.Equal(
            said.Count,
            proved.Split('\n').SkipWhile(l => !l.StartsWith("Log consular")).Skip(1).Take(1).Count(l => l.Contains("left out"))
        );
    }

    [Fact]
    public void A_file_of_one_request_is_not_said_to_be_complete()
    {
        var lines = CaseFiles.LinesOf(files.Of(Seoul));
        var own = lines
            .Where(l => l.Entry is { Receipt: not null })
            .Select(l => EntryHeader.Parser.ParseFrom(l.Entry.Header))
            .First(h => h.Participant == Seoul);
        (lines[0].Head.Case, lines[0].Head.RequestId) = ("", own.RequestId);
        var json = EvidenceText.ToJson(EvidenceVerification.Verify(files.Sealed(lines, Seoul)));
        Assert.DoesNotContain(json["proved"]!.AsArray(), l => ((string)l!).Contains("left out"));
        Assert.Contains("that nothing was left out: the file is of one request", json["not_proved"]!.AsArray().Select(l => (string)l!));
    }

    [Fact]
    public void What_the_requesting_state_may_not_know_is_not_in_its_file()
    {
        var text = Encoding.UTF8.GetString(files.Of(Seoul));
        var report = EvidenceVerification.Verify(files.Of(Seoul));
        Assert.DoesNotContain(report.Entries, e => e.Header.Method.Contains("Statement", StringComparison.Ordinal));
        Assert.DoesNotContain(report.Entries, e => e.Header.Participant == "icrc");
        Assert.DoesNotContain(":UA", text.Replace("\"p:UA", "", StringComparison.Ordinal), StringComparison.Ordinal);
    }

    [Fact]
    public void An_agreement_of_somebody_else_is_not_the_readers()
    {
        var own = Agreement();
        own.Participants[0].SigningKeys[0].PublicKey = ByteString.CopyFrom(new byte[32]);
        var report = EvidenceVerification.Verify(files.Of(Seoul), AgreementVersions.DigestOf(own));
        Assert.Equal(3, report.Break?.Line);
        Assert.Contains("the reader's own agreement", report.Break!.Meaning);
    }

    [Fact]
    public async Task No_byte_of_it_can_be_changed_unnoticed()
    {
        var file = files.Of(Seoul);
        var starts = Starts(file);
        var changed = new List<(byte[] File, int Line)>();
        for (var at = 0; at < file.Length; at += 257)
        {
            var other = (byte[])file.Clone();
            other[at] ^= (byte)(1 << at % 8);
            changed.Add((other, 1 + starts.FindLastIndex(s => s <= at)));
        }
        await AllBreak(changed);
    }

    [Fact]
    public async Task No_line_can_be_removed_repeated_moved_or_put_in_unnoticed()
    {
        var lines = Encoding.UTF8.GetString(files.Of(Headquarters)).TrimEnd('\n').Split('\n');
        var changed = new List<(byte[] File, int Line)>();
        for (var i = 0; i < lines.Length; i++)
        {
            changed.Add((Joined(lines.Where((_, n) => n != i)), Math.Min(i + 1, lines.Length - 1)));
            changed.Add((Joined([.. lines[..(i + 1)], .. lines[i..]]), i + 2));
            if (i + 1 < lines.Length)
                changed.Add((Joined([.. lines[..i], lines[i + 1], lines[i], .. lines[(i + 2)..]]), i + 2 == lines.Length ? i + 2 : i + 1));
        }
        await AllBreak(changed);
        Assert.NotNull(EvidenceVerification.Verify([]).Break);

        static byte[] Joined(IEnumerable<string> lines) => Encoding.UTF8.GetBytes(string.Concat(lines.Select(l => l + "\n")));
    }

    [Fact]
    public async Task A_log_without_a_name_breaks_where_its_entries_are_anothers()
    {
        var lines = CaseFiles.LinesOf(files.Of(Seoul));
        lines[1].Log.Service = "";
        var file = files.Sealed(lines, Seoul);
        Assert.Equal(3, EvidenceVerification.Verify(file).Break?.Line);
        Assert.Equal(3, (await Node.Verify([file], TestContext.Current.CancellationToken))[0]?.Line);
    }

    [Fact]
    public async Task A_version_that_lists_a_public_key_twice_breaks_in_both()
    {
        var lines = CaseFiles.LinesOf(files.Of(Seoul));
        var part = lines[2].Entry.Parts.Single(p => p.Kind == PartKind.Request);
        var version = Types.V1.Agreement.Parser.ParseFrom(part.Data);
        var keys = version.Participants.Single(p => p.Id == Seoul).SigningKeys;
        var again = keys.First(k => k.Use == SigningKeyUse.Approvals).Clone();
        (again.Id, again.Official) = ($"{Seoul}/approvals-9", "kr-mfa-official-9");
        keys.Add(again);
        version.Signatures.Clear();
        foreach (var signer in version.Participants.Where(AgreementVersions.Signs))
            AgreementVersions.Sign(
                version,
                signer.Id,
                signer.SigningKeys.First(k => k.Use == SigningKeyUse.Agreements).Id,
                Fixtures.Signing.KeyIn(Path.Combine(files.Certificates, signer.Id, "agreements.key"))
            );
        part.Data = version.ToByteString();
        var file = files.Sealed(lines, Seoul);
        var found = EvidenceVerification.Verify(file).Break;
        var node = (await Node.Verify([file], TestContext.Current.CancellationToken))[0];
        Assert.Equal((3, 3), (found?.Line, node?.Line));
        Assert.Contains("public key", found!.Meaning);
        Assert.Contains("public key", node!.Value.Meaning);
    }

    public static readonly TheoryData<string> Forgeries =
    [
        "an entry is left out",
        "the request is another one",
        "the signature is left out",
        "the signature is of another request",
        "the events are left out",
        "the events are of another entry",
        "a header is altered",
        "a proof is of another entry",
        "two entries change places",
        "the agreement lists the exporter's own key for another",
        "the agreement is left out",
        "the checkpoint is of another log",
        "the checkpoint's root is altered",
        "a receipt is of another entry",
        "a receipt's time is altered",
        "a receipt shows its entry",
        "an entry is called privileged",
        "an approval is of another request",
        "a number of an audience is altered",
        "it is said to be another's",
        "it is said to be of another case",
        "a part's salt takes its first byte from the data",
        "a part is called erased",
        "the events are called erased",
        "a cosignature is of another log",
        "a header's time is none",
        "a time in the agreement is none",
        "a cosignature of another log stands beside the true one",
    ];

    /// <summary>The exporter himself alters the file and signs it again.</summary>
    [Theory]
    [MemberData(nameof(Forgeries))]
    public async Task Its_exporter_cannot_forge_it(string forgery)
    {
        var lines = CaseFiles.LinesOf(files.Of(Seoul));
        var line = Forge(forgery, lines);
        await AllBreak([(files.Sealed(lines, Seoul), line)]);
    }

    // Alters the lines. Returns the number, from 1, of the line that breaks.
    private static int Forge(string forgery, List<EvidenceLine> lines)
    {
        var entries = lines
            .Index()
            .Where(l => l.Item.Entry is not null)
            .Select(l => (l.Index, l.Item.Entry, Header: EntryHeader.Parser.ParseFrom(l.Item.Entry.Header)))
            .ToList();
        var decided = entries.Where(e => e.Header.Method.EndsWith("/DecideTransfer", StringComparison.Ordinal)).ToList();
        var (first, other) = (decided[0], decided[1]);
        var own = entries.First(e => e.Entry.Receipt is not null);
        var agreement = entries.First(e => e.Header.Method == "agreement");
        var line = first.Index + 1;
        switch (forgery)
        {
            case "an entry is left out":
                lines.RemoveAt(first.Index);
                // The next entry for the same audience then skips a number.
                var audiences = first.Entry.Audience.Select(n => n.Audience).ToHashSet();
                line = lines.FindIndex(first.Index, l => l.Entry?.Audience.Any(n => audiences.Contains(n.Audience)) == true) + 1;
                break;
            case "the request is another one":
                Part(first.Entry, PartKind.Request).Data = Part(other.Entry, PartKind.Request).Data;
                break;
            case "the signature is left out":
                first.Entry.Parts.Remove(Part(first.Entry, PartKind.Signature));
                break;
            case "the signature is of another request":
                Part(first.Entry, PartKind.Signature).MergeFrom(Part(other.Entry, PartKind.Signature));
                break;
            case "the events are left out":
                first.Entry.Parts.Remove(Part(first.Entry, PartKind.Events));
                break;
            case "the events are of another entry":
                Part(first.Entry, PartKind.Events).MergeFrom(Part(other.Entry, PartKind.Events));
                break;
            case "a header is altered":
                first.Header.CommitTime.Seconds++;
                first.Entry.Header = first.Header.ToByteString();
                break;
            case "a header's time is none":
                first.Header.CommitTime.Nanos = -1;
                first.Entry.Header = first.Header.ToByteString();
                break;
            case "a time in the agreement is none":
                var adopted = Part(agreement.Entry, PartKind.Request);
                var timed = Types.V1.Agreement.Parser.ParseFrom(adopted.Data);
                foreach (var key in timed.Participants.SelectMany(p => p.SigningKeys))
                    key.ValidFromTime = new Google.Protobuf.WellKnownTypes.Timestamp { Seconds = long.MaxValue };
                adopted.Data = timed.ToByteString();
                line = agreement.Index + 1;
                break;
            case "a proof is of another entry":
                first.Entry.Proof.Clear();
                first.Entry.Proof.AddRange(other.Entry.Proof);
                break;
            case "two entries change places":
                (lines[first.Index], lines[other.Index]) = (lines[other.Index], lines[first.Index]);
                line = first.Index + 2;
                break;
            case "the agreement lists the exporter's own key for another":
                var part = Part(agreement.Entry, PartKind.Request);
                var altered = Types.V1.Agreement.Parser.ParseFrom(part.Data);
                Key(altered, Headquarters).PublicKey = Key(altered, Seoul).PublicKey;
                part.Data = altered.ToByteString();
                line = agreement.Index + 1;
                break;
            case "the agreement is left out":
                lines.RemoveAt(agreement.Index);
                line = agreement.Index + 1;
                break;
            case "the checkpoint is of another log":
                lines[1].Log.Checkpoint = lines.Last(l => l.Log is not null).Log.Checkpoint;
                line = 2;
                break;
            case "the checkpoint's root is altered":
                var text = lines[1].Log.Checkpoint.Split('\n');
                text[2] = Convert.ToBase64String(new byte[32]);
                lines[1].Log.Checkpoint = string.Join('\n', text);
                line = 2;
                break;
            case "a receipt is of another entry":
                own.Entry.Receipt = entries.Last(e => e.Entry.Receipt is not null).Entry.Receipt;
                line = own.Index + 1;
                break;
            case "a receipt's time is altered":
                own.Entry.Receipt.CommitTime.Seconds--;
                line = own.Index + 1;
                break;
            case "a receipt shows its entry":
                own.Entry.Receipt.Header = own.Entry.Header;
                line = own.Index + 1;
                break;
            case "an entry is called privileged":
                first.Entry.Privileged = true;
                first.Entry.Parts.Clear();
                break;
            case "an approval is of another request":
                var request = Consular.V1.DecideTransferRequest.Parser.ParseFrom(Part(first.Entry, PartKind.Request).Data);
                request.Approvals.Clear();
                request.Approvals.Add(
                    Consular.V1.DecideTransferRequest.Parser.ParseFrom(Part(other.Entry, PartKind.Request).Data).Approvals
                );
                Part(first.Entry, PartKind.Request).Data = request.ToByteString();
                break;
            case "a number of an audience is altered":
                first.Entry.Audience[0].Number++;
                break;
            case "it is said to be another's":
                lines[0].Head.Participant = Headquarters;
                line = lines.Count;
                break;
            case "it is said to be of another case":
                lines[0].Head.Case = "case_0000000000000000000000000z";
                line = 4;
                break;
            case "a part's salt takes its first byte from the data":
                var moved = Part(first.Entry, PartKind.Events);
                moved.Salt = ByteString.CopyFrom([.. moved.Salt, moved.Data[0]]);
                moved.Data = ByteString.CopyFrom(moved.Data.Span[1..]);
                break;
            case "a part is called erased":
                Part(first.Entry, PartKind.Request).Erased = true;
                break;
            case "the events are called erased":
                var erased = Part(first.Entry, PartKind.Events);
                (erased.Salt, erased.Data, erased.Erased) = (ByteString.Empty, ByteString.Empty, true);
                break;
            case "a cosignature is of another log":
            case "a cosignature of another log stands beside the true one":
                var cosignature = Cosignature(lines.Last(l => l.Log is not null).Log);
                lines[1].Log.Checkpoint = forgery.EndsWith("true one", StringComparison.Ordinal)
                    ? lines[1].Log.Checkpoint + cosignature + "\n"
                    : lines[1].Log.Checkpoint.Replace(Cosignature(lines[1].Log), cosignature, StringComparison.Ordinal);
                line = 2;
                break;
            default:
                Assert.Fail($"no forgery is called {forgery}");
                break;
        }
        return line;

        static string Cosignature(EvidenceLog log) =>
            log.Checkpoint.Split('\n').Single(l => l.Contains("/witness/icrc ", StringComparison.Ordinal));

        static EntryPart Part(EvidenceEntry entry, PartKind kind) => entry.Parts.Single(p => p.Kind == kind);

        static SigningKey Key(Agreement agreement, string participant) =>
            agreement.Participants.Single(p => p.Id == participant).SigningKeys.First(k => k.Use == SigningKeyUse.Requests);
    }

    [Fact]
    public async Task The_commands_export_a_request_and_verify_it_and_say_where_a_file_breaks()
    {
        var (code, output) = await Ministry(
            "evidence",
            "verify",
            files.PathOf(Seoul),
            "--agreement",
            Path.Combine(files.Certificates, "agreement.json")
        );
        Assert.Equal(0, code);
        Assert.StartsWith("The evidence holds: the history of case_", output, StringComparison.Ordinal);
        Assert.Contains("kr/mfa itself made 9 of the requests: each is signed with its key, valid then", output);
        Assert.Contains("the keys are those of the reader's own agreement", output);

        var broken = Path.Combine(files.Folder, "broken.jsonl");
        var file = files.Of(Seoul);
        file[file.Length / 2] ^= 1;
        await File.WriteAllBytesAsync(broken, file, Cancel);
        (code, output) = await Ministry("evidence", "verify", broken);
        Assert.Equal(1, code);
        Assert.StartsWith("BROKEN at line ", output, StringComparison.Ordinal);
        (code, _) = await Ministry("evidence", "verify", Path.Combine(files.Folder, "none"));
        Assert.Equal(2, code);
    }

    [Theory]
    [InlineData(false), InlineData(true)]
    public async Task The_digest_of_an_agreement_is_the_readers_agreement_in_both(bool another)
    {
        var digest = Convert.ToHexString(another ? new byte[32] : AgreementVersions.DigestOf(Agreement()));
        foreach (var given in (string[])[digest, digest.ToLowerInvariant()])
        {
            var (code, output) = await Ministry("evidence", "verify", files.PathOf(Seoul), "--agreement", given);
            var second = await Node.Run(Cancel, files.PathOf(Seoul), "--agreement", given);
            Assert.Equal((another ? 1 : 0, another ? 1 : 0), (code, second.Code));
            Assert.Contains(another ? "BROKEN at line 3" : "the keys are those of the reader's own agreement", output);
            Assert.Contains(another ? "line 3:" : "It is the agreement that you gave", second.Output);
        }
        // A file's content is JSON in both.
        var path = Path.Combine(files.Folder, Path.GetRandomFileName());
        await File.WriteAllTextAsync(path, digest, Cancel);
        Assert.Equal(2, (await Ministry("evidence", "verify", files.PathOf(Seoul), "--agreement", path)).Code);
        Assert.Equal(2, (await Node.Run(Cancel, files.PathOf(Seoul), "--agreement", path)).Code);
    }

    [Fact]
    public async Task The_second_verifiers_own_tests_pass()
    {
        var (code, output) = await Node.Test(Cancel);
        Assert.True(code == 0, output);
    }

    private Agreement Agreement() =>
        JsonParser.Default.Parse<Agreement>(File.ReadAllText(Path.Combine(files.Certificates, "agreement.json")));

    // Both verifiers find each break at its line.
    private static async Task AllBreak(IReadOnlyList<(byte[] File, int Line)> changed)
    {
        var second = await Node.Verify([.. changed.Select(c => c.File)], Cancel);
        for (var i = 0; i < changed.Count; i++)
        {
            var report = EvidenceVerification.Verify(changed[i].File);
            Assert.True(report.Break is not null, $"change {i}, of line {changed[i].Line}, was not noticed");
            Assert.True(second[i] is not null, $"change {i}, of line {changed[i].Line}, was not noticed by the second verifier");
            Assert.True(
                report.Break.Line == second[i]!.Value.Line,
                $"change {i}, of line {changed[i].Line}: {report.Break}; the second verifier: line {second[i]!.Value.Line}: {second[i]!.Value.Meaning}"
            );
            Assert.True(report.Break.Line == changed[i].Line, $"change {i}, of line {changed[i].Line}: {report.Break}");
            Assert.NotEmpty(report.Break.Meaning);
        }
    }

    private static List<int> Starts(byte[] file)
    {
        var starts = new List<int> { 0 };
        for (var i = 0; i < file.Length - 1; i++)
            if (file[i] == '\n')
                starts.Add(i + 1);
        return starts;
    }

    private static async Task<(int Code, string Output)> Ministry(params string[] arguments)
    {
        using var process = Process.Start(
            new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "ministry.dll"), .. arguments])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;
        var error = process.StandardError.ReadToEndAsync(Cancel);
        var output = await process.StandardOutput.ReadToEndAsync(Cancel);
        await process.WaitForExitAsync(Cancel);
        return (process.ExitCode, output + await error);
    }
}
