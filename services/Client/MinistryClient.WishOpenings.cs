using Google.Protobuf;
using Google.Protobuf.Collections;
using Google.Protobuf.Reflection;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Sealing;
using Ministries.Trust;

namespace Ministries.Client;

/// <content>What shows that a prisoner accepts a destination.</content>
public sealed partial class MinistryClient
{
    // As many as a request may hold (DecideTransferRequest.openings).
    private const int MostOpenings = 16;

    /// <summary>The field of a request with its openings.</summary>
    internal const string Openings = "openings";

    /// <summary>Adds to a request what shows that the prisoner accepts the destination, and nothing else of what he said (D9). The request
    /// is that of <c>DecideTransfer</c>, <c>ResumeTransfer</c>, <c>ConfirmReturn</c> or <c>RecordStatus</c>. Added are the openings of the
    /// statements that the participant can open and in which he accepts the destination: those since he last said something else, and of
    /// them the 16 latest. Every side of the transfer sees them. Nothing is added to a decision that does not agree, to a status other than
    /// RELEASED and REPATRIATED, and to a request that has openings already or is approved.</summary>
    /// <remarks>The caller names the prisoner and the destination. If a service could name them, it could ask for the wish of
    /// anybody.</remarks>
    /// <param name="request">The request; it names the case, and the transfer or the prisoner.</param>
    /// <param name="destination">The destination (ISO 3166-1 alpha-2); of a return, the power that takes him back.</param>
    /// <param name="prisoners">The references under which he made his statements: one, or several where records of the same person are
    /// linked.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="ArgumentException">The request is about another prisoner or another destination, it takes no openings, or the
    /// custody service has not linked a further reference with his.</exception>
    /// <exception cref="RefusedException">The transfer or the statements cannot be read.</exception>
    /// <exception cref="InvalidDataException">The service's list of statements does not end.</exception>
    public Task AddOpenings(
        IMessage request,
        string destination,
        IReadOnlyCollection<string> prisoners,
        CancellationToken cancel = default
    ) => AddOpenings(request, new(destination, prisoners), (service, method, get) => Call(service, method, get, cancel));

    /// <summary>As the other method, for a caller that reads records in its own way.</summary>
    /// <param name="request">The request.</param>
    /// <param name="wish">What is shown.</param>
    /// <param name="read">Reads: the service's name, the method and its request.</param>
    internal async Task AddOpenings(IMessage request, WishToShow wish, Func<string, MethodDescriptor, IMessage, Task<IMessage>> read)
    {
        if (!TakesOpenings(request.Descriptor))
            throw new ArgumentException($"a {request.Descriptor.Name} takes no openings", nameof(request));
        var openings = OpeningsIn(request)!;
        if (openings.Count > 0 || Approvals.IsIn(request) || !ShowsWish(request))
            return;
        var (about, to) = await JourneyOf(request, read);
        if (to != wish.Destination || !wish.Prisoners.Contains(about))
            throw new ArgumentException("the request is about another prisoner, or another destination, than what is to be opened");
        var @case = Contract.TextOf(request, "case");
        await DemandSamePerson(@case, about, wish.Prisoners, read);
        List<(DateTimeOffset Spoken, ulong Position, ByteString? Opening)> said = [];
        foreach (var prisoner in wish.Prisoners)
            said.AddRange(await SaidBy(prisoner, @case, wish.Destination, read));
        // Once he has said something else, what he said before counts no more, and is nobody's to know.
        var objected = said.Where(s => s.Opening is null).Select(s => s.Spoken).DefaultIfEmpty(DateTimeOffset.MinValue).Max();
        openings.Add(
            said.Where(s => s.Opening is not null && s.Spoken >= objected)
                .OrderByDescending(s => (s.Spoken, s.Position))
                .Select(s => s.Opening!)
                .Distinct()
                .Take(MostOpenings)
        );
    }

    // He need not be asked for a decision to decline, and not for a status that ends no custody.
    private static bool ShowsWish(IMessage request) =>
        request switch
        {
            DecideTransferRequest decision => decision.Agreed,
            RecordStatusRequest status => status.Status is CustodyState.Released or CustodyState.Repatriated,
            _ => true,
        };

