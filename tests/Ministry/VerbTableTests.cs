using System.CommandLine;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Contracts;
using Ministries.Gateway;
using Ministries.Types.V1;

namespace Ministries.Ministry.Tests;

/// <summary>The typed verbs, over every RPC of the contracts. Nothing is called.</summary>
public class VerbTableTests
{
    private static readonly IReadOnlyList<Command> Nouns = [.. TypedVerb.CreateAll()];

    private static readonly IReadOnlyList<TypedVerb> Verbs = Prepared();

    [Fact]
    public void Every_RPC_is_a_verb_of_each_service_that_serves_it()
    {
        Assert.Equal(Contract.Services, Nouns.Select(n => n.Name));
        foreach (var noun in Nouns)
            Assert.Equal(Contract.MethodsOf(noun.Name).Select(m => Words.Kebab(m.Name)), noun.Subcommands.Select(s => s.Name));
        Assert.Equal(Methods.Names, Verbs.Select(v => Contract.NameOf(v.Method)).Distinct().Order(StringComparer.Ordinal));
    }

    [Fact]
    public void No_name_of_a_verb_is_used_twice()
    {
        foreach (var verb in Verbs)
        {
            var names = verb.Command.Options.SelectMany(o => o.Aliases.Append(o.Name)).ToList();
            Assert.Equal(names.Distinct(), names);
        }
    }

    [Theory]
    [InlineData(60)]
    [InlineData(80)]
    public async Task The_help_of_every_verb_fits_the_terminal_and_says_what_the_contract_says(int columns)
    {
        var root = new RootCommand("ministry");
        foreach (var command in CallCommands.Create())
            root.Add(command);
        foreach (var verb in Verbs)
        {
            var output = new StringWriter();
            var shell = new Shell
            {
                Variable = _ => null,
                Input = () => TextReader.Null,
                Columns = columns,
            };
            var code = await CommandLine.Run(
                root,
                [verb.Service, verb.Command.Name, "--help"],
                new ShellConfiguration
                {
                    Shell = shell,
                    Output = output,
                    Error = output,
                },
                TestContext.Current.CancellationToken
            );
            var text = output.ToString();
            Assert.Equal(0, code);
            Assert.All(text.Split('\n'), l => Assert.True(Screen.ColumnsOf(l) <= columns, $"{verb.Command.Name}: {l}"));
            Assert.Contains(
                Comments.Of(verb.Method),
                string.Join(' ', text.Split((char[])[' ', '\n'], StringSplitOptions.RemoveEmptyEntries))
            );
            foreach (var flag in verb.Flags)
            {
                Assert.NotEmpty(Comments.Of(flag.Field));
                Assert.Contains(flag.Name, text);
            }
        }
    }

    [Fact]
    public async Task Every_field_of_every_request_is_reached_by_a_flag()
    {
        foreach (var verb in Verbs)
        foreach (var (path, arguments) in Leaves(verb.Method.InputType, [], ""))
        {
            if (path[0] is { FieldNumber: 1, Name: "request_id" })
                continue;
            var result = verb.Command.Parse(arguments, CommandLine.Parsing);
            Assert.Empty(result.Errors);
            var values = new FlagValue(TimeZoneInfo.Utc, DateTimeOffset.UnixEpoch, _ => "{}");
            var (request, seals) = await verb.Build(result, values, TestContext.Current.CancellationToken);
            if (path[^1].Holds(Sealed.Descriptor))
                Assert.Equal(path[^1], Assert.Single(seals).Flag.Field);
            else
                Assert.True(IsSet(request, path), $"{verb.Command.Name} {string.Join(' ', arguments)}");
        }
    }

    [Fact]
    public void Every_etag_is_that_of_the_record_which_its_comment_names()
    {
        foreach (var verb in Verbs.Where(v => v.IsWrite))
        {
            var request = (IMessage)Activator.CreateInstance(verb.Method.InputType.ClrType)!;
            if (verb.Method.InputType.FindFieldByName("record") is { } record)
                record.Accessor.SetValue(request, "access_00000000000000000000000000");
            var etags = verb
                .Method.InputType.Fields.InFieldNumberOrder()
                .Where(f => f.Name.EndsWith("etag", StringComparison.Ordinal))
                .ToArray();
            var sources = EtagSource.In(verb.Service, request).ToArray();
            Assert.Equal(etags, sources.Select(s => s.Field));
            foreach (var source in sources)
            {
                var said = Comments.Of(source.Field);
                var kind = Records.Kinds.FirstOrDefault(k =>
                    said.StartsWith($"The etag of the {k.Name} ", StringComparison.Ordinal)
                    || said.StartsWith($"The etag of the {k.Name}'s ", StringComparison.Ordinal)
                );
                if (kind is not null)
                    Assert.Equal(kind, source.Kind);
                // What the write is about is answered with an etag of the same name.
                Assert.Equal(verb.Service, source.Kind.Service);
            }
        }
    }

