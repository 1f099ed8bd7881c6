using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Ministries.Errors.V1;
using Ministries.Evidence.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Client;

/// <summary>An entry of an evidence file, as far as it is proved.</summary>
/// <param name="Service">The service.</param>
/// <param name="Header">The entry's header.</param>
/// <param name="Parts">The parts that were shown, read.</param>
/// <param name="Privileged">Whether it is a neutral observer's that must not be shown.</param>
/// <param name="Key">The key that signed the request, by its id; empty: no signature is shown.</param>
/// <param name="Approvers">The officials whose approvals were verified.</param>
/// <param name="Receipt">Whether a receipt for it was verified.</param>
public sealed record ProvedEntry(
    string Service,
    EntryHeader Header,
    IReadOnlyList<ReadPart> Parts,
    bool Privileged,
    string Key,
    IReadOnlyList<string> Approvers,
    bool Receipt
)
{
    /// <summary>The types of its events.</summary>
    public IEnumerable<string> Events => Parts.Select(p => p.Content).OfType<Events>().SelectMany(e => e.Events_).Select(e => e.Type);

    /// <summary>Whether it records a version of the agreement.</summary>
    public bool IsAgreement => Header.Method == AgreementVersions.Method;
}

/// <summary>A log of an evidence file, as far as it is proved.</summary>
/// <param name="Service">The service.</param>
/// <param name="Size">The number of entries under the checkpoint.</param>
/// <param name="Root">The root hash.</param>
/// <param name="Cosigned">Who cosigned the checkpoint, and when.</param>
/// <param name="Demanded">How many cosignatures the agreement demands.</param>
/// <param name="Complete">For each audience of the case, by name: the number of entries for it up to a position. The file has all of them.
/// Later entries, or entries for an audience that is not listed, may have been left out.</param>
public sealed record ProvedLog(
    string Service,
    ulong Size,
    byte[] Root,
    IReadOnlyList<(string Participant, DateTimeOffset Time)> Cosigned,
    uint Demanded,
    IReadOnlyList<(string Audience, ulong Number, ulong Position)> Complete
);

/// <summary>The result of verifying an evidence file.</summary>
public sealed class EvidenceReport
{
    /// <summary>Where it breaks; null: it does not.</summary>
    public EvidenceBreak? Break { get; internal set; }

    /// <summary>The file's head; null: it cannot be read.</summary>
    public EvidenceHead? Head { get; internal set; }

    /// <summary>The logs.</summary>
    public IReadOnlyList<ProvedLog> Logs { get; internal set; } = [];

    /// <summary>The entries, in the order of the file.</summary>
    public IReadOnlyList<ProvedEntry> Entries { get; internal set; } = [];

    /// <summary>The digest of the first version of the agreement: it decides which keys are whose.</summary>
    public byte[] Anchor { get; internal set; } = [];

    /// <summary>The number of the version whose digest <see cref="Anchor"/> is.</summary>
    public ulong AnchorVersion { get; internal set; }

    /// <summary>Whether the reader gave an agreement of his own, which was found among each log's versions.</summary>
    public bool Anchored { get; internal set; }
}

/// <summary>
/// Verifies an evidence file offline (<c>protos/EVIDENCE.md</c>): the first line at which it breaks, in the order of the checks
/// there, or what it proves.
/// </summary>
public sealed class EvidenceVerification
{
    private readonly List<(EvidenceLine Line, byte[] Digest)> _lines;
    private readonly EvidenceHead _head;
    private readonly Dictionary<int, EntryHeader> _headers;
    private readonly Dictionary<string, KeyHistory> _histories = [];

    // The version that an entry records, by the line's index.
    private readonly Dictionary<int, ulong> _recorded = [];
    private readonly List<ProvedEntry> _entries = [];
    private readonly List<ProvedLog> _logs = [];

    private EvidenceVerification(List<(EvidenceLine, byte[])> lines, Dictionary<int, EntryHeader> headers) =>
        (_lines, _headers, _head) = (lines, headers, lines[0].Item1.Head ?? new EvidenceHead());

