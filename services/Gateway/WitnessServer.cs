using System.Net.Security;
using System.Security.Authentication;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Serving;
using Ministries.Trust;
using Ministries.Types.V1;
using Witness = Ministries.Client.Witness;

namespace Ministries.Gateway;

/// <summary>Where a witness finds its files, and where it listens.</summary>
public sealed record WitnessSettings
{
    /// <summary>The participant, such as <c>kr/mfa</c>.</summary>
    public required string Participant { get; init; }

    /// <summary>File of the agreement; it is read again when it changes. A version counts if it follows from the one that was trusted last,
    /// which <see cref="State"/> holds (<see cref="AgreementFile.Trust"/>).</summary>
    public required string Agreement { get; init; }

    /// <summary>Where the Ed25519 key for cosignatures is (<see cref="KeySource"/>): a file (PKCS #8, PEM), which is read again when it
    /// changes, <c>secrets:NAME</c>, or <c>pkcs11:…</c> of a key in a token.</summary>
    public required string Key { get; init; }

    /// <summary>The folder of <c>secrets:NAME</c>. Default: <c>/run/secrets</c>.</summary>
    public string SecretsFolder { get; init; } = KeySource.DefaultSecretsFolder;

    /// <summary>File of the certificate chain with which it is called (PEM); it is read again when it changes.</summary>
    public required string Certificate { get; init; }

    /// <summary>Where the certificate's key is (PEM): a file, or <c>secrets:NAME</c>.</summary>
    public required string CertificateKey { get; init; }

    /// <summary>Folder in which it keeps what it cosigned.</summary>
    public required string State { get; init; }

    /// <summary>The address to serve at, such as <c>https://0.0.0.0:7110</c>; a name other than <c>localhost</c>: every address of the
    /// machine.</summary>
    public required Uri Listen { get; init; }

    /// <summary>The settings of a participant for whom <see cref="Pki.Init"/> made the files.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="participant">The participant.</param>
    /// <param name="state">Where it keeps what it cosigned.</param>
    /// <param name="listen">The address to serve at.</param>
    public static WitnessSettings In(string folder, string participant, string state, Uri listen)
    {
        var home = Path.Combine(folder, participant);
        return new WitnessSettings
        {
            Participant = participant,
            Agreement = Path.Combine(folder, "agreement.json"),
            Key = Path.Combine(home, "cosignatures.key"),
            Certificate = Path.Combine(home, $"{Pki.Witness}.pem"),
            CertificateKey = Path.Combine(home, $"{Pki.Witness}.key"),
            State = state,
            Listen = listen,
        };
    }
}

/// <summary>A participant's witness as a server.</summary>
public static partial class WitnessServer
{
    /// <summary>How many connections there may be: in total; of one address. Nobody who calls is known. For one more, another is closed:
    /// the oldest of the address that has the most.</summary>
    internal const int MaxConnections = 256,
        MaxConnectionsOfAddress = 64;

    private static void ToConsole(ILoggingBuilder logging) =>
        logging.AddSimpleConsole(o => (o.SingleLine, o.UseUtcTimestamp, o.TimestampFormat) = (true, true, "yyyy-MM-ddTHH:mm:ss.fffZ "));

