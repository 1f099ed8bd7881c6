using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>Sealed data as a service keeps and shows them. It never opens them.</summary>
public static class Seals
{
    /// <summary>Sealed data as they are kept: with the digest (SHA-256) of their bytes.</summary>
    /// <param name="sealed">As they were sent; null: there are none.</param>
    public static Sealed? Keep(Sealed? @sealed)
    {
        if (@sealed is null)
            return null;
        var kept = @sealed.Clone();
        kept.Digest = ByteString.CopyFrom(SHA256.HashData(kept.Content.Span));
        return kept;
    }

    /// <summary>Sealed data as a participant sees them: whole for their sender and recipients; for anybody else neither the bytes
    /// nor to whom they are sealed.</summary>
    /// <param name="sealed">As they are kept; null: there are none.</param>
    /// <param name="sender">Who sealed them.</param>
    /// <param name="reader">Who reads.</param>
    public static Sealed? Show(Sealed? @sealed, string sender, string reader) =>
        @sealed is null || sender == reader || @sealed.Recipients.Contains(reader)
            ? @sealed
            : new Sealed
            {
                Scheme = @sealed.Scheme,
                Digest = @sealed.Digest,
                Withheld = { "recipients", "content" },
            };

    /// <summary>All that is sealed in a message, however deep.</summary>
    public static IEnumerable<Sealed> In(IMessage message) => WithPaths(message).Select(s => s.Sealed);

    /// <summary>All that is sealed in a message, however deep, each with the path of its field, such as <c>account.minutes</c>.</summary>
    public static IEnumerable<(string Path, Sealed Sealed)> WithPaths(IMessage message, string path = "")
    {
        if (message is Sealed @sealed)
            return [(path, @sealed)];
        return message
            .Descriptor.Fields.InFieldNumberOrder()
            .Where(f => f.FieldType == FieldType.Message && !f.IsMap)
            .SelectMany(f =>
                f.Accessor.GetValue(message) switch
                {
                    System.Collections.IEnumerable many => many.Cast<IMessage>().Select((one, i) => ($"{f.Name}[{i}]", one)),
                    IMessage one => [(f.Name, one)],
                    _ => [],
                }
            )
            .SelectMany(inner => WithPaths(inner.Item2, path.Length == 0 ? inner.Item1 : $"{path}.{inner.Item1}"));
    }
}
