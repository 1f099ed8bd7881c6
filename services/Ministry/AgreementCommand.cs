using System.CommandLine;
using Google.Protobuf;
using Ministries.Trust;
using Ministries.Types.V1;
using WholeFile = Ministries.Ledger.WholeFile;

namespace Ministries.Ministry;

/// <summary>The verb <c>agreement</c>: what a version of the agreement changes, who must sign it, and signing it. It calls nobody, so
/// that it can be used where the keys for agreements are kept.</summary>
internal static class AgreementCommand
{
    private static readonly JsonFormatter Formatter = new(JsonFormatter.Settings.Default.WithIndentation());

    public static Command Create() => new("agreement", "The agreement's versions: what each changes, who must sign it, and signing it.")
    {
        Draft(), Diff(), Sign(), Check(),
    };

    private static Command Draft()
    {
        var (previous, next) = (File("previous", "The version in force."), File("next", "The altered copy of it; it is written anew."));
        var command = new Command("draft", "Makes an altered copy the version that follows: its number, its predecessor's digest, no signatures.")
        {
            previous, next,
        };
        command.SetAction(result => Run(result, () =>
        {
            var agreement = Read(result.GetRequiredValue(next));
            AgreementVersions.Follow(Read(result.GetRequiredValue(previous)), agreement);
            Write(result.GetRequiredValue(next), agreement);
            return Tell(result, Read(result.GetRequiredValue(previous)), agreement);
        }));
        return command;
    }

    private static Command Diff()
    {
        var (previous, next) = (File("previous", "The version before."), File("next", "The version after it."));
        var command = new Command("diff", "Says in plain words what a version changes, and who must sign it.") { previous, next };
        command.SetAction(result => Run(
            result, () => Tell(result, Read(result.GetRequiredValue(previous)), Read(result.GetRequiredValue(next)))));
        return command;
    }

    private static Command Sign()
    {
        var (next, previous) = (File("next", "The version; the signature is put into it."), Previous());
        var participant = new Option<string>("--as") { Required = true, Description = "The participant that signs, such as kr/mfa." };
        var key = new Option<string>("--key") { Required = true, HelpName = "file", Description = "Its key for agreements (PKCS #8, PEM)." };
        var command = new Command("sign", "Signs a version for a participant. Read what it changes first: `agreement diff`.")
        {
            next, previous, participant, key,
        };
        command.SetAction(result => Run(result, () =>
        {
            var agreement = Read(result.GetRequiredValue(next));
            var before = result.GetValue(previous) is { } file ? Read(file) : null;
            Pki.Sign(before, agreement, result.GetRequiredValue(participant), result.GetRequiredValue(key));
            Write(result.GetRequiredValue(next), agreement);
            Judge(result, before, agreement);
            return 0;
        }));
        return command;
    }

    private static Command Check()
    {
        var (next, previous) = (File("next", "The version."), Previous());
        var command = new Command("check", "Checks what a service checks before it takes a version over. Exit code 1: it would be refused.")
        {
            next, previous,
        };
        command.SetAction(result => Run(result, () =>
            Judge(result, result.GetValue(previous) is { } file ? Read(file) : null, Read(result.GetRequiredValue(next)))
                ? 0 : CallCommands.WasRefused));
        return command;
    }

    private static int Tell(ParseResult result, Agreement before, Agreement agreement)
    {
        var output = result.InvocationConfiguration.Output;
        foreach (var change in AgreementVersions.Between(before, agreement))
            // What one party proposes must not look like another line of what it changes.
            output.WriteLine(Terminal.Line($"{(change.Of is { } own ? $"signed by {own}" : "signed by all")}  {change.What}"));
        output.WriteLine(Terminal.Line(
            $"must sign: {string.Join(", ", AgreementVersions.Missing(before, agreement, new HashSet<string>()))}"));
        return 0;
    }

    private static bool Judge(ParseResult result, Agreement? before, Agreement agreement)
    {
        var fault = AgreementVersions.Check(before, agreement, DateTimeOffset.UtcNow);
        result.InvocationConfiguration.Output.WriteLine(
            fault is null ? $"version {agreement.Version} is signed by all whom it affects" : fault.ToString());
        return fault is null;
    }

    private static Argument<string> File(string name, string description) => new(name) { Description = description, HelpName = "file" };

    private static Option<string?> Previous() => new("--previous")
    {
        HelpName = "file", Description = "The version before; not given: it is the first, which everybody in it signs.",
    };

    private static int Run(ParseResult result, Func<int> verb)
    {
        try
        {
            return verb();
        }
        catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException)
        {
            result.InvocationConfiguration.Error.WriteLine(e.Message);
            return CallCommands.WrongInput;
        }
    }

    private static Agreement Read(string file)
    {
        try
        {
            return JsonParser.Default.Parse<Agreement>(System.IO.File.ReadAllText(file));
        }
        catch (Exception e) when (e is InvalidProtocolBufferException or InvalidJsonException)
        {
            throw new FormatException($"{file} is no agreement: {e.Message}", e);
        }
    }

    // Whole or not at all: a service may be reading it.
    private static void Write(string file, Agreement agreement) => WholeFile.Write(file, Formatter.Format(agreement) + "\n");
}
