using System.CommandLine;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using Ministries.Gateway;

namespace Ministries.Ministry;

/// <summary>The verb <c>serve</c>: the participant's gateway.</summary>
internal static class ServeCommand
{
    public static Command Create()
    {
        var file = new Option<string?>("--settings")
        {
            HelpName = "file",
            Description =
                "The gateway's settings (JSON). The options and variables of folder and participant, and MINISTRIES_SECRETS_FOLDER, go before "
                + "them; a profile is not used.",
        };
        var state = new Option<string?>("--state")
        {
            Description = "The folder of what it keeps. Never restore it from a backup.",
            HelpName = "folder",
        };
        var listen = new Option<Uri?>("--listen")
        {
            HelpName = "https://host:port",
            Description = "Where it listens; not given: port 7120 of this machine alone.",
            CustomParser = given =>
            {
                if (Uri.TryCreate(given.Tokens[0].Value, UriKind.Absolute, out var address) && address.Scheme == Uri.UriSchemeHttps)
                    return address;
                given.AddError($"--listen must be an address such as https://127.0.0.1:7120, not {given.Tokens[0].Value}");
                return null;
            },
        };
        var command = new LastingCommand(
            "serve",
            "Runs the participant's gateway: JSON, gRPC, events and webhooks for its own systems and officials, until it is told to stop."
        )
        {
            file,
            Options.Folder,
            Options.As,
            Options.Profile,
            state,
            listen,
            Token(),
            Health(),
        };
        command.SetAction((result, cancel) => Run(result, result.GetValue(file), result.GetValue(state), result.GetValue(listen), cancel));
        return command;
    }

    private static Command Token()
    {
        var file = new Option<string>("--file") { Required = true, Description = "The file of tokens, which is made if there is none." };
        var name = new Option<string>("--name") { Required = true, Description = "The system that gets it." };
        var roles = new Option<string[]>("--role")
        {
            Required = true,
            Description = $"Its roles: {string.Join(", ", Roles.All)}; may be given again.",
        };
        var command = new Command("token", "Makes a token for a system, adds its digest to the file, and shows it this once.")
        {
            file,
            name,
            roles,
        };
        command.SetAction(result =>
        {
            try
            {
                result.InvocationConfiguration.Output.WriteLine(
                    TokenFile.Add(result.GetRequiredValue(file), result.GetRequiredValue(name), result.GetRequiredValue(roles))
                );
                return 0;
            }
            catch (Exception e) when (e is IOException or FormatException or UnauthorizedAccessException)
            {
                result.InvocationConfiguration.Error.WriteLine(e.Message);
                return ExitCodes.WrongInput;
            }
        });
        return command;
    }

    private static Command Health()
    {
        var file = new Option<string>("--settings")
        {
            Required = true,
            HelpName = "file",
            Description = "The gateway's settings (JSON).",
        };
        var command = new Command("health", "Asks the gateway that runs beside it whether it is ready: exit code 0, or 1 if it is not.")
        {
            file,
            Options.Output,
            Options.Json,
        };
        command.SetAction(
            async (result, cancel) =>
            {
                try
                {
                    // A container's check has no home, and so no profile.
                    using var connection = Connection.Of(result, readsProfile: false);
                    var ready = await IsReady(GatewaySettings.Read(result.GetRequiredValue(file)), cancel);
                    if (!Answers.WriteData(connection, new JsonObject { ["ready"] = ready }))
                        connection.Screen.Line(ready ? "READY" : "NOT_READY");
                    return ready ? 0 : 1;
                }
                catch (Exception e) when (e is IOException or FormatException or CryptographicException or UnauthorizedAccessException)
                {
                    return CallCommands.Failed(result, null, ExitCodes.WrongInput, e.Message);
                }
            }
        );
        return command;
    }

    // The check is a process of its own that starts, connects and asks: on a busy machine that alone takes seconds.
    private static readonly TimeSpan HealthDeadline = TimeSpan.FromSeconds(20);

    private static async Task<bool> IsReady(GatewaySettings settings, CancellationToken cancel)
    {
        using var own = X509CertificateLoader.LoadCertificateFromFile(
            settings.Certificate ?? Path.Combine(settings.State, GatewayHost.OwnCertificate)
        );
        using var handler = new SocketsHttpHandler();
        // It is known by its key, because it may be called by another name from outside.
        handler.SslOptions.RemoteCertificateValidationCallback = (_, shown, _, _) =>
            shown is not null && CryptographicOperations.FixedTimeEquals(shown.GetPublicKey(), own.GetPublicKey());
        using var client = new HttpClient(handler) { Timeout = HealthDeadline };
        var anywhere = settings.Listen.Host is "0.0.0.0" or "[::]";
        var address = new UriBuilder(settings.Listen) { Host = anywhere ? "127.0.0.1" : settings.Listen.Host, Path = "/health/ready" };
        using var request = new HttpRequestMessage(HttpMethod.Get, address.Uri) { Headers = { Host = settings.Listen.Authority } };
        try
        {
            using var answer = await client.SendAsync(request, cancel);
            return answer.IsSuccessStatusCode;
        }
        catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
        {
            return false;
        }
    }

    private static GatewaySettings SettingsOf(Connection connection, string? file, string? state, Uri? listen)
    {
        var settings = file is null
            ? new GatewaySettings
            {
                Participant = connection.As,
                Folder = connection.Folder,
                State = state ?? throw new FormatException("--state or --settings is missing"),
                Services = Contract.Services.ToDictionary(s => s, s => connection.AddressesOf(s).Addresses),
                RequestsKey = connection.ValueOf("requests-key") is { Length: > 0 } key ? key : null,
            }
            : GatewaySettings.Read(file);
        return settings with
        {
            Participant = connection.GivenOf("as", Options.As) ?? settings.Participant,
            Folder = connection.GivenOf("folder", Options.Folder) ?? settings.Folder,
            SecretsFolder = CallCommands.GivenSecretsFolder ?? settings.SecretsFolder,
            State = state ?? settings.State,
            Listen = listen ?? settings.Listen,
            Otlp = settings.Otlp ?? Collector(),
        };
    }

    // By the same variable as the services'.
    private static Uri? Collector() =>
        Environment.GetEnvironmentVariable("OTEL_EXPORTER_OTLP_ENDPOINT") is not { Length: > 0 } text ? null
        : Uri.TryCreate(text, UriKind.Absolute, out var address) ? address
        : throw new FormatException($"OTEL_EXPORTER_OTLP_ENDPOINT must be an address such as http://127.0.0.1:4317, not {text}");

    private static async Task<int> Run(ParseResult result, string? file, string? state, Uri? listen, CancellationToken cancel)
    {
        var output = result.InvocationConfiguration.Output;
        try
        {
            using var connection = Connection.Of(result, readsProfile: file is null);
            var settings = SettingsOf(connection, file, state, listen);
            await using var host = GatewayHost.Build(settings);
            Task Say() =>
                output.WriteLineAsync($"{settings.Participant} at {string.Join(", ", host.Urls)}; try it at {settings.Listen}scalar");
            return await GatewayHost.Run(settings.Listen, host, Say, result.InvocationConfiguration.Error, cancel)
                ? 0
                : ExitCodes.BackgroundFailed;
        }
        catch (Exception e) when (e is IOException or FormatException or CryptographicException or UnauthorizedAccessException)
        {
            await result.InvocationConfiguration.Error.WriteLineAsync(e.Message);
            return ExitCodes.WrongInput;
        }
    }
}
