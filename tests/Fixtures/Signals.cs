using System.Globalization;
using System.Runtime.InteropServices;

namespace Ministries.Fixtures;

/// <summary>Signals to processes that a test or a fixture has started.</summary>
public static partial class Signals
{
    /// <summary>The numbers of signals.</summary>
    public const int Kill = 9,
        Terminate = 15,
        Continue = 18,
        Stop = 19;

    /// <summary>Sends a signal to a process.</summary>
    public static void Send(int process, int signal) => _ = kill(process, signal);

    /// <summary>Sends a signal to a process and then to those that it has started.</summary>
    public static void SendToAll(int parent, int signal)
    {
        Send(parent, signal);
        foreach (var child in ChildrenOf(parent))
            Send(child, signal);
    }

    // The fourth field of a process's line is its parent; the second, in parentheses, is its name, which may hold anything.
    private static IEnumerable<int> ChildrenOf(int parent)
    {
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder), CultureInfo.InvariantCulture, out var process))
                continue;
            string line;
            try
            {
                line = File.ReadAllText(Path.Combine(folder, "stat"));
            }
            catch (IOException)
            {
                // It has ended.
                continue;
            }
            var fields = line[(line.LastIndexOf(')') + 2)..].Split(' ');
            if (fields[1] == parent.ToString(CultureInfo.InvariantCulture))
                yield return process;
        }
    }

    [LibraryImport("libc")]
    private static partial int kill(int pid, int signal);
}
