using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Grpc.Net.Client;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Operations.V1;
using Ministries.Sealing;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Client;

/// <summary>Who a system is, and where the services are.</summary>
public sealed record MinistrySettings
{
    /// <summary>File of the system's certificate chain (PEM).</summary>
    public required string Certificate { get; init; }

    /// <summary>Where the certificate's key is (PEM): a file, or <c>secrets:NAME</c>.</summary>
    public required string CertificateKey { get; init; }

    /// <summary>File of the agreement, which says whose certificates are the services'.</summary>
    public required string Agreement { get; init; }

    /// <summary>Where the Ed25519 key is that signs the participant's writes (<see cref="KeySource"/>): a file (PKCS #8, PEM),
    /// <c>secrets:NAME</c>, or <c>pkcs11:…</c> of a key in a token. null: requests are sent unsigned, so only reads succeed.</summary>
    public string? RequestsKey { get; init; }

    /// <summary>Files of the participant's keys for sealing (<see cref="SealingKeyFile"/>), ended ones too: what was sealed to a key is
    /// opened with that key. None: nothing can be opened. Sealing needs none.</summary>
    public IReadOnlyList<string> SealingKeys { get; init; } = [];

    /// <summary>The folder of <c>secrets:NAME</c>. Default: <c>/run/secrets</c>.</summary>
    public string SecretsFolder { get; init; } = KeySource.DefaultSecretsFolder;

    /// <summary>Folder in which the receipt of each accepted write is kept, as JSON in <c>&lt;service&gt;-&lt;position&gt;.json</c>,
    /// without what showed its entry (<see cref="Receipts.Shorten"/>); null: they are checked and not kept.</summary>
    public string? ReceiptFolder { get; init; }

    /// <summary>Folder for the checkpoints of each service that were seen, so that a log that contradicts one is found out after a restart
    /// too. It also keeps the version of the agreement that was trusted last (<see cref="AgreementFile.Trust"/>). null: both are kept only
    /// as long as the client lives.</summary>
    public string? SeenFolder { get; init; }

    /// <summary>After how many new checkpoints in receipts the service's log is audited in the background
    /// (<see cref="MinistryClient.Audit"/>). Default: 256; zero: only when it is asked for.</summary>
    public int AuditEvery { get; init; } = 256;

    /// <summary>The services' addresses by name, such as <c>https://127.0.0.1:7101</c> for <c>calllog</c>.</summary>
    public required IReadOnlyDictionary<string, Uri> Services { get; init; }

    /// <summary>The addresses of each service's further replicas, by the service's name. Calls go to those that can be reached.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<Uri>> FurtherAddresses { get; init; } = new Dictionary<string, IReadOnlyList<Uri>>();

    /// <summary>Whether the caller's trace context is sent to the services. False: each call begins a new trace at the service.</summary>
    public bool PassesTrace { get; init; } = true;

    /// <summary>Writes the trace context of a call, where <see cref="PassesTrace"/>; null: the framework's own.</summary>
    internal DistributedContextPropagator? Propagator { get; init; }

    /// <summary>Called once for each changed file that is not taken over, with the reason: a certificate, a key for requests or an
    /// agreement. What was read before stays in use, and the file is tried again. Default: nothing is done.</summary>
    public Action<string> Complain { get; init; } = _ => { };

    private readonly TimeSpan? _deadline,
        _writeDeadline;

    /// <summary>How long a call that reads and names no deadline of its own may take, all attempts together. Default: 10 s.</summary>
    public TimeSpan Deadline
    {
        get => _deadline ?? TimeSpan.FromSeconds(10);
        init => _deadline = value;
    }

    /// <summary>How long a write that names no deadline of its own may take, all attempts together. So long it is repeated while the
    /// service cannot decide it, such as until another database server is the primary. Default: <see cref="Deadline"/> where that is set,
    /// else 30 s, twice as long as that took where it was measured.</summary>
    public TimeSpan WriteDeadline
    {
        get => _writeDeadline ?? _deadline ?? TimeSpan.FromSeconds(30);
        init => _writeDeadline = value;
    }

    /// <summary>Whether a write is repeated until its deadline. False: five attempts are made, and the caller repeats it himself.</summary>
    internal bool RepeatsWrites { get; init; } = true;

