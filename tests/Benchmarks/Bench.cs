using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Grpc.Net.Client;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using Npgsql;
using CallLogClient = Ministries.CallLog.V1.CallLogService.CallLogServiceClient;

namespace Ministries.Benchmarks;

/// <summary>How long to measure.</summary>
/// <param name="Rounds">How often each of the two that are compared is measured, in turn.</param>
/// <param name="Round">How long, each time.</param>
/// <param name="WarmUp">How long before the first time.</param>
/// <param name="Full">Whether rows that take long are measured too.</param>
internal sealed record Plan(int Rounds, TimeSpan Round, TimeSpan WarmUp, bool Full);

/// <summary>What all rows share: keys and certificates, PostgreSQL, the processes that were started.</summary>
internal sealed class Bench : IAsyncDisposable
{
    private readonly List<IAsyncDisposable> _open = [];
    private readonly Dictionary<string, Task<Child>> _shared = [];

    private Bench(Plan plan, Postgres postgres, string folder)
    {
        (Plan, Postgres, Folder) = (plan, postgres, folder);
        Pki.Init(folder, StandardAgreement.Read(), TimeProvider.System, SealedForm.Key);
        Agreement = Signing.Agreement(folder);
        Permissions = new Permissions(Agreement);
    }

    public static async Task<Bench> Create(Plan plan)
    {
        // As PostgreSQL's documentation recommends: a quarter of a small server's memory for its pages.
        var postgres = await Fixtures.Postgres.Create("shared_buffers=1GB", "min_wal_size=2GB", "max_wal_size=2GB");
        // A server that has run for a while reuses the files of its log. A new server creates a file for each 16 MB, several times a second
        // under this load, and all commits wait for that. So the files are created first.
        await postgres.Execute("select count(pg_logical_emit_message(false, 'fill', repeat('x', 16 << 20))) from generate_series(1, 128)");
        await postgres.Execute("checkpoint");
        return new(plan, postgres, Directory.CreateTempSubdirectory("ministries-bench-").FullName);
    }

    public Plan Plan { get; }
    public Postgres Postgres { get; }
    public string Folder { get; }
    public Agreement Agreement { get; }
    public Permissions Permissions { get; }

    /// <summary>A service's process on a database of its own.</summary>
    /// <param name="name">The service.</param>
    /// <param name="words">Further words: <see cref="Hosts.Service"/>.</param>
    /// <param name="database">Its database, and with it its last checkpoint; null: new ones.</param>
    /// <param name="broker">The broker; null: none.</param>
    /// <param name="otlp">Where its traces are sent; null: nowhere.</param>
    /// <param name="peers">The other services' addresses; null: there are none.</param>
    /// <param name="listen">Where it serves; null: at a free port.</param>
    /// <param name="tuned">Whether the runtime compiles with the settings of <c>tests/bench</c>, so that even short rounds are warm;
    /// otherwise with those that the service is shipped with.</param>
    public async Task<Child> Service(
        string name,
        string words,
        string? database = null,
        Uri? broker = null,
        Uri? otlp = null,
        IReadOnlyDictionary<string, Uri>? peers = null,
        Uri? listen = null,
        bool tuned = true
    )
    {
        database ??= await Postgres.CreateDatabase();
        string Own(string file) => Path.Combine(Folder, "service", name, file);
        listen ??= new Uri($"https://127.0.0.1:{Ports.Free()}");
        string[] settings =
        [
            $"--Ledger:Connection={database}",
            $"--Broker:Uri={broker ?? new Uri("memory:")}",
            $"--Listen={listen}",
            $"--Certificate={Own("system.pem")}",
            $"--CertificateKey={Own("system.key")}",
            $"--Checkpoint:Key={Own("checkpoint.key")}",
            $"--Checkpoint:File={Path.Combine(Folder, $"{new NpgsqlConnectionStringBuilder(database).Database}-{name}.checkpoint")}",
            $"--Agreement={Path.Combine(Folder, "agreement.json")}",
            .. (
                peers
                ?? new[] { "calllog", "custody", "consular" }
                    .Where(n => n != name)
                    .ToDictionary(n => n, _ => new Uri("https://127.0.0.1:9"))
            ).Select(p => $"--Peers:{p.Key}={p.Value}"),
            .. otlp is null ? Array.Empty<string>() : [$"--OTEL_EXPORTER_OTLP_ENDPOINT={otlp}"],
        ];
        var child = await Start(
            name,
            serverGc: null,
            tuned,
            ["service", name, .. words.Split(' ', StringSplitOptions.RemoveEmptyEntries), "--", .. settings]
        );
        child.Database = database;
        return child;
    }

