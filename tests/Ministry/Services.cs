using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.AspNetCore.Server;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.CallLog.V1;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Ministry.Tests;

/// <summary>The three services, each run by its real host, with a ledger in a file and a broker in memory; and the case of two
/// prisoners, as Ukraine opens it.</summary>
public sealed class Services : IAsyncLifetime
{
    private readonly Dictionary<string, WebApplication> _hosts = [];
    private readonly List<MinistryClient> _clients = [];
    private MemoryBroker? _broker;

    public string Folder { get; } = Directory.CreateTempSubdirectory("ministry").FullName;

    public IReadOnlyDictionary<string, Uri> Addresses { get; } =
        Contract.Services.ToDictionary(s => s, _ => new Uri($"https://127.0.0.1:{Ports.Free()}"));

    public static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>The references of both prisoners of the case.</summary>
    public List<string> Prisoners { get; } = [];

    public string Case { get; private set; } = "";

    /// <summary>Changes the settings of a service.</summary>
    public Func<string, Settings, Settings> Set { get; init; } = (_, settings) => settings;

    /// <summary>Changes the first version of the agreement.</summary>
    public Func<Agreement, Agreement> Agreed { get; init; } = agreement => agreement;

    /// <summary>The running services by name.</summary>
    public IReadOnlyDictionary<string, WebApplication> Hosts => _hosts;

    /// <summary>The entries that the services keep back from everybody who follows; null: none.</summary>
    public Func<EntryHeader, bool>? KeptBack { get; set; }

    /// <summary>Changes an entry that the services show to those who follow; null: they show what they have.</summary>
    public Func<Entry, Entry>? Forged { get; set; }

    /// <summary>Looks at a request before its service does. The service waits for it, and it may refuse; null: nothing.</summary>
    public Func<IMessage, Task>? Before { get; set; }

    /// <summary>Changes an answer to that of a service with a later contract; null: answers stay unchanged.</summary>
    public Func<IMessage, IMessage>? Later { get; set; }

    public static Actor Actor =>
        new()
        {
            Office = "consular-department",
            Official = "o-17",
            Authority = "order-12",
        };

    /// <summary>The prisoners' invented identity.</summary>
    public static PersonIdentity Identity =>
        new()
        {
            Name = new PersonName { Original = "Ga Na-da", Script = "Latn" },
            Rank = "private",
            BirthDate = new PartialDate { Year = 2005 },
            BirthPlace = "An invented town",
        };

    public async ValueTask InitializeAsync()
    {
        Pki.Init(Folder, Agreed(StandardAgreement.Read()), TimeProvider.System, SealingKeyFile.Make);
        _broker = new MemoryBroker();
        foreach (var service in Contract.Services)
            await Start(service);
        using var headquarters = As("ua/coordination-hq");
        var opened = await headquarters.Custody.OpenCaseAsync(new OpenCaseRequest { Actor = Actor }, cancellationToken: Cancel);
        Case = opened.Case;
        var etag = opened.Etag;
        foreach (
            var (participant, part) in ((string, Part)[])
                [("ua/mfa", Part.DetainingPower), ("kr/mfa", Part.RequestingState), ("icrc", Part.NeutralObserver)]
        )
            etag = (
                await headquarters.Custody.AdmitPartyAsync(
                    new AdmitPartyRequest
                    {
                        Actor = Actor,
                        Etag = etag,
                        Case = Case,
                        Participant = participant,
                        Part = part,
                    },
                    cancellationToken: Cancel
                )
            ).Etag;
        for (var i = 0; i < 2; i++)
        {
            var seen = await headquarters.Custody.GetCaseAsync(new GetCaseRequest { Case = Case }, cancellationToken: Cancel);
            var request = new RegisterPrisonerRequest
            {
                Actor = Actor,
                Etag = seen.Etag,
                Case = Case,
                Status = CustodyState.Registered,
                CaptureTime = Timestamp.FromDateTime(new DateTime(2025, 1, 9, 0, 0, 0, DateTimeKind.Utc)),
            };
            await headquarters.Seal(request, Identity, Cancel);
            Prisoners.Add((await headquarters.Custody.RegisterPrisonerAsync(request, cancellationToken: Cancel)).Prisoner);
        }
        // The call log has a complete copy of the case once it knows the second prisoner.
        using var ministry = As("kr/mfa");
        await Until(async () => await Knows(ministry));
    }

    /// <summary>A client for a participant, with the files that were made for it.</summary>
    public MinistryClient As(string participant, Func<MinistrySettings, MinistrySettings>? but = null)
    {
        var settings = MinistrySettings.In(Folder, participant, Addresses);
        var client = new MinistryClient(but is null ? settings : but(settings));
        _clients.Add(client);
        return client;
    }

