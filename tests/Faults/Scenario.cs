using System.Collections.Concurrent;
using System.Diagnostics;
using Grpc.Core;
using Ministries.Hosting;
using Ministries.Ledger.V1;

namespace Ministries.Faults.Tests;

/// <summary>The result of a run.</summary>
/// <param name="Complaints">What was lost, doubled or contradictory; none: nothing.</param>
/// <param name="Cases">The number of cases played to their end.</param>
/// <param name="Answers">The number of answers that ministries got.</param>
/// <param name="Recovery">From the last fault until a whole case had been played; null: it never was.</param>
/// <param name="Points">How often a process ended at which named point.</param>
internal sealed record Result(
    IReadOnlyList<string> Complaints,
    int Cases,
    int Answers,
    TimeSpan? Recovery,
    IReadOnlyDictionary<string, int> Points
);

/// <summary>
/// Ministries play cases without a pause while services and broker are killed under them; then everything is compared. The order
/// of the faults comes from the seed.
/// </summary>
internal sealed class Scenario
{
    /// <summary>The points at which a service can end: before and after each step that must not be lost or doubled.</summary>
    public static readonly IReadOnlyList<string> Points =
    [
        "before-commit",
        "after-commit",
        "before-checkpoint",
        "after-checkpoint",
        "before-publish",
        "after-publish",
        "after-confirm",
        "before-ack",
        "after-ack",
    ];

    private static readonly TimeSpan GoesOnWithin = TimeSpan.FromSeconds(30),
        StandsStill = TimeSpan.FromSeconds(15),
        Patience = TimeSpan.FromSeconds(60);

    private readonly Deployment _deployment;
    private readonly Random _random;
    private readonly string _removed;
    private readonly Action<string> _say;
    private readonly Audit _audit;
    private readonly ConcurrentQueue<Answered> _journal = [];
    private readonly Dictionary<string, Ministry> _ministries;
    private readonly Play _play;
    private readonly Stopwatch _clock = Stopwatch.StartNew();

    private Scenario(Deployment deployment, int seed, string removed, Action<string> say)
    {
        (_deployment, _random, _removed, _say) = (deployment, new Random(seed), removed, say);
        _audit = new Audit(deployment.Databases, deployment.Broker.Uri);
        _ministries = ((string[])["ua/coordination-hq", "ua/mfa", "kr/mfa"])
            .Select((participant, i) => new Ministry(participant, service => deployment.Reach(participant, service), _journal, seed + i))
            .ToDictionary(m => m.Participant);
        _play = new Play(participant => _ministries[participant], seed);
    }

