using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>The entries that hide how much was recorded, and where the others stand among them (decision 0076).</summary>
internal static class Cover
{
    /// <summary>The method of a cover entry.</summary>
    public const string Method = "ministries.ledger.v1.Cover";

    /// <summary>Draws where each command stands in a commit of a fixed number of entries.</summary>
    /// <param name="commands">The commands, no more than there are places. The events of one producer keep their order.</param>
    /// <param name="leaves">How many places there are.</param>
    /// <returns>For each place its command; null: none.</returns>
    /// <remarks>The order is drawn too. If it were kept, the place of an entry would tell how many others there are that its reader does
    /// not see: the first of two is never in the last place. As it is, each set of places is equally likely for the entries that a reader
    /// sees, whatever else there is. All commands of a commit are answered after it, so none of them waited for another's answer.</remarks>
    public static IReadOnlyList<PendingCommand?> Draw(IReadOnlyList<PendingCommand> commands, int leaves)
    {
        var turns = commands.GroupBy(TurnOf).ToDictionary(g => g.Key, g => new Queue<PendingCommand>(g));
        var places = new object?[leaves];
        for (var i = 0; i < commands.Count; i++)
            places[i] = TurnOf(commands[i]);
        RandomNumberGenerator.Shuffle<object?>(places);
        return [.. places.Select(turn => turn is null ? null : turns[turn].Dequeue())];
    }

    // The events of one producer share a turn, because they keep their order. Every other command has a turn of its own.
    private static object TurnOf(PendingCommand pending) => pending.Command.Intake is { } intake ? intake.Producer : pending;

    /// <summary>Makes a cover entry: an entry of the service itself, without events, answer or audience, of which only the header is kept.
    /// The header names the digest of a request that never existed, and looks like the header of an entry whose request was erased. The
    /// digest is 32 random bytes, so nobody can tell its leaf from another without the header.</summary>
    /// <param name="service">The service's name.</param>
    /// <param name="position">Its position.</param>
    /// <param name="time">When it is committed.</param>
    public static NewEntry Entry(string service, ulong position, Timestamp time)
    {
        var header = new EntryHeader
        {
            Position = position,
            CommitTime = time,
            Participant = $"service/{service}",
            // Ids in the order of positions are inserted at one place of the index. Random ones would each change another page of it.
            RequestId = $"cover/{position}",
            Method = Method,
            Parts =
            {
                new PartDigest { Kind = PartKind.Request, Digest = ByteString.CopyFrom(RandomNumberGenerator.GetBytes(32)) },
            },
        };
        return new NewEntry(
            new EntryRow(position, header.Participant, Case: "", Audience: [], TraceParent: "", TraceState: "", header.ToByteArray(), 0),
            header.RequestId,
            digest: [],
            [new PartRow(position, PartKind.Request, Type: "", Salt: [], Data: null)],
            events: []
        );
    }
}
