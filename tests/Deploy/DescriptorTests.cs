using Ministries.Hosting;
using YamlDotNet.Core;
using YamlDotNet.Serialization;

namespace Ministries.Deploy.Tests;

/// <summary>A connection needs a descriptor. Containers may have as many as all connections need that a service allows.</summary>
public sealed class DescriptorTests
{
    private static readonly EdgeLimits Limits = new();

    [Theory]
    [InlineData("docker-compose.yml", "calllog", "custody", "consular", "gateway-kr-mfa", "gateway-icrc")]
    [InlineData("deploy/compose.ha.yml", "calllog-2", "custody-2", "consular-2")]
    public void Whatever_serves_callers_may_have_a_descriptor_for_each_connection_that_it_allows(string file, params string[] among)
    {
        var serving = Containers(file).Where(c => c.Value.GetValueOrDefault("image") is "ministries").ToList();
        Assert.Subset(serving.Select(c => (string)c.Key).ToHashSet(), among.ToHashSet());
        foreach (var (name, container) in serving)
        {
            var allowed = Map(Map(container, "ulimits"), "nofile");
            foreach (var limit in (string[])["soft", "hard"])
                Assert.True(
                    int.Parse((string)allowed[limit]) >= Limits.MaxConnections + Limits.MaxUnidentified + EdgeLimits.OwnDescriptors,
                    $"{file}: {name} may have {allowed[limit]} descriptors ({limit})"
                );
        }
    }

    private static Dictionary<object, Dictionary<object, object>> Containers(string file)
    {
        using var text = File.OpenText(Path.Combine(Manifests.Root, file));
        var whole = new DeserializerBuilder().Build().Deserialize<Dictionary<object, object>>(new MergingParser(new Parser(text)));
        return Map(whole, "services").ToDictionary(c => c.Key, c => (Dictionary<object, object>)c.Value);
    }

    private static Dictionary<object, object> Map(Dictionary<object, object> map, string key) => (Dictionary<object, object>)map[key];
}
