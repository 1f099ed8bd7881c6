using System.Diagnostics;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Grpc.Net.Client;
using Ministries.Client;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Local;

/// <summary>Calls the services by the participant's gateway, over gRPC and with a token. It holds no key.</summary>
internal sealed class GatewayConnection : IConnection
{
    // The scheme of content that is plain: in a request this word alone, in an answer this word and the message's name.
    private const string Plain = "plain";

    private readonly GrpcChannel _channel;
    private readonly CallInvoker _invoker;

    /// <summary>Makes the connection.</summary>
    /// <param name="address">The gateway's address.</param>
    /// <param name="token">The file of the token.</param>
    /// <param name="authority">The file of the authority that vouches for the gateway (PEM).</param>
    /// <param name="receipts">The folder in which the receipts of accepted writes are kept; null: they are not.</param>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public GatewayConnection(Uri address, string token, string authority, string? receipts)
    {
        var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        policy.CustomTrustStore.ImportFromPemFile(authority);
        _channel = GrpcChannel.ForAddress(
            address,
            new GrpcChannelOptions
            {
                HttpHandler = new SocketsHttpHandler
                {
                    SslOptions = new SslClientAuthenticationOptions { CertificateChainPolicy = policy },
                    // Nobody collects the spans of the system that calls.
                    ActivityHeadersPropagator = DistributedContextPropagator.CreateNoOutputPropagator(),
                },
                DisposeHttpClient = true,
            }
        );
        _invoker = _channel.Intercept(new Bearer(File.ReadAllText(token).Trim(), receipts));
    }

    /// <inheritdoc/>
    public CallInvoker this[string service] => _invoker;

    /// <inheritdoc/>
    public Task Seal(IMessage request, Sealed place, IMessage content, IReadOnlyCollection<string> recipients)
    {
        (place.Scheme, place.Content) = (Plain, content.ToByteString());
        place.Recipients.Clear();
        place.Recipients.AddRange(recipients);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task<T> Open<T>(IMessage record, Sealed shown)
        where T : class, IMessage<T>, new()
    {
        var message = new T();
        if (shown.Scheme != $"{Plain}/{message.Descriptor.FullName}")
            throw new InvalidDataException($"the gateway has not opened a {message.Descriptor.Name}");
        message.MergeFrom(shown.Content);
        return Task.FromResult(message);
    }

    /// <inheritdoc/>
    public void Dispose() => _channel.Dispose();

    // Shows the token at each call, and keeps the receipts, which the gateway has verified.
    private sealed class Bearer(string token, string? receipts) : Interceptor
    {
        public override AsyncUnaryCall<TResponse> AsyncUnaryCall<TRequest, TResponse>(
            TRequest request,
            ClientInterceptorContext<TRequest, TResponse> context,
            AsyncUnaryCallContinuation<TRequest, TResponse> continuation
        )
        {
            var headers = new Metadata { { "authorization", $"Bearer {token}" } };
            var call = continuation(request, new(context.Method, context.Host, context.Options.WithHeaders(headers)));
            return new AsyncUnaryCall<TResponse>(Answer(), call.ResponseHeadersAsync, call.GetStatus, call.GetTrailers, call.Dispose);

            async Task<TResponse> Answer()
            {
                var answer = await call;
                if (
                    receipts is not null
                    && answer is IMessage message
                    && message.Descriptor.FindFieldByName("receipt")?.Accessor.GetValue(message) is Receipt receipt
                )
                    MinistryClient.Keep(receipts, context.Method.ServiceName.Split('.')[1], receipt);
                return answer;
            }
        }
    }
}
