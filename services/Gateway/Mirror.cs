using System.Threading.Channels;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Microsoft.Extensions.Logging;
using Ministries.Ledger.V1;
using Ministries.Serving;
using Ministries.Trust;

namespace Ministries.Gateway;

/// <summary>How far the mirror of one ledger has come.</summary>
/// <param name="Service">The service.</param>
/// <param name="NextPosition">The position from which it goes on: everything before it that is for the participant is in the
/// mirror.</param>
/// <param name="TreeSize">The size of the greatest tree that was verified.</param>
/// <param name="CosignedSize">The size of the greatest cosigned tree that was verified; zero: none.</param>
/// <param name="CheckTime">When the mirror last had all that the service showed, and the log was right; null: never.</param>
/// <param name="Alarm">Why it has stopped; empty: it goes on.</param>
/// <param name="AlarmTime">When it stopped.</param>
internal sealed record MirrorProgress(
    string Service,
    ulong NextPosition,
    ulong TreeSize,
    ulong CosignedSize,
    DateTimeOffset? CheckTime,
    string Alarm,
    DateTimeOffset? AlarmTime
);

/// <summary>
/// The participant's own copy of all that it may see. It follows the three ledgers. Each entry is verified before it counts: its parts, its
/// signature, its place in the tree that the service signed, that this tree extends all trees seen before and those of the witnesses, and
/// that no number of the participant's own is missing. After each entry the records that it names are read, and kept as they were seen
/// then.
/// </summary>
/// <remarks>What is wrong stops the mirror of that ledger for good, with an alarm: an administrator must find out who lied, and then remove
/// <c>mirror.db</c>, and the tables if they are in PostgreSQL. Nothing of it is lost that the services do not show again, except how
/// records were seen earlier. Personal data are kept sealed, and opened only to answer.</remarks>
internal sealed partial class Mirror : SupervisedService
{
    private const int Most = 128,
        ListsAtOnce = 4;
    private static readonly TimeSpan BetweenChecks = TimeSpan.FromSeconds(15),
        BetweenWitnesses = TimeSpan.FromMinutes(1),
        Pause = TimeSpan.FromSeconds(1),
        // Entries that come together are verified together, because each look at the log costs a handshake.
        Gathering = TimeSpan.FromMilliseconds(50);

    private readonly MinistryClient _client;
    private readonly TimeProvider _time;
    private readonly ILogger<Mirror> _log;
    private volatile TaskCompletionSource _grown = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private readonly Lock _telling = new();
    private (string? Numbering, long LastEvent) _told;

    private readonly SemaphoreSlim _lists = new(ListsAtOnce);

    private volatile bool _away;

    /// <summary>Opens what it keeps.</summary>
    /// <exception cref="FormatException">The setting <c>mirror.connection</c> is wrong, or its database is not for this
    /// gateway.</exception>
    /// <exception cref="IOException">The state folder cannot be written.</exception>
    public Mirror(GatewaySettings settings, MinistryClient client, TimeProvider time, ILogger<Mirror> log)
        : base(log)
    {
        (_client, _time, _log) = (client, time, log);
        Store = new MirrorStore(settings, time);
        if (Store.TimesPutBack > 0)
            LogPutBack(_log);
    }

    /// <summary>What it keeps.</summary>
    public MirrorStore Store { get; }

    /// <summary>Ends when there are entries that were not there when it was asked for.</summary>
    public Task Grown => _grown.Task;

    /// <summary>How far each ledger's mirror has come.</summary>
    public IReadOnlyList<MirrorProgress> Progress => [.. _client.Services.Order(StringComparer.Ordinal).Select(Store.ProgressOf)];

