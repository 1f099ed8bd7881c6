using System.Collections.Concurrent;
using System.Diagnostics;
using System.Threading.Channels;

namespace Ministries.Hosting.Bus;

/// <summary>The messages of one producer that the service has in hand. A message is in hand until each of its events is settled.</summary>
/// <param name="types">The event types that the service reacts to.</param>
/// <param name="time">The clock. Its time that only goes forward counts.</param>
internal sealed class IntakeMessages(IReadOnlyList<string> types, TimeProvider time)
{
    private readonly Channel<InHand> _arrivals = Channel.CreateUnbounded<InHand>();
    private readonly Dictionary<string, SortedDictionary<ulong, List<Delivery>>> _held = types.ToDictionary(
        type => type,
        _ => new SortedDictionary<ulong, List<Delivery>>()
    );
    private readonly ConcurrentDictionary<InHand, byte> _inHand = [];
    private int _count;
    private long _moved;

    /// <summary>How many messages are in hand.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <summary>How long messages have been in hand while no event had its effect; zero: none is in hand.</summary>
    public TimeSpan Held => Count == 0 ? TimeSpan.Zero : time.GetElapsedTime(Interlocked.Read(ref _moved));

    /// <summary>Notes that an event had its effect. A message of many events may take long, where few are committed at a time.</summary>
    public void Move() => Interlocked.Exchange(ref _moved, time.GetTimestamp());

    /// <summary>Adds a message; returns when all of its events are settled.</summary>
    /// <exception cref="OperationCanceledException">The service stops.</exception>
    public async Task Add(EventMessage content)
    {
        var message = new InHand(content);
        _inHand.TryAdd(message, 0);
        if (Interlocked.Increment(ref _count) == 1)
            Move();
        try
        {
            if (!_arrivals.Writer.TryWrite(message))
                throw new OperationCanceledException();
            await message.Settled;
        }
        finally
        {
            Move();
            Interlocked.Decrement(ref _count);
            _inHand.TryRemove(message, out _);
        }
    }

    /// <summary>Gives all messages back to the broker.</summary>
    public void Abandon()
    {
        _arrivals.Writer.TryComplete();
        while (_arrivals.Reader.TryRead(out var message))
            message.Abandon();
        foreach (var delivery in _held.Values.SelectMany(h => h.Values).SelectMany(d => d))
            delivery.Message.Abandon();
    }

    /// <summary>Gives the messages that are in hand now back to the broker. Their events may still take effect here; the next receiver then
    /// finds that they have.</summary>
    public void GiveBack()
    {
        foreach (var message in _inHand.Keys)
            message.Abandon();
    }

    /// <summary>Waits until a message arrives.</summary>
    /// <param name="atMost">How long; at least one millisecond.</param>
    /// <param name="stop">Stops.</param>
    public async Task Arrival(TimeSpan atMost, CancellationToken stop)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(stop);
        patience.CancelAfter(atMost < TimeSpan.FromMilliseconds(1) ? TimeSpan.FromMilliseconds(1) : atMost);
        try
        {
            await _arrivals.Reader.WaitToReadAsync(patience.Token);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested) { }
    }

    /// <summary>Sorts what has arrived by type and number.</summary>
    /// <param name="repeated">Called for each event that is delivered again after it had its effect.</param>
    /// <param name="taken">Per type the number of the last event that has had its effect.</param>
    public void Sort(IReadOnlyDictionary<string, ulong> taken, Action<Delivery> repeated)
    {
        while (_arrivals.Reader.TryRead(out var message))
        {
            var held = _held[message.Content.Type];
            if (message.Content.Redelivered)
                Metrics.Redelivered();
            foreach (var published in message.Content.Events)
            {
                var delivery = new Delivery(message, published);
                if (message.Content.Redelivered && delivery.Sequence <= taken[message.Content.Type])
                    repeated(delivery);
                if (!held.TryGetValue(delivery.Sequence, out var same))
                    held[delivery.Sequence] = same = new(1);
                same.Add(delivery);
            }
        }
    }

    /// <summary>Settles the events that have had their effect.</summary>
    public void Settle(IReadOnlyDictionary<string, ulong> taken)
    {
        foreach (var (type, held) in _held)
            while (held.Count > 0 && held.First() is var (sequence, same) && sequence <= taken[type])
            {
                held.Remove(sequence);
                Move();
                foreach (var delivery in same)
                    delivery.Message.Settle();
            }
    }

    /// <summary>Rejects an event, and with it its message.</summary>
    /// <returns>Whether it was in hand.</returns>
    public bool Reject(Delivery delivery)
    {
        if (!_held[delivery.Type].Remove(delivery.Sequence, out var same))
            return false;
        foreach (var one in same)
            one.Message.Settle(new InvalidDataException("the producer's ledger has no such event"));
        return true;
    }

    /// <summary>The event that has been in hand longest; null: there is none.</summary>
    public Delivery? Oldest() => _held.Values.SelectMany(h => h.Values).SelectMany(d => d).MinBy(d => d.Message.Arrived);

    /// <summary>The next event in order, all of whose predecessors were taken up; null: there is none at present.</summary>
    /// <param name="reached">Per type the number of the last event that was taken up.</param>
    public Delivery? Next(IReadOnlyDictionary<string, ulong> reached)
    {
        Delivery? next = null;
        foreach (var (type, held) in _held)
        {
            if (held.Count == 0 || !held.TryGetValue(reached[type] + 1, out var same))
                continue;
            var (here, there) = (same[0].Published.Recorded.Origin, next?.Published.Recorded.Origin);
            if (there is not null && (here.Position, here.Index).CompareTo((there.Position, there.Index)) > 0)
                continue;
            if (same[0].Published.After.All(a => !reached.TryGetValue(a.Key, out var at) || at >= a.Value))
                next = same[0];
        }
        return next;
    }

    /// <summary>A message that is in hand until each of its events is settled.</summary>
    internal sealed class InHand(EventMessage message)
    {
        private readonly TaskCompletionSource _settled = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private int _left = message.Events.Count;

        public EventMessage Content => message;

        /// <summary>When it arrived, as a <see cref="Stopwatch"/> timestamp.</summary>
        public long Arrived { get; } = Stopwatch.GetTimestamp();

        public Task Settled => _settled.Task;

        /// <summary>Notes that one of its events is settled, or that it can never be.</summary>
        public void Settle(Exception? fault = null)
        {
            if (fault is not null)
                _settled.TrySetException(fault);
            else if (--_left == 0)
                _settled.TrySetResult();
        }

        public void Abandon() => _settled.TrySetCanceled();
    }

    /// <summary>An event of a message.</summary>
    internal sealed record Delivery(InHand Message, PublishedEvent Published)
    {
        public string Type => Message.Content.Type;

        public ulong Sequence => Published.Recorded.Origin.Sequence;
    }
}
