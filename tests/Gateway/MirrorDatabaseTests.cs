using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Ministry.Tests;
using Ministries.Trust;
using Npgsql;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary>A mirror in PostgreSQL, which may be away, cut off, put back, shared or changed by others.</summary>
/// <remarks>They have services of their own, whose ledgers stay small: each of its gateways follows them from the start.</remarks>
public class MirrorDatabaseTests(OwnServices own) : IClassFixture<OwnServices>
{
    private readonly Services _services = own.Services;

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_database_that_is_away_stops_no_write_and_the_mirror_goes_on_when_it_is_back(bool hangs)
    {
        var server = await Postgres.Create();
        try
        {
            await using var gateway = await Start(new MirrorSettings { Connection = await server.CreateDatabase() });
            var call = await Log(gateway);
            await gateway.HasAll(_services);
            var known = $"/v1/calllog/GetCall?call={call}&as_of={DateTimeOffset.UtcNow:yyyy-MM-dd'T'HH:mm:ss.fff'Z'}";
            Assert.Equal(200, (await gateway.Get(known)).Status);

            if (hangs)
                server.Freeze();
            else
                server.Crash();

            // The service answers, so nobody notices.
            var during = await Log(gateway);
            Assert.Equal(200, (await gateway.Get($"/v1/calllog/GetCall?call={during}")).Status);
            var (status, problem, _) = await gateway.Get(known);
            Assert.Equal((503, "MIRROR_UNREACHABLE"), (status, (string?)problem["reason"]));
            Assert.Contains("it was complete at 20", (string?)problem["detail"]);
            await Until(async () => (await Database(gateway))["away_since"] is not null);
            Assert.NotNull((await gateway.Get("/status")).Body["mirror"]![0]!["check_time"]);
            Assert.Equal(200, (await gateway.Get("/health/ready")).Status);

            if (hangs)
                server.Thaw();
            else
                await server.Start();

            await gateway.HasAll(_services);
            Assert.Equal(200, (await gateway.Get(known)).Status);
            Assert.Null((await Database(gateway))["away_since"]);
        }
        finally
        {
            if (hangs)
                server.Thaw();
            server.Stop();
        }
    }