    /// <summary>The settings that the environment names, as the <c>ministry</c> command reads them: <c>MINISTRIES_FOLDER</c>, the folder
    /// that <see cref="Pki.Init"/> made; <c>MINISTRIES_AS</c>, the participant, such as <c>kr/mfa</c>; and <c>MINISTRIES_CALLLOG</c>,
    /// <c>MINISTRIES_CUSTODY</c> and <c>MINISTRIES_CONSULAR</c>, the services' addresses, those of several replicas with commas between
    /// them. A service whose variable is not set cannot be called.</summary>
    /// <exception cref="FormatException">A variable that is needed is not set, or an address is none.</exception>
    public static MinistrySettings FromEnvironment()
    {
        var services = Contract
            .Services.Select(s => (Name: s, Variable: $"MINISTRIES_{s.ToUpperInvariant()}"))
            .Where(s => Environment.GetEnvironmentVariable(s.Variable) is { Length: > 0 })
            .ToDictionary(
                s => s.Name,
                s =>
                    ServiceAddresses.Read(Needed(s.Variable))
                    ?? throw new FormatException(
                        $"{s.Variable} must hold addresses such as https://127.0.0.1:7101; separate several with commas"
                    )
            );
        return In(Needed("MINISTRIES_FOLDER"), Needed("MINISTRIES_AS"), services);

        static string Needed(string variable) =>
            Environment.GetEnvironmentVariable(variable) is { Length: > 0 } value
                ? value
                : throw new FormatException($"{variable} is not set");
    }

    /// <summary>The same, of services that may have several replicas.</summary>
    internal static MinistrySettings In(string folder, string participant, IReadOnlyDictionary<string, IReadOnlyList<Uri>> services) =>
        In(folder, participant, services.ToDictionary(s => s.Key, s => s.Value[0])) with
        {
            FurtherAddresses = services.ToDictionary(s => s.Key, s => (IReadOnlyList<Uri>)[.. s.Value.Skip(1)]),
        };

    /// <summary>The settings of a participant for whom <see cref="Pki.Init"/> made the files.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="participant">The participant, such as <c>kr/mfa</c>.</param>
    /// <param name="services">The services' addresses by name.</param>
    public static MinistrySettings In(string folder, string participant, IReadOnlyDictionary<string, Uri> services)
    {
        var home = Path.Combine(folder, participant);
        var key = Path.Combine(home, "requests.key");
        return new MinistrySettings
        {
            Certificate = Path.Combine(home, $"{Pki.System}.pem"),
            CertificateKey = Path.Combine(home, $"{Pki.System}.key"),
            Agreement = Path.Combine(folder, "agreement.json"),
            RequestsKey = File.Exists(key) ? key : null,
            SealingKeys = SealingKeyFile.AllIn(home),
            Services = services,
        };
    }
}

/// <summary>
/// The client with which a ministry's system calls the services. It uses TLS with the system's own certificate and checks the services'
/// identity against the agreement. It signs writes, gives them request ids and repeats attempts where that is safe. A refusal is an
/// exception with all that the service said (<see cref="RefusedException"/>). Safe for use by many threads.
/// </summary>
/// <remarks>
/// A write without a request id gets one, which is put into the request object. So sending the same object again is the same write, with
/// the same answer (D21). Attempts are repeated only on UNAVAILABLE, where the service has not decided or its answer was lost: five times
/// within two seconds, and a write to a service that was connected to before once more and again until its deadline
/// (<see cref="MinistrySettings.WriteDeadline"/>). They are never repeated on ABORTED: the caller must look at the record and decide again.
/// A write that ends with DEADLINE_EXCEEDED, UNAVAILABLE or INTERNAL, or with a refusal that says after what time to come again
/// (<see cref="RefusedException.RetryAfter"/>) or that decides nothing (<see cref="RefusedException.MayBeRecorded"/>), may have been
/// decided: send the same object again to learn the answer. A write is sent as it is at the time of the call: later changes of the object
/// are not sent. An accepted write is answered only if its receipt proves that the ledger holds this very request and the answer that is
/// returned; otherwise <see cref="InvalidReceiptException"/> is thrown. The receipt that is returned no longer shows the entry
/// (<see cref="Receipts.Shorten"/>). The agreement, the certificate and the key for requests are read again when their files change; keys
/// in a token and keys for sealing are not.
/// </remarks>
public sealed partial class MinistryClient : IDisposable
{
    private const int Attempts = 5;
    private static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(5);

    // The pause before a write is made again, after five attempts.
    private static readonly TimeSpan RepeatPause = TimeSpan.FromSeconds(1);

    // Each connection asks for the certificate, and each write for the key.
    private static readonly TimeSpan LookEvery = TimeSpan.FromSeconds(1);

    private readonly ConcurrentDictionary<string, Lazy<(GrpcChannel Channel, CallInvoker Invoker)>> _open = [];
    private readonly ConcurrentDictionary<string, bool> _connected = [];
    private readonly MinistrySettings _settings;
    private readonly TimeProvider _time;
    private readonly Reread<OwnCertificate> _certificate;
    private readonly TrustedAgreement _agreement;
    private readonly Reread<OwnKey>? _key;
    private readonly List<SealingIdentity> _identities = [];
    private readonly CancellationTokenSource _closing = new();

