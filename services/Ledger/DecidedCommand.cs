using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;

namespace Ministries.Ledger;

/// <summary>A command that was decided and gets an entry.</summary>
internal sealed class DecidedCommand(PendingCommand pending, byte[] digest, ulong position, Effect effect)
{
    public PendingCommand Pending { get; } = pending;
    public Command Command => Pending.Command;

    /// <summary>The digest that tells the request from another of the same id.</summary>
    public byte[] Digest { get; } = digest;
    public ulong Position { get; } = position;
    public Effect Effect { get; } = effect;
    public Decision Decision => Effect.Decision;

    /// <summary>Who may see the entry, always including the participant whose command it is.</summary>
    public IReadOnlySet<string> Audience { get; } =
        new HashSet<string>([.. effect.Decision.Audience, Rules.Audience.Of(pending.Command.Participant)]);

    /// <summary>What the receipt shows of the entry; null until the entry is made.</summary>
    public RecordedEntry? Entry { get; set; }
}

/// <summary>What a receipt shows of its entry, so that the caller sees that it holds the caller's own request and the answer
/// given.</summary>
/// <param name="Header">The header's bytes.</param>
/// <param name="RequestSalt">The salt of the request's digest; empty: the request was erased.</param>
/// <param name="Answer">The answer as it is stored.</param>
internal sealed record RecordedEntry(byte[] Header, byte[] RequestSalt, PartRow Answer);

/// <summary>What a decision led to.</summary>
/// <param name="Decision">The decision.</param>
/// <param name="Answer">Its answer; null: there is none.</param>
/// <param name="Packed">The answer as it is stored.</param>
/// <param name="Events">The bytes of each of its events.</param>
/// <param name="Touched">The streams that it changed, with the indices, separated by commas, of the events that did.</param>
internal sealed record Effect(
    Decision Decision,
    IMessage? Answer,
    Any? Packed,
    IReadOnlyList<ByteString> Events,
    IReadOnlyList<(StreamId Stream, string Indices)> Touched
);
