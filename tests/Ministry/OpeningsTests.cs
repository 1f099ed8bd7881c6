using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Types.V1;

namespace Ministries.Ministry.Tests;

/// <summary>What a decision shows of a prisoner's wish is for the caller to say. Services that lie learn nothing more.</summary>
public sealed class OpeningsTests(Services services) : IClassFixture<Services>
{
    private const string Other = "pris_00000000000000000000000009";

    private static readonly byte[] Secret = [.. Enumerable.Range(0, WishCommitments.Bytes).Select(i => (byte)i)];

    private sealed record Lie(Action<Statement> Tell, int Openings);

    // He accepts KR and CH. The other man's statement is sealed to the caller as well.
    private static readonly Dictionary<string, Lie> Lies = new()
    {
        ["none"] = new(_ => { }, 1),
        ["it is another man's, under his name"] = new(s => s.Commitments.Clear(), 0),
        ["it is another man's, with that man's commitments"] = new(
            s =>
            {
                s.Commitments.Clear();
                s.Commitments.Add(WishCommitments.Make(s.Case, Other, ["KR", "CH"], Secret));
            },
            0
        ),
        ["it is of another case"] = new(s => s.Case = "case_00000000000000000000000009", 1),
        ["it is of another sender"] = new(s => s.Participant = "ua/mfa", 0),
        ["it is corrected"] = new(s => s.State = StatementState.Corrected, 0),
        ["its content is withheld"] = new(s => s.Content = new Sealed(), 0),
    };

