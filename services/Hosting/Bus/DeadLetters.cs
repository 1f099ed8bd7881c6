using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Operations.V1;
using Ministries.Types.V1;

namespace Ministries.Hosting.Bus;

/// <summary>Dead letters: events that could not be processed, as records in the consumer's ledger. A record does not hold the event's
/// bytes, because the producer's ledger has them.</summary>
public static class DeadLetters
{
    /// <summary>The streams of dead letters, keyed by event id. A dead letter whose reason is empty has been processed since.</summary>
    public static readonly StreamKind<DeadLetter> Kind = new(
        "dead-letter",
        1,
        Apply,
        keys: letter => letter.Reason.Length > 0 ? [Open] : []
    );

    /// <summary>The key under which unprocessed dead letters are listed.</summary>
    public const string Open = "open";

    /// <summary>The method of the entry that sets an event aside.</summary>
    public const string SetAsideMethod = "dead-letter";

    /// <summary>Adds to a rule's decision on a dead letter that it has been processed.</summary>
    internal static Decision Settle(Decision decision, EventOrigin origin) =>
        Decision.Accept(
            decision.Case,
            decision.Audience,
            [.. decision.Changes, new Change(new SetAsideEventProcessed { Origin = origin }, [Kind.Id(EventTypes.IdOf(origin))])],
            decision.Answer
        );

    private static void Apply(DeadLetter state, Google.Protobuf.IMessage @event, FoldedEntry entry)
    {
        state.LastAttemptTime = entry.Time;
        switch (@event)
        {
            case EventSetAside e:
                (state.Id, state.Origin, state.Reason, state.Attempts) = (EventTypes.IdOf(e.Origin), e.Origin, e.Reason, e.Attempts);
                break;
            case SetAsideEventFailed e:
                (state.Reason, state.Attempts) = (e.Reason, state.Attempts + 1);
                break;
            case SetAsideEventProcessed:
                (state.Reason, state.Attempts) = ("", state.Attempts + 1);
                break;
        }
    }
}

/// <summary><c>ministries.operations.v1</c>: what the operator of the service may see and do.</summary>
internal sealed class OperationsEndpoint(
    Service service,
    ServiceLedger ledger,
    Writes writes,
    BusStatus status,
    Intake intake,
    ReadEvents read,
    Func<Permissions> permissions,
    TimeProvider time,
    IServiceProvider services
) : OperationsService.OperationsServiceBase
{
    public override async Task<GetStatusResponse> GetStatus(GetStatusRequest request, ServerCallContext context)
    {
        var cancel = context.CancellationToken;
        var witnessing = services.GetService<Witnessing>();
        return new GetStatusResponse
        {
            Service = service.Name,
            Entries = ledger.Size,
            RelayBacklog = await ledger.CountEvents(cancel) - await ledger.ReadCursor(Relay.Name, cancel),
            BrokerReady = status.BrokerReady,
            DeadLetters = await ledger.Count(DeadLetters.Kind, [DeadLetters.Open], cancel),
            DutiesDue = await ledger.CountDue(time.GetUtcNow(), cancel),
            LastDutySweepTime = status.LastDutySweep?.ToTimestamp(),
            WaitingSinceTime = status.WaitingSince?.ToTimestamp(),
            AgreementVersion = permissions().Agreement.Version,
            CertificateExpireTime = services.GetService<Credentials>()?.Certificate.NotAfter.ToUniversalTime().ToTimestamp(),
            CosignedEntries = ledger.Cosigned?.Size ?? 0,
            CosignaturesLate = witnessing?.Late ?? false,
            CosignaturesWaitingSinceTime = witnessing?.WaitingSince?.ToTimestamp(),
            WitnessesMissing = { witnessing?.Missing ?? [] },
        };
    }

    public override async Task<ListDeadLettersResponse> ListDeadLetters(ListDeadLettersRequest request, ServerCallContext context)
    {
        ulong after = 0;
        var bound = services
            .GetRequiredService<PageTokens>()
            .Bind(context.NameOf(), EdgeCall.Of(context).Caller.Participant.Id, DeadLetters.Kind.Name, [DeadLetters.Open]);
        if (request.PageToken.Length > 0 && !PageTokens.TryRead(request.PageToken, bound, out after))
            throw Refusals.Invalid("page_token", "is not one that this service returned").ToException();
        var size = request.PageSize == 0 ? 50 : request.PageSize;
        var letters = await ledger.List(DeadLetters.Kind, [DeadLetters.Open], null, after, size, context.CancellationToken);
        var response = new ListDeadLettersResponse
        {
            NextPageToken = letters.Count == size ? PageTokens.Write(letters[^1].Number, bound) : "",
        };
        response.DeadLetters.AddRange(letters.Select(l => l.State));
        return response;
    }

    public override Task<ReplayDeadLetterResponse> ReplayDeadLetter(ReplayDeadLetterRequest request, ServerCallContext context) =>
        writes.Run<ReplayDeadLetterRequest, ReplayDeadLetterResponse>(request, context, Decide, Replay);

    private static Decision Decide(ReplayDeadLetterRequest request, RuleContext context) =>
        context.Asked switch
        {
            ReplayResult { Origin: null } => Decision.Refuse(Reason.NotFound),
            ReplayResult { Processed: true } => Decision.Accept("", [], [], _ => new ReplayDeadLetterResponse { Processed = true }),
            ReplayResult failed => Decision.Accept(
                "",
                [],
                [new Change(new SetAsideEventFailed { Origin = failed.Origin, Reason = failed.Reason }, [DeadLetters.Kind.Id(request.Id)])],
                _ => new ReplayDeadLetterResponse()
            ),
            _ => Decision.Refuse(Reason.Unavailable),
        };

    private async Task<Google.Protobuf.IMessage?> Replay(ReplayDeadLetterRequest request, Participant caller, CancellationToken cancel)
    {
        if (await ledger.Find(DeadLetters.Kind, request.Id, null, cancel) is not { State: var letter })
            return new ReplayResult();
        var result = new ReplayResult { Origin = letter.Origin, Processed = letter.Reason.Length == 0 };
        if (result.Processed)
            return result;
        var asked = new ListEventsRequest { PageSize = 1 };
        asked.After.Add(new EventCursor { Type = letter.Origin.Type, Sequence = letter.Origin.Sequence - 1 });
        var found = (await read(letter.Origin.Service, asked, cancel)).Events.FirstOrDefault();
        if (
            found is null
            || !found.IsOf(letter.Origin.Service)
            || found.Event.Type != letter.Origin.Type
            || EventTypes.IdOf(found.Origin) != letter.Id
        )
            return new ReplayResult();
        result.Reason = await intake.Replay(found, cancel) ?? "";
        result.Processed = result.Reason.Length == 0;
        return result;
    }
}