    /// <summary>A call log with a case and without a relay, which all rows share so that it stays warm.</summary>
    public Task<Child> SharedCallLog(string words = "")
    {
        if (!_shared.TryGetValue(words, out var child))
            _shared[words] = child = Service("calllog", $"seed without-relay {words}");
        return child;
    }

    /// <summary>A call log's ledger in this process.</summary>
    public async Task<OwnLedger> OpenLedger(string database) =>
        new(await ServiceLedger.Open(OptionsOf(database), default), database, Permissions);

    /// <summary>How a call log's ledger is kept in a database.</summary>
    public LedgerOptions OptionsOf(string database) =>
        new()
        {
            Service = "calllog",
            Connection = database,
            Kinds = [.. CallLog.CallLogService.Definition.Streams, .. Hosting.Bus.BusRegistration.Streams, Hosting.Agreements.Kind],
            Key = CheckpointKey.FromPem(
                $"{Agreement.TrustDomain}/calllog",
                File.ReadAllText(Path.Combine(Folder, "service", "calllog", "checkpoint.key"))
            ),
            CheckpointFile = Path.Combine(Folder, $"{Guid.NewGuid()}.checkpoint"),
        };

    /// <summary>A process of this program in another role.</summary>
    /// <param name="name">Its name; of a service, the service's name.</param>
    /// <param name="serverGc">Whether it uses the server garbage collector; null: it is a service and uses the setting that the service
    /// ships with.</param>
    /// <param name="args">Its role.</param>
    public Task<Child> Start(string name, bool? serverGc, params string[] args) => Start(name, serverGc, tuned: true, args);

    private async Task<Child> Start(string name, bool? serverGc, bool tuned, string[] args)
    {
        var child = new Child(name, serverGc, tuned, args);
        _open.Add(child);
        await child.Started;
        return child;
    }

    /// <summary>A participant's channels to a service, signed where the service demands it. Each channel is one connection, however many
    /// calls wait. With more channels, a pause of a second on either side would exceed a participant's limit of connections.</summary>
    public CallInvoker[] Reach(Child child, string participant, string service, bool signed = true, int channels = 4) =>
        [
            .. Enumerable
                .Range(0, channels)
                .Select(_ =>
                {
                    var authorities = new Authorities(Agreement);
                    var own = Hosts.Certificate(
                        Path.Combine(Folder, participant, "system.pem"),
                        Path.Combine(Folder, participant, "system.key")
                    );
                    var plain = ServiceChannel.Handler(service, () => own, () => authorities, TimeSpan.FromSeconds(5), TimeProvider.System);
                    plain.EnableMultipleHttp2Connections = false;
                    var channel = GrpcChannel.ForAddress(
                        child.Address,
                        new GrpcChannelOptions
                        {
                            HttpHandler = signed ? Signing.Handler(Folder, participant, plain, service) : plain,
                            DisposeHttpClient = true,
                        }
                    );
                    _open.Add(new Closing(channel));
                    return channel.CreateCallInvoker();
                }),
        ];

    /// <summary>The disk's own rate of writing 8 KiB and waiting for it, in times per second.</summary>
    public static double FsyncRate()
    {
        var path = Path.Combine(Path.GetTempPath(), $"ministries-fsync-{Guid.NewGuid():N}");
        try
        {
            using var file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.None, 0);
            var page = new byte[8192];
            var began = Stopwatch.GetTimestamp();
            var times = 0;
            for (; Stopwatch.GetElapsedTime(began).TotalSeconds < 0.5; times++)
            {
                file.Position = times % 128 * 8192;
                file.Write(page);
                file.Flush(flushToDisk: true);
            }
            return times / Stopwatch.GetElapsedTime(began).TotalSeconds;
        }
        finally
        {
            File.Delete(path);
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var open in Enumerable.Reverse(_open))
            await open.DisposeAsync();
        Postgres.Stop();
        Directory.Delete(Folder, recursive: true);
    }

    private sealed class Closing(IDisposable inner) : IAsyncDisposable
    {
        public ValueTask DisposeAsync()
        {
            inner.Dispose();
            return ValueTask.CompletedTask;
        }
    }
}

