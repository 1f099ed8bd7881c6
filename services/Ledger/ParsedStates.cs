using Google.Protobuf;

namespace Ministries.Ledger;

/// <summary>States that were read recently, by their bytes. A query that returns the same bytes again need not parse them again, so the
/// state of an unchanged record is the same object each time.</summary>
internal sealed class ParsedStates
{
    // The limits of each of two generations. A state counts with its bytes, and larger ones are not kept.
    private const int MostBytes = 2 << 20,
        Greatest = 64 << 10;

    private readonly Lock _lock = new();
    private Dictionary<StreamId, (byte[] Bytes, IMessage State)> _young = [],
        _old = [];
    private int _bytes;

    public IMessage StateOf(StreamKind kind, StreamRow row)
    {
        lock (_lock)
        {
            if (_young.TryGetValue(row.Id, out var known) && row.State.AsSpan().SequenceEqual(known.Bytes))
                return known.State;
            if (_old.Remove(row.Id, out known) && row.State.AsSpan().SequenceEqual(known.Bytes))
                return Keep(known.State);
        }
        var state = kind.Parse(row.State);
        lock (_lock)
            return Keep(state);

        IMessage Keep(IMessage state)
        {
            if (row.State.Length > Greatest)
                return state;
            if ((_bytes += row.State.Length) > MostBytes)
                (_old, _young, _bytes) = (_young, [], row.State.Length);
            _young[row.Id] = (row.State, state);
            return state;
        }
    }
}
