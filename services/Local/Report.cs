using System.Text.Json;
using System.Text.Json.Serialization;

namespace Ministries.Local;

/// <summary>The report of a run, for programs. Within a schema, fields are only added, never changed or removed.</summary>
public sealed record Report
{
    private static readonly JsonSerializerOptions Form = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>The schema's number.</summary>
    public int Schema { get; init; } = 1;

    /// <summary>Whether every check holds: exit code 0.</summary>
    public bool Holds => Checks.Count > 0 && Checks.All(c => c.Holds);

    /// <summary>The folder that the run's data went to.</summary>
    public required string Data { get; init; }

    /// <summary>The case's id; empty where it was not opened.</summary>
    public required string Case { get; init; }

    /// <summary>The time from the program's start to the first step, in milliseconds.</summary>
    public required double FirstResultMilliseconds { get; init; }

    /// <summary>The steps, in order.</summary>
    public required IReadOnlyList<Step> Timeline { get; init; }

    /// <summary>The trace of the write that logged the call, a parent before its children.</summary>
    public required IReadOnlyList<TraceSpan> Trace { get; init; }

    /// <summary>Later steps and the trace that each is linked to.</summary>
    public required IReadOnlyList<TraceLink> Links { get; init; }

    /// <summary>Each record as each party sees it at the end.</summary>
    public required IReadOnlyList<RecordView> Records { get; init; }

    /// <summary>The identity of one prisoner, as those who read his record see it.</summary>
    public IReadOnlyList<SealedView> Sealed { get; init; } = [];

    /// <summary>The same identity in the service's database; null: the services run elsewhere.</summary>
    public DatabaseDump? Dump { get; init; }

    /// <summary>The ledgers, verified from their entries.</summary>
    public required IReadOnlyList<LedgerCheck> Ledgers { get; init; }

    /// <summary>The history as parties exported it, verified from the files alone.</summary>
    public required IReadOnlyList<EvidenceFileReport> Evidence { get; init; }

    /// <summary>The expectations, and whether each holds.</summary>
    public required IReadOnlyList<Check> Checks { get; init; }

    /// <summary>The report in JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, Form);
}

/// <summary>What one participant did.</summary>
/// <param name="Part">The part of the main job, 0 to 6.</param>
/// <param name="Time">When it was answered.</param>
/// <param name="Participant">Who did it.</param>
/// <param name="Method">The full method name.</param>
/// <param name="What">What it means, in a few words.</param>
/// <param name="Milliseconds">How long the call took.</param>
/// <param name="Service">The service that answered.</param>
/// <param name="Position">The position of its entry; null where the answer named none.</param>
/// <param name="Refusal">Why it was refused; null where it was accepted.</param>
/// <param name="Trace">The trace's id, in hexadecimal.</param>
public sealed record Step(
    int Part,
    DateTimeOffset Time,
    string Participant,
    string Method,
    string What,
    double Milliseconds,
    string Service,
    ulong? Position,
    StepRefusal? Refusal,
    string Trace
);

/// <summary>Why a step was refused.</summary>
/// <param name="Reason">The reason's name.</param>
/// <param name="Basis">What stands behind it: LAW, AGREEMENT or FORM.</param>
/// <param name="Source">The article, invariant or clause.</param>
/// <param name="Missing">What is missing.</param>
/// <param name="Supplier">Who can supply it.</param>
/// <param name="Unlock">What would unlock it.</param>
/// <param name="Expected">Whether the story expected it.</param>
public sealed record StepRefusal(string Reason, string Basis, string Source, string Missing, string Supplier, string Unlock, bool Expected);

