using System.Collections.Concurrent;
using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Ledger.V1;
using Ministries.Sealing;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Client;

/// <summary>What a verified entry says of the sealed data that its request carries. Nothing of it is personal.</summary>
/// <param name="Header">Its header: who signed the request, and so sealed what it carries, and under which id.</param>
/// <param name="Named">Every text of its events, of which the ids of records are some.</param>
/// <param name="Contents">The digests (SHA-256) of what is sealed in the request, by path; null: the request is not shown.</param>
internal sealed record SealingEntry(EntryHeader Header, IReadOnlySet<string> Named, IReadOnlyDictionary<string, ByteString>? Contents)
{
    /// <summary>Reads an entry that was verified.</summary>
    /// <returns>Null: it carries nothing sealed, or what it carries was refused and so is nobody's.</returns>
    public static SealingEntry? Of(LedgerEntry entry)
    {
        if (TypeOf(entry.Header.Method) is not { } type || !Seals.CanBeIn(type))
            return null;
        var named = entry.Published.Select(e => e.Event).OfType<IMessage>().SelectMany(Contract.TextsIn).ToHashSet();
        if (named.Count == 0)
            return null;
        var request = entry.Parts.FirstOrDefault(p => p.Kind == PartKind.Request)?.Content;
        return new(
            entry.Header,
            named,
            request is null ? null : Seals.WithPaths(request).ToDictionary(s => s.Path, s => DigestOf(s.Sealed))
        );
    }

    /// <summary>The request's type; null: the contracts do not know the method.</summary>
    public static MessageDescriptor? TypeOf(string method) => Methods.Find(method)?.InputType;

    /// <summary>The digest of sealed bytes.</summary>
    public static ByteString DigestOf(Sealed @sealed) => ByteString.CopyFrom(SHA256.HashData(@sealed.Content.Span));

    /// <summary>Where a message is sealed in the request of an entry.</summary>
    /// <param name="header">The entry's header.</param>
    /// <param name="message">The message inside.</param>
    /// <param name="case">The case.</param>
    /// <returns>Null: in no field of it.</returns>
    public static SealContext? ContextFor(EntryHeader header, MessageDescriptor message, string @case) =>
        TypeOf(header.Method) is { } type && Seals.PathFor(type, message.FullName) is { } path
            ? new(type.FindFieldByName("case") is null ? "" : @case, header.RequestId, Contract.PathOf(path), header.Participant)
            : null;
}

/// <summary>Something sealed in a record, and what the record says of where it came from.</summary>
/// <param name="Record">The record.</param>
/// <param name="Kind">Its kind.</param>
/// <param name="Sealed">What is sealed.</param>
/// <param name="Path">Its path in the outermost record, such as <c>claims[0].evidence</c>.</param>
/// <param name="Name">The name of the field, which is that of the request's too.</param>
/// <param name="Beside">The position of the entry that the record names beside it; zero: it names none, or another entry.</param>
internal sealed record SealedInRecord(IMessage Record, RecordType Kind, Sealed Sealed, string Path, string Name, ulong Beside)
{
    /// <summary>All that is sealed in records, however deep in a message. Of a record in another one it is the inner one's.</summary>
    public static IEnumerable<SealedInRecord> In(IMessage message) => In(message, null, null, "", 0);

    private static IEnumerable<SealedInRecord> In(IMessage message, IMessage? record, RecordType? kind, string path, ulong beside)
    {
        if (Records.Kinds.FirstOrDefault(k => k.Type == message.Descriptor) is { } own)
            (record, kind, path, beside) = (message, own, record is null ? "" : path, 0);
        if (message.Descriptor.FindFieldByName("position") is { FieldType: FieldType.UInt64 } position)
            beside = (ulong)position.Accessor.GetValue(message);
        foreach (var field in message.Descriptor.Fields.InFieldNumberOrder())
        {
            if (field.FieldType != FieldType.Message || field.IsMap)
                continue;
            var value = field.Accessor.GetValue(message);
            var name = path.Length == 0 ? field.Name : $"{path}.{field.Name}";
            if (value is Sealed @sealed)
            {
                if (record is not null && kind is not null)
                    yield return new(record, kind, @sealed, name, field.Name, NamesAnother(field) ? 0 : beside);
            }
            else if (value is System.Collections.IList items)
            {
                for (var i = 0; i < items.Count && Seals.CanBeIn(field.MessageType); i++)
                    foreach (var inner in In((IMessage)items[i]!, record, kind, $"{name}[{i}]", beside))
                        yield return inner;
            }
            else if (value is IMessage one && Seals.CanBeIn(field.MessageType))
                foreach (var inner in In(one, record, kind, name, beside))
                    yield return inner;
        }
    }

    // Why something was revoked or corrected stands beside the position of what was.
    private static bool NamesAnother(FieldDescriptor field) =>
        field.Name == "revoke_details" || field.ContainingType == CallLog.V1.Correction.Descriptor;

