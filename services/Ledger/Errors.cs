namespace Ministries.Ledger;

/// <summary>Something that kept the ledger from doing what it was asked. Its text names no content of a record.</summary>
public abstract class LedgerException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>More commands wait than may: try again later. Nothing was recorded.</summary>
public sealed class LedgerOverloadedException() : LedgerException("more commands wait for the ledger than may");

/// <summary>The ledger takes no more commands: it is being closed. Nothing was recorded.</summary>
public sealed class LedgerClosedException() : LedgerException("the ledger is being closed");

/// <summary>The database cannot be used at present. Nothing was recorded.</summary>
public sealed class LedgerUnavailableException(Exception inner) : LedgerException("the ledger's database cannot be used at present", inner);

/// <summary>Whether the command was recorded is not known: the connection was lost while it was being committed. To send it again
/// with the same request id is safe and tells.</summary>
public sealed class CommitOutcomeUnknownException(Exception inner)
    : LedgerException("the database did not say whether it committed; repeat the same request to learn it", inner);

/// <summary>While the command waited, the agreement by which it was judged, or a key that signed it, ceased to hold. Nothing was
/// recorded; it is to be judged anew.</summary>
public sealed class AgreementReplacedException() : LedgerException("what the command was judged by no longer holds");

/// <summary>The command could not be carried out, through a fault of the software: a rule threw, an entry is greater than it may
/// be. Nothing was recorded; others are not affected.</summary>
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

/// <summary>A record was written by a newer version of the software, which this one would misread.</summary>
/// <param name="kind">The kind of record.</param>
/// <param name="found">The version of the fold that wrote it.</param>
/// <param name="known">The version that this software knows.</param>
public sealed class NewerFoldException(string kind, int found, int known)
    : LedgerException($"records of kind {kind} were written by version {found} of its rules; this software knows {known}");

/// <summary>The database does not fit what this service has signed or what it holds itself: it must not be served from. The text
/// says what an operator must do.</summary>
public sealed class LedgerInconsistentException(string message, Exception? inner = null) : LedgerException(message, inner);
