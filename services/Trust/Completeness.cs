using Ministries.Ledger;
using Ministries.Ledger.V1;

namespace Ministries.Trust;

/// <summary>
/// Checks whether a reader was shown every entry of a ledger that is for it. Entries are numbered in each of their audiences, from 1
/// without gaps, and an entry's header commits to its numbers. So an entry that is left out between two others leaves a gap. Entries after
/// the last one that was shown cannot be checked: only others' receipts show that they exist.
/// </summary>
/// <param name="fromStart">True if the entries are read from position 0. Otherwise the first number of an audience is taken as it
/// is.</param>
/// <param name="case">The case, if only the entries of one case are read. Then only its audiences are judged.</param>
public sealed class Completeness(bool fromStart, string @case = "")
{
    private readonly Dictionary<string, (ulong Number, ulong Position)> _last = [];

    /// <summary>Goes on where another reading ended: the number of an audience's last entry, and that entry's position.</summary>
    public void Resume(string audience, ulong number, ulong position) => _last[audience] = (number, position);

    /// <summary>How far each audience was seen without a gap: the number and the position of its last entry.</summary>
    public IEnumerable<(string Audience, ulong Number, ulong Position)> Last =>
        _last.Select(l => (l.Key, l.Value.Number, l.Value.Position));

    /// <summary>Takes the next entry, in the order of the ledger.</summary>
    /// <param name="header">Its header.</param>
    /// <param name="numbers">The numbers that its reader was shown.</param>
    /// <returns>What is missing before it, or is not what its header commits to; null: nothing.</returns>
    public string? Take(EntryHeader header, IEnumerable<AudienceNumber> numbers)
    {
        foreach (var number in numbers)
        {
            if (!header.Audience.Contains(Digests.OfAudience(number)))
                return $"the header of entry {header.Position} does not commit to number {number.Number} of {number.Audience}";
            if (@case.Length > 0 && !Audience.IsOf(number.Audience, @case))
                continue;
            var known = _last.TryGetValue(number.Audience, out var last);
            if ((known || fromStart) && number.Number != last.Number + 1)
                return number.Number <= last.Number
                    ? $"entry {header.Position} has number {number.Number} of {number.Audience} again"
                    : $"number {last.Number + 1} of what {number.Audience} may see is missing: an entry "
                        + (known ? $"between {last.Position} and {header.Position}" : $"before {header.Position}")
                        + " was left out";
            _last[number.Audience] = (number.Number, header.Position);
        }
        return null;
    }

    /// <summary>Whether an entry was seen, by the numbers that its reader was shown.</summary>
    public bool Has(IEnumerable<AudienceNumber> numbers) =>
        numbers.Any(n => _last.TryGetValue(n.Audience, out var last) && n.Number <= last.Number);

    /// <summary>Goes on from an entry, regardless of earlier entries of its audiences: these have been checked in another way.</summary>
    public void GoOnFrom(EntryHeader header, IEnumerable<AudienceNumber> numbers)
    {
        foreach (var number in numbers.Where(n => @case.Length == 0 || Audience.IsOf(n.Audience, @case)))
            _last[number.Audience] = (number.Number, header.Position);
    }
}
