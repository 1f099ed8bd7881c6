using System.Reflection;
using System.Text.RegularExpressions;
using Ministries.CallLog;
using Ministries.Consular;
using Ministries.Custody;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Rules.Tests;

/// <summary>Rules as they are declared, compared with what the contracts say of their RPCs.</summary>
public partial class DeclarationTests
{
    private static readonly Hosting.Service[] Services = [CallLogService.Definition, CustodyService.Definition, ConsularService.Definition];

    // Those of CorrectRecord in the consular service are two, one for each kind of record.
    private static readonly (string Field, Rule Rule)[] Declared =
    [
        .. from assembly in new[] { typeof(Calls).Assembly, typeof(Prisoners).Assembly, typeof(Transfers).Assembly }
        from type in assembly.GetExportedTypes()
        from field in type.GetFields(BindingFlags.Public | BindingFlags.Static)
        where field.FieldType.IsAssignableTo(typeof(Rule))
        select (field.Name, (Rule)field.GetValue(null)!),
    ];

    private static readonly Lazy<Dictionary<string, string>> Comments = new(ReadComments);

    public static TheoryData<string> Writes =>
        [.. Methods.Writes.Where(m => Methods.ServiceOf(m) is "calllog" or "custody" or "consular").Order(StringComparer.Ordinal)];

    [GeneratedRegex(@"((?: *//[^\n]*\n)+) *rpc (\w+)\(")]
    private static partial Regex RpcWithComment();

    [GeneratedRegex(@"(?<=\bStates: )[^.;]*")]
    private static partial Regex StatesClause();

    [GeneratedRegex(@"(?<=\bSide: )[^.;]*")]
    private static partial Regex SideClause();

    [Theory, MemberData(nameof(Writes))]
    public void Every_write_has_a_rule_of_its_name(string method)
    {
        var rules = Declared.Where(r => r.Rule.Method == method).ToArray();
        Assert.NotEmpty(rules);
        Assert.All(rules, r => Assert.Equal(method.Split('/')[1], r.Field));
    }

    [Theory, MemberData(nameof(Writes))]
    public void The_contract_names_the_states_and_the_side_of_the_rule(string method)
    {
        var comment = Comments.Value[method];
        var states = Words(Assert.Single(StatesClause().Matches(comment)).Value);
        var side = SideClause().Match(comment) is { Success: true } found ? found.Value : null;
        var closed = comment.Contains("closed case", StringComparison.Ordinal);
        foreach (var (_, rule) in Declared.Where(r => r.Rule.Method == method))
        {
            Assert.Equal(side, rule.SideName);
            Assert.Equal(closed, rule.InClosedCase);
            if (rule.States.Count == 0)
                Assert.Contains(states.First(), (string[])["every", "none"]);
            else if (rule.States.Count == Enum.GetValues(rule.States[0].GetType()).Length)
                Assert.Equal(["every"], states);
            else
                Assert.Equal(rule.States.Select(ContractName).Order(), states.Order());
        }
    }

    /// <summary>A side that lacks the grant could never do what the rule lets it do.</summary>
    [Theory, MemberData(nameof(Writes))]
    public void The_standard_agreement_grants_a_rule_to_every_part_of_its_side(string method)
    {
        var granted = new Permissions(Trust.StandardAgreement.Read()).PartsGranted(method);
        foreach (var (_, rule) in Declared.Where(r => r.Rule.Method == method && r.Rule.SideName is not null))
            Assert.All(PartsOf(rule), part => Assert.True(granted.CoversAny([part]), $"{method} is not granted to {part}"));
    }

    private static readonly Dictionary<string, Part[]> Sides = new()
    {
        ["either side of the call"] = [Part.DetainingPower, Part.TransferringPower, Part.RequestingState],
        ["detaining power"] = [Part.DetainingPower],
        ["detaining power's custody"] = [Part.DetainingPower],
        ["detaining power of now or before"] = [Part.DetainingPower, Part.TransferringPower],
        ["requesting state"] = [Part.RequestingState],
        ["accepting power"] = [Part.RequestingState],
        ["visiting side"] = [Part.RequestingState, Part.NeutralObserver, Part.ProtectingPower],
        // A power from which custody passed records the visits of its time.
        ["visiting side or detaining power"] =
        [
            Part.DetainingPower,
            Part.TransferringPower,
            Part.RequestingState,
            Part.NeutralObserver,
            Part.ProtectingPower,
        ],
        ["detaining power's custody or accepting power"] = [Part.DetainingPower, Part.RequestingState],
        // He was handed over, so that the accepting power holds him.
        ["detaining power or accepting power"] = [Part.DetainingPower, Part.TransferringPower],
        ["holding power's custody or detaining power"] = [Part.DetainingPower, Part.TransferringPower],
        ["notifying observer"] = [Part.NeutralObserver, Part.ProtectingPower],
        ["observer of no power that holds him"] = [Part.NeutralObserver, Part.ProtectingPower],
    };

