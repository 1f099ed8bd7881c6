namespace Ministries.Ledger;

/// <summary>What every batch of a process works with.</summary>
internal sealed class CommitContext(
    LedgerOptions options,
    Store store,
    Checkpoints checkpoints,
    Action<ulong> grown,
    RecentEvents recentEvents,
    RecentEntries recentEntries,
    KnownEnd end,
    ClockGuard clock
)
{
    private readonly string _package = $"ministries.{options.Service}.v1.";

    public LedgerOptions Options { get; } = options;

    /// <summary>How many entries each commit has, so that it shows nothing of how many were recorded; null: as many as were.</summary>
    public int? Leaves { get; } = options.CoverInterval > TimeSpan.Zero ? options.CoverLeaves : null;
    public Store Store { get; } = store;
    public Checkpoints Checkpoints { get; } = checkpoints;

    /// <summary>Receives the number of entries once they are signed.</summary>
    public Action<ulong> Grown { get; } = grown;
    public RecentEvents RecentEvents { get; } = recentEvents;
    public RecentEntries RecentEntries { get; } = recentEntries;

    /// <summary>Up to where the ledger is replicated, and how far it reached at least.</summary>
    public KnownEnd End { get; } = end;

    /// <summary>Whether this machine's clock is trusted.</summary>
    public ClockGuard Clock { get; } = clock;

    /// <summary>The greatest tree that this process signed or heard of; null: there is none.</summary>
    public Checkpoint? Greatest => End.Seen is { } seen && seen.Size > (Checkpoints.Last?.Size ?? 0) ? seen : Checkpoints.Last;

    /// <summary>The kinds of streams that the service keeps, by name.</summary>
    public Dictionary<string, StreamKind> Kinds { get; } = options.Kinds.ToDictionary(k => k.Name);

    /// <summary>A kind by its name.</summary>
    /// <exception cref="ArgumentException">The service keeps no such streams.</exception>
    public StreamKind KindOf(string name) =>
        Kinds.TryGetValue(name, out var kind) ? kind : throw new ArgumentException($"the service keeps no streams of kind {name}");

    /// <summary>Whether the service publishes events of the type.</summary>
    public bool IsOwn(string type) => type.StartsWith(_package, StringComparison.Ordinal);
}
