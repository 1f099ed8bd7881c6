using System.Runtime.CompilerServices;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Contracts;
using Ministries.Ledger.V1;
using Ministries.Sealing;
using Ministries.Types.V1;

namespace Ministries.Client;

/// <content>What is sealed is opened wider (protos/SEALED.md, section 5).</content>
public sealed partial class MinistryClient
{
    /// <summary>Reads a sealed datum as it was signed, with what was opened of it to the participant, and verifies the entry that carries
    /// it.
    /// </summary>
    /// <param name="service">The service's name, such as <c>custody</c>.</param>
    /// <param name="position">The position of the entry whose request carries it (<see cref="Sealed.Position"/>).</param>
    /// <param name="field">The path of the sealed field in that request, such as <c>identity</c> or <c>account.minutes</c>.</param>
    /// <param name="cancel">Ends it.</param>
    /// <returns>The datum. <see cref="Open{T}(GetSealedResponse)"/> opens it.</returns>
    /// <exception cref="RefusedException">There is none, the participant can open none of it, or it was erased.</exception>
    /// <exception cref="InvalidEntryException">The service shows something else than the log has there, or than was signed.</exception>
    /// <exception cref="InvalidLogException">The log has two histories, or does not show the one that was signed.</exception>
    /// <exception cref="HttpRequestException">The service's log cannot be reached.</exception>
    public async Task<GetSealedResponse> ReadSealed(string service, ulong position, string field, CancellationToken cancel = default)
    {
        var get = new GetSealedRequest { Position = position, Field = field };
        var read = await LedgerOf(service).GetSealedAsync(get, cancellationToken: cancel);
        await Verify(service, get, read, cancel);
        return read;
    }

    /// <summary>As <see cref="ReadSealed"/>, of what was read already.</summary>
    internal async Task Verify(string service, GetSealedRequest asked, GetSealedResponse read, CancellationToken cancel)
    {
        var header = HeaderOf(read);
        if (
            header is null
            || header.Position != asked.Position
            || read.Position != asked.Position
            || read.Field != asked.Field
            || header.Participant != read.Sender
        )
            throw new InvalidEntryException(service, $"what is shown of entry {asked.Position} is not what was asked for");
        await VerifyHeader(service, read.Header, cancel);
        // A participant that may also see the request finds the datum there.
        if (
            await SealingEntryAt(service, asked.Position, cancel) is { Contents: { } contents }
            && contents.GetValueOrDefault(asked.Field) != SealingEntry.DigestOf(read.Sealed)
        )
            throw new InvalidEntryException(service, $"the signed request of entry {asked.Position} holds something else at {asked.Field}");
    }

    /// <summary>Opens a datum that <see cref="ReadSealed"/> read: with the participant's own key, or with what was opened to it later. If
    /// single fields alone were opened to it, the message has these alone (<see cref="Opened{T}.Fields"/>).</summary>
    /// <typeparam name="T">The message inside.</typeparam>
    /// <param name="read">What was read.</param>
    /// <exception cref="SealException">It does not open. The fault says why.</exception>
    public Opened<T> Open<T>(GetSealedResponse read)
        where T : class, IMessage<T>, new()
    {
        ArgumentNullException.ThrowIfNull(read);
        return OpenWith<T>(read.Sealed, ContextOf(read, new T().Descriptor), read.Grants);
    }

    /// <summary>Puts into a request to open a datum to one more participant what only the giver can make: the secret of the datum, or the
    /// keys of the fields that the request names, wrapped for the recipient's newest key for sealing. It reads the datum, and takes from it
    /// the case too if the request names none. Do it before officials approve the request.</summary>
    /// <param name="service">The service's name, such as <c>custody</c>.</param>
    /// <param name="request">The request, with position, field and recipient; with the numbers of the fields if it is not to be the whole;
    /// and with the id of the recipient's key if it is not to be the newest.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="ArgumentException">The recipient, or its key, is not in the agreement; or the message has no such
    /// fields.</exception>
    /// <exception cref="SealException">The participant cannot open what it is to pass on, or the recipient has no key for sealing in
    /// force.</exception>
    /// <exception cref="RefusedException">There is no such datum, or it was erased.</exception>
    /// <exception cref="InvalidEntryException">As <see cref="ReadSealed"/>.</exception>
    public async Task AddWrap(string service, ShareSealedRequest request, CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        var recipient = RecipientOf(request.Recipient, request.KeyId, request.Field);
        var read = await ReadSealed(service, request.Position, request.Field, cancel);
        Wrap(request, read, recipient);
    }

