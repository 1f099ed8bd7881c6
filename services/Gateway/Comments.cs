using System.Collections.Frozen;
using System.Text.RegularExpressions;
using Google.Protobuf.Reflection;

namespace Ministries.Gateway;

/// <summary>The comments of the contracts. Generated code has them only as documentation, so the build embeds the descriptors with their
/// source (Gateway.csproj).</summary>
internal static partial class Comments
{
    private const string Resource = "contracts.binpb";

    private static readonly Lazy<FrozenDictionary<string, string>> All = new(Read);

    /// <summary>What the contract says of a method, message, field, enum or its value, in one line; empty: nothing.</summary>
    public static string Of(IDescriptor descriptor) => All.Value.GetValueOrDefault(NameOf(descriptor), "");

    /// <summary>The first sentence of it.</summary>
    public static string FirstOf(IDescriptor descriptor) => FirstSentence(Of(descriptor));

    /// <summary>The first sentence of a text.</summary>
    public static string FirstSentence(string text) => Sentence().Match(text) is { Success: true } first ? text[..(first.Index + 1)] : text;

    // Values are named beside their enum, not in it.
    private static string NameOf(IDescriptor descriptor) =>
        descriptor is EnumValueDescriptor value ? $"{value.EnumDescriptor.FullName}/{value.Name}" : descriptor.FullName;

    private static FrozenDictionary<string, string> Read()
    {
        using var stream = typeof(Comments).Assembly.GetManifestResourceStream(Resource)!;
        var found = new Dictionary<string, string>();
        foreach (var file in FileDescriptorSet.Parser.ParseFrom(stream).File)
        {
            var names = new Dictionary<string, string>();
            foreach (var (message, i) in file.MessageType.Select((m, i) => (m, i)))
                OfMessage(message, $"{file.Package}.", $"4/{i}", names);
            foreach (var (type, i) in file.EnumType.Select((e, i) => (e, i)))
                OfEnum(type, $"{file.Package}.", $"5/{i}", names);
            foreach (var (service, i) in file.Service.Select((s, i) => (s, i)))
            {
                names[$"6/{i}"] = $"{file.Package}.{service.Name}";
                foreach (var (method, j) in service.Method.Select((m, j) => (m, j)))
                    names[$"6/{i}/2/{j}"] = $"{file.Package}.{service.Name}.{method.Name}";
            }
            foreach (var location in file.SourceCodeInfo.Location)
                if (location.LeadingComments.Length > 0 && names.TryGetValue(string.Join('/', location.Path), out var name))
                    found[name] = Spaces().Replace(location.LeadingComments.Trim(), " ");
        }
        return found.ToFrozenDictionary();
    }

    // The numbers are those of the fields of descriptor.proto: a location's path is made of them.
    private static void OfMessage(DescriptorProto message, string before, string path, Dictionary<string, string> names)
    {
        var name = names[path] = before + message.Name;
        foreach (var (field, i) in message.Field.Select((f, i) => (f, i)))
            names[$"{path}/2/{i}"] = $"{name}.{field.Name}";
        foreach (var (inner, i) in message.NestedType.Select((m, i) => (m, i)))
            OfMessage(inner, $"{name}.", $"{path}/3/{i}", names);
        foreach (var (type, i) in message.EnumType.Select((e, i) => (e, i)))
            OfEnum(type, $"{name}.", $"{path}/4/{i}", names);
    }

    private static void OfEnum(EnumDescriptorProto type, string before, string path, Dictionary<string, string> names)
    {
        var name = names[path] = before + type.Name;
        foreach (var (value, i) in type.Value.Select((v, i) => (v, i)))
            names[$"{path}/2/{i}"] = $"{name}/{value.Name}";
    }

    [GeneratedRegex(@"\.(?= [A-Z]|$)")]
    private static partial Regex Sentence();

    [GeneratedRegex(@"\s+")]
    private static partial Regex Spaces();
}
