using Google.Protobuf;
using Grpc.Core;
using Microsoft.Extensions.Hosting;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>
/// <c>ministries.ledger.v1</c> over the service's ledger. Every reader of an entry sees its header and its events, which hold only ids and
/// public facts. The reader also sees an agreement. It sees the signed request if its message is <c>shown</c> and nothing in it is sealed
/// to others, or if the request opens a sealed datum to the reader. Only the participant whose command it was sees all other parts: the
/// answer, another service's answer, the cause, and a request with data coded for fewer. Other readers use the record, which shows each
/// reader what it may know. The header's digests bind all of them to the same bytes.
/// </summary>
internal sealed class LedgerEndpoint(
    ServiceLedger ledger,
    Reads reads,
    Writes writes,
    Agreements agreements,
    Access access,
    Followers followers,
    TimeProvider time,
    IHostApplicationLifetime lifetime
) : LedgerService.LedgerServiceBase
{
    private const int Page = 200;

    public override async Task<GetEntryResponse> GetEntry(GetEntryRequest request, ServerCallContext context)
    {
        var cancel = context.CancellationToken;
        var caller = Reads.CallerOf(context);
        bool[] named = [request.Position != 0, request.OwnRequestId.Length > 0, request.AgreementVersion != 0];
        if (named.Count(n => n) > 1)
            throw Refusals.Invalid("", "the entry must be named in one way only").ToException();
        ulong? position = request switch
        {
            { AgreementVersion: > 0 and var version } => await Agreements.PositionOf(ledger, version, cancel),
            { OwnRequestId.Length: > 0 } => await ledger.FindPosition(caller.Id, request.OwnRequestId, cancel),
            _ => request.Position,
        };
        // The cases are read after the entry's audience, so a party that was removed before the entry does not see it.
        var audience = position is null ? [] : await ledger.AudienceOf(position.Value, cancel);
        var reader = await reads.ReaderAmong(audience, caller, cancel);
        if (audience.Any(reader.Tokens.Contains) && await ledger.ReadEntry(position!.Value, null, cancel) is { } stored)
            return new GetEntryResponse { Entry = await Show(stored, reader, cancel) };
        await Evenly.Wait(context);
        throw new Refusal(Reason.NotFound).ToException();
    }

    public override Task<PermitDisclosureResponse> PermitDisclosure(PermitDisclosureRequest request, ServerCallContext context) =>
        writes.Run<PermitDisclosureRequest, PermitDisclosureResponse>(
            request,
            context,
            Disclosures.Permit,
            (r, caller, cancel) => Disclosures.Ask(ledger, r, caller, cancel),
            elsewhere: static _ => false
        );

    public override async Task<ShareSealedResponse> ShareSealed(ShareSealedRequest request, ServerCallContext context)
    {
        SealedDatum? datum = null;
        ShareSealedResponse response;
        try
        {
            response = await writes.Run<ShareSealedRequest, ShareSealedResponse>(
                request,
                context,
                (r, rule) => Shares.Share(r, rule, datum),
                async (r, _, cancel) =>
                {
                    datum = await SealedData.Look(ledger, r.Position, r.Field, cancel);
                    return null;
                },
                elsewhere: static _ => false
            );
        }
        catch (Exception e) when (e is not RpcException)
        {
            // The caller has gone, or the call failed, perhaps after its commit. A refusal does not come here: it gave no share, and must
            // take the same time whether or not the position exists and was erased.
            await EraseWith();
            throw;
        }
        await EraseWith();
        return response;

        // A share of an erased datum must not be left.
        Task EraseWith() => SealedData.EraseWith(ledger, request.Position, CancellationToken.None);
    }

    public override async Task<GetSealedResponse> GetSealed(GetSealedRequest request, ServerCallContext context)
    {
        var (caller, cancel) = (Reads.CallerOf(context), context.CancellationToken);
        var found = await SealedData.Find(ledger, request.Position, request.Field, cancel);
        if (found is null || !SealedData.MayRead(found, caller, request.Field))
        {
            await Evenly.Wait(context);
            throw new Refusal(Reason.NotFound).ToException();
        }
        if (!NeedToKnow.MayRead(EdgeCall.Of(context).Granted, caller, Cases.PartsOf(caller, found.Case)))
            throw new Refusal(Reason.NotGranted).ToException();
        if (found.Datum.Sealed is null)
            throw new Refusal(Reason.SealedErased).ToException();
        var header = found.Entry.Entry.Header;
        return new GetSealedResponse
        {
            Sealed = found.Datum.Sealed,
            Position = request.Position,
            Field = request.Field,
            Case = found.Datum.Case,
            Sender = found.Datum.Sender,
            Header = header,
            RequestDigest = EntryHeader.Parser.ParseFrom(header).Parts.First(p => p.Kind == PartKind.Request).Digest,
            Grants = { await SealedData.GrantsTo(ledger, found.Shares, request.Field, caller.Id, cancel) },
        };
    }

    public override async Task FollowEntries(
        FollowEntriesRequest request,
        IServerStreamWriter<FollowEntriesResponse> responseStream,
        ServerCallContext context
    )
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, lifetime.ApplicationStopping);
        try
        {
            await new Following(request, responseStream, context, ledger, access, followers, time, Show, stop.Token).Run();
        }
        catch (OperationCanceledException) when (lifetime.ApplicationStopping.IsCancellationRequested)
        {
            throw new Refusal(Reason.Unavailable).ToException();
        }
    }

    public override async Task<GetCheckpointResponse> GetCheckpoint(GetCheckpointRequest request, ServerCallContext context)
    {
        var checkpoint = await ledger.ReadCheckpoint(context.CancellationToken);
        return new GetCheckpointResponse
        {
            TreeSize = checkpoint.Size,
            RootHash = ByteString.CopyFrom(checkpoint.Root),
            Checkpoint = checkpoint.Text,
            CosignedCheckpoint = ledger.Cosigned?.Text ?? "",
            CosignedTreeSize = ledger.Cosigned?.Size ?? 0,
        };
    }

    public override async Task<GetInclusionProofResponse> GetInclusionProof(GetInclusionProofRequest request, ServerCallContext context)
    {
        if (request.TreeSize != 0 && request.TreeSize <= request.Position)
            throw Refusals.Invalid("tree_size", "must be greater than the position").ToException();
        var proof =
            await ledger.ProveInclusion(request.Position, request.TreeSize, context.CancellationToken)
            ?? throw new Refusal(Reason.NotFound).ToException();
        return new GetInclusionProofResponse
        {
            TreeSize = proof.Size,
            RootHash = ByteString.CopyFrom(proof.Root),
            Proof = { proof.Hashes.Select(ByteString.CopyFrom) },
        };
    }

    public override async Task<GetConsistencyProofResponse> GetConsistencyProof(
        GetConsistencyProofRequest request,
        ServerCallContext context
    )
    {
        if (request.ToSize != 0 && request.ToSize < request.FromSize)
            throw Refusals.Invalid("to_size", "must not be less than from_size").ToException();
        var proof =
            await ledger.ProveConsistency(request.FromSize, request.ToSize, context.CancellationToken)
            ?? throw Refusals.Invalid("to_size", "must not be greater than the present tree").ToException();
        return new GetConsistencyProofResponse
        {
            ToSize = proof.Size,
            RootHash = ByteString.CopyFrom(proof.Root),
            Proof = { proof.Hashes.Select(ByteString.CopyFrom) },
        };
    }

    public override async Task<ListEventsResponse> ListEvents(ListEventsRequest request, ServerCallContext context)
    {
        var after = new Dictionary<string, ulong>();
        for (var i = 0; i < request.After.Count; i++)
            if (!after.TryAdd(request.After[i].Type, request.After[i].Sequence))
                throw Refusals.Invalid($"after[{i}].type", "must not equal another element").ToException();
        var limit = request.PageSize == 0 ? Page : request.PageSize;
        var events = await ledger.EventsAfter(after, limit, context.CancellationToken);
        return new ListEventsResponse { Events = { events.Select(e => e.Event) }, Complete = events.Count < limit };
    }

    // The parts of the entry that the reader may see. That he may see the entry was decided before.
    private async Task<Entry> Show(StoredEntry stored, Reader reader, CancellationToken cancel)
    {
        var entry = stored.Entry;
        var shown = new Entry
        {
            Header = entry.Header,
            Case = entry.Case,
            Traceparent = entry.Traceparent,
        };
        shown.Audience.AddRange(entry.Audience.Where(a => reader.Tokens.Contains(a.Audience)));
        if (stored.Participant == reader.Participant.Id)
        {
            shown.Parts.AddRange(entry.Parts);
            return shown;
        }
        shown.Privileged = await Disclosures.IsPrivileged(ledger, stored, reader, agreements, cancel);
        // A signature, and an approval in the request, reveals what was signed even without a salt.
        var request = !shown.Privileged && await MayReadRequest(stored, reader, cancel);
        shown.Parts.AddRange(
            entry.Parts.Where(p => p.Kind == PartKind.Events || request && p.Kind is PartKind.Request or PartKind.Signature)
        );
        if (shown.Privileged)
            foreach (var part in shown.Parts)
                part.Salt = ByteString.Empty;
        return shown;
    }

    private async Task<bool> MayReadRequest(StoredEntry stored, Reader reader, CancellationToken cancel)
    {
        if (stored.Entry.Parts.FirstOrDefault(p => p.Kind == PartKind.Request) is not { Erased: false } request)
            return false;
        var method = EntryHeader.Parser.ParseFrom(stored.Entry.Header).Method;
        // Every participant may see the agreement.
        if (method == AgreementVersions.Method)
            return true;
        if (Methods.Find(method)?.InputType is not { } type)
            return false;
        // A recipient that may open a datum has the proof of which participant gave it. The observers see that it was given.
        if (type == ShareSealedRequest.Descriptor)
            return ShareSealedRequest.Parser.ParseFrom(request.Data) is var share
                && share.Recipient == reader.Participant.Id
                && !await ledger.IsErased(share.Position, cancel);
        return type.GetOptions()?.GetExtension(OptionsExtensions.Shown) == true
            && await SealedData.OpensAll(ledger, stored.Position, type.Parser.ParseFrom(request.Data), reader.Participant.Id, cancel);
    }
}
