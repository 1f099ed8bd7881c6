using System.Collections.Concurrent;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Client;
using Ministries.Local;

namespace Ministries.Leaks.Tests;

/// <summary>D16: no personal datum in anything that the services write.</summary>
public sealed class LeakTests
{
    // The play seals some fifteen times.
    private const int SealingsToAKill = 2,
        Kills = 6;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_leak_into_a_span_a_log_an_error_an_event_or_a_dead_letter_is_found()
    {
        var canary = new Canary();
        await using var ground = await Playground.Start(
            canary.For("leak"),
            ["leak-span", "leak-log", "leak-event", "leak-letter", "leak-exception"],
            ["calllog"],
            embedded: false,
            Cancel
        );
        using var seoul = new MinistryClient(MinistrySettings.In(ground.Certificates, "kr/mfa", ground.Addresses));
        await ground.Keep(await Refused(seoul));
        await ground.End("calllog", "TERM");
        await ground.Collect(Cancel);

        // Each leak has a word of its own: a log that tells of another one's exception would hold that one's.
        foreach (
            var (word, place) in (IReadOnlyList<(string, string)>)
                [
                    ("span", "services: spans: "),
                    ("log", "services: calllog.log: "),
                    ("exception", "services: refusals/1: "),
                    ("event", "RabbitMQ: "),
                    ("letter", "RabbitMQ: "),
                ]
        )
            Assert.Contains(ground.Find(canary.For($"leak-{word}")), f => f.StartsWith(place, StringComparison.Ordinal));
    }

    /// <summary>On PostgreSQL with dumps of the services' memory, and on SQLite. The services are killed in the middle of the
    /// play.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task No_personal_datum_of_the_whole_case_is_found_in_anything_that_was_written(bool embedded)
    {
        var canary = new Canary();
        await using var ground = await Playground.Start("", [], Participants.Services, embedded, Cancel);
        await using var participants = await Participants.Join(ground.Certificates, ground.Addresses, TimeSpan.FromMinutes(3), Cancel);
        var (sealings, kills) = (0, new ConcurrentQueue<Task>());
        foreach (var id in participants.Parties)
            participants[id].BeforeSealing = message =>
            {
                canary.Fill(message);
                // Each service ends once with this write on its way, and once more.
                if (Interlocked.Increment(ref sealings) is var at && at % SealingsToAKill == 0 && at / SealingsToAKill <= Kills)
                    kills.Enqueue(ground.Restart(Participants.Services[at / SealingsToAKill % Participants.Services.Count]));
            };
        var story = new Story(participants, new Timeline(new Screen(TextWriter.Null, redirected: true, brief: true), 0));
        await story.Play(Cancel);
        await story.Return(Cancel);
        await Task.WhenAll(kills);
        Assert.True(canary.Filled > 20, $"only {canary.Filled} personal fields were filled");
        Assert.Equal(Kills, kills.Count);

        string[] who = ["ua/coordination-hq", "kr/mfa", "icrc"];
        foreach (var id in who)
        {
            await ground.SealIntoEverything(participants[id].Client, story.Case, canary, Cancel);
            await ground.Export(participants[id].Client, story.Case, Cancel);
        }
        if (!embedded)
            // A dump of the memory of each, as a crash leaves it; then they begin anew.
            foreach (var service in Participants.Services)
            {
                await ground.Crash(service, Cancel);
                Assert.True(ground.HasDump(service), $"{service} left no dump");
                ground.Run(service);
            }
        await using (var again = await Participants.Join(ground.Certificates, ground.Addresses, TimeSpan.FromMinutes(3), Cancel))
            // What somebody puts in clear text where it does not belong is in the memory of a service until it is refused, and nowhere
            // else.
            foreach (var id in who)
                await ground.AskEverythingWith(again[id].Client, canary.For("asked"), Cancel);
        await ground.Collect(Cancel);

        Assert.Empty(ground.Find(canary.Prefix));
        AssertNoSecretIn(ground, story);
        // A dump of the memory holds the service's own keys.
        if (embedded)
            AssertNoKeyIn(ground);
    }

    /// <summary>A gateway gets plain data. What it keeps is sealed: nothing in its state folder, its log or its spans is plain by
    /// design.</summary>
    [Fact]
    public async Task No_personal_datum_is_found_in_what_a_gateway_keeps_logs_or_traces()
    {
        var canary = new Canary();
        await using var ground = await Playground.Start("", [], Participants.Services, embedded: true, Cancel);
        await using var gateways = await Gateways.Start(ground, ["icrc", "kr/mfa", "ua/coordination-hq", "ua/mfa"], Cancel);
        await using var participants = await Participants.Join(
            ground.Certificates,
            ground.Addresses,
            TimeSpan.FromMinutes(3),
            Cancel,
            gateways: gateways.Addresses
        );
        foreach (var id in participants.Parties)
            participants[id].BeforeSealing = canary.Fill;
        var story = new Story(participants, new Timeline(new Screen(TextWriter.Null, redirected: true, brief: true), 0));
        await story.Play(Cancel);
        await story.Return(Cancel);
        Assert.True(canary.Filled > 20, $"only {canary.Filled} personal fields were filled");
        await gateways.End();
        await ground.Collect(Cancel);

        Assert.Contains(ground.Collector.Spans, s => s.Everything.Contains("gateway", StringComparison.OrdinalIgnoreCase));
        foreach (var file in (string[])["outbox.db", "mirror.db"])
            Assert.All(gateways.Folders, f => Assert.True(new FileInfo(Path.Combine(f, file)).Length > 0, Path.Combine(f, file)));
        // Logs are searched as well, but a gateway whose play goes well has nothing to say.
        Assert.Empty(ground.Find(canary.Prefix));
        AssertNoSecretIn(ground, story);
        AssertNoKeyIn(ground);
    }

    // Who has the secret of a wish makes its commitments, and so reads the wish.
    private static void AssertNoSecretIn(Playground ground, Story story)
    {
        Assert.NotEmpty(story.WishSecrets);
        Assert.All(story.WishSecrets, secret => Assert.Empty(ground.Find(new Search(secret))));
    }

    // No private key of a service, a participant, an official or an authority stands in anything but its own file.
    private static void AssertNoKeyIn(Playground ground)
    {
        var keys = PrivateKeys.In(ground.Certificates);
        Assert.Contains(keys, k => k.File.EndsWith("service/calllog/checkpoint.key", StringComparison.Ordinal));
        Assert.Contains(keys, k => k.File.EndsWith("service/calllog/system.key", StringComparison.Ordinal));
        Assert.Contains(keys, k => k.File.EndsWith("kr/mfa/sealing.key", StringComparison.Ordinal));
        Assert.Empty(ground.Find(Search.ForSecrets(keys.Select(k => k.Secret))));
    }

    // The first refusal that leaks: once the service listens, and its broker has the queue for what is set aside.
    private static async Task<RpcException> Refused(MinistryClient client)
    {
        for (var left = 600; ; left--)
        {
            var refusal = await Assert.ThrowsAsync<RpcException>(async () =>
                await client.CallLog.ListCallsAsync(new ListCallsRequest(), cancellationToken: Cancel)
            );
            if (refusal.StatusCode == StatusCode.Internal || left == 0)
                return refusal;
            await Task.Delay(50, Cancel);
        }
    }
}
