namespace Ministries.Ledger;

/// <summary>The place of a command in a chain, such as the chain of one producer's events. While the previous command has failed, this one
/// must have no effect, because it would overtake it. The commands of a chain are put into the queue in order.</summary>
/// <param name="previous">The place of the previous command, if that is still running; null: it is not.</param>
public sealed class ChainLink(ChainLink? previous)
{
    private volatile ChainLink? _previous = previous;
    private volatile bool _failed;

    /// <summary>The place of the previous command; null: there is none, or it has had its effect.</summary>
    public ChainLink? Previous => _previous;

    /// <summary>Forgets the previous command, which has had its effect, so that its memory can be freed.</summary>
    public void Release() => _previous = null;

    /// <summary>Whether the command has failed. If it is tried again, the last try counts. The committing thread sets this at once, because
    /// the next command may be decided before the caller of this one hears of the failure.</summary>
    internal bool HasFailed
    {
        get => _failed;
        set => _failed = value;
    }
}
