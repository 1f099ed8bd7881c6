using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>How a command ends that is told to: by Ctrl-C in a terminal, by SIGTERM, or by the end of whoever reads it.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class InterruptTests(Services services) : IClassFixture<Services>
{
    private static readonly string[] Official = ["--office", "consular-department", "--official", "o-17", "--authority", "order-12"];

    [Fact]
    public async Task Ctrl_C_at_the_question_of_an_approval_ends_it_and_nothing_is_signed()
    {
        var file = In("request.json");
        await new CommandRunner(services) { As = "kr/mfa" }.Succeed(["calllog", "log-call", "--json", Request(), "--out", file]);
        var before = await File.ReadAllTextAsync(file, Cancel);
        using var terminal = new PseudoTerminal(
            services,
            PseudoTerminal.Line(["ministry", .. VerbTests.Approval(services, file, "kr/mfa/officials/kr-mfa-official-2.key")])
        );
        await terminal.Until("[y/N]");
        await terminal.Interrupt();
        await Ends(terminal, ExitCodes.Interrupted, "nothing was signed");
        Assert.Equal(before, await File.ReadAllTextAsync(file, Cancel));
    }

    [Fact]
    public async Task Ctrl_C_at_the_question_of_a_write_ends_it_and_nothing_is_sent()
    {
        var before = await Cases();
        using var terminal = new PseudoTerminal(services, PseudoTerminal.Line(["ministry", "custody", "open-case", .. Official]), Ukraine);
        await terminal.Until("[y/N]");
        await terminal.Interrupt();
        await Ends(terminal, ExitCodes.Interrupted, "nothing was sent");
        Assert.Equal(before, await Cases());
    }

    [Fact]
    public async Task Ctrl_C_in_a_call_ends_it()
    {
        using var silent = new TcpListener(IPAddress.Loopback, 0);
        silent.Start();
        using var terminal = new PseudoTerminal(
            services,
            PseudoTerminal.Line("ministry", "get", services.Case),
            ("MINISTRIES_CUSTODY", $"https://{silent.LocalEndpoint}")
        );
        using var client = await silent.AcceptTcpClientAsync(Cancel);
        await terminal.Interrupt();
        await Ends(terminal, ExitCodes.Interrupted, "");
    }

    [Fact]
    public async Task Ctrl_C_is_how_following_ends()
    {
        using var terminal = new PseudoTerminal(services, "ministry follow custody");
        await terminal.Until("register-prisoner");
        await terminal.Interrupt();
        await Ends(terminal, ExitCodes.Done, "");
    }

    [Fact]
    public async Task Ctrl_C_stops_a_gateway_in_order()
    {
        using var terminal = new PseudoTerminal(services, $"ministry serve --settings {GatewaySettings("interrupted", out _)}");
        await terminal.Until("/scalar");
        await terminal.Interrupt();
        await Ends(terminal, ExitCodes.Done, "");
    }

    /// <summary>It takes longer to stop than a verb may.</summary>
    [Fact]
    public async Task A_gateway_that_is_told_to_stop_ends_its_streams_and_stops_in_order()
    {
        using var gateway = Start("serve", "--settings", GatewaySettings("stopped", out var address));
        var output = await Until(gateway, "/scalar");
        using var client = ClientOf("stopped", address);
        using var events = await client.GetAsync(new Uri(address, "/events"), HttpCompletionOption.ResponseHeadersRead, Cancel);
        Assert.Equal(HttpStatusCode.OK, events.StatusCode);
        await using var stream = await events.Content.ReadAsStreamAsync(Cancel);
        Signals.Send(gateway.Id, Signals.Terminate);
        // Its reader is told that it is over, and not cut off.
        using var reader = new StreamReader(stream);
        await reader.ReadToEndAsync(Cancel);
        await gateway.WaitForExitAsync(Cancel);
        Assert.True(gateway.ExitCode == 0, $"{gateway.ExitCode}: {output}{await gateway.StandardOutput.ReadToEndAsync(Cancel)}");
    }

    [Fact]
    public async Task A_witness_that_is_told_to_stop_stops_in_order_though_a_caller_is_there()
    {
        var address = new Uri($"https://127.0.0.1:{Ports.Free()}");
        using var witness = Start(
            "witness",
            "run",
            "--folder",
            services.Folder,
            "--as",
            "kr/mfa",
            "--state",
            In("witness"),
            "--listen",
            address.ToString()
        );
        await Until(witness, " at ");
        using var caller = new TcpClient();
        await caller.ConnectAsync(IPAddress.Loopback, address.Port, Cancel);
        await using var secured = new System.Net.Security.SslStream(caller.GetStream(), false, (_, _, _, _) => true);
        await secured.AuthenticateAsClientAsync("localhost");
        // A request that never comes to its end.
        await secured.WriteAsync("POST /add-checkpoint HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx"u8.ToArray(), Cancel);
        Signals.Send(witness.Id, Signals.Terminate);
        await witness.WaitForExitAsync(Cancel);
        Assert.Equal(0, witness.ExitCode);
    }

    /// <summary>The program that plays the case, too.</summary>
    [Theory]
    [InlineData("", true)]
    [InlineData("1", false)]
    public async Task Ctrl_C_ends_the_story_and_its_styles_are_those_that_are_wanted(string noColour, bool styled)
    {
        var program = Path.Combine(AppContext.BaseDirectory, "Ministries.Local.dll");
        using var terminal = new PseudoTerminal(
            services,
            PseudoTerminal.Line("dotnet", program, "--data", In(Path.GetRandomFileName())),
            ("NO_COLOR", noColour)
        );
        await terminal.Until("starting");
        await terminal.Interrupt();
        await Ends(terminal, Local.Run.Interrupted, "");
        Assert.Equal(styled, terminal.Output.Contains("\x1b[1m", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Who_follows_ends_with_the_reader_of_the_output_also_while_nothing_comes()
    {
        var start = new ProcessStartInfo(
            "bash",
            ["-c", $"dotnet '{PseudoTerminal.Program}' follow custody | head -n 1 >/dev/null; echo ${{PIPESTATUS[0]}}"]
        );
        services.Name(start.Environment);
        Assert.Equal($"{ExitCodes.Unread}\n", await Processes.Output(start));
    }

    private static (string, string) Ukraine => ("MINISTRIES_AS", "ua/coordination-hq");

    private string In(string name) => Path.Combine(Directory.CreateDirectory(Path.Combine(services.Folder, "ended")).FullName, name);

    private string Request()
    {
        var file = In(Path.GetRandomFileName());
        File.WriteAllText(file, Contract.Formatter.Format(services.Call()));
        return file;
    }

    private string GatewaySettings(string name, out Uri address)
    {
        address = new Uri($"https://127.0.0.1:{Ports.Free()}");
        var addresses = string.Join(", ", services.Addresses.Select(a => $"\"{a.Key}\": \"{a.Value}\""));
        var file = In($"{name}.json");
        Directory.CreateDirectory(In(name));
        File.WriteAllText(
            file,
            $$"""
            { "participant": "kr/mfa", "folder": "{{services.Folder}}", "state": "{{In(
                name
            )}}", "services": { {{addresses}} }, "listen": "{{address}}" }
            """
        );
        return file;
    }

    private HttpClient ClientOf(string name, Uri address)
    {
        var handler = new HttpClientHandler { ServerCertificateCustomValidationCallback = (_, _, _, _) => true };
        var client = new HttpClient(handler) { BaseAddress = address };

        client.DefaultRequestHeaders.Authorization = new("Bearer", File.ReadAllText(Path.Combine(In(name), "local.token")).Trim());
        return client;
    }

    private async Task<int> Cases()
    {
        using var client = services.As("ua/coordination-hq");
        var listed = await client.Custody.ListCasesAsync(new ListCasesRequest { PageSize = 200 }, cancellationToken: Cancel);
        return listed.Cases.Count;
    }

    private static async Task Ends(PseudoTerminal terminal, int code, string saying)
    {
        var ended = await terminal.End();
        Assert.True(ended == code, $"{ended}: {terminal.Output}");
        Assert.Contains(saying, terminal.Output);
        Assert.DoesNotContain(terminal.Output.Split('\n'), l => l.StartsWith("   at ", StringComparison.Ordinal));
    }

    private static Process Start(params string[] arguments) =>
        Process.Start(
            new ProcessStartInfo("dotnet", [PseudoTerminal.Program, .. arguments])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;

    private static async Task<string> Until(Process process, string text)
    {
        var lines = "";
        while (await process.StandardOutput.ReadLineAsync(Cancel) is { } line)
        {
            lines += line + "\n";
            if (line.Contains(text, StringComparison.Ordinal))
                return lines;
        }
        Assert.Fail($"it ended: {lines}{await process.StandardError.ReadToEndAsync(Cancel)}");
        return lines;
    }
}
