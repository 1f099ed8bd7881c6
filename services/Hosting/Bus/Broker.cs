using System.Globalization;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Text;
using System.Threading.Channels;
using MassTransit;
using Microsoft.Extensions.Logging;
using Ministries.Ledger;
using Ministries.Trust;
using RabbitMQ.Client;

namespace Ministries.Hosting.Bus;

/// <summary>The broker of several services in one process: made outside of their hosts and handed to each.</summary>
public sealed class MemoryBroker : IAsyncDisposable
{
    private readonly SemaphoreSlim _starting = new(1, 1);
    private bool _started;

    internal IBusControl Bus { get; } = MassTransit.Bus.Factory.CreateUsingInMemory(bus => Broker.Common(bus, "memory"));

    internal async Task Start(CancellationToken cancel)
    {
        await _starting.WaitAsync(cancel);
        try
        {
            if (!_started)
                await Bus.StartAsync(cancel);
            _started = true;
        }
        finally
        {
            _starting.Release();
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_started)
            await Bus.StopAsync(TimeSpan.FromSeconds(5));
        _starting.Dispose();
    }
}

/// <summary>A service's link to the broker: its topology, its one endpoint and its publisher. It can be replaced while the service
/// runs.</summary>
internal sealed partial class Broker(Service service, BusOptions options, Intake intake, ILogger<Broker> log, MemoryBroker? memory = null)
    : IAsyncDisposable
{
    internal const string CheckpointHeader = "ministries-checkpoint",
        ProcessHeader = "ministries-process";

    private readonly string _self = Guid.NewGuid().ToString("N");
    private readonly Channel<long> _canaries = Channel.CreateBounded<long>(
        new BoundedChannelOptions(64) { FullMode = BoundedChannelFullMode.DropOldest }
    );
    private readonly List<Socket> _sockets = [];
    private IBusControl? _control;
    private HostReceiveEndpointHandle[] _handles = [];
    private volatile IBus? _bus;
    private readonly BrokerNodes _nodes = new(service.Name, options, log);

    /// <summary>The service's queue.</summary>
    internal static string QueueOf(string service) => $"ministries.{service}";

    /// <summary>Where the broker puts what it gave up on.</summary>
    internal static string DeadQueueOf(string service) => $"ministries.{service}.dead";

    /// <summary>Where the service sends its canaries.</summary>
    internal static string CanaryExchangeOf(string service) => $"ministries.{service}.canary";

    /// <summary>A new queue for canaries. A connection that was abandoned may still hold its own, so each connection has another one.
    /// </summary>
    internal static string CanaryQueueOf(string service) => $"{QueueOf(service)}.canary.{Guid.NewGuid():N}";

    /// <summary>The properties of a message that tells the other replicas a checkpoint, without a connection of the bus.</summary>
    internal static BasicProperties Telling(string checkpoint) =>
        new()
        {
            ContentType = Wire.Protobuf.MediaType,
            Headers = new Dictionary<string, object?> { [Wire.CanaryHeader] = "0", [CheckpointHeader] = checkpoint },
        };

    /// <summary>The text of a header; null: there is none.</summary>
    internal static string? TextOf(IReadOnlyBasicProperties properties, string header) =>
        properties.Headers?.TryGetValue(header, out var value) == true && value is byte[] text ? Encoding.UTF8.GetString(text) : null;

    /// <summary>What to publish with; null: not started.</summary>
    internal IBus? Bus => _bus;

    /// <summary>Numbers of canaries of this process that came back.</summary>
    internal ChannelReader<long> Canaries => _canaries.Reader;

    /// <summary>Connects, declares the topology and begins to receive. Returns when all of it is done.</summary>
    internal async Task Start(CancellationToken cancel)
    {
        var canary = CanaryQueueOf(service.Name);
        if (memory is not null)
        {
            await memory.Start(cancel);
            _handles =
            [
                memory.Bus.ConnectReceiveEndpoint(QueueOf(service.Name), Receive),
                memory.Bus.ConnectReceiveEndpoint(canary, ReceiveCanary),
            ];
            foreach (var handle in _handles)
                await handle.Ready.WaitAsync(cancel);
            _bus = memory.Bus;
            return;
        }
        var control = MassTransit.Bus.Factory.CreateUsingRabbitMq(bus => Configure(bus, canary));
        _control = control;
        control.ConnectReceiveObserver(new Acknowledged());
        await control.StartAsync(cancel);
        cancel.ThrowIfCancellationRequested();
        _bus = control;
    }

    /// <summary>Ends the connection. Where the client hangs, it is abandoned after some seconds.</summary>
    internal async Task Stop()
    {
        _bus = null;
        try
        {
            foreach (var handle in _handles)
                await Aside(() => handle.StopAsync(CancellationToken.None)).WaitAsync(TimeSpan.FromSeconds(3));
            if (_control is { } control)
                await Aside(() => control.StopAsync(TimeSpan.FromSeconds(2))).WaitAsync(TimeSpan.FromSeconds(3));
        }
        catch (Exception e)
        {
            LogStopFailed(log, service.Name, e.GetType().Name);
        }
        (_handles, _control) = ([], null);
        Abort();
    }

    public async ValueTask DisposeAsync() => await Stop();

    /// <summary>Starts a call of the client on another thread: the client may hang before it returns a task, and must not block the
    /// watchdog.</summary>
    internal static Task Aside(Func<Task> begin) => Task.Run(begin);

    /// <inheritdoc cref="Aside(Func{Task})"/>
    internal static Task<T> Aside<T>(Func<Task<T>> begin) => Task.Run(begin);

    /// <summary>The greatest checkpoint that this replica signed or heard of, which goes with each canary to the service's other replicas;
    /// null: there is none.</summary>
    internal Func<string?> Checkpoint { get; init; } = () => null;

    /// <summary>Receives the checkpoints of the other replicas, which anybody may have sent.</summary>
    internal Action<string> Heard { get; init; } = _ => { };

    /// <summary>How long messages have been in hand while no event had its effect; zero: none is in hand.</summary>
    internal TimeSpan Held => intake.Held;

    /// <summary>Ends the connection and gives back what is in hand, so that another replica receives it.</summary>
    internal async Task GiveBack()
    {
        var stopping = Stop();
        // First the consumer is cancelled: what is given back before would come here again.
        while (await Task.WhenAny(stopping, Task.Delay(TimeSpan.FromMilliseconds(500))) != stopping)
            intake.GiveBack();
        intake.GiveBack();
    }

    internal Task SendCanary(long number, CancellationToken cancel) =>
        _bus is { } bus
            ? bus.Publish(
                new Canary { Number = number },
                context =>
                {
                    context.Headers.Set(Wire.CanaryHeader, number.ToString(CultureInfo.InvariantCulture));
                    context.Headers.Set(ProcessHeader, _self);
                    if (Checkpoint() is { } checkpoint)
                        context.Headers.Set(CheckpointHeader, checkpoint);
                    context.Durable = false;
                },
                cancel
            )
            : throw new InvalidOperationException("the bus is not started");

    /// <summary>What every bus has: one serializer, exchanges named after events.</summary>
    internal static void Common(IBusFactoryConfigurator bus, string service)
    {
        var serializer = new ProtobufSerializer();
        bus.ClearSerialization();
        bus.AddSerializer(serializer);
        bus.AddDeserializer(serializer, isDefault: true);
        bus.MessageTopology.SetEntityNameFormatter(new ExchangeNames(service));
    }

    private void Configure(IRabbitMqBusFactoryConfigurator bus, string canary)
    {
        ConfigureConnection(bus);
        Common(bus, service.Name);
        bus.DeployPublishTopology = true;
        foreach (var type in EventTypes.Of(service.Name))
            EventKind.Of(type.FullName)!.Declare(bus, own: true);
        foreach (var type in service.Reactions.Where(r => r.Producer != service.Name).Select(r => r.Event.FullName).Distinct())
            EventKind.Of(type)!.Declare(bus, own: false);
        if (service.Reactions.Count > 0)
            bus.ReceiveEndpoint(QueueOf(service.Name), ConfigureQueue);
        bus.ReceiveEndpoint(
            canary,
            endpoint =>
            {
                endpoint.Durable = false;
                endpoint.AutoDelete = true;
                endpoint.Exclusive = true;
                endpoint.Bind(CanaryExchangeOf(service.Name));
                ReceiveCanary(endpoint);
            }
        );
    }

    private void ConfigureConnection(IRabbitMqBusFactoryConfigurator bus)
    {
        var uri = options.Broker;
        var (user, password) = BrokerNodes.Credentials(uri);
        bus.Host(
            uri.Host,
            (ushort)BrokerNodes.PortOf(uri),
            BrokerNodes.VirtualHost(uri),
            service.Name,
            host =>
            {
                host.Username(user);
                host.Password(password);
                host.PublisherConfirmation = true;
                host.Heartbeat(TimeSpan.FromSeconds(6));
                host.RequestedConnectionTimeout(PeerSocket.Silence);
                // One after the other is tried, so the next broker is reached when one is gone.
                if (options.Brokers.Count > 1)
                    host.UseCluster(cluster =>
                    {
                        foreach (var node in options.Brokers)
                            cluster.Node($"{node.Host}:{BrokerNodes.PortOf(node).ToString(CultureInfo.InvariantCulture)}");
                    });
                host.OnRefreshConnectionFactory = factory =>
                {
                    factory.SocketFactory = Kept;
                    return Task.CompletedTask;
                };
                host.ContinuationTimeout(TimeSpan.FromSeconds(10));
                if (uri.Scheme == "amqps")
                    host.UseSsl(ssl =>
                    {
                        ssl.Protocol = SslProtocols.Tls12 | SslProtocols.Tls13;
                        ssl.ServerName = uri.Host;
                        ssl.EnforcePolicyErrors(
                            SslPolicyErrors.RemoteCertificateChainErrors
                                | SslPolicyErrors.RemoteCertificateNameMismatch
                                | SslPolicyErrors.RemoteCertificateNotAvailable
                        );
                        ssl.CertificateValidationCallback = (_, certificate, sent, errors) => _nodes.Trusts(certificate, sent, errors);
                    });
            }
        );
    }

    private void ConfigureQueue(IRabbitMqReceiveEndpointConfigurator endpoint)
    {
        endpoint.SetQuorumQueue();
        endpoint.SingleActiveConsumer = true;
        endpoint.SetQueueArgument("x-delivery-limit", options.DeliveryLimit);
        endpoint.SetQueueArgument("x-overflow", "reject-publish");
        endpoint.SetQueueArgument("x-dead-letter-strategy", "at-least-once");
        // Dead-lettering at least once needs a queue that refuses no message. Where it is full, it drops the oldest: the producer's
        // ledger has them all.
        endpoint.BindDeadLetterQueue(
            DeadQueueOf(service.Name),
            DeadQueueOf(service.Name),
            dead =>
            {
                dead.SetQuorumQueue();
                dead.SetQueueArgument("x-max-length", 10_000);
            }
        );
        Receive(endpoint);
    }

    private void Receive(IReceiveEndpointConfigurator endpoint)
    {
        Quiet(endpoint);
        endpoint.PrefetchCount = options.Prefetch;
        endpoint.ConcurrentMessageLimit = options.Prefetch;
        foreach (var reaction in service.Reactions)
        {
            if (endpoint is IInMemoryReceiveEndpointConfigurator local)
                local.Bind(reaction.Event.FullName);
            EventKind.Of(reaction.Event.FullName)!.Handle(endpoint, intake.Take);
        }
    }

    private void ReceiveCanary(IReceiveEndpointConfigurator endpoint)
    {
        Quiet(endpoint);
        if (endpoint is IInMemoryReceiveEndpointConfigurator local)
            local.Bind(CanaryExchangeOf("memory"));
        endpoint.Handler<Canary>(context =>
        {
            if (context.Headers.TryGetHeader(ProcessHeader, out var process) && process as string == _self)
                _canaries.Writer.TryWrite(context.Message.Number);
            else if (context.Headers.TryGetHeader(CheckpointHeader, out var checkpoint) && checkpoint is string note)
                Heard(note);
            return Task.CompletedTask;
        });
    }

    /// <summary>Keeps copies of messages and exceptions out of other queues. A message that fails or is unknown goes back to the broker,
    /// which sets it aside after some deliveries.</summary>
    private static void Quiet(IReceiveEndpointConfigurator endpoint)
    {
        endpoint.ConfigureConsumeTopology = false;
        endpoint.PublishFaults = false;
        endpoint.RethrowFaultedMessages();
        endpoint.ThrowOnSkippedMessages();
    }

    /// <inheritdoc cref="BrokerNodes.Connect"/>
    internal Task<IConnection> Connect(CancellationToken cancel) => _nodes.Connect("watchdog", cancel);

    // The socket of the bus's own connection. Where the client cannot close the connection in order, because the broker does not read it,
    // the socket is closed, so that nothing of an abandoned connection stays open.
    private TcpClientAdapter Kept(AddressFamily family)
    {
        var socket = BrokerNodes.LimitedSocket(family);
        lock (_sockets)
            _sockets.Add(socket);
        return new TcpClientAdapter(socket);
    }

    private void Abort()
    {
        lock (_sockets)
        {
            foreach (var socket in _sockets)
                socket.Dispose();
            _sockets.Clear();
        }
    }

    /// <summary>Lets tests stop the process after a message was acknowledged to the broker (<see cref="Probe"/>).</summary>
    private sealed class Acknowledged : IReceiveObserver
    {
        public Task PostReceive(ReceiveContext context)
        {
            Probe.At("after-ack");
            return Task.CompletedTask;
        }

        public Task PreReceive(ReceiveContext context) => Task.CompletedTask;

        public Task PostConsume<T>(ConsumeContext<T> context, TimeSpan duration, string consumerType)
            where T : class => Task.CompletedTask;

        public Task ConsumeFault<T>(ConsumeContext<T> context, TimeSpan duration, string consumerType, Exception exception)
            where T : class => Task.CompletedTask;

        public Task ReceiveFault(ReceiveContext context, Exception exception) => Task.CompletedTask;
    }

    [LoggerMessage(1, LogLevel.Warning, "{Service}: the connection to the broker was not closed properly ({Error})")]
    private static partial void LogStopFailed(ILogger log, string service, string error);
}
