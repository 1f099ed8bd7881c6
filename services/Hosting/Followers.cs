using System.Diagnostics.CodeAnalysis;
using System.Runtime.ExceptionServices;
using Microsoft.Extensions.Logging;
using Ministries.Custody.V1;
using Ministries.Ledger;
using Ministries.Serving;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>A participant's rights to some entries.</summary>
/// <param name="Reader">The participant, with the tokens that it holds among those of the entries.</param>
/// <param name="By">The permissions from which this follows.</param>
/// <param name="Noted">The ledger's <see cref="ServiceLedger.NotedSize"/> before the cases were read on which the rights rest.</param>
/// <param name="Unread">The cases of the entries that cannot be read, and why: they are damaged, or newer software wrote them.</param>
internal sealed record Rights(Reader Reader, Permissions By, ulong Noted, IReadOnlyDictionary<string, Exception> Unread)
{
    /// <summary>The participant's tokens among those of an entry; none: it may not see the entry.</summary>
    /// <exception cref="Exception">The right to see the entry depends on a case that cannot be read.</exception>
    public IReadOnlyList<string> HeldOf(StoredEntry stored)
    {
        string[] held = [.. stored.Entry.Audience.Select(a => a.Audience).Where(Reader.Tokens.Contains)];
        if (held.Length == 0)
            foreach (var numbers in stored.Entry.Audience)
                if (Unread.TryGetValue(Audience.CaseOf(numbers.Audience), out var fault))
                    ExceptionDispatchInfo.Throw(fault);
        return held;
    }
}

