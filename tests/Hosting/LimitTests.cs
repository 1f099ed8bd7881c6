using System.Runtime.InteropServices;
using Ministries.Fixtures;
using Ministries.Serving;

namespace Ministries.Hosting.Tests;

/// <summary>The limit of connections follows from the limit of descriptors.</summary>
public sealed class LimitTests
{
    [Theory]
    [InlineData(null, 1000, 1024)]
    [InlineData(1_048_576, 1000, 1024)]
    [InlineData(2344, 1000, 1024)]
    [InlineData(1024, 352, 352)]
    [InlineData(512, 96, 96)]
    public void All_connections_and_what_the_service_needs_itself_have_descriptors(int? descriptors, int served, int unidentified)
    {
        var limits = EdgeLimits.For(descriptors);
        Assert.Equal((served, unidentified), (limits.MaxConnections, limits.MaxUnidentified));
        Assert.InRange(limits.MaxConnectionsPerParticipant, 1, limits.MaxConnections);
        Assert.InRange(limits.MaxUnidentifiedPerAddress, 1, limits.MaxUnidentified);
        if (descriptors is { } most)
            Assert.True(limits.MaxConnections + limits.MaxUnidentified + EdgeLimits.OwnDescriptors <= most);
    }

    [Fact]
    public void The_process_knows_how_many_descriptors_it_may_have() =>
        Assert.True(!OperatingSystem.IsLinux() || ProcessLimits.Descriptors() is null or > 0);

    [Fact]
    public void Other_programs_cannot_read_the_memory_of_a_process_that_keeps_it_off_disks()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "only Linux is told");
        ProcessLimits.KeepMemoryOffDisks();
        Assert.Equal(0, Control(GetDumpable, 0, 0, 0, 0));
        Assert.Equal(("0", "0"), KernelLimits.OfDumps(Environment.ProcessId));
    }

    // prctl(2).
    private const int GetDumpable = 3;

    [DllImport("libc", EntryPoint = "prctl")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Control(int option, nuint a, nuint b, nuint c, nuint d);
}
