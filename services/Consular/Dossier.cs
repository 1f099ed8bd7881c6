using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Collections;
using Google.Protobuf.Reflection;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Consular;

/// <summary>What there is about one prisoner across requests: the ground of "at most one under way" (D1), of asking again, and of
/// telling a fresh answer of custody from an outdated one. Nobody reads it.</summary>
public static class Dossiers
{
    /// <summary>The greatest number of transfer requests, and of accesses, of one prisoner.</summary>
    public const int MaxRecords = 256;

    /// <summary>The stream of dossiers, one per prisoner.</summary>
    public static readonly StreamKind<Dossier> Kind = new("dossier", 1, Apply);

    /// <summary>The stream of the requests that rest on a call, one per call.</summary>
    public static readonly StreamKind<CallTransfers> Calls = new(
        "call-transfers",
        1,
        static (calls, e, _) =>
        {
            if (e is TransferRequestDrafted drafted)
                calls.Transfers.Add(drafted.Transfer);
        }
    );

    /// <summary>The key of a prisoner's dossier.</summary>
    public static string Key(string @case, string prisoner) => $"{@case}/{prisoner}";

    /// <summary>The key of the dossier to which the request belongs.</summary>
    public static string Key(Transfer transfer) => Key(transfer.Case, transfer.Prisoner);

    /// <summary>The requests of the state that were declined.</summary>
    public static IReadOnlyCollection<string> Declined(Dossier? dossier, string state) =>
        [.. (dossier?.Transfers ?? []).Where(t => t.RequestingState == state && t.State == TransferState.Declined).Select(t => t.Transfer)];

    /// <summary>Whether who asks has access that is not closed.</summary>
    public static bool HasAccess(Dossier? dossier, string asker) =>
        dossier?.Accesses.Any(a => a.Asker == asker && a.State != AccessState.Closed) ?? false;

    private static void Apply(Dossier dossier, IMessage @event, FoldedEntry entry)
    {
        switch (@event)
        {
            case TransferRequestDrafted e:
                dossier.Transfers.Add(
                    new DossierTransfer
                    {
                        Transfer = e.Transfer,
                        RequestingState = e.RequestingState,
                        State = TransferState.Drafted,
                    }
                );
                break;
            case DraftDiscarded e:
                Move(e.Transfer, TransferState.Discarded);
                break;
            case TransferRequestSubmitted e:
                Move(e.Transfer, TransferState.Submitted);
                break;
            case TransferDecided e:
                Move(e.Transfer, e.Agreed ? TransferState.Agreed : TransferState.Declined);
                if (e.Agreed)
                    dossier.ActiveTransfer = e.Transfer;
                break;
            case TransferRequestWithdrawn e:
                Move(e.Transfer, TransferState.Withdrawn);
                End(e.Transfer);
                break;
            case HandoverConfirmed e:
                Move(e.Transfer, TransferState.HandedOver);
                dossier.ActiveTransfer = e.Transfer;
                break;
            // From here on another power answers for him, or none: what it agrees to is another departure.
            case CustodyTransferred or DepartureRecorded when StateOf(dossier.ActiveTransfer) == TransferState.HandedOver:
                Move(dossier.ActiveTransfer, TransferState.Monitored);
                End(dossier.ActiveTransfer);
                break;
            case ReturnRequested e:
                Move(e.Transfer, TransferState.ReturnRequested);
                dossier.ActiveTransfer = e.Transfer;
                break;
            case ReturnConfirmed e:
                Move(e.Transfer, TransferState.Returned);
                End(e.Transfer);
                break;
            case TransferClosed e:
                Move(e.Transfer, TransferState.Closed);
                End(e.Transfer);
                break;
            case AccessRequested e:
                dossier.Accesses.Add(
                    new DossierAccess
                    {
                        Access = e.Access,
                        Asker = e.RequestingState,
                        State = AccessState.Requested,
                    }
                );
                break;
            case VisitNotified e:
                dossier.Accesses.Add(
                    new DossierAccess
                    {
                        Access = e.Access,
                        Asker = e.Participant,
                        State = AccessState.Granted,
                    }
                );
                break;
            case AccessClosed e:
                dossier.Accesses.Single(a => a.Access == e.Access).State = AccessState.Closed;
                break;
        }
        if (@event.Descriptor.File.Package == "ministries.custody.v1" && Reactions.PositionOf(entry.RequestId) is { } position)
            dossier.CustodyPosition = Math.Max(dossier.CustodyPosition, position + 1);

        TransferState StateOf(string transfer) =>
            dossier.Transfers.FirstOrDefault(t => t.Transfer == transfer)?.State ?? TransferState.Unspecified;
        void Move(string transfer, TransferState state) => dossier.Transfers.Single(t => t.Transfer == transfer).State = state;
        void End(string transfer)
        {
            if (dossier.ActiveTransfer == transfer)
                dossier.ActiveTransfer = "";
        }
    }
}

/// <summary>Participants' acts on a record, and what is sealed in them.</summary>
public static class Acts
{
    /// <summary>Whether the participant is neutral: an observer or a Protecting Power, whatever state it acts for.</summary>
    public static bool IsNeutral(Participant participant) =>
        participant.Kind is ParticipantKind.NeutralObserver or ParticipantKind.ProtectingPower;

    /// <summary>Whether the participant acts for the state in its own matter.</summary>
    public static bool ActsFor(Participant participant, string state) =>
        state.Length > 0 && participant.State == state && !IsNeutral(participant);

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

    /// <summary>Leaves only the acts that the reader may know of.</summary>
    public static void Show(RepeatedField<RecordedAct> acts, Func<RecordedAct, bool> known)
    {
        for (var i = acts.Count - 1; i >= 0; i--)
            if (!known(acts[i]))
                acts.RemoveAt(i);
    }

    /// <summary>Sealed content as it is kept: with its digest.</summary>
    public static Sealed? Kept(Sealed? content)
    {
        if (content is null)
            return null;
        var kept = content.Clone();
        kept.Digest = ByteString.CopyFrom(SHA256.HashData(content.Content.Span));
        return kept;
    }

    /// <summary>Sealed content as its reader may have it: whole for its sender and recipients; for others that it is there, not
    /// to whom.</summary>
    /// <param name="content">As kept.</param>
    /// <param name="sender">The participant that sent it.</param>
    /// <param name="reader">Who reads.</param>
    public static Sealed? Opened(Sealed? content, string sender, Participant reader) => Seals.Show(content, sender, reader.Id);
}
