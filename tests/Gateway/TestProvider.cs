using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Ministries.Fixtures;

namespace Ministries.Gateway.Tests;

/// <summary>A small OpenID Connect provider: its configuration, its keys, and tokens.</summary>
internal sealed class TestProvider : IAsyncDisposable
{
    private readonly RSA _key = RSA.Create(2048);
    private WebApplication _host = null!;

    public Uri Address { get; private set; } = null!;

    /// <summary>File of the certificate that vouches for it.</summary>
    public string Root { get; } = Path.Combine(Directory.CreateTempSubdirectory("provider").FullName, "root.pem");

    public static async Task<TestProvider> Start()
    {
        var provider = new TestProvider { Address = new Uri($"https://localhost:{Ports.Free()}/") };
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=localhost", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName("localhost");
        request.CertificateExtensions.Add(names.Build());
        using var made = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddDays(1));
        await File.WriteAllTextAsync(provider.Root, made.ExportCertificatePem());
        var certificate = X509CertificateLoader.LoadPkcs12(made.Export(X509ContentType.Pkcs12), null);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.WebHost.ConfigureKestrel(k => k.Listen(IPAddress.Loopback, provider.Address.Port, l => l.UseHttps(certificate)));
        provider._host = builder.Build();
        provider._host.MapGet(
            "/.well-known/openid-configuration",
            () =>
                Results.Text(
                    new JsonObject
                    {
                        ["issuer"] = provider.Address.ToString(),
                        ["jwks_uri"] = $"{provider.Address}keys",
                        ["id_token_signing_alg_values_supported"] = new JsonArray("RS256"),
                    }.ToJsonString(),
                    "application/json"
                )
        );
        provider._host.MapGet("/keys", () => Results.Text(provider.Keys().ToJsonString(), "application/json"));
        await provider._host.StartAsync();
        return provider;
    }

    /// <summary>An access token.</summary>
    public string Token(
        string? official,
        string[] roles,
        string audience = "ministries-gateway",
        int minutes = 5,
        RSA? key = null,
        string? type = "at+jwt"
    )
    {
        var now = DateTimeOffset.UtcNow;
        var claims = new JsonObject
        {
            ["iss"] = Address.ToString(),
            ["aud"] = audience,
            ["sub"] = "somebody",
            ["iat"] = now.AddMinutes(-10).ToUnixTimeSeconds(),
            ["exp"] = now.AddMinutes(minutes).ToUnixTimeSeconds(),
            ["roles"] = new JsonArray([.. roles.Select(r => (JsonNode)r)]),
            ["ministries_office"] = "consular-department",
        };
        if (official is not null)
            claims["ministries_official"] = official;
        var head = new JsonObject { ["alg"] = "RS256", ["kid"] = "1" };
        if (type is not null)
            head["typ"] = type;
        var signed = $"{Text(head.ToJsonString())}.{Text(claims.ToJsonString())}";
        var signature = (key ?? _key).SignData(Encoding.UTF8.GetBytes(signed), HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        return $"{signed}.{Url(signature)}";
    }

    public async ValueTask DisposeAsync()
    {
        await _host.StopAsync();
        await _host.DisposeAsync();
        _key.Dispose();
        Directory.Delete(Path.GetDirectoryName(Root)!, recursive: true);
    }

    private JsonObject Keys()
    {
        var key = _key.ExportParameters(includePrivateParameters: false);
        return new JsonObject
        {
            ["keys"] = new JsonArray(
                new JsonObject
                {
                    ["kty"] = "RSA",
                    ["kid"] = "1",
                    ["use"] = "sig",
                    ["n"] = Url(key.Modulus!),
                    ["e"] = Url(key.Exponent!),
                }
            ),
        };
    }

    private static string Text(string text) => Url(Encoding.UTF8.GetBytes(text));

    private static string Url(byte[] bytes) => Convert.ToBase64String(bytes).TrimEnd('=').Replace('+', '-').Replace('/', '_');
}
