using System.CommandLine;
using System.CommandLine.Completions;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Contracts;
using Ministries.Trust;

namespace Ministries.Ministry;

/// <summary>What a shell may complete a word to: the values of the contract, and ids of records from the services, within a second.</summary>
internal static class Completion
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    // In what the words are completed. The parser hands a source nothing but the words.
    private static readonly AsyncLocal<Shell?> Current = new();

    /// <summary>The words to which the last of some words may be completed.</summary>
    public static IReadOnlyList<string> Of(RootCommand root, IReadOnlyList<string> words, Shell shell)
    {
        Current.Value = shell;
        TypedVerb.Prepare(root, words);
        return
        [
            .. root.Parse(words, CommandLine.Parsing)
                .GetCompletions()
                .Select(c => c.InsertText ?? c.Label)
                .Where(c => c is not ("/?" or "/h" or "-?") && c.StartsWith(words[^1], StringComparison.OrdinalIgnoreCase))
                // A flag is named by its shortest name; what is typed says whether a longer one is meant.
                .Distinct()
                .Order(StringComparer.Ordinal),
        ];
    }

    /// <summary>Adds the completions of a flag.</summary>
    public static void Add(Option<string[]> option, Flag flag, string service)
    {
        var field = flag.Field;
        if (field.FieldType == FieldType.Enum)
            option.CompletionSources.Add(_ => Words.Named(field.EnumType).Select(Words.Of));
        else if (field.FieldType == FieldType.Bool)
            option.CompletionSources.Add("true", "false");
        else if (field.FieldType == FieldType.String && StringForms.Of(field) == StringForms.Participant)
            option.CompletionSources.Add(Participants);
        else if (field.FieldType == FieldType.String && KindOf(field, service) is { } kind)
            option.CompletionSources.Add(context => Ids(context, kind));
    }

    /// <summary>Adds the ids of a kind of record.</summary>
    public static void AddIds(Option<string> option, string kind) =>
        option.CompletionSources.Add(context => Ids(context, Records.Named(kind)!));

    /// <summary>Adds the ids of a kind of record.</summary>
    public static void AddIds(Argument<string> argument, string kind) =>
        argument.CompletionSources.Add(context => Ids(context, Records.Named(kind)!));

    /// <summary>Adds the ids of the kind of record whose name was begun.</summary>
    public static void AddIds(Argument<string[]> argument) =>
        argument.CompletionSources.Add(context =>
            Records.OfId(context.WordToComplete) is { } kind
                ? Ids(context, kind)
                : Records.Kinds.Select(k => $"{(k.Name == "prisoner" ? "pris" : k.Name.Replace("-", "", StringComparison.Ordinal))}_")
        );

    private static RecordType? KindOf(FieldDescriptor field, string service) =>
        Records
            .Kinds.OrderByDescending(k => k.Service == service)
            .FirstOrDefault(k =>
                field.Name == k.IdField
                || field.Name.EndsWith($"_{k.IdField}", StringComparison.Ordinal)
                || field.IsRepeated && Words.Singular(field.Name) == k.IdField
            );

    private static IEnumerable<string> Participants(CompletionContext context) =>
        Quietly(
            context,
            connection =>
                Task.FromResult<IEnumerable<string>>([
                    .. AgreementFile.Load(connection.AgreementPath).Agreement.Participants.Select(p => p.Id),
                ])
        );

    private static IEnumerable<string> Ids(CompletionContext context, RecordType kind) =>
        Quietly(
            context,
            async connection =>
            {
                using var soon = new CancellationTokenSource(Patience);
                var request = (IMessage)Activator.CreateInstance(kind.List.InputType.ClrType)!;
                kind.List.InputType.FindFieldByName("page_size").Accessor.SetValue(request, 200);
                var records = await connection.ListAll(kind.Service, kind.List, request, soon.Token, most: 200);
                return records.Select(kind.IdOf);
            }
        );

    // Whatever is wrong, a person who presses the tabulator sees no message: he sees no completion.
    private static IEnumerable<string> Quietly(CompletionContext context, Func<Connection, Task<IEnumerable<string>>> find)
    {
        try
        {
            using var connection = new Connection(
                context.ParseResult,
                Current.Value ?? Shell.OfProcess(),
                TextWriter.Null,
                TextWriter.Null
            );
            // Bash puts a word into the line as it is, so what a service calls an id must not be more than a word there.
            return Task.Run(() => find(connection)).WaitAsync(2 * Patience).GetAwaiter().GetResult().Where(Shell.IsWord);
        }
        catch (Exception)
        {
            return [];
        }
    }
}
