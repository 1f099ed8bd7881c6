using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
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
        await using (var consular = await Start(folder, fixture.Consular, broker, new() { ["calllog"] = ServiceSetup.AddressOf(calllog) }))
        {
            await CommitCall(calllog);
            using var channel = Channel(consular, folder, "operator");
            var operations = new OperationsService.OperationsServiceClient(channel);
            var id = await IsSetAside(operations);
            await IsReplayedOnce(operations, id, () => Volatile.Write(ref poison, false));
            var noted = await consular.Services.GetRequiredService<ServiceLedger>().Find(BusFixture.Noted, "all", null, Cancel);
            Assert.Equal([id], noted!.State.Prisoners);
            await AnotherEventIsNotFound(operations);
            using var other = Channel(consular, folder, "kr/mfa");
            await Assert.ThrowsAsync<RpcException>(async () =>
                await new OperationsService.OperationsServiceClient(other).GetStatusAsync(new GetStatusRequest(), cancellationToken: Cancel)
            );
            await consular.StopAsync(CancellationToken.None);
            await calllog.StopAsync(CancellationToken.None);
        }
        Directory.Delete(folder, recursive: true);
    }

    private static Task CommitCall(WebApplication calllog)
    {
        var e = new CallLogged { Case = "case_1", Call = "call-1" };
        return calllog
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
    }

    // Returns the dead letter's id.
    private static async Task<string> IsSetAside(OperationsService.OperationsServiceClient operations)
    {
        ListDeadLettersResponse letters = new();
        await BusFixture.Until(
            async () =>
                (letters = await operations.ListDeadLettersAsync(new ListDeadLettersRequest(), cancellationToken: Cancel)).DeadLetters.Count
                == 1,
            () => "the event is set aside"
        );
        Assert.Equal("RULE_FAILED", letters.DeadLetters[0].Reason);
        Assert.DoesNotContain("secret", letters.ToString());
        var status = await operations.GetStatusAsync(new GetStatusRequest(), cancellationToken: Cancel);
        Assert.Equal(("consular", 1ul, true), (status.Service, status.DeadLetters, status.CertificateExpireTime is not null));
        return letters.DeadLetters[0].Id;
    }

    private static async Task IsReplayedOnce(OperationsService.OperationsServiceClient operations, string id, Action repair)
    {
        var first = new ReplayDeadLetterRequest { RequestId = "00000000-0000-4000-8000-000000000001", Id = id };
        Assert.False((await operations.ReplayDeadLetterAsync(first, cancellationToken: Cancel)).Processed);
        repair();
        // The same request gets the same answer; a new request tries again.
        Assert.False((await operations.ReplayDeadLetterAsync(first, cancellationToken: Cancel)).Processed);
        var second = new ReplayDeadLetterRequest { RequestId = "00000000-0000-4000-8000-000000000002", Id = id };
        var replayed = await operations.ReplayDeadLetterAsync(second, cancellationToken: Cancel);
        Assert.True(replayed.Processed);
        Assert.Equal(replayed, await operations.ReplayDeadLetterAsync(second, cancellationToken: Cancel));
        Assert.Empty((await operations.ListDeadLettersAsync(new ListDeadLettersRequest(), cancellationToken: Cancel)).DeadLetters);
    }

    private static async Task AnotherEventIsNotFound(OperationsService.OperationsServiceClient operations)
    {
        var unknown = await Assert.ThrowsAsync<RpcException>(async () =>
            await operations.ReplayDeadLetterAsync(
                new ReplayDeadLetterRequest { RequestId = "00000000-0000-4000-8000-000000000003", Id = "calllog/99/0" },
                cancellationToken: Cancel
            )
        );
        Assert.Equal(StatusCode.NotFound, unknown.StatusCode);
    }

    private static async Task<WebApplication> Start(string folder, Service service, MemoryBroker broker, Dictionary<string, Uri> peers)
    {
        var host = await ServiceHost.Build(
            service,
            ServiceSetup.SettingsIn(folder, service.Name) with
            {
                Peers = peers,
            },
            memory: broker,
            cancel: Cancel
        );
        await host.StartAsync(Cancel);
        return host;
    }

    private static GrpcChannel Channel(WebApplication host, string folder, string participant) =>
        GrpcChannel.ForAddress(
            ServiceSetup.AddressOf(host),
            new GrpcChannelOptions
            {
                DisposeHttpClient = true,
                HttpHandler = Signing.Handler(folder, participant, host.Services.GetRequiredService<Service>().Name),
            }
        );
}
