using System.Security.Cryptography;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using NSec.Cryptography;
using Client = Ministries.Custody.V1.CustodyService.CustodyServiceClient;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody.Tests;

/// <summary>Custody as it is served: over TLS by the real host, on SQLite.</summary>
public sealed class ServiceTests(ServiceTests.Running running) : IClassFixture<ServiceTests.Running>
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_case_is_opened_a_prisoner_registered_and_his_statement_counts_for_the_consular_service_alone()
    {
        var kr = running.As(CaseFixture.Kr);
        var (opened, registered) = await ACaseWithAPrisoner();
        Assert.Equal("custody", opened.Receipt.Service);
        Assert.Equal(CustodyState.Interned, registered.State);

        var consular = running.As("service/consular");
        var wish = RandomNumberGenerator.GetBytes(WishCommitments.Bytes);
        var question = new CheckStandingRequest
        {
            Case = opened.Case,
            Prisoner = registered.Prisoner,
            Route = Route.Article12Transfer,
            Destinations = { "KR", "KP" },
            Openings = { WishCommitments.OpeningOf(opened.Case, registered.Prisoner, "KR", wish) },
        };
        var before = await consular.CheckStandingAsync(question, cancellationToken: Cancel);
        Assert.All(before.Standings, s => Assert.Equal(Standing.NotInForce, s.Standing));

        var (statement, attested) = await HisStatement(opened.Case, registered.Prisoner, wish);
        var after = await consular.CheckStandingAsync(question, cancellationToken: Cancel);
        Assert.Equal([Standing.InForce, Standing.NotInForce], after.Standings.Select(s => s.Standing));
        Assert.Equal(before.Position + 4, after.Position);
        var readiness = new CheckReadinessRequest
        {
            Case = opened.Case,
            Prisoner = registered.Prisoner,
            Route = Route.Article12Transfer,
            Destination = "KR",
        };
        Assert.True((await consular.CheckReadinessAsync(readiness, cancellationToken: Cancel)).FreeToDepart);
        await Refused(StatusCode.PermissionDenied, "NOT_GRANTED", () => kr.CheckStandingAsync(question).ResponseAsync);
        question.Prisoner = "pris_00000000000000000000000009";
        await Refused(StatusCode.NotFound, "NOT_FOUND", () => consular.CheckStandingAsync(question).ResponseAsync);

        await HisStatementIsForWhoHoldsHim(opened.Case, registered.Prisoner, statement);
        await TheCaseIsForItsParties(opened.Case);
        await AnObserversEntryIsReadAndNotProvedUntilItPermits(attested.Receipt.Position, opened.Receipt.Position);
    }

    private async Task<(OpenCaseResponse, RegisterPrisonerResponse)> ACaseWithAPrisoner()
    {
        var hq = running.As(CaseFixture.Hq);
        var opened = await hq.OpenCaseAsync(new OpenCaseRequest { RequestId = Id(), Actor = CaseFixture.Actor }, cancellationToken: Cancel);
        var etag = opened.Etag;
        foreach (var (who, part) in ((string, Part)[])[(CaseFixture.Kr, Part.RequestingState), (CaseFixture.Icrc, Part.NeutralObserver)])
        {
            var admit = new AdmitPartyRequest
            {
                RequestId = Id(),
                Actor = CaseFixture.Actor,
                Etag = etag,
                Case = opened.Case,
                Participant = who,
                Part = part,
            };
            etag = (await hq.AdmitPartyAsync(admit, cancellationToken: Cancel)).Etag;
        }
        return (opened, await Register(opened.Case, CaseFixture.Seal(CaseFixture.Icrc)));
    }

    private async Task<RegisterPrisonerResponse> Register(string @case, Sealed identity)
    {
        var hq = running.As(CaseFixture.Hq);
        var seen = await hq.GetCaseAsync(new GetCaseRequest { Case = @case }, cancellationToken: Cancel);
        return await hq.RegisterPrisonerAsync(
            new RegisterPrisonerRequest
            {
                RequestId = Id(),
                Actor = CaseFixture.Actor,
                Etag = seen.Etag,
                Case = @case,
                Status = CustodyState.Interned,
                CaptureTime = Ago(24),
                Identity = identity,
            },
            cancellationToken: Cancel
        );
    }

    /// <summary>The Red Cross records what he said, and each who was there attests it.</summary>
    private async Task<(string Statement, AttestStatementResponse Last)> HisStatement(
        string @case,
        string prisoner,
        byte[] wish,
        string destination = "KR"
    )
    {
        var icrc = running.As(CaseFixture.Icrc);
        var seen = await icrc.GetPrisonerAsync(new GetPrisonerRequest { Case = @case, Prisoner = prisoner }, cancellationToken: Cancel);
        var interview = CaseFixture.Interview();
        interview.InterviewTime = Ago(2);
        var record = new RecordStatementRequest
        {
            RequestId = Id(),
            Actor = CaseFixture.Actor,
            Etag = seen.Etag,
            Case = @case,
            Prisoner = prisoner,
            StatementTime = Ago(1),
            Language = "ko",
            LanguageUnderstood = true,
            Uncoerced = true,
            Interpreter = "i-2",
            Interview = interview,
            Commitments = { WishCommitments.Make(@case, prisoner, [destination], wish) },
            Content = CaseFixture.Seal(CaseFixture.Hq),
        };
        var recorded = await icrc.RecordStatementAsync(record, cancellationToken: Cancel);
        var etag = recorded.StatementEtag;
        var unattested = await icrc.GetStatementAsync(
            new GetStatementRequest { Statement = recorded.Statement },
            cancellationToken: Cancel
        );
        AttestStatementResponse attested = null!;
        foreach (var attendant in interview.Attendants)
        {
            var request = new AttestStatementRequest
            {
                RequestId = Id(),
                Actor = CaseFixture.Named(attendant.Official),
                Etag = etag,
                Case = @case,
                Prisoner = prisoner,
                Statement = recorded.Statement,
                Role = attendant.Role,
            };
            running.Sign(request, unattested.Statement);
            attested = await icrc.AttestStatementAsync(request, cancellationToken: Cancel);
            etag = attested.Etag;
        }
        return (recorded.Statement, attested);
    }

    private async Task HisStatementIsForWhoHoldsHim(string @case, string prisoner, string statement)
    {
        var (hq, kr) = (running.As(CaseFixture.Hq), running.As(CaseFixture.Kr));
        var request = new GetStatementRequest { Statement = statement };
        var read = await hq.GetStatementAsync(request, cancellationToken: Cancel);
        Assert.Equal(StatementState.Attested, read.Statement.State);
        Assert.NotEmpty(read.Statement.Content.Content);
        await Refused(StatusCode.NotFound, "NOT_FOUND", () => kr.GetStatementAsync(request).ResponseAsync);
        var listed = new ListStatementsRequest { Case = @case, Prisoner = prisoner };
        Assert.Single((await hq.ListStatementsAsync(listed, cancellationToken: Cancel)).Statements);
        Assert.Empty((await kr.ListStatementsAsync(listed, cancellationToken: Cancel)).Statements);
        var prisoners = await kr.ListPrisonersAsync(new ListPrisonersRequest { Case = @case, Held = true }, cancellationToken: Cancel);
        Assert.Equal(CustodyState.Unspecified, Assert.Single(prisoners.Prisoners).State);
    }

    private async Task TheCaseIsForItsParties(string @case)
    {
        var (kr, stranger) = (running.As(CaseFixture.Kr), running.As(CaseFixture.Unification));
        var request = new GetCaseRequest { Case = @case };
        Assert.Equal(3, (await kr.GetCaseAsync(request, cancellationToken: Cancel)).Case.Parties.Count);
        var open = await kr.ListCasesAsync(new ListCasesRequest { State = CaseState.Open }, cancellationToken: Cancel);
        Assert.Contains(open.Cases, c => c.Id == @case);
        Assert.Empty((await stranger.ListCasesAsync(new ListCasesRequest(), cancellationToken: Cancel)).Cases);
        await Refused(StatusCode.NotFound, "NOT_FOUND", () => stranger.GetCaseAsync(request).ResponseAsync);
    }

    private async Task AnObserversEntryIsReadAndNotProvedUntilItPermits(ulong position, ulong another)
    {
        var attestation = await Entry(CaseFixture.Hq, position);
        Assert.True(attestation.Privileged);
        // Its signature, and an approval in the request, would prove by themselves what was signed.
        Assert.Equal([PartKind.Events], attestation.Parts.Select(p => p.Kind));
        Assert.All(attestation.Parts, p => Assert.True(p.Salt.IsEmpty && !p.Data.IsEmpty));
        Assert.False((await Entry(CaseFixture.Icrc, position)).Privileged);
        Assert.False((await Entry(CaseFixture.Icrc, another)).Privileged);
        await Refused(StatusCode.NotFound, "NOT_FOUND", () => Entry(CaseFixture.Kr, position));

        await Refused(StatusCode.PermissionDenied, "NOT_GRANTED", () => Permit(CaseFixture.Hq, another));
        await Refused(StatusCode.NotFound, "NOT_FOUND", () => Permit(CaseFixture.Icrc, another));
        await Refused(StatusCode.NotFound, "NOT_FOUND", () => Permit(CaseFixture.Icrc, 1_000_000));
        Assert.Equal("custody", (await Permit(CaseFixture.Icrc, position)).Receipt.Service);
        await Refused(StatusCode.AlreadyExists, "ALREADY_EXISTS", () => Permit(CaseFixture.Icrc, position));

        attestation = await Entry(CaseFixture.Hq, position);
        Assert.False(attestation.Privileged);
        Assert.Equal([PartKind.Request, PartKind.Events, PartKind.Signature], attestation.Parts.Select(p => p.Kind).Order());
        var header = EntryHeader.Parser.ParseFrom(attestation.Header);
        Assert.All(
            attestation.Parts,
            p =>
                Assert.Contains(
                    header.Parts,
                    d => d.Kind == p.Kind && d.Digest.Span.SequenceEqual(Digests.OfPart(p.Salt.Span, p.Data.Span))
                )
        );

        async Task<Entry> Entry(string who, ulong at) =>
            (await running.LedgerAs(who).GetEntryAsync(new GetEntryRequest { Position = at }, cancellationToken: Cancel)).Entry;

        async Task<PermitDisclosureResponse> Permit(string who, ulong at) =>
            await running
                .LedgerAs(who)
                .PermitDisclosureAsync(
                    new PermitDisclosureRequest
                    {
                        RequestId = Id(),
                        Actor = CaseFixture.Actor,
                        Position = at,
                    },
                    cancellationToken: Cancel
                );
    }

    [Fact]
    public async Task The_same_request_gets_the_same_answer_and_a_refusal_keeps_its_reason()
    {
        var hq = running.As(CaseFixture.Hq);
        var request = new OpenCaseRequest { RequestId = Id(), Actor = CaseFixture.Actor };
        var first = await hq.OpenCaseAsync(request, cancellationToken: Cancel);
        var again = await hq.OpenCaseAsync(request, cancellationToken: Cancel);
        Assert.Equal((first.Case, first.Receipt.Position), (again.Case, again.Receipt.Position));
        var close = new CloseCaseRequest
        {
            RequestId = Id(),
            Actor = CaseFixture.Actor,
            Etag = "of-another-time",
            Case = first.Case,
        };
        await Refused(StatusCode.Aborted, "STALE", () => hq.CloseCaseAsync(close).ResponseAsync);
        await Refused(StatusCode.Aborted, "STALE", () => hq.CloseCaseAsync(close).ResponseAsync);
        close.RequestId = Id();
        close.Etag = first.Etag;
        Assert.Equal(CaseState.Closed, (await hq.CloseCaseAsync(close, cancellationToken: Cancel)).State);
    }

    [Fact]
    public async Task What_custody_is_told_of_a_person_reaches_no_other_state_and_no_one_alone_makes_two_persons_one()
    {
        var hq = running.As(CaseFixture.Hq);
        var opened = await hq.OpenCaseAsync(new OpenCaseRequest { RequestId = Id(), Actor = CaseFixture.Actor }, cancellationToken: Cancel);
        var to = await Register(opened.Case, CaseFixture.Seal(CaseFixture.Icrc));
        await Refused(
            StatusCode.FailedPrecondition,
            "RECIPIENT_NOT_RELEASED",
            () => Register(opened.Case, CaseFixture.Seal(CaseFixture.Icrc, CaseFixture.Kr))
        );
        await Refused(
            StatusCode.InvalidArgument,
            "REQUEST_INVALID",
            () => Register(opened.Case, new Sealed(CaseFixture.Seal(CaseFixture.Icrc)) { Scheme = "plain-text" })
        );
        var first = await Register(opened.Case, CaseFixture.Seal(CaseFixture.Icrc));
        await Refused(
            StatusCode.FailedPrecondition,
            "APPROVALS_MISSING",
            () =>
                hq.LinkDuplicateAsync(
                    new LinkDuplicateRequest
                    {
                        RequestId = Id(),
                        Actor = CaseFixture.Actor,
                        Etag = first.Etag,
                        Case = opened.Case,
                        Prisoner = first.Prisoner,
                        SameAsPrisoner = to.Prisoner,
                    }
                ).ResponseAsync
        );
    }

    /// <summary>One observer alone removes no statement (D9).</summary>
    [Fact]
    public async Task What_was_said_before_a_link_was_undone_still_stops_a_departure_until_he_speaks_again()
    {
        var (hq, icrc, consular) = (running.As(CaseFixture.Hq), running.As(CaseFixture.Icrc), running.As("service/consular"));
        var (opened, kept) = await ACaseWithAPrisoner();
        var other = await Register(opened.Case, CaseFixture.Seal(CaseFixture.Icrc));
        var wish = RandomNumberGenerator.GetBytes(WishCommitments.Bytes);
        await HisStatement(opened.Case, kept.Prisoner, wish);
        await HisStatement(opened.Case, other.Prisoner, RandomNumberGenerator.GetBytes(WishCommitments.Bytes), "UA");
        Assert.Equal(Standing.InForce, await Stands());

        var link = new LinkDuplicateRequest
        {
            RequestId = Id(),
            Actor = CaseFixture.Actor,
            Etag = await EtagOf(hq, other.Prisoner),
            Case = opened.Case,
            Prisoner = other.Prisoner,
            SameAsPrisoner = kept.Prisoner,
        };
        running.Approve(link, CaseFixture.Hq);
        await hq.LinkDuplicateAsync(link, cancellationToken: Cancel);
        var confirm = new ConfirmDuplicateRequest
        {
            RequestId = Id(),
            Actor = CaseFixture.Actor,
            Etag = await EtagOf(icrc, other.Prisoner),
            Case = opened.Case,
            Prisoner = other.Prisoner,
            SameAsPrisoner = kept.Prisoner,
            SameAsEtag = await EtagOf(icrc, kept.Prisoner),
        };
        var linked = await icrc.ConfirmDuplicateAsync(confirm, cancellationToken: Cancel);
        Assert.Equal(Standing.NotInForce, await Stands());
        var undo = new CorrectRecordRequest
        {
            RequestId = Id(),
            Actor = CaseFixture.Actor,
            Etag = await EtagOf(icrc, other.Prisoner),
            Case = opened.Case,
            Prisoner = other.Prisoner,
            Position = linked.Receipt.Position,
            Reason = "mistaken",
        };
        await icrc.CorrectRecordAsync(undo, cancellationToken: Cancel);
        Assert.Equal(Standing.NotInForce, await Stands());
        await HisStatement(opened.Case, kept.Prisoner, wish);
        Assert.Equal(Standing.InForce, await Stands());

        async Task<string> EtagOf(Client client, string reference) =>
            (
                await client.GetPrisonerAsync(
                    new GetPrisonerRequest { Case = opened.Case, Prisoner = reference },
                    cancellationToken: Cancel
                )
            ).Etag;
        async Task<Standing> Stands()
        {
            var question = new CheckStandingRequest
            {
                Case = opened.Case,
                Prisoner = kept.Prisoner,
                Route = Route.Article12Transfer,
                Destinations = { "KR" },
                Openings = { WishCommitments.OpeningOf(opened.Case, kept.Prisoner, "KR", wish) },
            };
            return (await consular.CheckStandingAsync(question, cancellationToken: Cancel)).Standings.Single().Standing;
        }
    }

    [Fact]
    public async Task Every_fault_of_a_request_is_told_at_once() =>
        await Refused(
            StatusCode.InvalidArgument,
            "REQUEST_INVALID",
            () =>
                running.As(CaseFixture.Icrc).RecordStatementAsync(new RecordStatementRequest { Case = "?", Language = "??" }).ResponseAsync
        );

    private static string Id() => Guid.NewGuid().ToString();

    private static Timestamp Ago(double hours) => DateTimeOffset.UtcNow.AddHours(-hours).ToTimestamp();

    private static async Task Refused(StatusCode code, string reason, Func<Task> call)
    {
        var e = await Assert.ThrowsAnyAsync<RpcException>(call);
        Assert.Equal(code, e.StatusCode);
        Assert.Equal(reason, e.GetRpcStatus()!.Details[0].Unpack<Google.Rpc.ErrorInfo>().Reason);
    }

    /// <summary>The service, on a free port of the loopback address.</summary>
    public sealed class Running : IAsyncLifetime
    {
        private readonly string _folder = Directory.CreateTempSubdirectory("custody").FullName;

        /// <summary>Signs an attestation of the Red Cross as its official.</summary>
        public void Sign(AttestStatementRequest request, Statement statement)
        {
            var agreement = Signing.Agreement(_folder);
            using var key = Key.Create(SignatureAlgorithm.Ed25519);
            using var requests = Ministries.Keys.KeySource.Open(Path.Combine(_folder, CaseFixture.Icrc, "requests.key"));
            var (owner, now) = (agreement.Participants.Single(p => p.Id == CaseFixture.Icrc), DateTimeOffset.UtcNow);
            var vouched = Attestations.CertifyKey(
                agreement.TrustDomain,
                owner,
                requests,
                request.Actor.Official,
                key.PublicKey,
                now.AddMinutes(-1),
                now.AddDays(1)
            );
            var digest = StatementDigests.Of(statement, statement.Content.Digest);
            Attestations.Sign(request, digest, agreement.TrustDomain, owner.Id, key, vouched);
        }

        /// <summary>Approves a request as an official of the participant.</summary>
        public void Approve(Google.Protobuf.IMessage request, string participant)
        {
            var agreement = Signing.Agreement(_folder);
            using var key = Signing.KeyIn(
                Path.Combine(_folder, participant, "officials", $"{participant.Replace('/', '-')}-official-1.key")
            );
            Approvals.Add(request, agreement.TrustDomain, agreement.Participants.Single(p => p.Id == participant), key, "legal");
        }

        private readonly List<IDisposable> _open = [];
        private readonly MemoryBroker _broker = new();
        private WebApplication? _host;
        private string _address = "";

        public async ValueTask InitializeAsync()
        {
            Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System, SealedForm.Key);
            var home = Path.Combine(_folder, "service", "custody");
            var definition = CustodyService.Definition;
            _host = await ServiceHost.Build(
                // Nobody else runs here: there is nothing to react to.
                new Service
                {
                    Name = definition.Name,
                    Streams = definition.Streams,
                    Map = definition.Map,
                    Duties = definition.Duties,
                },
                new Settings
                {
                    Ledger = $"sqlite:{Path.Combine(_folder, "custody.db")}",
                    Broker = new Uri("memory:"),
                    Listen = new Uri("https://127.0.0.1:0"),
                    Certificate = Path.Combine(home, "system.pem"),
                    CertificateKey = Path.Combine(home, "system.key"),
                    Agreement = Path.Combine(_folder, "agreement.json"),
                    Checkpoint = Path.Combine(_folder, "custody.checkpoint"),
                    CheckpointKey = Path.Combine(home, "checkpoint.key"),
                    Peers = new Dictionary<string, Uri>(),
                    Drain = TimeSpan.FromSeconds(5),
                },
                memory: _broker,
                cancel: Cancel
            );
            await _host.StartAsync(Cancel);
            _address = _host.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
        }

        public Client As(string participant) =>
            new(Channel(participant).Intercept(SealedForm.Sealing(participant, () => Signing.Agreement(_folder))));

        public LedgerService.LedgerServiceClient LedgerAs(string participant) => new(Channel(participant));

        private GrpcChannel Channel(string participant)
        {
            var channel = GrpcChannel.ForAddress(
                _address,
                new GrpcChannelOptions { DisposeHttpClient = true, HttpHandler = Signing.Handler(_folder, participant, "custody") }
            );
            _open.Insert(0, channel);
            return channel;
        }

        public async ValueTask DisposeAsync()
        {
            foreach (var open in _open)
                open.Dispose();
            if (_host is not null)
            {
                await _host.StopAsync(CancellationToken.None);
                await _host.DisposeAsync();
            }
            await _broker.DisposeAsync();
            Directory.Delete(_folder, recursive: true);
        }
    }
}
