using System.Collections.Frozen;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>
/// Opening sealed data to one more recipient, the same in every service. The service opens nothing and cannot check the secret that is
/// passed on. It judges who may pass on what, and to whom (D15, D22). No secret enters a state: it stays in the request of the entry by
/// which it was given, and is erased with it.
/// </summary>
public static class Shares
{
    /// <summary>How often one participant may open one datum to others, and as often wrap it anew for itself: 32 times.</summary>
    public const int MostByGiver = 32;

    /// <summary>The bytes of an encapsulated key (X-Wing).</summary>
    public const int EncapsulationBytes = 1120;

    /// <summary>The bytes of the encrypted secret of a whole datum.</summary>
    public const int SecretBytes = 48;

    /// <summary>The name of <see cref="Kind"/>. The ledger erases the requests of a stream of this kind with the request of the entry whose
    /// position is its key.</summary>
    public const string StreamName = "share";

    // The number of a field and its key.
    private const int FieldKeyBytes = 36;

    /// <summary>The stream of what was opened of an entry's sealed data; its key is the entry's position (<see cref="KeyOf"/>).</summary>
    public static readonly StreamKind<SealedShares> Kind = new(StreamName, 1, new Folds<SealedShares>().On<SealedShared>(Shared));

    /// <summary>The key of an entry's openings.</summary>
    public static string KeyOf(ulong position) => $"{position}";

    /// <summary>What a participant can open of a datum.</summary>
    /// <param name="Whole">All of it.</param>
    /// <param name="Fields">The numbers of the fields, where it is not all.</param>
    public readonly record struct Opening(bool Whole, IReadOnlySet<uint> Fields)
    {
        internal Opening(bool whole, IEnumerable<SealedShare> given)
            : this(whole || given.Any(s => s.Whole), given.SelectMany(s => s.Fields).ToFrozenSet()) { }

        /// <summary>Whether it can open anything.</summary>
        public bool IsAny => Whole || Fields.Count > 0;

        /// <summary>Whether it can open all of these.</summary>
        /// <param name="fields">The numbers of fields; none: the whole datum.</param>
        public bool Covers(IReadOnlyCollection<uint> fields) => Whole || fields.Count > 0 && fields.All(Fields.Contains);
    }

    /// <summary>The datum that an entry's request carries in a field; null: it carries none there, or its command was refused. A refused
    /// datum is opened to nobody, because it may be sealed to recipients that must not have it.</summary>
    /// <param name="entry">The entry, with all of its parts and audiences.</param>
    /// <param name="field">The path of the sealed field in the request.</param>
    public static SealedDatum? Look(Entry entry, string field)
    {
        var header = EntryHeader.Parser.ParseFrom(entry.Header);
        if (
            entry.Case.Length == 0
            || Methods.Find(header.Method)?.InputType is not { } type
            || PartOf(entry, PartKind.Events) is not { } events
            || Events.Parser.ParseFrom(events.Data) is not { Events_.Count: > 0 } happened
            || PartOf(entry, PartKind.Request) is not { } part
        )
            return null;
        var datum = new SealedDatum(entry.Case, header.Participant)
        {
            Observers = [.. entry.Audience.Select(a => Audience.ObserversAmong(a.Audience, entry.Case)).OfType<string>().Distinct()],
        };
        if (part.Erased)
            return datum;
        var request = type.Parser.ParseFrom(part.Data);
        if (Seals.WithPaths(request).FirstOrDefault(s => s.Path == field).Sealed is not { } @sealed)
            return null;
        var content = ContentOf(@sealed);
        return datum with
        {
            Sealed = Seals.Keep(@sealed, header.Position),
            Prisoner = PrisonerOf(request, happened),
            Keys = [.. content.Keys.Select(k => (k.Recipient, k.KeyId))],
            Fields = [.. content.Fields.Select(f => f.Number)],
            Marking = request.Descriptor.FindFieldByName("classification")?.Accessor.GetValue(request) as Classification,
        };
    }

    /// <summary>What a participant can open of a datum: all of what it sent or what was sealed to it, and what was opened to it.</summary>
    /// <param name="participant">The participant.</param>
    /// <param name="datum">The datum.</param>
    /// <param name="shares">What was opened of its entry; null: nothing.</param>
    /// <param name="field">The path of the sealed field.</param>
    public static Opening OpeningOf(string participant, SealedDatum datum, SealedShares? shares, string field) =>
        new(
            datum.Sender == participant || datum.Sealed?.Recipients.Contains(participant) == true,
            Of(shares, field).Where(s => s.Recipient == participant)
        );

