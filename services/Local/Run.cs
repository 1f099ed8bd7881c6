using System.CommandLine;
using System.CommandLine.Parsing;
using System.Diagnostics;
using Grpc.Core;
using Ministries.Client;
using Ministries.Custody.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;

namespace Ministries.Local;

/// <summary>One command: starts the services, plays the story, shows what happened and says whether everything is as it must be.</summary>
public static class Run
{
    /// <summary>Exit code: everything is as it must be.</summary>
    public const int Success = 0;

    /// <summary>Exit code: something is not as it must be.</summary>
    public const int Failure = 1;

    /// <summary>Exit code: it was interrupted before its end (128 and SIGINT's number).</summary>
    public const int Interrupted = 130;

    // The process's own start, so that the start of the runtime is measured too.
    private static readonly long Started =
        Stopwatch.GetTimestamp() - (long)((DateTime.Now - Process.GetCurrentProcess().StartTime).TotalSeconds * Stopwatch.Frequency);

    /// <summary>How long a stop may take, by Ctrl-C or SIGTERM, before the process ends anyway.</summary>
    private static readonly TimeSpan StopTimeout = TimeSpan.FromSeconds(30);

    /// <summary>Runs the command line.</summary>
    public static async Task<int> From(string[] args)
    {
        try
        {
            return await Command()
                .Parse(args)
                .InvokeAsync(
                    new InvocationConfiguration { ProcessTerminationTimeout = StopTimeout, EnableDefaultExceptionHandler = false }
                );
        }
        catch (OperationCanceledException)
        {
            return Interrupted;
        }
    }

    private static readonly Option<bool> Json = new("--json")
    {
        Description = "Writes what is shown as JSON, for programs; progress goes to standard error.",
    };

    private static readonly Option<bool> Serve = new("--serve")
    {
        Description = "Keeps serving other clients afterwards, with gRPC reflection and health, until Ctrl-C.",
    };

    private static readonly Option<DirectoryInfo?> Data = new("--data")
    {
        Description = "The folder for ledgers, certificates and logs. Default: a new one among temporary files.",
    };

    private static readonly Option<DirectoryInfo?> Join = new("--join")
    {
        Description = "Plays on services that run elsewhere: the folder of certificates and agreement that they were started with.",
    };

    private static readonly Option<string[]> At = new("--at")
    {
        Description = "With --join, where a service is, such as calllog=https://127.0.0.1:7101; once for each. Commas separate replicas.",
        DefaultValueFactory = _ => [],
    };

    private static readonly Option<string[]> Gateway = new("--gateway")
    {
        Description =
            "With --join, the gateway by which a participant calls, such as kr/mfa=https://127.0.0.1:7120; once for each that has one.",
        DefaultValueFactory = _ => [],
    };

    private static readonly Option<Uri?> Jaeger = new("--jaeger")
    {
        CustomParser = Address,
        Description = "With --join, Jaeger's query address, to read the traces from.",
    };

    private static readonly Option<Uri?> Page = new("--page")
    {
        CustomParser = Address,
        Description = "With --join, Jaeger's address as a person's browser calls it. Default: that of --jaeger.",
    };

    /// <summary>The command.</summary>
    public static RootCommand Command()
    {
        var command = new RootCommand("Plays the case of 17 March 2025 on three services in this process, and shows what happened.")
        {
            Json,
            Serve,
            Data,
            Join,
            At,
            Gateway,
            Jaeger,
            Page,
        };
        command.Validators.Add(ValidateJoin);
        command.SetAction(
            (result, cancel) =>
                Play(
                    result.GetValue(Json),
                    result.GetValue(Serve),
                    result.GetValue(Data)?.FullName ?? NewFolder(),
                    Console.Out,
                    Console.Error,
                    cancel,
                    RemoteServicesOf(result)
                )
        );
        return command;
    }

