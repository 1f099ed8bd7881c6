using System.CommandLine;
using System.Text.Json.Nodes;
using Ministries.Trust;

namespace Ministries.Ministry;

/// <summary>The verb <c>pki</c>: keys, certificates and the agreement of a development set-up.</summary>
internal static class PkiCommand
{
    public static Command Create()
    {
        var folder = new Option<DirectoryInfo>("--out")
        {
            Required = true,
            Description = "The folder; it is created if it does not exist.",
        };
        var hosts = new Option<string[]>("--host")
        {
            Description = "A host at which services may be called, beside localhost and the service's own name. May be given again.",
            DefaultValueFactory = _ => [],
        };
        var init = new Command("init", "Makes what is missing of authorities, certificates, keys and the agreement. What is there stays.")
        {
            folder,
            hosts,
            Options.Output,
            Options.Json,
        };
        init.SetAction(result =>
        {
            var to = result.GetRequiredValue(folder);
            try
            {
                using var connection = Connection.Of(result, readsProfile: false);
                var made = Pki.Init(
                    to.FullName,
                    StandardAgreement.Read(),
                    TimeProvider.System,
                    SealingKeyFile.Make,
                    result.GetValue(hosts) ?? []
                );
                if (Answers.WriteData(connection, new JsonObject { ["made"] = new JsonArray([.. made.Select(f => (JsonNode?)f)]) }))
                    return ExitCodes.Done;
                foreach (var file in made)
                    connection.Screen.Line(file);
                if (made.Count == 0)
                    connection.Screen.Line($"nothing is missing in {to}");
                return ExitCodes.Done;
            }
            catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException)
            {
                return CallCommands.Failed(result, null, ExitCodes.WrongInput, e.Message);
            }
        });
        return new Command("pki", "Keys, certificates and the agreement of a development set-up.") { init };
    }
}
