using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Contracts;
using Enum = System.Enum;

namespace Ministries.Leaks.Tests;

/// <summary>Words that stand in personal fields and must come out nowhere: in each field another one. All of a test begin with the same
/// letters, which appear in nothing else, so that one search finds all of them.</summary>
internal sealed class Canary
{
    // A code takes 64 characters, the same that words consist of.
    private const ulong MostOfCode = 64;

    private int _filled;

    /// <summary>What all words of this test begin with: 16 letters and digits.</summary>
    public string Prefix { get; } = $"CNRY{Convert.ToHexString(RandomNumberGenerator.GetBytes(6))}";

    /// <summary>How many fields were filled.</summary>
    public int Filled => _filled;

    /// <summary>The word for a field.</summary>
    public string For(string field) => $"{Prefix}-{field}";

    /// <summary>Puts a word into every text, every code and all bytes of a message that has none, however deep; messages that are not set
    /// are made for it, with what their contract demands. Dates, numbers, states and languages have no room for a word.</summary>
    public void Fill(IMessage message)
    {
        foreach (var field in message.Descriptor.Fields.InFieldNumberOrder().Where(f => !f.IsMap && f.RealContainingOneof is null))
            if (field.FieldType == FieldType.String && HoldsWords(field))
            {
                Interlocked.Increment(ref _filled);
                Set(message, field, WordFor(field));
            }
            else if (field.FieldType == FieldType.Bytes && (field.IsRepeated || ((ByteString)field.Accessor.GetValue(message)).IsEmpty))
            {
                Interlocked.Increment(ref _filled);
                Set(message, field, BytesFor(field));
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

    private static bool HoldsWords(FieldDescriptor field) =>
        StringForms.Of(field) is { } form && (form == StringForms.Text || form == StringForms.Code || form == StringForms.Official);

    // Fields of the same name in two messages are two fields. Where the whole name is too long for the field, a digest stands for it.
    private string WordFor(FieldDescriptor field)
    {
        var word = For(field.FullName);
        var rules = StringForms.RulesOf(field);
        var most =
            StringForms.Of(field) == StringForms.Text
                ? (field.IsRepeated ? rules?.Repeated?.Items?.String : rules?.String)?.MaxBytes ?? 0
                : MostOfCode;
        return most == 0 || (ulong)word.Length <= most ? word : $"{Prefix}{Convert.ToHexString(DigestOf(field))}"[..(int)most];
    }

    // As long as the contract demands: the letters of this test, and a digest of the field's name.
    private ByteString BytesFor(FieldDescriptor field)
    {
        var rules = StringForms.RulesOf(field);
        var bytes = field.IsRepeated ? rules?.Repeated?.Items?.Bytes : rules?.Bytes;
        var length =
            bytes is { HasLen: true } ? (int)bytes.Len
            : bytes is { MaxLen: > 0 } ? (int)Math.Min(bytes.MaxLen, 64)
            : 64;
        byte[] word = [.. Encoding.ASCII.GetBytes(Prefix), .. DigestOf(field), .. DigestOf(field)];
        return ByteString.CopyFrom(word.AsSpan(0, Math.Min(length, word.Length)));
    }

    private static byte[] DigestOf(FieldDescriptor field) => SHA256.HashData(Encoding.UTF8.GetBytes(field.FullName));

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
