using Ministries.CallLog;
using Ministries.Consular;
using Ministries.Custody;
using Npgsql;

namespace Ministries.Cluster;

/// <summary>What an audit found.</summary>
/// <param name="Lost">Answered writes, and events, that are missing or are not as they were answered.</param>
/// <param name="Doubled">Writes and effects that are there twice, positions that were given twice, effects out of order.</param>
internal sealed record Findings(IReadOnlyList<string> Lost, IReadOnlyList<string> Doubled)
{
    public bool None => Lost.Count == 0 && Doubled.Count == 0;
}

/// <summary>Compares the ledgers of the primary, read directly, with what was answered and with each other.</summary>
internal static class Audit
{
    private static readonly IReadOnlyList<Hosting.Service> Services =
    [
        CallLogService.Definition,
        ConsularService.Definition,
        CustodyService.Definition,
    ];

    private sealed record Entry(ulong Position, string Participant, string RequestId, string Hash);

    private sealed record Event(ulong Position, int Index, string Type);

    private sealed record Book(IReadOnlyList<Entry> Entries, IReadOnlyList<Event> Events);

    /// <summary>Waits until all events that are in the ledgers now have had their effects, then compares everything.</summary>
    /// <param name="cluster">Where the ledgers are.</param>
    /// <param name="answered">What was answered before.</param>
    /// <param name="patience">How long events may take. What has no effect by then counts as lost.</param>
    public static async Task<Findings> Make(Cluster cluster, IReadOnlyCollection<Answered> answered, TimeSpan patience)
    {
        var until = DateTime.UtcNow + patience;
        var before = await Read(cluster);
        Dictionary<string, Book> after;
        while (true)
        {
            after = await Read(cluster);
            if (Missing(before, after).FirstOrDefault() is null || DateTime.UtcNow > until)
                break;
            await Task.Delay(500);
        }
        return new Findings(
            [.. Services.SelectMany(s => Kept(s.Name, after[s.Name], answered)), .. Missing(before, after)],
            [.. Services.SelectMany(s => Once(s.Name, after[s.Name], answered)), .. Services.SelectMany(s => InOrder(s, after))]
        );
    }

    private static IEnumerable<string> Kept(string service, Book book, IReadOnlyCollection<Answered> answered)
    {
        var entries = book.Entries.ToLookup(e => (e.Participant, e.RequestId));
        foreach (var one in answered.Where(a => a.Service == service))
            if (entries[(one.Participant, one.RequestId)].FirstOrDefault() is not { } entry)
                yield return $"{service}: {one.RequestId} was answered with position {one.Position} and is not there";
            else if (entry.Position != one.Position || entry.Hash != one.EntryHash)
                yield return $"{service}: {one.RequestId} was answered with position {one.Position} and is another entry at {entry.Position}";
    }

    private static IEnumerable<string> Once(string service, Book book, IReadOnlyCollection<Answered> answered)
    {
        foreach (var twice in book.Entries.GroupBy(e => (e.Participant, e.RequestId)).Where(g => g.Skip(1).Any()))
            yield return $"{service}: {twice.Key.RequestId} is there {twice.Count()} times";
        for (var i = 0; i < book.Entries.Count; i++)
            if (book.Entries[i].Position != (ulong)i)
            {
                yield return $"{service}: at place {i} stands position {book.Entries[i].Position}";
                break;
            }
        var own = answered.Where(a => a.Service == service).Distinct();
        foreach (var twice in own.GroupBy(a => a.Position).Where(g => g.Skip(1).Any()))
            yield return $"{service}: {string.Join(" and ", twice.Select(a => a.RequestId))} were answered with position {twice.Key}";
    }

    // Events that had no effect in a service that reacts to them.
    private static IEnumerable<string> Missing(Dictionary<string, Book> before, Dictionary<string, Book> after)
    {
        foreach (var consumer in Services)
        {
            var done = after[consumer.Name].Entries.Select(e => (e.Participant, e.RequestId)).ToHashSet();
            foreach (var producer in consumer.Reactions.GroupBy(r => r.Producer))
            {
                var types = producer.Select(r => r.Event.FullName).ToHashSet();
                foreach (var e in before[producer.Key].Events.Where(e => types.Contains(e.Type)))
                    if (!done.Contains(($"service/{producer.Key}", $"{producer.Key}/{e.Position}/{e.Index}")))
                        yield return $"{consumer.Name}: {e.Type} {producer.Key}/{e.Position}/{e.Index} had no effect";
            }
        }
    }

    // The effects of one type of event stand in the order of the events.
    private static IEnumerable<string> InOrder(Hosting.Service consumer, Dictionary<string, Book> books)
    {
        foreach (var producer in consumer.Reactions.Select(r => r.Producer).Distinct())
        {
            var types = books[producer].Events.ToDictionary(e => $"{producer}/{e.Position}/{e.Index}");
            var last = new Dictionary<string, (ulong, int)>();
            foreach (var effect in books[consumer.Name].Entries.Where(e => e.Participant == $"service/{producer}"))
            {
                if (!types.TryGetValue(effect.RequestId, out var e))
                {
                    yield return $"{consumer.Name}: {effect.RequestId} had an effect and is not in the ledger of {producer}";
                    continue;
                }
                var place = (e.Position, e.Index);
                if (last.TryGetValue(e.Type, out var before) && before.CompareTo(place) >= 0)
                    yield return $"{consumer.Name}: the effect of {effect.RequestId} comes after a later one";
                last[e.Type] = place;
            }
        }
    }

    private static async Task<Dictionary<string, Book>> Read(Cluster cluster)
    {
        var books = new Dictionary<string, Book>();
        var (primary, _, _) = await cluster.Roles();
        // An event is in the producer's ledger before its effect is in the consumer's. So the consumers are read first: consular reacts to
        // both others, the call log to custody and consular.
        foreach (var service in new[] { "consular", "calllog", "custody" })
            books[service] = new Book(
                await Query(
                    Database.At(primary, service),
                    "select position, participant, request_id, encode(sha256(header), 'hex') from entries order by position",
                    r => new Entry((ulong)r.GetInt64(0), r.GetString(1), r.GetString(2), r.GetString(3))
                ),
                await Query(
                    Database.At(primary, service),
                    """
                    select position, event_index, event_type from entries where event_type is not null
                    union all select position, index, type from further_events order by 1, 2
                    """,
                    r => new Event((ulong)r.GetInt64(0), r.GetInt32(1), r.GetString(2))
                )
            );
        return books;
    }

    private static async Task<List<T>> Query<T>(string connection, string sql, Func<NpgsqlDataReader, T> row)
    {
        // The audit may wait longer for the database than the load does.
        var patient = new NpgsqlConnectionStringBuilder(connection) { Pooling = false, Timeout = 30 };
        await using var open = new NpgsqlConnection(patient.ConnectionString);
        await open.OpenAsync();
        await using var command = new NpgsqlCommand(sql, open) { CommandTimeout = 60 };
        await using var reader = await command.ExecuteReaderAsync();
        var rows = new List<T>();
        while (await reader.ReadAsync())
            rows.Add(row(reader));
        return rows;
    }
}
