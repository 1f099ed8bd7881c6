using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Types.V1;

namespace Ministries.Fixtures;

/// <summary>What kr/mfa logs in tests.</summary>
public static class LoggedCalls
{
    /// <summary>An account of a call in which it promised to request prisoners' transfer: the consular service drafts the
    /// requests.</summary>
    /// <param name="start">When the call began.</param>
    /// <param name="due">By when they are due; null: nothing was said of it.</param>
    /// <param name="prisoners">The prisoners' references.</param>
    public static Account About(DateTimeOffset start, DateTimeOffset? due, params IReadOnlyCollection<string> prisoners) =>
        new()
        {
            StartTime = new ZonedTime { Time = start.ToTimestamp(), TimeZone = "Asia/Seoul" },
            Channel = Channel.Telephone,
            Attendees =
            {
                new Attendee { Participant = "kr/mfa", Office = "minister" },
                new Attendee { Participant = "ua/mfa", Office = "minister" },
            },
            Subjects = { Subject.Transfer },
            Prisoners = { prisoners },
            Commitments =
            {
                new CommitmentTerms
                {
                    Participant = "kr/mfa",
                    Kind = CommitmentKind.RequestTransfer,
                    Prisoners = { prisoners },
                    Route = Route.Article12Transfer,
                    Destination = "KR",
                    DueTime = due?.ToTimestamp(),
                },
            },
        };
}