    [Fact]
    public void Every_limit_of_the_requests_is_one_that_is_checked_before_sending()
    {
        var known = new HashSet<string>
        {
            "required",
            "ignore",
            "string.pattern",
            "string.max_bytes",
            "string.not_contains",
            "string.in",
            "bytes.max_len",
            "bytes.len",
            "int32.gte",
            "int32.lte",
            "uint32.gte",
            "uint32.lte",
            "enum.defined_only",
            "enum.not_in",
            "repeated.max_items",
            "repeated.unique",
            "repeated.items",
            "timestamp.gte",
            "timestamp.lt",
        };
        foreach (var field in Verbs.SelectMany(v => v.Flags).Select(f => f.Field).Distinct())
            if (StringForms.RulesOf(field) is { } rules)
                Assert.All(Used(rules, ""), rule => Assert.Contains(rule, known));
    }

    private static IReadOnlyList<TypedVerb> Prepared()
    {
        TypedVerb[] verbs = [.. Nouns.SelectMany(n => n.Subcommands).Cast<VerbCommand>().Select(c => c.Verb)];
        foreach (var verb in verbs)
            verb.Prepare();
        return verbs;
    }

    // Each leaf of a request with the arguments that set it. Of a message in a list, and of one that stands for one value, the whole is
    // given.
    private static IEnumerable<(FieldDescriptor[] Path, string[] Arguments)> Leaves(
        MessageDescriptor type,
        FieldDescriptor[] above,
        string name
    )
    {
        foreach (var field in type.Fields.InFieldNumberOrder().Where(f => !Flag.IsOutputOnly(f)))
        {
            FieldDescriptor[] path = [.. above, field];
            var flag = name.Length == 0 ? $"--{Words.Of(field)}" : $"{name}.{Words.Of(field)}";
            if (field.Holds(Sealed.Descriptor))
                yield return (path, [flag, "@file"]);
            else if (field.FieldType == FieldType.Message && field.IsRepeated && !field.IsMap)
                foreach (var (inner, pair) in Pairs(field.MessageType, [], ""))
                    yield return ([.. path, .. inner], [flag, pair]);
            else if (field.FieldType == FieldType.Message && !field.IsMap && !Flag.IsValue(field.MessageType))
            {
                yield return (path, [flag, "{}"]);
                foreach (var leaf in Leaves(field.MessageType, path, flag))
                    yield return leaf;
            }
            else
                yield return (path, [flag, ValueFor(field)]);
        }
    }

    private static IEnumerable<(FieldDescriptor[] Path, string Pair)> Pairs(MessageDescriptor type, FieldDescriptor[] above, string name)
    {
        foreach (var field in type.Fields.InFieldNumberOrder().Where(f => !Flag.IsOutputOnly(f)))
        {
            var key = name.Length == 0 ? Words.Of(field) : $"{name}.{Words.Of(field)}";
            if (field is { FieldType: FieldType.Message, IsRepeated: false } && !Flag.IsValue(field.MessageType))
                foreach (var pair in Pairs(field.MessageType, [.. above, field], key))
                    yield return pair;
            else if (field.FieldType != FieldType.Message || Flag.IsValue(field.MessageType))
                yield return ([.. above, field], $"{key}={ValueFor(field)}");
        }
    }

    private static string ValueFor(FieldDescriptor field) =>
        field.FieldType switch
        {
            FieldType.Bool => "true",
            FieldType.Enum => Words.Of(Words.Named(field.EnumType).Last()),
            FieldType.Bytes => "AQI=",
            FieldType.String => "x",
            FieldType.Message when field.MessageType == Timestamp.Descriptor => "2025-03-17T10:00+09:00",
            FieldType.Message when field.MessageType == ZonedTime.Descriptor => "2025-03-17T10:00[Asia/Seoul]",
            FieldType.Message => "90m",
            _ => "1",
        };

    private static bool IsSet(object? value, ReadOnlySpan<FieldDescriptor> path)
    {
        IMessage within = null!;
        foreach (var field in path)
        {
            within = (IMessage)value!;
            value = field.Accessor.GetValue(within);
            if (value is System.Collections.IList list && field.FieldType == FieldType.Message)
                value = list.Count > 0 ? list[0] : null;
            if (value is null)
                return false;
        }
        return path[^1] is { FieldType: FieldType.Message } || !Fields.IsDefault(within, path[^1]);
    }

    private static IEnumerable<string> Used(IMessage rules, string above)
    {
        foreach (var field in rules.Descriptor.Fields.InFieldNumberOrder())
        {
            var value = field.Accessor.GetValue(rules);
            if (Fields.IsDefault(rules, field))
                continue;
            var name = above + field.Name;
            if (field.Name == "items")
            {
                yield return name;
                foreach (var inner in Used((IMessage)value!, ""))
                    yield return inner;
            }
            else if (value is IMessage message and not Timestamp)
                foreach (var inner in Used(message, $"{name}."))
                    yield return inner;
            else
                yield return name;
        }
    }
}

internal static class FieldDescriptorExtensions
{
    /// <summary>Whether a field holds messages of a type.</summary>
    public static bool Holds(this FieldDescriptor field, MessageDescriptor type) =>
        field.FieldType == FieldType.Message && field.MessageType == type;
}
