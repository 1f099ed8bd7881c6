using Google.Protobuf;
using Grpc.Core;
using Microsoft.Extensions.Hosting;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;

namespace Ministries.Hosting;

/// <summary>
/// <c>ministries.ledger.v1</c> over the service's ledger. Whoever may see an entry sees its header and its events, which hold ids
/// and public facts only. Its other parts – what was asked, what was answered, what another service said, what caused it – only
/// the participant sees whose command it was: a request may hold what is sealed for some, and what is coded for fewer still. The
/// others read the record, which shows each what is his to know; the header's digests bind them to the same bytes.
/// </summary>
internal sealed class LedgerEndpoint(ServiceLedger ledger, Reads reads, IHostApplicationLifetime lifetime)
    : LedgerService.LedgerServiceBase
{
    private const int Page = 200;

    public override async Task<GetEntryResponse> GetEntry(GetEntryRequest request, ServerCallContext context)
    {
        var reader = await reads.ReaderOf(context);
        var stored = await ledger.ReadEntry(request.Position, reader.Tokens, context.CancellationToken);
        return stored is not null
            ? new GetEntryResponse { Entry = Shown(stored, reader) } : throw new Refusal(Reason.NotFound).ToException();
    }

    public override async Task FollowEntries(
        FollowEntriesRequest request, IServerStreamWriter<FollowEntriesResponse> responseStream, ServerCallContext context)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, lifetime.ApplicationStopping);
        try
        {
            var (from, said) = (request.FromPosition, request.FromPosition);
            while (true)
            {
                // Anew for each page: a certificate ends, a party is removed.
                var reader = await reads.ReaderOf(context);
                var page = await ledger.ReadEntries(
                    from, request.Case.Length == 0 ? null : request.Case, reader.Tokens, Page, stop.Token);
                foreach (var stored in page.Entries)
                {
                    said = stored.Position + 1;
                    await responseStream.WriteAsync(
                        new FollowEntriesResponse { Entry = Shown(stored, reader), NextPosition = said }, stop.Token);
                }
                from = page.Next;
                if (!page.Complete) continue;
                if (from > said || request.UntilNow)
                {
                    said = from;
                    await responseStream.WriteAsync(new FollowEntriesResponse { NextPosition = said }, stop.Token);
                }
                if (request.UntilNow) return;
                await ledger.WaitForMore(from, stop.Token);
            }
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
            TreeSize = checkpoint.Size, RootHash = ByteString.CopyFrom(checkpoint.Root), Checkpoint = checkpoint.Text,
        };
    }

    public override async Task<GetInclusionProofResponse> GetInclusionProof(
        GetInclusionProofRequest request, ServerCallContext context)
    {
        if (request.TreeSize != 0 && request.TreeSize <= request.Position)
            throw Refusals.Invalid("tree_size", "must be greater than the position").ToException();
        var proof = await ledger.ProveInclusion(request.Position, request.TreeSize, context.CancellationToken) ??
            throw new Refusal(Reason.NotFound).ToException();
        return new GetInclusionProofResponse
        {
            TreeSize = proof.Size, RootHash = ByteString.CopyFrom(proof.Root), Proof = { proof.Hashes.Select(ByteString.CopyFrom) },
        };
    }

    public override async Task<GetConsistencyProofResponse> GetConsistencyProof(
        GetConsistencyProofRequest request, ServerCallContext context)
    {
        if (request.ToSize != 0 && request.ToSize < request.FromSize)
            throw Refusals.Invalid("to_size", "must not be less than from_size").ToException();
        var proof = await ledger.ProveConsistency(request.FromSize, request.ToSize, context.CancellationToken) ??
            throw Refusals.Invalid("to_size", "must not be greater than the present tree").ToException();
        return new GetConsistencyProofResponse
        {
            ToSize = proof.Size, RootHash = ByteString.CopyFrom(proof.Root), Proof = { proof.Hashes.Select(ByteString.CopyFrom) },
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

    // What of the entry the reader may see, beside that he may see it at all.
    private static Entry Shown(StoredEntry stored, Reader reader)
    {
        if (stored.Participant == reader.Participant.Id) return stored.Entry;
        var shown = new Entry { Header = stored.Entry.Header, Case = stored.Entry.Case, Traceparent = stored.Entry.Traceparent };
        shown.Parts.AddRange(stored.Entry.Parts.Where(p => p.Kind == PartKind.Events));
        return shown;
    }
}
