using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Operations.V1;
using Ministries.Trust;

namespace Ministries.Bus.Tests;

/// <summary>Two services in their real hosts, with real certificates and gRPC between them, and their operator.</summary>
public sealed class OperationsTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task An_operator_sees_dead_letters_and_replays_them_from_the_producers_ledger()
    {
        var folder = Directory.CreateTempSubdirectory("ministries-operations-").FullName;
        Pki.Init(folder, StandardAgreement.Read(), TimeProvider.System);
        await using var broker = new MemoryBroker();
        await using var fixture = new BusFixture(null);
        var poison = true;
        fixture.OnCall = _ => Volatile.Read(ref poison) ? throw new InvalidOperationException("a secret of the message") : null;
        await using (var calllog = await Start(folder, fixture.CallLog, broker, []))
        await using (var consular = await Start(folder, fixture.Consular, broker, new() { ["calllog"] = AddressOf(calllog) }))
        {
            var e = new CallLogged { Case = "case_1", Call = "call-1" };
            await calllog
                .Services.GetRequiredService<ServiceLedger>()
                .Commit(
                    new Command
                    {
                        Participant = "kr/mfa",
                        RequestId = "request",
                        Method = "test",
                        Request = e,
                        Bytes = e.ToByteArray(),
                        AgreementVersion = 1,
                        Decide = (view, _) =>
                        {
                            view.Find(BusFixture.Calls, "call-1");
                            return Decision.Accept("case_1", [], [new Change(e, [BusFixture.Calls.Id("call-1")])]);
                        },
                    },
                    Cancel
                );

            using var channel = Channel(consular, folder, "operator");
            var operations = new OperationsService.OperationsServiceClient(channel);
            ListDeadLettersResponse letters = new();
            await BusFixture.Until(
                async () =>
                    (letters = await operations.ListDeadLettersAsync(new ListDeadLettersRequest(), cancellationToken: Cancel))
                        .DeadLetters
                        .Count == 1,
                () => "the event is set aside"
            );
            Assert.Equal("RULE_FAILED", letters.DeadLetters[0].Reason);
            Assert.DoesNotContain("secret", letters.ToString());
            var status = await operations.GetStatusAsync(new GetStatusRequest(), cancellationToken: Cancel);
            Assert.Equal(("consular", 1ul, true), (status.Service, status.DeadLetters, status.CertificateExpireTime is not null));

            var first = new ReplayDeadLetterRequest { RequestId = "00000000-0000-4000-8000-000000000001", Id = letters.DeadLetters[0].Id };
            Assert.False((await operations.ReplayDeadLetterAsync(first, cancellationToken: Cancel)).Processed);
            Volatile.Write(ref poison, false);
            // The same request gets the same answer; a new request tries again.
            Assert.False((await operations.ReplayDeadLetterAsync(first, cancellationToken: Cancel)).Processed);
            var second = new ReplayDeadLetterRequest { RequestId = "00000000-0000-4000-8000-000000000002", Id = first.Id };
            var replayed = await operations.ReplayDeadLetterAsync(second, cancellationToken: Cancel);
            Assert.True(replayed.Processed);
            Assert.Equal(replayed, await operations.ReplayDeadLetterAsync(second, cancellationToken: Cancel));
            Assert.Empty((await operations.ListDeadLettersAsync(new ListDeadLettersRequest(), cancellationToken: Cancel)).DeadLetters);
            var noted = await consular.Services.GetRequiredService<ServiceLedger>().Find(BusFixture.Noted, "all", null, Cancel);
            Assert.Equal([first.Id], noted!.State.Prisoners);

            var unknown = await Assert.ThrowsAsync<RpcException>(async () =>
                await operations.ReplayDeadLetterAsync(
                    new ReplayDeadLetterRequest { RequestId = "00000000-0000-4000-8000-000000000003", Id = "calllog/99/0" },
                    cancellationToken: Cancel
                )
            );
            Assert.Equal(StatusCode.NotFound, unknown.StatusCode);
            using var other = Channel(consular, folder, "kr/mfa");
            await Assert.ThrowsAsync<RpcException>(async () =>
                await new OperationsService.OperationsServiceClient(other).GetStatusAsync(new GetStatusRequest(), cancellationToken: Cancel)
            );
            await consular.StopAsync(CancellationToken.None);
            await calllog.StopAsync(CancellationToken.None);
        }
        Directory.Delete(folder, recursive: true);
    }

    private static async Task<WebApplication> Start(string folder, Service service, MemoryBroker broker, Dictionary<string, Uri> peers)
    {
        var home = Path.Combine(folder, "service", service.Name);
        var host = await ServiceHost.Build(
            service,
            new Settings
            {
                Ledger = $"sqlite:{Path.Combine(folder, $"{service.Name}.db")}",
                Broker = new Uri("memory:"),
                Listen = new Uri("https://127.0.0.1:0"),
                Certificate = Path.Combine(home, "system.pem"),
                CertificateKey = Path.Combine(home, "system.key"),
                Agreement = Path.Combine(folder, "agreement.json"),
                Checkpoint = Path.Combine(folder, $"{service.Name}.checkpoint"),
                CheckpointKey = Path.Combine(home, "checkpoint.key"),
                Peers = peers,
                Drain = TimeSpan.FromSeconds(5),
            },
            memory: broker,
            cancel: Cancel
        );
        await host.StartAsync(Cancel);
        return host;
    }

    private static Uri AddressOf(WebApplication host) =>
        new(host.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single());

    private static GrpcChannel Channel(WebApplication host, string folder, string participant) =>
        GrpcChannel.ForAddress(
            AddressOf(host),
            new GrpcChannelOptions
            {
                DisposeHttpClient = true,
                HttpHandler = Signing.Handler(folder, participant, host.Services.GetRequiredService<Service>().Name),
            }
        );
}
