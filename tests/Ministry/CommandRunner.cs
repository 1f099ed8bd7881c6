namespace Ministries.Ministry.Tests;

/// <summary>What a command said and how it ended.</summary>
internal sealed record Ran(int Code, string Output, string Error);

/// <summary>Runs the command as a process would be run, with variables, a terminal and an input of the test's own.</summary>
internal sealed record CommandRunner(Services Services)
{
    private static readonly string[] Nobody = ["config", "pki", "agreement"];

    /// <summary>Who calls; empty: nobody is named.</summary>
    public string As { get; init; } = "";

    /// <summary>What the person at the terminal types; null: no person is there.</summary>
    public string? Typed { get; init; }

    /// <summary>What stands at the input, if it is not the terminal.</summary>
    public string Input { get; init; } = "";

    /// <summary>The person at the terminal, if he does more than typing.</summary>
    public TextReader? Reader { get; init; }

    /// <summary>The terminal's columns; null: the output is none.</summary>
    public int? Columns { get; init; }

    /// <summary>Whether the output is a terminal.</summary>
    public bool IsTerminal { get; init; }

    /// <summary>Whether the output for errors is a terminal.</summary>
    public bool IsErrorTerminal { get; init; }

    /// <summary>Environment variables.</summary>
    public IReadOnlyDictionary<string, string> Variables { get; init; } = new Dictionary<string, string>();

    /// <summary>Ends the command as Ctrl-C does.</summary>
    public CancellationToken Interrupt { get; init; } = Services.Cancel;

    /// <summary>The clock.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>Runs the command, and demands that it succeeds.</summary>
    public async Task<Ran> Succeed(params string[] args)
    {
        var ran = await Run(args);
        Assert.True(ran.Code == 0, $"{string.Join(' ', args)}: {ran.Code} {ran.Output}{ran.Error}");
        return ran;
    }

    /// <summary>Runs the command.</summary>
    public async Task<Ran> Run(params string[] args)
    {
        var root = CommandLine.Create();
        var variables = new Dictionary<string, string>(Variables);
        variables.TryAdd("MINISTRIES_CONFIG", Path.Combine(Services.Folder, "none", "config.json"));
        if (!Nobody.Contains(args.FirstOrDefault()))
            variables.TryAdd("MINISTRIES_FOLDER", Services.Folder);
        if (As.Length > 0)
            variables.TryAdd("MINISTRIES_AS", As);
        foreach (var (service, address) in Services.Addresses)
            variables.TryAdd($"MINISTRIES_{service.ToUpperInvariant()}", address.ToString());
        var (output, error) = (new StringWriter(), new StringWriter());
        using var input = new StringReader(Input);
        var person = Reader ?? new StringReader(Typed ?? "");
        var shell = new Shell
        {
            Variable = variables.GetValueOrDefault,
            Input = () => input,
            Asks = Typed is not null || Reader is not null,
            Person = () => person,
            IsTerminal = IsTerminal,
            Columns = Columns,
            IsErrorTerminal = IsErrorTerminal,
            ErrorColumns = Columns,
            Zone = TimeZoneInfo.FindSystemTimeZoneById(variables.GetValueOrDefault("TZ", "Asia/Seoul")),
            Time = Time,
        };
        var code = await CommandLine.Run(
            root,
            args,
            new ShellConfiguration
            {
                Shell = shell,
                Output = new Terminal(output),
                Error = new Terminal(error),
            },
            Interrupt
        );
        return new(code, output.ToString(), error.ToString());
    }
}
