namespace Ministries.Fixtures;

/// <summary>What the kernel limits a process to (<c>/proc/PID/limits</c>; proc(5)).</summary>
public static class KernelLimits
{
    private const string Core = "Max core file size";

    /// <summary>How many bytes a dump of its memory may have: what is kept to, and what the process may raise that to.</summary>
    /// <param name="process">The process's id.</param>
    public static (string Soft, string Hard) OfDumps(int process) =>
        File.ReadLines($"/proc/{process}/limits")
            .Single(l => l.StartsWith(Core, StringComparison.Ordinal))[Core.Length..]
            .Split(' ', StringSplitOptions.RemoveEmptyEntries)
            is [var soft, var hard, ..]
            ? (soft, hard)
            : throw new FormatException($"/proc/{process}/limits has another form");
}
