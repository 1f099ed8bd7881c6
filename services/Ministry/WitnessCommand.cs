using System.CommandLine;
using System.Security.Cryptography;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Ministries.Gateway;
using Command = System.CommandLine.Command;
using Witness = Ministries.Client.Witness;

namespace Ministries.Ministry;

/// <summary>The verb <c>witness</c>: a participant's witness for the services' logs.</summary>
internal static class WitnessCommand
{
    internal static Command Create()
    {
        var state = new Option<string>("--state")
        {
            Required = true,
            Description = "The folder in which it keeps what it cosigned. Never restore it from a backup.",
        };
        var listen = new Option<Uri>("--listen")
        {
            Description = "The address to serve at.",
            HelpName = "https://host:port",
            DefaultValueFactory = _ => new Uri("https://127.0.0.1:7110"),
            CustomParser = given =>
            {
                if (Uri.TryCreate(given.Tokens[0].Value, UriKind.Absolute, out var address) && address.Scheme == Uri.UriSchemeHttps)
                    return address;
                given.AddError($"--listen must be an address such as https://0.0.0.0:7110, not {given.Tokens[0].Value}");
                return null;
            },
        };
        var key = new Option<string?>("--key")
        {
            HelpName = "location",
            Description = $"The key for cosignatures; not given: the folder's cosignatures.key. {CallCommands.KeyLocation}",
        };
        var run = new LastingCommand(
            "run",
            "Cosigns the checkpoints of the agreement's services (C2SP tlog-witness) until it is told to stop."
        )
        {
            Options.Folder,
            Options.As,
            Options.Profile,
            state,
            listen,
            key,
        };
        run.SetAction(
            (result, cancel) => Run(result, result.GetRequiredValue(state), result.GetRequiredValue(listen), result.GetValue(key), cancel)
        );
        return new Command("witness", "A witness: shows that the services' logs only grow, and are the same for everybody.") { run };
    }

    private static async Task<int> Run(ParseResult result, string state, Uri listen, string? key, CancellationToken cancel)
    {
        try
        {
            using var connection = Connection.Of(result, readsProfile: true);
            var settings = WitnessSettings.In(connection.Folder, connection.As, state, listen);
            await using var host = WitnessServer.Build(
                settings with
                {
                    Key = key ?? settings.Key,
                    SecretsFolder = CallCommands.SecretsFolder,
                },
                TimeProvider.System
            );
            await GatewayHost.StartAt(listen, host, cancel);
            await result.InvocationConfiguration.Output.WriteLineAsync(
                $"{host.Services.GetService<Witness>()!.Verifier} at {string.Join(", ", host.Urls)}"
            );
            await host.WaitForShutdownAsync(cancel);
            return ExitCodes.Done;
        }
        catch (Exception e) when (e is IOException or FormatException or CryptographicException or UnauthorizedAccessException)
        {
            await result.InvocationConfiguration.Error.WriteLineAsync(e.Message);
            return ExitCodes.WrongInput;
        }
    }
}
