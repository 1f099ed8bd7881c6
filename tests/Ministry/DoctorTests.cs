using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using Google.Protobuf.WellKnownTypes;
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
    public async Task A_key_for_sealing_of_another_is_found() =>
        await Finds(
            "key for sealing",
            "is not one of kr/mfa's keys for sealing",
            "use a key that the agreement lists",
            folder => File.Copy(Path.Combine(folder, "ua/mfa/sealing.key"), Path.Combine(folder, "kr/mfa/sealing.key"), overwrite: true)
        );

    [Fact]
    public async Task A_key_that_ended_is_found() =>
        await Finds(
            "key for requests",
            "kr/mfa/requests-1 is not in force",
            "sign with the key that replaced it",
            folder =>
                Signing.Next(
                    folder,
                    next =>
                        Signing.Of(next, "kr/mfa").SigningKeys.Single(k => k.Id == "kr/mfa/requests-1").ValidUntilTime =
                            Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow.AddMinutes(-1)),
                    ["kr/mfa"]
                )
        );

    [Fact]
    public async Task A_certificate_that_the_agreement_denies_is_found() =>
        await Finds(
            "certificate",
            "the agreement denies it",
            "have your authority issue a new one",
            folder =>
            {
                using var certificate = X509CertificateLoader.LoadCertificateFromFile(Path.Combine(folder, "kr/mfa/system.pem"));
                Signing.Next(folder, next => Signing.Of(next, "kr/mfa").DeniedCertificates.Add(certificate.SerialNumber), ["kr/mfa"]);
            }
        );

    [Fact]
    public async Task A_certificate_that_is_not_valid_yet_is_found() =>
        await Finds(
            "certificate",
            "it is valid only from",
            "set this machine's clock",
            folder =>
            {
                using var certificate = Chains.Make(
                    "system",
                    null,
                    DateTimeOffset.UtcNow.AddHours(2),
                    "spiffe://ministries.example/kr/mfa"
                );
                var key = Path.Combine(folder, "kr/mfa/system.key");
                File.WriteAllText(Path.Combine(folder, "kr/mfa/system.pem"), certificate.ExportCertificatePem());
                File.WriteAllText(key, certificate.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem());
                File.SetUnixFileMode(key, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            }
        );

    [Fact]
    public async Task A_folder_for_receipts_that_cannot_be_written_is_found()
    {
        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        await File.WriteAllTextAsync(file, "", Cancel);
        foreach (var receipts in (string[])[file, "/proc/receipts"])
        {
            var ran = await new CommandRunner(services) { As = "kr/mfa" }.Run("doctor", "-j", "--receipts", receipts);
            Assert.Equal(1, ran.Code);
            Assert.Equal("wrong", Found(ran, "receipts")["health"]!.ToString());
            Assert.Contains("name a folder that you can write", Found(ran, "receipts")["remedy"]!.ToString());
        }
    }

    [Fact]
    public async Task A_folder_for_receipts_that_is_not_there_yet_is_looked_for_and_not_made()
    {
        var above = Path.Combine(services.Folder, Path.GetRandomFileName());
        var receipts = Path.Combine(above, "receipts");
        var ran = await new CommandRunner(services) { As = "kr/mfa" }.Run("doctor", "-j", "--receipts", receipts);
        Assert.Equal("well", Found(ran, "receipts")["health"]!.ToString());
        Assert.False(Directory.Exists(above));
    }

    [Fact]
    public async Task An_official_whom_the_agreement_does_not_list_is_found()
    {
        var ran = await new CommandRunner(services)
        {
            As = "kr/mfa",
            Variables = new Dictionary<string, string> { ["MINISTRIES_OFFICIAL"] = "o-177" },
        }.Run("doctor", "-j");
        Assert.Equal(1, ran.Code);
        Assert.Equal("wrong", Found(ran, "official")["health"]!.ToString());
        Assert.StartsWith("MINISTRIES_OFFICIAL: the agreement does not list o-177 for kr/mfa", Found(ran, "official")["what"]!.ToString());
        Assert.Contains("o-17", Found(ran, "official")["remedy"]!.ToString());
    }

    [Fact]
    public async Task An_official_who_has_a_key_for_approvals_is_listed_and_the_nearest_to_whom_is_misspelt()
    {
        var listed = Trust.Pki.OfficialOf("kr/mfa", 2);
        var ran = await Doctor(listed);
        Assert.DoesNotContain(JsonNode.Parse(ran.Output)!.AsArray(), f => (string?)f!["subject"] == "official");
        ran = await Doctor(listed.Replace("official", "offical", StringComparison.Ordinal));
        Assert.Contains(listed, Found(ran, "official")["remedy"]!.ToString());

        Task<Ran> Doctor(string official) =>
            new CommandRunner(services)
            {
                As = "kr/mfa",
                Variables = new Dictionary<string, string> { ["MINISTRIES_OFFICIAL"] = official },
            }.Run("doctor", "-j");
    }

    [Fact]
    public async Task A_later_agreement_at_a_service_is_found()
    {
        await using var later = new Services();
        await later.InitializeAsync();
        var folder = Copy(later);
        try
        {
            Signing.Next(later.Folder, next => Signing.Of(next, "kr/mfa").Officials.Add("o-99"), ["kr/mfa"]);
            using var client = later.As("kr/mfa");
            await Until(async () =>
            {
                try
                {
                    await client.LedgerOf("custody").GetEntryAsync(new() { AgreementVersion = 2 }, cancellationToken: Cancel);
                    return true;
                }
                catch (Grpc.Core.RpcException)
                {
                    return false;
                }
            });
            var ran = await new CommandRunner(later)
            {
                As = "kr/mfa",
                Variables = new Dictionary<string, string> { ["MINISTRIES_FOLDER"] = folder },
            }.Run("doctor", "-j");
            Assert.Contains("a later version than 1", Found(ran, "agreement at custody")["what"]!.ToString());
            Assert.Contains("agreement put", Found(ran, "agreement at custody")["remedy"]!.ToString());
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task Without_a_folder_or_a_participant_that_is_what_is_found()
    {
        var nobody = new CommandRunner(services) { Variables = new Dictionary<string, string> { ["MINISTRIES_FOLDER"] = "" } };
        var ran = await nobody.Run("doctor", "-j");
        Assert.Equal(1, ran.Code);
        Assert.Contains("config set folder", Found(ran, "folder")["remedy"]!.ToString());
        Assert.Contains("config set as", Found(ran, "participant")["remedy"]!.ToString());
        Assert.Equal("doubtful", Found(ran, "custody")["health"]!.ToString());
        // What is known is looked at.
        var stranger = await new CommandRunner(services).Run("doctor", "-j");
        Assert.Equal("well", Found(stranger, "agreement")["health"]!.ToString());
        var hasty = await new CommandRunner(services)
        {
            As = "kr/mfa",
            Variables = new Dictionary<string, string> { ["MINISTRIES_TIMEOUT"] = "0", ["MINISTRIES_CUSTODY"] = "custody" },
        }.Run("doctor", "-j");
        Assert.Equal(1, hasty.Code);
        Assert.Contains("MINISTRIES_CUSTODY", Found(hasty, "custody")["what"]!.ToString());
        Assert.Equal("wrong", Found(hasty, "settings")["health"]!.ToString());
    }

    [Fact]
    public async Task Of_several_replicas_one_that_is_away_needs_attention_and_all_are_a_fault()
    {
        var (there, away) = (services.Addresses["custody"], $"https://127.0.0.1:{Ports.Free()}");
        var ran = await new CommandRunner(services) { As = "kr/mfa" }.Run("doctor", "-j", "--address", $"custody={away},{there}");
        Assert.True(ran.Code == 0, ran.Output);
        var found = JsonNode.Parse(ran.Output)!.AsArray().Where(f => (string)f!["subject"]! == "custody").ToArray();
        Assert.Equal(["doubtful", "well"], found.Select(f => (string)f!["health"]!));
        Assert.Contains(away, (string)found[0]!["what"]!);
        Assert.Contains("entries", (string)found[1]!["what"]!);
        var both = $"custody={away},https://127.0.0.1:{Ports.Free()}";
        Assert.Equal(1, (await new CommandRunner(services) { As = "kr/mfa" }.Run("doctor", "-j", "--address", both)).Code);
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
        var folder = Copy(services);
        try
        {
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

    private static string Copy(Services services)
    {
        var folder = Directory.CreateTempSubdirectory("doctor").FullName;
        foreach (var file in (string[])["agreement.json", .. FilesOf("kr/mfa"), .. FilesOf("ua/mfa")])
        {
            var to = Path.Combine(folder, file);
            Directory.CreateDirectory(Path.GetDirectoryName(to)!);
            File.Copy(Path.Combine(services.Folder, file), to);
        }
        return folder;
    }

    private static string[] FilesOf(string participant) =>
        [
            .. ((string[])["system.pem", "system.key", "requests.key", "sealing.key", "agreements.key"]).Select(f =>
                Path.Combine(participant, f)
            ),
        ];

    private static JsonNode Found(Ran ran, string subject) =>
        JsonNode.Parse(ran.Output)!.AsArray().First(f => (string)f!["subject"]! == subject)!;

    private sealed class Shifted(TimeSpan by) : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + by;
    }
}
