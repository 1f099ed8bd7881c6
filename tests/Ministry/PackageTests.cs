using System.Diagnostics;
using System.IO.Compression;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Ministries.Fixtures;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>The client library and the command as a ministry gets them: packages, the program of the library's README, one file.</summary>
public sealed partial class PackageTests(Services services) : IClassFixture<Services>, IDisposable
{
    private static readonly string Root = Documents.Root;

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

    [Fact]
    public async Task The_commands_tool_is_installed_from_its_package_and_calls()
    {
        await Dotnet(
            Root,
            [
                .. Command("dotnet pack services/Ministry"),
                "--no-build",
                "-c",
                "Debug",
                "-o",
                Path.Combine(_folder, "tools"),
                $"-p:Version={_version}",
            ]
        );
        var tool = Path.Combine(_folder, "tool");
        await Processes.Output(
            new ProcessStartInfo(
                "dotnet",
                [
                    "tool",
                    "install",
                    "Ministries.Ministry",
                    "--tool-path",
                    tool,
                    "--version",
                    _version,
                    "--source",
                    Path.Combine(_folder, "tools"),
                ]
            )
            {
                // Whatever it keeps is of this test.
                Environment = { ["NUGET_PACKAGES"] = Path.Combine(_folder, "packages"), ["DOTNET_CLI_HOME"] = _folder },
                WorkingDirectory = _folder,
            }
        );

        var ministry = Path.Combine(tool, "ministry");
        Assert.Matches(@"^\d+\.\d+\.\d+", await Processes.Output(new ProcessStartInfo(ministry, ["--version"])));
        var start = new ProcessStartInfo(ministry, ["list", "cases"]) { WorkingDirectory = _folder };
        services.Name(start.Environment);
        start.Environment["MINISTRIES_CONFIG"] = Path.Combine(_folder, "config.json");
        Assert.Contains(services.Case, await Processes.Output(start));
    }

    [Theory]
    [InlineData("--no-self-contained")]
    [InlineData("--self-contained")]
    public async Task The_command_is_published_as_one_file(string contained)
    {
        var folder = Path.Combine(_folder, "published");

        await Dotnet(
            Root,
            [.. Command("dotnet publish services/Ministry", contained), "-c", "Debug", "-p:BuildProjectReferences=false", "-o", folder]
        );

        var ministry = Path.Combine(folder, "ministry");
        Assert.Equal(ministry, Assert.Single(Directory.GetFileSystemEntries(folder)));
        Assert.Contains("calllog", await Processes.Output(Start(ministry, contained, "--help")));
        // It signs and verifies: libsodium is in it.
        Assert.Contains(services.Case, await Processes.Output(Start(ministry, contained, "list", "cases")));
        await Serves(ministry, contained);
    }

    // A gateway keeps a database: SQLite is in it, too.
    private async Task Serves(string ministry, string contained)
    {
        var settings = Path.Combine(_folder, "gateway.json");
        var state = Path.Combine(_folder, "gateway");
        await File.WriteAllTextAsync(
            settings,
            new JsonObject
            {
                ["participant"] = "kr/mfa",
                ["folder"] = services.Folder,
                ["state"] = state,
                ["listen"] = $"https://127.0.0.1:{Ports.Free()}",
                ["services"] = new JsonObject(services.Addresses.Select(a => KeyValuePair.Create(a.Key, (JsonNode?)a.Value.ToString()))),
            }.ToJsonString(),
            Cancel
        );
        var start = Start(ministry, contained, "serve", "--settings", settings);
        start.RedirectStandardOutput = true;
        using var process = Process.Start(start)!;
        try
        {
            Assert.StartsWith("kr/mfa at ", await process.StandardOutput.ReadLineAsync(Cancel));
            Assert.True(File.Exists(Path.Combine(state, "mirror.db")));
        }
        finally
        {
            process.Kill();
            await process.WaitForExitAsync(CancellationToken.None);
        }
    }

    private ProcessStartInfo Start(string ministry, string contained, params string[] arguments)
    {
        var start = new ProcessStartInfo(ministry, arguments) { WorkingDirectory = _folder };
        services.Name(start.Environment);
        start.Environment["MINISTRIES_CONFIG"] = Path.Combine(_folder, "config.json");
        start.Environment["DOTNET_BUNDLE_EXTRACT_BASE_DIR"] = Path.Combine(_folder, "unpacked");
        // A machine without .NET.
        if (contained == "--self-contained")
            start.Environment["DOTNET_ROOT"] = Path.Combine(_folder, "none");
        return start;
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

    // The arguments of a command that the README names.
    private static IEnumerable<string> Command(string begins, string with = "") =>
        Documents
            .Spans("README.md")
            .Select(s => s.Split(' '))
            .Single(s => string.Join(' ', s).StartsWith(begins, StringComparison.Ordinal) && (with.Length == 0 || s.Contains(with)))[1..];

    private static string Packages() =>
        Environment.GetEnvironmentVariable("NUGET_PACKAGES") is { Length: > 0 } folder
            ? folder
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget/packages");

    private static async Task Dotnet(string folder, params string[] arguments) =>
        await Processes.Output(new ProcessStartInfo("dotnet", [.. arguments, "--nologo", "-v", "quiet"]) { WorkingDirectory = folder });

    [GeneratedRegex("^```csharp\n(?<program>.*?)^```", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Programs();
}
