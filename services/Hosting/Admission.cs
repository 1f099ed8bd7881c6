using System.Buffers;
using System.Collections.Frozen;
using Google.Protobuf;
using Microsoft.AspNetCore.Http;
using Ministries.Errors.V1;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>
/// Refuses calls for which there is no free place, before any work is spent on them: the body is not read and the signature is not
/// checked. The caller is known from the connection, the method from the path. Each participant has some places of its own, which no
/// other participant's calls can take, and shares the rest.
/// </summary>
internal sealed class Admission(EdgeLimits limits, TimeProvider time)
{
    /// <summary>How many bytes of room are taken (<see cref="TakeRoom"/>).</summary>
    public long Bytes => _bodies.All;

    private enum Pool
    {
        Writes,
        Reads,
        Streams,
    }

    // What is known of a method: which places its calls take, and which field of its request is the precedence.
    private sealed record Kind(Pool Pool, uint Precedence);

    private static readonly FrozenDictionary<string, Kind> Kinds = Methods.Names.ToFrozenDictionary(
        n => n,
        n => new Kind(
            Methods.Find(n) is { IsClientStreaming: true } or { IsServerStreaming: true } ? Pool.Streams
                : Methods.Writes.Contains(n) ? Pool.Writes
                : Pool.Reads,
            (uint)(Methods.Find(n)!.InputType.FindFieldByName("precedence")?.FieldNumber ?? 0)
        )
    );

    // Endpoints that are no RPC of the contracts: the log's files, and streams such as the health service's Watch.
    private static readonly Kind File = new(Pool.Reads, 0),
        Stream = new(Pool.Streams, 0);

    private readonly Places _writes = OfCalls(limits, time),
        _reads = OfCalls(limits, time),
        _streams = OfStreams(limits, time),
        _questions = OfQuestions(limits, time);
    private readonly Bodies _bodies = new(limits);
    private readonly Pause _pause = new(limits.RefusalDelay, time);

    private static Places OfCalls(EdgeLimits limits, TimeProvider time) =>
        new(
            new(limits.MaxCalls, limits.MaxCallsPerParticipant, limits.MaxCallsBesideOthers, limits.OwnPlaces, limits.PlacesForFlash),
            Full("the participant has as many calls in progress as it may have"),
            Full("the service has as many calls in progress as it may have"),
            time
        );

    private static Places OfStreams(EdgeLimits limits, TimeProvider time) =>
        new(
            new(limits.MaxStreams, limits.MaxStreamsPerParticipant, limits.MaxStreamsPerParticipant, limits.OwnPlaces, 0),
            Full("the participant has as many streams open as it may have"),
            Full("the service has as many streams open as it may have"),
            time
        );

    private static Places OfQuestions(EdgeLimits limits, TimeProvider time) =>
        new(
            new(limits.MaxQuestions, limits.MaxQuestionsPerParticipant, limits.MaxQuestionsPerParticipant, limits.OwnQuestions, 0),
            Full("as many of the participant's writes ask another service as may at once"),
            Full("as many writes ask another service as may at once"),
            time
        );

    private static Refusals.Prepared Full(string limit) => Refusals.Prepare(OverloadedBy(limit));

    private static Refusal OverloadedBy(string limit) => new(Reason.Overloaded, new Dictionary<string, string> { ["limit"] = limit });

    /// <summary>Takes a place for a call, or for a request of the log's files.</summary>
    /// <param name="call">What is called, and by whom.</param>
    /// <param name="http">The request.</param>
    /// <returns>The refusal, given after a pause; null: the call has a place until <see cref="Leave"/>.</returns>
    public ValueTask<Refusals.Prepared?> Enter(EdgeCall call, HttpContext http)
    {
        var participant = call.Caller.Participant.Id;
        return KindOf(call) is not { } kind || PlacesOf(kind).Take(participant, urgent: false) is not { } full
            ? default
            : Find(kind, http, participant, full);
    }

    /// <summary>The call has ended, however it did.</summary>
    public void Leave(EdgeCall call)
    {
        if (call.Room.Bytes > 0)
            _bodies.GiveBack(call.Caller.Participant.Id, call.Room);
        if (KindOf(call) is { } kind)
            PlacesOf(kind).GiveBack(call.Caller.Participant.Id);
    }

