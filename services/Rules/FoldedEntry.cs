using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;

namespace Ministries.Rules;

/// <summary>The entry that a state is folded over: what a fold may take from it beside the event itself.</summary>
/// <param name="Position">The entry's position, from 0.</param>
/// <param name="Time">When it was committed.</param>
/// <param name="Participant">Whose command it is.</param>
/// <param name="RequestId">The participant's id of the request.</param>
/// <param name="Request">The request, an event of another service where that was the command. What it holds sealed or coded
/// stays out of events (D16); null once the request part was erased.</param>
public sealed record FoldedEntry(ulong Position, Timestamp Time, string Participant, string RequestId, IMessage? Request);
