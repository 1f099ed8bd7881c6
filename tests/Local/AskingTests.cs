using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Google.Rpc;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.CallLog;
using Ministries.Client;
using Ministries.Consular;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Local.Tests;

/// <summary>What the consular service asks custody over gRPC before a departure: the answer is kept, and no answer means refusal. And what
/// of custody's events its ledger shows to others.</summary>
public sealed class AskingTests : IAsyncLifetime
{
    private string Prisoner { get; set; } = "";

    private readonly string _folder = Directory.CreateTempSubdirectory("ministries-asking-").FullName;
    private readonly MemoryBroker _broker = new();
    private readonly ConcurrentDictionary<string, Uri> _addresses = [];
    private readonly Dictionary<string, WebApplication> _hosts = [];
    private Participants _participants = null!;
    private readonly byte[] _wish = RandomNumberGenerator.GetBytes(WishCommitments.Bytes);
    private string _transfer = "";
    private string _statement = "";

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private ParticipantClient Hq => _participants["ua/coordination-hq"];

    // What a participant may have in progress at custody: as much as it always can have where others are at work too, and one more for the
    // consular service's search for missed events.
    private static readonly EdgeLimits Few = new()
    {
        MaxCallsPerParticipant = new EdgeLimits().OwnPlaces + 1,
        MaxCallsBesideOthers = new EdgeLimits().OwnPlaces + 1,
    };

    public async ValueTask InitializeAsync()
    {
        var certificates = Path.Combine(_folder, "certificates");
        Pki.Init(certificates, StandardAgreement.Read(), TimeProvider.System, SealingKeyFile.Make);
        foreach (var service in new[] { CallLogService.Definition, Consular.ConsularService.Definition, Custody.CustodyService.Definition })
        {
            var keys = Path.Combine(certificates, "service", service.Name);
            var builder = WebApplication.CreateSlimBuilder();
            builder.Logging.ClearProviders();
            var host = _hosts[service.Name] = await ServiceHost.Build(
                service.Name == "custody" ? service.Registering(s => s.AddSingleton(Few)) : service,
                new Settings
                {
                    Ledger = $"sqlite:{Path.Combine(_folder, service.Name + ".db")}",
                    Broker = new Uri("memory:"),
                    Listen = new Uri("https://127.0.0.1:0"),
                    Certificate = Path.Combine(keys, "system.pem"),
                    CertificateKey = Path.Combine(keys, "system.key"),
                    Agreement = Path.Combine(certificates, "agreement.json"),
                    Checkpoint = Path.Combine(_folder, service.Name + ".checkpoint"),
                    CheckpointKey = Path.Combine(keys, "checkpoint.key"),
                    Peers = _addresses,
                    Drain = TimeSpan.FromSeconds(5),
                },
                builder,
                _broker,
                Cancel
            );
            await host.StartAsync(Cancel);
            _addresses[service.Name] = new Uri(host.Urls.Single());
        }
        _participants = await Participants.Join(certificates, _addresses, TimeSpan.FromMinutes(1), Cancel);
        await AnExchangeIsUnderReview();
    }

