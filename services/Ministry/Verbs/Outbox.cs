using System.Text.Json.Nodes;
using Google.Protobuf;
using Ministries.Ledger;

namespace Ministries.Ministry;

/// <summary>Writes that were sent and not answered yet, each in a file, so that exactly the same write can be sent again: sealing it again
/// would make another one.</summary>
internal static class Outbox
{
    /// <summary>Keeps a write before it is sent.</summary>
    /// <returns>False: it was kept before.</returns>
    /// <exception cref="IOException">The folder cannot be written, so that its receipt could not be kept either.</exception>
    public static bool Keep(Connection connection, TypedVerb verb, string id, IMessage request)
    {
        if (File.Exists(PathOf(connection, id)))
            return false;
        PrivateFiles.MakeFolder(connection.Receipts);
        var file = new JsonObject
        {
            ["method"] = Contract.NameOf(verb.Method),
            ["service"] = verb.Service,
            ["participant"] = connection.As,
            ["request"] = request.ToByteString().ToBase64(),
        };
        WholeFile.Write(PathOf(connection, id), file.ToJsonString() + "\n", mode: PrivateFiles.Mode);
        return true;
    }

    /// <summary>Forgets a write, because it was answered or never sent.</summary>
    public static void Forget(Connection connection, string id) => File.Delete(PathOf(connection, id));

    /// <summary>The write of this id; null: none waits.</summary>
    /// <exception cref="FormatException">The write is of another method or another participant, or the id is not valid.</exception>
    public static IMessage? Find(Connection connection, TypedVerb verb, string id)
    {
        if (!Waits(connection, id))
            return null;
        var sent = Read(connection, id);
        if (sent.Method != Contract.NameOf(verb.Method) || sent.Service != verb.Service)
            throw new FormatException($"--request-id {id} is that of a {sent.Method} at {sent.Service}");
        // Several participants may keep their writes in one folder. One must not send another's write as its own.
        if (sent.Participant.Length > 0 && sent.Participant != connection.As)
            throw new FormatException($"--request-id {id} is that of a write of {sent.Participant}, not of {connection.As}");
        return verb.Method.InputType.Parser.ParseFrom(sent.Request);
    }

    /// <summary>Whether a write of this id waits.</summary>
    /// <exception cref="FormatException">The id is none.</exception>
    public static bool Waits(Connection connection, string id) =>
        // It becomes a part of a path.
        Guid.TryParseExact(id, "D", out _)
            ? File.Exists(PathOf(connection, id))
            : throw new FormatException($"{id} is no request id: it must be a UUID in lower case");

    /// <summary>All writes that wait, in the order in which they were sent.</summary>
    /// <exception cref="FormatException">One was changed, so that it is no write any more.</exception>
    public static IReadOnlyList<SentWrite> All(Connection connection) =>
        Directory.Exists(connection.Receipts)
            ?
            [
                .. Directory
                    .EnumerateFiles(connection.Receipts, "sent-*.json")
                    .Select(f => Path.GetFileNameWithoutExtension(f)["sent-".Length..])
                    .Where(id => Guid.TryParseExact(id, "D", out _))
                    .Select(id => Read(connection, id))
                    .OrderBy(s => s.Time),
            ]
            : [];

    /// <summary>The command that sends a write again, wherever it is run.</summary>
    /// <param name="connection">The connection, which knows the folder of the write and the service's address.</param>
    /// <param name="service">The service.</param>
    /// <param name="verb">The verb, such as <c>log-call</c>.</param>
    /// <param name="id">The write's request id.</param>
    /// <param name="participant">The participant whose write it is; empty: not known.</param>
    public static string Again(Connection connection, string service, string verb, string id, string participant) =>
        $"ministry {service} {verb} --request-id {id}{connection.OptionsFor(service, participant)}";

    private static SentWrite Read(Connection connection, string id)
    {
        var path = PathOf(connection, id);
        try
        {
            var file = JsonNode.Parse(File.ReadAllText(path))!;
            return new(
                id,
                (string?)file["service"] ?? "",
                (string?)file["method"] ?? "",
                (string?)file["participant"] ?? "",
                ByteString.FromBase64((string)file["request"]!),
                new DateTimeOffset(File.GetLastWriteTimeUtc(path), TimeSpan.Zero)
            );
        }
        catch (Exception e)
            when (e is System.Text.Json.JsonException or InvalidOperationException or ArgumentNullException or FormatException)
        {
            throw new FormatException($"{path} is no write that this command kept: {e.Message}", e);
        }
    }

    private static string PathOf(Connection connection, string id) => Path.Combine(connection.Receipts, $"sent-{id}.json");
}

/// <summary>A write that was sent and not answered.</summary>
/// <param name="Id">Its request id.</param>
/// <param name="Service">The service.</param>
/// <param name="Method">The method's full name.</param>
/// <param name="Participant">The participant whose write it is; empty: an earlier version kept the write without noting it.</param>
/// <param name="Request">The request's bytes.</param>
/// <param name="Time">When it was sent first.</param>
internal sealed record SentWrite(string Id, string Service, string Method, string Participant, ByteString Request, DateTimeOffset Time)
{
    /// <summary>The verb, such as <c>log-call</c>.</summary>
    public string Verb => Words.Kebab(Method[(Method.LastIndexOf('/') + 1)..]);
}