    // The last audit of each log that runs beside the calls. It writes files.
    private readonly ConcurrentDictionary<string, Task> _besides = [];

    // Neither is disposed of when another replaces it, because a connection or a call may still use it. The garbage collector does that.
    private sealed record OwnCertificate(X509Certificate2 Certificate, Participant Participant);

    private sealed record OwnKey(string Id, Signer Key)
    {
        public (Signer, string) Signing => (Key, Id);
    }

    /// <summary>Reads the files; connects when first called.</summary>
    /// <param name="settings">Who it is, and where the services are.</param>
    /// <param name="time">The clock; null: the system's.</param>
    /// <exception cref="IOException">A file cannot be read.</exception>
    /// <exception cref="FormatException">A file does not hold what it should, or the certificate or key is not of the agreement.
    /// </exception>
    public MinistryClient(MinistrySettings settings, TimeProvider? time = null)
    {
        _settings = settings;
        _time = time ?? TimeProvider.System;
        try
        {
            _agreement = new TrustedAgreement(settings.Agreement, settings.SeenFolder, _time) { Complain = settings.Complain };
            _certificate = Reread<OwnCertificate>.Begin(
                [settings.Certificate, .. FilesOf(settings.CertificateKey)],
                ReadCertificate,
                settings.Complain,
                LookEvery
            );
            Participant = _certificate.Current.Participant;
            // A key that is not the participant's is reported now, not at the first call.
            if (settings.RequestsKey is { } key)
                _key = Reread<OwnKey>.Begin(FilesOf(key), () => ReadKey(key), settings.Complain, LookEvery);
        }
        catch (Exception e) when (e is InvalidProtocolBufferException or System.Security.Cryptography.CryptographicException)
        {
            throw new FormatException(e.Message, e);
        }
        _identities.AddRange(settings.SealingKeys.Select(file => SealingKeyFile.Read(file, Participant, settings.SecretsFolder)));
    }

    // A key in a token is opened once.
    private string[] FilesOf(string key) => KeySource.PathOf(key, _settings.SecretsFolder) is { } path ? [path] : [];

    private OwnCertificate ReadCertificate()
    {
        var file = _settings.Certificate;
        var certificate = CertificateFiles.Read(file, _settings.CertificateKey, _settings.SecretsFolder);
        var identified = _agreement.Current.Authorities.Identify(certificate, [], CertificateUse.Client, _time.GetUtcNow());
        if (identified.Identity is not { Participant: { } participant })
            throw new FormatException($"{file} is not a certificate of a participant of the agreement");
        if (identified.Refused != Reason.Unspecified)
            throw new FormatException($"{file} has expired, is not valid yet, or is denied by the agreement");
        return Participant is null || participant.Id == Participant.Id
            ? new OwnCertificate(certificate, participant)
            : throw new FormatException($"{file} is a certificate of {participant.Id}, not of {Participant.Id}");
    }

    private OwnKey ReadKey(string location)
    {
        var key = KeySource.Open(location, _settings.SecretsFolder);
        try
        {
            // The agreement may list the key since a later version than that of the start.
            var own = Listed(Participant.Id) ?? Participant;
            return new OwnKey(SigningKeys.Listed(own, SigningKeyUse.Requests, key).Id, key);
        }
        catch (FormatException)
        {
            key.Dispose();
            throw;
        }
    }

    /// <summary>The agreement.</summary>
    public Agreement Agreement => _agreement.Current.Agreement;

    // A participant as the agreement lists it now; null: it lists none.
    private Participant? Listed(string id) => _agreement.Current.Permissions.Participant(id);

    /// <summary>The participant for whom it calls, as its certificate says.</summary>
    public Participant Participant { get; }

    /// <summary>The names of the services whose addresses it was given.</summary>
    public IReadOnlyCollection<string> Services => [.. _settings.Services.Keys];

    /// <summary>The key that signs the participant's requests, with its id in the agreement; null: it has none.</summary>
    internal (string Id, Signer Key)? RequestsKey => _key?.Current is { } own ? (own.Id, own.Key) : null;

    /// <summary>The certificate that it shows.</summary>
    internal X509Certificate2 Certificate => _certificate.Current.Certificate;

    /// <summary>The call log.</summary>
    public CallLogService.CallLogServiceClient CallLog => new(this["calllog"]);

    /// <summary>Custody and cases.</summary>
    public CustodyService.CustodyServiceClient Custody => new(this["custody"]);

    /// <summary>Access and transfers.</summary>
    public ConsularService.ConsularServiceClient Consular => new(this["consular"]);