    public async ValueTask DisposeAsync()
    {
        await _participants.DisposeAsync();
        foreach (var host in _hosts.Values)
        {
            await host.StopAsync(CancellationToken.None);
            await host.DisposeAsync();
        }
        await _broker.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    /// <summary>Without the etag the write would not even have its form.</summary>
    [Fact]
    public async Task A_write_on_a_case_names_the_case_as_it_was_seen() =>
        Assert.Equal(
            "STATE_NOT_ALLOWED",
            (await Refused(() => Hq.Custody.ReopenCaseAsync(new(), cancellationToken: Cancel).ResponseAsync)).Reason
        );

    [Fact]
    public async Task The_answer_and_its_ledger_position_are_kept_and_without_an_answer_nothing_moves()
    {
        Assert.Equal("FITNESS_NOT_RECORDED", (await Refused(() => Decide().ResponseAsync)).Reason);
        var fit = await RecordThatHeIsFit();

        var agreed = await Decide();
        Assert.Equal(TransferState.Agreed, agreed.State);
        var entry = (
            await Hq.LedgerOf("consular")
                .GetEntryAsync(new GetEntryRequest { Position = agreed.Receipt.Position }, cancellationToken: Cancel)
        ).Entry;
        var asked = Any.Parser.ParseFrom(entry.Parts.Single(p => p.Kind == PartKind.Asked).Data).Unpack<DepartureCheck>();
        Assert.Equal(
            ("KR", Standing.InForce, true),
            (asked.Standing.Standings.Single().Destination, asked.Standing.Standings.Single().Standing, asked.Readiness.FitRecorded)
        );
        Assert.True(asked.Standing.Position > fit.Receipt.Position);
        var seen = (await Hq.Consular.GetTransferAsync(new() { Transfer = _transfer }, cancellationToken: Cancel)).Transfer;
        Assert.Equal(("DecideTransfer", Departures.PositionOf(asked)), (seen.Checks.Single().Step, seen.Checks.Single().CustodyPosition));

        await _hosts["custody"].StopAsync(Cancel);
        var size = await Size();
        var silent = await Refused(() => Schedule(DateTime.UtcNow.AddSeconds(8)).ResponseAsync);
        Assert.Equal("UNAVAILABLE", silent.Reason);
        Assert.StartsWith("ministries.custody.v1.CustodyService/Check", silent.Metadata["asked"], StringComparison.Ordinal);
        // What is refused before custody's answer matters is refused as usual.
        Assert.Equal("STATE_NOT_ALLOWED", (await Refused(() => Decide().ResponseAsync)).Reason);
        Assert.Equal(size, await Size());
        Assert.Equal(
            TransferState.Agreed,
            (await Hq.Consular.GetTransferAsync(new() { Transfer = _transfer }, cancellationToken: Cancel)).Transfer.State
        );
    }

    [Fact]
    public async Task Whoever_accepts_again_is_asked_for_by_a_new_decision_that_opens_both_statements()
    {
        await RecordThatHeIsFit();
        await Decide();
        var again = RandomNumberGenerator.GetBytes(WishCommitments.Bytes);
        var recorded = await HeAccepts("KR", again);
        await _participants.WaitUntilProcessed("consular", "custody", recorded, Cancel);
        Assert.Equal(TransferState.Suspended, await State());
        // What he said since is an objection to whoever cannot open it.
        Assert.Equal("STANDING_NOT_IN_FORCE", (await Refused(() => Decide().ResponseAsync)).Reason);
        Assert.Equal(TransferState.Agreed, (await Decide(again)).State);
        // The service asks with what was opened at every later step.
        Assert.Equal(TransferState.Scheduled, (await Schedule()).State);
        var seoul = await _participants["kr/mfa"].Consular.GetTransferAsync(new() { Transfer = _transfer }, cancellationToken: Cancel);
        Assert.Equal(2, seoul.Transfer.Decision.Openings.Count);
        // Custody keeps nothing of them: neither its database nor the write-ahead log holds one.
        foreach (var file in Directory.GetFiles(_folder, "custody.db*"))
        {
            await using var open = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            var bytes = new byte[open.Length];
            await open.ReadExactlyAsync(bytes, Cancel);
            Assert.All(seoul.Transfer.Decision.Openings, o => Assert.Equal(-1, bytes.AsSpan().IndexOf(o.Span)));
        }

        async Task<TransferState> State() =>
            (await Hq.Consular.GetTransferAsync(new() { Transfer = _transfer }, cancellationToken: Cancel)).Transfer.State;
    }

    [Fact]
    public async Task The_openings_of_a_decision_are_made_from_what_the_detaining_power_can_open()
    {
        await RecordThatHeIsFit();
        ByteString[] first = [WishCommitments.OpeningOf(Hq.Case, Prisoner, "KR", _wish)];
        Assert.Equal(first, await OpeningsBy("ua/coordination-hq"));
        // What was given stays, a decision that declines shows nothing, and one that is approved does not change.
        ByteString[] given = [ByteString.CopyFrom(new byte[32])];
        Assert.Equal(given, await OpeningsBy("ua/coordination-hq", d => d.Openings.Add(given)));
        Assert.Empty(await OpeningsBy("ua/coordination-hq", d => d.Agreed = false));
        Assert.Empty(await OpeningsBy("ua/coordination-hq", d => d.Approvals.Add(new Approval())));
        // One to whom no statement is sealed can show nothing.
        Assert.Empty(await OpeningsBy("kr/mfa"));
        // It is for the caller to say whose wish is shown, and for which destination.
        await Assert.ThrowsAsync<ArgumentException>(() => OpeningsBy("ua/coordination-hq", destination: "UA"));
        await Assert.ThrowsAsync<ArgumentException>(() => OpeningsBy("ua/coordination-hq", of: "pris_00000000000000000000000009"));

        // He accepts again: what he said since counts with it.
        var again = RandomNumberGenerator.GetBytes(WishCommitments.Bytes);
        await HeAccepts("KR", again);
        ByteString[] both = [WishCommitments.OpeningOf(Hq.Case, Prisoner, "KR", again), .. first];
        Assert.Equal(both, await OpeningsBy("ua/coordination-hq"));
        // Then another state only: what he said before proves nothing, and is shown to nobody. Nor could it be used.
        var position = await HeAccepts("CH", RandomNumberGenerator.GetBytes(WishCommitments.Bytes));
        Assert.Empty(await OpeningsBy("ua/coordination-hq"));
        await _participants.WaitUntilProcessed("consular", "custody", position, Cancel);
        var decision = new DecideTransferRequest
        {
            Transfer = _transfer,
            Agreed = true,
            NoteVerbale = "NV-2",
            Openings = { both },
        };
        Assert.Equal(
            "STANDING_NOT_IN_FORCE",
            (await Refused(() => Hq.Consular.DecideTransferAsync(decision, cancellationToken: Cancel).ResponseAsync)).Reason
        );

        async Task<IEnumerable<ByteString>> OpeningsBy(
            string participant,
            Action<DecideTransferRequest>? change = null,
            string? of = null,
            string destination = "KR"
        )
        {
            var decision = new DecideTransferRequest
            {
                Case = Hq.Case,
                Transfer = _transfer,
                Agreed = true,
            };
            change?.Invoke(decision);
            await _participants[participant].Client.AddOpenings(decision, destination, [of ?? Prisoner], Cancel);
            return decision.Openings;
        }
    }

    [Fact]
    public async Task The_requesting_state_verifies_that_an_agreement_rests_on_what_was_attested_and_learns_nothing_else()
    {
        await RecordThatHeIsFit();
        await Decide();
        var seoul = _participants["kr/mfa"];
        var transfer = await Transfer();
        var shown = await Show("kr/mfa", Prisoner, "KR", [.. transfer.Decision.Openings]);
        Assert.Equal(AgreedTransferFault.None, Verify(transfer, shown));
        var attested = Assert.Single(shown.Statements);
        Assert.Equal(
            [AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer],
            attested.Attestations.Select(a => a.Role).Order()
        );

        // What is forged, or is of another destination, does not verify.
        foreach (var (fault, forge) in Forgeries())
        {
            var (forged, other) = (shown.Clone(), transfer.Clone());
            forge(forged.Statements[0], other);
            Assert.Equal(fault, Verify(other, forged));
        }
        // Without an opening that opens there is nothing to see, as if there were no such prisoner.
        ByteString[] openings = [.. transfer.Decision.Openings];
        ByteString[] ofAnother = [WishCommitments.OpeningOf(seoul.Case, Prisoner, "UA", _wish)];
        foreach (
            var call in (Func<Task>[])
                [
                    () => Show("kr/mfa", Prisoner, "UA", openings),
                    () => Show("kr/mfa", Prisoner, "KR", ofAnother),
                    () => Show("kr/mfa", "pris_00000000000000000000000009", "KR", openings),
                    () => Show("kr/unification", Prisoner, "KR", openings),
                ]
        )
            Assert.Equal("NOT_FOUND", (await Refused(call)).Reason);

        // Who attested it takes that back: the transfer is suspended, and nothing is agreed to. Why, the answer does not tell.
        var revoked = await _participants["icrc"]
            .Custody.RevokeAttestationAsync(
                new()
                {
                    Prisoner = Prisoner,
                    Statement = _statement,
                    Role = AttesterRole.Interpreter,
                    Reason = RevocationReason.InterpretationWrong,
                },
                cancellationToken: Cancel
            );
        await _participants.WaitUntilProcessed("consular", "custody", revoked.Receipt.Position, Cancel);
        Assert.Equal(AgreedTransferFault.NotAgreed, Verify(await Transfer(), shown));
        Assert.Equal(shown, await Show("kr/mfa", Prisoner, "KR", openings));

        async Task<Transfer> Transfer() =>
            (await seoul.Consular.GetTransferAsync(new() { Transfer = _transfer }, cancellationToken: Cancel)).Transfer;

        async Task<CheckAttestationResponse> Show(string who, string prisoner, string destination, ByteString[] opened) =>
            await _participants[who]
                .Custody.CheckAttestationAsync(
                    new()
                    {
                        Case = seoul.Case,
                        Prisoner = prisoner,
                        Destination = destination,
                        Openings = { opened },
                    },
                    cancellationToken: Cancel
                );

        AgreedTransferFault Verify(Transfer of, CheckAttestationResponse by) =>
            AgreedTransfers.Verify(of, by.Statements, [Prisoner], new Permissions(seoul.Client.Agreement));
    }

    private static IEnumerable<(AgreedTransferFault Fault, Action<AttestedStatement, Transfer> Forge)> Forgeries() =>
        [
            (AgreedTransferFault.NotOpened, (_, t) => t.Destination = "CH"),
            (AgreedTransferFault.NotOpened, (_, t) => t.Decision.Openings.Clear()),
            (AgreedTransferFault.NotOpened, (s, _) => s.Prisoner = "pris_00000000000000000000000009"),
            (AgreedTransferFault.NotOpened, (s, _) => s.Commitments.RemoveAt(0)),
            (AgreedTransferFault.NotAgreed, (_, t) => t.State = TransferState.UnderReview),
            (AgreedTransferFault.TooOld, (s, t) => s.ExpireTime = t.Decision.DecideTime),
            (AgreedTransferFault.AttestationWrong, (s, _) => s.ExpireTime.Seconds += 86_400),
            (AgreedTransferFault.AttestationWrong, (s, _) => s.RestDigest = ByteString.CopyFrom(new byte[32])),
            (AgreedTransferFault.AttestationWrong, (s, _) => s.Interpreted = false),
            (AgreedTransferFault.AttestationWrong, (s, _) => s.Attestations[0].Signature = s.Attestations[1].Signature),
            (AgreedTransferFault.AttestationWrong, (s, _) => s.Attestations[0].OfficialKey = s.Attestations[1].OfficialKey),
            (AgreedTransferFault.AttestationWrong, (s, _) => s.Attestations[0].Time = null),
            (AgreedTransferFault.AttesterMissing, (s, _) => s.Attestations.RemoveAt(0)),
            (AgreedTransferFault.AttesterMissing, (s, _) => s.Attestations[2].Participant = "kr/mfa"),
            (AgreedTransferFault.WitnessOfAParty, (s, _) => s.Attestations[0].Participant = "ua/mfa"),
        ];

    [Fact]
    public async Task That_he_came_to_hospital_reaches_no_requesting_state_by_any_ledger()
    {
        var admitted = await Hq.Custody.RecordStatusAsync(
            new()
            {
                Prisoner = Prisoner,
                Status = CustodyState.Hospitalised,
                StatusTime = In(0),
            },
            cancellationToken: Cancel
        );
        foreach (var service in _addresses.Keys.Where(s => s != "custody"))
            await _participants.WaitUntilProcessed(service, "custody", admitted.Receipt.Position, Cancel);
        foreach (var service in _addresses.Keys)
            Assert.DoesNotContain(await MethodsSeen("kr/mfa", service), m => m.Contains("Status", StringComparison.Ordinal));
        // Who may know of it does.
        Assert.Contains("ministries.custody.v1.CustodyService/RecordStatus", await MethodsSeen("icrc", "custody"));
        Assert.NotEmpty(await MethodsSeen("kr/mfa", "consular"));
    }

    [Fact]
    public async Task However_many_departures_are_asked_about_at_once_each_question_finds_a_place()
    {
        var refused = 0L;
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, l) =>
        {
            if (instrument.Name == "ministries.refusals")
                l.EnableMeasurementEvents(instrument);
        };
        listener.SetMeasurementEventCallback<long>(
            (_, count, tags, _) =>
            {
                foreach (var tag in tags)
                    if (tag.Value is "OVERLOADED")
                        Interlocked.Add(ref refused, count);
            }
        );
        listener.Start();
        List<string> transfers = [];
        for (var i = 1; i <= 12; i++)
        {
            if (i > 1)
                await AnExchangeIsUnderReview($"P-{i}");
            await Again(RecordThatHeIsFit);
            await Again(() => Decide().ResponseAsync);
            transfers.Add(_transfer);
        }
        Interlocked.Exchange(ref refused, 0);
        // With another party each departure of the case is asked about again.
        var admitted = await Hq.Custody.AdmitPartyAsync(
            new() { Participant = "ua/mfa", Part = Part.DetainingPower },
            cancellationToken: Cancel
        );
        await _participants.WaitUntilProcessed("consular", "custody", admitted.Receipt.Position, Cancel);
        Assert.Equal(0, Interlocked.Read(ref refused));
        foreach (var transfer in transfers)
        {
            var seen = (await Hq.Consular.GetTransferAsync(new() { Transfer = transfer }, cancellationToken: Cancel)).Transfer;
            Assert.Equal(TransferState.Agreed, seen.State);
        }

        // What happens to one changes the record under the next writer's hands.
        static async Task Again(Func<Task> write)
        {
            while (true)
                try
                {
                    await write();
                    return;
                }
                catch (RpcException e) when (e.StatusCode == StatusCode.Aborted) { }
        }
    }

