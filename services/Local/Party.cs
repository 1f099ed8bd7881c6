using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Grpc.Health.V1;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Ledger.V1;
using Ministries.Ministry;
using Ministries.Operations.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Local;

/// <summary>A participant of the story: it calls the three services with its own certificate, and an official of its own acts.
/// </summary>
public sealed class Party : IDisposable
{
    private readonly MinistryClient _client;
    private readonly string _home;
    private readonly Dictionary<string, CallInvoker> _services;

    /// <summary>Makes a party.</summary>
    /// <param name="client">The participant's system.</param>
    /// <param name="office">The office of its official.</param>
    /// <param name="home">The folder of its keys.</param>
    public Party(MinistryClient client, string office, string home)
    {
        (_client, _home) = (client, home);
        Actor = new Actor
        {
            Office = office,
            Official = Pki.OfficialOf(Id, 1),
            Authority = "standing-order-2025-1",
        };
        var clerk = new Clerk(this);
        _services = client.Services.ToDictionary(s => s, s => client[s].Intercept(clerk));
        Calls = new(_services["calllog"]);
        Custody = new(_services["custody"]);
        Consular = new(_services["consular"]);
    }

    /// <summary>The participant.</summary>
    public string Id => _client.Participant.Id;

    /// <summary>The participant's system.</summary>
    public MinistryClient Client => _client;

    /// <summary>The official who acts where a request names nobody else.</summary>
    public Actor Actor { get; }

    /// <summary>The case that its requests name where they name none.</summary>
    public string Case { get; set; } = "";

    /// <summary>The call log.</summary>
    public CallLogService.CallLogServiceClient Calls { get; }

    /// <summary>The custody service.</summary>
    public CustodyService.CustodyServiceClient Custody { get; }

    /// <summary>The consular service.</summary>
    public ConsularService.ConsularServiceClient Consular { get; }

    /// <summary>The ledger of a service.</summary>
    public LedgerService.LedgerServiceClient LedgerOf(string service) => new(_services[service]);

    /// <summary>The operations of a service.</summary>
    public OperationsService.OperationsServiceClient OperationsOf(string service) => new(_services[service]);

    /// <summary>The health of a service.</summary>
    public Health.HealthClient HealthOf(string service) => new(_services[service]);

    /// <summary>The last write that it sent.</summary>
    public Sent Last { get; private set; } = new("", "", 0);

    /// <summary>Another official of the participant.</summary>
    public Actor Another(string office, int number) => new(Actor) { Office = office, Official = Pki.OfficialOf(Id, number) };

    /// <summary>Seals a text for the recipients. The services cannot read it, and in this story nobody needs to: its key is thrown
    /// away.</summary>
    public static Sealed Seal(string text, params IEnumerable<string> recipients)
    {
        var plain = new byte[512];
        Encoding.UTF8.GetBytes(text, plain);
        var nonce = RandomNumberGenerator.GetBytes(12);
        var content = new byte[nonce.Length + plain.Length + 16];
        nonce.CopyTo(content, 0);
        using var cipher = new AesGcm(RandomNumberGenerator.GetBytes(32), 16);
        cipher.Encrypt(nonce, plain, content.AsSpan(12, plain.Length), content.AsSpan(12 + plain.Length));
        return new Sealed
        {
            Scheme = "story-key-thrown-away",
            Recipients = { recipients },
            Content = ByteString.CopyFrom(content),
        };
    }

    /// <inheritdoc/>
    public void Dispose() => _client.Dispose();

    /// <summary>A write as it was sent.</summary>
    /// <param name="Method">The full method name.</param>
    /// <param name="RequestId">Its request id.</param>
    /// <param name="Milliseconds">How long its answer took.</param>
    public sealed record Sent(string Method, string RequestId, double Milliseconds);

    // The office's clerk: gives each write its id, its official and its case, and reads the record that it is about just before,
    // for its etag.
    private sealed class Clerk(Party party) : Interceptor
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
                Answer(),
                Task.FromResult(new Metadata()),
                () => Status.DefaultSuccess,
                () => [],
                () => { }
            );

            async Task<AsyncUnaryCall<TResponse>> Send()
            {
                Fill(message, "request_id", Guid.CreateVersion7().ToString());
                Fill(message, "actor", party.Actor);
                Fill(message, "case", party.Case);
                if (Get(message, "etag") is "")
                    Fill(message, "etag", await EtagFor(message));
                Approve(message, $"{context.Method.ServiceName}/{context.Method.Name}");
                return continuation(request, context);
            }

            async Task<TResponse> Answer()
            {
                using var call = await sent;
                var begun = Stopwatch.GetTimestamp();
                try
                {
                    return await call;
                }
                finally
                {
                    party.Last = new Sent(
                        $"{context.Method.ServiceName}/{context.Method.Name}",
                        (string)Get(message, "request_id")!,
                        Stopwatch.GetElapsedTime(begun).TotalMilliseconds
                    );
                }
            }
        }

        // As many officials approve as the agreement demands, the one who acts not among them.
        private void Approve(IMessage request, string method)
        {
            var demanded = party._client.Agreement.ApprovalDemands.FirstOrDefault(d => d.Method == method)?.Officials ?? 0;
            for (var number = 2; number < demanded + 2; number++)
                party._client.Approve(
                    request,
                    Path.Combine(party._home, "officials", $"{Pki.OfficialOf(party.Id, number)}.key"),
                    "legal-department"
                );
        }

        private async Task<string> EtagFor(IMessage request) =>
            request switch
            {
                RegisterPrisonerRequest or AdmitPartyRequest or RemovePartyRequest or CloseCaseRequest => (
                    await party.Custody.GetCaseAsync(new() { Case = party.Case })
                ).Etag,
                _ when Get(request, "statement") is string { Length: > 0 } statement => (
                    await party.Custody.GetStatementAsync(new() { Statement = statement })
                ).Etag,
                _ when Get(request, "transfer") is string { Length: > 0 } transfer => (
                    await party.Consular.GetTransferAsync(new() { Transfer = transfer })
                ).Etag,
                _ when Get(request, "access") is string { Length: > 0 } access => (
                    await party.Consular.GetAccessAsync(new() { Access = access })
                ).Etag,
                _ when Get(request, "call") is string { Length: > 0 } call => (await party.Calls.GetCallAsync(new() { Call = call })).Etag,
                _ when Get(request, "prisoner") is string { Length: > 0 } prisoner => (
                    await party.Custody.GetPrisonerAsync(new() { Case = party.Case, Prisoner = prisoner })
                ).Etag,
                _ => "",
            };

        private static object? Get(IMessage message, string field) => message.Descriptor.FindFieldByName(field)?.Accessor.GetValue(message);

        private static void Fill(IMessage message, string field, object value)
        {
            if (message.Descriptor.FindFieldByName(field) is { } found && found.Accessor.GetValue(message) is null or "")
                found.Accessor.SetValue(message, value);
        }
    }
}