    /// <summary>Takes room for the message of a call that has a place. Places alone would let the messages of one participant fill the
    /// memory, if each of its calls had a great one and sent it slowly.</summary>
    /// <param name="call">The call.</param>
    /// <param name="http">The request, of whose body nothing is being read.</param>
    /// <param name="bytes">How long its message is.</param>
    /// <returns>The refusal, given after a pause; null: the call has room until <see cref="Leave"/>.</returns>
    public async ValueTask<Refusal?> TakeRoom(EdgeCall call, HttpContext http, long bytes)
    {
        if (bytes <= EdgeLimits.SmallMessageBytes)
            return null;
        var (participant, room) = (call.Caller.Participant.Id, new TakenRoom(bytes, OfFlash: false));
        var full = _bodies.Take(participant, room);
        if (full is not null && KindOf(call) is { Precedence: > 0 } kind && await IsFlash(http, kind.Precedence))
        {
            room = room with { OfFlash = true };
            full = _bodies.Take(participant, room);
        }
        if (full is null)
            call.Room = room;
        else
            await _pause.Wait();
        return full;
    }

    /// <summary>Takes a place for a write's question to another service. That service counts all questions of this one as calls of one
    /// participant, so without this limit one participant's writes could use up the places that other participants, and reactions to
    /// events, need there.</summary>
    /// <param name="call">The write.</param>
    /// <returns>The refusal, given after a pause; null: the write may ask until <see cref="LeaveQuestion"/>.</returns>
    public async ValueTask<Refusal?> EnterQuestion(EdgeCall call)
    {
        if (_questions.Take(call.Caller.Participant.Id, urgent: false) is not { } full)
            return null;
        await _pause.Wait();
        return full.Refusal;
    }

    /// <summary>The question was answered, or failed.</summary>
    public void LeaveQuestion(EdgeCall call) => _questions.GiveBack(call.Caller.Participant.Id);

    private static Kind? KindOf(EdgeCall call) =>
        call.Rpc is { } rpc ? Kinds.GetValueOrDefault(rpc.Name)
        : call.Streams ? Stream
        : File;

    private Places PlacesOf(Kind kind) =>
        kind.Pool switch
        {
            Pool.Writes => _writes,
            Pool.Reads => _reads,
            Pool.Streams => _streams,
            _ => throw new ArgumentOutOfRangeException(nameof(kind)),
        };

    private async ValueTask<Refusals.Prepared?> Find(Kind kind, HttpContext http, string participant, Refusals.Prepared full)
    {
        if (kind.Precedence > 0 && await IsFlashSoon(http, kind.Precedence))
        {
            if (PlacesOf(kind).Take(participant, urgent: true) is not { } none)
                return null;
            full = none;
        }
        await _pause.Wait();
        return full;
    }

    // A call without a place must not hold its stream by sending nothing.
    private async Task<bool> IsFlashSoon(HttpContext http, uint field)
    {
        using var late = new CancellationTokenSource(limits.PrecedenceDelay, time);
        try
        {
            return await IsFlash(http, field, late.Token);
        }
        catch (OperationCanceledException) when (late.IsCancellationRequested)
        {
            return false;
        }
    }

    // Whether the message's precedence is FLASH. As much of the body is read as is needed, and none of it is consumed.
    private static async Task<bool> IsFlash(HttpContext http, uint field, CancellationToken cancel = default)
    {
        var reader = http.Request.BodyReader;
        while (true)
        {
            var read = await reader.ReadAsync(cancel);
            var (buffer, known) = (read.Buffer, PrecedenceIn(read.Buffer, field));
            var ended = known is not null || read.IsCompleted || buffer.Length > Searched;
            reader.AdvanceTo(buffer.Start, ended ? buffer.Start : buffer.End);
            if (ended)
                return known == (ulong)Precedence.Flash;
        }
    }

    // A message of a write begins with its small fields, the precedence among them.
    private const int Searched = 4096;

    /// <summary>The value of a numeric field in a message after its prefix; null: it is missing, or has not arrived yet.</summary>
    internal static ulong? PrecedenceIn(ReadOnlySequence<byte> frame, uint field)
    {
        if (frame.Length <= RequestFrame.Prefix)
            return null;
        var reader = new SequenceReader<byte>(frame.Slice(RequestFrame.Prefix));
        while (Number(ref reader, out var tag))
        {
            ulong value;
            switch ((WireFormat.WireType)(tag & 7))
            {
                case WireFormat.WireType.Varint when Number(ref reader, out value):
                    if (tag >> 3 == field)
                        return value;
                    break;
                case WireFormat.WireType.Fixed64 when reader.Remaining >= 8:
                    reader.Advance(8);
                    break;
                case WireFormat.WireType.Fixed32 when reader.Remaining >= 4:
                    reader.Advance(4);
                    break;
                case WireFormat.WireType.LengthDelimited when Number(ref reader, out value) && value <= (ulong)reader.Remaining:
                    reader.Advance((long)value);
                    break;
                default:
                    return null;
            }
        }
        return null;

        static bool Number(ref SequenceReader<byte> reader, out ulong value)
        {
            value = 0;
            for (var shift = 0; shift < 64 && reader.TryRead(out var next); shift += 7)
            {
                value |= (ulong)(next & 127) << shift;
                if (next < 128)
                    return true;
            }
            return false;
        }
    }

