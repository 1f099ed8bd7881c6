using System.CommandLine;
using System.CommandLine.Completions;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Contracts;
using Ministries.Trust;

namespace Ministries.Ministry;

/// <summary>What a shell may complete a word to: the values of the contract, and ids of records from the services: within a second, or the
/// time that a call may take where that is set.</summary>
internal static class Completion
{
    // Where nobody has said how long a call may take.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    // In what the words are completed. The parser hands a source nothing but the words.
    private static readonly AsyncLocal<Shell?> Current = new();

    /// <summary>The words to which the last of some words may be completed.</summary>
    public static IReadOnlyList<string> Of(RootCommand root, IReadOnlyList<string> words, Shell shell)
    {
        Current.Value = shell;
        TypedVerb.Prepare(root, words);
        var parsed = root.Parse(words, CommandLine.Parsing);
        // Of an option that takes one value, the library takes the begun value for a whole one, after which something else comes.
        var found =
            words.Count > 1 && OptionNamed(parsed, words[^2]) is { } option
                ? option.GetCompletions(parsed.GetCompletionContext())
                : parsed.GetCompletions();
        return
        [
            .. found
                .Select(c => c.InsertText ?? c.Label)
                .Where(c => c is not ("/?" or "/h" or "-?") && c.StartsWith(words[^1], StringComparison.OrdinalIgnoreCase))
                // A flag is named by its shortest name; what is typed says whether a longer one is meant.
                .Distinct()
                .Order(StringComparer.Ordinal),
        ];
    }

    private static Option? OptionNamed(ParseResult parsed, string word) =>
        parsed.CommandResult.Command.Options.FirstOrDefault(o =>
            o.Arity.MinimumNumberOfValues > 0 && (o.Name == word || o.Aliases.Contains(word))
        );

    /// <summary>Adds the completions of a flag.</summary>
    public static void Add(Option<string[]> option, Flag flag, string service) =>
        option.CompletionSources.Add(context => ValuesOf(flag.Field, service, context));

    /// <summary>The values that a field of a service's request may have, as far as they can be named.</summary>
    private static IEnumerable<string> ValuesOf(FieldDescriptor field, string service, CompletionContext context) =>
        field.FieldType switch
        {
            FieldType.Enum => Words.Named(field.EnumType).Select(Words.Of),
            FieldType.Bool => ["true", "false"],
            FieldType.String when StringForms.Of(field) == StringForms.Participant => Participants(context),
            FieldType.String when KindOf(field, service) is { } kind => Ids(context, kind),
            _ => [],
        };

    /// <summary>The conditions of a list: their names, and after the name its values.</summary>
    /// <param name="context">What was typed.</param>
    /// <param name="kind">What is listed; null: that is not known.</param>
    public static IEnumerable<string> Filters(CompletionContext context, RecordType? kind)
    {
        if (kind is null)
            return [];
        var flags = Flag.Of(kind.List.InputType);
        var name = context.WordToComplete.Split('=', 2) is [var given, _] ? given : null;
        if (name is null)
            return flags.Select(f => $"{f.Names[0]}=");
        return flags.FirstOrDefault(f => f.Names.Contains(name.Replace('_', '-'))) is { } flag
            ? ValuesOf(flag.Field, kind.Service, context).Select(v => $"{name}={v}")
            : [];
    }

    /// <summary>The names of the profiles.</summary>
    public static IEnumerable<string> Profiles(CompletionContext _)
    {
        try
        {
            // The name that is being typed is none yet.
            return Profile.Read(Current.Value ?? Shell.OfProcess(), "", creates: true).Names.Where(Shell.IsWord);
        }
        catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    /// <summary>The zones of the IANA database.</summary>
    public static IEnumerable<string> Zones(CompletionContext _) => TimeZoneInfo.GetSystemTimeZones().Select(z => z.Id);

    /// <summary>The ways in which an answer can be written.</summary>
    public static IEnumerable<string> Formats(CompletionContext _) => Enum.GetNames<OutputFormat>().Select(n => n.ToLowerInvariant());

    /// <summary>The values of a setting of a profile.</summary>
    public static IEnumerable<string> Settings(CompletionContext context, string? setting) =>
        setting switch
        {
            "as" => Participants(context),
            "case" => Ids(context, Records.Named("case")!),
            "output" => Formats(context),
            "zone" => Zones(context),
            _ => [],
        };

    /// <summary>The methods of a service that take approvals.</summary>
    public static IEnumerable<string> Approvable(string? service) =>
        service is not null && Contract.Services.Contains(service)
            ? Contract.MethodsOf(service).Where(m => m.InputType.FindFieldByName("approvals") is not null).Select(m => Words.Kebab(m.Name))
            : [];

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

    /// <summary>The ids of writes that wait for an answer.</summary>
    public static IEnumerable<string> Sent(CompletionContext context) =>
        Quietly(context, connection => Task.FromResult(Outbox.All(connection).Select(s => s.Id)));

    private static RecordType? KindOf(FieldDescriptor field, string service) =>
        Records
            .Kinds.OrderByDescending(k => k.Service == service)
            .FirstOrDefault(k =>
                field.Name == k.IdField
                || field.Name.EndsWith($"_{k.IdField}", StringComparison.Ordinal)
                || field.IsRepeated && Words.Singular(field.Name) == k.IdField
            );

    /// <summary>The participants of the agreement.</summary>
    public static IEnumerable<string> Participants(CompletionContext context) =>
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
                using var soon = new CancellationTokenSource(PatienceOf(connection));
                var request = (IMessage)Activator.CreateInstance(kind.List.InputType.ClrType)!;
                kind.List.InputType.FindFieldByName("page_size").Accessor.SetValue(request, 200);
                var records = await connection.ListAll(kind.Service, kind.List, request, soon.Token, most: 200);
                return records.Select(kind.IdOf);
            }
        );

    private static TimeSpan PatienceOf(Connection connection) =>
        connection.ValueOf("timeout", Options.Timeout) is { Length: > 0 } ? connection.Settings().Deadline : Patience;

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
            return Task.Run(() => find(connection)).WaitAsync(2 * PatienceOf(connection)).GetAwaiter().GetResult().Where(Shell.IsWord);
        }
        catch (Exception)
        {
            return [];
        }
    }
}