    /// <summary>A service's ledger.</summary>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    public LedgerService.LedgerServiceClient LedgerOf(string service) => new(this[service]);

    /// <summary>What the operator may call at a service.</summary>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    public OperationsService.OperationsServiceClient OperationsOf(string service) => new(this[service]);

    /// <summary>Whether a service was ever connected to. If not, nothing can have been sent to it.</summary>
    internal bool HasConnected(string service) => _connected.ContainsKey(service);

    /// <summary>The way to a service. A refused call throws <see cref="RefusedException"/>.</summary>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    /// <exception cref="ArgumentException">The settings name no address of that service.</exception>
    public CallInvoker this[string service] => _open.GetOrAdd(service, name => new(() => Open(name))).Value.Invoker;

    /// <summary>A new request id: a UUID (version 7).</summary>
    public static string NewRequestId() => Guid.CreateVersion7().ToString();

    /// <summary>Adds an official's approval to a request, and gives it a request id if it has none. Afterwards nothing of it but its
    /// approvals may change, and the same object or its bytes must be sent.</summary>
    /// <param name="request">The request of a write, its actor and etag included.</param>
    /// <param name="key">Where the official's key is (<see cref="KeySource"/>). The agreement says whose it is.</param>
    /// <param name="office">The office in which the official approves.</param>
    /// <exception cref="ArgumentException">The request is of no write that has approvals.</exception>
    /// <exception cref="FormatException">The key is not one of the participant's keys for approvals.</exception>
    public void Approve(IMessage request, string key, string office)
    {
        using var official = KeySource.Open(key, _settings.SecretsFolder);
        Approve(request, Agreement.TrustDomain, Participant, official, office);
    }

    /// <summary>Adds an official's approval to a request on a machine that has neither the participant's certificate nor its key for
    /// requests.</summary>
    /// <param name="request">The request of a write, its actor and etag included.</param>
    /// <param name="trustDomain">The agreement's trust domain.</param>
    /// <param name="participant">The participant that will call, as the agreement lists it.</param>
    /// <param name="key">Where the official's key is (<see cref="KeySource"/>). The agreement says whose it is.</param>
    /// <param name="office">The office in which the official approves.</param>
    /// <exception cref="ArgumentException">The request is of no write that has approvals.</exception>
    /// <exception cref="FormatException">The key is not one of the participant's keys for approvals.</exception>
    public static void Approve(IMessage request, string trustDomain, Participant participant, Signer key, string office)
    {
        Name(request);
        Approvals.Add(request, trustDomain, participant, key, office);
    }

    /// <summary>Calls a method by its descriptor.</summary>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    /// <param name="method">The method; not a streaming one.</param>
    /// <param name="request">The request, of the method's type.</param>
    /// <param name="cancel">Ends the call.</param>
    /// <exception cref="RefusedException">The service refused.</exception>
    public async Task<IMessage> Call(string service, MethodDescriptor method, IMessage request, CancellationToken cancel = default)
    {
        if (method.IsClientStreaming || method.IsServerStreaming)
            throw new ArgumentException($"{method.Name} streams", nameof(method));
        if (request.Descriptor != method.InputType)
            throw new ArgumentException($"{method.Name} takes {method.InputType.FullName}", nameof(request));
        var typed = new Method<IMessage, IMessage>(
            MethodType.Unary,
            method.Service.FullName,
            method.Name,
            Marshaller(method.InputType),
            Marshaller(method.OutputType)
        );
        return await this[service].AsyncUnaryCall(typed, null, new CallOptions(cancellationToken: cancel), request);

        static Marshaller<IMessage> Marshaller(MessageDescriptor type) =>
            Marshallers.Create(message => message.ToByteArray(), bytes => type.Parser.ParseFrom(bytes));
    }

    /// <summary>Follows a ledger's entries that the participant may see, in order, each once. It continues from where it was when the
    /// service was unreachable, or ended the stream because entries were read too slowly. Entries that come in pieces are put together. It
    /// checks that no entry for the participant was left out. Entries of a case from before the participant was admitted come late: just
    /// before the next entry of the case, in their own order.</summary>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    /// <param name="from">The first position wanted. To resume later, name the <c>next_position</c> received last.</param>
    /// <param name="case">Only entries of this case; empty: of every case.</param>
    /// <param name="untilNow">True to end at the entries that are there.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="RpcException">The service refused, or could not be reached ten times in a row.</exception>
    /// <exception cref="EntryMissingException">An entry that is for the participant was left out.</exception>
    public IAsyncEnumerable<FollowEntriesResponse> Follow(
        string service,
        ulong from = 0,
        string @case = "",
        bool untilNow = false,
        CancellationToken cancel = default
    ) => Follow(service, from, @case, untilNow, new Completeness(from == 0, @case), cancel);

