using System.Text.RegularExpressions;

namespace Ministries.Deploy.Tests;

/// <summary><c>deploy/Dockerfile</c> restores the packages of every project before it copies the sources.</summary>
public sealed partial class ImageTests
{
    [Fact]
    public async Task The_image_is_built_from_every_project_that_there_is()
    {
        var text = await File.ReadAllTextAsync(Path.Combine(Manifests.Root, "deploy", "Dockerfile"), TestContext.Current.CancellationToken);
        var projects = Directory
            .GetDirectories(Path.Combine(Manifests.Root, "services"))
            .Select(d => Path.GetFileName(d)!)
            .Where(d => File.Exists(Path.Combine(Manifests.Root, "services", d, $"{d}.csproj")))
            .Select(d => $"services/{d}/{d}.csproj services/{d}/packages.lock.json services/{d}/");
        Assert.Equal(projects.Order(), Copied().Matches(text).Select(m => m.Groups[1].Value).Order());
    }

    [GeneratedRegex("^COPY (services/.*/.*[.]csproj .*)$", RegexOptions.Multiline)]
    private static partial Regex Copied();
}
