using System.Text.Json;

namespace Ministries.Containers.Tests;

/// <summary>The project as production starts it: brought up once for all its tests.</summary>
public sealed class Production() : Deployed("prod", "deploy/compose.prod.yml", "witness-icrc", "witness-kr-mfa", "witness-ua-mfa");

/// <summary>TLS to the database and the broker, with certificates that are verified and replaced.</summary>
public sealed class ProductionTests(Production production) : IClassFixture<Production>
{
    // A set of secrets of another operator, in the container's temporary folder.
    private const string Other = "dotnet /app/ministry.dll deployment init --out /tmp/other --operator-authority /tmp/other/operator";

    private Deployment Deployment => production.Deployment;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_case_is_played_and_every_way_to_the_database_and_the_broker_is_TLS()
    {
        var played = await Deployment.TryCompose("run", "--rm", "-T", "play");
        Assert.True(played.Code == 0, played.All);

        var sessions = (
            await Deployment.AsPostgres(
                "psql",
                "-Atc",
                "select distinct usename, ssl, version from pg_stat_ssl join pg_stat_activity using (pid) where usename <> 'postgres'"
            )
        ).Output;
        Assert.Equal(
            ["calllog|t|TLSv1.3", "consular|t|TLSv1.3", "custody|t|TLSv1.3"],
            sessions.Split('\n', StringSplitOptions.RemoveEmptyEntries).Order()
        );
        var password = (await Deployment.In("postgres", "cat", "/secrets/calllog.password")).Output.Trim();
        var plain = await Deployment.In(
            "postgres",
            "psql",
            $"host=127.0.0.1 user=calllog password={password} dbname=calllog sslmode=disable",
            "-Atc",
            "select 1"
        );
        Assert.NotEqual(0, plain.Code);
        Assert.Contains("no pg_hba.conf entry", plain.Error);

        var links = (await Deployment.In("rabbitmq", "rabbitmqctl", "-q", "list_connections", "user", "ssl", "ssl_protocol"))
            .Output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Skip(1)
            .Select(l => l.Replace('\t', ' '))
            .Distinct()
            .Order();
        Assert.Equal(["calllog true tlsv1.3", "consular true tlsv1.3", "custody true tlsv1.3"], links);
        var refused = await Deployment.In("calllog", "bash", "-c", "exec 3<>/dev/tcp/rabbitmq/5672");
        Assert.Contains("Connection refused", refused.Error);
    }

    [Fact]
    public async Task A_service_that_trusts_another_authority_does_not_become_ready_and_says_why()
    {
        // The database's certificate: the service does not open its ledger.
        await Deployment.Secrets($"{Other} && cp /tmp/other/operator/authority.pem /secrets/calllog/operator-authority.pem");
        await Deployment.Stop("calllog");
        await Deployment.StartAgain("calllog");
        await Deployment.Until(
            "the log says that the database's certificate is refused",
            async () =>
                (await Deployment.Log("calllog")).Contains("certificate was rejected")
                || (await Deployment.Log("calllog")).Contains("certificate is invalid"),
            Cancel,
            () => Deployment.Log("calllog")
        );
        Assert.Contains("calllog: the ledger's database cannot be used at present", await Deployment.Log("calllog"));
        Assert.False(await Deployment.IsHealthy("calllog"));

        // The broker's certificate: the ledger is open, and no message goes round.
        await Deployment.Compose("run", "--rm", "-T", "secrets");
        await Deployment.Secrets(
            $"{Other} && cp /tmp/other/operator/authority.pem /secrets/custody/other.pem && "
                + "printf /secrets/other.pem > /secrets/custody/settings/Broker__Authority"
        );
        await Deployment.Stop("custody");
        await Deployment.StartAgain("custody");
        await Deployment.Until(
            "the log says that the broker's certificate is refused",
            async () =>
                (await Deployment.Log("custody")).Contains(
                    "the broker's certificate is not accepted: CN=rabbitmq, issued by CN=operator authority"
                ),
            Cancel,
            () => Deployment.Log("custody")
        );
        Assert.False(await Deployment.IsHealthy("custody"));

        // What the secrets' container makes is right again.
        await Deployment.Compose("run", "--rm", "-T", "secrets");
        foreach (var service in new[] { "calllog", "custody" })
        {
            await Deployment.Stop(service);
            await Deployment.StartAgain(service);
        }
        await Deployment.Healthy(Cancel);
    }

