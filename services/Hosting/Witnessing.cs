using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Globalization;
using System.Net;
using System.Text;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Ministries.Ledger;
using Ministries.Serving;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>How a service asks for cosignatures.</summary>
public sealed record WitnessingOptions
{
    /// <summary>How long it waits from one round to the next: half a second. What is committed meanwhile is covered together.
    /// </summary>
    public TimeSpan Pause { get; init; } = TimeSpan.FromMilliseconds(500);

    /// <summary>The longest wait until a witness that is missing is asked again: 15 seconds. It begins at <see cref="Pause"/> and doubles
    /// each time. The others are not waited for meanwhile. So it is where the ledger cannot be read.</summary>
    public TimeSpan LongestPause { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>How long a witness may take to answer: 5 seconds.</summary>
    public TimeSpan Patience { get; init; } = TimeSpan.FromSeconds(5);
}

/// <summary>
/// Asks the agreement's witnesses for cosignatures on this service's checkpoints (C2SP tlog-witness), in rounds. Each round sends the
/// newest checkpoint to all witnesses at once, so that enough of them cosign the same one, and ends when enough have. A witness that is
/// missing or slow is not waited for. Writes never wait for any of them. Where a witness has a
/// checkpoint that this service's key signed and that contradicts the ledger, the database is not the one that was served before: the
/// process ends with the exit code that refuses such a ledger at the start.
/// </summary>
public sealed partial class Witnessing : SupervisedService
{
    private readonly ServiceLedger _ledger;
    private readonly Agreements _agreements;
    private readonly Credentials _credentials;
    private readonly Lifecycle _life;
    private readonly IHostApplicationLifetime _lifetime;
    private readonly WitnessingOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger<Witnessing> _log;
    private readonly Meter _meter = new(Telemetry.Source);
    private readonly ConcurrentDictionary<Witness, Way> _ways = [];
    private readonly ConcurrentDictionary<string, string> _missing = [];
    private long _waitingSince;
    private bool _saidLate;

    // The connection to a witness. Its state is used only between questions, or by the question itself.
    private sealed class Way(HttpClient client)
    {
        public HttpClient Client => client;

        // The size of the tree that it cosigned last.
        public ulong Size { get; set; }

        // The asking that began last. There is one at a time.
        public Task Asking { get; set; } = Task.CompletedTask;

        // For how long it is left alone since it was missing; zero: it was not.

        public TimeSpan Pause { get; set; }

        public long Missed { get; set; }
    }

    /// <summary>Makes it. The first round is when the host has started.</summary>
    public Witnessing(
        ServiceLedger ledger,
        Agreements agreements,
        Credentials credentials,
        Lifecycle life,
        IHostApplicationLifetime lifetime,
        WitnessingOptions options,
        TimeProvider time,
        ILogger<Witnessing> log
    )
        : base(log)
    {
        (_ledger, _agreements, _credentials, _life, _lifetime) = (ledger, agreements, credentials, life, lifetime);
        (_options, _time, _log) = (options, time, log);
        _meter.CreateObservableGauge(
            "ministries.cosignatures.late",
            () => Late ? 1 : 0,
            description: "1 while an entry has waited longer for the demanded cosignatures than the agreement allows, else 0."
        );
        _meter.CreateObservableGauge(
            "ministries.cosignatures.wait",
            () => WaitingSince is { } since ? (_time.GetUtcNow() - since).TotalSeconds : 0,
            "s",
            "How long the oldest entry without the demanded cosignatures has waited; 0 where none waits."
        );
    }

    /// <summary>Since when an entry waits for the demanded cosignatures; null: none waits, or none are demanded.</summary>
    public DateTimeOffset? WaitingSince =>
        Interlocked.Read(ref _waitingSince) is > 0 and var ticks ? new DateTimeOffset(ticks, TimeSpan.Zero) : null;

    /// <summary>Whether it has waited longer than the agreement allows.</summary>
    public bool Late => WaitingSince is { } since && _time.GetUtcNow() - since > Allowed;

    /// <summary>The witnesses that did not answer, or refused, when they were asked last, by participant.</summary>
    public IReadOnlyCollection<string> Missing => [.. _missing.Keys.Order(StringComparer.Ordinal)];

    private TimeSpan Allowed => TimeSpan.FromSeconds(_agreements.InForce.Permissions.Agreement.CosignatureSeconds);

    /// <inheritdoc/>
    public override void Dispose()
    {
        foreach (var way in _ways.Values)
            way.Client.Dispose();
        _meter.Dispose();
        base.Dispose();
    }

