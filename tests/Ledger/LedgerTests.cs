using System.Collections.Concurrent;
using System.Diagnostics;
using Google.Protobuf;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using static Ministries.Ledger.Tests.Counting;

namespace Ministries.Ledger.Tests;

public sealed class SqliteLedgerTests : LedgerTests
{
    protected override Engine Engine { get; } = new Sqlite();
}

public sealed class PostgresLedgerTests : LedgerTests
{
    protected override Engine Engine { get; } = new PostgreSql();
}

/// <summary>What is true of a ledger, whichever database holds it.</summary>
public abstract class LedgerTests
{
    protected abstract Engine Engine { get; }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private async Task<ServiceLedger> Open() => await ServiceLedger.Open(Options(await Engine.Create()), Cancel);

    /// <summary>Runs commands in one batch: the first one holds the committer until all wait.</summary>
    internal static async Task<Task<Outcome>[]> Together(ServiceLedger ledger, params IReadOnlyList<Command> commands)
    {
        using var go = new ManualResetEventSlim();
        using var held = new ManualResetEventSlim();
        var first = ledger.Commit(
            Add(
                "holder",
                Guid.NewGuid().ToString(),
                "holder",
                before: () =>
                {
                    held.Set();
                    go.Wait();
                }
            ),
            Cancel
        );
        held.Wait(Cancel);
        var running = commands.Select(c => ledger.Commit(c, Cancel)).ToArray();
        go.Set();
        await first;
        await Task.WhenAll(running).ContinueWith(_ => { }, TaskScheduler.Default);
        return running;
    }

    internal static async Task<List<StoredEntry>> ReadAll(ServiceLedger ledger)
    {
        var entries = new List<StoredEntry>();
        for (
            var page = await ledger.ReadEntries(0, null, null, 100, Cancel);
            ;
            page = await ledger.ReadEntries(page.Next, null, null, 100, Cancel)
        )
        {
            entries.AddRange(page.Entries);
            if (page.Complete)
                return entries;
        }
    }

    /// <summary>Whether entries, numbers, digests and the tree agree.</summary>
    internal static async Task Audit(ServiceLedger ledger)
    {
        var entries = await ReadAll(ledger);
        var checkpoint = Key.Verify((await ledger.ReadCheckpoint(Cancel)).Text)!;
        Assert.Equal((ulong)entries.Count, checkpoint.Size);
        var tree = new TreeEdge(0, []);
        var types = new Dictionary<string, List<ulong>>();
        var audiences = new Dictionary<string, ulong>();
        var time = DateTimeOffset.MinValue;
        foreach (var (index, entry) in entries.Index())
        {
            var header = entry.HeaderOf();
            Assert.Equal((ulong)index, entry.Position);
            Assert.Equal((ulong)index, header.Position);
            tree.Add(TreeHash.Leaf(entry.Entry.Header.Span), []);
            if (header.Method == Cover.Method)
            {
                AuditCover(entry, header);
                continue;
            }
            Assert.Contains(entry.Entry.Audience, a => a.Audience == Audience.Of(header.Participant));
            Assert.True(header.CommitTime.ToDateTimeOffset() >= time);
            time = header.CommitTime.ToDateTimeOffset();
            // Parts are read in the order of their kinds; the header commits to them in the order in which they were made.
            var digests = header.Parts.OrderBy(p => p.Kind).ToList();
            Assert.Equal(digests.Select(p => p.Kind), entry.Entry.Parts.Select(p => p.Kind));
            foreach (var (part, digest) in entry.Entry.Parts.Zip(digests))
                if (!part.Erased)
                    Assert.Equal(digest.Digest.ToByteArray(), Digests.OfPart(part.Salt.Span, part.Data.Span));
            Assert.Equal(header.Audience.Order(Digests.Order), entry.Entry.Audience.Select(Digests.OfAudience).Order(Digests.Order));
            foreach (var number in entry.Entry.Audience)
                Assert.Equal(audiences[number.Audience] = audiences.GetValueOrDefault(number.Audience) + 1, number.Number);
            foreach (var e in Events.Parser.ParseFrom(entry.Entry.Parts.Single(p => p.Kind == PartKind.Events).Data).Events_)
                if (e.Type.StartsWith("ministries.custody.v1.", StringComparison.Ordinal))
                    types.TryAdd(e.Type, []);
        }
        Assert.Equal(checkpoint.Root, tree.TakeView().Root());
        // Consumers' numbers: of all events, and of those of each type.
        var published = 0ul;
        for (var page = await ledger.EventsAfter(0, 1000, Cancel); page.Count > 0; page = await ledger.EventsAfter(published, 1000, Cancel))
            foreach (var recorded in page)
            {
                Assert.Equal(++published, recorded.Number);
                types[recorded.Event.Event.Type].Add(recorded.Event.Origin.Sequence);
            }
        Assert.Equal(await ledger.CountEvents(Cancel), published);
        Assert.All(types.Values, numbers => Assert.Equal(Enumerable.Range(1, numbers.Count).Select(n => (ulong)n), numbers));
    }

    // It is in nobody's audience, and there is nothing of it but its header.
    private static void AuditCover(StoredEntry entry, EntryHeader header)
    {
        Assert.Equal(("service/custody", "service/custody", ""), (header.Participant, entry.Participant, entry.Entry.Case));
        Assert.Empty(entry.Entry.Audience);
        Assert.Empty(header.Audience);
        Assert.Equal(32, Assert.Single(header.Parts).Digest.Length);
        Assert.Equal((PartKind.Request, true), (Assert.Single(entry.Entry.Parts).Kind, entry.Entry.Parts[0].Erased));
    }

    internal static void CheckReceipt(Receipt receipt)
    {
        var checkpoint = Key.Verify(receipt.Checkpoint)!;
        Assert.Equal(checkpoint.Size, receipt.TreeSize);
        Assert.Equal(checkpoint.Root, receipt.RootHash.ToByteArray());
        var leaf = System.Security.Cryptography.SHA256.HashData([0, .. receipt.EntryHash.Span]);
        Assert.True(
            Proofs.Includes(
                leaf,
                receipt.Position,
                receipt.TreeSize,
                receipt.RootHash.Span,
                [.. receipt.InclusionProof.Select(h => h.ToByteArray())]
            )
        );
        // It shows its entry.
        Assert.Equal(System.Security.Cryptography.SHA256.HashData(receipt.Header.Span), receipt.EntryHash.ToByteArray());
        var header = EntryHeader.Parser.ParseFrom(receipt.Header);
        Assert.Equal((header.Position, header.CommitTime), (receipt.Position, receipt.CommitTime));
        Assert.Equal(32, receipt.RequestSalt.Length);
        Assert.Equal(
            header.Parts.Single(p => p.Kind == PartKind.Answer).Digest.ToByteArray(),
            Digests.OfPart(receipt.AnswerSalt.Span, receipt.Answer.Span)
        );
    }

    [Fact]
    public async Task Positions_and_numbers_have_no_gaps_under_many_callers()
    {
        await using var ledger = await Open();
        var receipts = new ConcurrentBag<Receipt>();
        await Parallel.ForAsync(
            0,
            16,
            Cancel,
            async (participant, cancel) =>
            {
                for (var i = 0; i < 40; i++)
                {
                    var outcome = await ledger.Commit(Add($"p/{participant}", $"request-{i}", $"c{i % 7}"), cancel);
                    receipts.Add(await ledger.ReceiptOf(outcome, cancel));
                }
            }
        );
        Assert.Equal(Enumerable.Range(0, 640).Select(p => (ulong)p), receipts.Select(r => r.Position).Order());
        foreach (var receipt in receipts)
            CheckReceipt(receipt);
        await Audit(ledger);
        var counters = await ledger.List(Kind, ["all"], null, 0, 100, Cancel);
        Assert.Equal(640UL, counters.Aggregate(0UL, (sum, c) => sum + c.State.Sequence));
        Assert.All(counters, c => Assert.Equal(c.State.Sequence, c.Version));
    }

    [Fact]
    public async Task Two_replicas_on_one_database_lose_and_repeat_nothing()
    {
        var connection = await Engine.Create();
        await using var one = await ServiceLedger.Open(Options(connection), Cancel);
        await using var two = await ServiceLedger.Open(Options(connection), Cancel);
        await Parallel.ForAsync(
            0,
            12,
            Cancel,
            async (caller, cancel) =>
            {
                for (var i = 0; i < 25; i++)
                {
                    var first = caller % 2 == 0 ? one : two;
                    var outcome = await first.Commit(Add($"p/{caller}", $"request-{i}", "shared"), cancel);
                    CheckReceipt(await first.ReceiptOf(outcome, cancel));
                    if (i % 5 != 0)
                        continue;
                    var again = await (first == one ? two : one).Commit(Add($"p/{caller}", $"request-{i}", "shared"), cancel);
                    Assert.True(again.Repeated);
                    Assert.Equal(outcome.Position, again.Position);
                    Assert.Equal(outcome.CountOf(), again.CountOf());
                }
            }
        );
        Assert.Equal(300UL, (await one.Find(Kind, "shared", null, Cancel))!.State.Sequence);
        await Audit(one);
        await Audit(two);
    }