    /// <summary>Opens a datum, or single fields of it, to one more participant: <see cref="AddWrap"/> and the call. Where the agreement
    /// demands approvals of it, call <see cref="AddWrap"/>, let the officials approve, and send the request.</summary>
    /// <example><code>
    /// await client.Share("custody", new ShareSealedRequest
    /// {
    ///     Actor = actor, Position = prisoner.Identity.Position, Field = "identity", Recipient = "ua/mfa",
    ///     Fields = { PersonIdentity.NameFieldNumber }, Reason = SharingReason.Tracing, LegalBasis = "gc3-122",
    /// });
    /// </code></example>
    /// <param name="service">The service's name, such as <c>custody</c>.</param>
    /// <param name="request">The request, as for <see cref="AddWrap"/>.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="ArgumentException">As <see cref="AddWrap"/>.</exception>
    /// <exception cref="SealException">As <see cref="AddWrap"/>.</exception>
    /// <exception cref="RefusedException">The service refused: the recipient may not be told, has no part in the case, or has it
    /// already.</exception>
    public async Task<ShareSealedResponse> Share(string service, ShareSealedRequest request, CancellationToken cancel = default)
    {
        await AddWrap(service, request, cancel);
        return await LedgerOf(service).ShareSealedAsync(request, cancellationToken: cancel);
    }

    /// <summary>Wraps a datum for the newest of the participant's own keys for sealing, without its sender. Afterwards the older keys are
    /// not needed for it. The client has both keys (<see cref="MinistrySettings.SealingKeys"/>).</summary>
    /// <param name="service">The service's name, such as <c>custody</c>.</param>
    /// <param name="position">The position of the entry whose request carries it.</param>
    /// <param name="field">The path of the sealed field in that request.</param>
    /// <param name="actor">The official in whose name it is done.</param>
    /// <param name="legalBasis">The legal basis, as a code.</param>
    /// <param name="cancel">Ends it.</param>
    /// <returns>The positions of the entries by which it was done; none: the newest key opens it already.</returns>
    /// <exception cref="SealException">It does not open, or the participant has no key for sealing in force.</exception>
    /// <exception cref="RefusedException">There is no such datum, or the service refused.</exception>
    /// <exception cref="InvalidEntryException">As <see cref="ReadSealed"/>.</exception>
    public async Task<IReadOnlyList<ulong>> WrapAnew(
        string service,
        ulong position,
        string field,
        Actor actor,
        string legalBasis,
        CancellationToken cancel = default
    )
    {
        var newest = RecipientOf(Participant.Id, "", field);
        if (_identities.All(i => i.Id != newest.KeyId))
            throw new SealException(
                SealFault.KeyUnknown,
                field,
                $"the newest key {newest.KeyId} is not here, so nobody can tell what it opens."
            );
        var read = await ReadSealed(service, position, field, cancel);
        var done = new List<ulong>();
        foreach (var fields in NotYetFor(newest, read))
        {
            var request = new ShareSealedRequest
            {
                Actor = actor,
                Case = read.Case,
                Position = position,
                Field = field,
                Recipient = newest.Participant,
                Fields = { fields },
                Reason = SharingReason.KeyRotated,
                LegalBasis = legalBasis,
            };
            Wrap(request, read, newest);
            done.Add((await LedgerOf(service).ShareSealedAsync(request, cancellationToken: cancel)).Receipt.Position);
        }
        return done;
    }

    /// <summary>Finds all that is sealed to the participant in a service's ledger, or was opened to it later. Some of it may be erased, or
    /// another's: <see cref="ReadSealed"/> tells.</summary>
    /// <param name="service">The service's name, such as <c>custody</c>.</param>
    /// <param name="case">Only of this case; empty: of every case.</param>
    /// <param name="cancel">Ends it.</param>
    /// <returns>The position of the entry and the path of the field of each, once.</returns>
    public async IAsyncEnumerable<(ulong Position, string Field)> FindSealed(
        string service,
        string @case = "",
        [EnumeratorCancellation] CancellationToken cancel = default
    )
    {
        var seen = new HashSet<(ulong, string)>();
        await foreach (var (position, field, _) in FindPlaces(service, @case, cancel))
            if (seen.Add((position, field)))
                yield return (position, field);
    }