    /// <summary>Verifies a file.</summary>
    /// <param name="file">Its bytes.</param>
    /// <param name="own">The digest of the reader's own agreement (<see cref="AgreementVersions.DigestOf"/>), which must be among the
    /// versions of each log; null: none is demanded.</param>
    /// <exception cref="ArgumentException">The digest is not 32 bytes long.</exception>
    public static EvidenceReport Verify(ReadOnlySpan<byte> file, byte[]? own = null)
    {
        if (own is { Length: not SHA256.HashSizeInBytes })
            throw new ArgumentException($"a digest has {SHA256.HashSizeInBytes} bytes", nameof(own));
        if (EvidenceFile.Read(file, out var lines, out var headers) is { } broken)
            return new EvidenceReport { Break = broken, Head = lines.FirstOrDefault().Line?.Head };
        var verification = new EvidenceVerification(lines, headers);
        var report = new EvidenceReport { Head = lines[0].Line.Head, Break = verification.Check(own) };
        if (report.Break is not null)
            return report;
        (report.Logs, report.Entries) = (verification._logs, verification._entries);
        var first = verification._histories.Values.First().Versions.First();
        (report.Anchor, report.AnchorVersion, report.Anchored) = (AgreementVersions.DigestOf(first), first.Version, own is not null);
        return report;
    }

    private EvidenceBreak? Check(byte[]? own)
    {
        if (AsExported() is not { } changed)
            return Contents() ?? Exporter() ?? (own is null ? null : Owned(own));
        // If the changed line breaks another rule too, that rule says what the change means.
        var meaning = Contents();
        return meaning is null || meaning.Line != changed.Line
            ? changed
            : changed with
            {
                Meaning = $"{changed.Meaning}; {meaning.Meaning}",
            };
    }

    private EvidenceBreak? Contents() => Order() ?? Histories() ?? Bodies();

    // ---- the file as its exporter made it --------------------------------------------------------------------------------------

    private EvidenceBreak? AsExported()
    {
        var end = _lines[^1].Line.End;
        if (!SigningKeys.Verifies(end.PublicKey, EvidenceFile.TextOf(end), end.Signature))
            return new(_lines.Count, "the file's signature is not that of its key over these lines");
        var count = _lines.Count - 1;
        for (var i = 0; i < Math.Max(count, end.Lines.Count); i++)
        {
            if (i == count)
                return new(_lines.Count, $"{end.Lines.Count - count} lines before the end were removed");
            if (i == end.Lines.Count)
                return new(i + 1, "the line was put in after the export");
            var (digest, due) = (_lines[i].Digest, end.Lines[i]);
            if (due.Span.SequenceEqual(digest))
                continue;
            var here = end
                .Lines.Select((l, n) => (l, n))
                .Where(l => l.l.Span.SequenceEqual(digest))
                .Select(l => l.n)
                .DefaultIfEmpty(-1)
                .First();
            var there = _lines.FindIndex(l => due.Span.SequenceEqual(l.Digest));
            return new(
                i + 1,
                (here, there) switch
                {
                    (-1, -1) => "the line was changed after the export",
                    (-1, _) => "the line was put in after the export",
                    (_, -1) => "a line that stood here was removed",
                    _ when here < i => $"line {here + 1} stands here again",
                    _ => $"the lines were put in another order: here stood what is now line {there + 1}",
                }
            );
        }
        return null;
    }

    private EvidenceBreak? Exporter()
    {
        var (end, last) = (_lines[^1].Line.End, _histories.Values.SelectMany(h => h.Versions).MaxBy(v => v.Version)!);
        var key = last
            .Participants.FirstOrDefault(p => p.Id == _head.Participant)
            ?.SigningKeys.FirstOrDefault(k => k.Id == end.KeyId && k.Use == SigningKeyUse.Requests && k.PublicKey == end.PublicKey);
        if (key is null)
            return new(_lines.Count, $"the key that signed the file is no key of {_head.Participant} for requests");
        if (!RequestSignatures.IsValidAt(key, _head.ExportTime.ToDateTimeOffset()))
            return new(_lines.Count, $"the key that signed the file was not valid when {_head.Participant} exported it");
        if (_head.TrustDomain != last.TrustDomain)
            return new(1, $"the agreement is of the trust domain {last.TrustDomain}");
        return _head.RequestId.Length > 0 && !_headers.Values.Any(h => h.Participant == _head.Participant && h.RequestId == _head.RequestId)
            ? new(1, $"the file is said to be of request {_head.RequestId} of {_head.Participant}, and does not hold it")
            : null;
    }

    private EvidenceBreak? Owned(byte[] own)
    {
        foreach (var log in Logs())
            if (!_histories[log.Service].Versions.Any(v => AgreementVersions.DigestOf(v).AsSpan().SequenceEqual(own)))
                return new(log.Entries[0] + 1, $"the reader's own agreement is not among those by which {log.Service} judged");
        return null;
    }

