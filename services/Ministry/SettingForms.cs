using System.Globalization;
using System.Text.RegularExpressions;
using Ministries.Contracts;
using Ministries.Keys;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>What the settings of a profile may be, and so the options and variables of their names.</summary>
internal static class SettingForms
{
    /// <summary>The longest time that a call may take, in seconds.</summary>
    private const int MostSeconds = 600;

    private static readonly string[] Formats = [.. Enum.GetNames<OutputFormat>().Select(n => n.ToLowerInvariant())];

    /// <summary>What is wrong with a value, as a text that follows the setting's name; null: nothing.</summary>
    /// <param name="setting">One of <see cref="Profile.Known"/>.</param>
    /// <param name="value">Its value. A path may be relative.</param>
    public static string? Fault(string setting, string value) =>
        setting switch
        {
            "folder" when !Directory.Exists(value) => $"must be a folder that is there, not {value}",
            "receipts" when value.Length == 0 || File.Exists(value) => $"must be a folder, not {value}",
            "as" when !Matches(value, StringForms.ParticipantPattern) => $"must be a participant such as kr/mfa, not {value}",
            "calllog" or "custody" or "consular" when ServiceAddresses.Read(value) is null =>
                $"must be https://HOST:PORT, not {value}; separate several with commas",
            "case" when Records.OfId(value)?.Name != "case" || !Matches(value, StringForms.RecordIdPattern) =>
                $"must be a case's id (case_…), not {value}",
            "zone" when Zone(value) is null => $"must be a zone of the IANA database such as Asia/Seoul, not {value}",
            "output" when Format(value) is null => $"must be one of {string.Join(", ", Formats)}, not {value}{Meant(value)}",
            "timeout" when Seconds(value) is null => $"must be from 1 to {MostSeconds} seconds, not {value}",
            "office" or "official" or "authority" => OfActor(setting, value),
            "requests-key" => OfKey(value),
            _ => null,
        };

    /// <summary>The form in which a value is kept: a path from the root, because the next command may run elsewhere.</summary>
    /// <exception cref="FormatException">It is no value of the setting.</exception>
    public static string Kept(string setting, string value) =>
        Fault(setting, value) is { } fault ? throw new FormatException($"{setting} {fault}")
        : setting is "folder" or "receipts" || setting == "requests-key" && IsPath(value) ? Path.GetFullPath(value)
        : value;

    /// <summary>The way to write an answer that a text names; null: none.</summary>
    public static OutputFormat? Format(string text) =>
        Formats.Contains(text, StringComparer.OrdinalIgnoreCase) ? Enum.Parse<OutputFormat>(text, ignoreCase: true) : null;

    /// <summary>The zone that a text names; null: none.</summary>
    public static TimeZoneInfo? Zone(string text) => TimeZoneInfo.TryFindSystemTimeZoneById(text, out var found) ? found : null;

    /// <summary>The number of seconds that a text says; null: it is none, or out of the limits.</summary>
    public static int? Seconds(string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds) && seconds is >= 1 and <= MostSeconds
            ? seconds
            : null;

    private static bool Matches(string value, string pattern) => Regex.IsMatch(value, $"{pattern[..^1]}\\z", RegexOptions.NonBacktracking);

    internal static bool IsPath(string location) => !KeySource.IsInToken(location) && KeySource.PathOf(location) == location;

    private static string? OfKey(string location)
    {
        try
        {
            // Where it is no path, it may be there only when it is used.
            return IsPath(location) && KeySource.Wrong(location) is { } wrong ? $"cannot be {location}: {wrong}" : null;
        }
        catch (FormatException e)
        {
            return $"cannot be {location}: {e.Message}";
        }
    }

    private static string? OfActor(string setting, string value)
    {
        var actor = new Actor();
        Actor.Descriptor.FindFieldByName(setting).Accessor.SetValue(actor, value);
        return Limits.Faults(actor, new HashSet<string>()).FirstOrDefault(f => f.Path == setting).What;
    }

    private static string Meant(string format) => Suggestion.Nearest(format, Formats) is { } near ? $"; did you mean {near}?" : "";
}
