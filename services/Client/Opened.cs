using Google.Protobuf;

namespace Ministries.Client;

/// <summary>What was sealed, opened.</summary>
/// <typeparam name="T">The message inside.</typeparam>
/// <param name="Message">The message. It holds personal data: keep it no longer than it is needed, and log nothing of it.</param>
/// <param name="Sender">The participant that sealed it.</param>
/// <param name="Case">The case of the request that carried it; empty: it named none.</param>
/// <param name="RequestId">The id of that request.</param>
/// <param name="Field">The path of the field in that request, such as <c>identity</c>.</param>
public sealed record Opened<T>(T Message, string Sender, string Case, string RequestId, string Field)
    where T : class, IMessage<T>, new()
{
    /// <summary>The numbers of the fields that were opened, if these alone were opened to the participant; null: all of it is
    /// there.</summary>
    public IReadOnlyList<uint>? Fields { get; init; }

    /// <summary>Where the message is not as its contract declares it, such as a text with characters that reverse its direction: the field
    /// and what is wrong. No service can read what is sealed, so nobody has refused it. Show such a text with a mark, or not at
    /// all.</summary>
    public IReadOnlyList<(string Field, string Description)> Faults { get; init; } = [];

    /// <summary>Says what it is, and nothing of what is in it.</summary>
    public override string ToString() => $"{typeof(T).Name} that {Sender} sealed";
}
