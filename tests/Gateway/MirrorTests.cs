using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Grpc.Net.Client;
using Microsoft.Data.Sqlite;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Ministries.Ministry.Tests;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary>The participant's own copy. The tests stop services, so they have services of their own.</summary>
public class MirrorTests(OwnServices own) : IClassFixture<OwnServices>
{
    private readonly Services _services = own.Services;

    // Without commitments, so that nothing is drafted that would change the call afterwards.
    private JsonObject Call()
    {
        var call = PlainJson.Write(_services.Call());
        call["account"]!.AsObject().Remove("commitments");
        return call;
    }

    [Theory, InlineData(Engine.Sqlite), InlineData(Engine.Postgres)]
    public async Task Without_the_services_it_answers_what_was_seen_and_says_since_when(Engine engine)
    {
        var mirror = await RunningGateway.MirrorOn(engine);
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 20, Mirror = mirror });
        var before = DateTimeOffset.UtcNow;
        var (_, logged, _) = await gateway.Post("/v1/calllog/LogCall", Call());
        var path = $"/v1/calllog/GetCall?call={logged["call"]}";
        await Until(async () => (await gateway.Get($"{path}&as_of={Time(DateTimeOffset.UtcNow)}")).Status == 200);
        var first = DateTimeOffset.UtcNow;
        var (status, amended, _) = await gateway.Post(
            "/v1/calllog/AmendReadout",
            new JsonObject
            {
                ["actor"] = PlainJson.Write(Actor),
                ["case"] = _services.Case,
                ["call"] = (string?)logged["call"],
                ["account"] = Call()["account"]!.DeepClone(),
                ["explanation"] = new JsonObject
                {
                    ["reason"] = new JsonObject { ["language"] = "en", ["text"] = "A clerical error." },
                },
            }
        );
        Assert.True(status == 200, amended.ToJsonString());
        var etag = (string?)amended["etag"];
        await Until(async () => (string?)(await gateway.Get($"{path}&as_of={Time(DateTimeOffset.UtcNow)}")).Body["etag"] == etag);

        await _services.Stop("calllog");

        var (found, now, answer) = await gateway.Get(path);
        Assert.Equal((200, etag), (found, (string?)now["etag"]));
        Assert.Equal("mirror", answer.Headers.GetValues("Ministries-Source").Single());
        Assert.True(DateTimeOffset.Parse(answer.Headers.GetValues("Ministries-Checked").Single()) > before);
        Assert.Equal((string?)logged["etag"], (string?)(await gateway.Get($"{path}&as_of={Time(first)}")).Body["etag"]);
        using (var channel = GrpcChannel.ForAddress(gateway.Settings.Listen, new GrpcChannelOptions { HttpClient = gateway.Http }))
        using (
            var call = new CallLogService.CallLogServiceClient(channel).GetCallAsync(
                new GetCallRequest { Call = (string?)logged["call"] },
                cancellationToken: Cancel
            )
        )
        {
            Assert.Equal(etag, (await call).Etag);
            var headers = await call.ResponseHeadersAsync;
            Assert.Equal("mirror", headers.GetValue("ministries-source"));
            Assert.True(DateTimeOffset.Parse(headers.GetValue("ministries-checked")!) > before);
        }
        var (unknown, problem, _) = await gateway.Get($"{path}&as_of={Time(before)}");
        Assert.Equal((404, "NOT_IN_MIRROR"), (unknown, (string?)problem["reason"]));
        // A list, too. Other tests register prisoners in the same case.
        await _services.Stop("custody");
        var (_, prisoners, _) = await gateway.Get($"/v1/custody/ListPrisoners?case={_services.Case}");
        var listed = prisoners["prisoners"]!.AsArray().Select(p => (string?)p!["prisoner"]).ToList();
        Assert.Equal(listed.Count, listed.Distinct().Count());
        Assert.Empty(_services.Prisoners.Except(listed));
        var (unreachable, refused, _) = await gateway.Get("/v1/calllog/GetCall?call=call_00000000000000000000000000");
        Assert.Equal((503, "SERVICE_UNREACHABLE"), (unreachable, (string?)refused["reason"]));
        await _services.Start("custody");
        await _services.Start("calllog");
    }

    [Theory, InlineData(Engine.Sqlite), InlineData(Engine.Postgres)]
    public async Task Nothing_was_known_before_it_was_read(Engine engine)
    {
        var (clock, mirror) = (new MovedClock(), await RunningGateway.MirrorOn(engine));
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { Mirror = mirror }, time: clock);
        await gateway.HasAll(_services);
        var read = new ConcurrentDictionary<string, DateTimeOffset>();
        // To read a record takes a minute.
        _services.Later = answer =>
        {
            if (answer is GetCallResponse get && read.TryAdd(get.Call.Id, clock.GetUtcNow()))
                clock.By += TimeSpan.FromMinutes(1);
            return answer;
        };
        try
        {
            var call = _services.Call();
            call.Account.Commitments.Clear();
            var logged = await _services.As("kr/mfa").CallLog.LogCallAsync(call, cancellationToken: Cancel);
            Task<(int Status, JsonObject Body, HttpResponseMessage Answer)> At(DateTimeOffset time) =>
                gateway.Get($"/v1/calllog/GetCall?call={logged.Call}&as_of={Time(time)}");
            await Until(async () => (await At(clock.GetUtcNow())).Status == 200);
            var (status, problem, _) = await At(read[logged.Call].AddSeconds(30));
            Assert.Equal((404, "NOT_IN_MIRROR"), (status, (string?)problem["reason"]));
        }
        finally
        {
            _services.Later = null;
        }
    }

    // A participant that has left the case since the copy was made must not get the content.
    [Fact]
    public async Task Nothing_is_sealed_to_those_whom_the_copy_alone_names()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 20 });
        var (_, logged, _) = await gateway.Post("/v1/calllog/LogCall", Call());
        await Until(async () =>
            (await gateway.Get($"/v1/custody/GetCase?case={_services.Case}&as_of={Time(DateTimeOffset.UtcNow)}")).Status == 200
        );
        var explanation = new JsonObject
        {
            ["reason"] = new JsonObject { ["language"] = "en", ["text"] = "A clerical error." },
        };
        var amend = new JsonObject
        {
            ["actor"] = PlainJson.Write(Actor),
            ["case"] = _services.Case,
            ["call"] = (string?)logged["call"],
            ["account"] = Call()["account"]!.DeepClone(),
            ["explanation"] = explanation,
        };
        await _services.Stop("custody");
        try
        {
            var (away, problem, _) = await gateway.Post("/v1/calllog/AmendReadout", amend);
            Assert.Equal((503, "SERVICE_UNREACHABLE"), (away, (string?)problem["reason"]));
            Assert.Contains("name the recipients", (string?)problem["detail"]);
            Assert.Equal("explanation", (string?)problem["faults"]?[0]!["field"]);

            explanation["@sealed"] = new JsonObject { ["recipients"] = new JsonArray("kr/mfa", "ua/mfa") };
            var (status, amended, _) = await gateway.Post("/v1/calllog/AmendReadout", amend);
            Assert.True(status == 200, amended.ToJsonString());
        }
        finally
        {
            await _services.Start("custody");
        }
    }

    [Theory, InlineData(Engine.Sqlite), InlineData(Engine.Postgres)]
    public async Task What_was_seen_last_is_shown_also_after_the_clock_was_put_back(Engine engine)
    {
        var mirror = await RunningGateway.MirrorOn(engine);
        var clock = new MovedClock { By = TimeSpan.FromMinutes(10) };
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { Mirror = mirror }, time: clock);
        var kr = _services.As("kr/mfa");
        var call = _services.Call();
        call.Account.Commitments.Clear();
        var logged = await kr.CallLog.LogCallAsync(call, cancellationToken: Cancel);
        await Until(() => Followed(gateway, "calllog", $"{logged.Receipt.Position}"));
        clock.By = TimeSpan.Zero;
        var amend = new AmendReadoutRequest
        {
            Actor = Actor,
            Case = _services.Case,
            Call = logged.Call,
            Etag = logged.Etag,
            Account = call.Account,
        };
        await kr.Seal(
            amend,
            new Types.V1.ReadoutReason
            {
                Reason = new() { Language = "en", Text_ = "A clerical error." },
            },
            Cancel
        );
        var amended = await kr.CallLog.AmendReadoutAsync(amend, cancellationToken: Cancel);
        await Until(() => Followed(gateway, "calllog", $"{amended.Receipt.Position}"));

        await _services.Stop("calllog");
        var (_, shown, _) = await gateway.Get($"/v1/calllog/GetCall?call={logged.Call}");
        await _services.Start("calllog");

        Assert.Equal(amended.Etag, (string?)shown["etag"]);
    }

    [Theory, InlineData(Engine.Sqlite), InlineData(Engine.Postgres)]
    public async Task What_was_known_of_a_prisoner_at_a_time_is_what_was_seen_of_him_then(Engine engine)
    {
        var mirror = await RunningGateway.MirrorOn(engine);
        await using var gateway = await RunningGateway.Start(_services, "ua/coordination-hq", s => s with { Mirror = mirror });
        var headquarters = _services.As("ua/coordination-hq");
        var registered = await Register(headquarters, _services.Case);
        var path = $"/v1/custody/GetPrisoner?case={_services.Case}&prisoner={registered.Prisoner}";
        await Until(async () => (await At(DateTimeOffset.UtcNow)).Status == 200);
        var before = DateTimeOffset.UtcNow;

        var seen = await headquarters.Custody.GetPrisonerAsync(
            new() { Case = _services.Case, Prisoner = registered.Prisoner },
            cancellationToken: Cancel
        );
        await headquarters.Custody.RecordStatusAsync(
            new()
            {
                Actor = Actor,
                Etag = seen.Etag,
                Case = _services.Case,
                Prisoner = registered.Prisoner,
                Status = Custody.V1.CustodyState.Interned,
                StatusTime = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow.AddDays(-1)),
            },
            cancellationToken: Cancel
        );

        const string interned = "CUSTODY_STATE_INTERNED";
        await Until(async () => (await At(DateTimeOffset.UtcNow)).Body["prisoner"]!.ToJsonString().Contains(interned));
        var then = await At(before);
        Assert.Equal(200, then.Status);
        Assert.DoesNotContain(interned, then.Body["prisoner"]!.ToJsonString());
        Assert.Contains("CUSTODY_STATE_REGISTERED", then.Body["prisoner"]!.ToJsonString());
        Assert.True(DateTimeOffset.Parse(then.Answer.Headers.GetValues("Ministries-Seen").Single()) <= before);

        Task<(int Status, JsonObject Body, HttpResponseMessage Answer)> At(DateTimeOffset time) =>
            gateway.Get($"{path}&as_of={Time(time)}");
    }

    private static async Task<Custody.V1.RegisterPrisonerResponse> Register(MinistryClient headquarters, string into)
    {
        var seen = await headquarters.Custody.GetCaseAsync(new() { Case = into }, cancellationToken: Cancel);
        var register = new Custody.V1.RegisterPrisonerRequest
        {
            Actor = Actor,
            Etag = seen.Etag,
            Case = into,
            Status = Custody.V1.CustodyState.Registered,
            CaptureTime = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow.AddDays(-60)),
        };
        await headquarters.Seal(register, Identity, Cancel);
        return await headquarters.Custody.RegisterPrisonerAsync(register, cancellationToken: Cancel);
    }

    [Theory, InlineData(Engine.Sqlite), InlineData(Engine.Postgres)]
    public async Task An_entry_that_is_kept_back_stops_it_with_an_alarm(Engine engine)
    {
        var mirror = await RunningGateway.MirrorOn(engine);
        var state = Directory.CreateTempSubdirectory("mirror").FullName;
        await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { Mirror = mirror }, state))
        {
            var (_, logged, _) = await gateway.Post("/v1/calllog/LogCall", Call());
            var position = (string)logged["receipt"]!["position"]!;
            await Until(() => Followed(gateway, "calllog", position));
            // What comes next is shown to nobody, however often it is asked for.
            _services.KeptBack = header => header.Method.EndsWith("/LogCall") && header.Position == ulong.Parse(position) + 1;
            try
            {
                await gateway.Post("/v1/calllog/LogCall", Call());
                await gateway.Post("/v1/calllog/LogCall", Call());
                await Stopped(gateway, "calllog", "is missing");
            }
            finally
            {
                _services.KeptBack = null;
            }
            var (status, problem, _) = await gateway.Get(
                $"/v1/calllog/GetCall?call=call_00000000000000000000000000&as_of={Time(DateTimeOffset.UtcNow)}"
            );
            Assert.Equal((503, "MIRROR_STOPPED"), (status, (string?)problem["reason"]));
        }
        // A restart does not make it forget.
        await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { Mirror = mirror }, state))
            await Stopped(gateway, "calllog", "is missing");
        Directory.Delete(state, recursive: true);
    }

    [Theory]
    [InlineData(Engine.Sqlite, true)]
    [InlineData(Engine.Sqlite, false)]
    [InlineData(Engine.Postgres, true)]
    [InlineData(Engine.Postgres, false)]
    public async Task Who_is_admitted_to_a_case_meanwhile_gets_all_of_it_and_no_alarm(Engine engine, bool running)
    {
        var mirror = await RunningGateway.MirrorOn(engine);
        var state = Directory.CreateTempSubdirectory("mirror").FullName;
        var headquarters = _services.As("ua/coordination-hq");
        var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { Mirror = mirror }, state);
        try
        {
            var opened = await headquarters.Custody.OpenCaseAsync(new() { Actor = Actor }, cancellationToken: Cancel);
            var registered = await Register(headquarters, opened.Case);
            // It has gone on beyond these, which it may not see.
            var (_, logged, _) = await gateway.Post("/v1/calllog/LogCall", Call());
            await Until(() => Followed(gateway, "calllog", (string)logged["receipt"]!["position"]!));
            if (!running)
                await gateway.DisposeAsync();

            var admitted = await Admit("kr/mfa", Types.V1.Part.RequestingState);
            var next = await Admit("ua/mfa", Types.V1.Part.DetainingPower);

            if (!running)
                gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { Mirror = mirror }, state);
            await Until(() => Followed(gateway, "custody", $"{next}"));
            var status = (await gateway.Get("/status")).Body["mirror"]!.AsArray();
            Assert.All(status, m => Assert.Null((string?)m!["alarm"]));
            ulong[] all = [opened.Receipt.Position, registered.Receipt.Position, admitted, next];
            var mirrored = (await gateway.Events()).Where(e => e.Service == "custody" && e.Case == opened.Case).Select(e => e.Position);
            Assert.Equal(all, mirrored.Distinct().Order());

            async Task<ulong> Admit(string participant, Types.V1.Part part)
            {
                var seen = await headquarters.Custody.GetCaseAsync(new() { Case = opened.Case }, cancellationToken: Cancel);
                var admit = new Custody.V1.AdmitPartyRequest
                {
                    Actor = Actor,
                    Etag = seen.Etag,
                    Case = opened.Case,
                    Participant = participant,
                    Part = part,
                };
                return (await headquarters.Custody.AdmitPartyAsync(admit, cancellationToken: Cancel)).Receipt.Position;
            }
        }
        finally
        {
            await gateway.DisposeAsync();
            Directory.Delete(state, recursive: true);
        }
    }

    [Fact]
    public async Task What_a_ministry_wrote_is_proved_also_after_it_became_a_neutral_observer()
    {
        await using var own = new OwnServices();
        await own.InitializeAsync();
        var services = own.Services;
        var call = services.Call();
        call.Account.Commitments.Clear();
        var logged = await services.As("kr/mfa").CallLog.LogCallAsync(call, cancellationToken: Cancel);
        var version = Signing.Next(services.Folder, a => Signing.Of(a, "kr/mfa").Kind = Types.V1.ParticipantKind.NeutralObserver).Version;
        var ledger = services.As("ua/mfa").LedgerOf("calllog");
        var adopted = 0ul;
        await Until(async () =>
        {
            try
            {
                var entry = (await ledger.GetEntryAsync(new() { AgreementVersion = version }, cancellationToken: Cancel)).Entry;
                adopted = EntryHeader.Parser.ParseFrom(entry.Header).Position;
                return true;
            }
            catch (RefusedException e) when (e.Reason == "NOT_FOUND")
            {
                return false;
            }
        });

        var shown = (await ledger.GetEntryAsync(new() { Position = logged.Receipt.Position }, cancellationToken: Cancel)).Entry;

        Assert.False(shown.Privileged);
        await using var gateway = await RunningGateway.Start(services, "ua/mfa");
        await Until(() => Followed(gateway, "calllog", $"{adopted}"));
    }

    // A service may show parts without proof only of these entries.
    [Theory]
    [InlineData("a privilege that a ministry has not", "is called privileged, and kr/mfa is no neutral observer")]
    [InlineData("no events", "the events of entry ")]
    [InlineData("erased events", "the part Events of entry ")]
    [InlineData("an erased request that is there", "is called erased and is there")]
    [InlineData("events twice", "is there twice")]
    [InlineData("no signature", "the signature was left out")]
    public async Task An_entry_that_is_shown_without_what_proves_it_stops_it_with_an_alarm(string forgery, string why)
    {
        var call = _services.Call();
        call.Account.Commitments.Clear();
        var logged = await _services.As("kr/mfa").CallLog.LogCallAsync(call, cancellationToken: Cancel);
        _services.Forged = entry =>
            EntryHeader.Parser.ParseFrom(entry.Header) is var header
            && header.Method.EndsWith("/LogCall")
            && header.Position == logged.Receipt.Position
                ? Forge(entry)
                : entry;
        try
        {
            await using var gateway = await RunningGateway.Start(_services, "kr/mfa");
            await Stopped(gateway, "calllog", why);
            Assert.DoesNotContain(await gateway.Events(), e => e.Service == "calllog" && e.Position == logged.Receipt.Position);
        }
        finally
        {
            _services.Forged = null;
        }

        Entry Forge(Entry entry)
        {
            EntryPart Part(PartKind kind) => entry.Parts.Single(p => p.Kind == kind);
            switch (forgery)
            {
                case "a privilege that a ministry has not":
                    entry.Privileged = true;
                    Part(PartKind.Events).Data = new Events { Events_ = { Published("call_00000000000000000000000000") } }.ToByteString();
                    foreach (var part in entry.Parts)
                        part.Salt = ByteString.Empty;
                    break;
                case "no events":
                    entry.Parts.Remove(Part(PartKind.Events));
                    break;
                case "erased events":
                    var events = Part(PartKind.Events);
                    (events.Salt, events.Data, events.Erased) = (ByteString.Empty, ByteString.Empty, true);
                    break;
                case "an erased request that is there":
                    Part(PartKind.Request).Erased = true;
                    break;
                case "events twice":
                    entry.Parts.Add(Part(PartKind.Events).Clone());
                    break;
                default:
                    entry.Parts.Remove(Part(PartKind.Signature));
                    break;
            }
            return entry;
        }

        Event Published(string id) =>
            new()
            {
                Type = CallLogged.Descriptor.FullName,
                Case = _services.Case,
                Data = new CallLogged { Call = id, Case = _services.Case }.ToByteString(),
            };
    }

    internal static async Task Stopped(RunningGateway gateway, string service, string why)
    {
        using var stranger = gateway.Client(null);
        await Until(async () => (await gateway.Get("/health/ready", stranger)).Status == 503);
        var mirror = (await gateway.Get("/status")).Body["mirror"]!.AsArray().Single(m => (string?)m!["service"] == service)!;
        Assert.Contains(why, (string?)mirror["alarm"]);
    }

    /// <summary>Whether the mirror has the entry at a position.</summary>
    internal static async Task<bool> Followed(RunningGateway gateway, string service, string position) =>
        (ulong)(await gateway.Get("/status")).Body["mirror"]!.AsArray().Single(m => (string?)m!["service"] == service)!["next_position"]!
        > ulong.Parse(position);

    private static string Time(DateTimeOffset time) => time.ToString("yyyy-MM-dd'T'HH:mm:ss.fffffff'Z'");
}

