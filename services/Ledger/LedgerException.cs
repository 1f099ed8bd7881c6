namespace Ministries.Ledger;

/// <summary>Something that kept the ledger from doing what it was asked. Its text names no content of a record.</summary>
public abstract class LedgerException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>Too many commands wait: try again later. Nothing was recorded.</summary>
public sealed class LedgerOverloadedException() : LedgerException("too many commands wait for the ledger");

/// <summary>The ledger takes no more commands: it is being closed. Nothing was recorded.</summary>
public sealed class LedgerClosedException() : LedgerException("the ledger is being closed");

/// <summary>The database cannot be used at present. Nothing was recorded.</summary>
/// <param name="inner">The database's exception.</param>
/// <param name="ofOne">Whether the database answers but did not take this one command.</param>
public sealed class LedgerUnavailableException(Exception inner, bool ofOne = false)
    : LedgerException("the ledger's database cannot be used at present", inner)
{
    /// <summary>Whether the database answers but did not take this one command, perhaps because a record that the command changes is
    /// damaged. Other commands may succeed. This one may fail until somebody repairs the database.</summary>
    public bool OfOne { get; } = ofOne;
}

/// <summary>Whether the command was recorded is not known: the connection was lost while it was being committed. Sending it again with the
/// same request id is safe and gives the outcome.</summary>
public sealed class CommitOutcomeUnknownException(Exception inner)
    : LedgerException("the database did not say whether it committed; send the same request again to get the outcome", inner);

/// <summary>This machine's clock disagrees with the time that only goes forward, with the database's clock, or with the ledger's last
/// entry. Nothing was recorded: an entry with a wrong time would date all later ones.</summary>
/// <param name="why">What is wrong.</param>
public sealed class ClockNotTrustedException(string why) : LedgerException($"{why}: nothing is committed until the clock is right");

/// <summary>The database answered COMMIT in a way that does not say that the transaction is replicated: late, or with a warning. It is not
/// told to callers, who get <see cref="CommitOutcomeUnknownException"/>.</summary>
/// <param name="why">What it answered.</param>
internal sealed class CommitDoubtfulException(string why) : Exception(why);

/// <summary>While the command waited, the agreement by which it was judged was replaced, or a key that signed it ended. Nothing was
/// recorded, and it must be judged again.</summary>
public sealed class AgreementReplacedException()
    : LedgerException("the agreement or a key by which the command was judged is no longer in force");

/// <summary>The command could not be carried out, because of a fault of the software: a rule threw, or an entry is larger than allowed.
/// Nothing was recorded; others are not affected.</summary>
public sealed class CommandFailedException(string method, Exception? inner, string why = "its rule failed")
    : LedgerException($"{method}: {why}", inner);

/// <summary>An event came before others of its type that this service has not taken in yet. Nothing was recorded.</summary>
/// <param name="producer">The service that publishes it.</param>
/// <param name="type">The event type.</param>
/// <param name="last">The number of the last event that was taken in; zero: none.</param>
/// <param name="sequence">The number of the event that came.</param>
public sealed class EventGapException(string producer, string type, ulong last, ulong sequence)
    : LedgerException($"{type} {sequence} of {producer} came when {last} was the last one")
{
    /// <summary>The service that publishes it.</summary>
    public string Producer { get; } = producer;

    /// <summary>The event type.</summary>
    public string Type { get; } = type;

    /// <summary>The number of the last event that was taken in; zero: none. Those from the next one up to the one before
    /// <see cref="Sequence"/> are missing.</summary>
    public ulong Last { get; } = last;

    /// <summary>The number of the event that came.</summary>
    public ulong Sequence { get; } = sequence;
}

/// <summary>The previous command in the chain has failed (<see cref="ChainLink"/>). Nothing was recorded, and the command's rule did not
/// run.</summary>
public sealed class CommandHeldBackException() : LedgerException("the command before it has failed");

/// <summary>A record was written by a newer version of the software, which this one would misread.</summary>
/// <param name="kind">The kind of record.</param>
/// <param name="found">The version of the fold that wrote it.</param>
/// <param name="known">The version that this software knows.</param>
public sealed class NewerFoldException(string kind, int found, int known)
    : LedgerException($"records of kind {kind} were written by version {found} of its rules; this software knows {known}");

/// <summary>The database contradicts what this service has signed, or itself, so it must not be served from. The text says what an operator
/// must do.</summary>
public sealed class LedgerInconsistentException(string message, Exception? inner = null) : LedgerException(message, inner);
