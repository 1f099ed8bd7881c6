namespace Ministries.Ledger;

/// <summary>The place of a command in a chain, such as that of one producer's events: while the command before it has failed, it must have
/// no effect, because it would overtake that one. The commands of a chain are put into the queue in order.</summary>
/// <param name="previous">The place of the command before it, if that is still running; null: none is.</param>
public sealed class ChainLink(ChainLink? previous)
{
    private volatile ChainLink? _previous = previous;
    private volatile bool _failed;

    /// <summary>The place of the command before it; null: there is none, or that one has had its effect.</summary>
    public ChainLink? Previous => _previous;

    /// <summary>Forgets the command before it, which has had its effect. So its memory can be freed.</summary>
    public void Release() => _previous = null;

    /// <summary>Whether its command has failed. It may be tried again, and then its last try counts. It is set on the thread that commits, as
    /// soon as it is known: the next command may be decided before the caller of this one has heard of it.</summary>
    internal bool HasFailed
    {
        get => _failed;
        set => _failed = value;
    }
}
