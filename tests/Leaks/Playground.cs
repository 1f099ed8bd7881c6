using System.Collections.Concurrent;
using System.Diagnostics;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Ministries.Client;
using Ministries.Contracts;
using Ministries.Fixtures;
using Ministries.Local;
using Ministries.Rules;
using Ministries.Trust;

namespace Ministries.Leaks.Tests;

/// <summary>
/// The three services in processes of their own, on a PostgreSQL or on SQLite, a RabbitMQ and a collector of their own, and everything that
/// they write, in one place to be searched: databases and their log, the broker's disk, what was logged, traced and measured, what callers
/// were told, exported evidence, dumps, temporary files.
/// </summary>
internal sealed class Playground : IAsyncDisposable
{
    private static readonly IReadOnlyList<string> Services = Participants.Services;

    private readonly string _folder = Directory.CreateTempSubdirectory("ministries-leaks-").FullName;
    private readonly ConcurrentDictionary<string, Process> _processes = [];
    private readonly Dictionary<string, string> _databases = [];
    private readonly Dictionary<string, int> _metrics = Services.ToDictionary(s => s, _ => Ports.Free());
    private readonly List<string> _leaks = [];
    private int _refusals;

    private Playground(Postgres? postgres, RabbitMq broker, OtlpReceiver collector) =>
        (Database, Broker, Collector) = (postgres, broker, collector);

    /// <summary>The PostgreSQL; null: the ledgers are on SQLite, in files beside the others.</summary>
    public Postgres? Database { get; }

    public RabbitMq Broker { get; }

    public OtlpReceiver Collector { get; }

    public IReadOnlyDictionary<string, Uri> Addresses { get; } =
        Services.ToDictionary(s => s, _ => new Uri($"https://127.0.0.1:{Ports.Free()}"));

    public string Certificates => Path.Combine(_folder, "participants", "certificates");

    /// <summary>What the services, the operators' programs and the callers' errors wrote; the participants' own folders are beside
    /// it.</summary>
    public string Written => Directory.CreateDirectory(Path.Combine(_folder, "written")).FullName;

    /// <summary>Starts it.</summary>
    /// <param name="word">What the leaks leak.</param>
    /// <param name="leaks">Which leaks the services have, on purpose.</param>
    /// <param name="services">Which services run.</param>
    /// <param name="embedded">Whether the ledgers are on SQLite, which is the default of a service that is tried out.</param>
    /// <param name="cancel">Ends it.</param>
    public static async Task<Playground> Start(
        string word,
        string[] leaks,
        IReadOnlyList<string> services,
        bool embedded,
        CancellationToken cancel
    )
    {
        var ground = new Playground(embedded ? null : await Postgres.Create(), await RabbitMq.Create(), await OtlpReceiver.Start(cancel));
        ground._leaks.AddRange(leaks);
        Pki.Init(ground.Certificates, StandardAgreement.Read(), TimeProvider.System, SealingKeyFile.Make);
        foreach (var service in services)
        {
            ground._databases[service] = ground.Database is { } database
                ? await database.CreateDatabase()
                : $"sqlite:{Path.Combine(ground.Written, $"{service}.db")}";
            ground.Run(service, word);
        }
        return ground;
    }

