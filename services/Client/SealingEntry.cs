using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Ledger.V1;
using Ministries.Sealing;
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
