using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Contracts;
using Ministries.Custody.V1;
using Ministries.Sealing;
using Ministries.Types.V1;

namespace Ministries.Client;

public sealed partial class MinistryClient
{
    /// <summary>Seals a message into a request, to those to whom the contract seals it by default (option <c>seals</c>): never to a power
    /// of origin, and only to participants that have a key for sealing. It reads the case, and the records that the request is about, where
    /// the default depends on them.</summary>
    /// <example><code>
    /// var request = new RegisterPrisonerRequest { Case = @case, Etag = etag, … };
    /// await client.Seal(request, new PersonIdentity { Name = name, Rank = "private" });
    /// var answer = await client.Custody.RegisterPrisonerAsync(request);
    /// </code></example>
    /// <param name="request">The request of a write. It must name its case. It gets a request id if it has none. What is sealed belongs to
    /// this request alone, so neither may change afterwards. Seal before officials approve it.</param>
    /// <param name="message">What is sealed, of the type that the contract declares for a field of the request. The field is found by the
    /// type. A statement's content (<see cref="StatementContent"/>) gets a secret if it has none, and the request the commitments to the
    /// destinations in it, so it names the prisoner before.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="ArgumentException">The request has no field for such a message, does not name its case, or has commitments to
    /// other destinations.</exception>
    /// <exception cref="SealException">The message breaks a limit that its contract declares (<see cref="SealFault.NotAsDeclared"/>), a
    /// field is too large, or nobody can be sealed to. It names the field.</exception>
    /// <exception cref="RefusedException">A record that the request is about cannot be read.</exception>
    public async Task Seal(IMessage request, IMessage message, CancellationToken cancel = default)
    {
        var declared = DeclarationFor(request, message);
        Seal(request, message, await RecipientsOf(request, declared, (service, method, get) => Call(service, method, get, cancel)));
    }

    /// <summary>To whom a field of a request is sealed by default, by the case and the records that the request is about.</summary>
    /// <param name="request">The request. It must name its case, where the default depends on it.</param>
    /// <param name="declared">What the contract says of the field.</param>
    /// <param name="read">Reads a record: the service's name, the method and its request. It throws where there is none: without a
    /// record nobody knows who may not be a recipient.</param>
    /// <returns>The participants' ids.</returns>
    public async Task<IReadOnlyList<string>> RecipientsOf(
        IMessage request,
        SealDeclaration declared,
        Func<string, MethodDescriptor, IMessage, Task<IMessage>> read
    )
    {
        var now = _time.GetUtcNow();
        if (!DefaultRecipients.DependOnTheCase(declared))
            return new DefaultRecipients(Agreement, Participant, now).Of(declared);
        var @case = Contract.TextOf(request, "case");
        var transfer = Named("transfer") is { } t
            ? (await Read<GetTransferResponse>("consular", "GetTransfer", new GetTransferRequest { Transfer = t })).Transfer
            : null;
        var access = Named("access") is { } a
            ? (await Read<GetAccessResponse>("consular", "GetAccess", new GetAccessRequest { Access = a })).Access
            : null;
        var call = Named("call") is { } c
            ? (await Read<GetCallResponse>("calllog", "GetCall", new GetCallRequest { Call = c })).Call
            : null;
        var prisoners = new List<Prisoner>();
        foreach (var reference in PrisonersOf(request, transfer, access, call))
        {
            var get = new GetPrisonerRequest { Case = @case, Prisoner = reference };
            prisoners.Add((await Read<GetPrisonerResponse>("custody", "GetPrisoner", get)).Prisoner);
        }
        return new DefaultRecipients(Agreement, Participant, now)
        {
            Case = (await Read<GetCaseResponse>("custody", "GetCase", new GetCaseRequest { Case = @case })).Case,
            Prisoners = prisoners,
            Transfer = transfer,
            Access = access,
            Call = call,
        }.Of(declared);

        async Task<T> Read<T>(string service, string method, IMessage get)
            where T : IMessage => (T)await read(service, Contract.Find(service, method)!, get);

        // The consular service's corrections name a record of any kind, by its id.
        string? Named(string kind) =>
            Contract.TextOf(request, kind) is { Length: > 0 } id ? id
            : Contract.TextOf(request, "record") is var record && record.StartsWith($"{kind}_", StringComparison.Ordinal) ? record
            : null;
    }

    // A call is about all whom any version of its accounts names, and about those whom the request itself names.
    private static IEnumerable<string> PrisonersOf(IMessage request, Transfer? transfer, Access? access, Call? call)
    {
        var one = transfer?.Prisoner ?? access?.Prisoner ?? Contract.TextOf(request, "prisoner");
        var account = request.Descriptor.FindFieldByName("account")?.Accessor.GetValue(request) as Account;
        return (one.Length > 0 ? [one] : Array.Empty<string>())
            .Concat(account?.Prisoners ?? [])
            .Concat(call?.Readouts.SelectMany(r => r.Versions).SelectMany(v => v.Account?.Prisoners ?? []) ?? [])
            .Distinct();
    }