/// <summary>A process of this program in another role. It ends with this one.</summary>
internal sealed class Child : IAsyncDisposable
{
    private readonly Process _process;
    private readonly TaskCompletionSource<Uri> _serves = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ConcurrentQueue<string> _errors = [];
    private readonly List<(ulong Size, long At)> _growth = [];
    private TaskCompletionSource _grown = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private bool _ended;

    public Child(string name, bool? serverGc, bool tuned, string[] args)
    {
        Name = name;
        // A service runs with the runtime settings of its own program.
        var program = (serverGc, name) switch
        {
            (null, "calllog") => "CallLog",
            (null, "consular") => "Consular",
            (null, "custody") => "Custody",
            _ => "Benchmarks",
        };
        var runtime = Path.Combine(AppContext.BaseDirectory, $"Ministries.{program}.runtimeconfig.json");
        var start = new ProcessStartInfo("dotnet", ["exec", "--runtimeconfig", runtime, typeof(Child).Assembly.Location, .. args])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        if (serverGc is { } server)
            start.Environment["DOTNET_gcServer"] = server ? "1" : "0";
        start.Environment.Remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        if (!tuned)
            foreach (var setting in new[] { "DOTNET_TieredPGO", "DOTNET_TC_CallCountingDelayMs" })
                start.Environment.Remove(setting);
        Began = Stopwatch.GetTimestamp();
        _process = new Process { StartInfo = start, EnableRaisingEvents = true };
        _process.OutputDataReceived += (_, e) =>
        {
            if (e.Data?.Split(' ') is ["grown", var size, var at])
            {
                lock (_growth)
                {
                    _growth.Add((ulong.Parse(size, CultureInfo.InvariantCulture), long.Parse(at, CultureInfo.InvariantCulture)));
                    Interlocked.Exchange(ref _grown, new(TaskCreationOptions.RunContinuationsAsynchronously)).SetResult();
                }
            }
            if (e.Data?.StartsWith("serves ", StringComparison.Ordinal) != true)
                return;
            _serves.TrySetResult(new Uri(e.Data["serves ".Length..]));
        };
        _process.ErrorDataReceived += (_, e) =>
        {
            if (e.Data is null)
                return;
            _errors.Enqueue(e.Data);
            if (_errors.Count > 50)
                _errors.TryDequeue(out var _);
        };
        _process.Exited += (_, _) => _serves.TrySetException(new InvalidOperationException($"{name} ended:\n{string.Join('\n', _errors)}"));
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public string Name { get; }
    public Task Started => _serves.Task;
    public Uri Address => _serves.Task.Result;

    /// <summary>When the process was started, as a <see cref="Stopwatch"/> timestamp.</summary>
    public long Began { get; }

    public string Database { get; set; } = "";

    /// <summary>The size that it reported last.</summary>
    public ulong Size
    {
        get
        {
            lock (_growth)
                return _growth.Count == 0 ? 0 : _growth[^1].Size;
        }
    }

    /// <summary>Tells it something.</summary>
    public void Order(string order)
    {
        _process.StandardInput.WriteLine(order);
        _process.StandardInput.Flush();
    }

    /// <summary>When it reached a size, as a <see cref="Stopwatch"/> timestamp.</summary>
    public async Task<long> CameTo(ulong size)
    {
        while (true)
        {
            Task grown;
            lock (_growth)
            {
                var at = _growth.FindIndex(g => g.Size >= size);
                if (at >= 0)
                    return _growth[at].At;
                grown = _grown.Task;
            }
            await grown.WaitAsync(TimeSpan.FromSeconds(60));
        }
    }

    /// <summary>Its last lines on standard error.</summary>
    public IReadOnlyCollection<string> Errors => _errors;

    /// <summary>The processor time that it has taken so far, user and system.</summary>
    public TimeSpan ProcessorTime
    {
        get
        {
            _process.Refresh();
            return _process.TotalProcessorTime;
        }
    }

    /// <summary>Its resident memory in bytes.</summary>
    public long Memory
    {
        get
        {
            _process.Refresh();
            return _process.WorkingSet64;
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_ended)
            return;
        _ended = true;
        if (!_process.HasExited)
        {
            _process.StandardInput.Close();
            using var late = new CancellationTokenSource(TimeSpan.FromSeconds(10));
            try
            {
                await _process.WaitForExitAsync(late.Token);
            }
            catch (OperationCanceledException)
            {
                _process.Kill();
            }
        }
        _process.Dispose();
    }
}

/// <summary>Makes writes and checks every answer to them.</summary>
/// <param name="bench">The keys.</param>
/// <param name="receipts">Whether the answers have receipts.</param>
internal sealed class Writer(Bench bench, bool receipts)
{
    private readonly IReadOnlyList<CheckpointKey> _keys = [.. KeyHistory.CheckpointKeysOf(bench.Agreement, "calllog")];
    private readonly ConcurrentDictionary<string, Checkpoint> _checkpoints = new();

