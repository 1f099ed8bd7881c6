using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.CallLog;
using Ministries.CloudEvents.V1;
using Ministries.Consular;
using Ministries.Custody;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Ledger.V1;
using Npgsql;
using RabbitMQ.Client;

namespace Ministries.Faults.Tests;

/// <summary>
/// Reads the databases and the broker directly, not through the software under test, and reports what is lost, doubled or contradictory.
/// The same contents give the same complaints.
/// </summary>
internal sealed class Audit(IReadOnlyDictionary<string, string> databases, Uri broker)
{
    /// <summary>The services, as their hosts know them.</summary>
    public static readonly IReadOnlyList<Service> Services =
    [
        CallLogService.Definition,
        ConsularService.Definition,
        CustodyService.Definition,
    ];

    private static readonly Dictionary<string, MessageDescriptor> Messages = typeof(EntryHeader)
        .Assembly.GetExportedTypes()
        .Select(t => t.GetProperty("Descriptor")?.GetValue(null))
        .OfType<MessageDescriptor>()
        .ToDictionary(m => m.FullName);

    private const string Cursor = "select value from cursors where name = 'relay'";
    private const string Others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";

    private sealed record Entry(EntryHeader Header, byte[] Bytes, Dictionary<PartKind, (string Type, byte[]? Data)> Parts)
    {
        public ulong Position => Header.Position;

        public Events Events { get; } =
            Parts.TryGetValue(PartKind.Events, out var part) && part.Data is { } data ? Events.Parser.ParseFrom(data) : new Events();
    }

    private sealed record Change(ulong Position, string Events);

    private sealed record StreamRow(string Kind, string Key, byte[] State, ulong Version, List<Change> Changes);

    private sealed record Book(
        IReadOnlyList<Entry> Entries,
        IReadOnlyList<StreamRow> Streams,
        ulong Relayed,
        ILookup<(string, string), Entry> ByRequest
    );

    /// <summary>Compares all ledgers with each other, with what was answered and, if given, with what the broker holds. Either no service
    /// runs, or none has anything left to do.</summary>
    /// <param name="answered">What ministries were answered.</param>
    /// <param name="held">What the consumers' queues hold, by event id; null: every event must have had its effect.</param>
    /// <param name="cancel">Cancels.</param>
    /// <param name="onItsWay">Whether events may still be on their way.</param>
    public async Task<IReadOnlyList<string>> Check(
        IReadOnlyCollection<Answered> answered,
        IReadOnlyDictionary<string, HashSet<string>>? held,
        CancellationToken cancel,
        bool onItsWay = false
    )
    {
        var complaints = new List<string>();
        var books = new Dictionary<string, Book>();
        foreach (var service in Services)
            books[service.Name] = await Read(service.Name, cancel);
        foreach (var service in Services)
        {
            var (name, book) = (service.Name, books[service.Name]);
            complaints.AddRange(Sound(name, book.Entries));
            complaints.AddRange(await Numbered(name, cancel));
            complaints.AddRange(Folded(service, book));
            complaints.AddRange(Kept(name, book, answered));
            if (!onItsWay)
                complaints.AddRange(Taken(service, books, held?[name]));
        }
        return complaints;
    }

    /// <summary>A service's own events, in order, each with the request that led to it.</summary>
    public async Task<IReadOnlyList<Recorded>> EventsOf(string service, CancellationToken cancel) =>
        [
            .. from entry in (await Read(service, cancel)).Entries
            from e in entry.Events.Events_
            where IsOwn(service, e.Type)
            let request = entry.Parts[PartKind.Request]
            select new Recorded(
                entry.Position,
                Messages[e.Type].Parser.ParseFrom(e.Data),
                request.Data is { } data && Messages.TryGetValue(request.Type, out var type) ? type.Parser.ParseFrom(data) : null
            ),
        ];