    private async Task<IReadOnlyList<string>> MethodsSeen(string participant, string service)
    {
        using var call = _participants[participant]
            .LedgerOf(service)
            .FollowEntries(new FollowEntriesRequest { UntilNow = true }, cancellationToken: Cancel);
        var methods = new List<string>();
        await foreach (var response in call.ResponseStream.ReadAllAsync(Cancel))
            if (response.Entry is { } entry)
                methods.Add(EntryHeader.Parser.ParseFrom(entry.Header).Method);
        return methods;
    }

    // An exchange of a prisoner who said in private that he wants it. Only his fitness to travel is missing.
    private async Task AnExchangeIsUnderReview()
    {
        var opened = await Hq.Custody.OpenCaseAsync(new(), cancellationToken: Cancel);
        _participants.SetCase(opened.Case);
        await Hq.Custody.AdmitPartyAsync(new() { Participant = "kr/mfa", Part = Part.RequestingState }, cancellationToken: Cancel);
        await Hq.Custody.AdmitPartyAsync(new() { Participant = "icrc", Part = Part.NeutralObserver }, cancellationToken: Cancel);
        await AnExchangeIsUnderReview("P-1");
    }

    private async Task AnExchangeIsUnderReview(string identity)
    {
        Prisoner = (
            await Hq.Custody.RegisterPrisonerAsync(
                new()
                {
                    Status = CustodyState.Interned,
                    CaptureTime = In(-60),
                    Identity = ParticipantClient.Seal(InventedIdentities.Of(identity), "icrc"),
                },
                cancellationToken: Cancel
            )
        ).Prisoner;
        await Hq.Custody.RecordClaimAsync(
            new()
            {
                Prisoner = Prisoner,
                Claimant = "UA",
                StateClaimed = "KR",
                Basis = ClaimBasis.ArmedForces,
            },
            cancellationToken: Cancel
        );
        await HeAccepts("KR", _wish);
        var assessed = await Hq.Custody.RecordRiskAssessmentAsync(
            new()
            {
                Prisoner = Prisoner,
                Destination = "KR",
                Finding = RiskFinding.NoSubstantialRisk,
                AssessTime = In(0),
                ExpireTime = In(30),
            },
            cancellationToken: Cancel
        );
        await _participants.WaitUntilProcessed("consular", "custody", assessed.Receipt.Position, Cancel);
        var seoul = _participants["kr/mfa"];
        _transfer = (
            await seoul.Consular.DraftTransferRequestAsync(
                new()
                {
                    Prisoner = Prisoner,
                    Route = Route.Exchange,
                    Destination = "KR",
                },
                cancellationToken: Cancel
            )
        ).Transfer;
        await seoul.Consular.SubmitTransferRequestAsync(new() { Transfer = _transfer, NoteVerbale = "NV-1" }, cancellationToken: Cancel);
        await Hq.Consular.BeginReviewAsync(new() { Transfer = _transfer }, cancellationToken: Cancel);
    }

