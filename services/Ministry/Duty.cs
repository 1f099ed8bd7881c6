using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>Something that somebody must do next.</summary>
/// <param name="Record">The record that it is about, by its id.</param>
/// <param name="What">What is to be done, in a few words.</param>
/// <param name="Command">The verb that does it, such as <c>consular decide-transfer --transfer transfer_…</c>.</param>
/// <param name="Who">Who must do it: a participant's id, or a state's code.</param>
/// <param name="Law">What asks for it: an article, an invariant, or empty.</param>
/// <param name="Due">By when; null: no time is set.</param>
/// <param name="Position">The position of an entry about the record; null: none is known.</param>
internal sealed record Duty(
    string Record,
    string What,
    string Command,
    string Who,
    string Law = "",
    DateTimeOffset? Due = null,
    ulong? Position = null
)
{
    /// <summary>How soon the record is to be handled, as far as that is known.</summary>
    public Precedence Precedence { get; init; }

    /// <summary>The service that the verb calls.</summary>
    public string Service => Command.Split(' ')[0];

    /// <summary>Whether a participant can do it: it is named, or acts for the state in the matter.</summary>
    public bool IsFor(Participant participant) =>
        Who == participant.Id
        || participant.ActsFor(Who)
            && participant.Capacities.Contains(
                Service switch
                {
                    "calllog" => Capacity.Calls,
                    "custody" => Capacity.Custody,
                    _ => Capacity.Consular,
                }
            );
}
