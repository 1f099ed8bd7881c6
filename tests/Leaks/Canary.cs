using System.Globalization;
using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Contracts;
using Enum = System.Enum;

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

    /// <summary>Puts a word into every text of a message, however deep; messages that are not set are made for it, with what their contract
    /// demands.</summary>
    public void Fill(IMessage message)
    {
        foreach (var field in message.Descriptor.Fields.InFieldNumberOrder().Where(f => !f.IsMap && f.RealContainingOneof is null))
            if (field.FieldType == FieldType.String && StringForms.Of(field) == StringForms.Text)
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
                Set(message, field, inner);
            }
            else if (IsMissing(message, field))
                Set(message, field, Least(field));
        if (Validation.Check(message) is { Count: > 0 } faults)
            throw new InvalidOperationException($"{message.Descriptor.Name}: {string.Join(", ", faults)}");
    }

    private static bool IsMissing(IMessage message, FieldDescriptor field) =>
        StringForms.RulesOf(field)?.Required == true
        && field.Accessor.GetValue(message) switch
        {
            null => true,
            string text => text.Length == 0,
            ByteString bytes => bytes.IsEmpty,
            System.Collections.IList list => list.Count == 0,
            var number => Convert.ToInt64(number, CultureInfo.InvariantCulture) == 0,
        };

    // The least that the contract takes.
    private static object Least(FieldDescriptor field) =>
        field.FieldType switch
        {
            FieldType.String => StringForms.Of(field) == StringForms.State ? "KR" : "en",
            FieldType.Bytes when StringForms.RulesOf(field)!.Bytes is var rules => ByteString.CopyFrom(
                new byte[(int)(rules.HasLen ? rules.Len : rules.MaxLen)]
            ),
            FieldType.Enum => Enum.ToObject(field.EnumType.ClrType, 1),
            FieldType.Message => new Timestamp { Seconds = 1_742_169_600 },
            FieldType.UInt32 => 1u,
            _ => 1,
        };

    private static void Set(IMessage message, FieldDescriptor field, object value)
    {
        if (field.IsRepeated)
            ((System.Collections.IList)field.Accessor.GetValue(message)).Add(value);
        else
            field.Accessor.SetValue(message, value);
    }
}
