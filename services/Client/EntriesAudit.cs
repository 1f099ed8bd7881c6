using System.Collections.Concurrent;
using Google.Protobuf;
using Google.Protobuf.Collections;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Client;

/// <summary>An entry that a service showed failed verification.</summary>
/// <param name="service">The service's name.</param>
/// <param name="why">The entry, and what is wrong with it.</param>
public sealed class InvalidEntryException(string service, string why)
    : Exception($"an entry in the log of {service} failed verification: {why}")
{
    /// <summary>The entry, and what is wrong with it.</summary>
    public string Why { get; } = why;
}

/// <summary>
/// Verifies the entries that a service shows of a log. Each entry must be the one that the log has at its position, and must show its
/// events. Each part shown must match the digest in the header. Each request must be signed by its participant, with a key that the
/// agreement listed then. Only the events of a neutral observer's privileged entry and an erased request are shown without proof.
/// <see cref="MinistryClient.Audit"/> checks that the log is the one that was signed.
/// </summary>
public sealed class EntriesAudit
{
    private readonly string _service;
    private readonly KeyHistory _history;
    private readonly ConcurrentDictionary<ulong, ByteString> _agreements;
    private long _entries,
        _signatures;

    /// <summary>Begins with the entries that record the versions of the agreement.</summary>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    /// <param name="agreements">All of them, in order, as the service shows them. Each must also occur in the log.</param>
    /// <exception cref="InvalidEntryException">One of them cannot be read, or its version does not follow.</exception>
    public EntriesAudit(string service, IReadOnlyList<Entry> agreements)
    {
        _service = service;
        try
        {
            var read = agreements.Select(e => (Entry: e, Header: EntryHeader.Parser.ParseFrom(e.Header))).ToList();
            _agreements = new(read.Select(r => KeyValuePair.Create(r.Header.Position, r.Entry.Header)));
            _history = KeyHistory.Read(
                read.Select(r => new AdoptedAgreement(
                    r.Entry.Parts.First(p => p.Kind == PartKind.Request).Data.Memory,
                    r.Header.CommitTime.ToDateTimeOffset()
                ))
            );
        }
        catch (Exception e)
            when (e is KeyHistoryException or InvalidProtocolBufferException or InvalidOperationException or NullReferenceException)
        {
            throw new InvalidEntryException(service, e.Message);
        }
    }

    /// <summary>How many entries have been verified.</summary>
    public long Entries => _entries;

    /// <summary>How many of them showed a request and a signature, both verified.</summary>
    public long Signatures => _signatures;

    /// <summary>Verifies some entries, on all processors.</summary>
    /// <param name="entries">The entries.</param>
    /// <param name="leafAt">The tree's leaf at a position (RFC 6962, 2.1), 32 bytes; empty: there is none.</param>
    /// <exception cref="InvalidEntryException">The first entry that fails.</exception>
    public void Take(IReadOnlyList<Entry> entries, Func<ulong, ReadOnlyMemory<byte>> leafAt) => Take(entries, leafAt, headersAlone: false);

    /// <summary>As <see cref="Take(IReadOnlyList{Entry}, Func{ulong, ReadOnlyMemory{byte}})"/>. If <paramref name="headersAlone"/> is true,
    /// the entries are shown without parts and only their headers are verified.</summary>
    internal void Take(IReadOnlyList<Entry> entries, Func<ulong, ReadOnlyMemory<byte>> leafAt, bool headersAlone)
    {
        var wrong = new string?[entries.Count];
        Parallel.For(0, entries.Count, i => wrong[i] = Wrong(entries[i], leafAt, headersAlone));
        if (wrong.FirstOrDefault(w => w is not null) is { } first)
            throw new InvalidEntryException(_service, first);
        _entries += entries.Count;
    }

    /// <summary>Ends the audit: there are no more entries.</summary>
    /// <exception cref="InvalidEntryException">A version of the agreement by which entries were judged is not in the log.</exception>
    public void End()
    {
        if (!_agreements.IsEmpty)
            throw new InvalidEntryException(_service, $"entry {_agreements.Keys.Min()}, a version of the agreement, is not in the log");
    }

