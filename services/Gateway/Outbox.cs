using System.Collections.Concurrent;
using System.Data.Common;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging;
using Ministries.Errors.V1;
using Ministries.Ledger.V1;
using Ministries.Serving;
using Ministries.Trust;

namespace Ministries.Gateway;

/// <summary>What became of a write.</summary>
public enum OutboxState
{
    /// <summary>The service has not answered yet. It is sent until it does.</summary>
    Waiting,

    /// <summary>The service accepted it, with a receipt that was verified.</summary>
    Answered,

    /// <summary>The service refused it.</summary>
    Refused,

    /// <summary>The service's answer proves nothing: its receipt or its log is wrong, or the service failed
    /// <see cref="Outbox.MostFailures"/> times. It is not known whether the write is recorded. If the caller repeats the request to the
    /// gateway, the same bytes are sent again, and the answer decides. This state also covers a refusal that the service may have given
    /// before it looked up its earlier, lost answer.</summary>
    Unproved,
}

/// <summary>A write in the outbox.</summary>
/// <param name="RequestId">Its request id.</param>
/// <param name="Service">The service to which it goes.</param>
/// <param name="Method">The method's full name.</param>
/// <param name="Bytes">The request as it is sent: complete, with personal data sealed.</param>
/// <param name="Digest">The keyed digest of what the caller sent.</param>
/// <param name="Caller">Who sent it.</param>
/// <param name="Trace">The caller's W3C traceparent; empty: none.</param>
/// <param name="AcceptTime">When it was put on the disk.</param>
internal sealed record OutboxItem(
    string RequestId,
    string Service,
    string Method,
    byte[] Bytes,
    byte[] Digest,
    string Caller,
    string Trace,
    DateTimeOffset AcceptTime
);

/// <summary>How far a write has come.</summary>
/// <param name="Item">The write.</param>
/// <param name="State">What became of it.</param>
/// <param name="Answer">The answer with its receipt; the refusal's <c>google.rpc.Status</c>; why it is unproved, in UTF-8.</param>
/// <param name="EndTime">When the answer came.</param>
/// <param name="Code">Of a refusal, its gRPC status.</param>
internal sealed record OutboxStatus(
    OutboxItem Item,
    OutboxState State,
    byte[] Answer,
    DateTimeOffset? EndTime,
    StatusCode Code = StatusCode.OK
)
{
    /// <summary>The answer.</summary>
    public IMessage Response => Contract.Find(Item.Method)!.OutputType.Parser.ParseFrom(Answer);

    /// <summary>The refusal, as the service made it.</summary>
    public RpcException Refusal
    {
        get
        {
            var bare = new RpcException(new Status(Code, ""), new Metadata { { "grpc-status-details-bin", Answer } });
            return RefusedException.From(bare) ?? bare;
        }
    }

    /// <summary>Whether it was refused for what its caller can mend: then the same request id may bring it again, mended or not
    /// (D21). A reason that this version does not know is final.</summary>
    public bool IsMendable =>
        State == OutboxState.Refused
        && Refusal is RefusedException refused
        && Reasons.Find(refused.Reason) is { } reason and not Reason.Unspecified
        && !Reasons.IsKept(reason);

    /// <summary>Whether a request with the same id may be sent again, so that this state is not final.</summary>
    public bool MayComeAgain => State == OutboxState.Unproved || IsMendable;
}

/// <summary>
/// The writes that the gateway has accepted. Each is on the disk before it is sent, sealed and complete, and is sent with the same bytes
/// and the same request id until the service has answered. So neither a crash of the gateway nor one of the service loses it or makes it
/// twice (D21). It is signed at each sending, because a signature is valid for two minutes. A refusal of the gateway itself, of its
/// certificate or its signature (UNAUTHENTICATED), decides nothing about a write: it waits until that is mended.
/// </summary>
internal sealed partial class Outbox : SupervisedService
{
    private const string Schema = """
        create table if not exists writes (
          request_id text primary key, service text not null, method text not null, bytes blob not null, digest blob not null,
          caller text not null, trace text not null, accept_time integer not null,
          state integer not null default 0, answer blob, code integer not null default 0, end_time integer
        ) without rowid;
        create index if not exists waiting on writes (accept_time) where state = 0;
        create index if not exists ended on writes (end_time) where state <> 0;
        """;

    private const string Columns = "request_id, service, method, bytes, digest, caller, trace, accept_time, state, answer, code, end_time";

