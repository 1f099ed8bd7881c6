using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Hosting.Bus;

namespace Ministries.Bus.Tests;

/// <summary>A broker that answers and does not serve: what the services say of it, and that they go on by themselves afterwards. Each test
/// has a node of its own, because what it does concerns the whole node.</summary>
[Collection("RabbitMQ")]
public sealed class BrokerStateTests : IAsyncLifetime
{
    private RabbitMq _node = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() => _node = await RabbitMq.Create();

    public ValueTask DisposeAsync()
    {
        _node.Stop();
        return ValueTask.CompletedTask;
    }

    // Shorter than the defaults, in the same order.
    private static BusOptions Quick(BusOptions options) =>
        options with
        {
            FillAge = TimeSpan.FromHours(1),
            CanaryInterval = TimeSpan.FromMilliseconds(200),
            CanaryDeadline = TimeSpan.FromSeconds(2),
            RenewAfter = TimeSpan.FromSeconds(1),
            EndAfter = TimeSpan.FromSeconds(4),
            DeclareInterval = TimeSpan.FromSeconds(1),
        };

    private async Task<int> Connections() =>
        (await _node.Control("list_connections", "pid")).Split('\n').Count(l => l.Contains('<', StringComparison.Ordinal));

    // Longer than a client may stall before its process ends.
    private static Task WhileNeitherIsReady(BusFixture fixture)
    {
        var since = Stopwatch.StartNew();
        return BusFixture.Until(
            () =>
            {
                Assert.False(fixture.Status(fixture.CallLog).BrokerReady);
                Assert.False(fixture.Status(fixture.Consular).BrokerReady);
                return since.Elapsed > TimeSpan.FromSeconds(8);
            },
            "the time is over"
        );
    }

    private static async Task UntilBothSay(BusFixture fixture, string what)
    {
        foreach (var service in (Service[])[fixture.CallLog, fixture.Consular])
        {
            BusStatus status = fixture.Status(service);
            await BusFixture.Until(
                () =>
                    Task.FromResult(
                        status is { BrokerReady: false, BrokerObstacle: { } obstacle } && obstacle.Contains(what, StringComparison.Ordinal)
                    ),
                () => $"{service.Name} says that {what}; ready: {status.BrokerReady}, {status.BrokerObstacle}"
            );
        }
    }

    private static async Task UntilBothAreReadyAndNoneEnded(BusFixture fixture)
    {
        foreach (var service in (Service[])[fixture.CallLog, fixture.Consular])
        {
            await BusFixture.Until(() => fixture.Status(service).BrokerReady, $"{service.Name} is ready again");
            Assert.Null(fixture.Status(service).BrokerObstacle);
            Assert.Equal(ServiceHost.Stopped, fixture.HostOf(service).Services.GetRequiredService<Lifecycle>().ExitCode);
        }
    }

    // Neither service ends while the broker does not carry messages, and both go on when it does again. What was recorded meanwhile, and
    // since then, has its effects.
    private static async Task Outlast(BusFixture fixture, string said, Func<Task> mend)
    {
        await UntilBothSay(fixture, said);
        List<string> events = [await fixture.Log(), await fixture.Submit()];
        await WhileNeitherIsReady(fixture);
        await mend();
        await UntilBothAreReadyAndNoneEnded(fixture);
        events.Add(await fixture.Log());
        await fixture.UntilEffects(events);
    }

    [Fact]
    public async Task Under_the_brokers_alarm_a_service_is_not_ready_says_why_and_opens_no_connections()
    {
        await using var fixture = new BusFixture(_node.Uri, Quick);
        await fixture.StartReady(fixture.CallLog);
        var before = await Connections();
        await _node.Control("set_disk_free_limit", "1000000GB");
        // One that starts during the alarm is not ready either, although the broker takes the first message of each connection.
        await fixture.Start(fixture.Consular);
        await UntilBothSay(fixture, "raised an alarm");
        List<string> events = [await fixture.Log(), await fixture.Submit()];
        await WhileNeitherIsReady(fixture);
        // Of each service: the bus's connection and the two that ask.
        Assert.InRange(await Connections(), before, 6);
        await _node.Control("set_disk_free_limit", "50MB");
        await UntilBothAreReadyAndNoneEnded(fixture);
        events.Add(await fixture.Log());
        await fixture.UntilEffects(events);
        // The bus's connection and the one that asks.
        await BusFixture.Until(async () => await Connections() <= 4, () => "the others are closed");
    }

    [Fact]
    public async Task Without_its_permissions_a_service_is_not_ready_says_why_and_does_not_end()
    {
        await using var fixture = new BusFixture(_node.Uri, Quick);
        await fixture.StartBoth();
        await _node.Control("set_permissions", "-p", "/", "guest", "", "", "");
        // Channels that are open keep what they were permitted.
        await _node.Control("close_all_connections", "permissions have changed");
        await Outlast(fixture, "refuses: ACCESS_REFUSED", () => _node.Control("set_permissions", "-p", "/", "guest", ".*", ".*", ".*"));
    }