    /// <summary>Starts a service's process.</summary>
    public void Run(string service, string word = "")
    {
        var keys = Path.Combine(Certificates, "service", service);
        var start = new ProcessStartInfo("/bin/sh")
        {
            WorkingDirectory = Written,
            RedirectStandardInput = true,
            Environment =
            {
                ["LEAK"] = word,
                ["TMPDIR"] = Directory.CreateDirectory(Path.Combine(Written, "temporary", service)).FullName,
                ["DOTNET_DbgEnableMiniDump"] = "1",
                ["DOTNET_DbgMiniDumpType"] = "2",
                ["DOTNET_DbgMiniDumpName"] = Path.Combine(Written, $"{service}.core"),
                ["Ledger__Connection"] = _databases[service],
                ["Broker__Uri"] = Broker.Uri.ToString(),
                ["Listen"] = Addresses[service].ToString(),
                ["Agreement"] = Path.Combine(Certificates, "agreement.json"),
                ["Certificate"] = Path.Combine(keys, "system.pem"),
                ["CertificateKey"] = Path.Combine(keys, "system.key"),
                ["Checkpoint__File"] = Path.Combine(Written, $"{service}.checkpoint"),
                ["Checkpoint__Key"] = Path.Combine(keys, "checkpoint.key"),
                ["Metrics__Listen"] = $"http://127.0.0.1:{_metrics[service]}",
                ["OTEL_EXPORTER_OTLP_ENDPOINT"] = Collector.Endpoint.ToString(),
            },
        };
        foreach (var (peer, address) in Addresses)
            start.Environment[$"Peers__{peer}"] = address.ToString();
        var host = Path.Combine(AppContext.BaseDirectory, "Ministries.FaultHost.dll");
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add($"exec dotnet exec '{host}' {service} {string.Join(' ', _leaks)} -- >>{service}.log 2>&1");
        _processes[service] = Process.Start(start)!;
    }

    /// <summary>Ends a service's process by a signal, and waits for its end.</summary>
    public async Task End(string service, string signal)
    {
        using (var kill = Process.Start("kill", [$"-{signal}", $"{_processes[service].Id}"]))
            await kill.WaitForExitAsync();
        await _processes[service].WaitForExitAsync();
        if (_processes.TryRemove(service, out var ended))
            ended.Dispose();
    }

    /// <summary>Ends a service's process at once, whatever it is doing, and starts it anew.</summary>
    public async Task Restart(string service)
    {
        await End(service, "KILL");
        Run(service);
    }

    /// <summary>Ends a service's process as a crash does, with a dump of its memory.</summary>
    public async Task Crash(string service, CancellationToken cancel)
    {
        using (var kill = Process.Start("kill", ["-ABRT", $"{_processes[service].Id}"]))
            await kill.WaitForExitAsync(cancel);
        // The runtime writes the dump, says so, and may then wait for a thread of its own for ever.
        var log = Path.Combine(Written, $"{service}.log");
        while (!(await File.ReadAllTextAsync(log, cancel)).Contains("Dump successfully written", StringComparison.Ordinal))
            await Task.Delay(50, cancel);
        await End(service, "KILL");
    }

    /// <summary>Keeps what a caller was told: the status with all of its details.</summary>
    public async Task Keep(RpcException refusal)
    {
        var folder = Directory.CreateDirectory(Path.Combine(Written, "refusals")).FullName;
        var trailers = refusal.Trailers.Select(t => t.IsBinary ? $"{t.Key}: {Convert.ToHexString(t.ValueBytes)}" : $"{t.Key}: {t.Value}");
        await File.WriteAllTextAsync(
            Path.Combine(folder, $"{Interlocked.Increment(ref _refusals)}"),
            $"{refusal.Status}\n{string.Join('\n', trailers)}\n{refusal}"
        );
    }

    /// <summary>Sends every method of the services a request that holds the word in each text and each byte string, and keeps what is
    /// answered.</summary>
    public async Task AskEverythingWith(MinistryClient client, string word, CancellationToken cancel)
    {
        foreach (var service in _processes.Keys)
        foreach (var method in Contract.MethodsOf(service).Where(m => !m.IsServerStreaming))
            try
            {
                await client.Call(service, method, Filled(method.InputType, word, depth: 0), cancel);
            }
            catch (RpcException e)
            {
                await Keep(e);
            }
    }