    /// <summary>Refusals are answered after a short pause, and in batches, so that callers that try again at once do not fill the
    /// processors.</summary>
    private sealed class Pause(TimeSpan delay, TimeProvider time)
    {
        private readonly Lock _lock = new();
        private Task _told = Task.CompletedTask;
        private long _since;

        public Task Wait()
        {
            lock (_lock)
            {
                if (!_told.IsCompleted && time.GetElapsedTime(_since) < delay / 2)
                    return _told;
                _since = time.GetTimestamp();
                return _told = Task.Delay(delay, time);
            }
        }
    }

    /// <summary>How many calls may be in progress.</summary>
    /// <param name="All">Calls of all participants together.</param>
    /// <param name="OfOne">Calls of one participant.</param>
    /// <param name="BesideOthers">Calls of one participant while another has called within the last second.</param>
    /// <param name="Own">Calls that a participant may always have, however many others have.</param>
    /// <param name="Flash">Calls of one participant beyond these limits if their precedence is FLASH.</param>
    private sealed record Room(int All, int OfOne, int BesideOthers, int Own, int Flash);

    /// <summary>Who has how many bytes in great messages.</summary>
    private sealed class Bodies(EdgeLimits limits)
    {
        private static readonly Refusal OfOne = OverloadedBy("the participant's calls in progress have as many bytes as they may have"),
            OfAll = OverloadedBy("the service's calls in progress have as many bytes as they may have");

        private readonly Lock _lock = new();

        // What is kept for FLASH is apart from the rest.
        private readonly Dictionary<(string Participant, bool OfFlash), long> _taken = [];
        private long _all,
            _flash;

        public long All => Interlocked.Read(ref _all) + Interlocked.Read(ref _flash);

        /// <summary>Takes room. Returns the refusal; null: it is taken.</summary>
        public Refusal? Take(string participant, TakenRoom room)
        {
            lock (_lock)
            {
                var own = _taken.GetValueOrDefault((participant, room.OfFlash));
                var most = room.OfFlash ? limits.BodyBytesForFlash : limits.MaxBodyBytesPerParticipant;
                if ((own > 0 || room.OfFlash) && own + room.Bytes > most)
                    return OfOne;
                if (own > 0 && !room.OfFlash && _all + room.Bytes > limits.MaxBodyBytes)
                    return OfAll;
                _taken[(participant, room.OfFlash)] = own + room.Bytes;
                Sum(room) += room.Bytes;
                return null;
            }
        }

        public void GiveBack(string participant, TakenRoom room)
        {
            lock (_lock)
            {
                Sum(room) -= room.Bytes;
                if ((_taken[(participant, room.OfFlash)] -= room.Bytes) == 0)
                    _taken.Remove((participant, room.OfFlash));
            }
        }

        private ref long Sum(TakenRoom room) => ref room.OfFlash ? ref _flash : ref _all;
    }

    /// <summary>Who has how many calls in progress.</summary>
    private sealed class Places(Room room, Refusals.Prepared ofOne, Refusals.Prepared ofAll, TimeProvider time)
    {
        private static readonly TimeSpan Recently = TimeSpan.FromSeconds(1);

        private readonly Lock _lock = new();
        private readonly Dictionary<string, int> _taken = [];
        private int _all;

        // The last two who called.
        private (string Participant, long At) _last = ("", 0),
            _before = ("", 0);

        /// <summary>Takes a place. Returns the refusal; null: the place is taken.</summary>
        public Refusals.Prepared? Take(string participant, bool urgent)
        {
            lock (_lock)
            {
                var now = time.GetTimestamp();
                if (_last.Participant != participant)
                    (_before, _last) = (_last, (participant, now));
                else
                    _last.At = now;
                var beside = _before.Participant.Length > 0 && time.GetElapsedTime(_before.At, now) < Recently;
                var most = beside ? room.BesideOthers : room.OfOne;
                var own = _taken.GetValueOrDefault(participant);
                if (own >= most + (urgent ? room.Flash : 0))
                    return ofOne;
                if (own >= room.Own && !urgent && _all >= room.All)
                    return ofAll;
                _taken[participant] = own + 1;
                _all++;
                return null;
            }
        }

        public void GiveBack(string participant)
        {
            lock (_lock)
            {
                _all--;
                if (_taken[participant] == 1)
                    _taken.Remove(participant);
                else
                    _taken[participant]--;
            }
        }
    }
}
