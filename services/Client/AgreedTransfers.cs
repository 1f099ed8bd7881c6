using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using TransferState = Ministries.Consular.V1.TransferState;

namespace Ministries.Client;

/// <summary>What is wrong with an agreement to a transfer, as far as one can tell who may not read what the prisoner said.</summary>
public enum AgreedTransferFault
{
    /// <summary>Nothing: it rests on a statement that all who must have attested.</summary>
    None,

    /// <summary>It is not agreed to now: not yet, not any more, or it is suspended.</summary>
    NotAgreed,

    /// <summary>No opening of the decision opens one of the statements for the destination and this prisoner.</summary>
    NotOpened,

    /// <summary>The statement was too old when it was agreed to.</summary>
    TooOld,

    /// <summary>Somebody who must attest it has not, or an observer is not neutral.</summary>
    AttesterMissing,

    /// <summary>An attester acts for one of the states between which the prisoner passes.</summary>
    WitnessOfAParty,

    /// <summary>An attestation is not signed by the official, is of another content, or the participant did not vouch for the
    /// key.</summary>
    AttestationWrong,
}

/// <summary>Verifies that an agreed transfer rests on a statement of the prisoner's that was heard in private and attested. Of his
/// statement only the acceptance of the destination becomes known. The services are trusted only for the claim that the agreement
/// stands.</summary>
public static class AgreedTransfers
{
    /// <summary>Verifies an agreement.</summary>
    /// <param name="transfer">The transfer request, as its side sees it.</param>
    /// <param name="shown">The statements that the custody service showed (<c>CheckAttestation</c>).</param>
    /// <param name="references">The prisoner's references: that of the request, and those linked to it.</param>
    /// <param name="permissions">The agreement of the participants.</param>
    /// <returns>What is wrong with the latest statement that the decision opens; <see cref="AgreedTransferFault.None"/>: nothing.</returns>
    public static AgreedTransferFault Verify(
        Transfer transfer,
        IEnumerable<AttestedStatement> shown,
        IReadOnlyCollection<string> references,
        Permissions permissions
    )
    {
        if (
            transfer.Decision is not { Agreed: true } decision
            || transfer.State
                is not (
                    TransferState.Agreed
                    or TransferState.Scheduled
                    or TransferState.InTransit
                    or TransferState.HandedOver
                    or TransferState.Monitored
                )
        )
            return AgreedTransferFault.NotAgreed;
        // The latest opened and attested statement counts.
        if (shown.FirstOrDefault(s => Opens(decision, s, transfer, references)) is not { } word)
            return AgreedTransferFault.NotOpened;
        if (word.ExpireTime is null || word.ExpireTime <= decision.DecideTime)
            return AgreedTransferFault.TooOld;
        var demanded = permissions.Agreement.AttestersDemanded.Append(AttesterRole.Observer).ToHashSet();
        // Only a reader that may know that the prisoner is a minor is told whether a guardian had to attend.
        demanded.Remove(AttesterRole.Guardian);
        if (!word.Interpreted)
            demanded.Remove(AttesterRole.Interpreter);
        foreach (var role in demanded)
        {
            if (
                word.Attestations.FirstOrDefault(a => a.Role == role) is not { } given
                || permissions.Participant(given.Participant) is not { } attester
                || role == AttesterRole.Observer && !attester.IsNeutral()
            )
                return AgreedTransferFault.AttesterMissing;
            if (attester.State.Length > 0 && (attester.State == transfer.DetainingPower || attester.State == transfer.Destination))
                return AgreedTransferFault.WitnessOfAParty;
            if (Attestations.Fault(given, StatementDigests.Of(word), attester, permissions) is not null)
                return AgreedTransferFault.AttestationWrong;
        }
        return AgreedTransferFault.None;
    }

    private static bool Opens(
        TransferDecision decision,
        AttestedStatement statement,
        Transfer transfer,
        IReadOnlyCollection<string> references
    ) =>
        statement.Case == transfer.Case
        && references.Contains(statement.Prisoner)
        && WishCommitments.HaveForm(statement.Commitments)
        && decision.Openings.Any(o =>
            WishCommitments.Matches(statement.Commitments, o, statement.Case, statement.Prisoner, transfer.Destination)
        );
}
