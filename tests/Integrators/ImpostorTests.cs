using Google.Protobuf;
using Ministries.Fixtures;
using Ministries.Ministry.Tests;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Integrators.Tests;

/// <summary>An example calls nobody but the service.</summary>
public sealed class ImpostorTests(Services services, Examples examples) : IClassFixture<Services>, IDisposable
{
    private const string Service = "spiffe://ministries.example/service/calllog/system";

    private static readonly Dictionary<string, (string[] Uris, string Host)> Names = new()
    {
        ["another service's name"] = (["spiffe://ministries.example/service/custody/system"], "127.0.0.1"),
        ["another trust domain"] = (["spiffe://elsewhere.example/service/calllog/system"], "127.0.0.1"),
        ["a longer name"] = ([$"{Service}/other"], "127.0.0.1"),
        ["two names"] = ([Service, "spiffe://ministries.example/service/custody/system"], "127.0.0.1"),
        ["no name"] = ([], "127.0.0.1"),
        ["another host"] = ([Service], "elsewhere.example"),
    };

    private readonly string _folder = Directory.CreateTempSubdirectory("impostor-").FullName;

    public static MatrixTheoryData<string, string> Cases { get; } = new(Example.Languages.Select(l => l.Data), Names.Keys);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task A_server_of_the_right_authority_with_a_wrong_name_is_not_called(string language, string name)
    {
        var (uris, host) = Names[name];
        var now = DateTimeOffset.UtcNow;
        await using var impostor = new Impostor(
            Path.Combine(services.Folder, "service", "calllog"),
            new CertificateTerms(uris, now.AddMinutes(-5), now.AddHours(1), Hosts: [host])
        );
        var (code, output) = await Log(language, services.Folder, impostor.Address);
        Assert.True(code != 0 && impostor.Connections > 0 && impostor.Received == 0, output);
        Assert.Matches(name == "another host" ? "(?i)certificate|altnames" : "the certificate names", output);
    }

    [Theory]
    [MemberData(nameof(Example.Languages), MemberType = typeof(Example))]
    public async Task A_server_of_another_authority_is_not_called(string language)
    {
        // Custody shows its own certificate, which is right at its own address.
        var (code, output) = await Log(language, services.Folder, services.Addresses["custody"].Authority);
        Assert.True(code != 0, output);
        Assert.Matches("(?i)certificate", output);

        // With custody's authority for the call log's, custody's name is wrong.
        var folder = With(a =>
            Signing.Of(a, "service/calllog").AuthorityCertificates[0] = Signing.Of(a, "service/custody").AuthorityCertificates[0]
        );
        (code, output) = await Log(language, folder, services.Addresses["custody"].Authority);
        Assert.True(code != 0, output);
        Assert.Contains("the certificate names", output);
    }

    [Theory]
    [MemberData(nameof(Example.Languages), MemberType = typeof(Example))]
    public async Task A_certificate_that_the_agreement_denies_or_does_not_list_is_not_accepted(string language)
    {
        var address = services.Addresses["calllog"].Authority;
        using var certificate = System.Security.Cryptography.X509Certificates.X509CertificateLoader.LoadCertificateFromFile(
            Path.Combine(services.Folder, "service", "calllog", "system.pem")
        );
        var (code, output) = await Log(
            language,
            With(a => Signing.Of(a, "service/calllog").DeniedCertificates.Add(certificate.SerialNumber.ToLowerInvariant())),
            address
        );
        Assert.True(code != 0, output);
        Assert.Contains("the agreement denies the certificate", output);
        (code, output) = await Log(language, With(a => Signing.Of(a, "service/calllog").Systems.Add("service/calllog/other")), address);
        Assert.True(code != 0, output);
        Assert.Contains("the agreement does not list the system", output);
    }

    private Task<(int Code, string Output)> Log(string language, string folder, string address) =>
        examples.Of(language).Call(folder, "log", address, services.Case, "ua/mfa");

    // A folder of kr/mfa's whose agreement says something else.
    private string With(Action<Agreement> change)
    {
        var folder = Directory.CreateDirectory(Path.Combine(_folder, Guid.NewGuid().ToString("N"))).FullName;
        var agreement = Signing.Agreement(services.Folder);
        change(agreement);
        File.WriteAllText(Path.Combine(folder, "agreement.json"), JsonFormatter.Default.Format(agreement));
        Directory.CreateDirectory(Path.Combine(folder, "kr"));
        Directory.CreateSymbolicLink(Path.Combine(folder, "kr", "mfa"), Path.Combine(services.Folder, "kr", "mfa"));
        return folder;
    }
}