    /// <summary>Runs it.</summary>
    /// <param name="seed">Where the faults come from.</param>
    /// <param name="rounds">How many rounds of faults at random moments, beside those at set ones.</param>
    /// <param name="removed">The protection that is taken out; empty: none.</param>
    /// <param name="say">Receives a line about each step.</param>
    /// <param name="cancel">Cancels.</param>
    public static async Task<Result> Run(int seed, int rounds, string removed, Action<string> say, CancellationToken cancel)
    {
        var began = Stopwatch.GetTimestamp();
        await using var deployment = await Deployment.Start(removed, cancel);
        var scenario = new Scenario(deployment, seed, removed, say);
        deployment.KeepsLogs = removed.Length == 0;
        scenario.Say($"all is ready after {Stopwatch.GetElapsedTime(began).TotalSeconds:F1} s");
        scenario.Say($"seed {seed}, {(removed.Length == 0 ? "all protections" : $"without {removed}")}; logs in {deployment.Logs}");
        using var stop = new CancellationTokenSource();
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var playing = scenario._play.Run(4, stop.Token, end.Token);
        try
        {
            var running = scenario.Run(rounds, playing, stop, end.Token);
            // The play ends before the run only if a participant got an impossible answer.
            await Task.WhenAny(running, playing);
            var broken = playing.Exception ?? running.Exception;
            var result = broken?.InnerException is UnexpectedAnswerException unexpected
                ? await scenario.BreakOff(unexpected, running, end, cancel)
                : await running;
            deployment.KeepsLogs &= result.Complaints.Count > 0;
            return result;
        }
        finally
        {
            await end.CancelAsync();
            await playing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task<Result> Run(int rounds, Task playing, CancellationTokenSource stop, CancellationToken cancel)
    {
        IReadOnlyList<string> complaints = [];
        await Play.For(() => Task.FromResult(_play.Done.FirstOrDefault()), "the first case", cancel);

        if (Plays("request-id"))
        {
            Say("services end after a commit, before its answers");
            for (var i = 0; i < 3; i++)
                await KillAt("custody", "after-commit", _random.Next(1, 8), cancel);
        }
        if (Plays("request-id", "confirm"))
            complaints = await Interrupt("before they are taken up again", () => BrokerTakesNothing(cancel), cancel);
        // The acknowledged message may repeat an event that already had its effect. If this protection is taken out, the test waits for
        // another one.
        for (
            var tries = _removed == "commit-before-ack" ? 16 : 1;
            tries > 0 && complaints.Count == 0 && Plays("commit-before-ack");
            tries--
        )
            complaints = await Interrupt("after an acknowledgement", () => ConsumerEnds(cancel), cancel);
        if (complaints.Count > 0)
            return Found(complaints, null);

        for (var round = 0; round < rounds; round++)
            await Round(round, cancel);
        // A point that was missed because of another fault gets its turn.
        for (var left = 4; rounds > 0 && left > 0; left--)
            foreach (var point in Points.Except(Ended().Keys))
                await KillAt(left % 2 == 0 ? "consular" : "custody", point, 1, cancel);

        await BrokerLosesItsDisk(cancel);

        var last = Stopwatch.GetTimestamp();
        TimeSpan? recovery = null;
        using (var limit = CancellationTokenSource.CreateLinkedTokenSource(cancel))
        {
            limit.CancelAfter(GoesOnWithin);
            try
            {
                _play.Done.Add(await _play.One(limit.Token));
                recovery = Stopwatch.GetElapsedTime(last);
                Say($"a whole case was played {recovery.Value.TotalSeconds:F1} s after the last fault");
            }
            catch (Exception e)
                when (e is OperationCanceledException or TimeoutException or RpcException && !cancel.IsCancellationRequested)
            {
                complaints = [$"no case was played within {GoesOnWithin.TotalSeconds} s of the last fault"];
            }
        }
        await stop.CancelAsync();
        if (recovery is not null)
        {
            await playing.WaitAsync(TimeSpan.FromMinutes(3), cancel);
            await _audit.Settle(StandsStill, cancel);
            complaints = [.. complaints, .. await new Lists(_play).Check(_ministries.Values, cancel), .. await Checkpoints(cancel)];
        }
        var dead = _deployment
            .Services.Values.SelectMany(s => s.ExitCodes.Where(c => c != ServiceHost.Stalled).Select(c => $"{s.Name} ended with {c}"))
            .ToList();
        await Task.WhenAll(_deployment.Services.Values.Select(s => recovery is not null ? s.Stop() : s.HoldDown()));
        await _audit.Quiet(cancel);
        var ends = recovery is null
            ? []
            : _deployment
                .Services.Values.Where(s => s.ExitCodes.LastOrDefault(-1) != ServiceHost.Stopped)
                .Select(s => $"{s.Name} was told to stop and ended with {s.ExitCodes.LastOrDefault(-1)}");
        return Found([.. complaints, .. dead, .. ends, .. await _audit.Check([.. _journal], null, cancel)], recovery);
    }

    // Whether a fault is played: all faults, or, if a protection is taken out, those that it protects against.
    private bool Plays(params string[] protections) => _removed.Length == 0 || protections.Contains(_removed);

    private async Task BrokerTakesNothing(CancellationToken cancel)
    {
        Say("the broker takes nothing any more, then ends, and all services with it");
        for (Task sent; ; _deployment.Broker.Thaw())
        {
            await _deployment.Ready(cancel);
            _deployment.Broker.Freeze();
            // The relay soon notices that the broker answers nothing. Then it has sent nothing, and this begins again.
            sent = _deployment.Services["custody"].Tell("after-publish");
            await _play.Open(cancel);
            if (await Task.WhenAny(sent, Task.Delay(TimeSpan.FromSeconds(4), cancel)) == sent)
                break;
        }
        // Only a relay that does not wait for confirmations gets this far.
        var (since, all) = (Stopwatch.GetTimestamp(), await _audit.Events("custody", cancel));
        var patience = _removed == "confirm" ? Patience : TimeSpan.FromSeconds(1);
        while (await _audit.Relayed("custody", cancel) < all && Stopwatch.GetElapsedTime(since) < patience)
            await Task.Delay(50, cancel);
        await _deployment.Blackout();
        await _deployment.RestartBroker();
    }

    private async Task ConsumerEnds(CancellationToken cancel)
    {
        Say("a consumer ends right after an acknowledgement, then all services");
        _deployment.Services["consular"].HoldAtEnd();
        await _deployment.Services["consular"].Arm("after-ack", _random.Next(1, 6)).WaitAsync(Patience, cancel);
    }

    private async Task BrokerLosesItsDisk(CancellationToken cancel)
    {
        Say("the broker loses its disk with messages in its queues");
        await Task.WhenAll(_deployment.Services["consular"].HoldDown(), _deployment.Services["calllog"].HoldDown());
        await _play.Open(cancel);
        await Play.For(async () => await _audit.Waiting("consular", cancel) > 0 ? "some" : null, "messages in a queue", cancel);
        await _deployment.RestartBroker(wipe: true);
        foreach (var service in _deployment.Services.Values)
            service.Start();
    }

    private async Task<Result> BreakOff(
        UnexpectedAnswerException unexpected,
        Task running,
        CancellationTokenSource end,
        CancellationToken cancel
    )
    {
        await end.CancelAsync();
        await running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _deployment.Blackout();
        await _audit.Quiet(cancel);
        return Found([.. await _audit.Check([.. _journal], null, cancel, onItsWay: true), unexpected.Message], null);
    }

    private Result Found(IReadOnlyList<string> complaints, TimeSpan? recovery)
    {
        var points = Ended();
        Say(
            $"{_play.Done.Count} cases, {_journal.Count} answers, {complaints.Count} complaints; ended at "
                + string.Join(", ", points.OrderBy(p => p.Key).Select(p => $"{p.Key} {p.Value}×"))
        );
        return new Result(complaints, _play.Done.Count, _journal.Count, recovery, points);
    }

    private Dictionary<string, int> Ended() =>
        _deployment.Services.Values.SelectMany(s => s.Points).GroupBy(p => p.Key).ToDictionary(g => g.Key, g => g.Sum(p => p.Value));

    // Ends everything, and compares the ledgers and the broker before anything can repair them.
    private async Task<IReadOnlyList<string>> Interrupt(string when, Func<Task> fault, CancellationToken cancel)
    {
        var answered = _journal.ToArray();
        await fault();
        answered = [.. _journal];
        await _deployment.Blackout();
        await _audit.Quiet(cancel);
        var complaints = await _audit.Check(answered, await _audit.Held(cancel), cancel);
        if (complaints.Count > 0)
            return [.. complaints.Select(c => $"{when}: {c}")];
        foreach (var service in _deployment.Services.Values)
            service.Start();
        await _deployment.Ready(cancel);
        return [];
    }

    // One service ends at a named point, something else at a random moment.
    private async Task Round(int round, CancellationToken cancel)
    {
        if (round % Points.Count == 0)
            _random.Shuffle(_order);
        var point = _order[round % Points.Count];
        var service = Deployment.Names[_random.Next(Deployment.Names.Count)];
        var (other, delay) = (_random.Next(6), TimeSpan.FromMilliseconds(_random.Next(100, 2000)));
        var at = KillAt(service, point, _random.Next(1, 8), cancel);
        await Task.Delay(delay, cancel);
        switch (other)
        {
            case < 3:
                Say($"{Deployment.Names[other]} ends after {delay.TotalMilliseconds} ms");
                await _deployment.Services[Deployment.Names[other]].Kill();
                break;
            case 3:
                Say($"the broker ends after {delay.TotalMilliseconds} ms");
                await _deployment.RestartBroker();
                break;
            case 4:
                Say($"the broker stands still for {delay.TotalMilliseconds} ms");
                _deployment.Broker.Freeze();
                await Task.Delay(delay, cancel);
                _deployment.Broker.Thaw();
                break;
            default:
                Say("all services end");
                await Task.WhenAll(_deployment.Services.Values.Select(s => s.Kill()));
                break;
        }
        await at;
    }

    private readonly string[] _order = [.. Points];

    private async Task KillAt(string service, string point, int hits, CancellationToken cancel)
    {
        var process = _deployment.Services[service];
        try
        {
            await process.Arm(point, hits).WaitAsync(TimeSpan.FromSeconds(15), cancel);
            Say($"{service} ended at {point}, hit {hits}");
        }
        catch (TimeoutException)
        {
            Say($"{service} did not come to {point} {hits} times");
            await process.Kill();
        }
    }

    /// <summary>Checks that each service's checkpoint is over its own entries.</summary>
    private async Task<IReadOnlyList<string>> Checkpoints(CancellationToken cancel)
    {
        var complaints = new List<string>();
        foreach (var service in Deployment.Names)
        {
            var checkpoint = await _ministries["kr/mfa"]
                .Read(service, (i, options) => new LedgerService.LedgerServiceClient(i).GetCheckpointAsync(new(), options), cancel);
            if (!(await _audit.Root(service, checkpoint.TreeSize, cancel)).AsSpan().SequenceEqual(checkpoint.RootHash.Span))
                complaints.Add($"{service}: the checkpoint over {checkpoint.TreeSize} entries is not theirs");
        }
        return complaints;
    }

    private void Say(string what) => _say($"{_clock.Elapsed.TotalSeconds, 6:F1} s  {what}");
}