    /// <summary>Events that have not had their effect yet.</summary>
    public async Task<int> Missing(CancellationToken cancel)
    {
        var books = new Dictionary<string, Book>();
        foreach (var service in Services)
            books[service.Name] = await Read(service.Name, cancel);
        return Services.Sum(s => Taken(s, books, null).Count());
    }

    /// <summary>Waits until every event has had its effect, or nothing has happened for a time.</summary>
    /// <param name="standsStill">For how long.</param>
    /// <param name="cancel">Ends it.</param>
    public async Task Settle(TimeSpan standsStill, CancellationToken cancel)
    {
        var (size, since) = (0L, Stopwatch.GetTimestamp());
        while (await Missing(cancel) > 0)
        {
            var now = await Size(cancel);
            if (now != size)
                (size, since) = (now, Stopwatch.GetTimestamp());
            if (Stopwatch.GetElapsedTime(since) > standsStill)
                return;
            await Task.Delay(200, cancel);
        }
    }

    /// <summary>The number of entries of all ledgers together.</summary>
    public async Task<long> Size(CancellationToken cancel)
    {
        var size = 0L;
        foreach (var connection in databases.Values)
            size += (await Query(connection, "select count(*) from entries", r => r.GetInt64(0), cancel))[0];
        return size;
    }

