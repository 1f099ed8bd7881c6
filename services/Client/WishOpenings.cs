using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Sealing;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Client;

/// <content>What shows that a prisoner accepts a destination.</content>
public sealed partial class MinistryClient
{
    // As many as a decision may hold (DecideTransferRequest.openings).
    private const int MostOpenings = 16;

    /// <summary>Adds to the decision to agree what shows that the prisoner accepts the destination, and nothing else of what he said (D9): the
    /// openings of the statements that the participant can open and in which he accepts it, the latest 16. Every side of the transfer sees
    /// them with the decision. It changes nothing where the decision does not agree or has openings already, and for a release where he is
    /// held, which needs none. Add them before officials approve.</summary>
    /// <param name="decision">The decision; it names the transfer.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="RefusedException">The transfer, the prisoner or his statements cannot be read.</exception>
    public Task AddOpenings(DecideTransferRequest decision, CancellationToken cancel = default) =>
        AddOpenings(decision, (service, method, get) => Call(service, method, get, cancel));

    /// <summary>As the other, for who reads records in a way of his own.</summary>
    /// <param name="decision">The decision.</param>
    /// <param name="read">Reads: the service's name, the method and its request.</param>
    internal async Task AddOpenings(DecideTransferRequest decision, Func<string, MethodDescriptor, IMessage, Task<IMessage>> read)
    {
        if (!decision.Agreed || decision.Openings.Count > 0)
            return;
        var transfer = (
            await Read<GetTransferResponse>("consular", "GetTransfer", new GetTransferRequest { Transfer = decision.Transfer })
        ).Transfer;
        var get = new GetPrisonerRequest { Case = transfer.Case, Prisoner = transfer.Prisoner };
        var prisoner = (await Read<GetPrisonerResponse>("custody", "GetPrisoner", get)).Prisoner;
        if (transfer.Route == Route.Release && transfer.Destination == prisoner.DetainingPower)
            return;
        var said = new List<Statement>();
        // What stands under another reference of the same person counts as his too.
        foreach (var reference in prisoner.Duplicates.Prepend(transfer.Prisoner))
        {
            var list = new ListStatementsRequest
            {
                Case = transfer.Case,
                Prisoner = reference,
                PageSize = 200,
            };
            do
            {
                var page = await Read<ListStatementsResponse>("custody", "ListStatements", list);
                said.AddRange(page.Statements);
                list.PageToken = page.NextPageToken;
            } while (list.PageToken.Length > 0);
        }
        decision.Openings.Add(
            said.Where(s => s.State != StatementState.Corrected)
                .OrderByDescending(s => s.Position)
                .Select(s => OpeningOf(s, transfer.Destination))
                .OfType<ByteString>()
                .Distinct()
                .Take(MostOpenings)
        );

        async Task<T> Read<T>(string service, string method, IMessage request)
            where T : IMessage => (T)await read(service, Contract.Find(service, method)!, request);
    }

    // null: he does not accept it, or the statement is sealed to others.
    private ByteString? OpeningOf(Statement statement, string destination)
    {
        if (statement.Content is not { Content.IsEmpty: false } content)
            return null;
        try
        {
            var said = Open<StatementContent>(content, statement.Case, statement.Participant).Message;
            return said.AcceptedDestinations.Contains(destination)
                ? WishCommitments.OpeningOf(statement.Case, statement.Prisoner, destination, said.WishSecret.Span)
                : null;
        }
        catch (SealException)
        {
            return null;
        }
    }
}
