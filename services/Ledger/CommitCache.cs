namespace Ministries.Ledger;

/// <summary>What this process knows of the database since its own last commit. It is thrown away when another replica has written, and at
/// any fault.
/// </summary>
internal sealed class CommitCache
{
    /// <summary>The states of streams that were loaded or changed.</summary>
    public View View { get; } = new();

    /// <summary>The numbers of the streams that exist.</summary>
    public Dictionary<StreamId, ulong> Numbers { get; } = [];

    /// <summary>Streams whose states another fold made, with the keys under which it listed them.</summary>
    public Dictionary<StreamId, IReadOnlyCollection<string>> KeysOfRebuilt { get; } = [];

    /// <summary>The traceparent of the last entry that changed a stream.</summary>
    public Dictionary<StreamId, string> TraceParents { get; } = [];

    /// <summary>The number of the last event of each type.</summary>
    public Dictionary<string, ulong> LastOfTypes { get; } = [];

    /// <summary>The cursors of readers and consumers, and the number of entries that each audience may see.</summary>
    public Dictionary<string, ulong> Cursors { get; } = [];

    /// <summary>The right side of the tree; null: it was not loaded yet.</summary>
    public TreeEdge? Tree { get; set; }

    /// <summary>The last entry's time, in ticks of UTC.</summary>
    public long Time { get; set; }

    /// <summary>The number of states and cursors that are held.</summary>
    public int Held { get; set; }
}