    // The caller names each reference, and the custody service must have linked them: neither alone can add the wish of another man.
    private static async Task DemandSamePerson(
        string @case,
        string about,
        IReadOnlyCollection<string> named,
        Func<string, MethodDescriptor, IMessage, Task<IMessage>> read
    )
    {
        if (named.All(n => n == about))
            return;
        var get = new GetPrisonerRequest { Case = @case, Prisoner = about };
        var prisoner = ((GetPrisonerResponse)await read("custody", Contract.Find("custody", "GetPrisoner")!, get)).Prisoner;
        if (named.FirstOrDefault(n => n != about && n != prisoner.DuplicateOf && !prisoner.Duplicates.Contains(n)) is { } other)
            throw new ArgumentException($"the custody service has not linked {other} with {about} as the same person");
    }

    // The time of each statement, and its opening; no opening if the statement does not accept the destination. Statements sealed to others
    // are left out.
    private async Task<IEnumerable<(DateTimeOffset Spoken, ulong Position, ByteString? Opening)>> SaidBy(
        string prisoner,
        string @case,
        string destination,
        Func<string, MethodDescriptor, IMessage, Task<IMessage>> read
    )
    {
        var list = Contract.Find("custody", "ListStatements")!;
        var statements = new ListStatementsRequest
        {
            Case = @case,
            Prisoner = prisoner,
            PageSize = 200,
        };
        return (await Pages.Read(list, statements, r => read("custody", list, r)))
            .Cast<Statement>()
            .Where(s => s.State != StatementState.Corrected)
            .Select(s => (Statement: s, Content: ContentOf(s, @case)))
            .Where(s => s.Content is not null)
            .Select(s =>
                (
                    (s.Statement.StatementTime ?? s.Statement.RecordTime)?.ToDateTimeOffset() ?? DateTimeOffset.MinValue,
                    s.Statement.Position,
                    OpeningOf(s.Statement, s.Content!, @case, prisoner, destination)
                )
            );
    }

    /// <summary>Whether a request has openings that
    /// <see cref="AddOpenings(IMessage, WishToShow, Func{string, MethodDescriptor, IMessage, Task{IMessage}})"/> can add.</summary>
    internal static bool TakesOpenings(MessageDescriptor request) =>
        request.FindFieldByName(Openings) is not null && request.FindFieldByName("approvals") is not null;

    /// <summary>Whether a request shows a wish already.</summary>
    internal static bool HasOpenings(IMessage request) => OpeningsIn(request) is { Count: > 0 };

    // null: the request has no field for openings.
    private static RepeatedField<ByteString>? OpeningsIn(IMessage request) =>
        request.Descriptor.FindFieldByName(Openings)?.Accessor.GetValue(request) as RepeatedField<ByteString>;

    // The prisoner and the destination of the request.
    private static async Task<(string Prisoner, string Destination)> JourneyOf(
        IMessage request,
        Func<string, MethodDescriptor, IMessage, Task<IMessage>> read
    )
    {
        if (Contract.TextOf(request, "transfer") is not { Length: > 0 } id)
            return (Contract.TextOf(request, "prisoner"), Contract.TextOf(request, "destination"));
        var get = new GetTransferRequest { Transfer = id };
        var transfer = ((GetTransferResponse)await read("consular", Contract.Find("consular", "GetTransfer")!, get)).Transfer;
        return (transfer.Prisoner, request is ConfirmReturnRequest ? transfer.DetainingPower : transfer.Destination);
    }

    // null: it is sealed to others, or is no content of a statement.
    private StatementContent? ContentOf(Statement statement, string @case)
    {
        if (statement.Content is not { Content.IsEmpty: false } content)
            return null;
        try
        {
            return Open<StatementContent>(content, @case, statement.Participant).Message;
        }
        catch (SealException)
        {
            return null;
        }
    }

    // null: he does not accept it, or it is another man's. The commitments show whose statement it is: nobody can make one for this
    // prisoner without the secret that is sealed in it.
    private static ByteString? OpeningOf(Statement statement, StatementContent said, string @case, string prisoner, string destination)
    {
        if (said.WishSecret.Length != WishCommitments.Bytes || !said.AcceptedDestinations.Contains(destination))
            return null;
        var opening = WishCommitments.OpeningOf(@case, prisoner, destination, said.WishSecret.Span);
        return WishCommitments.Matches(statement.Commitments, opening, @case, prisoner, destination) ? opening : null;
    }
}
