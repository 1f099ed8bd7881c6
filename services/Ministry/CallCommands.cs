using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Text.Json.Nodes;
using Buf.Validate;
using Google.Api;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Ministries.Contracts;
using Ministries.Trust;
using Ministries.Types.V1;
using Enum = System.Enum;
using PlainText = Ministries.Ledger.PlainText;

namespace Ministries.Ministry;

/// <summary>
/// The verbs with which an integrator tries the services before he writes his own system, and with which a script asks them:
/// <c>methods</c>, <c>call</c>, <c>approve</c>, <c>get</c>, <c>list</c> and <c>follow</c>. They know the methods from the contracts; a new method
/// needs nothing here.
/// </summary>
internal static class CallCommands
{
    /// <summary>Exit code: the service refused.</summary>
    public const int WasRefused = 1;

    /// <summary>Exit code: what was given cannot be sent.</summary>
    public const int WrongInput = 2;

    /// <summary>Exit code: the service was not reached, or did not answer in time.</summary>
    public const int NotReached = 3;

    private static readonly Dictionary<string, Uri> Standard = new()
    {
        ["calllog"] = new("https://127.0.0.1:7101"),
        ["custody"] = new("https://127.0.0.1:7102"),
        ["consular"] = new("https://127.0.0.1:7103"),
    };

    private static readonly Option<string> Folder = new("--folder")
    {
        Description = "The folder that `pki init` made. Or the variable MINISTRIES_FOLDER.",
        Recursive = true,
        DefaultValueFactory = _ => Variable("MINISTRIES_FOLDER"),
    };

    private static readonly Option<string> As = new("--as")
    {
        Description = "The participant that calls, such as kr/mfa. Or the variable MINISTRIES_AS.",
        Recursive = true,
        DefaultValueFactory = _ => Variable("MINISTRIES_AS"),
    };

    private static readonly Option<string[]> Address = new("--address")
    {
        Description =
            "Where a service is: NAME=https://HOST:PORT, those of several replicas with commas between them; may be given again. Or the variables MINISTRIES_CALLLOG, "
            + "MINISTRIES_CUSTODY, MINISTRIES_CONSULAR. Else ports 7101, 7102 and 7103 of this machine.",
        HelpName = "name=address",
        Recursive = true,
        DefaultValueFactory = _ => [],
    };

    private static readonly Option<int> Timeout = new("--timeout")
    {
        Description = "How many seconds a call may take, all attempts together, 1 to 600.",
        HelpName = "seconds",
        Recursive = true,
        DefaultValueFactory = _ => 10,
    };

    internal static readonly Option<bool> Json = new("--json-output", "-j")
    {
        Description = "Write JSON, refusals included: one document, or with `list --all` and `follow` one to a line.",
        Recursive = true,
    };

    public static IEnumerable<Command> Create()
    {
        foreach (var command in (Command[])[Methods(), Call(), Approve(), Get(), List(), Follow(), LogCommand.Create()])
        {
            AddConnection(command);
            yield return command;
        }
    }

    /// <summary>Adds the options that say who calls, and whom.</summary>
    public static void AddConnection(Command command)
    {
        foreach (var option in (Option[])[Folder, As, Address, Timeout, Json])
            command.Add(option);
    }

    // ---- the verbs ---------------------------------------------------------------------------------------------------------

