using System.Collections.Concurrent;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Ministry.Tests;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary>Events to the ministry's systems: each once in order, whoever is restarted.</summary>
/// <remarks>They have services of their own: what other tests log at the same time a webhook would get, too.</remarks>
public class EventsTests(OwnServices own) : IClassFixture<OwnServices>
{
    private readonly Services _services = own.Services;

    private JsonObject Call() => PlainJson.Write(_services.Call());

    [Theory, InlineData(Engine.Sqlite), InlineData(Engine.Postgres)]
    public async Task A_stream_goes_on_after_the_last_event_also_over_a_restart(Engine engine)
    {
        var mirror = await RunningGateway.MirrorOn(engine);
        var state = Directory.CreateTempSubdirectory("events").FullName;
        List<(string Id, JsonObject Event)> first;
        string call;
        await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { Mirror = mirror }, state))
        {
            call = (string)(await gateway.Post("/v1/calllog/LogCall", Call())).Body["call"]!;
            first = await Read(gateway, null, e => Names(e, call));
        }
        await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { Mirror = mirror }, state))
        {
            var next = (string)(await gateway.Post("/v1/calllog/LogCall", Call())).Body["call"]!;
            var rest = await Read(gateway, first[^1].Id, e => Names(e, next));
            var again = await Read(gateway, null, e => Names(e, next));
            Assert.Equal(again.Select(e => e.Id), [.. first.Select(e => e.Id), .. rest.Select(e => e.Id)]);
            Assert.Equal(again.Count, again.Select(e => (string?)e.Event["id"]).Distinct().Count());
            var last = again[^1].Event;
            Assert.Equal(
                ("1.0", "ministries.calllog.v1.CallLogged", _services.Case),
                ((string?)last["specversion"], (string?)last["type"], (string?)last["subject"])
            );
            using var request = new HttpRequestMessage(HttpMethod.Get, "/events");
            request.Headers.Add("Last-Event-ID", "0011223344556677-1");
            using var answer = await gateway.Http.SendAsync(request, Cancel);
            Assert.Equal(HttpStatusCode.Conflict, answer.StatusCode);
            // Of a type that there is not, none would ever come.
            Assert.Equal(400, (await gateway.Get("/events?type=CallLogged")).Status);
        }
        Directory.Delete(state, recursive: true);
    }

    [Fact]
    public async Task A_stream_ends_after_its_time_so_that_its_reader_shows_again_who_he_is()
    {
        var time = new MovedStopwatch();
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", time: time);
        using var stream = await gateway.Http.GetAsync("/events?from=now", HttpCompletionOption.ResponseHeadersRead, Cancel);
        time.By = GatewayHost.StreamTime + TimeSpan.FromSeconds(1);
        // The stream looks at the time when something comes.
        Assert.Equal(200, (await gateway.Post("/v1/calllog/LogCall", Call())).Status);
        await stream.Content.ReadAsStringAsync(Cancel);
    }

    [Theory, InlineData(Engine.Sqlite), InlineData(Engine.Postgres)]
    public async Task A_webhook_gets_each_event_signed_and_in_order_and_what_it_does_not_take_is_a_dead_letter(Engine engine)
    {
        var mirror = await RunningGateway.MirrorOn(engine);
        var secret = RandomNumberGenerator.GetBytes(32);
        var file = RunningGateway.SecretAt(Path.Combine(Directory.CreateTempSubdirectory("webhook").FullName, "secret"), secret);
        await using var receiver = await Receiver.Start();
        await using var gateway = await RunningGateway.Start(
            _services,
            "kr/mfa",
            s =>
                s with
                {
                    Mirror = mirror,
                    Webhooks =
                    [
                        new WebhookSettings
                        {
                            Name = "cases",
                            Url = receiver.Address,
                            Secret = file,
                            Types = ["ministries.calllog.v1.CallLogged"],
                            Attempts = 2,
                        },
                    ],
                }
        );
        var calls = new List<string>();
        for (var i = 0; i < 3; i++)
            calls.Add((string)(await gateway.Post("/v1/calllog/LogCall", Call())).Body["call"]!);

        await Until(() => Task.FromResult(receiver.Got.Any(g => g.Body.Contains(calls[2]))));

        var ids = receiver.Got.Select(g => g.Id).ToList();
        Assert.Equal(ids.Distinct(), ids);
        var positions = ids.Select(id => int.Parse(id.Split('/')[1])).ToList();
        Assert.Equal(positions.Order(), positions);
        foreach (var got in receiver.Got)
        {
            var signed = HMACSHA256.HashData(secret, Encoding.UTF8.GetBytes($"{got.Id}.{got.Timestamp}.{got.Body}"));
            Assert.Equal($"v1,{Convert.ToBase64String(signed)}", got.Signature);
        }
        // It takes nothing now: after two attempts the event is set aside.
        receiver.Status = 500;
        var refused = (await gateway.Post("/v1/calllog/LogCall", Call())).Body;
        var id = $"calllog/{refused["receipt"]!["position"]}/0";
        JsonNode? dead = null;
        await Until(async () => (dead = await DeadLetter()) is not null);
        Assert.Equal((2, "it answered 500"), ((int)dead!["attempts"]!, (string?)dead["error"]));
        receiver.Status = 204;
        // However many others there are, of which the first page shows the first.
        await gateway
            .Host.Services.GetRequiredService<Mirror>()
            .Store.File.Write(c =>
            {
                for (var i = 0; i < 200; i++)
                    Database.Run(c, "insert into undelivered values ('cases', @0, 'other', 1, 'it answered 500', 0)", $"other/0/{i}");
            });
        var (_, page, _) = await gateway.Get("/webhooks/cases/dead-letters");
        Assert.Equal((200, 201), (page["dead_letters"]!.AsArray().Count, (int)page["total"]!));
        Assert.DoesNotContain(id, page["dead_letters"]!.AsArray().Select(d => (string?)d!["id"]));
        var (_, last, _) = await gateway.Get($"/webhooks/cases/dead-letters?after={Uri.EscapeDataString((string)page["next"]!)}");
        Assert.Equal([id], last["dead_letters"]!.AsArray().Select(d => (string?)d!["id"]));
        Assert.Null(last["next"]);
        foreach (var wrong in (string[])["page=2", "after=x", "after="])
            Assert.Equal(400, (await gateway.Get($"/webhooks/cases/dead-letters?{wrong}")).Status);
        var (_, replayed, _) = await gateway.Post("/webhooks/cases/replay", new JsonObject { ["id"] = id });
        Assert.True((bool)replayed["taken"]!);
        Assert.Contains(receiver.Got, g => g.Body.Contains((string)refused["call"]!) && g.Status == 204);
        Assert.Equal(200, (int)(await gateway.Get("/status")).Body["dead_letters"]!);

        async Task<JsonNode?> DeadLetter() =>
            (await gateway.Get("/webhooks/cases/dead-letters")).Body["dead_letters"]!
                .AsArray()
                .FirstOrDefault(d => (string?)d!["id"] == id);
    }

    [Theory, InlineData(Engine.Sqlite), InlineData(Engine.Postgres)]
    public async Task A_webhook_that_was_away_gets_what_it_missed_in_order_also_over_a_restart(Engine engine)
    {
        var mirror = await RunningGateway.MirrorOn(engine);
        var state = Directory.CreateTempSubdirectory("events").FullName;
        var file = RunningGateway.SecretAt(Path.Combine(state, "secret"));
        await using var receiver = await Receiver.Start();
        receiver.Status = 503;
        GatewaySettings Set(GatewaySettings settings) =>
            settings with
            {
                Mirror = mirror,
                Webhooks =
                [
                    new WebhookSettings
                    {
                        Name = "cases",
                        Url = receiver.Address,
                        Secret = file,
                    },
                ],
            };
        string call;
        await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", Set, state))
        {
            call = (string)(await gateway.Post("/v1/calllog/LogCall", Call())).Body["call"]!;
            await Until(() => Task.FromResult(receiver.Got.Count > 1));
        }
        // It was given one event, again and again, and no later one.
        Assert.Single(receiver.Got.Select(g => g.Id).Distinct());
        receiver.Status = 204;
        await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", Set, state))
        {
            await Until(() => Task.FromResult(receiver.Got.Any(g => g.Body.Contains($"\"{call}\"") && g.Body.Contains(".CallLogged"))));
            var all = await Read(gateway, null, e => Names(e, call));
            var taken = receiver.Got.Where(g => g.Status == 204).Select(g => g.Id).Take(all.Count);
            Assert.Equal(all.Select(e => (string?)e.Event["id"]), taken);
        }
        Directory.Delete(state, recursive: true);
    }

    /// <summary>A record that this version cannot read, or does not know as an event, holds up no later event.
    /// </summary>
    [Fact]
    public async Task An_event_that_cannot_be_read_has_its_bytes_and_the_next_ones_come()
    {
        // Entries that are recorded here stay with these services.
        await using var own = new OwnServices();
        await own.InitializeAsync();
        var services = own.Services;
        var state = Directory.CreateTempSubdirectory("events").FullName;
        var file = RunningGateway.SecretAt(Path.Combine(state, "secret"));
        await using var receiver = await Receiver.Start();
        var hook = new WebhookSettings
        {
            Name = "cases",
            Url = receiver.Address,
            Secret = file,
        };
        await using var gateway = await RunningGateway.Start(services, "kr/mfa", s => s with { Webhooks = [hook] }, state);
        var late = new DutyFellDue { DueTime = new Timestamp { Seconds = 10_000_000_000_000 } };
        // Not an event, but a message of the contracts. It claims to hold another message, but does not.
        var answer = new Answer
        {
            Response = new Any { TypeUrl = "type.googleapis.com/ministries.ledger.v1.Event", Value = ByteString.CopyFrom(0xff) },
        };
        var position = await Record(
            services,
            "service/calllog",
            new Change(new CallsLinked { Case = services.Case }, []),
            new Change(new Unreadable(), []),
            new Change(late, []),
            new Change(answer, []),
            new Change(new Receipt { Position = 1 }, []),
            new Change(new CallsLinked { Case = services.Case }, [])
        );

        string[] all = [.. Enumerable.Range(0, 6).Select(i => $"calllog/{position}/{i}")];
        var read = (await Read(gateway, null, e => (string?)e["id"] == all[^1])).Select(e => e.Event).ToList();
        await Until(() => Task.FromResult(receiver.Got.Any(g => g.Id == all[^1])));

        Assert.Equal(all, read.Select(e => (string?)e["id"]).Intersect(all));
        Assert.Equal(all, receiver.Got.Select(g => g.Id).Intersect(all));
        foreach (
            var (id, bytes) in ((string, byte[])[])
                [
                    (all[1], [0xff]),
                    (all[2], late.ToByteArray()),
                    (all[3], answer.ToByteArray()),
                    (all[4], new Receipt { Position = 1 }.ToByteArray()),
                ]
        )
        {
            var e = read.Single(e => (string?)e["id"] == id);
            Assert.Equal("application/protobuf", (string?)e["datacontenttype"]);
            Assert.Equal(Convert.ToBase64String(bytes), (string?)e["data_base64"]);
            Assert.False(e.ContainsKey("data"));
            Assert.Equal(e.ToJsonString(), receiver.Got.Single(g => g.Id == id).Body);
        }
        Assert.Equal(services.Case, (string?)read.Single(e => (string?)e["id"] == all[^1])["data"]!["case"]);
        await gateway.DisposeAsync();
        Directory.Delete(state, recursive: true);
    }

    // Nothing proves an observer's events, so a service may call them what it likes.
    [Theory]
    [InlineData("x\ndata: {}\n\nid: 1")]
    [InlineData("ministries.calllog.v1.CallsLinked\n")]
    [InlineData("others.v1.CallsLinked")]
    [InlineData("")]
    public async Task An_event_whose_type_is_no_name_stops_the_mirror_and_comes_to_nobody(string type)
    {
        await using var own = new OwnServices();
        await own.InitializeAsync();
        var services = own.Services;
        var position = await Record(services, "icrc", new Change(new CallsLinked { Case = services.Case }, []));
        services.Forged = entry =>
        {
            if (EntryHeader.Parser.ParseFrom(entry.Header) is not { Participant: "icrc" } header || header.Position != position)
                return entry;
            Assert.True(entry.Privileged);
            entry.Parts.Single().Data = new Events
            {
                Events_ =
                {
                    new Event { Type = type, Case = services.Case },
                },
            }.ToByteString();
            return entry;
        };
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        await MirrorTests.Stopped(gateway, "calllog", "has a type that is not the name of a message");
        Assert.DoesNotContain(await gateway.Events(), e => e.Service == "calllog" && e.Position == position);
    }

    // Records events in the call log for everybody to see. Returns the entry's position.
    private static async Task<ulong> Record(Services services, string participant, params Change[] changes)
    {
        var ledger = services.Hosts["calllog"].Services.GetRequiredService<ServiceLedger>();
        var outcome = await ledger.Commit(
            new Command
            {
                Participant = participant,
                RequestId = Guid.NewGuid().ToString(),
                Method = "recorded by a test",
                Request = new CallsLinked(),
                Bytes = ReadOnlyMemory<byte>.Empty,
                AgreementVersion = 1,
                Signature = participant.StartsWith("service/", StringComparison.Ordinal)
                    ? null
                    : new RequestSignature { Signature = "none" },
                Decide = (_, _) => Decision.Accept(services.Case, [Audience.Everybody], changes),
            },
            Cancel
        );
        return outcome.Position!.Value;
    }

    // Bytes that are no message.
    private sealed class Unreadable : IMessage
    {
        public Google.Protobuf.Reflection.MessageDescriptor Descriptor => CallsLinked.Descriptor;

        public int CalculateSize() => 1;

        public void MergeFrom(CodedInputStream input) => throw new NotSupportedException();

        public void WriteTo(CodedOutputStream output) => output.WriteRawTag(0xff);
    }

    [Fact]
    public async Task The_pauses_between_the_attempts_of_a_webhook_double_up_to_two_hours()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa");
        Assert.Equal(200, (await gateway.Post("/v1/calllog/LogCall", Call())).Status);
        await Until(async () => (await gateway.Events()).Count > 0);
        var file = RunningGateway.SecretAt(Path.Combine(gateway.State, "secret"));
        await using var receiver = await Receiver.Start();
        receiver.Status = 503;
        var hook = new WebhookSettings
        {
            Name = "cases",
            Url = receiver.Address,
            Secret = file,
        };
        var time = new Hurried();
        // Beside the gateway, which has none: its clock is this one alone.
        using var hooks = new Webhooks(
            gateway.Settings with
            {
                Webhooks = [hook],
            },
            gateway.Host.Services.GetRequiredService<Mirror>(),
            gateway.Host.Services.GetRequiredService<EventStream>(),
            time,
            Microsoft.Extensions.Logging.Abstractions.NullLogger<Webhooks>.Instance
        );

        await hooks.StartAsync(Cancel);
        await Until(() => Task.FromResult(hooks.DeadLetters("cases")!.Total > 0));
        receiver.Status = 204;
        await hooks.StopAsync(Cancel);

        var pauses = time.Waited.Take(hook.Attempts - 1).ToList();
        Assert.Equal(hook.Attempts - 1, pauses.Count);
        Assert.All(
            pauses.Select((p, i) => (Pause: p, Meant: TimeSpan.FromSeconds(Math.Min(7200, Math.Pow(2, i))))),
            // A quarter more or less, so that not all webhooks of all gateways come back at once.
            p => Assert.InRange(p.Pause, p.Meant * 0.75 - Moment, p.Meant * 1.25 + Moment)
        );
        // Each attempt is dated when it is made.
        var first = receiver.Got.Where(g => g.Id == receiver.Got.First().Id).Take(hook.Attempts).ToList();
        Assert.Equal(hook.Attempts, first.Count);
        Assert.All(
            first.Zip(first.Skip(1)).Zip(pauses),
            p => Assert.InRange(Of(p.First.Second) - Of(p.First.First), (long)p.Second.TotalSeconds, (long)p.Second.TotalSeconds + 1)
        );

        static long Of(Delivery delivery) => long.Parse(delivery.Timestamp);
    }

    [Fact]
    public async Task A_webhook_does_not_wait_for_a_time_that_the_clock_no_longer_shows()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa");
        Assert.Equal(200, (await gateway.Post("/v1/calllog/LogCall", Call())).Status);
        await Until(async () => (await gateway.Events()).Count > 0);
        var file = RunningGateway.SecretAt(Path.Combine(gateway.State, "secret"));
        await using var receiver = await Receiver.Start();
        receiver.Status = 503;
        // Two attempts, so that the first is noted.
        await Run(new MovedClock { By = TimeSpan.FromDays(365) }, () => receiver.Got.Count > 1);
        receiver.Status = 204;
        await Run(TimeProvider.System, () => receiver.Got.Any(g => g.Status == 204));

        async Task Run(TimeProvider time, Func<bool> until)
        {
            using var hooks = new Webhooks(
                gateway.Settings with
                {
                    Webhooks =
                    [
                        new WebhookSettings
                        {
                            Name = "cases",
                            Url = receiver.Address,
                            Secret = file,
                        },
                    ],
                },
                gateway.Host.Services.GetRequiredService<Mirror>(),
                gateway.Host.Services.GetRequiredService<EventStream>(),
                time,
                Microsoft.Extensions.Logging.Abstractions.NullLogger<Webhooks>.Instance
            );
            await hooks.StartAsync(Cancel);
            await Until(() => Task.FromResult(until()));
            await hooks.StopAsync(Cancel);
        }
    }

    // What is stored of a time may be rounded.
    private static readonly TimeSpan Moment = TimeSpan.FromMilliseconds(2);

    // A clock that every wait moves forward, so that no test really waits.
    private sealed class Hurried : TimeProvider
    {
        private readonly DateTimeOffset _start = DateTimeOffset.UtcNow;
        private long _moved;

        public ConcurrentQueue<TimeSpan> Waited { get; } = [];

        public override DateTimeOffset GetUtcNow() => _start + new TimeSpan(Interlocked.Read(ref _moved));

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            Waited.Enqueue(dueTime);
            Interlocked.Add(ref _moved, dueTime.Ticks);
            return base.CreateTimer(callback, state, TimeSpan.Zero, period);
        }
    }

    // Events of other services name the call, too.
    private static bool Names(JsonObject e, string call) =>
        (string?)e["type"] == "ministries.calllog.v1.CallLogged" && (string?)e["data"]?["call"] == call;

    internal static async Task<List<(string Id, JsonObject Event)>> Read(RunningGateway gateway, string? after, Func<JsonObject, bool> last)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/events");
        if (after is not null)
            request.Headers.Add("Last-Event-ID", after);
        using var answer = await gateway.Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
        Assert.Equal("text/event-stream", answer.Content.Headers.ContentType?.MediaType);
        using var reader = new StreamReader(await answer.Content.ReadAsStreamAsync(Cancel));
        var (events, id) = (new List<(string, JsonObject)>(), "");
        while (await reader.ReadLineAsync(Cancel) is { } line)
            if (line.StartsWith("id: ", StringComparison.Ordinal))
                id = line[4..];
            else if (line.StartsWith("data: ", StringComparison.Ordinal))
            {
                var e = JsonNode.Parse(line[6..])!.AsObject();
                events.Add((id, e));
                if (last(e))
                    return events;
            }
        throw new EndOfStreamException("the stream ended");
    }

    internal sealed record Delivery(string Id, string Timestamp, string Signature, string Body, int Status);

    internal sealed class Receiver : IAsyncDisposable
    {
        private WebApplication _host = null!;

        public Uri Address { get; } = new($"http://127.0.0.1:{Ports.Free()}/events");

        public ConcurrentQueue<Delivery> Got { get; } = [];

        public int Status { get; set; } = 204;

        /// <summary>Is called with each delivery before it is answered; null: nothing is.</summary>
        public Func<Delivery, Task>? Before { get; set; }

        public static async Task<Receiver> Start()
        {
            var receiver = new Receiver();
            var builder = WebApplication.CreateSlimBuilder();
            builder.Logging.ClearProviders();
            builder.WebHost.ConfigureKestrel(k => k.Listen(IPAddress.Loopback, receiver.Address.Port));
            receiver._host = builder.Build();
            receiver._host.MapPost(
                "/events",
                async (HttpContext http) =>
                {
                    using var reader = new StreamReader(http.Request.Body);
                    var headers = http.Request.Headers;
                    var delivery = new Delivery(
                        headers["webhook-id"]!,
                        headers["webhook-timestamp"]!,
                        headers["webhook-signature"]!,
                        await reader.ReadToEndAsync(),
                        receiver.Status
                    );
                    receiver.Got.Enqueue(delivery);
                    await (receiver.Before?.Invoke(delivery) ?? Task.CompletedTask);
                    http.Response.StatusCode = receiver.Status;
                }
            );
            await receiver._host.StartAsync();
            return receiver;
        }

        public async ValueTask DisposeAsync()
        {
            await _host.StopAsync();
            await _host.DisposeAsync();
        }
    }
}