/// <summary>A service whose ledger was put back: it stays unusable for the other tests.</summary>
public class WipedLedgerTests(OwnServices own) : IClassFixture<OwnServices>
{
    private readonly Services _services = own.Services;

    [Theory, InlineData(Engine.Sqlite), InlineData(Engine.Postgres)]
    public async Task A_ledger_that_begins_anew_stops_it_with_an_alarm(Engine engine)
    {
        var mirror = await RunningGateway.MirrorOn(engine);
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { Mirror = mirror });
        var (_, logged, _) = await gateway.Post("/v1/calllog/LogCall", PlainJson.Write(_services.Call()));
        await Until(() => MirrorTests.Followed(gateway, "calllog", (string)logged["receipt"]!["position"]!));
        await _services.Stop("calllog");
        foreach (var file in Directory.EnumerateFiles(_services.Folder, "calllog*"))
            File.Delete(file);
        await _services.Start("calllog");
        await MirrorTests.Stopped(gateway, "calllog", "");
    }
}

/// <summary>A service whose operator changed its database, and with it everything that the service itself can check. It stays unusable.
/// </summary>
public class RewrittenLedgerTests
{
    [Theory]
    [InlineData(Engine.Sqlite, "UPDATE entries SET header = cast(header || x'6000' as blob) WHERE position = $last - 1")]
    [InlineData(Engine.Postgres, "UPDATE entries SET header = cast(header || x'6000' as blob) WHERE position = $last - 1")]
    // Two of its entries have changed places: two histories of one length.
    [InlineData(
        Engine.Sqlite,
        "CREATE TEMP TABLE before AS SELECT position, header FROM entries; UPDATE entries SET header = "
            + "(SELECT header FROM before WHERE before.position = 2 * $last - 1 - entries.position) WHERE position IN ($last - 1, $last)"
    )]
    public async Task A_rewritten_entry_and_a_second_history_stop_it_with_an_alarm(Engine engine, string sql)
    {
        await using var own = new OwnServices();
        await own.InitializeAsync();
        var services = own.Services;
        var mirror = await RunningGateway.MirrorOn(engine);
        await using var gateway = await RunningGateway.Start(services, "kr/mfa", s => s with { Mirror = mirror });
        var last = await Log(gateway, services);

        await Tamper(services, sql, last);

        await MirrorTests.Stopped(gateway, "calllog", "the log of calllog is broken");
        Assert.All(await Others(gateway), m => Assert.Null((string?)m!["alarm"]));
    }

