using System.Diagnostics.CodeAnalysis;
using Ministries.Types.V1;

namespace Ministries.Ledger;

/// <summary>The commands that wait: by precedence, then in turn by participant, then in the order in which they came. One place in four is
/// the turn of the participant whose last place is longest ago, whatever the precedence of its commands, so that nobody's urgent commands
/// keep the others waiting for ever, those of the service itself included (decision 0082).</summary>
[SuppressMessage("Design", "CA1001", Justification = "A SemaphoreSlim whose wait handle nobody asks for holds nothing to free.")]
internal sealed class CommandQueue(LedgerOptions options)
{
    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _some = new(0);

    /// <summary>Per precedence, greatest first, the participants that wait, in the order of their turns.</summary>
    private readonly SortedDictionary<int, LinkedList<(string Participant, LinkedList<PendingCommand> Commands)>> _ranks = new(
        Comparer<int>.Create((a, b) => b.CompareTo(a))
    );

    // One place in so many goes round all participants.
    private const int Round = 4;

    private readonly Dictionary<string, (int Count, long Bytes, long BytesBeyond)> _perParticipant = [];

    // When each participant had its last place: the number of that place. The agreement limits how many participants there are.
    private readonly Dictionary<string, long> _served = [];
    private long _places;
    private int _count;
    private long _bytes;
    private bool _closed;

    public int Count => Volatile.Read(ref _count);

    /// <summary>Puts a command at the end of its participant's turn.</summary>
    /// <exception cref="LedgerClosedException">The queue is closed.</exception>
    /// <exception cref="LedgerOverloadedException">There is no room.</exception>
    public void Add(PendingCommand pending)
    {
        var command = pending.Command;
        lock (_lock)
        {
            if (_closed)
                throw new LedgerClosedException();
            var own = _perParticipant.GetValueOrDefault(command.Participant);
            // One command of each participant always has room, whatever others have sent. So have a few bytes of FLASH commands.
            var fits =
                own.Count == 0
                || own.Bytes + command.Bytes.Length <= options.MaxQueuedBytesPerParticipant
                    && _bytes + command.Bytes.Length <= options.MaxQueuedBytes;
            var fitsBeyond =
                command.Precedence >= (int)Precedence.Flash && own.BytesBeyond + command.Bytes.Length <= options.QueuedBytesForFlash;
            if (_count >= options.MaxQueued || own.Count >= options.MaxQueuedPerParticipant || !fits && !fitsBeyond)
                throw new LedgerOverloadedException();
            pending.IsBeyond = !fits;
            if (!_ranks.TryGetValue(command.Precedence, out var rank))
                _ranks[command.Precedence] = rank = [];
            var turn = rank.FirstOrDefault(t => t.Participant == command.Participant);
            if (turn.Commands is null)
                rank.AddLast(turn = (command.Participant, []));
            turn.Commands.AddLast(pending);
            ChangeCounts(pending, 1);
        }
        _some.Release();
    }

    /// <summary>Takes a command out; false: it is no longer there.</summary>
    public bool Remove(PendingCommand pending)
    {
        lock (_lock)
        {
            if (!_ranks.TryGetValue(pending.Command.Precedence, out var rank))
                return false;
            var turn = rank.FirstOrDefault(t => t.Participant == pending.Command.Participant);
            if (turn.Commands is null || !turn.Commands.Remove(pending))
                return false;
            if (turn.Commands.Count == 0)
                rank.Remove(turn);
            if (rank.Count == 0)
                _ranks.Remove(pending.Command.Precedence);
            ChangeCounts(pending, -1);
            return true;
        }
    }

    /// <summary>Whether it is closed and empty.</summary>
    public bool IsOver
    {
        get
        {
            lock (_lock)
                return _closed && _ranks.Count == 0;
        }
    }

    /// <summary>Takes the next commands, at least one; none: the queue is closed and empty.</summary>
    public List<PendingCommand> Take()
    {
        while (true)
        {
            lock (_lock)
            {
                var taken = Next(options.MaxBatch);
                if (taken.Count > 0 || _closed)
                    return taken;
            }
            _some.Wait();
            Settle();
        }
    }

    /// <summary>Takes the next commands of those that wait now.</summary>
    /// <param name="most">How many at most.</param>
    public List<PendingCommand> TakeWaiting(int most)
    {
        Settle();
        lock (_lock)
            return Next(Math.Min(most, options.MaxBatch));
    }

    // One wake-up covers all commands that came until now.
    private void Settle()
    {
        while (_some.Wait(0)) { }
    }

    private List<PendingCommand> Next(int most)
    {
        var (taken, bytes) = (new List<PendingCommand>(), 0L);
        while (_ranks.Count > 0 && taken.Count < most && bytes < options.MaxBatchBytes)
        {
            var turn = _places % Round == Round - 1 ? LongestWithout() : _ranks.First().Value.First!;
            var (participant, commands) = turn.Value;
            var next = commands.First!.Value;
            if (taken.Count > 0 && bytes + next.Command.Bytes.Length > options.MaxBatchBytes)
                break;
            commands.RemoveFirst();
            var rank = turn.List!;
            rank.Remove(turn);
            if (commands.Count > 0)
                rank.AddLast(turn);
            if (rank.Count == 0)
                _ranks.Remove(next.Command.Precedence);
            _served[participant] = ++_places;
            ChangeCounts(next, -1);
            bytes += next.Command.Bytes.Length;
            taken.Add(next);
        }
        return taken;
    }

    // The turn of the participant whose last place is longest ago, with its most urgent commands.
    private LinkedListNode<(string Participant, LinkedList<PendingCommand> Commands)> LongestWithout()
    {
        var (longest, at) = (_ranks.First().Value.First!, long.MaxValue);
        foreach (var rank in _ranks.Values)
            for (var turn = rank.First; turn is not null; turn = turn.Next)
                if (_served.GetValueOrDefault(turn.Value.Participant) is var served && served < at)
                    (longest, at) = (turn, served);
        return longest;
    }

    /// <summary>Takes no more commands from now on.</summary>
    public void Close()
    {
        lock (_lock)
            _closed = true;
        _some.Release();
    }

    private void ChangeCounts(PendingCommand pending, int sign)
    {
        var length = sign * (long)pending.Command.Bytes.Length;
        var own = _perParticipant.GetValueOrDefault(pending.Command.Participant);
        own.Count += sign;
        _count += sign;
        if (pending.IsBeyond)
            own.BytesBeyond += length;
        else
        {
            own.Bytes += length;
            _bytes += length;
        }
        if (own.Count == 0)
            _perParticipant.Remove(pending.Command.Participant);
        else
            _perParticipant[pending.Command.Participant] = own;
    }
}
