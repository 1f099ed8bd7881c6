using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;
using Ministries.Ledger;
using Ministries.Serving;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>What a participant may see by the agreement and its cases.</summary>
/// <param name="Reader">The participant with its tokens.</param>
/// <param name="Viewer">The same for what is read from the ledger.</param>
/// <param name="By">The permissions from which this follows.</param>
/// <param name="RelistedAt">The ledger's <see cref="ServiceLedger.RelistedAt"/> of the participant's cases.</param>
internal sealed record Rights(Reader Reader, Viewer Viewer, Permissions By, ulong RelistedAt);

/// <summary>
/// Notifies the streams that follow the ledger of new entries, with one reader for all of them. By the tokens of an entry it finds the
/// participants that may see it, and puts the entry's position into the inbox of each of their streams. What a participant may see is
/// determined once for all of its streams, and again when its own cases or the agreement change. Of its cases the ids are kept, about 100
/// bytes each.
/// </summary>
internal sealed class Followers(ServiceLedger ledger, Agreements agreements, EdgeLimits limits, ILogger<Followers> log)
    : SupervisedService(log)
{
    /// <summary>How old the knowledge of other replicas' entries may be when an entry is sent.</summary>
    private static readonly TimeSpan LookedWithin = TimeSpan.FromMilliseconds(100);

    private readonly Lock _lock = new();
    private readonly Dictionary<string, Group> _groups = [];
    private TaskCompletionSource _some = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _joined;

    // The streams have been notified of every entry before this position.
    private ulong _at;

    /// <summary>At most 4 streams read pages of entries at a time. Streams that are far behind wait for their turn.</summary>
    public SemaphoreSlim Pages { get; } = new(4);

    /// <summary>Entries greater than a page are in memory for 4 streams at a time.</summary>
    public SemaphoreSlim Great { get; } = new(4);

    /// <summary>The limits of streams.</summary>
    public EdgeLimits Limits => limits;

    /// <summary>The streams of one participant, and what it may see.</summary>
    internal sealed class Group(string participant)
    {
        public string Participant => participant;
        public HashSet<Inbox> Joined { get; } = [];
        public int Open { get; set; }
        public volatile Rights? Rights;
        public Task<Rights>? Working { get; set; }
    }

    /// <summary>The positions of entries that a stream has not handled yet.</summary>
    /// <param name="group">Whose it is.</param>
    /// <param name="case">The only case whose entries it wants; empty: all cases.</param>
    [SuppressMessage("Design", "CA1001", Justification = "A SemaphoreSlim whose wait handle nobody asks for holds nothing to free.")]
    internal sealed class Inbox(Group group, string @case)
    {
        // A stream with more waiting entries reads them from the database.
        private const int Most = 1024;

        private readonly SemaphoreSlim _filled = new(0, 1);
        private readonly Queue<ulong> _positions = [];
        private bool _lost;

        public Group Group => group;

        public void Add(TailEntry entry)
        {
            if (_lost || @case.Length > 0 && entry.Case != @case)
                return;
            if (_positions.Count < Most)
                _positions.Enqueue(entry.Position);
            else
                Lose();
            Signal();
        }

        public void Lose()
        {
            _lost = true;
            _positions.Clear();
            Signal();
        }

        public (ulong[] Positions, bool Lost) Take()
        {
            ulong[] taken = [.. _positions];
            _positions.Clear();
            return (taken, _lost);
        }

        public Task<bool> Wait(TimeSpan atMost, CancellationToken cancel) => _filled.WaitAsync(atMost, cancel);

        private void Signal()
        {
            if (_filled.CurrentCount == 0)
                _filled.Release();
        }
    }

    /// <summary>A stream of a participant begins. It ends with <see cref="Close"/>.</summary>
    public Group Open(string participant)
    {
        lock (_lock)
        {
            if (!_groups.TryGetValue(participant, out var group))
                _groups[participant] = group = new(participant);
            group.Open++;
            return group;
        }
    }

    public void Close(Group group)
    {
        lock (_lock)
        {
            if (--group.Open > 0)
                return;
            _groups.Remove(group.Participant);
        }
    }

    /// <summary>Notifies a stream of new entries that its participant may see, until <see cref="Leave"/>.</summary>
    /// <param name="group">Whose it is.</param>
    /// <param name="case">The only case whose entries it wants; empty: all cases.</param>
    /// <returns>Its inbox, and the position from which on it is notified.</returns>
    public (Inbox Inbox, ulong From) Join(Group group, string @case)
    {
        lock (_lock)
        {
            if (_joined++ == 0)
            {
                // A stream that begins later needs no notification of earlier entries.
                _at = ledger.Size;
                ledger.KeepsTail = true;
                _some.TrySetResult();
            }
            var inbox = new Inbox(group, @case);
            group.Joined.Add(inbox);
            return (inbox, _at);
        }
    }

    public void Leave(Inbox inbox)
    {
        lock (_lock)
        {
            inbox.Group.Joined.Remove(inbox);
            if (--_joined > 0)
                return;
            ledger.KeepsTail = false;
            _some = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }
    }

    /// <summary>What has come for a stream.</summary>
    /// <returns><c>Positions</c>: the entries for it. <c>Before</c>: every earlier entry is among these or not for it. <c>Lost</c>: some
    /// were dropped, so it must read from the database.</returns>
    public (ulong[] Positions, ulong Before, bool Lost) Take(Inbox inbox)
    {
        lock (_lock)
        {
            var (positions, lost) = inbox.Take();
            return (positions, _at, lost);
        }
    }

    /// <summary>What a participant may see now.</summary>
    public async ValueTask<Rights> RightsOf(Group group, CancellationToken cancel)
    {
        await ledger.Look(LookedWithin, cancel);
        while (true)
        {
            if (group.Rights is { } rights && Hold(rights))
                return rights;
            await Renew(group).WaitAsync(cancel);
        }
    }

    /// <summary>Whether these are still what a participant may see.</summary>
    public bool Hold(Rights rights) =>
        rights.RelistedAt == RelistedAt(rights.Reader.Participant.Id) && ReferenceEquals(rights.By, agreements.InForce.Permissions);

    private ulong RelistedAt(string participant) => ledger.RelistedAt(Cases.Kind, Cases.PartyKey(participant));

    /// <summary>Reads other replicas' entries, where the last time is too long ago to rely on what participants may see.</summary>
    public ValueTask Look(CancellationToken cancel) => ledger.Look(LookedWithin, cancel);

    /// <summary>One run serves all who ask meanwhile.</summary>
    private Task<Rights> Renew(Group group)
    {
        lock (_lock)
            return group.Working is { IsCompleted: false } working ? working : group.Working = Task.Run(() => WorkOut(group));
    }

    private async Task<Rights> WorkOut(Group group)
    {
        // The versions that the rights are based on are noted first, so that a change meanwhile makes the rights outdated.
        var (changed, by) = (RelistedAt(group.Participant), agreements.InForce.Permissions);
        // A participant that the agreement does not have any more sees nothing.
        var participant = by.Participant(group.Participant);
        var viewer = participant is null ? new([], null, []) : Viewer.Of(participant);
        var cases = viewer.PartyKey is { } key ? await ledger.ListKeys(Cases.Kind, key, default) : [];
        var reader = new Reader(participant ?? new Participant { Id = group.Participant }, new HeldTokens(participant, cases));
        var rights = new Rights(reader, viewer, by, changed);
        group.Rights = rights;
        return rights;
    }

    /// <inheritdoc/>
    protected override async Task Work(CancellationToken stop)
    {
        try
        {
            while (true)
                await TellOfMore(stop);
        }
        finally
        {
            // The streams read what they were not notified of from the database.
            lock (_lock)
                foreach (var inbox in _groups.Values.SelectMany(g => g.Joined))
                    inbox.Lose();
        }
    }

    private async Task TellOfMore(CancellationToken stop)
    {
        Task some;
        lock (_lock)
            some = _some.Task;
        await some.WaitAsync(stop);
        ulong from;
        lock (_lock)
            from = _at;
        await ledger.WaitForMore(from, stop);
        var entries = await ledger.ReadTail(from, stop);
        if (entries.Count == 0)
            return;
        // A participant whose rights one of these entries changed is notified of all of them by the new rights.
        var (by, relisted) = (agreements.InForce.Permissions, new Dictionary<string, ulong>());
        while (true)
        {
            List<Group> behind;
            lock (_lock)
            {
                // All streams may have left meanwhile and others joined at a later position.
                if (_at != from)
                    return;
                // The streams are read again after each wait, because some may have left and others may have come.
                behind = [.. _groups.Values.Where(g => g.Joined.Count > 0 && !Knows(g))];
                if (behind.Count == 0)
                {
                    foreach (var entry in entries)
                        Deliver(entry);
                    _at = entries[^1].Position + 1;
                    return;
                }
            }
            // The participant with the most cases takes longest, and the others do not wait for it one after the other.
            await Task.WhenAll(behind.Select(Renew)).WaitAsync(stop);
        }

        bool Knows(Group group)
        {
            // Later changes are those of later entries.
            if (!relisted.TryGetValue(group.Participant, out var at))
                relisted[group.Participant] = at = RelistedAt(group.Participant);
            return group.Rights is { } rights && (ReferenceEquals(rights.By, by) ? rights.RelistedAt >= at : Hold(rights));
        }
    }

    private void Deliver(TailEntry entry)
    {
        foreach (var group in _groups.Values)
            if (group.Joined.Count > 0 && group.Rights is { } rights && entry.Audience.Any(rights.Reader.Tokens.Contains))
                foreach (var inbox in group.Joined)
                    inbox.Add(entry);
    }
}
