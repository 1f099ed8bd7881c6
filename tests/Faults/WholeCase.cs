using System.Collections.Concurrent;
using System.Diagnostics;
using Grpc.Core;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Ministries.Local;

namespace Ministries.Faults.Tests;

/// <summary>What came of it.</summary>
/// <param name="Complaints">What is lost, doubled, contradictory or against the law; empty: nothing.</param>
/// <param name="Cases">The cases that were played to their end.</param>
/// <param name="Troubles">What happened meanwhile, in order.</param>
internal sealed record Verdict(IReadOnlyList<string> Complaints, int Cases, IReadOnlyList<string> Troubles);

/// <summary>
/// The case of 17 March is played from the first to the last step, the change of mind, the hand-over and the return included, again and
/// again, while services, broker and database are killed, paused, cut off and filled up. It is played by the client library as ministries
/// use it. Then both ledgers are judged.
/// </summary>
internal sealed class WholeCase
{
    private const int AtOnce = 2,
        Drawn = 2,
        DiskMegabytes = 320;

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3),
        StandsStill = TimeSpan.FromSeconds(20);

    private readonly Deployment _deployment;
    private readonly Action<string> _say;
    private readonly Audit _audit;
    private readonly ConcurrentQueue<Answered> _journal = [];
    private readonly ConcurrentQueue<string> _complaints = [];
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private int _cases;

    private WholeCase(Deployment deployment, Action<string> say) =>
        (_deployment, _say, _audit) = (deployment, say, new Audit(deployment.Databases, deployment.Broker.Uri));

    /// <summary>Plays it.</summary>
    /// <param name="seed">The order of the troubles comes from it.</param>
    /// <param name="rounds">How often each trouble happens; 0: some of them once (<see cref="Troubles.Draw"/>).</param>
    /// <param name="say">Receives a line about each step.</param>
    /// <param name="cancel">Cancels.</param>
    public static async Task<Verdict> Run(int seed, int rounds, Action<string> say, CancellationToken cancel)
    {
        string[] settings = ["max_connections=60", "min_wal_size=32MB", "max_wal_size=64MB"];
        var disk = await Postgres.CreateOnDisk(DiskMegabytes, settings);
        var postgres = disk ?? await Postgres.Create(settings);
        try
        {
            await using var deployment = await Deployment.Start("", cancel, postgres);
            deployment.KeepsLogs = true;
            var whole = new WholeCase(deployment, say);
            whole.Say($"seed {seed}, {(disk is null ? "without a disk to fill" : "with a disk of its own")}; logs in {deployment.Logs}");
            var random = new Random(seed);
            var troubles = new Troubles(deployment, postgres, disk is not null, random);
            var verdict = await whole.Run(Order(troubles, rounds, random), cancel);
            deployment.KeepsLogs = verdict.Complaints.Count > 0;
            return verdict;
        }
        finally
        {
            postgres.Stop();
        }
    }

    private static Trouble[] Order(Troubles troubles, int rounds, Random random)
    {
        if (rounds == 0)
            return Troubles.Draw(troubles.All, Drawn, random);
        var all = Enumerable.Range(0, rounds).SelectMany(_ => troubles.All).ToArray();
        random.Shuffle(all);
        return all;
    }

    private async Task<Verdict> Run(Trouble[] troubles, CancellationToken cancel)
    {
        using var stop = new CancellationTokenSource();
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var playing = Task.WhenAll(Enumerable.Range(0, AtOnce).Select(_ => PlayUntil(stop.Token, cancel)));
        var observer = await Join(cancel);
        Follower[] followers = [.. Deployment.Names.Select(service => new Follower(observer, service, end.Token))];
        var random = new Random(troubles.Length);
        foreach (var (name, _, run) in troubles)
        {
            var time = TimeSpan.FromMilliseconds(random.Next(1000, 2500));
            Say($"{name}, {time.TotalSeconds:F1} s");
            await run(time, cancel);
            await Task.WhenAny(_deployment.Ready(cancel), playing);
            if (playing.IsFaulted)
                break;
        }
        await stop.CancelAsync();
        await playing.WaitAsync(TimeSpan.FromMinutes(4), cancel);
        Say($"{_cases} cases were played to their end");
        await _deployment.Ready(cancel);
        await _audit.Settle(StandsStill, cancel);
        await Heard(observer, followers, cancel);
        await end.CancelAsync();
        await Task.WhenAll(followers.Select(f => f.Ended));
        await observer.DisposeAsync();
        await _deployment.Blackout();
        await _audit.Quiet(cancel);
        return new Verdict(
            [
                .. _complaints,
                .. await _audit.Check([.. _journal], null, cancel),
                .. Law.Breaches(await _audit.EventsOf("custody", cancel), await _audit.EventsOf("consular", cancel)),
            ],
            _cases,
            [.. troubles.Select(t => t.Name)]
        );
    }

    private Task<Participants> Join(CancellationToken cancel) =>
        Participants.Join(_deployment.Certificates, _deployment.Addresses, Patience, cancel);

    // Case after case; one that was begun is finished.
    private async Task PlayUntil(CancellationToken stop, CancellationToken cancel)
    {
        do
        {
            await using var participants = await Join(cancel);
            var timeline = new Timeline(new Screen(TextWriter.Null, redirected: true, brief: true), Stopwatch.GetTimestamp());
            var story = new Story(participants, timeline);
            try
            {
                await story.Play(cancel);
                await story.Return(cancel);
                Interlocked.Increment(ref _cases);
            }
            catch (Exception e) when (e is StoryException or RpcException)
            {
                _complaints.Enqueue($"a case was not played to its end: {e.Message}");
            }
            foreach (var check in timeline.Checks.Where(c => !c.Holds))
                _complaints.Enqueue($"in a case it does not hold that {check.What}: {check.Found}");
            foreach (var (step, request) in timeline.Steps.Where(s => s.RequestId.Length > 0))
                _journal.Enqueue(new(step.Service, step.Participant, request, null, null, step.Refusal?.Reason));
        } while (!stop.IsCancellationRequested);
    }

    // No notice is lost: who followed all the time was told each entry once, as one is who asks afterwards. What was recorded before he was
    // admitted to a case came late.
    private async Task Heard(Participants observer, IEnumerable<Follower> followers, CancellationToken cancel)
    {
        foreach (var follower in followers)
        {
            var all = new List<ulong>();
            await foreach (var told in observer["icrc"].Client.Follow(follower.Service, untilNow: true, cancel: cancel))
                if (told.Entry is { } entry)
                    all.Add(EntryHeader.Parser.ParseFrom(entry.Header).Position);
            var began = Stopwatch.GetTimestamp();
            while (follower.Heard.Count < all.Count && Stopwatch.GetElapsedTime(began) < StandsStill)
                await Task.Delay(100, cancel);
            if (!follower.Heard.Order().SequenceEqual(all))
                _complaints.Enqueue(
                    $"{follower.Service}: the observer was told {follower.Heard.Count} entries as they came, and {all.Count} afterwards"
                );
        }
    }

    private void Say(string what) => _say($"{_clock.Elapsed.TotalSeconds, 6:F1} s  {what}");

    /// <summary>What the observer is told of a ledger, as it comes. The client itself complains of an entry that was left out.</summary>
    private sealed class Follower
    {
        public Follower(Participants observer, string service, CancellationToken end)
        {
            Service = service;
            Ended = Follow(observer, end);
        }

        public string Service { get; }

        public ConcurrentQueue<ulong> Heard { get; } = [];

        public Task Ended { get; }

        private async Task Follow(Participants observer, CancellationToken end)
        {
            for (ulong from = 0; ; )
                try
                {
                    await foreach (var told in observer["icrc"].Client.Follow(Service, from, cancel: end))
                    {
                        from = told.NextPosition;
                        if (told.Entry is { } entry)
                            Heard.Enqueue(EntryHeader.Parser.ParseFrom(entry.Header).Position);
                    }
                }
                catch (RpcException) when (!end.IsCancellationRequested)
                {
                    // It was away for longer than the client asks.
                }
                catch (OperationCanceledException)
                {
                    return;
                }
        }
    }
}
