using System.Diagnostics;
using Ministries.Fixtures;
using Ministries.Local;

namespace Ministries.Tracing.Tests;

/// <summary>The whole case, played on three processes over PostgreSQL and RabbitMQ, as a collector sees it.</summary>
public sealed partial class TracingTests
{
    [System.Text.RegularExpressions.GeneratedRegex("pris_[0-9a-z]{26}")]
    private static partial System.Text.RegularExpressions.Regex Reference();

    internal static readonly string[] Exported =
    [
        "ministries.case",
        "ministries.record",
        "ministries.request_id",
        "ministries.participant",
        "ministries.position",
        "ministries.cause",
        "ministries.refusal",
        "ministries.article",
        "rpc.system.name",
        "rpc.method",
        "rpc.response.status_code",
        "messaging.system",
        "messaging.operation.name",
        "messaging.operation.type",
        "messaging.destination.name",
        "messaging.consumer.group.name",
        "messaging.message.id",
        "db.system.name",
        "db.operation.batch.size",
        "db.response.status_code",
        "error.type",
        "server.address",
        "server.port",
        "ministries.repeated",
        "ministries.redelivered",
        "ministries.replayed",
        "ministries.filled",
        "ministries.attempt",
        "ministries.method",
    ];

    // The trace of kr/mfa's call: each line is a span, its depth the number of spaces; siblings are sorted by their lines.
    // The call leads to a draft for each of two prisoners, so one part stands in it twice.
    private const string CallTree = """
        ministries.calllog.v1.CallLogService/LogCall [calllog]
         commit calllog [calllog]
          publish ministries.calllog.v1.CallLogged [calllog]
           process ministries.calllog.v1.CallLogged [consular]
            commit consular [consular]
             publish ministries.consular.v1.TransferRequestDrafted [consular]
              process ministries.consular.v1.TransferRequestDrafted [calllog]
               commit calllog [calllog]
                publish ministries.calllog.v1.DraftsTied [calllog]
              process ministries.consular.v1.TransferRequestDrafted [custody]
               commit custody [custody]
                publish ministries.custody.v1.InterestNoted [custody]
             publish ministries.consular.v1.TransferRequestDrafted [consular]
              process ministries.consular.v1.TransferRequestDrafted [calllog]
               commit calllog [calllog]
                publish ministries.calllog.v1.DraftsTied [calllog]
              process ministries.consular.v1.TransferRequestDrafted [custody]
               commit custody [custody]
                publish ministries.custody.v1.InterestNoted [custody]

        """;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task One_trace_leads_from_the_call_to_the_drafts_and_nothing_personal_leaves()
    {
        await using var receiver = await OtlpReceiver.Start(Cancel);
        await using var services = new ServiceProcesses();
        var (postgres, broker) = (await Postgres.Shared, await RabbitMq.Shared);
        foreach (var service in services.Addresses.Keys)
            services.Start(
                service,
                await postgres.CreateDatabase(),
                broker.Uri,
                ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.Endpoint.ToString())
            );
        var timeline = await Play(services);
        Assert.All(timeline.Checks, c => Assert.True(c.Holds, $"{c.What}: {c.Found}"));

        // When told to stop, a service exports its remaining spans.
        var ended = await services.Stop(Cancel);
        Assert.All(ended, e => Assert.Equal(0, e.ExitCode));
        Assert.DoesNotContain(ended, e => Reference().IsMatch(e.Output));

