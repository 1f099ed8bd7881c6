using System.CommandLine;
using System.Text.Json.Nodes;

namespace Ministries.Ministry;

/// <summary>The verb <c>config</c>: the settings that a person keeps.</summary>
internal static class ConfigCommand
{
    public static Command Create()
    {
        var show = Show();
        var command = new Command(
            "config",
            "Keeps settings in profiles: $MINISTRIES_CONFIG, else ministries/config.json in $XDG_CONFIG_HOME or ~/.config. An option comes before "
                + "its variable, and that before the profile."
        )
        {
            show,
            Set(),
            Unset(),
            Use(),
        };
        command.Action = show.Action;
        return command;
    }

    private static Command Show()
    {
        var command = new Command("show", "Shows the file, its profiles and the settings of the one in use.")
        {
            Options.Profile,
            Options.Output,
            Options.Json,
        };
        CallCommands.SetRun(
            command,
            (result, connection, cancel) =>
            {
                var profile = connection.Profile;
                var data = new JsonObject
                {
                    ["file"] = profile.Path,
                    ["profile"] = profile.Name,
                    ["profiles"] = new JsonArray([.. profile.Names.Select(n => (JsonNode?)n)]),
                    ["settings"] = new JsonObject(profile.Settings.Select(s => KeyValuePair.Create(s.Key, (JsonNode?)s.Value))),
                };
                if (Answers.WriteData(connection, data))
                    return Task.FromResult(ExitCodes.Done);
                var screen = connection.Screen;
                screen.Line(new Span("file     ", Style.Dim), Terminal.Line(profile.Path), File.Exists(profile.Path) ? "" : " (none yet)");
                screen.Line(
                    new Span("profiles ", Style.Dim),
                    string.Join(", ", profile.Names.Select(n => n == profile.Name ? $"{n} (in use)" : n).Select(Terminal.Line))
                );
                foreach (var (name, meaning) in Profile.Known)
                    if (profile.Settings.TryGetValue(name, out var value))
                        screen.Line(new Span($"{name, -13} ", Style.Dim), Terminal.Line(value));
                    else
                        foreach (var (line, i) in Screen.Wrap(meaning, screen.Shell.TextColumns - 16).Select((l, i) => (l, i)))
                            screen.Line(new Span($"{(i == 0 ? name : ""), -13} {(i == 0 ? "—" : " ")} {line}", Style.Dim));
                return Task.FromResult(ExitCodes.Done);
            }
        );
        return command;
    }

    private static Command Set()
    {
        var name = Setting();
        var value = new Argument<string>("value") { Description = "Its value." };
        value.CompletionSources.Add(context => Completion.Settings(context, context.ParseResult.GetValue(name)));
        var command = new Command("set", "Keeps a setting; makes the profile and the file if they are not there.")
        {
            name,
            value,
            Options.Profile,
        };
        command.SetAction(result => Change(result, p => p.Set(result.GetRequiredValue(name), result.GetRequiredValue(value))));
        return command;
    }

    private static Command Unset()
    {
        var name = Setting();
        var command = new Command("unset", "Forgets a setting.") { name, Options.Profile };
        command.SetAction(result => Change(result, p => p.Set(result.GetRequiredValue(name), null)));
        return command;
    }

    private static Command Use()
    {
        var name = new Argument<string>("profile") { Description = "The profile." };
        name.CompletionSources.Add(Completion.Profiles);
        var command = new Command("use", "Uses a profile where none is named.") { name };
        command.SetAction(result => Change(result, p => p.Use(), result.GetRequiredValue(name)));
        return command;
    }

    private static Argument<string> Setting()
    {
        var name = new Argument<string>("setting")
        {
            Description = string.Join("; ", Profile.Known.Select(k => $"{k.Key}: {k.Value}")) + ".",
        };
        name.CompletionSources.Add([.. Profile.Known.Keys]);
        return name;
    }

    private static int Change(ParseResult result, Action<Profile> change, string? use = null)
    {
        try
        {
            change(Profile.Read(Shell.Of(result), use ?? result.GetValue(Options.Profile), creates: use is null));
            return ExitCodes.Done;
        }
        catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException)
        {
            result.InvocationConfiguration.Error.WriteLine(e.Message);
            return ExitCodes.WrongInput;
        }
    }
}
