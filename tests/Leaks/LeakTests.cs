using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Ministry;
using Xunit;

namespace Ministries.Leaks.Tests;

/// <summary>D16: no personal datum in anything that the services write.</summary>
public sealed class LeakTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_leak_into_a_span_a_log_an_error_an_event_or_a_dead_letter_is_found()
    {
        var canary = new Canary();
        await using var ground = await Playground.Start(
            canary.For("leak"),
            ["leak-span", "leak-log", "leak-exception"],
            ["calllog"],
            Cancel
        );
        using var seoul = new MinistryClient(MinistrySettings.In(ground.Certificates, "kr/mfa", ground.Addresses));
        await ground.Keep(await Refused(seoul));
        await ground.Publish("ministries.consular", canary.For("event"), Cancel);
        await ground.Publish("ministries.consular.dead", canary.For("letter"), Cancel);
        await ground.End("calllog", "TERM");
        await ground.Collect(Cancel);

        var found = ground.Find(canary.Prefix);
        foreach (var expected in (string[])["spans: ", "calllog.log: ", "refusals/1: "])
            Assert.Contains(found, f => f.StartsWith($"services: {expected}", StringComparison.Ordinal));
        foreach (var word in (string[])["event", "letter"])
            Assert.Contains(ground.Find(canary.For(word)), f => f.StartsWith("RabbitMQ: ", StringComparison.Ordinal));
    }

    // The first refusal by the service itself, once it listens.
    private static async Task<RpcException> Refused(MinistryClient client)
    {
        for (var left = 600; ; left--)
        {
            var refusal = await Assert.ThrowsAsync<RpcException>(async () =>
                await client.CallLog.ListCallsAsync(new ListCallsRequest(), cancellationToken: Cancel)
            );
            if (refusal.StatusCode != StatusCode.Unavailable || left == 0)
                return refusal;
            await Task.Delay(50, Cancel);
        }
    }
}
