using System.Collections.Concurrent;
using System.Net;
using Microsoft.Extensions.Logging.Abstractions;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;
using RabbitMQ.Client;
using RabbitMQ.Client.Events;
using RabbitMQ.Client.Exceptions;

namespace Ministries.Hosting;

/// <summary>What a service learned before it opened its ledger.</summary>
/// <param name="Heard">The checkpoints that others showed.</param>
/// <param name="Witnesses">How many witnesses the agreement has.</param>
/// <param name="Answered">How many of them answered.</param>
/// <param name="Replicas">How many other replicas told what they know; null: there can be none, since the ledger is a file.</param>
internal sealed record Inquired(IReadOnlyList<HeardCheckpoint> Heard, int Witnesses, int Answered, int? Replicas)
{
    /// <summary>Whether there was somebody to ask and nobody answered.</summary>
    public bool Alone => (Witnesses > 0 || Replicas is not null) && Answered == 0 && Replicas is null or 0;
}

/// <summary>
/// Asks others about a ledger before the service opens it: each witness of the agreement for its checkpoint, and the service's other
/// replicas through the broker. Otherwise a replica with an old checkpoint file would serve, sign and write on a database that has lost
/// answered writes (decision 0078).
/// </summary>
internal static class StartInquiry
{
    /// <summary>How long all answers together may take: 5 seconds. Later answers are not waited for.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    // Each replica announces its checkpoint once a second. If the number of replicas is not known, this service listens for this time.
    private static readonly TimeSpan Listening = TimeSpan.FromSeconds(2);

    // At most this many replicas are counted, even if more are announced.
    private const int MostReplicas = 256;

    /// <summary>Asks everybody at once.</summary>
    /// <param name="service">The service.</param>
    /// <param name="settings">Its settings.</param>
    /// <param name="options">How it reaches the broker.</param>
    /// <param name="parsed">The agreement of its file.</param>
    /// <param name="cancel">Ends it.</param>
    public static async Task<Inquired> Ask(
        Service service,
        Settings settings,
        BusOptions options,
        ParsedAgreement parsed,
        CancellationToken cancel
    )
    {
        var agreement = parsed.Permissions.Agreement;
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        patience.CancelAfter(Patience);
        var credentials = agreement.Witnesses.Count > 0 ? new Credentials(settings) : null;
        var origin = $"{agreement.TrustDomain}/{service.Name}";
        var witnesses = agreement.Witnesses.Select(w => AskWitness(w, origin, credentials!, parsed.Authorities, patience.Token)).ToList();
        // A ledger in a file has one process.
        var file = settings.Ledger.StartsWith("sqlite:", StringComparison.Ordinal);
        var replicas =
            file || options.Broker.Scheme == "memory"
                ? null
                : AskReplicas(
                    service,
                    options,
                    ServiceLedger.KnownIn(settings.Checkpoint),
                    LogKeys.Of(agreement, service.Name).Judging(TimeProvider.System),
                    patience.Token
                );
        var answers = await Task.WhenAll(witnesses);
        var heard = answers.SelectMany(a => a.Heard).ToList();
        (IReadOnlyList<HeardCheckpoint> Heard, int Replicas)? told = replicas is null ? null : await replicas;
        cancel.ThrowIfCancellationRequested();
        return new([.. heard, .. told?.Heard ?? []], witnesses.Count, answers.Count(a => a.Answered), told?.Replicas);
    }

    private static async Task<(bool Answered, HeardCheckpoint[] Heard)> AskWitness(
        Witness witness,
        string origin,
        Credentials credentials,
        Authorities authorities,
        CancellationToken cancel
    )
    {
        try
        {
            using var client = WitnessClient.Open(witness, () => credentials.Certificate, () => authorities, Patience, TimeProvider.System);
            var (status, note) = await WitnessClient.GetCheckpoint(client, origin, cancel);
            // A replica that has no checkpoint yet says so.
            return status switch
            {
                HttpStatusCode.OK => (true, [new($"the witness {witness.Participant} has it", note)]),
                HttpStatusCode.NotFound => (true, []),
                _ => (false, []),
            };
        }
        catch (Exception e) when (e is HttpRequestException or IOException or OperationCanceledException)
        {
            return (false, []);
        }
    }

