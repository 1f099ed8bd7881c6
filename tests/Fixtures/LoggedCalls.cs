using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Types.V1;

namespace Ministries.Tracing.Tests;

/// <summary>What kr/mfa logs in these tests.</summary>
internal static class Calls
{
    /// <summary>An account of a call in which it promised to request a prisoner's transfer: the consular service drafts the request.</summary>
    /// <param name="prisoner">The prisoner's reference.</param>
    /// <param name="start">When the call began (UTC).</param>
    public static Account About(string prisoner, DateTime start) =>
        new()
        {
            StartTime = new ZonedTime { Time = Timestamp.FromDateTime(start), TimeZone = "Asia/Seoul" },
            Channel = Channel.Telephone,
            Attendees =
            {
                new Attendee { Participant = "kr/mfa", Office = "minister" },
                new Attendee { Participant = "ua/mfa", Office = "minister" },
            },
            Subjects = { Subject.Transfer },
            Prisoners = { prisoner },
            Commitments =
            {
                new CommitmentTerms
                {
                    Participant = "kr/mfa",
                    Kind = CommitmentKind.RequestTransfer,
                    Prisoners = { prisoner },
                    Route = Route.Article12Transfer,
                    Destination = "KR",
                    DueTime = Timestamp.FromDateTime(DateTime.UtcNow.AddDays(30)),
                },
            },
        };
}
