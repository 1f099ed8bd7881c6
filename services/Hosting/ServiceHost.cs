using System.Diagnostics;
using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Ministries.Hosting.Bus;
using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Serving;
using Ministries.Trust;

namespace Ministries.Hosting;

/// <summary>Runs a service: the one line of every <c>Program.cs</c>.</summary>
public static partial class ServiceHost
{
    /// <summary>Exit code: stopped as asked (SIGTERM, SIGINT), all that was accepted is committed.</summary>
    public const int Stopped = 0;

    /// <summary>Exit code: an unexpected error, of which the log has type and place; or the database cannot be reached, or another process
    /// uses a port, of which the log has the setting. Starting the process again may help.</summary>
    public const int Failed = 1;

    /// <summary>Exit code: the settings, or what they name, are wrong: a file, a folder, the database's role. Standard error lists all
    /// faults at once, each with its setting. Starting the process again does not help.</summary>
    public const int WrongSettings = 2;

    /// <summary>Exit code: the ledger cannot be served: it is behind its last checkpoint, inconsistent with it, or of a newer form.
    /// Starting the process again does not help.</summary>
    public const int LedgerRefused = 3;

    /// <summary>Exit code: the broker's client stalled while the broker answers. Starting the process again helps.</summary>
    public const int Stalled = 4;

    /// <summary>Exit code: background work failed and could not be restarted, so commands would be accepted and never decided. The log
    /// has the type of its exception. Starting the process again helps.</summary>
    public const int BackgroundFailed = 5;

    /// <summary>Exit code: the ledger's last entry is ahead of this machine's clock, so every new entry would get that entry's time.
    /// Starting again helps once the clock is right.</summary>
    public const int ClockBehind = 6;

    /// <summary>The health service's name for readiness; the empty name says that the process is alive.</summary>
    public const string Ready = "ready";

    /// <summary>The health service's name for whether calls are served: as <see cref="Ready"/>, but for the broker, without which calls are
    /// served and events wait in the ledger.</summary>
    public const string Serving = "ledger";

    /// <summary>The word with which the verb <c>health</c> asks whether the process answers at all.</summary>
    public const string Alive = "alive";

    /// <summary>Runs the service until it is told to stop.</summary>
    /// <remarks>At SIGTERM it says that it is not ready, takes no more connections, finishes the calls that run and what they queued,
    /// flushes the relay, all within <see cref="Settings.Drain"/>. Events that are left then are in the ledger and are relayed after the
    /// next start.</remarks>
    /// <param name="args">The command line: settings as <c>--Name=value</c>; after the word <c>health</c>, the running service is
    /// asked whether it is ready instead: exit code 0 where it is, 1 where it is not. <c>health ledger</c> asks whether it serves calls,
    /// and <c>health alive</c> whether it answers.</param>
    /// <param name="service">The service.</param>
    /// <param name="errors">Receives why it does not start, one line for each fault; null: standard error.</param>
    /// <returns>The process's exit code.</returns>
    public static async Task<int> Run(string[] args, Service service, TextWriter? errors = null)
    {
        ProcessLimits.KeepMemoryOffDisks();
        errors ??= Console.Error;
        var health = args is ["health", ..];
        var asked = args is ["health", Alive or Serving, ..] ? args[1] : Ready;
        var (builder, unread) = Configure(health ? args[(asked == Ready ? 1 : 2)..] : args);
        var (settings, wrong) = Settings.Gather(builder.Configuration, service.Reactions.Select(r => r.Producer).Distinct());
        var check = new StartCheck(settings);
        if (!health)
            await check.Run(CancellationToken.None);
        List<string> lasting = [.. unread, .. wrong, .. check.Faults];
        foreach (var fault in (string[])[.. lasting, .. check.Taken])
            await errors.WriteLineAsync($"{service.Name}: {fault}");
        if (lasting.Count > 0)
            return WrongSettings;
        if (check.Taken.Count > 0)
            return Failed;
        try
        {
            return health ? await HealthVerb.Run(settings, asked) : await Serve(service, settings, builder, errors);
        }
        catch (Exception e) when (e is AgreementRefusedException or KeyFileExposedException)
        {
            await errors.WriteLineAsync($"{service.Name}: {e.Message}");
            return WrongSettings;
        }
        catch (LedgerInconsistentException e)
        {
            await errors.WriteLineAsync($"{service.Name}: {e.Message}");
            return LedgerRefused;
        }
        catch (ClockNotTrustedException e)
        {
            await errors.WriteLineAsync($"{service.Name}: {e.Message}");
            return ClockBehind;
        }
        catch (LedgerUnavailableException e)
        {
            await errors.WriteLineAsync($"{service.Name}: {string.Join(": ", Messages(e))}");
            return Failed;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or System.Security.Cryptography.CryptographicException)
        {
            // The message names a file or an address that is in use. It contains nothing of a record.
            await errors.WriteLineAsync($"{service.Name}: {string.Join(": ", Messages(e))}");
            return Failed;
        }
        catch (Exception e)
        {
            // Only its type and place are logged: the message of an unexpected exception may contain what is in a record.
            await errors.WriteLineAsync($"{service.Name}: {e.GetType().FullName}\n{e.StackTrace}");
            return Failed;
        }
    }

