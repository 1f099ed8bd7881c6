using System.Diagnostics;
using System.Text;
using Grpc.AspNetCore.Server;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.Hosting;
using RabbitMQ.Client;

namespace Ministries.FaultHost;

/// <summary>Leaks a word at every call, so that a test can show that its search finds it: into the call's span, the log, the error that the
/// caller gets, an event for another service, or a letter that the service's own queue sets aside. Each kind has a word of its
/// own.</summary>
internal sealed partial class Leak(string kind, ILogger<Leak> log, IConfiguration settings) : Interceptor
{
    private static readonly ActivitySource Spans = new("Ministries");
    private static readonly string Word = Environment.GetEnvironmentVariable("LEAK") ?? "";

    /// <summary>The service, with a leak.</summary>
    /// <param name="service">The service.</param>
    /// <param name="kind"><c>leak-span</c>, <c>leak-log</c>, <c>leak-exception</c>, <c>leak-event</c> or <c>leak-letter</c>.</param>
    public static Service Into(Service service, string kind) =>
        service with
        {
            Register = services =>
            {
                service.Register?.Invoke(services);
                services.Configure<GrpcServiceOptions>(o => o.Interceptors.Add<Leak>(kind));
            },
        };

    public override async Task<TResponse> UnaryServerHandler<TRequest, TResponse>(
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
                    span?.SetTag("ministries.method", $"{Word}-span");
                break;
            case "leak-log":
                Say(log, $"{Word}-log");
                break;
            case "leak-exception":
                throw new RpcException(new Status(StatusCode.Internal, $"something about {Word}-exception"));
            case "leak-event":
                await Publish("ministries.consular", $"{Word}-event");
                break;
            case "leak-letter":
                await Publish("ministries.calllog.dead", $"{Word}-letter");
                break;
            default:
                throw new ArgumentException($"there is no leak {kind}");
        }
        return await continuation(request, context);
    }

    // As the service publishes: with its own user, to a queue of the kind that the services declare, for a disk.
    private async Task Publish(string queue, string word)
    {
        await using var connection = await new ConnectionFactory { Uri = new(settings["Broker:Uri"]!) }.CreateConnectionAsync();
        await using var channel = await connection.CreateChannelAsync(
            new CreateChannelOptions(publisherConfirmationsEnabled: true, publisherConfirmationTrackingEnabled: true)
        );
        if (!queue.EndsWith(".dead", StringComparison.Ordinal))
            await channel.QueueDeclareAsync(queue, true, false, false, new Dictionary<string, object?> { ["x-queue-type"] = "quorum" });
        await channel.BasicPublishAsync("", queue, true, new BasicProperties { Persistent = true }, Encoding.UTF8.GetBytes(word));
    }

    [LoggerMessage(LogLevel.Warning, "something about {Word}")]
    private static partial void Say(ILogger logger, string word);
}
