using System.Globalization;
using System.Net.Http.Headers;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Health.V1;
using Grpc.Net.Client;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting.Tests;

/// <summary>These tests run alone, because they measure memory.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;

/// <summary>Readers that follow the ledger: how many there may be, what happens to one that takes nothing, and that nobody sees what is not
/// for him.</summary>
[Collection(nameof(Alone))]
public sealed class StreamsTests : IAsyncLifetime
{
    private const string Headquarters = "ua/coordination-hq";

    private Running _running = new();

    public ValueTask InitializeAsync() => _running.InitializeAsync();

    public ValueTask DisposeAsync() => _running.DisposeAsync();

    [Fact]
    public async Task Streams_have_places_of_their_own_and_one_more_is_refused_by_name()
    {
        await With(
            new EdgeLimits
            {
                MaxStreams = 4,
                MaxStreamsPerParticipant = 3,
                OwnPlaces = 1,
                RefusalDelay = TimeSpan.FromMilliseconds(1),
            }
        );
        var open = new List<AsyncServerStreamingCall<FollowEntriesResponse>>();
        // Each is on a connection of its own, because the limit is per participant.
        for (var i = 0; i < 3; i++)
            open.Add(await Begun("kr/mfa"));
        Assert.Equal("the participant has as many streams open as it may have", await Full("kr/mfa"));
        open.Add(await Begun("ua/mfa"));
        Assert.Equal("the service has as many streams open as it may have", await Full("ua/mfa"));
        // Each participant has one place of its own.
        open.Add(await Begun("icrc"));
        Assert.Equal("the service has as many streams open as it may have", await Full("icrc"));
        // They take no places of calls.
        await _running.Log();
        open[0].Dispose();
        open[3].Dispose();
        await Running.Until(
            async () =>
            {
                try
                {
                    open.Add(await Begun("kr/mfa"));
                    return true;
                }
                catch (RpcException)
                {
                    return false;
                }
            },
            "a stream that ended makes room for another"
        );
        foreach (var call in open)
            call.Dispose();

        async Task<string> Full(string participant) =>
            (await Running.Refused("OVERLOADED", () => Begun(participant))).Info.Metadata["limit"];
    }