    /// <summary>Where what is sealed belongs, by an entry that was verified.</summary>
    /// <param name="message">The message inside.</param>
    /// <param name="entry">The entry at its position; null: the participant is shown none there.</param>
    /// <exception cref="SealException">It is of another record or field.</exception>
    public SealContext ContextBy(MessageDescriptor message, SealingEntry? entry)
    {
        if (entry is null)
            throw Fault(SealFault.OtherRecord, "no entry is shown from which the record has it.");
        if (Beside != 0 && Beside != Sealed.Position)
            throw Fault(SealFault.OtherRecord, "the record shows it beside another entry than that from which it is.");
        if (!entry.Named.Contains(Kind.IdOf(Record)))
            throw Fault(SealFault.OtherRecord, "the entry from which it is belongs to another record.");
        if (SealingEntry.ContextFor(entry.Header, message, Contract.TextOf(Record, "case")) is not { } context)
            throw Fault(SealFault.OtherMessage, "the request from which it is holds no such message.");
        if (context.Field[(context.Field.LastIndexOf('.') + 1)..] != Name)
            throw Fault(SealFault.OtherField, "it is from another field of the request.");
        if (entry.Contents is { } contents && contents.GetValueOrDefault(context.Field) != SealingEntry.DigestOf(Sealed))
            throw Fault(SealFault.NotAuthentic, "the signed request holds something else.");
        return context;
    }

    private SealException Fault(SealFault fault, string why) => new(fault, Path, why);
}

/// <content>What is sealed in a record is opened by the entry that carried it.</content>
public sealed partial class MinistryClient
{
    // Entries do not change, so each is read and verified once.
    private const int MostRemembered = 4096;

    private readonly ConcurrentDictionary<(string Service, ulong Position), SealingEntry?> _sealing = [];

    /// <summary>Opens what is sealed to the participant in a record, and demands that it is of this record and this field. It reads the entry
    /// that carried it and verifies it: its place in the log, its parts and, where the request is shown, the sender's signature. So a service
    /// that shows what was sealed for another record, or in another field, is found out (protos/SEALED.md, section 4).</summary>
    /// <example><code>
    /// var prisoner = (await client.Custody.GetPrisonerAsync(…)).Prisoner;
    /// var rank = (await client.OpenIn&lt;PersonIdentity&gt;(prisoner, prisoner.Identity)).Message.Rank;
    /// </code></example>
    /// <typeparam name="T">The message inside, as the comment of the field names it.</typeparam>
    /// <param name="record">The record, whole, as the service shows it.</param>
    /// <param name="sealed">What is sealed in it: the very object that stands in the record.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="ArgumentException">It does not stand in the record, or that is no record.</exception>
    /// <exception cref="SealException">It does not open. The fault says why, and the field in the record where.</exception>
    /// <exception cref="RefusedException">The entry cannot be read.</exception>
    /// <exception cref="InvalidEntryException">The entry is not what the log has at its place, or was altered, or not signed.</exception>
    /// <exception cref="InvalidLogException">The log has two histories, or does not show the one that was signed.</exception>
    /// <exception cref="HttpRequestException">The service's log cannot be reached.</exception>
    public async Task<Opened<T>> OpenIn<T>(IMessage record, Sealed @sealed, CancellationToken cancel = default)
        where T : class, IMessage<T>, new()
    {
        ArgumentNullException.ThrowIfNull(record);
        ArgumentNullException.ThrowIfNull(@sealed);
        var place =
            SealedInRecord.In(record).FirstOrDefault(s => ReferenceEquals(s.Sealed, @sealed))
            ?? throw new ArgumentException("it does not stand in the record", nameof(@sealed));
        var message = new T();
        var context = place.ContextBy(message.Descriptor, await SealingEntryAt(place.Kind.Service, @sealed.Position, cancel));
        return OpenWith<T>(@sealed, context, []);
    }

    /// <summary>The entries at some positions that carry what is sealed, read and verified.</summary>
    /// <param name="service">The service's name.</param>
    /// <param name="positions">The positions.</param>
    /// <param name="cancel">Ends it.</param>
    /// <returns>By position; null where the participant is shown no entry, or one that carries nothing sealed.</returns>
    internal async Task<IReadOnlyDictionary<ulong, SealingEntry?>> SealingEntriesAt(
        string service,
        IReadOnlyCollection<ulong> positions,
        CancellationToken cancel
    )
    {
        var found = new Dictionary<ulong, SealingEntry?>();
        var read = new List<Entry>();
        foreach (var position in positions.Distinct().Order())
            if (_sealing.TryGetValue((service, position), out var known))
                found[position] = known;
            // The first entry of a ledger is its agreement: zero says that no position was shown.
            else if (position > 0 && await EntryAt(service, position, cancel) is { } entry)
                read.Add(entry);
            else
                found[position] = null;
        if (read.Count == 0)
            return found;
        await Verify(service, read, witnesses: false, cancel);
        if (_sealing.Count > MostRemembered)
            _sealing.Clear();
        foreach (var entry in read.Select(LedgerEntry.Read))
            found[entry.Header.Position] = _sealing[(service, entry.Header.Position)] = SealingEntry.Of(entry);
        return found;
    }

    private async Task<SealingEntry?> SealingEntryAt(string service, ulong position, CancellationToken cancel) =>
        (await SealingEntriesAt(service, [position], cancel))[position];

    // null: the participant is shown none.
    private async Task<Entry?> EntryAt(string service, ulong position, CancellationToken cancel)
    {
        Entry entry;
        try
        {
            entry = (await LedgerOf(service).GetEntryAsync(new GetEntryRequest { Position = position }, cancellationToken: cancel)).Entry;
        }
        catch (RefusedException refused) when (refused.Reason == "NOT_FOUND")
        {
            return null;
        }
        return
            EntryHeader.Parser.ParseFrom(entry.Header) is { } header
            && header.Position == position
            // Of a privileged entry the parts come without what proves them. Only a neutral observer's is one.
            && (!entry.Privileged || Listed(header.Participant)?.IsNeutral() == true)
            ? entry
            : throw new InvalidEntryException(service, $"entry {position} is not the one that was asked for");
    }
}