    /// <inheritdoc/>
    protected override async Task Work(CancellationToken stop)
    {
        // A host that is stopped while it starts would not report why.
        var started = new TaskCompletionSource();
        await using (_lifetime.ApplicationStarted.Register(started.SetResult))
            await started.Task.WaitAsync(stop);
        try
        {
            await Rounds(stop);
        }
        finally
        {
            await Task.WhenAll(_ways.Values.Select(w => w.Asking)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            // An earlier failure must not make a new beginning fail.
            foreach (var way in _ways.Values)
                way.Asking = Task.CompletedTask;
        }
    }

    private async Task Rounds(CancellationToken stop)
    {
        var pause = _options.Pause;
        while (true)
        {
            var (agreement, failed) = (_agreements.InForce.Permissions.Agreement, false);
            try
            {
                await Round(agreement, stop);
            }
            catch (LedgerException e)
            {
                failed = true;
                LogNoRound(e.Message);
            }
            SayLate(agreement);
            pause = failed ? Longer(pause) : _options.Pause;
            await Task.Delay(pause, _time, stop);
            // Wait for the next entry or the next version of the agreement, or until a missing witness is to be asked again.
            while (
                !failed
                && _ledger.Size == _asked
                && ReferenceEquals(agreement, _agreements.InForce.Permissions.Agreement)
                && LeftAlone(agreement) is var alone
                && alone > TimeSpan.Zero
            )
            {
                using var look = CancellationTokenSource.CreateLinkedTokenSource(stop);
                look.CancelAfter(alone);
                try
                {
                    await _ledger.WaitForMore(_asked, look.Token);
                }
                catch (OperationCanceledException) when (!stop.IsCancellationRequested) { }
            }
        }
    }

    private TimeSpan Longer(TimeSpan pause) => pause * 2 < _options.LongestPause ? pause * 2 : _options.LongestPause;

    // How long nothing is to be done for a witness that has not cosigned the checkpoint that was asked for last, at most 2 s.
    private TimeSpan LeftAlone(Agreement agreement) =>
        agreement
            .Witnesses.Select(w =>
                _asked == 0 ? TimeSpan.MaxValue
                : !_ways.TryGetValue(w, out var way) ? TimeSpan.Zero
                : !way.Asking.IsCompleted ? _options.Pause
                : way.Size == _asked ? TimeSpan.MaxValue
                : LeftAlone(way)
            )
            .Append(TimeSpan.FromSeconds(2))
            .Min();

    private TimeSpan LeftAlone(Way way) => way.Pause - _time.GetElapsedTime(way.Missed);

    // The size of the tree that was asked for last.
    private ulong _asked;

    /// <summary>Asks every witness once that has not cosigned the newest checkpoint and is neither being asked nor left alone. Returns when
    /// enough have cosigned it, or all have answered that were not missing before.</summary>
    private async Task Round(Agreement agreement, CancellationToken stop)
    {
        var began = _time.GetUtcNow();
        _asked = _ledger.Size;
        if (agreement.Witnesses.Count == 0 || _asked == 0)
        {
            _missing.Clear();
            Interlocked.Exchange(ref _waitingSince, 0);
            return;
        }
        var checkpoint = await _ledger.ReadCheckpoint(stop);
        _asked = checkpoint.Size;
        var demanded = (int)agreement.CosignaturesDemanded;
        if (demanded > 0 && WaitingSince is null && !Covers(_ledger.Cosigned, checkpoint.Size, agreement))
            Interlocked.Exchange(ref _waitingSince, began.UtcTicks);
        foreach (var gone in _missing.Keys.Where(m => agreement.Witnesses.All(w => w.Participant != m)))
            _missing.TryRemove(gone, out _);
        foreach (var (gone, way) in _ways.Where(w => w.Value.Asking.IsCompleted && !agreement.Witnesses.Contains(w.Key)))
        {
            _ways.TryRemove(gone, out _);
            way.Client.Dispose();
        }

        var asked = new AskedCheckpoint(agreement, checkpoint, SignedNote.Read(checkpoint.Text)!);
        var has = Cosigning(checkpoint.Text, agreement);
        var awaited = new List<Task>();
        foreach (var witness in agreement.Witnesses)
        {
            var way = _ways.GetOrAdd(witness.Clone(), w => new Way(Open(w)));
            if (!way.Asking.IsCompleted)
                continue;
            // An unforeseen fault fails here, and the work begins again after a pause.
            await way.Asking;
            if (LeftAlone(way) > TimeSpan.Zero || has.Contains(witness.Participant) && way.Size == checkpoint.Size)
                continue;
            var missing = way.Pause > TimeSpan.Zero;
            way.Asking = AskInTime(witness, way, asked, stop);
            if (!missing)
                awaited.Add(way.Asking);
        }
        while (awaited.Count > 0 && (demanded == 0 || !Covers(_ledger.Cosigned, checkpoint.Size, agreement)))
        {
            var answered = await Task.WhenAny(awaited);
            awaited.Remove(answered);
            await answered;
        }
        if (demanded == 0 || Covers(_ledger.Cosigned, checkpoint.Size, agreement))
        {
            // Entries after the checkpoint came after the round began, so they have waited since then at most.
            Interlocked.Exchange(ref _waitingSince, demanded > 0 && _ledger.Size > checkpoint.Size ? began.UtcTicks : 0);
            if (_saidLate && !Late)
            {
                _saidLate = false;
                LogNotLate(_ledger.Service, checkpoint.Size);
            }
        }
    }

    // A checkpoint that the witnesses are asked to cosign, and the lines of those that have.
    private sealed record AskedCheckpoint(Agreement Agreement, Checkpoint Checkpoint, SignedNote Note)
    {
        public List<string> Kept { get; } = [];
    }

    /// <summary>Asks one witness, and notes whether it is missing.</summary>
    private async Task AskInTime(Witness witness, Way way, AskedCheckpoint asked, CancellationToken stop)
    {
        string? why;
        try
        {
            using var patience = CancellationTokenSource.CreateLinkedTokenSource(stop);
            patience.CancelAfter(_options.Patience);
            why = await Ask(witness, way, asked, patience.Token);
        }
        catch (Exception e)
            when (e is HttpRequestException or IOException || e is OperationCanceledException && !stop.IsCancellationRequested)
        {
            why = e is OperationCanceledException ? "it does not answer in time" : "it cannot be reached";
        }
        catch (Exception e) when (e is LedgerException or NotKeptException)
        {
            // The fault is here, so the witness is not missing.
            (way.Pause, way.Missed) = Missed(way);
            if (e is NotKeptException)
            {
                // It has cosigned, and must be asked again all the same.
                way.Size = 0;
                LogNotKept(_ledger.Service, e.Message);
            }
            else
                LogNoRound(e.Message);
            return;
        }
        (way.Pause, way.Missed) = why is null ? default : Missed(way);
        if (why is null)
            _missing.TryRemove(witness.Participant, out _);
        else if (!_missing.TryGetValue(witness.Participant, out var said) || said != why)
        {
            _missing[witness.Participant] = why;
            LogMissing(_ledger.Service, witness.Participant, why);
        }
    }

    private (TimeSpan Pause, long Missed) Missed(Way way) =>
        (way.Pause > TimeSpan.Zero ? Longer(way.Pause) : _options.Pause, _time.GetTimestamp());

    // The participants whose cosignatures on a checkpoint of this ledger count now.
    private IReadOnlyList<string> Cosigning(string checkpoint, Agreement agreement) =>
        LogKeys.Of(agreement, _ledger.Service).Judge(checkpoint, _time.GetUtcNow()).Cosigners;

    private bool Covers(Checkpoint? cosigned, ulong size, Agreement agreement) =>
        cosigned?.Size >= size && Cosigning(cosigned.Text, agreement).Count >= agreement.CosignaturesDemanded;

    // Keeps a witness's lines as soon as they come, so that a slow witness does not delay the others.
    private void Keep(AskedCheckpoint asked, IReadOnlyList<string> lines)
    {
        lock (asked.Kept)
        {
            asked.Kept.AddRange(lines.Where(l => !asked.Kept.Contains(l)));
            // Earlier cosignatures, of witnesses that are away now, stay unless there is a later one of the same key.
            var heads = asked.Kept.Select(l => l[..l.LastIndexOf(' ')]).ToHashSet();
            var all = asked.Note.Signatures.Select(s => s.Line).Where(l => !heads.Contains(l[..l.LastIndexOf(' ')])).Concat(asked.Kept);
            var text = $"{asked.Note.Text}\n{string.Concat(all)}";
            var count = Cosigning(text, asked.Agreement).Intersect(asked.Agreement.Witnesses.Select(w => w.Participant)).Count();
            try
            {
                _ledger.KeepCosigned(
                    asked.Checkpoint with
                    {
                        Text = text,
                    },
                    count >= Math.Max(1, (int)asked.Agreement.CosignaturesDemanded)
                );
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new NotKeptException(e);
            }
        }
    }

    // The witness has cosigned, and the disk takes no file.
    private sealed class NotKeptException(Exception inner) : Exception(inner.Message, inner);

    /// <summary>Asks one witness. Returns what is wrong; null: nothing.</summary>
    private async Task<string?> Ask(Witness witness, Way way, AskedCheckpoint asked, CancellationToken cancel)
    {
        var (note, size) = (asked.Note, asked.Checkpoint.Size);
        for (var tries = 0; tries < 3; tries++)
        {
            var old = way.Size;
            if (old > size)
            {
                // The witness is asked again next time, because the size that it reported is not trusted for long.
                way.Size = 0;
                return await Behind(way, asked, cancel) switch
                {
                    { Contradicts: { } wrong } => wrong,
                    // Another replica was there first, with a later checkpoint of the same ledger.
                    { Size: var theirs } when theirs > size => null,
                    _ => "it reports a greater checkpoint than it shows",
                };
            }
            var proof = old == 0 || old == size ? [] : (await _ledger.ProveConsistency(old, size, cancel))!.Hashes;
            var body = new StringBuilder($"old {old.ToString(CultureInfo.InvariantCulture)}\n");
            foreach (var hash in proof)
                body.Append(Convert.ToBase64String(hash)).Append('\n');
            body.Append('\n').Append(note);
            using var content = new StringContent(body.ToString());
            using var answer = await way.Client.PostAsync(new Uri("add-checkpoint", UriKind.Relative), content, cancel);
            var text = await WitnessClient.TextOf(answer, cancel);
            switch (answer.StatusCode)
            {
                case HttpStatusCode.OK:
                    var cosigners = Cosigners
                        .KeysOf(asked.Agreement)
                        .Where(k => k.Participant.Id == witness.Participant && RequestSignatures.IsValidAt(k.Key, _time.GetUtcNow()))
                        .Select(k => k.Cosigner)
                        .ToArray();
                    var lines = (SignedNote.ReadLines(text) ?? [])
                        .Where(l => cosigners.Any(c => c.Verify(note, l) is not null))
                        .Select(l => l.Line)
                        .ToArray();
                    if (lines.Length == 0)
                        return "its answer has no cosignature of a key of its own that is valid now";
                    Keep(asked, lines);
                    way.Size = size;
                    return null;
                case HttpStatusCode.Conflict
                    when answer.Content.Headers.ContentType?.MediaType == "text/x.tlog.size"
                        && ulong.TryParse(text.TrimEnd('\n'), NumberStyles.None, CultureInfo.InvariantCulture, out var has)
                        && has != old:
                    way.Size = has;
                    continue;
                default:
                    way.Size = 0;
                    if (
                        answer.StatusCode == HttpStatusCode.UnprocessableEntity
                        && await Behind(way, asked, cancel) is { Contradicts: { } forked }
                    )
                        return forked;
                    return $"it refuses the checkpoint with status {(int)answer.StatusCode}";
            }
        }
        return "it reports another checkpoint each time";
    }

    /// <summary>Reads a witness's checkpoint where the witness has another one than this service. If this service's key signed it and the
    /// ledger contradicts it, the fault is here and not with the witness.</summary>
    /// <returns>The size of that checkpoint, 0 if it does not count, and how the database contradicts it; null: it does not.</returns>
    private async Task<(ulong Size, string? Contradicts)> Behind(Way way, AskedCheckpoint asked, CancellationToken cancel)
    {
        var (status, theirs) = await WitnessClient.GetCheckpoint(way.Client, asked.Note.Origin, cancel);
        if (status != HttpStatusCode.OK)
            return default;
        var judged = LogKeys.Of(asked.Agreement, _ledger.Service).Judge(theirs, _time.GetUtcNow());
        var size = judged is { Counts: true, Tree: { } tree } ? tree.Size : 0;
        if (await _ledger.Contradicts(theirs, cancel) is not { } wrong)
            return (size, null);
        LogContradicted(_ledger.Service, wrong);
        _life.End(ServiceHost.LedgerRefused);
        return (size, wrong);
    }

    private HttpClient Open(Witness witness) =>
        WitnessClient.Open(witness, () => _credentials.Certificate, () => _agreements.InForce.Authorities, _options.Patience, _time);

    private void SayLate(Agreement agreement)
    {
        if (!Late || _saidLate)
            return;
        _saidLate = true;
        LogLate(_ledger.Service, agreement.CosignaturesDemanded, agreement.CosignatureSeconds, string.Join(", ", Missing));
    }

    [LoggerMessage(
        40,
        LogLevel.Warning,
        "cosignatures are late: entries of {Service} do not have {Demanded} cosignatures within {Seconds} s; missing: {Missing}"
    )]
    private partial void LogLate(string service, uint demanded, uint seconds, string missing);

    [LoggerMessage(41, LogLevel.Information, "cosignatures are no longer late: the first {Size} entries of {Service} are cosigned")]
    private partial void LogNotLate(string service, ulong size);

    [LoggerMessage(42, LogLevel.Warning, "the witness {Participant} did not cosign the log of {Service}: {Why}")]
    private partial void LogMissing(string service, string participant, string why);

    [LoggerMessage(43, LogLevel.Warning, "no witness could be asked for a cosignature: {Why}")]
    private partial void LogNoRound(string why);

    [LoggerMessage(45, LogLevel.Error, "cosignatures of the log of {Service} cannot be kept: {Why}")]
    private partial void LogNotKept(string service, string why);

    [LoggerMessage(44, LogLevel.Critical, "{Service} must not be served from this database: a witness shows that {Why}")]
    private partial void LogContradicted(string service, string why);
}
