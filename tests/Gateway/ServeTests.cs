using System.Diagnostics;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using Ministries.Fixtures;
using Ministries.Ministry.Tests;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary><c>ministry serve</c> as a process of its own, called with curl as the README does.</summary>
public sealed class ServeTests(OwnServices own) : IClassFixture<OwnServices>, IDisposable
{
    private readonly Services _services = own.Services;
    private readonly string _state = Directory.CreateTempSubdirectory("serve").FullName;
    private readonly Uri _address = new($"https://127.0.0.1:{Ports.Free()}");

    private readonly List<Process> _started = [];
    private bool _mounted;

    public void Dispose()
    {
        foreach (var process in _started)
        {
            if (!process.HasExited)
                process.Kill();
            process.WaitForExit();
            process.Dispose();
        }
        if (_mounted)
            using (var umount = Process.Start("umount", ["-l", _state]))
                umount.WaitForExit();
        Directory.Delete(_state, recursive: true);
    }

    [Fact]
    public async Task Killed_right_after_it_accepted_a_write_it_makes_it_at_its_next_start()
    {
        var key = Guid.NewGuid().ToString();
        var call = Path.Combine(_state, "call.json");
        await File.WriteAllTextAsync(call, PlainJson.Write(_services.Call()).ToJsonString(), Cancel);
        string[] post = ["/v1/calllog/LogCall", "--header", "Content-Type: application/json", "--data", $"@{call}"];
        await _services.Stop("calllog");
        var first = await Serve();
        var accepted = await Curl([.. post, "--header", $"Idempotency-Key: {key}"]);
        Assert.Equal("WAITING", (string?)accepted["state"]);
        first.Kill();
        await first.WaitForExitAsync(Cancel);
        await _services.Start("calllog");
        await Serve();
        JsonObject became = [];
        await Until(async () => (string?)(became = await Curl([$"/outbox/{key}"]))["state"] == "ANSWERED");
        Assert.StartsWith("call_", (string?)became["answer"]!["call"]);
        Assert.Equal("kr/mfa", (string?)(await Curl(["/status"]))["participant"]);
    }

    [Fact]
    public async Task Its_health_is_asked_by_a_verb_and_another_that_listens_in_its_place_is_not_healthy()
    {
        var serving = await Serve();
        Assert.Equal((0, "READY"), await Health(_state));
        var elsewhere = Directory.CreateTempSubdirectory("serve").FullName;
        try
        {
            // Another gateway's certificate is expected there.
            foreach (var file in Directory.GetFiles(_state, "gateway.*"))
                File.Copy(file, Path.Combine(elsewhere, Path.GetFileName(file)));
            using (var key = ECDsa.Create(ECCurve.NamedCurves.nistP256))
            using (
                var other = new CertificateRequest("CN=localhost", key, HashAlgorithmName.SHA256).CreateSelfSigned(
                    DateTimeOffset.UtcNow,
                    DateTimeOffset.UtcNow.AddDays(1)
                )
            )
                await File.WriteAllTextAsync(Path.Combine(elsewhere, "gateway.pem"), other.ExportCertificatePem(), Cancel);
            Assert.Equal((1, "NOT_READY"), await Health(elsewhere));
        }
        finally
        {
            Directory.Delete(elsewhere, recursive: true);
        }
        serving.Kill();
        await serving.WaitForExitAsync(Cancel);
        Assert.Equal((1, "NOT_READY"), await Health(_state));
    }

