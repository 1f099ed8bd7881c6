using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Serving;
using Ministries.Trust;

namespace Ministries.Hosting.Tests;

/// <summary>Background work may fail. It neither stops in silence nor ends the service.</summary>
public sealed class BackgroundTests
{
    private const string Text = "what may tell of a person";

    // Applies only to what the host of this test starts, because other tests' hosts run in this process too.
    private static readonly AsyncLocal<Func<string, bool>?> Fails = new();

    // No other test of this process starts this service.
    private const string Failing = "consular";
    private static volatile bool _threadFails;

    static BackgroundTests()
    {
        SupervisedService.Begins = work =>
        {
            if (Fails.Value?.Invoke(work) == true)
                throw new InvalidOperationException(Text);
        };
        Probe.Hook = point =>
        {
            if (_threadFails && point == "before-take" && Thread.CurrentThread.Name == $"ledger {Failing}")
                throw new InvalidOperationException(Text);
        };
    }

    private static async Task<Running> Start()
    {
        var running = new Running();
        await running.InitializeAsync();
        return running;
    }

    public static TheoryData<string> Works() =>
        [.. typeof(ServiceHost).Assembly.GetTypes().Where(t => t.IsSubclassOf(typeof(SupervisedService))).Select(t => t.Name)];

    [Fact]
    public void All_background_work_is_supervised()
    {
        // The services too, with all assemblies that they load.
        foreach (var assembly in (string[])["Ministries.Hosting", "Ministries.Ledger", "Ministries.Trust"])
            Assert.All(
                System.Reflection.Assembly.Load(assembly).GetTypes().Where(t => t.IsAssignableTo(typeof(IHostedService)) && !t.IsAbstract),
                t => Assert.True(t.IsSubclassOf(typeof(SupervisedService)), t.FullName)
            );
        Assert.Equal(10, Works().Count);
    }

    [Fact]
    public async Task All_background_work_of_the_host_is_supervised_or_the_frameworks_own()
    {
        await using var running = await Start();
        var all = running.Host.Services.GetServices<IHostedService>().ToList();
        Assert.All(
            all,
            s =>
                Assert.True(
                    s is SupervisedService || s.GetType().Assembly.GetName().Name!.Split('.')[0] is "Microsoft" or "OpenTelemetry",
                    s.GetType().FullName
                )
        );
        Assert.Equal(Works().Select(w => w.Data).Order(), all.OfType<SupervisedService>().Select(s => s.GetType().Name).Order());
        // If anything else fails, the process ends and names it (Host).
        Assert.Equal(
            BackgroundServiceExceptionBehavior.StopHost,
            running
                .Host.Services.GetRequiredService<Microsoft.Extensions.Options.IOptions<HostOptions>>()
                .Value.BackgroundServiceExceptionBehavior
        );
    }

    [Theory]
    [MemberData(nameof(Works))]
    public async Task Work_that_fails_is_restarted_and_only_the_exceptions_type_is_logged(string work)
    {
        var begun = 0;
        Fails.Value = name => name == work && Interlocked.Increment(ref begun) <= 3;
        await using var running = await Start();
        await Running.Until(() => Task.FromResult(Volatile.Read(ref begun) >= 4), "it was begun anew");
        await running.Log();
        Assert.False(running.Host.Lifetime.ApplicationStopping.IsCancellationRequested);
        Assert.Equal(
            3,
            running.Lines.Count(l => l.StartsWith($"{work} failed and starts again") && l.Contains(nameof(InvalidOperationException)))
        );
        Assert.DoesNotContain(running.Lines, l => l.Contains(Text));
    }