    /// <summary>As <see cref="FindSealed"/>, with the sign that a datum is there. A place is returned once for each entry that has such a
    /// sign.</summary>
    /// <param name="service">The service's name.</param>
    /// <param name="case">Only of this case; empty: of every case.</param>
    /// <param name="cancel">Ends it.</param>
    internal async IAsyncEnumerable<(ulong Position, string Field, SealedSign Sign)> FindPlaces(
        string service,
        string @case,
        [EnumeratorCancellation] CancellationToken cancel = default
    )
    {
        await foreach (var response in Follow(service, 0, @case, untilNow: true, cancel))
            if (response.Entry is { } entry)
                foreach (var place in PlacesIn(LedgerEntry.Read(entry)))
                    yield return place;
    }

    /// <summary>The message that the contract declares for a datum; null: none.</summary>
    internal static MessageDescriptor? MessageIn(GetSealedResponse read)
    {
        if (HeaderOf(read) is not { } header || SealingEntry.TypeOf(header.Method) is not { } type)
            return null;
        var declared = PathsIn(type, "").FirstOrDefault(p => p.Path == read.Field).Field;
        return declared?.GetOptions()?.GetExtension(OptionsExtensions.Seals) is { } seals ? Seals.MessageNamed(seals.Message) : null;
    }

    /// <summary>As <see cref="Open{T}(GetSealedResponse)"/>, of the message that the contract declares for it.</summary>
    internal (IMessage Message, IReadOnlyList<uint>? Fields) OpenDeclared(GetSealedResponse read) =>
        MessageIn(read) is { } type
            ? OpenAs(type, read.Sealed, ContextOf(read, type), read.Grants)
            : throw new SealException(SealFault.OtherField, read.Field, "the contract declares nothing sealed there.");

    private Opened<T> OpenWith<T>(Sealed @sealed, SealContext context, IReadOnlyList<SealedGrant> grants)
        where T : class, IMessage<T>, new()
    {
        var (message, fields) = OpenAs(new T().Descriptor, @sealed, context, grants);
        return new((T)message, context.Sender, context.Case, context.Record, context.Field)
        {
            Fields = fields,
            Faults = FaultsOf(message, fields),
        };
    }

    /// <summary>Opens a message whose type is known by name only: with the participant's own wrap, or with one that was added. Anybody may
    /// have given a wrong one, so the next is tried.</summary>
    internal (IMessage Message, IReadOnlyList<uint>? Fields) OpenAs(
        MessageDescriptor type,
        Sealed @sealed,
        SealContext context,
        IReadOnlyList<SealedGrant> grants
    )
    {
        var opener = new Opener(Participant.Id, _identities);
        SealException? fault = null;
        foreach (var added in Wholes(grants))
            if (Try(() => opener.Open(type, @sealed, context, added), ref fault) is { } whole)
                return (whole, null);
        IMessage? some = null;
        var numbers = new SortedSet<uint>();
        foreach (var grant in grants.Where(g => g.Fields.Count > 0).Reverse())
        {
            if (Try(() => opener.OpenFields(type, @sealed, context, WrapOf(grant), grant.Fields), ref fault) is not { } part)
                continue;
            foreach (var number in grant.Fields.Where(numbers.Contains))
                part.Descriptor.FindFieldByNumber((int)number)?.Accessor.Clear(part);
            if (some is null)
                some = part;
            else
                some.MergeFrom(part.ToByteString());
            numbers.UnionWith(grant.Fields);
        }
        return some is null ? throw fault! : (some, [.. numbers]);
    }

    /// <summary>Where a message that was opened is not as its contract declares it.</summary>
    /// <param name="message">The message.</param>
    /// <param name="fields">The numbers of its fields that were opened: the others are missing for another reason; null: all.</param>
    internal static IReadOnlyList<(string Field, string Description)> FaultsOf(IMessage message, IReadOnlyCollection<uint>? fields) =>
        [
            .. Validation
                .Check(message)
                .Where(f =>
                    fields is null
                    || message.Descriptor.FindFieldByName(f.Field.Split('.', '[')[0]) is not { } field
                    || fields.Contains((uint)field.FieldNumber)
                )
                .Select(f => (f.Field, f.Description)),
        ];