    private static Command Methods()
    {
        var service = ServiceArgument();
        var method = new Argument<string>("method")
        {
            Arity = ArgumentArity.ZeroOrOne,
            Description = "A method; its fields and their limits are shown.",
        };
        var command = new Command("methods", "Shows which methods a service has, and what a method takes. It calls nobody.")
        {
            service,
            method,
        };
        command.SetAction(result =>
        {
            var (name, wanted) = (result.GetRequiredValue(service), result.GetValue(method));
            var output = result.InvocationConfiguration.Output;
            if (string.IsNullOrEmpty(wanted))
            {
                foreach (var group in Contract.MethodsOf(name).GroupBy(m => m.Service.FullName))
                {
                    output.WriteLine(group.Key);
                    foreach (var one in group)
                        output.WriteLine($"  {one.Name}{(Contract.IsWrite(one) ? "" : "  (read)")}");
                }
                return 0;
            }
            if (Contract.Find(name, wanted) is not { } found)
                return Wrong(result, $"{name} has no method {wanted}");
            output.WriteLine($"{Contract.NameOf(found)}  {(Contract.IsWrite(found) ? "write" : "read")}");
            WriteFields(found.InputType, "  ", [], output);
            return 0;
        });
        return command;
    }

    private static Command Call()
    {
        var service = ServiceArgument();
        var method = new Argument<string>("method") { Description = "The method, such as LogCall." };
        var input = new Option<string>("--json")
        {
            Description =
                "The file with the request in JSON; - is standard input. Field names are the contract's. A missing "
                + "request_id is generated.",
            HelpName = "file|-",
            Required = true,
        };
        var command = new Command("call", "Calls any method: the request in JSON, the answer in JSON.") { service, method, input };
        command.SetAction(
            (result, cancel) =>
                Run(
                    result,
                    async client =>
                    {
                        var name = result.GetRequiredValue(service);
                        var wanted = result.GetRequiredValue(method);
                        var found =
                            Contract.Find(name, wanted)
                            ?? throw new FormatException($"{name} has no method {wanted}; see `ministry methods {name}`");
                        if (found.IsServerStreaming)
                            throw new FormatException($"{found.Name} streams; see `ministry follow`");
                        var file = result.GetRequiredValue(input);
                        var text = await PlainText.Read(file, cancel);
                        var request = Parse(found.InputType, text);
                        try
                        {
                            var answer = await client.Call(name, found, request, cancel);
                            await result.InvocationConfiguration.Output.WriteLineAsync(Contract.Formatter.Format(answer));
                        }
                        catch (RpcException e)
                            when (Contract.IsWrite(found) && e.StatusCode is StatusCode.Unavailable or StatusCode.DeadlineExceeded)
                        {
                            // A caller that tries again needs the id that was sent, because the same id is the same write.
                            await result.InvocationConfiguration.Error.WriteLineAsync(
                                $"request_id: {found.InputType.FindFieldByNumber(1).Accessor.GetValue(request)}"
                            );
                            throw;
                        }
                        return 0;
                    },
                    cancel
                )
        );
        return command;
    }

    private static Command Approve()
    {
        var service = ServiceArgument();
        var method = new Argument<string>("method") { Description = "The method, such as DecideTransfer." };
        var input = new Option<string>("--json")
        {
            Description = "The file with the request in JSON; the approval is put into it. A missing request_id is generated.",
            HelpName = "file",
            Required = true,
        };
        var key = new Option<string>("--key")
        {
            Description = "The official's key (PKCS #8, PEM).",
            HelpName = "file",
            Required = true,
        };
        var office = new Option<string>("--office") { Description = "The office in which the official approves.", Required = true };
        var command = new Command(
            "approve",
            "Adds an official's approval to a request in a file, for `call` to send. It calls nobody, and needs of the folder "
                + "only the agreement, which says whose key it is."
        )
        {
            service,
            method,
            input,
            key,
            office,
        };
        command.SetAction(result =>
        {
            try
            {
                var (name, wanted) = (result.GetRequiredValue(service), result.GetRequiredValue(method));
                var found = Contract.Find(name, wanted) ?? throw new FormatException($"{name} has no method {wanted}");
                var request = Parse(found.InputType, PlainText.Of(File.ReadAllBytes(result.GetRequiredValue(input))));
                using var official = Pki.ReadKey(result.GetRequiredValue(key));
                var bytes = ByteString.CopyFrom(official.PublicKey.Export(NSec.Cryptography.KeyBlobFormat.RawPublicKey));
                var agreement = AgreementFile
                    .Trust(Path.Combine(FolderOf(result), "agreement.json"), null, DateTimeOffset.UtcNow)
                    .Agreement;
                var owner =
                    agreement.Participants.FirstOrDefault(p =>
                        p.SigningKeys.Any(k => k.Use == SigningKeyUse.Approvals && k.PublicKey == bytes)
                    ) ?? throw new FormatException("the agreement lists no such key for approvals");
                MinistryClient.Approve(
                    request,
                    agreement.TrustDomain,
                    owner,
                    result.GetRequiredValue(key),
                    result.GetRequiredValue(office)
                );
                File.WriteAllText(result.GetRequiredValue(input), Contract.Formatter.Format(request) + "\n");
                return 0;
            }
            catch (Exception e)
                when (e
                        is FormatException
                            or IOException
                            or UnauthorizedAccessException
                            or ArgumentException
                            or InvalidProtocolBufferException
                            or InvalidJsonException
                )
            {
                return Wrong(result, e.Message);
            }
        });
        return command;
    }