    // ---- order ---------------------------------------------------------------------------------------------------------------

    private EvidenceBreak? Order()
    {
        var (service, before) = ((string?)null, (ulong?)null);
        for (var i = 0; i < _lines.Count; i++)
        {
            var line = _lines[i].Line;
            var previous = i == 0 ? EvidenceLine.LineOneofCase.None : _lines[i - 1].Line.LineCase;
            var wrong = (previous, line.LineCase) switch
            {
                (EvidenceLine.LineOneofCase.None, EvidenceLine.LineOneofCase.Head) => null,
                (EvidenceLine.LineOneofCase.None, _) => "the first line is no head",
                (_, EvidenceLine.LineOneofCase.Head) => "a second head",
                (EvidenceLine.LineOneofCase.Head, not EvidenceLine.LineOneofCase.Log) =>
                    "a log's line is missing here: the file has no logs before it",
                (EvidenceLine.LineOneofCase.Log, not EvidenceLine.LineOneofCase.Entry) => "the log before it has no entries",
                _ => null,
            };
            if (wrong is not null)
                return new(i + 1, wrong);
            if (line.Log is { } log)
            {
                var order = service is null
                    ? 1
                    : Encoding.UTF8.GetBytes(log.Service).AsSpan().SequenceCompareTo(Encoding.UTF8.GetBytes(service));
                if (order <= 0)
                    return new(i + 1, $"the log of {log.Service} stands here {(order == 0 ? "again" : $"after that of {service}")}");
                (service, before) = (log.Service, null);
            }
            else if (_headers.TryGetValue(i, out var header))
            {
                if (header.Position == before)
                    return new(i + 1, $"entry {header.Position} of {service} stands here again");
                if (header.Position < before)
                    return new(i + 1, $"entry {header.Position} of {service} stands after entry {before}: the order was changed");
                before = header.Position;
            }
        }
        return null;
    }

    // ---- the agreement's versions ----------------------------------------------------------------------------------------------

    private EvidenceBreak? Histories()
    {
        var known = new Dictionary<ulong, ByteString>();
        foreach (var log in Logs())
        {
            if (_headers[log.Entries[0]].Method != AgreementVersions.Method)
                return new(log.Entries[0] + 1, $"the agreement by which {log.Service} judged is missing");
            var adopted = Adopted(log, out var unread);
            // The first fault of any kind is the break, because a version is valid only on the basis of those before it.
            KeyHistoryException? broken = null;
            try
            {
                _histories[log.Service] = KeyHistory.Read(adopted.Select(a => a.Version));
            }
            catch (KeyHistoryException e)
            {
                broken = e;
                _histories[log.Service] = KeyHistory.Read(adopted.Take(e.Index).Select(a => a.Version));
            }
            foreach (var (version, (index, _)) in _histories[log.Service].Versions.Zip(adopted))
            {
                _recorded[index] = version.Version;
                // Each log may have the version with other signatures, which are sufficient in each.
                var digest = ByteString.CopyFrom(AgreementVersions.DigestOf(version));
                if (known.TryAdd(version.Version, digest) || known[version.Version].Equals(digest))
                    continue;
                return new(index + 1, $"version {version.Version} of the agreement is another one than in the log before");
            }
            if (broken is not null)
                return new(adopted[broken.Index].Index + 1, broken.Message);
            if (unread is not null)
                return unread;
        }
        return null;
    }

    // The versions that a log's entries record, as far as they are shown, and where one is not.
    private List<(int Index, AdoptedAgreement Version)> Adopted((int, string Service, List<int> Entries) log, out EvidenceBreak? unread)
    {
        var adopted = new List<(int Index, AdoptedAgreement Version)>();
        unread = null;
        foreach (var i in log.Entries.Where(i => _headers[i].Method == AgreementVersions.Method))
        {
            var header = _headers[i];
            if (header.Participant != $"service/{log.Service}")
                unread = new(i + 1, "the agreement is recorded by another than the service");
            else if (_lines[i].Line.Entry.Parts.FirstOrDefault(p => p.Kind == PartKind.Request) is { Erased: false } part)
                adopted.Add((i, new AdoptedAgreement(part.Data.Memory, header.CommitTime.ToDateTimeOffset())));
            else
                unread = new(i + 1, "the agreement itself is missing");
            if (unread is not null)
                break;
        }
        return adopted;
    }

    // ---- logs and entries ------------------------------------------------------------------------------------------------------

