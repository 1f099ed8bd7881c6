using System.Collections;
using System.Globalization;
using System.Text.RegularExpressions;
using Buf.Validate;
using Google.Api;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Contracts;
using Ministries.Types.V1;
using ProtoValidate;
using Enum = System.Enum;

namespace Ministries.Hosting.Tests;

/// <summary>The standard rules are enforced by code of our own, because it is faster. These tests show that the package that evaluates them
/// by CEL finds the same in generated requests. What the services check beyond these rules has tests of its own, so the requests do not
/// violate it.</summary>
public partial class StandardRulesTests
{
    private const int PerRequest = 60;

    private static readonly int Seed = int.TryParse(Environment.GetEnvironmentVariable("MINISTRIES_SEED"), out var seed)
        ? seed
        : 17_032_025;

    private static readonly Lazy<Validator> Standard = new(() => new Validator(new ValidatorOptions()));

    // What is sealed in requests is declared as they are, and clients check it by the same rules.
    private static readonly MessageDescriptor[] Types =
    [
        .. Methods.All.Select(m => m.InputType).Append(SealedContent.Descriptor).Concat(PersonalDataReflection.Descriptor.MessageTypes),
        PersonIdentity.Descriptor,
    ];

    public static TheoryData<string> Requests => [.. Types.Select(t => t.FullName).Distinct().Order()];

    [Theory]
    [MemberData(nameof(Requests))]
    public void Our_rules_find_in_a_request_what_the_standard_evaluator_finds(string request)
    {
        var type = Types.First(t => t.FullName == request);
        var random = new Random(Seed);
        var (good, beyond) = (0, 0);
        for (var i = 0; i < PerRequest; i++)
        {
            // From requests without a fault to requests in which every second field has one.
            var message = Make(type, random, i % 6 / 10.0, depth: 0);
            var ours = Validation
                .Check(message)
                .Select(f =>
                    (Path: f.Description == "must not equal another element" ? Element().Replace(f.Field, "") : f.Field, f.Description)
                )
                .ToList();
            // More faults than are reported cannot be compared.
            if (ours.Count >= Validation.MostFaults)
            {
                beyond++;
                continue;
            }
            // For a list that is too long, only that is reported.
            var tooLong = ours.Where(f => f.Description.EndsWith("elements", StringComparison.Ordinal)).Select(f => $"{f.Path}[").ToList();
            var theirs = Standard
                .Value.Validate(message, failFast: false)
                .Violations.Select(v => (Path: PathOf(v.Field), v.RuleId))
                .Where(v => !tooLong.Any(l => v.Path.StartsWith(l, StringComparison.Ordinal)))
                .ToList();
            // The package counts the zero of a number or an enum as a present value; the rule `required` does not.
            ours.RemoveAll(f =>
                f.Description == "is required"
                && theirs.All(v => v.Path != f.Path)
                && FieldOf(type, f.Path) is { IsRepeated: false, FieldType: FieldType.Enum or FieldType.UInt32 or FieldType.UInt64 }
            );
            Assert.True(
                ours.Select(f => f.Path).ToHashSet().SetEquals(theirs.Select(v => v.Path)),
                $"seed {Seed}, request {i}: ours {string.Join(", ", ours)}; theirs {string.Join(", ", theirs)}; {message}"
            );
            if (ours.Count == 0)
                good++;
        }
        Assert.NotEqual(0, good);
        Assert.InRange(beyond, 0, PerRequest / 10);
    }

    /// <summary>A rule that is declared and not enforced is found when the service starts, not when somebody breaks it.</summary>
    [Theory]
    [InlineData("email")]
    [InlineData("min_len")]
    [InlineData("pattern")]
    [InlineData("cel")]
    [InlineData("ignored")]
    [InlineData("of another type")]
    [InlineData("min_items")]
    [InlineData("min_len of an element")]
    [InlineData("gt of an element")]
    [InlineData("oneof")]
    [InlineData("message")]
    public void A_rule_that_is_not_enforced_here_is_refused_at_the_start(string rule)
    {
        static FieldRules List(FieldRules items) =>
            new()
            {
                Repeated = new RepeatedRules { MaxItems = 3, Items = items },
            };
        var bounded = new FieldRules { String = new StringRules { MaxBytes = 8 } };
        var (rules, repeated) = rule switch
        {
            "email" => (new FieldRules { String = new StringRules { Email = true } }, false),
            "min_len" => (new FieldRules { String = new StringRules { MinLen = 1 } }, false),
            "pattern" => (new FieldRules { String = new StringRules { Pattern = "^of no form$" } }, false),
            "cel" => (
                new FieldRules
                {
                    Cel =
                    {
                        new Buf.Validate.Rule { Id = "own", Expression = "this != ''" },
                    },
                },
                false
            ),
            "ignored" => (new FieldRules { Ignore = Ignore.Always, String = bounded.String }, false),
            "of another type" => (new FieldRules { Bytes = new BytesRules { MaxLen = 8 } }, false),
            "min_items" => (
                new FieldRules
                {
                    Repeated = new RepeatedRules { MinItems = 2, MaxItems = 3 },
                },
                true
            ),
            "min_len of an element" => (List(new FieldRules { String = new StringRules { MinLen = 1 } }), true),
            "gt of an element" => (List(new FieldRules { Int32 = new Int32Rules { Gt = 1 } }), true),
            _ => (bounded, false),
        };
        var (oneof, message) = (new OneofOptions(), new MessageOptions());
        if (rule == "oneof")
            oneof.SetExtension(ValidateExtensions.Oneof, new OneofRules { Required = true });
        if (rule == "message")
            message.SetExtension(ValidateExtensions.Message, new MessageRules { Oneof = { new MessageOneofRule { Fields = { "text" } } } });
        Validation.Prepare(Declared(bounded, repeated: false, new(), new()));
        Validation.Prepare(Declared(List(bounded), repeated: true, new(), new()));
        Assert.Contains(
            rule is "oneof" or "message" ? "M" : "M.text",
            Assert.Throws<NotSupportedException>(() => Validation.Prepare(Declared(rules, repeated, oneof, message))).Message
        );
    }

