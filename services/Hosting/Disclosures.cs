using Google.Protobuf;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>
/// Whether a neutral observer's entry may be shown in evidence. Such entries are privileged (ICC Rules of Procedure and Evidence, rule
/// 73(4)): a reader that may see one reads its events, but gets neither the salts that would prove them nor the signed request, until the
/// observer permits it.
/// </summary>
internal static class Disclosures
{
    /// <summary>The stream of permissions; its key is the entry's position.</summary>
    public static readonly StreamKind<DisclosurePermitted> Kind = new(
        "disclosure",
        1,
        (state, @event, _) =>
        {
            if (@event is DisclosurePermitted permitted)
                state.Position = permitted.Position;
        }
    );

    /// <summary>The key of an entry's permission.</summary>
    public static string KeyOf(ulong position) => $"{position}";

    /// <summary>Looks up the entry before the command queues: rules see records, not entries.</summary>
    public static async Task<IMessage?> Ask(
        ServiceLedger ledger,
        PermitDisclosureRequest request,
        Participant caller,
        CancellationToken cancel
    ) =>
        await ledger.ReadEntry(request.Position, new HashSet<string> { Audience.Of(caller.Id) }, cancel) is { } found
        && found.Participant == caller.Id
            ? new Entry
            {
                Header = found.Entry.Header,
                Case = found.Entry.Case,
                Audience = { found.Entry.Audience },
            }
            : null;

    /// <summary>Decides on a request to permit the disclosure of an entry.</summary>
    public static Decision Permit(PermitDisclosureRequest request, RuleContext context)
    {
        // The edge has checked the grant for any part that the caller could have. Only a neutral observer's entries are privileged.
        if (context.Caller.Kind != ParticipantKind.NeutralObserver)
            return Decision.Refuse(Reason.NotGranted);
        if (context.Asked is not Entry entry)
            return Decision.Refuse(Reason.NotFound);
        if (context.Find(Kind, KeyOf(request.Position)) is not null)
            return Decision.Refuse(Reason.AlreadyExists);
        return Decision.Accept(
            entry.Case,
            [.. entry.Audience.Select(a => a.Audience)],
            [new Change(new DisclosurePermitted { Position = request.Position }, [Kind.Id(KeyOf(request.Position))])],
            _ => new PermitDisclosureResponse()
        );
    }

    /// <summary>Whether an entry is privileged for a reader, so that the reader gets no proof of it. The participant's role in the version
    /// of the agreement that judged the entry decides, because readers verify the entry by that version.</summary>
    public static async Task<bool> IsPrivileged(
        ServiceLedger ledger,
        StoredEntry entry,
        Reader reader,
        Agreements agreements,
        CancellationToken cancel
    ) =>
        entry.Participant != reader.Participant.Id
        && !entry.Participant.StartsWith("service/", StringComparison.Ordinal)
        && await agreements.By(ledger, EntryHeader.Parser.ParseFrom(entry.Entry.Header).AgreementVersion, cancel) is var judged
        && judged.Participant(entry.Participant) is { Kind: ParticipantKind.NeutralObserver }
        && await ledger.Find(Kind, KeyOf(entry.Position), null, cancel) is null;
}