    // Once a prisoner is handed over, the transfer's detaining power is in the case a power that transferred him.
    private static IEnumerable<Part> PartsOf(Rule rule) =>
        rule.SideName == "detaining power" && rule.States.Any(s => $"{s}" is "HandedOver" or "Monitored" or "ReturnRequested")
            ? [.. Sides[rule.SideName], Part.TransferringPower]
            : Sides[rule.SideName!];

    public static TheoryData<string> Published =>
        [
            .. from service in Services
            from file in Contracts.Descriptors.Files
            where file.Package == $"ministries.{service.Name}.v1"
            from message in file.MessageTypes
            where message.GetOptions()?.GetExtension(OptionsExtensions.Published) == true
            select message.FullName,
        ];

    [Theory, MemberData(nameof(Published))]
    public void Every_event_of_a_service_is_folded_by_it(string type)
    {
        var service = Services.Single(s => type.StartsWith($"ministries.{s.Name}.v1.", StringComparison.Ordinal));
        Assert.Contains(type, service.Streams.SelectMany(k => k.Events).Select(e => e.FullName));
    }

    [Fact]
    public void Every_kind_of_record_says_what_each_event_does_to_it() =>
        Assert.All(Services.SelectMany(s => s.Streams), kind => Assert.NotEmpty(kind.Events));

    [Fact]
    public void An_event_without_a_fold_is_an_error()
    {
        var entry = new FoldedEntry(0, new Google.Protobuf.WellKnownTypes.Timestamp(), "kr/mfa", "request", null);
        Assert.Throws<InvalidOperationException>(() => Calls.Kind.Apply(new CallLog.V1.Call(), new Receipt(), entry));
    }

    /// <summary>The order of decision 0049, as far as each contract has refusals of it.</summary>
    [Theory, MemberData(nameof(Writes))]
    public void The_contract_names_common_refusals_in_the_order_in_which_they_are_checked(string method)
    {
        string[] order =
        [
            "NOT_FOUND",
            "NO_CAPACITY",
            "NOT_GRANTED",
            "NOT_A_SIDE",
            "APPROVALS_MISSING",
            "CASE_CLOSED",
            "STALE",
            "DUPLICATE_RECORD",
            "STATE_NOT_ALLOWED",
        ];
        var refusals = Comments.Value[method].Split("Refusals", 2)[1];
        var named = Regex.Matches(refusals, "[A-Z][A-Z_]+[A-Z]").Select(m => m.Value).Where(order.Contains).Distinct().ToArray();
        Assert.Equal(order.Where(named.Contains), named);
    }

    private static IEnumerable<string> Words(string clause) =>
        clause.Split([',', ' '], StringSplitOptions.RemoveEmptyEntries).Where(w => w is not ("and" or "one"));

    // UnderReview is UNDER_REVIEW in the contract.
    private static string ContractName(Enum state) => Regex.Replace($"{state}", "(?<=[a-z])(?=[A-Z])", "_").ToUpperInvariant();

    private static Dictionary<string, string> ReadComments()
    {
        var root = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(root!.FullName, "Ministries.sln")))
            root = root.Parent;
        var comments = new Dictionary<string, string>();
        foreach (var service in (string[])["CallLog", "Custody", "Consular"])
        {
            var name = service.ToLowerInvariant();
            var text = File.ReadAllText(Path.Combine(root.FullName, "protos", "ministries", name, "v1", $"{name}_service.proto"));
            foreach (Match match in RpcWithComment().Matches(text))
                comments[$"ministries.{name}.v1.{service}Service/{match.Groups[2].Value}"] = Regex.Replace(
                    match.Groups[1].Value,
                    @"\s*//\s*",
                    " "
                );
        }
        return comments;
    }
}
