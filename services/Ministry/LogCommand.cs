using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;

namespace Ministries.Ministry;

/// <summary>The verb <c>log</c>: an auditor's check of a service's log from outside, which uses only what the service serves to every
/// participant.</summary>
internal static class LogCommand
{
    /// <summary>Exit code: the log is broken, or has not the cosignatures that the agreement demands.</summary>
    private const int NotProved = 1;

    public static Command Create() => new("log", "A service's log, checked from outside.") { VerifyVerb() };

    private static Command VerifyVerb()
    {
        var service = CallCommands.ServiceArgument();
        var (seen, entries) = (SeenOption(), EntriesOption());
        var verify = new Command(
            "verify",
            "Reads a service's checkpoint and all of its log, computes the root again, checks the cosignatures, compares with "
                + "what the witnesses and earlier checks have seen, and says what is proved and by whom. Exit code 0: all; 1: not; 3: not reached."
        )
        {
            service,
            seen,
            entries,
        };
        CallCommands.SetCall(
            verify,
            async (result, connection, cancel) =>
            {
                var (code, data) = await Verify(connection, result.GetRequiredValue(service), result.GetValue(entries), cancel);
                if (data is not null)
                    Answers.WriteData(connection, data);
                return code;
            },
            (result, settings) => settings with { SeenFolder = result.GetValue(seen) }
        );
        return verify;
    }

    /// <summary>The option that says where earlier checkpoints are kept.</summary>
    public static Option<string> SeenOption() =>
        new("--seen")
        {
            Description = "The folder that stores the checkpoints of earlier checks. Without it, nothing earlier is compared.",
            HelpName = "folder",
        };

    /// <summary>The option that asks for a check of every entry.</summary>
    public static Option<bool> EntriesOption() =>
        new("--entries")
        {
            Description =
                "Read every entry that is for the participant, too, and verify it: its place in the log, its parts, its signature.",
        };

    /// <summary>Checks a log, and writes what is proved in words unless data were asked for.</summary>
    /// <returns>The exit code, and the data; null: it was written in words.</returns>
    public static async Task<(int Code, JsonObject? Data)> Verify(
        Connection connection,
        string service,
        bool entries,
        CancellationToken cancel
    )
    {
        var (client, screen) = (connection.Client, connection.Screen);
        var data = connection.Format is OutputFormat.Json or OutputFormat.Yaml;
        JsonObject broken;
        try
        {
            var audit = await connection.Reach(
                service,
                () => client.Audit(service, whole: true, entries, cancel),
                $"reading the log of {service}",
                cancel
            );
            var demanded = (int)client.Agreement.CosignaturesDemanded;
            var proved = audit.Cosigners.Intersect(client.Agreement.Witnesses.Select(w => w.Participant)).Count() >= demanded;
            if (!data)
                foreach (var line in InWords(audit, client))
                    InLines(screen, line);
            return (proved ? ExitCodes.Done : NotProved, data ? InJson(audit, client, proved) : null);
        }
        catch (Exception e) when (e is InvalidEntryException or EntryMissingException)
        {
            broken = Broken(service, e.GetType().Name, e.Message);
            InLines(screen, data ? "" : $"BROKEN     {e.Message}");
        }
        catch (InvalidLogException e)
        {
            var checkpoints = ((string?[])[e.One, e.Other]).OfType<string>().ToArray();
            broken = Broken(service, e.Break.ToString(), e.What);
            broken["checkpoints"] = new JsonArray([.. checkpoints.Select(c => (JsonNode?)c)]);
            InLines(screen, data ? "" : $"BROKEN     {e.Message}");
            foreach (var note in data ? [] : checkpoints)
                screen.Lines($"\nSigned by the service:\n{note}\n");
        }
        return (NotProved, data ? broken : null);
    }

    // The word that judges stands before what it judges, which goes on beneath.
    private static void InLines(Screen screen, string line)
    {
        const int Column = 11;
        if (line.Length == 0)
            return;
        if (
            line.Length <= Column
            || line[Column - 1] != ' '
            || line[..Column].TrimEnd() is not ("proved" or "unproved" or "UNPROVED" or "BROKEN")
        )
        {
            screen.Paragraph(line);
            return;
        }
        var style = line[0] switch
        {
            'p' => Style.Good,
            'u' => Style.Dim,
            _ => Style.Bad,
        };
        foreach (var (part, i) in Screen.Wrap(line[Column..], screen.Shell.TextColumns - Column).Select((p, i) => (p, i)))
            screen.Line(new Span(i == 0 ? line[..Column] : new string(' ', Column), style), part);
    }