    public static TheoryData<string> Cases { get; } = [.. Lies.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task A_statement_is_opened_only_as_what_its_commitments_show_it_to_be(string lie)
    {
        var decision = Decision();
        await services
            .As("ua/coordination-hq")
            .AddOpenings(decision, new("KR", [services.Prisoners[0]]), Reading(s => Lies[lie].Tell(s), transfer => { }));
        Assert.Equal(Lies[lie].Openings, decision.Openings.Count);
        Assert.All(decision.Openings, o => Assert.Equal(WishCommitments.OpeningOf(services.Case, services.Prisoners[0], "KR", Secret), o));
    }

    [Fact]
    public async Task No_service_chooses_whose_wish_is_shown_or_for_which_destination()
    {
        foreach (var tell in (Action<Transfer>[])[t => t.Destination = "CH", t => t.Prisoner = Other])
        {
            var decision = Decision();
            await Assert.ThrowsAsync<ArgumentException>(() =>
                services.As("ua/coordination-hq").AddOpenings(decision, new("KR", [services.Prisoners[0]]), Reading(_ => { }, tell))
            );
            Assert.Empty(decision.Openings);
        }
    }

    [Fact]
    public async Task Each_request_that_shows_a_wish_gets_the_openings_for_where_he_is_to_go()
    {
        const string transfer = "transfer_00000000000000000000000001";
        var prisoner = services.Prisoners[0];
        IMessage[] requests =
        [
            Decision(),
            new ResumeTransferRequest { Case = services.Case, Transfer = transfer },
            // He goes back to the power that detained him, and not to where the transfer led.
            new ConfirmReturnRequest { Case = services.Case, Transfer = transfer },
            new RecordStatusRequest
            {
                Case = services.Case,
                Prisoner = prisoner,
                Status = CustodyState.Released,
                Destination = "KR",
            },
        ];
        Assert.Equal(
            requests.Select(r => r.Descriptor.Name).Order(),
            Methods
                .All.Where(m => Contract.IsWrite(m) && m.InputType.FindFieldByName("openings") is not null)
                .Select(m => m.InputType.Name)
                .Order()
        );
        foreach (var request in requests)
        {
            await services
                .As("ua/coordination-hq")
                .AddOpenings(
                    request,
                    new("KR", [prisoner]),
                    Reading(
                        _ => { },
                        t => (t.Destination, t.DetainingPower) = request is ConfirmReturnRequest ? ("CH", "KR") : ("KR", "UA")
                    )
                );
            var openings = (IEnumerable<ByteString>)request.Descriptor.FindFieldByName("openings").Accessor.GetValue(request);
            Assert.Equal([WishCommitments.OpeningOf(services.Case, prisoner, "KR", Secret)], openings);
        }
        await Assert.ThrowsAsync<ArgumentException>(() =>
            services.As("ua/coordination-hq").AddOpenings(new SuspendTransferRequest(), new("KR", [prisoner]), Reading(_ => { }, _ => { }))
        );
    }

    [Fact]
    public async Task A_request_that_moves_nobody_shows_no_wish()
    {
        IMessage[] requests =
        [
            new DecideTransferRequest { Case = services.Case, Transfer = "transfer_00000000000000000000000001" },
            new RecordStatusRequest
            {
                Case = services.Case,
                Prisoner = services.Prisoners[0],
                Status = CustodyState.Died,
                Destination = "KR",
            },
        ];
        foreach (var request in requests)
        {
            var before = request.ToByteString();
            await services.As("ua/coordination-hq").AddOpenings(request, new("KR", [services.Prisoners[0]]), Reading(_ => { }, _ => { }));
            Assert.Equal(before, request.ToByteString());
        }
    }

    [Theory]
    [InlineData(2, 1, 0)]
    [InlineData(1, 2, 1)]
    public async Task What_he_said_before_he_said_something_else_is_not_shown(int objected, int accepted, int openings)
    {
        var decision = Decision();
        await services
            .As("ua/coordination-hq")
            .AddOpenings(
                decision,
                new("KR", [services.Prisoners[0]]),
                Reading(
                    s => s.StatementTime = new() { Seconds = accepted },
                    _ => { },
                    Said(["CH"], s => s.StatementTime = new() { Seconds = objected })
                )
            );
        Assert.Equal(openings, decision.Openings.Count);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_further_reference_must_be_linked_by_the_custody_service_too(bool linked)
    {
        var decision = Decision();
        var wish = new WishToShow("KR", [services.Prisoners[0], Other]);
        Task Add() =>
            services.As("ua/coordination-hq").AddOpenings(decision, wish, Reading(_ => { }, _ => { }, duplicates: linked ? [Other] : []));
        if (linked)
            await Add();
        else
            await Assert.ThrowsAsync<ArgumentException>(Add);
        Assert.Equal(linked ? 1 : 0, decision.Openings.Count);
    }

    [Fact]
    public async Task A_list_that_never_ends_is_read_to_a_limit()
    {
        var pages = 0;
        var honest = Reading(_ => { }, _ => { });
        var decision = Decision();
        var told = await Assert.ThrowsAsync<InvalidDataException>(() =>
            services
                .As("ua/coordination-hq")
                .AddOpenings(
                    decision,
                    new("KR", [services.Prisoners[0]]),
                    async (service, method, request) =>
                    {
                        var answer = await honest(service, method, request);
                        return answer is ListStatementsResponse ? new ListStatementsResponse { NextPageToken = $"{++pages}" } : answer;
                    }
                )
        );
        Assert.Equal(Pages.Most, pages);
        Assert.Contains("does not end", told.Message);
        Assert.Empty(decision.Openings);
    }

    private DecideTransferRequest Decision() =>
        new()
        {
            Case = services.Case,
            Transfer = "transfer_00000000000000000000000001",
            Agreed = true,
        };

    // A statement about where he would go.
    private Statement Said(IEnumerable<string> accepts, Action<Statement> but)
    {
        var request = new RecordStatementRequest { Case = services.Case, Prisoner = services.Prisoners[0] };
        var wish = new StatementContent { AcceptedDestinations = { accepts }, WishSecret = ByteString.CopyFrom(Secret) };
        services.As("icrc").Seal(request, wish, ["icrc", "ua/coordination-hq"]);
        var said = new Statement
        {
            Case = services.Case,
            Prisoner = services.Prisoners[0],
            Participant = "icrc",
            Content = request.Content,
            Commitments = { WishCommitments.Make(services.Case, services.Prisoners[0], wish.AcceptedDestinations, Secret) },
        };
        but(said);
        return said;
    }

    // What the services answer, changed.
    private Func<string, MethodDescriptor, IMessage, Task<IMessage>> Reading(
        Action<Statement> statement,
        Action<Transfer> transfer,
        Statement? further = null,
        IReadOnlyList<string>? duplicates = null
    )
    {
        var said = Said(["KR", "CH"], statement);
        var asked = new Transfer
        {
            Case = services.Case,
            Prisoner = services.Prisoners[0],
            Destination = "KR",
        };
        transfer(asked);
        return (_, method, request) =>
            Task.FromResult<IMessage>(
                (method.Name, request) switch
                {
                    ("GetTransfer", _) => new GetTransferResponse { Transfer = asked },
                    ("GetPrisoner", _) => new GetPrisonerResponse { Prisoner = new Prisoner { Duplicates = { duplicates ?? [] } } },
                    (_, ListStatementsRequest { Prisoner: Other }) => new ListStatementsResponse(),
                    _ when further is null => new ListStatementsResponse { Statements = { said } },
                    _ => new ListStatementsResponse { Statements = { said, further } },
                }
            );
    }
}
