using System.Diagnostics;
using System.IO.Compression;
using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Ministries.Client;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>The client library as a ministry gets it: a package, and the program of its README.</summary>
public sealed partial class PackageTests(Services services) : IClassFixture<Services>, IDisposable
{
    internal static readonly string Root = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(Here())!, "../.."));

    private readonly string _folder = Directory.CreateTempSubdirectory("package").FullName;

    // The packages that a restore unpacks are kept by version, so each run has its own.
    private readonly string _version = $"0.0.0-test.{Environment.ProcessId}.{Guid.NewGuid():N}";

    [Fact]
    public async Task The_program_of_the_README_runs_with_the_package_alone()
    {
        await Dotnet(
            _folder,
            "pack",
            Path.Combine(Root, "services/Client/Client.csproj"),
            "--no-build",
            "-p:BuildProjectReferences=false",
            "-c",
            "Debug",
            "-o",
            "feed",
            $"-p:Version={_version}"
        );
        TheListOfDependenciesHasNoDatabase();

        var sample = Directory.CreateDirectory(Path.Combine(_folder, "sample")).FullName;
        var readme = await File.ReadAllTextAsync(Path.Combine(Root, "services/Client/README.md"), Cancel);
        await File.WriteAllTextAsync(Path.Combine(sample, "Program.cs"), Programs().Match(readme).Groups["program"].Value, Cancel);
        await File.WriteAllTextAsync(Path.Combine(sample, "Sample.csproj"), Project(), Cancel);
        await Dotnet(sample, "build", "--source", Path.Combine(_folder, "feed"), "--source", await Source());

        var said = await Run(sample, Path.Combine(sample, "bin/Debug/net10.0/Sample.dll"));

        Assert.Matches(@"^call_\w+ is at position \d+ of calllog\nkr/mfa sealed: What was said\.\n$", said);
        using var ministry = services.As("kr/mfa");
        var id = said.Split(' ')[0];
        Assert.Equal(
            id,
            (await ministry.CallLog.GetCallAsync(new CallLog.V1.GetCallRequest { Call = id }, cancellationToken: Cancel)).Call.Id
        );
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Directory.Delete(_folder, true);
        var unpacked = Path.Combine(Packages(), "ministries.client", _version);
        if (Directory.Exists(unpacked))
            Directory.Delete(unpacked, true);
    }

    private void TheListOfDependenciesHasNoDatabase()
    {
        using var package = ZipFile.OpenRead(Assert.Single(Directory.GetFiles(Path.Combine(_folder, "feed"))));
        using var specification = package.Entries.Single(e => e.Name.EndsWith(".nuspec", StringComparison.Ordinal)).Open();
        var needed = XDocument
            .Load(specification)
            .Descendants()
            .Where(e => e.Name.LocalName == "dependency")
            .Select(e => (string)e.Attribute("id")!);
        Assert.DoesNotContain(
            needed,
            n => n.Contains("Npgsql", StringComparison.Ordinal) || n.Contains("Sqlite", StringComparison.Ordinal)
        );
        Assert.DoesNotContain(needed, n => n.StartsWith("Ministries", StringComparison.Ordinal));
        Assert.Contains("Grpc.Net.Client", needed);
        Assert.Contains(package.Entries, e => e.FullName == "lib/net10.0/Ministries.Client.xml");
        Assert.Contains(package.Entries, e => e.FullName == "README.md");
    }

    private string Project() =>
        $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFramework>net10.0</TargetFramework>
                <ImplicitUsings>enable</ImplicitUsings>
                <Nullable>enable</Nullable>
                <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
                <EnableAppHostPackDownload>false</EnableAppHostPackDownload>
                <UseAppHost>false</UseAppHost>
              </PropertyGroup>
              <ItemGroup>
                <PackageReference Include="Ministries.Client" Version="{_version}" />
              </ItemGroup>
            </Project>
            """;

    private async Task<string> Run(string folder, string program)
    {
        var start = new ProcessStartInfo("dotnet", [program, services.Case]) { WorkingDirectory = folder };
        services.Name(start.Environment);
        return await Processes.Output(start);
    }

    // The feed of the third parties' packages is the one that the project itself was restored from.
    private static async Task<string> Source()
    {
        var listed = await Processes.Output(
            new ProcessStartInfo("dotnet", ["nuget", "list", "source", "--format", "short"]) { WorkingDirectory = Root }
        );
        return listed.Split('\n').First(l => l.StartsWith("E ", StringComparison.Ordinal))[2..].Trim();
    }

    private static string Packages() =>
        Environment.GetEnvironmentVariable("NUGET_PACKAGES") is { Length: > 0 } folder
            ? folder
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget/packages");

    private static async Task Dotnet(string folder, params string[] arguments) =>
        await Processes.Output(new ProcessStartInfo("dotnet", [.. arguments, "--nologo", "-v", "quiet"]) { WorkingDirectory = folder });

    private static string Here([CallerFilePath] string file = "") => file;

    [GeneratedRegex("^```csharp\n(?<program>.*?)^```", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Programs();
}