    private void Wrap(ShareSealedRequest request, GetSealedResponse read, Recipient recipient)
    {
        var message =
            MessageIn(read) ?? throw new SealException(SealFault.OtherField, read.Field, "the contract declares nothing sealed there.");
        if (request.Fields.FirstOrDefault(n => message.FindFieldByNumber((int)n) is null) is > 0 and var none)
            throw new ArgumentException($"{message.FullName} has no field {none}", nameof(request));
        var context = ContextOf(read, message);
        var opener = new Opener(Participant.Id, _identities);
        int[] fields = [.. request.Fields.Select(n => (int)n).Order()];
        SealException? fault = null;
        SealedKey? wrap = null;
        foreach (var added in Wholes(read.Grants))
            wrap ??= Try(
                () =>
                    fields.Length == 0
                        ? opener.Rewrap(read.Sealed, context, message, recipient, added)
                        : opener.WrapFields(read.Sealed, context, message, fields, recipient, added),
                ref fault
            );
        foreach (var grant in read.Grants.Where(g => fields.Length > 0 && request.Fields.All(g.Fields.Contains)).Reverse())
            wrap ??= Try(() => opener.RewrapFields(read.Sealed, context, message, fields, recipient, WrapOf(grant)), ref fault);
        if (wrap is null)
            throw fault!;
        Name(request);
        if (request.Case.Length == 0)
            request.Case = read.Case;
        request.Fields.Clear();
        request.Fields.Add(fields.Select(n => (uint)n));
        (request.KeyId, request.Encapsulation, request.Secret) = (wrap.KeyId, wrap.Encapsulation, wrap.Secret);
    }

    // The openings that the participant can open, but not with its newest key: the whole datum (an empty list of fields), or the fields of
    // each opening. The client really opens them: a wrap for the newest key may be wrong, and the older keys are destroyed because of this
    // answer. Openings that no key opens come last, because the attempt to wrap them reports the reason.
    private IEnumerable<IReadOnlyList<uint>> NotYetFor(Recipient newest, GetSealedResponse read)
    {
        var (own, alone) = (OpeningBy(_identities), OpeningBy([.. _identities.Where(i => i.Id == newest.KeyId)]));
        if (alone.Whole)
            yield break;
        if (own.Whole)
        {
            yield return [];
            yield break;
        }
        var has = alone.Grants.SelectMany(g => g.Fields).ToHashSet();
        foreach (var grant in own.Grants.Where(g => !g.Fields.All(has.Contains)))
        {
            has.UnionWith(grant.Fields);
            yield return [.. grant.Fields];
        }
        if (read.Sealed.Recipients.Contains(Participant.Id) || read.Grants.Any(g => g.Fields.Count == 0))
            yield return [];
        foreach (var grant in read.Grants.Where(g => !g.Fields.All(has.Contains)))
            yield return [.. grant.Fields];
        // Whoever is shown a datum can open some of it. A service that shows nothing to open it with proves no more than one that refuses.
        if (read.Grants.Count == 0 && !read.Sealed.Recipients.Contains(Participant.Id))
            throw new SealException(
                SealFault.WrongRecipient,
                read.Field,
                "the service shows nothing by which it was opened to this participant."
            );

        (bool Whole, IReadOnlyList<SealedGrant> Grants) OpeningBy(IReadOnlyCollection<SealingIdentity> keys)
        {
            var message = MessageIn(read);
            if (message is null)
                return (false, []);
            var (opener, context) = (new Opener(Participant.Id, keys), ContextOf(read, message));
            SealException? fault = null;
            return (
                Wholes(read.Grants).Any(a => Try(() => opener.Rewrap(read.Sealed, context, message, newest, a), ref fault) is not null),
                [.. read.Grants.Where(g => g.Fields.Count > 0 && Opens(g))]
            );

            bool Opens(SealedGrant grant)
            {
                int[] numbers = [.. grant.Fields.Select(n => (int)n)];
                var wrap = WrapOf(grant);
                return Try(() => opener.RewrapFields(read.Sealed, context, message, numbers, newest, wrap), ref fault) is not null;
            }
        }
    }

    // null stands for the participant's own wrap in the content.
    private static IEnumerable<SealedKey?> Wholes(IReadOnlyList<SealedGrant> grants) =>
        grants.Where(g => g.Fields.Count == 0).Reverse().Select(WrapOf).Prepend(null);

    private static SealedKey WrapOf(SealedGrant grant) =>
        new()
        {
            Recipient = grant.Recipient,
            KeyId = grant.KeyId,
            Encapsulation = grant.Encapsulation,
            Secret = grant.Secret,
        };

