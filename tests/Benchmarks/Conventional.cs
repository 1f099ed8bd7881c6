using System.Globalization;
using System.Security.Cryptography;
using System.Threading.Channels;
using Google.Protobuf;
using Grpc.Core;
using MassTransit;
using Microsoft.AspNetCore.Builder;
using Microsoft.EntityFrameworkCore;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Ministries.CallLog.V1;
using Ministries.Fixtures;

namespace Ministries.Benchmarks;

/// <summary>A call was logged, as the conventional service publishes it.</summary>
public sealed record Logged(string Call, string Case, string Participant, byte[] Body);

/// <summary>The conventional design for the same purpose: a gRPC front over TLS, one <c>SaveChanges</c> per command that writes the call,
/// the request's id and an outbox row, and MassTransit that publishes the outbox. No signature, no ledger.</summary>
internal static class Conventional
{
    /// <summary>Serves: certificate, key, port, database, broker.</summary>
    public static async Task<int> Run(string[] args)
    {
        var builder = Hosts.Bare(args);
        builder.Services.AddGrpc();
        builder.Services.AddDbContextPool<Records>(
            o => o.UseNpgsql($"{args[3]};Maximum Pool Size=64;Max Auto Prepare=50;Auto Prepare Min Usages=2;No Reset On Close=true"),
            128
        );
        builder.Services.AddMassTransit(bus =>
        {
            bus.DisableUsageTelemetry();
            bus.UsingRabbitMq(
                (_, rabbit) =>
                {
                    rabbit.Host(new Uri(args[4]));
                    // Published messages go into a quorum queue, as ours do.
                    rabbit.Publish<Logged>(topology => topology.BindQueue("logged", "logged", queue => queue.SetQuorumQueue()));
                    rabbit.DeployPublishTopology = true;
                }
            );
        });
        builder.Services.AddHostedService<Publisher>();
        await using var host = builder.Build();
        await using (var scope = host.Services.CreateAsyncScope())
            await scope.ServiceProvider.GetRequiredService<Records>().Database.EnsureCreatedAsync();
        host.MapGrpcService<Calls>();
        return await Hosts.Serve(host);
    }

    private sealed class LoggedCall
    {
        public required string Id { get; init; }
        public required string Case { get; init; }
        public required string Participant { get; init; }
        public required string Counterpart { get; init; }
        public required byte[] Body { get; init; }
        public required DateTime LogTime { get; init; }
    }

    private sealed class KnownRequest
    {
        public required string Participant { get; init; }
        public required string RequestId { get; init; }
        public required byte[] Digest { get; init; }
        public required string Call { get; init; }
    }

    private sealed class Outgoing
    {
        public long Number { get; init; }
        public required string Call { get; init; }
        public required string Case { get; init; }
        public required string Participant { get; init; }
        public required byte[] Body { get; init; }
    }

    private sealed class Records(DbContextOptions<Records> options) : DbContext(options)
    {
        public DbSet<LoggedCall> Calls => Set<LoggedCall>();
        public DbSet<KnownRequest> Requests => Set<KnownRequest>();
        public DbSet<Outgoing> Outbox => Set<Outgoing>();

        protected override void OnModelCreating(ModelBuilder model)
        {
            model.Entity<LoggedCall>().HasIndex(c => c.Case);
            model.Entity<KnownRequest>().HasKey(r => new { r.Participant, r.RequestId });
            model.Entity<Outgoing>().HasKey(o => o.Number);
        }
    }