    /// <summary>Reads a record, or a list of records, as it was seen.</summary>
    /// <param name="service">The service.</param>
    /// <param name="method">The RPC that would read it there.</param>
    /// <param name="request">Its request.</param>
    /// <param name="asOf">As it was known then; null: as it was seen last.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="GatewayRefusedException">It is not in the mirror, or the mirror has stopped.</exception>
    public Task<Reading> Read(string service, MethodDescriptor method, IMessage request, DateTimeOffset? asOf, CancellationToken cancel)
    {
        var progress = Store.ProgressOf(service);
        if (progress.Alarm.Length > 0 && (asOf is null || asOf >= progress.AlarmTime))
            throw new GatewayRefusedException(GatewayReason.MirrorStopped, $"the mirror of {service} has stopped: {progress.Alarm}");
        var time = asOf ?? DateTimeOffset.MaxValue;
        return FromStore(async () =>
        {
            var read = method.Name.StartsWith("Get", StringComparison.Ordinal)
                ? await Store.Record(Contract.NameOf(method), request.ToByteArray(), time, cancel)
                : await List(service, method, request, time, cancel);
            return read is { Bytes: { } bytes }
                ? new Reading(method.OutputType.Parser.ParseFrom(bytes), read.SeenTime, progress.CheckTime)
                : throw new GatewayRefusedException(
                    GatewayReason.NotInMirror,
                    asOf is null ? "the mirror has no copy of it" : "the mirror had no copy of it then"
                );
        });
    }

    // A page may have many megabytes, so only a few are made at a time.
    private async Task<StoredRecord> List(
        string service,
        MethodDescriptor method,
        IMessage request,
        DateTimeOffset time,
        CancellationToken cancel
    )
    {
        await _lists.WaitAsync(cancel);
        try
        {
            return await Lists.Read(Store, service, method, request, time, cancel);
        }
        finally
        {
            _lists.Release();
        }
    }

    /// <summary>Events in their order; see <see cref="MirrorStore.Events"/>.</summary>
    /// <exception cref="GatewayRefusedException">They cannot be read now, or are numbered anew.</exception>
    public Task<IReadOnlyList<MirroredEvent>> Events(string numbering, long after, int most, CancellationToken cancel) =>
        FromStore(() => Store.Events(numbering, after, most, cancel));

    /// <summary>An event by its id; null: it is not there.</summary>
    /// <exception cref="GatewayRefusedException">It cannot be read now.</exception>
    public Task<MirroredEvent?> Find(string id, CancellationToken cancel) => FromStore(() => Store.Find(id, cancel));

    /// <summary>The entry at a position, which was verified before it was kept; null: it is not kept, or cannot be read now.</summary>
    public async Task<LedgerEntry?> EntryAt(string service, ulong position, CancellationToken cancel)
    {
        try
        {
            return await FromStore(() => Store.EntryAt(service, position, cancel));
        }
        catch (GatewayRefusedException)
        {
            return null;
        }
    }

    /// <summary>How its events are numbered now.</summary>
    /// <exception cref="GatewayRefusedException">Nobody knows, because the database has not been reached yet.</exception>
    public MirrorHead Head => Store.Head ?? throw Unreachable();

    // If another program changed the copy, nothing of it is shown, because nobody can tell what is missing.
    private async Task<T> FromStore<T>(Func<Task<T>> read)
    {
        if (Store.WholeAlarm is { } alarm)
            throw new GatewayRefusedException(GatewayReason.MirrorStopped, $"the mirror has stopped: {alarm.Why}");
        try
        {
            return await read();
        }
        catch (MirrorChangedException e)
        {
            await Alarm("", e.Message);
            throw new GatewayRefusedException(GatewayReason.MirrorStopped, $"the mirror has stopped: {e.Message}");
        }
        catch (Exception e) when (MirrorStore.IsOutage(e))
        {
            throw Unreachable();
        }
    }

    private GatewayRefusedException Unreachable()
    {
        var checks = Progress.Where(p => p.CheckTime is not null).Select(p => p.CheckTime!.Value).ToList();
        var known = checks.Count == 0 ? "it is not known what it has" : $"it was complete at {JsonEndpoints.Time(checks.Min())}";
        return new GatewayRefusedException(GatewayReason.MirrorUnreachable, $"the mirror's database is not reached; {known}");
    }

    /// <inheritdoc/>
    protected override Task Work(CancellationToken stop) =>
        Together(
            _client.Services.Select<string, Func<CancellationToken, Task>>(service =>
                cancel => Task.Run(() => Follow(service, cancel), CancellationToken.None)
            ),
            stop
        );

