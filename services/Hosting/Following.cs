using System.Diagnostics;
using System.Security.Cryptography;
using Google.Protobuf;
using Grpc.Core;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;

namespace Ministries.Hosting;

/// <summary>
/// One stream of the ledger's entries. It reads pages from the database until it has caught up, and is then notified of new entries by
/// <see cref="Followers"/>. Before each entry it checks that the reader may still see it. While the reader takes nothing, the stream holds
/// at most a page and the bytes that are on their way, and only for a limited time.
/// </summary>
internal sealed class Following(
    FollowEntriesRequest request,
    IServerStreamWriter<FollowEntriesResponse> responses,
    ServerCallContext context,
    ServiceLedger ledger,
    Access access,
    Followers followers,
    TimeProvider time,
    Func<StoredEntry, Reader, CancellationToken, Task<Entry>> show,
    CancellationToken stop
)
{
    // The web server blocks a writer at this many untaken bytes, so at most one message more is on its way.
    private const int MessageBytes = EdgeLimits.MaxUntakenBytes,
        PieceBytes = 32 << 10,
        PageBytes = 48 << 10,
        PageEntries = 200;

    /// <summary>How long a stream may keep an entry that is greater than a page before another one has its turn.</summary>
    private static readonly TimeSpan Turn = TimeSpan.FromMilliseconds(250);

    private readonly string? _case = request.Case.Length == 0 ? null : request.Case;
    private readonly Followers.Group _group = followers.Open(EdgeCall.Of(context).Caller.Participant.Id);
    private ulong _from = request.FromPosition,
        _said = request.FromPosition;

    /// <summary>Runs until the reader has all present entries, where the request asks for these only; else until the reader or the service
    /// stops.</summary>
    public async Task Run()
    {
        try
        {
            while (true)
            {
                await CatchUp(null);
                if (request.UntilNow || _from > _said)
                    await Say();
                if (request.UntilNow)
                    return;
                var (inbox, from) = followers.Join(_group, request.Case);
                try
                {
                    await CatchUp(from);
                    await Listen(inbox);
                }
                finally
                {
                    followers.Leave(inbox);
                }
            }
        }
        finally
        {
            followers.Close(_group);
        }
    }

    /// <summary>Sends what is in the database.</summary>
    /// <param name="to">The position that is to be reached; null: the end of the ledger.</param>
    private async Task CatchUp(ulong? to)
    {
        while (!(_from >= to))
        {
            // A reader that may no longer follow must not wait for a turn.
            Renew();
            var (page, rights) = await Page(_from, PageEntries);
            foreach (var entry in page.Entries)
                await Send(entry, rights);
            _from = page.Next;
            if (page.TooGreat)
                await SendGreat(_from);
            else if (page.Complete)
                return;
        }
    }

    /// <summary>Reads a page and the reader's rights to it. An entry that is missing on the page was not for the reader when the page was
    /// read.</summary>
    private async Task<(EntryPage Page, Rights Rights)> Page(ulong from, int limit)
    {
        await followers.Pages.WaitAsync(stop);
        try
        {
            while (true)
            {
                var by = Renew();
                var viewer = Viewer.Of(EdgeCall.Of(context).Caller.Participant);
                var page = await ledger.ReadEntries(from, _case, viewer, limit, stop, PageBytes);
                // A new version of the agreement may have come into force before the page was read. The page may then lack entries that the
                // reader may see.
                if (ReferenceEquals(by, Renew()))
                    return (page, await followers.RightsTo(_group, page.Entries, stop));
            }
        }
        finally
        {
            followers.Pages.Release();
        }
    }

    /// <summary>Sends what the inbox says, until some of it was lost.</summary>
    private async Task Listen(Followers.Inbox inbox)
    {
        while (true)
        {
            var woken = await inbox.Wait(followers.Limits.StreamProgress, stop);
            var (waiting, before, lost) = followers.Take(inbox);
            foreach (var told in waiting)
                if (told.Position >= _from)
                    await Send(told);
            if (lost)
                return;
            if (before > _from)
                _from = before;
            if (woken)
                continue;
            // A reader that may not follow any more is told now, not with the next entry.
            Renew();
            if (_from > _said)
                await Say();
        }
    }

    /// <summary>Sends one entry, where the reader may see it.</summary>
    private async Task Send(Followers.Told told)
    {
        Renew();
        if (told.Rights is { } rights && ledger.Recent(told.Position) is { Stored: { } stored })
            await Send(stored, rights);
        else
        {
            (var page, rights) = await Page(told.Position, 1);
            if (page.TooGreat && page.Next == told.Position)
                await SendGreat(told.Position);
            else if (page.Entries is [{ } found] && found.Position == told.Position)
                await Send(found, rights);
        }
        _from = told.Position + 1;
    }

    /// <summary>Sends one entry if the reader may see it. If the reader's rights have changed, the entry is judged once more by its own
    /// cases, and later changes are ignored for it. So a stream goes on even if its reader's cases change all the time.</summary>
    private async Task Send(StoredEntry stored, Rights rights)
    {
        var held = rights.HeldOf(stored);
        for (var isJudgedNow = false; held.Count > 0; )
        {
            var response = new FollowEntriesResponse
            {
                Entry = await show(stored, rights.Reader, stop),
                NextPosition = stored.Position + 1,
            };
            if (response.CalculateSize() > MessageBytes)
            {
                await SendGreat(stored.Position);
                return;
            }
            if (!isJudgedNow && !await followers.Hold(rights, stop))
            {
                rights = await followers.RightsTo(_group, [stored], stop);
                var before = held;
                (held, isJudgedNow) = (rights.HeldOf(stored), true);
                // The content that is shown of an entry depends on these tokens.
                if (!held.SequenceEqual(before))
                    continue;
            }
            Renew();
            var writing = responses.WriteAsync(response);
            _from = _said = stored.Position + 1;
            await Taken(writing);
            return;
        }
    }

    /// <summary>How much of an entry was sent.</summary>
    /// <param name="Bytes">How many bytes.</param>
    /// <param name="Digest">The digest of the whole entry as it is shown. If that changes, the entry is sent from its start.</param>
    /// <param name="Whole">Whether that was all.</param>
    /// <param name="Writing">Completes when more can be sent.</param>
    private sealed record Sent(int Bytes, byte[] Digest, bool Whole, Task Writing);

    /// <summary>Sends an entry in pieces. Only a few streams hold such an entry in memory at a time. A stream whose reader is slow gives
    /// its turn up and reads the entry again later.</summary>
    private async Task SendGreat(ulong position)
    {
        Sent? sent = new(0, [], false, Task.CompletedTask);
        while (!sent.Whole)
        {
            await followers.Great.WaitAsync(stop);
            try
            {
                // This is a method of its own, so that the entry can be collected when it returns.
                sent = await SendPieces(position, sent);
            }
            finally
            {
                followers.Great.Release();
            }
            if (sent is null)
                break;
            await Taken(sent.Writing);
        }
        _from = position + 1;
    }

    /// <summary>Sends pieces of an entry until its turn is over or the reader's rights to it have changed. Null: the reader may not see
    /// it.</summary>
    private async Task<Sent?> SendPieces(ulong position, Sent before)
    {
        if (await ledger.ReadEntry(position, null, stop) is not { } stored)
            return null;
        var rights = await followers.RightsTo(_group, [stored], stop);
        var held = rights.HeldOf(stored);
        if (held.Count == 0)
            return null;
        var bytes = (await show(stored, rights.Reader, stop)).ToByteArray();
        // The turn begins when there is something to send, so that a piece is sent even if reading took long.
        var began = Stopwatch.GetTimestamp();
        var digest = SHA256.HashData(bytes);
        var sent = new Sent(digest.AsSpan().SequenceEqual(before.Digest) ? before.Bytes : 0, digest, false, Task.CompletedTask);
        while (sent is { Whole: false, Writing.IsCompletedSuccessfully: true } && Left() > TimeSpan.Zero && await MayGoOn())
        {
            Renew();
            var piece = new EntryPiece
            {
                Offset = (uint)sent.Bytes,
                Size = (uint)bytes.Length,
                Data = ByteString.CopyFrom(bytes, sent.Bytes, Math.Min(PieceBytes, bytes.Length - sent.Bytes)),
            };
            var (to, whole) = (sent.Bytes + piece.Data.Length, sent.Bytes + piece.Data.Length == bytes.Length);
            var next = whole ? position + 1 : position;
            if (whole)
                _said = next;
            sent = new(to, digest, whole, responses.WriteAsync(new FollowEntriesResponse { Piece = piece, NextPosition = next }));
            if (!whole && !sent.Writing.IsCompleted && Left() is var left && left > TimeSpan.Zero)
                await Task.WhenAny(sent.Writing, Task.Delay(left, stop));
        }
        return sent;

        TimeSpan Left() => Turn - Stopwatch.GetElapsedTime(began);

        async ValueTask<bool> MayGoOn()
        {
            if (await followers.Hold(rights, stop))
                return true;
            rights = await followers.RightsTo(_group, [stored], stop);
            return rights.HeldOf(stored).SequenceEqual(held);
        }
    }

    /// <summary>Says how far the stream has come.</summary>
    private async Task Say()
    {
        _said = _from;
        await Taken(responses.WriteAsync(new FollowEntriesResponse { NextPosition = _from }));
    }

    /// <summary>Checks the reader again, and returns the permissions by which it was checked.</summary>
    /// <exception cref="RpcException">The reader's certificate is not accepted any more, or it may not follow any more.</exception>
    private Permissions Renew()
    {
        var call = EdgeCall.Of(context);
        access.Renew(call, context.GetHttpContext());
        return call.Agreement.Permissions;
    }

    /// <summary>Waits until the reader has taken enough for more to be sent.</summary>
    /// <exception cref="RpcException">STREAM_STALLED: the reader took too little for too long.</exception>
    private async Task Taken(Task writing)
    {
        if (writing.IsCompletedSuccessfully || await Ends(followers.Limits.StreamStall))
            return;
        // The reason is sent after the bytes that the reader has not taken. Where the reader does not get that far, the stream is reset
        // without a reason.
        var http = context.GetHttpContext();
        if (!await Ends(followers.Limits.StreamGrace))
        {
            _ = writing.ContinueWith(static late => late.Exception, TaskScheduler.Default);
            Refusals.Cut(http);
        }
        var refusal = new Refusal(Reason.StreamStalled, new Dictionary<string, string> { ["next_position"] = $"{_said}" });
        Refusals.Trace(http, refusal);
        throw refusal.ToException();

        async Task<bool> Ends(TimeSpan within)
        {
            try
            {
                await writing.WaitAsync(within, time, stop);
                return true;
            }
            catch (TimeoutException)
            {
                return false;
            }
        }
    }
}
