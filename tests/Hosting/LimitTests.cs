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
}