    [Theory]
    // The log is the signed one, and only a reader of the entry sees the fault.
    [InlineData("request = cast(request || x'6000' as blob)", "the part Request of entry {0} is not what was recorded")]
    // Its seconds become 10^13. A client that has not seen the log before sees nothing else wrong with it.
    [InlineData("header = cast(header || x'12080880c0caf384a302' as blob)", "entry {0} has no time")]
    public async Task An_entry_that_is_not_what_was_recorded_stops_it_with_an_alarm(string change, string alarm)
    {
        await using var own = new OwnServices();
        await own.InitializeAsync();
        var services = own.Services;
        string last;
        await using (var first = await RunningGateway.Start(services, "kr/mfa"))
            last = await Log(first, services);

        await Tamper(services, $"UPDATE entries SET {change} WHERE position = $last", last);

        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        await MirrorTests.Stopped(gateway, "calllog", alarm.Replace("{0}", last, StringComparison.Ordinal));
        Assert.All(await Others(gateway), m => Assert.Null((string?)m!["alarm"]));
    }

    private static async Task<IEnumerable<JsonNode?>> Others(RunningGateway gateway) =>
        (await gateway.Get("/status")).Body["mirror"]!.AsArray().Where(m => (string?)m!["service"] != "calllog");

    // Logs two calls. Returns the position of the last one, which the mirror has.
    private static async Task<string> Log(RunningGateway gateway, Services services)
    {
        var position = "";
        for (var i = 0; i < 2; i++)
            position = (string)(await gateway.Post("/v1/calllog/LogCall", PlainJson.Write(services.Call()))).Body["receipt"]!["position"]!;
        await Until(() => MirrorTests.Followed(gateway, "calllog", position));
        return position;
    }

