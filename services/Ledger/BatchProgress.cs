namespace Ministries.Ledger;

/// <summary>How far a batch has come. The meaning of a fault depends on it.</summary>
internal sealed class BatchProgress
{
    /// <summary>The head's lock is held.</summary>
    public bool Locked { get; set; }

    /// <summary>COMMIT was sent, or is about to be.</summary>
    public bool Committing { get; set; }

    /// <summary>The database said that it committed.</summary>
    public bool Committed { get; set; }

    /// <summary>The effects of commands were written. A commit without effects touches fewer tables.</summary>
    public bool Recorded { get; set; }
}