    /// <summary>The request with which kr/mfa logs the call of 17 March.</summary>
    public LogCallRequest Call() =>
        new()
        {
            Actor = Actor,
            Case = Case,
            Counterpart = "ua/mfa",
            Account = new Account
            {
                StartTime = new ZonedTime
                {
                    Time = Timestamp.FromDateTime(new DateTime(2025, 3, 17, 8, 0, 0, DateTimeKind.Utc)),
                    TimeZone = "Asia/Seoul",
                },
                Channel = Channel.Telephone,
                Attendees =
                {
                    new Attendee { Participant = "kr/mfa", Office = "minister" },
                },
                Subjects = { Subject.Citizenship, Subject.Transfer },
                Prisoners = { Prisoners },
                Commitments =
                {
                    new CommitmentTerms
                    {
                        Participant = "kr/mfa",
                        Kind = CommitmentKind.RequestTransfer,
                        Prisoners = { Prisoners },
                        Route = Types.V1.Route.Article12Transfer,
                        Destination = "KR",
                    },
                },
            },
        };

    public async Task Start(string service)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.Services.AddSingleton(this);
        builder.Services.Configure<GrpcServiceOptions>(o => o.Interceptors.Add<Answering>());
        var host = await ServiceHost.Build(
            service switch
            {
                "calllog" => CallLog.CallLogService.Definition,
                "custody" => Custody.CustodyService.Definition,
                _ => Consular.ConsularService.Definition,
            },
            Set(service, ServiceSetup.SettingsIn(Folder, service, Addresses[service]) with { Peers = Addresses }),
            builder,
            _broker,
            Cancel
        );
        await host.StartAsync(Cancel);
        _hosts[service] = host;
    }

    public async Task Stop(string service)
    {
        await _hosts[service].StopAsync(CancellationToken.None);
        await _hosts[service].DisposeAsync();
        _hosts.Remove(service);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var client in _clients)
            client.Dispose();
        foreach (var service in _hosts.Keys.ToArray())
            await Stop(service);
        if (_broker is not null)
            await _broker.DisposeAsync();
        Directory.Delete(Folder, recursive: true);
    }

    /// <summary>Waits until something is so, a minute at most.</summary>
    public static async Task Until(Func<Task<bool>> so)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        deadline.CancelAfter(TimeSpan.FromMinutes(1));
        while (!await so())
            await Task.Delay(50, deadline.Token);
    }

    private sealed class Keeping<T>(Services services, IServerStreamWriter<T> stream) : IServerStreamWriter<T>
    {
        public WriteOptions? WriteOptions
        {
            get => stream.WriteOptions;
            set => stream.WriteOptions = value;
        }

        public Task WriteAsync(T message) => IsKept(message) ? Task.CompletedTask : stream.WriteAsync(Shown(message));

        public Task WriteAsync(T message, CancellationToken cancellationToken) =>
            IsKept(message) ? Task.CompletedTask : stream.WriteAsync(Shown(message), cancellationToken);

        // Followers may be sent one object.
        private T Shown(T message) =>
            services.Forged is { } forged && message is FollowEntriesResponse { Entry: { } entry } response
                ? (T)(object)new FollowEntriesResponse { Entry = forged(entry.Clone()), NextPosition = response.NextPosition }
                : message;

        private bool IsKept(T message) =>
            message is FollowEntriesResponse { Entry: { } entry }
            && services.KeptBack?.Invoke(EntryHeader.Parser.ParseFrom(entry.Header)) == true;
    }

    private sealed class Answering(Services services) : Interceptor
    {
        public override Task ServerStreamingServerHandler<TRequest, TResponse>(
            TRequest request,
            IServerStreamWriter<TResponse> stream,
            ServerCallContext context,
            ServerStreamingServerMethod<TRequest, TResponse> continuation
        ) => continuation(request, new Keeping<TResponse>(services, stream), context);

        public override async Task<TResponse> UnaryServerHandler<TRequest, TResponse>(
            TRequest request,
            ServerCallContext context,
            UnaryServerMethod<TRequest, TResponse> continuation
        )
        {
            if (services.Before is { } before)
                await before((IMessage)request);
            var answer = await continuation(request, context);
            return services.Later is { } later ? (TResponse)later((IMessage)answer) : answer;
        }
    }

    // Tries a write that is always refused, but for another reason once the case and both prisoners are known. So there is nothing to clean
    // up.
    private async Task<bool> Knows(MinistryClient ministry)
    {
        var request = Call();
        request.Account.StartTime.Time = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow.AddDays(1));
        try
        {
            await ministry.CallLog.LogCallAsync(request, cancellationToken: Cancel);
            return false;
        }
        catch (RefusedException refused)
        {
            return refused.Reason == "TIME_OUT_OF_RANGE";
        }
    }
}
