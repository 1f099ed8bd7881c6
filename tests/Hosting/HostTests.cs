using System.Diagnostics;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Health.V1;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Ledger;
using OpenTelemetry;
using OpenTelemetry.Trace;

namespace Ministries.Hosting.Tests;

public class SettingsTests
{
    [Fact]
    public void All_errors_in_the_settings_are_reported_at_once()
    {
        var e = Assert.Throws<SettingsException>(() =>
            Settings.Read(
                Given(
                    ("Broker:Uri", "http://broker"),
                    ("Listen", "http://127.0.0.1:7101"),
                    ("Certificate", "/no/such/file"),
                    ("Drain:Seconds", "0"),
                    ("Reflection", "perhaps"),
                    ("Ledger:ExpectReplication", "perhaps"),
                    ("Ledger:CoverInterval", "6"),
                    ("Ledger:CoverLeaves", "0"),
                    ("Peers:custody", "custody:7102"),
                    ("Metrics:Listen", "https://0.0.0.0:9464")
                ),
                "calllog",
                "custody"
            )
        );
        Assert.Equal(
            [
                "Peers:calllog is not set",
                "Drain:Seconds must be a whole number from 1 to 300",
                "Reflection must be true or false",
                "Ledger:ExpectReplication must be true or false",
                "Ledger:CoverInterval must be a whole number from 0 to 5",
                "Ledger:CoverLeaves must be a whole number from 1 to 256",
                "Ledger:Connection is not set",
                "Broker:Uri must be an address that begins with amqp: or amqps: or memory:",
                "Listen must be an address that begins with https:",
                "Certificate: there is no file /no/such/file",
                "CertificateKey is not set",
                "Agreement is not set",
                "Checkpoint:File is not set",
                "Checkpoint:Key is not set",
                "Peers:custody must be an address that begins with https:",
                "Metrics:Listen must be an address that begins with http:",
            ],
            e.Wrong
        );
    }

    [Fact]
    public void Given_settings_are_read_and_the_others_have_their_defaults()
    {
        // Each file must exist, and only its owner may use a key file.
        var file = Path.GetTempFileName();
        var settings = Settings.Read(
            Given(
                ("Ledger:Connection", "sqlite:/tmp/a.db"),
                ("Broker:Uri", "amqp://u:p@h:5672/v, amqp://u:p@i/v"),
                ("Listen", "https://0.0.0.0:7101"),
                ("Certificate", file),
                ("CertificateKey", file),
                ("Agreement", file),
                ("Checkpoint:File", "/tmp/c"),
                ("Checkpoint:Key", file),
                ("Peers:custody", "https://custody:7102,https://custody-2:7102"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
            )
        );
        File.Delete(file);
        Assert.Equal((TimeSpan.FromSeconds(20), false, (string?)null), (settings.Drain, settings.Reflection, settings.BrokerAuthority));
        Assert.Equal("amqp://u:p@i/v", Assert.Single(settings.FurtherBrokers).ToString());
        Assert.Equal("https://custody-2:7102/", Assert.Single(settings.FurtherPeers["custody"]).ToString());
        Assert.Equal(
            ("https://custody:7102/", "http://collector:4317/"),
            (settings.Peers["custody"].ToString(), settings.Otlp!.ToString())
        );
    }

    private static IConfiguration Given(params (string Key, string Value)[] values) =>
        new ConfigurationBuilder().AddInMemoryCollection(values.ToDictionary(v => v.Key, v => (string?)v.Value)).Build();
}

public class TelemetryTests
{
    [Fact]
    public void Only_listed_attributes_of_the_right_form_leave_the_process()
    {
        var kept = new List<Activity>();
        using var source = new ActivitySource(Telemetry.Source);
        using (
            Telemetry.Traces(Sdk.CreateTracerProviderBuilder()).AddProcessor(new SimpleActivityExportProcessor(new Keeper(kept))).Build()
        )
        using (var span = source.StartActivity("commit telemetry-test")!)
        {
            span.SetTag("ministries.record", "transfer_0123456789abcdefghjkmnpqrs");
            span.SetTag("ministries.case", "P-1");
            span.SetTag("ministries.cause", "prisoner/case_1/P-1/notify/2025-03-20");
            span.SetTag("ministries.position", 7L);
            span.SetTag("db.query.text", "select 1");
            span.SetTag("http.request.header.x", "y");
            span.SetStatus(ActivityStatusCode.Error, "P-1 is not there");
            span.AddException(new InvalidOperationException("P-1 is not there"));
        }
        var left = Assert.Single(kept, s => s.DisplayName == "commit telemetry-test");
        Assert.Equal(["ministries.position", "ministries.record"], left.TagObjects.Select(t => t.Key).Order());
        Assert.Equal((ActivityStatusCode.Error, null), (left.Status, left.StatusDescription));
        Assert.Empty(left.Events);
        Assert.True(left.Duration > TimeSpan.Zero);
    }

