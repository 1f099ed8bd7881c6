using System.Globalization;
using System.Text;
using Google.Protobuf.Reflection;

namespace Ministries.Client;

/// <summary>The names of the contracts as people type them.</summary>
internal static class Words
{
    /// <summary>A method's or a type's name with hyphens: <c>LogCall</c> is <c>log-call</c>.</summary>
    public static string Kebab(string name)
    {
        var text = new StringBuilder(name.Length + 4);
        for (var i = 0; i < name.Length; i++)
        {
            if (char.IsAsciiLetterUpper(name[i]) && i > 0 && name[i - 1] != '_')
                text.Append('-');
            text.Append(name[i] == '_' ? '-' : char.ToLowerInvariant(name[i]));
        }
        return text.ToString();
    }

    /// <summary>A field's name with hyphens: <c>start_time</c> is <c>start-time</c>.</summary>
    public static string Of(FieldDescriptor field) => field.Name.Replace('_', '-');

    /// <summary>An enum's value without the enum's name: <c>CHANNEL_SECURE_TELEPHONE</c> is <c>secure-telephone</c>.</summary>
    public static string Of(EnumValueDescriptor value)
    {
        var zero = value.EnumDescriptor.FindValueByNumber(0)!.Name;
        var prefix = zero[..(zero.LastIndexOf('_') + 1)];
        var name = value.Name.StartsWith(prefix, StringComparison.Ordinal) ? value.Name[prefix.Length..] : value.Name;
        return name.Replace('_', '-').ToLowerInvariant();
    }

    /// <summary>The values that may be named.</summary>
    public static IEnumerable<EnumValueDescriptor> Named(EnumDescriptor type) => type.Values.Where(v => v.Number != 0);

    /// <summary>The value of this name, in any case, with or without the enum's name; null: there is none.</summary>
    public static EnumValueDescriptor? Find(EnumDescriptor type, string name) =>
        type.Values.FirstOrDefault(v =>
            v.Name.Equals(name, StringComparison.OrdinalIgnoreCase)
            || Of(v).Equals(name.Replace('_', '-'), StringComparison.OrdinalIgnoreCase)
        );

    /// <summary>What the number of an enum means; a number that the contract does not know as it is.</summary>
    public static string Of(EnumDescriptor type, int number) =>
        type.FindValueByNumber(number) is { } value ? Of(value) : number.ToString(CultureInfo.InvariantCulture);

    /// <summary>The name of one item of a list: <c>subjects</c> is <c>subject</c>.</summary>
    public static string Singular(string name) =>
        name.EndsWith("ies", StringComparison.Ordinal) ? name[..^3] + "y"
        : name.EndsWith("ches", StringComparison.Ordinal) || name.EndsWith("sses", StringComparison.Ordinal) ? name[..^2]
        : name.EndsWith('s') && !name.EndsWith("ss", StringComparison.Ordinal) ? name[..^1]
        : name;
}