    [Fact]
    public async Task All_work_goes_on_after_a_clock_that_failed_for_a_while()
    {
        await using var running = await Start();
        running.Time.Fails = true;
        await Running.Until(() => Task.FromResult(running.Lines.Count(l => l.StartsWith("Reloading failed")) >= 2), "it was noticed");
        running.Time.Fails = false;
        var next = Signing.Next(running.Folder, a => Signing.Of(a, "ua/mfa").DeniedCertificates.Add("0A"), ["ua/mfa"]);
        await Running.Until(
            () => Task.FromResult(running.Agreements.InForce.Permissions.Agreement.Version == next.Version),
            "it is looked for new files"
        );
        await running.Log();
        Assert.False(running.Host.Lifetime.ApplicationStopping.IsCancellationRequested);
        Assert.DoesNotContain(running.Lines, l => l.Contains("the clock that fails"));
    }

    [Fact]
    public async Task A_ledger_whose_thread_fails_ends_the_process_with_its_exit_code_and_nobody_waits_for_ever()
    {
        await using var running = new Running();
        Pki.Init(running.Folder, StandardAgreement.Read(), TimeProvider.System);
        await running.Start(Failing, new Dictionary<string, Uri>());
        var life = running.Host.Services.GetRequiredService<Lifecycle>();
        _threadFails = true;
        // The thread takes one more batch, and then nobody takes any.
        await Running.Until(
            async () =>
            {
                await Assert.ThrowsAnyAsync<Grpc.Core.RpcException>(() => running.Log());
                return life.ExitCode == ServiceHost.BackgroundFailed && running.Host.Lifetime.ApplicationStopping.IsCancellationRequested;
            },
            "the process ends"
        );
        Assert.Contains(
            running.Lines,
            l => l.Contains("the thread that commits has failed") && l.Contains(nameof(InvalidOperationException))
        );
        Assert.DoesNotContain(running.Lines, l => l.Contains(Text));
    }

    private sealed class Unsupervised : BackgroundService
    {
        protected override async Task ExecuteAsync(CancellationToken stoppingToken)
        {
            await Task.Yield();
            throw new InvalidOperationException(Text);
        }
    }

    public static TheoryData<string, int, string> Endings() =>
        new()
        {
            {
                "of work that nothing restarts",
                ServiceHost.BackgroundFailed,
                $"custody: {nameof(Unsupervised)} failed: System.InvalidOperationException"
            },
            { "that nobody foresaw, at the start", ServiceHost.Failed, "custody: System.InvalidOperationException" },
        };

    [Theory]
    [MemberData(nameof(Endings))]
    public async Task An_exception_ends_the_process_with_an_exit_code_of_its_name(string which, int code, string named)
    {
        var folder = Directory.CreateTempSubdirectory("ending").FullName;
        try
        {
            Pki.Init(folder, StandardAgreement.Read(), TimeProvider.System);
            var home = Path.Combine(folder, "service", "custody");
            var errors = new StringWriter();
            Assert.Equal(
                code,
                await ServiceHost.Run(
                    [
                        $"--Ledger:Connection=sqlite:{Path.Combine(folder, "custody.db")}",
                        "--Broker:Uri=amqp://127.0.0.1:1",
                        "--Listen=https://127.0.0.1:0",
                        $"--Agreement={Path.Combine(folder, "agreement.json")}",
                        $"--Certificate={Path.Combine(home, "system.pem")}",
                        $"--CertificateKey={Path.Combine(home, "system.key")}",
                        $"--Checkpoint:File={Path.Combine(folder, "custody.checkpoint")}",
                        $"--Checkpoint:Key={Path.Combine(home, "checkpoint.key")}",
                        "--Drain:Seconds=1",
                    ],
                    new Service
                    {
                        Name = "custody",
                        Streams = [Cases.Kind],
                        Map = _ => { },
                        Register = services =>
                        {
                            if (code == ServiceHost.Failed)
                                throw new InvalidOperationException(Text);
                            services.AddHostedService<Unsupervised>();
                        },
                    },
                    errors
                )
            );
            Assert.Contains(named, errors.ToString().Split('\n'));
            Assert.DoesNotContain(Text, errors.ToString());
            Assert.NotEmpty(which);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
