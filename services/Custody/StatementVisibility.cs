using Google.Protobuf;
using Ministries.Custody.V1;
using Ministries.Types.V1;

namespace Ministries.Custody;

/// <summary>Who sees a statement, and what of it.</summary>
public static class StatementVisibility
{
    /// <summary>The audience of a statement: the case's observers, whatever its marking, so that nobody hides a statement from them (D9);
    /// the side that held the person then, as far as the marking allows; and the participant that recorded it.</summary>
    public static IEnumerable<string> AudienceOf(Statement statement) =>
        [.. AudienceOf(statement.Case, statement.RecordedFor, statement.Classification), Audience.Of(statement.Participant)];

    /// <summary>Who may see a statement beside the participant that recorded it.</summary>
    /// <param name="case">The case.</param>
    /// <param name="power">The state that held the person when it was recorded.</param>
    /// <param name="marking">Its marking, which limits the state's participants alone.</param>
    public static IEnumerable<string> AudienceOf(string @case, string power, Classification? marking) =>
        [.. Audience.Marked(Audience.State(@case, power), marking), Audience.Observers(@case)];

    /// <summary>The part of a statement that is shown to a verifier of an agreement that rests on it. It has the first attestation of each
    /// role, whether or not it is in force now. So the answer stays the same, and nobody learns from it why a transfer was suspended. A
    /// guardian's attestation is left out, because it would reveal that the person is a minor.</summary>
    public static AttestedStatement ShowAttested(Statement statement)
    {
        var shown = StatementDigests.ToAttest(statement, statement.Content?.Digest ?? ByteString.Empty);
        var first = statement.Attestations.Where(a => a.Role != AttesterRole.Guardian).OrderBy(a => a.Position).DistinctBy(a => a.Role);
        shown.Attestations.Add(
            first.Select(a => new Attestation
            {
                Role = a.Role,
                Participant = a.Participant,
                Official = a.Official,
                Time = a.Time,
                Signature = a.Signature,
                OfficialKey = a.OfficialKey,
            })
        );
        return shown;
    }

    /// <summary>A statement as shown to a reader. Only sender and recipients get its content. Its commitments tell nothing to a reader
    /// without an opening.</summary>
    public static Statement Show(Statement statement, Reader reader)
    {
        var shown = statement.Clone();
        var id = reader.Participant.Id;
        shown.Content = Seals.Show(statement.Content, statement.Participant, id);
        foreach (var attestation in shown.Attestations)
            attestation.RevokeDetails = Seals.Show(attestation.RevokeDetails, attestation.Participant, id);
        return shown;
    }
}