    /// <summary>The Merkle root (RFC 6962) over the first entries of a ledger, computed from their headers.</summary>
    public async Task<byte[]> Root(string service, ulong size, CancellationToken cancel)
    {
        var leaves = await Query(
            databases[service],
            $"select header from entries where position < {size} order by position",
            r => SHA256.HashData([0, .. SHA256.HashData(r.GetFieldValue<byte[]>(0))]),
            cancel
        );
        return RootOf(leaves.ToArray());

        static byte[] RootOf(ReadOnlySpan<byte[]> leaves)
        {
            if (leaves.Length == 0)
                return SHA256.HashData([]);
            if (leaves.Length == 1)
                return leaves[0];
            var left = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)leaves.Length) / 2;
            return SHA256.HashData([1, .. RootOf(leaves[..left]), .. RootOf(leaves[left..])]);
        }
    }

    /// <summary>How many events a service's relay has handed to the broker.</summary>
    public async Task<ulong> Relayed(string service, CancellationToken cancel) =>
        (await Query(databases[service], Cursor, r => (ulong)r.GetInt64(0), cancel)).FirstOrDefault();

    /// <summary>How many events a service's ledger has.</summary>
    public async Task<ulong> Events(string service, CancellationToken cancel) =>
        (await Query(databases[service], "select events from head", r => (ulong)r.GetInt64(0), cancel)).Single();

    /// <summary>The number of messages in a service's queue that nobody has in hand.</summary>
    public async Task<uint> Waiting(string service, CancellationToken cancel)
    {
        await using var connection = await new ConnectionFactory { Uri = broker }.CreateConnectionAsync(cancel);
        await using var channel = await connection.CreateChannelAsync(cancellationToken: cancel);
        return await channel.MessageCountAsync($"ministries.{service}", cancel);
    }

    /// <summary>Waits until no connection of a killed service is left in the databases.</summary>
    public async Task Quiet(CancellationToken cancel)
    {
        foreach (var connection in databases.Values)
            while ((await Query(connection, Others, r => r.GetInt64(0), cancel))[0] > 0)
                await Task.Delay(20, cancel);
    }

    /// <summary>What the consumers' queues hold, by event id. The messages stay there.</summary>
    public async Task<IReadOnlyDictionary<string, HashSet<string>>> Held(CancellationToken cancel)
    {
        var factory = new ConnectionFactory { Uri = broker, AutomaticRecoveryEnabled = false };
        var held = new Dictionary<string, HashSet<string>>();
        foreach (var service in Services)
        {
            var ids = held[service.Name] = [];
            foreach (var queue in (string[])[$"ministries.{service.Name}", $"ministries.{service.Name}.dead"])
                ids.UnionWith(await Held(factory, queue, cancel));
        }
        return held;
    }

    private static async Task<HashSet<string>> Held(ConnectionFactory factory, string queue, CancellationToken cancel)
    {
        while (true)
            try
            {
                var ids = new HashSet<string>();
                await using var connection = await factory.CreateConnectionAsync(cancel);
                await using var channel = await connection.CreateChannelAsync(cancellationToken: cancel);
                QueueDeclareOk there;
                // Messages that killed consumers had in hand return once the broker has noticed their end.
                while ((there = await channel.QueueDeclarePassiveAsync(queue, cancel)).ConsumerCount > 0)
                    await Task.Delay(50, cancel);
                if (there.MessageCount == 0)
                    return ids;
                var all = new TaskCompletionSource();
                var left = there.MessageCount;
                var consumer = new RabbitMQ.Client.Events.AsyncEventingBasicConsumer(channel);
                consumer.ReceivedAsync += (_, message) =>
                {
                    lock (ids)
                        ids.UnionWith(IdsOf(message));
                    if (Interlocked.Decrement(ref left) == 0)
                        all.TrySetResult();
                    return Task.CompletedTask;
                };
                await channel.BasicQosAsync(0, (ushort)Math.Min(there.MessageCount + 10, 60_000), false, cancel);
                await channel.BasicConsumeAsync(queue, autoAck: false, consumer, cancel);
                await all.Task.WaitAsync(TimeSpan.FromSeconds(10), cancel);
                lock (ids)
                    return [.. ids];
            }
            catch (Exception e) when (e is RabbitMQ.Client.Exceptions.RabbitMQClientException or TimeoutException or IOException)
            {
                // A queue has no leader yet for a moment after a start.
                await Task.Delay(100, cancel);
            }
    }

    private static IEnumerable<string> IdsOf(RabbitMQ.Client.Events.BasicDeliverEventArgs message) =>
        message.BasicProperties.ContentType == "application/x-protobuf"
            ? [Encoding.UTF8.GetString((byte[])message.BasicProperties.Headers!["cloudEvents:id"]!)]
            : CloudEventBatch.Parser.ParseFrom(message.Body.Span).Events.Select(e => e.Id);

    private async Task<Book> Read(string service, CancellationToken cancel)
    {
        var connection = databases[service];
        var entries = await Query(
            connection,
            "select header, request_type, request, parts from entries order by position",
            r =>
            {
                var header = r.GetFieldValue<byte[]>(0);
                var parts = PartsOf(r.GetFieldValue<byte[]>(3));
                // The salt is stored before the request.
                parts[PartKind.Request] = (r.GetString(1), r.IsDBNull(2) ? null : r.GetFieldValue<byte[]>(2)[32..]);
                return new Entry(EntryHeader.Parser.ParseFrom(header), header, parts);
            },
            cancel
        );
        var changes = (
            await Query(
                connection,
                "select stream, position, events from changes order by stream, version",
                r => (Stream: r.GetInt64(0), Change: new Change((ulong)r.GetInt64(1), r.GetString(2))),
                cancel
            )
        ).ToLookup(c => c.Stream, c => c.Change);
        var streams = await Query(
            connection,
            "select number, kind, key, state, version from streams order by number",
            r => new StreamRow(
                r.GetString(1),
                r.GetString(2),
                r.GetFieldValue<byte[]>(3),
                (ulong)r.GetInt64(4),
                [.. changes[r.GetInt64(0)]]
            ),
            cancel
        );
        return new Book(
            entries,
            streams,
            await Relayed(service, cancel),
            entries.ToLookup(e => (e.Header.Participant, e.Header.RequestId))
        );
    }

    // Each part is a field 1 with its kind (1), its salt (2) and its bytes (3); the message type follows from the kind.
    private static Dictionary<PartKind, (string Type, byte[]? Data)> PartsOf(byte[] stored)
    {
        var parts = new Dictionary<PartKind, (string, byte[]?)>();
        var input = new CodedInputStream(stored);
        while (input.ReadTag() != 0)
        {
            var part = new CodedInputStream(input.ReadBytes().ToByteArray());
            var (kind, data) = (PartKind.Unspecified, Array.Empty<byte>());
            while (part.ReadTag() is var tag and not 0)
                if (WireFormat.GetTagFieldNumber(tag) == 1)
                    kind = (PartKind)part.ReadEnum();
                else if (part.ReadBytes() is var bytes && WireFormat.GetTagFieldNumber(tag) == 3)
                    data = bytes.ToByteArray();
            parts.Add(kind, ("", data));
        }
        return parts;
    }

    /// <summary>Checks one ledger alone: no gap, no doubled request, events numbered without gaps.</summary>
    private static IEnumerable<string> Sound(string name, IReadOnlyList<Entry> entries)
    {
        var numbers = new Dictionary<string, ulong>();
        for (var i = 0; i < entries.Count; i++)
        {
            var header = entries[i].Header;
            if (header.Position != (ulong)i)
                yield return $"{name}: at place {i} stands position {header.Position}";
            if (i > 0 && header.CommitTime.CompareTo(entries[i - 1].Header.CommitTime) < 0)
                yield return $"{name}: the time goes back at {i}";
            foreach (var number in AudienceNumbers.Parser.ParseFrom(entries[i].Parts[PartKind.Audience].Data).Numbers)
                if ((numbers[number.Audience] = numbers.GetValueOrDefault(number.Audience) + 1) != number.Number)
                    yield return $"{name}: {i} has number {number.Number} of {number.Audience}, not {numbers[number.Audience]}";
            foreach (var part in header.Parts)
                if (!entries[i].Parts.ContainsKey(part.Kind))
                    yield return $"{name}: {i} has no part {part.Kind}";
        }
        foreach (var twice in entries.GroupBy(e => (e.Header.Participant, e.Header.RequestId)).Where(g => g.Count() > 1))
            yield return $"{name}: {twice.Key.Participant} {twice.Key.RequestId} is there {twice.Count()} times";
    }

    /// <summary>Checks the numbers by which consumers notice that an event is missing.</summary>
    private async Task<IReadOnlyList<string>> Numbered(string name, CancellationToken cancel)
    {
        var (complaints, last) = (new List<string>(), new Dictionary<string, long>());
        foreach (
            var (number, type, sequence) in await Query(
                databases[name],
                """
                select event_number, event_type, event_sequence from entries where event_number is not null
                union all select number, type, sequence from further_events order by 1
                """,
                r => (r.GetInt64(0), r.GetString(1), r.GetInt64(2)),
                cancel
            )
        )
            if ((last[type] = last.GetValueOrDefault(type) + 1) != sequence)
                complaints.Add($"{name}: event {number}, of {type}, has number {sequence}, not {last[type]}");
        return complaints;
    }

    /// <summary>Checks that every state is what its entries fold to.</summary>
    private static IEnumerable<string> Folded(Service service, Book book)
    {
        var kinds = service
            .Streams.Append(Agreements.Kind)
            .Concat(BusRegistration.Streams)
            .DistinctBy(k => k.Name)
            .ToDictionary(k => k.Name);
        foreach (var stream in book.Streams)
        {
            var kind = kinds[stream.Kind];
            var state = kind.Empty();
            foreach (var change in stream.Changes)
            {
                var entry = book.Entries[(int)change.Position];
                var (type, data) = entry.Parts[PartKind.Request];
                var folded = new FoldedEntry(
                    entry.Position,
                    entry.Header.CommitTime,
                    entry.Header.Participant,
                    entry.Header.RequestId,
                    data is null ? null : Messages[type].Parser.ParseFrom(data)
                );
                foreach (var index in change.Events.Split(',', StringSplitOptions.RemoveEmptyEntries))
                {
                    var e = entry.Events.Events_[int.Parse(index, CultureInfo.InvariantCulture)];
                    kind.Apply(state, Messages[e.Type].Parser.ParseFrom(e.Data), folded);
                }
            }
            if (stream.Version != (ulong)stream.Changes.Count || !state.Equals(kind.Parse(stream.State)))
                yield return $"{service.Name}: {stream.Kind}/{stream.Key} is not what its entries fold to";
        }
    }

    /// <summary>Checks that every answered command is recorded, once, as it was answered.</summary>
    private static IEnumerable<string> Kept(string name, Book book, IReadOnlyCollection<Answered> answered)
    {
        foreach (var one in answered.Where(a => a.Service == name))
        {
            var found = book.ByRequest[(one.Participant, one.RequestId)].ToList();
            if (found.Count == 0)
                yield return $"{name}: {one.Participant} {one.RequestId} was answered and is not there";
            else if (
                found[0].Parts.TryGetValue(PartKind.Answer, out var part)
                && Answer.Parser.ParseFrom(part.Data) is var answer
                && (one.Reason ?? "") != (answer.Refusal?.Reason ?? "")
            )
                yield return $"{name}: {one.Participant} {one.RequestId} was answered otherwise than is recorded";
            else if (
                one.Position is { } position
                && (found[0].Position != position || !SHA256.HashData(found[0].Bytes).AsSpan().SequenceEqual(one.Digest!.Span))
            )
                yield return $"{name}: the receipt of {one.Participant} {one.RequestId} names another entry";
        }
    }

    /// <summary>Checks that every event had its effect once in each service that reacts to it, or is still on its way there.</summary>
    private static IEnumerable<string> Taken(Service consumer, Dictionary<string, Book> books, HashSet<string>? held)
    {
        foreach (var producer in consumer.Reactions.GroupBy(r => r.Producer))
        {
            var types = producer.Select(r => r.Event.FullName).ToHashSet();
            ulong number = 0;
            foreach (var entry in books[producer.Key].Entries)
            foreach (var (index, e) in entry.Events.Events_.Index())
            {
                if (!IsOwn(producer.Key, e.Type))
                    continue;
                number++;
                if (!types.Contains(e.Type))
                    continue;
                var id = $"{producer.Key}/{entry.Position}/{index}";
                var taken = books[consumer.Name].ByRequest[($"service/{producer.Key}", id)].Count();
                if (taken > 1)
                    yield return $"{consumer.Name}: {e.Type} {id} had its effect {taken} times";
                // An event that the relay has not handed over is not lost. One that it has must be with the broker or in the ledger.
                if (taken == 0 && (held is null || number <= books[producer.Key].Relayed && !held.Contains(id)))
                    yield return $"{consumer.Name}: {e.Type} {id} had no effect{(held is null ? "" : " and is not with the broker")}";
            }
        }
        foreach (var letter in books[consumer.Name].Entries.Where(e => e.Header.Method == DeadLetters.SetAsideMethod))
            yield return $"{consumer.Name}: {letter.Header.RequestId} was set aside";
    }

    private static bool IsOwn(string service, string type) => type.StartsWith($"ministries.{service}.v1.", StringComparison.Ordinal);

    private static async Task<List<T>> Query<T>(string connection, string sql, Func<NpgsqlDataReader, T> row, CancellationToken cancel)
    {
        var unpooled = new NpgsqlConnectionStringBuilder(connection) { Pooling = false };
        await using var open = new NpgsqlConnection(unpooled.ConnectionString);
        await open.OpenAsync(cancel);
        await using var command = new NpgsqlCommand(sql, open);
        await using var reader = await command.ExecuteReaderAsync(cancel);
        var rows = new List<T>();
        while (await reader.ReadAsync(cancel))
            rows.Add(row(reader));
        return rows;
    }
}