    [Fact]
    public async Task The_operators_authority_and_its_certificates_are_replaced_while_the_case_is_played()
    {
        var play = Deployment.TryCompose("run", "--rm", "-T", "play");
        // First both authorities are trusted and the new one issues. Then only the new one is trusted.
        await Deployment.Secrets(
            $"{Other} && cat /tmp/other/operator/authority.pem /operator/authority.pem > /operator/authority.pem.next && "
                + "cp /tmp/other/operator/authority.key /operator/authority.key && mv /operator/authority.pem.next /operator/authority.pem && "
                + "cp /tmp/other/operator/authority.pem /operator/next.pem"
        );
        await Deployment.Compose("run", "--rm", "-T", "secrets");
        var reloaded = await Deployment.In("postgres", "bash", "/certificate.sh", "reload");
        Assert.True(reloaded.Code == 0, reloaded.All);
        var cleared = await Deployment.In("rabbitmq", "rabbitmqctl", "-q", "eval", "ssl:clear_pem_cache().");
        Assert.True(cleared.Code == 0, cleared.All);
        await Deployment.Secrets("mv /operator/next.pem /operator/authority.pem");
        await Deployment.Compose("run", "--rm", "-T", "secrets");
        var played = await play;
        Assert.True(played.Code == 0, played.All);

        // A service that starts now trusts the new authority alone, so its certificates must be in use everywhere.
        foreach (var service in Deployment.Services)
        {
            Assert.Equal(0, await Deployment.Stop(service));
            await Deployment.StartAgain(service);
        }
        await Deployment.Healthy(Cancel);
    }

    [Fact]
    public async Task Every_witness_cosigns_the_checkpoints_of_every_service_and_two_of_three_are_enough()
    {
        await using var participants = await Deployment.Join(Cancel);
        await Deployment.Until(
            "all three have cosigned",
            await Cosigned("icrc", "kr/mfa", "ua/mfa"),
            Cancel,
            () => Deployment.Log("witness-icrc")
        );
        await Deployment.Stop("witness-kr-mfa");
        var played = await Deployment.TryCompose("run", "--rm", "-T", "play");
        Assert.True(played.Code == 0, played.All);
        await Deployment.Until(
            "two have cosigned what came since",
            await Cosigned("icrc", "ua/mfa"),
            Cancel,
            () => Deployment.Log("witness-icrc")
        );
        await Deployment.StartAgain("witness-kr-mfa");
        await Deployment.Until("all three have cosigned again", await Cosigned("icrc", "kr/mfa", "ua/mfa"), Cancel);

        // Whether they have cosigned all that there is now. The ledgers grow by themselves, so there is more meanwhile.
        async Task<Func<Task<bool>>> Cosigned(params string[] witnesses)
        {
            Dictionary<string, ulong> sizes = [];
            foreach (var service in Deployment.Services)
                sizes[service] = (await Checkpoint(service)).TreeSize;
            return async () =>
            {
                foreach (var (service, size) in sizes)
                {
                    var now = await Checkpoint(service);
                    if (
                        now.CosignedTreeSize < size
                        || witnesses.Any(w => !now.CosignedCheckpoint.Contains($"\u2014 ministries.example/witness/{w} "))
                    )
                        return false;
                }
                return true;
            };
        }

        async Task<Ledger.V1.GetCheckpointResponse> Checkpoint(string service) =>
            await participants["icrc"].LedgerOf(service).GetCheckpointAsync(new(), cancellationToken: Cancel);
    }

    [Fact]
    public async Task A_real_Prometheus_reads_the_metrics_of_every_service_and_gateway()
    {
        Assert.SkipUnless(await Deployment.HasPrometheus(), "there is neither Prometheus' image nor Debian's prometheus");
        await Deployment.Compose("up", "--detach", "prometheus");
        JsonElement up = default;
        await Deployment.Until(
            "Prometheus has read every service and every gateway",
            async () =>
            {
                up = await Deployment.AskPrometheus("/api/v1/query?query=up", Cancel);
                return up.GetProperty("result").GetArrayLength() == Deployment.Services.Count + Deployment.Gateways.Count
                    && up.GetProperty("result").EnumerateArray().All(r => r.GetProperty("value")[1].GetString() == "1");
            },
            Cancel,
            () => Deployment.Log("prometheus")
        );
        Assert.Equal(
            Deployment.Services.Concat(["icrc", "kr/mfa", "ua/coordination-hq", "ua/mfa"]).Order(),
            up.GetProperty("result")
                .EnumerateArray()
                .Select(r => r.GetProperty("metric"))
                .Select(m => m.TryGetProperty("service", out var service) ? service.GetString() : m.GetProperty("participant").GetString())
                .Order()
        );
        var rules = await Deployment.AskPrometheus("/api/v1/rules", Cancel);
        Assert.All(
            rules.GetProperty("groups").EnumerateArray().SelectMany(g => g.GetProperty("rules").EnumerateArray()),
            r => Assert.NotEqual("err", r.GetProperty("health").GetString())
        );
    }
}