    /// <summary>As the other method, for a caller that keeps the entries it has read and resumes later.</summary>
    /// <param name="service">The service's name.</param>
    /// <param name="from">The first position wanted.</param>
    /// <param name="case">Only entries of this case; empty: of every case.</param>
    /// <param name="untilNow">True to end at the entries that are there.</param>
    /// <param name="complete">The numbers of all that was read before; it goes on with what is read now.</param>
    /// <param name="cancel">Ends it.</param>
    internal async IAsyncEnumerable<FollowEntriesResponse> Follow(
        string service,
        ulong from,
        string @case,
        bool untilNow,
        Completeness complete,
        [EnumeratorCancellation] CancellationToken cancel
    )
    {
        for (var failures = 0; ; )
        {
            var pieces = new Pieces();
            using var call = LedgerOf(service)
                .FollowEntries(
                    new FollowEntriesRequest
                    {
                        FromPosition = from,
                        Case = @case,
                        UntilNow = untilNow,
                    },
                    cancellationToken: cancel
                );
            while (true)
            {
                try
                {
                    if (!await call.ResponseStream.MoveNext(cancel))
                        yield break;
                }
                catch (RpcException) when (cancel.IsCancellationRequested)
                {
                    throw new OperationCanceledException(cancel);
                }
                catch (RpcException e) when (Passes(e) && ++failures < 2 * Attempts)
                {
                    break;
                }
                catch (RpcException e) when (RefusedException.From(e) is { } refused)
                {
                    throw refused;
                }
                failures = 0;
                if (pieces.Take(call.ResponseStream.Current) is not { } response)
                    continue;
                from = response.NextPosition;
                if (response.Entry is { } entry && complete.Take(EntryHeader.Parser.ParseFrom(entry.Header), entry.Audience) is { } missing)
                {
                    // A reader of existing entries was admitted to them before; a follower may have been admitted just now.
                    if (untilNow)
                        throw new EntryMissingException(service, missing);
                    await foreach (var earlier in Earlier(service, response, complete, missing, cancel))
                        yield return earlier;
                }
                yield return response;
            }
            await Task.Delay(TimeSpan.FromMilliseconds(Math.Min(5000, 100 << failures)), _time, cancel);
        }
    }

    // It includes a stream whose connection ended in whatever way, such as for want of an answer to its pings, and one that was reset
    // without a reason, because its reader took nothing (HTTP/2's ENHANCE_YOUR_CALM). The library calls these INTERNAL. A service's own
    // INTERNAL comes without an exception of the connection.
    private static bool Passes(RpcException e) =>
        e.StatusCode is StatusCode.Unavailable or StatusCode.ResourceExhausted
        || e.Status.DebugException is HttpProtocolException { ErrorCode: 11 }
        || e.Status.DebugException is { } fault && ServiceChannel.IsLost(fault);

    /// <summary>Puts an entry together that comes in pieces.</summary>
    private sealed class Pieces
    {
        private const uint Greatest = 8 << 20;

        private byte[] _bytes = [];
        private uint _got;

        /// <summary>Takes what came. Returns it with its entry; null: more pieces are to come.</summary>
        /// <exception cref="InvalidDataException">They do not fit together.</exception>
        public FollowEntriesResponse? Take(FollowEntriesResponse response)
        {
            if (response.Piece is not { } piece)
                return response;
            if (piece.Offset == 0 && piece.Size <= Greatest)
                (_bytes, _got) = (new byte[piece.Size], 0);
            if (piece.Offset != _got || piece.Size != _bytes.Length || piece.Data.Length == 0 || piece.Data.Length > _bytes.Length - _got)
                throw new InvalidDataException("the pieces of an entry do not fit together");
            piece.Data.CopyTo(_bytes, (int)_got);
            if ((_got += (uint)piece.Data.Length) < _bytes.Length)
                return null;
            var whole = new FollowEntriesResponse { Entry = Entry.Parser.ParseFrom(_bytes), NextPosition = response.NextPosition };
            (_bytes, _got) = ([], 0);
            return whole;
        }
    }

    /// <summary>Ends all calls, and the audits that run in the background: it waits for them for at most two seconds.</summary>
    public void Dispose()
    {
        _closing.Cancel();
        Task.WaitAll([.. _besides.Values], TimeSpan.FromSeconds(2));
        foreach (var open in _open.Values.Where(o => o.IsValueCreated))
            open.Value.Channel.Dispose();
        _certificate.Last?.Certificate.Dispose();
        _key?.Last?.Key.Dispose();
        foreach (var identity in _identities)
            identity.Dispose();
    }

