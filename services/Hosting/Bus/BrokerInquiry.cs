using System.Diagnostics;
using System.Globalization;
using Microsoft.Extensions.Logging;
using RabbitMQ.Client;
using RabbitMQ.Client.Events;
using RabbitMQ.Client.Exceptions;

namespace Ministries.Hosting.Bus;

/// <summary>Asks the broker itself, over connections of the plain client: whether it serves the service's queue, whether exchanges and
/// bindings exist, and why it does not take and deliver the service's messages.</summary>
internal sealed partial class BrokerInquiry(Service service, Broker broker, BusOptions options, ILogger log)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(3);

    private IConnection? _plain;
    private IChannel? _channel;
    private IConnection? _publisher;
    private volatile string? _alarm;
    private string? _unbound;
    private bool _bound;
    private long _declared;

    /// <summary>The broker's answer.</summary>
    /// <param name="Reached">Whether it answers.</param>
    /// <param name="Consumed">Whether the service's queue has a consumer.</param>
    internal readonly record struct Answer(bool Reached, bool Consumed);

    /// <summary>Why the broker does not carry the service's messages.</summary>
    /// <param name="Text">The reason, as the service says it.</param>
    /// <param name="Kind">How far the reason goes.</param>
    internal sealed record Obstacle(string Text, ObstacleKind Kind);

    /// <summary>How far an obstacle goes.</summary>
    internal enum ObstacleKind
    {
        /// <summary>The inquiry itself failed, and the reason may be in this process.</summary>
        Unclear,

        /// <summary>A plain client's test message is refused or not delivered. A client whose own message goes round is not affected.</summary>
        NotCarried,

        /// <summary>The broker has raised an alarm or withdrawn a permission, so nothing that is published counts.</summary>
        Barred,
    }

    /// <summary>Asks whether the queue has a consumer, and declares anew what is missing.</summary>
    public async Task<Answer> Ask(CancellationToken stop)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
        deadline.CancelAfter(Patience);
        try
        {
            if (_plain is { IsOpen: false } || _channel is { IsOpen: false })
                await ClosePlain();
            _plain ??= await broker.Connect(deadline.Token);
            var plain = _plain;
            _channel ??= await Broker.Aside(() => plain.CreateChannelAsync(cancellationToken: deadline.Token)).WaitAsync(deadline.Token);
            if (broker.Bus is not null && (!_bound || Stopwatch.GetElapsedTime(_declared) >= options.DeclareInterval))
                await Declare(plain, deadline.Token);
            if (service.Reactions.Count == 0)
            {
                await _channel.ExchangeDeclarePassiveAsync(Broker.CanaryExchangeOf(service.Name), deadline.Token).WaitAsync(deadline.Token);
                return new Answer(true, true);
            }
            var queue = await _channel.QueueDeclarePassiveAsync(Broker.QueueOf(service.Name), deadline.Token).WaitAsync(deadline.Token);
            return new Answer(true, queue.ConsumerCount > 0);
        }
        catch (OperationInterruptedException e) when (e.ShutdownReason?.ReplyCode is 404 or 403)
        {
            await ClosePlain();
            return new Answer(true, false);
        }
        catch (Exception)
        {
            stop.ThrowIfCancellationRequested();
            await ClosePlain();
            return new Answer(false, false);
        }
    }

    /// <summary>
    /// Why the broker does not carry the service's messages although it answers: it has raised an alarm, the service's user lacks a
    /// permission, or it does not take and deliver a test message over another connection. null: it delivered the test message, so the
    /// fault is in this process.
    /// </summary>
    /// <remarks>During an alarm, the broker reads no more from a connection that has published, not even its end. So the connection that
    /// found out is kept until the alarm is over: another one for each question would stay open in the broker.</remarks>
    public async Task<Obstacle?> FindObstacle(CancellationToken stop)
    {
        if (_publisher is { IsOpen: true } && _alarm is { } still)
            return new(still, ObstacleKind.Barred);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
        deadline.CancelAfter(Patience);
        try
        {
            await ClosePublisher();
            var publisher = await broker.Connect(deadline.Token);
            _publisher = publisher;
            var barred = await Permitted(publisher, deadline.Token) ?? await Alarmed(publisher, deadline.Token);
            // The first questions leave the delivery a time of its own.
            deadline.CancelAfter(Patience);
            var lost = barred is null ? await Undelivered(publisher, deadline.Token) : null;
            stop.ThrowIfCancellationRequested();
            if (_alarm is null)
                await ClosePublisher();
            return barred is not null ? new(barred, ObstacleKind.Barred)
                : lost is not null ? new(lost, ObstacleKind.NotCarried)
                : null;
        }
        catch (Exception e)
        {
            stop.ThrowIfCancellationRequested();
            var connected = _publisher is not null;
            await ClosePublisher();
            return e switch
            {
                OperationInterruptedException { ShutdownReason.ReplyText: { Length: > 0 } reason } => new(
                    $"it refuses: {reason}",
                    ObstacleKind.NotCarried
                ),
                PublishException => new("it takes no test message: it refuses what is published", ObstacleKind.NotCarried),
                _ when connected => new($"it takes no test message over another connection ({e.GetType().Name})", ObstacleKind.Unclear),
                _ => new($"it admits no further connection ({e.GetType().Name})", ObstacleKind.Unclear),
            };
        }
    }

    /// <summary>Closes its connections.</summary>
    public async Task Close()
    {
        await ClosePlain();
        await ClosePublisher();
    }

    // The broker lets one message of a connection pass before it blocks the connection, so two are sent.
    private async Task<string?> Alarmed(IConnection publisher, CancellationToken cancel)
    {
        var blocked = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        publisher.ConnectionBlockedAsync += (_, e) =>
        {
            _alarm = $"it has raised an alarm and takes no messages ({e.Reason})";
            blocked.TrySetResult();
            return Task.CompletedTask;
        };
        publisher.ConnectionUnblockedAsync += (_, _) =>
        {
            _alarm = null;
            return Task.CompletedTask;
        };
        var channel = await publisher.CreateChannelAsync(
            new CreateChannelOptions(publisherConfirmationsEnabled: true, publisherConfirmationTrackingEnabled: true),
            cancel
        );
        for (var message = 0; message < 2; message++)
        {
            var sent = channel
                .BasicPublishAsync(
                    Broker.CanaryExchangeOf(service.Name),
                    "",
                    mandatory: false,
                    TestMessage(),
                    ReadOnlyMemory<byte>.Empty,
                    cancel
                )
                .AsTask();
            await Task.WhenAny(sent, blocked.Task).WaitAsync(cancel);
            if (blocked.Task.IsCompleted)
                return _alarm;
            await sent;
        }
        return null;
    }

    // Sends a canary message as the bus does, but by the plain client. If the broker does not deliver this one either, a new process would
    // not help.
    private async Task<string?> Undelivered(IConnection connection, CancellationToken cancel)
    {
        var (exchange, queue) = (Broker.CanaryExchangeOf(service.Name), Broker.CanaryQueueOf(service.Name));
        await using var channel = await connection.CreateChannelAsync(cancellationToken: cancel);
        await channel.QueueDeclareAsync(queue, durable: false, exclusive: true, autoDelete: true, cancellationToken: cancel);
        await channel.QueueBindAsync(queue, exchange, "", cancellationToken: cancel);
        var delivered = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var consumer = new AsyncEventingBasicConsumer(channel);
        consumer.ReceivedAsync += (_, _) =>
        {
            delivered.TrySetResult();
            return Task.CompletedTask;
        };
        await channel.BasicConsumeAsync(queue, autoAck: true, consumer, cancel);
        await channel.BasicPublishAsync(exchange, "", mandatory: false, TestMessage(), ReadOnlyMemory<byte>.Empty, cancel);
        try
        {
            await delivered.Task.WaitAsync(cancel);
            return null;
        }
        catch (OperationCanceledException)
        {
            return "it takes messages and delivers none";
        }
    }

    private static BasicProperties TestMessage() =>
        new()
        {
            ContentType = Wire.Protobuf.MediaType,
            Headers = new Dictionary<string, object?> { [Wire.CanaryHeader] = 0.ToString(CultureInfo.InvariantCulture) },
        };

    // Each of these needs one permission, and changes nothing that is as it should be.
    private async Task<string?> Permitted(IConnection connection, CancellationToken cancel)
    {
        var (canary, queue) = (Broker.CanaryExchangeOf(service.Name), Broker.QueueOf(service.Name));
        foreach (
            var work in (Func<IChannel, Task>[])
                [
                    c => c.ExchangeDeclareAsync(canary, ExchangeType.Fanout, durable: true, cancellationToken: cancel),
                    c => c.QueueBindAsync(queue, queue, "", cancellationToken: cancel),
                ]
        )
            if (await Try(connection, work, cancel) is { ReplyCode: 403 } refused)
                return $"it refuses: {refused.ReplyText}";
        return null;
    }

    /// <summary>
    /// Declares what this service owns and binds its queue to the events that it reacts to, as they were declared at the start. Somebody
    /// may have removed them since, or the broker has lost its disk. The events' exchanges belong to their producers alone. MassTransit is
    /// not used for this: it would declare the exchanges, and who may declare an exchange may also delete it. A missing exchange of another
    /// service is declared only where the broker allows it, as on a developer's machine.
    /// </summary>
    private async Task Declare(IConnection plain, CancellationToken cancel)
    {
        await Broker.Aside(() => DeclareOwn(plain, cancel)).WaitAsync(cancel);
        var missing = await Broker.Aside(() => Bind(plain, cancel)).WaitAsync(cancel);
        (_bound, _declared) = (missing.Count == 0, Stopwatch.GetTimestamp());
        var said = string.Join(", ", missing);
        if (said.Length > 0 && said != _unbound)
            LogUnbound(log, service.Name, said);
        _unbound = said;
    }

    private async Task DeclareOwn(IConnection plain, CancellationToken cancel)
    {
        List<string> own = [.. EventTypes.Of(service.Name).Select(t => t.FullName)];
        List<string> queues = service.Reactions.Count > 0 ? [Broker.QueueOf(service.Name), Broker.DeadQueueOf(service.Name)] : [];
        foreach (var exchange in (string[])[.. own, .. queues])
            if (await Try(plain, c => c.ExchangeDeclarePassiveAsync(exchange, cancel), cancel) is { ReplyCode: 404 })
            {
                await Try(
                    plain,
                    c => c.ExchangeDeclareAsync(exchange, ExchangeType.Fanout, durable: true, cancellationToken: cancel),
                    cancel
                );
                LogDeclared(log, service.Name, exchange);
            }
        foreach (var queue in queues)
            await Try(plain, c => c.QueueBindAsync(queue, queue, "", cancellationToken: cancel), cancel);
    }

    // Returns the exchanges that are not there yet: their producer has not started.
    private async Task<IReadOnlyList<string>> Bind(IConnection plain, CancellationToken cancel)
    {
        var missing = new List<string>();
        foreach (var exchange in service.Reactions.Select(r => r.Event.FullName).Distinct())
            if (
                await Try(plain, c => c.ExchangeBindAsync(Broker.QueueOf(service.Name), exchange, "", cancellationToken: cancel), cancel)
                    is not null
                && await Try(
                    plain,
                    async c =>
                    {
                        await c.ExchangeDeclareAsync(exchange, ExchangeType.Fanout, durable: true, cancellationToken: cancel);
                        await c.ExchangeBindAsync(Broker.QueueOf(service.Name), exchange, "", cancellationToken: cancel);
                    },
                    cancel
                )
                    is not null
            )
                missing.Add(exchange);
        return missing;
    }

    // Each attempt has its own channel, because a refusal closes the channel. Returns the refusal; null: it was done.
    private static async Task<ShutdownEventArgs?> Try(IConnection connection, Func<IChannel, Task> work, CancellationToken cancel)
    {
        await using var channel = await connection.CreateChannelAsync(cancellationToken: cancel);
        try
        {
            await work(channel);
            return null;
        }
        catch (OperationInterruptedException e) when (e.ShutdownReason is { ReplyCode: 403 or 404 or 406 })
        {
            return e.ShutdownReason;
        }
    }

    private async Task ClosePlain()
    {
        _bound = false;
        var plain = _plain;
        (_plain, _channel) = (null, null);
        await Close(plain);
    }

    private async Task ClosePublisher()
    {
        var publisher = _publisher;
        (_publisher, _alarm) = (null, null);
        await Close(publisher);
    }

    /// <summary>Closes a connection, however it is. It may be abandoned.</summary>
    internal static async Task Close(IConnection? connection)
    {
        if (connection is null)
            return;
        try
        {
            await Broker
                .Aside(() => connection.CloseAsync(200, "done", TimeSpan.FromSeconds(1), abort: true))
                .WaitAsync(TimeSpan.FromSeconds(2));
        }
        catch (Exception)
        {
            // It is gone already.
        }
    }

    [LoggerMessage(
        5,
        LogLevel.Warning,
        "{Service} cannot receive these events yet, because no service has declared their exchanges: {Exchanges}"
    )]
    private static partial void LogUnbound(ILogger log, string service, string exchanges);

    [LoggerMessage(6, LogLevel.Warning, "{Service}: the exchange {Exchange} was missing at the broker and is declared anew")]
    private static partial void LogDeclared(ILogger log, string service, string exchange);
}
