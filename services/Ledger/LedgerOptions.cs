namespace Ministries.Ledger;

/// <summary>How a service's ledger is kept, and the limits on it.</summary>
public sealed class LedgerOptions
{
    /// <summary>The service's name, such as <c>calllog</c>. Messages of <c>ministries.calllog.v1</c> are its own
    /// events.</summary>
    public required string Service { get; init; }

    /// <summary>The kinds of streams that it keeps.</summary>
    public required IReadOnlyList<StreamKind> Kinds { get; init; }

    /// <summary>The database: <c>sqlite:</c> and a file's path, or an Npgsql connection string.</summary>
    public required string Connection { get; init; }

    /// <summary>The key that signs checkpoints until another takes over (<see cref="ServiceLedger.SignWith"/>).</summary>
    public required CheckpointKey Key { get; init; }

    /// <summary>Judges whose a checkpoint is; null: the ledger's own are those that its present key signed.</summary>
    public CheckpointJudge? Judge { get; init; }

    /// <summary>The file that holds the last checkpoint, outside the database; each replica has its own.</summary>
    public required string CheckpointFile { get; init; }

    /// <summary>Checkpoints that witnesses and other replicas showed just before, in any order. The ledger is not opened on a database that
    /// is behind one of them or has another history. One that no key of the log signed is ignored.</summary>
    public IReadOnlyList<HeardCheckpoint> Heard { get; init; } = [];

    /// <summary>The clock.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>Whether the clock is compared with the database's, where that has one of its own. Off only where
    /// <see cref="Time"/> is not the machine's clock.</summary>
    public bool ComparesDatabaseClock { get; init; } = true;

    /// <summary>Whether the database is expected to replicate synchronously even where it has no standby now.</summary>
    public bool ExpectReplication { get; init; }

    /// <summary>The greatest number of commands that may wait.</summary>
    public int MaxQueued { get; init; } = 4096;

    /// <summary>The greatest number of commands of one participant that may wait.</summary>
    public int MaxQueuedPerParticipant { get; init; } = 1024;

    /// <summary>The greatest number of bytes of requests that may wait. Beyond it, a participant without a waiting request may still have
    /// one wait.</summary>
    public long MaxQueuedBytes { get; init; } = 64 << 20;

    /// <summary>The greatest number of bytes of one participant's requests that may wait, if more than one request waits.</summary>
    public long MaxQueuedBytesPerParticipant { get; init; } = 16 << 20;

    /// <summary>The number of bytes of one participant's requests with precedence FLASH that may wait even beyond
    /// <see cref="MaxQueuedBytes"/> and <see cref="MaxQueuedBytesPerParticipant"/>.</summary>
    public long QueuedBytesForFlash { get; init; } = 1 << 20;

    /// <summary>The greatest number of commands that are committed together.</summary>
    public int MaxBatch { get; init; } = 256;

    /// <summary>The number of bytes of requests beyond which no more are committed together.</summary>
    public long MaxBatchBytes { get; init; } = 4 << 20;

    /// <summary>The greatest number of bytes of one entry's parts together.</summary>
    public int MaxEntryBytes { get; init; } = 4 << 20;

    /// <summary>The greatest number of events of one entry.</summary>
    public int MaxEvents { get; init; } = 256;

    /// <summary>The greatest number of bytes of one record's state.</summary>
    public int MaxStateBytes { get; init; } = 8 << 20;

    /// <summary>The greatest number of tokens or keys of one record or entry.</summary>
    public int MaxTokens { get; init; } = 256;

    /// <summary>How often a rule is run again because it asked for records that were not loaded yet.</summary>
    public int MaxRounds { get; init; } = 32;

    /// <summary>The greatest number of records that are held in memory between commits.</summary>
    public int MaxHeld { get; init; } = 2_000;

    /// <summary>How long a statement in the database may take.</summary>
    public TimeSpan StatementTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a commit waits for another replica's.</summary>
    public TimeSpan LockTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How long a commit may go unanswered before its callers are told that its outcome is not known. It is never cancelled:
    /// PostgreSQL answers a commit whose wait for the standbys was cancelled as if it were replicated.</summary>
    public TimeSpan CommitPatience { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>How long a lead lasts without being renewed, by the database's clock, 1 to 10 s: after that time another replica takes
    /// over from one that hangs.</summary>
    public TimeSpan LeadTime { get; init; } = TimeSpan.FromSeconds(6);

    /// <summary>How often waiting readers look for entries of other replicas.</summary>
    public TimeSpan PollInterval { get; init; } = TimeSpan.FromMilliseconds(500);

    /// <summary>How often entries are committed, to hide how many are recorded and when: zero, or up to <see cref="MaxCoverInterval"/>.
    /// With zero, entries are committed at once. Otherwise each commit has <see cref="CoverLeaves"/> entries. Default: zero.</summary>
    public TimeSpan CoverInterval { get; init; }

    /// <summary>The greatest <see cref="CoverInterval"/>: 5 s. Callers wait 10 s for an answer, or longer.</summary>
    public static readonly TimeSpan MaxCoverInterval = TimeSpan.FromSeconds(5);

    /// <summary>The number of entries of each commit if <see cref="CoverInterval"/> is set, 1 to <see cref="MostCoverLeaves"/>. Cover
    /// entries fill the places that no command takes. Default: 8.</summary>
    public int CoverLeaves { get; init; } = 8;

    /// <summary>The greatest <see cref="CoverLeaves"/>: 256, as many as the commands that are committed together.</summary>
    public const int MostCoverLeaves = 256;

    /// <summary>Receives lines about the progress of a migration that takes longer than two seconds; null: nobody does.</summary>
    public Action<string>? Progress { get; init; }
}
