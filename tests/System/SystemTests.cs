using System.Diagnostics;
using System.Text.Json;
using System.Text.RegularExpressions;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Google.Rpc;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Local;
using Ministries.Types.V1;

namespace Ministries.Containers.Tests;

/// <summary>The project as a developer starts it: brought up once for all its tests.</summary>
public sealed class Development() : Deployed("dev", "deploy/compose.dev.yml");

/// <summary>The whole system in containers, asked through its public interfaces alone: gRPC, Jaeger's query API, the broker's
/// management API.</summary>
public sealed partial class SystemTests(Development development) : IClassFixture<Development>
{
    private const StringComparison Ordinal = StringComparison.Ordinal;

    private Deployment Deployment => development.Deployment;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task One_command_plays_the_case_by_the_gateways_and_Jaeger_has_its_trace_whole()
    {
        var before = await Receipts();
        var played = await Deployment.TryCompose("run", "--rm", "-T", "play");
        Assert.True(played.Code == 0, played.All);
        Assert.Contains("All of it is true", played.Output);
        var trace = TraceAddress().Match(played.Output);
        Assert.True(trace.Success, played.Output);
        Assert.StartsWith(Deployment.Jaeger.ToString().TrimEnd('/'), trace.Value);
        IsWhole((await Deployment.AskJaeger($"/api/traces/{trace.Groups[1].Value}", Cancel))[0], "gateway-kr-mfa");
        // Each gateway keeps a receipt of each write that it made.
        var after = await Receipts();
        Assert.All(Deployment.Gateways, g => Assert.True(after[g] > before[g], $"{g}: {before[g]}, then {after[g]}"));
        await Settled();

        async Task<Dictionary<string, int>> Receipts()
        {
            var receipts = new Dictionary<string, int>();
            foreach (var gateway in Deployment.Gateways)
                receipts[gateway] = int.Parse(
                    (await Deployment.In(gateway, "bash", "-c", "find /data -path '*/receipts/*.json' | wc -l")).Output.Trim(),
                    System.Globalization.CultureInfo.InvariantCulture
                );
            return receipts;
        }
    }

    [Fact]
    public async Task Every_service_is_one_of_Jaegers_and_a_calls_id_leads_to_its_trace_in_one_search()
    {
        await using var participants = await Deployment.Join(Cancel);
        var played = await Play(participants);
        JsonElement found = default;
        await Deployment.Until(
            "the call's trace is there, whole",
            async () =>
            {
                found = await Tagged("calllog", "ministries.record", played.Call);
                // Each service exports its spans in its own time, even those that are parents of other services' spans.
                return found
                    .EnumerateArray()
                    .Select(t => t.GetProperty("spans").EnumerateArray().ToList())
                    .Any(spans =>
                        spans.Count(s => Name(s) == "process ministries.consular.v1.TransferRequestDrafted") == 4
                        && spans.SelectMany(Parents).All(p => spans.Any(s => s.GetProperty("spanID").GetString() == p))
                    );
            },
            Cancel
        );
        IsWhole(found.EnumerateArray().Single(t => t.GetProperty("spans").EnumerateArray().Any(s => Name(s).EndsWith("/LogCall"))));
        var services = (await Deployment.AskJaeger("/api/services", Cancel)).EnumerateArray().Select(s => s.GetString()).ToHashSet();
        Assert.Superset(Deployment.Services.ToHashSet(), services!);
        Assert.Empty(services.Except(["calllog", "consular", "custody", "jaeger", .. Deployment.Gateways]));
    }

    public static TheoryData<string> Containers => ["calllog", "consular", "custody", "rabbitmq", "postgres", "jaeger"];