        var spans = receiver.Spans;
        TheCallIsOneTree(spans, timeline.CallRequestId);
        EverySpanIsInItsPlace(spans);
        LaterStepsAreLinked(spans, timeline.CallRequestId);
        NothingElseIsExported(spans);
    }

    private static async Task<Timeline> Play(ServiceProcesses services)
    {
        await using var participants = await Participants.Join(services.Certificates, services.Addresses, TimeSpan.FromMinutes(3), Cancel);
        var timeline = new Timeline(new Screen(TextWriter.Null, redirected: true, brief: true), Stopwatch.GetTimestamp());
        await new Story(participants, timeline).Play(Cancel);
        return timeline;
    }

    private static void TheCallIsOneTree(IReadOnlyList<ReceivedSpan> spans, string callRequest)
    {
        var trace = TraceOf(spans, callRequest);
        var root = Assert.Single(trace, s => s.Parent.Length == 0);
        Assert.Equal(CallTree.ReplaceLineEndings("\n"), Tree(root, trace));
        Assert.Equal(CallTree.Count(c => c == '\n'), trace.Count);
    }

    // The subtree as text. Siblings are sorted by their own text and that of their children.
    private static string Tree(ReceivedSpan span, IReadOnlyList<ReceivedSpan> trace, int depth = 0) =>
        $"{new string(' ', depth)}{span.Name} [{span.Service}]\n"
        + string.Concat(trace.Where(s => s.Parent == span.Id).Select(s => Tree(s, trace, depth + 1)).Order(StringComparer.Ordinal));

    private static void EverySpanIsInItsPlace(IReadOnlyList<ReceivedSpan> spans)
    {
        Assert.Equal(spans.Count, spans.DistinctBy(s => (s.Trace, s.Id)).Count());
        var known = spans.Select(s => (s.Trace, s.Id)).ToHashSet();
        Assert.Empty(spans.Where(s => s.Parent.Length > 0 && !known.Contains((s.Trace, s.Parent))).Select(s => s.Name));
        Assert.DoesNotContain(spans, s => s.Name.Contains("grpc.health", StringComparison.Ordinal));
        // A batch is a trace of its own, with its statements. A command's commit links to it.
        var batches = spans.Where(s => s.Name.StartsWith("batch ", StringComparison.Ordinal)).ToList();
        Assert.All(batches, b => Assert.Empty(b.Parent));
        var statements = spans.Where(s => s.Attributes.ContainsKey("db.system.name")).ToList();
        Assert.NotEmpty(statements);
        Assert.Empty(statements.Where(s => batches.All(b => b.Trace != s.Trace)).Select(s => s.Name));
        Assert.Empty(
            spans
                .Where(s => s.Name.StartsWith("commit ", StringComparison.Ordinal) && !batches.Any(b => s.Links.Contains((b.Trace, b.Id))))
                .Select(s => s.Name)
        );
    }

    private static void LaterStepsAreLinked(IReadOnlyList<ReceivedSpan> spans, string callRequest)
    {
        var call = TraceOf(spans, callRequest)[0].Trace;
        var submissions = spans.Where(s => s.Name == "ministries.consular.v1.ConsularService/SubmitTransferRequest").ToList();
        Assert.Equal(2, submissions.Count);
        Assert.All(
            submissions,
            s =>
            {
                Assert.NotEqual(call, s.Trace);
                var commit = spans.Single(c => c.Trace == s.Trace && c.Parent == s.Id && c.Name == "commit consular");
                Assert.Contains(commit.Links, l => l.Trace == call && spans.Any(c => c.Id == l.Span && c.Name == "commit consular"));
            }
        );
    }

    private static void NothingElseIsExported(IReadOnlyList<ReceivedSpan> spans)
    {
        Assert.Empty(spans.SelectMany(s => s.Attributes.Keys).Distinct().Except(Exported));
        Assert.All(
            spans,
            s =>
            {
                Assert.Empty(s.Raw.Events);
                Assert.Equal("", s.Raw.Status?.Message ?? "");
                Assert.DoesNotMatch(Reference(), s.Everything);
            }
        );
        var refused = spans.Where(s => s.Attributes.ContainsKey("ministries.refusal")).ToList();
        Assert.Contains(
            refused,
            s =>
                s.Name.EndsWith("/DecideTransfer", StringComparison.Ordinal)
                && s.Attributes["ministries.refusal"] == "STANDING_NOT_IN_FORCE"
                && s.Attributes["ministries.article"].Length > 0
                && s.Attributes["rpc.response.status_code"] == "FAILED_PRECONDITION"
        );
    }

    private static List<ReceivedSpan> TraceOf(IReadOnlyList<ReceivedSpan> spans, string request)
    {
        var root = spans.Single(s =>
            s.Parent.Length == 0
            && s.Attributes.GetValueOrDefault("ministries.request_id") == request
            && s.Name.EndsWith("/LogCall", StringComparison.Ordinal)
        );
        return [.. spans.Where(s => s.Trace == root.Trace)];
    }
}