    private static MessageDescriptor Declared(FieldRules rules, bool repeated, OneofOptions oneof, MessageOptions message)
    {
        var options = new FieldOptions();
        options.SetExtension(ValidateExtensions.Field, rules);
        var type = new DescriptorProto
        {
            Name = "M",
            Options = message,
            Field =
            {
                new FieldDescriptorProto
                {
                    Name = "text",
                    Number = 1,
                    Type = FieldDescriptorProto.Types.Type.String,
                    Label = repeated ? FieldDescriptorProto.Types.Label.Repeated : FieldDescriptorProto.Types.Label.Optional,
                    Options = options,
                },
            },
        };
        if (!repeated)
        {
            type.OneofDecl.Add(new OneofDescriptorProto { Name = "choice", Options = oneof });
            type.Field[0].OneofIndex = 0;
        }
        var file = new FileDescriptorProto
        {
            Name = "declared.proto",
            Syntax = "proto3",
            Dependency = { "buf/validate/validate.proto" },
            MessageType = { type },
        };
        FileDescriptor[] known = [.. ValidateReflection.Descriptor.Dependencies, ValidateReflection.Descriptor];
        return FileDescriptor
            .BuildFromByteStrings(
                [.. known.Select(f => f.SerializedData), file.ToByteString()],
                new ExtensionRegistry { ValidateExtensions.Field, ValidateExtensions.Message, ValidateExtensions.Oneof }
            )[^1]
            .MessageTypes[0];
    }

    private static FieldDescriptor FieldOf(MessageDescriptor type, string path) =>
        path.Split('.')
            .Select(name => name.Split('[')[0])
            .Aggregate(
                ((FieldDescriptor?)null, type),
                (at, name) =>
                    at.type.FindFieldByName(name) is var field && field.FieldType == FieldType.Message
                        ? (field, field.MessageType)
                        : (field, at.type)
            )
            .Item1!;

    private static string PathOf(FieldPath path) =>
        string.Concat(
                path.Elements.Select(e =>
                    e.SubscriptCase == FieldPathElement.SubscriptOneofCase.Index
                        ? string.Create(CultureInfo.InvariantCulture, $".{e.FieldName}[{e.Index}]")
                        : $".{e.FieldName}"
                )
            )
            .TrimStart('.');

    [GeneratedRegex(@"\[[0-9]+\]\z")]
    private static partial Regex Element();

    private static IMessage Make(MessageDescriptor type, Random random, double bad, int depth)
    {
        var message = (IMessage)Activator.CreateInstance(type.ClrType)!;
        switch (message)
        {
            case Timestamp time:
                time.Seconds =
                    random.NextDouble() < bad ? Pick(random, long.MinValue, -2208988801, 7258118400) : Pick(random, 0, 1742202000);
                return message;
            case PartialDate date:
                (date.Year, date.Month, date.Day) = (random.Next(1, 9999), random.Next(1, 12), random.Next(0, 28));
                return message;
        }
        foreach (var field in type.Fields.InFieldNumberOrder())
        {
            var behaviors = field.GetOptions()?.GetExtension(FieldBehaviorExtensions.FieldBehavior);
            if (behaviors?.Contains(FieldBehavior.OutputOnly) == true || field.IsMap)
                continue;
            var required = behaviors?.Contains(FieldBehavior.Required) == true;
            if (required ? random.NextDouble() < bad / 2 : random.Next(2) == 0 || depth > 4)
                continue;
            if (!field.IsRepeated)
                field.Accessor.SetValue(message, Value(field, random, bad, depth));
            else
                Fill((IList)field.Accessor.GetValue(message), field, random, bad, depth);
        }
        return message;
    }

    private static void Fill(IList list, FieldDescriptor field, Random random, double bad, int depth)
    {
        var rules = StringForms.RulesOf(field)?.Repeated;
        var most = (int)(rules?.MaxItems ?? 3);
        var count = random.NextDouble() < bad / 4 && most <= 64 ? most + 1 : random.Next(1, Math.Min(most, 3) + 1);
        var seen = new HashSet<object>();
        for (var i = 0; i < count; i++)
        {
            var value = Value(field, random, bad, depth);
            if (rules?.Unique != true || seen.Add(value) || random.NextDouble() < bad)
                list.Add(value);
        }
    }

