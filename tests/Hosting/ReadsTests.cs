using Google.Protobuf;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting.Tests;

/// <summary>Who reads what: records and lists of the service, and its ledger.</summary>
public sealed class ReadsTests(Running running) : IClassFixture<Running>
{
    private const string Nobody = "call_0000000000000000000000000z";

    [Theory]
    [InlineData("kr/mfa")]
    [InlineData("ua/mfa")]
    [InlineData("icrc")]
    public async Task A_party_to_the_case_reads_its_record(string participant)
    {
        var call = (await running.Log()).Call;
        Assert.Equal(call, (await Get(participant, call)).Call.Id);
    }

    [Fact]
    public async Task To_a_stranger_hidden_and_missing_records_look_the_same()
    {
        var call = (await running.Log()).Call;
        var (_, there) = await Running.Refused("NOT_FOUND", () => Get("kr/unification", call));
        var (_, absent) = await Running.Refused("NOT_FOUND", () => Get("kr/unification", Nobody));
        Assert.Equal(absent, there);
        Assert.Empty((await running.Calling("kr/unification").ListCallsAsync(new(), cancellationToken: Running.Cancel)).Calls);
    }

    [Fact]
    public async Task A_hidden_record_and_a_missing_one_take_the_same_reads_however_often_others_read_it()
    {
        var call = (await running.Log()).Call;
        for (var i = 0; i < 3; i++)
        {
            Assert.Equal(2, await Taken("NOT_FOUND", "kr/unification", call));
            Assert.Equal(2, await Taken("NOT_FOUND", "kr/unification", Nobody));
            // The service remembers what others were shown for them alone.
            await Get("kr/mfa", call);
            Assert.Equal(2, await Taken("NOT_FOUND", "kr/mfa", Nobody));
        }

        async Task<long> Taken(string reason, string participant, string id)
        {
            var before = running.Ledger.Finds;
            await Running.Refused(reason, () => Get(participant, id));
            return running.Ledger.Finds - before;
        }
    }

    [Fact]
    public async Task An_entry_takes_the_same_reads_however_many_cases_its_reader_has()
    {
        var position = (await running.Log()).Receipt.Position;
        var before = await Taken();
        for (var i = 1; i <= 5; i++)
            await running.Seed(
                new CaseOpened
                {
                    Case = $"case_0000000000000000000000002{i}",
                    DetainingPower = "KR",
                    Participant = "kr/mfa",
                }
            );
        Assert.Equal(before, await Taken());

        async Task<long> Taken()
        {
            var before = running.Ledger.Finds;
            await Entry("kr/mfa", position);
            return running.Ledger.Finds - before;
        }
    }

    [Fact]
    public async Task A_removed_party_reads_nothing_any_more()
    {
        await running.Seed(
            new PartyAdmitted
            {
                Case = Running.Case,
                Participant = "ua/coordination-hq",
                Part = Part.DetainingPower,
                State = "UA",
            }
        );
        var call = (await running.Log()).Call;
        await Get("ua/coordination-hq", call);
        await running.Seed(new PartyRemoved { Case = Running.Case, Participant = "ua/coordination-hq" });
        await Running.Refused("NOT_FOUND", () => Get("ua/coordination-hq", call));
        Assert.Empty((await running.Calling("ua/coordination-hq").ListCallsAsync(new(), cancellationToken: Running.Cancel)).Calls);
    }

    [Fact]
    public async Task A_list_goes_on_where_it_stopped_while_others_write()
    {
        var made = new List<string>();
        for (var i = 0; i < 5; i++)
            made.Add((await running.Log()).Call);
        var client = running.Calling("ua/mfa");
        var (seen, token) = (new List<string>(), "");
        do
        {
            var page = await client.ListCallsAsync(
                new ListCallsRequest
                {
                    Case = Running.Case,
                    PageSize = 2,
                    PageToken = token,
                },
                cancellationToken: Running.Cancel
            );
            Assert.InRange(page.Calls.Count, 0, 2);
            seen.AddRange(page.Calls.Select(c => c.Call));
            token = page.NextPageToken;
            if (seen.Count == 4)
                made.Add((await running.Log()).Call);
        } while (token.Length > 0);
        Assert.Equal(seen.Distinct(), seen);
        Assert.Equal(made, seen.Where(made.Contains));
    }

