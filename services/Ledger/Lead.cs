namespace Ministries.Ledger;

/// <summary>The right to be the only replica that does something. Disposing gives it up.</summary>
public abstract class Lead : IAsyncDisposable
{
    private protected Lead() { }

    /// <summary>Asks the database whether this replica still has it. Ask before each step that only one replica may do.</summary>
    public abstract Task<bool> Holds(CancellationToken cancel);

    /// <inheritdoc/>
    public abstract ValueTask DisposeAsync();
}
