using Google.Protobuf;

namespace Ministries.Ledger;

/// <summary>A record as it is in the ledger.</summary>
/// <param name="Key">The record's key among its kind.</param>
/// <param name="State">Its state; not to be changed.</param>
/// <param name="Version">The number of entries that changed it.</param>
/// <param name="Number">Its number in the order in which the service's records were created, which is its place in a list.</param>
/// <param name="Position">The position of the last entry that changed it.</param>
public sealed record Recorded<T>(string Key, T State, ulong Version, ulong Number, ulong Position)
    where T : IMessage;
