using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.CallLog;
using Ministries.Consular;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Types.V1;

namespace Ministries.Benchmarks;

/// <summary>What runs in separate processes, so that processor time can be measured for each: a service as its Program.cs runs it, and the
/// servers that it is compared with. Each writes its address to standard output and ends with its standard input.</summary>
internal static class Hosts
{
    public const string Case = "case_00000000000000000000000001";

    public const string Prisoner = "pris_00000000000000000000000001";

    /// <summary>Runs a service: name, words, <c>--</c>, settings. The words: <c>without-relay</c> leaves published events in the ledger,
    /// <c>seed</c> puts a case with its parties into the ledger, <c>many-streams</c> lets one participant open any number of
    /// streams.</summary>
    public static async Task<int> Service(string[] args)
    {
        var split = Array.IndexOf(args, "--");
        var words = args[1..split];
        var definition = args[0] switch
        {
            "calllog" => CallLogService.Definition,
            "consular" => ConsularService.Definition,
            "custody" => Custody.CustodyService.Definition,
            _ => throw new ArgumentException($"there is no service {args[0]}"),
        };
        var builder = WebApplication.CreateSlimBuilder(args[(split + 1)..]);
        builder.Logging.ClearProviders().AddSimpleConsole();
        builder.Services.Configure<Microsoft.Extensions.Logging.Console.ConsoleLoggerOptions>(o =>
            o.LogToStandardErrorThreshold = LogLevel.Trace
        );
        var settings = Settings.Read(builder.Configuration, []);
        await using var memory = settings.Broker.Scheme == "memory" ? new MemoryBroker() : null;
        await using var host = await ServiceHost.Build(
            definition.Registering(services =>
            {
                if (words.Contains("many-streams"))
                    services.AddSingleton(new EdgeLimits { MaxStreams = 10_000, MaxStreamsPerParticipant = 10_000 });
                if (words.Contains("without-relay"))
                    services.Remove(services.Single(s => s.ImplementationType == typeof(Relay)));
            }),
            settings,
            builder,
            memory
        );
        var ledger = host.Services.GetRequiredService<ServiceLedger>();
        if (words.Contains("seed"))
            await Seed(ledger);
        if (words.Contains("tells"))
            _ = Task.Run(async () =>
            {
                for (var told = ledger.Size; ; TellGrown(told = ledger.Size))
                    await ledger.WaitForMore(told, default);
            });
        var own = new OwnLedger(ledger, settings.Ledger, new Permissions(Signing.Agreement(Path.GetDirectoryName(settings.Agreement)!)));
        return await Serve(
            host,
            async order =>
            {
                var left = int.Parse(order.Split(' ')[1], CultureInfo.InvariantCulture);
                await Task.WhenAll(
                    Enumerable
                        .Range(0, Math.Min(256, left))
                        .Select(async _ =>
                        {
                            while (Interlocked.Decrement(ref left) >= 0)
                                await own.Commit();
                        })
                );
            }
        );
    }

    /// <summary>A bare gRPC service with the same messages over the same TLS: it checks only that the client has a certificate.</summary>
    public static async Task<int> Echo(string[] args)
    {
        var builder = Bare(args);
        builder.Services.AddGrpc();
        builder.Services.AddSingleton(new Echoed(GetPrisonerResponse.Parser.ParseFrom(Convert.FromBase64String(args[3]))));
        await using var host = builder.Build();
        host.MapGrpcService<Echoing>();
        return await Serve(host);
    }

    /// <summary>The builder of a server that demands any certificate of its client and checks nothing else.</summary>
    /// <param name="args">The server's certificate, its key, its port.</param>
    internal static WebApplicationBuilder Bare(string[] args)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelHttpsConfiguration();
        var certificate = Certificate(args[0], args[1]);
        builder.WebHost.ConfigureKestrel(kestrel =>
            kestrel.ListenLocalhost(
                int.Parse(args[2], CultureInfo.InvariantCulture),
                listen =>
                {
                    listen.Protocols = HttpProtocols.Http2;
                    listen.UseHttps(
                        certificate,
                        https =>
                        {
                            https.ClientCertificateMode = ClientCertificateMode.RequireCertificate;
                            https.ClientCertificateValidation = (_, _, _) => true;
                        }
                    );
                }
            )
        );
        return builder;
    }

    /// <summary>A collector that discards what it receives, unread.</summary>
    public static async Task<int> Collector()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel =>
            kestrel.Listen(System.Net.IPAddress.Loopback, 0, o => o.Protocols = HttpProtocols.Http2)
        );
        await using var host = builder.Build();
        host.MapPost(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            async http =>
            {
                await http.Request.BodyReader.CopyToAsync(Stream.Null);
                http.Response.ContentType = "application/grpc";
                // One frame with an empty message.
                await http.Response.BodyWriter.WriteAsync(new byte[5]);
                http.Response.AppendTrailer("grpc-status", "0");
            }
        );
        return await Serve(host);
    }

    public static X509Certificate2 Certificate(string certificate, string key)
    {
        using var pem = X509Certificate2.CreateFromPemFile(certificate, key);
        return X509CertificateLoader.LoadPkcs12(pem.Export(X509ContentType.Pkcs12), null);
    }

    /// <summary>Reports when a size was reached, by the machine's monotonic clock, which all processes share.</summary>
    public static void TellGrown(ulong size)
    {
        var line = $"grown {size} {Stopwatch.GetTimestamp()}";
        lock (Console.Out)
        {
            Console.Out.WriteLine(line);
            Console.Out.Flush();
        }
    }

    /// <summary>Obeys orders from standard input, one per line, until that ends.</summary>
    public static async Task<int> Obey(Func<string, Task> obey, Func<CancellationToken, Task> stop, string address = "none:")
    {
        Console.Out.WriteLine($"serves {address}");
        Console.Out.Flush();
        await Task.Run(async () =>
        {
            while (Console.In.ReadLine() is { } order)
                await obey(order);
        });
        await stop(default);
        return 0;
    }

    internal static async Task<int> Serve(WebApplication host, Func<string, Task>? obey = null)
    {
        await host.StartAsync();
        return await Obey(
            obey ?? (_ => Task.CompletedTask),
            host.StopAsync,
            host.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First()
        );
    }

    public static async Task Seed(ServiceLedger ledger)
    {
        foreach (
            var e in new IMessage[]
            {
                new CaseOpened
                {
                    Case = Case,
                    DetainingPower = "UA",
                    Participant = "ua/mfa",
                },
                new PartyAdmitted
                {
                    Case = Case,
                    Participant = "kr/mfa",
                    Part = Part.RequestingState,
                    State = "KR",
                },
                new PrisonerRegistered
                {
                    Case = Case,
                    Prisoner = Prisoner,
                    DetainingPower = "UA",
                    BureauDueTime = new() { Seconds = 4102444800 },
                },
            }
        )
            await CustodyEvents.Record(ledger, e, new Permissions(new Agreement()), default);
    }

    private sealed record Echoed(GetPrisonerResponse Response);

    private sealed class Echoing(Echoed echoed) : Custody.V1.CustodyService.CustodyServiceBase
    {
        public override Task<GetPrisonerResponse> GetPrisoner(GetPrisonerRequest request, ServerCallContext context) =>
            Task.FromResult(echoed.Response);
    }
}
