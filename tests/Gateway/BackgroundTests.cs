using System.Collections.Concurrent;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Ministries.Ministry.Tests;
using Ministries.Serving;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary>A gateway's background work may fail. It neither stops in silence nor ends the gateway.</summary>
public class BackgroundTests(Services services)
{
    private const string Text = "what may tell of a person";

    // Applies only to what the host of this test starts, because other tests' hosts run in this process too.
    private static readonly AsyncLocal<Func<string, bool>?> Fails = new();

    static BackgroundTests() =>
        SupervisedService.Begins = work =>
        {
            if (Fails.Value?.Invoke(work) == true)
                throw new InvalidOperationException(Text);
        };

    public static TheoryData<string> Works() =>
        [.. typeof(GatewayHost).Assembly.GetTypes().Where(t => t.IsSubclassOf(typeof(SupervisedService))).Select(t => t.Name)];

    [Fact]
    public void All_background_work_is_supervised()
    {
        var all = typeof(GatewayHost).Assembly.GetTypes().Where(t => t.IsAssignableTo(typeof(IHostedService)) && !t.IsAbstract).ToList();
        // These do no work of their own: each holds a web host beside, whose own failure is the framework's to tell.
        Assert.Equal(
            [nameof(MetricsBeside), nameof(WitnessBeside)],
            all.Where(t => !t.IsSubclassOf(typeof(SupervisedService))).Select(t => t.Name).Order()
        );
        Assert.Equal(3, Works().Count);
    }

    [Theory]
    [MemberData(nameof(Works))]
    public async Task Work_that_fails_is_restarted_and_only_the_exceptions_type_is_logged(string work)
    {
        var (begun, log) = (0, new Lines());
        Fails.Value = name => name == work && Interlocked.Increment(ref begun) <= 3;
        var settings = RunningGateway.SettingsFor(services, "kr/mfa", Directory.CreateTempSubdirectory("background").FullName);
        await using (var host = GatewayHost.Build(settings, logging: logging => logging.ClearProviders().AddProvider(log)))
        {
            await host.StartAsync(Cancel);
            await Until(() => Task.FromResult(Volatile.Read(ref begun) >= 4));
            Assert.False(host.Lifetime.ApplicationStopping.IsCancellationRequested);
            await host.StopAsync(Cancel);
        }
        Assert.Equal(3, log.Written.Count(l => l.StartsWith($"{work} failed and starts again") && l.Contains("InvalidOperationException")));
        Assert.DoesNotContain(log.Written, l => l.Contains(Text));
        Directory.Delete(settings.State, recursive: true);
    }

    private sealed class Unsupervised : BackgroundService
    {
        protected override async Task ExecuteAsync(CancellationToken stoppingToken)
        {
            await Task.Yield();
            throw new InvalidOperationException(Text);
        }
    }

    [Fact]
    public async Task Work_that_nothing_restarts_ends_the_process_and_is_named_without_its_words()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.Services.AddHostedService<Unsupervised>();
        await using var host = builder.Build();
        var listen = new Uri("http://127.0.0.1:0");
        host.Urls.Add(listen.ToString());
        var error = new StringWriter();
        Assert.False(await GatewayHost.Run(listen, host, () => Task.CompletedTask, error, Cancel));
        Assert.Equal($"gateway: {nameof(Unsupervised)} failed: System.InvalidOperationException", error.ToString().Trim());
    }

    [Fact]
    public async Task A_gateway_that_is_told_to_stop_has_not_failed()
    {
        var settings = RunningGateway.SettingsFor(services, "kr/mfa", Directory.CreateTempSubdirectory("background").FullName);
        var error = new StringWriter();
        await using (var host = GatewayHost.Build(settings, logging: logging => logging.ClearProviders()))
            Assert.True(
                await GatewayHost.Run(
                    settings.Listen,
                    host,
                    () =>
                    {
                        host.Lifetime.StopApplication();
                        return Task.CompletedTask;
                    },
                    error,
                    Cancel
                )
            );
        Assert.Equal("", error.ToString());
        Directory.Delete(settings.State, recursive: true);
    }

    private sealed class Lines : ILoggerProvider, ILogger
    {
        public ConcurrentQueue<string> Written { get; } = [];

        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? e, Func<TState, Exception?, string> text) =>
            Written.Enqueue($"{text(state, e)} {e?.Message}");

        public void Dispose() { }
    }
}
