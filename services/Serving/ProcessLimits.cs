using System.Globalization;
using System.Runtime.InteropServices;

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

    // setrlimit(2), prctl(2).
    private const int Core = 4,
        SetDumpable = 4;

    /// <summary>From now on no dump of this process's memory, in which keys are, is written to a disk: the kernel writes none (RLIMIT_CORE,
    /// which programs that it starts inherit), and other programs of the same user cannot read the memory either (PR_SET_DUMPABLE), not
    /// even a debugger. Nothing changes where somebody asked .NET for dumps (<c>DOTNET_DbgEnableMiniDump=1</c>), and elsewhere than on
    /// Linux.</summary>
    public static void KeepMemoryOffDisks()
    {
        if (!OperatingSystem.IsLinux() || Environment.GetEnvironmentVariable("DOTNET_DbgEnableMiniDump") is "1")
            return;
        // Where a machine forbids the calls, its own limits are all there is.
        _ = SetLimit(Core, new Limit());
        _ = Control(SetDumpable, 0, 0, 0, 0);
    }

    // What the kernel keeps to, and up to what the process may raise that.
    private readonly record struct Limit(ulong Soft, ulong Hard);

    [DllImport("libc", EntryPoint = "setrlimit")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int SetLimit(int resource, in Limit limit);

    [DllImport("libc", EntryPoint = "prctl")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Control(int option, nuint a, nuint b, nuint c, nuint d);
}