    [Theory]
    [MemberData(nameof(Containers))]
    public async Task A_container_killed_under_a_case_loses_nothing_and_doubles_nothing(string container)
    {
        await using var participants = await Deployment.Join(Cancel);
        var before = await Play(participants);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        var cases = Enumerable
            .Range(0, 3)
            .Select(async i =>
            {
                await using var own = await Deployment.Join(Cancel);
                return await Play(own, TimeSpan.FromMilliseconds(300 * i));
            })
            .ToList();
        await Deployment.Kill(container);
        // It stays down for some seconds, so that a case notices it: a case waits for nothing but the command that it is sending.
        await Task.WhenAny(Task.WhenAll(cases), Task.Delay(TimeSpan.FromSeconds(3), Cancel));
        await Deployment.StartAgain(container);
        var played = await Task.WhenAll(cases);
        await Deployment.Healthy(Cancel);
        await Settled();
        foreach (var one in played.Append(before))
            await IsThereOnce(participants, one);
        await Whole(participants);
    }

    [Fact]
    public async Task A_broker_that_lost_its_disk_costs_nothing()
    {
        await using var participants = await Deployment.Join(Cancel);
        await Deployment.Kill("rabbitmq");
        // It is taken in and answered while there is no broker at all.
        var begun = await Begin(participants);
        await Deployment.Compose("rm", "--force", "rabbitmq");
        var removed = await Deployment.RemoveVolume("rabbitmq-data");
        Assert.True(removed.Code == 0, removed.All);
        await Deployment.Compose("up", "--detach", "rabbitmq");
        await Deployment.Healthy(Cancel);
        await Finish(participants, begun);
        await Settled();
        await IsThereOnce(participants, begun);
        await Whole(participants);
    }

    [Fact]
    public async Task Told_to_stop_every_service_ends_in_order_and_down_and_up_keep_what_was_recorded()
    {
        Played played;
        Dictionary<string, ulong> sizes = [];
        await using (var participants = await Deployment.Join(Cancel))
        {
            played = await Play(participants);
            await Settled();
            foreach (var service in Deployment.Services)
                sizes[service] = (await Checkpoint(participants, service)).TreeSize;
        }
        foreach (var service in Deployment.Services)
            Assert.Equal(0, await Deployment.Stop(service));
        await Deployment.Compose("down");
        await Deployment.Up(Cancel);
        await using var again = await Deployment.Join(Cancel);
        foreach (var service in Deployment.Services)
            Assert.True((await Checkpoint(again, service)).TreeSize >= sizes[service]);
        await IsThereOnce(again, played);
        await Whole(again);
    }

    [Fact]
    public async Task A_restored_database_is_served_where_it_has_what_the_checkpoint_says_and_refused_where_it_is_older()
    {
        // As the operator's guide has it.
        const string dump = "pg_dump --format=custom --file=/tmp/{0}.dump calllog";
        const string restore =
            "psql -qd postgres -c 'drop database calllog with (force)' && "
            + "psql -qd postgres -c \"create database calllog owner calllog_owner encoding 'UTF8' lc_collate 'C' lc_ctype 'C' template template0\" && "
            + "psql -qd postgres -c 'revoke all on database calllog from public; grant connect on database calllog to calllog' && "
            + "pg_restore --exit-on-error --dbname=calllog /tmp/{0}.dump";
        Played played;
        await using (var participants = await Deployment.Join(Cancel))
        {
            await AsPostgres(dump, "older");
            played = await Play(participants);
            await Settled();
        }
        Assert.Equal(0, await Deployment.Stop("calllog"));
        await AsPostgres(dump, "newest");

        await AsPostgres(restore, "older");
        await Deployment.StartAgain("calllog");
        await Deployment.Until(
            "the older database is refused",
            async () => (await Deployment.Log("calllog")).Contains("acknowledged entries are missing. Restore the newest backup"),
            Cancel,
            () => Deployment.Log("calllog")
        );
        await Deployment.Kill("calllog");
        Assert.Contains("calllog: the database has", await Deployment.Log("calllog"));

        await AsPostgres(restore, "newest");
        await Deployment.StartAgain("calllog");
        await Deployment.Healthy(Cancel);
        await using var again = await Deployment.Join(Cancel);
        await IsThereOnce(again, played);
        await IsThereOnce(again, await Play(again));
        await Settled();
        await Whole(again);

        async Task AsPostgres(string command, string name)
        {
            var ended = await Deployment.AsPostgres("bash", "-euc", command.Replace("{0}", name));
            Assert.True(ended.Code == 0, ended.All);
        }
    }

