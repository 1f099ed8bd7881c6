using System.Globalization;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
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
    private const string CheckpointHeader = "ministries-checkpoint";

    private readonly string _self = Guid.NewGuid().ToString("N");
    private readonly Channel<long> _canaries = Channel.CreateBounded<long>(
        new BoundedChannelOptions(64) { FullMode = BoundedChannelFullMode.DropOldest }
    );
    private readonly List<Socket> _sockets = [];
    private IBusControl? _control;
    private HostReceiveEndpointHandle[] _handles = [];
    private volatile IBus? _bus;
    private volatile string? _distrusted;

    /// <summary>The service's queue.</summary>
    internal static string QueueOf(string service) => $"ministries.{service}";

    /// <summary>Where the broker puts what it gave up on.</summary>
    internal static string DeadQueueOf(string service) => $"ministries.{service}.dead";

    /// <summary>Where the service sends its canaries.</summary>
    internal static string CanaryExchangeOf(string service) => $"ministries.{service}.canary";

    /// <summary>What to publish with; null: not started.</summary>
    internal IBus? Bus => _bus;

    /// <summary>Numbers of canaries of this process that came back.</summary>
    internal ChannelReader<long> Canaries => _canaries.Reader;

    /// <summary>Connects, declares the topology and begins to receive. Returns when all of it is done.</summary>
    internal async Task Start(CancellationToken cancel)
    {
        // A connection that was abandoned may still hold its canary queue, so each connection has a queue of its own.
        var canary = $"{QueueOf(service.Name)}.canary.{Guid.NewGuid():N}";
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

    /// <summary>The greatest checkpoint that this replica signed, which goes with each canary to the service's other replicas; null:
    /// there is none.</summary>
    internal Func<string?> Checkpoint { get; init; } = () => null;

    /// <summary>Receives the checkpoints of the other replicas, which anybody may have sent.</summary>
    internal Action<string> Heard { get; init; } = _ => { };

    /// <summary>How long messages have been in hand of which none was settled; zero: none is in hand.</summary>
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
                    context.Headers.Set("ministries-process", _self);
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
        var (user, password) = Credentials(uri);
        bus.Host(
            uri.Host,
            (ushort)PortOf(uri),
            VirtualHost(uri),
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
                            cluster.Node($"{node.Host}:{PortOf(node).ToString(CultureInfo.InvariantCulture)}");
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
                        ssl.CertificateValidationCallback = (_, certificate, sent, errors) => Trusts(certificate, sent, errors);
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
            if (context.Headers.TryGetHeader("ministries-process", out var process) && process as string == _self)
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

    /// <summary>A connection of the plain client, to ask the broker without MassTransit: to whichever of the brokers answers first.</summary>
    internal Task<IConnection> Connect(CancellationToken cancel)
    {
        var factory = PlainConnection();
        return Aside(() =>
                factory.CreateConnectionAsync(
                    options.Brokers.Select(b => new AmqpTcpEndpoint(b.Host, PortOf(b), factory.Ssl)),
                    factory.ClientProvidedName,
                    cancel
                )
            )
            .WaitAsync(cancel);
    }

    private ConnectionFactory PlainConnection()
    {
        var uri = options.Broker;
        var (user, password) = Credentials(uri);
        var factory = new ConnectionFactory
        {
            VirtualHost = VirtualHost(uri),
            UserName = user,
            Password = password,
            AutomaticRecoveryEnabled = false,
            ClientProvidedName = $"{service.Name} watchdog",
            RequestedConnectionTimeout = TimeSpan.FromSeconds(3),
            SocketFactory = Limited,
            SocketReadTimeout = TimeSpan.FromSeconds(5),
            SocketWriteTimeout = TimeSpan.FromSeconds(5),
            HandshakeContinuationTimeout = TimeSpan.FromSeconds(3),
            ContinuationTimeout = TimeSpan.FromSeconds(3),
            RequestedHeartbeat = TimeSpan.FromSeconds(6),
        };
        if (uri.Scheme == "amqps")
            factory.Ssl = new SslOption
            {
                Enabled = true,
                ServerName = uri.Host,
                Version = SslProtocols.Tls12 | SslProtocols.Tls13,
                CertificateValidationCallback = (_, certificate, sent, errors) => Trusts(certificate, sent, errors),
            };
        return factory;
    }

    /// <summary>Whether a certificate is the broker's: it must be for the broker's name and issued by the authority that the settings name.
    /// The reason why it is not is logged once, not with each attempt.</summary>
    private bool Trusts(X509Certificate? certificate, X509Chain? sent, SslPolicyErrors errors)
    {
        var wrong = Wrong(certificate, sent, errors);
        if (wrong is not null && wrong != _distrusted)
            LogDistrusted(log, service.Name, wrong, options.BrokerAuthority ?? "one of the system's authorities");
        _distrusted = wrong;
        return wrong is null;
    }

    private string? Wrong(X509Certificate? certificate, X509Chain? sent, SslPolicyErrors errors)
    {
        if (certificate is null)
            return "it sent none";
        using var presented = X509CertificateLoader.LoadCertificate(certificate.GetRawCertData());
        // The client asks every broker by the first one's name. Each may have a certificate for its own name alone.
        if (errors.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch) && !options.Brokers.Any(b => presented.MatchesHostname(b.Host)))
            return $"{certificate.Subject} is not for {string.Join(" or ", options.Brokers.Select(b => b.Host))}";
        errors &= ~SslPolicyErrors.RemoteCertificateNameMismatch;
        if (options.BrokerAuthority is null)
            return errors == SslPolicyErrors.None ? null : $"{certificate.Subject}, issued by {certificate.Issuer}: {errors}";
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.DisableCertificateDownloads = true;
        chain.ChainPolicy.CustomTrustStore.ImportFromPemFile(options.BrokerAuthority);
        if (sent is not null)
            chain.ChainPolicy.ExtraStore.AddRange(sent.ChainPolicy.ExtraStore);
        if (chain.Build(presented))
            return null;
        return $"{certificate.Subject}, issued by {certificate.Issuer}: "
            + string.Join(", ", chain.ChainStatus.Select(s => s.Status).Distinct());
    }

    // The socket of the bus's own connection. Where the client cannot close the connection in order, because the broker does not read it,
    // the socket is closed, so that nothing of an abandoned connection stays open.
    private TcpClientAdapter Kept(AddressFamily family)
    {
        var socket = LimitedSocket(family);
        lock (_sockets)
            _sockets.Add(socket);
        return new TcpClientAdapter(socket);
    }

    private static TcpClientAdapter Limited(AddressFamily family) => new(LimitedSocket(family));

    private static Socket LimitedSocket(AddressFamily family)
    {
        var socket = new Socket(family, SocketType.Stream, ProtocolType.Tcp);
        PeerSocket.Limit(socket);
        return socket;
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

    private static int PortOf(Uri uri) =>
        uri.Port > 0 ? uri.Port
        : uri.Scheme == "amqps" ? 5671
        : 5672;

    private static string VirtualHost(Uri uri) => uri.AbsolutePath.Length > 1 ? Uri.UnescapeDataString(uri.AbsolutePath[1..]) : "/";

    private static (string User, string Password) Credentials(Uri uri)
    {
        var parts = uri.UserInfo.Split(':', 2);
        return parts is [{ Length: > 0 } user, var password]
            ? (Uri.UnescapeDataString(user), Uri.UnescapeDataString(password))
            : ("guest", "guest");
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

    [LoggerMessage(2, LogLevel.Error, "{Service}: the broker's certificate is not accepted: {Why}; it must be issued by {Authority}")]
    private static partial void LogDistrusted(ILogger log, string service, string why, string authority);
}