    [Fact]
    public async Task A_reader_that_takes_nothing_is_ended_with_a_reason_and_resumes_without_loss_or_repeat()
    {
        await With(new EdgeLimits { StreamStall = TimeSpan.FromMilliseconds(50), StreamGrace = TimeSpan.FromMinutes(2) });
        var expected = new List<ulong>();
        for (var i = 0; i < 60; i++)
            expected.Add(await Write(20_000));
        var (seen, next) = (new List<ulong>(), expected[0]);
        using (var call = Client("ua/mfa").FollowEntries(new() { FromPosition = next }, cancellationToken: Running.Cancel))
        {
            // So slow that at some point nothing is taken for as long as a stream waits.
            using var slowly = new PeriodicTimer(TimeSpan.FromMilliseconds(100));
            var (info, _) = await Running.Refused(
                "STREAM_STALLED",
                async () =>
                {
                    while (await call.ResponseStream.MoveNext(Running.Cancel))
                    {
                        Note(call.ResponseStream.Current);
                        await slowly.WaitForNextTickAsync(Running.Cancel);
                    }
                }
            );
            Assert.Equal(StatusCode.ResourceExhausted, call.GetStatus().StatusCode);
            Assert.Equal($"{next}", info.Metadata["next_position"]);
        }
        Assert.InRange(seen.Count, 1, 59);
        foreach (var response in await All("ua/mfa", next))
            Note(response);
        Assert.Equal(expected, seen);

        void Note(FollowEntriesResponse response)
        {
            next = response.NextPosition;
            if (response.Entry is { } entry)
                seen.Add(PositionOf(entry));
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task A_reader_that_takes_almost_nothing_is_cut_off_in_the_end(int each)
    {
        await With(new EdgeLimits { StreamStall = TimeSpan.FromMilliseconds(300), StreamGrace = TimeSpan.FromMilliseconds(300) });
        for (var i = 0; i < 40; i++)
            await Write(20_000);
        var stalled = await Stalled();
        var http = _running.Http(_running.CertificateOf("ua/mfa"));
        using var request = new HttpRequestMessage(
            HttpMethod.Post,
            new Uri(_running.Address, "/ministries.ledger.v1.LedgerService/FollowEntries")
        )
        {
            Version = System.Net.HttpVersion.Version20,
            Content = new ByteArrayContent(Running.FrameOf(new FollowEntriesRequest().ToByteArray())),
        };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
        using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Running.Cancel);
        await using var body = await response.Content.ReadAsStreamAsync(Running.Cancel);
        var ended = await Assert.ThrowsAnyAsync<HttpIOException>(async () =>
        {
            var one = new byte[1];
            using var slowly = new PeriodicTimer(TimeSpan.FromMilliseconds(10));
            while (await Stalled() == stalled)
            {
                await slowly.WaitForNextTickAsync(Running.Cancel);
                if (each > 0)
                    Assert.NotEqual(0, await body.ReadAsync(one, Running.Cancel));
            }
            // What has arrived can still be read; after it, the reset shows.
            await body.CopyToAsync(Stream.Null, Running.Cancel);
        });
        Assert.Equal(11, Assert.IsType<HttpProtocolException>(ended).ErrorCode);
    }

    [Fact]
    public async Task A_stream_that_is_cut_off_is_RESOURCE_EXHAUSTED_to_gRPC()
    {
        await With(new EdgeLimits { StreamStall = TimeSpan.FromMilliseconds(300), StreamGrace = TimeSpan.FromMilliseconds(300) });
        for (var i = 0; i < 40; i++)
            await Write(20_000);
        var stalled = await Stalled();
        using var call = await Begun("ua/mfa");
        await Running.Until(async () => await Stalled() > stalled, "the stream is ended");
        var e = await Assert.ThrowsAsync<RpcException>(async () =>
        {
            while (await call.ResponseStream.MoveNext(Running.Cancel)) { }
        });
        Assert.Equal(StatusCode.ResourceExhausted, e.StatusCode);
    }

    /// <summary>A stream may last as long as its reader wants, and its reader sends nothing. But the connection's own pings are judged too.
    /// </summary>
    [Theory]
    [InlineData("the service's certificate is denied"), InlineData("the caller's certificate is replaced")]
    public async Task A_stream_ends_when_one_of_its_certificates_no_longer_counts(string why)
    {
        var (own, authorities) = (_running.CertificateOf("kr/mfa"), new Authorities(Signing.Agreement(_running.Folder)));
        using var channel = GrpcChannel.ForAddress(
            _running.Address,
            new GrpcChannelOptions
            {
                HttpHandler = ServiceChannel.Handler(
                    "calllog",
                    () => Volatile.Read(ref own),
                    () => Volatile.Read(ref authorities),
                    TimeSpan.FromSeconds(5),
                    TimeProvider.System
                ),
                DisposeHttpClient = true,
            }
        );
        using var stream = new LedgerService.LedgerServiceClient(channel).FollowEntries(new(), cancellationToken: Running.Cancel);
        await Next();
        // The same certificate, read from its file again.
        Volatile.Write(ref own, _running.CertificateOf("kr/mfa"));
        await Next();
        if (why.StartsWith("the service's", StringComparison.Ordinal))
        {
            using var served = X509CertificateLoader.LoadCertificateFromFile(
                Path.Combine(_running.Folder, "service", "calllog", "system.pem")
            );
            var denying = Signing.Agreement(_running.Folder);
            denying.Participants.Single(p => p.Id == "service/calllog").DeniedCertificates.Add(served.SerialNumber);
            Volatile.Write(ref authorities, new Authorities(denying));
        }
        else
            Volatile.Write(ref own, _running.CertificateOf("ua/mfa"));
        var ended = await Assert.ThrowsAsync<RpcException>(async () =>
        {
            using var late = CancellationTokenSource.CreateLinkedTokenSource(Running.Cancel);
            late.CancelAfter(TimeSpan.FromSeconds(40));
            while (await stream.ResponseStream.MoveNext(late.Token)) { }
        });
        Assert.NotEqual(StatusCode.Cancelled, ended.StatusCode);

        async Task Next()
        {
            await _running.Log();
            Assert.True(await stream.ResponseStream.MoveNext(Running.Cancel));
        }
    }

    [Fact]
    public async Task A_stalled_stream_holds_little()
    {
        const int streams = 300,
            together = 90;
        await With(new EdgeLimits { StreamStall = TimeSpan.FromMinutes(5), MaxStreamsPerParticipant = streams });
        for (var i = 0; i < 60; i++)
            await Write(100_000);
        for (var i = 0; i < 4; i++)
            await Write(3_000_000);
        var calls = new List<AsyncServerStreamingCall<FollowEntriesResponse>>();
        // A connection may carry this many streams.
        var clients = Enumerable.Range(0, streams / together + 1).Select(_ => Client("ua/mfa")).ToList();
        foreach (var client in clients)
            calls.Add(client.FollowEntries(new(), cancellationToken: Running.Cancel));
        await Task.Delay(500, Running.Cancel);
        var before = GC.GetTotalMemory(forceFullCollection: true);
        // Half of them stall among many entries, the others in the middle of a large one.
        for (var i = clients.Count; i < streams; i++)
            calls.Add(
                clients[i / together]
                    .FollowEntries(new() { FromPosition = i % 2 == 0 ? 0 : _running.Ledger.Size - 4 }, cancellationToken: Running.Cancel)
            );
        var held = 0L;
        // Unused memory is returned only after a while.
        const long most = (256 + 96) << 10;
        await Task.Delay(3000, Running.Cancel);
        for (var i = 0; i < 50 && (held = (GC.GetTotalMemory(forceFullCollection: true) - before) / (streams - clients.Count)) >= most; i++)
            await Task.Delay(200, Running.Cancel);
        TestContext.Current.TestOutputHelper?.WriteLine($"{held >> 10} KiB a stream, the client's part included");
        // 256 KiB for the service, and for the client 64 KiB that arrived and the stream itself.
        Assert.InRange(held, 1, most);
        // Beside them, who reads gets every entry: stalled streams once took so much of a heap of 512 MB that it got INTERNAL.
        var read = await All("kr/mfa", 0);
        Assert.Equal(_running.Ledger.Size, read[^1].NextPosition);
        Assert.True(read.Sum(r => (long)(r.Piece?.Data.Length ?? 0)) > 18_000_000, $"{read.Count} responses");
        foreach (var call in calls)
            call.Dispose();
    }

    [Fact]
    public async Task A_large_entry_comes_in_pieces_that_make_it()
    {
        var from = await Write(1000);
        var great = await Write(3_500_000);
        var after = await Write(1000);
        var responses = await All("ua/mfa", from);
        Assert.Equal([from, after], responses.Where(r => r.Entry is not null).Select(r => PositionOf(r.Entry)));
        var pieces = responses.Where(r => r.Piece is not null).ToList();
        Assert.All(pieces, p => Assert.InRange(p.Piece.Data.Length, 1, 32 << 10));
        Assert.All(pieces.SkipLast(1), p => Assert.Equal(great, p.NextPosition));
        Assert.Equal(after, pieces[^1].NextPosition);
        var (bytes, size) = (new MemoryStream(), pieces[0].Piece.Size);
        foreach (var piece in pieces.Select(p => p.Piece))
        {
            // An entry that begins again replaces the pieces that came before.
            if (piece.Offset == 0)
                bytes.SetLength(0);
            Assert.Equal((size, bytes.Length), (piece.Size, piece.Offset));
            bytes.Write(piece.Data.Span);
        }
        var entry = await Client("ua/mfa").GetEntryAsync(new GetEntryRequest { Position = great }, cancellationToken: Running.Cancel);
        Assert.Equal(entry.Entry, Entry.Parser.ParseFrom(bytes.ToArray()));
        // A reader that follows gets it too.
        using var live = await Begun("ua/mfa", _running.Ledger.Size - 1);
        var another = await Write(200_000);
        ulong got = 0;
        while (got <= another)
        {
            Assert.True(await live.ResponseStream.MoveNext(Running.Cancel));
            got = live.ResponseStream.Current.NextPosition;
            Assert.True(live.ResponseStream.Current.Piece is not null || PositionOf(live.ResponseStream.Current.Entry) < another);
        }
    }

    [Fact]
    public async Task Everybody_gets_each_entry_once_and_in_order_while_many_write()
    {
        const int each = 40;
        await With(new EdgeLimits { StreamProgress = TimeSpan.FromMilliseconds(50) });
        var until = _running.Ledger.Size + 4 * each + 1;
        var writing = Task.WhenAll(
            Enumerable
                .Range(0, 4)
                .Select(async w =>
                {
                    for (var i = 0; i < each; i++)
                        await Write(i % 9 == 0 ? 80_000 : 500, w % 2 == 0 ? "kr/mfa" : "ua/mfa", @case: w < 3 ? Running.Case : "");
                })
        );
        var followers = Enumerable
            .Range(0, 6)
            .Select(async f =>
            {
                var (seen, next) = (new List<ulong>(), 0ul);
                using var call = Client(f % 2 == 0 ? "ua/mfa" : "icrc")
                    .FollowEntries(new() { FromPosition = (ulong)f }, cancellationToken: Running.Cancel);
                while (next < until - 1)
                {
                    Assert.True(await call.ResponseStream.MoveNext(Running.Cancel));
                    var response = call.ResponseStream.Current;
                    Assert.True(response.NextPosition >= next);
                    next = response.NextPosition;
                    if (response.Entry is { } entry)
                        seen.Add(PositionOf(entry));
                    else if (response.Piece is { } piece && piece.Offset + piece.Data.Length == piece.Size)
                        seen.Add(next - 1);
                }
                return (f, seen);
            })
            .ToList();
        await writing;
        foreach (var (f, seen) in await Task.WhenAll(followers))
            Assert.Equal(
                (await All(f % 2 == 0 ? "ua/mfa" : "icrc", (ulong)f))
                    .Where(r => r.Entry is not null || r.Piece is { } p && p.Offset + p.Data.Length == p.Size)
                    .Select(r => r.NextPosition - 1),
                seen
            );
    }

    [Fact]
    public async Task A_slow_reader_gets_from_the_database_what_its_inbox_cannot_hold()
    {
        using var call = await Begun("ua/mfa");
        // More entries than an inbox holds, while the stream waits for its reader.
        var expected = new List<ulong>();
        for (var i = 0; i < 12; i++)
            expected.Add(await Write(30_000));
        for (var i = 0; i < 3; i++)
            expected.AddRange((await Task.WhenAll(Enumerable.Range(0, 400).Select(_ => Write(10)))).Order());
        var seen = new List<ulong>();
        while (seen.Count < expected.Count)
        {
            Assert.True(await call.ResponseStream.MoveNext(Running.Cancel));
            if (call.ResponseStream.Current.Entry is { } entry && PositionOf(entry) >= expected[0])
                seen.Add(PositionOf(entry));
        }
        Assert.Equal(expected, seen);
    }

    [Fact]
    public async Task A_removed_party_sees_no_further_entry_and_an_admitted_one_sees_them_at_once()
    {
        await With(new EdgeLimits { StreamProgress = TimeSpan.FromMilliseconds(50) });
        using var call = await Begun(Headquarters);
        await Write(100);
        await _running.Seed(
            new PartyAdmitted
            {
                Case = Running.Case,
                Participant = Headquarters,
                Part = Part.DetainingPower,
                State = "UA",
            }
        );
        var first = await Write(100);
        var second = await Write(100);
        var seen = new List<ulong>();
        await Read(second + 1);
        Assert.Equal([first, second], seen);
        await _running.Seed(new PartyRemoved { Case = Running.Case, Participant = Headquarters });
        for (var i = 0; i < 5; i++)
            await Write(100);
        await Read(_running.Ledger.Size);
        Assert.Equal([first, second], seen);
        await _running.Seed(
            new PartyAdmitted
            {
                Case = Running.Case,
                Participant = Headquarters,
                Part = Part.DetainingPower,
                State = "UA",
            }
        );
        var last = await Write(100);
        await Read(last + 1);
        Assert.Equal([first, second, last], seen);

        async Task Read(ulong to)
        {
            for (var next = 0ul; next < to; next = call.ResponseStream.Current.NextPosition)
            {
                Assert.True(await call.ResponseStream.MoveNext(Running.Cancel));
                if (call.ResponseStream.Current.Entry is { } entry && EntryHeader.Parser.ParseFrom(entry.Header).Method != "agreement")
                    seen.Add(PositionOf(entry));
            }
        }
    }

    [Fact]
    public async Task A_participant_sees_its_newest_case_however_many_it_was_admitted_to()
    {
        var newest = "";
        for (var i = 1; i <= 4; i++)
        {
            newest = $"case_0000000000000000000000001{i}";
            await _running.Seed(
                new CaseOpened
                {
                    Case = newest,
                    DetainingPower = "UA",
                    Participant = "ua/mfa",
                }
            );
            await _running.Seed(
                new PartyAdmitted
                {
                    Case = newest,
                    Participant = Headquarters,
                    Part = Part.DetainingPower,
                    State = "UA",
                }
            );
        }
        var request = Running.Request();
        request.Case = newest;
        var logged = await _running.Calling("ua/mfa").LogCallAsync(request, cancellationToken: Running.Cancel);
        var followed = await All(Headquarters, 0);
        Assert.Contains(logged.Receipt.Position, followed.Where(f => f.Entry is not null).Select(f => PositionOf(f.Entry)));
        var listed = await _running.Calling(Headquarters).ListCallsAsync(new(), cancellationToken: Running.Cancel);
        Assert.Equal([logged.Call], listed.Calls.Select(c => c.Call));
        await Client(Headquarters).GetEntryAsync(new() { Position = logged.Receipt.Position }, cancellationToken: Running.Cancel);
    }

    [Fact]
    public async Task A_reader_that_loses_its_right_while_its_stream_waits_gets_only_what_was_on_its_way()
    {
        await With(new EdgeLimits { StreamProgress = TimeSpan.FromMilliseconds(50), StreamStall = TimeSpan.FromMinutes(5) });
        await _running.Seed(
            new PartyAdmitted
            {
                Case = Running.Case,
                Participant = Headquarters,
                Part = Part.DetainingPower,
                State = "UA",
            }
        );
        var from = _running.Ledger.Size;
        for (var i = 0; i < 100; i++)
            await Write(100);
        for (var i = 0; i < 60; i++)
            await Write(15_000);
        await Write(2_000_000);
        foreach (var start in new[] { from, _running.Ledger.Size - 1 })
        {
            await _running.Seed(
                new PartyAdmitted
                {
                    Case = Running.Case,
                    Participant = Headquarters,
                    Part = Part.DetainingPower,
                    State = "UA",
                }
            );
            using var call = Client(Headquarters).FollowEntries(new() { FromPosition = start }, cancellationToken: Running.Cancel);
            Assert.True(await call.ResponseStream.MoveNext(Running.Cancel));
            // By now the stream has filled all buffers on the way.
            await Task.Delay(500, Running.Cancel);
            await _running.Seed(new PartyRemoved { Case = Running.Case, Participant = Headquarters });
            var (bytes, size) = (0L, _running.Ledger.Size);
            do
            {
                bytes += call.ResponseStream.Current.CalculateSize();
                Assert.True(await call.ResponseStream.MoveNext(Running.Cancel));
            } while (call.ResponseStream.Current.NextPosition < size);
            Assert.Null(call.ResponseStream.Current.Entry);
            // 64 KiB at the client, less than 64 KiB and a message in the web server.
            Assert.InRange(bytes, 1, (64 + 64 + 64 + 16) << 10);
        }
    }

    /// <summary>The database shows the page by the cases that the reader has when it is read.</summary>
    [Fact]
    public async Task A_stream_skips_nothing_that_its_reader_may_see_since_another_replica_took_its_admission_in()
    {
        const string reader = Headquarters;
        await using var other = await Replica();
        var followers = _running.Host.Services.GetRequiredService<Followers>();
        var pages = followers.Pages.CurrentCount;
        for (var i = 0; i < pages; i++)
            await followers.Pages.WaitAsync(Running.Cancel);
        var group = followers.Open(reader);
        var following = All(reader, _running.Ledger.Size);
        await Running.Until(() => Task.FromResult(group.Open == 2), "the stream is open");
        var admitted = new PartyAdmitted
        {
            Case = Running.Case,
            Participant = reader,
            Part = Part.DetainingPower,
            State = "UA",
        };
        await CustodyEvents.Record(other, admitted, _running.Agreements.InForce.Permissions, Running.Cancel);
        var outcome = await other.Commit(
            new Command
            {
                Participant = "ua/mfa",
                RequestId = "of-the-case",
                Method = "test",
                Request = admitted,
                Bytes = admitted.ToByteArray(),
                AgreementVersion = 1,
                Decide = (_, _) => Decision.Accept(Running.Case, [Audience.Case(Running.Case)], []),
            },
            Running.Cancel
        );
        followers.Pages.Release(pages);
        Assert.Contains(outcome.Position, (await following).Where(r => r.Entry is not null).Select(r => (ulong?)PositionOf(r.Entry)));
        followers.Close(group);
    }

    /// <summary>Each look at a reader's cases is followed by another change, by this replica or by another one.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_stream_goes_on_however_often_its_readers_cases_change(bool elsewhere)
    {
        const string reader = "ua/mfa";
        await using var other = await Replica();
        var (changes, permissions, cancel) = (0, _running.Agreements.InForce.Permissions, Running.Cancel);
        var ledger = elsewhere ? other : _running.Ledger;
        var expected = new List<ulong> { await Write(100), await Write(100), await Write(200_000), await Write(100) };
        await AtRights(
            Change,
            async () =>
            {
                var present = await All(reader, expected[0]).WaitAsync(TimeSpan.FromSeconds(20), cancel);
                Assert.Equal(expected, present.Where(IsWhole).Select(r => r.NextPosition - 1));
                using var call = Client(reader).FollowEntries(new() { FromPosition = expected[0] }, cancellationToken: cancel);
                var seen = new List<ulong>();
                while (seen.Count < expected.Count)
                {
                    Assert.True(await call.ResponseStream.MoveNext(cancel).WaitAsync(TimeSpan.FromSeconds(20), cancel));
                    if (IsWhole(call.ResponseStream.Current))
                        seen.Add(call.ResponseStream.Current.NextPosition - 1);
                    if (seen.Count == 4 && expected.Count == 4)
                        expected.AddRange(await Write(100), await Write(200_000), await Write(100));
                }
                Assert.Equal(expected, seen);
            }
        );
        Assert.InRange(changes, 4, int.MaxValue);

        Task Change() =>
            CustodyEvents.Record(
                ledger,
                new CaseOpened
                {
                    Case = $"case_{Interlocked.Increment(ref changes) + 1000:D26}",
                    DetainingPower = "UA",
                    Participant = reader,
                },
                permissions,
                cancel
            );

        static bool IsWhole(FollowEntriesResponse r) =>
            r.Entry is not null || r.Piece is { } piece && piece.Offset + piece.Data.Length == piece.Size;
    }

    /// <param name="bytes">Of the entry: a small one is sent whole, a great one in pieces.</param>
    /// <param name="after">The number of the look at the reader's rights after which it loses them.</param>
    [Theory]
    [InlineData(100, 1)]
    [InlineData(200_000, 1)]
    [InlineData(200_000, 2)]
    public async Task A_reader_that_loses_its_right_after_it_was_looked_up_gets_nothing(int bytes, int after)
    {
        var (permissions, cancel) = (_running.Agreements.InForce.Permissions, Running.Cancel);
        await _running.Seed(
            new PartyAdmitted
            {
                Case = Running.Case,
                Participant = Headquarters,
                Part = Part.DetainingPower,
                State = "UA",
            }
        );
        var position = await Write(bytes);
        var looks = 0;
        await AtRights(
            async () =>
            {
                if (Interlocked.Increment(ref looks) == after)
                    await CustodyEvents.Record(
                        _running.Ledger,
                        new PartyRemoved { Case = Running.Case, Participant = Headquarters },
                        permissions,
                        cancel
                    );
            },
            async () => Assert.True((await All(Headquarters, position)).All(r => r.Entry is null && r.Piece is null))
        );
        Assert.InRange(looks, after, int.MaxValue);
    }

    [Fact]
    public async Task A_case_that_cannot_be_read_stops_the_notifications_of_nobody_else()
    {
        const string damaged = "case_00000000000000000000000002";
        await _running.Seed(
            new CaseOpened
            {
                Case = damaged,
                DetainingPower = "UA",
                Participant = Headquarters,
            }
        );
        await _running.Seed(
            new PartyAdmitted
            {
                Case = Running.Case,
                Participant = Headquarters,
                Part = Part.DetainingPower,
                State = "UA",
            }
        );
        // Newer software wrote it.
        var file = Path.Combine(_running.Folder, "calllog.db");
        await using (var database = new Microsoft.Data.Sqlite.SqliteConnection($"Data Source={file};Pooling=false"))
        {
            await database.OpenAsync(Running.Cancel);
            var newer = database.CreateCommand();
            newer.CommandText = $"update streams set fold = fold + 1 where kind = 'case' and key = '{damaged}'";
            Assert.Equal(1, await newer.ExecuteNonQueryAsync(Running.Cancel));
        }
        var followers = _running.Host.Services.GetRequiredService<Followers>();
        var (concerned, other) = (followers.Open(Headquarters), followers.Open("icrc"));
        // One that takes nothing from its inbox stays.
        _ = followers.Join(concerned, "");
        var (inbox, _) = followers.Join(other, "");
        using var live = Client("icrc").FollowEntries(new() { FromPosition = _running.Ledger.Size }, cancellationToken: Running.Cancel);
        var (before, of, after) = (await Write(100), await Write(100, @case: damaged), await Write(100));
        var told = new List<ulong>();
        await Running.Until(
            () =>
            {
                var (waiting, until, lost) = followers.Take(inbox);
                Assert.False(lost);
                told.AddRange(waiting.Select(t => t.Position));
                return Task.FromResult(until > after);
            },
            "it is told of all entries"
        );
        Assert.Equal([before, after], told.Where(p => p != of));
        var seen = new List<ulong>();
        while (!seen.Contains(after))
        {
            Assert.True(await live.ResponseStream.MoveNext(Running.Cancel));
            if (live.ResponseStream.Current.Entry is { } entry)
                seen.Add(PositionOf(entry));
        }
        Assert.Equal([before, after], seen);
        // The participant concerned still gets the entries that do not depend on that case.
        using var its = Client(Headquarters).FollowEntries(new() { FromPosition = before }, cancellationToken: Running.Cancel);
        Assert.True(await its.ResponseStream.MoveNext(Running.Cancel));
        Assert.Equal(before, PositionOf(its.ResponseStream.Current.Entry));
        await Running.Refused("UNAVAILABLE", () => its.ResponseStream.MoveNext(Running.Cancel));
    }

    [Theory]
    [InlineData(1ul << 63)]
    [InlineData(ulong.MaxValue)]
    [InlineData(long.MaxValue)]
    public async Task Waiting_for_a_position_that_never_comes_costs_nothing(ulong from)
    {
        var only = Assert.Single(await All("ua/mfa", from));
        Assert.Equal((from, (Entry?)null), (only.NextPosition, only.Entry));
        using var call = Client("ua/mfa").FollowEntries(new() { FromPosition = from }, cancellationToken: Running.Cancel);
        var next = call.ResponseStream.MoveNext(Running.Cancel);
        await Write(100);
        Assert.False(next.IsCompleted);
        await _running.Log();
    }

    [Fact]
    public async Task A_reader_that_leaves_while_its_rights_are_determined_holds_up_nobody()
    {
        var followers = _running.Host.Services.GetRequiredService<Followers>();
        using var call = await Begun("ua/mfa");
        for (var i = 0; i < 20; i++)
        {
            var group = followers.Open(Headquarters);
            var (inbox, _) = followers.Join(group, "");
            var finds = _running.Ledger.Finds;
            var writing = Write(100);
            SpinWait.SpinUntil(() => _running.Ledger.Finds > finds);
            followers.Leave(inbox);
            followers.Close(group);
            var position = await writing;
            for (var next = 0ul; next <= position; next = call.ResponseStream.Current.NextPosition)
                Assert.True(await call.ResponseStream.MoveNext(Running.Cancel).WaitAsync(TimeSpan.FromSeconds(30), Running.Cancel));
        }
    }

    [Fact]
    public async Task A_reader_that_joins_while_others_rights_are_determined_misses_nothing()
    {
        var followers = _running.Host.Services.GetRequiredService<Followers>();
        var (admitted, removed) = (
            new PartyAdmitted
            {
                Case = Running.Case,
                Participant = Headquarters,
                Part = Part.DetainingPower,
                State = "UA",
            },
            new PartyRemoved { Case = Running.Case, Participant = Headquarters }
        );
        for (var i = 0; i < 20; i++)
        {
            var (other, group) = (followers.Open("icrc"), followers.Open(Headquarters));
            var (otherInbox, _) = followers.Join(other, "");
            var finds = _running.Ledger.Finds;
            var writing = Write(100);
            SpinWait.SpinUntil(() => _running.Ledger.Finds > finds);
            var (inbox, from) = followers.Join(group, "");
            await writing;
            await _running.Seed(admitted);
            var position = await Write(100);
            var told = new List<ulong>();
            await Running.Until(
                () =>
                {
                    var (waiting, before, lost) = followers.Take(inbox);
                    Assert.False(lost);
                    told.AddRange(waiting.Select(t => t.Position));
                    return Task.FromResult(before > position);
                },
                "it is told how far it has come"
            );
            if (from <= position)
                Assert.Contains(position, told);
            followers.Leave(inbox);
            followers.Leave(otherInbox);
            followers.Close(group);
            followers.Close(other);
            await _running.Seed(removed);
        }
    }

    [Fact]
    public async Task Watching_a_services_health_takes_a_place_of_streams_and_none_of_calls()
    {
        await With(
            new EdgeLimits
            {
                MaxCalls = 2,
                MaxCallsPerParticipant = 2,
                OwnPlaces = 1,
                MaxStreamsPerParticipant = 2,
            }
        );
        var client = new Health.HealthClient(_running.As("ua/mfa"));
        var open = new List<AsyncServerStreamingCall<HealthCheckResponse>>();
        for (var i = 0; i < 2; i++)
        {
            open.Add(client.Watch(new(), cancellationToken: Running.Cancel));
            Assert.True(await open[i].ResponseStream.MoveNext(Running.Cancel));
        }
        using var third = client.Watch(new(), cancellationToken: Running.Cancel);
        await Running.Refused("OVERLOADED", () => third.ResponseStream.MoveNext(Running.Cancel));
        await client.CheckAsync(new(), cancellationToken: Running.Cancel);
        foreach (var call in open)
            call.Dispose();
    }

    [Theory]
    [InlineData("calllog.v1.CallLogService/GetCall", 0)]
    [InlineData("calllog.v1.CallLogService/LogCall", 4)]
    [InlineData("ledger.v1.LedgerService/FollowEntries", 7)]
    public async Task An_incomplete_request_keeps_its_place_no_longer_than_a_call_may_take(string method, int comes)
    {
        await With(Narrow);
        var http = _running.Http(_running.CertificateOf("ua/mfa"));
        using var request = Post(method, new Halting(Running.FrameOf(new byte[100])[..comes]));
        var e = await Assert.ThrowsAsync<HttpRequestException>(() => http.SendAsync(request, Running.Cancel));
        Assert.Equal(11, Assert.IsType<HttpProtocolException>(e.InnerException).ErrorCode);
        await GivenBack(http, method);
    }

    [Fact]
    public async Task A_write_without_a_place_is_refused_even_if_its_message_never_comes()
    {
        const string method = "calllog.v1.CallLogService/LogCall";
        await With(Narrow with { CallTime = TimeSpan.FromHours(1), PlacesForFlash = 1, PrecedenceDelay = TimeSpan.FromMilliseconds(1) });
        var (held, go) = (new TaskCompletionSource(), new TaskCompletionSource<IMessage?>());
        _running.Ask = _ =>
        {
            held.TrySetResult();
            return go.Task;
        };
        var holding = _running.Log("ua/mfa");
        await held.Task.WaitAsync(Running.Cancel);
        var http = _running.Http(_running.CertificateOf("ua/mfa"));
        var statuses = await Task.WhenAll(Enumerable.Range(0, 100).Select(_ => Status()));
        Assert.All(statuses, s => Assert.Equal(StatusCode.ResourceExhausted, s));
        go.SetResult(null);
        await holding;

        async Task<StatusCode> Status()
        {
            using var request = Post(method, new Halting([]));
            using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Running.Cancel);
            return (StatusCode)int.Parse(response.Headers.GetValues("grpc-status").Single(), CultureInfo.InvariantCulture);
        }
    }

