using Ministries.Fixtures;
using Ministries.Hosting.Bus;
using RabbitMQ.Client;

namespace Ministries.Bus.Tests;

/// <summary>The RabbitMQ node of the test process, used by one test after the other.</summary>
internal static class Node
{
    /// <summary>The node, with everything of earlier tests removed.</summary>
    public static async Task<Uri> Clean()
    {
        var node = await RabbitMq.Shared;
        await using var connection = await Connect(node.Uri);
        await using var channel = await connection.CreateChannelAsync();
        foreach (var service in new[] { "calllog", "consular" })
        {
            foreach (var name in new[] { $"ministries.{service}", $"ministries.{service}.dead" })
            {
                await channel.QueueDeleteAsync(name, false, false);
                await channel.ExchangeDeleteAsync(name);
            }
            foreach (var type in EventTypes.Of(service))
                await channel.ExchangeDeleteAsync(type.FullName);
        }
        return node.Uri;
    }

    /// <summary>A connection of the plain client.</summary>
    public static Task<IConnection> Connect(Uri uri) =>
        new ConnectionFactory { Uri = uri, AutomaticRecoveryEnabled = false }.CreateConnectionAsync(TestContext.Current.CancellationToken);
}
