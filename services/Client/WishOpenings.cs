using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Sealing;

namespace Ministries.Client;

/// <summary>Whose wish a decision is to show, and for which destination.</summary>
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
    // As many as a decision may hold (DecideTransferRequest.openings).
    private const int MostOpenings = 16;

    /// <summary>Adds to the decision to agree what shows that the prisoner accepts the destination, and nothing else of what he said (D9): the
    /// openings of the statements that the participant can open and in which he accepts it, the latest 16. Every side of the transfer sees
    /// them with the decision. It changes nothing if the decision does not agree, has openings already, or is approved.</summary>
    /// <remarks>The caller names the prisoner and the destination. If a service could name them, it could ask for the wish of
    /// anybody.</remarks>
    /// <param name="decision">The decision; it names case and transfer.</param>
    /// <param name="destination">The destination (ISO 3166-1 alpha-2).</param>
    /// <param name="prisoners">The references under which he made his statements: one, or several where records of the same person are
    /// linked.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="ArgumentException">The transfer is of another prisoner, or to another destination.</exception>
    /// <exception cref="RefusedException">The transfer or the statements cannot be read.</exception>
    /// <exception cref="InvalidDataException">The service's list of statements does not end.</exception>
    public Task AddOpenings(
        DecideTransferRequest decision,
        string destination,
        IReadOnlyCollection<string> prisoners,
        CancellationToken cancel = default
    ) => AddOpenings(decision, new(destination, prisoners), (service, method, get) => Call(service, method, get, cancel));

    /// <summary>As the other, for who reads records in a way of his own.</summary>
    /// <param name="decision">The decision.</param>
    /// <param name="wish">What is shown.</param>
    /// <param name="read">Reads: the service's name, the method and its request.</param>
    internal async Task AddOpenings(
        DecideTransferRequest decision,
        WishToShow wish,
        Func<string, MethodDescriptor, IMessage, Task<IMessage>> read
    )
    {
        if (!decision.Agreed || decision.Openings.Count > 0 || decision.Approvals.Count > 0)
            return;
        var get = new GetTransferRequest { Transfer = decision.Transfer };
        var transfer = ((GetTransferResponse)await read("consular", Contract.Find("consular", "GetTransfer")!, get)).Transfer;
        if (transfer.Destination != wish.Destination || !wish.Prisoners.Contains(transfer.Prisoner))
            throw new ArgumentException("the transfer is of another prisoner, or to another destination, than what is to be opened");
        var (list, openings) = (Contract.Find("custody", "ListStatements")!, new List<(ulong Position, ByteString Opening)>());
        foreach (var prisoner in wish.Prisoners)
        {
            var request = new ListStatementsRequest
            {
                Case = decision.Case,
                Prisoner = prisoner,
                PageSize = 200,
            };
            foreach (var said in (await Pages.Read(list, request, r => read("custody", list, r))).Cast<Statement>())
                if (said.State != StatementState.Corrected && OpeningOf(said, decision.Case, prisoner, wish.Destination) is { } opening)
                    openings.Add((said.Position, opening));
        }
        decision.Openings.Add(openings.OrderByDescending(o => o.Position).Select(o => o.Opening).Distinct().Take(MostOpenings));
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
