using System.Globalization;

namespace Ministries.Fixtures;

/// <summary>What the kernel knows of connections over the loopback address (<c>/proc/net/tcp</c>; proc(5)).</summary>
public static class KernelSockets
{
    private const string Established = "01",
        KeepAlive = "02";

    // The kernel tells times to programs in hundredths of a second.
    private const double Ticks = 100;

    /// <summary>When the kernel probes the idle connections to a port, in seconds from now: of each that it probes at all.</summary>
    /// <param name="port">The port.</param>
    /// <param name="ofServer">Whether the server's ends of the connections are meant, which listen at the port.</param>
    public static async Task<IReadOnlyList<double>> Probes(int port, bool ofServer) =>
        [
            .. (await File.ReadAllLinesAsync("/proc/net/tcp"))
                .Skip(1)
                .Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
                .Where(f => f[ofServer ? 1 : 2].EndsWith($":{port:X4}", StringComparison.Ordinal) && f[3] == Established)
                .Select(f => f[5].Split(':'))
                .Where(timer => timer[0] == KeepAlive)
                .Select(timer => int.Parse(timer[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture) / Ticks),
        ];
}