/// <summary>A span of the call's trace.</summary>
/// <param name="Trace">The trace's id, in hexadecimal.</param>
/// <param name="Name">Its name.</param>
/// <param name="Depth">Its depth in the tree; the root: zero.</param>
/// <param name="Span">Its id, in hexadecimal.</param>
/// <param name="Parent">Its parent's id; null: it is the root.</param>
/// <param name="Service">The service that it happened in.</param>
/// <param name="OffsetMilliseconds">From the root's start to its own.</param>
/// <param name="Milliseconds">How long it took.</param>
/// <param name="Attributes">Its attributes.</param>
public sealed record TraceSpan(
    string Trace,
    string Name,
    int Depth,
    string Span,
    string? Parent,
    string Service,
    double OffsetMilliseconds,
    double Milliseconds,
    IReadOnlyDictionary<string, string> Attributes
);

/// <summary>A later step's link to what caused it.</summary>
/// <param name="Name">The span's name.</param>
/// <param name="Trace">Its trace.</param>
/// <param name="CauseTrace">The trace that it is linked to.</param>
/// <param name="CauseName">The name of the span that it is linked to; null: not among the spans seen.</param>
public sealed record TraceLink(string Name, string Trace, string CauseTrace, string? CauseName);

/// <summary>A record as the parties see it.</summary>
/// <param name="Record">What it is, such as <c>transfer of P-1</c>.</param>
/// <param name="Id">Its id.</param>
/// <param name="Seen">What each participant sees; null: to it, the record does not exist.</param>
public sealed record RecordView(string Record, string Id, IReadOnlyDictionary<string, string?> Seen);

/// <summary>What is sealed, as a reader of the record sees it.</summary>
/// <param name="Reader">The participant.</param>
/// <param name="Part">What it is in the case.</param>
/// <param name="Seen">What it sees, in words.</param>
public sealed record SealedView(string Reader, string Part, string Seen);

/// <summary>What is sealed, as somebody with the service's files sees it.</summary>
/// <param name="File">The file of the database in which it stands.</param>
/// <param name="Lines">Its bytes: offset, hexadecimal, printable characters.</param>
/// <param name="Found">How often a word of what is sealed stands in clear in any file of the run.</param>
public sealed record DatabaseDump(string File, IReadOnlyList<string> Lines, int Found);

/// <summary>A ledger, fetched again by all who may see an entry, and computed again.</summary>
/// <param name="Service">The service.</param>
/// <param name="Entries">The number of entries.</param>
/// <param name="Gapless">Whether every position is there; in a ledger with cover entries, every number in every audience.</param>
/// <param name="Digests">The number of parts whose digest was computed again and matched its header's; null: one did not match.</param>
/// <param name="Root">The Merkle root computed from the headers, in hexadecimal; in a ledger with cover entries, the checkpoint's.</param>
/// <param name="Agrees">Whether it is the root of the service's checkpoint, of the same size; in a ledger with cover entries, whether each
/// entry is proved to be under it.</param>
/// <param name="Wrong">What is wrong; empty: nothing.</param>
public sealed record LedgerCheck(
    string Service,
    int Entries,
    bool Gapless,
    int? Digests,
    string Root,
    bool Agrees,
    IReadOnlyList<string> Wrong
);

/// <summary>A history that a party exported.</summary>
/// <param name="Path">The file.</param>
/// <param name="Exporter">The party.</param>
/// <param name="Entries">The number of entries in it.</param>
/// <param name="Signed">By participant how many requests in it are proved by its signature.</param>
/// <param name="Approvals">The number of approvals proved by officials' signatures.</param>
/// <param name="Receipts">The number of entries with a receipt.</param>
/// <param name="Privileged">The number of entries that a neutral observer has not permitted to be shown.</param>
/// <param name="Cosigned">Who cosigned every log that it rests on.</param>
/// <param name="Break">Where it breaks; null: nowhere.</param>
public sealed record EvidenceFileReport(
    string Path,
    string Exporter,
    int Entries,
    IReadOnlyDictionary<string, int> Signed,
    int Approvals,
    int Receipts,
    int Privileged,
    IReadOnlyList<string> Cosigned,
    string? Break
);

/// <summary>An expectation of the story.</summary>
/// <param name="What">What is expected.</param>
/// <param name="Holds">Whether it is so.</param>
/// <param name="Found">What was found instead; null where it is so.</param>
public sealed record Check(string What, bool Holds, string? Found = null);
