using System.Diagnostics;
using System.Runtime.CompilerServices;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Grpc.Health.V1;
using Ministries.CallLog.V1;
using Ministries.Client;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Ledger.V1;
using Ministries.Operations.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Local;

/// <summary>A participant's client: it calls the three services, with the participant's certificate or by its gateway, in the name of one
/// of its officials.</summary>
public sealed class ParticipantClient : IDisposable
{
    // What is to be sealed in the place of a field, until its write is sent.
    private static readonly ConditionalWeakTable<Sealed, Plain> ToSeal = [];

    private readonly MinistryClient _client;
    private readonly IConnection _connection;
    private readonly string _home;
    private readonly Persistence _persistence;
    private readonly RequestCompletion _completion;

    /// <summary>Makes the client.</summary>
    /// <param name="client">The participant's system with its keys.</param>
    /// <param name="connection">How it calls the three services. What a gateway does not do goes by <paramref name="client"/>: the
    /// officials who approve and attest, the checks of the ledgers, evidence, and what operators do.</param>
    /// <param name="office">The office of its official.</param>
    /// <param name="home">The folder of its keys.</param>
    /// <param name="patience">For how long a call is made again until it is answered.</param>
    internal ParticipantClient(MinistryClient client, IConnection connection, string office, string home, TimeSpan patience)
    {
        (_client, _connection, _home, _persistence) = (client, connection, home, new Persistence(patience));
        _completion = new RequestCompletion(this);
        Actor = new Actor
        {
            Office = office,
            Official = Pki.OfficialOf(Id, 1),
            Authority = "standing-order-2025-1",
        };
        Calls = new(Completed(connection["calllog"]));
        Custody = new(Completed(connection["custody"]));
        Consular = new(Completed(connection["consular"]));
    }

    /// <summary>The participant.</summary>
    public string Id => _client.Participant.Id;

    /// <summary>The participant's system.</summary>
    public MinistryClient Client => _client;

    /// <summary>The official in whose name a request is made that names no other.</summary>
    public Actor Actor { get; }

    /// <summary>Changes what is sealed, just before it is; null: it stays as it is. A test puts words of its own into it.</summary>
    public Action<IMessage>? BeforeSealing { get; set; }

    /// <summary>The case that is set in requests that name none.</summary>
    public string Case { get; set; } = "";

    /// <summary>The call log.</summary>
    public CallLogService.CallLogServiceClient Calls { get; }

    /// <summary>The custody service.</summary>
    public CustodyService.CustodyServiceClient Custody { get; }

    /// <summary>The consular service.</summary>
    public ConsularService.ConsularServiceClient Consular { get; }

    /// <summary>The ledger of a service.</summary>
    public LedgerService.LedgerServiceClient LedgerOf(string service) => new(Completed(_client[service]));

    /// <summary>The operations of a service.</summary>
    public OperationsService.OperationsServiceClient OperationsOf(string service) => new(Completed(_client[service]));

    /// <summary>The health of a service.</summary>
    public Health.HealthClient HealthOf(string service) => new(Completed(_client[service]));

    /// <summary>The last write that it sent.</summary>
    public SentWrite LastWrite { get; private set; } = new("", "", 0);

    /// <summary>Another official of the participant.</summary>
    public Actor OtherOfficial(string office, int number) => new(Actor) { Office = office, Official = Pki.OfficialOf(Id, number) };

    /// <summary>Says what is to be sealed in a field of a write. It is sealed when the write is sent, because it belongs to one request: by
    /// then that has its id and its case.</summary>
    /// <param name="message">What is sealed.</param>
    /// <param name="recipients">Who can open it; none: those to whom the contract seals it by default.</param>
    public static Sealed Seal(IMessage message, params IReadOnlyCollection<string> recipients)
    {
        var place = new Sealed();
        ToSeal.Add(place, new Plain(message, recipients));
        return place;
    }

    /// <summary>Reads what came sealed to the participant, as what was sealed for the record in which it stands.</summary>
    /// <param name="record">The record.</param>
    /// <param name="shown">The field, as the record has it.</param>
    /// <exception cref="Sealing.SealException">It does not open.</exception>
    /// <exception cref="InvalidDataException">The gateway did not open it.</exception>
    public Task<T> Open<T>(IMessage record, Sealed shown)
        where T : class, IMessage<T>, new() => _persistence.Ask(() => _connection.Open<T>(record, shown));

    /// <summary>A text in English, as it is sealed.</summary>
    public static Text Words(string text) => new() { Language = "en", Text_ = text };

    /// <inheritdoc/>
    public void Dispose()
    {
        _connection.Dispose();
        _client.Dispose();
    }

    private CallInvoker Completed(CallInvoker invoker) => invoker.Intercept(_persistence).Intercept(_completion);

    /// <summary>A write as it was sent.</summary>
    /// <param name="Method">The full method name.</param>
    /// <param name="RequestId">Its request id.</param>
    /// <param name="Milliseconds">How long its answer took.</param>
    public sealed record SentWrite(string Method, string RequestId, double Milliseconds);

