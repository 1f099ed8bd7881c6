using System.Runtime.CompilerServices;
using Ministries.Ledger.V1;
using Ministries.Trust;

namespace Ministries.Client;

public sealed partial class MinistryClient
{
    /// <summary>The entries of a case that were recorded before the participant was admitted and are for it since then. While it followed,
    /// they were not for it. So the next entry of the case has numbers that do not follow on those that the participant knows. The case is
    /// read anew from the beginning. What is missing there too was left out.</summary>
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
                // A reader that resumes after this entry must be shown the entry before which it stands.
                told.NextPosition = header.Position;
                yield return told;
            }
        if (!shown)
            throw new EntryMissingException(service, missing);
        complete.GoOnFrom(header, next.Entry.Audience);
    }
}
