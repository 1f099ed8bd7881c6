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

    public void Dispose()
    {
        foreach (var process in _started)
        {
            if (!process.HasExited)
                process.Kill();
            process.WaitForExit();
            process.Dispose();
        }
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

    [Fact]
    public async Task Wrong_settings_are_told_in_one_line()
    {
        var process = Start(["serve", "--folder", _services.Folder, "--as", "kr/mfa", "--state", _state, "--listen", "https://0.0.0.0:1"]);
        var error = await process.StandardError.ReadToEndAsync(Cancel);
        await process.WaitForExitAsync(Cancel);
        Assert.Equal(2, process.ExitCode);
        Assert.Contains("certificate", Assert.Single(error.Trim().Split('\n')));
    }

    private async Task<Process> Serve()
    {
        var settings = Path.Combine(_state, "gateway.json");
        await File.WriteAllTextAsync(
            settings,
            new JsonObject
            {
                ["participant"] = "kr/mfa",
                ["folder"] = _services.Folder,
                ["state"] = _state,
                ["answerSeconds"] = 0.2,
                ["services"] = new JsonObject(_services.Addresses.Select(a => KeyValuePair.Create(a.Key, (JsonNode?)a.Value.ToString()))),
            }.ToJsonString(),
            Cancel
        );
        var process = Start(["serve", "--settings", settings, "--listen", _address.ToString()]);
        // It says where it is once it listens; its log follows.
        for (var line = ""; !line.StartsWith("kr/mfa at ", StringComparison.Ordinal); )
            line = await process.StandardOutput.ReadLineAsync(Cancel) ?? throw new InvalidOperationException("it ended");
        _ = process.StandardOutput.ReadToEndAsync(CancellationToken.None);
        return process;
    }

    private Process Start(string[] arguments)
    {
        var process = Process.Start(
            new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "ministry.dll"), .. arguments])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;
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
