using System.Runtime.CompilerServices;
using Ministries.Ledger.V1;
using Ministries.Trust;

namespace Ministries.Client;

public sealed partial class MinistryClient
{
    /// <summary>The entries of a case that were recorded before the participant was admitted. They became visible to it only then, so the
    /// next entry's numbers do not continue those that the participant knows. Therefore the case is read again from the beginning. An entry
    /// that is missing there too was left out by the service.</summary>
    /// <param name="service">The service.</param>
    /// <param name="next">What came, with the entry before which they stand.</param>
    /// <param name="complete">What was seen of the ledger; it goes on from that entry.</param>
    /// <param name="missing">What seems to be missing.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="EntryMissingException">An entry that is for the participant was left out.</exception>
    private async IAsyncEnumerable<FollowEntriesResponse> Earlier(
        string service,
        FollowEntriesResponse next,
        Completeness complete,
        string missing,
        [EnumeratorCancellation] CancellationToken cancel
    )
    {
        var header = EntryHeader.Parser.ParseFrom(next.Entry.Header);
        var @case = next.Entry.Audience.Select(n => Audience.CaseOf(n.Audience)).FirstOrDefault(c => c.Length > 0, "");
        var shown = false;
        if (@case.Length > 0)
            await foreach (var told in Follow(service, 0, @case, untilNow: true, cancel))
            {
                if (told.Entry is null)
                    continue;
                var earlier = EntryHeader.Parser.ParseFrom(told.Entry.Header);
                shown |= earlier.Position == header.Position;
                if (earlier.Position >= header.Position || complete.Has(told.Entry.Audience))
                    continue;
                complete.GoOnFrom(earlier, told.Entry.Audience);
                // A reader that resumes after this late entry must still get the new entry that follows it here.
                told.NextPosition = header.Position;
                yield return told;
            }
        if (!shown)
            throw new EntryMissingException(service, missing);
        complete.GoOnFrom(header, next.Entry.Audience);
    }
}