    private static JsonObject Broken(string service, string @break, string what) =>
        new()
        {
            ["service"] = service,
            ["proved"] = false,
            ["break"] = @break,
            ["what"] = what,
        };

    private static IEnumerable<string> InWords(LogAudit audit, MinistryClient client)
    {
        var (agreement, size) = (client.Agreement, audit.Checkpoint.Size);
        yield return $"The log of {audit.Service} ({agreement.TrustDomain}/{audit.Service}), version {agreement.Version} of the agreement";
        yield return $"proved     {size} entries, root {Convert.ToBase64String(audit.Checkpoint.Root)}: signed by the service";
        yield return $"proved     the root is that of these {audit.Entries} entries, each in its place: every one's hash was read";
        if (audit.Verified > 0)
            yield return $"proved     the {audit.Verified} entries that are for {client.Participant.Id} are those of the log, none altered; "
                + $"{audit.Signatures} requests were shown, each signed by its participant";
        yield return audit.Linked > 0
            ? $"proved     it goes on from the {audit.Linked} checkpoints that were seen before, the last over {audit.LinkedSize} entries"
            : "unproved   whether it goes on from an earlier one: none was seen before (--seen)";
        foreach (var one in audit.Cosignatures.OrderBy(c => c.Participant, StringComparer.Ordinal))
            yield return one.Wrong is null
                ? $"proved     {one.Participant} cosigned the first {audit.Cosigned!.Size} entries at {Time(one.Time!.Value)}, "
                    + "and that it only ever grew"
                : $"unproved   {one.Participant}'s cosignature does not count: {one.Wrong}";
        var counted = audit.Cosigners.Intersect(agreement.Witnesses.Select(w => w.Participant)).Count();
        yield return agreement.CosignaturesDemanded == 0
            ? "unproved   by anybody but the service and this check: the agreement demands no cosignatures"
            : $"{(counted >= agreement.CosignaturesDemanded ? "proved    " : "UNPROVED  ")} {counted} of "
                + $"{agreement.Witnesses.Count} witnesses; the agreement demands {agreement.CosignaturesDemanded}";
        if (agreement.CosignaturesDemanded > 0 && size > (audit.Cosigned?.Size ?? 0))
            yield return $"unproved   by witnesses: the last {size - (audit.Cosigned?.Size ?? 0)} entries, which are not cosigned yet";
        foreach (var (participant, entries) in audit.Compared.OrderBy(c => c.Key, StringComparer.Ordinal))
            yield return $"proved     the witness of {participant} has seen the same log, up to {entries} entries";
        foreach (var (participant, why) in audit.NotCompared.OrderBy(c => c.Key, StringComparer.Ordinal))
            yield return $"unproved   whether the witness of {participant} has seen the same log: {why}";
        if (audit.Doubtful.Count > 0)
            yield return $"unproved   whether the log showed another history: {audit.Doubtful.Count} checkpoints are not of it, signed with a key "
                + "that was revoked or has ended, and nothing dates them before: the service or a thief of that key made them";
        yield return "Not proved by any of this: what the entries say, and that they are true. That is for `ministry evidence`.";
    }

    private static JsonObject InJson(LogAudit audit, MinistryClient client, bool proved) =>
        new()
        {
            ["service"] = audit.Service,
            ["proved"] = proved,
            ["size"] = audit.Checkpoint.Size,
            ["root"] = Convert.ToBase64String(audit.Checkpoint.Root),
            ["entries_read"] = audit.Entries,
            ["entries_verified"] = audit.Verified,
            ["signatures_verified"] = audit.Signatures,
            ["checkpoint"] = audit.Checkpoint.Text,
            ["linked"] = audit.Linked,
            ["linked_size"] = audit.LinkedSize,
            ["demanded"] = client.Agreement.CosignaturesDemanded,
            ["doubtful"] = new JsonArray([.. audit.Doubtful.Select(d => (JsonNode?)d)]),
            ["cosigned_size"] = audit.Cosigned?.Size ?? 0,
            ["cosignatures"] = new JsonArray([
                .. audit.Cosignatures.Select(c => new JsonObject
                {
                    ["participant"] = c.Participant,
                    ["key"] = c.Key,
                    ["time"] = c.Time is { } time ? Time(time) : null,
                    ["wrong"] = c.Wrong,
                }),
            ]),
            ["compared"] = new JsonObject(audit.Compared.Select(c => KeyValuePair.Create(c.Key, (JsonNode?)c.Value))),
            ["not_compared"] = new JsonObject(audit.NotCompared.Select(c => KeyValuePair.Create(c.Key, (JsonNode?)c.Value))),
        };

    private static string Time(DateTimeOffset time) => time.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);
}
