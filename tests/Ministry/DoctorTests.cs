using System.Text.Json.Nodes;
using Ministries.Client;
using Ministries.Fixtures;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>What the doctor finds, each in a set-up that is broken in one way.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public class DoctorTests(Services services) : IClassFixture<Services>
{
    [Fact]
    public async Task A_set_up_that_works_has_nothing_wrong()
    {
        var ran = await new CommandRunner(services) { As = "kr/mfa" }.Run("doctor");
        Assert.True(ran.Code == 0, ran.Output);
        Assert.DoesNotContain("WRONG", ran.Output);
        foreach (
            var subject in (string[])
                [
                    "agreement: version 1",
                    "certificate: kr/mfa/system",
                    "key for requests: kr/mfa/requests-1",
                    "key for sealing: kr/mfa/sealing-1",
                    "custody: https://",
                ]
        )
            Assert.Contains(subject, ran.Output);
    }

    [Fact]
    public async Task A_missing_agreement_is_found() =>
        await Finds("agreement", "agreement.json", "--folder", folder => File.Delete(Path.Combine(folder, "agreement.json")));

    [Fact]
    public async Task A_forged_agreement_is_found() =>
        await Finds(
            "agreement",
            "refused",
            "get the agreement in force",
            folder =>
            {
                var path = Path.Combine(folder, "agreement.json");
                File.WriteAllText(
                    path,
                    File.ReadAllText(path)
                        .Replace("\"statementValidityDays\": 90", "\"statementValidityDays\": 91", StringComparison.Ordinal)
                );
            }
        );

    [Fact]
    public async Task A_participant_that_the_agreement_does_not_know_is_found()
    {
        var ran = await new CommandRunner(services) { As = "kr/mfaa" }.Run("doctor", "-j");
        Assert.Equal(1, ran.Code);
        Assert.Contains("did you mean --as kr/mfa?", Found(ran, "participant")["remedy"]!.ToString());
    }

    [Fact]
    public async Task A_missing_certificate_is_found() =>
        await Finds(
            "certificate",
            "system.pem",
            "put the certificate chain",
            folder => File.Delete(Path.Combine(folder, "kr/mfa/system.pem"))
        );

    [Fact]
    public async Task A_certificate_of_another_participant_is_found() =>
        await Finds(
            "certificate",
            "ua/mfa's, not kr/mfa's",
            "call as ua/mfa",
            folder =>
            {
                foreach (var file in (string[])["system.pem", "system.key"])
                    File.Copy(Path.Combine(folder, "ua/mfa", file), Path.Combine(folder, "kr/mfa", file), overwrite: true);
            }
        );

    [Fact]
    public async Task An_expired_certificate_is_found() =>
        await Finds("certificate", "expired", "issue a new one", _ => { }, new Shifted(TimeSpan.FromDays(400)));

    [Fact]
    public async Task A_key_that_others_can_read_is_found() =>
        await Finds(
            "key for requests",
            "requests.key",
            "chmod 600",
            folder => File.SetUnixFileMode(Path.Combine(folder, "kr/mfa/requests.key"), (UnixFileMode)0b110_100_100)
        );

    [Fact]
    public async Task A_key_that_the_agreement_does_not_list_is_found() =>
        await Finds(
            "key for requests",
            "kr/mfa",
            "add-key",
            folder => File.Copy(Path.Combine(folder, "ua/mfa/requests.key"), Path.Combine(folder, "kr/mfa/requests.key"), overwrite: true)
        );

    [Fact]
    public async Task A_key_for_sealing_that_is_not_there_is_found()
    {
        var ran = await Broken(folder => File.Delete(Path.Combine(folder, "kr/mfa/sealing.key")));
        Assert.Contains("you cannot open that", Found(ran, "key for sealing")["what"]!.ToString());
    }

    [Fact]
    public async Task A_service_that_does_not_run_is_found_with_who_says_where_it_is()
    {
        var ran = await new CommandRunner(services) { As = "kr/mfa" }.Run(
            "doctor",
            "-j",
            "--address",
            $"custody=https://127.0.0.1:{Ports.Free()}"
        );
        Assert.Equal(1, ran.Code);
        Assert.Contains("the address is from: --address", Found(ran, "custody")["remedy"]!.ToString());
        Assert.Equal("well", Found(ran, "calllog")["health"]!.ToString());
    }

    [Fact]
    public async Task A_service_that_answers_for_another_is_found()
    {
        var ran = await new CommandRunner(services) { As = "kr/mfa" }.Run(
            "doctor",
            "-j",
            "--address",
            $"custody={services.Addresses["calllog"]}"
        );
        Assert.Equal(1, ran.Code);
        Assert.Contains("must show a certificate that the agreement lists", Found(ran, "custody")["remedy"]!.ToString());
    }

    [Fact]
    public async Task A_clock_that_is_wrong_is_found()
    {
        var ran = await Broken(_ => { }, new Shifted(TimeSpan.FromMinutes(5)));
        Assert.Equal(1, ran.Code);
        Assert.Contains("ahead", Found(ran, "clock against custody")["what"]!.ToString());
        Assert.Contains("NTP", Found(ran, "clock against custody")["remedy"]!.ToString());
    }

    private async Task Finds(string subject, string what, string remedy, Action<string> breaks, TimeProvider? time = null)
    {
        var ran = await Broken(breaks, time);
        Assert.Equal(1, ran.Code);
        var found = Found(ran, subject);
        Assert.Equal("wrong", found["health"]!.ToString());
        Assert.Contains(what, found["what"]!.ToString());
        Assert.Contains(remedy, found["remedy"]!.ToString());
        Assert.NotEmpty(found["remedy"]!.ToString());
    }

    // A copy of the folder, with something broken in it.
    private async Task<Ran> Broken(Action<string> breaks, TimeProvider? time = null)
    {
        var folder = Directory.CreateTempSubdirectory("doctor").FullName;
        try
        {
            foreach (var file in (string[])["agreement.json", .. FilesOf("kr/mfa"), .. FilesOf("ua/mfa")])
            {
                var to = Path.Combine(folder, file);
                Directory.CreateDirectory(Path.GetDirectoryName(to)!);
                File.Copy(Path.Combine(services.Folder, file), to);
            }
            breaks(folder);
            return await new CommandRunner(services)
            {
                As = "kr/mfa",
                Variables = new Dictionary<string, string> { ["MINISTRIES_FOLDER"] = folder },
                Time = time ?? TimeProvider.System,
            }.Run("doctor", "-j");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string[] FilesOf(string participant) =>
        [.. ((string[])["system.pem", "system.key", "requests.key", "sealing.key"]).Select(f => Path.Combine(participant, f))];

    private static JsonNode Found(Ran ran, string subject) =>
        JsonNode.Parse(ran.Output)!.AsArray().First(f => (string)f!["subject"]! == subject)!;

    private sealed class Shifted(TimeSpan by) : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + by;
    }
}
