using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Ministries.Custody.V1;
using Ministries.Ledger.V1;
using Ministries.Sealing;
using Ministries.Types.V1;

namespace Ministries.Gateway;

/// <summary>Opens what is sealed to the participant in an answer, by the entries that carried it: what a service took from another record
/// or another field is not shown as this one's (<see cref="SealedInRecord"/>). What is not for this participant stays as the service showed
/// it.</summary>
/// <param name="client">The client with the participant's keys for sealing.</param>
/// <param name="mirror">The participant's copy, which has most entries.</param>
internal sealed class Openings(MinistryClient client, Mirror mirror)
{
    /// <summary>Puts the plain message in the place of each that opens (<see cref="PlainJson.Scheme"/>), in the message itself; and in the
    /// place of one that is not of its record, or was changed, the fault's name (<see cref="PlainJson.FaultOf"/>).</summary>
    /// <param name="message">The answer.</param>
    /// <param name="service">The service that gave it.</param>
    /// <param name="request">What it was asked.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="GatewayRefusedException">The entries from which it is cannot be read now.</exception>
    public async Task Open(IMessage message, string service, IMessage request, CancellationToken cancel)
    {
        if (!Seals.CanBeIn(message.Descriptor))
            return;
        Strip(message);
        try
        {
            if (message is GetSealedResponse read)
                await OpenShared(read, service, (GetSealedRequest)request, cancel);
            else
                await OpenRecords(message, cancel);
        }
        catch (Exception e)
            when (e is HttpRequestException || e is RpcException { StatusCode: StatusCode.Unavailable or StatusCode.DeadlineExceeded })
        {
            throw new GatewayRefusedException(
                GatewayReason.ServiceUnreachable,
                $"{service} is not reached, and without the entries from which it is nothing says whose the sealed data are"
            );
        }
    }

    /// <summary>Takes away what only the gateway says: a service that writes it would have its own words taken for what a participant
    /// sealed.</summary>
    public static void Strip(IMessage message)
    {
        foreach (var @sealed in Seals.In(message))
            if (PlainJson.IsOwn(@sealed.Scheme))
                (@sealed.Scheme, @sealed.Content) = ("", ByteString.Empty);
    }

    private async Task OpenShared(GetSealedResponse read, string service, GetSealedRequest request, CancellationToken cancel)
    {
        try
        {
            await client.Verify(service, request, read, cancel);
            var (plain, fields) = client.OpenDeclared(read);
            Put(read.Sealed, plain, fields);
        }
        catch (SealException e)
        {
            Put(read.Sealed, e);
        }
        catch (Exception e) when (e is InvalidEntryException or InvalidLogException)
        {
            PutFault(read.Sealed, SealFault.NotAuthentic);
        }
    }

    private async Task OpenRecords(IMessage message, CancellationToken cancel)
    {
        var places = SealedInRecord
            .In(message)
            .Where(p =>
                p.Sealed is { Content.IsEmpty: false, Scheme: Seals.Scheme } && p.Sealed.Recipients.Contains(client.Participant.Id)
            );
        foreach (var ofService in places.ToLookup(p => p.Kind.Service))
        {
            var entries = await EntriesAt(ofService.Key, [.. ofService.Select(p => p.Sealed.Position).Distinct()], cancel);
            foreach (var place in ofService)
                if (TypeIn(place.Sealed) is { } type)
                    Open(place, type, entries);
        }
    }

    private void Open(SealedInRecord place, MessageDescriptor type, IReadOnlyDictionary<ulong, SealingEntry?>? entries)
    {
        try
        {
            if (entries is null)
                throw new SealException(SealFault.NotAuthentic, place.Path, "the entry from which it is is not what was recorded.");
            var context = place.ContextBy(type, entries[place.Sealed.Position]);
            var plain = client.OpenAs(type, place.Sealed, context, []).Message;
            if (
                (plain, place.Record) is (StatementContent said, Statement statement)
                && !MinistryClient.AreCommitted(statement.Commitments, statement.Case, statement.Prisoner, said)
            )
                throw new SealException(
                    SealFault.CommitmentDiffers,
                    place.Path,
                    "the statement's commitments are not those to the destinations that are sealed in it."
                );
            Put(place.Sealed, plain);
        }
        catch (SealException e)
        {
            Put(place.Sealed, e);
        }
    }

    // The mirror's entries were verified before they were kept. null: one that the service shows is not what the log has.
    private async Task<IReadOnlyDictionary<ulong, SealingEntry?>?> EntriesAt(
        string service,
        IReadOnlyList<ulong> positions,
        CancellationToken cancel
    )
    {
        var found = new Dictionary<ulong, SealingEntry?>();
        foreach (var position in positions)
            if (await mirror.EntryAt(service, position, cancel) is { } kept)
                found[position] = SealingEntry.Of(kept);
        ulong[] others = [.. positions.Where(p => !found.ContainsKey(p))];
        if (others.Length == 0)
            return found;
        try
        {
            foreach (var (position, entry) in await client.SealingEntriesAt(service, others, cancel))
                found[position] = entry;
            return found;
        }
        catch (Exception e) when (e is InvalidEntryException or InvalidLogException)
        {
            return null;
        }
    }

    private static void Put(Sealed @sealed, IMessage plain, IReadOnlyList<uint>? fields = null)
    {
        if (plain is StatementContent said)
            (said.WishSecret, fields) = (ByteString.Empty, fields?.Where(n => n != StatementContent.WishSecretFieldNumber).ToList());
        (@sealed.Scheme, @sealed.Content) = (PlainJson.SchemeOf(plain.Descriptor, fields), plain.ToByteString());
    }

    /// <summary>Whether a field of an opened message is shown to no caller: the secret of a wish. A holder of the secret can show anybody
    /// which destinations the prisoner accepts. The gateway itself makes the openings and compares the commitments.</summary>
    public static bool IsKeptBack(MessageDescriptor type, string field) =>
        type == StatementContent.Descriptor && type.FindFieldByName(field)?.FieldNumber == StatementContent.WishSecretFieldNumber;

    // It is for others, or for a key that the participant no longer has.
    private static void Put(Sealed @sealed, SealException fault)
    {
        if (fault.Fault is not (SealFault.WrongRecipient or SealFault.KeyUnknown))
            PutFault(@sealed, fault.Fault);
    }

    private static void PutFault(Sealed @sealed, SealFault fault) =>
        (@sealed.Scheme, @sealed.Content) = (PlainJson.SchemeOf(fault), ByteString.Empty);

    // What it says is checked when it is opened.
    private static MessageDescriptor? TypeIn(Sealed @sealed)
    {
        try
        {
            return Seals.MessageNamed(SealedContent.Parser.ParseFrom(@sealed.Content).Message);
        }
        catch (InvalidProtocolBufferException)
        {
            return null;
        }
    }
}
