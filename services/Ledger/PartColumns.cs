using Google.Protobuf;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>How an entry's parts stand in the columns of its row. The request has a column of its own, its salt of 32 bytes before its
/// bytes, so that it can be erased without reading the rest. All other parts stand in one column, as <see cref="StoredParts"/>.</summary>
internal static class PartColumns
{
    /// <summary>The length of a request's salt, in bytes.</summary>
    public const int SaltLength = 32;

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
        var stored = new StoredParts();
        foreach (var part in parts.Where(p => p.Kind != PartKind.Request))
            stored.Parts.Add(
                new StoredPart
                {
                    Kind = part.Kind,
                    Salt = UnsafeByteOperations.UnsafeWrap(part.Salt),
                    Data = UnsafeByteOperations.UnsafeWrap(part.Data!),
                }
            );
        return stored.ToByteArray();
    }

    /// <summary>All parts but the request, in the order of their kinds.</summary>
    /// <exception cref="LedgerInconsistentException">The bytes are not such a message.</exception>
    public static List<PartRow> Decode(ulong position, byte[] stored) =>
        [.. Parse(position, stored).Parts.Select(p => new PartRow(position, p.Kind, "", p.Salt.ToByteArray(), p.Data.ToByteArray()))];

    /// <summary>The bytes of one part.</summary>
    /// <exception cref="LedgerInconsistentException">There is no such part.</exception>
    public static byte[] Find(ulong position, byte[] stored, PartKind kind) =>
        Parse(position, stored).Parts.FirstOrDefault(p => p.Kind == kind)?.Data.ToByteArray() ?? throw Damaged(position, null);

    private static StoredParts Parse(ulong position, byte[] stored)
    {
        try
        {
            return StoredParts.Parser.ParseFrom(stored);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw Damaged(position, e);
        }
    }

    private static LedgerInconsistentException Damaged(ulong position, Exception? inner) =>
        new($"the parts of entry {position} cannot be read: the database was damaged. Restore it.", inner);
}
