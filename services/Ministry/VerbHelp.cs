using System.CommandLine;
using System.CommandLine.Invocation;
using System.Text;
using Google.Protobuf.Reflection;
using Ministries.Gateway;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>Writes a command's help: of a typed verb from the contract and its comments, of every other from what it says of itself. No
/// line is wider than the terminal.</summary>
/// <param name="shell">In what.</param>
internal sealed class VerbHelp(Shell shell) : SynchronousCommandLineAction
{
    /// <inheritdoc/>
    public override bool ClearsParseErrors => true;

    /// <inheritdoc/>
    public override int Invoke(ParseResult parseResult)
    {
        var screen = new Screen(parseResult.InvocationConfiguration.Output, shell with { Columns = shell.Columns ?? 80 });
        var command = parseResult.CommandResult.Command;
        if (command is VerbCommand typed)
            OfVerb(screen, typed.Verb);
        else
            OfCommand(screen, command);
        return ExitCodes.Done;
    }

    private static void OfVerb(Screen screen, TypedVerb verb)
    {
        screen.Paragraph(Usage(verb.Command, "[flags]"), style: Style.Bold);
        screen.Line();
        screen.Paragraph(Comments.Of(verb.Method));
        foreach (
            var (title, flags) in ((string, IEnumerable<Flag>)[])
                [
                    ("Required", verb.Flags.Where(f => f.IsRequired && !IsFilled(f) && !f.HasFlagsWithin)),
                    ("Optional", verb.Flags.Where(f => !f.IsRequired && !IsFilled(f) && !f.HasFlagsWithin)),
                    ("Filled in where it is not given", verb.Flags.Where(f => IsFilled(f) && !f.HasFlagsWithin)),
                    ("Several at once, in a file", verb.Flags.Where(f => f.HasFlagsWithin)),
                ]
        )
        {
            var shown = flags.ToArray();
            if (shown.Length == 0)
                continue;
            screen.Line();
            screen.Line(new Span(title, Style.Bold));
            foreach (var flag in shown)
                OfFlag(screen, flag);
        }
        screen.Line();
        screen.Line(new Span(verb.IsWrite ? "Of every write" : "Of every read", Style.Bold));
        foreach (var option in verb.Command.Options.Where(o => Options.OfWrites.Contains(o) || o == Options.All || o == Options.Opens))
            OfOption(screen, option);
        screen.Line();
        screen.Paragraph(
            $"Who calls, and whom: {string.Join(", ", Options.OfConnection.Select(o => o.Name))}; `ministry get --help` explains them.",
            style: Style.Dim
        );
    }

    // Values that come from the profile, a record or the command itself.
    private static bool IsFilled(Flag flag) =>
        flag.Path[0] is { FieldType: FieldType.Message } first && first.MessageType == Actor.Descriptor
        || flag.Path.Count == 1 && (flag.Field.Name.EndsWith("etag", StringComparison.Ordinal) || flag.Field.Name is "approvals");

    private static void OfFlag(Screen screen, Flag flag)
    {
        var (names, hint) = (string.Join(", ", flag.Names.Take(2).Select(n => $"--{n}")), $"<{FlagValue.HintFor(flag.Field)}>");
        if (2 + names.Length + 1 + hint.Length <= screen.Shell.TextColumns)
            screen.Line($"  {names} ", new Span(hint, Style.Dim));
        else
        {
            screen.Line($"  --{flag.Names[0]},");
            screen.Line($"  --{flag.Names[Math.Min(1, flag.Names.Count - 1)]} ", new Span(hint, Style.Dim));
        }
        var text = new StringBuilder(Comments.Of(flag.Field));
        var limits = Limits.InWords(flag.Field).Select(l => char.ToUpperInvariant(l[0]) + l[1..] + ".");
        text.Append(' ').AppendJoin(' ', limits);
        if (flag.Field.IsRepeated)
            text.Append(" May be given again.");
        if (flag.IsSealed)
            text.Append(' ').Append(OfSealed(flag));
        else if (
            flag.Field is { FieldType: FieldType.Message, IsMap: false }
            && !Flag.IsValue(flag.Field.MessageType)
            && flag.Field.IsRepeated
        )
            text.Append(" Its fields: ").Append(FieldsOf(flag.Field.MessageType)).Append('.');
        screen.Paragraph(text.ToString(), 6);
    }

