using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Ledger.V1;
using Ministries.Trust;
using static Ministries.Ministry.Tests.Services;
using ErrorInfo = Google.Rpc.ErrorInfo;
using RetryInfo = Google.Rpc.RetryInfo;

namespace Ministries.Ministry.Tests;

/// <summary>What the client does when a service fails. The test's own service fails as told.</summary>
public sealed class RetryTests : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("retry").FullName;
    private readonly Failing _failing;
    private WebApplication _host = null!;
    private int _port;
    private MinistryClient _client = null!;

    public RetryTests()
    {
        Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System);
        _failing = new(_folder);
    }

    public async ValueTask InitializeAsync()
    {
        _port = Ports.Free();
        _host = await Serve(_port, _failing);
        _client = ClientOf(_port);
    }

    private MinistryClient ClientOf(params int[] ports) => ClientOf(ports, TimeProvider.System);

    private MinistryClient ClientOf(int[] ports, TimeProvider time) =>
        new(
            MinistrySettings.In(_folder, "kr/mfa", new Dictionary<string, Uri> { ["calllog"] = AddressOf(ports[0]) }) with
            {
                FurtherAddresses = new Dictionary<string, IReadOnlyList<Uri>> { ["calllog"] = [.. ports[1..].Select(AddressOf)] },
            },
            time
        );

    private static Uri AddressOf(int port) => new($"https://127.0.0.1:{port}");

    private async Task<WebApplication> Serve(int port, Failing failing)
    {
        var home = Path.Combine(_folder, "service", "calllog");
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.WebHost.ConfigureKestrel(k =>
            k.Listen(
                IPAddress.Loopback,
                port,
                l =>
                {
                    l.Protocols = HttpProtocols.Http2;
                    l.UseHttps(
                        X509Certificate2.CreateFromPemFile(Path.Combine(home, "system.pem"), Path.Combine(home, "system.key")),
                        h =>
                        {
                            h.ClientCertificateMode = ClientCertificateMode.RequireCertificate;
                            h.AllowAnyClientCertificate();
                        }
                    );
                }
            )
        );
        builder.Services.AddGrpc();
        builder.Services.AddSingleton(failing);
        var host = builder.Build();
        host.MapGrpcService<Failing>();
        host.MapGrpcService<Following>();
        await host.StartAsync(Cancel);
        return host;
    }

    public async ValueTask DisposeAsync()
    {
        _client.Dispose();
        await _host.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task A_service_that_is_not_ready_is_tried_again_with_the_same_request_id_and_a_signature_each_time()
    {
        _failing.Failures.Enqueue(new RpcException(new Status(StatusCode.Unavailable, "starting")));
        _failing.Failures.Enqueue(new Refusal(Reason.Unavailable).ToException());

        var answer = await _client.CallLog.LogCallAsync(new LogCallRequest(), cancellationToken: Cancel);

        Assert.Equal("call_1", answer.Call);
        Assert.Equal(3, _failing.Seen.Count);
        Assert.Single(_failing.Seen.Select(s => s.RequestId).Distinct());
        Assert.All(_failing.Seen, s => Assert.StartsWith($"{HttpSignature.Label}=:", s.Signature));
        Assert.All(_failing.Seen, s => Assert.Contains($"nonce=\"{s.RequestId}\"", s.Input));
    }

    [Theory]
    [InlineData(Reason.Stale, StatusCode.Aborted)]
    [InlineData(Reason.RecordFull, StatusCode.ResourceExhausted)]
    [InlineData(Reason.NotFound, StatusCode.NotFound)]
    public async Task A_decided_call_is_not_tried_again(Reason reason, StatusCode code)
    {
        _failing.Failures.Enqueue(new Refusal(reason).ToException());
        var refused = await Assert.ThrowsAsync<RefusedException>(async () =>
            await _client.CallLog.LogCallAsync(new LogCallRequest(), cancellationToken: Cancel)
        );
        Assert.Equal(code, refused.StatusCode);
        Assert.Single(_failing.Seen);
    }

    [Fact]
    public async Task An_object_that_two_send_at_once_is_one_write()
    {
        const int Rounds = 200;
        for (var i = 0; i < Rounds; i++)
        {
            var request = new LogCallRequest();
            using var both = new Barrier(2);
            await Task.WhenAll(Enumerable.Range(0, 2).Select(_ => Task.Run(Send, Cancel)));

            async Task Send()
            {
                both.SignalAndWait(Cancel);
                await _client.CallLog.LogCallAsync(request, cancellationToken: Cancel);
            }
        }
        Assert.Equal(Rounds, _failing.Seen.Select(s => s.RequestId).Distinct().Count());
    }

    /// <summary>Whoever answers may write anything there.</summary>
    [Fact]
    public async Task What_cannot_be_read_of_a_refusals_details_is_no_fault_of_the_client()
    {
        var stale = Any.Pack(new ErrorInfo { Domain = "ministries", Reason = "STALE" });
        var refused = await Assert.ThrowsAsync<RefusedException>(() => Answered(stale, Any.Pack(new RetryInfo())));
        Assert.Equal(("STALE", null), (refused.Reason, refused.RetryAfter));

        var garbage = new Any { TypeUrl = stale.TypeUrl, Value = ByteString.CopyFrom(0xff) };
        var endless = Any.Pack(new RetryInfo { RetryDelay = new Duration { Seconds = long.MaxValue } });
        foreach (
            var details in (Any[][])
                [
                    [garbage],
                    [stale, endless],
                ]
        )
        {
            var error = await Assert.ThrowsAsync<RpcException>(() => Answered(details));
            Assert.Equal(StatusCode.Aborted, error.StatusCode);
            Assert.Null(RefusedException.From(error));
        }

        async Task Answered(params Any[] details)
        {
            var status = new Google.Rpc.Status { Code = (int)StatusCode.Aborted, Details = { details } };
            _failing.Failures.Enqueue(status.ToRpcException());
            await _client.CallLog.LogCallAsync(new LogCallRequest(), cancellationToken: Cancel);
        }
    }

    private Task<LogCallResponse> LogCall(LogCallRequest request, bool blocking) =>
        blocking
            ? Task.Run(() => _client.CallLog.LogCall(request, cancellationToken: Cancel), Cancel)
            : _client.CallLog.LogCallAsync(request, cancellationToken: Cancel).ResponseAsync;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_write_that_cannot_be_decided_is_tried_on_after_five_attempts(bool blocking)
    {
        for (var i = 0; i < 7; i++)
            _failing.Failures.Enqueue(new Refusal(Reason.Unavailable).ToException());
        var request = new LogCallRequest();
        var answer = await LogCall(request, blocking);
        Assert.Equal("call_1", answer.Call);
        Assert.Equal(8, _failing.Seen.Count);
        Assert.Equal([request.RequestId], _failing.Seen.Select(s => s.RequestId).Distinct());
    }

    /// <summary>Of an attempt whose answer was lost, a service that has no place now says nothing.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_write_that_was_repeated_is_not_given_up_because_the_service_is_overloaded(bool blocking)
    {
        for (var i = 0; i < 5; i++)
            _failing.Failures.Enqueue(new Refusal(Reason.Unavailable).ToException());
        for (var i = 0; i < 2; i++)
            _failing.Failures.Enqueue(new Refusal(Reason.Overloaded).ToException());
        var request = new LogCallRequest();
        var answer = await LogCall(request, blocking);
        Assert.Equal("call_1", answer.Call);
        Assert.Equal([request.RequestId], _failing.Seen.Select(s => s.RequestId).Distinct());
        // One that was not is refused at once, and its caller decides when to come again.
        _failing.Failures.Enqueue(new Refusal(Reason.Overloaded).ToException());
        var refused = await Assert.ThrowsAsync<RefusedException>(async () =>
            await _client.CallLog.LogCallAsync(new LogCallRequest(), cancellationToken: Cancel)
        );
        Assert.NotNull(refused.RetryAfter);
    }

    /// <summary>The channel itself sends a call again whose connection ended, or that could not be decided.</summary>
    [Theory]
    [InlineData(true, false)]
    [InlineData(true, true)]
    [InlineData(false, false)]
    [InlineData(false, true)]
    public async Task A_write_that_the_channel_repeated_is_not_given_up_because_the_service_is_overloaded(bool dies, bool blocking)
    {
        // It is decided, and the answer is lost.
        if (dies)
            _failing.Deaths = 1;
        else
            _failing.Failures.Enqueue(new Refusal(Reason.Unavailable).ToException());
        _failing.Failures.Enqueue(new Refusal(Reason.Overloaded).ToException());
        var request = new LogCallRequest();
        var answer = await LogCall(request, blocking);
        Assert.Equal("call_1", answer.Call);
        Assert.Equal(3, _failing.Seen.Count);
        Assert.Equal([request.RequestId], _failing.Seen.Select(s => s.RequestId).Distinct());
    }

    /// <summary>A service may refuse for these before it looks for the answer that it gave.</summary>
    [Theory]
    [InlineData(Reason.NotGranted, true)]
    [InlineData(Reason.RequestInvalid, true)]
    [InlineData(Reason.Stale, false)]
    public async Task A_refusal_says_whether_an_earlier_attempt_may_have_had_the_write_recorded(Reason reason, bool mayBe)
    {
        foreach (var blocking in (bool[])[false, true])
        foreach (var dies in (bool[])[false, true])
        {
            (_failing.Deaths, var seen) = (dies ? 1 : 0, _failing.Seen.Count);
            _failing.Failures.Enqueue(new Refusal(reason).ToException());
            var refused = await Assert.ThrowsAsync<RefusedException>(() => LogCall(new LogCallRequest(), blocking));
            Assert.Equal((mayBe && dies, dies ? 2 : 1), (refused.MayBeRecorded, _failing.Seen.Count - seen));
        }
    }

    [Fact]
    public void A_write_has_time_for_a_failover_unless_another_time_is_named()
    {
        var settings = MinistrySettings.In(_folder, "kr/mfa", new Dictionary<string, Uri>());
        Assert.Equal((10, 30), (settings.Deadline.TotalSeconds, settings.WriteDeadline.TotalSeconds));
        settings = settings with { Deadline = TimeSpan.FromSeconds(5) };
        Assert.Equal((5, 5), (settings.Deadline.TotalSeconds, settings.WriteDeadline.TotalSeconds));
        settings = settings with { WriteDeadline = TimeSpan.FromSeconds(60) };
        Assert.Equal((5, 60), (settings.Deadline.TotalSeconds, settings.WriteDeadline.TotalSeconds));
    }

    private sealed class MinuteAhead : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => base.GetUtcNow().AddMinutes(1);
    }

    [Fact]
    public async Task A_write_is_given_up_when_its_time_is_over_and_leaves_the_request_id_to_whoever_tries_later()
    {
        for (var i = 0; i < 5; i++)
            _failing.Failures.Enqueue(new RpcException(new Status(StatusCode.Unavailable, "down")));
        var request = new LogCallRequest();
        // By the client's clock the time is over.
        using var client = ClientOf([_port], new MinuteAhead());
        var given = await Assert.ThrowsAsync<RpcException>(async () =>
            await client.CallLog.LogCallAsync(request, deadline: DateTime.UtcNow.AddSeconds(30), cancellationToken: Cancel)
        );
        // What the service said last is told.
        Assert.Equal((StatusCode.Unavailable, "down"), (given.StatusCode, given.Status.Detail));
        Assert.Equal(5, _failing.Seen.Count);
        await _client.CallLog.LogCallAsync(request, cancellationToken: Cancel);
        Assert.Equal([request.RequestId], _failing.Seen.Select(s => s.RequestId).Distinct());
    }

    [Fact]
    public async Task A_read_is_given_up_after_five_attempts()
    {
        for (var i = 0; i < 6; i++)
            _failing.Failures.Enqueue(new RpcException(new Status(StatusCode.Unavailable, "down")));
        await Assert.ThrowsAsync<RpcException>(async () =>
            await _client.CallLog.GetCallAsync(new GetCallRequest(), cancellationToken: Cancel)
        );
        Assert.Equal(5, _failing.Seen.Count);
    }

    [Fact]
    public async Task A_service_that_was_never_reached_is_not_waited_for()
    {
        using var client = ClientOf(Ports.Free());
        var failed = await Assert.ThrowsAsync<RpcException>(async () =>
            await client.CallLog.LogCallAsync(new LogCallRequest(), deadline: DateTime.UtcNow.AddHours(1), cancellationToken: Cancel)
        );
        Assert.Equal(StatusCode.Unavailable, failed.StatusCode);
    }

    [Fact]
    public async Task Reads_are_not_signed()
    {
        await _client.CallLog.GetCallAsync(new GetCallRequest(), cancellationToken: Cancel);
        Assert.Equal("", Assert.Single(_failing.Seen).Signature);
    }

    [Fact]
    public async Task A_call_ends_at_its_deadline()
    {
        _failing.Delay = Timeout.InfiniteTimeSpan;
        var late = await Assert.ThrowsAsync<RpcException>(async () =>
            await _client.CallLog.LogCallAsync(
                new LogCallRequest(),
                deadline: DateTime.UtcNow.AddMilliseconds(200),
                cancellationToken: Cancel
            )
        );
        Assert.Equal(StatusCode.DeadlineExceeded, late.StatusCode);
    }

    [Fact]
    public async Task Following_goes_on_where_it_was_when_the_service_comes_back()
    {
        _failing.BreakAt.UnionWith([0, 3, 7]);
        var positions = new List<ulong>();
        await foreach (var response in _client.Follow("calllog", cancel: Cancel))
            if (response.Entry is { } entry)
                positions.Add(LedgerEntry.Read(entry).Header.Position);
        Assert.Equal(Enumerable.Range(0, 10).Select(i => (ulong)i), positions);
        Assert.Equal([0ul, 0, 3, 7], _failing.FollowedFrom);
    }

    [Fact]
    public async Task Following_goes_on_where_it_was_when_the_service_ended_a_stream_that_stalled()
    {
        _failing.BreakAt.UnionWith([0, 3, 7]);
        _failing.With = new RpcException(new Status(StatusCode.ResourceExhausted, "STREAM_STALLED"));
        Assert.Equal(Enumerable.Range(0, 10).Select(i => (ulong)i), await Followed());
        Assert.Equal([0ul, 0, 3, 7], _failing.FollowedFrom);
    }

    [Fact]
    public async Task An_entry_that_comes_in_pieces_is_put_together_even_if_it_begins_again_or_the_stream_breaks()
    {
        _failing.InPieces = [2, 5];
        _failing.Anew = [5];
        _failing.BreakAt.UnionWith([2]);
        Assert.Equal(Enumerable.Range(0, 10).Select(i => (ulong)i), await Followed());
        Assert.Equal([0ul, 2], _failing.FollowedFrom);
    }

    [Fact]
    public async Task Of_several_addresses_one_that_is_gone_is_passed_over_and_another_takes_its_place()
    {
        int[] ports = [Ports.Free(), Ports.Free()];
        await using var other = await Serve(ports[1], _failing);
        // Nobody listens at the first.
        using var client = ClientOf(ports[0], _port, ports[1]);
        for (var i = 0; i < 6; i++)
            Assert.Equal("call_1", (await client.CallLog.LogCallAsync(new LogCallRequest(), cancellationToken: Cancel)).Call);
        await _host.StopAsync(Cancel);
        for (var i = 0; i < 6; i++)
            Assert.Equal("call_1", (await client.CallLog.LogCallAsync(new LogCallRequest(), cancellationToken: Cancel)).Call);
        Assert.Equal(12, _failing.Seen.Select(s => s.RequestId).Distinct().Count());
    }

    [Fact]
    public async Task A_replica_that_lives_and_cannot_serve_is_passed_over_with_the_same_request_id()
    {
        var port = Ports.Free();
        var able = new Failing(_folder);
        await using var other = await Serve(port, able);
        using var client = ClientOf(_port, port);
        for (var i = 0; i < 40; i++)
            _failing.Failures.Enqueue(new Refusal(Reason.Unavailable).ToException());
        for (var i = 0; i < 8; i++)
            await client.CallLog.LogCallAsync(new LogCallRequest(), cancellationToken: Cancel);
        Assert.Equal(8, able.Seen.Count);
        Assert.NotEmpty(_failing.Seen);
        Assert.Subset(able.Seen.Select(s => s.RequestId).ToHashSet(), _failing.Seen.Select(s => s.RequestId).ToHashSet());
    }

    [Fact]
    public async Task Following_goes_on_when_the_connection_is_cut_without_a_word()
    {
        await using var line = new Line(_port);
        using var client = ClientOf(line.Port);
        _failing.HoldAt = 5;
        var positions = new List<ulong>();
        await foreach (var response in client.Follow("calllog", cancel: Cancel))
        {
            positions.Add(LedgerEntry.Read(response.Entry).Header.Position);
            if (positions.Count == 5)
                line.Cut();
        }
        Assert.Equal(Enumerable.Range(0, 10).Select(i => (ulong)i), positions);
        Assert.Equal([0ul, 5], _failing.FollowedFrom);
    }

    [Fact]
    public async Task A_write_whose_connection_is_cut_without_a_word_gets_its_answer_within_its_deadline()
    {
        await using var line = new Line(_port);
        using var client = ClientOf(line.Port);
        _failing.Delay = Timeout.InfiniteTimeSpan;
        var call = client.CallLog.LogCallAsync(new LogCallRequest(), cancellationToken: Cancel);
        await Until(() => Task.FromResult(_failing.Seen.Count == 1));
        _failing.Delay = TimeSpan.Zero;
        line.Cut();
        Assert.Equal("call_1", (await call).Call);
        Assert.Equal(2, _failing.Seen.Count);
        Assert.Single(_failing.Seen.Select(s => s.RequestId).Distinct());
    }

    /// <summary>A line between client and service. After a cut, the connections that there are stay open and carry nothing, as when a
    /// machine dies; new ones are carried.</summary>
    private sealed class Line : IAsyncDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private readonly CancellationTokenSource _end = new();
        private readonly int _to;
        private CancellationTokenSource _cut = new();

        public Line(int to)
        {
            _to = to;
            _listener.Start();
            _ = Accept();
        }

        public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

        public void Cut() => Interlocked.Exchange(ref _cut, new()).Cancel();

        public async ValueTask DisposeAsync()
        {
            await _end.CancelAsync();
            _listener.Stop();
            _end.Dispose();
            _cut.Dispose();
        }

        private async Task Accept()
        {
            while (!_end.IsCancellationRequested)
                _ = Carry(await _listener.AcceptTcpClientAsync(_end.Token), _cut.Token);
        }

        private async Task Carry(TcpClient client, CancellationToken cut)
        {
            using (client)
            using (var server = new TcpClient())
            {
                await server.ConnectAsync(IPAddress.Loopback, _to, _end.Token);
                await Task.WhenAll(Copy(client.GetStream(), server.GetStream()), Copy(server.GetStream(), client.GetStream()));
            }

            async Task Copy(NetworkStream from, NetworkStream into)
            {
                using var either = CancellationTokenSource.CreateLinkedTokenSource(cut, _end.Token);
                try
                {
                    await from.CopyToAsync(into, either.Token);
                }
                catch (Exception e) when (e is OperationCanceledException or IOException) { }
                // The connection stays open until the test ends.
                await Task.Delay(Timeout.Infinite, _end.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    [Theory]
    [InlineData(1, 10, 4)]
    [InlineData(0, 10, 0)]
    [InlineData(0, 10, 11)]
    [InlineData(0, 9 << 20, 4)]
    [InlineData(0, uint.MaxValue, 4)]
    public async Task Pieces_that_do_not_fit_are_not_accepted(uint offset, uint size, int bytes)
    {
        _failing.Piece = new EntryPiece
        {
            Offset = offset,
            Size = size,
            Data = ByteString.CopyFrom(new byte[bytes]),
        };
        await Assert.ThrowsAsync<InvalidDataException>(Followed);
    }

    private async Task<List<ulong>> Followed()
    {
        var positions = new List<ulong>();
        await foreach (var response in _client.Follow("calllog", cancel: Cancel))
            if (response.Entry is { } entry)
                positions.Add(LedgerEntry.Read(entry).Header.Position);
        return positions;
    }

    public static TheoryData<string, Action<Receipt>> Wrong() =>
        new()
        {
            { "it is of another service", r => r.Service = "custody" },
            { "its entry hash is not", r => r.EntryHash = ByteString.CopyFrom(1) },
            { "its proof does not lead", r => r.Position-- },
            { "its proof does not lead", r => r.EntryHash = r.RootHash },
            { "its proof does not lead", r => r.InclusionProof.Add(r.RootHash) },
            { "its checkpoint is not signed", r => r.Checkpoint = r.Checkpoint.Replace("\n2\n", "\n3\n") },
            { "its checkpoint is not signed", r => r.Checkpoint = "" },
        };

    [Theory]
    [MemberData(nameof(Wrong))]
    public async Task An_answer_whose_receipt_proves_nothing_is_not_accepted(string why, Action<Receipt> spoil)
    {
        await _client.CallLog.LogCallAsync(new LogCallRequest(), cancellationToken: Cancel);
        _failing.Tell = receipt =>
        {
            spoil(receipt);
            return receipt;
        };
        var e = await Assert.ThrowsAsync<InvalidReceiptException>(() =>
            _client.CallLog.LogCallAsync(new LogCallRequest(), cancellationToken: Cancel).ResponseAsync
        );
        Assert.Contains(why, e.Message);
    }

    [Fact]
    public async Task An_answer_without_a_receipt_is_not_accepted()
    {
        _failing.Tell = _ => null;
        await Assert.ThrowsAsync<InvalidReceiptException>(() =>
            _client.CallLog.LogCallAsync(new LogCallRequest(), cancellationToken: Cancel).ResponseAsync
        );
    }

    [Fact]
    public async Task A_write_that_has_no_id_is_not_proved_by_an_entry_that_has_none()
    {
        var write = new Method<byte[], LogCallResponse>(
            MethodType.Unary,
            "ministries.calllog.v1.CallLogService",
            "LogCall",
            Marshallers.Create(bytes => bytes, bytes => bytes),
            Marshallers.Create(m => MessageExtensions.ToByteArray(m), LogCallResponse.Parser.ParseFrom)
        );
        var request = new LogCallRequest { Case = "case_1" };
        var e = await Assert.ThrowsAsync<InvalidReceiptException>(() => Send(MessageExtensions.ToByteArray(request)));
        Assert.Contains("of another request id", e.Message);

        // With one it is proved, as any other that was kept as bytes.
        request.RequestId = MinistryClient.NewRequestId();
        Assert.Equal("call_1", (await Send(MessageExtensions.ToByteArray(request))).Call);

        Task<LogCallResponse> Send(byte[] bytes) =>
            _client["calllog"].AsyncUnaryCall(write, null, new CallOptions(cancellationToken: Cancel), bytes).ResponseAsync;
    }

    /// <summary>A service that fails as told, and notes the calls.</summary>
    private sealed class Failing(string folder) : CallLogService.CallLogServiceBase
    {
        public Func<Receipt, Receipt?> Tell = receipt => receipt;

        private readonly List<ByteString> _log = [];

        public readonly ConcurrentQueue<RpcException> Failures = new();
        public readonly ConcurrentQueue<(string RequestId, string Signature, string Input)> Seen = new();
        public readonly HashSet<ulong> BreakAt = [];
        public readonly List<ulong> FollowedFrom = [];
        public RpcException With = new(new Status(StatusCode.Unavailable, "stopping"));
        public HashSet<ulong> InPieces = [],
            Anew = [];
        public EntryPiece? Piece;
        public TimeSpan Delay;
        public ulong? HoldAt;

        /// <summary>At how many calls the connection ends instead of an answer.</summary>
        public int Deaths;

        public override async Task<LogCallResponse> LogCall(LogCallRequest request, ServerCallContext context)
        {
            Note(request.RequestId, context);
            if (Interlocked.Decrement(ref Deaths) >= 0)
            {
                context.GetHttpContext().Features.GetRequiredFeature<IConnectionLifetimeFeature>().Abort();
                await Task.Delay(Timeout.Infinite, context.CancellationToken);
            }
            if (Delay != TimeSpan.Zero)
                await Task.Delay(Delay, context.CancellationToken);
            if (Failures.TryDequeue(out var failure))
                throw failure;
            var response = new LogCallResponse { Call = "call_1" };
            lock (_log)
            {
                var receipt = Forgery.Of(
                    folder,
                    new Receipt { Service = "calllog" },
                    (header, shown) =>
                    {
                        header.CommitTime = shown.CommitTime = new Timestamp { Seconds = 1742198400 };
                        (header.Participant, header.RequestId) = ("kr/mfa", request.RequestId);
                        header.Method = "ministries.calllog.v1.CallLogService/LogCall";
                        shown.RequestSalt = Forgery.Put(header, PartKind.Request, MessageExtensions.ToByteArray(request));
                        Forgery.Answer(header, shown, new Answer { Response = Any.Pack(response) });
                    },
                    _log
                );
                _log.Add(Forgery.LeafOf(receipt));
                response.Receipt = Tell(receipt);
            }
            return response;
        }

        public override Task<GetCallResponse> GetCall(GetCallRequest request, ServerCallContext context)
        {
            Note("", context);
            return Failures.TryDequeue(out var failure)
                ? Task.FromException<GetCallResponse>(failure)
                : Task.FromResult(new GetCallResponse());
        }

        private void Note(string requestId, ServerCallContext context) =>
            Seen.Enqueue(
                (requestId, context.RequestHeaders.GetValue("signature") ?? "", context.RequestHeaders.GetValue("signature-input") ?? "")
            );
    }

    /// <summary>A ledger that sends ten entries and breaks the stream once before each given one.</summary>
    private sealed class Following(Failing failing) : LedgerService.LedgerServiceBase
    {
        public override async Task FollowEntries(
            FollowEntriesRequest request,
            IServerStreamWriter<FollowEntriesResponse> responseStream,
            ServerCallContext context
        )
        {
            failing.FollowedFrom.Add(request.FromPosition);
            if (failing.Piece is { } wrong)
                await responseStream.WriteAsync(new FollowEntriesResponse { Piece = wrong });
            for (var position = request.FromPosition; position < 10; position++)
            {
                if (failing.HoldAt == position)
                {
                    failing.HoldAt = null;
                    await Task.Delay(Timeout.Infinite, context.CancellationToken);
                }
                var entry = new Entry
                {
                    Header = MessageExtensions.ToByteString(new EntryHeader { Position = position }),
                    Case = new string('c', 100),
                };
                if (failing.InPieces.Contains(position))
                {
                    var bytes = MessageExtensions.ToByteString(entry);
                    await Piece(0, 40);
                    if (failing.Anew.Remove(position))
                        await Piece(0, 30);
                    else
                        await Piece(40, 30);
                    Break(position);
                    for (var at = failing.FollowedFrom.Count > 1 && position == 5 ? 30 : 70; at < bytes.Length; at += 40)
                        await Piece(at, Math.Min(40, bytes.Length - at));
                    continue;

                    Task Piece(int offset, int length) =>
                        responseStream.WriteAsync(
                            new FollowEntriesResponse
                            {
                                Piece = new EntryPiece
                                {
                                    Offset = (uint)offset,
                                    Size = (uint)bytes.Length,
                                    Data = ByteString.CopyFrom(bytes.Span.Slice(offset, length)),
                                },
                                NextPosition = position + (offset + length == bytes.Length ? 1ul : 0),
                            }
                        );
                }
                Break(position);
                await responseStream.WriteAsync(new FollowEntriesResponse { Entry = entry, NextPosition = position + 1 });
            }

            void Break(ulong position)
            {
                if (failing.BreakAt.Remove(position))
                    throw failing.With;
            }
        }
    }
}
