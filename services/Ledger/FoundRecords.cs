using System.Runtime.ExceptionServices;
using Google.Protobuf;

namespace Ministries.Ledger;

/// <summary>Records as one query found them.</summary>
public sealed class FoundRecords
{
    private readonly Dictionary<StreamId, (StreamRow Row, IMessage? State, Exception? Fault)> _found = [];

    internal FoundRecords() { }

    /// <summary>One of the records that were asked for; null: there is none.</summary>
    /// <exception cref="NewerFoldException">It was written by newer software.</exception>
    public Recorded<T>? Of<T>(StreamKind<T> kind, string key)
        where T : class, IMessage<T>, new()
    {
        if (!_found.TryGetValue(kind.Id(key), out var found))
            return null;
        // Only the readers of this record fail.
        if (found.Fault is not null)
            ExceptionDispatchInfo.Throw(found.Fault);
        return new(key, (T)found.State!, found.Row.Version, found.Row.Number, found.Row.Position);
    }

    internal void Add(StreamRow row, IMessage? state, Exception? fault) => _found[row.Id] = (row, state, fault);
}
