namespace Ministries.Gateway.Tests;

/// <summary>A clock that shows another time of day than the machine's.</summary>
internal sealed class MovedClock : TimeProvider
{
    /// <summary>By how much it is ahead.</summary>
    public TimeSpan By { get; set; }

    public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + By;
}

/// <summary>A clock on which more time has passed than on the machine's; the time of day is the same.</summary>
internal sealed class MovedStopwatch : TimeProvider
{
    /// <summary>How much more.</summary>
    public TimeSpan By { get; set; }

    public override long GetTimestamp() => base.GetTimestamp() + By.Ticks * (TimestampFrequency / TimeSpan.TicksPerSecond);
}