    /// <summary>Sends every write that carries sealed content, with words in all that is sealed, and keeps what is answered. Most are
    /// refused, after they were read, checked and decided.</summary>
    public async Task SealIntoEverything(MinistryClient client, string @case, Canary canary, CancellationToken cancel)
    {
        foreach (var service in _processes.Keys)
        foreach (var method in Contract.MethodsOf(service).Where(Contract.IsWrite))
        foreach (
            var message in Descriptors
                .Files.SelectMany(f => f.MessageTypes)
                .Where(m => Seals.PathFor(method.InputType, m.FullName) is not null)
        )
            try
            {
                var request = method.InputType.Parser.ParseFrom([]);
                if (method.InputType.FindFieldByName("case") is { } field)
                    field.Accessor.SetValue(request, @case);
                var plain = message.Parser.ParseFrom([]);
                canary.Fill(plain);
                client.Seal(request, plain, [.. new[] { client.Participant.Id, "icrc" }.Distinct()]);
                await client.Call(service, method, request, cancel);
            }
            catch (RpcException e)
            {
                await Keep(e);
            }
    }

    /// <summary>Exports the evidence of a case.</summary>
    public async Task Export(MinistryClient client, string @case, CancellationToken cancel)
    {
        var name = $"{client.Participant.Id.Replace('/', '-')}.evidence";
        await using var file = File.Create(Path.Combine(Written, name));
        await new EvidenceExport(client, TimeProvider.System).Write(@case, file, null, cancel);
    }

    /// <summary>Whether a service's process left a dump of its memory.</summary>
    public bool HasDump(string service) => new FileInfo(Path.Combine(Written, $"{service}.core")) is { Exists: true, Length: > 1 << 20 };

    /// <summary>Writes down what stands in no file by itself: metrics, spans, and the databases as an operator would dump them.</summary>
    public async Task Collect(CancellationToken cancel)
    {
        using var http = new HttpClient();
        foreach (var service in _processes.Keys)
            await File.WriteAllTextAsync(
                Path.Combine(Written, $"{service}.metrics"),
                await http.GetStringAsync($"http://127.0.0.1:{_metrics[service]}/metrics", cancel),
                cancel
            );
        await File.WriteAllLinesAsync(Path.Combine(Written, "spans"), Collector.Spans.Select(s => s.Everything), cancel);
        if (Database is not null)
            foreach (var (service, database) in _databases)
                await Database.Dump(database, Path.Combine(Written, $"{service}.dump"));
    }

    /// <summary>Searches all of it for a word.</summary>
    public IReadOnlyList<string> Find(string word) => Find(new Search(word));

    /// <summary>Searches all of it. Everything must have been written somewhere: each place holds some bytes at least.</summary>
    public IReadOnlyList<string> Find(Search search)
    {
        var found = new List<string>();
        foreach (var (place, folder) in new[] { ("services", Written), ("PostgreSQL", Database?.Folder), ("RabbitMQ", Broker.Folder) })
        {
            if (folder is null)
                continue;
            var (here, searched) = search.InFolder(folder);
            if (searched < 4096)
                throw new InvalidOperationException($"{place}: only {searched} bytes were searched");
            found.AddRange(here.Select(f => $"{place}: {f}"));
        }
        return found;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var service in _processes.Keys.ToList())
            await End(service, "KILL");
        Broker.Stop();
        Database?.Stop();
        await Collector.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    private static IMessage Filled(MessageDescriptor type, string word, int depth)
    {
        var message = type.Parser.ParseFrom([]);
        foreach (var field in type.Fields.InFieldNumberOrder().Where(f => !f.IsMap && f.ContainingOneof is null))
        {
            object? value = field.FieldType switch
            {
                FieldType.String => word,
                FieldType.Bytes => ByteString.CopyFromUtf8(word),
                FieldType.Message when depth < 4 => Filled(field.MessageType, word, depth + 1),
                _ => null,
            };
            if (value is null)
                continue;
            if (field.IsRepeated)
                ((System.Collections.IList)field.Accessor.GetValue(message)).Add(value);
            else
                field.Accessor.SetValue(message, value);
        }
        return message;
    }
}