    /// <summary>Seals a message into a request, to the recipients that are named.</summary>
    /// <param name="request">The request of a write, as in the other overload.</param>
    /// <param name="message">What is sealed, as in the other overload.</param>
    /// <param name="recipients">The participants who can open it, 1 to 16. The participant itself is none of them unless it is
    /// named.</param>
    /// <exception cref="ArgumentException">The request has no field for such a message, or does not name its case; or a recipient is no
    /// participant of the agreement.</exception>
    /// <exception cref="SealException">The message breaks a limit that its contract declares (<see cref="SealFault.NotAsDeclared"/>), a
    /// recipient has no key for sealing in force, a field is too large, or the number of recipients is wrong. It names the
    /// field.</exception>
    public void Seal(IMessage request, IMessage message, IReadOnlyCollection<string> recipients)
    {
        DeclarationFor(request, message);
        Name(request);
        var path = Seals.PathFor(request.Descriptor, message.Descriptor.FullName)!;
        var field = Contract.PathOf(path);
        Commit(request, message);
        // Nobody can check the content later: a service cannot read it, and a recipient cannot mend it.
        if (Validation.Check(message) is [var fault, ..])
            throw new SealException(SealFault.NotAsDeclared, $"{field}.{fault.Field}", $"it {fault.Description}.");
        var now = _time.GetUtcNow().ToTimestamp();
        var to = recipients.Select(r =>
            Recipient.Of(
                Listed(r) ?? throw new ArgumentException($"{r} is not a participant of the agreement", nameof(recipients)),
                now,
                field
            )
        );
        var context = new SealContext(Contract.TextOf(request, "case"), Contract.TextOf(request, "request_id"), field, Participant.Id);
        Set(request, path, Sealer.Seal(message, context, [.. to]));
    }

    /// <summary>Opens content that was sealed to the participant, from any source. The result says for which request and field it was
    /// sealed; the caller must check that, because a service could show content that was sealed for another record. <see cref="OpenIn"/>
    /// opens content in a record and demands that it belongs to that record.</summary>
    /// <typeparam name="T">The message inside, as the comment of the field names it.</typeparam>
    /// <param name="sealed">What is sealed.</param>
    /// <param name="case">The case in which the content was found; null: the case that the content names.</param>
    /// <param name="sender">The sender by the record; null: the sender that the content names.</param>
    /// <exception cref="SealException">It does not open: it is not sealed to the participant, is of another case, sender or message, or was
    /// changed. The fault says which, and the field where.</exception>
    public Opened<T> Open<T>(Sealed @sealed, string? @case = null, string? sender = null)
        where T : class, IMessage<T>, new()
    {
        ArgumentNullException.ThrowIfNull(@sealed);
        SealedContent content;
        try
        {
            content = SealedContent.Parser.ParseFrom(@sealed.Content);
        }
        catch (InvalidProtocolBufferException)
        {
            content = new();
        }
        // The library checks all of it again, by the only form that it may have.
        var context = new SealContext(@case ?? content.Case, content.Record, content.Field, sender ?? content.Sender);
        var message = new Opener(Participant.Id, _identities).Open<T>(@sealed, context);
        return new(message, content.Sender, content.Case, content.Record, content.Field) { Faults = FaultsOf(message, null) };
    }

    // Each type of message is inside at most one field of a request, so the type says which one is meant.
    private static SealDeclaration DeclarationFor(IMessage request, IMessage message)
    {
        if (Seals.PathFor(request.Descriptor, message.Descriptor.FullName) is not { } path)
            throw new ArgumentException($"{request.Descriptor.Name} has no field in which {message.Descriptor.FullName} is sealed");
        if (request.Descriptor.FindFieldByName("case") is not null && Contract.TextOf(request, "case").Length == 0)
            throw new ArgumentException($"{request.Descriptor.Name} must name its case before something is sealed in it");
        return path[^1].GetOptions().GetExtension(OptionsExtensions.Seals);
    }

    private static void Set(IMessage request, IReadOnlyList<FieldDescriptor> path, Sealed @sealed)
    {
        var message = request;
        foreach (var field in path.SkipLast(1))
        {
            if (field.Accessor.GetValue(message) is not IMessage inner)
                field.Accessor.SetValue(message, inner = (IMessage)Activator.CreateInstance(field.MessageType.ClrType)!);
            message = inner;
        }
        path[^1].Accessor.SetValue(message, @sealed);
    }
}