    private static Command Get()
    {
        var kind = new Argument<string>("kind")
        {
            Description = "The kind of record, such as call or prisoner; or a record's id alone, which says its kind.",
        };
        var key = new Argument<string[]>("key")
        {
            Arity = ArgumentArity.ZeroOrMore,
            Description = "The fields that name the record, in the order of the contract: `prisoner CASE REFERENCE`.",
        };
        var at = AtOption();
        var command = new Command("get", "Reads one record, as the caller may see it.") { kind, key, at };
        command.SetAction(
            (result, cancel) =>
                Run(
                    result,
                    async client =>
                    {
                        var (named, values) = (result.GetRequiredValue(kind), result.GetValue(key) ?? []);
                        if (values.Length == 0 && named.IndexOf('_') is var end && end > 0)
                            (named, values) = (named[..end], [named]);
                        var (service, method) = MethodFor("Get", named, result.GetValue(at));
                        var fields = method.InputType.Fields.InFieldNumberOrder();
                        if (values.Length > fields.Count)
                            throw new FormatException($"{method.Name} takes {string.Join(", ", fields.Select(f => f.Name))}");
                        var json = new JsonObject(values.Select((v, i) => KeyValuePair.Create(fields[i].Name, (JsonNode?)v)));
                        var request = Parse(method.InputType, json.ToJsonString());
                        Write(result, await client.Call(service, method, request, cancel));
                        return 0;
                    },
                    cancel
                )
        );
        return command;
    }

    private static Command List()
    {
        var kind = new Argument<string>("kind") { Description = "The kind of records, such as calls or transfers." };
        var filters = new Argument<string[]>("filter")
        {
            Arity = ArgumentArity.ZeroOrMore,
            HelpName = "field=value",
            Description = "Conditions for the records, such as case=case_… state=MUTUAL; see `ministry methods` for the fields.",
        };
        var all = new Option<bool>("--all") { Description = "Read all pages instead of the first one." };
        var at = AtOption();
        var command = new Command("list", "Lists records that the caller may see, oldest first.") { kind, filters, all, at };
        command.SetAction(
            (result, cancel) =>
                Run(
                    result,
                    async client =>
                    {
                        var (service, method) = MethodFor("List", result.GetRequiredValue(kind), result.GetValue(at));
                        var json = new JsonObject();
                        foreach (var filter in result.GetValue(filters) ?? [])
                        {
                            var parts = filter.Split('=', 2);
                            if (parts.Length != 2 || method.InputType.FindFieldByName(parts[0]) is not { } field)
                                throw new FormatException(
                                    $"{filter}: {method.Name} takes "
                                        + string.Join(", ", method.InputType.Fields.InFieldNumberOrder().Select(f => $"{f.Name}=…"))
                                );
                            json[field.Name] = Value(field, parts[1]);
                        }
                        var records = method.OutputType.Fields.InFieldNumberOrder().First(f => f.IsRepeated);
                        var header = true;
                        while (true)
                        {
                            var page = await client.Call(service, method, Parse(method.InputType, json.ToJsonString()), cancel);
                            var next = (string)method.OutputType.FindFieldByName("next_page_token").Accessor.GetValue(page);
                            var items = ((System.Collections.IEnumerable)records.Accessor.GetValue(page)).Cast<IMessage>();
                            if (!result.GetValue(Json))
                                Table(records.MessageType, items, header, result.InvocationConfiguration.Output);
                            else if (!result.GetValue(all))
                                Write(result, page);
                            else
                                foreach (var item in items)
                                    await result.InvocationConfiguration.Output.WriteLineAsync(OneLine(item));
                            header = false;
                            if (next.Length == 0)
                                return 0;
                            if (!result.GetValue(all))
                            {
                                if (!result.GetValue(Json))
                                    await result.InvocationConfiguration.Error.WriteLineAsync($"more: page_token={next}");
                                return 0;
                            }
                            json["page_token"] = next;
                        }
                    },
                    cancel
                )
        );
        return command;
    }