/// <summary>
/// Notifies the streams that follow the ledger of new entries, with one reader for all of them. It reads the cases that the new entries
/// name, once for everybody, and puts an entry's position into the inbox of each stream whose participant may see the entry. Nothing is
/// stored about a participant's cases, so the cost does not depend on how many cases a participant has or how often they change.
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

    /// <summary>The streams of one participant.</summary>
    internal sealed class Group(string participant)
    {
        public string Participant => participant;
        public string Own { get; } = Audience.Of(participant);
        public HashSet<Inbox> Joined { get; } = [];
        public int Open { get; set; }

        // The participant with the tokens that it holds without a case. It is kept because much in the inboxes depends on it.
        private (Permissions By, Reader Reader)? _known;
        private readonly Lock _access = new();

        public Reader ReaderBy(Permissions by, HashSet<string> cases)
        {
            Reader without;
            lock (_access)
            {
                if (!ReferenceEquals(_known?.By, by))
                {
                    // A participant that the agreement no longer lists sees nothing.
                    var listed = by.Participant(participant);
                    _known = (by, new Reader(listed ?? new Participant { Id = participant }, new HeldTokens(listed, [])));
                }
                without = _known!.Value.Reader;
            }
            return without with { Tokens = without.Tokens.In(cases) };
        }
    }

    /// <summary>An entry of which a stream is notified.</summary>
    /// <param name="Position">Its position.</param>
    /// <param name="Rights">The participant's rights to the entry; null: not known, because a case cannot be read.</param>
    internal readonly record struct Told(ulong Position, Rights? Rights);

    /// <summary>The entries that a stream has not handled yet.</summary>
    /// <param name="group">Whose it is.</param>
    /// <param name="case">The only case whose entries it wants; empty: all cases.</param>
    [SuppressMessage("Design", "CA1001", Justification = "A SemaphoreSlim whose wait handle nobody asks for holds nothing to free.")]
    internal sealed class Inbox(Group group, string @case)
    {
        // A stream with more waiting entries reads them from the database.
        private const int Most = 1024;

        private readonly SemaphoreSlim _filled = new(0, 1);
        private readonly Queue<Told> _waiting = [];
        private bool _lost;

        public Group Group => group;

        public void Add(TailEntry entry, Rights? rights)
        {
            if (_lost || @case.Length > 0 && entry.Case != @case)
                return;
            if (_waiting.Count < Most)
                _waiting.Enqueue(new(entry.Position, rights));
            else
                Lose();
            Signal();
        }

        public void Lose()
        {
            _lost = true;
            _waiting.Clear();
            Signal();
        }

        public (Told[] Pending, bool Lost) Take()
        {
            Told[] taken = [.. _waiting];
            _waiting.Clear();
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
    /// <returns><c>Pending</c>: the entries for it. <c>Before</c>: every earlier entry is among these or not for it. <c>Lost</c>: some were
    /// dropped, so it must read from the database.</returns>
    public (Told[] Pending, ulong Before, bool Lost) Take(Inbox inbox)
    {
        lock (_lock)
        {
            var (waiting, lost) = inbox.Take();
            return (waiting, _at, lost);
        }
    }

    /// <summary>A participant's rights to some entries, at a moment after this call began.</summary>
    public async Task<Rights> RightsTo(Group group, IEnumerable<StoredEntry> entries, CancellationToken cancel)
    {
        var cases = await CasesOf(entries.SelectMany(e => e.Entry.Audience).Select(a => a.Audience), cancel);
        return cases.RightsOf(group);
    }

    /// <summary>Whether a participant's rights are still these. Another replica's change of its cases is noticed within
    /// <see cref="LookedWithin"/>.</summary>
    public async ValueTask<bool> Hold(Rights rights, CancellationToken cancel)
    {
        await ledger.Look(LookedWithin, cancel);
        return ReferenceEquals(rights.By, agreements.InForce.Permissions)
            && ledger.RelistedAt(Cases.Kind, Cases.PartyKey(rights.Reader.Participant.Id)) <= rights.Noted;
    }

    /// <summary>The cases that some tokens name, as they are at a moment after this call began.</summary>
    private async Task<FoundCases> CasesOf(IEnumerable<string> tokens, CancellationToken cancel)
    {
        // The size is noted before the cases are read, so that a change meanwhile makes the rights outdated.
        var found = new FoundCases(agreements, ledger.NotedSize);
        var ids = tokens.Select(Audience.CaseOf).Where(id => id.Length > 0).Distinct();
        await Task.WhenAll(ids.Select(async id => found.Add(id, await Find(id))));
        Probe.At("after-rights");
        return found;

        async Task<(Case?, Exception?)> Find(string id)
        {
            try
            {
                return ((await ledger.Find(Cases.Kind, id, null, cancel))?.State, null);
            }
            catch (Exception e) when (e is not (LedgerUnavailableException or OperationCanceledException))
            {
                // The fault concerns only participants that may see something through this case.
                return (null, e);
            }
        }
    }

    /// <summary>Cases as they were read together.</summary>
    private sealed class FoundCases(Agreements agreements, ulong noted)
    {
        private readonly Permissions _by = agreements.InForce.Permissions;
        private readonly Lock _adding = new();
        private readonly Dictionary<string, HashSet<string>> _byParty = [];

        public Dictionary<string, Exception> Unread { get; } = [];

        public void Add(string id, (Case? Case, Exception? Fault) found)
        {
            lock (_adding)
            {
                if (found.Fault is not null)
                    Unread[id] = found.Fault;
                foreach (var party in Cases.PartiesOf(found.Case))
                    if (!_byParty.TryAdd(party, [id]))
                        _byParty[party].Add(id);
            }
        }

        public bool HasParty(string participant) => _byParty.ContainsKey(participant);

        public Rights RightsOf(Group group) =>
            new(group.ReaderBy(_by, _byParty.GetValueOrDefault(group.Participant, [])), _by, noted, Unread);
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
        // The cases are read after the entries. So a party that was removed before an entry is not notified of it, and a party that was
        // admitted before it is.
        var cases = await CasesOf(entries.SelectMany(e => e.Audience), stop);
        lock (_lock)
        {
            // All streams may have left meanwhile and others joined at a later position.
            if (_at != from)
                return;
            Deliver(entries, cases);
            _at = entries[^1].Position + 1;
        }
    }

    private void Deliver(IReadOnlyList<TailEntry> entries, FoundCases cases)
    {
        var tokens = entries.SelectMany(e => e.Audience).ToHashSet();
        var isForAll = tokens.Contains(Audience.Everybody) || cases.Unread.Count > 0;
        foreach (var group in _groups.Values)
            if (group.Joined.Count > 0 && (isForAll || tokens.Contains(group.Own) || cases.HasParty(group.Participant)))
                Deliver(entries, group, cases.RightsOf(group));
    }

    private static void Deliver(IReadOnlyList<TailEntry> entries, Group group, Rights rights)
    {
        foreach (var entry in entries)
        {
            var isHeld = entry.Audience.Any(rights.Reader.Tokens.Contains);
            // The database selects entries by the reader's tokens without reading the cases, so it also serves a case that cannot be read.
            if (isHeld || rights.Unread.Count > 0 && entry.Audience.Any(a => rights.Unread.ContainsKey(Audience.CaseOf(a))))
                foreach (var inbox in group.Joined)
                    inbox.Add(entry, isHeld ? rights : null);
        }
    }
}
