using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Health.V1;
using Ministries.CallLog.V1;
using Ministries.Trust;

namespace Ministries.Hosting.Tests;

/// <summary>Who is let in, over real TLS. After each refusal nothing was written, and the service goes on.</summary>
public sealed class IdentityTests(Running running) : IClassFixture<Running>
{
    private static readonly DateTimeOffset Now = DateTimeOffset.UtcNow;

    private static CertificateTerms Terms(params string[] uris) => new(uris, Now.AddHours(-1), Now.AddHours(1));

    private const string System = "spiffe://ministries.example/kr/mfa/system";

    [Fact]
    public async Task A_participants_system_is_let_in() => Assert.StartsWith("call_", (await running.Log()).Call);

    [Fact]
    public async Task Without_a_certificate_nobody_is_let_in() => await Shut(null);

    [Fact]
    public async Task TLS_1_2_is_refused() => await Shut(running.CertificateOf("kr/mfa"), SslProtocols.Tls12);

    [Fact]
    public async Task An_authority_that_the_agreement_does_not_know_ends_in_the_handshake()
    {
        using var unknown = CertificateAuthority.Create("kr/mfa development authority", Now.AddHours(-1), Now.AddHours(1));
        await Shut(unknown.Issue("x", Terms(System)));
    }

    [Fact]
    public async Task A_certificate_without_an_authority_ends_in_the_handshake()
    {
        using var own = CertificateAuthority.Create("own", Now.AddHours(-1), Now.AddHours(1));
        await Shut(X509CertificateLoader.LoadPkcs12(own.Certificate.Export(X509ContentType.Pkcs12), null));
    }

    [Fact]
    public async Task Two_URIs_name_nobody_and_end_in_the_handshake() =>
        await Shut(running.AuthorityOf("kr/mfa").Issue("x", Terms(System, "spiffe://ministries.example/kr/mfa/other")));

    [Fact]
    public async Task An_unknown_participant_ends_in_the_handshake() =>
        await Shut(running.AuthorityOf("kr/mfa").Issue("x", Terms("spiffe://ministries.example/kr/nobody/system")));

    [Fact]
    public async Task Another_participants_authority_cannot_name_this_one_and_ends_in_the_handshake() =>
        await Shut(running.AuthorityOf("ua/mfa").Issue("x", Terms(System)));

    [Fact]
    public async Task A_certificate_for_being_called_only_names_no_caller() =>
        await Told(
            "CALLER_UNKNOWN",
            running.AuthorityOf("kr/mfa").Issue("x", Terms(System) with { Client = false, Hosts = ["localhost"] })
        );

    [Fact]
    public async Task An_expired_certificate_is_not_accepted() =>
        await Told("CERTIFICATE_NOT_ACCEPTED", running.AuthorityOf("kr/mfa").Issue("x", Terms(System) with { Until = Now.AddMinutes(-1) }));

    [Fact]
    public async Task A_certificate_that_is_not_valid_yet_is_not_accepted() =>
        await Told(
            "CERTIFICATE_NOT_ACCEPTED",
            running.AuthorityOf("kr/mfa").Issue("x", Terms(System) with { From = Now.AddHours(1), Until = Now.AddHours(2) })
        );

    [Fact]
    public async Task A_certificate_that_ends_while_its_connection_is_open_is_not_accepted_any_more()
    {
        using var certificate = running.AuthorityOf("kr/mfa").Issue("x", Terms(System));
        var client = new CallLogService.CallLogServiceClient(running.Channel(Kept(certificate)));
        await client.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);
        await NothingWritten(async () =>
        {
            running.Time.Moved = TimeSpan.FromHours(2);
            try
            {
                await Running.Refused("CERTIFICATE_NOT_ACCEPTED", () => client.LogCallAsync(Running.Request()).ResponseAsync);
            }
            finally
            {
                running.Time.Moved = TimeSpan.Zero;
            }
        });
        await client.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);
    }

    [Theory]
    [InlineData("X-ARR-ClientCert")]
    [InlineData("X-Forwarded-Client-Cert")]
    [InlineData("Client-Cert")]
    [InlineData("x-ssl-client-cert")]
    public async Task A_certificate_in_a_header_is_refused(string header)
    {
        var pem = Convert.ToBase64String(running.CertificateOf("ua/mfa").RawData);
        await NothingWritten(async () =>
        {
            var status = await running.Post(Running.FrameOf(Running.Request().ToByteArray()), headers: (header, pem));
            Assert.Equal(header, Running.Is("CERTIFICATE_NOT_ACCEPTED", status).Metadata["header"], ignoreCase: true);
        });
    }

    [Theory]
    [InlineData("operator")]
    [InlineData("service/custody")]
    public async Task A_participant_that_can_have_no_part_in_a_case_writes_nothing(string participant) =>
        await NothingWritten(() => Running.Refused("NOT_GRANTED", () => running.Log(participant)));

    [Fact]
    public async Task Health_and_reflection_are_for_participants_only()
    {
        var health = new Health.HealthClient(running.As("operator"));
        await health.CheckAsync(new HealthCheckRequest(), cancellationToken: Running.Cancel);
        using var other = running.AuthorityOf("kr/mfa").Issue("x", Terms(System) with { Client = false, Hosts = ["localhost"] });
        await Running.Refused(
            "CALLER_UNKNOWN",
            () => new Health.HealthClient(running.Channel(Kept(other))).CheckAsync(new()).ResponseAsync
        );
    }

    [Fact]
    public async Task An_unknown_RPC_is_unimplemented() =>
        Assert.Equal(StatusCode.Unimplemented, (StatusCode)(await running.Post(Running.FrameOf([]), "EraseEverything")).Code);

    private static X509Certificate2 Kept(X509Certificate2 certificate) =>
        X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pkcs12), null);

    private async Task Shut(X509Certificate2? certificate, SslProtocols protocols = SslProtocols.Tls13) =>
        await NothingWritten(async () =>
        {
            var client = new CallLogService.CallLogServiceClient(running.Channel(certificate, protocols));
            var e = await Assert.ThrowsAsync<RpcException>(() => client.LogCallAsync(Running.Request()).ResponseAsync);
            Assert.True(e.StatusCode is StatusCode.Unavailable or StatusCode.Internal, e.Status.ToString());
            Assert.Null(e.GetRpcStatus());
        });

    private async Task Told(string reason, X509Certificate2 certificate) =>
        await NothingWritten(() =>
            Running.Refused(
                reason,
                () => new CallLogService.CallLogServiceClient(running.Channel(certificate)).LogCallAsync(Running.Request()).ResponseAsync
            )
        );

    private async Task NothingWritten(Func<Task> refused)
    {
        var before = running.Ledger.Size;
        await refused();
        Assert.Equal(before, running.Ledger.Size);
        await running.Log();
        Assert.Equal(before + 1, running.Ledger.Size);
    }
}