    private static Command Follow()
    {
        var service = ServiceArgument();
        var from = new Option<ulong>("--from") { Description = "The first position wanted.", HelpName = "position" };
        var @case = new Option<string>("--case") { Description = "Only entries of this case.", DefaultValueFactory = _ => "" };
        var untilNow = new Option<bool>("--until-now") { Description = "Stop at the newest entry instead of waiting for more." };
        var command = new Command(
            "follow",
            "Follows the entries of a service's ledger that the caller may see; checks each part against its digest."
        )
        {
            service,
            from,
            @case,
            untilNow,
        };
        command.SetAction(
            (result, cancel) =>
                Run(
                    result,
                    async client =>
                    {
                        var output = result.InvocationConfiguration.Output;
                        var entries = client.Follow(
                            result.GetRequiredValue(service),
                            result.GetValue(from),
                            result.GetValue(@case) ?? "",
                            result.GetValue(untilNow),
                            cancel
                        );
                        await foreach (var response in entries)
                        {
                            if (response.Entry is not { } entry)
                                continue;
                            var read = LedgerEntry.Read(entry);
                            await output.WriteLineAsync(result.GetValue(Json) ? read.ToJson().ToJsonString() : read.ToText());
                            await output.FlushAsync(cancel);
                        }
                        return 0;
                    },
                    cancel
                )
        );
        return command;
    }

    // ---- what they share ---------------------------------------------------------------------------------------------------

    internal static Argument<string> ServiceArgument()
    {
        var argument = new Argument<string>("service") { Description = "calllog, custody or consular." };
        argument.AcceptOnlyFromAmong([.. Contract.Services]);
        return argument;
    }

    private static Option<string> AtOption()
    {
        var option = new Option<string>("--service") { Description = "Which service, where several could answer, such as for entry." };
        option.AcceptOnlyFromAmong([.. Contract.Services]);
        return option;
    }

    private static string Variable(string name) => Environment.GetEnvironmentVariable(name) ?? "";

    private static MinistryClient Client(ParseResult result, Func<MinistrySettings, MinistrySettings>? but)
    {
        var services = Standard.ToDictionary(s => s.Key, s => (IReadOnlyList<Uri>)[s.Value]);
        var given = Contract
            .Services.Select(s => $"{s}={Variable($"MINISTRIES_{s.ToUpperInvariant()}")}")
            .Where(a => !a.EndsWith('='))
            .Concat(result.GetValue(Address) ?? []);
        foreach (var address in given)
            services[address.Split('=')[0]] =
                address.Split('=', 2) is [var name, var at] && Contract.Services.Contains(name) && ServiceAddresses.Read(at) is { } read
                    ? read
                    : throw new FormatException(
                        $"--address {address}: NAME=https://HOST:PORT, the name one of {string.Join(", ", Contract.Services)}; "
                            + "several addresses have commas between them"
                    );
        var folder = FolderOf(result);
        if (result.GetValue(As) is not { Length: > 0 } participant)
            throw new FormatException("--as or MINISTRIES_AS is needed");
        var seconds = result.GetValue(Timeout);
        if (seconds is < 1 or > 600)
            throw new FormatException("--timeout must be from 1 to 600");
        var settings = MinistrySettings.In(folder, participant, services.ToDictionary(s => s.Key, s => s.Value[0])) with
        {
            FurtherAddresses = services.ToDictionary(s => s.Key, s => (IReadOnlyList<Uri>)[.. s.Value.Skip(1)]),
            Deadline = TimeSpan.FromSeconds(seconds),
        };
        return new MinistryClient(but is null ? settings : but(settings));
    }