    /// <summary>Logs a call, as a ministry does, and checks the answer.</summary>
    public async Task Log(CallInvoker invoker, CancellationToken cancel, Action<LogCallRequest>? but = null)
    {
        var request = Request();
        but?.Invoke(request);
        Check(await new CallLogClient(invoker).LogCallAsync(request, cancellationToken: cancel));
    }

    /// <summary>Checks an answer, its receipt included.</summary>
    public void Check(LogCallResponse response)
    {
        if (
            !response.Call.StartsWith("call_", StringComparison.Ordinal)
            || response.State != CallState.OneSided
            || response.Etag.Length == 0
        )
            throw new InvalidOperationException($"a wrong answer: {response}");
        var wrong =
            receipts ? Wrong(response.Receipt)
            : response.Receipt is null ? null
            : "none was expected";
        if (wrong is not null)
            throw new InvalidOperationException($"a wrong receipt: {wrong}");
    }

    /// <summary>A request that logs a call, each time with a new id.</summary>
    public static LogCallRequest Request() =>
        new()
        {
            RequestId = Guid.NewGuid().ToString(),
            Case = Hosts.Case,
            Counterpart = "ua/mfa",
            Actor = new Actor
            {
                Office = "minister",
                Official = "o-1",
                Authority = "order-7",
            },
            Account = new Account
            {
                StartTime = new ZonedTime
                {
                    Time = new Timestamp { Seconds = 1742169600 },
                    TimeZone = "Asia/Seoul",
                },
                Channel = Channel.Telephone,
                Attendees =
                {
                    new Attendee
                    {
                        Participant = "kr/mfa",
                        Office = "minister",
                        Official = "kr-1",
                    },
                    new Attendee { Participant = "ua/mfa", Office = "minister" },
                },
                Subjects = { Subject.Citizenship, Subject.Transfer },
            },
        };

    // Does what Receipts.Wrong does, but verifies a checkpoint that several receipts share only once.
    private string? Wrong(Receipt? receipt)
    {
        if (receipt is not { Service: "calllog", EntryHash.Length: 32 })
            return "there is none, or another service's";
        if (
            !Proofs.Includes(
                SHA256.HashData([0, .. receipt.EntryHash.Span]),
                receipt.Position,
                receipt.TreeSize,
                receipt.RootHash.Span,
                [.. receipt.InclusionProof.Select(h => h.ToByteArray())]
            )
        )
            return "its proof does not lead to the root";
        if (!_checkpoints.TryGetValue(receipt.Checkpoint, out var signed))
        {
            if (_keys.Select(k => k.Verify(receipt.Checkpoint)).FirstOrDefault(c => c is not null) is not { } verified)
                return "its checkpoint is not signed by the service";
            if (_checkpoints.Count > 1000)
                _checkpoints.Clear();
            _checkpoints[receipt.Checkpoint] = signed = verified;
        }
        return signed.Size == receipt.TreeSize && signed.Root.AsSpan().SequenceEqual(receipt.RootHash.Span)
            ? null
            : "its checkpoint is of another tree";
    }
}
