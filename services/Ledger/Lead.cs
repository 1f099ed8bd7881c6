namespace Ministries.Ledger;

/// <summary>Being the one replica that does something. Disposing gives it up.</summary>
public abstract class Lead : IAsyncDisposable
{
    private protected Lead() { }

    /// <summary>Whether it still is: asks the database. Ask before each step that only one replica may do.</summary>
    public abstract Task<bool> Holds(CancellationToken cancel);

    /// <inheritdoc/>
    public abstract ValueTask DisposeAsync();
}
