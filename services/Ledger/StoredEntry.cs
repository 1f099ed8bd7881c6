using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>An entry as stored.</summary>
/// <param name="Position">Its position, from 0.</param>
/// <param name="Participant">Whose command it is.</param>
/// <param name="Entry">Its header, all of its parts, the request's among them, and its numbers in all of its audiences: leave out
/// what the reader may not see.</param>
/// <param name="TraceState">The W3C tracestate under which it was committed.</param>
public sealed record StoredEntry(ulong Position, string Participant, Entry Entry, string TraceState);
