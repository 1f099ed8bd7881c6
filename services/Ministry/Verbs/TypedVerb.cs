using System.CommandLine;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Custody.V1;
using PlainText = Ministries.Ledger.PlainText;

namespace Ministries.Ministry;

/// <summary>A method of a service as a verb of the command: its name, its flags and its request, all from the contract.</summary>
internal sealed class TypedVerb
{
    private readonly Dictionary<Flag, Option<string[]>> _options = [];
    private readonly Dictionary<Flag, Option<string[]>> _recipients = [];

    private TypedVerb(string service, MethodDescriptor method)
    {
        (Service, Method) = (service, method);
        Command = new VerbCommand(this);
    }

    /// <summary>Adds the flags. It is done only for verbs that are named, because there are thousands of flags.</summary>
    public void Prepare()
    {
        if (Command.Options.Count > 0)
            return;
        foreach (var flag in Flags)
        {
            // A truth needs no value: --last is --last true.
            var option = new Option<string[]>(flag.Name, [.. flag.Names.Skip(1).Select(n => $"--{n}")])
            {
                Arity = flag.Field is { FieldType: FieldType.Bool, IsRepeated: false }
                    ? new ArgumentArity(0, 16)
                    : new ArgumentArity(1, 1024),
                AllowMultipleArgumentsPerToken = false,
                HelpName = FlagValue.HintFor(flag.Field),
            };
            Completion.Add(option, flag, Service);
            Command.Add(_options[flag] = option);
            if (flag.IsSealed)
                Command.Add(_recipients[flag] = new Option<string[]>($"{flag.Name}.to") { HelpName = "participant" });
        }
        if (IsWrite)
            foreach (var option in Options.OfWrites)
                Command.Add(option);
        else
            Command.Add(Options.RequestFile);
        if (IsList)
            Command.Add(Options.All);
        if (MinistryClient.TakesOpenings(Method.InputType))
            Command.Add(Options.Opens);
        if (Method.InputType == AttestStatementRequest.Descriptor)
            Command.Add(Options.SignWith);
        CallCommands.SetCall(Command, (result, connection, cancel) => new VerbCall(this, result, connection).Run(cancel));
    }

    /// <summary>The service.</summary>
    public string Service { get; }

    /// <summary>The method.</summary>
    public MethodDescriptor Method { get; }

    /// <summary>The flags, in the order of the contract.</summary>
    public IReadOnlyList<Flag> Flags => field ??= Flag.Of(Method.InputType);

    /// <summary>The command.</summary>
    public Command Command { get; }

    /// <summary>Whether it writes.</summary>
    public bool IsWrite => Contract.IsWrite(Method);

    /// <summary>Whether it answers in pages.</summary>
    public bool IsList => Method.OutputType.FindFieldByName("next_page_token") is not null;

    /// <summary>The commands of all services, each with the verbs of its methods.</summary>
    public static IEnumerable<Command> CreateAll()
    {
        foreach (var service in Contract.Services)
        {
            var noun = new Command(service, $"Every method of the {service} service, as a verb with typed flags.");
            foreach (var method in Contract.MethodsOf(service))
                noun.Add(new TypedVerb(service, method).Command);
            yield return noun;
        }
    }

    /// <summary>Adds the flags of the verbs that some words may name.</summary>
    public static void Prepare(RootCommand root, IReadOnlyCollection<string> words)
    {
        foreach (var noun in root.Subcommands.Where(s => words.Contains(s.Name)))
        foreach (var command in noun.Subcommands.OfType<VerbCommand>().Where(c => words.Contains(c.Name)))
            command.Verb.Prepare();
    }