    /// <summary>Whether a participant may know that the datum exists: it can open some of it, or could before the datum was erased. For an
    /// erased datum, only the sender and the givers and recipients of later openings are known.</summary>
    /// <param name="participant">The participant.</param>
    /// <param name="datum">The datum.</param>
    /// <param name="shares">What was opened of its entry; null: nothing.</param>
    /// <param name="field">The path of the sealed field.</param>
    public static bool MayKnow(string participant, SealedDatum datum, SealedShares? shares, string field) =>
        datum.Sealed is null
            ? datum.Sender == participant || Of(shares, field).Any(s => s.Recipient == participant || s.Giver == participant)
            : OpeningOf(participant, datum, shares, field).IsAny;

    /// <summary>Decides on a request to open a datum to a recipient.</summary>
    /// <param name="request">The request.</param>
    /// <param name="context">Who asks and when, and the states.</param>
    /// <param name="datum">The datum, which was looked up before, because rules see records and not entries; null: there is none. It is no
    /// part of the entry (<see cref="RuleContext.Asked"/>): its giver may not know all of it.</param>
    public static Decision Share(ShareSealedRequest request, RuleContext context, SealedDatum? datum)
    {
        var @case = context.Find(Cases.Kind, request.Case);
        var shares = context.Find(Kind, KeyOf(request.Position));
        // In a closed case too: keys are rotated, and courts ask, after it has ended.
        if (Gate.Check(context, request, @case, closedToo: true) is { } refusal)
            return refusal;
        if (datum is null || datum.Case != request.Case || !MayKnow(context.Caller.Id, datum, shares, request.Field))
            return new Refusal(Reason.NotFound);
        if (datum.Sealed is null)
            return new Refusal(Reason.SealedErased);
        if (!OpeningOf(context.Caller.Id, datum, shares, request.Field).Covers(request.Fields))
            return new Refusal(Reason.ShareBeyondOwn);
        if ((FormFault(request, datum) ?? RecipientFault(request, datum, shares, @case!, context)) is { } fault)
            return fault;
        if (IsFull(request, shares, context.Caller.Id))
            return new Refusal(Reason.SharesFull);
        return Decision.Accept(
            request.Case,
            // The recipient sees it as long as it is a party to the case.
            [Audience.Named(Audience.Case(request.Case), request.Recipient), .. datum.Observers],
            [new Change(EventOf(request, datum.Sealed), [Kind.Id(KeyOf(request.Position))])],
            _ => new ShareSealedResponse()
        );
    }

    private static SealedShared EventOf(ShareSealedRequest request, Sealed datum) =>
        new()
        {
            Position = request.Position,
            Field = request.Field,
            Digest = datum.Digest,
            Recipient = request.Recipient,
            KeyId = request.KeyId,
            Reason = request.Reason,
            LegalBasis = request.LegalBasis,
        };

    private static IEnumerable<SealedShare> Of(SealedShares? shares, string field) => (shares?.Shares ?? []).Where(s => s.Field == field);

    private static void Shared(SealedShares state, SealedShared e, FoldedEntry entry)
    {
        var share = new SealedShare
        {
            Field = e.Field,
            Giver = entry.Participant,
            Recipient = e.Recipient,
            KeyId = e.KeyId,
            Position = entry.Position,
        };
        // If the request was erased, nobody knows what it opened, so it opens nothing any more.
        if (entry.Request is ShareSealedRequest request)
        {
            share.Whole = request.Fields.Count == 0;
            share.Fields.Add(request.Fields);
        }
        state.Shares.Add(share);
    }

    private static Refusal? FormFault(ShareSealedRequest request, SealedDatum datum)
    {
        var size = request.Fields.Count == 0 ? SecretBytes : request.Fields.Count * FieldKeyBytes + Seals.TagBytes;
        if (request.Encapsulation.Length != EncapsulationBytes)
            return Ruling.Invalid(("encapsulation", $"must be {EncapsulationBytes} bytes"));
        if (request.Secret.Length != size)
            return Ruling.Invalid(("secret", $"must be {size} bytes for what it opens"));
        if (!request.Fields.SequenceEqual(request.Fields.Order()))
            return Ruling.Invalid(("fields", "must be ascending"));
        return request.Fields.All(datum.Fields.Contains) ? null : Ruling.Invalid(("fields", "must be fields of the sealed message"));
    }

    private static Refusal? RecipientFault(
        ShareSealedRequest request,
        SealedDatum datum,
        SealedShares? shares,
        Case @case,
        RuleContext context
    )
    {
        if (
            context.Permissions.Participant(request.Recipient)
            is not { Kind: ParticipantKind.Ministry or ParticipantKind.NeutralObserver or ParticipantKind.ProtectingPower } recipient
        )
            return new Refusal(Reason.ShareRecipientUnknown);
        // A recipient that can already open the content learns nothing new; only its key changes. The recipient's part in the case is
        // checked after this, so that no refusal reveals a part that the caller may not know of (D22).
        if (!OpeningOf(recipient.Id, datum, shares, request.Field).Covers(request.Fields))
        {
            if (!IsReleasedTo(recipient, datum, @case, context))
                return new Refusal(Reason.ShareNotReleased);
            if (!IsMarkedFor(recipient, datum.Marking))
                return new Refusal(Reason.ShareBeyondMarking);
        }
        if (Cases.PartsOf(recipient, @case).Count == 0)
            return new Refusal(Reason.ShareRecipientWithoutPart);
        if (!recipient.SealingKeys.Any(k => k.Id == request.KeyId && Seals.IsInForce(k, context.Now)))
            return new Refusal(Reason.ShareKeyNotInForce);
        return IsGiven(request, datum, shares, context.Caller.Id) ? new Refusal(Reason.ShareAlreadyMade) : null;
    }

