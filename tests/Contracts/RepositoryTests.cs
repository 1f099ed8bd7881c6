using System.Text.RegularExpressions;

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

    // What is mapped without it is served unchecked: neither fields nor the shape of the message are looked at. The gateway maps its relay,
    // which decides nothing: each of its methods has a policy, and the service that it calls checks the message.
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

    /// <summary>Where all writes of each service stand, an RPC that is added must stand too.</summary>
    [Fact]
    public void The_way_to_add_an_RPC_names_every_file_in_which_all_writes_stand()
    {
        var guide = File.ReadAllText(Path.Combine(Buf.Root, "services", "README.md")).Split("## How to add an RPC")[1].Split("\n## ")[0];
        HashSet<string>? everywhere = null;
        foreach (var service in (string[])["CallLog", "Custody", "Consular"])
        {
            var (name, type) = (service.ToLowerInvariant(), $"ministries.{service.ToLowerInvariant()}.v1.{service}Service");
            string[] writes =
            [
                .. Descriptors
                    .Files.SelectMany(f => f.Services)
                    .Single(s => s.FullName == type)
                    .Methods.Where(m => m.InputType.FindFieldByNumber(1) is { Name: "request_id" })
                    .Select(m => m.Name),
            ];
            Assert.NotEmpty(writes);
            var files =
                from top in (string[])["protos", "services", "tests"]
                from file in Directory.EnumerateFiles(Path.Combine(Buf.Root, top), "*.*", SearchOption.AllDirectories)
                where Path.GetExtension(file) is ".cs" or ".json" or ".txt" or ".proto"
                let path = Path.GetRelativePath(Buf.Root, file)
                where path.Split('/').All(p => p is not ("bin" or "obj" or "node_modules"))
                where new HashSet<string>(Regex.Split(File.ReadAllText(file), @"\W+")).IsSupersetOf(writes)
                select path.Replace(service, "<Service>").Replace(name, "<service>");
            everywhere = [.. files.Where(f => everywhere?.Contains(f) != false)];
        }
        Assert.True(everywhere!.Count >= 6, string.Join(", ", everywhere));
        Assert.All(everywhere, f => Assert.Contains(f.StartsWith("services/", StringComparison.Ordinal) ? Named(f) : f, guide));

        // The edge is named by its file alone, other parts of services by their folder too.
        static string Named(string file) => file["services/".Length..].Replace("<Service>/", "");
    }

    // No record was ever written under these numbers. The later ones keep theirs, because others refer to them.
    private static readonly int[] Unused = [81, 84];

    [Fact]
    public void Every_decision_has_its_number_its_date_and_its_status_and_none_is_missing()
    {
        var folder = Path.Combine(Buf.Root, "services", "decisions");
        var list = File.ReadAllText(Path.Combine(folder, "README.md"));
        var numbers = new List<int>();
        foreach (var file in Directory.EnumerateFiles(folder, "0*.md").Order(StringComparer.Ordinal))
        {
            var (name, lines) = (Path.GetFileName(file), File.ReadLines(file).Take(4).ToArray());
            Assert.True(lines[0].StartsWith($"# {name[..4]} ", StringComparison.Ordinal), name);
            Assert.True(
                DateOnly.TryParseExact(lines[2].Replace("Date: ", ""), "yyyy-MM-dd", out _)
                    && lines[2].StartsWith("Date: ", StringComparison.Ordinal),
                name
            );
            Assert.Matches("^Status: (accepted|replaced|superseded)", lines[3]);
            Assert.Contains($"[{name[..4]}]({name}) |", list);
            numbers.Add(int.Parse(name[..4]));
        }
        Assert.True(numbers.Count > 80, $"{numbers.Count}");
        Assert.Equal(Enumerable.Range(1, numbers[^1]), numbers.Concat(Unused).Order());
        Assert.All(Unused, n => Assert.Contains($"{n:0000}", list));
    }

    // From here on subjects are checked. A clone that does not reach as far has none to check.
    private const string Checked = "5cb75ef78fcd217604bd53b1252200ee986c04aa";

    [Fact]
    public async Task Every_subject_of_a_commit_is_short_and_of_finished_work()
    {
        var (code, _) = await Buf.Run("git", "-C", Buf.Root, "merge-base", "--is-ancestor", Checked, "HEAD");
        if (code != 0)
            return;
        var (_, log) = await Buf.Run("git", "-C", Buf.Root, "log", "--no-merges", "--format=%s", $"{Checked}..HEAD");
        Assert.All(
            log.Split('\n', StringSplitOptions.RemoveEmptyEntries),
            subject =>
            {
                Assert.True(subject.Length <= 72, $"{subject.Length} characters: {subject}");
                Assert.DoesNotMatch("^(WIP|wip|fixup!|squash!)", subject);
            }
        );
    }

    [Fact]
    public async Task Nothing_secret_is_committed()
    {
        var (code, found) = await Buf.Run("git", "-C", Buf.Root, "grep", "-lE", "BEGIN ([A-Z]+ )?PRIVATE KEY-----[[:space:]]*$");
        Assert.True(code == 1, found);
    }
}
