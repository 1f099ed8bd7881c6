using Grpc.Core;
using Grpc.Net.Client;
using Grpc.Net.Client.Balancer;
using Grpc.Net.Client.Configuration;

namespace Ministries.Trust;

/// <summary>Channels to a service that has one address or, with several replicas, several.</summary>
public static class ServiceAddresses
{
    /// <summary>The most addresses of one service: 16.</summary>
    public const int Most = 16;

    /// <summary>Reads one address, or several with commas between them.</summary>
    /// <param name="text">Such as <c>https://custody-1:7100,https://custody-2:7100</c>.</param>
    /// <returns>The addresses; null: it is something else, or more than <see cref="Most"/>.</returns>
    public static IReadOnlyList<Uri>? Read(string text)
    {
        var addresses = new List<Uri>();
        foreach (var part in text.Split(',', StringSplitOptions.TrimEntries))
            if (
                Uri.TryCreate(part, UriKind.Absolute, out var address)
                && address.Scheme == Uri.UriSchemeHttps
                && address.PathAndQuery == "/"
            )
                addresses.Add(address);
            else
                return null;
        return addresses.Count <= Most ? [.. addresses.Distinct()] : null;
    }

    /// <summary>Opens a channel. With several addresses it uses those that can be connected to, one call after the other. If one answers
    /// UNAVAILABLE, the call is made again at the next, within its deadline, as the retries of <paramref name="options"/> say.</summary>
    /// <param name="addresses">At least one.</param>
    /// <param name="options">Its handler must end in a <see cref="SocketsHttpHandler"/> without a callback for connecting.</param>
    public static GrpcChannel Open(IReadOnlyList<Uri> addresses, GrpcChannelOptions options)
    {
        if (addresses is [var single])
            return GrpcChannel.ForAddress(single, options);
        options.Credentials = ChannelCredentials.SecureSsl;
        options.ServiceConfig ??= new ServiceConfig();
        options.ServiceConfig.LoadBalancingConfigs.Add(new RoundRobinConfig());
        options.ServiceProvider = new Known(addresses);
        return GrpcChannel.ForAddress("static:///service", options);
    }

    // Gives the channel the one service that it needs from a provider: the resolver of the known addresses.
    private sealed class Known(IReadOnlyList<Uri> addresses) : IServiceProvider
    {
        public object? GetService(Type serviceType) =>
            serviceType == typeof(IEnumerable<ResolverFactory>)
                ? new ResolverFactory[]
                {
                    new StaticResolverFactory(_ => addresses.Select(a => new BalancerAddress(a.IdnHost.Trim('[', ']'), a.Port))),
                }
                : null;
    }
}