    /// <summary>A log whose checkpoint holds, while its entries are verified in their order.</summary>
    private sealed record VerifiedLog(string Service, Checkpoint Checkpoint, KeyHistory History, LogKeys Keys, Completeness Complete)
    {
        /// <summary>The versions of the agreement that its entries have recorded so far.</summary>
        public HashSet<ulong> Versions { get; } = [];
    }

    private EvidenceBreak? Bodies()
    {
        _entries.Clear();
        _logs.Clear();
        foreach (var log in Logs())
        {
            var (line, history) = (_lines[log.Index].Line.Log, _histories[log.Service]);
            var latest = history.Versions.Last();
            var keys = LogKeys.Of(history, log.Service);
            var judged = keys.Judge(line.Checkpoint, at: null, covers: log.Entries.Max(i => _headers[i].CommitTime.ToDateTimeOffset()));
            if (Unsigned(judged, log.Service) is { } unsigned)
                return new(log.Index + 1, unsigned);
            if (!judged.Counts)
                return new(log.Index + 1, $"the checkpoint of {log.Service} does not count: {judged.Wrong}");
            var signed = judged.Tree!;
            var verified = new VerifiedLog(log.Service, signed, history, keys, new Completeness(fromStart: true, _head.Case));
            foreach (var i in log.Entries)
                if (Entry(verified, i, out var proved) is { } wrong)
                    return new(i + 1, wrong);
                else
                    _entries.Add(proved!);
            _logs.Add(
                new ProvedLog(
                    log.Service,
                    signed.Size,
                    signed.Root,
                    CosignedBy(judged),
                    latest.CosignaturesDemanded,
                    _head.Case.Length == 0 ? [] : [.. verified.Complete.Last.OrderBy(l => l.Audience, StringComparer.Ordinal)]
                )
            );
        }
        return null;
    }

    // What is wrong with the signatures on a checkpoint, whether it counts or not; null: nothing.
    internal static string? Unsigned(JudgedCheckpoint judged, string service) =>
        judged.Tree is null ? $"the checkpoint of {service} does not hold: {judged.Wrong}"
        : judged.Cosignatures.FirstOrDefault(c => c.Time is null) is { } forged
            ? $"the cosignature of {forged.Participant} is not its key's over this checkpoint"
        : null;

    internal static IReadOnlyList<(string Participant, DateTimeOffset Time)> CosignedBy(JudgedCheckpoint judged) =>
        [
            .. judged
                .Cosignatures.Where(c => c.Wrong is null)
                .GroupBy(c => c.Participant)
                .OrderBy(g => g.Key, StringComparer.Ordinal)
                .Select(g => (g.Key, g.Min(c => c.Time!.Value))),
        ];

    private string? Entry(VerifiedLog log, int index, out ProvedEntry? proved)
    {
        proved = null;
        var (entry, header) = (_lines[index].Line.Entry, _headers[index]);
        var record = SHA256.HashData(entry.Header.Span);
        if (WrongInclusion(log, entry, header, record) is { } outside)
            return outside;
        if (WrongVersion(log, index, header, out var permissions) is { } version)
            return version;
        if (Parts(entry, header, permissions!) is { } part)
            return part;
        if (WrongAudience(entry, header) is { } audience)
            return audience;
        // A request's entries are not all that an audience may see: only a case's numbers must be without gaps.
        if (_head.Case.Length > 0 && log.Complete.Take(header, entry.Audience) is { } missing)
            return missing;
        if (WrongSigner(header) is { } signer)
            return signer;
        var (keyId, approvers) = ("", (IReadOnlyList<string>)[]);
        if (
            EntriesAudit.Data(entry.Parts, PartKind.Request) is { } request
            && EntriesAudit.Data(entry.Parts, PartKind.Signature) is { } bytes
        )
            if (Signature(log.Service, header, request, bytes, log.History, out keyId, out approvers) is { } wrong)
                return wrong;
        if (Receipt(log, entry, header, record) is { } receipt)
            return receipt;
        if (Read(entry, header, out var read) is { } unreadable)
            return unreadable;
        if (_head.Case.Length > 0 && OtherCase(read) is { } stray)
            return $"entry {header.Position} is of another case, {stray}";
        proved = new ProvedEntry(log.Service, header, read, entry.Privileged, keyId, approvers, entry.Receipt is not null);
        return null;
    }