    /// <summary>Listens to what the service's other replicas tell each other, and tells them what this one's files hold. So a replica that
    /// serves already hears from one that is not to serve.</summary>
    /// <param name="service">The service.</param>
    /// <param name="options">How it reaches the broker.</param>
    /// <param name="known">What this replica's files hold; null: nothing.</param>
    /// <param name="judge">Whose a checkpoint is. Anybody may send as many as it likes, so what does not count, or is less than another, is
    /// not kept.</param>
    /// <param name="cancel">Ends it: what was heard until then counts.</param>
    /// <returns>What was heard, and from how many replicas.</returns>
    public static async Task<(IReadOnlyList<HeardCheckpoint> Heard, int Replicas)> AskReplicas(
        Service service,
        BusOptions options,
        string? known,
        CheckpointJudge judge,
        CancellationToken cancel
    )
    {
        var (greatest, processes) = (new List<Checkpoint>(), new ConcurrentDictionary<string, byte>());
        IConnection? connection = null;
        try
        {
            connection = await new BrokerNodes(service.Name, options, NullLogger.Instance).Connect("start", cancel);
            await Broker.Aside(() => Listen(connection)).WaitAsync(cancel);
        }
        catch (Exception)
        {
            // The broker cannot be reached, or nobody has used it before.
        }
        finally
        {
            await BrokerInquiry.Close(connection);
        }
        lock (greatest)
            return ([.. greatest.Select(t => new HeardCheckpoint("another replica has it", t.Text))], processes.Count);

        void Hear(string note)
        {
            if (note == known || note.Length > SignedNote.MaxLength || judge(note) is not ({ } tree, true))
                return;
            lock (greatest)
            {
                if (greatest.Count > 0 && tree.Size < greatest[0].Size)
                    return;
                greatest.RemoveAll(t => t.Size < tree.Size);
                // Two different trees of the same size mean that the log has two histories.
                if (greatest.TrueForAll(t => !t.Root.AsSpan().SequenceEqual(tree.Root)))
                    greatest.Add(tree);
            }
        }

        async Task Listen(IConnection connection)
        {
            var others = service.Reactions.Count == 0 ? null : await ConsumersOf(connection, Broker.QueueOf(service.Name), cancel);
            await using var channel = await connection.CreateChannelAsync(cancellationToken: cancel);
            var (exchange, queue) = (Broker.CanaryExchangeOf(service.Name), Broker.CanaryQueueOf(service.Name));
            await channel.ExchangeDeclarePassiveAsync(exchange, cancel);
            await channel.QueueDeclareAsync(queue, durable: false, exclusive: true, autoDelete: true, cancellationToken: cancel);
            await channel.QueueBindAsync(queue, exchange, "", cancellationToken: cancel);
            var all = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            var consumer = new AsyncEventingBasicConsumer(channel);
            consumer.ReceivedAsync += (_, message) =>
            {
                if (Broker.TextOf(message.BasicProperties, Broker.CheckpointHeader) is { } note)
                    Hear(note);
                if (processes.Count < MostReplicas && Broker.TextOf(message.BasicProperties, Broker.ProcessHeader) is { } process)
                    processes.TryAdd(process, 0);
                if (processes.Count >= others)
                    all.TrySetResult();
                return Task.CompletedTask;
            };
            await channel.BasicConsumeAsync(queue, autoAck: true, consumer, cancel);
            if (known is not null)
                await channel.BasicPublishAsync(exchange, "", mandatory: false, Broker.Telling(known), ReadOnlyMemory<byte>.Empty, cancel);
            if (others is null)
                await Task.Delay(Listening, cancel);
            else if (others > 0)
                await all.Task.WaitAsync(cancel);
        }
    }

    // Each replica that the broker knows to be there has one consumer.
    private static async Task<uint?> ConsumersOf(IConnection connection, string queue, CancellationToken cancel)
    {
        await using var channel = await connection.CreateChannelAsync(cancellationToken: cancel);
        try
        {
            return (await channel.QueueDeclarePassiveAsync(queue, cancel)).ConsumerCount;
        }
        catch (OperationInterruptedException e) when (e.ShutdownReason?.ReplyCode == 404)
        {
            return 0;
        }
    }
}