    // Its place as the one that writes is then free for the gateway that takes over.
    [Fact]
    public async Task The_server_probes_a_gateway_that_says_nothing_every_2_s()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "only Linux says what it does with a connection");
        var server = await Postgres.Create();
        try
        {
            var connection = await server.CreateDatabase();
            await using var gateway = await Start(new MirrorSettings { Connection = connection });
            await gateway.HasAll(_services);
            var port = new NpgsqlConnectionStringBuilder(connection).Port;
            await Until(async () => (await KernelSockets.Probes(port, ofServer: true)).Any(s => s <= 2));
        }
        finally
        {
            server.Stop();
        }
    }

    [Fact]
    public async Task A_gateway_starts_without_its_database_and_still_knows_how_old_its_copy_is()
    {
        var server = await Postgres.Create();
        var state = Directory.CreateTempSubdirectory("mirror").FullName;
        try
        {
            var mirror = new MirrorSettings { Connection = await server.CreateDatabase() };
            await using (var gateway = await Start(mirror, state))
                await gateway.HasAll(_services);
            server.Crash();
            await using (var gateway = await Start(mirror, state))
            {
                Assert.NotNull((await gateway.Get("/status")).Body["mirror"]![0]!["check_time"]);
                await Log(gateway);
                await server.Start();
                await gateway.HasAll(_services);
            }
        }
        finally
        {
            server.Stop();
            Directory.Delete(state, recursive: true);
        }
    }

    [Theory, InlineData(Engine.Sqlite), InlineData(Engine.Postgres)]
    public async Task A_page_from_the_copy_reads_the_records_that_are_on_it_and_pages_have_each_record_once(Engine engine)
    {
        const int records = 2000,
            bytes = 20_000;
        const string one = "case_00000000000000000000000001",
            other = "case_00000000000000000000000002";
        var state = Directory.CreateTempSubdirectory("mirror").FullName;
        var settings = RunningGateway.SettingsFor(_services, "kr/mfa", state) with { Mirror = await RunningGateway.MirrorOn(engine) };
        using (var store = new MirrorStore(settings, TimeProvider.System))
        {
            var opening = await store.Open(Cancel);
            var ids = Enumerable.Range(0, records).Select(i => $"pris_{i:D26}").ToList();
            var seen = ids.Select((id, i) => Seen(id, i % 2 == 0 ? one : other)).ToList();
            var now = DateTimeOffset.UtcNow;
            var progress = new MirrorProgress("custody", 1, 1, 0, now, "", null);
            foreach (var some in seen.Chunk(500))
                await store.Add(opening, [], some, new Completeness(fromStart: true), progress, now, Cancel);
            // Seen again, it stays where it was.
            await store.Add(opening, [], [seen[0]], new Completeness(fromStart: true), progress, now, Cancel);

            // PostgreSQL answers on other threads.
            if (engine == Engine.Sqlite)
            {
                var before = GC.GetAllocatedBytesForCurrentThread();
                var page = await Page(1, "", "");
                Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, bytes, records * bytes / 4);
                Assert.Equal(ids[0], Assert.Single(page.Prisoners).Prisoner_);
            }
            foreach (var (@case, expected) in ((string, IEnumerable<string>)[])[("", ids), (other, ids.Where((_, i) => i % 2 == 1))])
            {
                var (read, token) = (new List<string>(), "");
                do
                {
                    var page = await Page(150, token, @case);
                    Assert.InRange(page.Prisoners.Count, 1, 150);
                    read.AddRange(page.Prisoners.Select(p => p.Prisoner_));
                    token = page.NextPageToken;
                } while (token.Length > 0);
                Assert.Equal(expected, read);
            }

            async Task<ListPrisonersResponse> Page(int size, string token, string @case)
            {
                var request = new ListPrisonersRequest
                {
                    PageSize = size,
                    PageToken = token,
                    Case = @case,
                };
                var list = Contract.Find("custody", "ListPrisoners")!;
                return ListPrisonersResponse.Parser.ParseFrom(
                    (await Lists.Read(store, "custody", list, request, DateTimeOffset.MaxValue, Cancel)).Bytes
                );
            }
        }
        Directory.Delete(state, recursive: true);

        static SeenRecord Seen(string id, string @case) =>
            new(
                RecordReference.Of(id, @case)!,
                1,
                new GetPrisonerResponse
                {
                    Prisoner = new Prisoner
                    {
                        Prisoner_ = id,
                        Case = @case,
                        Identity = new Types.V1.Sealed { Content = ByteString.CopyFrom(new byte[bytes]) },
                    },
                }.ToByteArray()
            );
    }

    // In the middle of a batch, and while it is committed.
    [Theory]
    [InlineData("create trigger cut before insert on mirror_records for each row execute function cut()")]
    [InlineData(
        "create constraint trigger cut after insert on mirror_events deferrable initially deferred for each row execute function cut()"
    )]
    public async Task Cut_off_in_the_middle_it_loses_nothing_and_doubles_nothing(string trigger)
    {
        var (server, mirror) = (await Postgres.Shared, await RunningGateway.MirrorOn(Engine.Postgres));
        var state = Directory.CreateTempSubdirectory("mirror").FullName;
        await using (var gateway = await Start(mirror, state))
            await gateway.HasAll(_services);
        // A sequence goes on although what used it is undone.
        await server.Execute(
            $"""
            create sequence cuts;
            create function cut() returns trigger language plpgsql as $$ begin
              if nextval('cuts') in (1, 3, 6, 10, 15) then perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(10); end if;
              return new; end $$;
            {trigger};
            """,
            mirror!.Connection
        );
        await using (var gateway = await Start(mirror, state))
        {
            while (await Ask(mirror.Connection, "select last_value from cuts") is < 15L)
                await LogAndSee(gateway);
            await gateway.HasAll(_services);
        }
        Directory.Delete(state, recursive: true);
    }

    [Fact]
    public async Task A_commit_whose_answer_is_lost_is_not_made_twice_and_a_webhook_gets_its_events()
    {
        var made = new NpgsqlConnectionStringBuilder((await RunningGateway.MirrorOn(Engine.Postgres))!.Connection);
        await using var between = new HangingUp(made.Port);
        made.Port = between.Port;
        var state = Directory.CreateTempSubdirectory("mirror").FullName;
        await using var receiver = await EventsTests.Receiver.Start();
        await using var gateway = await Start(new MirrorSettings { Connection = made.ToString() }, state, Hook(receiver, state));
        await gateway.HasAll(_services);
        await HasAll(receiver, gateway);
        between.Left = 4;
        while (between.Left > 0)
            await LogAndSee(gateway);
        await gateway.HasAll(_services);
        await HasAll(receiver, gateway);
        // Nothing follows from this one, so that no other commit wakes the webhook.
        var last = _services.Call();
        last.Account.Commitments.Clear();
        between.Left = 1;
        await Log(gateway, last);
        await gateway.HasAll(_services);
        Assert.Equal(0, (int)(await Database(gateway))["times_put_back"]!);
        await HasAll(receiver, gateway);
    }

    [Fact]
    public async Task A_commit_that_cannot_be_noted_on_the_local_disk_is_told_to_a_webhook()
    {
        var mirror = await RunningGateway.MirrorOn(Engine.Postgres);
        var state = Directory.CreateTempSubdirectory("mirror").FullName;
        await using var receiver = await EventsTests.Receiver.Start();
        await using var gateway = await Start(mirror, state, Hook(receiver, state));
        await gateway.HasAll(_services);
        await HasAll(receiver, gateway);
        var file = gateway.Host.Services.GetRequiredService<Mirror>().Store.File;
        await file.Write(c =>
            Gateway.Database.Run(c, "create trigger full before update on noted begin select raise(fail, 'database or disk is full'); end")
        );
        await Log(gateway);
        await gateway.HasAll(_services);
        await HasAll(receiver, gateway);
        await file.Write(c => Gateway.Database.Run(c, "drop trigger full"));
    }

    private static WebhookSettings Hook(EventsTests.Receiver receiver, string state) =>
        new()
        {
            Name = "cases",
            Url = receiver.Address,
            Secret = RunningGateway.SecretAt(Path.Combine(state, "secret")),
        };

    private static Task HasAll(EventsTests.Receiver receiver, RunningGateway gateway) =>
        Until(async () => !(await gateway.Events()).Select(e => e.Id).Except(receiver.Got.Select(g => g.Id)).Any());

    [Theory, InlineData(false), InlineData(true)]
    public async Task A_database_that_is_put_back_is_found_out_and_followed_up_and_no_event_is_lost(bool running)
    {
        var (server, mirror) = (await Postgres.Shared, (await RunningGateway.MirrorOn(Engine.Postgres))!);
        var state = Directory.CreateTempSubdirectory("mirror").FullName;
        await using var receiver = await EventsTests.Receiver.Start();
        var hook = Hook(receiver, state);
        var gateway = await Start(mirror, state, hook);
        try
        {
            await Log(gateway);
            await gateway.HasAll(_services);
            var before = (await Ids(gateway))[^1];
            await gateway.DisposeAsync();
            var backup = await server.Copy(mirror.Connection);
            gateway = await Start(mirror, state, hook);
            await Log(gateway);
            await Log(gateway);
            await gateway.HasAll(_services);
            var lost = (await Ids(gateway))[^1];
            if (!running)
                await gateway.DisposeAsync();

            await PutBack(server, mirror.Connection, backup);

            if (!running)
                gateway = await Start(mirror, state, hook);
            await Log(gateway);
            await gateway.HasAll(_services);
            Assert.Equal(1, (int)(await Database(gateway))["times_put_back"]!);
            await HasAll(receiver, gateway);
            // A number that means another event now is refused. One from before goes on.
            Assert.Equal(409, await StreamAfter(gateway, lost));
            Assert.Equal(200, await StreamAfter(gateway, before));
            Assert.All((await gateway.Get("/status")).Body["mirror"]!.AsArray(), m => Assert.Null((string?)m!["alarm"]));
        }
        finally
        {
            await gateway.DisposeAsync();
            Directory.Delete(state, recursive: true);
        }
    }

    [Theory]
    [InlineData("drop schema public cascade; create schema public")]
    [InlineData("the guide's")]
    public async Task A_database_that_was_emptied_is_followed_from_the_start(string how)
    {
        const string guide = "the guide's";
        var (server, mirror) = (await Postgres.Shared, (await RunningGateway.MirrorOn(Engine.Postgres))!);
        await using var gateway = await Start(mirror);
        await gateway.HasAll(_services);
        var ran = new RanBlocks();
        await server.Execute(how == guide ? Guide(ran) : how, mirror.Connection);
        await Log(gateway);
        await gateway.HasAll(_services);
        Assert.Equal(1, (int)(await Database(gateway))["times_put_back"]!);
        if (how == guide)
            ran.AreAll("Gateway/MirrorDatabaseTests", nameof(A_database_that_was_emptied_is_followed_from_the_start));
    }

    // What the operators' guide gives psql, as it stands there.
    private static string Guide(RanBlocks ran) =>
        ran.Take("deploy/README.md", "psql -c 'drop table mirror_")[("psql -c '".Length)..].TrimEnd().TrimEnd('\'');

    [Fact]
    public async Task Two_gateways_do_not_write_in_one_database()
    {
        var mirror = (await RunningGateway.MirrorOn(Engine.Postgres))!;
        var (state, other) = (Directory.CreateTempSubdirectory("mirror").FullName, Directory.CreateTempSubdirectory("mirror").FullName);
        var second = RunningGateway.SettingsFor(_services, "kr/mfa", other) with { Mirror = mirror };
        await using (var gateway = await Start(mirror, state))
        {
            Assert.Contains("mirror.connection: another gateway", Refused(second));
            await Log(gateway);
            await gateway.HasAll(_services);
        }
        // Its rows are sealed with the first one's key.
        Assert.Contains("mirror.connection: it holds the mirror of another gateway", Refused(second));
        await using (var gateway = await Start(mirror, state))
            await gateway.HasAll(_services);
        Directory.Delete(state, recursive: true);
        Directory.Delete(other, recursive: true);
    }

    // What is read, or the next start, finds each of them.
    [Theory]
    [InlineData("update mirror_records set response = ''", "record")]
    [InlineData("update mirror_records set seen_time = seen_time - 1000", "record")]
    [InlineData(
        "insert into mirror_records select number + (select max(number) from mirror_records), method, request, position, seen_time + 1, "
            + "response, seal from mirror_records",
        "record"
    )]
    [InlineData("update mirror_entries set bytes = (select bytes from mirror_entries order by number limit 1)", "events")]
    [InlineData("delete from mirror_events where number = 2", "events")]
    [InlineData(
        "delete from mirror_entries where (service, position) in (select service, position from mirror_events where number = 2)",
        "events"
    )]
    [InlineData("delete from mirror_records where number = (select max(number) from mirror_records)", "start")]
    [InlineData("delete from mirror_numbers where audience = (select audience from mirror_numbers order by audience limit 1)", "start")]
    [InlineData("delete from mirror_head", "start")]
    [InlineData(
        "update mirror_head set body = convert_to(replace(convert_from(body, 'UTF8'), '\"Events\":', '\"Events\":1'), 'UTF8')",
        "events"
    )]
    public async Task What_another_changed_in_its_database_is_not_shown_and_stops_it_with_an_alarm(string change, string found)
    {
        var (server, mirror) = (await Postgres.Shared, (await RunningGateway.MirrorOn(Engine.Postgres))!);
        var state = Directory.CreateTempSubdirectory("mirror").FullName;
        await using (var gateway = await Start(mirror, state))
        {
            var call = await Log(gateway);
            await gateway.HasAll(_services);
            if (found != "start")
            {
                await server.Execute(change, mirror.Connection);
                var (status, problem, _) = await gateway.Get(
                    found == "events"
                        ? "/events"
                        : $"/v1/calllog/GetCall?call={call}&as_of={DateTimeOffset.UtcNow:yyyy-MM-dd'T'HH:mm:ss.fff'Z'}"
                );
                Assert.Equal((503, "MIRROR_STOPPED"), (status, (string?)problem["reason"]));
                await MirrorTests.Stopped(gateway, "calllog", "changed by another");
            }
        }
        if (found == "start")
            await server.Execute(change, mirror.Connection);
        // A restart finds it, or does not forget it; and writes go on.
        await using (var gateway = await Start(mirror, state))
        {
            await MirrorTests.Stopped(gateway, "calllog", "changed by another");
            Assert.Equal("MIRROR_STOPPED", (string?)(await gateway.Get("/events")).Body["reason"]);
            await Log(gateway);
        }
        Directory.Delete(state, recursive: true);
    }

    [Theory]
    [InlineData("nonsense", "cannot be read")]
    [InlineData("Username=postgres", "names no Host")]
    [InlineData("{0};Database=nowhere", "\"nowhere\" does not exist")]
    [InlineData("{0};Username=nobody_there", "\"nobody_there\" does not exist")]
    public async Task A_wrong_connection_is_told_before_anything_listens(string connection, string why)
    {
        var there = (await RunningGateway.MirrorOn(Engine.Postgres))!.Connection;
        var wrong = Refused(connection.Replace("{0}", there));
        Assert.StartsWith("mirror.connection: ", wrong);
        Assert.Contains(why, wrong);
    }

    [Fact]
    public async Task A_database_that_cannot_hold_the_mirror_is_told_before_anything_listens()
    {
        var (server, made) = (await Postgres.Shared, (await RunningGateway.MirrorOn(Engine.Postgres))!);
        await server.Execute("create role gateway_plain login");
        var plain = new NpgsqlConnectionStringBuilder(made.Connection) { Username = "gateway_plain" }.ToString();
        Assert.Contains("grant it CREATE", Refused(plain));
        var state = Directory.CreateTempSubdirectory("mirror").FullName;
        await using (var gateway = await Start(made, state))
            await gateway.HasAll(_services);
        Assert.Contains("they are another role's", Refused(plain));
        var settings = RunningGateway.SettingsFor(_services, "kr/mfa", state) with { Mirror = made };
        Assert.Contains("of another participant", Refused(settings with { Participant = "ua/mfa" }));
        await server.Execute("update mirror_head set version = 2", made.Connection);
        Assert.Contains("mirror.connection: the mirror has schema 2, and this program knows 1", Refused(settings));
        await server.Execute("create table ledger_schema ()", made.Connection);
        Assert.Contains("a service's ledger", Refused(settings));
        Directory.Delete(state, recursive: true);
    }

    [Fact]
    public void A_password_in_settings_that_others_may_read_is_a_fault()
    {
        var file = Path.Combine(Directory.CreateTempSubdirectory("settings").FullName, "gateway.json");
        const string settings =
            """{"participant": "kr/mfa", "folder": "pki", "state": "state", "mirror": {"connection": "Host=db;Username=mirror;Password=x"}}""";
        Ledger.WholeFile.Write(file, settings);
        Assert.NotNull(GatewaySettings.Read(file).Mirror);
        if (OperatingSystem.IsWindows())
            return;
        File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.GroupRead);
        Assert.Contains("chmod 600", Assert.Throws<FormatException>(() => GatewaySettings.Read(file)).Message);
    }

    private Task<RunningGateway> Start(MirrorSettings? mirror, string? state = null, params WebhookSettings[] hooks) =>
        RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 20, Mirror = mirror, Webhooks = hooks }, state);

    private async Task<string> Log(RunningGateway gateway, CallLog.V1.LogCallRequest? call = null)
    {
        var (status, logged, _) = await gateway.Post("/v1/calllog/LogCall", PlainJson.Write(call ?? _services.Call()));
        Assert.True(status == 200, logged.ToJsonString());
        return (string)logged["call"]!;
    }

    // The next call is logged when the mirror has this one, so that the ledger that all tests share stays small.
    private async Task LogAndSee(RunningGateway gateway)
    {
        var call = await Log(gateway);
        await Until(async () =>
            (await gateway.Events()).Any(e => System.Text.Encoding.ASCII.GetString(e.Data).Contains(call, StringComparison.Ordinal))
        );
    }

    private static async Task<JsonObject> Database(RunningGateway gateway) =>
        (await gateway.Get("/status")).Body["mirror_database"]!.AsObject();

    // The ids of a stream, by which its reader goes on.
    private static async Task<List<string>> Ids(RunningGateway gateway)
    {
        var last = (await gateway.Events())[^1].Id;
        return [.. (await EventsTests.Read(gateway, null, e => (string?)e["id"] == last)).Select(e => e.Id)];
    }

    private static async Task<int> StreamAfter(RunningGateway gateway, string last)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/events");
        request.Headers.Add("Last-Event-ID", last);
        using var answer = await gateway.Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
        return (int)answer.StatusCode;
    }

    private static async Task PutBack(Postgres server, string connection, string backup)
    {
        var (name, copy) = (new NpgsqlConnectionStringBuilder(connection).Database!, new NpgsqlConnectionStringBuilder(backup).Database!);
        await server.Execute($"alter database {name} with allow_connections false");
        await server.Execute($"select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{name}'");
        await server.Execute($"alter database {name} rename to {name}_lost");
        await server.Execute($"alter database {copy} rename to {name}");
    }

    private static async Task<object?> Ask(string connection, string sql)
    {
        await using var open = new NpgsqlConnection(connection);
        await open.OpenAsync(Cancel);
        await using var command = new NpgsqlCommand(sql, open);
        return await command.ExecuteScalarAsync(Cancel);
    }

    private static string Refused(GatewaySettings settings) => Assert.Throws<FormatException>(() => GatewayHost.Build(settings)).Message;

    private string Refused(string connection) =>
        Refused(
            RunningGateway.SettingsFor(_services, "kr/mfa", Directory.CreateTempSubdirectory("mirror").FullName) with
            {
                Mirror = new MirrorSettings { Connection = connection },
            }
        );

    /// <summary>Passes on all that goes to a server and comes from it, but hangs up instead of passing on the answer to a commit.</summary>
    private sealed class HangingUp : IAsyncDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private readonly int _server;
        private readonly Task _accepting;
        private int _left;

        public HangingUp(int server)
        {
            _server = server;
            _listener.Start();
            _accepting = Accept();
        }

        public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

        /// <summary>How many commits' answers are still to be lost.</summary>
        public int Left
        {
            get => Volatile.Read(ref _left);
            set => Volatile.Write(ref _left, value);
        }

        public async ValueTask DisposeAsync()
        {
            _listener.Stop();
            await _accepting;
        }

        private async Task Accept()
        {
            try
            {
                while (true)
                    _ = Pass(await _listener.AcceptTcpClientAsync());
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // It was stopped.
            }
        }

        private async Task Pass(TcpClient client)
        {
            using var server = new TcpClient();
            using (client)
                try
                {
                    await server.ConnectAsync(IPAddress.Loopback, _server);
                    var (up, down, hold) = (client.GetStream(), server.GetStream(), new StrongBox<bool>());
                    await Task.WhenAny(Copy(up, down, hold, asks: true), Copy(down, up, hold, asks: false));
                }
                catch (Exception e) when (e is IOException or SocketException)
                {
                    // One of them hung up.
                }
        }

        private async Task Copy(NetworkStream from, NetworkStream to, StrongBox<bool> hold, bool asks)
        {
            var bytes = new byte[1 << 16];
            while (await from.ReadAsync(bytes) is > 0 and var length)
            {
                if (!asks && Volatile.Read(ref hold.Value))
                    return;
                if (asks && bytes.AsSpan(0, length).IndexOf("COMMIT\0"u8) >= 0 && Left > 0)
                {
                    Volatile.Write(ref hold.Value, true);
                    Interlocked.Decrement(ref _left);
                }
                await to.WriteAsync(bytes.AsMemory(0, length));
            }
        }
    }
}
