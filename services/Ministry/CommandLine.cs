using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace Ministries.Ministry;

/// <summary>Runs the command: its help, its usage errors and its end by Ctrl-C.</summary>
internal static class CommandLine
{
    /// <summary>How a command line is read. A value may begin with @, which is a file to a flag and not one of arguments.</summary>
    public static readonly ParserConfiguration Parsing = new() { ResponseFileTokenReplacer = null, EnablePosixBundling = false };

    /// <summary>The command with all its verbs.</summary>
    public static RootCommand Create()
    {
        var root = new RootCommand(
            "What a ministry and an operator need beside the services: it calls them, and keeps keys, agreement and evidence."
        );
        foreach (var command in CallCommands.Create())
            root.Add(command);
        root.Add(EvidenceCommand.Create());
        root.Add(WitnessCommand.Create());
        root.Add(ServeCommand.Create());
        root.Add(AgreementCommand.Create());
        root.Add(KeyCommand.Create());
        root.Add(PkiCommand.Create());
        root.Add(DeploymentCommand.Create());
        return root;
    }

    /// <summary>Runs the command line of this process.</summary>
    /// <returns>The exit code.</returns>
    public static Task<int> Run(RootCommand root, IReadOnlyList<string> arguments)
    {
        var shell = Shell.OfProcess() with { Pipe = StandardOutput.OfProcess() };
        // All output passes through these writers. The console's own properties would wrap them once more, and colours would be escaped
        // too.
        var (output, error) = (new Terminal(shell.Pipe?.Writer ?? Console.Out), new Terminal(Console.Error));
        Console.SetOut(output);
        Console.SetError(error);
        return Run(
            root,
            arguments,
            new ShellConfiguration
            {
                Shell = shell,
                Output = output,
                Error = error,
            }
        );
    }

    /// <summary>Runs a command line.</summary>
    /// <param name="root">The commands.</param>
    /// <param name="arguments">The arguments.</param>
    /// <param name="configuration">In what it runs.</param>
    /// <param name="cancel">Ends it.</param>
    /// <returns>The exit code.</returns>
    public static async Task<int> Run(
        RootCommand root,
        IReadOnlyList<string> arguments,
        ShellConfiguration configuration,
        CancellationToken cancel = default
    )
    {
        foreach (var help in root.Options.OfType<HelpOption>())
            help.Action = new VerbHelp(configuration.Shell);
        if (root.Subcommands.OfType<CompletionCommand>().FirstOrDefault() is { } completion)
            completion.Root = root;
        TypedVerb.Prepare(root, arguments);
        configuration.EnableDefaultExceptionHandler = false;
        var result = root.Parse(arguments, Parsing);
        // Help, the version and completions come first: they are asked for where something is missing.
        if (result.Action is CommandLineAction { ClearsParseErrors: true })
            return await result.InvokeAsync(configuration, cancel);
        if (result.Errors.Count > 0 || result.CommandResult.Command is { Subcommands.Count: > 0, Action: null })
            return UsageError(result, configuration);
        var lasts = result.CommandResult.Command is LastingCommand;
        if (lasts)
            configuration.ProcessTerminationTimeout = LastingCommand.StopTimeout;
        try
        {
            var code = await result.InvokeAsync(configuration, cancel);
            return code == ExitCodes.Done && !lasts && configuration.Shell.Pipe is { IsUnread: true } ? ExitCodes.Unread : code;
        }
        catch (OperationCanceledException)
        {
            return ExitCodes.Interrupted;
        }
#pragma warning disable CA1031 // Nobody who calls a command is helped by a stack trace.
        catch (Exception e)
#pragma warning restore CA1031
        {
            await configuration.Error.WriteLineAsync($"This is a fault of the command itself: {e.GetType().Name}: {e.Message}");
            return ExitCodes.Failed;
        }
    }

    private static int UsageError(ParseResult result, ShellConfiguration configuration)
    {
        var command = result.CommandResult.Command;
        var screen = new Screen(configuration.Error, configuration.Shell.ForErrors);
        var unknown = result.UnmatchedTokens.ToHashSet();
        // What follows an unknown flag is its value.
        var named = unknown.Any(t => t.StartsWith('-')) ? result.UnmatchedTokens.Where(t => t.StartsWith('-')) : result.UnmatchedTokens;
        foreach (var token in named)
        {
            screen.Line($"{PathOf(command)} has no {Terminal.Line(token)}");
            if (Suggestion.Nearest(token, NamesFor(command, token)) is { } near)
                screen.Line(new Span($"did you mean {near}?", Style.Bold));
        }
        // An error about a token that is unknown anyway says nothing more.
        foreach (var error in result.Errors.Where(e => !unknown.Any(t => e.Message.Contains($"'{t}'", StringComparison.Ordinal))))
            if (command.Subcommands.Count == 0)
                screen.Line(Terminal.Line(error.Message));
        if (unknown.Count == 0 && command.Subcommands.Count > 0)
            screen.Line(
                $"{PathOf(command)} takes one of {string.Join(", ", command.Subcommands.Where(s => !s.Hidden).Select(s => s.Name))}"
            );
        screen.Line($"`{PathOf(command)} --help` says more");
        return ExitCodes.WrongInput;
    }

    /// <summary>A command with those above it, as it is typed.</summary>
    public static string PathOf(Command command) =>
        command is RootCommand || command.Parents.OfType<Command>().FirstOrDefault() is not { } above
            ? "ministry"
            : $"{PathOf(above)} {command.Name}";

    private static IEnumerable<string> NamesFor(Command command, string token) =>
        token.StartsWith('-')
            ? command.Options.Where(o => !o.Hidden).SelectMany(o => o.Aliases.Append(o.Name))
            : command.Subcommands.Where(s => !s.Hidden).Select(s => s.Name);
}

/// <summary>A command that goes on until it is told to stop.</summary>
internal sealed class LastingCommand(string name, string description) : Command(name, description)
{
    /// <summary>How long it may take to stop in order once it was told to: 40 s, which is more than the host takes for it (30 s). Then the
    /// process ends anyway.</summary>
    public static readonly TimeSpan StopTimeout = TimeSpan.FromSeconds(40);
}