    [Fact]
    public async Task A_page_token_is_valid_for_one_caller_and_one_list()
    {
        for (var i = 0; i < 3; i++)
            await running.Log();
        var size = running.Ledger.Size;
        var token = (
            await running
                .Calling("ua/mfa")
                .ListCallsAsync(new ListCallsRequest { Case = Running.Case, PageSize = 1 }, cancellationToken: Running.Cancel)
        ).NextPageToken;
        Assert.NotEmpty(token);
        await Wrong("ua/mfa", new ListCallsRequest { PageToken = token });
        await Wrong("icrc", new ListCallsRequest { Case = Running.Case, PageToken = token });
        await Wrong("ua/mfa", new ListCallsRequest { Case = Running.Case, PageToken = token[1..] });
        await Wrong("ua/mfa", new ListCallsRequest { Case = Running.Case, PageToken = "A" + token[1..^1] + "Z" });
        await Wrong("ua/mfa", new ListCallsRequest { Case = Running.Case, PageToken = "not a token" });
        await Wrong("ua/mfa", new ListCallsRequest { Case = Running.Case, PageToken = new string('A', 600) });
        await running
            .Calling("ua/mfa")
            .ListCallsAsync(
                new ListCallsRequest
                {
                    Case = Running.Case,
                    PageSize = 1,
                    PageToken = token,
                },
                cancellationToken: Running.Cancel
            );
        Assert.Equal(size, running.Ledger.Size);

        async Task Wrong(string participant, ListCallsRequest request)
        {
            var (_, status) = await Running.Refused(
                "REQUEST_INVALID",
                () => running.Calling(participant).ListCallsAsync(request).ResponseAsync
            );
            Assert.Equal(["page_token"], Running.FaultsOf(status));
        }
    }

    [Fact]
    public async Task A_page_token_tells_nothing_of_how_many_records_there_are()
    {
        var tokens = new HashSet<string>();
        for (var i = 0; i < 6; i++)
        {
            await running.Log();
            await running.Log();
            tokens.Add(
                (
                    await running
                        .Calling("ua/mfa")
                        .ListCallsAsync(new ListCallsRequest { Case = Running.Case, PageSize = 1 + i }, cancellationToken: Running.Cancel)
                ).NextPageToken
            );
        }
        Assert.Single(tokens.Select(t => t.Length).Distinct());
        // Tokens of neighbouring records share a byte only by chance: the first 12 bytes are random, the others encrypted.
        var bytes = tokens.Select(t => Convert.FromBase64String(t.Replace('-', '+').Replace('_', '/'))).ToList();
        Assert.All(Enumerable.Range(0, bytes[0].Length), i => Assert.True(bytes.Select(b => b[i]).Distinct().Count() > 1));
        // The same page again gets another token, and both tokens work.
        var again = new ListCallsRequest { Case = Running.Case, PageSize = 1 };
        var one = await running.Calling("ua/mfa").ListCallsAsync(again, cancellationToken: Running.Cancel);
        var two = await running.Calling("ua/mfa").ListCallsAsync(again, cancellationToken: Running.Cancel);
        Assert.NotEqual(one.NextPageToken, two.NextPageToken);
        again.PageToken = one.NextPageToken;
        var after = await running.Calling("ua/mfa").ListCallsAsync(again, cancellationToken: Running.Cancel);
        again.PageToken = two.NextPageToken;
        Assert.Equal(after.Calls, (await running.Calling("ua/mfa").ListCallsAsync(again, cancellationToken: Running.Cancel)).Calls);
    }