    // What of the sources of settings cannot be read is told with everything else that is wrong.
    private static (WebApplicationBuilder Builder, IReadOnlyList<string> Unread) Configure(string[] args)
    {
        var unread = new List<string>();
        WebApplicationBuilder builder;
        try
        {
            builder = WebApplication.CreateSlimBuilder(args);
        }
        catch (Exception e) when (e is InvalidDataException or FormatException or IOException or UnauthorizedAccessException)
        {
            unread.Add(string.Join(": ", Messages(e)));
            builder = WebApplication.CreateEmptyBuilder(new());
            builder.Configuration.AddEnvironmentVariables().AddCommandLine(args);
        }
        // One file for each setting, so that a secret need not stand in the environment.
        if (builder.Configuration["SettingsFolder"] is { Length: > 0 } folder)
            try
            {
                builder.Configuration.AddKeyPerFile(Path.GetFullPath(folder), optional: true);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
            {
                unread.Add($"SettingsFolder: {folder}: {e.Message}");
            }
        builder.Logging.AddSimpleConsole(o =>
            (o.SingleLine, o.UseUtcTimestamp, o.TimestampFormat) = (true, true, "yyyy-MM-ddTHH:mm:ss.fffZ ")
        );
        return (builder, unread);
    }

    private static async Task<int> Serve(Service service, Settings settings, WebApplicationBuilder builder, TextWriter errors)
    {
        await using var host = await Build(service, settings, builder);
        var life = host.Services.GetRequiredService<Lifecycle>();
        var failed = await SupervisedService.Run(host, () => host.RunAsync());
        if (life.ExitCode != Stopped || failed is null)
            return life.ExitCode;
        await errors.WriteLineAsync($"{service.Name}: {failed}");
        return BackgroundFailed;
    }

    /// <summary>Opens the service's ledger and builds its host without starting it. Disposing the host drains and closes the
    /// ledger.</summary>
    /// <param name="service">The service.</param>
    /// <param name="settings">Its settings.</param>
    /// <param name="builder">What to build on; null: a new one.</param>
    /// <param name="memory">The process's broker, where the settings say <c>memory:</c>; the caller disposes it after the hosts.
    /// </param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="AgreementRefusedException">The agreement cannot be read or contradicts itself.</exception>
    /// <exception cref="LedgerInconsistentException">The database must not be served from.</exception>
    /// <exception cref="LedgerUnavailableException">The database cannot be reached.</exception>
    /// <exception cref="ClockNotTrustedException">The ledger's last entry is ahead of this machine's clock.</exception>
    public static async Task<WebApplication> Build(
        Service service,
        Settings settings,
        WebApplicationBuilder? builder = null,
        MemoryBroker? memory = null,
        CancellationToken cancel = default
    )
    {
        builder ??= WebApplication.CreateSlimBuilder();
        builder
            .Logging.AddFilter("Microsoft", LogLevel.Warning)
            .AddFilter("Grpc", LogLevel.Warning)
            // Each health check of a service that is not ready would log an error; Lifecycle logs it once.
            .AddFilter("Microsoft.Extensions.Diagnostics.HealthChecks", LogLevel.None)
            // It would log the message of the exception that ends the host, which may hold personal data; Run logs its type.
            .AddFilter("Microsoft.Extensions.Hosting.Internal.Host", LogLevel.None)
            // While it could log, it makes a span for each request; but calls have spans of their own (CallSpans).
            .AddFilter("Microsoft.AspNetCore.Hosting.Diagnostics", LogLevel.None);
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            foreach (var address in AddressesOf(settings.Listen))
                kestrel.Listen(address, listen => listen.UseIdentity());
            if (settings.Metrics is { } metrics)
                foreach (var address in Addresses.OwnOf(metrics))
                    kestrel.Listen(address, listen => listen.ForMetrics());
        });
        var options = new BusOptions
        {
            Broker = settings.Broker,
            FurtherBrokers = settings.FurtherBrokers,
            BrokerAuthority = settings.BrokerAuthority,
        };
        var (ledger, inquired) = await OpenLedger(service, settings, options, cancel);
        AddServices(builder.Services, service, settings, ledger, options, memory);

