using System.Text.RegularExpressions;

namespace Ministries.Deploy.Tests;

/// <summary>Memory, in which keys are, is not written to a disk by any container.</summary>
public sealed partial class CoreDumpTests
{
    [Theory]
    [InlineData("docker-compose.yml")]
    [InlineData("deploy/compose.prod.yml")]
    [InlineData("deploy/compose.ha.yml")]
    public async Task No_container_writes_a_core_dump(string file)
    {
        var text = await File.ReadAllTextAsync(Path.Combine(Root(), file), TestContext.Current.CancellationToken);
        var common = Anchor().Matches(text).ToDictionary(m => m.Groups[1].Value, m => Off().IsMatch(m.Value));
        var services = text[
            text.IndexOf("\nservices:\n", StringComparison.Ordinal)..text.IndexOf("\nnetworks:\n", StringComparison.Ordinal)
        ];
        var containers = Container().Matches(services).ToDictionary(m => m.Groups[1].Value, m => m.Value);
        Assert.NotEmpty(containers);
        foreach (var (name, block) in containers)
        {
            // Images that are never run, and additions to what docker-compose.yml has.
            if (block.Contains("profiles: [base-images]", StringComparison.Ordinal) || !Runs(block))
                continue;
            Assert.True(
                Off().IsMatch(block) || Merged().Matches(block).Any(m => common.GetValueOrDefault(m.Groups[1].Value)),
                $"{file}: {name} has no ulimits with core: 0"
            );
        }
    }

    [Fact]
    public async Task The_image_switches_off_dumps_of_NETs_own()
    {
        var text = await File.ReadAllTextAsync(Path.Combine(Root(), "deploy", "Dockerfile"), TestContext.Current.CancellationToken);
        var last = text[text.LastIndexOf("\nFROM ", StringComparison.Ordinal)..];
        Assert.Contains("DOTNET_DbgEnableMiniDump=0", last);
        Assert.Contains("DOTNET_EnableDiagnostics=0", last);
    }

    // It says itself what is run, or takes it from what is common.
    private static bool Runs(string block) => block.Contains("image:", StringComparison.Ordinal) || Merged().IsMatch(block);

    private static string Root()
    {
        var folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "docker-compose.yml")))
            folder = Path.GetDirectoryName(folder)!;
        return folder;
    }

    [GeneratedRegex(@"^x-\w+: &(\w+)\n(?:(?:[ #].*)?\n)*", RegexOptions.Multiline)]
    private static partial Regex Anchor();

    [GeneratedRegex(@"^  ([\w-]+):(?:\n(?:    .*)?| \{.*\}$)*", RegexOptions.Multiline)]
    private static partial Regex Container();

    [GeneratedRegex(@"ulimits: \{.*\bcore: 0 \}")]
    private static partial Regex Off();

    [GeneratedRegex(@"<<: \*(\w+)")]
    private static partial Regex Merged();
}
