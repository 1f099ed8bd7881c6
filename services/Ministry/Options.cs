using System.CommandLine;

namespace Ministries.Ministry;

/// <summary>The options that verbs share. What an option does not say, a variable says, then the profile.</summary>
internal static class Options
{
    public static readonly Option<string> Profile = new("--profile")
    {
        Description = "The profile of the configuration file; see `ministry config`. MINISTRIES_PROFILE.",
        HelpName = "name",
        CompletionSources = { Completion.Profiles },
    };

    public static readonly Option<string> Folder = new("--folder")
    {
        Description = "The folder that `pki init` made. MINISTRIES_FOLDER.",
        HelpName = "folder",
    };

    public static readonly Option<string> As = new("--as")
    {
        Description = "The participant that calls, such as kr/mfa. MINISTRIES_AS.",
        HelpName = "participant",
        CompletionSources = { Completion.Participants },
    };

    public static readonly Option<string[]> Address = new("--address")
    {
        Description =
            "Where a service is: NAME=https://HOST:PORT, replicas with commas; may be given again. MINISTRIES_CALLLOG, MINISTRIES_CUSTODY, "
            + "MINISTRIES_CONSULAR. Else ports 7101, 7102 and 7103 of this machine.",
        HelpName = "name=address",
        DefaultValueFactory = _ => [],
    };

    public static readonly Option<string> RequestsKey = new("--requests-key")
    {
        Description =
            $"The key that signs requests, if it is not the folder's requests.key. {CallCommands.KeyLocation} MINISTRIES_REQUESTS_KEY.",
        HelpName = "location",
    };

    public static readonly Option<string> Receipts = new("--receipts")
    {
        Description =
            "The folder that keeps receipts, and writes whose answer is not known; if it is not `receipts` in the participant's folder. "
            + "MINISTRIES_RECEIPTS.",
        HelpName = "folder",
    };

    public static readonly Option<string> Timeout = new("--timeout")
    {
        Description =
            "How many seconds a call may take, all attempts together, 1 to 600; if nothing says it, 30 for a write and 10 for another call. "
            + "MINISTRIES_TIMEOUT.",
        HelpName = "seconds",
    };

    public static readonly Option<string> Output = new("--output", "-o")
    {
        Description = "table, wide (nothing is cut), json or yaml. MINISTRIES_OUTPUT.",
        HelpName = "format",
        CompletionSources = { Completion.Formats },
    };

    public static readonly Option<bool> Json = new("--json-output", "-j")
    {
        Description = "The same as -o json. Refusals are JSON too; `list --all` and `follow` write one document to a line.",
    };

    public static readonly Option<string> Zone = new("--zone")
    {
        Description = "The time zone in which times are shown and meant, if it is not this machine's. MINISTRIES_ZONE.",
        HelpName = "zone",
        CompletionSources = { Completion.Zones },
    };

    // ---- of the typed verbs ------------------------------------------------------------------------------------------------------

    public static readonly Option<string> RequestFile = new("--json")
    {
        Description = "A file with the request in JSON (- is standard input), to which the flags add.",
        HelpName = "file|-",
    };

    public static readonly Option<string> RequestId = new("--request-id")
    {
        Description = "The id of this write. That of a write without an answer sends it again as it was, which is the same write.",
        HelpName = "uuid",
    };

    public static readonly Option<bool> DryRun = new("--dry-run")
    {
        Description = "Show what would be signed, and send no write. Records are read to fill in what was not given.",
    };

    public static readonly Option<string> Out = new("--out")
    {
        Description = "Write the request to a file instead of sending it, for officials to `approve`; send it with --json.",
        HelpName = "file",
    };

    public static readonly Option<bool> Yes = new("--yes", "-y") { Description = "Do not ask on a terminal before a write is sent." };

    public static readonly Option<string[]> Opens = new("--opens")
    {
        Description =
            "Whose wish the request shows, and for which destination: the openings are made from the statements that you can open, and every "
            + "side of the transfer sees them. Given again for each further reference of the same person.",
        HelpName = "prisoner=destination",
    };

    public static readonly Option<string> SignWith = new("--sign-with")
    {
        Description =
            "Where the key is of the official who was present and signs. First the statement is opened and its commitments are made again; if "
            + $"they differ, nothing is signed. On a terminal he reads it and is asked before he signs. {CallCommands.KeyLocation}",
        HelpName = "location",
    };

    public static readonly Option<bool> All = new("--all") { Description = "Read all pages instead of the first one." };

    /// <summary>What says who calls, and whom.</summary>
    public static readonly IReadOnlyList<Option> OfConnection =
    [
        Profile,
        Folder,
        As,
        Address,
        RequestsKey,
        Receipts,
        Timeout,
        Zone,
        Output,
        Json,
    ];

    /// <summary>What every write has.</summary>
    public static readonly IReadOnlyList<Option> OfWrites = [RequestFile, RequestId, DryRun, Out, Yes];

    /// <summary>The names that no flag may take.</summary>
    public static readonly IReadOnlySet<string> Taken = OfConnection
        .Concat(OfWrites)
        .Concat([All, Opens, SignWith])
        .SelectMany(o => o.Aliases.Append(o.Name))
        .Select(n => n.TrimStart('-'))
        .Concat(["help", "h", "version"])
        .ToHashSet();
}