    [Fact]
    public async Task Where_the_broker_delivers_no_messages_a_service_is_not_ready_says_why_and_does_not_end()
    {
        await using var proxy = new Proxy(_node.Uri.Port);
        await using var fixture = new BusFixture(new UriBuilder(_node.Uri) { Port = proxy.Port }.Uri, Quick);
        await fixture.StartBoth();
        proxy.Swallows = true;
        await Outlast(
            fixture,
            "takes messages and delivers none",
            () =>
            {
                proxy.Swallows = false;
                return Task.CompletedTask;
            }
        );
    }

    [Fact]
    public async Task Where_the_broker_refuses_test_messages_a_service_is_not_ready_says_why_and_does_not_end()
    {
        await using var fixture = new BusFixture(_node.Uri, Quick);
        await fixture.StartBoth();
        const string full = """{"max-length":0,"overflow":"reject-publish"}""";
        await _node.Control("set_policy", "full", "^ministries\\..*\\.canary\\.", full, "--apply-to", "queues");
        await Outlast(fixture, "takes no test message", () => _node.Control("clear_policy", "full"));
    }

    [Fact]
    public async Task Where_the_broker_admits_no_further_connection_a_service_is_not_ready_says_why_and_does_not_end()
    {
        await using var fixture = new BusFixture(_node.Uri, Quick);
        await fixture.StartBoth();
        await _node.Control("set_vhost_limits", "-p", "/", """{"max-connections":0}""");
        // The connections of the plain client stay.
        foreach (var line in (await _node.Control("list_connections", "pid", "client_properties")).Split('\n'))
            if (line.Contains('<', StringComparison.Ordinal) && !line.Contains("watchdog", StringComparison.Ordinal))
                await _node.Control("close_connection", line[..(line.IndexOf('>', StringComparison.Ordinal) + 1)], "the operator says so");
        await Outlast(fixture, "connection limit (0) is reached", () => _node.Control("clear_vhost_limits", "-p", "/"));
    }

    [Fact]
    public async Task Exchanges_and_bindings_that_somebody_removes_are_declared_again_and_carry_the_next_events()
    {
        await using var fixture = new BusFixture(_node.Uri, Quick);
        await fixture.StartBoth();
        // A producer waits for the return of bindings only of events that somebody has taken before.
        List<string> events = [await fixture.Log(), await fixture.Submit()];
        await fixture.UntilEffects(events);
        // From here on, only messages bring events.
        fixture.LedgerReachable = false;
        const string type = "ministries.calllog.v1.CallLogged",
            queue = "ministries.consular";
        await using var connection = await Node.Connect(_node.Uri);
        await using var channel = await connection.CreateChannelAsync(cancellationToken: Cancel);
        await channel.ExchangeUnbindAsync(queue, type, "", cancellationToken: Cancel);
        events.Add(await fixture.Log());
        await fixture.UntilEffects(events);
        await channel.ExchangeDeleteAsync(type, cancellationToken: Cancel);
        events.Add(await fixture.Log());
        await fixture.UntilEffects(events);
        await channel.ExchangeDeleteAsync(queue, cancellationToken: Cancel);
        events.Add(await fixture.Submit());
        await fixture.UntilEffects(events);
        await channel.QueueUnbindAsync(queue, queue, "", cancellationToken: Cancel);
        events.Add(await fixture.Submit());
        await fixture.UntilEffects(events);
    }

    [Fact]
    public async Task Events_that_no_message_brought_are_counted()
    {
        var filled = 0L;
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Name == "ministries.events.filled")
                    listener.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((_, count, _, _) => Interlocked.Add(ref filled, count));
        listener.Start();
        await using var fixture = new BusFixture(_node.Uri, o => o with { FillAge = TimeSpan.Zero });
        List<string> events = [await fixture.Log(), await fixture.Submit()];
        await fixture.StartReady(fixture.Consular);
        await fixture.UntilEffects(events);
        Assert.Equal(2, Interlocked.Read(ref filled));
    }

    [Fact]
    public async Task Of_several_brokers_one_that_lives_is_used_and_another_when_it_dies()
    {
        var other = await RabbitMq.Create();
        try
        {
            var nobody = new Uri($"amqp://guest:guest@127.0.0.1:{Ports.Free()}");
            await using var fixture = new BusFixture(
                nobody,
                o => o with { FillAge = TimeSpan.FromSeconds(1), FurtherBrokers = [_node.Uri, other.Uri] }
            );
            await fixture.StartReady(fixture.CallLog);
            await fixture.StartReady(fixture.Consular);
            List<string> events = [await fixture.Log()];
            await fixture.UntilEffects(events);
            // The nodes are no cluster. Services that use different ones find each other's events in the ledgers.
            _node.Kill();
            events.Add(await fixture.Log());
            await fixture.UntilEffects(events);
            await UntilBothAreReadyAndNoneEnded(fixture);
        }
        finally
        {
            other.Stop();
        }
    }
}