    [Fact]
    public async Task The_commands_of_the_documents_run_on_the_containers()
    {
        const string guide = "deploy/README.md";
        var ran = new RanBlocks();
        await Deployment.Shell(ran.Take("README.md", "docker compose up --build --detach"));
        await Deployment.Shell(ran.Take(guide, "docker compose -f docker-compose.yml -f deploy/compose.dev.yml"));
        await Deployment.Healthy(Cancel);
        await using var participants = await Deployment.Join(Cancel);
        var played = await Play(participants);
        await Settled();

        var folder = Directory.CreateTempSubdirectory("operator-").FullName;
        try
        {
            await Deployment.Shell(ran.Take(guide, "mkdir -p backup\ndocker compose stop"), folder);
            Assert.NotEqual(0, new FileInfo(Path.Combine(folder, "backup", "calllog.checkpoint")).Length);
            await Deployment.Shell(ran.Take(guide, "docker compose stop calllog"), folder);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
        await Deployment.Healthy(Cancel);
        // What the text names: of compose, and of the broker in its container.
        var spans = Documents.Spans(guide).Distinct().ToArray();
        foreach (var asks in spans.Where(s => s.StartsWith("docker compose ps", Ordinal) || s.StartsWith("docker compose logs", Ordinal)))
            await Deployment.Shell(asks);
        foreach (var asks in spans.Where(s => s.StartsWith("rabbitmq", Ordinal) && s.Contains(' ')))
        {
            var answered = await Deployment.In("rabbitmq", asks.Split(' '));
            Assert.True(answered.Code == 0, $"{asks}\n{answered.All}");
        }
        await IsThereOnce(participants, played);
        await Whole(participants);
        ran.AreAll("System/SystemTests", nameof(The_commands_of_the_documents_run_on_the_containers));
    }

    [Fact]
    public async Task The_brokers_queues_are_replicated_kinds_and_each_service_may_do_no_more_than_it_must()
    {
        var queues = (await Deployment.AskBroker("/api/queues/ministries", Cancel))
            .EnumerateArray()
            .ToDictionary(q => q.GetProperty("name").GetString()!);
        foreach (var service in Deployment.Services)
        foreach (var queue in new[] { $"ministries.{service}", $"ministries.{service}.dead" })
        {
            Assert.Equal("quorum", queues[queue].GetProperty("type").GetString());
            Assert.True(queues[queue].GetProperty("durable").GetBoolean());
        }
        // The broker lists a connection with its first statistics, up to 5 s after it is there: services are ready sooner.
        HashSet<string?> connections = [];
        await Deployment.Until(
            "every service's connection is listed",
            async () =>
            {
                connections = (await Deployment.AskBroker("/api/vhosts/ministries/connections", Cancel))
                    .EnumerateArray()
                    .Select(c => c.GetProperty("user").GetString())
                    .ToHashSet();
                return connections.Count >= Deployment.Services.Count;
            },
            Cancel
        );
        Assert.Equal(Deployment.Services.ToHashSet(), connections!);
        // A service's role reaches its own database and no other.
        var password = (await Deployment.In("postgres", "cat", "/secrets/calllog.password")).Output.Trim();
        Assert.Equal(0, (await Query("calllog")).Code);
        foreach (var other in new[] { "custody", "consular", "postgres" })
        {
            var refused = await Query(other);
            Assert.NotEqual(0, refused.Code);
            Assert.Contains("permission denied for database", refused.Error);
        }

        // And in it what was recorded stays as it is: the tables are another role's.
        foreach (
            var sql in (string[])
                ["update entries set header = ''", "update entries set request = null", "truncate tiles", "drop table entries"]
        )
        {
            var refused = await Deployment.In(
                "postgres",
                "psql",
                $"host=127.0.0.1 user=calllog password={password} dbname=calllog",
                "-Atc",
                sql
            );
            Assert.NotEqual(0, refused.Code);
        }

        Task<Ended> Query(string database) =>
            Deployment.In("postgres", "psql", $"host=127.0.0.1 user=calllog password={password} dbname={database}", "-Atc", "select 1");
    }

    [Fact]
    public async Task A_container_reaches_those_it_needs_and_no_others()
    {
        foreach (
            var (from, to, port, reached) in new (string, string, int, bool)[]
            {
                ("calllog", "custody", 7100, true),
                ("calllog", "postgres", 5432, true),
                ("calllog", "rabbitmq", 5672, true),
                ("calllog", "jaeger", 4317, true),
                ("calllog", "calllog-metrics", 9464, true),
                // In the network that it shares with the others nobody listens.
                ("calllog", "custody", 9464, false),
                ("calllog", "custody-metrics", 9464, false),
                ("jaeger", "calllog-metrics", 9464, false),
                ("calllog", "calllog", 9464, false),
                ("jaeger", "calllog", 9464, false),
                ("postgres", "calllog", 9464, false),
                ("rabbitmq", "consular", 9464, false),
                ("postgres", "rabbitmq", 5672, false),
                ("rabbitmq", "postgres", 5432, false),
                ("jaeger", "postgres", 5432, false),
                ("jaeger", "rabbitmq", 5672, false),
                ("postgres", "jaeger", 16686, false),
                ("rabbitmq", "jaeger", 4317, false),
                ("gateway-kr-mfa", "calllog", 7100, true),
                ("gateway-kr-mfa", "custody", 7100, true),
                ("gateway-kr-mfa", "jaeger", 4317, true),
                ("gateway-kr-mfa", "gateway.kr-mfa", 7120, true),
                ("gateway-kr-mfa", "gateway-kr-mfa-metrics", 9464, true),
                // A gateway listens for its own ministry alone, also in the networks that it shares with others.
                ("gateway-kr-mfa", "gateway.ua-mfa", 7120, false),
                ("gateway-kr-mfa", "gateway-ua-mfa", 7120, false),
                ("gateway-kr-mfa", "gateway-ua-mfa", 9464, false),
                ("calllog", "gateway-kr-mfa", 7120, false),
                ("calllog", "gateway.kr-mfa", 7120, false),
                ("jaeger", "gateway-kr-mfa", 7120, false),
                ("gateway-kr-mfa", "postgres", 5432, false),
                ("gateway-kr-mfa", "rabbitmq", 5672, false),
                ("gateway-kr-mfa", "calllog-metrics", 9464, false),
            }
        )
        {
            var tried = await Deployment.In(from, "timeout", "5", "bash", "-c", $"exec 3<>/dev/tcp/{to}/{port}");
            Assert.True(tried.Code == 0 == reached, $"{from} to {to}:{port}: {tried.All}");
        }
        foreach (var network in (string[])["calllog", "custody", "consular"])
        foreach (var kind in (string[])["database", "broker"])
            Assert.Equal(2, (await Deployment.MembersOf($"{kind}-{network}")).Count);
        foreach (var service in Deployment.Services)
            Assert.Single(await Deployment.MembersOf($"metrics-{service}"));
        foreach (var gateway in Deployment.Gateways)
        {
            Assert.Single(await Deployment.MembersOf($"metrics-{gateway}"));
            Assert.Single(await Deployment.MembersOf(gateway.Replace("gateway-", "systems-", StringComparison.Ordinal)));
        }
    }

    [Fact]
    public async Task Every_container_is_read_only_without_capabilities_and_limited_and_none_of_the_services_is_root()
    {
        foreach (
            var service in Deployment.Services.Concat(Deployment.Gateways).Concat(["postgres", "rabbitmq", "jaeger", "secrets", "tables"])
        )
        {
            var told = await Deployment.Inspect(await Deployment.Container(service));
            var host = told.GetProperty("HostConfig");
            Assert.True(host.GetProperty("ReadonlyRootfs").GetBoolean(), service);
            Assert.Equal(["ALL"], host.GetProperty("CapDrop").EnumerateArray().Select(c => c.GetString()));
            Assert.Equal(
                service is "postgres" or "rabbitmq" ? 5 : 0,
                host.GetProperty("CapAdd") is { ValueKind: JsonValueKind.Array } added ? added.GetArrayLength() : 0
            );
            Assert.Contains("no-new-privileges:true", host.GetProperty("SecurityOpt").EnumerateArray().Select(o => o.GetString()));
            Assert.True(host.GetProperty("Memory").GetInt64() > 0, service);
            Assert.True(host.GetProperty("LogConfig").GetProperty("Config").TryGetProperty("max-size", out _), service);
            if (Deployment.Services.Concat(Deployment.Gateways).Contains(service))
            {
                Assert.Equal("1654:1654", told.GetProperty("Config").GetProperty("User").GetString());
                Assert.NotEqual(0, (await Deployment.In(service, "touch", "/app/here")).Code);
            }
        }
    }

    /// <summary>A case up to what the services made of its call.</summary>
    private sealed record Played(string Case, string Call, IReadOnlyList<string> Prisoners);

    private static async Task<Played> Play(Participants participants, TimeSpan after = default)
    {
        if (after > TimeSpan.Zero)
            await Task.Delay(after, Cancel);
        var begun = await Begin(participants);
        await Finish(participants, begun);
        return begun;
    }

    /// <summary>The detaining power opens a case, registers two prisoners and admits Seoul, which logs its call.</summary>
    private static async Task<Played> Begin(Participants participants)
    {
        var (kyiv, seoul) = (participants["ua/coordination-hq"], participants["kr/mfa"]);
        var opened = await Write(kyiv, new OpenCaseRequest(), (p, r) => p.Custody.OpenCaseAsync(r));
        participants.SetCase(opened.Case);
        var prisoners = new List<string>();
        for (var i = 0; i < 2; i++)
            prisoners.Add(
                (
                    await Write(
                        kyiv,
                        new RegisterPrisonerRequest
                        {
                            Status = CustodyState.Hospitalised,
                            CaptureTime = At(2025, 1, 9),
                            Identity = ParticipantClient.Seal(InventedIdentities.Of($"P-{i + 1}"), "ua/coordination-hq", "icrc"),
                        },
                        (p, r) => p.Custody.RegisterPrisonerAsync(r)
                    )
                ).Prisoner
            );
        await Write(
            kyiv,
            new AdmitPartyRequest { Participant = "ua/mfa", Part = Part.DetainingPower },
            (p, r) => p.Custody.AdmitPartyAsync(r)
        );
        var admitted = await Write(
            kyiv,
            new AdmitPartyRequest { Participant = "kr/mfa", Part = Part.RequestingState },
            (p, r) => p.Custody.AdmitPartyAsync(r)
        );
        foreach (var service in new[] { "calllog", "consular" })
            await Heard(participants, service, admitted.Receipt.Position);
        var account = LoggedCalls.About(new(2025, 3, 17, 9, 0, 0, TimeSpan.Zero), DateTimeOffset.UtcNow.AddDays(30), prisoners);
        account.Subjects.Add(Subject.Citizenship);
        var logged = await Write(
            seoul,
            new LogCallRequest { Counterpart = "ua/mfa", Account = account },
            (p, r) => p.Calls.LogCallAsync(r)
        );
        return new Played(opened.Case, logged.Call, prisoners);
    }

    /// <summary>Returns when the consular service has drafted, custody has noted and the call log has tied the drafts.</summary>
    private static async Task Finish(Participants participants, Played played)
    {
        await Deployment.Until(
            "the drafts are tied to the call",
            async () => (await Drafts(participants, played), await Tied(participants, played)) == (2, 2),
            Cancel
        );
        foreach (var prisoner in played.Prisoners)
            await Deployment.Until("custody notes the interest", async () => await Interests(participants, played, prisoner) == 1, Cancel);
    }

    private static async Task IsThereOnce(Participants participants, Played played)
    {
        Assert.Equal(2, await Drafts(participants, played));
        Assert.Equal(2, await Tied(participants, played));
        foreach (var prisoner in played.Prisoners)
            Assert.Equal(1, await Interests(participants, played, prisoner));
        var calls = await Read(() => participants["kr/mfa"].Calls.ListCallsAsync(new() { Case = played.Case }));
        Assert.Equal(played.Call, Assert.Single(calls.Calls).Call);
    }

    private static async Task<int> Drafts(Participants participants, Played played) =>
        (await Read(() => participants["kr/mfa"].Consular.ListTransfersAsync(new() { Case = played.Case, Call = played.Call })))
            .Transfers
            .Count;

    private static async Task<int> Tied(Participants participants, Played played) =>
        (await Read(() => participants["kr/mfa"].Calls.GetCallAsync(new() { Call = played.Call })))
            .Call.Commitments.Single()
            .Requests.Count;

    private static async Task<int> Interests(Participants participants, Played played, string prisoner) =>
        (await Read(() => participants["kr/mfa"].Custody.GetPrisonerAsync(new() { Case = played.Case, Prisoner = prisoner })))
            .Prisoner
            .Interests
            .Count;

    /// <summary>Each ledger, fetched by all who may see an entry, is gapless and is the tree under its checkpoint.</summary>
    private static async Task Whole(Participants participants)
    {
        foreach (var service in Deployment.Services)
        {
            var check = await Verification.Of(
                service,
                [.. participants.Ids.Where(p => p != "operator").Select(p => participants[p].LedgerOf(service))],
                mayBeCovered: true,
                Cancel
            );
            Assert.True(check.Wrong.Count == 0, $"{service}: {string.Join("; ", check.Wrong)}");
        }
    }

    /// <summary>Nothing is on its way: no event waits for the broker, no message in a queue, nothing was put aside.</summary>
    private async Task Settled()
    {
        await using var participants = await Deployment.Join(Cancel);
        await Deployment.Until(
            "nothing is on its way any more",
            async () =>
            {
                foreach (var service in Deployment.Services)
                {
                    var status = await Read(() => participants["operator"].OperationsOf(service).GetStatusAsync(new()));
                    Assert.Equal(0ul, status.DeadLetters);
                    if (!status.BrokerReady || status.RelayBacklog > 0 || status.WaitingSinceTime is not null)
                        return false;
                }
                var queues = (await Deployment.AskBroker("/api/queues/ministries", Cancel)).EnumerateArray().ToList();
                Assert.All(queues.Where(q => q.GetProperty("name").GetString()!.EndsWith(".dead")), q => Assert.Equal(0, Messages(q)));
                return queues.Where(q => !q.GetProperty("name").GetString()!.Contains(".canary.")).All(q => Messages(q) == 0);
            },
            Cancel
        );

        static long Messages(JsonElement queue) => queue.TryGetProperty("messages", out var messages) ? messages.GetInt64() : 0;
    }

    private static async Task<Ledger.V1.GetCheckpointResponse> Checkpoint(Participants participants, string service) =>
        await Read(() => participants["operator"].LedgerOf(service).GetCheckpointAsync(new()));

    /// <summary>Returns when a service has taken in what custody recorded at a position.</summary>
    private static Task<bool> Heard(Participants participants, string service, ulong position) =>
        Decided(async () =>
        {
            await participants.WaitUntilProcessed(service, "custody", position, Cancel);
            return true;
        });

    /// <summary>Sends a write until it is decided: the same request, which has its id and its etag from the first time on.</summary>
    private static Task<TResponse> Write<TRequest, TResponse>(
        ParticipantClient client,
        TRequest request,
        Func<ParticipantClient, TRequest, AsyncUnaryCall<TResponse>> send
    )
        where TRequest : IMessage<TRequest> => Decided(async () => await send(client, request));

    private static Task<T> Read<T>(Func<AsyncUnaryCall<T>> read) => Decided(async () => await read());

    private static async Task<T> Decided<T>(Func<Task<T>> call)
    {
        var begun = Stopwatch.GetTimestamp();
        while (true)
        {
            try
            {
                return await call();
            }
            catch (RpcException e) when (IsUndecided(e) && Stopwatch.GetElapsedTime(begun) < TimeSpan.FromMinutes(3))
            {
                await Task.Delay(100, Cancel);
            }
        }
    }

    private static bool IsUndecided(RpcException e) =>
        !Cancel.IsCancellationRequested && ReasonOf(e) is null or "UNAVAILABLE" or "OVERLOADED";

    private static string? ReasonOf(RpcException e) => e.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason;

    private static Timestamp At(int year, int month, int day) => new DateTimeOffset(year, month, day, 9, 0, 0, TimeSpan.Zero).ToTimestamp();

    private async Task<JsonElement> Tagged(string service, string tag, string value) =>
        await Deployment.AskJaeger(
            $"/api/traces?service={service}&limit=20&lookback=1h&tags={Uri.EscapeDataString($"{{\"{tag}\":\"{value}\"}}")}",
            Cancel
        );

    private static string Name(JsonElement span) => span.GetProperty("operationName").GetString()!;

    /// <summary>One root, which is the call; nothing without its parent; every step once, and no warning.</summary>
    private static void IsWhole(JsonElement trace, params string[] gateways)
    {
        var spans = trace.GetProperty("spans").EnumerateArray().ToList();
        var ids = spans.Select(s => s.GetProperty("spanID").GetString()).ToHashSet();
        var roots = spans.Where(s => Parents(s).Count == 0).ToList();
        Assert.EndsWith("CallLogService/LogCall", Name(Assert.Single(roots)));
        Assert.All(spans.SelectMany(Parents), p => Assert.Contains(p, ids));
        Assert.Equal(spans.Count, ids.Count);
        foreach (
            var (name, times) in new[]
            {
                ("commit calllog", 3),
                ("commit consular", 1),
                ("commit custody", 2),
                ("publish ministries.calllog.v1.CallLogged", 1),
                ("process ministries.calllog.v1.CallLogged", 1),
                ("publish ministries.consular.v1.TransferRequestDrafted", 2),
                ("process ministries.consular.v1.TransferRequestDrafted", 4),
            }
        )
            Assert.True(spans.Count(s => Name(s) == name) == times, $"{name}: {spans.Count(s => Name(s) == name)} times");
        Assert.All(
            spans.Append(trace),
            s =>
                Assert.True(
                    !s.TryGetProperty("warnings", out var warnings)
                        || warnings.ValueKind == JsonValueKind.Null
                        || warnings.GetArrayLength() == 0
                )
        );
        Assert.Equal(
            Deployment.Services.Concat(gateways).Order(),
            trace.GetProperty("processes").EnumerateObject().Select(p => p.Value.GetProperty("serviceName").GetString()).Distinct().Order()
        );
    }

    private static List<string> Parents(JsonElement span) =>
        [
            .. span.GetProperty("references")
                .EnumerateArray()
                .Where(r => r.GetProperty("refType").GetString() == "CHILD_OF")
                .Select(r => r.GetProperty("spanID").GetString()!),
        ];

    [GeneratedRegex("http://[0-9.:]+/trace/([0-9a-f]{32})")]
    private static partial Regex TraceAddress();
}
