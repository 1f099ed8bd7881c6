using System.Text;
using System.Text.Json;

namespace Ministries.Cluster;

/// <summary>Asks etcd and Patroni, which answer at once or not at all.</summary>
internal static class Http
{
    private static readonly HttpClient Client = new(new SocketsHttpHandler { ConnectTimeout = TimeSpan.FromSeconds(1) })
    {
        Timeout = TimeSpan.FromSeconds(3),
    };

    public static async Task<JsonDocument> Get(string address) => JsonDocument.Parse(await Client.GetStringAsync(new Uri(address)));

    public static async Task<JsonDocument> Post(string address, string body)
    {
        using var content = new StringContent(body, Encoding.UTF8, "application/json");
        using var response = await Client.PostAsync(new Uri(address), content);
        return JsonDocument.Parse(await response.Content.ReadAsStringAsync());
    }
}