    /// <summary>How often a write is sent to a service that fails (INTERNAL), about two minutes long, before that is its outcome.</summary>
    public const int MostFailures = 10;

    private const string NotProved = "SERVICE_NOT_PROVED",
        NotShown = "LOG_NOT_SHOWN";

    private static readonly string Failed = $"failed {MostFailures} times: whether it recorded the write is not known. {Again}";

    private const string Again = "Once the service takes it, send the same request again to learn it";

    // To one service.
    private const int AtOnce = 64;
    private static readonly TimeSpan Shortest = TimeSpan.FromMilliseconds(200),
        Longest = TimeSpan.FromSeconds(30);

    private readonly ConcurrentDictionary<string, Pending> _waiting = [];

    // Each service has its own, so that one that is silent keeps none of what the others are sent.
    private readonly ConcurrentDictionary<string, SemaphoreSlim> _places = [];
    private readonly Hindrances _hindrances = new();
    private readonly CancellationTokenSource _end = new();
    private readonly Database _database;
    private readonly MinistryClient _client;
    private readonly GatewaySettings _settings;
    private readonly TimeProvider _time;
    private readonly ILogger<Outbox> _log;
    private long _bytes;

    private sealed record Pending(byte[] Digest)
    {
        private bool _begun;

        /// <summary>Whether nobody has begun to send it yet. It is asked once.</summary>
        public bool Begin() => !Interlocked.Exchange(ref _begun, true);

        /// <summary>Whether an earlier attempt may have recorded the write: its answer was lost, or proved nothing.</summary>
        public bool MayBeRecorded { get; set; }

