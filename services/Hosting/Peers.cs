using System.Collections.Concurrent;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Grpc.Net.Client;
using Ministries.Serving;
using Ministries.Trust;

namespace Ministries.Hosting;

/// <summary>The other services, called over TLS with this service's own certificate and a deadline on each call. A peer must prove that it
/// is the service of that name, with a certificate of <c>service/&lt;name&gt;</c>.</summary>
/// <param name="settings">The addresses of the services.</param>
/// <param name="credentials">This service's certificate.</param>
/// <param name="agreements">The authorities that vouch for them.</param>
/// <param name="time">The clock.</param>
public sealed class Peers(Settings settings, Credentials credentials, Agreements agreements, TimeProvider time) : IDisposable
{
    /// <summary>The deadline of a call that sets none, its retries included: 2 seconds.</summary>
    public static readonly TimeSpan Deadline = TimeSpan.FromSeconds(2);

    private readonly ConcurrentDictionary<string, Lazy<(GrpcChannel Channel, CallInvoker Invoker)>> _open = [];

    /// <summary>The way to a service. A call that fails throws a <see cref="PeerException"/>.</summary>
    /// <param name="service">Its name, such as <c>custody</c>.</param>
    /// <exception cref="ArgumentException">The settings name no address of that service.</exception>
    public CallInvoker this[string service] =>
        settings.Peers.TryGetValue(service, out var address)
            ? _open
                .GetOrAdd(service, name => new(() => Open(name, [address, .. settings.FurtherPeers.GetValueOrDefault(name) ?? []])))
                .Value.Invoker
            : throw new ArgumentException($"Peers:{service} is not set", nameof(service));

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var open in _open.Values.Where(o => o.IsValueCreated))
            open.Value.Channel.Dispose();
    }

    private (GrpcChannel Channel, CallInvoker Invoker) Open(string service, IReadOnlyList<Uri> addresses)
    {
        var handler = ServiceChannel.Handler(service, () => credentials.Certificate, () => agreements.InForce.Authorities, Deadline, time);
        var channel = ServiceAddresses.Open(
            addresses,
            new GrpcChannelOptions
            {
                HttpHandler = ServiceChannel.AcrossClosing(handler),
                DisposeHttpClient = true,
                MaxReceiveMessageSize = 8 << 20,
                InitialReconnectBackoff = TimeSpan.FromMilliseconds(100),
                MaxReconnectBackoff = TimeSpan.FromSeconds(1),
                ServiceConfig = ServiceChannel.Retries(3, TimeSpan.FromMilliseconds(50), TimeSpan.FromMilliseconds(500), 3),
            }
        );
        return (channel, channel.Intercept(new Caller(service)));
    }

    /// <summary>Sets a deadline on each call, and names the called service in each failure.</summary>
    private sealed class Caller(string service) : Interceptor
    {
        public override AsyncUnaryCall<TResponse> AsyncUnaryCall<TRequest, TResponse>(
            TRequest request,
            ClientInterceptorContext<TRequest, TResponse> context,
            AsyncUnaryCallContinuation<TRequest, TResponse> continuation
        )
        {
            var headers = new Metadata { { SpanExport.Continues, "continued" } };
            foreach (var header in context.Options.Headers ?? [])
                headers.Add(header);
            var options = context.Options.WithHeaders(headers);
            context = new(
                context.Method,
                context.Host,
                options.Deadline is null ? options.WithDeadline(DateTime.UtcNow + Deadline) : options
            );
            var call = continuation(request, context);
            var method = context.Method.FullName.TrimStart('/');
            return new AsyncUnaryCall<TResponse>(
                Named(call.ResponseAsync, method),
                call.ResponseHeadersAsync,
                call.GetStatus,
                call.GetTrailers,
                call.Dispose
            );
        }

        private async Task<TResponse> Named<TResponse>(Task<TResponse> response, string method)
        {
            try
            {
                return await response;
            }
            catch (RpcException e)
            {
                throw new PeerException(service, method, e);
            }
        }
    }
}

/// <summary>A call to another service was refused, or did not reach it.</summary>
/// <param name="service">The service's name.</param>
/// <param name="method">The full method name without a leading slash.</param>
/// <param name="failure">What gRPC said.</param>
public sealed class PeerException(string service, string method, RpcException failure)
    : RpcException(failure.Status, failure.Trailers, failure.Message)
{
    /// <summary>The service's name.</summary>
    public string Service => service;

    /// <summary>The full method name without a leading slash.</summary>
    public string Method => method;
}
