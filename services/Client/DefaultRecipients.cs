using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Types.V1;

namespace Ministries.Client;

/// <summary>To whom a field is sealed unless its user says otherwise, as the contract declares it by the option <c>seals</c>. A power of
/// origin is never among them (D15).</summary>
/// <param name="agreement">The agreement.</param>
/// <param name="sender">Who seals.</param>
/// <param name="time">When: only participants with a key for sealing that is in force are named.</param>
public sealed class DefaultRecipients(Agreement agreement, Participant sender, DateTimeOffset time)
{
    /// <summary>The case; null: it is not known, so only recipients that do not depend on it are named.</summary>
    public Case? Case { get; init; }

    /// <summary>The prisoners whom the request is about. If there are several, as with a call, no prisoner's power of origin is
    /// named.</summary>
    public IReadOnlyList<Prisoner> Prisoners { get; init; } = [];

    /// <summary>The transfer request that the request is about; null: none.</summary>
    public Transfer? Transfer { get; init; }

    /// <summary>The access that the request is about; null: none.</summary>
    public Access? Access { get; init; }

    /// <summary>The call that the request is about; null: none.</summary>
    public Call? Call { get; init; }

    /// <summary>The recipients, each once, in the order of the declaration.</summary>
    /// <param name="declared">What the contract says of the field.</param>
    /// <returns>Their ids; at least one, where the declaration names the sender and it has a key.</returns>
    public IReadOnlyList<string> Of(SealDeclaration declared) =>
        [
            .. declared
                .Recipients.SelectMany(Named)
                .Distinct()
                .Where(id => agreement.Participants.FirstOrDefault(p => p.Id == id) is { } p && Seals.KeyOf(p, time) is not null && May(p)),
        ];

    /// <summary>Whether the recipients of a declaration depend on the case or on records of it.</summary>
    public static bool DependOnTheCase(SealDeclaration declared) =>
        declared.Recipients.Any(r => r is not (SealRecipient.Sender or SealRecipient.AgencyAndBureau));

    private IEnumerable<string> Named(SealRecipient recipient) =>
        recipient switch
        {
            SealRecipient.Sender => [sender.Id],
            SealRecipient.DetainingPower => CustodyOf(
                OfCase?.LastDetainingPower is { Length: > 0 } power ? power : Case?.DetainingPower ?? ""
            ),
            SealRecipient.Observers => Case?.Parties.Where(p => p.Part is Part.NeutralObserver or Part.ProtectingPower)
                .Select(p => p.Participant)
                ?? [],
            // An observer that notifies visits asks for no state.
            SealRecipient.RequestingState => Transfer is not null ? [Transfer.Participant]
            : Access is { RequestingState.Length: > 0 } ? [Access.Participant]
            : [],
            SealRecipient.TransferringPower => CustodyOf(Transfer?.DetainingPower ?? OfCase?.TransferringPower ?? ""),
            SealRecipient.AgencyAndBureau => new[]
            {
                agreement.CentralTracingAgency,
                agreement.Bureaux.FirstOrDefault(b => b.State == sender.State)?.Participant ?? "",
            },
            SealRecipient.Counterpart => Call?.Sides.Where(s => s.State != sender.State).Select(s => s.Participant) ?? [],
            _ => [],
        };

    // The one prisoner whom a record is about.
    private CasePrisoner? OfCase =>
        Case?.Prisoners.FirstOrDefault(p =>
            p.Prisoner == (Transfer?.Prisoner ?? Access?.Prisoner ?? (Prisoners.Count == 1 ? Prisoners[0].Prisoner_ : ""))
        );

    private IEnumerable<string> CustodyOf(string state) =>
        agreement.Participants.Where(p => p.ActsFor(state) && p.Capacities.Contains(Capacity.Custody)).Select(p => p.Id);

    // The sender's own state already has the content, and the detaining power already has the prisoner. So neither is left out, even if it
    // is a power of origin.
    private bool May(Participant recipient) =>
        recipient.IsNeutral()
        || recipient.State == sender.State
        || recipient.State == OfCase?.LastDetainingPower
        || !Prisoners.Any(p => p.Claims.Any(c => c.StateClaimed == recipient.State && SaysOrigin(c)));

    private static bool SaysOrigin(Claim claim) =>
        claim is { Corrected: false, Basis: ClaimBasis.Nationality or ClaimBasis.ArmedForces or ClaimBasis.SideFoughtOn };
}