        public TaskCompletionSource<OutboxStatus> Ended { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    public Outbox(GatewaySettings settings, MinistryClient client, TimeProvider time, ILogger<Outbox> log)
        : base(log)
    {
        (_settings, _client, _time, _log) = (settings, client, time, log);
        _database = new Database(Path.Combine(settings.State, "outbox.db"), Schema);
        foreach (
            var (id, digest) in _database.Read(c =>
                Database.Rows(c, r => (r.GetString(0), (byte[])r[1]), "select request_id, digest from writes where state = 0")
            )
        )
            // An earlier run may have sent it.
            _waiting[id] = new Pending(digest) { MayBeRecorded = true };
        _bytes = _database.Read(c => (long)Database.Scalar(c, "select coalesce(sum(length(bytes)), 0) from writes where state = 0")!);
    }

    /// <summary>How many writes wait for an answer.</summary>
    public int PendingCount => _waiting.Count;

    /// <summary>How many bytes of writes wait.</summary>
    public long PendingBytes => Volatile.Read(ref _bytes);

    /// <summary>Since when the oldest has waited; null: none waits.</summary>
    public DateTimeOffset? PendingSince =>
        _database.Read(c => Database.Scalar(c, "select min(accept_time) from writes where state = 0") as long?) is { } time
            ? Database.Time(time)
            : null;

    /// <summary>The faults that somebody must mend before the writes are sent.</summary>
    public IReadOnlyList<Hindrance> Hindrances => _hindrances.All;

    /// <summary>The fault that holds up a write; null: there is none.</summary>
    public string? HindranceOf(string requestId) => _hindrances.ReasonOf(requestId);

    /// <summary>A write's status; null: the write is not known.</summary>
    public OutboxStatus? Find(string requestId) =>
        _database.Read(c => Database.Rows(c, Status, $"select {Columns} from writes where request_id = @0", requestId)).FirstOrDefault();

    /// <summary>Puts a write on the disk and begins to send it. If the request id is there already, nothing is written, unless the earlier
    /// write was refused and can be mended: then the new write replaces it.</summary>
    /// <returns>The write that is there now.</returns>
    /// <exception cref="GatewayRefusedException">No more writes or bytes may wait, or the disk is full.</exception>
    public async Task<OutboxItem> Add(OutboxItem item)
    {
        if (await Begin(item, mayBeRecorded: false, c => Insert(c, item)))
            return item;
        // The disk may still hold the refused write that the first request is about to replace.
        return _waiting.TryGetValue(item.RequestId, out var first)
            ? item with
            {
                Digest = first.Digest,
            }
            : Find(item.RequestId)?.Item ?? item;
    }

    /// <summary>Begins to send an unproved write again, with the bytes that are on the disk. A service that recorded it gives its old
    /// answer; otherwise the service records it now. The write's waiting time begins anew. Nothing happens if the write is no longer
    /// unproved.</summary>
    /// <exception cref="GatewayRefusedException">No more writes or bytes may wait, or the disk is full.</exception>
    public async Task Resume(OutboxItem item)
    {
        item = item with { AcceptTime = _time.GetUtcNow() };
        await Begin(
            item,
            mayBeRecorded: true,
            c =>
                Database.Run(
                    c,
                    "update writes set state = 0, answer = null, code = 0, end_time = null, accept_time = @2 "
                        + "where request_id = @0 and state = @1",
                    item.RequestId,
                    (int)OutboxState.Unproved,
                    Database.Stored(item.AcceptTime)
                ) == 1
        );
    }

    // Returns false if nothing was written, because the write waits already or the disk holds another state of it.
    private async Task<bool> Begin(OutboxItem item, bool mayBeRecorded, Func<SqliteConnection, bool> write)
    {
        Reserve(item);
        var pending = new Pending(item.Digest) { MayBeRecorded = mayBeRecorded };
        pending.Begin();
        var mine = _waiting.TryAdd(item.RequestId, pending);
        var begun = false;
        try
        {
            begun = mine && await _database.Write(write);
        }
        catch (SqliteException e)
        {
            LogNotWritten(_log, e.Message);
            var full = new GatewayRefusedException(GatewayReason.OutboxDiskFull, "the outbox cannot be written to the disk");
            pending.Ended.TrySetException(full);
            throw full;
        }
        finally
        {
            if (!begun)
                Release(item, mine ? pending : null);
        }
        if (begun)
            _ = Send(item, pending);
        return begun;
    }

    /// <summary>Waits until a write is answered.</summary>
    /// <returns>What became of it: <see cref="OutboxState.Waiting"/> if nothing did in the time that the settings give.</returns>
    public async Task<OutboxStatus> Wait(OutboxItem item, CancellationToken cancel)
    {
        if (_waiting.TryGetValue(item.RequestId, out var pending))
            try
            {
                return await pending.Ended.Task.WaitAsync(TimeSpan.FromSeconds(_settings.AnswerSeconds), _time, cancel);
            }
            catch (TimeoutException)
            {
                return new OutboxStatus(item, OutboxState.Waiting, [], null);
            }
        return Find(item.RequestId) ?? new OutboxStatus(item, OutboxState.Waiting, [], null);
    }

    /// <inheritdoc/>
    protected override async Task Work(CancellationToken stop)
    {
        var left = _database.Read(c => Database.Rows(c, Status, $"select {Columns} from writes where state = 0 order by accept_time"));
        foreach (var status in left)
            if (_waiting.TryGetValue(status.Item.RequestId, out var pending) && pending.Begin())
                _ = Task.Run(() => Send(status.Item, pending), CancellationToken.None);
        while (!stop.IsCancellationRequested)
        {
            await Forget(Database.Stored(_time.GetUtcNow().AddDays(-_settings.AnswerDays)));
            await Task.Delay(TimeSpan.FromMinutes(10), _time, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <inheritdoc/>
    public override async Task StopAsync(CancellationToken cancellationToken)
    {
        await _end.CancelAsync();
        await base.StopAsync(cancellationToken);
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        // The container disposes of a hosted service twice. Those who send end by the token, and may still look at it.
        _end.Cancel();
        base.Dispose();
        _database.Dispose();
    }

    private void Reserve(OutboxItem item)
    {
        if (_waiting.Count >= _settings.OutboxRequests)
            throw new GatewayRefusedException(GatewayReason.OutboxFull, $"{_settings.OutboxRequests} writes wait for their services");
        if (Interlocked.Add(ref _bytes, item.Bytes.Length) <= _settings.OutboxBytes)
            return;
        Interlocked.Add(ref _bytes, -item.Bytes.Length);
        throw new GatewayRefusedException(GatewayReason.OutboxFull, $"{_settings.OutboxBytes} bytes of writes wait for their services");
    }

    // Frees the place of a write that will not be sent. `mine` is the pending write that this request added; null: another request's
    // pending write is there. Requests that found it meanwhile wait for it, so they get the state that is on the disk.
    private void Release(OutboxItem item, Pending? mine)
    {
        Interlocked.Add(ref _bytes, -item.Bytes.Length);
        if (mine is null)
            return;
        _waiting.TryRemove(item.RequestId, out _);
        try
        {
            mine.Ended.TrySetResult(Find(item.RequestId) ?? new OutboxStatus(item, OutboxState.Waiting, [], null));
        }
        catch (SqliteException e)
        {
            mine.Ended.TrySetException(e);
        }
    }

    private static bool Insert(SqliteConnection c, OutboxItem item)
    {
        var known = Database.Rows(c, Status, $"select {Columns} from writes where request_id = @0", item.RequestId);
        if (known is [{ IsMendable: true }])
            Database.Run(c, "delete from writes where request_id = @0", item.RequestId);
        return Database.Run(
                c,
                "insert into writes (request_id, service, method, bytes, digest, caller, trace, accept_time) "
                    + "values (@0, @1, @2, @3, @4, @5, @6, @7) on conflict do nothing",
                item.RequestId,
                item.Service,
                item.Method,
                item.Bytes,
                item.Digest,
                item.Caller,
                item.Trace,
                Database.Stored(item.AcceptTime)
            ) == 1;
    }

    private static OutboxStatus Status(DbDataReader r) =>
        new(
            new OutboxItem(
                r.GetString(0),
                r.GetString(1),
                r.GetString(2),
                (byte[])r[3],
                (byte[])r[4],
                r.GetString(5),
                r.GetString(6),
                Database.Time(r.GetInt64(7))
            ),
            (OutboxState)r.GetInt32(8),
            r.IsDBNull(9) ? [] : (byte[])r[9],
            r.IsDBNull(11) ? null : Database.Time(r.GetInt64(11)),
            (StatusCode)r.GetInt32(10)
        );

    private async Task Forget(long until)
    {
        try
        {
            await _database.Write(c =>
                Database.Run(
                    c,
                    "delete from writes where request_id in (select request_id from writes where state <> 0 and end_time < @0 limit 10000)",
                    until
                )
            );
        }
        catch (SqliteException e)
        {
            // Even deleting needs disk space. Waiting writes are sent all the same.
            LogNotWritten(_log, e.Message);
        }
    }

    private async Task Send(OutboxItem item, Pending pending)
    {
        using var span = Telemetry.Outbox(_settings, item);
        var places = _places.GetOrAdd(item.Service, _ => new SemaphoreSlim(AtOnce));
        try
        {
            var (attempt, failures) = (0, 0);
            for (var pause = Shortest; ; pause = pause * 2 < Longest ? pause * 2 : Longest)
            {
                span.SetTag("ministries.attempt", ++attempt);
                await places.WaitAsync(_end.Token);
                OutboxStatus? status;
                try
                {
                    status = await Try(item, pending);
                }
                catch (RpcException e)
                {
                    pending.MayBeRecorded = true;
                    _hindrances.Remove(item.RequestId, NotProved);
                    LogAgain(_log, item.Service, item.RequestId, e.StatusCode);
                    status = ++failures < MostFailures ? null : Unproved(item, $"{item.Service} {Failed}");
                }
                catch (Exception e) when (!_end.IsCancellationRequested)
                {
                    // Nobody foresaw it. Its text may tell of a record.
                    pending.MayBeRecorded = true;
                    Hinder(item, e.GetType().Name, "see the gateway's log, and tell its maker");
                    status = null;
                }
                finally
                {
                    places.Release();
                }
                if (status is not null)
                {
                    End(status);
                    return;
                }
                await Task.Delay(pause * (0.75 + Random.Shared.NextDouble() / 2), _time, _end.Token);
            }
        }
        catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException)
        {
            // It is sent at the next start.
        }
    }

    /// <returns>null: it is sent again.</returns>
    /// <exception cref="RpcException">The service failed (INTERNAL): whether it recorded the write is not known.</exception>
    private async Task<OutboxStatus?> Try(OutboxItem item, Pending pending)
    {
        if (!_client.Services.Contains(item.Service))
            return Hinder(item, "ADDRESS_NOT_SET", $"put the address of {item.Service} into the settings again");
        if (Contract.Find(item.Method) is not { } method)
            return Hinder(item, "METHOD_UNKNOWN", $"run a version that knows {item.Method}");
        try
        {
            var answer = await Call(item, method, pending);
            return new OutboxStatus(item, OutboxState.Answered, answer.ToByteArray(), _time.GetUtcNow());
        }
        catch (RpcException e) when (e.Status.DebugException is { } fault && ServiceChannel.IsUnproved(fault))
        {
            return Hinder(
                item,
                NotProved,
                $"check the address of {item.Service}, the certificate that is shown there, and that the agreement here is the one in force"
            );
        }
        catch (RpcException e) when (e.StatusCode == StatusCode.Unauthenticated)
        {
            return NotAccepted(item, e);
        }
        catch (RpcException e) when (e.StatusCode == StatusCode.Unimplemented)
        {
            return Hinder(
                item,
                "METHOD_NOT_SERVED",
                $"{item.Service} runs an earlier version, without {item.Method}: have it brought up to date"
            );
        }
        catch (RpcException e)
            when (RefusedException.From(e) is { } refused
                && refused.StatusCode is not (StatusCode.Unavailable or StatusCode.DeadlineExceeded or StatusCode.Internal)
                && refused.RetryAfter is null
            )
        {
            // A refusal that passes names the time after which to try again. A full record is a decision, although it is RESOURCE_EXHAUSTED
            // too.
            return pending.MayBeRecorded && !refused.IsLastWord
                ? Unproved(item, $"{item.Service} refuses it now ({NameOf(refused)}), and may have recorded it before. {Again}")
                : Refused(item, e);
        }
        // The library calls it INTERNAL too where a connection ended before the service had answered.
        catch (RpcException e)
            when (e.StatusCode != StatusCode.Internal || e.Status.DebugException is { } fault && ServiceChannel.IsLost(fault))
        {
            // While the service is away, nobody knows whether it still refuses the gateway. But nobody else answers in its place any more.
            _hindrances.Remove(item.RequestId, RefusedException.From(e) is null ? NotProved : null);
            // If there was never a connection, nothing was sent.
            pending.MayBeRecorded |= _client.HasConnected(item.Service);
            LogAgain(_log, item.Service, item.RequestId, e.StatusCode);
            return null;
        }
        catch (InvalidLogException e) when (e.Break == LogBreak.NotShown)
        {
            return Hidden(item, pending, e);
        }
        catch (Exception e) when (e is InvalidReceiptException or InvalidLogException)
        {
            return Unproved(item, e.Message);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The checkpoint of the answer cannot be kept, as on a full disk, so the answer does not count yet. The service gives it again.
            pending.MayBeRecorded = true;
            _hindrances.Remove(item.RequestId);
            LogNotWritten(_log, e.Message);
            return null;
        }
    }

    private OutboxStatus? NotAccepted(OutboxItem item, RpcException e)
    {
        // The service refuses this gateway as caller, not the write. The gateway's own caller may already know that the write waits, so the
        // write goes on waiting. The advice is the contract's text, not the service's.
        var reason = Reasons.Find(RefusedException.From(e)?.Reason ?? "") is { } found and not Reason.Unspecified
            ? found
            : Reason.CallerUnknown;
        return Hinder(item, Reasons.NameOf(reason), Reasons.AboutOf(reason).Unlock);
    }

    private OutboxStatus Refused(OutboxItem item, RpcException e)
    {
        var details = e.Trailers.GetValueBytes("grpc-status-details-bin") ?? [];
        return new OutboxStatus(item, OutboxState.Refused, details, _time.GetUtcNow(), e.StatusCode);
    }

    private OutboxStatus? Hidden(OutboxItem item, Pending pending, InvalidLogException e)
    {
        // An unreadable log usually becomes readable again, as for the mirror. Then the service repeats its answer and the answer can be
        // verified. If the log stays unreadable, somebody must ask the operator.
        pending.MayBeRecorded = true;
        LogNotShown(_log, item.Service, item.RequestId, e.Message);
        return Hinder(
            item,
            NotShown,
            $"{item.Service} answers, and its log cannot be read to verify that: ask its operator to show the log again"
        );
    }

    private OutboxStatus? Hinder(OutboxItem item, string reason, string remedy)
    {
        if (_hindrances.Add(item.RequestId, item.Service, reason, remedy, _time.GetUtcNow()))
            LogHindered(_log, item.Service, reason, remedy);
        return null;
    }

    // The name is the contract's, not the service's.
    private static string NameOf(RefusedException refused) =>
        Reasons.Find(refused.Reason) is { } reason and not Reason.Unspecified
            ? Reasons.NameOf(reason)
            : "for a reason that is not known here";

    private OutboxStatus Unproved(OutboxItem item, string why)
    {
        LogUnproved(_log, item.Service, item.RequestId, why);
        return new OutboxStatus(item, OutboxState.Unproved, System.Text.Encoding.UTF8.GetBytes(why), _time.GetUtcNow());
    }

    // The bytes are sent as they are on the disk: what a later version of this program would write is not asked.
    private async Task<IMessage> Call(OutboxItem item, MethodDescriptor method, Pending pending)
    {
        var typed = new Method<byte[], IMessage>(
            MethodType.Unary,
            method.Service.FullName,
            method.Name,
            Marshallers.Create(bytes => bytes, bytes => bytes),
            Marshallers.Create(message => message.ToByteArray(), bytes => method.OutputType.Parser.ParseFrom(bytes))
        );
        try
        {
            return await _client[item.Service].AsyncUnaryCall(typed, null, new CallOptions(cancellationToken: _end.Token), item.Bytes);
        }
        catch (RpcException e)
        {
            // One call makes several attempts and throws the exception of the last one.
            pending.MayBeRecorded |= SentBefore.Is(e);
            throw;
        }
    }

    // Waiting requests get a final state before it is on the disk: after a crash, the same request gets the same answer again. They get a
    // state that may be sent again only after it is on the disk, because a caller may repeat the request at once and must find the write
    // ended.
    private void End(OutboxStatus status)
    {
        Interlocked.Add(ref _bytes, -status.Item.Bytes.Length);
        _hindrances.Remove(status.Item.RequestId);
        _ = Task.Run(() => Keep(status), CancellationToken.None);
        if (!status.MayComeAgain && _waiting.TryGetValue(status.Item.RequestId, out var pending))
            pending.Ended.TrySetResult(status);
    }

    // While the disk takes no writes, the write stays there as waiting, and would be sent again after a restart.
    private async Task Keep(OutboxStatus status)
    {
        for (var pause = Shortest; !await IsKept(status); pause = pause * 2 < Longest ? pause * 2 : Longest)
        {
            await Task.Delay(pause, _time, _end.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (_end.IsCancellationRequested)
                return;
        }
        if (_waiting.TryRemove(status.Item.RequestId, out var pending))
            pending.Ended.TrySetResult(status);
    }

    private async Task<bool> IsKept(OutboxStatus status)
    {
        try
        {
            if (status.State == OutboxState.Answered)
                KeepReceipt(status);
            await _database.Write(c =>
                Database.Run(
                    c,
                    "update writes set state = @1, answer = @2, code = @3, end_time = @4 where request_id = @0",
                    status.Item.RequestId,
                    (int)status.State,
                    status.Answer,
                    (int)status.Code,
                    Database.Stored(status.EndTime!.Value)
                )
            );
            return true;
        }
        catch (Exception e) when (e is SqliteException or IOException or UnauthorizedAccessException)
        {
            LogNotWritten(_log, e.Message);
            return false;
        }
        catch (Exception e)
        {
            // Nobody foresaw it. Its text may tell of a record.
            LogNotWritten(_log, e.GetType().Name);
            return false;
        }
    }

    private void KeepReceipt(OutboxStatus status)
    {
        var response = status.Response;
        if (response.Descriptor.FindFieldByName("receipt")?.Accessor.GetValue(response) is Receipt receipt)
            MinistryClient.Keep(_settings.Receipts, status.Item.Service, receipt);
    }

    [LoggerMessage(1, LogLevel.Error, "The outbox was not written: {Why}")]
    private static partial void LogNotWritten(ILogger log, string why);

    [LoggerMessage(2, LogLevel.Information, "{Service} did not answer {RequestId} ({Code}); it is sent again")]
    private static partial void LogAgain(ILogger log, string service, string requestId, StatusCode code);

    [LoggerMessage(5, LogLevel.Warning, "What {Service} answered to {RequestId} cannot be verified yet; it is sent again: {Why}")]
    private static partial void LogNotShown(ILogger log, string service, string requestId, string why);

    [LoggerMessage(4, LogLevel.Error, "Writes for {Service} wait until somebody mends this: {Reason}. {Remedy}")]
    private static partial void LogHindered(ILogger log, string service, string reason, string remedy);

    [LoggerMessage(3, LogLevel.Critical, "What {Service} answered to {RequestId} proves nothing: {Why}")]
    private static partial void LogUnproved(ILogger log, string service, string requestId, string why);
}