    /// <summary>The request that the flags say, and what is to be sealed in it.</summary>
    /// <param name="result">What was given.</param>
    /// <param name="values">How values are read.</param>
    /// <param name="cancel">Ends the reading of files.</param>
    /// <exception cref="FormatException">Something that was given is no value of its field. All faults are named.</exception>
    public async Task<(IMessage Request, IReadOnlyList<ToSeal> Seals)> Build(ParseResult result, FlagValue values, CancellationToken cancel)
    {
        if (ReadersOfInput(result).ToArray() is { Length: > 1 } readers)
            throw new FormatException(
                $"{string.Join(" and ", readers)} read standard input (-), which can be read once: name a file for all but one"
            );
        var request = result.GetValue(Options.RequestFile) is { } file
            ? Parse(Method.InputType, file == "-" ? values.Read(file) : await PlainText.Read(file, cancel), file)
            : (IMessage)Activator.CreateInstance(Method.InputType.ClrType)!;
        var (faults, seals) = (new List<string>(), new List<ToSeal>());
        // What is above comes before what is in it, so that a flag within adds to a message from a file.
        foreach (var (flag, option) in _options.OrderBy(o => o.Key.Path.Count))
        {
            if (result.GetResult(option) is not { Implicit: false } given)
                continue;
            string[] texts = [.. given.Tokens.Select(t => t.Value)];
            try
            {
                if (texts.Length == 0)
                    texts = ["true"];
                if (!flag.Field.IsRepeated && texts.Length > 1)
                    throw new FormatException("was given more than once");
                if (flag.IsSealed)
                    seals.Add(new(flag, ContentOf(flag, values, texts[0]), result.GetValue(_recipients[flag]) ?? []));
                else
                    values.Set(flag.Path.SkipLast(1).Aggregate(request, FlagValue.Inner), flag.Field, texts);
            }
            catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException or OverflowException)
            {
                faults.Add($"{given.IdentifierToken?.Value ?? flag.Name} {e.Message}");
            }
        }
        return faults.Count == 0 ? (request, seals) : throw new FormatException(string.Join('\n', faults));
    }

    // The flags whose values are standard input, as they were typed.
    private IEnumerable<string> ReadersOfInput(ParseResult result)
    {
        if (result.GetValue(Options.RequestFile) == "-")
            yield return Options.RequestFile.Name;
        foreach (var (flag, option) in _options)
            if (result.GetResult(option) is { Implicit: false } given)
                foreach (var token in given.Tokens)
                    if (token.Value == "@-" || token.Value == "-" && (flag.IsSealed || flag.TakesMessage))
                        yield return given.IdentifierToken?.Value ?? flag.Name;
    }

    /// <summary>A refusal's or limit's path as the flag that sets it, such as <c>--account.start-time</c>.</summary>
    public string FlagFor(string path)
    {
        var plain = path.Split('[')[0];
        var flag = Flags
            .Where(f => plain == f.FieldPath || plain.StartsWith($"{f.FieldPath}.", StringComparison.Ordinal))
            .MaxBy(f => f.Path.Count);
        return flag is null ? path
            : flag.FieldPath == path ? flag.Name
            : $"{flag.Name} ({path})";
    }

    /// <summary>A message from JSON.</summary>
    /// <exception cref="FormatException">It is none.</exception>
    public static IMessage Parse(MessageDescriptor type, string json, string from)
    {
        try
        {
            return Contract.Parser.Parse(json, type);
        }
        catch (Exception e) when (e is InvalidProtocolBufferException or InvalidJsonException)
        {
            throw new FormatException($"{from} is no {type.Name} in JSON: {e.Message}", e);
        }
    }

    // Personal data never stand on a command line, which every process of the machine and the shell's history can read.
    private static IMessage ContentOf(Flag flag, FlagValue values, string text)
    {
        if (flag.SealedMessage is not { } type)
            throw new FormatException("is sealed, and the contract does not say what is in it: give the request with --json");
        if (text is not "-" && !text.StartsWith('@'))
            throw new FormatException(
                $"is personal data, which never stand on a command line: @file with a {type.Name} in JSON, or - for standard input"
            );
        return Parse(type, values.Read(text.TrimStart('@')), text);
    }
}

/// <summary>The command of a verb.</summary>
internal sealed class VerbCommand(TypedVerb verb) : Command(Words.Kebab(verb.Method.Name))
{
    /// <summary>The verb.</summary>
    public TypedVerb Verb => verb;
}

/// <summary>A message that is to be sealed in a request.</summary>
/// <param name="Flag">Its flag.</param>
/// <param name="Content">The message.</param>
/// <param name="Recipients">To whom; none: to whom the contract says.</param>
internal sealed record ToSeal(Flag Flag, IMessage Content, IReadOnlyList<string> Recipients);
