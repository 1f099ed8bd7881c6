using Google.Protobuf;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>Finds sealed data in entries, and what was opened of them to others (<see cref="Shares"/>).</summary>
internal static class SealedData
{
    // The key of no case, so that what does not exist costs the same reads as what does.
    private const string NoCase = "case_00000000000000000000000000";

    /// <summary>A datum with what decides who may read it.</summary>
    /// <param name="Entry">The entry whose request carries it.</param>
    /// <param name="Datum">The datum.</param>
    /// <param name="Shares">What was opened of the entry's sealed data; null: nothing.</param>
    /// <param name="Case">The case; null: there is none.</param>
    public sealed record Found(StoredEntry Entry, SealedDatum Datum, SealedShares? Shares, Custody.V1.Case? Case);

    /// <summary>Finds a datum for the rule; null: there is none.</summary>
    public static async Task<SealedDatum?> Look(ServiceLedger ledger, ulong position, string field, CancellationToken cancel) =>
        await ledger.ReadEntry(position, null, cancel) is { } entry ? Shares.Look(entry.Entry, field) : null;

    /// <summary>Finds a datum for its readers; null: there is none, which costs the same reads.</summary>
    public static async Task<Found?> Find(ServiceLedger ledger, ulong position, string field, CancellationToken cancel)
    {
        var entry = await ledger.ReadEntry(position, null, cancel);
        var datum = entry is null ? null : Shares.Look(entry.Entry, field);
        var (key, @case) = (Shares.KeyOf(position), datum?.Case ?? NoCase);
        var beside = await ledger.FindTogether(Shares.Kind, key, Cases.Kind, @case);
        return datum is null ? null : new Found(entry!, datum, beside.Of(Shares.Kind, key)?.State, beside.Of(Cases.Kind, @case)?.State);
    }

    /// <summary>Erases what was given of a datum that was erased between the look at it and the commit.</summary>
    public static async Task EraseWith(ServiceLedger ledger, ulong position, CancellationToken cancel)
    {
        if (await ledger.IsErased(position, cancel))
            await ledger.EraseRequest(position, cancel);
    }

    /// <summary>Whether a participant may read a datum: it may know of it, and has a part in the case or sent it.</summary>
    public static bool MayRead(Found found, Participant caller, string field) =>
        found.Case is not null
        && Shares.MayKnow(caller.Id, found.Datum, found.Shares, field)
        && (Cases.PartsOf(caller, found.Case).Count > 0 || found.Entry.Entry.Audience.Any(a => a.Audience == Audience.Of(caller.Id)));

    /// <summary>The openings of a datum for a recipient, with their secrets. Erased openings are left out.</summary>
    public static async Task<IReadOnlyList<SealedGrant>> GrantsTo(
        ServiceLedger ledger,
        SealedShares? shares,
        string field,
        string recipient,
        CancellationToken cancel
    )
    {
        var grants = new List<SealedGrant>();
        foreach (var share in (shares?.Shares ?? []).Where(s => s.Field == field && s.Recipient == recipient))
            if (
                await ledger.ReadEntry(share.Position, null, cancel) is { } entry
                && entry.Entry.Parts.FirstOrDefault(p => p.Kind == PartKind.Request) is { Erased: false } part
            )
            {
                var request = ShareSealedRequest.Parser.ParseFrom(part.Data);
                grants.Add(
                    new SealedGrant
                    {
                        Giver = share.Giver,
                        Recipient = recipient,
                        KeyId = request.KeyId,
                        Encapsulation = request.Encapsulation,
                        Secret = request.Secret,
                        Fields = { request.Fields },
                        Reason = request.Reason,
                        LegalBasis = request.LegalBasis,
                        Time = EntryHeader.Parser.ParseFrom(entry.Entry.Header).CommitTime,
                        Position = share.Position,
                    }
                );
            }
        return grants;
    }

    /// <summary>Whether everything that is sealed in an entry's request can be opened, in part at least, by a participant.</summary>
    public static async Task<bool> OpensAll(
        ServiceLedger ledger,
        ulong position,
        IMessage request,
        string participant,
        CancellationToken cancel
    )
    {
        var others = Seals.WithPaths(request).Where(s => !s.Sealed.Recipients.Contains(participant)).Select(s => s.Path).ToList();
        if (others.Count == 0)
            return true;
        var shares = (await ledger.Find(Shares.Kind, Shares.KeyOf(position), null, cancel))?.State.Shares ?? [];
        return others.All(path => shares.Any(s => s.Field == path && s.Recipient == participant));
    }
}
