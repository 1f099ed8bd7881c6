using System.Diagnostics;
using Grpc.AspNetCore.Server;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.Hosting;

namespace Ministries.FaultHost;

/// <summary>Leaks a word at every call, so that a test can show that its search finds it: into the call's span, the log or the error that
/// the caller gets.</summary>
internal sealed partial class Leak(string kind, ILogger<Leak> log) : Interceptor
{
    private static readonly ActivitySource Spans = new("Ministries");
    private static readonly string Word = Environment.GetEnvironmentVariable("LEAK") ?? "";

    /// <summary>The service, with a leak.</summary>
    /// <param name="service">The service.</param>
    /// <param name="kind"><c>leak-span</c>, <c>leak-log</c> or <c>leak-exception</c>.</param>
    public static Service Into(Service service, string kind) =>
        service with
        {
            Register = services =>
            {
                service.Register?.Invoke(services);
                services.Configure<GrpcServiceOptions>(o => o.Interceptors.Add<Leak>(kind));
            },
        };

    public override Task<TResponse> UnaryServerHandler<TRequest, TResponse>(
        TRequest request,
        ServerCallContext context,
        UnaryServerMethod<TRequest, TResponse> continuation
    )
    {
        switch (kind)
        {
            case "leak-span":
                // An attribute that is exported, of a span that is: others are taken out on the way.
                using (var span = Spans.StartActivity("batch calllog"))
                    span?.SetTag("ministries.method", Word);
                break;
            case "leak-log":
                Say(log, Word);
                break;
            case "leak-exception":
                throw new RpcException(new Status(StatusCode.Internal, $"something about {Word}"));
            default:
                throw new ArgumentException($"there is no leak {kind}");
        }
        return continuation(request, context);
    }

    [LoggerMessage(LogLevel.Warning, "something about {Word}")]
    private static partial void Say(ILogger logger, string word);
}
