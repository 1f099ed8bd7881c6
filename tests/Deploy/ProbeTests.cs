using System.Diagnostics;
using Ministries.Fixtures;

namespace Ministries.Deploy.Tests;

/// <summary>What the probes of <c>deploy/kubernetes</c> are told by a service whose broker goes away.</summary>
public sealed class ProbeTests
{
    [Fact]
    public async Task Without_a_broker_a_service_is_not_ready_serves_calls_and_is_alive()
    {
        var cancel = TestContext.Current.CancellationToken;
        await using var services = new ServiceProcesses();
        var broker = await RabbitMq.Create();
        try
        {
            Assert.Equal(1, await Health(services, broker.Uri, "alive"));
            services.Start("custody", $"sqlite:{Path.Combine(services.Folder, "custody.db")}", broker.Uri);
            await Until(0, "");
            Assert.Equal(0, await Health(services, broker.Uri, "ledger"));
            Assert.Equal(0, await Health(services, broker.Uri, "alive"));
            broker.Stop();
            await Until(1, "");
            Assert.Equal(0, await Health(services, broker.Uri, "ledger"));
            Assert.Equal(0, await Health(services, broker.Uri, "alive"));
        }
        finally
        {
            broker.Stop();
        }

        async Task Until(int code, string asked)
        {
            // Each question is a process that starts, so this is some minutes at least.
            for (var left = 200; await Health(services, broker.Uri, asked) != code; left--)
                Assert.True(left > 0, $"health {asked} does not become {code}");
            cancel.ThrowIfCancellationRequested();
        }
    }

    private static async Task<int> Health(ServiceProcesses services, Uri broker, string asked)
    {
        var keys = Path.Combine(services.Certificates, "service", "custody");
        var program = Path.Combine(AppContext.BaseDirectory, "Ministries.Custody.dll");
        var start = new ProcessStartInfo("dotnet", asked.Length > 0 ? [program, "health", asked] : [program, "health"])
        {
            RedirectStandardOutput = true,
            Environment =
            {
                ["Ledger__Connection"] = "sqlite:none",
                ["Broker__Uri"] = broker.ToString(),
                ["Listen"] = services.Addresses["custody"].ToString(),
                ["Agreement"] = Path.Combine(services.Certificates, "agreement.json"),
                ["Certificate"] = Path.Combine(keys, "system.pem"),
                ["CertificateKey"] = Path.Combine(keys, "system.key"),
                ["Checkpoint__File"] = Path.Combine(services.Folder, "none"),
                ["Checkpoint__Key"] = Path.Combine(keys, "checkpoint.key"),
            },
        };
        foreach (var (peer, address) in services.Addresses)
            start.Environment[$"Peers__{peer}"] = address.ToString();
        using var process = Process.Start(start)!;
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return process.ExitCode;
    }
}