    private static string? WrongInclusion(VerifiedLog log, EvidenceEntry entry, EntryHeader header, byte[] record) =>
        Proofs.Includes(
            SHA256.HashData([0, .. record]),
            header.Position,
            log.Checkpoint.Size,
            log.Checkpoint.Root,
            [.. entry.Proof.Select(h => h.ToByteArray())]
        )
            ? null
            : $"entry {header.Position} is not in the log of {log.Service} as its checkpoint has it: its header or its proof was changed";

    // The version by which the entry was judged must be recorded before it, and be in force then.
    private string? WrongVersion(VerifiedLog log, int index, EntryHeader header, out Permissions? permissions)
    {
        var recorded = _recorded.TryGetValue(index, out var version);
        if (recorded)
            log.Versions.Add(version);
        permissions = log.History.Version(header.AgreementVersion);
        var judged = $"version {header.AgreementVersion} of the agreement, by which entry {header.Position} was judged,";
        if (recorded && version != header.AgreementVersion || !log.Versions.Contains(header.AgreementVersion) || permissions is null)
            return $"{judged} is not recorded before it";
        return log.History.IsOver(header.AgreementVersion, header.CommitTime.ToDateTimeOffset())
            ? $"{judged} was no longer in force"
            : null;
    }

    private static string? WrongAudience(EvidenceEntry entry, EntryHeader header)
    {
        var place = 0;
        foreach (var (number, commitment) in entry.Audience.Select(a => (a, Digests.OfAudience(a))))
        {
            while (place < header.Audience.Count && !header.Audience[place].Equals(commitment))
                place++;
            if (place++ < header.Audience.Count)
                continue;
            return $"the header of entry {header.Position} does not commit to number {number.Number} of {number.Audience} there";
        }
        return null;
    }

    // A participant signs its entries; a service does not sign its own.
    private static string? WrongSigner(EntryHeader header)
    {
        var own = header.Participant.StartsWith("service/", StringComparison.Ordinal);
        if (own != header.Parts.Any(p => p.Kind == PartKind.Signature))
            return null;
        return own
            ? "a service's own entry names a signature"
            : $"{header.Participant} did not sign entry {header.Position}: the service wrote it itself";
    }

    private static string? Read(EvidenceEntry entry, EntryHeader header, out List<ReadPart> read)
    {
        read = [];
        foreach (var shown in entry.Parts)
        {
            if (!shown.Erased && !IsStrict(shown))
                return $"the part {shown.Kind} of entry {header.Position} can be read in more than one way";
            read.Add(ReadPart.Read(shown, header, privileged: false));
            if (!shown.Erased && read[^1].Content is null && shown.Kind is PartKind.Events or PartKind.Answer)
                return $"the part {shown.Kind} of entry {header.Position} cannot be read";
        }
        return null;
    }

    // The case of the first event that is of another case than the file.
    private string? OtherCase(IEnumerable<ReadPart> read) =>
        read.Select(p => p.Content)
            .OfType<Events>()
            .SelectMany(e => e.Events_)
            .FirstOrDefault(e => e.Case.Length > 0 && e.Case != _head.Case)
            ?.Case;

    // Checks parts that every reader reads. A request is checked with its signature.
    private static bool IsStrict(EntryPart part) =>
        part.Kind switch
        {
            PartKind.Events => WireWalk.IsStrict(Events.Descriptor, part.Data.Span),
            PartKind.Answer => WireWalk.IsStrict(Answer.Descriptor, part.Data.Span),
            _ => true,
        };

    private static string? Parts(EvidenceEntry entry, EntryHeader header, Permissions permissions)
    {
        var at = -1;
        foreach (var part in entry.Parts)
        {
            var named = header.Parts.Select(p => p.Kind).ToList().IndexOf(part.Kind);
            if (named < 0)
                return $"entry {header.Position} has no part {part.Kind}";
            if (named == at)
                return $"the part {part.Kind} of entry {header.Position} is there twice";
            if (named < at)
                return $"the parts of entry {header.Position} are in another order";
            at = named;
            if (part.Erased)
            {
                if (EntriesAudit.WrongErasure(part, $"entry {header.Position}") is { } erasure)
                    return erasure;
            }
            else if (part.Salt.Length != 32)
                return $"the part {part.Kind} of entry {header.Position} has no salt of 32 bytes";
            else if (!header.Parts[named].Digest.Span.SequenceEqual(Digests.OfPart(part.Salt.Span, part.Data.Span)))
                return $"the part {part.Kind} of entry {header.Position} is not what was recorded: it was altered";
        }
        if (entry.Privileged)
            return permissions.Participant(header.Participant) is not { Kind: ParticipantKind.NeutralObserver }
                    ? $"entry {header.Position} is called privileged, and {header.Participant} is no neutral observer"
                : entry.Parts.Count > 0 || entry.Receipt is not null ? $"entry {header.Position} is privileged and shown all the same"
                : null;
        if (!Has(PartKind.Events))
            return $"the events of entry {header.Position} were left out";
        if (Names(PartKind.Request) && Names(PartKind.Signature) && Has(PartKind.Request) != Has(PartKind.Signature))
            return $"of entry {header.Position} the {(Has(PartKind.Request) ? "signature" : "request")} was left out";
        return null;

        bool Has(PartKind kind) => entry.Parts.Any(p => p.Kind == kind);
        bool Names(PartKind kind) => header.Parts.Any(p => p.Kind == kind);
    }

