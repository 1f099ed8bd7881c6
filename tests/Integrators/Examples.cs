[assembly: AssemblyFixture(typeof(Ministries.Integrators.Tests.Examples))]

namespace Ministries.Integrators.Tests;

/// <summary>The examples, compiled once for all tests into a folder of their own.</summary>
public sealed class Examples : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("integrators-").FullName;

    /// <summary>Where the example of a language was compiled to.</summary>
    public string Compiled(string language) => Directory.CreateDirectory(Path.Combine(_folder, language)).FullName;

    public async ValueTask InitializeAsync()
    {
        // Node compiles nothing: it installs, which tests/run does before.
        Assert.True(
            Directory.Exists(Path.Combine(Example.Here, "node", "node_modules")),
            "run tests/run, or `npm ci --ignore-scripts` in tests/Integrators/node"
        );
        foreach (var language in new[] { "Python", "Go" })
        {
            var (code, output) = await new Example(language).Compile(Compiled(language));
            Assert.True(code == 0, output);
        }
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(_folder, recursive: true);
        return default;
    }
}
