using Ministries.Fixtures;

[assembly: AssemblyFixture(typeof(Ministries.Integrators.Tests.Examples))]

namespace Ministries.Integrators.Tests;

/// <summary>The examples, each in a copy of its folder, installed and compiled once for all tests.</summary>
public sealed class Examples : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("integrators-").FullName;
    private readonly Dictionary<string, RanBlocks> _compiled = [];

    /// <summary>The example of a language.</summary>
    /// <param name="language">The language.</param>
    /// <param name="ran">Gets each block that is run; null: nobody asks.</param>
    public Example Of(string language, RanBlocks? ran = null) => new(language, FolderOf(language), ran ?? new RanBlocks());

    /// <summary>The blocks by which the example of a language was installed and compiled.</summary>
    public RanBlocks Compiled(string language) => new(_compiled[language]);

    public async ValueTask InitializeAsync()
    {
        // Go finds its packages, and Node and Python their contracts, from where the example stands in the repository.
        foreach (var language in Example.Languages.Select(l => l.Data))
        {
            var folder = Directory.CreateDirectory(FolderOf(language)).FullName;
            Directory.CreateSymbolicLink(Path.Combine(folder, "../../protos"), Path.Combine(Documents.Root, "protos"));
            Copy(Path.Combine(Example.Here, language.ToLowerInvariant()), Path.Combine(folder, language.ToLowerInvariant()));
            _compiled[language] = new RanBlocks();
            var (code, output) = await Of(language, _compiled[language]).Compile();
            Assert.True(code == 0, output);
        }
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(_folder, recursive: true);
        return default;
    }

    private string FolderOf(string language) => Path.Combine(_folder, language, "tests/Integrators");

    private static void Copy(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (var file in Directory.EnumerateFiles(from))
            File.Copy(file, Path.Combine(to, Path.GetFileName(file)));
        foreach (
            var folder in Directory.EnumerateDirectories(from).Where(f => Path.GetFileName(f) is not ("node_modules" or "__pycache__"))
        )
            Copy(folder, Path.Combine(to, Path.GetFileName(folder)));
    }
}
