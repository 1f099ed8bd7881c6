using Google.Protobuf;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <content>Reading entries, and waiting for more of them.</content>
public sealed partial class ServiceLedger
{
    /// <summary>How many positions one page looks at, whether the reader may see them or not.</summary>
    private const ulong Window = 4096;

    /// <summary>The bytes of parts beyond which a page ends.</summary>
    private const long PageBytes = 8 << 20;

    /// <summary>An entry with its parts; null: there is no entry, or it is not for the reader.</summary>
    /// <param name="position">Its position.</param>
    /// <param name="viewer">Who reads; null: the service itself.</param>
    /// <param name="cancel">Cancels.</param>
    public async Task<StoredEntry?> ReadEntry(ulong position, Viewer? viewer, CancellationToken cancel) =>
        position > long.MaxValue
            ? null
            : await Read(
                async session =>
                {
                    var rows = await session.Entries(position, position + 1, null, viewer, 1);
                    return rows.Count == 0
                        ? null
                        : await OnceReplicated(session, EntryOf(rows[0], await session.Parts([position])), _ => position + 1);
                },
                cancel
            );

    /// <summary>The tokens of those who may see an entry. Empty: there is no such entry, or nobody may see it.</summary>
    /// <param name="position">Its position.</param>
    /// <param name="cancel">Cancels.</param>
    public async Task<IReadOnlyCollection<string>> AudienceOf(ulong position, CancellationToken cancel) =>
        position > long.MaxValue
            ? []
            : await Read(
                async session => (await session.Entries(position, position + 1, null, null, 1)) is [var row] ? row.Audience : [],
                cancel
            );

    /// <summary>Entries from a position on. A page may be empty although more follow: continue from its next position.</summary>
    /// <param name="from">The first position wanted.</param>
    /// <param name="case">Only entries of this case; null: of any.</param>
    /// <param name="viewer">Who reads; null: the service itself.</param>
    /// <param name="limit">The greatest number of entries, 1 to 1000.</param>
    /// <param name="cancel">Cancels.</param>
    /// <param name="bytes">The number of bytes that the page may take in memory, with 1 KiB added for each entry. Default: 8 MiB, more than
    /// any entry has.</param>
    public Task<EntryPage> ReadEntries(
        ulong from,
        string? @case,
        Viewer? viewer,
        int limit,
        CancellationToken cancel,
        long bytes = PageBytes
    )
    {
        CheckLimit(limit);
        return Read(
            async session =>
            {
                var size = (await session.ReadHead()).Size;
                if (from >= size)
                    return new EntryPage([], from, true);
                var to = Math.Min(from + Window, size);
                var rows = await session.Entries(from, to, @case, viewer, limit);
                if (rows.Count > 0)
                    await Replicate(session, rows[^1].Position + 1);
                var next = rows.Count == limit ? rows[^1].Position + 1 : to;
                // An entry that does not fit on the page is not read.
                var fitting = rows.TakeWhile(row => (bytes -= BytesOf(row)) >= 0).ToList();
                if (fitting.Count < rows.Count)
                    next = rows[fitting.Count].Position;
                var parts = (await session.Parts([.. fitting.Select(r => r.Position)])).ToLookup(p => p.Position);
                return new EntryPage(
                    [.. fitting.Select(row => EntryOf(row, parts[row.Position]))],
                    next,
                    next >= size,
                    fitting.Count == 0 && rows.Count > 0
                );
            },
            cancel
        );
    }

    private static long BytesOf(EntryRow row) => 1024 + row.Header.Length + row.PartBytes;

    internal static StoredEntry EntryOf(EntryRow row, IEnumerable<PartRow> parts)
    {
        var byAudience = parts.ToLookup(p => p.Kind == PartKind.Audience);
        var entry = new Entry
        {
            Header = UnsafeByteOperations.UnsafeWrap(row.Header),
            Case = row.Case,
            Traceparent = row.TraceParent,
            Parts =
            {
                byAudience[false]
                    .Select(p => new EntryPart
                    {
                        Kind = p.Kind,
                        Salt = UnsafeByteOperations.UnsafeWrap(p.Salt),
                        Data = p.Data is null ? ByteString.Empty : UnsafeByteOperations.UnsafeWrap(p.Data),
                        Erased = p.Data is null,
                    }),
            },
        };
        foreach (var numbers in byAudience[true])
            entry.Audience.AddRange(AudienceNumbers.Parser.ParseFrom(numbers.Data).Numbers);
        return new StoredEntry(row.Position, row.Participant, entry, row.TraceState);
    }

    /// <summary>Returns when there are more entries than <paramref name="size"/>.</summary>
    public async Task WaitForMore(ulong size, CancellationToken cancel)
    {
        while (true)
        {
            var grown = _grown.Task;
            if (Size > size)
                return;
            try
            {
                await grown.WaitAsync(_options.PollInterval, cancel);
            }
            catch (TimeoutException)
            {
                // Another replica may have written. The caller that waits longest looks for all callers.
                if (!await _look.WaitAsync(0, cancel))
                    continue;
                try
                {
                    if (Environment.TickCount64 - _recentEntries.Looked < _options.PollInterval.TotalMilliseconds / 2)
                        continue;
                    await LookNow(cancel);
                }
                catch (LedgerUnavailableException)
                {
                    // The caller goes on waiting, because the database may come back.
                }
                finally
                {
                    _look.Release();
                }
            }
        }
    }
}
