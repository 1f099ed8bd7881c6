using System.Runtime.InteropServices;

namespace Ministries.Cluster;

/// <summary>A network namespace with what runs in it.</summary>
/// <param name="Name">The namespace's name.</param>
/// <param name="Address">Its address.</param>
internal sealed partial record Host(string Name, string Address)
{
    private const int SigKill = 9,
        SigCont = 18,
        SigStop = 19;

    /// <summary>Runs a program in it to its end. Returns what it wrote.</summary>
    public Task<string> Run(string program, params string[] arguments) => Tool.Run("ip", ["netns", "exec", Name, program, .. arguments]);

    /// <summary>Ends all its processes of some kind at once (SIGKILL).</summary>
    /// <param name="kind">Judges a process by its name, as /proc tells it.</param>
    public Task Kill(Func<string, bool> kind) => Send(SigKill, kind);

    /// <summary>Stops them from doing anything (SIGSTOP): connections stay open, and nothing is answered.</summary>
    /// <param name="kind">Judges a process by its name, as /proc tells it.</param>
    public Task Freeze(Func<string, bool> kind) => Send(SigStop, kind);

    /// <summary>Lets everything in it go on (SIGCONT).</summary>
    public Task Thaw() => Send(SigCont, _ => true);

    private async Task Send(int signal, Func<string, bool> kind)
    {
        // A process may start another one meanwhile.
        for (var round = 0; round < 2; round++)
            foreach (var line in (await Tool.Run("ip", "netns", "pids", Name)).Split('\n', StringSplitOptions.RemoveEmptyEntries))
                if (int.TryParse(line, out var process) && NameOf(process) is { } name && kind(name))
                    _ = kill(process, signal);
    }

    private static string? NameOf(int process)
    {
        try
        {
            return File.ReadAllText($"/proc/{process}/comm").Trim();
        }
        catch (IOException)
        {
            return null;
        }
    }

    [LibraryImport("libc")]
    private static partial int kill(int pid, int signal);
}