    private static string FolderOf(ParseResult result) =>
        result.GetValue(Folder) is { Length: > 0 } folder ? folder : throw new FormatException("--folder or MINISTRIES_FOLDER is needed");

    /// <summary>Runs a verb as the participant that the options name, and says in words what goes wrong.</summary>
    internal static async Task<int> Run(
        ParseResult result,
        Func<MinistryClient, Task<int>> verb,
        CancellationToken cancel,
        Func<MinistrySettings, MinistrySettings>? but = null
    )
    {
        var (output, error) = (result.InvocationConfiguration.Output, result.InvocationConfiguration.Error);
        try
        {
            using var client = Client(result, but);
            return await verb(client);
        }
        catch (OperationCanceledException) when (cancel.IsCancellationRequested)
        {
            return 0;
        }
        catch (RpcException e) when (RefusedException.From(e) is { } refused)
        {
            if (result.GetValue(Json))
                await output.WriteLineAsync(InJson(refused).ToJsonString());
            else
                await error.WriteLineAsync(refused.ToText());
            return refused.StatusCode == StatusCode.Unavailable ? NotReached : WasRefused;
        }
        catch (RpcException e)
        {
            await error.WriteLineAsync(
                e.StatusCode switch
                {
                    StatusCode.Unavailable => $"not reached: {e.Status.DebugException?.GetBaseException().Message ?? e.Status.Detail}",
                    StatusCode.DeadlineExceeded => "no answer in time",
                    _ => $"{e.StatusCode}: {e.Status.Detail}",
                }
            );
            return NotReached;
        }
        catch (HttpRequestException e)
        {
            await error.WriteLineAsync($"not reached: {e.GetBaseException().Message}");
            return NotReached;
        }
        catch (EntryMissingException e)
        {
            await error.WriteLineAsync(e.Message);
            return WasRefused;
        }
        catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException or ArgumentException)
        {
            return Wrong(result, e.Message);
        }
    }

    private static int Wrong(ParseResult result, string what)
    {
        result.InvocationConfiguration.Error.WriteLine(what);
        return WrongInput;
    }

    private static (string Service, MethodDescriptor Method) MethodFor(string verb, string kind, string? at)
    {
        var wanted = verb + kind.Replace("-", "", StringComparison.Ordinal).Replace("_", "", StringComparison.Ordinal);
        var found = Contract
            .Services.Where(s => string.IsNullOrEmpty(at) || s == at)
            .Select(s => (s, Contract.Find(s, wanted)))
            .Where(f => f.Item2 is not null)
            .ToArray();
        return found switch
        {
            [(var service, { } method)] => (service, method),
            [] => throw new FormatException(
                $"there is no {kind} to {verb.ToLowerInvariant()}: it is one of "
                    + string.Join(
                        ", ",
                        Contract
                            .Services.SelectMany(Contract.MethodsOf)
                            .Where(m => m.Name.StartsWith(verb, StringComparison.Ordinal))
                            .Select(m => m.Name[verb.Length..].ToLowerInvariant())
                            .Distinct()
                    )
            ),
            _ => throw new FormatException($"every service has {kind}: name one with --service"),
        };
    }

    private static IMessage Parse(MessageDescriptor type, string json)
    {
        try
        {
            return Contract.Parser.Parse(json, type);
        }
        catch (Exception e) when (e is InvalidProtocolBufferException or InvalidJsonException)
        {
            throw new FormatException($"that is not a {type.Name}: {e.Message}", e);
        }
    }

    /// <summary>A filter's value as JSON: an enum's value may be named without its prefix.</summary>
    private static JsonNode Value(FieldDescriptor field, string text) =>
        field.FieldType switch
        {
            FieldType.Enum => field.EnumType.FindValueByName(text)?.Name
                ?? field
                    .EnumType.Values.FirstOrDefault(v => Short(field.EnumType, v).Equals(text, StringComparison.OrdinalIgnoreCase))
                    ?.Name
                ?? throw new FormatException(
                    $"{field.Name} is one of {string.Join(", ", field.EnumType.Values.Skip(1).Select(v => Short(field.EnumType, v)))}"
                ),
            FieldType.Bool => bool.TryParse(text, out var yes) ? yes : throw new FormatException($"{field.Name} is true or false"),
            _ => text,
        };

    private static string Short(EnumDescriptor type, EnumValueDescriptor value)
    {
        var prefix = type.FindValueByNumber(0)!.Name;
        prefix = prefix[..(prefix.LastIndexOf('_') + 1)];
        return value.Name.StartsWith(prefix, StringComparison.Ordinal) ? value.Name[prefix.Length..] : value.Name;
    }

    // ---- what is shown -----------------------------------------------------------------------------------------------------

    private static string OneLine(IMessage message) => JsonNode.Parse(Contract.Formatter.Format(message))!.ToJsonString();

    private static void Write(ParseResult result, IMessage message)
    {
        var output = result.InvocationConfiguration.Output;
        if (result.GetValue(Json))
            output.WriteLine(Contract.Formatter.Format(message));
        else
            Plain(JsonNode.Parse(Contract.Formatter.Format(message))!, "", output);
    }

    private static JsonObject InJson(RefusedException refused) =>
        new()
        {
            ["refused"] = new JsonObject
            {
                ["reason"] = refused.Reason,
                ["code"] = refused.StatusCode.ToString(),
                ["metadata"] = new JsonObject(refused.Metadata.Select(m => KeyValuePair.Create(m.Key, (JsonNode?)m.Value))),
                ["faults"] = new JsonArray([
                    .. refused.Faults.Select(f => new JsonObject { ["field"] = f.Field, ["description"] = f.Description }),
                ]),
            },
        };

    /// <summary>A message as indented lines, a field to each.</summary>
    private static void Plain(JsonNode node, string indent, TextWriter output)
    {
        switch (node)
        {
            case JsonObject fields:
                foreach (var (name, value) in fields)
                    if (value is JsonObject or JsonArray { Count: > 0 } && !IsFlat(value))
                    {
                        output.WriteLine($"{indent}{name}:");
                        Plain(value, indent + "  ", output);
                    }
                    else if (value is not null)
                        output.WriteLine($"{indent}{name}: {Flat(value)}");
                break;
            case JsonArray items:
                foreach (var item in items)
                {
                    var lines = new StringWriter();
                    if (item is JsonObject)
                        Plain(item, indent + "  ", lines);
                    else
                        lines.WriteLine($"{indent}  {Flat(item!)}");
                    // The first line of each item carries its dash.
                    var text = lines.ToString();
                    output.Write(text.Length > indent.Length ? $"{indent}- {text[(indent.Length + 2)..]}" : $"{indent}-\n");
                }
                break;
        }

        static bool IsFlat(JsonNode value) => value is JsonArray array && array.All(i => i is JsonValue);
        static string Flat(JsonNode value) =>
            Terminal.Line(value is JsonArray array ? string.Join(", ", array.Select(i => i!.ToString())) : value.ToString());
    }

    /// <summary>Records as a table of their single values.</summary>
    private static void Table(MessageDescriptor type, IEnumerable<IMessage> records, bool header, TextWriter output)
    {
        var columns = type
            .Fields.InFieldNumberOrder()
            .Where(f => !f.IsRepeated && (f.FieldType != FieldType.Message || f.MessageType.FullName == "google.protobuf.Timestamp"))
            .ToArray();
        var rows = records.Select(r => columns.Select(c => Cell(c, r)).ToArray()).ToList();
        if (header)
            rows.Insert(0, [.. columns.Select(c => c.Name.ToUpperInvariant())]);
        var widths = columns.Select((_, i) => rows.Max(r => (int?)r[i].Length) ?? 0).ToArray();
        foreach (var row in rows)
            output.WriteLine(string.Join("  ", row.Select((cell, i) => cell.PadRight(widths[i]))).TrimEnd());
    }

    private static string Cell(FieldDescriptor field, IMessage record) =>
        field.Accessor.GetValue(record) switch
        {
            null => "",
            Enum value => field.EnumType.FindValueByNumber(Convert.ToInt32(value, CultureInfo.InvariantCulture)) is { } known
                ? Short(field.EnumType, known)
                : value.ToString("D"),
            Google.Protobuf.WellKnownTypes.Timestamp time => time.ToDateTimeOffset()
                .ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture),
            ByteString bytes => Convert.ToHexStringLower(bytes.Span),
            bool yes => yes ? "true" : "false",
            var value => Terminal.Line(Convert.ToString(value, CultureInfo.InvariantCulture) ?? ""),
        };

    /// <summary>A message type's fields with what the contract declares of them.</summary>
    private static void WriteFields(MessageDescriptor type, string indent, IReadOnlyList<MessageDescriptor> above, TextWriter output)
    {
        foreach (var field in type.Fields.InFieldNumberOrder())
        {
            var behaviors = field.GetOptions()?.GetExtension(FieldBehaviorExtensions.FieldBehavior);
            if (behaviors?.Contains(FieldBehavior.OutputOnly) == true)
                continue;
            var words = new List<string>
            {
                field.FieldType switch
                {
                    FieldType.Message => field.MessageType.Name,
                    FieldType.Enum => string.Join("|", field.EnumType.Values.Skip(1).Select(v => v.Name)),
                    var scalar => scalar.ToString().ToLowerInvariant(),
                },
            };
            if (field.IsRepeated)
                words.Add("repeated");
            if (behaviors?.Contains(FieldBehavior.Required) == true)
                words.Add("REQUIRED");
            words.AddRange(Bounds(field));
            output.WriteLine($"{indent}{field.Name}: {string.Join(", ", words)}");
            if (
                field.FieldType == FieldType.Message
                && !above.Contains(field.MessageType)
                && !field.MessageType.FullName.StartsWith("google.", StringComparison.Ordinal)
            )
                WriteFields(field.MessageType, indent + "  ", [.. above, type], output);
        }
    }

    private static IEnumerable<string> Bounds(FieldDescriptor field)
    {
        var rules = StringForms.RulesOf(field) ?? new FieldRules();
        var value = field.IsRepeated ? rules.Repeated?.Items ?? new FieldRules() : rules;
        if (StringForms.Of(field) is { } form)
            yield return form.Name;
        if (value.String is { MaxBytes: > 0 } text)
            yield return $"at most {text.MaxBytes} bytes";
        if (value.Bytes is { MaxLen: > 0 } bytes)
            yield return $"at most {bytes.MaxLen} bytes";
        if (rules.Repeated is { MaxItems: > 0 } list)
            yield return $"at most {list.MaxItems}";
        if (value.Int32 is { } number)
            yield return $"from {number.Gte} to {number.Lte}";
        if (value.Uint32 is { } size)
            yield return $"from {size.Gte} to {size.Lte}";
        if (rules.Repeated is { Unique: true })
            yield return "all different";
    }
}
