using System.Text.Json.Nodes;
using Google.Protobuf;
using Ministries.Ledger;

namespace Ministries.Ministry;

/// <summary>Writes that were sent and not answered yet, each in a file, so that exactly the same write can be sent again: sealing it again
/// would make another one.</summary>
internal static class Outbox
{
    /// <summary>Keeps a write before it is sent.</summary>
    /// <exception cref="IOException">The folder cannot be written, so that its receipt could not be kept either.</exception>
    public static void Keep(Connection connection, TypedVerb verb, string id, IMessage request)
    {
        PrivateFiles.MakeFolder(connection.Receipts);
        var file = new JsonObject
        {
            ["method"] = Contract.NameOf(verb.Method),
            ["service"] = verb.Service,
            ["request"] = request.ToByteString().ToBase64(),
        };
        WholeFile.Write(PathOf(connection, id), file.ToJsonString() + "\n", mode: PrivateFiles.Mode);
    }

    /// <summary>Forgets a write, because it was answered.</summary>
    public static void Forget(Connection connection, string id) => File.Delete(PathOf(connection, id));

    /// <summary>The write of this id; null: none waits.</summary>
    /// <exception cref="FormatException">It is of another method, or the id is none.</exception>
    public static IMessage? Find(Connection connection, TypedVerb verb, string id)
    {
        // It becomes a part of a path.
        if (!Guid.TryParseExact(id, "D", out _))
            throw new FormatException("--request-id must be a UUID in lower case");
        var path = PathOf(connection, id);
        if (!File.Exists(path))
            return null;
        var file = JsonNode.Parse(File.ReadAllText(path))!;
        if ((string?)file["method"] != Contract.NameOf(verb.Method) || (string?)file["service"] != verb.Service)
            throw new FormatException($"--request-id {id} is that of a {file["method"]} at {file["service"]}");
        return verb.Method.InputType.Parser.ParseFrom(ByteString.FromBase64((string)file["request"]!));
    }

    /// <summary>The ids of all writes that wait.</summary>
    public static IReadOnlyList<string> All(Connection connection) =>
        Directory.Exists(connection.Receipts)
            ?
            [
                .. Directory
                    .EnumerateFiles(connection.Receipts, "sent-*.json")
                    .Select(f => Path.GetFileNameWithoutExtension(f)["sent-".Length..])
                    .Order(),
            ]
            : [];

    private static string PathOf(Connection connection, string id) => Path.Combine(connection.Receipts, $"sent-{id}.json");
}