    [Fact]
    public async Task An_entry_does_not_tell_others_how_much_its_participant_or_the_service_did()
    {
        await running.Log();
        var position = (await running.Log()).Receipt.Position;
        var (own, shown) = (await Entry("kr/mfa", position), await Entry("ua/mfa", position));
        Assert.Contains(own.Audience, a => a.Audience == Audience.Of("kr/mfa") && a.Number >= 2);
        Assert.Equal([Audience.Case(Running.Case)], shown.Audience.Select(a => a.Audience));
        var e = Assert.Single(Events.Parser.ParseFrom(shown.Parts.Single(p => p.Kind == PartKind.Events).Data).Events_);
        // The message has no other field, known or unknown.
        Assert.Equal(
            new Event
            {
                Type = e.Type,
                Case = e.Case,
                Data = e.Data,
            },
            e
        );
        var header = EntryHeader.Parser.ParseFrom(shown.Header);
        Assert.Equal(
            new EntryHeader
            {
                Position = header.Position,
                CommitTime = header.CommitTime,
                Participant = header.Participant,
                RequestId = header.RequestId,
                Method = header.Method,
                AgreementVersion = header.AgreementVersion,
                Parts = { header.Parts },
                Audience = { header.Audience },
            },
            header
        );
    }

    [Fact]
    public async Task An_entry_shows_its_request_to_every_party_where_nothing_in_it_is_sealed_to_others()
    {
        var request = Running.Request();
        request.Account.Minutes = null;
        var response = await running.Calling("kr/mfa").LogCallAsync(request, cancellationToken: Running.Cancel);
        var position = response.Receipt.Position;
        Assert.Equal(
            [PartKind.Request, PartKind.Events, PartKind.Answer, PartKind.Signature],
            (await Entry("kr/mfa", position)).Parts.Select(p => p.Kind).Order()
        );
        var shown = await Entry("ua/mfa", position);
        Assert.Equal([PartKind.Request, PartKind.Events, PartKind.Signature], shown.Parts.Select(p => p.Kind).Order());
        Assert.Equal(request.ToByteString(), shown.Parts.Single(p => p.Kind == PartKind.Request).Data);

        request = Running.Request();
        request.Account.Minutes = SealedForm.To("ua/mfa");
        SealedForm.In(request, "kr/mfa", Signing.Agreement(running.Folder));
        var @sealed = (await running.Calling("kr/mfa").LogCallAsync(request, cancellationToken: Running.Cancel)).Receipt.Position;
        Assert.Contains(PartKind.Request, (await Entry("ua/mfa", @sealed)).Parts.Select(p => p.Kind));
        Assert.Equal([PartKind.Events], (await Entry("icrc", @sealed)).Parts.Select(p => p.Kind));

        await Running.Refused("NOT_FOUND", () => Entry("kr/unification", position));
        await Running.Refused("NOT_FOUND", () => Entry("kr/mfa", 1_000_000));
        await Running.Refused("NOT_GRANTED", () => Entry("operator", position));
        await Running.Refused("NOT_FOUND", () => Entry("service/custody", position));
    }

    [Fact]
    public async Task A_participant_reads_the_entry_of_its_own_request_by_its_id()
    {
        var request = Running.Request();
        var position = (await running.Calling("kr/mfa").LogCallAsync(request, cancellationToken: Running.Cancel)).Receipt.Position;
        var client = new LedgerService.LedgerServiceClient(running.As("kr/mfa"));
        var found = await client.GetEntryAsync(new GetEntryRequest { OwnRequestId = request.RequestId }, cancellationToken: Running.Cancel);
        Assert.Equal(position, EntryHeader.Parser.ParseFrom(found.Entry.Header).Position);
        await Running.Refused(
            "NOT_FOUND",
            () =>
                new LedgerService.LedgerServiceClient(running.As("ua/mfa"))
                    .GetEntryAsync(new GetEntryRequest { OwnRequestId = request.RequestId })
                    .ResponseAsync
        );
        await Running.Refused(
            "REQUEST_INVALID",
            () => client.GetEntryAsync(new GetEntryRequest { Position = position, OwnRequestId = request.RequestId }).ResponseAsync
        );
    }

