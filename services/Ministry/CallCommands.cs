using System.CommandLine;
using System.Text.Json.Nodes;
using Grpc.Core;
using Ministries.Keys;

namespace Ministries.Ministry;

/// <summary>The verbs that call services, and what they share.</summary>
internal static class CallCommands
{
    /// <summary>What an option that says where a key is may be given.</summary>
    internal const string KeyLocation =
        "A file (PKCS #8, PEM), secrets:NAME of the folder MINISTRIES_SECRETS_FOLDER (/run/secrets), or pkcs11:… of a key in a token.";

    /// <summary>The folder of <c>secrets:NAME</c>.</summary>
    internal static string SecretsFolder => GivenSecretsFolder ?? KeySource.DefaultSecretsFolder;

    /// <summary>As <see cref="SecretsFolder"/>, as far as the variable says it; null: it does not.</summary>
    internal static string? GivenSecretsFolder =>
        Environment.GetEnvironmentVariable("MINISTRIES_SECRETS_FOLDER") is { Length: > 0 } folder ? folder : null;

    /// <summary>The verbs: short forms for daily work, then the services with all their methods.</summary>
    public static IEnumerable<Command> Create() =>
        [
            NextCommand.Create(),
            CaseCommand.Create(),
            OpenCommand.Create(),
            RewrapCommand.Create(),
            GetCommand.Create(),
            ListCommand.Create(),
            FollowCommand.Create(),
            ApproveCommand.Create(),
            SentCommand.Create(),
            AuditCommand.Create(),
            LogCommand.Create(),
            DoctorCommand.Create(),
            ConfigCommand.Create(),
            CompletionCommand.Create(),
            .. TypedVerb.CreateAll(),
        ];

    /// <summary>Makes a command one that calls: it gets the options that say who calls, and whom, and runs as that participant.</summary>
    /// <param name="command">The command.</param>
    /// <param name="verb">What it does. It returns the exit code.</param>
    /// <param name="but">What is different from the settings that the options give; null: nothing.</param>
    public static void SetCall(
        Command command,
        Func<ParseResult, Connection, CancellationToken, Task<int>> verb,
        Func<ParseResult, MinistrySettings, MinistrySettings>? but = null
    )
    {
        foreach (var option in Options.OfConnection)
            command.Add(option);
        SetRun(command, verb, but);
    }

    /// <summary>As <see cref="SetCall"/>, for a command that has its options already.</summary>
    public static void SetRun(
        Command command,
        Func<ParseResult, Connection, CancellationToken, Task<int>> verb,
        Func<ParseResult, MinistrySettings, MinistrySettings>? but = null
    ) => command.SetAction((result, cancel) => Run(result, verb, but, cancel));

    /// <summary>The argument that names a service.</summary>
    internal static Argument<string> ServiceArgument()
    {
        var argument = new Argument<string>("service") { Description = "calllog, custody or consular." };
        argument.CompletionSources.Add([.. Contract.Services]);
        argument.Validators.Add(given =>
        {
            foreach (var name in given.Tokens.Select(t => t.Value).Where(n => !Contract.Services.Contains(n)))
                given.AddError(
                    $"there is no service {name}"
                        + (
                            Suggestion.Nearest(name, Contract.Services) is { } near
                                ? $"; did you mean {near}?"
                                : $": it is one of {string.Join(", ", Contract.Services)}"
                        )
                );
        });
        return argument;
    }

    /// <summary>Runs a verb as the participant that the options name, and says in words what goes wrong.</summary>
    /// <returns>The exit code.</returns>
    private static async Task<int> Run(
        ParseResult result,
        Func<ParseResult, Connection, CancellationToken, Task<int>> verb,
        Func<ParseResult, MinistrySettings, MinistrySettings>? but,
        CancellationToken cancel
    )
    {
        var error = result.InvocationConfiguration.Error;
        Connection? connection = null;
        // The library handles Ctrl-C from when it has the task on. So nothing may block before that.
        await Task.Yield();
        try
        {
            connection = new Connection(result, but is null ? null : settings => but(result, settings));
            return await verb(result, connection, cancel);
        }
        catch (OperationCanceledException) when (cancel.IsCancellationRequested)
        {
            return ExitCodes.Interrupted;
        }
        catch (RpcException e) when (RefusedException.From(e) is { } refused)
        {
            if (connection is null || !Answers.WriteData(connection, InJson(refused)))
                await error.WriteLineAsync(InWords(result, refused));
            return refused.StatusCode == StatusCode.Unavailable ? ExitCodes.NotReached : ExitCodes.WasRefused;
        }
        catch (Exception e) when (e is RpcException or HttpRequestException)
        {
            return Failed(ExitCodes.NotReached, $"not reached: {e.GetBaseException().Message}");
        }
        catch (NotReachedException e)
        {
            return Failed(ExitCodes.NotReached, e.Message);
        }
        catch (Exception e)
            when (e
                    is EntryMissingException
                        or InvalidReceiptException
                        or ReceiptNotKeptException
                        or InvalidLogException
                        or InvalidEntryException
                        or InvalidDataException
            )
        {
            return Failed(ExitCodes.WasRefused, e.Message);
        }
        catch (Exception e)
            when (e is FormatException or IOException or UnauthorizedAccessException or ArgumentException or Sealing.SealException)
        {
            return Failed(ExitCodes.WrongInput, e.Message);
        }
        finally
        {
            connection?.Dispose();
        }

        int Failed(int code, string message) => CallCommands.Failed(result, connection, code, message);
    }

    /// <summary>Says what failed. A program that asked for data gets them of a failure too, where it looks for the answer.</summary>
    /// <returns>The exit code.</returns>
    internal static int Failed(ParseResult result, Connection? connection, int code, string message)
    {
        var data = new JsonObject
        {
            ["error"] = new JsonObject { ["exit_code"] = code, ["message"] = message },
        };
        if (!Answers.WriteData(connection?.Screen ?? Screen.Of(result), connection?.Format ?? Connection.FormatIn(result), data))
            result.InvocationConfiguration.Error.WriteLine(message);
        return code;
    }

    // The fields at fault by the flags that set them.
    private static string InWords(ParseResult result, RefusedException refused)
    {
        var text = refused.ToText();
        if (result.CommandResult.Command is not VerbCommand { Verb: var verb } || refused.Faults.Count == 0)
            return text;
        return $"{text}\n{string.Join('\n', refused.Faults.Select(f => $"  flag:      {Terminal.Line(verb.FlagFor(f.Field))}").Distinct())}";
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
}
