using System.CommandLine;

namespace Ministries.Ministry;

/// <summary>What a command is started in: the variables, the person or script at its input, the terminal.</summary>
internal sealed record Shell
{
    /// <summary>The value of an environment variable; null: it is not set.</summary>
    public required Func<string, string?> Variable { get; init; }

    /// <summary>Standard input. .NET changes a terminal's mode when it opens the input, so the input is opened only when it is
    /// read.</summary>
    public required Func<TextReader> Input { get; init; }

    /// <summary>All of standard input, for a value that is read from it; null: that of <see cref="Input"/>.</summary>
    public Func<CancellationToken, Task<string>>? WholeInput { get; init; }

    /// <summary>Whether a person can be asked: standard error or standard input is a terminal, and for the other the session has one.
    /// </summary>
    public bool Asks { get; init; }

    /// <summary>Where a person answers, if that is not standard input: that may hold a value.</summary>
    public Func<TextReader>? Person { get; init; }

    /// <summary>The terminal on which a person is asked; null: standard error. Standard error may go into a file, so it does not always
    /// serve.</summary>
    public Func<TextWriter>? Asking { get; init; }

    /// <summary>Whether standard output is a terminal; of <see cref="ForErrors"/>, whether standard error is one.</summary>
    public bool IsTerminal { get; init; }

    /// <summary>The terminal's columns; null: standard output is none, so that nothing is cut.</summary>
    public int? Columns { get; init; }

    /// <summary>Whether standard error is a terminal.</summary>
    public bool IsErrorTerminal { get; init; }

    /// <summary>As <see cref="Columns"/>, of standard error.</summary>
    public int? ErrorColumns { get; init; }

    /// <summary>Standard output as a pipe; null: it is none.</summary>
    public StandardOutput? Pipe { get; init; }

    /// <summary>The same with standard error in the place of standard output.</summary>
    public Shell ForErrors => this with { IsTerminal = IsErrorTerminal, Columns = ErrorColumns };

    /// <summary>The same with <see cref="Asking"/> in the place of standard output.</summary>
    public Shell ForAsking => this with { IsTerminal = true, Columns = Columns ?? 80 };

    /// <summary>The zone in which times are shown.</summary>
    public TimeZoneInfo Zone { get; init; } = TimeZoneInfo.Local;

    /// <summary>The clock.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>The columns to which text for a person is wrapped: those of the terminal from 40 to 100. What no person reads is not
    /// wrapped.</summary>
    public int TextColumns => Columns is { } columns ? Math.Clamp(columns, 40, 100) : int.MaxValue;

    /// <summary>Whether colours are written: on a terminal that has some, unless <c>NO_COLOR</c> is set (no-color.org).</summary>
    public bool Colours => IsTerminal && Text("NO_COLOR").Length == 0 && Text("TERM") is not ("dumb" or "");

    /// <summary>That of this process.</summary>
    public static Shell OfProcess()
    {
        var set = int.TryParse(Environment.GetEnvironmentVariable("COLUMNS"), out var columns) && columns > 0 ? columns : (int?)null;
        var (output, error) = (!Console.IsOutputRedirected, !Console.IsErrorRedirected);
        var window = set is null && (output || error) && Console.WindowWidth is > 0 and var width ? width : (int?)null;
        var typed = !Console.IsInputRedirected;
        var person = error && !typed ? Session(FileAccess.Read) : null;
        var asking = typed && !error ? Session(FileAccess.Write) : null;
        return new Shell
        {
            Variable = Environment.GetEnvironmentVariable,
            Input = () => Console.In,
            WholeInput = cancel => Ledger.PlainText.Read("-", cancel),
            Asks = error && typed || (person ?? asking) is not null,
            Person = person is null ? null : () => new StreamReader(person()),
            Asking = asking is null ? null : () => new StreamWriter(asking()) { AutoFlush = true },
            IsTerminal = output,
            Columns = set ?? (output ? window : null),
            IsErrorTerminal = error,
            ErrorColumns = set ?? (error ? window : null),
        };
    }

    /// <summary>All of standard input. It ends at once when it is told to, though nobody can give up a read from a terminal.</summary>
    public Task<string> ReadInput(CancellationToken cancel) =>
        Task.Run(() => WholeInput is { } whole ? whole(cancel) : Task.FromResult(Input().ReadToEnd()), CancellationToken.None)
            .WaitAsync(cancel);

    // The terminal of the session; null: there is none. A person may sit there even if standard input or standard error is redirected.
    private static Func<FileStream>? Session(FileAccess access)
    {
        const string Terminal = "/dev/tty";
        try
        {
            if (OperatingSystem.IsWindows())
                return null;
            Open().Dispose();
            return Open;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }

        FileStream Open() => new(Terminal, FileMode.Open, access, FileShare.ReadWrite, bufferSize: 0);
    }

    /// <summary>That in which a verb was started.</summary>
    public static Shell Of(ParseResult result) => (result.InvocationConfiguration as ShellConfiguration)?.Shell ?? OfProcess();

    /// <summary>Whether a text is one word to a shell, and nothing else: letters, digits and <c>_ - . /</c> of ASCII. Every id of the
    /// contracts is.</summary>
    public static bool IsWord(string text) =>
        text.Length > 0 && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-' or '.' or '/');

    /// <summary>A text of others as one word of a line that a person may copy into a shell: in quotes if it would be more than
    /// that.</summary>
    public static string Word(string text) => IsWord(text) ? text : $"'{text.Replace("'", "'\\''", StringComparison.Ordinal)}'";

    /// <summary>The value of a variable; empty: it is not set.</summary>
    public string Text(string variable) => Variable(variable) ?? "";
}

/// <summary>How a command is invoked in a shell.</summary>
internal sealed class ShellConfiguration : InvocationConfiguration
{
    public required Shell Shell { get; init; }
}