    [Fact]
    public async Task Each_reader_is_shown_his_own_audiences_numbers_and_a_missing_one_is_noticed()
    {
        for (var i = 0; i < 3; i++)
            await running.Log();
        var seen = new List<(EntryHeader Header, Entry Entry)>();
        using var call = new LedgerService.LedgerServiceClient(running.As("ua/mfa")).FollowEntries(
            new FollowEntriesRequest { UntilNow = true },
            cancellationToken: Running.Cancel
        );
        await foreach (var response in call.ResponseStream.ReadAllAsync(Running.Cancel))
            if (response.Entry is { } entry)
                seen.Add((EntryHeader.Parser.ParseFrom(entry.Header), entry));
        Assert.All(
            seen.SelectMany(s => s.Entry.Audience),
            a =>
                Assert.True(
                    a.Audience == Audience.Everybody || a.Audience == Audience.Of("ua/mfa") || Audience.IsOf(a.Audience, Running.Case)
                )
        );

        var whole = new Completeness(fromStart: true);
        Assert.All(seen, s => Assert.Null(whole.Take(s.Header, s.Entry.Audience)));
        var left = seen.FindLastIndex(s => s.Entry.Audience.Any(a => a.Audience == Audience.Case(Running.Case))) - 1;
        var gap = new Completeness(fromStart: true);
        var complaints = seen.Where((_, i) => i != left).Select(s => gap.Take(s.Header, s.Entry.Audience)).OfType<string>().ToList();
        Assert.Contains(
            $"an entry between {seen[left - 1].Header.Position} and {seen[left + 1].Header.Position} was left out",
            Assert.Single(complaints)
        );
        // Each of its own requests, refused or not, has a number that nobody else is shown.
        var own = new Completeness(fromStart: false);
        Assert.Null(own.Take(Own(4).Header, Own(4).Numbers));
        Assert.Null(own.Take(Own(5).Header, Own(5).Numbers));
        Assert.Contains("number 6 of what p:ua/mfa may see is missing", own.Take(Own(7).Header, Own(7).Numbers));
        Assert.Contains("number 1 of what p:ua/mfa may see", new Completeness(fromStart: true).Take(Own(4).Header, Own(4).Numbers));
        seen[left].Entry.Audience[0].Number++;
        Assert.Contains("does not commit", new Completeness(false).Take(seen[left].Header, seen[left].Entry.Audience));

        static (EntryHeader Header, AudienceNumber[] Numbers) Own(ulong number)
        {
            var own = new AudienceNumber { Audience = Audience.Of("ua/mfa"), Number = number };
            return (new() { Participant = "ua/mfa", Audience = { Digests.OfAudience(own) } }, [own]);
        }
    }

    [Fact]
    public async Task A_followed_ledger_resumes_without_loss_or_repeat()
    {
        var client = new LedgerService.LedgerServiceClient(running.As("ua/mfa"));
        var from = running.Ledger.Size;
        var expected = new List<ulong>();
        for (var i = 0; i < 3; i++)
            expected.Add((await running.Log()).Receipt.Position);
        var seen = new List<ulong>();
        using (
            var first = client.FollowEntries(
                new FollowEntriesRequest { FromPosition = from, Case = Running.Case },
                cancellationToken: Running.Cancel
            )
        )
            while (seen.Count < 2)
            {
                Assert.True(await first.ResponseStream.MoveNext(Running.Cancel));
                Note(first.ResponseStream.Current);
            }
        using var second = client.FollowEntries(new FollowEntriesRequest { FromPosition = from }, cancellationToken: Running.Cancel);
        var next = second.ResponseStream.MoveNext(Running.Cancel);
        var late = running.Log("kr/mfa");
        while (seen.Count < 4)
        {
            Assert.True(await next);
            Note(second.ResponseStream.Current);
            next = second.ResponseStream.MoveNext(Running.Cancel);
        }
        expected.Add((await late).Receipt.Position);
        Assert.Equal(expected, seen);

        void Note(FollowEntriesResponse response)
        {
            from = response.NextPosition;
            if (response.Entry is { } entry)
                seen.Add(EntryHeader.Parser.ParseFrom(entry.Header).Position);
        }
    }