    [Fact]
    public async Task A_repeated_request_gets_its_old_answer_and_changed_content_is_refused_by_name()
    {
        var connection = await Engine.Create();
        var checkpoint = Engine.NewFile("checkpoint");
        Outcome first;
        await using (var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel))
        {
            first = await ledger.Commit(Add("a", "request", "c"), Cancel);
            await ledger.Commit(Add("a", "another", "c"), Cancel);
            var again = await ledger.Commit(Add("a", "request", "c"), Cancel);
            Assert.True(again.Repeated);
            Assert.Equal((first.Position, first.Time, 1UL), (again.Position, again.Time, again.CountOf()));
            var reused = await ledger.Commit(Add("a", "request", "c", content: "other"), Cancel);
            Assert.Equal((Reason.RequestIdReused, null), (reused.Refusal!.Reason, reused.Position));
            Assert.False((await ledger.Commit(Add("b", "request", "c"), Cancel)).Repeated);
        }
        await using (var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel))
        {
            var add = Add("a", "request", "c");
            var found = await ledger.FindAnswer("a", "request", add.Method, add.Bytes, Cancel);
            Assert.Equal((first.Position, 1UL), (found!.Position, found.CountOf()));
            CheckReceipt(await ledger.ReceiptOf(found, Cancel));
            Assert.Equal(
                Reason.RequestIdReused,
                (await ledger.FindAnswer("a", "request", "test/Other", add.Bytes, Cancel))!.Refusal!.Reason
            );
            Assert.Null(await ledger.FindAnswer("a", "unknown", add.Method, add.Bytes, Cancel));
            Assert.Equal(3UL, (await ledger.Find(Kind, "c", null, Cancel))!.State.Sequence);
        }
    }

    [Fact]
    public async Task The_same_request_twice_in_a_batch_is_carried_out_once()
    {
        await using var ledger = await Open();
        var outcomes = await Together(ledger, Add("a", "r", "c"), Add("a", "r", "c"), Add("a", "r", "c", content: "other"));
        Assert.Equal((1UL, false), ((await outcomes[0]).CountOf(), (await outcomes[0]).Repeated));
        Assert.Equal((1UL, true), ((await outcomes[1]).CountOf(), (await outcomes[1]).Repeated));
        Assert.Equal(Reason.RequestIdReused, (await outcomes[2]).Refusal!.Reason);
        await Audit(ledger);
    }

    [Fact]
    public async Task A_refusal_is_an_entry_without_events_and_is_answered_again()
    {
        await using var ledger = await Open();
        var first = await ledger.Commit(Decides("a", "r", (_, _) => Refused), Cancel);
        var again = await ledger.Commit(Decides("a", "r", (_, _) => throw new InvalidOperationException("not asked again")), Cancel);
        Assert.Equal((0UL, Reason.StateNotAllowed, false), (first.Position, first.Refusal!.Reason, first.Repeated));
        Assert.Equal((0UL, Reason.StateNotAllowed, true), (again.Position, again.Refusal!.Reason, again.Repeated));
        Assert.Equal("CLOSED", again.Refusal.Metadata!["state"]);
        CheckReceipt(await ledger.ReceiptOf(again, Cancel));
        Assert.Null(await ledger.ReadEntry(0, new HashSet<string> { Audience.Of("b"), Audience.Everybody }, Cancel));
        Assert.NotNull(await ledger.ReadEntry(0, new HashSet<string> { Audience.Of("a") }, Cancel));
        await Audit(ledger);
    }

    public static TheoryData<Reason> AllReasons => [.. Reasons.All];

    [Theory]
    [MemberData(nameof(AllReasons))]
    public async Task A_corrected_request_is_accepted_under_the_same_request_id_and_all_other_refusals_stand(Reason reason)
    {
        await using var ledger = await Open();
        var first = await ledger.Commit(Decides("a", "r", (_, _) => Decision.Refuse(reason)), Cancel);
        Assert.Equal(reason, first.Refusal!.Reason);
        var mended = await ledger.Commit(Add("a", "r", "counter"), Cancel);
        if (Reasons.AboutOf(reason).Mendable)
        {
            Assert.Equal((null, 0UL, null, 1UL), (first.Position, mended.Position, mended.Refusal, ledger.Size));
            // From then on the accepted answer is repeated, and its request id is taken.
            Assert.True((await ledger.Commit(Add("a", "r", "counter"), Cancel)).Repeated);
            Assert.Equal(
                Reason.RequestIdReused,
                (await ledger.Commit(Decides("a", "r", (_, _) => Decision.Refuse(reason)), Cancel)).Refusal!.Reason
            );
            return;
        }
        Assert.Equal((0UL, Reason.RequestIdReused, 1UL), (first.Position, mended.Refusal!.Reason, ledger.Size));
        var again = await ledger.Commit(Decides("a", "r", (_, _) => throw new InvalidOperationException("not judged again")), Cancel);
        Assert.Equal((0UL, reason, true), (again.Position, again.Refusal!.Reason, again.Repeated));
    }

    [Fact]
    public void Only_refusals_of_form_identity_approvals_and_overload_can_be_corrected() =>
        Assert.All(
            Reasons.All,
            reason =>
                Assert.Equal(
                    Reasons.AboutOf(reason).Code is 3 or 8 or 14 or 16
                        || reason
                            is Reason.ApprovalsMissing
                                or Reason.ApprovalKeyUnknown
                                or Reason.ApprovalNotOfCaller
                                or Reason.ApprovalNotOfOfficial
                                or Reason.ApprovalKeyNotValid
                                or Reason.ApprovalWrong
                                or Reason.RecipientWithoutKey
                                or Reason.SealingKeyUnknown,
                    Reasons.AboutOf(reason).Mendable
                )
        );

    [Fact]
    public async Task A_refusal_that_is_not_stored_can_be_tried_again()
    {
        await using var ledger = await Open();
        var first = await ledger.Commit(Decides("service/x", "e", (_, _) => Refused, storesRefusal: false), Cancel);
        Assert.Equal((null, Reason.StateNotAllowed), (first.Position, first.Refusal!.Reason));
        var again = await ledger.Commit(Decides("service/x", "e", (_, _) => Decision.Accept("", [], [Change("c")])), Cancel);
        Assert.Equal((0UL, null), (again.Position, again.Refusal));
    }

    [Fact]
    public async Task A_later_command_of_a_batch_sees_the_effect_of_an_earlier_one()
    {
        await using var ledger = await Open();
        var outcomes = await Together(ledger, [.. Enumerable.Range(0, 50).Select(i => Add("a", $"r{i}", "c"))]);
        for (var i = 0; i < 50; i++)
            Assert.Equal((ulong)i + 1, (await outcomes[i]).CountOf());
        Assert.Single(outcomes.Select(o => o.Result.Time).Distinct());
        await Audit(ledger);
    }

    [Fact]
    public async Task A_poisoned_command_fails_alone()
    {
        await using var ledger = await Open();
        var outcomes = await Together(
            ledger,
            Add("a", "1", "c"),
            Decides("a", "2", (_, _) => throw new InvalidOperationException("the rule fails")),
            Decides(
                "a",
                "3",
                (_, _) => Decision.Accept("", [], [Change("c")], _ => throw new InvalidOperationException("the answer fails"))
            ),
            Decides("a", "4", (_, _) => Decision.Accept("", [], [new Change(new Custody.V1.CaseClosed(), [Kind.Id("c")])])),
            Decides("a", "5", (_, _) => Decision.Accept("", [], [new Change(Foreign, [new StreamId("unknown", "c")])])),
            Decides("a", "6", (_, _) => Decision.Accept("", [], [Change("c")], after => after.Find(Kind, Guid.NewGuid().ToString())!)),
            Add("a", "7", "c")
        );
        Assert.Equal(1UL, (await outcomes[0]).CountOf());
        for (var i = 1; i <= 5; i++)
            await Assert.ThrowsAsync<CommandFailedException>(() => outcomes[i]);
        Assert.Equal(2UL, (await outcomes[6]).CountOf());
        await Audit(ledger);
    }

    [Fact]
    public async Task A_rule_that_keeps_asking_for_records_fails()
    {
        await using var ledger = await Open();
        await Assert.ThrowsAsync<CommandFailedException>(() =>
            ledger.Commit(
                Decides(
                    "a",
                    "1",
                    (view, _) =>
                    {
                        view.Find(Kind, Guid.NewGuid().ToString());
                        return Decision.Accept("", [], []);
                    }
                ),
                Cancel
            )
        );
    }

    [Fact]
    public async Task A_decision_made_before_the_lock_is_made_again_only_if_a_state_that_it_saw_has_changed()
    {
        await using var ledger = await ServiceLedger.Open(
            Options(await Engine.Create(), Engine.NewFile("checkpoint"), new Clock()),
            Cancel
        );
        await ledger.Commit(Add("a", "0", "seen"), Cancel);
        var (runs, seen) = (new int[4], new ulong[4]);
        Command Sees(int number, string key) =>
            Decides(
                "a",
                $"sees{number}",
                (view, _) =>
                {
                    runs[number]++;
                    seen[number] = view.Find(Kind, key)?.Sequence ?? 0;
                    return Decision.Accept("", [], [Change($"made{number}")]);
                }
            );
        var outcomes = await Together(
            ledger,
            Sees(0, "seen"),
            Sees(1, "absent"),
            Add("a", "1", "seen"),
            Sees(2, "seen"),
            Add("a", "2", "absent"),
            Sees(3, "absent")
        );
        foreach (var outcome in outcomes)
            await outcome;
        Assert.Equal([1, 1, 2, 2], runs);
        Assert.Equal([1UL, 0, 2, 1], seen);
        await Audit(ledger);
    }

    [Fact]
    public async Task Rules_that_ask_for_one_record_after_another_are_run_until_they_have_them()
    {
        await using var ledger = await Open();
        for (var i = 0; i < 5; i++)
            await ledger.Commit(Add("a", $"r{i}", $"link{i}"), Cancel);
        await using var reopened = await ServiceLedger.Open(Options(await Engine.Create()), Cancel);
        var outcome = await ledger.Commit(
            Decides(
                "a",
                "chain",
                (view, _) =>
                {
                    for (var i = 0; i < 5; i++)
                        if (view.Find(Kind, $"link{i}") is null)
                            return Refused;
                    return Decision.Accept("", [], [Change("chain")], after => after.Find(Kind, "link3")!);
                }
            ),
            Cancel
        );
        Assert.Null(outcome.Refusal);
    }

    [Fact]
    public async Task States_of_an_older_fold_are_rebuilt_and_of_a_newer_one_refused()
    {
        var connection = await Engine.Create();
        var checkpoint = Engine.NewFile("checkpoint");
        var second = Version(2, 10);
        await using (var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel))
            for (var i = 0; i < 3; i++)
                await ledger.Commit(Add("a", $"r{i}", "c"), Cancel);
        await using (var ledger = await ServiceLedger.Open(Options(connection, checkpoint, kind: second), Cancel))
        {
            Assert.Equal(30UL, (await ledger.Find(second, "c", null, Cancel))!.State.Sequence);
            var outcome = await ledger.Commit(Add("a", "r3", "c", kind: second), Cancel);
            Assert.Equal(40UL, outcome.CountOf());
            Assert.Equal(4UL, (await ledger.Find(second, "c", null, Cancel))!.Version);
            Assert.Single(await ledger.List(second, ["v2", "even"], null, 0, 10, Cancel));
            Assert.Empty(await ledger.List(second, ["v1"], null, 0, 10, Cancel));
        }
        await using (var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel))
        {
            await Assert.ThrowsAsync<NewerFoldException>(() => ledger.Find(Kind, "c", null, Cancel));
            var outcomes = await Together(ledger, Add("a", "r4", "c"), Add("a", "r5", "other"));
            await Assert.ThrowsAsync<NewerFoldException>(() => outcomes[0]);
            Assert.Equal(1UL, (await outcomes[1]).CountOf());
        }
    }

    [Fact]
    public async Task Lists_keep_their_order_while_others_write()
    {
        await using var ledger = await Open();
        for (var i = 0; i < 30; i++)
            await ledger.Commit(Add("a", $"r{i}", $"c{i:00}"), Cancel);
        var seen = new List<string>();
        ulong after = 0;
        for (var page = 0; page < 10; page++)
        {
            var records = await ledger.List(Kind, ["all"], null, after, 4, Cancel);
            seen.AddRange(records.Select(r => r.Key));
            if (records.Count == 0)
                break;
            after = records[^1].Number;
            await ledger.Commit(Add("a", $"again{page}", seen[0]), Cancel);
            await ledger.Commit(Add("a", $"ahead{page}", $"c{29 - page:00}"), Cancel);
        }
        Assert.Equal(Enumerable.Range(0, 30).Select(i => $"c{i:00}"), seen);
    }

    [Fact]
    public async Task Lists_show_what_has_all_keys_and_what_the_reader_may_see()
    {
        await using var ledger = await Open();
        foreach (var (i, counter) in new[] { "x", "y", "y", "z", "z", "z" }.Index())
            await ledger.Commit(Add("a", $"r{i}", counter), Cancel);
        async Task<string> Keys(HashSet<string>? tokens, params string[] keys) =>
            string.Join(' ', (await ledger.List(Kind, keys, tokens, 0, 10, Cancel)).Select(r => r.Key));
        Assert.Equal("x y z", await Keys(null));
        Assert.Equal("x z", await Keys(null, "odd"));
        Assert.Equal("y", await Keys(null, "all", "even"));
        Assert.Equal("z", await Keys(new HashSet<string> { Audience.Of("reader/z") }, "odd"));
        Assert.Equal("", await Keys(new HashSet<string> { Audience.Of("reader/q") }));
        Assert.Null(await ledger.Find(Kind, "x", new HashSet<string> { Audience.Of("reader/z") }, Cancel));
        Assert.Equal(2UL, await ledger.Count(Kind, ["odd"], Cancel));
        var due = new DateTimeOffset(2025, 3, 18, 0, 0, 0, TimeSpan.Zero);
        Assert.Equal([new DueStream(Kind.Id("z"), due)], await ledger.ListDue(due, 0, 10, Cancel));
        Assert.Equal(1UL, await ledger.CountDue(due, Cancel));
        Assert.Empty(await ledger.ListDue(due - TimeSpan.FromTicks(1), 0, 10, Cancel));
    }

    [Fact]
    public async Task A_party_sees_what_is_of_its_cases_however_many_they_are()
    {
        var options = Options(await Engine.Create());
        await using var ledger = await ServiceLedger.Open(
            new LedgerOptions
            {
                Service = options.Service,
                Kinds = [Cases.Kind],
                Connection = options.Connection,
                Key = Key,
                CheckpointFile = options.CheckpointFile,
            },
            Cancel
        );
        var permissions = new Permissions(Trust.StandardAgreement.Read());
        var reader = permissions.Participant("ua/mfa")!.Clone();
        reader.Clearance = Types.V1.Level.Secret;
        string[] own = [.. Enumerable.Range(1, 5).Select(i => $"case_{i}")];
        foreach (var @case in own.Append("case_6"))
            await Happens(
                new CaseOpened
                {
                    Case = @case,
                    DetainingPower = "UA",
                    Participant = @case == "case_6" ? "ua/hq" : reader.Id,
                }
            );
        List<string> audiences = [Audience.Everybody, Audience.Of(reader.Id), Audience.Of("kr/mfa"), "case_1", "c:", "c:case_1x"];
        foreach (var @case in (string[])["case_1", "case_5", "case_6", "case_7"])
        foreach (
            var side in (string[])
                [Audience.Case(@case), Audience.State(@case, "UA"), Audience.State(@case, "KR"), Audience.Observers(@case)]
        )
        foreach (var level in (Types.V1.Level[])[Types.V1.Level.Restricted, Types.V1.Level.Secret, Types.V1.Level.Secret + 1])
            audiences.AddRange(
                Audience.Cleared(side, level),
                Audience.Named(Audience.Cleared(side, level), reader.Id),
                Audience.Named(Audience.Cleared(side, level), "kr/mfa")
            );
        var first = ledger.Size;
        foreach (var (i, audience) in audiences.Index())
            await ledger.Commit(Decides("a", $"{i}", (_, _) => Decision.Accept("", [audience], [])), Cancel);
        await Sees(own);
        await Happens(new PartyRemoved { Case = "case_5", Participant = reader.Id });
        await Sees(own[..4]);

        async Task Happens(Google.Protobuf.IMessage @event) =>
            Assert.Null((await CustodyEvents.Record(ledger, @event, permissions, Cancel)).Refusal);

        async Task Sees(string[] cases)
        {
            var held = new HeldTokens(reader, [.. cases]);
            var seen = await ledger.ReadEntries(first, null, Viewer.Of(reader), 1000, Cancel);
            Assert.Equal(
                audiences.Where(held.Contains).Order(),
                seen.Entries.Where(e => e.Participant == "a")
                    .Select(e => e.Entry.Audience.Single(a => a.Audience != Audience.Of("a")).Audience)
                    .Order()
            );
            Assert.Contains(Audience.Named(Audience.State("case_1", "UA"), reader.Id), audiences.Where(held.Contains));
            var listed = await ledger.List(Cases.Kind, [], Viewer.Of(reader), 0, 10, Cancel);
            Assert.Equal(cases, listed.Select(c => c.Key).Order());
        }
    }

    [Fact]
    public async Task Followers_resume_without_loss_or_repeat()
    {
        await using var ledger = await Open();
        var writing = Task.Run(
            async () =>
            {
                for (var i = 0; i < 60; i++)
                    await ledger.Commit(Add("a", $"r{i}", "c", @case: i % 3 == 0 ? "case_b" : "case_a"), Cancel);
            },
            Cancel
        );
        var tokens = new HashSet<string> { Audience.Case("case_a") };
        var seen = new List<ulong>();
        ulong next = 0;
        while (seen.Count < 40 && !writing.IsFaulted)
        {
            var page = await ledger.ReadEntries(next, "case_a", tokens, 3, Cancel);
            seen.AddRange(page.Entries.Select(e => e.Position));
            next = page.Next;
            if (page.Complete && seen.Count < 40)
                await ledger.WaitForMore(next, Cancel);
        }
        await writing;
        Assert.Equal(Enumerable.Range(0, 60).Where(i => i % 3 != 0).Select(i => (ulong)i), seen);
        Assert.Empty((await ledger.ReadEntries(0, "case_b", tokens, 100, Cancel)).Entries);
        Assert.Equal(20, (await ledger.ReadEntries(0, "case_b", null, 100, Cancel)).Entries.Count);
        Assert.Equal(60, (await ledger.ReadEntries(0, null, new HashSet<string> { Audience.Of("a") }, 100, Cancel)).Entries.Count);
    }

    [Fact]
    public async Task The_tail_is_the_same_from_memory_and_from_the_database()
    {
        var connection = await Engine.Create();
        await using var one = await ServiceLedger.Open(Options(connection), Cancel);
        await using var two = await ServiceLedger.Open(Options(connection), Cancel);
        await one.Commit(Add("a", "before", "c"), Cancel);
        // Nothing is kept where nobody follows.
        Assert.Null(one.Recent(0));
        one.KeepsTail = true;
        for (var i = 1; i < 4; i++)
            await one.Commit(Add("a", $"r{i}", $"c{i}", [Audience.Of("b")]), Cancel);
        await two.Commit(Add("d", "elsewhere", "c"), Cancel);
        // It learns of the other replica's entry by looking.
        Assert.Empty(await one.ReadTail(4, Cancel));
        await one.Look(TimeSpan.Zero, Cancel);
        await one.Commit(Add("a", "r5", "c"), Cancel);
        var tail = new List<TailEntry>();
        for (var page = await one.ReadTail(0, Cancel); page.Count > 0; page = await one.ReadTail((ulong)tail.Count, Cancel))
            tail.AddRange(page);
        Assert.Equal(Enumerable.Range(0, 6).Select(i => (ulong)i), tail.Select(t => t.Position));
        Assert.Equal([Audience.Of("a"), Audience.Of("b")], tail[1].Audience.Order());
        Assert.Equal([Audience.Case("case_1"), Audience.Of("d")], tail[4].Audience.Order());
        Assert.Equal([null, null, null, null, null, 5ul], Enumerable.Range(0, 6).Select(i => one.Recent((ulong)i)?.Position));
        Assert.Equal((await one.ReadEntry(5, null, Cancel))!.Entry, one.Recent(5)!.Stored!.Entry);
        Assert.True(await one.EraseRequest(5, Cancel));
        Assert.Null(one.Recent(5));
    }

    [Fact]
    public async Task Changes_of_list_keys_are_noticed_here_and_in_other_replicas()
    {
        var connection = await Engine.Create();
        await using var one = await ServiceLedger.Open(Options(connection), Cancel);
        await using var two = await ServiceLedger.Open(Options(connection), Cancel);
        await one.Commit(Add("a", "1", "c"), Cancel);
        Assert.Equal(1ul, one.RelistedAt(Kind, "odd"));
        // A refusal, and an entry that changes no keys.
        await one.Commit(Decides("a", "2", (_, _) => Refused), Cancel);
        await one.Commit(Decides("a", "3", (_, _) => Decision.Accept("", [], [])), Cancel);
        Assert.Equal(1ul, one.RelistedAt(Kind, "odd"));
        await one.Commit(Add("a", "4", "c"), Cancel);
        Assert.Equal(4ul, one.RelistedAt(Kind, "odd"));
        await two.Commit(Decides("a", "5", (_, _) => Decision.Accept("case_1", [], [])), Cancel);
        // An entry of another replica may have changed keys if it belongs to a case.
        await one.Look(TimeSpan.FromMinutes(1), Cancel);
        Assert.Equal(4ul, one.RelistedAt(Kind, "odd"));
        await one.Look(TimeSpan.FromTicks(-1), Cancel);
        Assert.Equal(5ul, one.RelistedAt(Kind, "odd"));
        await two.Commit(Decides("a", "6", (_, _) => Decision.Accept("", [], [])), Cancel);
        await one.Look(TimeSpan.FromTicks(-1), Cancel);
        await two.Commit(Decides("a", "7", (_, _) => Decision.Accept("", [], [])), Cancel);
        await one.Commit(Decides("a", "8", (_, _) => Decision.Accept("case_1", [], [])), Cancel);
        Assert.Equal(5ul, one.RelistedAt(Kind, "odd"));
        await two.Commit(Decides("a", "9", (_, _) => Decision.Accept("case_1", [], [])), Cancel);
        await one.Commit(Decides("a", "10", (_, _) => Decision.Accept("", [], [])), Cancel);
        Assert.Equal(9ul, one.RelistedAt(Kind, "odd"));
        // What was read before the change of a key is older than the change, and what is read after it is not.
        Assert.True(one.RelistedAt(Kind, "odd") <= one.NotedSize);
        var noted = one.NotedSize;
        await one.Commit(Add("a", "11", "c"), Cancel);
        Assert.InRange(one.RelistedAt(Kind, "odd"), noted + 1, one.NotedSize);
        // So is a key that nobody asked for until then.
        Assert.True(one.RelistedAt(Kind, "even") > noted);
    }

    [Fact]
    public async Task A_page_is_limited_in_bytes_and_a_larger_entry_is_left_to_be_read_alone()
    {
        await using var ledger = await Open();
        foreach (var (i, bytes) in new[] { 10, 3000, 3000, 50_000, 10 }.Index())
            await ledger.Commit(Add("a", $"{i}", "c", content: new string('x', bytes)), Cancel);
        var pages = new List<(string, ulong, bool, bool)>();
        for (var next = 0ul; pages.Count == 0 || !pages[^1].Item3; next = pages[^1].Item4 ? next + 1 : pages[^1].Item2)
        {
            if (pages.Count > 0)
                next = pages[^1].Item4 ? pages[^1].Item2 + 1 : pages[^1].Item2;
            var page = await ledger.ReadEntries(next, null, null, 100, Cancel, 16_000);
            pages.Add((string.Join(' ', page.Entries.Select(e => e.Position)), page.Next, page.Complete, page.TooGreat));
        }
        Assert.Equal([("0 1 2", 3, false, false), ("", 3, false, true), ("4", 5, true, false)], pages);
    }

    [Fact]
    public async Task A_follower_hears_of_entries_of_another_replica()
    {
        var connection = await Engine.Create();
        await using var one = await ServiceLedger.Open(Options(connection), Cancel);
        await using var two = await ServiceLedger.Open(Options(connection), Cancel);
        var heard = one.WaitForMore(0, Cancel);
        await two.Commit(Add("a", "r", "c"), Cancel);
        await heard.WaitAsync(TimeSpan.FromSeconds(20), Cancel);
        Assert.Equal(1UL, one.Size);
    }

    [Fact]
    public async Task Proofs_hold_between_all_kinds_of_sizes()
    {
        await using var ledger = await Open();
        var leaves = new List<byte[]>();
        for (var i = 0; i < 4; i++)
            await Task.WhenAll(Enumerable.Range(0, 140).Select(n => ledger.Commit(Add($"p/{n % 5}", $"r{i}-{n}", "c"), Cancel)));
        foreach (var entry in await ReadAll(ledger))
            leaves.Add(TreeHash.Leaf(entry.Entry.Header.Span));
        Assert.Equal(560, leaves.Count);
        var roots = new Dictionary<ulong, byte[]>();
        ulong[] sizes = [1, 2, 3, 255, 256, 257, 300, 511, 512, 513, 560];
        foreach (var size in sizes)
            roots[size] = Reference.Root([.. leaves.Take((int)size)]);
        foreach (var size in sizes)
        foreach (var position in sizes.Select(s => s - 1).Where(p => p < size))
        {
            var proof = (await ledger.ProveInclusion(position, size, Cancel))!;
            Assert.Equal(roots[size], proof.Root);
            Assert.True(Proofs.Includes(leaves[(int)position], position, size, proof.Root, proof.Hashes));
            var extends = (await ledger.ProveConsistency(position + 1, size, Cancel))!;
            Assert.True(Proofs.Extends(position + 1, roots[position + 1], size, roots[size], extends.Hashes));
        }
        Assert.Equal(560UL, (await ledger.ProveInclusion(0, 0, Cancel))!.Size);
        Assert.Null(await ledger.ProveInclusion(560, 0, Cancel));
        Assert.Null(await ledger.ProveInclusion(0, 561, Cancel));
        Assert.Null(await ledger.ProveConsistency(0, 5, Cancel));
    }

    [Fact]
    public async Task A_ledger_goes_on_where_it_was_after_a_restart()
    {
        var connection = await Engine.Create();
        var checkpoint = Engine.NewFile("checkpoint");
        var clock = new Clock();
        for (var round = 0; round < 3; round++)
        {
            // The clock may be set back, but the ledger's time never goes back.
            clock.Now -= TimeSpan.FromSeconds(2);
            await using var ledger = await ServiceLedger.Open(Options(connection, checkpoint, clock), Cancel);
            Assert.Equal((ulong)round * 150, ledger.Size);
            await Task.WhenAll(
                Enumerable.Range(0, 150).Select(i => ledger.Commit(Add($"p/{i % 3}", $"r{round}-{i}", $"c{i % 10}"), Cancel))
            );
        }
        await using var last = await ServiceLedger.Open(Options(connection, checkpoint, clock), Cancel);
        await Audit(last);
    }

    [Fact]
    public async Task A_database_behind_its_checkpoint_is_refused()
    {
        var connection = await Engine.Create();
        var checkpoint = Engine.NewFile("checkpoint");
        await using (var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel))
            await ledger.Commit(Add("a", "1", "c"), Cancel);
        var copy = await Engine.Copy(connection);
        await using (var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel))
            await ledger.Commit(Add("a", "2", "c"), Cancel);
        var refused = await Assert.ThrowsAsync<LedgerInconsistentException>(() => ServiceLedger.Open(Options(copy, checkpoint), Cancel));
        Assert.Contains("acknowledged entries are missing", refused.Message);
        await (await ServiceLedger.Open(Options(connection, checkpoint), Cancel)).DisposeAsync();
    }

    [Fact]
    public async Task A_database_of_another_history_is_refused()
    {
        var checkpoint = Engine.NewFile("checkpoint");
        await using (var ledger = await ServiceLedger.Open(Options(await Engine.Create(), checkpoint), Cancel))
            await ledger.Commit(Add("a", "1", "c"), Cancel);
        var other = await Engine.Create();
        await using (var ledger = await ServiceLedger.Open(Options(other), Cancel))
            for (var i = 0; i < 3; i++)
                await ledger.Commit(Add("a", $"{i}", "c"), Cancel);
        var refused = await Assert.ThrowsAsync<LedgerInconsistentException>(() => ServiceLedger.Open(Options(other, checkpoint), Cancel));
        Assert.Contains("history was changed", refused.Message);
    }

    [Fact]
    public async Task A_database_that_answers_with_an_unknown_error_takes_no_commits_and_that_passes()
    {
        var connection = await Engine.Create();
        await using var ledger = await ServiceLedger.Open(Options(connection), Cancel);
        await ledger.Commit(Add("a", "1", "c"), Cancel);
        Assert.True((await ledger.Examine(Cancel)).IsGood);
        await Engine.Run(connection, "alter table head rename to gone");
        var condition = await ledger.Examine(Cancel);
        Assert.Equal((false, "the database takes no commits"), (condition.IsGood, condition.Wrong));
        await Engine.Run(connection, "alter table gone rename to head");
        Assert.True((await ledger.Examine(Cancel)).IsGood);
        await ledger.Commit(Add("a", "2", "c"), Cancel);
    }

    [Fact]
    public async Task A_database_of_another_service_is_refused()
    {
        var connection = await Engine.Create();
        await (await ServiceLedger.Open(Options(connection), Cancel)).DisposeAsync();
        var options = Options(connection);
        await Assert.ThrowsAsync<LedgerInconsistentException>(() =>
            ServiceLedger.Open(
                new LedgerOptions
                {
                    Service = "consular",
                    Kinds = options.Kinds,
                    Connection = connection,
                    Key = Key,
                    CheckpointFile = options.CheckpointFile,
                },
                Cancel
            )
        );
    }

    [Fact]
    public async Task Replicas_that_start_together_make_one_schema()
    {
        var connection = await Engine.Create();
        var ledgers = await Task.WhenAll(
            Enumerable.Range(0, 4).Select(_ => Task.Run(() => ServiceLedger.Open(Options(connection), Cancel)))
        );
        foreach (var ledger in ledgers)
            await ledger.DisposeAsync();
    }

    [Fact]
    public async Task Events_are_taken_in_once_in_order_and_a_gap_is_named()
    {
        await using var ledger = await Open();
        Command Event(ulong sequence, string? id = null) =>
            Add(
                "service/calllog",
                id ?? $"calllog/{sequence}/0",
                "c",
                intake: new IntakeNumber("calllog", "ministries.calllog.v1.CallLogged", sequence)
            );
        Assert.Equal(1UL, (await ledger.Commit(Event(1), Cancel)).CountOf());
        var gap = await Assert.ThrowsAsync<EventGapException>(() => ledger.Commit(Event(4), Cancel));
        Assert.Equal(("calllog", 1UL, 4UL), (gap.Producer, gap.Last, gap.Sequence));
        var outcomes = await Together(ledger, Event(2), Event(3), Event(2), Event(5));
        Assert.Equal(3UL, (await outcomes[1]).CountOf());
        Assert.True((await outcomes[2]).Repeated);
        await Assert.ThrowsAsync<EventGapException>(() => outcomes[3]);
        // After a refusal that is not stored, the event can still be taken in; a dead letter settles it.
        var intake = new IntakeNumber("calllog", "ministries.calllog.v1.CallLogged", 4);
        await ledger.Commit(Decides("service/calllog", "calllog/4/0", (_, _) => Refused, storesRefusal: false, intake), Cancel);
        Assert.Equal(3UL, await ledger.LastTaken(intake.Producer, intake.Type, Cancel));
        await ledger.Commit(Event(4, "calllog/4/0/dead"), Cancel);
        var settled = await ledger.Commit(Event(4), Cancel);
        Assert.Equal((null, true, null), (settled.Position, settled.Repeated, settled.Answer));
        Assert.Equal(4UL, await ledger.LastTaken(intake.Producer, intake.Type, Cancel));
        await Audit(ledger);
    }

    /// <summary>Any caller gives it, and nobody signs it.</summary>
    [Theory]
    [InlineData("a=1", "a=1")]
    [InlineData("a=\0", "")]
    [InlineData("a=é", "")]
    [InlineData("a=\n1", "")]
    [InlineData(null, "")]
    public async Task A_trace_context_that_is_no_short_text_is_left_out(string? state, string kept)
    {
        // Null stands for one that is too long.
        state ??= new string('a', 513);
        const string Parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        await using var ledger = await Open();
        await ledger.Commit(Add("a", "1", "c", traceParent: Parent, traceState: state), Cancel);
        await ledger.Commit(Add("a", "2", "c", traceParent: $"{Parent}{state}"), Cancel);
        var events = await ledger.EventsAfter(0, 10, Cancel);
        Assert.Equal((Parent, kept), (events[0].Event.Traceparent, events[0].Event.Tracestate));
        Assert.Equal(kept.Length == 0 ? "" : $"{Parent}{state}", events[1].Event.Traceparent);
    }

    [Fact]
    public async Task A_command_has_no_effect_where_the_one_before_it_in_its_chain_failed()
    {
        await using var ledger = await Open();
        Command Of(string id, ChainLink link, Func<Decision> rule) => Decides("service/x", id, (_, _) => rule(), false, link: link);
        Decision Good(string counter) => Decision.Accept("case_1", [], [Change(counter)]);
        Dictionary<string, Func<Decision>> failures = new()
        {
            ["refused"] = () => Refused,
            ["its rule"] = () => throw new InvalidOperationException(),
            ["its fold"] = () => Decision.Accept("case_1", [], [new Change(new Custody.V1.CaseClosed(), [Kind.Id("c")])]),
        };
        foreach (var (name, failure) in failures)
        {
            var first = new ChainLink(null);
            var second = new ChainLink(first);
            var third = new ChainLink(second);
            var outcomes = await Together(
                ledger,
                Of($"{name}/1", first, failure),
                Of($"{name}/2", second, () => Good("c")),
                Of($"{name}/3", third, () => Good("c"))
            );
            Assert.NotEqual(name == "refused", outcomes[0].IsFaulted);
            foreach (var behind in outcomes[1..])
                await Assert.ThrowsAsync<CommandHeldBackException>(() => behind);
            // The last try counts, also for the one behind it.
            outcomes = await Together(ledger, Of($"{name}/1", first, () => Good("c")), Of($"{name}/2", second, () => Good("c")));
            Assert.All(outcomes, o => Assert.Null(o.Result.Refusal));
            second.Release();
            Assert.Null((await ledger.Commit(Of($"{name}/3", third, () => Good("c")), Cancel)).Refusal);
        }
    }

    /// <summary>The next batch may begin before a caller hears of the one before.</summary>
    [Fact]
    public void A_chain_knows_at_once_of_a_command_that_failed()
    {
        foreach (var fail in (Action<PendingCommand>[])[p => p.Fail(new LedgerClosedException()), p => p.Cancel(new(canceled: true))])
        {
            var link = new ChainLink(null);
            fail(new PendingCommand(Decides("service/x", "1", (_, _) => Refused, link: link), 0));
            Assert.True(link.HasFailed);
        }
    }

    [Fact]
    public async Task Own_events_are_numbered_and_foreign_ones_are_not_published()
    {
        await using var ledger = await Open();
        await ledger.Commit(Add("a", "1", "c", traceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), Cancel);
        await ledger.Commit(
            Decides("a", "2", (_, _) => Decision.Accept("case_1", [], [new Change(Foreign, [Kind.Id("c")]), Change("d"), Change("d")])),
            Cancel
        );
        await ledger.Commit(
            Decides("a", "3", (_, _) => Decision.Accept("", [], [new Change(new Custody.V1.CaseOpened(), [Kind.Id("e")])])),
            Cancel
        );
        var events = await ledger.EventsAfter(0, 10, Cancel);
        const string Admitted = "ministries.custody.v1.PartyAdmitted",
            Opened = "ministries.custody.v1.CaseOpened";
        Assert.Equal(
            [(1UL, Admitted, 1UL, 0UL, 0U), (2UL, Admitted, 2UL, 1UL, 1U), (3UL, Admitted, 3UL, 1UL, 2U), (4UL, Opened, 1UL, 2UL, 0U)],
            events.Select(e => (e.Number, e.Event.Origin.Type, e.Event.Origin.Sequence, e.Event.Origin.Position, e.Event.Origin.Index))
        );
        Assert.Equal("custody", events[0].Event.Origin.Service);
        Assert.Contains("0af7651916cd43dd8448eb211c80319c", events[0].Event.Traceparent);
        Assert.Equal([3UL, 4UL], (await ledger.EventsAfter(2, 10, Cancel)).Select(e => e.Number));
        Assert.Equal([2UL, 3UL], (await ledger.EventsAfter(1, 2, Cancel)).Select(e => e.Number));
        Assert.Equal(4UL, await ledger.CountEvents(Cancel));
        Assert.Equal(
            [3UL, 4UL],
            (await ledger.EventsAfter(new Dictionary<string, ulong> { [Admitted] = 2, [Opened] = 0 }, 10, Cancel)).Select(e => e.Number)
        );
        Assert.Equal(
            [2UL],
            (await ledger.EventsAfter(new Dictionary<string, ulong> { [Admitted] = 1, [Opened] = 0 }, 1, Cancel)).Select(e => e.Number)
        );
        Assert.Empty(await ledger.EventsAfter(new Dictionary<string, ulong>(), 1, Cancel));
        var entry = (await ledger.ReadEntry(2, null, Cancel))!;
        Assert.Equal(TreeHash.Leaf(entry.Entry.Header.Span), events[3].Event.Leaf.ToByteArray());
        await Audit(ledger);
    }

    [Fact]
    public async Task Events_are_the_same_from_memory_and_from_the_database_whichever_replica_committed_them()
    {
        var connection = await Engine.Create();
        await using var one = await ServiceLedger.Open(Options(connection), Cancel);
        await using var two = await ServiceLedger.Open(Options(connection), Cancel);
        // After the first question, events that are committed later are given from memory.
        Assert.Empty(await one.EventsAfter(0, 10, Cancel));
        for (var i = 1; i <= 7; i++)
            await (i % 3 == 0 ? two : one).Commit(
                Add("a", $"{i}", "c", traceParent: $"00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333{i}-01"),
                Cancel
            );
        var stored = await two.EventsAfter(0, 10, Cancel);
        Assert.Equal([1UL, 2UL, 3UL, 4UL, 5UL, 6UL, 7UL], stored.Select(e => e.Number));
        var followed = new List<NumberedEvent>();
        while (await one.EventsAfter((ulong)followed.Count, 10, Cancel) is { Count: > 0 } more)
            followed.AddRange(more);
        Assert.Equal(stored, followed);
    }

    [Fact]
    public async Task Cursors_never_go_back()
    {
        await using var ledger = await Open();
        Assert.Equal(0UL, await ledger.ReadCursor("relay", Cancel));
        await ledger.MoveCursor("relay", 5, Cancel);
        await ledger.MoveCursor("relay", 3, Cancel);
        Assert.Equal(5UL, await ledger.ReadCursor("relay", Cancel));
    }

    [Fact]
    public async Task One_replica_leads_at_a_time()
    {
        var connection = await Engine.Create();
        await using var one = await ServiceLedger.Open(Options(connection), Cancel);
        await using var two = await ServiceLedger.Open(Options(connection), Cancel);
        var lead = await one.TryLead("relay", Cancel);
        Assert.True(await lead!.Holds(Cancel));
        Assert.Null(await two.TryLead("relay", Cancel));
        await using (var other = await two.TryLead("sweep", Cancel))
            Assert.NotNull(other);
        await lead.DisposeAsync();
        await using var next = await two.TryLead("relay", Cancel);
        Assert.True(await next!.Holds(Cancel));
        Assert.False(await lead.Holds(Cancel));
    }

    [Fact]
    public async Task Erasing_a_request_keeps_every_proof_and_rebuilds_without_it()
    {
        var connection = await Engine.Create();
        var checkpoint = Engine.NewFile("checkpoint");
        await using (var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel))
        {
            var add = Add("a", "1", "c");
            await ledger.Commit(add, Cancel);
            var found = await ledger.FindAnswer("a", "1", add.Method, add.Bytes, Cancel);
            var shown = await ledger.ReceiptOf(found!, Cancel);
            CheckReceipt(shown);
            var before = await ledger.ReadCheckpoint(Cancel);
            Assert.True(await ledger.EraseRequest(0, Cancel));
            // The receipt shows it no longer, and the rest of it is the same.
            var later = await ledger.ReceiptOf(found!, Cancel);
            Assert.True(later.RequestSalt.IsEmpty);
            later.RequestSalt = shown.RequestSalt;
            Assert.Equal(shown, later);
            Assert.False(await ledger.EraseRequest(0, Cancel));
            Assert.False(await ledger.EraseRequest(9, Cancel));
            var part = (await ledger.ReadEntry(0, null, Cancel))!.Entry.Parts.Single(p => p.Kind == PartKind.Request);
            Assert.Equal((true, 0, 0), (part.Erased, part.Data.Length, part.Salt.Length));
            Assert.Equal(before, await ledger.ReadCheckpoint(Cancel));
            Assert.Equal(Reason.RequestIdReused, (await ledger.Commit(Add("a", "1", "c"), Cancel)).Refusal!.Reason);
            await Audit(ledger);
        }
        var second = Version(2, 10);
        await using var rebuilt = await ServiceLedger.Open(Options(connection, checkpoint, kind: second), Cancel);
        Assert.Equal("erased", (await rebuilt.Find(second, "c", null, Cancel))!.State.Type);
    }

    [Fact]
    public async Task With_a_request_fall_those_that_opened_its_sealed_data_and_no_others()
    {
        var connection = await Engine.Create();
        var checkpoint = Engine.NewFile("checkpoint");
        await using var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel);
        await ledger.Commit(Add("a", "1", "c"), Cancel);
        await ledger.Commit(Add("a", "2", "d"), Cancel);
        await ledger.Commit(Share("a", "3", 0), Cancel);
        await ledger.Commit(Share("b", "4", 1), Cancel);
        await ledger.Commit(Share("b", "5", 0), Cancel);
        // The key of another stream ends with the same digit.
        for (var i = 6; i < 11; i++)
            await ledger.Commit(Add("a", $"{i}", "c"), Cancel);
        await ledger.Commit(Share("b", "11", 10), Cancel);
        var before = await ledger.ReadCheckpoint(Cancel);
        Assert.True(await ledger.EraseRequest(0, Cancel));
        Assert.Equal([0ul, 2, 4], await Erased());
        Assert.False(await ledger.EraseRequest(0, Cancel));
        // What is opened although its datum was erased, because both happened at once, falls with the next erasure.
        await ledger.Commit(Share("b", "12", 0), Cancel);
        Assert.True(await ledger.EraseRequest(0, Cancel));
        Assert.Equal([0ul, 2, 4, 11], await Erased());
        // So it does where nobody erases anything again.
        await ledger.Commit(Share("b", "13", 0), Cancel);
        Assert.Equal(1, await ledger.EraseLateShares(Cancel));
        Assert.Equal([0ul, 2, 4, 11, 12], await Erased());
        Assert.Equal(0, await ledger.EraseLateShares(Cancel));
        // One opening falls alone.
        Assert.True(await ledger.EraseRequest(3, Cancel));
        Assert.Equal([0ul, 2, 3, 4, 11, 12], await Erased());
        Assert.Equal(0, await ledger.EraseLateShares(Cancel));
        Assert.Equal(Reason.RequestIdReused, (await ledger.Commit(Share("a", "3", 0), Cancel)).Refusal!.Reason);
        await Audit(ledger);
        Assert.True((await ledger.ProveConsistency(before.Size, 0, Cancel))!.Size > before.Size);

        async Task<IEnumerable<ulong>> Erased() =>
            (await ReadAll(ledger))
                .Where(e => e.Entry.Parts.Any(p => p.Kind == PartKind.Request && p.Erased && p.Data.IsEmpty && p.Salt.IsEmpty))
                .Select(e => e.Position);
    }

    [Fact]
    public async Task What_was_erased_is_in_no_state_any_more_and_no_replica_brings_it_back()
    {
        var kept = new StreamKind<SealedShares>(
            "kept",
            1,
            (state, _, entry) => state.Shares.Add(new SealedShare { Field = (entry.Request as PartyAdmitted)?.Participant ?? "erased" }),
            audience: _ => [Audience.Everybody],
            keys: _ => ["all"]
        );
        var options = Options(await Engine.Create());
        await using var one = await Other("one");
        await using var two = await Other("two");
        await one.Commit(Keep("1", "first"), Cancel);
        // Each of them keeps the state that it wrote last.
        await two.Commit(Keep("2", "second"), Cancel);
        Assert.Equal(["first", "second"], await Seen(one));
        Assert.True(await one.EraseRequest(0, Cancel));
        Assert.Equal(["erased", "second"], await Seen(one));
        Assert.Equal(["erased", "second"], await Seen(two));
        Assert.Single(await one.List(kept, ["all"], new HashSet<string> { Audience.Everybody }, 0, 10, Cancel));
        await two.Commit(Keep("3", "third"), Cancel);
        Assert.Equal(["erased", "second", "third"], await Seen(one));
        // The same of the one that erases.
        Assert.True(await two.EraseRequest(2, Cancel));
        await two.Commit(Keep("4", "fourth"), Cancel);
        Assert.Equal(["erased", "second", "erased", "fourth"], await Seen(two));
        Assert.Single(await one.List(kept, ["all"], new HashSet<string> { Audience.Everybody }, 0, 10, Cancel));
        await Audit(one);

        Task<ServiceLedger> Other(string name) =>
            ServiceLedger.Open(
                new LedgerOptions
                {
                    Service = options.Service,
                    Kinds = [kept],
                    Connection = options.Connection,
                    Key = Key,
                    CheckpointFile = Engine.NewFile(name),
                },
                Cancel
            );

        async Task<IEnumerable<string>> Seen(ServiceLedger ledger) =>
            (await ledger.Find(kept, "k", null, Cancel))!.State.Shares.Select(s => s.Field);

        Command Keep(string requestId, string content)
        {
            var request = new PartyAdmitted { Participant = content };
            return new()
            {
                Participant = "a",
                RequestId = requestId,
                Method = "test/Keep",
                Request = request,
                Bytes = request.ToByteArray(),
                AgreementVersion = 7,
                Decide = (view, _) =>
                {
                    view.Find(kept, "k");
                    return Decision.Accept("case_1", [Audience.Case("case_1")], [new Change(new PartyAdmitted(), [kept.Id("k")])]);
                },
            };
        }
    }

    [Fact]
    public async Task The_queue_is_bounded_and_fair_and_takes_the_urgent_first()
    {
        var connection = await Engine.Create();
        var options = Options(connection);
        await using var ledger = await ServiceLedger.Open(
            new LedgerOptions
            {
                Service = options.Service,
                Kinds = options.Kinds,
                Connection = connection,
                Key = Key,
                CheckpointFile = options.CheckpointFile,
                MaxQueued = 8,
                MaxQueuedPerParticipant = 4,
                MaxBatch = 1,
            },
            Cancel
        );
        using var go = new ManualResetEventSlim();
        using var held = new ManualResetEventSlim();
        using var leaves = new CancellationTokenSource();
        var first = ledger.Commit(
            Add(
                "holder",
                "h",
                "h",
                before: () =>
                {
                    held.Set();
                    go.Wait();
                }
            ),
            Cancel
        );
        held.Wait(Cancel);
        List<Task<Outcome>> waiting =
        [
            ledger.Commit(Add("a", "a1", "c"), Cancel),
            ledger.Commit(Add("a", "a2", "c"), Cancel),
            ledger.Commit(Add("a", "a3", "c"), Cancel),
            ledger.Commit(Add("b", "b1", "c"), Cancel),
            ledger.Commit(Add("a", "a4", "c", precedence: 4), Cancel),
        ];
        await Assert.ThrowsAsync<LedgerOverloadedException>(() => ledger.Commit(Add("a", "a5", "c"), Cancel));
        var gone = ledger.Commit(Add("d", "d1", "c"), leaves.Token);
        var more = new[] { ledger.Commit(Add("e", "e1", "c"), Cancel), ledger.Commit(Add("e", "e2", "c"), Cancel) };
        Assert.Equal(8, ledger.QueueLength);
        await Assert.ThrowsAsync<LedgerOverloadedException>(() => ledger.Commit(Add("f", "f1", "c"), Cancel));
        await leaves.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => gone);
        go.Set();
        await Task.WhenAll([first, .. waiting, .. more]);
        var order = (await ReadAll(ledger)).Skip(1).Select(e => e.HeaderOf().RequestId);
        Assert.Equal(["a4", "a1", "b1", "e1", "a2", "e2", "a3"], order);
        var drained = ledger.Drain();
        await Assert.ThrowsAsync<LedgerClosedException>(() => ledger.Commit(Add("a", "late", "c"), Cancel));
        await drained;
    }

    [Fact]
    public async Task Urgent_commands_without_end_keep_nobody_elses_waiting()
    {
        await using var held = await Held.Begin(this, new() { MaxBatch = 1 });
        List<Task<Outcome>> waiting = [];
        for (var i = 0; i < 12; i++)
            waiting.Add(held.Ledger.Commit(Add("flood", $"f{i}", "c", precedence: 4), Cancel));
        waiting.AddRange([
            held.Ledger.Commit(Add("b", "b1", "c"), Cancel),
            held.Ledger.Commit(Add("b", "b2", "c", precedence: 2), Cancel),
            held.Ledger.Commit(Add("service/calllog", "s1", "c"), Cancel),
        ]);
        held.Go();
        await Task.WhenAll(waiting);
        var order = (await ReadAll(held.Ledger)).Skip(1).Select(e => e.HeaderOf().RequestId);
        Assert.Equal(["f0", "f1", "b2", "f2", "f3", "f4", "s1", "f5", "f6", "f7", "b1", "f8", "f9", "f10", "f11"], order);
    }

    [Fact]
    public async Task The_great_requests_of_one_participant_leave_room_for_those_of_others()
    {
        await using var held = await Held.Begin(this, new() { MaxQueuedBytes = 160, MaxQueuedBytesPerParticipant = 80 });
        List<Task<Outcome>> waiting = [held.Ledger.Commit(OfLength("a", "a1", 60), Cancel)];
        await Assert.ThrowsAsync<LedgerOverloadedException>(() => held.Ledger.Commit(OfLength("a", "a2", 30), Cancel));
        waiting.AddRange([held.Ledger.Commit(OfLength("a", "a3", 20), Cancel), held.Ledger.Commit(OfLength("b", "b1", 60), Cancel)]);
        await Assert.ThrowsAsync<LedgerOverloadedException>(() => held.Ledger.Commit(OfLength("b", "b2", 30), Cancel));
        waiting.Add(held.Ledger.Commit(OfLength("b", "b3", 20), Cancel));
        // There is no room any more, but for the first of a participant that has none there, such as the service itself.
        waiting.Add(held.Ledger.Commit(OfLength("service/calllog", "s1", 100), Cancel));
        await Assert.ThrowsAsync<LedgerOverloadedException>(() => held.Ledger.Commit(OfLength("service/calllog", "s2", 10), Cancel));
        held.Go();
        await Task.WhenAll(waiting);
    }

    [Fact]
    public async Task Urgent_requests_find_a_little_room_where_the_great_ones_of_their_own_participant_leave_none()
    {
        await using var held = await Held.Begin(
            this,
            new()
            {
                MaxQueuedBytes = 160,
                MaxQueuedBytesPerParticipant = 80,
                QueuedBytesForFlash = 40,
            }
        );
        List<Task<Outcome>> waiting = [Wait("a", "a1", 80), Wait("b", "b1", 80)];
        await Assert.ThrowsAsync<LedgerOverloadedException>(() => Wait("a", "a2", 10, precedence: 3));
        waiting.AddRange([Wait("a", "a3", 30, Flash), Wait("a", "a4", 10, Flash), Wait("b", "b2", 40, Flash)]);
        // No more than a little.
        await Assert.ThrowsAsync<LedgerOverloadedException>(() => Wait("a", "a5", 10, Flash));
        await Assert.ThrowsAsync<LedgerOverloadedException>(() => Wait("b", "b3", 10, Flash));
        held.Go();
        await Task.WhenAll(waiting);
        // It is given back.
        await Wait("a", "a6", 40, Flash);

        Task<Outcome> Wait(string participant, string id, int bytes, int precedence = 0) =>
            held.Ledger.Commit(OfLength(participant, id, bytes, precedence), Cancel);
    }

    [Fact]
    public async Task Urgent_requests_that_wait_within_the_limits_take_no_room_from_those_beyond_them()
    {
        await using var held = await Held.Begin(
            this,
            new()
            {
                MaxQueuedBytes = 160,
                MaxQueuedBytesPerParticipant = 80,
                QueuedBytesForFlash = 40,
            }
        );
        List<Task<Outcome>> waiting = [Wait("a1", 40, Flash), Wait("a2", 40), Wait("a3", 40, Flash)];
        await Assert.ThrowsAsync<LedgerOverloadedException>(() => Wait("a4", 10, Flash));
        held.Go();
        await Task.WhenAll(waiting);
        // Both kinds of room are given back.
        await Task.WhenAll(Wait("a5", 80), Wait("a6", 40, Flash));

        Task<Outcome> Wait(string id, int bytes, int precedence = 0) => held.Ledger.Commit(OfLength("a", id, bytes, precedence), Cancel);
    }

    [Fact]
    public async Task A_command_has_no_effect_where_the_one_before_it_in_its_chain_found_no_room_or_was_cancelled()
    {
        foreach (var cancelled in (bool[])[false, true])
        {
            await using var held = await Held.Begin(this, new() { MaxQueuedBytes = 160, MaxQueuedBytesPerParticipant = 80 });
            var first = new ChainLink(null);
            var second = new ChainLink(first);
            var third = new ChainLink(second);
            var before = held.Ledger.Commit(OfLength("service/x", "1", 50, link: first), Cancel);
            if (cancelled)
                await Assert.ThrowsAnyAsync<OperationCanceledException>(() =>
                    held.Ledger.Commit(OfLength("service/x", "2", 20, link: second), new(canceled: true))
                );
            else
                await Assert.ThrowsAsync<LedgerOverloadedException>(() =>
                    held.Ledger.Commit(OfLength("service/x", "2", 40, link: second), Cancel)
                );
            var behind = held.Ledger.Commit(OfLength("service/x", "3", 20, link: third), Cancel);
            held.Go();
            Assert.NotNull((await before).Position);
            await Assert.ThrowsAsync<CommandHeldBackException>(() => behind);
            // The last try counts.
            await held.Ledger.Commit(OfLength("service/x", "2", 40, link: second), Cancel);
            await held.Ledger.Commit(OfLength("service/x", "3", 20, link: third), Cancel);
        }
    }

    private const int Flash = (int)Types.V1.Precedence.Flash;

    private static Command OfLength(string participant, string id, int bytes, int precedence = 0, ChainLink? link = null)
    {
        // The counter's name takes three bytes, and the content's tag and length two.
        var command = Add(participant, id, "c", content: new string('x', bytes - 5), precedence: precedence, link: link);
        Assert.Equal(bytes, command.Bytes.Length);
        return command;
    }

    // A ledger whose first command is being decided, so that all others wait.
    private sealed class Held(ServiceLedger ledger, Task<Outcome> first, ManualResetEventSlim go) : IAsyncDisposable
    {
        public ServiceLedger Ledger => ledger;

        public static async Task<Held> Begin(LedgerTests tests, QueueLimits limits)
        {
            var connection = await tests.Engine.Create();
            var options = Options(connection);
            var ledger = await ServiceLedger.Open(
                new LedgerOptions
                {
                    Service = options.Service,
                    Kinds = options.Kinds,
                    Connection = connection,
                    Key = Key,
                    CheckpointFile = options.CheckpointFile,
                    MaxBatch = limits.MaxBatch,
                    MaxQueuedBytes = limits.MaxQueuedBytes,
                    MaxQueuedBytesPerParticipant = limits.MaxQueuedBytesPerParticipant,
                    QueuedBytesForFlash = limits.QueuedBytesForFlash,
                },
                Cancel
            );
            var (go, begun) = (new ManualResetEventSlim(), new TaskCompletionSource());
            var first = ledger.Commit(
                Add(
                    "holder",
                    "h",
                    "h",
                    before: () =>
                    {
                        begun.TrySetResult();
                        go.Wait();
                    }
                ),
                Cancel
            );
            await begun.Task.WaitAsync(Cancel);
            return new Held(ledger, first, go);
        }

        public void Go() => go.Set();

        public async ValueTask DisposeAsync()
        {
            go.Set();
            await first;
            await ledger.DisposeAsync();
            go.Dispose();
        }
    }

    private sealed record QueueLimits
    {
        public int MaxBatch { get; init; } = 256;

        public long MaxQueuedBytes { get; init; } = 64 << 20;

        public long MaxQueuedBytesPerParticipant { get; init; } = 16 << 20;

        public long QueuedBytesForFlash { get; init; } = 1 << 20;
    }

    [Fact]
    public async Task Each_command_has_a_span_in_its_own_trace_linked_to_its_batch_and_to_what_it_answers()
    {
        using var spans = new Spans();
        await using var ledger = await Open();
        const string Parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        var mine = $"traced-{Guid.NewGuid()}";
        var outcomes = await Together(ledger, Add("a", mine, "c", traceParent: Parent), Add("a", $"{mine}-2", "c"));
        var commits = spans
            .Ended.Where(s => ((string?)s.GetTagItem("ministries.request_id"))?.StartsWith(mine, StringComparison.Ordinal) == true)
            .ToList();
        Assert.Equal(2, commits.Count);
        Assert.Equal(["commit custody", "commit custody"], commits.Select(s => s.OperationName));
        var first = commits.Single(s => (string)s.GetTagItem("ministries.request_id")! == mine);
        Assert.Equal(("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"), (first.TraceId.ToString(), first.ParentSpanId.ToString()));
        Assert.Equal((long)(await outcomes[0]).Position!, first.GetTagItem("ministries.position"));
        Assert.Equal("case_1", first.GetTagItem("ministries.case"));
        var second = commits.Single(s => s != first);
        Assert.Equal(default, second.ParentSpanId);
        var link = Assert.Single(first.Links).Context;
        // The second changed the stream that the first had changed, so its span is linked to the first.
        Assert.Equal([link, first.Context], second.Links.Select(l => l.Context), (a, b) => a.SpanId == b.SpanId && a.TraceId == b.TraceId);
        await ledger.Drain();
        var batch = spans.Ended.Single(s => s.SpanId == link.SpanId);
        Assert.Equal(("batch custody", default(ActivitySpanId)), (batch.OperationName, batch.ParentSpanId));
        Assert.NotEqual(first.TraceId, batch.TraceId);
        Assert.Equal(first.Id, (await ledger.ReadEntry((await outcomes[0]).Position!.Value, null, Cancel))!.Entry.Traceparent);
    }

    [Fact]
    public async Task An_entry_that_is_too_large_is_not_recorded()
    {
        await using var ledger = await Open();
        var large = new string('x', 5 << 20);
        await Assert.ThrowsAsync<CommandFailedException>(() => ledger.Commit(Add("a", "1", "c", content: large), Cancel));
        await Assert.ThrowsAsync<CommandFailedException>(() =>
            ledger.Commit(
                Decides("a", "2", (_, _) => Decision.Accept("", [.. Enumerable.Range(0, 300).Select(i => $"t{i}")], [Change("c")])),
                Cancel
            )
        );
        await Assert.ThrowsAsync<CommandFailedException>(() => ledger.Commit(Add("a", "3", new string('k', 201)), Cancel));
        Assert.Equal(0UL, ledger.Size);
        Assert.Equal(1UL, (await ledger.Commit(Add("a", "4", "c"), Cancel)).CountOf());
    }
}
