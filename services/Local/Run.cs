using System.CommandLine;
using System.CommandLine.Parsing;
using System.Diagnostics;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Ministry;

namespace Ministries.Local;

/// <summary>One command: starts the services, plays the story, shows what came of it and says whether all of it is true.</summary>
public static class Run
{
    /// <summary>Exit code: all of it is true.</summary>
    public const int True = 0;

    /// <summary>Exit code: something is not as it must be.</summary>
    public const int NotTrue = 1;

    // The process's start, so that the runtime's own is counted.
    private static readonly long Started =
        Stopwatch.GetTimestamp() - (long)((DateTime.Now - Process.GetCurrentProcess().StartTime).TotalSeconds * Stopwatch.Frequency);

    /// <summary>How long a stop may take, by Ctrl-C or SIGTERM, before the process ends all the same.</summary>
    private static readonly TimeSpan StopWithin = TimeSpan.FromSeconds(30);

    /// <summary>Runs the command line.</summary>
    public static Task<int> From(string[] args) =>
        Command().Parse(args).InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = StopWithin });

    /// <summary>The command.</summary>
    public static RootCommand Command()
    {
        var json = new Option<bool>("--json")
        {
            Description = "Writes what is shown as JSON, for programs; progress goes to standard error.",
        };
        var serve = new Option<bool>("--serve")
        {
            Description = "Goes on serving other clients afterwards, with gRPC reflection and health, until Ctrl-C.",
        };
        var data = new Option<DirectoryInfo?>("--data")
        {
            Description = "The folder for ledgers, certificates and logs. Default: a new one among temporary files.",
        };
        var join = new Option<DirectoryInfo?>("--join")
        {
            Description = "Plays on services that run elsewhere: the folder of certificates and agreement that they were started with.",
        };
        var at = new Option<string[]>("--at")
        {
            Description = "With --join, where a service is, such as calllog=https://127.0.0.1:7101; once for each.",
            DefaultValueFactory = _ => [],
        };
        var jaeger = new Option<Uri?>("--jaeger")
        {
            CustomParser = Address,
            Description = "With --join, Jaeger's query address, to read the traces from.",
        };
        var page = new Option<Uri?>("--page")
        {
            CustomParser = Address,
            Description = "With --join, Jaeger's address as a person's browser calls it. Default: that of --jaeger.",
        };
        var command = new RootCommand("Plays the case of 17 March 2025 on three services in this process, and shows what happened.")
        {
            json,
            serve,
            data,
            join,
            at,
            jaeger,
            page,
        };
        command.Validators.Add(result =>
        {
            if (result.GetValue(join) is null)
                return;
            var known = result
                .GetValue(at)!
                .Select(a => a.Split('=', 2))
                .Where(a => a.Length == 2 && Uri.IsWellFormedUriString(a[1], UriKind.Absolute))
                .Select(a => a[0])
                .ToHashSet();
            if (!known.SetEquals(Cast.Services))
                result.AddError($"--join needs --at for each of {string.Join(", ", Cast.Services)}");
            if (result.GetValue(jaeger) is null)
                result.AddError("--join needs --jaeger");
            if (result.GetValue(serve))
                result.AddError("--serve has no meaning with --join");
        });
        command.SetAction(
            (result, cancel) =>
                Play(
                    result.GetValue(json),
                    result.GetValue(serve),
                    result.GetValue(data)?.FullName ?? NewFolder(),
                    Console.Out,
                    Console.Error,
                    cancel,
                    result.GetValue(join) is { } certificates
                        ? new Elsewhere(
                            certificates.FullName,
                            result.GetValue(at)!.Select(a => a.Split('=', 2)).ToDictionary(a => a[0], a => new Uri(a[1])),
                            result.GetValue(jaeger)!,
                            result.GetValue(page) ?? result.GetValue(jaeger)!
                        )
                        : null
                )
        );
        return command;
    }

    private static Uri? Address(ArgumentResult result)
    {
        if (Uri.TryCreate(result.Tokens.SingleOrDefault()?.Value, UriKind.Absolute, out var address))
            return address;
        result.AddError($"{((OptionResult)result.Parent!).Option.Name} must be an address such as http://127.0.0.1:16686");
        return null;
    }

    /// <summary>Services that run elsewhere.</summary>
    /// <param name="Certificates">The folder of certificates and agreement that they were started with.</param>
    /// <param name="Addresses">Where each service is, by its name.</param>
    /// <param name="Jaeger">Jaeger's query address.</param>
    /// <param name="Page">Jaeger's address as a person's browser calls it.</param>
    public sealed record Elsewhere(string Certificates, IReadOnlyDictionary<string, Uri> Addresses, Uri Jaeger, Uri Page);

    /// <summary>Plays it.</summary>
    /// <param name="json">Whether to write JSON.</param>
    /// <param name="serve">Whether to go on serving until <paramref name="cancel"/>.</param>
    /// <param name="folder">Where data goes; made where it is not there. What is there of an earlier run stays.</param>
    /// <param name="output">Standard output.</param>
    /// <param name="error">Standard error.</param>
    /// <param name="cancel">Ends it.</param>
    /// <param name="elsewhere">Where the services run; null: in this process.</param>
    /// <returns>The exit code.</returns>
    public static async Task<int> Play(
        bool json,
        bool serve,
        string folder,
        TextWriter output,
        TextWriter error,
        CancellationToken cancel,
        Elsewhere? elsewhere = null
    )
    {
        var screen = json ? new Screen(error, Console.IsErrorRedirected, brief: true) : new Screen(output, Console.IsOutputRedirected);
        var run = FolderOfRun(folder);
        screen.Title(run);
        using var spans = elsewhere is null ? new Spans() : new Spans(elsewhere.Jaeger);
        screen.Progress(
            elsewhere is null
                ? "starting    three services, two witnesses, a certificate for each participant"
                : "joining     three services, each participant with its certificate"
        );
        await using var cast = elsewhere is null
            ? await Cast.Assemble(run, serve, OtlpEndpoint(), cancel)
            : await Cast.Join(elsewhere.Certificates, elsewhere.Addresses, TimeSpan.FromSeconds(60), cancel, Path.Combine(run, "receipts"));
        var teller = new Teller(screen, Started);
        var story = new Story(cast, teller);
        Report report;
        try
        {
            await story.Play(cancel);
            report = await Gather(cast, story, teller, spans, run, cancel);
        }
        catch (Exception e) when (e is StoryException or RpcException)
        {
            teller.Broke(e is RpcException rpc ? rpc.Status.Detail : e.Message);
            report = Told(story, teller, spans, run);
        }
        if (json)
            await output.WriteLineAsync(report.ToJson());
        else
            screen.Show(report);
        if (elsewhere is not null && !json && report.Trace is [var root, ..])
            screen.Traced(new Uri(elsewhere.Page, $"/trace/{root.Trace}"));
        if (serve)
        {
            screen.Serving(cast.Addresses, run);
            await Task.Delay(Timeout.Infinite, cancel).ContinueWith(_ => { }, CancellationToken.None);
        }
        return report.Holds ? True : NotTrue;
    }

    private static string NewFolder() => Path.Combine(Path.GetTempPath(), "ministries");

    // A run has a folder of its own, so that a second one begins anew.
    private static string FolderOfRun(string folder)
    {
        var name = DateTime.UtcNow.ToString("yyyyMMdd-HHmmss", System.Globalization.CultureInfo.InvariantCulture);
        for (var i = 1; ; i++)
        {
            var run = Path.Combine(folder, i == 1 ? name : $"{name}-{i}");
            if (Directory.Exists(run))
                continue;
            PrivateFiles.MakeFolder(run);
            return run;
        }
    }

    private static Uri? OtlpEndpoint() =>
        Environment.GetEnvironmentVariable("OTEL_EXPORTER_OTLP_ENDPOINT") is { Length: > 0 } endpoint ? new Uri(endpoint) : null;

    private static Report Told(Story story, Teller teller, Spans spans, string folder) =>
        new()
        {
            Data = folder,
            Case = story.Case,
            FirstResultMilliseconds = teller.FirstResult?.TotalMilliseconds ?? -1,
            Timeline = [.. teller.Steps.Select(s => s.Step with { Trace = spans.TraceOf(s.RequestId) ?? "" })],
            Trace = spans.TraceOf(teller.CallRequestId) is { } trace ? spans.Trace(trace) : [],
            Links = [],
            Records = [],
            Ledgers = [],
            Evidence = [],
            Checks = teller.Checks,
        };

    private static async Task<Report> Gather(Cast cast, Story story, Teller teller, Spans spans, string folder, CancellationToken cancel)
    {
        var records = await Records(cast, story);
        Nobody(teller, records);
        var ledgers = new List<LedgerCheck>();
        foreach (var service in Cast.Services)
        {
            var ledger = await Verification.Of(
                service,
                [.. cast.Everybody.Where(p => p != "operator").Select(p => cast[p].LedgerOf(service))],
                cancel
            );
            ledgers.Add(ledger);
            teller.Holds(
                $"the ledger of {service} is whole: gapless, as its headers say, under its checkpoint",
                ledger.Wrong.Count == 0,
                string.Join("; ", ledger.Wrong)
            );
        }
        var evidence = new List<EvidenceFileReport>();
        foreach (var exporter in new[] { "kr/mfa", "ua/coordination-hq" })
            evidence.Add(await Evidence(cast[exporter], story.Case, folder, teller, cancel));
        await cast.Until(
            "the last spans have ended",
            async () =>
            {
                await spans.Look(teller.CallRequestId, cancel);
                return spans.TraceOf(teller.CallRequestId) is { } trace
                    && Expected.All(e => spans.Trace(trace).Count(s => s.Name == e.Name) >= e.Times);
            },
            cancel
        );
        foreach (var step in teller.Steps)
            await spans.Look(step.RequestId, cancel);
        var told = Told(story, teller, spans, folder);
        CheckTrace(teller, told.Trace);
        var links = spans.Links();
        teller.Holds(
            "later steps are traces of their own, linked to what caused them",
            story.Transfers.Count == 2
                && told.Timeline.Where(s => s.Method.EndsWith("/SubmitTransferRequest", StringComparison.Ordinal))
                    .All(s => links.Any(l => l.Trace == s.Trace && l.CauseTrace == told.Trace[0].Trace))
        );
        return told with { Records = records, Ledgers = ledgers, Evidence = evidence, Links = links, Checks = teller.Checks };
    }

    // The history as one party may show it to a court: exported, verified without the services, and no longer true once a byte of it
    // is another.
    private static async Task<EvidenceFileReport> Evidence(
        Party party,
        string @case,
        string folder,
        Teller teller,
        CancellationToken cancel
    )
    {
        var path = Path.Combine(folder, $"evidence-{party.Id.Replace('/', '-')}.jsonl");
        await using (var stream = PrivateFiles.Open(path, FileMode.Create))
            await new EvidenceExport(party.Client, TimeProvider.System).Write(@case, stream, null, cancel);
        var file = await File.ReadAllBytesAsync(path, cancel);
        var report = EvidenceVerification.Verify(file, party.Client.Agreement);
        teller.Holds($"the evidence that {party.Id} exports is verified by the agreement alone", report.Break is null, $"{report.Break}");
        var signed = report
            .Entries.Where(e => e.Key.Length > 0)
            .GroupBy(e => e.Header.Participant)
            .ToDictionary(g => g.Key, g => g.Count());
        teller.Holds(
            $"it holds what {party.Id} signed itself, with the receipts",
            signed.GetValueOrDefault(party.Id) > 0
                && report
                    .Entries.Where(e =>
                        e.Key.Length > 0
                        && e.Header.Participant == party.Id
                        && e.Parts.All(p => p.Content is not Answer { Refusal: not null })
                    )
                    .All(e => e.Receipt)
        );
        if (party.Client.Agreement.CosignaturesDemanded is > 0 and var demanded)
            teller.Holds(
                $"{demanded} participants cosigned each log that it rests on",
                report.Logs.All(l => l.Cosigned.Count >= demanded),
                string.Join("; ", report.Logs.Select(l => $"{l.Service}: {l.Cosigned.Count}"))
            );
        var changed = (byte[])file.Clone();
        var at = file.AsSpan().LastIndexOf("\"data\":\""u8) + 12;
        changed[at] = changed[at] == (byte)'A' ? (byte)'B' : (byte)'A';
        var line = 1 + file.AsSpan(0, at).Count((byte)'\n');
        teller.Holds("one changed letter breaks it, at its line", EvidenceVerification.Verify(changed).Break?.Line == line);
        return new EvidenceFileReport(
            path,
            party.Id,
            report.Entries.Count,
            signed,
            report.Entries.Sum(e => e.Approvers.Count),
            report.Entries.Count(e => e.Receipt),
            report.Entries.Count(e => e.Privileged),
            [
                .. report
                    .Logs.SelectMany(l => l.Cosigned)
                    .GroupBy(c => c.Participant)
                    .Where(g => g.Count() == report.Logs.Count)
                    .Select(g => g.Key),
            ],
            report.Break?.ToString()
        );
    }

    private static readonly IReadOnlyList<(string Name, int Times)> Expected =
    [
        ("ministries.calllog.v1.CallLogService/LogCall", 1),
        ("commit calllog", 3),
        ("publish ministries.calllog.v1.CallLogged", 1),
        ("process ministries.calllog.v1.CallLogged", 1),
        ("commit consular", 1),
        ("publish ministries.consular.v1.TransferRequestDrafted", 2),
        ("process ministries.consular.v1.TransferRequestDrafted", 4),
        ("commit custody", 2),
    ];

    private static void CheckTrace(Teller teller, IReadOnlyList<TraceSpan> trace)
    {
        teller.Holds(
            "the call's trace has one root, the call itself",
            trace.Count(s => s.Parent is null) == 1 && trace[0].Name == Expected[0].Name,
            $"{trace.Count(s => s.Depth == 0)} roots"
        );
        teller.Holds("no span of it is without its parent", trace.All(s => s.Parent is null || trace.Any(p => p.Span == s.Parent)));
        foreach (var (name, times) in Expected)
        {
            var found = trace.Count(s => s.Name == name);
            teller.Holds($"it has {name}{(times == 1 ? "" : $" {times} times")}", found == times, $"{found} times");
        }
    }

    // D9 and D22: nobody learns why.
    private static void Nobody(Teller teller, IReadOnlyList<Sight> records)
    {
        var outsider = records.All(r => r.Seen["kr/unification"] is null);
        teller.Holds("for kr/unification, which was not admitted, nothing of the case is there", outsider);
        var statements = records.Where(r => r.Record.StartsWith("statement", StringComparison.Ordinal)).ToList();
        teller.Holds(
            "kr/mfa sees that a transfer is suspended, and no statement",
            statements.Count > 0
                && statements.All(s => s.Seen["kr/mfa"] is null)
                && records.Single(r => r.Record == "transfer of P-2").Seen["kr/mfa"] == "SUSPENDED"
        );
    }

    private static async Task<IReadOnlyList<Sight>> Records(Cast cast, Story story)
    {
        var sights = new List<Sight>
        {
            await Sight("case", story.Case, async p => Words.Of((await p.Custody.GetCaseAsync(new() { Case = story.Case })).Case.State)),
            await Sight("call", story.Call, async p => Words.Of((await p.Calls.GetCallAsync(new() { Call = story.Call })).Call.State)),
        };
        foreach (var prisoner in new[] { story.First, story.Second })
            sights.Add(
                await Sight(
                    $"prisoner {story.Called(prisoner)}",
                    prisoner,
                    async p =>
                    {
                        var seen = (await p.Custody.GetPrisonerAsync(new() { Case = story.Case, Prisoner = prisoner })).Prisoner;
                        return seen.State == CustodyState.Unspecified
                            ? $"held by {seen.DetainingPower}"
                            : $"{Words.Of(seen.State)} {seen.DetainingPower}";
                    }
                )
            );
        foreach (var (prisoner, transfer) in story.Transfers.OrderBy(t => story.Called(t.Key)))
            sights.Add(
                await Sight(
                    $"transfer of {story.Called(prisoner)}",
                    transfer,
                    async p => Words.Of((await p.Consular.GetTransferAsync(new() { Transfer = transfer })).Transfer.State)
                )
            );
        var numbers = new Dictionary<string, int>();
        foreach (var statement in (await cast["icrc"].Custody.ListStatementsAsync(new() { Case = story.Case })).Statements)
        {
            var number = numbers[statement.Prisoner] = numbers.GetValueOrDefault(statement.Prisoner) + 1;
            sights.Add(
                await Sight(
                    $"statement {number} of {story.Called(statement.Prisoner)}",
                    statement.Statement_,
                    async p => Words.Of((await p.Custody.GetStatementAsync(new() { Statement = statement.Statement_ })).Statement.State)
                )
            );
        }
        foreach (var access in (await cast["icrc"].Consular.ListAccessesAsync(new() { Case = story.Case })).Accesses)
            sights.Add(
                await Sight(
                    $"visit to {story.Called(access.Prisoner)}",
                    access.Id,
                    async p => Words.Of((await p.Consular.GetAccessAsync(new() { Access = access.Id })).Access.State)
                )
            );
        return sights;

        async Task<Sight> Sight(string record, string id, Func<Party, Task<string>> see)
        {
            var seen = new Dictionary<string, string?>();
            foreach (var participant in cast.Participants)
            {
                try
                {
                    seen[participant] = await see(cast[participant]);
                }
                catch (RpcException e) when (e.StatusCode == StatusCode.NotFound)
                {
                    seen[participant] = null;
                }
            }
            return new Sight(record, id, seen);
        }
    }
}