    private (GrpcChannel Channel, CallInvoker Invoker) Open(string service)
    {
        if (!_settings.Services.TryGetValue(service, out var address))
            throw new ArgumentException($"no address of {service} is set", nameof(service));
        var sender = ServiceChannel.Handler(service, () => Certificate, () => _agreement.Current.Authorities, ConnectTimeout, _time);
        // It is called once the service has proved who it is, and before anything of a call is sent.
        var proves = sender.PlaintextStreamFilter!;
        sender.PlaintextStreamFilter = (connection, cancel) =>
        {
            _connected[service] = true;
            return proves(connection, cancel);
        };
        if (!_settings.PassesTrace)
            sender.ActivityHeadersPropagator = DistributedContextPropagator.CreateNoOutputPropagator();
        else if (_settings.Propagator is { } propagator)
            sender.ActivityHeadersPropagator = propagator;
        var handler = ServiceChannel.AcrossClosing(new Counting { InnerHandler = sender });
        if (_key is { } own)
            handler = new SigningHandler(() => own.Current.Signing, HttpSignature.TagOf(Agreement.TrustDomain, service), _time)
            {
                InnerHandler = handler,
            };
        if (!_settings.PassesTrace)
            handler = new Untraced { InnerHandler = handler };
        var channel = ServiceAddresses.Open(
            [address, .. _settings.FurtherAddresses.GetValueOrDefault(service) ?? []],
            new GrpcChannelOptions
            {
                HttpHandler = handler,
                DisposeHttpClient = true,
                MaxReceiveMessageSize = 8 << 20,
                InitialReconnectBackoff = TimeSpan.FromMilliseconds(100),
                MaxReconnectBackoff = TimeSpan.FromSeconds(2),
                ServiceConfig = ServiceChannel.Retries(Attempts, TimeSpan.FromMilliseconds(100), TimeSpan.FromSeconds(2), 2),
            }
        );
        return (channel, channel.Intercept(new Caller(service, this)));
    }

    // Two who send one object at once send one write.
    private static readonly Lock Naming = new();

    private static void Name(IMessage request)
    {
        if (request.Descriptor.FindFieldByNumber(1) is not { Name: "request_id" } field)
            return;
        lock (Naming)
            if (field.Accessor.GetValue(request) is "")
                field.Accessor.SetValue(request, NewRequestId());
    }

    /// <summary>Checks the receipt of an accepted write, takes from it what only shows its entry, and keeps it where that is
    /// wanted.</summary>
    private void Take(string service, SentWrite? sent, object response)
    {
        if (response is not IMessage message || message.Descriptor.FindFieldByNumber(1) is not { Name: "receipt" } field)
            return;
        var receipt = (Receipt?)field.Accessor.GetValue(message);
        var wrong =
            Receipts.Wrong(receipt, service, Agreement, _time.GetUtcNow())
            ?? (
                sent is null
                    ? "nothing was sent that has one"
                    : Receipts.WrongEntry(receipt!, Participant.Id, sent.Method, sent.RequestId, sent.Bytes, message)
            );
        if (wrong is not null)
            throw new InvalidReceiptException(service, wrong);
        Receipts.Shorten(receipt!);
        Remember(service, receipt!);
        if (_settings.ReceiptFolder is { } folder)
            Keep(folder, service, receipt!);
    }

    /// <summary>Keeps a receipt in a folder. One of another entry at the same position stays, and the new one stands beside it under its
    /// entry's hash: together they prove that the service has two histories.</summary>
    /// <param name="folder">The folder; it is made if it is not there.</param>
    /// <param name="service">The service's name.</param>
    /// <param name="receipt">The receipt, once it is checked and shortened.</param>
    internal static void Keep(string folder, string service, Receipt receipt)
    {
        PrivateFiles.MakeFolder(folder);
        var path = PathOf(folder, service, receipt.Position);
        if (File.Exists(path) && !File.ReadAllText(path).Contains(receipt.EntryHash.ToBase64(), StringComparison.Ordinal))
            path = Path.ChangeExtension(path, $"{Convert.ToHexStringLower(receipt.EntryHash.Span)}.json");
        // The file is written atomically: an export may read it, and another call may write the same receipt.
        WholeFile.Write(path, Contract.Formatter.Format(receipt), $"{path}.{Guid.NewGuid():N}");
    }

    /// <summary>The receipt that was kept for an entry; null: none was.</summary>
    internal Receipt? ReceiptFor(string service, ulong position) =>
        _settings.ReceiptFolder is { } folder && PathOf(folder, service, position) is var path && File.Exists(path)
            ? Contract.Parser.Parse<Receipt>(File.ReadAllText(path))
            : null;

