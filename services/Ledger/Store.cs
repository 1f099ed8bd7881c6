namespace Ministries.Ledger;

/// <summary>A database that holds one service's ledger. One for each engine; all that is not SQL is outside.</summary>
internal abstract class Store : IAsyncDisposable
{
    /// <summary>The schema that this software knows: lesser ones are migrated (<see cref="Migration"/>), greater ones refused.</summary>
    internal const int Schema = 2;

    public static Store For(LedgerOptions options) =>
        options.Connection.StartsWith("sqlite:", StringComparison.Ordinal)
            ? new SqliteStore(options.Connection["sqlite:".Length..], options)
            : new PostgresStore(options);

    /// <summary>Creates what is missing, even while others do the same, and checks what must hold.</summary>
    public abstract Task Prepare(string service, CancellationToken cancel);

    /// <summary>Looks whether a database is behind what was signed or seen, before anything is read from it; null: nothing was signed yet.
    /// The argument says whether the whole history is compared, as on a new connection, or its end alone.</summary>
    public Func<Session, bool, Task>? Check { get; set; }

    /// <summary>Has every connection looked at again at its next use.</summary>
    public virtual void CheckAll() { }

    /// <summary>How long a connection is used before it is looked at again.</summary>
    protected static readonly TimeSpan CheckedFor = TimeSpan.FromSeconds(1);

    /// <summary>A session.</summary>
    public abstract Task<Session> Open(bool write, CancellationToken cancel);

    /// <summary>A session that writes, for a thread that waits for each answer; it begins a transaction with
    /// <see cref="Session.LockHead"/>.</summary>
    public virtual Task<Session> OpenWaiting() => Open(write: true, default);

    public abstract Task<Lead?> TryLead(string name, CancellationToken cancel);

    /// <summary>Whether the serving role could change and delete what was recorded, because it owns the tables. Known after
    /// <see cref="Prepare"/>.</summary>
    public bool OwnsTables { get; protected set; } = true;

    /// <summary>Whether the fault means that the database cannot be used now, not that it refused a statement.</summary>
    public abstract bool IsOutage(Exception fault);

    /// <summary>Whether the database answered but is itself at fault, not the command: something is missing or damaged, or a right was
    /// taken away. A command that does not need it may succeed.</summary>
    public abstract bool IsDamage(Exception fault);

    /// <summary>Whether a fault of a commit says that it was not done.</summary>
    public abstract bool IsNotCommitted(Exception fault);

    /// <summary>Drops idle connections, because they may have died with the server.</summary>
    public abstract void Forget();

    public abstract ValueTask DisposeAsync();

    /// <summary>Refuses a database of a newer schema, or another service's.</summary>
    internal static void CheckSchema(string service, int version, string found)
    {
        if (version > Schema)
            throw new LedgerInconsistentException(
                $"the database has schema {version}, this software knows {Schema}: start the newer version of the service."
            );
        if (found != service)
            throw new LedgerInconsistentException($"the database is the ledger of {found}, not of {service}: correct Ledger:Connection.");
    }
}
