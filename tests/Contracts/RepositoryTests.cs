namespace Ministries.Contracts.Tests;

/// <summary>What holds of the repository as a whole.</summary>
public class RepositoryTests
{
    private static readonly IReadOnlyList<string> Projects =
    [
        .. new[] { "services", "tests" }.SelectMany(f =>
            Directory.EnumerateFiles(
                Path.Combine(Buf.Root, f),
                "*.csproj",
                new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = 1 }
            )
        ),
    ];

    [Fact]
    public void Every_project_is_in_the_solution_with_its_packages_locked()
    {
        var solution = File.ReadAllText(Path.Combine(Buf.Root, "Ministries.sln"));
        Assert.NotEmpty(Projects);
        Assert.All(
            Projects,
            project =>
            {
                Assert.Contains($"\\{Path.GetFileName(project)}\"", solution);
                Assert.True(File.Exists(Path.Combine(Path.GetDirectoryName(project)!, "packages.lock.json")), project);
            }
        );
    }

    [Fact]
    public void Every_program_only_composes() =>
        Assert.All(
            Directory.EnumerateFiles(Path.Combine(Buf.Root, "services"), "Program.cs", SearchOption.AllDirectories),
            program => Assert.True(File.ReadAllLines(program).Length <= 25, program)
        );

    // What is mapped without it is served unchecked: neither fields nor the shape of the message are looked at. The gateway maps its relay, which
    // decides nothing: each of its methods has a policy, and the service that it calls checks the message.
    [Fact]
    public void Services_of_the_contracts_are_mapped_with_their_guard() =>
        Assert.Equal(
            [Path.Combine("Gateway", "GatewayHost.cs"), Path.Combine("Hosting", "Edge.cs")],
            from source in Directory.EnumerateFiles(Path.Combine(Buf.Root, "services"), "*.cs", SearchOption.AllDirectories)
            where File.ReadAllText(source).Contains("MapGrpcService", StringComparison.Ordinal)
            let file = Path.GetRelativePath(Path.Combine(Buf.Root, "services"), source)
            orderby file
            select file
        );

    [Fact]
    public async Task Nothing_secret_is_committed()
    {
        var (code, found) = await Buf.Run("git", "-C", Buf.Root, "grep", "-lE", "BEGIN ([A-Z]+ )?PRIVATE KEY-----[[:space:]]*$");
        Assert.True(code == 1, found);
    }
}
