using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>Makes the entry of a decided command: its parts, each with its salt, and the header that commits to them.</summary>
internal sealed class EntryBuilder
{
    private const int SaltLength = PartColumns.SaltLength;

    private readonly CommitContext _context;
    private readonly CommitCache _cache;
    private readonly DecidedCommand _decided;
    private readonly EntryHeader _header;
    private readonly List<PartRow> _parts = [];
    private readonly List<EventRow> _own = [];
    private readonly byte[] _random;
    private int _used;

    /// <param name="context">What every batch works with.</param>
    /// <param name="cache">The last numbers of events and audiences, which the entry continues.</param>
    /// <param name="decided">The command.</param>
    /// <param name="time">When it is committed.</param>
    public EntryBuilder(CommitContext context, CommitCache cache, DecidedCommand decided, Timestamp time)
    {
        (_context, _cache, _decided) = (context, cache, decided);
        // One call makes all random bytes, because that costs less: a salt for each part and one for each audience.
        _random = RandomNumberGenerator.GetBytes(SaltLength * (6 + decided.Audience.Count));
        var command = decided.Command;
        _header = new EntryHeader
        {
            Position = decided.Position,
            CommitTime = time,
            Participant = command.Participant,
            RequestId = command.RequestId,
            Method = command.Method,
            AgreementVersion = command.AgreementVersion,
        };
    }

    /// <summary>The events of the entry, in order.</summary>
    public Events Events { get; } = new();

    /// <summary>The name of the cursor that counts the entries that an audience may see.
    /// </summary>
    public static string CursorOf(string audience) => $"audience/{audience}";

    /// <summary>Makes the entry.</summary>
    /// <param name="eventNumber">The number of the service's last event; becomes that of the entry's last one.</param>
    /// <param name="cursors">Gets the numbers of its audiences.</param>
    public NewEntry Build(ref ulong eventNumber, Dictionary<string, ulong> cursors)
    {
        var (command, span) = (_decided.Command, _decided.Pending.Span);
        NumberEvents(ref eventNumber);
        Add(PartKind.Request, command.Bytes.ToArray(), command.Request.Descriptor.FullName);
        if (command.Signature is { } signature)
            Add(PartKind.Signature, signature.ToByteArray());
        Add(PartKind.Events, Events.ToByteArray());
        if (command.Asked is not null)
            Add(PartKind.Asked, Any.Pack(command.Asked).ToByteArray());
        if (command.Cause is not null)
            Add(PartKind.Cause, command.Cause.ToByteArray());
        Add(PartKind.Answer, AnswerOf(_decided.Effect).ToByteArray());
        NumberInAudiences(cursors);

        var header = _header.ToByteArray();
        _decided.Entry = new RecordedEntry(
            header,
            _parts.Find(p => p.Kind == PartKind.Request)!.Salt,
            _parts.Find(p => p.Kind == PartKind.Answer)!
        );
        return new NewEntry(
            new EntryRow(
                _decided.Position,
                command.Participant,
                _decided.Decision.Case,
                _decided.Audience,
                // A text that the database does not take would make the commit of the whole batch fail.
                TraceText.OrNothing(span?.Id ?? command.TraceParent),
                TraceText.OrNothing(span is null ? command.TraceState : span.TraceStateString ?? ""),
                header,
                PartBytes: 0
            ),
            Probe.SkipRequestIds ? Guid.NewGuid().ToString() : command.RequestId,
            _decided.Digest,
            _parts,
            _own
        );
    }

    private void NumberEvents(ref ulong eventNumber)
    {
        foreach (var (index, change) in _decided.Decision.Changes.Index())
        {
            var type = change.Event.Descriptor.FullName;
            Events.Events_.Add(
                new Event
                {
                    Type = type,
                    Data = _decided.Effect.Events[index],
                    Case = _decided.Decision.Case,
                }
            );
            if (_context.IsOwn(type))
                _own.Add(new EventRow(++eventNumber, type, Next(_cache.LastOfTypes, type), _decided.Position, index));
        }
    }

    private void NumberInAudiences(Dictionary<string, ulong> cursors)
    {
        var numbers = new AudienceNumbers();
        foreach (var token in _decided.Audience)
        {
            var name = CursorOf(token);
            numbers.Numbers.Add(
                new AudienceNumber
                {
                    Audience = token,
                    Number = cursors[name] = Next(_cache.Cursors, name),
                    Salt = ByteString.CopyFrom(Salt()),
                }
            );
        }
        // They are sorted, so that their order reveals nothing.
        _header.Audience.AddRange(numbers.Numbers.Select(Digests.OfAudience).OrderBy(d => d, Digests.Order));
        _parts.Add(new PartRow(_decided.Position, PartKind.Audience, "", [], numbers.ToByteArray()));
    }

    private void Add(PartKind kind, byte[] data, string type = "")
    {
        var salt = Salt();
        _header.Parts.Add(new PartDigest { Kind = kind, Digest = ByteString.CopyFrom(Digests.OfPart(salt, data)) });
        _parts.Add(new PartRow(_decided.Position, kind, type, salt, data));
    }

    private byte[] Salt() => _random[_used..(_used += SaltLength)];

    private static ulong Next(Dictionary<string, ulong> last, string name) => last[name] = last.GetValueOrDefault(name) + 1;

    private static Answer AnswerOf(Effect effect) =>
        effect.Decision.Refusal is not { } refusal
            ? new Answer { Response = effect.Packed }
            : new Answer
            {
                Refusal = new StoredRefusal
                {
                    Reason = Reasons.NameOf(refusal.Reason),
                    Metadata = { refusal.Metadata?.ToDictionary() ?? [] },
                    Faults = { refusal.Faults ?? [] },
                },
            };
}