    private static void ValidateJoin(CommandResult result)
    {
        if (result.GetValue(Join) is null)
            return;
        if (ReplicasIn(result.GetValue(At)!) is not { } known || !known.Keys.ToHashSet().SetEquals(Participants.Services))
            result.AddError($"--join needs --at for each of {string.Join(", ", Participants.Services)}");
        if (AddressesIn(result.GetValue(Gateway)!) is null)
            result.AddError("--gateway must be a participant and an address, such as kr/mfa=https://127.0.0.1:7120, each once");
        if (result.GetValue(Jaeger) is null)
            result.AddError("--join needs --jaeger");
        if (result.GetValue(Serve))
            result.AddError("--serve has no meaning with --join");
    }

    private static RemoteServices? RemoteServicesOf(ParseResult result) =>
        result.GetValue(Join) is { } certificates
            ? new RemoteServices(
                certificates.FullName,
                ReplicasIn(result.GetValue(At)!)!,
                AddressesIn(result.GetValue(Gateway)!)!,
                result.GetValue(Jaeger)!,
                result.GetValue(Page) ?? result.GetValue(Jaeger)!
            )
            : null;

    // Names with addresses; null: one has not that form, or a name is there twice.
    private static Dictionary<string, Uri>? AddressesIn(string[] texts)
    {
        var addresses = new Dictionary<string, Uri>();
        foreach (var text in texts)
            if (
                text.Split('=', 2) is not [var name, var address]
                || !Uri.IsWellFormedUriString(address, UriKind.Absolute)
                || !addresses.TryAdd(name, new Uri(address))
            )
                return null;
        return addresses;
    }

    // The same, with several addresses for each name.
    private static Dictionary<string, IReadOnlyList<Uri>>? ReplicasIn(string[] texts)
    {
        var replicas = new Dictionary<string, IReadOnlyList<Uri>>();
        foreach (var text in texts)
            if (
                text.Split('=', 2) is not [var name, var addresses]
                || ServiceAddresses.Read(addresses) is not { } read
                || !replicas.TryAdd(name, read)
            )
                return null;
        return replicas;
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
    /// <param name="Addresses">Where the replicas of each service are, by its name.</param>
    /// <param name="Gateways">Where the gateways are, by their participants.</param>
    /// <param name="Jaeger">Jaeger's query address.</param>
    /// <param name="Page">Jaeger's address as a person's browser calls it.</param>
    public sealed record RemoteServices(
        string Certificates,
        IReadOnlyDictionary<string, IReadOnlyList<Uri>> Addresses,
        IReadOnlyDictionary<string, Uri> Gateways,
        Uri Jaeger,
        Uri Page
    );

    /// <summary>Plays the case and shows the report.</summary>
    /// <param name="json">Whether to write JSON.</param>
    /// <param name="serve">Whether to go on serving until <paramref name="cancel"/>.</param>
    /// <param name="folder">The folder for data; created if missing. Data of an earlier run stays.</param>
    /// <param name="output">Standard output.</param>
    /// <param name="error">Standard error.</param>
    /// <param name="cancel">Ends it.</param>
    /// <param name="remote">Where the services run; null: in this process.</param>
    /// <returns>The exit code.</returns>
    public static async Task<int> Play(
        bool json,
        bool serve,
        string folder,
        TextWriter output,
        TextWriter error,
        CancellationToken cancel,
        RemoteServices? remote = null
    )
    {
        var screen = json ? new Screen(error, Console.IsErrorRedirected, brief: true) : new Screen(output, Console.IsOutputRedirected);
        var run = FolderOfRun(folder);
        screen.Title(run);
        using var spans = remote is null ? new Spans() : new Spans(remote.Jaeger);
        screen.Progress(
            remote is null ? "starting" : "joining",
            remote is null ? "three services, two witnesses, a certificate for each participant"
                : remote.Gateways.Count == 0 ? "three services, each participant with its certificate"
                : $"three services, by the gateways of {string.Join(", ", remote.Gateways.Keys)}"
        );
        await using var participants = remote is null
            ? await Participants.Start(run, serve, OtlpEndpoint(), cancel)
            : await Participants.Join(
                remote.Certificates,
                remote.Addresses,
                TimeSpan.FromSeconds(60),
                cancel,
                Path.Combine(run, "receipts"),
                remote.Gateways
            );
        var timeline = new Timeline(screen, Started);
        var story = new Story(participants, timeline);
        Report report;
        try
        {
            await story.Play(cancel);
            report = await VerifyAll(participants, story, timeline, spans, run, remote is null, cancel);
        }
        catch (RpcException) when (cancel.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancel);
        }
        catch (Exception e) when (e is StoryException or RpcException)
        {
            timeline.Abort(e is RpcException rpc ? rpc.Status.Detail : e.Message);
            report = ReportOf(story, timeline, spans, run);
        }
        if (json)
            await output.WriteLineAsync(report.ToJson());
        else
            screen.Show(report);
        if (remote is not null && !json && report.Trace is [var root, ..])
            screen.ShowTracePage(new Uri(remote.Page, $"/trace/{root.Trace}"));
        if (serve)
        {
            screen.Serving(participants.Addresses, run);
            await Task.Delay(Timeout.Infinite, cancel).ContinueWith(_ => { }, CancellationToken.None);
        }
        return report.Holds ? Success : Failure;
    }

