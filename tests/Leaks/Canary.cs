using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Types.V1;

namespace Ministries.Leaks.Tests;

/// <summary>Words that stand in personal fields and must come out nowhere. All of a test begin with the same letters, which appear in
/// nothing else, so that one search finds all of them.</summary>
internal sealed class Canary
{
    private int _filled;

    /// <summary>What all words of this test begin with: 16 letters and digits.</summary>
    public string Prefix { get; } = $"CNRY{Convert.ToHexString(RandomNumberGenerator.GetBytes(6))}";

    /// <summary>How many fields were filled.</summary>
    public int Filled => _filled;

    /// <summary>The word for a field.</summary>
    public string For(string field) => $"{Prefix}-{field}";

    /// <summary>Puts a word into every text of a message, however deep; messages that are not set are made for it.</summary>
    public void Fill(IMessage message)
    {
        foreach (var field in message.Descriptor.Fields.InFieldNumberOrder().Where(f => !f.IsMap && f.RealContainingOneof is null))
            if (field.FieldType == FieldType.String && field.GetOptions()?.GetExtension(OptionsExtensions.Meaning) == Meaning.Text)
            {
                Interlocked.Increment(ref _filled);
                Set(message, field, For($"{field.Name}"));
            }
            else if (
                field.FieldType == FieldType.Message
                && field.MessageType.File.Package.StartsWith("ministries.", StringComparison.Ordinal)
            )
            {
                var inner = field.IsRepeated
                    ? field.MessageType.Parser.ParseFrom([])
                    : (IMessage?)field.Accessor.GetValue(message) ?? field.MessageType.Parser.ParseFrom([]);
                Fill(inner);
                if (inner.CalculateSize() > 0)
                    Set(message, field, inner);
            }
    }

    private static void Set(IMessage message, FieldDescriptor field, object value)
    {
        if (field.IsRepeated)
            ((System.Collections.IList)field.Accessor.GetValue(message)).Add(value);
        else
            field.Accessor.SetValue(message, value);
    }
}
