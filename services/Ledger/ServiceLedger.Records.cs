using Google.Protobuf;

namespace Ministries.Ledger;

/// <content>Reading records.</content>
public sealed partial class ServiceLedger
{
    /// <summary>A record; null: there is none, or the reader holds none of its tokens.</summary>
    /// <param name="kind">The kind of record.</param>
    /// <param name="key">Its key.</param>
    /// <param name="tokens">The reader's tokens; null: read for the service itself.</param>
    /// <param name="cancel">Cancels.</param>
    /// <exception cref="NewerFoldException">It was written by newer software.</exception>
    public async Task<Recorded<T>?> Find<T>(StreamKind<T> kind, string key, IReadOnlySet<string>? tokens, CancellationToken cancel)
        where T : class, IMessage<T>, new() =>
        (await _finder.Find(kind.Id(key), kind).WaitAsync(cancel)).Of(kind, key) is not { } found
        || tokens is not null && !kind.AudienceOf(found.State).Any(tokens.Contains)
            ? null
            : found;

    /// <summary>How often records were looked for by their keys since the ledger was opened.</summary>
    internal long Finds => _finder.Asked;

    /// <summary>Finds two records as they are at one moment, for the service itself. It ends within
    /// <see cref="LedgerOptions.StatementTimeout"/> and cannot be cancelled, because others wait for the same answer.</summary>
    /// <param name="kind">The kind of the first.</param>
    /// <param name="key">Its key.</param>
    /// <param name="otherKind">The kind of the second.</param>
    /// <param name="otherKey">Its key.</param>
    public Task<FoundRecords> FindTogether(StreamKind kind, string key, StreamKind otherKind, string otherKey) =>
        _finder.Find(kind.Id(key), kind, otherKind.Id(otherKey), otherKind);

    /// <summary>Records, oldest first, in an order that does not change while others write.</summary>
    /// <param name="kind">The kind of records.</param>
    /// <param name="keys">Keys (<see cref="StreamKind.KeysOf"/>) that a record must all have, at most 16.</param>
    /// <param name="viewer">Who reads; null: the service itself. A record that an older fold made is found by its former tokens, so the
    /// caller must check it by its present ones.</param>
    /// <param name="after">The number of the record to go on after; zero: from the first.</param>
    /// <param name="limit">The greatest number of records, 1 to 1000.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<IReadOnlyList<Recorded<T>>> List<T>(
        StreamKind<T> kind,
        IReadOnlyCollection<string> keys,
        Viewer? viewer,
        ulong after,
        int limit,
        CancellationToken cancel
    )
        where T : class, IMessage<T>, new()
    {
        CheckLimit(limit);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(keys.Count, 16);
        return Read<IReadOnlyList<Recorded<T>>>(
            async session =>
            {
                var records = new List<Recorded<T>>();
                foreach (var row in await session.List(kind.Name, [.. keys], viewer, Math.Min(after, long.MaxValue), limit))
                    records.Add(new(row.Id.Key, (T)await Stored.StateOf(session, kind, row), row.Version, row.Number, row.Position));
                if (records.Count > 0)
                    await Replicate(session, records.Max(r => r.Position) + 1);
                return records;
            },
            cancel
        );
    }

    /// <summary>Records whose duty is due at <paramref name="now"/>, the longest due first.</summary>
    /// <param name="now">The time.</param>
    /// <param name="skip">How many of them are left out, from the first on.</param>
    /// <param name="limit">How many are listed at most, up to 1,000.</param>
    /// <param name="cancel">Ends it.</param>
    public Task<IReadOnlyList<DueStream>> ListDue(DateTimeOffset now, int skip, int limit, CancellationToken cancel)
    {
        CheckLimit(limit);
        return Read<IReadOnlyList<DueStream>>(
            async session =>
                [
                    .. (await session.Due(now.UtcTicks, skip, limit)).Select(d => new DueStream(
                        d.Id,
                        new DateTimeOffset(d.Due, TimeSpan.Zero)
                    )),
                ],
            cancel
        );
    }

    /// <summary>The number of records whose duty is due.</summary>
    public Task<ulong> CountDue(DateTimeOffset now, CancellationToken cancel) => Read(session => session.CountDue(now.UtcTicks), cancel);

    /// <summary>The number of records of a kind that have all the keys, at most 16 of them.</summary>
    public Task<ulong> Count(StreamKind kind, IReadOnlyCollection<string> keys, CancellationToken cancel)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(keys.Count, 16);
        return Read(session => session.Count(kind.Name, [.. keys]), cancel);
    }
}