    /// <inheritdoc/>
    public override void Dispose()
    {
        base.Dispose();
        Store.Dispose();
    }

    private async Task Follow(string service, CancellationToken cancel)
    {
        while (!cancel.IsCancellationRequested)
            try
            {
                var progress = Store.ProgressOf(service);
                if (progress.Alarm.Length > 0)
                {
                    LogAlarm(_log, service, progress.Alarm);
                    return;
                }
                var opening = await Opened(cancel);
                await Follow(service, opening, Store.ProgressOf(service).NextPosition, cancel);
            }
            catch (OperationCanceledException) when (cancel.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
                when (e is InvalidLogException { Break: not LogBreak.NotShown } or InvalidEntryException or EntryMissingException)
            {
                await Alarm(service, e.Message);
                return;
            }
            catch (MirrorChangedException e)
            {
                await Alarm("", e.Message);
                return;
            }
            catch (Exception e)
            {
                // The service or the database is not reached, or the disk is full: it is tried again.
                if (!_away)
                    LogAgain(_log, service, e.Message);
                await Task.Delay(Pause, _time, cancel).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
    }

    // Said once, not by each ledger's mirror at each attempt.
    private async Task<long> Opened(CancellationToken cancel)
    {
        try
        {
            var put = Store.TimesPutBack;
            var opening = await Store.Open(cancel);
            // A commit whose answer was lost is noticed here.
            WakeReaders();
            if (Store.TimesPutBack > put)
                LogPutBack(_log);
            if (_away)
                LogBack(_log);
            _away = false;
            return opening;
        }
        catch (Exception e) when (MirrorStore.IsOutage(e))
        {
            if (!_away)
                LogAway(_log, e.Message);
            _away = true;
            throw;
        }
    }

    private async Task Alarm(string service, string why)
    {
        LogAlarm(_log, service.Length > 0 ? service : "all services", why);
        try
        {
            await Store.Stop(service, why);
        }
        catch (Exception e)
        {
            // It has stopped all the same. After a restart it finds the same again.
            LogAlarm(_log, service, MirrorStore.IsOutage(e) ? e.Message : e.GetType().Name);
        }
    }

    private async Task Follow(string service, long opening, ulong from, CancellationToken cancel)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var channel = Channel.CreateBounded<FollowEntriesResponse>(Most);
        // Reading runs ahead of storing.
        var (ahead, kept) = (await Store.Numbers(service, cancel), await Store.Numbers(service, cancel));
        var reading = ReadInto(channel.Writer, service, from, ahead, end.Token);
        var witnesses = DateTimeOffset.MinValue;
        var batch = new List<FollowEntriesResponse>();
        try
        {
            while (true)
            {
                var came = await Came(channel.Reader, end.Token);
                if (came is false)
                    break;
                if (came is true)
                    await Task.Delay(Gathering, _time, end.Token);
                batch.Clear();
                while (batch.Count < Most && channel.Reader.TryRead(out var response))
                    batch.Add(response);
                var now = _time.GetUtcNow();
                var ask = now - witnesses >= BetweenWitnesses;
                if (ask)
                    witnesses = now;
                await Take(service, opening, batch, kept, ask, end.Token);
            }
            await reading;
        }
        finally
        {
            await end.CancelAsync();
            await reading.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    // True: something came; null: nothing, and it is time to look at the log; false: nothing more comes.
    private async Task<bool?> Came(ChannelReader<FollowEntriesResponse> reader, CancellationToken cancel)
    {
        var waiting = reader.WaitToReadAsync(cancel).AsTask();
        var first = await Task.WhenAny(waiting, Task.Delay(BetweenChecks, _time, cancel));
        cancel.ThrowIfCancellationRequested();
        return first == waiting ? await waiting : null;
    }

    private async Task ReadInto(
        ChannelWriter<FollowEntriesResponse> writer,
        string service,
        ulong from,
        Completeness complete,
        CancellationToken cancel
    )
    {
        try
        {
            await foreach (var response in _client.Follow(service, from, "", untilNow: false, complete, cancel))
                await writer.WriteAsync(response, cancel);
            writer.Complete();
        }
        catch (Exception e)
        {
            writer.Complete(e);
        }
    }

    private async Task Take(
        string service,
        long opening,
        List<FollowEntriesResponse> batch,
        Completeness kept,
        bool witnesses,
        CancellationToken cancel
    )
    {
        var entries = batch.Where(r => r.Entry is not null).Select(r => r.Entry).ToList();
        var audit = await _client.Verify(service, entries, witnesses, cancel);
        var check = _time.GetUtcNow();
        var next = batch.Count > 0 ? batch[^1].NextPosition : (ulong?)null;
        var last = Store.ProgressOf(service).NextPosition;
        var read = new List<MirroredEntry>();
        var records = new Dictionary<string, SeenRecord>();
        foreach (var entry in entries)
        {
            var ledger = LedgerEntry.Read(entry);
            // Entries of a case from before the participant was admitted come late, and once.
            if (ledger.Header.Position < last && await Store.Has(service, ledger.Header.Position, cancel))
                throw new InvalidEntryException(service, $"entry {ledger.Header.Position} was shown again after {last - 1}");
            last = Math.Max(last, ledger.Header.Position + 1);
            // The reader has already checked that no entry before this one is missing.
            kept.GoOnFrom(ledger.Header, entry.Audience);
            read.Add(new MirroredEntry(entry, ledger));
            foreach (var id in IdsIn(ledger))
                if (RecordReference.Of(id, ledger.Case) is { } record && record.Service == service)
                    records[id] = new SeenRecord(record, ledger.Header.Position, await See(record, cancel));
        }
        var progress = new MirrorProgress(
            service,
            next ?? Store.ProgressOf(service).NextPosition,
            audit.Checkpoint.Size,
            audit.Cosigned?.Size ?? 0,
            check,
            "",
            null
        );
        try
        {
            // Until the last record was read, the set was incomplete, so all get this time.
            await Store.Add(opening, read, [.. records.Values], kept, progress, _time.GetUtcNow(), cancel);
        }
        finally
        {
            // The commit may have taken place although the call failed.
            WakeReaders();
        }
    }

    // Wakes the waiting readers once for each new event, however the event became known.
    private void WakeReaders()
    {
        lock (_telling)
        {
            var known = (Store.Head?.Numbering, Store.LastEvent);
            if (known == _told)
                return;
            _told = known;
        }
        Interlocked.Exchange(ref _grown, new(TaskCreationOptions.RunContinuationsAsynchronously)).TrySetResult();
    }

    private static IEnumerable<string> IdsIn(LedgerEntry entry) =>
        entry
            .Published.Select(e => e.Event)
            .Concat(entry.Parts.Select(p => p.Content is Answer { Response: { } any } ? ReadPart.ResponseIn(any) : p.Content))
            .OfType<IMessage>()
            .SelectMany(RecordReference.IdsIn)
            .Append(entry.Case)
            .Distinct();

    // null: the participant may not see it, or no longer.
    private async Task<byte[]?> See(RecordReference record, CancellationToken cancel)
    {
        try
        {
            return (await _client.Call(record.Service, record.Get, record.Request, cancel)).ToByteArray();
        }
        catch (RefusedException e) when (e.StatusCode is StatusCode.NotFound or StatusCode.PermissionDenied or StatusCode.InvalidArgument)
        {
            return null;
        }
    }

    [LoggerMessage(1, LogLevel.Critical, "The mirror of {Service} has stopped: {Why}")]
    private static partial void LogAlarm(ILogger log, string service, string why);

    [LoggerMessage(3, LogLevel.Error, "The mirror's database cannot be used, and is tried again: {Why}")]
    private static partial void LogAway(ILogger log, string why);

    [LoggerMessage(4, LogLevel.Information, "The mirror's database is there again")]
    private static partial void LogBack(ILogger log);

    [LoggerMessage(5, LogLevel.Error, "The mirror's database was put back to an earlier state: the ledgers are followed again from there")]
    private static partial void LogPutBack(ILogger log);

    [LoggerMessage(2, LogLevel.Warning, "The mirror of {Service} has paused and will continue by itself: {Why}")]
    private static partial void LogAgain(ILogger log, string service, string why);
}
