using System.Collections.Concurrent;
using System.Text;
using Ministries.CloudEvents.V1;
using RabbitMQ.Client;
using RabbitMQ.Client.Events;
using RabbitMQ.Client.Exceptions;

namespace Ministries.Cluster;

/// <summary>Listens to what the relays publish. An event that was published twice changes nothing, since consumers know it by its id. But
/// while no fault is played, it means that two replicas lead the relay at once.</summary>
internal sealed class Tap
{
    private static readonly string[] Exchanges = ["ministries.calllog.v1.CallLogged", "ministries.custody.v1.CaseOpened"];
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(500);

    private volatile ConcurrentDictionary<string, byte> _heard = [];
    private int _repeated;

    /// <summary>How many events were heard more than once since the measurement began.</summary>
    public int Repeated => Volatile.Read(ref _repeated);

    /// <summary>Begins a measurement.</summary>
    public void Measure()
    {
        _heard = [];
        Interlocked.Exchange(ref _repeated, 0);
    }

    /// <summary>Listens until it is told to stop.</summary>
    public async Task Run(CancellationToken stop)
    {
        for (var machine = 1; !stop.IsCancellationRequested; machine = machine % Machine.Count + 1)
        {
            try
            {
                await Listen(machine, stop);
            }
            catch (Exception e)
                when (e
                        is RabbitMQClientException
                            or IOException
                            or TimeoutException
                            or OperationCanceledException
                            or InvalidOperationException
                )
            {
                // The next node is tried.
            }
            await Task.Delay(Pause, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task Listen(int machine, CancellationToken stop)
    {
        var factory = new ConnectionFactory
        {
            Uri = new Uri(Rabbit.AddressOf(machine)),
            AutomaticRecoveryEnabled = false,
            RequestedHeartbeat = TimeSpan.FromSeconds(3),
            RequestedConnectionTimeout = TimeSpan.FromSeconds(3),
        };
        await using var connection = await factory.CreateConnectionAsync(stop);
        await using var channel = await connection.CreateChannelAsync(cancellationToken: stop);
        var queue = await channel.QueueDeclareAsync(cancellationToken: stop);
        foreach (var exchange in Exchanges)
            await channel.QueueBindAsync(queue.QueueName, exchange, "", cancellationToken: stop);
        var consumer = new AsyncEventingBasicConsumer(channel);
        consumer.ReceivedAsync += (_, message) =>
        {
            foreach (var id in IdsOf(message))
                if (!_heard.TryAdd(id, 0))
                    Interlocked.Increment(ref _repeated);
            return Task.CompletedTask;
        };
        var ended = new TaskCompletionSource();
        connection.ConnectionShutdownAsync += (_, _) =>
        {
            ended.TrySetResult();
            return Task.CompletedTask;
        };
        await channel.BasicConsumeAsync(queue.QueueName, autoAck: true, consumer, stop);
        await ended.Task.WaitAsync(stop);
    }

    private static IEnumerable<string> IdsOf(BasicDeliverEventArgs message) =>
        message.BasicProperties.ContentType == "application/x-protobuf"
            ? [Encoding.UTF8.GetString((byte[])message.BasicProperties.Headers!["cloudEvents:id"]!)]
            : CloudEventBatch.Parser.ParseFrom(message.Body.Span).Events.Select(e => e.Id);
}
