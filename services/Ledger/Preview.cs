using Google.Protobuf;

namespace Ministries.Ledger;

/// <summary>A decision made before the lock is held, with the states that the rule saw. Rules are pure, so the decision is valid if these
/// states are unchanged once the lock is held. The states that the rules asked for can then be loaded for the whole batch at
/// once.</summary>
internal sealed record Preview(Decision Decision, IReadOnlyList<(StreamId Id, IMessage? State)> Seen, DateTimeOffset Time)
{
    /// <summary>Decides a command on what is in memory; null: its rule failed, which is reported only if it fails with everything loaded
    /// too.</summary>
    /// <param name="command">The command.</param>
    /// <param name="view">What is in memory.</param>
    /// <param name="now">The time of the batch, as far as it is known.</param>
    /// <param name="wanted">Gets the streams that it needs.</param>
    public static Preview? Of(Command command, View view, DateTimeOffset now, HashSet<StreamId> wanted)
    {
        view.Note();
        try
        {
            var decision = command.Decide(view, now);
            foreach (var change in decision.Changes)
                wanted.UnionWith(change.Streams);
            return new Preview(decision, view.TakeSeen(), now);
        }
        catch (Exception)
        {
            view.TakeSeen();
            return null;
        }
        finally
        {
            wanted.UnionWith(view.TakeMissed());
        }
    }

    /// <summary>Whether the rule would decide the same now.</summary>
    public bool Stands(View view, DateTimeOffset now) => Time == now && view.IsStill(Seen);
}
