using System.Collections.Frozen;
using System.Globalization;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Contracts;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Client;

/// <summary>An entry of a ledger: its header and the parts that were shown, each checked against its digest.</summary>
/// <param name="Header">The header.</param>
/// <param name="Case">The case; empty: none.</param>
/// <param name="TraceParent">The W3C traceparent under which it was committed.</param>
/// <param name="Parts">The parts that were shown.</param>
/// <param name="Privileged">Whether it is a neutral observer's entry that must not be proved, so that its parts cannot be checked.</param>
public sealed record LedgerEntry(
    EntryHeader Header,
    string Case,
    string TraceParent,
    IReadOnlyList<ReadPart> Parts,
    bool Privileged = false
)
{
    /// <summary>Reads an entry.</summary>
    /// <exception cref="InvalidProtocolBufferException">Its header cannot be read.</exception>
    public static LedgerEntry Read(Entry entry)
    {
        var header = EntryHeader.Parser.ParseFrom(entry.Header);
        return new LedgerEntry(
            header,
            entry.Case,
            entry.Traceparent,
            [.. entry.Parts.Select(p => ReadPart.Read(p, header, entry.Privileged))],
            entry.Privileged
        );
    }

    /// <summary>When the entry was committed; null: the header's time is impossible.</summary>
    internal DateTimeOffset? Time => Printable.At(Header.CommitTime);

    /// <summary>Whether every part that was shown is the one that the header names.</summary>
    public bool Holds => Parts.All(p => p.Holds);

    /// <summary>The events, where they were shown.</summary>
    public IEnumerable<(string Type, IMessage? Event)> Published =>
        from events in Parts.Select(p => p.Content).OfType<Events>()
        from e in events.Events_
        select (e.Type, RecordedOf(e.Type, e.Data));

    private static readonly FrozenSet<MessageDescriptor> Holders = Descriptors.Messages.Values.Where(m => HoldsAny(m, [])).ToFrozenSet();

    // A recorded event, published or not: SealedShared, which is not published, tells a reader that a datum was opened to it. Messages that
    // can hold any other message, at any depth, are not read.
    private static IMessage? RecordedOf(string type, ByteString data) =>
        Descriptors.Messages.TryGetValue(type, out var known) && !Holders.Contains(known) ? ReadPart.Parse(type, data) : null;

    private static bool HoldsAny(MessageDescriptor type, HashSet<MessageDescriptor> above) =>
        type
            .Fields.InFieldNumberOrder()
            .Where(f => f.FieldType == FieldType.Message)
            .Any(f => f.MessageType == Any.Descriptor || above.Add(f.MessageType) && HoldsAny(f.MessageType, above));

    /// <summary>A published event; null: these contracts publish no event of this type, or the bytes are not of this type. Unpublished
    /// messages are not written as events.</summary>
    internal static IMessage? EventOf(string type, ByteString data) =>
        Contract.Types.Find(type)?.GetOptions()?.GetExtension(OptionsExtensions.Published) == true ? ReadPart.Parse(type, data) : null;

    /// <summary>Whether a text has the form of a full message name of these contracts, or of a later version. Any other text could contain
    /// line breaks and pose as further lines in an event stream.</summary>
    internal static bool IsEventType(string type) =>
        Contract.Types.Find(type) is not null
        || type.StartsWith("ministries.", StringComparison.Ordinal) && ValueRules.Check(StringForms.MessageName, type) is null;

    /// <summary>The entry in one line for a person.</summary>
    public string ToText()
    {
        var refused = Parts.Select(p => p.Content).OfType<Answer>().FirstOrDefault()?.Refusal?.Reason;
        var events = string.Join(", ", Published.Select(e => e.Type[(e.Type.LastIndexOf('.') + 1)..]));
        return Terminal.Line(
            string.Join(
                    "  ",
                    (
                        (string[])
                            [
                                Header.Position.ToString(CultureInfo.InvariantCulture).PadLeft(6),
                                Time?.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture) ?? "no time",
                                Header.Participant.PadRight(20),
                                Header.Method[(Header.Method.LastIndexOf('/') + 1)..].PadRight(24),
                                Case,
                                refused is null ? events : $"refused {refused}",
                                Privileged ? "privileged" : "",
                                Holds ? "" : "DIGEST DOES NOT MATCH",
                            ]
                    ).Where(c => c.Length > 0)
                )
                .TrimEnd()
        );
    }

    /// <summary>The entry as JSON.</summary>
    public JsonObject ToJson() =>
        new()
        {
            ["position"] = Header.Position,
            ["commit_time"] = Json(Header)["commit_time"]?.DeepClone(),
            ["participant"] = Header.Participant,
            ["request_id"] = Header.RequestId,
            ["method"] = Header.Method,
            ["agreement_version"] = Header.AgreementVersion,
            ["case"] = Case,
            ["traceparent"] = TraceParent,
            ["holds"] = Holds,
            ["privileged"] = Privileged,
            ["events"] = new JsonArray([
                .. Published.Select(e => new JsonObject { ["type"] = e.Type, ["event"] = e.Event is null ? null : Json(e.Event) }),
            ]),
            ["parts"] = new JsonObject(
                Parts
                    .Where(p => p.Content is not (null or Events))
                    // A service may show several parts of one kind; at most one of them belongs to the entry.
                    .GroupBy(p => p.Kind)
                    .Select(g => g.FirstOrDefault(p => p.Holds) ?? g.First())
                    .Select(p => KeyValuePair.Create(p.Kind.ToString().ToLowerInvariant(), (JsonNode?)Json(p.Content!)))
            ),
        };

    private static JsonObject Json(IMessage message)
    {
        if (message is not Answer { Response: { } response } answer)
            return Written(message);
        if (ReadPart.ResponseIn(response) is { } read)
        {
            var shown = answer.Clone();
            shown.Response = new Any { TypeUrl = response.TypeUrl, Value = Printable.Of(read).ToByteString() };
            return Written(shown);
        }
        // The answer of an RPC of a later contract, or no answer at all. This version cannot read it, so the bytes are shown.
        var unread = new JsonObject { ["@type"] = response.TypeUrl, ["value"] = response.Value.ToBase64() };
        return new JsonObject { ["response"] = unread };

        static JsonObject Written(IMessage message) => JsonNode.Parse(Contract.Formatter.Format(Printable.Of(message)))!.AsObject();
    }
}

