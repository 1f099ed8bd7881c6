using System.Diagnostics;
using System.Text;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>A terminal of its own, in which a line of a shell runs as a person would start it. What is typed comes from its keyboard, so
/// that Ctrl-C is a signal to whatever runs there.</summary>
internal sealed class PseudoTerminal : IDisposable
{
    private const string CtrlC = "\x03";
    private static readonly TimeSpan Longest = TimeSpan.FromMinutes(1);

    private readonly Process _script;
    private readonly StringBuilder _shown = new();
    private readonly Task _reading;
    private TaskCompletionSource _more = new();

    /// <summary>Starts it, as kr/mfa.</summary>
    /// <param name="services">The services that are called.</param>
    /// <param name="line">What the shell runs, in which <c>ministry</c> is the command.</param>
    /// <param name="variables">Names and values of further variables.</param>
    public PseudoTerminal(Services services, string line, params (string Name, string Value)[] variables)
    {
        var start = new ProcessStartInfo(
            "script",
            ["--quiet", "--return", "--flush", "--command", $"ministry() {{ dotnet '{Program}' \"$@\"; }}\n{line}", "/dev/null"]
        )
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        services.Name(start.Environment);
        start.Environment["MINISTRIES_CONFIG"] = Path.Combine(services.Folder, "none", "config.json");
        // It ends by Ctrl-C only if what it runs does. Others end though what they run has ended in order.
        start.Environment["SHELL"] = "/bin/bash";
        start.Environment["TERM"] = "xterm";
        start.Environment["COLUMNS"] = "100";
        start.Environment.Remove("NO_COLOR");
        foreach (var (name, value) in variables)
            start.Environment[name] = value;
        _script = Process.Start(start)!;
        _reading = Read();
    }

    /// <summary>The command's own program.</summary>
    public static string Program => Path.Combine(AppContext.BaseDirectory, "ministry.dll");

    /// <summary>All that was shown so far.</summary>
    public string Output
    {
        get
        {
            lock (_shown)
                return _shown.ToString();
        }
    }

    /// <summary>Words as a shell takes them.</summary>
    public static string Line(params IEnumerable<string> words) => string.Join(' ', words.Select(Shell.Word));

    /// <summary>Waits until a text is shown.</summary>
    public async Task Until(string text)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        deadline.CancelAfter(Longest);
        while (true)
        {
            Task more;
            lock (_shown)
            {
                if (_shown.ToString().Contains(text, StringComparison.Ordinal))
                    return;
                more = _more.Task;
            }
            Assert.False(_reading.IsCompleted, $"{text} was not shown:\n{Output}");
            await Task.WhenAny(more, _reading).WaitAsync(deadline.Token);
        }
    }

    /// <summary>Types something.</summary>
    public async Task Type(string text)
    {
        await _script.StandardInput.WriteAsync(text);
        await _script.StandardInput.FlushAsync(Cancel);
    }

    /// <summary>Types Ctrl-C.</summary>
    public Task Interrupt() => Type(CtrlC);

    /// <summary>Waits for the end of what runs in it.</summary>
    /// <returns>Its exit code.</returns>
    public async Task<int> End()
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        deadline.CancelAfter(Longest);
        await _script.WaitForExitAsync(deadline.Token);
        await _reading.WaitAsync(deadline.Token);
        return _script.ExitCode;
    }

    public void Dispose()
    {
        if (!_script.HasExited)
            _script.Kill(entireProcessTree: true);
        _script.Dispose();
    }

    private async Task Read()
    {
        var piece = new char[1024];
        for (int read; (read = await _script.StandardOutput.ReadAsync(piece, Cancel)) > 0; )
        {
            TaskCompletionSource more;
            lock (_shown)
            {
                _shown.Append(piece, 0, read);
                (more, _more) = (_more, new());
            }
            more.TrySetResult();
        }
    }
}
