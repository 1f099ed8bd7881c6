using System.Globalization;

namespace Ministries.Serving;

/// <summary>What the machine allows this process.</summary>
public static class ProcessLimits
{
    /// <summary>How many descriptors it may have (RLIMIT_NOFILE): each connection and each open file needs one. Null: it is not known, or
    /// without limit.</summary>
    public static int? Descriptors()
    {
        const string file = "/proc/self/limits",
            name = "Max open files";
        if (!File.Exists(file) || File.ReadLines(file).FirstOrDefault(l => l.StartsWith(name, StringComparison.Ordinal)) is not { } line)
            return null;
        // The runtime raises the soft limit, the first number, to the hard one at its start.
        var soft = line[name.Length..].Split(' ', StringSplitOptions.RemoveEmptyEntries)[0];
        return int.TryParse(soft, CultureInfo.InvariantCulture, out var most) ? most : null;
    }
}
