using System.CommandLine;
using Ministries.Fixtures;
using Ministries.Hosting.Bus;
using Ministries.Ministry;
using RabbitMQ.Client;
using RabbitMQ.Client.Exceptions;

namespace Ministries.Bus.Tests;

/// <summary>The broker as a deployment's secrets make it: its users with exactly their permissions, and no other user.</summary>
public sealed class PermissionTests : IAsyncLifetime
{
    private const string Queue = "ministries.consular",
        Dead = "ministries.consular.dead",
        Type = "ministries.consular.v1.TransferRequestDrafted";

    private static readonly string[] Services = ["calllog", "custody", "consular"];
    private readonly string _folder = Directory.CreateTempSubdirectory("ministries-broker-").FullName;
    private RabbitMq _node = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        Assert.Equal(
            0,
            await new RootCommand { DeploymentCommand.Create() }
                .Parse(["deployment", "init", "--out", _folder])
                .InvokeAsync(cancellationToken: Cancel)
        );
        _node = await RabbitMq.Create($"load_definitions = {_folder}/rabbitmq/definitions.json");
    }

    public ValueTask DisposeAsync()
    {
        _node.Stop();
        Directory.Delete(_folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    private Uri As(string user)
    {
        var password = File.ReadAllText(Path.Combine(_folder, "authorities", $"{user}.broker-password"));
        return new UriBuilder(_node.Uri)
        {
            UserName = user,
            Password = password,
            Path = "ministries",
        }.Uri;
    }

    // Returns the broker's error code, or 0.
    private static async Task<int> Try(IConnection connection, Func<IChannel, Task> work)
    {
        await using var channel = await connection.CreateChannelAsync(
            new CreateChannelOptions(publisherConfirmationsEnabled: true, publisherConfirmationTrackingEnabled: true),
            Cancel
        );
        try
        {
            await work(channel);
            return 0;
        }
        catch (OperationInterruptedException e)
        {
            return e.ShutdownReason!.ReplyCode;
        }
        catch (PublishException)
        {
            return 403;
        }
    }

    [Fact]
    public async Task Services_with_their_own_users_send_and_take_in_events_in_whatever_order_they_start()
    {
        await using var fixture = new BusFixture(_node.Uri, o => o with { FillAge = TimeSpan.FromHours(1) }) { BrokerOf = As };
        // The consumer binds to exchanges whose producer has not started yet.
        await fixture.StartBoth();
        fixture.LedgerReachable = false;
        List<string> events = [await fixture.Log(), await fixture.Submit(), await fixture.Log()];
        await fixture.UntilEffects(events);
        // The broker loses its disk. Users, permissions and exchanges are made again at its start, queues and bindings by the services.
        _node.Kill();
        _node.Wipe();
        await _node.Start();
        fixture.LedgerReachable = true;
        events.Add(await fixture.Log());
        await fixture.UntilEffects(events);
        await BusFixture.Until(
            () => fixture.Status(fixture.Consular).BrokerReady && fixture.Status(fixture.CallLog).BrokerReady,
            "both are ready again"
        );
        fixture.LedgerReachable = false;
        events.Add(await fixture.Log());
        await fixture.UntilEffects(events);
    }

    [Fact]
    public async Task No_service_can_consume_empty_delete_or_write_what_is_anothers_and_the_operator_can_do_nothing()
    {
        await using var fixture = new BusFixture(_node.Uri) { BrokerOf = As };
        await fixture.StartBoth();
        Assert.Contains(Type, EventTypes.Of("consular").Select(t => t.FullName));
        foreach (var user in (string[])["calllog", "custody", "operator"])
        {
            await using var connection = await Node.Connect(As(user));
            foreach (var (what, work) in Attacks)
                Assert.True(await Try(connection, work) == 403, $"{user}: {what}");
        }
        await using var own = await Node.Connect(As("calllog"));
        await NorThroughItsOwnQueueOrExchange(own);
        // Each can do what it must.
        Assert.Equal(0, await Try(own, c => c.BasicPublishAsync("ministries.calllog.v1.CallLogged", "", new byte[1], Cancel).AsTask()));
        // The broker's default user does not exist.
        await Assert.ThrowsAnyAsync<Exception>(() => Node.Connect(new UriBuilder(_node.Uri) { Path = "ministries" }.Uri));
        await Assert.ThrowsAnyAsync<Exception>(() => Node.Connect(_node.Uri));
        // The attacked service's queue still works.
        await using var consular = await Node.Connect(As("consular"));
        await using var channel = await consular.CreateChannelAsync(cancellationToken: Cancel);
        Assert.Equal(1u, (await channel.QueueDeclarePassiveAsync(Queue, Cancel)).ConsumerCount);
    }

    // What the broker must refuse to whoever is not the consular service.
    private static readonly (string What, Func<IChannel, Task> Work)[] Attacks =
    [
        ("consume", c => c.BasicConsumeAsync(Queue, false, new AsyncDefaultBasicConsumer(c), Cancel)),
        ("consume the dead", c => c.BasicConsumeAsync(Dead, false, new AsyncDefaultBasicConsumer(c), Cancel)),
        ("get", c => c.BasicGetAsync(Queue, true, Cancel)),
        ("get the dead", c => c.BasicGetAsync(Dead, true, Cancel)),
        ("purge", c => c.QueuePurgeAsync(Queue, Cancel)),
        ("purge the dead", c => c.QueuePurgeAsync(Dead, Cancel)),
        ("delete a queue", c => c.QueueDeleteAsync(Queue, false, false, cancellationToken: Cancel)),
        ("delete its exchange", c => c.ExchangeDeleteAsync(Queue, cancellationToken: Cancel)),
        ("delete an event's exchange", c => c.ExchangeDeleteAsync(Type, cancellationToken: Cancel)),
        ("delete the canaries'", c => c.ExchangeDeleteAsync("ministries.consular.canary", cancellationToken: Cancel)),
        ("declare an event's exchange", c => c.ExchangeDeclareAsync(Type, "fanout", true, cancellationToken: Cancel)),
        (
            "declare a queue in its name",
            c => c.QueueDeclareAsync("ministries.consular.v1.Mine", true, false, false, cancellationToken: Cancel)
        ),
        ("declare a queue of any name", c => c.QueueDeclareAsync("mine", true, false, false, cancellationToken: Cancel)),
        ("have a queue named by the broker", c => c.QueueDeclareAsync(cancellationToken: Cancel)),
        ("write an event of another's", c => c.BasicPublishAsync(Type, "", new byte[1], Cancel).AsTask()),
        ("write into a queue", c => c.BasicPublishAsync("", Queue, new byte[1], Cancel).AsTask()),
        ("write to its exchange", c => c.BasicPublishAsync(Queue, "", new byte[1], Cancel).AsTask()),
        ("bind to another's queue", c => c.QueueBindAsync(Queue, "ministries.calllog.v1.CallLogged", "", cancellationToken: Cancel)),
        ("unbind another's queue", c => c.QueueUnbindAsync(Queue, Queue, "", cancellationToken: Cancel)),
        (
            "unbind another from an event",
            c => c.ExchangeUnbindAsync(Queue, "ministries.calllog.v1.CallLogged", "", cancellationToken: Cancel)
        ),
    ];

    // The broker demands that the owner of a queue may write to, and read from, the targets of dead-lettering.
    private static async Task NorThroughItsOwnQueueOrExchange(IConnection calllog)
    {
        Assert.Equal(
            403,
            await Try(
                calllog,
                c =>
                    c.QueueDeclareAsync(
                        "ministries.calllog.dead",
                        true,
                        false,
                        false,
                        new Dictionary<string, object?> { ["x-dead-letter-exchange"] = Type },
                        cancellationToken: Cancel
                    )
            )
        );
        Assert.Equal(
            403,
            await Try(
                calllog,
                c =>
                    c.ExchangeDeclareAsync(
                        "ministries.calllog.canary.0",
                        "fanout",
                        true,
                        false,
                        new Dictionary<string, object?> { ["alternate-exchange"] = Type },
                        cancellationToken: Cancel
                    )
            )
        );
    }

    [Fact]
    public async Task Each_events_exchange_exists_before_its_producer_and_is_as_the_producer_declares_it()
    {
        foreach (var service in Services)
        {
            await using var connection = await Node.Connect(As(service));
            foreach (var type in EventTypes.Of(service))
                Assert.Equal(
                    0,
                    await Try(connection, c => c.ExchangeDeclareAsync(type.FullName, "fanout", true, false, cancellationToken: Cancel))
                );
        }
    }
}
