namespace Ministries.Ledger;

/// <summary>Whether a ledger can be served in full.</summary>
/// <param name="Writable">Whether a commit would be answered: the last one was, and the database took one just now.</param>
/// <param name="Clock">What is wrong with this machine's clock, so that nothing is committed; null: nothing.</param>
/// <param name="Contradiction">Why nothing may be served from the database (<see cref="ServiceLedger.Contradiction"/>); null: it
/// may.</param>
/// <param name="IsAsynchronous">Whether commits do not wait for a standby, although there is one or one is expected
/// (<see cref="LedgerOptions.ExpectReplication"/>): a failover would lose what was answered.</param>
public sealed record LedgerCondition(bool Writable, string? Clock, string? Contradiction, bool IsAsynchronous)
{
    /// <summary>Whether reads and writes are served.</summary>
    public bool IsGood => Writable && Clock is null && Contradiction is null;

    /// <summary>What is wrong, for an operator; empty: nothing.</summary>
    public string Wrong =>
        string.Join("; ", ((string?[])[Writable ? null : "the database takes no commits", Clock, Contradiction]).Where(w => w is not null));
}

/// <summary>What a database says of itself when something that leaves no trace is committed in it.</summary>
/// <param name="Head">The ledger's head.</param>
/// <param name="Clock">Its clock; null: it has none of its own.</param>
/// <param name="Synchronous">Whether a commit waits for a standby.</param>
/// <param name="Standbys">How many standbys it has now.</param>
internal sealed record Pulse(Head Head, DateTimeOffset? Clock, bool Synchronous, long Standbys);
