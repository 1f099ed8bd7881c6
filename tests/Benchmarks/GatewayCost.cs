using System.Net.Http.Headers;
using Microsoft.Extensions.Logging;
using Ministries.CallLog.V1;
using Ministries.Client;
using Ministries.Fixtures;
using Ministries.Gateway;

namespace Ministries.Benchmarks;

/// <summary>The row of the table that measures what a participant's gateway adds to a call.</summary>
internal static class GatewayCost
{
    private const string Participant = "kr/mfa";

    /// <summary>Y: a write as JSON through the gateway, and directly, in turn.</summary>
    public static async Task<Line> Added(Bench bench)
    {
        await using var service = await bench.Service("calllog", "seed without-relay");
        var state = Path.Combine(bench.Folder, "gateway");
        await using var gateway = await bench.Start("gateway", serverGc: false, "gateway", bench.Folder, state, service.Address.ToString());
        using var http = Reach(gateway.Address, state);
        var direct = bench.Reach(service, Participant, "calllog", channels: 1)[0];
        var writer = new Writer(bench, receipts: true);
        var (with, without) = (new List<double>(), new List<double>());
        await Rows.Compare(
            bench.Plan,
            time => Median(time, with, c => Post(http, writer, c)),
            time => Median(time, without, c => writer.Log(direct, c))
        );
        var added = Figures.Of(with.Zip(without, (a, b) => a - b).TakeLast(bench.Plan.Rounds));
        return new Line(
            "Y",
            "a write as JSON through the participant's gateway, one at a time: what its median adds",
            "the same write directly, signed, with its receipt verified",
            null,
            "≤ 3 ms",
            added.Median <= 3,
            $"{added.Median:F2} ms ({added.Least:F2} to {added.Greatest:F2}) added: {Last(with):F2} against {Last(without):F2} ms",
            Last(with)
        );

        double Last(List<double> medians) => Figures.Of(medians.TakeLast(bench.Plan.Rounds)).Median;
    }

    /// <summary>Runs a gateway for the call log alone: the other services are nowhere.</summary>
    public static Task<int> Serve(string[] args)
    {
        IReadOnlyList<Uri> nowhere = [new("https://127.0.0.1:9")];
        var settings = new GatewaySettings
        {
            Participant = Participant,
            Folder = args[0],
            State = args[1],
            Listen = new Uri($"https://127.0.0.1:{Ports.Free()}"),
            Services = new Dictionary<string, IReadOnlyList<Uri>>
            {
                ["calllog"] = [new(args[2])],
                ["custody"] = nowhere,
                ["consular"] = nowhere,
            },
        };
        return Hosts.Serve(GatewayHost.Build(settings, logging: logging => logging.ClearProviders()));
    }

    private static async Task<double> Median(TimeSpan time, List<double> medians, Func<CancellationToken, Task> call)
    {
        var measured = await Load.Closed(1, time, (_, cancel) => call(cancel));
        medians.Add(measured.At(0.5));
        return measured.Rate;
    }

    private static async Task Post(HttpClient http, Writer writer, CancellationToken cancel)
    {
        using var content = new StringContent(Contract.Formatter.Format(Writer.Request()), new MediaTypeHeaderValue("application/json"));
        using var answer = await http.PostAsync("/v1/calllog/LogCall", content, cancel);
        var text = await answer.Content.ReadAsStringAsync(cancel);
        if (!answer.IsSuccessStatusCode)
            throw new InvalidOperationException($"the gateway answered {(int)answer.StatusCode}: {text}");
        writer.Check(Contract.Parser.Parse<LogCallResponse>(text));
    }

    private static HttpClient Reach(Uri address, string state)
    {
        var handler = new SocketsHttpHandler();
        var policy = new System.Security.Cryptography.X509Certificates.X509ChainPolicy
        {
            TrustMode = System.Security.Cryptography.X509Certificates.X509ChainTrustMode.CustomRootTrust,
            RevocationMode = System.Security.Cryptography.X509Certificates.X509RevocationMode.NoCheck,
        };
        policy.CustomTrustStore.ImportFromPemFile(Path.Combine(state, "gateway.pem"));
        handler.SslOptions.CertificateChainPolicy = policy;
        var http = new HttpClient(handler) { BaseAddress = address };
        http.DefaultRequestHeaders.Authorization = new("Bearer", File.ReadAllText(Path.Combine(state, "local.token")).Trim());
        return http;
    }
}
