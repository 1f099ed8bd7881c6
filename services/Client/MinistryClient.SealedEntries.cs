using System.Collections.Concurrent;
using Google.Protobuf;
using Ministries.Ledger.V1;
using Ministries.Sealing;
using Ministries.Types.V1;

namespace Ministries.Client;

/// <content>What is sealed in a record is opened by the entry that carried it.</content>
public sealed partial class MinistryClient
{
    // Entries do not change, so each is read and verified once.
    private const int MostRemembered = 4096;

    private readonly ConcurrentDictionary<(string Service, ulong Position), SealingEntry?> _sealing = [];

    /// <summary>Opens what is sealed to the participant in a record, and demands that it is of this record and this field. It reads the
    /// entry that carried it and verifies it: its place in the log, its parts and, where the request is shown, the sender's signature. So a
    /// service that shows what was sealed for another record, or in another field, is found out (protos/SEALED.md, section 4).</summary>
    /// <example><code>
    /// var prisoner = (await client.Custody.GetPrisonerAsync(…)).Prisoner;
    /// var rank = (await client.OpenIn&lt;PersonIdentity&gt;(prisoner, prisoner.Identity)).Message.Rank;
    /// </code></example>
    /// <typeparam name="T">The message inside, as the comment of the field names it.</typeparam>
    /// <param name="record">The record, whole, as the service shows it.</param>
    /// <param name="sealed">What is sealed in it: the very object that stands in the record.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="ArgumentException">It does not stand in the record, or that is no record.</exception>
    /// <exception cref="SealException">It does not open. The fault says why, and the field in the record where.</exception>
    /// <exception cref="RefusedException">The entry cannot be read.</exception>
    /// <exception cref="InvalidEntryException">The entry is not what the log has at its place, or was altered, or not signed.</exception>
    /// <exception cref="InvalidLogException">The log has two histories, or does not show the one that was signed.</exception>
    /// <exception cref="HttpRequestException">The service's log cannot be reached.</exception>
    public async Task<Opened<T>> OpenIn<T>(IMessage record, Sealed @sealed, CancellationToken cancel = default)
        where T : class, IMessage<T>, new()
    {
        ArgumentNullException.ThrowIfNull(record);
        ArgumentNullException.ThrowIfNull(@sealed);
        var place =
            SealedInRecord.In(record).FirstOrDefault(s => ReferenceEquals(s.Sealed, @sealed))
            ?? throw new ArgumentException("it does not stand in the record", nameof(@sealed));
        var message = new T();
        var context = place.ContextBy(message.Descriptor, await SealingEntryAt(place.Kind.Service, @sealed.Position, cancel));
        return OpenWith<T>(@sealed, context, []);
    }

    /// <summary>The entries at some positions that carry what is sealed, read and verified.</summary>
    /// <param name="service">The service's name.</param>
    /// <param name="positions">The positions.</param>
    /// <param name="cancel">Ends it.</param>
    /// <returns>By position; null where the participant is shown no entry, or one that carries nothing sealed.</returns>
    internal async Task<IReadOnlyDictionary<ulong, SealingEntry?>> SealingEntriesAt(
        string service,
        IReadOnlyCollection<ulong> positions,
        CancellationToken cancel
    )
    {
        var found = new Dictionary<ulong, SealingEntry?>();
        var read = new List<Entry>();
        foreach (var position in positions.Distinct().Order())
            if (_sealing.TryGetValue((service, position), out var known))
                found[position] = known;
            // The first entry of a ledger is its agreement: zero says that no position was shown.
            else if (position > 0 && await EntryAt(service, position, cancel) is { } entry)
                read.Add(entry);
            else
                found[position] = null;
        if (read.Count == 0)
            return found;
        await Verify(service, read, witnesses: false, cancel);
        if (_sealing.Count > MostRemembered)
            _sealing.Clear();
        foreach (var entry in read.Select(LedgerEntry.Read))
            found[entry.Header.Position] = _sealing[(service, entry.Header.Position)] = SealingEntry.Of(entry);
        return found;
    }

    private async Task<SealingEntry?> SealingEntryAt(string service, ulong position, CancellationToken cancel) =>
        (await SealingEntriesAt(service, [position], cancel))[position];

    // null: the participant is shown none.
    private async Task<Entry?> EntryAt(string service, ulong position, CancellationToken cancel)
    {
        Entry entry;
        try
        {
            entry = (await LedgerOf(service).GetEntryAsync(new GetEntryRequest { Position = position }, cancellationToken: cancel)).Entry;
        }
        catch (RefusedException refused) when (refused.Reason == "NOT_FOUND")
        {
            return null;
        }
        // The audit of the whole entry verifies whether it may be privileged.
        return EntryHeader.Parser.ParseFrom(entry.Header).Position == position
            ? entry
            : throw new InvalidEntryException(service, $"entry {position} is not the one that was asked for");
    }
}
