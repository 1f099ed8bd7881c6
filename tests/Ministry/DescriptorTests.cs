using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Trust;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>A service as a process of its own: with few descriptors, and without dumps of its memory.</summary>
public sealed class DescriptorTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("descriptors").FullName;
    private readonly List<IDisposable> _open = [];

    public DescriptorTests() => Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System);

    public void Dispose()
    {
        foreach (var open in _open)
            open.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private Process Start(int port, int descriptors, bool dumps = false)
    {
        var home = Path.Combine(_folder, "service", "calllog");
        string[] settings =
        [
            $"--Ledger:Connection=sqlite:{Path.Combine(_folder, "calllog.db")}",
            "--Broker:Uri=amqp://127.0.0.1:1",
            $"--Listen=https://127.0.0.1:{port}",
            $"--Agreement={Path.Combine(_folder, "agreement.json")}",
            $"--Certificate={Path.Combine(home, "system.pem")}",
            $"--CertificateKey={Path.Combine(home, "system.key")}",
            $"--Checkpoint:File={Path.Combine(_folder, "calllog.checkpoint")}",
            $"--Checkpoint:Key={Path.Combine(home, "checkpoint.key")}",
            "--Peers:custody=https://127.0.0.1:1",
            "--Peers:consular=https://127.0.0.1:1",
        ];
        var program = typeof(CallLog.CallLogService).Assembly.Location;
        return Process.Start(
            new ProcessStartInfo("/bin/sh", ["-c", $"ulimit -n {descriptors}; exec dotnet \"$@\"", "sh", program, .. settings])
            {
                RedirectStandardError = true,
                RedirectStandardOutput = true,
                WorkingDirectory = _folder,
                Environment = { ["DOTNET_DbgEnableMiniDump"] = dumps ? "1" : "0" },
            }
        )!;
    }

    [Fact]
    public async Task With_few_descriptors_a_service_outlives_a_thousand_connections_and_serves()
    {
        var port = Ports.Free();
        using var service = Start(port, 1024);
        try
        {
            Assert.Contains(
                "may have 1024 descriptors (ulimit -n), so it serves at most 352 connections",
                await SaidUntilItServes(service)
            );
            // More than one address may hold, from each of several.
            for (var i = 0; i < 1500; i++)
            {
                var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
                _open.Add(socket);
                socket.Bind(new IPEndPoint(IPAddress.Parse($"127.0.1.{1 + i % 8}"), 0));
                await socket.ConnectAsync(IPAddress.Loopback, port, Cancel);
            }
            Assert.False(service.HasExited);
            using var client = new MinistryClient(
                MinistrySettings.In(_folder, "kr/mfa", new Dictionary<string, Uri> { ["calllog"] = new($"https://127.0.0.1:{port}") })
            );
            await Assert.ThrowsAsync<RefusedException>(async () =>
                await client.CallLog.GetCallAsync(
                    new GetCallRequest { Call = "call_00000000000000000000000001" },
                    cancellationToken: Cancel
                )
            );
            Assert.False(service.HasExited);
        }
        finally
        {
            service.Kill();
            await service.WaitForExitAsync(Cancel);
        }
    }

    // Its keys are in its memory.
    [Theory, InlineData(false), InlineData(true)]
    public async Task The_kernel_writes_no_dump_of_a_service_unless_NET_was_asked_for_dumps(bool dumps)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "only Linux is told");
        using var service = Start(Ports.Free(), 1024, dumps);
        try
        {
            await SaidUntilItServes(service);
            var here = KernelLimits.OfDumps(Environment.ProcessId);
            Assert.Equal(dumps ? here : ("0", "0"), KernelLimits.OfDumps(service.Id));
        }
        finally
        {
            service.Kill();
            await service.WaitForExitAsync(Cancel);
        }
    }

    private static async Task<string> SaidUntilItServes(Process service)
    {
        var said = new StringBuilder();
        while (!said.ToString().Contains("serves at https", StringComparison.Ordinal))
            said.AppendLine(await service.StandardOutput.ReadLineAsync(Cancel) ?? throw new InvalidOperationException(said.ToString()));
        _ = service.StandardOutput.ReadToEndAsync(Cancel);
        return said.ToString();
    }

    [Fact]
    public async Task With_too_few_descriptors_a_service_does_not_start_and_says_how_many_it_needs()
    {
        using var service = Start(Ports.Free(), 256);
        var said = await service.StandardError.ReadToEndAsync(Cancel);
        await service.WaitForExitAsync(Cancel);
        Assert.Equal(2, service.ExitCode);
        Assert.Contains("calllog: the process may have 256 descriptors, and needs 512", said);
    }
}