    /// <summary>Opens a witness and builds its server without starting it. It demands no client certificates: the protocol does not use
    /// them, and a checkpoint's signature says whose it is.</summary>
    /// <param name="settings">Where its files are.</param>
    /// <param name="time">The clock.</param>
    /// <param name="logging">Where its log goes; null: to the console.</param>
    /// <exception cref="FormatException">The agreement cannot be read, or does not list the key for the participant.</exception>
    /// <exception cref="IOException">A file cannot be read, or another witness uses the folder.</exception>
    public static WebApplication Build(WitnessSettings settings, TimeProvider time, Action<ILoggingBuilder>? logging = null)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders().AddFilter("Microsoft", LogLevel.Warning);
        (logging ?? ToConsole)(builder.Logging);
        builder.WebHost.UseKestrelHttpsConfiguration();
        ILogger? log = null;
        void Complain(string text) => LogComplaint(log!, text);
        var certificate = new Reread<SslStreamCertificateContext>(
            [settings.Certificate],
            () => CertificateFiles.ReadChain(settings.Certificate, settings.CertificateKey, settings.SecretsFolder),
            Complain
        );
        builder.WebHost.ConfigureKestrel(kestrel => Listen(kestrel, settings.Listen, certificate));
        builder.Services.AddSingleton(services =>
        {
            var trusted = new TrustedAgreement(settings.Agreement, settings.State, time) { Complain = Complain };
            Agreement Agreement() => trusted.Current.Agreement;
            var name = CosignatureKey.NameOf(Agreement().TrustDomain, settings.Participant);
            // To change the key, the agreement lists the new one beside the old one first.
            var path = KeySource.PathOf(settings.Key, settings.SecretsFolder);
            var key = new Reread<CosignatureKey>([path ?? settings.Key], () => ReadKey(settings, name, Agreement()), Complain);
            _ = key.Current;
            return new Witness(settings.State, Agreement, key.Use, time)
            {
                Alarm = text => LogAlarm(log!, text),
                Warn = text => LogDoubt(log!, text),
            };
        });
        var host = builder.Build();
        log = host.Services.GetRequiredService<ILoggerFactory>().CreateLogger("Ministries.Witness");
        try
        {
            _ = certificate.Current;
            var witness = host.Services.GetRequiredService<Witness>();
            host.MapPost("/add-checkpoint", (HttpContext http) => Add(http, witness));
            host.MapGet("/{hash}/checkpoint", (HttpContext http, string hash) => Show(http, witness.CheckpointOf(hash)));
            return host;
        }
        catch
        {
            ((IDisposable)host).Dispose();
            throw;
        }
    }

    private static CosignatureKey ReadKey(WitnessSettings settings, string name, Agreement agreement)
    {
        var own = CosignatureKey.Of(name, KeySource.Open(settings.Key, settings.SecretsFolder));
        if (Cosigners.KeysOf(agreement).Any(k => k.Participant.Id == settings.Participant && k.Cosigner.Verifier == own.Verifier))
            return own;
        own.Dispose();
        throw new FormatException($"the agreement does not list {settings.Key} as a key of {settings.Participant} for cosignatures");
    }

    private static void Listen(KestrelServerOptions kestrel, Uri at, Reread<SslStreamCertificateContext> certificate)
    {
        kestrel.AddServerHeader = false;
        kestrel.Limits.MaxRequestBodySize = Witness.MaxRequest;
        kestrel.Limits.RequestHeadersTimeout = TimeSpan.FromSeconds(10);
        kestrel.Listen(
            Addresses.EveryOf(at),
            listen =>
            {
                listen.Use(new StrangersLimit(MaxConnections, MaxConnectionsOfAddress).Hold);
                listen.UseHttps(
                    new TlsHandshakeCallbackOptions
                    {
                        HandshakeTimeout = TimeSpan.FromSeconds(10),
                        OnConnection = _ =>
                            new(
                                new SslServerAuthenticationOptions
                                {
                                    ServerCertificateContext = certificate.Current,
                                    EnabledSslProtocols = SslProtocols.Tls13,
                                    ApplicationProtocols = [SslApplicationProtocol.Http2, SslApplicationProtocol.Http11],
                                }
                            ),
                    }
                );
            }
        );
    }

    private static async Task Add(HttpContext http, Witness witness)
    {
        string request;
        try
        {
            using var reader = new StreamReader(http.Request.Body, new UTF8Encoding(false, throwOnInvalidBytes: true), false);
            request = await reader.ReadToEndAsync(http.RequestAborted);
        }
        catch (Microsoft.AspNetCore.Http.BadHttpRequestException e)
        {
            await Answer(http, new WitnessAnswer(e.StatusCode, "the request cannot be read\n"));
            return;
        }
        catch (DecoderFallbackException)
        {
            await Answer(http, new WitnessAnswer(400, "the request is not UTF-8\n"));
            return;
        }
        await Answer(http, witness.AddCheckpoint(request));
    }

    private static Task Show(HttpContext http, string? checkpoint)
    {
        http.Response.Headers.CacheControl = "no-store";
        return Answer(
            http,
            checkpoint is null ? new WitnessAnswer(404, "no checkpoint of this log was cosigned\n") : new WitnessAnswer(200, checkpoint)
        );
    }

    private static Task Answer(HttpContext http, WitnessAnswer answer)
    {
        http.Response.StatusCode = answer.Status;
        http.Response.ContentType = answer.Type;
        return http.Response.WriteAsync(answer.Body, http.RequestAborted);
    }

    [LoggerMessage(1, LogLevel.Critical, "{What}")]
    private static partial void LogAlarm(ILogger log, string what);

    [LoggerMessage(3, LogLevel.Warning, "{What}")]
    private static partial void LogDoubt(ILogger log, string what);

    [LoggerMessage(2, LogLevel.Error, "{What}")]
    private static partial void LogComplaint(ILogger log, string what);
}

/// <summary>Runs the participant's witness beside its gateway, at an address of its own.</summary>
internal sealed class WitnessBeside(GatewaySettings settings, TimeProvider time, ILoggerFactory logs) : IHostedService, IAsyncDisposable
{
    private WebApplication? _host;

    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken)
    {
        _host = WitnessServer.Build(
            WitnessSettings.In(settings.Folder, settings.Participant, Path.Combine(settings.State, "witness"), settings.Witness!) with
            {
                SecretsFolder = settings.SecretsFolder,
            },
            time,
            logging => logging.Services.AddSingleton(logs)
        );
        return GatewayHost.StartAt(settings.Witness!, _host, cancellationToken);
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => _host?.StopAsync(cancellationToken) ?? Task.CompletedTask;

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_host is not null)
            await _host.DisposeAsync();
    }
}
