using System.Reflection;
using System.Text.RegularExpressions;
using Buf.Validate;
using Google.Api;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Errors.V1;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Contracts.Tests;

/// <summary>What the contracts promise beyond what buf checks, read from their descriptors.</summary>
public partial class ConventionTests
{
    /// <summary>The fields that every write of the ministries' three services shares, by number.</summary>
    private static readonly Dictionary<int, string> Common = new()
    {
        [1] = "request_id",
        [2] = "actor",
        [3] = "etag",
        [4] = "approvals",
        [5] = "case",
        [6] = "prisoner",
        [7] = "precedence",
        [8] = "classification",
    };

    /// <summary>The strings that an event may carry: ids and codes that say nothing of a person (D16). A reference is a
    /// pseudonym. A name that is not here needs a reason of the same kind.</summary>
    private static readonly HashSet<string> PublicStrings =
    [
        "accepting_participant",
        "accepting_power",
        "access",
        "answering_power",
        "assessment",
        "call",
        "case",
        "claim",
        "commitment",
        "commitments",
        "destination",
        "detaining_participant",
        "detaining_power",
        "detaining_powers",
        "duty",
        "failure",
        "fitness",
        "former_powers",
        "from_power",
        "move",
        "notification",
        "participant",
        "place_visit",
        "prisoner",
        "prisoners",
        "record",
        "relieved_powers",
        "requesting_state",
        "returning_power",
        "same_as_call",
        "same_as_prisoner",
        "standing_basis",
        "state",
        "statement",
        "to_power",
        "transfer",
        "transferring_powers",
    ];

    /// <summary>The decisions and facts that an event may tell by yes or no.</summary>
    private static readonly HashSet<string> PublicFlags = ["agreed", "ended", "granted", "held", "returned", "undone"];

    /// <summary>The enums that an event may carry.</summary>
    private static readonly HashSet<string> PublicEnums =
    [
        "ministries.calllog.v1.SettlementKind",
        "ministries.consular.v1.HandoverSide",
        "ministries.type.v1.Invariant",
        "ministries.type.v1.Part",
        "ministries.type.v1.Route",
    ];

    private static readonly FileDescriptor[] Files =
    [
        .. typeof(Agreement)
            .Assembly.GetExportedTypes()
            .Select(t => t.GetProperty("Descriptor", BindingFlags.Public | BindingFlags.Static)?.GetValue(null))
            .OfType<FileDescriptor>()
            .Where(f => f.Package.StartsWith("ministries.", StringComparison.Ordinal))
            .OrderBy(f => f.Name),
    ];

    private static readonly MethodDescriptor[] Methods = [.. Files.SelectMany(f => f.Services).SelectMany(s => s.Methods)];

    private static readonly MethodDescriptor[] Writes = [.. Methods.Where(m => !ReadName().IsMatch(m.Name))];

    private static readonly MessageDescriptor[] Published =
    [
        .. Files.SelectMany(f => f.MessageTypes).Where(m => m.GetOptions()?.GetExtension(OptionsExtensions.Published) == true),
    ];

    [GeneratedRegex("^(Get|List|Follow|Check)(?=[A-Z])")]
    private static partial Regex ReadName();

    [GeneratedRegex(@"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b|\bUNAVAILABLE\b|\bSTALE\b")]
    private static partial Regex ReasonName();

    [GeneratedRegex("^ministries\\.(calllog|custody|consular)\\.v1$")]
    private static partial Regex MinistryPackage();

    [GeneratedRegex("wish|consent|objection|asylum|defect|persecut|refoul|suicid|health|injur|wound", RegexOptions.IgnoreCase)]
    private static partial Regex TellsOfAPerson();

    [Fact]
    public void There_is_something_to_check()
    {
        Assert.NotEmpty(Writes);
        Assert.NotEmpty(Published);
    }

    [Fact]
    public void Every_write_carries_a_request_id() =>
        None(
            from method in Writes
            let field = method.InputType.FindFieldByNumber(1)
            where
                field is not { Name: "request_id", FieldType: FieldType.String }
                || !Is(field, FieldBehavior.Required)
                || StringForms.Of(field) != StringForms.RequestId
            select $"{method.FullName}: its request needs `request_id = 1`, REQUIRED, a request id"
        );

    [Fact]
    public void Every_write_answers_with_a_receipt() =>
        None(
            from method in Writes
            let field = method.OutputType.FindFieldByNumber(1)
            where field is not { Name: "receipt" } || field.MessageType.FullName != Receipt.Descriptor.FullName
            select $"{method.FullName}: its response needs `Receipt receipt = 1`"
        );

