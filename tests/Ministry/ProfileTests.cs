using System.Diagnostics;
using System.Text.Json.Nodes;
using Ministries.Fixtures;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>What nobody has typed is said by the profile, to verbs that do not call as well.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class ProfileTests(Services services) : IClassFixture<Services>, IAsyncLifetime
{
    private readonly string _home = Directory.CreateTempSubdirectory("profile").FullName;

    private string Config => Path.Combine(_home, "config.json");

    private CommandRunner Runner =>
        new(services)
        {
            Variables = new Dictionary<string, string> { ["MINISTRIES_CONFIG"] = Config, ["MINISTRIES_FOLDER"] = "" },
        };

    public async ValueTask InitializeAsync()
    {
        await Runner.Succeed("config", "set", "folder", services.Folder);
        await Runner.Succeed("config", "set", "as", "kr/mfa");
        foreach (var (service, address) in services.Addresses)
            await Runner.Succeed("config", "set", service, address.ToString());
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(_home, recursive: true);
        return ValueTask.CompletedTask;
    }

    [Fact]
    public async Task A_gateway_is_that_of_the_profile_and_calls_the_services_that_it_names()
    {
        var state = Directory.CreateDirectory(Path.Combine(_home, "state")).FullName;
        var listen = $"https://127.0.0.1:{Ports.Free()}";
        var said = await RunUntil("/scalar", "serve", "--state", state, "--listen", listen);
        Assert.StartsWith("kr/mfa at ", said);
    }

    /// <summary>Its settings name an address of this machine alone, if they name none.</summary>
    [Fact]
    public void A_gateway_listens_where_its_settings_do_if_the_command_names_no_address()
    {
        var serve = CommandLine.Create().Parse(["serve", "--state", "state"]);
        Assert.Empty(serve.Errors);
        Assert.Null(serve.GetValue<Uri?>("--listen"));
    }

    [Fact]
    public async Task A_witness_is_that_of_the_profile()
    {
        var state = Path.Combine(_home, "witness");
        var said = await RunUntil(" at ", "witness", "run", "--state", state, "--listen", $"https://127.0.0.1:{Ports.Free()}");
        Assert.Contains("kr/mfa", said);
    }

    [Fact]
    public async Task A_settings_file_is_all_that_a_gateway_needs()
    {
        // A profile that cannot be read is nothing to it.
        await File.WriteAllTextAsync(Config, "{ no profile", Cancel);
        var file = Path.Combine(_home, "gateway.json");
        await File.WriteAllTextAsync(
            file,
            $$"""
            { "participant": "kr/mfa", "folder": "{{services.Folder}}", "state": "{{_home}}", "listen": "https://127.0.0.1:{{Ports.Free()}}" }
            """,
            Cancel
        );
        Assert.StartsWith("kr/mfa at ", await RunUntil("/scalar", "serve", "--settings", file));
        var health = await Runner.Run("serve", "health", "--settings", file, "-j");
        Assert.Equal(1, health.Code);
        Assert.False((bool)JsonNode.Parse(health.Output)!["ready"]!);
        Assert.Equal("NOT_READY\n", (await Runner.Run("serve", "health", "--settings", file)).Output);
    }

    [Fact]
    public async Task Evidence_is_compared_with_the_agreement_of_the_profile_and_that_is_said()
    {
        var file = Path.Combine(_home, "case.jsonl");
        await Runner.Succeed("evidence", "export", services.Case, "--out", file);
        var own = await Runner.Succeed("evidence", "verify", file);
        Assert.Contains("the keys are those of the reader's own agreement", own.Output);
        Assert.Contains(
            $"compared with {Path.Combine(services.Folder, "agreement.json")}, which profile default in {Config} names",
            own.Error
        );
        var nobodys = await Runner.Succeed("evidence", "verify", file, "--agreement", "none", "-o", "json");
        Assert.False((bool)JsonNode.Parse(nobodys.Output)!["agreement_is_the_readers"]!);
        Assert.Empty(nobodys.Error);
        Assert.StartsWith("---\nok: true\n", (await Runner.Succeed("evidence", "verify", file, "-o", "yaml")).Output);
        Assert.Contains("+02:00", (await Runner.Succeed("evidence", "verify", file, "--zone", "Europe/Kyiv")).Output);
    }

    [Fact]
    public async Task A_fault_of_what_the_profile_says_is_the_profiles()
    {
        var elsewhere = Directory.CreateDirectory(Path.Combine(_home, "elsewhere")).FullName;
        await Runner.Succeed("config", "set", "folder", elsewhere);
        var ran = await Runner.Run("next");
        Assert.Equal(2, ran.Code);
        Assert.Contains($"profile default in {Config} says: folder {elsewhere}, as kr/mfa", ran.Error);
    }

    // Starts the command, waits for a line, and stops it in order.
    private async Task<string> RunUntil(string text, params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet", [PseudoTerminal.Program, .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var name in start.Environment.Keys.Where(n => n.StartsWith("MINISTRIES_", StringComparison.Ordinal)).ToArray())
            start.Environment.Remove(name);
        start.Environment["MINISTRIES_CONFIG"] = Config;
        using var process = Process.Start(start)!;
        using var ended = Cancel.Register(() => process.Kill(true));
        while (await process.StandardOutput.ReadLineAsync(Cancel) is { } line)
        {
            if (!line.Contains(text, StringComparison.Ordinal))
                continue;
            Signals.Send(process.Id, Signals.Terminate);
            await process.WaitForExitAsync(Cancel);
            Assert.Equal(0, process.ExitCode);
            return line;
        }
        Assert.Fail(await process.StandardError.ReadToEndAsync(Cancel));
        return "";
    }
}