    // The keys of its participant are in its memory.
    [Fact]
    public async Task The_kernel_writes_no_dump_of_its_memory()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "only Linux is told");
        var serving = await Serve();
        Assert.Equal(("0", "0"), KernelLimits.OfDumps(serving.Id));
    }

    // As the settings file in the state folder says, with the address at which it was started.
    private async Task<(int Code, string Said)> Health(string state)
    {
        var settings = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(_state, "gateway.json"), Cancel))!.AsObject();
        (settings["state"], settings["listen"]) = (state, _address.ToString());
        var file = Path.Combine(state, "health.json");
        await File.WriteAllTextAsync(file, settings.ToJsonString(), Cancel);
        var process = Start(["serve", "health", "--settings", file]);
        var said = await process.StandardOutput.ReadToEndAsync(Cancel);
        await process.WaitForExitAsync(Cancel);
        return (process.ExitCode, said.Trim());
    }

    [Theory, InlineData(true), InlineData(false)]
    public async Task Its_keys_are_found_in_the_folder_of_secrets_that_a_variable_or_a_setting_names(bool variable)
    {
        var secrets = Directory.CreateDirectory(Path.Combine(_state, "secrets")).FullName;
        File.Copy(Path.Combine(_services.Folder, "kr/mfa/requests.key"), Path.Combine(secrets, "requests"));
        var file = await Settings(mirror: null);
        var settings = JsonNode.Parse(await File.ReadAllTextAsync(file, Cancel))!.AsObject();
        settings["requestsKey"] = "secrets:requests";
        // The variable goes before the setting.
        settings["secretsFolder"] = variable ? _state : secrets;
        await File.WriteAllTextAsync(file, settings.ToJsonString(), Cancel);
        await Listens(Start(["serve", "--settings", file, "--listen", _address.ToString()], variable ? secrets : null));
        var key = Guid.NewGuid().ToString();
        await Log(key);
        await Until(async () => (string?)(await Curl([$"/outbox/{key}"]))["state"] == "ANSWERED");
    }

    [Fact]
    public async Task Wrong_settings_are_told_in_one_line()
    {
        var error = await Refused(
            "serve",
            "--folder",
            _services.Folder,
            "--as",
            "kr/mfa",
            "--state",
            _state,
            "--listen",
            "https://0.0.0.0:1"
        );
        Assert.Contains("certificate", error);
    }

    /// <summary>The machine has none of these addresses (RFC 5737), or the setting is none.</summary>
    [Theory]
    [InlineData("listen", "https://192.0.2.1:7120", true)]
    [InlineData("witness", "https://192.0.2.1:7110", true)]
    [InlineData("metrics", "http://192.0.2.1:9465", true)]
    [InlineData("listen", "0.0.0.0:7120", false)]
    [InlineData("witness", "0.0.0.0:7110", false)]
    [InlineData("metrics", "127.0.0.1:9465", false)]
    public async Task An_address_at_which_it_cannot_listen_is_told_in_one_line(string setting, string address, bool isAddress)
    {
        var file = await Settings(mirror: null);
        var settings = JsonNode.Parse(await File.ReadAllTextAsync(file, Cancel))!.AsObject();
        settings["listen"] = _address.ToString();
        settings[setting] = address;
        if (setting == "listen")
        {
            // At an address that others reach it wants a certificate and to know who may call.
            var home = Path.Combine(_services.Folder, "kr/mfa");
            (settings["certificate"], settings["certificateKey"]) = (Path.Combine(home, "system.pem"), Path.Combine(home, "system.key"));
            settings["tokens"] = Path.Combine(_state, "tokens.json");
            TokenFile.Add(Path.Combine(_state, "tokens.json"), "desk", [Roles.Clerk]);
        }
        await File.WriteAllTextAsync(file, settings.ToJsonString(), Cancel);
        var error = await Refused("serve", "--settings", file);
        Assert.Contains(address, error);
        Assert.DoesNotContain("fault of the command", error);
        if (!isAddress)
            Assert.Contains($"{setting} must be an address", error);
        if (setting == "listen" && !isAddress)
            Assert.Contains($"{setting} must be an address", await Refused("serve", "health", "--settings", file));
    }

    [Fact]
    public async Task A_witness_that_cannot_listen_at_its_address_says_so_in_one_line()
    {
        var state = Path.Combine(_state, "witness");
        var folder = _services.Folder;
        var error = await Refused(
            "witness",
            "run",
            "--folder",
            folder,
            "--as",
            "kr/mfa",
            "--state",
            state,
            "--listen",
            "https://192.0.2.1:7110"
        );
        Assert.Contains("https://192.0.2.1:7110", error);
    }

    [Fact]
    public async Task A_mirror_that_does_not_fit_is_told_in_one_line_that_names_the_setting()
    {
        var settings = await Settings(new JsonObject { ["connection"] = "sqlite:mirror.db" });
        Assert.StartsWith("mirror.connection: ", await Refused("serve", "--settings", settings, "--listen", _address.ToString()));
    }

    // The one line with which it refuses to start.
    private async Task<string> Refused(params string[] arguments)
    {
        var process = Start(arguments);
        var error = await process.StandardError.ReadToEndAsync(Cancel);
        await process.WaitForExitAsync(Cancel);
        Assert.Equal(2, process.ExitCode);
        return Assert.Single(error.Trim().Split('\n'));
    }

    private async Task<string> Settings(JsonObject? mirror, WebhookSettings? webhook = null)
    {
        var path = Path.Combine(_state, "gateway.json");
        var settings = new JsonObject
        {
            ["participant"] = "kr/mfa",
            ["folder"] = _services.Folder,
            ["state"] = _state,
            ["answerSeconds"] = 0.2,
            ["mirror"] = mirror,
            ["webhooks"] = webhook is null
                ? new JsonArray()
                : new JsonArray(
                    new JsonObject
                    {
                        ["name"] = webhook.Name,
                        ["url"] = webhook.Url.ToString(),
                        ["secret"] = webhook.Secret,
                    }
                ),
            ["services"] = new JsonObject(_services.Addresses.Select(a => KeyValuePair.Create(a.Key, (JsonNode?)a.Value.ToString()))),
        };
        await File.WriteAllTextAsync(path, settings.ToJsonString(), Cancel);
        return path;
    }

    [Theory, InlineData(Engine.Sqlite), InlineData(Engine.Postgres)]
    public async Task Killed_again_and_again_while_it_follows_its_mirror_has_each_event_once_and_in_order(Engine engine)
    {
        var mirror = await RunningGateway.MirrorOn(engine);
        var ministry = _services.As("kr/mfa");
        for (var round = 0; round < 5; round++)
        {
            var gateway = await Serve(mirror);
            for (var i = 0; i < 3; i++)
                await ministry.CallLog.LogCallAsync(_services.Call(), cancellationToken: Cancel);
            gateway.Kill();
            await gateway.WaitForExitAsync(Cancel);
        }
        await using var last = await RunningGateway.Start(_services, "kr/mfa", s => s with { Mirror = mirror }, _state);
        await last.HasAll(_services);
    }

    [Theory, InlineData(Engine.Sqlite), InlineData(Engine.Postgres)]
    public async Task Killed_between_a_delivery_and_its_note_it_gives_the_webhook_that_event_again_and_loses_none(Engine engine)
    {
        var mirror = await RunningGateway.MirrorOn(engine);
        var ministry = _services.As("kr/mfa");
        var secret = RunningGateway.SecretAt(Path.Combine(_state, "secret"));
        await using var receiver = await EventsTests.Receiver.Start();
        var hook = new WebhookSettings
        {
            Name = "cases",
            Url = receiver.Address,
            Secret = secret,
        };
        var killed = new List<string>();
        for (var round = 0; round < 4; round++)
        {
            await ministry.CallLog.LogCallAsync(_services.Call(), cancellationToken: Cancel);
            var (taken, died) = (0, new TaskCompletionSource());
            Process? gateway = null;
            var started = new TaskCompletionSource();
            // The third event of each round is taken, and the gateway never hears of it.
            receiver.Before = async delivery =>
            {
                if (Interlocked.Increment(ref taken) != 3)
                    return;
                await started.Task;
                gateway!.Kill();
                await gateway.WaitForExitAsync(CancellationToken.None);
                killed.Add(delivery.Id);
                died.SetResult();
            };
            gateway = await Serve(mirror, hook);
            started.SetResult();
            await died.Task.WaitAsync(TimeSpan.FromMinutes(1), Cancel);
        }
        receiver.Before = null;
        await using var last = await RunningGateway.Start(_services, "kr/mfa", s => s with { Mirror = mirror, Webhooks = [hook] }, _state);
        await last.HasAll(_services);
        var all = (await last.Events()).Select(e => e.Id).ToList();
        await Until(() => Task.FromResult(all.Except(receiver.Got.Select(g => g.Id)).ToList().Count == 0));
        // Twice only what was taken without the gateway's knowledge, at once after it; everything once and in order otherwise.
        var got = receiver.Got.Select(g => g.Id).ToList();
        Assert.Equal(all, got.Where((id, i) => i == 0 || got[i - 1] != id).Take(all.Count));
        Assert.Equal(killed, got.Where((id, i) => i > 0 && got[i - 1] == id));
    }

    /// <summary>The disk is full of something else, or the process may write no more, as with a quota.</summary>
    [Theory, InlineData(true), InlineData(false)]
    public async Task A_full_disk_refuses_a_write_by_name_and_keeps_what_was_accepted(bool disk)
    {
        if (disk && !Mount())
            Assert.Skip("this process may not mount a disk");
        var (accepted, refused) = (Guid.NewGuid().ToString(), Guid.NewGuid().ToString());
        await _services.Stop("calllog");
        var gateway = await Serve();
        Assert.Equal("WAITING", (string?)(await Log(accepted))["state"]);

        Fill(gateway, disk);

        JsonObject problem = [];
        // What was left of the last page may still take some.
        await Until(async () => (string?)(problem = await Log(refused = Guid.NewGuid().ToString()))["state"] != "WAITING");
        Assert.Equal(("OUTBOX_DISK_FULL", 507), ((string?)problem["reason"], (int)problem["status"]!));
        Assert.Contains("Make room on the disk", (string?)problem["remedy"]);
        Assert.Equal("WAITING", (string?)(await Curl([$"/outbox/{accepted}"]))["state"]);
        Assert.Equal("NOT_FOUND", (string?)(await Curl([$"/outbox/{refused}"]))["reason"]);
        await _services.Start("calllog");

        Clear(gateway, disk);

        await Until(async () => (string?)(await Curl([$"/outbox/{accepted}"]))["state"] == "ANSWERED");
        Assert.StartsWith("call_", (string?)(await Log(refused))["call"]);
        // The mirror, whose disk it is too, has gone on as well.
        await Until(async () =>
            (await Curl(["/status"]))["mirror"]!.AsArray().All(m => (string?)m!["alarm"] is null && m["check_time"] is not null)
        );
    }

    private async Task<JsonObject> Log(string key)
    {
        var call = Path.Combine(_services.Folder, $"{key}.json");
        await File.WriteAllTextAsync(call, PlainJson.Write(_services.Call()).ToJsonString(), Cancel);
        return await Curl([
            "/v1/calllog/LogCall",
            "--header",
            "Content-Type: application/json",
            "--data",
            $"@{call}",
            "--header",
            $"Idempotency-Key: {key}",
        ]);
    }

    // A disk in memory, which is small.
    private bool Mount()
    {
        using var mount = Process.Start(
            new ProcessStartInfo("mount", ["-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", _state]) { RedirectStandardError = true }
        )!;
        mount.WaitForExit();
        return _mounted = mount.ExitCode == 0;
    }

    private void Fill(Process gateway, bool disk)
    {
        if (!disk)
        {
            Limit(gateway, "4096");
            return;
        }
        using var file = new FileStream(Path.Combine(_state, "filling"), FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 0);
        try
        {
            for (var zeros = new byte[1 << 12]; ; )
                file.Write(zeros);
        }
        catch (IOException)
        {
            // It is full.
        }
    }

    private void Clear(Process gateway, bool disk)
    {
        if (disk)
            File.Delete(Path.Combine(_state, "filling"));
        else
            Limit(gateway, "unlimited");
    }

    // How long a file of the process may be (RLIMIT_FSIZE).
    private static void Limit(Process gateway, string bytes)
    {
        using var limit = Process.Start("prlimit", ["--pid", $"{gateway.Id}", $"--fsize={bytes}:unlimited"]);
        limit.WaitForExit();
        Assert.Equal(0, limit.ExitCode);
    }

    private async Task<Process> Serve(MirrorSettings? mirror = null, WebhookSettings? webhook = null)
    {
        var settings = await Settings(mirror is null ? null : new JsonObject { ["connection"] = mirror.Connection }, webhook);
        return await Listens(Start(["serve", "--settings", settings, "--listen", _address.ToString()]));
    }

    private static async Task<Process> Listens(Process process)
    {
        // It says where it is once it listens; its log follows.
        for (var line = ""; !line.StartsWith("kr/mfa at ", StringComparison.Ordinal); )
            line = await process.StandardOutput.ReadLineAsync(Cancel) ?? throw new InvalidOperationException("it ended");
        _ = process.StandardOutput.ReadToEndAsync(CancellationToken.None);
        return process;
    }

    private Process Start(string[] arguments, string? secrets = null)
    {
        // A process that reaches its limit is told so by a signal, which would end it, and by the failure of its write.
        var start = new ProcessStartInfo(
            "/bin/sh",
            ["-c", "trap '' XFSZ; exec \"$@\"", "sh", "dotnet", Path.Combine(AppContext.BaseDirectory, "ministry.dll"), .. arguments]
        )
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        if (secrets is not null)
            start.Environment["MINISTRIES_SECRETS_FOLDER"] = secrets;
        var process = Process.Start(start)!;
        _started.Add(process);
        return process;
    }

    private async Task<JsonObject> Curl(string[] arguments)
    {
        var token = (await File.ReadAllTextAsync(Path.Combine(_state, "local.token"), Cancel)).Trim();
        using var curl = Process.Start(
            new ProcessStartInfo(
                "curl",
                [
                    "--silent",
                    "--cacert",
                    Path.Combine(_state, "gateway.pem"),
                    "--header",
                    $"Authorization: Bearer {token}",
                    new Uri(_address, arguments[0]).ToString(),
                    .. arguments[1..],
                ]
            )
            {
                RedirectStandardOutput = true,
            }
        )!;
        var text = await curl.StandardOutput.ReadToEndAsync(Cancel);
        await curl.WaitForExitAsync(Cancel);
        Assert.Equal(0, curl.ExitCode);
        return JsonNode.Parse(text)!.AsObject();
    }
}