    private static async Task Tamper(Services services, string sql, string last)
    {
        await services.Stop("calllog");
        await using (var database = new SqliteConnection($"Data Source={Path.Combine(services.Folder, "calllog.db")};Pooling=False"))
        {
            await database.OpenAsync(Cancel);
            await using var command = database.CreateCommand();
            command.CommandText = sql.Replace("$last", last);
            Assert.True(await command.ExecuteNonQueryAsync(Cancel) > 0);
            // The right edge of the tree over the present headers.
            var leaves = new List<ByteString>();
            command.CommandText = "SELECT header FROM entries ORDER BY position";
            await using (var reader = await command.ExecuteReaderAsync(Cancel))
                while (await reader.ReadAsync(Cancel))
                    leaves.Add(ByteString.CopyFrom(SHA256.HashData([0, .. SHA256.HashData((byte[])reader[0])])));
            var edge = new List<byte>();
            for (var (low, height) = (0, 30); height >= 0; height--)
                if ((leaves.Count >> height & 1) == 1)
                {
                    edge.AddRange(Forgery.RootOf(leaves.ToArray().AsSpan(low, 1 << height)));
                    low += 1 << height;
                }
            command.CommandText = "UPDATE head SET edge = $edge";
            command.Parameters.AddWithValue("$edge", edge.ToArray());
            Assert.Equal(1, await command.ExecuteNonQueryAsync(Cancel));
        }
        File.Delete(Path.Combine(services.Folder, "calllog.checkpoint"));
        await services.Start("calllog");
    }
}