    private static string NewFolder() => Path.Combine(Path.GetTempPath(), "ministries");

    // Each run gets a folder of its own, so that it does not find the data of an earlier one.
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

    private static Report ReportOf(Story story, Timeline timeline, Spans spans, string folder) =>
        new()
        {
            Data = folder,
            Case = story.Case,
            FirstResultMilliseconds = timeline.FirstResult?.TotalMilliseconds ?? -1,
            Timeline = [.. timeline.Steps.Select(s => s.Step with { Trace = spans.TraceOf(s.RequestId) ?? "" })],
            Trace = spans.TraceOf(timeline.CallRequestId) is { } trace ? spans.Trace(trace) : [],
            Links = [],
            Records = [],
            Ledgers = [],
            Evidence = [],
            Checks = timeline.Checks,
        };

    private static async Task<Report> VerifyAll(
        Participants participants,
        Story story,
        Timeline timeline,
        Spans spans,
        string folder,
        bool isLocal,
        CancellationToken cancel
    )
    {
        var records = await ViewRecords(participants, story);
        CheckVisibility(timeline, records);
        var @sealed = await SealedViews.Of(participants, story);
        var dump = isLocal ? await SealedViews.Dump(participants, story, folder) : null;
        CheckSealed(timeline, @sealed, dump);
        var ledgers = new List<LedgerCheck>();
        foreach (var service in Participants.Services)
        {
            var ledger = await Verification.Of(
                service,
                [.. participants.Ids.Where(p => p != "operator").Select(p => participants[p].LedgerOf(service))],
                mayBeCovered: !isLocal,
                cancel
            );
            ledgers.Add(ledger);
            timeline.Verify(
                $"the ledger of {service} is whole: gapless, as its headers say, under its checkpoint",
                ledger.Wrong.Count == 0,
                string.Join("; ", ledger.Wrong)
            );
        }
        var evidence = new List<EvidenceFileReport>();
        foreach (var exporter in new[] { "kr/mfa", "ua/coordination-hq" })
            evidence.Add(await ExportEvidence(participants[exporter], story.Case, folder, timeline, cancel));
        await participants.WaitUntil(
            "the last spans have ended",
            async () =>
            {
                await spans.Fetch(timeline.CallRequestId, cancel);
                return spans.TraceOf(timeline.CallRequestId) is { } trace
                    && Expected.All(e => Times(spans.Trace(trace), e.Name) >= e.Times)
                    && IsConnected(spans.Trace(trace));
            },
            cancel
        );
        foreach (var step in timeline.Steps)
            await spans.Fetch(step.RequestId, cancel);
        var report = ReportOf(story, timeline, spans, folder);
        CheckTrace(timeline, report.Trace);
        var links = spans.Links();
        timeline.Verify(
            "later steps are traces of their own, linked to what caused them",
            story.Transfers.Count == 2
                && report
                    .Timeline.Where(s => s.Method.EndsWith("/SubmitTransferRequest", StringComparison.Ordinal))
                    .All(s => links.Any(l => l.Trace == s.Trace && l.CauseTrace == report.Trace[0].Trace))
        );
        report = report with { Sealed = @sealed, Dump = dump };
        return report with { Records = records, Ledgers = ledgers, Evidence = evidence, Links = links, Checks = timeline.Checks };
    }