    [Fact]
    public async Task A_followed_ledger_shows_a_stranger_the_agreement_and_how_far_it_came_and_nothing_else()
    {
        await running.Log();
        var client = new LedgerService.LedgerServiceClient(running.As("kr/unification"));
        using var call = client.FollowEntries(new FollowEntriesRequest { UntilNow = true }, cancellationToken: Running.Cancel);
        var responses = await call.ResponseStream.ReadAllAsync(Running.Cancel).ToListAsync(Running.Cancel);
        var entry = Assert.Single(responses, r => r.Entry is not null).Entry;
        Assert.Equal("agreement", EntryHeader.Parser.ParseFrom(entry.Header).Method);
        Assert.Equal(running.Ledger.Size, responses[^1].NextPosition);
    }

    [Fact]
    public async Task Proofs_lead_to_the_checkpoint_and_wrong_trees_are_refused()
    {
        var receipt = (await running.Log()).Receipt;
        var client = new LedgerService.LedgerServiceClient(running.As("icrc"));
        var checkpoint = await client.GetCheckpointAsync(new(), cancellationToken: Running.Cancel);
        Assert.True(checkpoint.TreeSize > receipt.Position);
        var proof = await client.GetInclusionProofAsync(
            new() { Position = receipt.Position, TreeSize = receipt.TreeSize },
            cancellationToken: Running.Cancel
        );
        Assert.Equal((receipt.RootHash, receipt.InclusionProof), (proof.RootHash, proof.Proof));
        await client.GetConsistencyProofAsync(new() { FromSize = 1, ToSize = receipt.TreeSize }, cancellationToken: Running.Cancel);
        await Running.Refused("REQUEST_INVALID", () => client.GetInclusionProofAsync(new() { Position = 5, TreeSize = 5 }).ResponseAsync);
        await Running.Refused("NOT_FOUND", () => client.GetInclusionProofAsync(new() { Position = 1_000_000 }).ResponseAsync);
        await Running.Refused("REQUEST_INVALID", () => client.GetConsistencyProofAsync(new() { FromSize = 0 }).ResponseAsync);
        await Running.Refused(
            "REQUEST_INVALID",
            () => client.GetConsistencyProofAsync(new() { FromSize = 1, ToSize = 1_000_000 }).ResponseAsync
        );
    }

    [Fact]
    public async Task Events_are_listed_for_services_alone()
    {
        await running.Log();
        var request = new ListEventsRequest { After = { new EventCursor { Type = CallLogged.Descriptor.FullName } } };
        var events = (
            await new LedgerService.LedgerServiceClient(running.As("service/consular")).ListEventsAsync(
                request,
                cancellationToken: Running.Cancel
            )
        ).Events;
        Assert.NotEmpty(events);
        Assert.Equal(Enumerable.Range(1, events.Count).Select(i => (ulong)i), events.Select(e => e.Origin.Sequence));
        await Running.Refused(
            "NOT_GRANTED",
            () => new LedgerService.LedgerServiceClient(running.As("ua/mfa")).ListEventsAsync(request).ResponseAsync
        );
    }

    private Task<GetCallResponse> Get(string participant, string call) =>
        running.Calling(participant).GetCallAsync(new GetCallRequest { Call = call }, cancellationToken: Running.Cancel).ResponseAsync;

    private async Task<Entry> Entry(string participant, ulong position) =>
        (
            await new LedgerService.LedgerServiceClient(running.As(participant)).GetEntryAsync(
                new GetEntryRequest { Position = position },
                cancellationToken: Running.Cancel
            )
        ).Entry;
}
