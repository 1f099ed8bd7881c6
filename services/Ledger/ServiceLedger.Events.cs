namespace Ministries.Ledger;

/// <content>Reading the service's own events.</content>
public sealed partial class ServiceLedger
{
    /// <summary>The service's own events in the order of the ledger, for the relay.</summary>
    /// <param name="number">The number of the event to go on after; zero: from the first.</param>
    /// <param name="limit">The greatest number of events, 1 to 1000.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<IReadOnlyList<NumberedEvent>> EventsAfter(ulong number, int limit, CancellationToken cancel)
    {
        CheckLimit(limit);
        return _recentEvents.After(number, limit, Size) is { } recent
            ? Task.FromResult(recent)
            : Read(
                async session => Events(await OnceReplicated(session, await session.EventsAfter(Math.Min(number, long.MaxValue), limit))),
                cancel
            );
    }

    /// <summary>The service's own events of some types in the order of the ledger, for a consumer that fills a gap.</summary>
    /// <param name="after">Per event type the number of the event to go on after; zero: from the first. At most 64.</param>
    /// <param name="limit">The greatest number of events, 1 to 1000.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<IReadOnlyList<NumberedEvent>> EventsAfter(IReadOnlyDictionary<string, ulong> after, int limit, CancellationToken cancel)
    {
        CheckLimit(limit);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(after.Count, 64);
        var bounded = after.ToDictionary(a => a.Key, a => Math.Min(a.Value, long.MaxValue));
        return Read(async session => Events(await OnceReplicated(session, await session.EventsAfter(bounded, limit))), cancel);
    }

    private Task<List<EventSource>> OnceReplicated(Session session, List<EventSource> sources) =>
        OnceReplicated(session, sources, all => all.Count == 0 ? 0 : all.Max(s => s.Position) + 1);

    private IReadOnlyList<NumberedEvent> Events(List<EventSource> sources) =>
        [
            .. sources.Select(source =>
                NumberedEvent.Of(
                    Service,
                    source.Number,
                    source.Sequence,
                    source.Position,
                    source.Index,
                    V1.Events.Parser.ParseFrom(source.Events).Events_[source.Index],
                    NumberedEvent.TimeText(Stored.TimeOf(source.Header)),
                    TreeHash.Leaf(source.Header),
                    source.TraceParent,
                    source.TraceState
                )
            ),
        ];

    /// <summary>The number of the service's own events: the number of the last one.</summary>
    public Task<ulong> CountEvents(CancellationToken cancel) => Read(async session => (await session.ReadHead()).Events, cancel);
}
