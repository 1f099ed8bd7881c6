using Google.Protobuf;
using Google.Protobuf.Collections;
using Google.Protobuf.Reflection;
using Ministries.Consular.V1;

namespace Ministries.Consular;

/// <summary>Participants' acts on a record: who did what to it, when.</summary>
public static class Acts
{
    /// <summary>Notes who acted, once for an entry; what the service did by itself is no act of a participant.</summary>
    /// <param name="acts">The record's acts.</param>
    /// <param name="entry">The entry.</param>
    public static void Note(RepeatedField<RecordedAct> acts, FoldedEntry entry)
    {
        if (entry.Participant.StartsWith("service/", StringComparison.Ordinal))
            return;
        if (acts.Count > 0 && acts[^1].Position == entry.Position)
            return;
        acts.Add(
            new RecordedAct
            {
                Position = entry.Position,
                Method = MethodOf(entry),
                Participant = entry.Participant,
                CommitTime = entry.Time,
                NoteVerbale = entry.Request?.Descriptor.FindFieldByName("note_verbale") is { FieldType: FieldType.String } note
                    ? (string)note.Accessor.GetValue(entry.Request)
                    : "",
            }
        );
    }

    /// <summary>The name of the RPC behind the entry; empty where the request was erased.</summary>
    public static string MethodOf(FoldedEntry entry) =>
        entry.Request?.Descriptor.Name is { } name && name.EndsWith("Request", StringComparison.Ordinal) ? name[..^"Request".Length] : "";

    /// <summary>The number of a participant's acts of the kind that is asked for.</summary>
    public static int Of(IEnumerable<RecordedAct> acts, IMessage request, string participant)
    {
        var method = request.Descriptor.Name[..^"Request".Length];
        return acts.Count(a => a.Method == method && a.Participant == participant);
    }

    /// <summary>The act at a position that the caller may correct: one of its own that stands and is no correction; null: none.</summary>
    public static RecordedAct? Correctable(IEnumerable<RecordedAct> acts, ulong position, RuleContext context) =>
        acts.FirstOrDefault(a => a.Position == position) is { Corrected: false, Method: not "CorrectRecord" } act
        && act.Participant == context.Caller.Id
            ? act
            : null;
}