    [Fact]
    public async Task Great_requests_that_come_slowly_have_limited_room_and_small_ones_go_on()
    {
        const string method = "calllog.v1.CallLogService/LogCall";
        const int great = 1 << 20;
        await With(
            new EdgeLimits
            {
                MaxBodyBytes = 3 * great,
                MaxBodyBytesPerParticipant = 2 * great,
                BodyBytesForFlash = 64 << 10,
                RefusalDelay = TimeSpan.FromMilliseconds(1),
            }
        );
        var (one, other) = (_running.Http(_running.CertificateOf("ua/mfa")), _running.Http(_running.CertificateOf("kr/mfa")));
        var (slow, gone) = (_running.Http(_running.CertificateOf("ua/mfa")), new TaskCompletionSource());
        await Begin(slow, 1);
        await Begin(slow, 2);
        Assert.Equal(StatusCode.ResourceExhausted, await Status(one));
        // Another has room, until all together have none. For one message of each there is always room.
        Assert.Equal(StatusCode.InvalidArgument, await Status(other));
        await Begin(_running.Http(_running.CertificateOf("kr/mfa")), 3);
        Assert.Equal(StatusCode.ResourceExhausted, await Status(other));
        Assert.Equal(StatusCode.InvalidArgument, await Status(_running.Http(_running.CertificateOf(Headquarters))));
        await _running.Log("ua/mfa");
        // What is urgent has a little room of its own.
        var urgent = Running.FrameOf(Marked(Precedence.Flash));
        Assert.Equal(StatusCode.ResourceExhausted, await Sent(one, Marked(Precedence.Immediate)));
        Assert.Equal(StatusCode.InvalidArgument, await Sent(one, Marked(Precedence.Flash)));
        _ = slow.SendAsync(Post(method, new Halting(urgent[..^1], gone.Task)), Running.Cancel);
        await Has((3 * great) + urgent.Length - 5);
        Assert.Equal(StatusCode.ResourceExhausted, await Sent(one, Marked(Precedence.Flash)));
        gone.SetException(new IOException("the caller is gone"));
        await Are(0);
        Assert.Equal(StatusCode.InvalidArgument, await Status(one));

        // It says how long it is, and sends a byte.
        async Task Begin(HttpClient http, int count)
        {
            _ = http.SendAsync(Post(method, new Halting([0, 0, 0x10, 0, 0, 0xff], gone.Task)), Running.Cancel);
            await Are(count);
        }

        Task Are(int count) => Has(count * great);

        Task Has(long bytes) =>
            Running.Until(
                () => Task.FromResult(_running.Host.Services.GetRequiredService<Admission>().Bytes == bytes),
                $"requests of {bytes} bytes are in progress"
            );

        Task<StatusCode> Status(HttpClient http) => Sent(http, Enumerable.Repeat((byte)0xff, great).ToArray());

        // Its seventh field is the precedence.
        static byte[] Marked(Precedence precedence) => [0x38, (byte)precedence, .. Enumerable.Repeat((byte)0xff, 40 << 10)];

        // No message has such bytes, so it is refused where it is read.
        async Task<StatusCode> Sent(HttpClient http, byte[] message)
        {
            using var request = Post(method, new ByteArrayContent(Running.FrameOf(message)));
            using var response = await http.SendAsync(request, Running.Cancel);
            return (StatusCode)int.Parse(response.Headers.GetValues("grpc-status").Single(), CultureInfo.InvariantCulture);
        }
    }