    private sealed class Calls(Records records) : CallLogService.CallLogServiceBase
    {
        public override async Task<LogCallResponse> LogCall(LogCallRequest request, ServerCallContext context)
        {
            var (participant, body) = ("kr/mfa", request.Account.ToByteArray());
            var known = await records
                .Requests.AsNoTracking()
                .FirstOrDefaultAsync(r => r.Participant == participant && r.RequestId == request.RequestId, context.CancellationToken);
            var id = known?.Call ?? Secret.OfTests.IdOf(participant, request.RequestId, "call");
            if (known is null)
            {
                records.Add(
                    new LoggedCall
                    {
                        Id = id,
                        Case = request.Case,
                        Participant = participant,
                        Counterpart = request.Counterpart,
                        Body = body,
                        LogTime = DateTime.UtcNow,
                    }
                );
                records.Add(
                    new KnownRequest
                    {
                        Participant = participant,
                        RequestId = request.RequestId,
                        Digest = SHA256.HashData(request.ToByteArray()),
                        Call = id,
                    }
                );
                records.Add(
                    new Outgoing
                    {
                        Call = id,
                        Case = request.Case,
                        Participant = participant,
                        Body = body,
                    }
                );
                await records.SaveChangesAsync(context.CancellationToken);
            }
            return new LogCallResponse
            {
                Call = id,
                Etag = "1",
                State = CallState.OneSided,
            };
        }
    }

    // As MassTransit's own outbox delivers: read in order, publish together, delete.
    private sealed class Publisher(IServiceScopeFactory scopes, IBus bus) : BackgroundService
    {
        protected override async Task ExecuteAsync(CancellationToken stoppingToken)
        {
            while (!stoppingToken.IsCancellationRequested)
            {
                await using var scope = scopes.CreateAsyncScope();
                var records = scope.ServiceProvider.GetRequiredService<Records>();
                var page = await records.Outbox.AsNoTracking().OrderBy(o => o.Number).Take(100).ToListAsync(stoppingToken);
                if (page.Count == 0)
                {
                    await Task.Delay(10, stoppingToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                    continue;
                }
                await Task.WhenAll(page.Select(o => bus.Publish(new Logged(o.Call, o.Case, o.Participant, o.Body), stoppingToken)));
                var numbers = page.Select(o => o.Number).ToArray();
                await records.Outbox.Where(o => numbers.Contains(o.Number)).ExecuteDeleteAsync(stoppingToken);
            }
        }
    }
}

/// <summary>MassTransit by itself: one process publishes with confirms, another consumes from a quorum queue.</summary>
internal static class PlainBus
{
    /// <summary>At the order <c>publish N</c>, publishes N messages, as many at once as is fastest.</summary>
    public static async Task<int> Publish(string[] args)
    {
        var bus = Bus.Factory.CreateUsingRabbitMq(rabbit => rabbit.Host(new Uri(args[0])));
        await bus.StartAsync();
        var body = RandomNumberGenerator.GetBytes(200);
        return await Hosts.Obey(
            async order =>
            {
                var count = int.Parse(order.Split(' ')[1], CultureInfo.InvariantCulture);
                using var window = new SemaphoreSlim(256);
                var sent = new Task[count];
                for (var i = 0; i < count; i++)
                {
                    await window.WaitAsync();
                    sent[i] = Send(i);
                }
                await Task.WhenAll(sent);

                async Task Send(int i)
                {
                    try
                    {
                        await bus.Publish(new Logged($"call_{i:00000000000000000000000000}", Hosts.Case, "kr/mfa", body));
                    }
                    finally
                    {
                        window.Release();
                    }
                }
            },
            bus.StopAsync
        );
    }

    /// <summary>Consumes, and says how many it has.</summary>
    public static async Task<int> Consume(string[] args)
    {
        var count = 0UL;
        var some = System.Threading.Channels.Channel.CreateBounded<bool>(
            new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite }
        );
        var bus = Bus.Factory.CreateUsingRabbitMq(rabbit =>
        {
            rabbit.Host(new Uri(args[0]));
            rabbit.ReceiveEndpoint(
                "plain",
                endpoint =>
                {
                    endpoint.SetQuorumQueue();
                    endpoint.PrefetchCount = 256;
                    endpoint.Handler<Logged>(_ =>
                    {
                        Interlocked.Increment(ref count);
                        some.Writer.TryWrite(true);
                        return Task.CompletedTask;
                    });
                }
            );
        });
        await bus.StartAsync();
        _ = Task.Run(async () =>
        {
            // It does not poll while no messages come, because it also runs while our services are measured.
            while (await some.Reader.ReadAsync())
            {
                Hosts.TellGrown(Volatile.Read(ref count));
                await Task.Delay(1);
            }
        });
        return await Hosts.Obey(_ => Task.CompletedTask, bus.StopAsync);
    }
}
