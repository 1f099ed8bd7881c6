using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Threading.Channels;
using MassTransit;
using Microsoft.Extensions.Logging;
using Ministries.Ledger;
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
                    context.Headers.Set(Wire.CanaryHeader, number.ToString(System.Globalization.CultureInfo.InvariantCulture));
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
            (ushort)(
                uri.Port > 0 ? uri.Port
                : uri.Scheme == "amqps" ? 5671
                : 5672
            ),
            VirtualHost(uri),
            service.Name,
            host =>
            {
                host.Username(user);
                host.Password(password);
                host.PublisherConfirmation = true;
                host.Heartbeat(TimeSpan.FromSeconds(6));
                host.RequestedConnectionTimeout(TimeSpan.FromSeconds(5));
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

    /// <summary>
    /// Binds the service's queue to the events that it reacts to. Their exchanges belong to the producers alone. MassTransit is not used
    /// for this: it would declare the exchanges, and who may declare an exchange may also delete it. A missing exchange is declared only
    /// where the broker allows it, as on a developer's machine.
    /// </summary>
    /// <param name="plain">A connection of the plain client.</param>
    /// <param name="cancel">Ends it.</param>
    /// <returns>The exchanges that are not there yet: their producer has not started.</returns>
    internal async Task<IReadOnlyList<string>> Bind(IConnection plain, CancellationToken cancel)
    {
        var missing = new List<string>();
        foreach (var exchange in service.Reactions.Select(r => r.Event.FullName).Distinct())
            if (
                !await Try(c => c.ExchangeBindAsync(QueueOf(service.Name), exchange, "", cancellationToken: cancel))
                && !await Try(async c =>
                {
                    await c.ExchangeDeclareAsync(exchange, ExchangeType.Fanout, durable: true, cancellationToken: cancel);
                    await c.ExchangeBindAsync(QueueOf(service.Name), exchange, "", cancellationToken: cancel);
                })
            )
                missing.Add(exchange);
        return missing;

        // Each attempt has its own channel, because a refusal closes the channel.
        async Task<bool> Try(Func<IChannel, Task> work)
        {
            await using var channel = await plain.CreateChannelAsync(cancellationToken: cancel);
            try
            {
                await work(channel);
                return true;
            }
            catch (RabbitMQ.Client.Exceptions.OperationInterruptedException e) when (e.ShutdownReason?.ReplyCode is 403 or 404)
            {
                return false;
            }
        }
    }

    /// <summary>A connection of the plain client, to ask the broker without MassTransit.</summary>
    internal ConnectionFactory PlainConnection()
    {
        var uri = options.Broker;
        var (user, password) = Credentials(uri);
        var factory = new ConnectionFactory
        {
            HostName = uri.Host,
            Port =
                uri.Port > 0 ? uri.Port
                : uri.Scheme == "amqps" ? 5671
                : 5672,
            VirtualHost = VirtualHost(uri),
            UserName = user,
            Password = password,
            AutomaticRecoveryEnabled = false,
            ClientProvidedName = $"{service.Name} watchdog",
            RequestedConnectionTimeout = TimeSpan.FromSeconds(3),
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
        if (errors.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch))
            return $"{certificate.Subject} is not for {options.Broker.Host}";
        if (options.BrokerAuthority is null)
            return errors == SslPolicyErrors.None ? null : $"{certificate.Subject}, issued by {certificate.Issuer}: {errors}";
        using var presented = X509CertificateLoader.LoadCertificate(certificate.GetRawCertData());
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