    private sealed record Plain(IMessage Message, IReadOnlyCollection<string> Recipients);

    // Completes each write: with a request id, the official, the case, what is sealed, the approvals that the agreement demands, and the
    // etag of the record that it changes, which is read just before.
    private sealed class RequestCompletion(ParticipantClient participant) : Interceptor
    {
        public override AsyncUnaryCall<TResponse> AsyncUnaryCall<TRequest, TResponse>(
            TRequest request,
            ClientInterceptorContext<TRequest, TResponse> context,
            AsyncUnaryCallContinuation<TRequest, TResponse> continuation
        )
        {
            if (request is not IMessage message || message.Descriptor.FindFieldByName("request_id") is null)
                return continuation(request, context);
            var sent = Send();
            return new AsyncUnaryCall<TResponse>(
                Receive(),
                Task.FromResult(new Metadata()),
                () => Status.DefaultSuccess,
                () => [],
                () => { }
            );

            async Task<AsyncUnaryCall<TResponse>> Send()
            {
                SetIfEmpty(message, "request_id", Guid.CreateVersion7().ToString());
                SetIfEmpty(message, "actor", participant.Actor);
                SetIfEmpty(message, "case", participant.Case);
                if (Get(message, "etag") is "")
                    SetIfEmpty(message, "etag", await EtagFor(message));
                await SealIn(message);
                if (message is AttestStatementRequest { Signature.IsEmpty: true } attest)
                    await Sign(attest);
                Approve(message, $"{context.Method.ServiceName}/{context.Method.Name}");
                return continuation(request, context);
            }

            async Task<TResponse> Receive()
            {
                using var call = await sent;
                var begun = Stopwatch.GetTimestamp();
                try
                {
                    return await call;
                }
                finally
                {
                    participant.LastWrite = new SentWrite(
                        $"{context.Method.ServiceName}/{context.Method.Name}",
                        (string)Get(message, "request_id")!,
                        Stopwatch.GetElapsedTime(begun).TotalMilliseconds
                    );
                }
            }
        }

        private async Task SealIn(IMessage request)
        {
            foreach (var place in Seals.WithPaths(request).ToArray())
            {
                if (!ToSeal.TryGetValue(place.Sealed, out var plain))
                    continue;
                participant.BeforeSealing?.Invoke(plain.Message);
                await participant._persistence.Ask(async () =>
                {
                    await participant._connection.Seal(request, place.Sealed, plain.Message, plain.Recipients);
                    return true;
                });
            }
        }

        // As many officials approve as the agreement demands. The acting official is not one of them.
        private void Approve(IMessage request, string method)
        {
            var demanded = participant._client.Agreement.ApprovalDemands.FirstOrDefault(d => d.Method == method)?.Officials ?? 0;
            for (var number = 2; number < demanded + 2; number++)
                participant._client.Approve(
                    request,
                    Path.Combine(participant._home, "officials", $"{Pki.OfficialOf(participant.Id, number)}.key"),
                    "legal-department"
                );
        }

        // The official who was present signs with a key of his own, for which the participant vouches, after the statement was opened and
        // its commitments were made again. What he signs is the sealed form, which a gateway does not show.
        private async Task Sign(AttestStatementRequest request)
        {
            using var key = Key.Create(SignatureAlgorithm.Ed25519);
            await participant._persistence.Ask(() => participant._client.Attest(request, key));
        }

        private async Task<string> EtagFor(IMessage request) =>
            request switch
            {
                RegisterPrisonerRequest or AdmitPartyRequest or RemovePartyRequest or CloseCaseRequest or ReopenCaseRequest => (
                    await participant.Custody.GetCaseAsync(new() { Case = participant.Case })
                ).Etag,
                _ when Get(request, "statement") is string { Length: > 0 } statement => (
                    await participant.Custody.GetStatementAsync(new() { Statement = statement })
                ).Etag,
                _ when Get(request, "transfer") is string { Length: > 0 } transfer => (
                    await participant.Consular.GetTransferAsync(new() { Transfer = transfer })
                ).Etag,
                _ when Get(request, "access") is string { Length: > 0 } access => (
                    await participant.Consular.GetAccessAsync(new() { Access = access })
                ).Etag,
                _ when Get(request, "call") is string { Length: > 0 } call => (
                    await participant.Calls.GetCallAsync(new() { Call = call })
                ).Etag,
                _ when Get(request, "prisoner") is string { Length: > 0 } prisoner => (
                    await participant.Custody.GetPrisonerAsync(new() { Case = participant.Case, Prisoner = prisoner })
                ).Etag,
                _ => "",
            };

        private static object? Get(IMessage message, string field) => message.Descriptor.FindFieldByName(field)?.Accessor.GetValue(message);

        private static void SetIfEmpty(IMessage message, string field, object value)
        {
            if (message.Descriptor.FindFieldByName(field) is { } found && found.Accessor.GetValue(message) is null or "")
                found.Accessor.SetValue(message, value);
        }
    }
}