    private async Task<RecordFitnessResponse> RecordThatHeIsFit()
    {
        var fit = await Hq.Custody.RecordFitnessAsync(
            new()
            {
                Prisoner = Prisoner,
                Fit = true,
                Physician = "physician-7",
                ExamineTime = In(0),
                ExpireTime = In(30),
            },
            cancellationToken: Cancel
        );
        await _participants.WaitUntilProcessed("consular", "custody", fit.Receipt.Position, Cancel);
        return fit;
    }

    private async Task<ulong> HeAccepts(string destination, byte[] wish)
    {
        var redCross = _participants["icrc"];
        var now = In(0);
        var attendants = new[] { AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer }
            .Select((role, i) => (Role: role, Actor: redCross.OtherOfficial($"{role}", i + 2)))
            .ToArray();
        var recorded = await redCross.Custody.RecordStatementAsync(
            new()
            {
                Prisoner = Prisoner,
                StatementTime = now,
                Language = "ko",
                LanguageUnderstood = true,
                Uncoerced = true,
                Interpreter = attendants[1].Actor.Official,
                Commitments = { WishCommitments.Make(_participants["icrc"].Case, Prisoner, [destination], wish) },
                Interview = new Interview
                {
                    WithoutWitnesses = true,
                    PlaceKind = PlaceKind.Internment,
                    InterviewTime = now,
                    Attendants =
                    {
                        attendants.Select(a => new Attendant
                        {
                            Role = a.Role,
                            Participant = "icrc",
                            Official = a.Actor.Official,
                        }),
                    },
                    OptionsExplained = { OptionExplained.Home, OptionExplained.Stay },
                    Safeguards = { Safeguard.Voluntary },
                },
                Content = ParticipantClient.Seal(
                    new StatementContent { AcceptedDestinations = { destination }, WishSecret = Google.Protobuf.ByteString.CopyFrom(wish) },
                    "icrc",
                    "ua/coordination-hq"
                ),
            },
            cancellationToken: Cancel
        );
        _statement = recorded.Statement;
        var last = recorded.Receipt.Position;
        foreach (var (role, actor) in attendants)
            last = (
                await redCross.Custody.AttestStatementAsync(
                    new()
                    {
                        Prisoner = Prisoner,
                        Statement = recorded.Statement,
                        Role = role,
                        Actor = actor,
                    },
                    cancellationToken: Cancel
                )
            ).Receipt.Position;
        return last;
    }