    /// <summary>What is wrong with a request's signature and the approvals in it; null: nothing.</summary>
    internal static string? Signature(
        string service,
        EntryHeader header,
        ByteString request,
        ByteString signature,
        KeyHistory history,
        out string keyId,
        out IReadOnlyList<string> approvers
    )
    {
        (keyId, approvers) = ("", []);
        var who = $"the signature of {header.Participant} on entry {header.Position}";
        RequestSignature given;
        SignedFields fields;
        try
        {
            (given, fields) = (RequestSignature.Parser.ParseFrom(signature), SignedFields.Parser.ParseFrom(request));
        }
        catch (InvalidProtocolBufferException)
        {
            return $"{who} cannot be read";
        }
        if (
            !WireWalk.IsStrict(RequestSignature.Descriptor, signature.Span)
            || !WireWalk.IsStrict(SignedFields.Descriptor, request.Span, passesUnknown: true)
        )
            return $"{who} can be read in more than one way";
        if (history.WrongRequest(header, given, request.Span, fields.RequestId, service) is { } reason)
            return $"{who} does not hold: {Words(reason)}";
        keyId = SignatureFields.Read(given.SignatureInput, given.Signature)!.KeyId!;
        var (officials, refusal) = history.Approved(header, fields.Approvals, request.Span, service);
        if (refusal is not null)
            return $"an approval in entry {header.Position} does not hold: {Words(refusal.Reason)}";
        approvers = [.. officials.Order(StringComparer.Ordinal)];
        return null;
    }

    private static string? Receipt(VerifiedLog log, EvidenceEntry entry, EntryHeader header, byte[] record)
    {
        if (entry.Receipt is not { } receipt)
            return entry.Consistency.Count > 0 ? $"entry {header.Position} has a consistency proof and no receipt" : null;
        var of = $"the receipt of entry {header.Position}";
        if (
            receipt.Position != header.Position
            || !Equals(receipt.CommitTime, header.CommitTime)
            || !receipt.EntryHash.Span.SequenceEqual(record)
        )
            return $"{of} is for another entry";
        var judged = log.Keys.Judge(receipt.Checkpoint, at: null, covers: header.CommitTime.ToDateTimeOffset());
        if (Unsigned(judged, log.Service) is { } unsigned)
            return $"{of} proves nothing: {unsigned}";
        if (Receipts.WrongProof(receipt, log.Service, judged.Tree) is { } wrong)
            return $"{of} proves nothing: {wrong}";
        // A tree that is a prefix of what the log has signed belongs to the log, whoever signed it first.
        var consistency = entry.Consistency.Select(h => h.ToByteArray()).ToList();
        if (consistency.Count > 0 || !judged.Counts)
            if (!Proofs.Extends(receipt.TreeSize, receipt.RootHash.Span, log.Checkpoint.Size, log.Checkpoint.Root, consistency))
                return consistency.Count > 0 ? $"{of} is of no tree that the log goes on from" : $"{of} proves nothing: {judged.Wrong}";
        return null;
    }

    private static string Words(Reason reason) => $"{Reasons.NameOf(reason)}; what is missing: {Reasons.AboutOf(reason).Missing}";

    private IEnumerable<(int Index, string Service, List<int> Entries)> Logs()
    {
        for (var i = 1; i < _lines.Count - 1; i++)
            if (_lines[i].Line.Log is { } log)
                yield return (i, log.Service, [.. Enumerable.Range(i + 1, _lines.Count - i - 1).TakeWhile(_headers.ContainsKey)]);
    }
}