    private sealed class Keeper(List<Activity> kept) : BaseExporter<Activity>
    {
        public override ExportResult Export(in Batch<Activity> batch)
        {
            foreach (var span in batch)
                if (span.DisplayName.EndsWith("telemetry-test", StringComparison.Ordinal))
                    kept.Add(span);
            return ExportResult.Success;
        }
    }
}

public class HostTests
{
    [Fact]
    [System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
    public async Task Only_its_owner_can_read_and_write_a_services_files()
    {
        await using var running = new Running();
        await running.InitializeAsync();
        await running.Log();
        string[] files = Directory.GetFiles(running.Folder, "calllog.*");
        foreach (var name in (string[])["calllog.db", "calllog.db-wal", "calllog.checkpoint"])
            Assert.Contains(Path.Combine(running.Folder, name), files);
        Assert.All(files, f => Assert.Equal(PrivateFiles.Mode, File.GetUnixFileMode(f)));
    }

    [Fact]
    public async Task Readiness_differs_from_liveness_and_a_stop_finishes_the_running_call()
    {
        await using var running = new Running();
        await running.InitializeAsync();
        var health = new Health.HealthClient(running.Channel(running.CertificateOf("operator"), signer: null));
        await Running.Until(
            async () => await StatusOf(ServiceHost.Ready) == HealthCheckResponse.Types.ServingStatus.Serving,
            "it is ready"
        );
        running.Host.Services.GetRequiredService<Lifecycle>().Say("broker", false);
        Assert.Equal(HealthCheckResponse.Types.ServingStatus.Serving, await StatusOf(""));

        var (asked, answer) = (new TaskCompletionSource(), new TaskCompletionSource<IMessage?>());
        running.Ask = _ =>
        {
            asked.TrySetResult();
            return answer.Task;
        };
        var call = running.Log();
        await asked.Task.WaitAsync(Running.Cancel);
        var stopping = running.Host.StopAsync(Running.Cancel);
        Assert.False(stopping.IsCompleted);
        answer.SetResult(null);
        Assert.NotEmpty((await call).Call);
        await stopping;
        await Assert.ThrowsAnyAsync<RpcException>(() => StatusOf(""));

        async Task<HealthCheckResponse.Types.ServingStatus> StatusOf(string service) =>
            (await health.CheckAsync(new HealthCheckRequest { Service = service }, cancellationToken: Running.Cancel)).Status;
    }

    [Fact]
    public async Task A_ledger_behind_its_checkpoint_is_not_served_and_the_exit_code_says_so()
    {
        var running = new Running();
        await running.InitializeAsync();
        await running.Host.StopAsync(Running.Cancel);
        await running.Host.DisposeAsync();
        try
        {
            foreach (var file in Directory.GetFiles(running.Folder, "calllog.db*"))
                File.Delete(file);
            Assert.Equal(ServiceHost.LedgerRefused, await RunAgain(running));
        }
        finally
        {
            Directory.Delete(running.Folder, recursive: true);
        }
    }

    /// <summary>Runs the service anew on what a host has left. Returns the exit code.</summary>
    private static async Task<int> RunAgain(Running running)
    {
        var home = Path.Combine(running.Folder, "service", "calllog");
        return await ServiceHost.Run(
            [
                $"--Ledger:Connection=sqlite:{Path.Combine(running.Folder, "calllog.db")}",
                "--Broker:Uri=amqp://127.0.0.1:1",
                "--Listen=https://127.0.0.1:0",
                $"--Agreement={running.AgreementFile}",
                $"--Certificate={Path.Combine(home, "system.pem")}",
                $"--CertificateKey={Path.Combine(home, "system.key")}",
                $"--Checkpoint:File={Path.Combine(running.Folder, "calllog.checkpoint")}",
                $"--Checkpoint:Key={Path.Combine(home, "checkpoint.key")}",
            ],
            new Service
            {
                Name = "calllog",
                Streams = [Cases.Kind],
                Map = _ => { },
            }
        );
    }

    private static async Task Change(Running running, string sql)
    {
        await using var database = new Microsoft.Data.Sqlite.SqliteConnection(
            $"Data Source={Path.Combine(running.Folder, "calllog.db")};Pooling=False"
        );
        await database.OpenAsync(Running.Cancel);
        await using var command = database.CreateCommand();
        command.CommandText = sql;
        await command.ExecuteNonQueryAsync(Running.Cancel);
    }

    [Fact]
    public async Task A_ledger_whose_last_entry_is_ahead_of_the_clock_is_not_served_and_the_exit_code_says_so()
    {
        var running = new Running();
        await running.InitializeAsync();
        await running.Host.StopAsync(Running.Cancel);
        await running.Host.DisposeAsync();
        try
        {
            await Change(running, $"update head set last_time = last_time + {TimeSpan.FromDays(30).Ticks}");
            Assert.Equal(ServiceHost.ClockBehind, await RunAgain(running));
        }
        finally
        {
            Directory.Delete(running.Folder, recursive: true);
        }
    }

    [Fact]
    public async Task A_service_whose_database_takes_no_commits_is_not_ready_until_it_takes_them_again()
    {
        await using var running = new Running();
        await running.InitializeAsync();
        var life = running.Host.Services.GetRequiredService<Lifecycle>();
        await Running.Until(() => Task.FromResult(life.Ready), "ready");
        await using (
            var holder = new Microsoft.Data.Sqlite.SqliteConnection(
                $"Data Source={Path.Combine(running.Folder, "calllog.db")};Pooling=False"
            )
        )
        {
            await holder.OpenAsync(Running.Cancel);
            await using var held = holder.BeginTransaction(deferred: false);
            await Running.Until(() => Task.FromResult(!life.Ready), "not ready without a write");
            // What can be read is read.
            Assert.NotNull(await running.Ledger.ReadEntry(0, null, Running.Cancel));
        }
        await Running.Until(() => Task.FromResult(life.Ready), "ready again");
    }
}
