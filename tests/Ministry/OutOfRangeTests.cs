using Google.Protobuf.WellKnownTypes;

namespace Ministries.Ministry.Tests;

/// <summary>The command shows what of them can be shown.</summary>
public sealed class OutOfRangeTests(Services services) : IClassFixture<Services>
{
    [Theory]
    [InlineData("text")]
    [InlineData("json")]
    public async Task A_sealed_time_that_is_none_is_named_and_the_rest_is_shown(string format)
    {
        var prisoner = await OutOfRange.Notify(services, new Timestamp { Seconds = 10_000_000_000_000 });
        var command = new CommandRunner(services) { As = "icrc" };

        string[] how = format == "json" ? ["-o", "json"] : [];
        var ran = await command.Succeed([.. (string[])["open", prisoner], .. how]);

        Assert.Contains(OutOfRange.Place, ran.Output);
        Assert.Contains("capture.capture_time", ran.Output);
        Assert.Contains("must be a time from 1900 to 2199", ran.Output);
    }
}