    private static object Value(FieldDescriptor field, Random random, double bad, int depth)
    {
        var isBad = random.NextDouble() < bad;
        var rules = StringForms.RulesOf(field) ?? new FieldRules();
        var value = field.IsRepeated ? rules.Repeated?.Items ?? new FieldRules() : rules;
        switch (field.FieldType)
        {
            case FieldType.Message:
                return Make(field.MessageType, random, bad, depth + 1);
            case FieldType.String:
                return isBad ? BadText(field, random) : GoodText(field, random);
            case FieldType.Bytes:
                var bytes = value.Bytes ?? new BytesRules { MaxLen = 8 };
                var (least, most) = bytes.HasLen
                    ? ((int)bytes.Len, (int)bytes.Len)
                    : (Math.Max((int)bytes.MinLen, 1), Math.Min((int)bytes.MaxLen, (int)bytes.MinLen + 64));
                var wrong = random.Next(2) == 0 && least > 1 ? least - 1 : (int)(bytes.HasLen ? bytes.Len : bytes.MaxLen) + 1;
                return ByteString.CopyFrom(new byte[isBad ? wrong : random.Next(least, most + 1)]);
            case FieldType.Enum:
                var numbers = field.EnumType.Values.Select(v => v.Number).ToArray();
                return Enum.ToObject(field.EnumType.ClrType, isBad ? Pick(random, 0, 9999) : numbers[random.Next(1, numbers.Length)]);
            case FieldType.Bool:
                return true;
            case FieldType.Int32:
                return isBad ? Pick(random, -1, int.MaxValue, 0) : random.Next(1, Math.Min(value.Int32?.Lte ?? 9, 9) + 1);
            case FieldType.UInt32:
                return isBad ? Pick(random, 0u, uint.MaxValue) : (uint)random.Next(1, 9);
            case FieldType.Int64:
                return isBad ? Pick(random, 0, -1, long.MaxValue) : random.Next(1, 9);
            case FieldType.UInt64:
                return (ulong)(isBad ? 0 : random.Next(1, 9));
            default:
                throw new NotSupportedException($"{field.FullName} is a {field.FieldType}");
        }
    }

    private static T Pick<T>(Random random, params T[] values) => values[random.Next(values.Length)];

    private static string GoodText(FieldDescriptor field, Random random)
    {
        if ((StringForms.RulesOf(field)?.String?.In ?? []) is { Count: > 0 } known)
            return known[random.Next(known.Count)];
        var digits = string.Concat(Enumerable.Range(0, 26).Select(_ => "0123456789abcdefghjkmnpqrstvwxyz"[random.Next(32)]));
        return StringForms.Of(field)?.Name switch
        {
            "request id" => new Guid(random.Next(), 1, 2, [3, 4, 5, 6, 7, 8, 9, 10]).ToString(),
            "record id" => $"{Pick(random, "call", "case", "transfer")}_{digits}",
            "prisoner" => $"pris_{digits}",
            "participant" => Pick(random, "kr/mfa", "ua/coordination-hq", "icrc", $"p{random.Next(100)}"),
            "state" => Pick(random, "KR", "UA", "KP", "CH", "CN", "JP", "US"),
            "language" => Pick(random, "ko", "uk", "en-GB", "zh-Hant-TW", "x-own", "de-CH-x-phonebk"),
            "time zone" => Pick(random, "UTC", "Asia/Seoul", "America/Argentina/Buenos_Aires", "Etc/GMT+5"),
            "text" => Pick(random, "Said in person.", "말했다", "сказав"),
            "field path" => Pick(random, "identity", "account.minutes", "a.b_1.c"),
            "message name" => Pick(random, "ministries.type.v1.Text", "a.B"),
            _ => $"a{random.Next(1000)}",
        };
    }

    private static string BadText(FieldDescriptor field, Random random)
    {
        var rules = StringForms.RulesOf(field);
        var most = (int)((field.IsRepeated ? rules?.Repeated?.Items?.String : rules?.String)?.MaxBytes ?? 0);
        return StringForms.Of(field)?.Name switch
        {
            null or "text" => most > 0 ? new string('남', most / 3 + 1) : "",
            "time zone" => Pick(random, "", "KST", "Asia Seoul", "Asia/", new string('A', 70)),
            "participant" => Pick(random, "", "KR/MFA", "a/b/c", "a-", new string('a', 65)),
            "language" => Pick(random, "", "k", "ko_KR", "ko-", "ko-" + new string('x', 40)),
            "field path" => Pick(random, "", "Identity", "a..b", "a.", "a[0]", new string('a', 129)),
            "message name" => Pick(random, "", "Text", "a.b", "ministries.type.v1.", "a.b.C.D", $"a.{new string('B', 128)}"),
            "record id" => Pick(random, "", "call_", "CALL_0123456789abcdefghjkmnpqrs", "pris_00000000000000000000000001"),
            _ => Pick(random, "", "a b", "é", new string('z', 600)),
        };
    }
}
