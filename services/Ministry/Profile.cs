using System.Text.Json;
using System.Text.Json.Nodes;
using Ministries.Ledger;

namespace Ministries.Ministry;

/// <summary>The settings that a person keeps: profiles by name, each with settings by name, in one file of his own.</summary>
internal sealed class Profile
{
    /// <summary>The settings that a profile may have, with what each says.</summary>
    public static readonly IReadOnlyDictionary<string, string> Known = new Dictionary<string, string>
    {
        ["folder"] = "the folder that `pki init` made",
        ["as"] = "the participant that calls, such as kr/mfa",
        ["calllog"] = "where the call log is: https://HOST:PORT, several with commas",
        ["custody"] = "where the custody service is",
        ["consular"] = "where the consular service is",
        ["requests-key"] = "where the key is that signs requests",
        ["receipts"] = "the folder that keeps receipts and writes without an answer",
        ["office"] = "the office of the acting official",
        ["official"] = "the acting official's code",
        ["authority"] = "what authorises the acting official",
        ["case"] = "the case, where a command names none",
        ["zone"] = "the time zone in which times are shown and meant, such as Asia/Seoul",
        ["output"] = "table, wide, json or yaml",
        ["timeout"] = "how many seconds a call may take",
    };

    private const UnixFileMode OthersWrite = UnixFileMode.GroupWrite | UnixFileMode.OtherWrite;

    private readonly JsonObject _file;

    private Profile(string path, string name, JsonObject file) => (Path, Name, _file) = (path, name, file);

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>The profile's name.</summary>
    public string Name { get; }

    /// <summary>The names of all profiles.</summary>
    public IReadOnlyList<string> Names => [.. (_file["profiles"]?.AsObject() ?? []).Select(p => p.Key)];

    /// <summary>The profile's settings.</summary>
    public IReadOnlyDictionary<string, string> Settings =>
        (_file["profiles"]?[Name]?.AsObject() ?? []).ToDictionary(s => s.Key, s => s.Value?.ToString() ?? "");

    /// <summary>The path of the file: MINISTRIES_CONFIG, else that of the XDG base directory specification.</summary>
    public static string PathIn(Shell shell) =>
        shell.Text("MINISTRIES_CONFIG") is { Length: > 0 } path ? path
        : shell.Text("XDG_CONFIG_HOME") is { Length: > 0 } home ? System.IO.Path.Combine(home, "ministries", "config.json")
        : System.IO.Path.Combine(shell.Text("HOME"), ".config", "ministries", "config.json");

    /// <summary>Reads a profile.</summary>
    /// <param name="shell">Where it is.</param>
    /// <param name="name">Its name; null: MINISTRIES_PROFILE, else the one that the file uses.</param>
    /// <param name="creates">Whether a profile that is not there is an empty one.</param>
    /// <exception cref="FormatException">The file is none of this form, others may write it, or it has no such profile.</exception>
    public static Profile Read(Shell shell, string? name, bool creates = false)
    {
        var path = PathIn(shell);
        var file = new JsonObject();
        if (File.Exists(path))
        {
            // A user who can write the profile decides whose keys sign and which addresses are called.
            if (!OperatingSystem.IsWindows() && (File.GetUnixFileMode(path) & OthersWrite) != 0)
                throw new FormatException($"others can write {path}: chmod go-w {path}");
            file = ReadFile(path);
        }
        var asked = name ?? (shell.Text("MINISTRIES_PROFILE") is { Length: > 0 } variable ? variable : null);
        var profile = new Profile(path, asked ?? file["profile"]?.ToString() ?? "default", file);
        if (asked is not null && !creates && !profile.Names.Contains(asked))
            throw new FormatException(
                $"{path} has no profile {asked}"
                    + (
                        Suggestion.Nearest(asked, profile.Names) is { } near
                            ? $"; did you mean {near}?"
                            : $"; it has {string.Join(", ", profile.Names)}"
                    )
            );
        return profile;
    }

    /// <summary>A profile without settings, for which no file is read.</summary>
    public static Profile None(Shell shell) => new(PathIn(shell), "default", []);

    /// <summary>Sets a setting, or takes it away.</summary>
    /// <param name="setting">Its name.</param>
    /// <param name="value">The value; null: none. A path is kept from the root, because the next command may run elsewhere.</param>
    /// <exception cref="FormatException">There is no such setting, or the value is none of it.</exception>
    public void Set(string setting, string? value)
    {
        if (!Known.ContainsKey(setting))
            throw new FormatException(
                $"there is no setting {setting}"
                    + (
                        Suggestion.Nearest(setting, Known.Keys) is { } near
                            ? $"; did you mean {near}?"
                            : $": it is one of {string.Join(", ", Known.Keys)}"
                    )
            );
        var profiles = Of(_file, "profiles");
        var settings = Of(profiles, Name);
        settings.Remove(setting);
        if (value is not null)
            settings[setting] = SettingForms.Kept(setting, value);
        _file["profile"] ??= Name;
        Write();

        static JsonObject Of(JsonObject above, string name)
        {
            if (above[name] is not JsonObject there)
                above[name] = there = [];
            return there;
        }
    }

    /// <summary>Uses this profile where none is named.</summary>
    public void Use()
    {
        _file["profile"] = Name;
        Write();
    }

    private void Write()
    {
        PrivateFiles.MakeFolder(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(Path))!);
        WholeFile.Write(Path, _file.ToJsonString(Json.Indented) + "\n", mode: PrivateFiles.Mode);
    }

    private static JsonObject ReadFile(string path)
    {
        try
        {
            var file = JsonNode.Parse(PlainText.ReadFile(path)) as JsonObject;
            foreach (var (profile, settings) in file?["profiles"]?.AsObject() ?? [])
            foreach (var (setting, _) in settings!.AsObject())
                if (!Known.ContainsKey(setting))
                    throw new FormatException($"{path}: profile {profile} has an unknown setting {setting}");
            return file ?? throw new FormatException($"{path} is no JSON object");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new FormatException($"{path} is not of the form {{\"profile\": …, \"profiles\": {{…}}}}: {e.Message}", e);
        }
    }
}
