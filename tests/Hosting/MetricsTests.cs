using System.Net;
using System.Text.RegularExpressions;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Fixtures;

namespace Ministries.Hosting.Tests;

/// <summary>Metrics, as Prometheus reads them from a running service.</summary>
public sealed partial class MetricsTests
{
    // No other labels may exist; `le` is a histogram's.
    private static readonly string[] Allowed =
    [
        "rpc_method",
        "outcome",
        "reason",
        "producer",
        "kind",
        "certificate",
        "participant",
        "gc_heap_generation",
        "cpu_mode",
        "le",
    ];

    [Fact]
    public async Task Metrics_tell_the_outcome_of_calls_and_nothing_of_their_content()
    {
        await using var running = new Running();
        await running.InitializeAsync();
        const string person = "kr-mfa-official-3",
            prisoner = "pris_0000000000000000000000kw0n";
        var request = Running.Request();
        request.Account.Attendees[0].Official = person;
        request.Account.Prisoners.Add(prisoner);
        var logged = await running.Calling("kr/mfa").LogCallAsync(request, cancellationToken: Running.Cancel);
        await running.Calling("kr/mfa").LogCallAsync(request, cancellationToken: Running.Cancel);
        await Running.Refused(
            "NOT_FOUND",
            async () =>
                await running
                    .Calling("kr/mfa")
                    .GetCallAsync(new GetCallRequest { Call = $"call_{new string('0', 26)}" }, cancellationToken: Running.Cancel)
        );
        await Running.Refused(
            "SIGNATURE_MISSING",
            async () =>
                await new CallLogService.CallLogServiceClient(running.Channel(running.CertificateOf("kr/mfa"), signer: null)).LogCallAsync(
                    Running.Request(),
                    cancellationToken: Running.Cancel
                )
        );
        await Assert.ThrowsAnyAsync<RpcException>(async () =>
            await running.Calling("kr/mfa").LinkCallsAsync(new LinkCallsRequest(), cancellationToken: Running.Cancel)
        );

        // What a caller chooses freely is no label either: an unknown method, a header.
        await running.Post([], person, ("User-Agent", person), ("traceparent", person));

        var text = "";
        await Running.Until(
            async () =>
                (text = await Scrape(running)).Contains(
                    "ministries_certificate_remaining_seconds{certificate=\"own\"",
                    StringComparison.Ordinal
                )
                && ValueOf(text, "ministries_ready") == 1,
            "the service is ready and says so"
        );
        const string log = "rpc_method=\"ministries.calllog.v1.CallLogService/LogCall\"";
        Assert.True(ValueOf(text, "ministries_calls_total", log, "outcome=\"OK\"") >= 2, text);
        Assert.True(ValueOf(text, "ministries_calls_total", log, "outcome=\"SIGNATURE_MISSING\"") >= 1, text);
        Assert.True(ValueOf(text, "ministries_calls_total", "/GetCall\"", "outcome=\"NOT_FOUND\"") >= 1, text);
        Assert.True(ValueOf(text, "ministries_calls_total", "/LinkCalls\"", "outcome=\"REQUEST_INVALID\"") >= 1, text);
        Assert.True(ValueOf(text, "ministries_refusals_total", "reason=\"SIGNATURE_MISSING\"") >= 1, text);
        Assert.True(ValueOf(text, "ministries_requests_repeated_total") >= 1, text);
        Assert.True(ValueOf(text, "ministries_ledger_size") >= 1, text);
        Assert.Equal(1, ValueOf(text, "ministries_database_reachable"));
        Assert.Equal(0, ValueOf(text, "ministries_messages_rejected_total", "reason=\"forged\""));
        Assert.True(ValueOf(text, "ministries_certificate_remaining_seconds", "participant=\"kr/mfa\"") > 0, text);

        foreach (var secret in new[] { person, prisoner, request.RequestId, logged.Call, request.Case })
            Assert.DoesNotContain(secret, text, StringComparison.Ordinal);
        Assert.DoesNotMatch("[a-z]_[0-9a-z]{26}", text);
        var labels = Label().Matches(text).Select(m => m.Groups[1].Value).Distinct();
        Assert.Empty(labels.Except(Allowed));
    }

    [Fact]
    public async Task The_listener_for_metrics_serves_nothing_else_and_metrics_are_served_nowhere_else()
    {
        await using var running = new Running();
        await running.InitializeAsync();
        using var plain = new HttpClient();
        string[] others = ["/checkpoint", "/ministries.calllog.v1.CallLogService/LogCall", "/grpc.health.v1.Health/Check"];
        foreach (var path in others.Append(Metrics.Path))
        foreach (var variant in PathVariant.Of(Metrics.Path, "application/grpc").Append(new("exact", p => p, null, "application/grpc")))
        {
            var (status, text) = await Ask(plain, running, variant.Path(path), variant.Verb ?? (path == Metrics.Path ? "GET" : "POST"));
            // Another spelling of the path of metrics may give metrics, and nothing else.
            var scraped = path == Metrics.Path && status == HttpStatusCode.OK;
            Assert.True(
                scraped ? text.Length == 0 || text.StartsWith("# ", StringComparison.Ordinal) : text.Length == 0,
                $"{variant.Name} of {path}: {text}"
            );
            Assert.True(scraped || status is HttpStatusCode.NotFound or HttpStatusCode.BadRequest, $"{variant.Name} of {path}: {status}");
            Assert.True(scraped || path != Metrics.Path || variant.Name != "exact", $"{status}");
        }

        using var response2 = await running
            .Http(running.CertificateOf("operator"))
            .GetAsync(new Uri(running.Address, "/metrics"), Running.Cancel);
        Assert.DoesNotContain("ministries_", await response2.Content.ReadAsStringAsync(Running.Cancel), StringComparison.Ordinal);
    }

    private static async Task<(HttpStatusCode Status, string Text)> Ask(HttpClient plain, Running running, string path, string verb)
    {
        var uri = new Uri(
            running.MetricsAddress.GetLeftPart(UriPartial.Authority) + path,
            new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }
        );
        using var request = new HttpRequestMessage(new HttpMethod(verb), uri);
        if (verb is "POST" or "PUT")
        {
            request.Content = new ByteArrayContent(Running.FrameOf([]));
            request.Content.Headers.ContentType = new("application/grpc");
        }
        using var response = await plain.SendAsync(request, Running.Cancel);
        return (response.StatusCode, await response.Content.ReadAsStringAsync(Running.Cancel));
    }

    private static async Task<string> Scrape(Running running)
    {
        using var http = new HttpClient();
        return await http.GetStringAsync(new Uri(running.MetricsAddress, Metrics.Path), Running.Cancel);
    }

    // The value of the first sample of that name that has all given labels.
    private static double? ValueOf(string text, string name, params string[] labels) =>
        text.Split('\n')
            .Where(l =>
                (l.StartsWith($"{name} ", StringComparison.Ordinal) || l.StartsWith($"{name}{{", StringComparison.Ordinal))
                && labels.All(w => l.Contains(w, StringComparison.Ordinal))
            )
            .Select(l => (double?)double.Parse(l[(l.LastIndexOf(' ') + 1)..], System.Globalization.CultureInfo.InvariantCulture))
            .FirstOrDefault();

    [GeneratedRegex("""[{,]([a-zA-Z_0-9]+)="[^"]*"(?=[,}])""")]
    private static partial Regex Label();
}