    // The first fault is kept, unless it says only that the participant has no such key.
    private static T? Try<T>(Func<T> open, ref SealException? fault)
        where T : class
    {
        try
        {
            return open();
        }
        catch (SealException e)
        {
            if (fault is not { Fault: not (SealFault.WrongRecipient or SealFault.KeyUnknown) })
                fault = e;
            return null;
        }
    }

    private static EntryHeader? HeaderOf(GetSealedResponse read)
    {
        try
        {
            return EntryHeader.Parser.ParseFrom(read.Header);
        }
        catch (InvalidProtocolBufferException)
        {
            return null;
        }
    }

    // The header says what the request was: neither its id nor its sender is taken from the content.
    private static SealContext ContextOf(GetSealedResponse read, MessageDescriptor message)
    {
        if (HeaderOf(read) is not { } header || SealingEntry.ContextFor(header, message, read.Case) is not { } context)
            throw new SealException(SealFault.OtherMessage, read.Field, $"no {message.Name} is sealed in the request of the entry.");
        return context.Field == read.Field
            ? context
            : throw new SealException(SealFault.OtherField, read.Field, $"{message.Name} is sealed in another field of the request.");
    }

    private Recipient RecipientOf(string id, string keyId, string field)
    {
        var participant = Listed(id) ?? throw new ArgumentException($"{id} is not a participant of the agreement", nameof(id));
        if (keyId.Length > 0)
        {
            participant = participant.Clone();
            var key =
                participant.SealingKeys.FirstOrDefault(k => k.Id == keyId)
                ?? throw new ArgumentException($"{id} has no key for sealing {keyId} in the agreement", nameof(keyId));
            participant.SealingKeys.Clear();
            participant.SealingKeys.Add(key);
        }
        return Recipient.Of(participant, _time.GetUtcNow().ToTimestamp(), field);
    }

    // The places where an entry may carry a datum for the participant. If the request is not shown, the datum may be in any sealed field.
    private IEnumerable<(ulong Position, string Field, SealedSign Sign)> PlacesIn(LedgerEntry entry)
    {
        var part = entry.Parts.FirstOrDefault(p => p.Kind == PartKind.Request);
        // The recipient is shown the request until it or the datum is erased, unless the entry is privileged.
        var sign =
            part is { Content: not null, Holds: true } ? SealedSign.Named
            : entry.Privileged ? SealedSign.Opened
            : SealedSign.Gone;
        foreach (var shared in entry.Published.Select(e => e.Event).OfType<SealedShared>())
            if (shared.Recipient == Participant.Id)
                yield return (shared.Position, shared.Field, sign);
        if (SealingEntry.TypeOf(entry.Header.Method) is not { } type || !Seals.CanBeIn(type) || !entry.Published.Any())
            yield break;
        IEnumerable<string> fields = part is null
            ? PathsIn(type, "").Select(p => p.Path)
            : Seals.WithPaths(part.Content ?? new Empty()).Where(s => s.Sealed.Recipients.Contains(Participant.Id)).Select(s => s.Path);
        foreach (var field in fields)
            yield return (entry.Header.Position, field, part is null ? SealedSign.None : SealedSign.Named);
    }

    private static IEnumerable<(string Path, FieldDescriptor Field)> PathsIn(MessageDescriptor type, string above)
    {
        foreach (var field in type.Fields.InFieldNumberOrder().Where(f => f is { FieldType: FieldType.Message, IsRepeated: false }))
            if (field.MessageType == Sealed.Descriptor)
                yield return ($"{above}{field.Name}", field);
            else if (Seals.CanBeIn(field.MessageType))
                foreach (var inner in PathsIn(field.MessageType, $"{above}{field.Name}."))
                    yield return inner;
    }
}

/// <summary>The sign in a ledger that a datum is sealed to the participant. A later value is a stronger sign.</summary>
internal enum SealedSign
{
    /// <summary>No sign: the request is not shown, and may hold data for others only.</summary>
    None,

    /// <summary>An entry says that it was opened to the participant, and its request is not shown any more: it or the datum was erased.
    /// </summary>
    Gone,

    /// <summary>An entry that shows no request says that it was opened to the participant. It may be erased since.</summary>
    Opened,

    /// <summary>The request that sealed or opened it is shown, and names the participant as a recipient. So it is not erased.</summary>
    Named,
}