    [Fact]
    public void Reads_carry_no_request_id_and_answer_without_a_receipt() =>
        None(
            from method in Methods.Except(Writes)
            where method.InputType.FindFieldByName("request_id") is not null || method.OutputType.FindFieldByName("receipt") is not null
            select $"{method.FullName}: its name is that of a read"
        );

    [Fact]
    public void Fields_common_to_writes_have_their_numbers() =>
        None(
            from method in Writes
            where MinistryPackage().IsMatch(method.File.Package)
            from field in method.InputType.Fields.InDeclarationOrder()
            where field.FieldNumber < 10 ? Common.GetValueOrDefault(field.FieldNumber) != field.Name : Common.ContainsValue(field.Name)
            select $"{field.FullName} = {field.FieldNumber}: 1 to 9 are {string.Join(", ", Common.Values)}; own fields start at 10"
        );

    /// <summary>Verifiers read these of every request that a log holds, whatever its type (<c>SignedFields</c>).</summary>
    [Fact]
    public void What_verifiers_read_of_a_request_is_the_same_in_every_write() =>
        None(
            from method in Writes
            from known in Evidence.V1.SignedFields.Descriptor.Fields.InDeclarationOrder()
            let field = method.InputType.FindFieldByNumber(known.FieldNumber)
            where
                field is not null
                && (
                    field.Name != known.Name
                    || field.FieldType != known.FieldType
                    || field.IsRepeated != known.IsRepeated
                    || field.FieldType == FieldType.Message && field.MessageType != known.MessageType
                )
            select $"{field.FullName}: the number {known.FieldNumber} is that of {known.Name}"
        );

    [Fact]
    public void Every_binding_write_names_its_actor() =>
        None(
            from method in Writes
            where MinistryPackage().IsMatch(method.File.Package)
            let field = method.InputType.FindFieldByName("actor")
            where field is null || field.MessageType.FullName != Actor.Descriptor.FullName || !Is(field, FieldBehavior.Required)
            select $"{method.FullName}: its request needs `Actor actor = 2`, REQUIRED"
        );

    [Fact]
    public void Etags_are_declared_as_such() =>
        None(
            from message in Requests()
            from field in message.Fields.InDeclarationOrder()
            where field.Name == "etag" && StringForms.Of(field) != StringForms.Etag
            select $"{field.FullName}: the form of etags"
        );

    [Fact]
    public void Every_list_is_paged() =>
        None(
            from method in Methods
            where method.Name.StartsWith("List", StringComparison.Ordinal) && method.Name != "ListEvents"
            where
                StringForms.RulesOf(method.InputType.FindFieldByName("page_size"))?.Int32 is not { Gte: 0, Lte: > 0 and <= 1000 }
                || StringForms.Of(method.InputType.FindFieldByName("page_token")) != StringForms.PageToken
                || method.OutputType.FindFieldByName("next_page_token") is null
            select $"{method.FullName}: page_size with a maximum, page_token, next_page_token"
        );

    [Fact]
    public void Every_field_of_a_request_says_whether_it_must_be_there() =>
        None(
            from field in RequestFields()
            where !Is(field, FieldBehavior.Required) && !Is(field, FieldBehavior.Optional) && !Is(field, FieldBehavior.OutputOnly)
            select $"{field.FullName}: google.api.field_behavior"
        );

    [Fact]
    public void Every_string_and_every_list_of_a_request_is_bounded() =>
        None(
            from field in RequestFields()
            let rules = StringForms.RulesOf(field) ?? new FieldRules()
            let value = field.IsRepeated ? rules.Repeated?.Items : rules
            from missing in new[]
            {
                field.FieldType is FieldType.String && value?.String is not ({ MaxBytes: > 0 } or { Pattern.Length: > 0 })
                    ? "max_bytes, or a pattern that bounds it"
                    : null,
                field.FieldType is FieldType.Bytes && value?.Bytes is not ({ MaxLen: > 0 } or { Len: > 0 }) ? "max_len" : null,
                field.IsRepeated && !field.IsMap && rules.Repeated is not { MaxItems: > 0 } ? "max_items" : null,
                field.IsMap && rules.Map is not { MaxPairs: > 0 } ? "max_pairs" : null,
            }
            where missing is not null
            select $"{field.FullName}: {missing}"
        );