    // Whether the caller has already given the recipient, for this key, all that it gives now. Openings by others do not count: only the
    // recipient knows whether they open anything, and a wrong secret must not prevent anybody, the recipient included, from giving the
    // right one.
    private static bool IsGiven(ShareSealedRequest request, SealedDatum datum, SealedShares? shares, string caller) =>
        new Opening(
            caller == datum.Sender && datum.Keys.Contains((request.Recipient, request.KeyId)),
            Of(shares, request.Field).Where(s => s.Recipient == request.Recipient && s.KeyId == request.KeyId && s.Giver == caller).ToList()
        ).Covers(request.Fields);

    // Whether content may be sealed to the recipient at a write, or this content was sealed by or to an organ of the recipient's state. So
    // no further state learns it, such as a power of origin before its release (D15).
    private static bool IsReleasedTo(Participant recipient, SealedDatum datum, Case @case, RuleContext context)
    {
        // A datum that is not about a single prisoner is for the power that holds all of them.
        var holds =
            datum.Prisoner.Length > 0 ? @case.Prisoners.FirstOrDefault(p => p.Prisoner == datum.Prisoner)?.LastDetainingPower ?? ""
            : Cases.ManagersOf(@case).ToList() is [var one] ? one
            : "";
        return Gate.MayBeTold(context, recipient.Id, holds)
            || datum
                .Sealed!.Recipients.Append(datum.Sender)
                .Select(context.Permissions.Participant)
                .Any(p => p is not null && !p.IsNeutral() && recipient.ActsFor(p.State));
    }

    private static bool IsMarkedFor(Participant recipient, Classification? marking) =>
        marking is null
        || (marking.Level <= Level.Restricted || marking.Level <= recipient.Clearance)
            && (marking.ReleasableTo.Count == 0 || marking.ReleasableTo.Contains(recipient.Id));

    // Each participant has room of its own, and room for its own keys beside that for others.
    private static bool IsFull(ShareSealedRequest request, SealedShares? shares, string giver) =>
        Of(shares, request.Field).Count(s => s.Giver == giver && s.Recipient == giver == (request.Recipient == giver)) >= MostByGiver;

    private static EntryPart? PartOf(Entry entry, PartKind kind) => entry.Parts.FirstOrDefault(p => p.Kind == kind);

    // Unreadable content has no fields that could be opened singly.
    private static SealedContent ContentOf(Sealed @sealed)
    {
        try
        {
            return SealedContent.Parser.ParseFrom(@sealed.Content);
        }
        catch (InvalidProtocolBufferException)
        {
            return new SealedContent();
        }
    }

    // The prisoner of the entry: named by the request or, if the request makes or names another record, by an event.
    private static string PrisonerOf(IMessage request, Events happened)
    {
        var events = happened.Events_.Select(e => Seals.MessageNamed(e.Type)?.Parser.ParseFrom(e.Data)).OfType<IMessage>();
        foreach (var message in events.Prepend(request))
            if (
                message.Descriptor.FindFieldByName("prisoner") is { FieldType: FieldType.String, IsRepeated: false } field
                && field.Accessor.GetValue(message) is string { Length: > 0 } prisoner
            )
                return prisoner;
        return "";
    }
}

/// <summary>A sealed datum that a request carries, as its entry shows it to the service.</summary>
/// <param name="Case">The case of the entry.</param>
/// <param name="Sender">Who sealed it and signed the request.</param>
public sealed record SealedDatum(string Case, string Sender)
{
    /// <summary>What is sealed, with its digest; null: the request was erased.</summary>
    public Sealed? Sealed { get; init; }

    /// <summary>The reference of the prisoner whom the entry is about; empty: it is about no one prisoner.</summary>
    public string Prisoner { get; init; } = "";

    /// <summary>For whom and for which of their keys it was sealed, as the content says; none: it does not say.</summary>
    public IReadOnlyCollection<(string Recipient, string KeyId)> Keys { get; init; } = [];

    /// <summary>The numbers of its fields, as the content says; none: it does not say.</summary>
    public IReadOnlyCollection<uint> Fields { get; init; } = [];

    /// <summary>The marking of the request; null: it has none.</summary>
    public Classification? Marking { get; init; }

    /// <summary>The observers of the case who may see the entry (<see cref="Audience"/>).</summary>
    public IReadOnlyCollection<string> Observers { get; init; } = [];
}