    [Fact]
    public async Task An_answer_that_is_not_read_keeps_its_place_no_longer_than_a_call_may_take()
    {
        await With(Narrow);
        var great = await Write(3_500_000);
        var http = _running.Http(_running.CertificateOf("ua/mfa"));
        const string method = "ledger.v1.LedgerService/GetEntry";
        using var request = Post(method, new ByteArrayContent(Running.FrameOf(new GetEntryRequest { Position = great }.ToByteArray())));
        using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Running.Cancel);
        // The connection is busy, so that no minimum data rate ends it.
        await GivenBack(http, method);
        await using var body = await response.Content.ReadAsStreamAsync(Running.Cancel);
        var e = await Assert.ThrowsAnyAsync<HttpIOException>(() => body.CopyToAsync(Stream.Null, Running.Cancel));
        Assert.Equal(11, Assert.IsType<HttpProtocolException>(e).ErrorCode);
    }

    // Limits of one place of each kind.
    private static EdgeLimits Narrow =>
        new()
        {
            CallTime = TimeSpan.FromSeconds(2),
            MaxCalls = 1,
            MaxCallsPerParticipant = 1,
            MaxCallsBesideOthers = 1,
            OwnPlaces = 1,
            MaxStreams = 1,
            MaxStreamsPerParticipant = 1,
            PlacesForFlash = 0,
            RefusalDelay = TimeSpan.FromMilliseconds(1),
        };

    // A call without a message is refused for that reason once there is a free place.
    private Task GivenBack(HttpClient http, string method) =>
        Running.Until(
            async () =>
            {
                using var another = Post(method, new ByteArrayContent([]));
                using var refused = await http.SendAsync(another, Running.Cancel);
                return refused.Headers.GetValues("grpc-status").Single() == $"{(int)StatusCode.InvalidArgument}";
            },
            "the place is given back"
        );

    private HttpRequestMessage Post(string method, HttpContent content)
    {
        content.Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
        return new HttpRequestMessage(HttpMethod.Post, new Uri(_running.Address, $"/ministries.{method}"))
        {
            Version = System.Net.HttpVersion.Version20,
            Content = content,
        };
    }

    /// <summary>A body that begins and never ends.</summary>
    /// <param name="comes">How it begins.</param>
    /// <param name="breaks">When it breaks off; null: never.</param>
    private sealed class Halting(byte[] comes, Task? breaks = null) : HttpContent
    {
        protected override Task SerializeToStreamAsync(Stream stream, System.Net.TransportContext? context) =>
            SerializeToStreamAsync(stream, context, Running.Cancel);

        protected override async Task SerializeToStreamAsync(Stream stream, System.Net.TransportContext? context, CancellationToken cancel)
        {
            await stream.WriteAsync(comes, cancel);
            await stream.FlushAsync(cancel);
            // It does not end when the request is cut, because the caller might then see the end of this wait instead of the cut.
            if (breaks is null)
                await Task.Delay(Timeout.Infinite, Running.Cancel);
            else
                await breaks.WaitAsync(Running.Cancel);
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }

    private async Task With(EdgeLimits limits)
    {
        await _running.DisposeAsync();
        _running = new Running { Limits = limits };
        await _running.InitializeAsync();
    }

    // The service's ledger, as another replica has it.
    private Task<ServiceLedger> Replica() =>
        ServiceLedger.Open(
            new LedgerOptions
            {
                Service = "calllog",
                Kinds = [Cases.Kind, Agreements.Kind],
                Connection = _running.Host.Services.GetRequiredService<Settings>().Ledger,
                Key = _running.Ledger.Key,
                CheckpointFile = Path.Combine(_running.Folder, "other.checkpoint"),
            },
            Running.Cancel
        );

    // Does something each time it is known what a follower may see, while something else runs.
    private static async Task AtRights(Func<Task> happens, Func<Task> runs)
    {
        var hook = Probe.Hook;
        Probe.Hook = point =>
        {
            if (point == "after-rights")
                happens().GetAwaiter().GetResult();
        };
        try
        {
            await runs();
        }
        finally
        {
            Probe.Hook = hook;
        }
    }

    private LedgerService.LedgerServiceClient Client(string participant) => new(_running.As(participant));

    // Opens a stream and returns when it has caught up.
    private async Task<AsyncServerStreamingCall<FollowEntriesResponse>> Begun(string participant, ulong from = 0)
    {
        var call = Client(participant).FollowEntries(new() { FromPosition = from }, cancellationToken: Running.Cancel);
        Assert.True(await call.ResponseStream.MoveNext(Running.Cancel));
        return call;
    }

    private async Task<List<FollowEntriesResponse>> All(string participant, ulong from)
    {
        using var call = Client(participant)
            .FollowEntries(new() { FromPosition = from, UntilNow = true }, cancellationToken: Running.Cancel);
        return await call.ResponseStream.ReadAllAsync(Running.Cancel).ToListAsync(Running.Cancel);
    }

    /// <summary>Commits an entry whose request has so many bytes; returns its position.</summary>
    private async Task<ulong> Write(int bytes, string participant = "kr/mfa", string @case = Running.Case)
    {
        var request = Running.Request();
        request.Account.Minutes = SealedForm.OfBytes(bytes, "ua/mfa", Headquarters, "icrc", "kr/mfa");
        var outcome = await _running.Ledger.Commit(
            new Command
            {
                Participant = participant,
                RequestId = request.RequestId,
                Method = "ministries.calllog.v1.CallLogService/LogCall",
                Request = request,
                Bytes = request.ToByteArray(),
                AgreementVersion = 1,
                StoresRefusal = false,
                Decide = (_, _) => Decision.Accept(@case, @case.Length == 0 ? [] : [Audience.Case(@case)], []),
            },
            Running.Cancel
        );
        return outcome.Position!.Value;
    }

    // How many streams of this process were ended with STREAM_STALLED.
    private async Task<double> Stalled()
    {
        using var http = new HttpClient();
        return (await http.GetStringAsync(new Uri(_running.MetricsAddress, "/metrics"), Running.Cancel))
            .Split('\n')
            .Where(l => l.Contains("STREAM_STALLED", StringComparison.Ordinal) && !l.StartsWith('#'))
            .Sum(l => double.Parse(l.Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture));
    }

    private static ulong PositionOf(Entry entry) => EntryHeader.Parser.ParseFrom(entry.Header).Position;
}