    /// <summary>What a client's validator demands is what the services demand.</summary>
    [Fact]
    public void What_must_be_there_and_what_may_stand_in_it_is_declared_by_standard_rules_too() =>
        None(
            from field in RequestFields()
            let rules = StringForms.RulesOf(field) ?? new FieldRules()
            let value = field.IsRepeated ? rules.Repeated?.Items : rules
            let required = Is(field, FieldBehavior.Required) && field.RealContainingOneof is null && field.FieldType != FieldType.Bool
            from missing in new[]
            {
                required != rules.Required && !Is(field, FieldBehavior.OutputOnly) ? $"required is {rules.Required}" : null,
                field.FieldType == FieldType.Enum && value?.Enum is not { DefinedOnly: true } ? "enum.defined_only" : null,
                field.FieldType == FieldType.Enum && field.IsRepeated && value?.Enum.NotIn is not [0] ? "enum.not_in: [0]" : null,
                field.FieldType == FieldType.Message
                && field.MessageType.FullName == Timestamp.Descriptor.FullName
                && !(rules.Timestamp?.Gte?.Seconds == -2208988800 && rules.Timestamp?.Lt?.Seconds == 7258118400)
                    ? "timestamp from 1900 to 2199"
                    : null,
                field.FieldType == FieldType.String
                && !field.HasPresence
                && !field.IsRepeated
                && value?.String is { Pattern.Length: > 0 }
                && !required
                && rules.Ignore != Ignore.IfZeroValue
                    ? "ignore: IGNORE_IF_ZERO_VALUE"
                    : null,
            }
            where missing is not null
            select $"{field.FullName}: {missing}"
        );

    /// <summary>A pattern that the list of forms does not have would be told to nobody in words.</summary>
    [Fact]
    public void Every_pattern_is_of_a_form_and_written_as_there() =>
        None(
            from field in RequestFields()
            let rules = StringForms.RulesOf(field) ?? new FieldRules()
            let strings = field.IsRepeated ? rules.Repeated?.Items?.String : rules.String
            let form = StringForms.Of(field)
            where
                field.FieldType == FieldType.String
                && (
                    form is null
                        ? strings?.Pattern.Length > 0 || StringForms.MeaningOf(field) != Meaning.Unspecified
                        : form != StringForms.Text && (strings!.MaxBytes, strings.NotContains) != ((ulong)form.MaxBytes, form.NotContains)
                )
            select $"{field.FullName}: {strings}"
        );

    [Fact]
    public void Moments_end_in_time() =>
        None(
            from field in Files.SelectMany(f => f.MessageTypes).SelectMany(All).SelectMany(m => m.Fields.InDeclarationOrder())
            where field.FieldType == FieldType.Message && field.MessageType.FullName == Timestamp.Descriptor.FullName
            where field.Name != "time" && !field.Name.EndsWith("_time", StringComparison.Ordinal)
            select $"{field.FullName}: *_time"
        );

    [Fact]
    public void Nothing_is_deleted_or_updated_at_large() =>
        None(
            from method in Methods
            where Regex.IsMatch(method.Name, "^(Delete|Update|Set|Patch)(?=[A-Z])")
            select $"{method.FullName}: a verb of the field"
        );

    [Fact]
    public void States_are_moved_by_verbs_alone() =>
        None(
            from field in RequestFields()
            where field.FieldType == FieldType.Enum && field.Name == "state" && Writes.Any(m => m.InputType == field.ContainingType)
            select $"{field.FullName}: a state is output only"
        );

    [Fact]
    public void Events_hold_ids_and_public_facts_only() =>
        None(from message in Published from complaint in NotPublic(message) select complaint);

    [Fact]
    public void Events_name_their_case_first() =>
        None(
            from message in Published
            where message.FindFieldByNumber(1) is not { Name: "case", FieldType: FieldType.String }
            select $"{message.FullName}: `string case = 1`"
        );

    [Fact]
    public void Events_are_what_their_files_hold() =>
        None(
            from file in Files
            where file.Name.EndsWith("/events.proto", StringComparison.Ordinal)
            from message in file.MessageTypes
            where
                !Published.Contains(message)
                && !Published.Any(p => p.Fields.InDeclarationOrder().Any(f => f.FieldType == FieldType.Message && f.MessageType == message))
            select $"{message.FullName}: the option `published`, or a field of an event"
        );

    [Fact]
    public void No_public_name_tells_of_a_person() =>
        None(
            from name in (IEnumerable<string>)
                [
                    .. Methods.Select(m => m.Name),
                    .. Published.Select(m => m.Name),
                    .. Files
                        .SelectMany(f => f.EnumTypes)
                        .Where(e => e.Name == "Reason" || e.Name.EndsWith("State", StringComparison.Ordinal))
                        .SelectMany(e => e.Values)
                        .Select(v => v.Name),
                ]
            where TellsOfAPerson().IsMatch(name)
            select $"{name}: only one wish or one kind of health could cause it (D16)"
        );

