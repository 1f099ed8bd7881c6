namespace Ministries.Ledger;

/// <summary>The tree as it is, signed.</summary>
/// <param name="Size">The number of entries.</param>
/// <param name="Root">The root hash (RFC 6962), 32 bytes.</param>
/// <param name="Text">The checkpoint (C2SP tlog-checkpoint in a C2SP signed-note).</param>
public sealed record Checkpoint(ulong Size, byte[] Root, string Text);