    private AsyncUnaryCall<DecideTransferResponse> Decide(params IEnumerable<byte[]> since) =>
        Hq.Consular.DecideTransferAsync(
            new()
            {
                Transfer = _transfer,
                Agreed = true,
                NoteVerbale = "NV-2",
                Openings = { since.Prepend(_wish).Select(w => WishCommitments.OpeningOf(Hq.Case, Prisoner, "KR", w)) },
            },
            cancellationToken: Cancel
        );

    private AsyncUnaryCall<ScheduleHandoverResponse> Schedule(DateTime? deadline = null) =>
        Hq.Consular.ScheduleHandoverAsync(
            new()
            {
                Transfer = _transfer,
                WindowStartTime = In(1),
                WindowEndTime = In(2),
                HandoverReference = "HO-1",
            },
            deadline: deadline,
            cancellationToken: Cancel
        );

    private async Task<ulong> Size() =>
        (await Hq.LedgerOf("consular").GetCheckpointAsync(new GetCheckpointRequest(), cancellationToken: Cancel)).TreeSize;

    private static async Task<ErrorInfo> Refused(Func<Task> call)
    {
        var refusal = await Assert.ThrowsAnyAsync<RpcException>(call);
        return Timeline.InfoOf(refusal) ?? throw new InvalidOperationException($"it gave no reason: {refusal.Message}");
    }

    private static Timestamp In(double days) => DateTimeOffset.UtcNow.AddDays(days).ToTimestamp();
}