    [Fact]
    public void Every_reason_says_what_a_refusal_tells() =>
        None(
            from value in ErrorsReasons()
            where value.Number != 0
            let about = value.GetOptions()?.GetExtension(ReasonExtensions.About)
            from missing in new[]
            {
                about is null ? "about" : null,
                about is { Code: < 1 or > 16 } ? "code, of google.rpc.Code" : null,
                about is { Basis: Basis.Unspecified } ? "basis" : null,
                about is { Source: "" } ? "source" : null,
                about is { Missing: "" } ? "missing" : null,
                about is { Supplier: "" } ? "supplier" : null,
                about is { Unlock: "" } ? "unlock" : null,
                about is { Basis: Basis.Law } && !Regex.IsMatch(about.Source, @"GC III|VCCR|\d") ? "the article in source" : null,
            }
            where missing is not null
            select $"{value.Name}: {missing}"
        );

    [Fact]
    public void Reasons_stand_in_the_order_of_their_numbers()
    {
        var numbers = ErrorsReasons().Select(v => v.Number).ToArray();
        Assert.Equal(numbers.Order(), numbers);
        Assert.All(numbers, n => Assert.True(n is < 50 or >= 100 and < 250 or >= 300 and < 460, $"{n} is in nobody's range"));
    }

    [Fact]
    public async Task Comments_of_writes_name_refusals_that_exist_and_say_that_they_are_idempotent()
    {
        var reasons = ErrorsReasons().Select(v => v.Name["REASON_".Length..]).ToHashSet();
        var image = await Buf.Build();
        var complaints = new List<string>();
        foreach (var file in image.File.Where(f => f.Package.StartsWith("ministries.", StringComparison.Ordinal)))
        foreach (var location in file.SourceCodeInfo.Location.Where(l => l.Path is [6, _, 2, _]))
        {
            var method = file.Service[location.Path[1]].Method[location.Path[3]];
            var comment = location.LeadingComments;
            var parts = comment.Split("Refusals");
            var write = Writes.Any(m => m.File.Name == file.Name && m.Name == method.Name);
            if (write && parts.Length < 2)
                complaints.Add($"{method.Name}: `Refusals` and their names");
            if (write && !comment.Contains("dempotent", StringComparison.Ordinal))
                complaints.Add($"{method.Name}: whether it is idempotent");
            if (parts.Length > 1)
                complaints.AddRange(
                    ReasonName()
                        .Matches(parts[1])
                        .Select(m => m.Value)
                        .Where(n => !reasons.Contains(n))
                        .Select(n => $"{method.Name}: there is no reason {n}")
                );
        }
        None(complaints);
    }

    private static IEnumerable<EnumValueDescriptor> ErrorsReasons() =>
        Files.Single(f => f.Name == "ministries/errors/v1/reason.proto").EnumTypes.Single(e => e.Name == "Reason").Values;

    private static IEnumerable<MessageDescriptor> All(MessageDescriptor message) => message.NestedTypes.SelectMany(All).Prepend(message);

    private static HashSet<MessageDescriptor> Requests()
    {
        var found = new HashSet<MessageDescriptor>();
        // What is sealed in a request is declared like the request, though the services cannot read it.
        var open = new Stack<MessageDescriptor>([.. Methods.Select(m => m.InputType), SealedContent.Descriptor, .. SealingTests.Inside]);
        while (open.TryPop(out var message))
            if (message.File.Package.StartsWith("ministries.", StringComparison.Ordinal) && found.Add(message))
                foreach (var field in message.Fields.InDeclarationOrder().Where(f => f.FieldType == FieldType.Message))
                    open.Push(field.MessageType);
        return found;
    }

    private static IEnumerable<FieldDescriptor> RequestFields() =>
        Requests().OrderBy(m => m.FullName, StringComparer.Ordinal).SelectMany(m => m.Fields.InDeclarationOrder());

    private static bool Is(FieldDescriptor field, FieldBehavior behavior) =>
        field.GetOptions()?.GetExtension(FieldBehaviorExtensions.FieldBehavior)?.Contains(behavior) == true;

    private static IEnumerable<string> NotPublic(MessageDescriptor message) =>
        from field in message.Fields.InDeclarationOrder()
        from complaint in field.FieldType switch
        {
            FieldType.String when PublicStrings.Contains(field.Name) => [],
            FieldType.Bool when PublicFlags.Contains(field.Name) => [],
            FieldType.UInt64 when field.Name is "position" or "custody_position" => [],
            FieldType.Enum when PublicEnums.Contains(field.EnumType.FullName) => [],
            FieldType.Message when field.MessageType.FullName == Timestamp.Descriptor.FullName => [],
            FieldType.Message when field.MessageType.File.Package == message.File.Package => NotPublic(field.MessageType),
            _ => [$"{field.FullName}: not among what an event may carry (D16)"],
        }
        select complaint;

    private static void None(IEnumerable<string> complaints)
    {
        var all = complaints.Distinct().ToArray();
        Assert.True(all.Length == 0, string.Join('\n', all));
    }
}
