using System.Collections.Concurrent;
using System.Reflection;
using Google.Protobuf;
using Google.Protobuf.Collections;
using Grpc.Core;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Ministries.CallLog.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting.Tests;

/// <summary>Each check of the edge has an attack that only it stops. With the check in place, the attack is refused with its reason. With
/// only the check taken out, it succeeds. So no check can go missing unnoticed.</summary>
public sealed class ChecksTests
{
    /// <summary>An attack: the reason with which it is stopped, and how it is made.</summary>
    private sealed record Attack(string Reason, Func<Running, Task> Make, EdgeLimits? Limits = null);

    private static readonly Dictionary<string, Attack> Attacks = new()
    {
        [nameof(Checks.Forwarded)] = new("CERTIFICATE_NOT_ACCEPTED", running => Write(running, ("X-Forwarded-Client-Cert", "x"))),
        [nameof(Checks.Identity)] = new(
            "CERTIFICATE_NOT_ACCEPTED",
            async running =>
            {
                // The certificate ends while the connection is open.
                var client = running.Calling("kr/mfa");
                await client.ListCallsAsync(new ListCallsRequest(), cancellationToken: Running.Cancel);
                running.Time.Moved = TimeSpan.FromDays(365 * 30);
                await client.ListCallsAsync(new ListCallsRequest(), cancellationToken: Running.Cancel);
            }
        ),
        [nameof(Checks.Granted)] = new(
            "NOT_GRANTED",
            async running =>
                await new LedgerService.LedgerServiceClient(running.As("operator")).ListEventsAsync(
                    new ListEventsRequest { After = { new EventCursor { Type = CallLogged.Descriptor.FullName } } },
                    cancellationToken: Running.Cancel
                )
        ),
        [nameof(Checks.Enter)] = new(
            "OVERLOADED",
            async running => await running.Calling("kr/mfa").ListCallsAsync(new ListCallsRequest(), cancellationToken: Running.Cancel),
            new EdgeLimits
            {
                MaxCalls = 0,
                MaxCallsPerParticipant = 0,
                OwnPlaces = 0,
                PlacesForFlash = 0,
            }
        ),
        [nameof(Checks.Frame)] = new("REQUEST_INVALID", running => Post(running, "ListCalls", Running.FrameOf([], compressed: true))),
        // Field 1000 is in no contract; a reader of the next version would see what this one did not.
        [nameof(Checks.Bytes)] = new("REQUEST_INVALID", running => Post(running, "ListCalls", Running.FrameOf([0xc0, 0x3e, 0x01]))),
        [nameof(Checks.Fields)] = new(
            "REQUEST_INVALID",
            async running =>
                await running.Calling("kr/mfa").ListCallsAsync(new ListCallsRequest { Case = "no case" }, cancellationToken: Running.Cancel)
        ),
        [nameof(Checks.Signature)] = new(
            "SIGNATURE_MISSING",
            async running =>
                await new CallLogService.CallLogServiceClient(running.Channel(running.CertificateOf("kr/mfa"), signer: null)).LogCallAsync(
                    Running.Request(),
                    cancellationToken: Running.Cancel
                )
        ),
        [nameof(Checks.Approved)] = new(
            "APPROVAL_KEY_UNKNOWN",
            async running =>
            {
                var request = Running.Request();
                request.Approvals.Add(
                    new Approval
                    {
                        Official = "o-18",
                        Office = "legal-department",
                        KeyId = "kr/mfa/nobody",
                        Signature = ByteString.CopyFrom(new byte[64]),
                    }
                );
                await running.Calling("kr/mfa").LogCallAsync(request, cancellationToken: Running.Cancel);
            }
        ),
        [nameof(Checks.Sealed)] = new(
            "SEAL_OF_ANOTHER_RECORD",
            async running =>
            {
                // Another's minutes, taken out of his request.
                var request = Running.Request();
                request.Account.Minutes = SealedForm.To("ua/mfa");
                SealedForm.In(request, "ua/mfa", Signing.Agreement(running.Folder));
                await running.Calling("kr/mfa").LogCallAsync(request, cancellationToken: Running.Cancel);
            }
        ),
        [nameof(Checks.Named)] = new(
            "REQUEST_INVALID",
            async running =>
            {
                // A code that is really a name.
                var request = Running.Request();
                request.Actor.Official = "RI-CHONG-SU";
                await running.Calling("kr/mfa").LogCallAsync(request, cancellationToken: Running.Cancel);
            }
        ),
    };

    public static TheoryData<string> Names =>
        [
            .. typeof(Checks)
                .GetMethods(BindingFlags.Public | BindingFlags.Instance | BindingFlags.DeclaredOnly)
                .Where(m => m.IsVirtual && m.Name != nameof(Checks.Leave))
                .Select(m => m.Name),
        ];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task The_attack_is_refused_and_succeeds_only_where_its_check_is_taken_out(string check)
    {
        var attack = Attacks[check];
        await using var whole = await Start(attack, null);
        await Running.Refused(attack.Reason, () => attack.Make(whole));
        await using var without = await Start(attack, check);
        await attack.Make(without);
    }

