using Google.Protobuf;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>
/// How an entry's parts stand in its row. The request stands in a column of its own, so that it can be erased without a look at the
/// rest: its salt of 32 bytes, then its bytes. All other parts stand in one column, as this protobuf message:
/// <code>
/// message StoredParts {
///   message Part {
///     PartKind kind = 1;
///     bytes salt = 2;   // 32 bytes; absent: AudienceNumbers have a salt for each number
///     bytes data = 3;
///   }
///   repeated Part parts = 1;   // in the order of their kinds
/// }
/// </code>
/// The message type of a part follows from its kind, but for the request's, which has a column.
/// </summary>
internal static class StoredParts
{
    /// <summary>The length of a request's salt, in bytes.</summary>
    public const int SaltLength = 32;

    private const int KindField = 1,
        SaltField = 2,
        DataField = 3,
        PartField = 1;

    /// <summary>The column of the request: its salt and its bytes; null: it was erased.</summary>
    public static byte[]? OfRequest(PartRow request) =>
        request.Data is null ? null
        : request.Salt.Length == SaltLength ? [.. request.Salt, .. request.Data]
        : throw new LedgerInconsistentException($"the request of entry {request.Position} has no salt of {SaltLength} bytes.");

    /// <summary>The request as its columns have it.</summary>
    public static PartRow ToRequest(ulong position, string type, byte[]? stored) =>
        stored switch
        {
            null => new(position, PartKind.Request, type, [], null),
            { Length: < SaltLength } => throw new LedgerInconsistentException(
                $"the request of entry {position} is shorter than its salt: the database was damaged. Restore it."
            ),
            _ => new(position, PartKind.Request, type, stored[..SaltLength], stored[SaltLength..]),
        };

    /// <summary>The column of all parts but the request.</summary>
    public static byte[] Encode(IEnumerable<PartRow> parts)
    {
        var others = parts.Where(p => p.Kind != PartKind.Request).ToList();
        var bytes = new byte[others.Sum(p => 1 + Prefixed(LengthOf(p)))];
        using var output = new CodedOutputStream(bytes);
        foreach (var part in others)
            Write(output, part);
        return bytes;
    }

    /// <summary>All parts but the request, in the order of their kinds.</summary>
    /// <exception cref="LedgerInconsistentException">The bytes are not such a message.</exception>
    public static List<PartRow> Decode(ulong position, byte[] stored)
    {
        try
        {
            var parts = new List<PartRow>();
            var input = new CodedInputStream(stored);
            while (input.ReadTag() is var tag and not 0)
            {
                if (tag != WireFormat.MakeTag(PartField, WireFormat.WireType.LengthDelimited))
                    throw Damaged(position, null);
                parts.Add(Read(position, new CodedInputStream(input.ReadBytes().ToByteArray())));
            }
            return parts;
        }
        catch (InvalidProtocolBufferException e)
        {
            throw Damaged(position, e);
        }
    }

    /// <summary>The bytes of one part.</summary>
    /// <exception cref="LedgerInconsistentException">There is no such part.</exception>
    public static byte[] Find(ulong position, byte[] stored, PartKind kind) =>
        Decode(position, stored).Find(p => p.Kind == kind)?.Data ?? throw Damaged(position, null);

    private static LedgerInconsistentException Damaged(ulong position, Exception? inner) =>
        new($"the parts of entry {position} cannot be read: the database was damaged. Restore it.", inner);

    // Each field has a tag of one byte, and so has a kind.
    private static int LengthOf(PartRow part) =>
        2 + (part.Salt.Length == 0 ? 0 : 1 + Prefixed(part.Salt.Length)) + 1 + Prefixed(part.Data!.Length);

    private static int Prefixed(int length) => CodedOutputStream.ComputeLengthSize(length) + length;

    private static void Write(CodedOutputStream output, PartRow part)
    {
        output.WriteTag(PartField, WireFormat.WireType.LengthDelimited);
        output.WriteLength(LengthOf(part));
        output.WriteTag(KindField, WireFormat.WireType.Varint);
        output.WriteEnum((int)part.Kind);
        if (part.Salt.Length > 0)
        {
            output.WriteTag(SaltField, WireFormat.WireType.LengthDelimited);
            output.WriteBytes(UnsafeByteOperations.UnsafeWrap(part.Salt));
        }
        output.WriteTag(DataField, WireFormat.WireType.LengthDelimited);
        output.WriteBytes(UnsafeByteOperations.UnsafeWrap(part.Data!));
    }

    private static PartRow Read(ulong position, CodedInputStream input)
    {
        var (kind, salt, data) = (PartKind.Unspecified, Array.Empty<byte>(), Array.Empty<byte>());
        while (input.ReadTag() is var tag and not 0)
            switch (WireFormat.GetTagFieldNumber(tag))
            {
                case KindField:
                    kind = (PartKind)input.ReadEnum();
                    break;
                case SaltField:
                    salt = input.ReadBytes().ToByteArray();
                    break;
                case DataField:
                    data = input.ReadBytes().ToByteArray();
                    break;
                default:
                    input.SkipLastField();
                    break;
            }
        return new PartRow(position, kind, "", salt, data);
    }
}
