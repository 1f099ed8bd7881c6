using Google.Api;
using Google.Protobuf.Collections;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>A flag of a verb: a field of its request, however deep.</summary>
/// <param name="Path">The fields from the request to it, which comes last.</param>
/// <param name="Names">Its names without hyphens before them: the path with dots, which stays as the contract grows, then short ones, which
/// are those of no other field of the request.</param>
internal sealed record Flag(IReadOnlyList<FieldDescriptor> Path, IReadOnlyList<string> Names)
{
    // Words that people use for a field, beside its name.
    private static readonly Dictionary<string, string> Synonyms = new() { ["counterpart"] = "with" };

    /// <summary>The field.</summary>
    public FieldDescriptor Field => Path[^1];

    /// <summary>Its first name, as it is typed.</summary>
    public string Name => $"--{Names[0]}";

    /// <summary>Its path as a refusal names it, such as <c>account.start_time</c>.</summary>
    public string FieldPath => Contract.PathOf(Path);

    /// <summary>Whether it and all above it must be given.</summary>
    public bool IsRequired => Path.All(IsRequiredField);

    /// <summary>Whether the field holds personal data, which are sealed.</summary>
    public bool IsSealed => Field.FieldType == FieldType.Message && Field.MessageType == Sealed.Descriptor;

    /// <summary>The message that is sealed in the field; null: none is declared.</summary>
    public MessageDescriptor? SealedMessage => IsSealed ? Seals.MessageNamed(DeclaredOf(Field).Message) : null;

    /// <summary>To whom the field is sealed by default.</summary>
    public SealDeclaration Declared => DeclaredOf(Field);

    /// <summary>Whether a value of the field is a message, given in a file or by its fields.</summary>
    public bool TakesMessage => Field.FieldType == FieldType.Message && !Field.IsMap && !IsValue(Field.MessageType);

    /// <summary>Whether the field is a message whose fields have flags of their own.</summary>
    public bool HasFlagsWithin => Field is { FieldType: FieldType.Message, IsRepeated: false, IsMap: false } && !IsValue(Field.MessageType);

    /// <summary>The flags of a request, in the order of the contract.</summary>
    /// <param name="request">The request's type.</param>
    public static IReadOnlyList<Flag> Of(MessageDescriptor request)
    {
        var paths = new List<IReadOnlyList<FieldDescriptor>>();
        Collect(request, [], paths);
        var full = paths.Select(p => string.Join('.', p.Select(Words.Of))).ToHashSet();
        var claims = paths.SelectMany(p => ShortNames(p).Distinct()).GroupBy(n => n).ToDictionary(g => g.Key, g => g.Count());
        return
        [
            .. paths.Select(p => new Flag(
                p,
                [
                    string.Join('.', p.Select(Words.Of)),
                    .. ShortNames(p).Distinct().Where(n => claims[n] == 1 && !full.Contains(n) && !Options.Taken.Contains(n)),
                ]
            )),
        ];
    }

    /// <summary>Whether a message is given as one value.</summary>
    public static bool IsValue(MessageDescriptor type) =>
        type == Timestamp.Descriptor || type == Duration.Descriptor || type == ZonedTime.Descriptor || type == Sealed.Descriptor;

    /// <summary>Whether a field of a request must be set.</summary>
    public static bool IsRequiredField(FieldDescriptor field) => Behaviors(field).Contains(FieldBehavior.Required);

    /// <summary>Whether the author of a message gives the field. The contract declares this for requests and for sealed content.</summary>
    public static bool IsGiven(FieldDescriptor field) => Behaviors(field).Any(b => b is FieldBehavior.Required or FieldBehavior.Optional);

    /// <summary>Whether only the services set a field.</summary>
    public static bool IsOutputOnly(FieldDescriptor field) => Behaviors(field).Contains(FieldBehavior.OutputOnly);

    private static RepeatedField<FieldBehavior> Behaviors(FieldDescriptor field) =>
        field.GetOptions()?.GetExtension(FieldBehaviorExtensions.FieldBehavior) ?? [];

    private static SealDeclaration DeclaredOf(FieldDescriptor field) =>
        field.GetOptions()?.GetExtension(OptionsExtensions.Seals) ?? new SealDeclaration();

    private static void Collect(MessageDescriptor type, FieldDescriptor[] above, List<IReadOnlyList<FieldDescriptor>> paths)
    {
        foreach (var field in type.Fields.InFieldNumberOrder())
        {
            // The request id has an option of its own in every verb.
            if (IsOutputOnly(field) || above.Length == 0 && field is { FieldNumber: 1, Name: "request_id" })
                continue;
            FieldDescriptor[] path = [.. above, field];
            paths.Add(path);
            // A message in itself, which no contract has, would go on without end.
            if (new Flag(path, []).HasFlagsWithin && above.All(f => f.MessageType != field.MessageType))
                Collect(field.MessageType, path, paths);
        }
    }

    private static IEnumerable<string> ShortNames(IReadOnlyList<FieldDescriptor> path)
    {
        for (var from = path.Count - 1; from >= 0; from--)
        {
            var before = string.Concat(path.Skip(from).SkipLast(1).Select(f => Words.Of(f) + "."));
            var name = Words.Of(path[^1]);
            if (path[^1].IsRepeated)
                yield return before + Words.Singular(name);
            if (name.EndsWith("-time", StringComparison.Ordinal))
                yield return before + name[..^"-time".Length];
            if (Synonyms.TryGetValue(path[^1].Name, out var synonym))
                yield return before + synonym;
            yield return before + name;
        }
    }
}