    private static string OfSealed(Flag flag)
    {
        var to = string.Join(
            ", ",
            flag.Declared.Recipients.Select(r => Words.Of(SealDeclaration.Descriptor.FindFieldByName("recipients").EnumType, (int)r))
        );
        return flag.SealedMessage is { } type
            ? $"Personal data, so never on the command line: @file with JSON, or - for standard input. Its fields: {string.Join(", ", type.Fields.InFieldNumberOrder().Select(f => f.Name + (Flag.IsRequiredField(f) ? " (required)" : "")))}. Sealed to {to}; "
                + $"{flag.Name}.to names others."
            : "";
    }

    private static string FieldsOf(MessageDescriptor type) =>
        string.Join(
            ", ",
            type.Fields.InFieldNumberOrder()
                .Where(f => !Flag.IsOutputOnly(f))
                .Select(f =>
                    Words.Of(f)
                    + (f.FieldType == FieldType.Enum ? $" ({string.Join(" | ", Words.Named(f.EnumType).Select(Words.Of))})" : "")
                    + (f.IsRepeated ? " (list)" : "")
                    + (Flag.IsRequiredField(f) ? " (required)" : "")
                )
        );

    private static void OfCommand(Screen screen, Command command)
    {
        var parts = command.Arguments.Select(a =>
            a.Arity.MinimumNumberOfValues == 0 ? $"[{a.HelpName ?? a.Name}]" : $"<{a.HelpName ?? a.Name}>"
        );
        screen.Paragraph(
            Usage(
                command,
                [
                    .. parts,
                    .. command.Subcommands.Count > 0 ? (string[])["<command>"] : [],
                    .. command.Options.Count > 0 ? (string[])["[options]"] : [],
                ]
            ),
            style: Style.Bold
        );
        screen.Line();
        screen.Paragraph(command.Description ?? "");
        Section(screen, "Arguments", command.Arguments, a => OfText(screen, a.HelpName ?? a.Name, a.Description));
        Section(screen, "Commands", command.Subcommands.Where(s => !s.Hidden), s => OfText(screen, s.Name, DescriptionOf(s)));
        Section(screen, "Options", command.Options.Where(o => !o.Hidden), o => OfOption(screen, o));
        if (command is RootCommand)
        {
            screen.Line();
            screen.Paragraph(
                "Exit codes: 0 done; 1 refused or not proved; 2 the input cannot be used; 3 the service was not reached; 130 interrupted.",
                style: Style.Dim
            );
        }
    }

    private static string? DescriptionOf(Command command) =>
        command is VerbCommand { Verb: var verb } ? Comments.FirstOf(verb.Method) : Comments.FirstSentence(command.Description ?? "");

    private static void OfOption(Screen screen, Option option) =>
        OfText(
            screen,
            $"{string.Join(", ", option.Aliases.Append(option.Name).Order(StringComparer.Ordinal).Reverse().Where(n => n is not ("/h" or "/?" or "-?")))}"
                + (option.ValueType == typeof(bool) || option.Arity.MaximumNumberOfValues == 0 ? "" : $" <{option.HelpName ?? "value"}>"),
            option.Description
        );

    private static void OfText(Screen screen, string name, string? text)
    {
        const int Column = 22;
        var (lines, width) = (Screen.Wrap(text ?? "", screen.Shell.TextColumns - Column).ToList(), name.Length + 2);
        if (width >= Column - 1)
        {
            screen.Line($"  {name}");
            lines.ForEach(l => screen.Line(new string(' ', Column) + l));
            return;
        }
        screen.Line($"  {Screen.Pad(name, Column - 2)}{lines.FirstOrDefault()}");
        lines.Skip(1).ToList().ForEach(l => screen.Line(new string(' ', Column) + l));
    }

    private static void Section<T>(Screen screen, string title, IEnumerable<T> items, Action<T> write)
    {
        if (!items.Any())
            return;
        screen.Line();
        screen.Line(new Span(title, Style.Bold));
        foreach (var item in items)
            write(item);
    }

    private static string Usage(Command command, params IEnumerable<string> parts) =>
        $"{CommandLine.PathOf(command)} {string.Join(' ', parts)}".TrimEnd();
}