        var host = builder.Build();
        host.UseMetrics(settings);
        host.UseEdge();
        service.Map(host);
        host.MapLedger();
        host.MapLog();
        host.MapBus();
        host.MapGrpcHealthChecksService().Guarded(host);
        if (settings.Reflection)
            host.MapGrpcReflectionService().Guarded(host);
        Access.DemandPolicies(host);
        LogLife(host, service.Name, ledger.OwnsTables && !settings.Ledger.StartsWith("sqlite:", StringComparison.Ordinal));
        LogAsked(host, service.Name, inquired);
        EndWith(host, ledger);
        host.Services.GetRequiredService<Lifecycle>().Say("ledger", true);
        return host;
    }

    private static void AddServices(
        IServiceCollection services,
        Service service,
        Settings settings,
        ServiceLedger ledger,
        BusOptions options,
        MemoryBroker? memory
    )
    {
        services.Configure<HostOptions>(o =>
        {
            o.ShutdownTimeout = settings.Drain;
            // A SupervisedService restarts itself and never gets here. Any other background service may be one that calls depend on, so its
            // failure stops the host.
            o.BackgroundServiceExceptionBehavior = BackgroundServiceExceptionBehavior.StopHost;
        });
        services.AddSingleton(_ => ledger);
        services.AddSingleton(ledger.Secrets);
        services.AddSingleton(service);
        services.AddSingleton(settings);
        services.AddSingleton(new PageTokens(ledger.Key.Secret("page-tokens")));
        services.AddSingleton(TimeProvider.System);
        services.AddSingleton<Lifecycle>();
        services.AddHostedService<LedgerWatch>();
        services.AddIdentity();
        services.AddWrites();
        services.AddWitnessing();
        services.AddBus(options, memory);
        AddHealth(services);
        if (settings.Reflection)
            services.AddGrpcReflection();
        Telemetry.Add(services, service.Name, settings);
        service.Register?.Invoke(services);
    }

    // Ends the process when the ledger's committing thread has failed, because calls would wait for ever.
    private static void EndWith(WebApplication host, ServiceLedger ledger)
    {
        var life = host.Services.GetRequiredService<Lifecycle>();
        var log = host.Services.GetRequiredService<ILoggerFactory>().CreateLogger("Ministries.Host");
        _ = ledger.Committing.ContinueWith(
            ended =>
            {
                LogLedgerFailed(log, ledger.Service, ended.Exception!.InnerException!.GetType().Name);
                life.End(BackgroundFailed);
            },
            CancellationToken.None,
            TaskContinuationOptions.OnlyOnFaulted,
            TaskScheduler.Default
        );
    }

    private static async Task<(ServiceLedger Ledger, Inquired Inquired)> OpenLedger(
        Service service,
        Settings settings,
        BusOptions options,
        CancellationToken cancel
    )
    {
        var parsed = AgreementFile.Load(settings.Agreement);
        var agreement = parsed.Agreement;
        var inquired = await StartInquiry.Ask(service, settings, options, parsed, cancel);
        var key = KeySource.Open(settings.CheckpointKey, settings.SecretsFolder);
        var ledger = await ServiceLedger.Open(
            new LedgerOptions
            {
                Service = service.Name,
                Connection = settings.Ledger,
                Kinds = [.. service.Streams, .. BusRegistration.Streams, Agreements.Kind, Disclosures.Kind, Shares.Kind],
                CheckpointFile = settings.Checkpoint,
                ExpectReplication = settings.ExpectReplication,
                CoverInterval = settings.CoverInterval,
                CoverLeaves = settings.CoverLeaves,
                Key = CheckpointKey.Of($"{agreement.TrustDomain}/{service.Name}", key),
                Judge = LogKeys.Of(agreement, service.Name).Judging(TimeProvider.System),
                Heard = inquired.Heard,
                // The service's logger does not exist before its ledger is open.
                Progress = Console.Error.WriteLine,
            },
            cancel
        );
        return (ledger, inquired);
    }

    // The database client gives the cause, such as a certificate that is not accepted, in its innermost exception.
    private static IEnumerable<string> Messages(Exception e)
    {
        for (Exception? inner = e; inner is not null; inner = inner.InnerException)
            yield return inner.Message.TrimEnd('.', ' ');
    }

    /// <summary>Where <c>Listen</c> listens. For a host's name that is every address of the machine, of IPv6 and IPv4.</summary>
    internal static IReadOnlyList<IPEndPoint> AddressesOf(Uri listen) => [Addresses.EveryOf(listen)];

    private static void AddHealth(IServiceCollection services)
    {
        services
            .AddGrpcHealthChecks(o =>
            {
                o.Services.Map("", check => check.Name == Alive);
                o.Services.Map(Ready, check => check.Name == Ready);
                o.Services.Map(Serving, check => check.Name == Serving);
            })
            .AddCheck(Alive, () => HealthCheckResult.Healthy())
            .AddCheck<ServesCalls>(Serving)
            .AddCheck<Lifecycle>(Ready);
        services.Configure<HealthCheckPublisherOptions>(o => (o.Delay, o.Period) = (TimeSpan.Zero, TimeSpan.FromSeconds(1)));
    }

    private static void LogLife(WebApplication host, string service, bool owns)
    {
        var log = host.Services.GetRequiredService<ILoggerFactory>().CreateLogger("Ministries.Host");
        var started = Stopwatch.GetTimestamp();
        if (owns)
            LogOwns(log, service);
        var limits = host.Services.GetRequiredService<EdgeLimits>();
        if (ProcessLimits.Descriptors() is { } most && limits.MaxConnections < new EdgeLimits().MaxConnections)
            LogFew(log, service, most, limits.MaxConnections, limits.MaxUnidentified);
        host.Lifetime.ApplicationStarted.Register(() =>
            LogServing(log, service, string.Join(", ", host.Urls), Stopwatch.GetElapsedTime(started).TotalMilliseconds)
        );
        host.Lifetime.ApplicationStopping.Register(() => LogStopping(log, service));
        host.Lifetime.ApplicationStopped.Register(() => LogStopped(log, service));
    }

    private static void LogAsked(WebApplication host, string service, Inquired inquired)
    {
        var log = host.Services.GetRequiredService<ILoggerFactory>().CreateLogger("Ministries.Host");
        if (inquired.Alone)
            LogAlone(log, service, StartInquiry.Patience.TotalSeconds);
        else
            LogInquired(log, service, inquired.Answered, inquired.Witnesses, inquired.Replicas ?? 0);
    }

    [LoggerMessage(
        7,
        LogLevel.Warning,
        "{Service} serves what nobody else has confirmed: no witness and no other replica answered within {Seconds} s. If the database has "
            + "lost its last entries, that is found out only when one of them can be reached"
    )]
    private static partial void LogAlone(ILogger log, string service, double seconds);

    [LoggerMessage(
        8,
        LogLevel.Information,
        "{Service} asked before it opened its ledger: {Answered} of {Witnesses} witnesses and {Replicas} other replicas answered, and none "
            + "knows more"
    )]
    private static partial void LogInquired(ILogger log, string service, int answered, int witnesses, int replicas);

    [LoggerMessage(
        5,
        LogLevel.Warning,
        "the database role of {Service} owns the tables, so it could change what was recorded. `ministry deployment tables` "
            + "gives the tables to another role"
    )]
    private static partial void LogOwns(ILogger log, string service);

    [LoggerMessage(
        6,
        LogLevel.Warning,
        "{Service} may have {Descriptors} descriptors (ulimit -n), so it serves at most {Served} connections and holds {Unidentified} others"
    )]
    private static partial void LogFew(ILogger log, string service, int descriptors, int served, int unidentified);

    [LoggerMessage(1, LogLevel.Information, "{Service} serves at {Addresses} after {Milliseconds:F0} ms")]
    private static partial void LogServing(ILogger log, string service, string addresses, double milliseconds);

    [LoggerMessage(2, LogLevel.Information, "{Service} was told to stop and finishes the calls that it has begun")]
    private static partial void LogStopping(ILogger log, string service);

    [LoggerMessage(4, LogLevel.Critical, "{Service}: the thread that commits has failed, and the process ends: {Error}")]
    private static partial void LogLedgerFailed(ILogger log, string service, string error);

    [LoggerMessage(3, LogLevel.Information, "{Service} has stopped")]
    private static partial void LogStopped(ILogger log, string service);
}