    // Exports the history as a participant may show it to a court, verifies the file without the services, and shows that one changed
    // byte breaks it.
    private static async Task<EvidenceFileReport> ExportEvidence(
        ParticipantClient exporter,
        string @case,
        string folder,
        Timeline timeline,
        CancellationToken cancel
    )
    {
        var path = Path.Combine(folder, $"evidence-{exporter.Id.Replace('/', '-')}.jsonl");
        await using (var stream = PrivateFiles.Open(path, FileMode.Create))
            await new EvidenceExport(exporter.Client, TimeProvider.System).Write(@case, stream, null, cancel);
        var file = await File.ReadAllBytesAsync(path, cancel);
        var report = EvidenceVerification.Verify(file, AgreementVersions.DigestOf(exporter.Client.Agreement));
        timeline.Verify(
            $"the evidence that {exporter.Id} exports is verified by the agreement alone",
            report.Break is null,
            $"{report.Break}"
        );
        var signed = report
            .Entries.Where(e => e.Key.Length > 0)
            .GroupBy(e => e.Header.Participant)
            .ToDictionary(g => g.Key, g => g.Count());
        timeline.Verify(
            $"it holds what {exporter.Id} signed itself, with the receipts",
            signed.GetValueOrDefault(exporter.Id) > 0
                && report
                    .Entries.Where(e =>
                        e.Key.Length > 0
                        && e.Header.Participant == exporter.Id
                        && e.Parts.All(p => p.Content is not Answer { Refusal: not null })
                    )
                    .All(e => e.Receipt)
        );
        if (exporter.Client.Agreement.CosignaturesDemanded is > 0 and var demanded)
            timeline.Verify(
                $"{demanded} participants cosigned each log that it rests on",
                report.Logs.All(l => l.Cosigned.Count >= demanded),
                string.Join("; ", report.Logs.Select(l => $"{l.Service}: {l.Cosigned.Count}"))
            );
        var changed = (byte[])file.Clone();
        var at = file.AsSpan().LastIndexOf("\"data\":\""u8) + 12;
        changed[at] = changed[at] == (byte)'A' ? (byte)'B' : (byte)'A';
        var line = 1 + file.AsSpan(0, at).Count((byte)'\n');
        timeline.Verify("one changed letter breaks it, at its line", EvidenceVerification.Verify(changed).Break?.Line == line);
        return new EvidenceFileReport(
            path,
            exporter.Id,
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

    // A gateway's span of a call has the same name as the service's.
    private static int Times(IReadOnlyList<TraceSpan> trace, string name) =>
        trace.Count(s => s.Name == name && Participants.Services.Contains(s.Service));

    private static bool IsConnected(IReadOnlyList<TraceSpan> trace)
    {
        var known = trace.Select(s => s.Span).ToHashSet();
        return trace.All(s => s.Parent is null || known.Contains(s.Parent));
    }

    private static void CheckTrace(Timeline timeline, IReadOnlyList<TraceSpan> trace)
    {
        timeline.Verify(
            "the call's trace has one root, the call itself",
            trace.Count(s => s.Parent is null) == 1 && trace[0].Name == Expected[0].Name,
            $"{trace.Count(s => s.Depth == 0)} roots"
        );
        timeline.Verify("no span of it is without its parent", IsConnected(trace));
        foreach (var (name, times) in Expected)
        {
            var found = Times(trace, name);
            timeline.Verify($"it has {name}{(times == 1 ? "" : $" {times} times")}", found == times, $"{found} times");
        }
    }

    // D9 and D22: a party that may not see a record does not learn that it exists, and nobody learns why a transfer is suspended.
    private static void CheckVisibility(Timeline timeline, IReadOnlyList<RecordView> records)
    {
        var outsider = records.All(r => r.Seen["kr/unification"] is null);
        timeline.Verify("for kr/unification, which was not admitted, nothing of the case is there", outsider);
        var statements = records.Where(r => r.Record.StartsWith("statement", StringComparison.Ordinal)).ToList();
        timeline.Verify(
            "kr/mfa sees that a transfer is suspended, and no statement",
            statements.Count > 0
                && statements.All(s => s.Seen["kr/mfa"] is null)
                && records.Single(r => r.Record == "transfer of P-2").Seen["kr/mfa"] == "SUSPENDED"
        );
    }

    // D16: neither a reader that is no recipient nor a holder of the services' files can read any of the sealed content.
    private static void CheckSealed(Timeline timeline, IReadOnlyList<SealedView> views, DatabaseDump? dump)
    {
        timeline.Verify(
            "what is sealed opens for those to whom it is sealed, and for nobody else",
            views.All(v => v.Seen.Contains("born", StringComparison.Ordinal) == (v.Part is "detaining power" or "observer"))
        );
        if (dump is not null)
            timeline.Verify(
                "no word of an identity stands in a database, a log or another file of the services",
                dump is { Found: 0, Lines.Count: > 0 },
                $"{dump.Found} times"
            );
    }

    private static async Task<IReadOnlyList<RecordView>> ViewRecords(Participants participants, Story story)
    {
        var views = new List<RecordView>
        {
            await ViewOf("case", story.Case, async p => Words.Of((await p.Custody.GetCaseAsync(new() { Case = story.Case })).Case.State)),
            await ViewOf("call", story.Call, async p => Words.Of((await p.Calls.GetCallAsync(new() { Call = story.Call })).Call.State)),
        };
        foreach (var prisoner in new[] { story.First, story.Second })
            views.Add(
                await ViewOf(
                    $"prisoner {story.LabelOf(prisoner)}",
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
        foreach (var (prisoner, transfer) in story.Transfers.OrderBy(t => story.LabelOf(t.Key)))
            views.Add(
                await ViewOf(
                    $"transfer of {story.LabelOf(prisoner)}",
                    transfer,
                    async p => Words.Of((await p.Consular.GetTransferAsync(new() { Transfer = transfer })).Transfer.State)
                )
            );
        var numbers = new Dictionary<string, int>();
        foreach (var statement in (await participants["icrc"].Custody.ListStatementsAsync(new() { Case = story.Case })).Statements)
        {
            var number = numbers[statement.Prisoner] = numbers.GetValueOrDefault(statement.Prisoner) + 1;
            views.Add(
                await ViewOf(
                    $"statement {number} of {story.LabelOf(statement.Prisoner)}",
                    statement.Statement_,
                    async p => Words.Of((await p.Custody.GetStatementAsync(new() { Statement = statement.Statement_ })).Statement.State)
                )
            );
        }
        foreach (var access in (await participants["icrc"].Consular.ListAccessesAsync(new() { Case = story.Case })).Accesses)
            views.Add(
                await ViewOf(
                    $"visit to {story.LabelOf(access.Prisoner)}",
                    access.Id,
                    async p => Words.Of((await p.Consular.GetAccessAsync(new() { Access = access.Id })).Access.State)
                )
            );
        return views;

        async Task<RecordView> ViewOf(string record, string id, Func<ParticipantClient, Task<string>> see)
        {
            var seen = new Dictionary<string, string?>();
            foreach (var participant in participants.Parties)
            {
                try
                {
                    seen[participant] = await see(participants[participant]);
                }
                catch (RpcException e) when (e.StatusCode == StatusCode.NotFound)
                {
                    seen[participant] = null;
                }
            }
            return new RecordView(record, id, seen);
        }
    }
}