    private static string PathOf(string folder, string service, ulong position) => Path.Combine(folder, $"{service}-{position}.json");

    /// <summary>A write as it is sent, with which its answer is compared.</summary>
    private sealed record SentWrite(string Method, string RequestId, byte[] Bytes)
    {
        /// <summary>The write, and what to send for it: a copy, because whoever has the request object may change it while the call runs.
        /// </summary>
        /// <param name="path">The method's full name, with a leading slash.</param>
        /// <param name="request">The request, or its bytes.</param>
        /// <returns>No write, and the request itself, where the method is none that writes.</returns>
        public static (SentWrite? Write, T Request) Of<T>(string path, T request)
            where T : class
        {
            if (Methods.At(path) is not { Writes: true } rpc)
                return (null, request);
            byte[] bytes = request is IMessage message ? message.ToByteArray() : [.. (byte[])(object)request];
            var copy = rpc.Method.InputType.Parser.ParseFrom(bytes);
            var id = (string)rpc.Method.InputType.FindFieldByNumber(1).Accessor.GetValue(copy);
            return (new(Contract.NameOf(rpc.Method), id, bytes), request is IMessage ? (T)copy : (T)(object)bytes);
        }
    }

    /// <summary>Removes the trace context that an instrumentation has put into the request.</summary>
    private sealed class Untraced : DelegatingHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            request.Headers.Remove("traceparent");
            request.Headers.Remove("tracestate");
            if (Activity.Current is { } span)
                span.ActivityTraceFlags &= ~ActivityTraceFlags.Recorded;
            return base.SendAsync(request, cancellationToken);
        }
    }

    /// <summary>The number of attempts of a call, also those repeated by the connection's handler, the channel, or
    /// <see cref="Caller"/>.</summary>
    private sealed class Sendings
    {
        private static readonly AsyncLocal<Sendings?> Ambient = new();
        private int _count;

        /// <summary>The attempts of the current call; null: they are not counted.</summary>
        public static Sendings? Current => Ambient.Value;

        /// <summary>Whether an earlier attempt may have arrived, too.</summary>
        public bool Repeated => Volatile.Read(ref _count) > 1;

        /// <summary>Marks the exception that ends the call if an earlier attempt may have arrived.</summary>
        public void NoteEarlierAttempt(RpcException e)
        {
            // The last attempt does not count if the peer did not prove to be the service.
            var last = e.Status.DebugException is { } fault && ServiceChannel.IsUnproved(fault) ? 0 : 1;
            if (Volatile.Read(ref _count) > last)
                SentBefore.Note(e);
        }

        /// <summary>Counts an attempt.</summary>
        public void Add() => Interlocked.Increment(ref _count);

        /// <summary>Takes back an attempt that cannot have arrived.</summary>
        public void Remove() => Interlocked.Decrement(ref _count);

        /// <summary>Begins a call of which these are noted.</summary>
        public T Begin<T>(Func<T> call)
        {
            var outer = Ambient.Value;
            Ambient.Value = this;
            try
            {
                return call();
            }
            finally
            {
                Ambient.Value = outer;
            }
        }
    }

    /// <summary>Notes each time that a call is sent, unless no connection could be made for it.</summary>
    private sealed class Counting : DelegatingHandler
    {
        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            var sendings = Sendings.Current;
            sendings?.Add();
            try
            {
                return await base.SendAsync(request, cancellationToken);
            }
            catch (HttpRequestException e)
                when (e.HttpRequestError
                        is HttpRequestError.ConnectionError
                            or HttpRequestError.NameResolutionError
                            or HttpRequestError.SecureConnectionError
                )
            {
                sendings?.Remove();
                throw;
            }
        }
    }

    /// <summary>Gives each write a request id and each call a deadline, turns refusals into exceptions, and checks each receipt.</summary>
    private sealed class Caller(string service, MinistryClient client) : Interceptor
    {
        public override AsyncUnaryCall<TResponse> AsyncUnaryCall<TRequest, TResponse>(
            TRequest request,
            ClientInterceptorContext<TRequest, TResponse> context,
            AsyncUnaryCallContinuation<TRequest, TResponse> continuation
        )
        {
            var prepared = Prepare(request, context);
            var (sent, copy) = SentWrite.Of(context.Method.FullName, request);
            var (began, sendings) = (client._time.GetTimestamp(), new Sendings());
            var attempt = sendings.Begin(() => continuation(copy, prepared));
            var ended = new CancellationTokenSource();
            var answer = Answer();
            return new AsyncUnaryCall<TResponse>(
                Worded(sent, sendings, answer),
                Headers(),
                () => attempt.GetStatus(),
                () => attempt.GetTrailers(),
                () =>
                {
                    ended.Cancel();
                    attempt.Dispose();
                }
            );

            async Task<TResponse> Answer()
            {
                while (true)
                    try
                    {
                        return await attempt.ResponseAsync;
                    }
                    catch (RpcException e) when (sent is not null && Repeats(e, prepared.Options.Deadline, began, sendings.Repeated))
                    {
                        using var given = CancellationTokenSource.CreateLinkedTokenSource(prepared.Options.CancellationToken, ended.Token);
                        await Task.Delay(RepeatPause, client._time, given.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                        if (given.IsCancellationRequested)
                            throw;
                        attempt.Dispose();
                        began = client._time.GetTimestamp();
                        attempt = sendings.Begin(() => continuation(copy, prepared));
                        if (ended.IsCancellationRequested)
                            attempt.Dispose();
                    }
            }

            async Task<Metadata> Headers()
            {
                await ((Task)answer).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                return await attempt.ResponseHeadersAsync;
            }
        }

        public override TResponse BlockingUnaryCall<TRequest, TResponse>(
            TRequest request,
            ClientInterceptorContext<TRequest, TResponse> context,
            BlockingUnaryCallContinuation<TRequest, TResponse> continuation
        )
        {
            var prepared = Prepare(request, context);
            var (sent, copy) = SentWrite.Of(context.Method.FullName, request);
            var sendings = new Sendings();
            while (true)
            {
                var began = client._time.GetTimestamp();
                try
                {
                    var response = sendings.Begin(() => continuation(copy, prepared));
                    client.Take(service, sent, response);
                    return response;
                }
                catch (RpcException e) when (sent is not null && Repeats(e, prepared.Options.Deadline, began, sendings.Repeated))
                {
                    prepared.Options.CancellationToken.WaitHandle.WaitOne(RepeatPause);
                }
                catch (RpcException e)
                {
                    if (Refused(e, sent, sendings) is { } refused)
                        throw refused;
                    throw;
                }
            }
        }

        // A service that was never connected to has nothing in flight, and its address may be wrong. An attempt that the deadline would
        // probably cut off is not begun: the service's last answer tells more. A repeated write may have been recorded by an attempt whose
        // answer was lost, and the refusal of an overloaded service does not tell.
        private bool Repeats(RpcException e, DateTime? deadline, long began, bool repeated)
        {
            var lost = e.Status.DebugException is { } fault && ServiceChannel.IsLost(fault);
            return client._settings.RepeatsWrites
                && (e.StatusCode == StatusCode.Unavailable || lost || repeated && RefusedException.From(e) is { RetryAfter: not null })
                && client.HasConnected(service)
                && (deadline is not { } end || client._time.GetUtcNow() + RepeatPause + 2 * client._time.GetElapsedTime(began) < end);
        }

        private ClientInterceptorContext<TRequest, TResponse> Prepare<TRequest, TResponse>(
            TRequest request,
            ClientInterceptorContext<TRequest, TResponse> context
        )
            where TRequest : class
            where TResponse : class
        {
            if (request is IMessage message)
                Name(message);
            if (context.Options.Deadline is not null)
                return context;
            var writes = Methods.At(context.Method.FullName) is { Writes: true };
            var time = writes ? client._settings.WriteDeadline : client._settings.Deadline;
            return new(context.Method, context.Host, context.Options.WithDeadline((client._time.GetUtcNow() + time).UtcDateTime));
        }

        private async Task<TResponse> Worded<TResponse>(SentWrite? sent, Sendings sendings, Task<TResponse> response)
            where TResponse : class
        {
            try
            {
                var answer = await response;
                client.Take(service, sent, answer);
                return answer;
            }
            catch (RpcException e)
            {
                if (Refused(e, sent, sendings) is { } refused)
                    throw refused;
                throw;
            }
        }

        // null: the exception is no refusal.
        private static RefusedException? Refused(RpcException e, SentWrite? sent, Sendings sendings)
        {
            if (sent is not null)
                sendings.NoteEarlierAttempt(e);
            return RefusedException.From(e);
        }
    }
}

/// <summary>A service accepted a write, but its receipt does not prove it: it is unknown whether the write is recorded. Only the service
/// can have made such an answer.</summary>
/// <param name="service">The service's name.</param>
/// <param name="wrong">What is wrong with the receipt.</param>
public sealed class InvalidReceiptException(string service, string wrong) : Exception($"the receipt of {service} proves nothing: {wrong}");

/// <summary>A service left out an entry that is for the participant: the entries' own numbers show the gap.</summary>
/// <param name="service">The service's name.</param>
/// <param name="missing">What is missing.</param>
public sealed class EntryMissingException(string service, string missing)
    : Exception($"the ledger of {service} keeps an entry back: {missing}");
