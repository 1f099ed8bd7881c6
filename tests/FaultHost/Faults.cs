using System.Diagnostics;
using System.Globalization;
using Ministries.Ledger;

namespace Ministries.FaultHost;

/// <summary>Ends the process at a named point, and takes protections out.</summary>
internal static class Faults
{
    private static volatile Armed? _armed;

    private sealed class Armed(string order, string point, int hits)
    {
        private int _left = hits;

        public bool Kills => order == "kill";

        public bool Hit(string at) => at == point && Interlocked.Decrement(ref _left) == 0;
    }

    /// <summary>Takes one protection out.</summary>
    public static void Remove(string protection)
    {
        switch (protection)
        {
            case "request-id":
                Probe.SkipRequestIds = true;
                break;
            case "confirm":
                Probe.SkipConfirms = true;
                break;
            case "commit-before-ack":
                Probe.AcknowledgeFirst = true;
                break;
            case "gap-filling":
                Probe.LeaveGaps = true;
                break;
            case "fencing":
                Probe.SkipFences = true;
                break;
            default:
                throw new ArgumentException($"there is no protection {protection}");
        }
    }

    /// <summary>Takes orders from standard input.</summary>
    public static void Listen()
    {
        Probe.Hook = point =>
        {
            if (_armed is not { } armed || !armed.Hit(point))
                return;
            if (armed.Kills)
                Kill(point);
            Console.Out.WriteLine($"came to {point}");
            Console.Out.Flush();
        };
        new Thread(() =>
        {
            while (Console.In.ReadLine() is { } line)
                if (line.Split(' ') is [("kill" or "tell") and var order, var point, var hits])
                    _armed = new Armed(order, point, int.Parse(hits, CultureInfo.InvariantCulture));
            Kill("end of input");
        })
        {
            IsBackground = true,
        }.Start();
    }

    private static void Kill(string point)
    {
        // What was written to the broker may still be in the process's buffers.
        if (point == "after-ack")
            Thread.Sleep(100);
        Console.Out.WriteLine($"killed at {point}");
        Console.Out.Flush();
        Process.GetCurrentProcess().Kill();
        Thread.Sleep(Timeout.Infinite);
    }
}
