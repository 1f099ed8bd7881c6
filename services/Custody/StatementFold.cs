using Google.Protobuf;
using Ministries.Custody.V1;

namespace Ministries.Custody;

/// <summary>What each event does to a statement.</summary>
internal static class StatementFold
{
    public static Folds<Statement> All =>
        new Folds<Statement>()
            .On<StatementRecorded>((statement, e, entry) => Recorded(statement, e, entry, withContent: true))
            .On<StatementAttested>((statement, e, entry) => Attested(statement, e, entry, withContent: true))
            .On<AttestationRevoked>((statement, e, entry) => Revoked(statement, e, entry, withContent: true))
            .On<RecordCorrected>((statement, e, _) => Corrected(statement, e));

    /// <summary>A statement was recorded.</summary>
    /// <param name="state">The statement.</param>
    /// <param name="e">The event.</param>
    /// <param name="entry">Its entry.</param>
    /// <param name="withContent">Whether its sealed content is kept with it.</param>
    public static void Recorded(Statement state, StatementRecorded e, FoldedEntry entry, bool withContent)
    {
        (state.Statement_, state.Case, state.Prisoner, state.State) = (e.Statement, e.Case, e.Prisoner, StatementState.Recorded);
        (state.Participant, state.RecordTime, state.Position) = (entry.Participant, entry.Time, entry.Position);
        (state.RecordedFor, state.ExpireTime) = (e.DetainingPower, e.ExpireTime);
        if (entry.Request is not RecordStatementRequest request)
            return;
        state.StatementTime = request.StatementTime;
        (state.Language, state.Interpreter) = (request.Language, request.Interpreter);
        state.Interview = request.Interview?.Clone();
        state.Under18 = request.Under18;
        state.Commitments.Add(request.Commitments);
        state.Classification = request.Classification?.Clone();
        var content = Seals.Keep(request.Content, entry.Position);
        state.Digest = StatementDigests.Of(state, content?.Digest ?? ByteString.Empty);
        if (withContent)
            state.Content = content;
    }

    /// <summary>An attendant attested it.</summary>
    /// <param name="state">The statement.</param>
    /// <param name="e">The event.</param>
    /// <param name="entry">Its entry.</param>
    /// <param name="withContent">Whether the signature is kept with it.</param>
    public static void Attested(Statement state, StatementAttested e, FoldedEntry entry, bool withContent)
    {
        var attestation = new Attestation
        {
            Participant = entry.Participant,
            Time = entry.Time,
            Position = entry.Position,
        };
        if (entry.Request is AttestStatementRequest request)
        {
            (attestation.Role, attestation.Official) = (request.Role, request.Actor.Official);
            if (withContent)
                (attestation.Signature, attestation.OfficialKey) = (request.Signature, request.OfficialKey?.Clone());
        }
        state.Attestations.Add(attestation);
        Settle(state);
    }

    /// <summary>An attestation was revoked. Where the request was erased, all that the participant gave are: what is unclear does not
    /// count.</summary>
    /// <param name="state">The statement.</param>
    /// <param name="e">The event.</param>
    /// <param name="entry">Its entry.</param>
    /// <param name="withContent">Whether what is sealed about it is kept.</param>
    public static void Revoked(Statement state, AttestationRevoked e, FoldedEntry entry, bool withContent)
    {
        var request = entry.Request as RevokeAttestationRequest;
        foreach (
            var given in state.Attestations.Where(a => a.Participant == entry.Participant && (request is null || a.Role == request.Role))
        )
        {
            if (!Statements.InForce(given))
                continue;
            (given.RevokeTime, given.RevokeReason) = (entry.Time, request?.Reason ?? RevocationReason.Unspecified);
            if (withContent)
                given.RevokeDetails = Seals.Keep(request?.RevokeDetails, entry.Position);
        }
        Settle(state);
    }

    /// <summary>What rested on a corrected entry does not count any more.</summary>
    public static void Corrected(Statement state, RecordCorrected e)
    {
        if (state.Position == e.Position)
            state.State = StatementState.Corrected;
        foreach (var given in state.Attestations.Where(a => a.Position == e.Position))
            given.Corrected = true;
        Settle(state);
    }

    private static void Settle(Statement state)
    {
        if (state.State != StatementState.Corrected)
            state.State = state.Attestations.Any(Statements.InForce) ? StatementState.Attested : StatementState.Recorded;
    }
}