    private string? Wrong(Entry entry, Func<ulong, ReadOnlyMemory<byte>> leafAt, bool headersAlone)
    {
        EntryHeader header;
        try
        {
            header = EntryHeader.Parser.ParseFrom(entry.Header);
        }
        catch (InvalidProtocolBufferException)
        {
            return "a header that cannot be read";
        }
        var name = $"entry {header.Position}";
        if (!leafAt(header.Position).Span.SequenceEqual(TreeHash.Leaf(entry.Header.Span)))
            return $"{name} is not what the log has at its place";
        if (header.CommitTime is null || !StrictForm.IsTime(header.CommitTime))
            return $"{name} has no time";
        if (_history.Version(header.AgreementVersion) is not { } permissions)
            return $"{name} was judged by version {header.AgreementVersion} of the agreement, which is not recorded";
        if (_history.IsOver(header.AgreementVersion, header.CommitTime.ToDateTimeOffset()))
            return $"{name} was judged by version {header.AgreementVersion} of the agreement, which was no longer in force";
        if (
            header.Method == AgreementVersions.Method
            && (!_agreements.TryRemove(header.Position, out var known) || !known.Equals(entry.Header))
        )
            return $"{name} is a version of the agreement that was not shown as one";
        if (entry.Privileged && permissions.Participant(header.Participant) is not { Kind: ParticipantKind.NeutralObserver })
            return $"{name} is called privileged, and {header.Participant} is no neutral observer";
        if (!headersAlone && WrongParts(entry, header, name) is { } part)
            return part;
        var own = header.Participant.StartsWith("service/", StringComparison.Ordinal);
        if (own == DigestIn(header, PartKind.Signature) is not null)
            return own ? $"{name}, a service's own, names a signature" : $"{header.Participant} did not sign {name}";
        if (Data(entry.Parts, PartKind.Request) is not { } request || Data(entry.Parts, PartKind.Signature) is not { } signature)
            return null;
        if (EvidenceVerification.Signature(_service, header, request, signature, _history, out _, out _) is { } why)
            return why;
        Interlocked.Increment(ref _signatures);
        return null;
    }

    // Only a few kinds of part may be shown without proof. If any other part could, a service could show invented content.
    private static string? WrongParts(Entry entry, EntryHeader header, string name)
    {
        var shown = new HashSet<PartKind>();
        foreach (var part in entry.Parts)
        {
            if (!shown.Add(part.Kind))
                return $"the part {part.Kind} of {name} is there twice";
            if (DigestIn(header, part.Kind) is not { } digest)
                return $"the part {part.Kind} of {name} is not what was recorded";
            if (part.Erased)
            {
                if (WrongErasure(part, name) is { } erasure)
                    return erasure;
            }
            else if (entry.Privileged && part.Salt.IsEmpty)
            {
                if (part.Kind != PartKind.Events)
                    return $"the part {part.Kind} of {name}, which is privileged, is shown";
            }
            else if (!digest.Span.SequenceEqual(Digests.OfPart(part.Salt.Span, part.Data.Span)))
                return $"the part {part.Kind} of {name} is not what was recorded";
        }
        if (DigestIn(header, PartKind.Events) is not null && !shown.Contains(PartKind.Events))
            return $"the events of {name} were left out";
        if (WrongEvents(entry, name) is { } events)
            return events;
        var signed = DigestIn(header, PartKind.Request) is not null && DigestIn(header, PartKind.Signature) is not null;
        if (signed && shown.Contains(PartKind.Request) != shown.Contains(PartKind.Signature))
            return $"of {name} the {(shown.Contains(PartKind.Request) ? "signature" : "request")} was left out";
        return null;
    }

    private static string? WrongEvents(Entry entry, string name)
    {
        if (Data(entry.Parts, PartKind.Events) is not { } data)
            return null;
        if (ReadPart.Parse(Events.Descriptor.FullName, data) is not Events events)
            return $"the events of {name} cannot be read";
        foreach (var e in events.Events_)
            if (!LedgerEntry.IsEventType(e.Type))
                return $"an event of {name} has a type that is not the name of a message";
        return null;
    }

    /// <summary>The fault of a part that is shown as erased; null: none.</summary>
    internal static string? WrongErasure(EntryPart part, string name) =>
        // Only a request is ever erased.
        part.Kind != PartKind.Request
            ? $"the part {part.Kind} of {name} is called erased, and only a request can be"
        : !part.Salt.IsEmpty || !part.Data.IsEmpty ? $"the part {part.Kind} of {name} is called erased and is there"
        : null;

    /// <summary>A part's content; null: the part is not shown, or was erased.</summary>
    internal static ByteString? Data(RepeatedField<EntryPart> parts, PartKind kind)
    {
        foreach (var part in parts)
            if (part.Kind == kind)
                return part.Erased ? null : part.Data;
        return null;
    }

    private static ByteString? DigestIn(EntryHeader header, PartKind kind)
    {
        foreach (var part in header.Parts)
            if (part.Kind == kind)
                return part.Digest;
        return null;
    }
}
