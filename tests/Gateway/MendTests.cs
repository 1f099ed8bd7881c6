using System.Text.Json.Nodes;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Ministry.Tests;
using Ministries.Trust;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary>What a refusal leaves of a write in the outbox: a decision stays, what its caller can mend may come again, and what must be
/// mended at the gateway costs no write.</summary>
/// <remarks>The tests change what the services answer, keys and certificates, so they have services of their own.</remarks>
public class MendTests : IClassFixture<OwnServices>
{
    private readonly Services _services;

    public MendTests(OwnServices own)
    {
        _services = own.Services;
        RefuseCalls(null);
    }

    private JsonObject Call(string office = "minister")
    {
        var call = _services.Call();
        call.Account.Attendees[0].Office = office;
        return PlainJson.Write(call);
    }

    private void RefuseCalls(Reason? reason) =>
        _services.Before = reason is { } why
            ? request => request is LogCallRequest ? throw new Refusal(why).ToException() : Task.CompletedTask
            : null;

    // They pass by themselves, and say when.
    private static bool Passes(Reason reason) => reason is Reason.Overloaded or Reason.Unavailable;

    private static bool IsOfTheGateway(Reason reason) => Reasons.AboutOf(reason).Code == (int)StatusCode.Unauthenticated;

    [Fact]
    public async Task Each_refusal_that_can_be_mended_may_come_again_mended_or_not_and_each_other_stays()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa");
        var wrong = new List<string>();
        foreach (var reason in Reasons.All.Where(r => !Passes(r) && !IsOfTheGateway(r)))
        foreach (var changed in (bool[])[true, false])
        {
            var key = Guid.NewGuid().ToString();
            RefuseCalls(reason);
            var (_, first, _) = await gateway.Post("/v1/calllog/LogCall", Call(), key);
            RefuseCalls(null);
            var (status, again, _) = await gateway.Post("/v1/calllog/LogCall", changed ? Call("another") : Call(), key);
            var expected =
                !Reasons.IsKept(reason) ? "200 "
                : changed ? "422 IDEMPOTENCY_KEY_REUSED"
                : $"{(int)first["status"]!} {Reasons.NameOf(reason)}";
            if ((string?)first["reason"] != Reasons.NameOf(reason) || $"{status} {again["reason"]}" != expected)
                wrong.Add($"{reason}, changed {changed}: {first["reason"]}, then {status} {again["reason"]} and not {expected}");
        }
        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
    }

    [Fact]
    public async Task What_was_refused_again_may_come_again_and_two_at_once_are_one_write()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 30 });
        var key = Guid.NewGuid().ToString();
        RefuseCalls(Reason.ApprovalsMissing);
        for (var i = 0; i < 3; i++)
            Assert.Equal(
                "APPROVALS_MISSING",
                (string?)(await gateway.Post("/v1/calllog/LogCall", Call($"office-{i}"), key)).Body["reason"]
            );
        RefuseCalls(null);
        var both = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => gateway.Post("/v1/calllog/LogCall", Call("the-same"), key)));
        Assert.All(both, b => Assert.True(b.Status == 200, b.Body.ToJsonString()));
        Assert.Single(both.Select(b => (string?)b.Body["receipt"]!["position"]).Distinct());
        Assert.Equal(422, (await gateway.Post("/v1/calllog/LogCall", Call("late"), key)).Status);
    }

    [Fact]
    public async Task Approvals_that_were_missing_are_added_under_the_same_key()
    {
        await using var services = new Services
        {
            Agreed = a =>
            {
                a.ApprovalDemands.Add(new ApprovalDemand { Method = "ministries.custody.v1.CustodyService/RecordStatus", Officials = 1 });
                return a;
            },
        };
        await services.InitializeAsync();
        await using var gateway = await RunningGateway.Start(services, "ua/coordination-hq");
        var key = Guid.NewGuid().ToString();
        var request = PlainJson.Write(
            new RecordStatusRequest
            {
                Actor = Services.Actor,
                Case = services.Case,
                Prisoner = services.Prisoners[0],
                Status = CustodyState.Interned,
                StatusTime = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow.AddHours(-1)),
            }
        );
        var (_, prepared, _) = await gateway.Post("/v1/custody/RecordStatus?prepare=true", request, key);
        Assert.Equal("APPROVALS_MISSING", (string?)(await gateway.Post("/v1/custody/RecordStatus", prepared, key)).Body["reason"]);
        var approved = (RecordStatusRequest)PlainJson.Read(prepared, RecordStatusRequest.Descriptor);
        var official = Path.Combine(services.Folder, "ua/coordination-hq", "officials", $"{Pki.OfficialOf("ua/coordination-hq", 2)}.key");
        services.As("ua/coordination-hq").Approve(approved, official, "legal");
        var (status, body, _) = await gateway.Post("/v1/custody/RecordStatus", PlainJson.Write(approved), key);
        Assert.True(status == 200, body.ToJsonString());
    }

    [Fact]
    public async Task Each_refusal_of_the_gateway_itself_keeps_the_write_until_that_is_mended_and_is_seen()
    {
        await using var gateway = await RunningGateway.Start(
            _services,
            "kr/mfa",
            s => s with { AnswerSeconds = 0.1, Metrics = new Uri($"http://127.0.0.1:{Ports.Free()}") }
        );
        using var http = new HttpClient();
        var reasons = Reasons.All.Where(r => IsOfTheGateway(r) || Passes(r)).ToList();
        Assert.All(reasons, r => Assert.False(Reasons.IsKept(r)));
        foreach (var reason in reasons)
        {
            var key = Guid.NewGuid().ToString();
            RefuseCalls(reason);
            var (status, waits, _) = await gateway.Post("/v1/calllog/LogCall", Call(), key);
            Assert.Equal((202, "WAITING"), (status, (string?)waits["state"]));
            if (IsOfTheGateway(reason))
            {
                await Until(async () => (string?)(await gateway.Get($"/outbox/{key}")).Body["hindrance"] == Reasons.NameOf(reason));
                var hindrance = (await gateway.Get("/status")).Body["outbox"]!["hindrances"]!.AsArray().Single()!;
                Assert.Equal(
                    ("calllog", Reasons.NameOf(reason), 1),
                    ((string?)hindrance["service"], (string?)hindrance["reason"], (int)hindrance["writes"]!)
                );
                Assert.NotEmpty((string)hindrance["remedy"]!);
                await Until(async () =>
                    (await http.GetStringAsync(new Uri(gateway.Settings.Metrics!, "/metrics"), Cancel))
                        .Split('\n')
                        .Any(l =>
                            l.StartsWith("ministries_gateway_outbox_hindered{")
                            && l.Contains($"\"{Reasons.NameOf(reason)}\"", StringComparison.OrdinalIgnoreCase)
                        )
                );
            }
            RefuseCalls(null);
            await Until(async () => (string?)(await gateway.Get($"/outbox/{key}")).Body["state"] == "ANSWERED");
        }
        Assert.Empty((await gateway.Get("/status")).Body["outbox"]!["hindrances"]!.AsArray());
    }

    [Fact]
    public async Task A_certificate_and_a_key_that_are_replaced_are_used_without_a_restart_and_what_waited_is_sent()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 0.1 });
        string At(string name) => Path.Combine(_services.Folder, "kr/mfa", name);

        // The certificate that it was started with is denied.
        using (var old = System.Security.Cryptography.X509Certificates.X509CertificateLoader.LoadCertificateFromFile(At("system.pem")))
            Signing.Next(_services.Folder, a => Signing.Of(a, "kr/mfa").DeniedCertificates.Add(old.SerialNumber), ["kr/mfa"]);
        var first = await Waits("CERTIFICATE_NOT_ACCEPTED");
        using (var authority = CertificateAuthority.Read(At("authority.pem"), At("authority.key")))
        using (
            var next = authority.Issue(
                "system",
                new CertificateTerms(
                    ["spiffe://ministries.example/kr/mfa/system"],
                    DateTimeOffset.UtcNow.AddMinutes(-5),
                    DateTimeOffset.UtcNow.AddDays(1)
                )
            )
        )
        {
            // One after the other, as they are on a disk.
            WholeFile.Write(
                At("system.key"),
                System
                    .Security.Cryptography.X509Certificates.ECDsaCertificateExtensions.GetECDsaPrivateKey(next)!
                    .ExportPkcs8PrivateKeyPem(),
                mode: PrivateFiles.Mode
            );
            WholeFile.Write(At("system.pem"), next.ExportCertificatePem());
        }
        await Until(async () => (string?)(await gateway.Get($"/outbox/{first}")).Body["state"] == "ANSWERED");

        // The key for requests is revoked, and the next one is listed.
        using var key = Signing.NewKey();
        Signing.Next(
            _services.Folder,
            a =>
            {
                var keys = Signing.Of(a, "kr/mfa").SigningKeys;
                keys.Single(k => k.Id == "kr/mfa/requests-1").RevokeTime = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTimeOffset(
                    DateTimeOffset.UtcNow
                );
                keys.Add(Signing.Listed("kr/mfa/requests-2", SigningKeyUse.Requests, key));
            },
            ["kr/mfa"]
        );
        var second = await Waits("SIGNATURE_KEY_NOT_VALID");
        Signing.Replace(At("requests.key"), key);
        await Until(async () => (string?)(await gateway.Get($"/outbox/{second}")).Body["state"] == "ANSWERED");

        // Writes go on until a service has taken the change over.
        async Task<string> Waits(string reason)
        {
            var id = "";
            await Until(async () =>
            {
                id = Guid.NewGuid().ToString();
                await gateway.Post("/v1/calllog/LogCall", Call(), id);
                return (string?)(await gateway.Get($"/outbox/{id}")).Body["hindrance"] == reason;
            });
            return id;
        }
    }

    [Fact]
    public async Task A_receipt_that_cannot_be_kept_is_tried_again()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 30 });
        string At(int position) => Path.Combine(gateway.State, "receipts", $"calllog-{position}.json");
        static int PositionOf(JsonObject body) => int.Parse((string)body["receipt"]!["position"]!);
        var first = PositionOf((await gateway.Post("/v1/calllog/LogCall", Call())).Body);
        // A folder in the place of a file, which cannot be replaced.
        var taken = Enumerable.Range(first + 1, 40).ToList();
        taken.ForEach(p => Directory.CreateDirectory(Path.Combine(At(p), "in the way")));
        var second = PositionOf((await gateway.Post("/v1/calllog/LogCall", Call())).Body);
        Assert.Contains(second, taken);
        taken.ForEach(p => Directory.Delete(At(p), recursive: true));
        await Until(async () => (int)(await gateway.Get("/status")).Body["outbox"]!["waiting"]! == 0);
        Assert.True(File.Exists(At(second)));
    }

    [Fact]
    public async Task A_write_whose_service_left_the_settings_waits_and_that_is_seen()
    {
        var state = Directory.CreateTempSubdirectory("outbox").FullName;
        var key = Guid.NewGuid().ToString();
        RefuseCalls(Reason.Unavailable);
        await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 0.1 }, state))
            Assert.Equal(202, (await gateway.Post("/v1/calllog/LogCall", Call(), key)).Status);
        RefuseCalls(null);
        await using (
            var gateway = await RunningGateway.Start(
                _services,
                "kr/mfa",
                s => s with { Services = s.Services.Where(n => n.Key != "calllog").ToDictionary() },
                state
            )
        )
        {
            await Until(async () => (string?)(await gateway.Get($"/outbox/{key}")).Body["hindrance"] == "ADDRESS_NOT_SET");
            // Nobody knows when another could be sent, so none is taken: they would take the place of those that can.
            var (status, refused, _) = await gateway.Post("/v1/calllog/LogCall", Call());
            Assert.Equal((503, "SERVICE_UNREACHABLE"), (status, (string?)refused["reason"]));
            Assert.Equal(503, (await gateway.Get("/v1/calllog/GetCall?call=call_00000000000000000000000000")).Status);
            Assert.Equal(202, (await gateway.Post("/v1/calllog/LogCall", Call(), key)).Status);
        }
        await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", state: state))
            await Until(async () => (string?)(await gateway.Get($"/outbox/{key}")).Body["state"] == "ANSWERED");
        Directory.Delete(state, recursive: true);
    }
}