/// <summary>A part of an entry.</summary>
/// <param name="Kind">Which part.</param>
/// <param name="Content">What it holds; null where it was erased, or is of a type that is not known here.</param>
/// <param name="Holds">Whether the bytes match the digest in the header. This cannot be checked for an erased request or for the events of
/// a privileged entry. <see cref="EntriesAudit"/> checks whether the entry may be privileged.</param>
public sealed record ReadPart(PartKind Kind, IMessage? Content, bool Holds)
{
    internal static ReadPart Read(EntryPart part, EntryHeader header, bool privileged)
    {
        if (part.Erased)
            return new ReadPart(part.Kind, null, part is { Kind: PartKind.Request, Salt.IsEmpty: true, Data.IsEmpty: true });
        var digest = Digests.OfPart(part.Salt.Span, part.Data.Span);
        var holds =
            privileged && part is { Kind: PartKind.Events, Salt.IsEmpty: true }
            || header.Parts.Any(p => p.Kind == part.Kind && p.Digest.Span.SequenceEqual(digest));
        return new ReadPart(
            part.Kind,
            part.Kind switch
            {
                PartKind.Events => Parse(Events.Descriptor.FullName, part.Data),
                PartKind.Answer => Parse(Answer.Descriptor.FullName, part.Data),
                PartKind.Cause => Parse(Cause.Descriptor.FullName, part.Data),
                PartKind.Signature => Parse(RequestSignature.Descriptor.FullName, part.Data),
                PartKind.Request when Contract.Find(header.Method) is { } method => Parse(method.InputType.FullName, part.Data),
                PartKind.Request => Parse(header.Method, part.Data),
                _ => null,
            },
            holds
        );
    }

    // null: the message is not an answer of an RPC of these contracts. Another message could hold any message again, at any depth.
    internal static IMessage? ResponseIn(Any response) =>
        Any.GetTypeName(response.TypeUrl) is var type && Methods.All.Any(m => m.OutputType.FullName == type)
            ? Parse(type, response.Value)
            : null;

    internal static IMessage? Parse(string type, ByteString data)
    {
        try
        {
            return Contract.Types.Find(type)?.Parser.ParseFrom(data);
        }
        catch (InvalidProtocolBufferException)
        {
            return null;
        }
    }
}
