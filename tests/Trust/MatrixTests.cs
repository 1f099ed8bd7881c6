using System.Text;
using Ministries.Types.V1;

namespace Ministries.Trust.Tests;

/// <summary>Who may call what, as the standard agreement says it: a changed permission shows in a diff.</summary>
public class MatrixTests
{
    private const string Again = "MATRIX=write dotnet run --project tests/Trust -- -method '*Matrix*'";

    private static readonly (Part Part, string Head)[] Columns =
    [
        (Part.DetainingPower, "detaining"),
        (Part.TransferringPower, "transferring"),
        (Part.RequestingState, "requesting"),
        (Part.NeutralObserver, "observer"),
        (Part.ProtectingPower, "protecting"),
        (Part.Ministry, "ministry"),
        (Part.Service, "service"),
        (Part.Operator, "operator"),
    ];

    private static readonly Agreement Standard = StandardAgreement.Read();

    [Fact]
    public void Every_RPC_is_granted_to_somebody()
    {
        var granted = Standard.Grants.SelectMany(g => g.Methods).ToHashSet();
        var without = Methods.Names.Where(m => !granted.Contains(m)).ToArray();
        Assert.True(
            without.Length == 0,
            $"Nobody may call these: add a grant to services/Trust/agreement.json, or take the RPC away.\n{string.Join('\n', without)}"
        );
    }

    [Fact]
    public void Every_grant_is_of_an_RPC_and_to_a_part()
    {
        var unknown = Standard.Grants.SelectMany(g => g.Methods).Where(m => Methods.Find(m) is null).Distinct().ToArray();
        Assert.True(unknown.Length == 0, $"There is no such RPC:\n{string.Join('\n', unknown)}");
        Assert.All(Standard.Grants, g => Assert.Contains(g.Part, Columns.Select(c => c.Part)));
    }

    [Fact]
    public void Every_part_is_a_column() =>
        Assert.Equal(Enum.GetValues<Part>().Except([Part.Unspecified]).Order(), Columns.Select(c => c.Part).Order());

    [Fact]
    public void The_matrix_is_as_it_was_agreed()
    {
        var path = Path.Combine(Root(), "tests", "Trust", "matrix.txt");
        var now = Render();
        if (Environment.GetEnvironmentVariable("MATRIX") == "write")
            File.WriteAllText(path, now);
        var before = File.Exists(path) ? File.ReadAllText(path) : "";
        if (now == before)
            return;
        var (was, @is) = (before.Split('\n'), now.Split('\n'));
        Assert.Fail(
            $"What the agreement grants is not what tests/Trust/matrix.txt says. If it is meant: {Again}\n"
                + $"{string.Join('\n', was.Except(@is).Select(l => $"- {l}").Concat(@is.Except(was).Select(l => $"+ {l}")))}"
        );
    }

    [Fact]
    public void What_is_not_granted_is_denied()
    {
        var permissions = new Permissions(new Agreement());
        Assert.All(Methods.Names, m => Assert.False(permissions.PartsGranted(m).CoversAny(Enum.GetValues<Part>())));
    }

    [Theory]
    [InlineData(ParticipantKind.Unspecified)]
    [InlineData(ParticipantKind.Service)]
    [InlineData(ParticipantKind.Operator)]
    public void No_service_nor_operator_nor_unknown_kind_may_ever_write_a_record(ParticipantKind kind)
    {
        var parts = Cases.PartsEverOf(new Participant { Id = "x", Kind = kind });
        var permissions = new Permissions(Standard);
        Assert.All(
            Methods.Names.Where(m => Methods.Find(m)!.InputType.FindFieldByName("actor") is not null),
            m => Assert.False(permissions.PartsGranted(m).CoversAny(parts), m)
        );
    }

    // A row for each RPC, a column for each part that somebody can have; + where the agreement grants it.
    private static string Render()
    {
        var permissions = new Permissions(Standard);
        var text = new StringBuilder();
        text.Append("# Which part in a case may call which RPC (services/Trust/agreement.json). Everything else is denied.\n");
        text.Append($"# To write it anew: {Again}\n");
        var width = Methods.Names.Max(m => m.Split('/')[1].Length) + 2;
        foreach (var service in Methods.Names.GroupBy(m => m.Split('/')[0]))
        {
            text.Append($"\n{service.Key}\n{new string(' ', width + 2)}{string.Join("  ", Columns.Select(c => c.Head))}\n");
            foreach (var method in service)
            {
                var row = Columns.Select(c => (permissions.PartsGranted(method).CoversAny([c.Part]) ? "+" : ".").PadRight(c.Head.Length));
                text.Append($"  {method.Split('/')[1].PadRight(width)}{string.Join("  ", row).TrimEnd()}\n");
            }
        }
        return text.ToString();
    }

    private static string Root()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            if (File.Exists(Path.Combine(folder.FullName, "Ministries.sln")))
                return folder.FullName;
        throw new DirectoryNotFoundException("Ministries.sln is in no folder above the tests");
    }
}
