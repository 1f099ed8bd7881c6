using Google.Protobuf;
using Google.Protobuf.Collections;
using Google.Protobuf.Reflection;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Sealing;

namespace Ministries.Client;

/// <summary>Whose wish a request is to show, and for which destination.</summary>
/// <param name="Destination">The destination (ISO 3166-1 alpha-2).</param>
/// <param name="Prisoners">The references under which he made his statements: one, or several where the custody service has linked records of
/// the same person.</param>
internal sealed record WishToShow(string Destination, IReadOnlyCollection<string> Prisoners)
{
    /// <summary>Reads it as people write it, such as <c>pris_…=KR</c> for each reference.</summary>
    /// <exception cref="FormatException">It has another form, or names two destinations.</exception>
    public static WishToShow? Read(IReadOnlyCollection<string> texts)
    {
        if (texts.Count == 0)
            return null;
        var pairs = texts.Select(t => t.Split('=')).ToList();
        return pairs.All(p => p is [{ Length: > 0 }, { Length: 2 }]) && pairs.Select(p => p[1]).Distinct().ToArray() is [var destination]
            ? new(destination, [.. pairs.Select(p => p[0])])
            : throw new FormatException("what is opened must be a prisoner and one destination, such as pris_…=KR");
    }
}

/// <content>What shows that a prisoner accepts a destination.</content>
public sealed partial class MinistryClient
{
    // As many as a request may hold (DecideTransferRequest.openings).
    private const int MostOpenings = 16;

    /// <summary>Adds to a request what shows that the prisoner accepts the destination, and nothing else of what he said (D9): the openings of the
    /// statements that the participant can open and in which he accepts it, the latest 16. Every side of the transfer sees them. The
    /// request is that of <c>DecideTransfer</c>, <c>ResumeTransfer</c>, <c>ConfirmReturn</c> or <c>RecordStatus</c>. Nothing is added to
    /// a decision that does not agree, and to a request that has openings already or is approved.</summary>
    /// <remarks>The caller names the prisoner and the destination. If a service could name them, it could ask for the wish of
    /// anybody.</remarks>
    /// <param name="request">The request; it names the case, and the transfer or the prisoner.</param>
    /// <param name="destination">The destination (ISO 3166-1 alpha-2); of a return, the power that takes him back.</param>
    /// <param name="prisoners">The references under which he made his statements: one, or several where records of the same person are
    /// linked.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="ArgumentException">The request is about another prisoner or another destination, or it takes no openings.</exception>
    /// <exception cref="RefusedException">The transfer or the statements cannot be read.</exception>
    /// <exception cref="InvalidDataException">The service's list of statements does not end.</exception>
    public Task AddOpenings(
        IMessage request,
        string destination,
        IReadOnlyCollection<string> prisoners,
        CancellationToken cancel = default
    ) => AddOpenings(request, new(destination, prisoners), (service, method, get) => Call(service, method, get, cancel));

    /// <summary>As the other, for who reads records in a way of his own.</summary>
    /// <param name="request">The request.</param>
    /// <param name="wish">What is shown.</param>
    /// <param name="read">Reads: the service's name, the method and its request.</param>
    internal async Task AddOpenings(IMessage request, WishToShow wish, Func<string, MethodDescriptor, IMessage, Task<IMessage>> read)
    {
        if (!TakesOpenings(request.Descriptor))
            throw new ArgumentException($"a {request.Descriptor.Name} takes no openings", nameof(request));
        var openings = (RepeatedField<ByteString>)request.Descriptor.FindFieldByName(Openings).Accessor.GetValue(request);
        var approved =
            request.Descriptor.FindFieldByName("approvals").Accessor.GetValue(request) is System.Collections.IList { Count: > 0 };
        if (openings.Count > 0 || approved || request is DecideTransferRequest { Agreed: false })
            return;
        var (about, to) = await JourneyOf(request, read);
        if (to != wish.Destination || !wish.Prisoners.Contains(about))
            throw new ArgumentException("the request is about another prisoner, or another destination, than what is to be opened");
        var (list, @case) = (Contract.Find("custody", "ListStatements")!, Contract.TextOf(request, "case"));
        var found = new List<(ulong Position, ByteString Opening)>();
        foreach (var prisoner in wish.Prisoners)
        {
            var statements = new ListStatementsRequest
            {
                Case = @case,
                Prisoner = prisoner,
                PageSize = 200,
            };
            foreach (var said in (await Pages.Read(list, statements, r => read("custody", list, r))).Cast<Statement>())
                if (said.State != StatementState.Corrected && OpeningOf(said, @case, prisoner, wish.Destination) is { } opening)
                    found.Add((said.Position, opening));
        }
        openings.Add(found.OrderByDescending(o => o.Position).Select(o => o.Opening).Distinct().Take(MostOpenings));
    }

    private const string Openings = "openings";

    /// <summary>Whether a request has openings that <see cref="AddOpenings(IMessage, WishToShow, Func{string, MethodDescriptor, IMessage, Task{IMessage}})"/>
    /// can add.</summary>
    internal static bool TakesOpenings(MessageDescriptor request) =>
        request.FindFieldByName(Openings) is not null && request.FindFieldByName("approvals") is not null;

    // Who is to go where, by the request.
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

    // null: he does not accept it, or the statement is sealed to others. The commitments show whose statement it is: nobody can make one for
    // this prisoner without the secret that is sealed in it.
    private ByteString? OpeningOf(Statement statement, string @case, string prisoner, string destination)
    {
        if (statement.Content is not { Content.IsEmpty: false } content)
            return null;
        try
        {
            var said = Open<StatementContent>(content, @case, statement.Participant).Message;
            if (said.WishSecret.Length != WishCommitments.Bytes)
                return null;
            var opening = WishCommitments.OpeningOf(@case, prisoner, destination, said.WishSecret.Span);
            return
                said.AcceptedDestinations.Contains(destination)
                && WishCommitments.Matches(statement.Commitments, opening, @case, prisoner, destination)
                ? opening
                : null;
        }
        catch (SealException)
        {
            return null;
        }
    }
}
