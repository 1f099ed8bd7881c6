using System.Collections.Concurrent;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using Google.Protobuf;
using Ministries.Ledger.V1;
using Ministries.Ministry.Tests;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary>Streams whose readers take hardly anything of what is sent. The web server itself ends a connection on which nothing is taken
/// for some seconds, and no other.</summary>
/// <remarks>The tests fill the call log, so they have services of their own.</remarks>
public class StalledTests(OwnServices own) : IClassFixture<OwnServices>
{
    private readonly Services _services = own.Services;

    [Theory]
    [InlineData("/events")]
    [InlineData("/ministries.ledger.v1.LedgerService/FollowEntries")]
    public async Task A_reader_that_takes_hardly_anything_loses_its_place_after_the_streams_time(string path)
    {
        await Fill();
        var time = new Fired(GatewayHost.StreamTime, EventStream.Longest);
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", time: time);
        await gateway.HasAll(_services);
        using var stalled = await Stalled.Open(gateway, path, GatewayHost.StreamsOfOne);
        await Until(async () => !await HasPlace());
        time.Fire();
        await Until(HasPlace);

        // Whoever has a place is answered 200.
        async Task<bool> HasPlace()
        {
            using var answer = await gateway.Http.GetAsync("/events?from=now", HttpCompletionOption.ResponseHeadersRead, Cancel);
            return answer.IsSuccessStatusCode;
        }
    }

    // More than the web server holds for a reader: 64 KiB.
    private async Task Fill()
    {
        var client = _services.As("kr/mfa");
        for (var size = 0L; size < 200_000; )
        {
            await Parallel.ForEachAsync(
                Enumerable.Range(0, 32),
                new ParallelOptions { MaxDegreeOfParallelism = 8, CancellationToken = Cancel },
                async (_, cancel) => await client.CallLog.LogCallAsync(_services.Call(), cancellationToken: cancel)
            );
            size = 0;
            await foreach (var response in client.Follow("calllog", untilNow: true, cancel: Cancel))
                // An event is less than a quarter of its entry, and is told with more words.
                size += response.CalculateSize() / 2;
        }
    }

    /// <summary>A connection of a caller who allows the server to send a few bytes of an answer at a time (RFC 9113, 6.9).</summary>
    private sealed class Stalled : IDisposable
    {
        private readonly TcpClient _tcp = new();
        private readonly CancellationTokenSource _enough = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        private SslStream _tls = null!;

        public static async Task<Stalled> Open(RunningGateway gateway, string path, int streams)
        {
            var stalled = new Stalled();
            await stalled._tcp.ConnectAsync("127.0.0.1", gateway.Settings.Listen.Port, Cancel);
            stalled._tls = new SslStream(stalled._tcp.GetStream());
            var trusting = RunningGateway.Trusting(Path.Combine(gateway.State, "gateway.pem"));
            (trusting.TargetHost, trusting.ApplicationProtocols) = ("127.0.0.1", [SslApplicationProtocol.Http2]);
            await stalled._tls.AuthenticateAsClientAsync(trusting, Cancel);
            var grpc = path.Contains('.');
            byte[] head =
            [
                .. Literal(":method", grpc ? "POST" : "GET"),
                .. Literal(":scheme", "https"),
                .. Literal(":path", path),
                .. Literal(":authority", gateway.Settings.Listen.Authority),
                .. Literal("authorization", $"{gateway.Http.DefaultRequestHeaders.Authorization}"),
                .. grpc
                    ? (byte[])
                        [
                            .. Literal("content-type", "application/grpc"),
                            .. Literal("te", "trailers"),
                            .. Literal(GrpcRelay.ServiceHeader, "calllog"),
                        ]
                    : [],
            ];
            byte[] request = [0, 0, 0, 0, 0, .. new FollowEntriesRequest().ToByteArray()];
            var sent = new List<byte>([.. "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8, .. Frame(4, 0, 0, [0, 4, 0, 0, 0, 0])]);
            for (var i = 0; i < streams; i++)
            {
                var id = (byte)(2 * i + 1);
                sent.AddRange(Frame(1, (byte)(grpc ? 4 : 5), id, head));
                if (grpc)
                    sent.AddRange(Frame(0, 1, id, request));
            }
            await stalled._tls.WriteAsync(sent.ToArray(), Cancel);
            _ = stalled.Allow(streams);
            return stalled;
        }

        // More than the 240 bytes a second below which the web server ends a connection, and so few that all would last for minutes.
        private async Task Allow(int streams)
        {
            const byte bytes = 200;
            using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(200));
            var frames = new List<byte>(Frame(8, 0, 0, [0, 0, (byte)(bytes * streams >> 8), unchecked((byte)(bytes * streams))]));
            for (var i = 0; i < streams; i++)
                frames.AddRange(Frame(8, 0, (byte)(2 * i + 1), [0, 0, 0, bytes]));
            try
            {
                while (await timer.WaitForNextTickAsync(_enough.Token))
                    await _tls.WriteAsync(frames.ToArray(), _enough.Token);
            }
            catch (Exception e) when (e is IOException or OperationCanceledException or ObjectDisposedException) { }
        }

        private static byte[] Literal(string name, string value) =>
            [0, (byte)name.Length, .. Encoding.ASCII.GetBytes(name), (byte)value.Length, .. Encoding.ASCII.GetBytes(value)];

        private static byte[] Frame(byte type, byte flags, byte stream, byte[] payload) =>
            [0, (byte)(payload.Length >> 8), (byte)payload.Length, type, flags, 0, 0, 0, stream, .. payload];

        public void Dispose()
        {
            _enough.Cancel();
            _tls?.Dispose();
            _tcp.Dispose();
            _enough.Dispose();
        }
    }

    /// <summary>A clock whose timers of some lengths fire when they are told to; the others are real.</summary>
    private sealed class Fired(params TimeSpan[] lengths) : TimeProvider
    {
        private readonly ConcurrentBag<Action> _held = [];

        public void Fire()
        {
            foreach (var fire in _held)
                fire();
        }

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            if (!lengths.Contains(dueTime))
                return base.CreateTimer(callback, state, dueTime, period);
            var held = new Held();
            _held.Add(() =>
            {
                if (!held.Over)
                    callback(state);
            });
            return held;
        }

        private sealed class Held : ITimer
        {
            public bool Over { get; private set; }

            public bool Change(TimeSpan dueTime, TimeSpan period) => Over = dueTime == Timeout.InfiniteTimeSpan;

            public void Dispose() => Over = true;

            public ValueTask DisposeAsync()
            {
                Over = true;
                return ValueTask.CompletedTask;
            }
        }
    }
}