    [Fact]
    public async Task An_endpoint_without_a_policy_is_not_started()
    {
        await using var running = new Running { Map = endpoints => endpoints.MapGet("/open", (HttpContext _) => "open") };
        var e = await Assert.ThrowsAsync<InvalidOperationException>(() => running.InitializeAsync().AsTask());
        Assert.Contains("/open", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_endpoint_that_lets_anybody_in_is_not_started()
    {
        await using var running = new Running
        {
            Map = endpoints => endpoints.MapGet("/open", (HttpContext _) => "open").Guarded(endpoints).AllowAnonymous(),
        };
        await Assert.ThrowsAsync<InvalidOperationException>(() => running.InitializeAsync().AsTask());
    }

    [Fact]
    public void The_result_of_a_check_that_did_not_run_cannot_be_read()
    {
        var call = new EdgeCall(null);
        Assert.All(
            (Action[])
                [
                    () => _ = call.Caller,
                    () => _ = call.Agreement,
                    () => _ = call.Granted,
                    () => _ = call.Message,
                    () => _ = call.Request,
                    () => _ = call.Signed,
                ],
            ask => Assert.Throws<InvalidOperationException>(ask)
        );
    }

    [Fact]
    public async Task Each_check_is_made_once_for_each_call_that_is_answered_at_once()
    {
        var made = new ConcurrentQueue<string>();
        await using var running = new Running { Register = services => Replace(services, null, made.Enqueue) };
        await running.InitializeAsync();
        var ledger = new LedgerService.LedgerServiceClient(running.As("ua/mfa"));
        string[] ofRead =
        [
            nameof(Checks.Forwarded),
            nameof(Checks.Identity),
            nameof(Checks.Granted),
            nameof(Checks.Enter),
            nameof(Checks.Frame),
            nameof(Checks.Bytes),
            nameof(Checks.Fields),
        ];
        string[] ofWrite = [.. ofRead, nameof(Checks.Signature), nameof(Checks.Approved), nameof(Checks.Named), nameof(Checks.Sealed)];
        Assert.Equal(Names.Select(n => n.Data).Order(), ofWrite.Order());
        (string Name, string[] Checks, Func<Task> Call)[] calls =
        [
            ("GetEntry", ofRead, async () => await ledger.GetEntryAsync(new() { AgreementVersion = 1 }, cancellationToken: Running.Cancel)),
            ("GetCheckpoint", ofRead, async () => await ledger.GetCheckpointAsync(new(), cancellationToken: Running.Cancel)),
            ("ListCalls", ofRead, async () => await running.Calling("ua/mfa").ListCallsAsync(new(), cancellationToken: Running.Cancel)),
            ("LogCall", ofWrite, () => running.Log()),
        ];
        foreach (var (name, checks, call) in calls)
        {
            made.Clear();
            await call();
            Assert.True(checks.SequenceEqual(made), $"{name}: {string.Join(", ", made)}");
        }
    }

    /// <summary>Methods that say whether they were reached.</summary>
    private sealed class Reached : CustodyService.CustodyServiceBase
    {
        public ConcurrentQueue<string> By { get; } = [];

        public override Task<GetCaseResponse> GetCase(GetCaseRequest request, ServerCallContext context)
        {
            By.Enqueue(nameof(GetCase));
            return Task.FromResult(new GetCaseResponse());
        }

        public override Task<CloseCaseResponse> CloseCase(CloseCaseRequest request, ServerCallContext context)
        {
            By.Enqueue(nameof(CloseCase));
            return Task.FromResult(new CloseCaseResponse());
        }
    }

    /// <summary>Whoever maps a service with its policies and forgets the rest of the edge serves nothing by it.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_method_whose_call_did_not_pass_the_edge_is_not_reached(bool passes)
    {
        var reached = new Reached();
        await using var running = new Running
        {
            Map = endpoints =>
            {
                var services = endpoints.ServiceProvider;
                var guarded = new Guarded(services.GetRequiredService<Guard>(), services.GetRequiredService<Reads>());
                CustodyService.BindService(guarded, reached);
                var mapped = endpoints.MapGrpcService(guarded.Definition);
                if (passes)
                    mapped.Guarded(endpoints);
                else
                    mapped.Add(endpoint =>
                    {
                        endpoint.Metadata.Add(Passage.Of(endpoint));
                        endpoint.Metadata.Add(new AuthorizeAttribute());
                        endpoint.Metadata.Add(Access.Granted(Passage.Of(endpoint).Rpc!));
                    });
            },
        };
        await running.InitializeAsync();
        var size = running.Ledger.Size;
        var custody = new CustodyService.CustodyServiceClient(running.As("kr/mfa"));
        var close = new CloseCaseRequest
        {
            RequestId = Guid.NewGuid().ToString(),
            Actor = Running.Request().Actor,
            Etag = "x",
            Case = Running.Case,
        };
        Func<Task>[] calls =
        [
            async () => await custody.GetCaseAsync(new() { Case = Running.Case }, cancellationToken: Running.Cancel),
            async () => await custody.CloseCaseAsync(close, cancellationToken: Running.Cancel),
        ];
        foreach (var call in calls)
            if (passes)
                await call();
            else
                Assert.Equal(StatusCode.Internal, (await Assert.ThrowsAsync<RpcException>(call)).StatusCode);
        Assert.Equal(passes ? [nameof(Reached.GetCase), nameof(Reached.CloseCase)] : [], reached.By);
        Assert.Equal(size, running.Ledger.Size);
    }

    private static async Task<Running> Start(Attack attack, string? without)
    {
        var running = new Running
        {
            Limits = attack.Limits ?? new EdgeLimits { ReloadInterval = TimeSpan.FromMilliseconds(50) },
            Register = services =>
            {
                if (without is not null)
                    Replace(services, without, static _ => { });
            },
        };
        await running.InitializeAsync();
        return running;
    }

    private static void Replace(IServiceCollection services, string? without, Action<string> made) =>
        services.AddSingleton<Checks>(p => new Without(
            without,
            made,
            p.GetRequiredService<Service>(),
            p.GetRequiredService<Admission>(),
            p.GetRequiredService<TimeProvider>()
        ));

    private static async Task Write(Running running, params (string Name, string Value)[] headers)
    {
        var request = Running.Request();
        var frame = Running.FrameOf(request.ToByteArray());
        Throw(await running.Post(frame, headers: [.. running.Signed(request.RequestId, frame), .. headers]));
    }

    private static async Task Post(Running running, string method, byte[] frame) => Throw(await running.Post(frame, method));

    private static void Throw(Google.Rpc.Status status)
    {
        if (status.Code != 0)
            throw status.ToRpcException();
    }

    /// <summary>The checks, one of which lets everything pass. It tells which check is made.</summary>
    private sealed class Without(string? check, Action<string> made, Service service, Admission admission, TimeProvider time)
        : Checks(service, admission, time)
    {
        private bool IsOut(string name)
        {
            made(name);
            return check == name;
        }

        public override Refusal? Forwarded(HttpContext http) => IsOut(nameof(Forwarded)) ? null : base.Forwarded(http);

        public override Identified Identity(Peer? peer, ParsedAgreement agreement) =>
            IsOut(nameof(Identity)) ? base.Identity(peer, agreement) with { Refused = Reason.Unspecified } : base.Identity(peer, agreement);

        public override bool Granted(GrantedParts granted, Participant caller) => IsOut(nameof(Granted)) || base.Granted(granted, caller);

        public override ValueTask<Refusals.Prepared?> Enter(EdgeCall call, HttpContext http) =>
            IsOut(nameof(Enter)) ? default : base.Enter(call, http);

        public override void Leave(EdgeCall call)
        {
            if (check != nameof(Enter))
                base.Leave(call);
        }

        public override async ValueTask<(byte[]? Frame, Refusal? Refusal)> Frame(EdgeCall call, HttpContext http, int limit)
        {
            if (!IsOut(nameof(Frame)))
                return await base.Frame(call, http, limit);
            using var whole = new MemoryStream();
            await http.Request.Body.CopyToAsync(whole);
            return (whole.ToArray(), null);
        }

        public override IReadOnlyList<FieldFault> Bytes(Rpc rpc, ReadOnlySpan<byte> message) =>
            IsOut(nameof(Bytes)) ? [] : base.Bytes(rpc, message);

        public override IReadOnlyList<FieldFault> Fields(IMessage request) => IsOut(nameof(Fields)) ? [] : base.Fields(request);

        public override (Refusal? Refusal, Refusal? WhereAnswered) Signature(
            EdgeCall call,
            RequestSignature? signature,
            string requestId
        ) => IsOut(nameof(Signature)) ? default : base.Signature(call, signature, requestId);

        public override (IReadOnlySet<string> Officials, Refusal? Refusal) Approved(EdgeCall call, RepeatedField<Approval> approvals) =>
            IsOut(nameof(Approved)) ? (new HashSet<string>(), null) : base.Approved(call, approvals);

        public override Refusal? Named(EdgeCall call) => IsOut(nameof(Named)) ? null : base.Named(call);

        public override Refusal? Sealed(EdgeCall call) => IsOut(nameof(Sealed)) ? null : base.Sealed(call);
    }
}
