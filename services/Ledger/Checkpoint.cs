namespace Ministries.Ledger;

/// <summary>The tree as it is, signed.</summary>
/// <param name="Size">The number of entries.</param>
/// <param name="Root">The root hash (RFC 6962), 32 bytes.</param>
/// <param name="Text">The checkpoint (C2SP tlog-checkpoint in a C2SP signed-note).</param>
public sealed record Checkpoint(ulong Size, byte[] Root, string Text);

/// <summary>A checkpoint that somebody else showed.</summary>
/// <param name="By">Who showed it, for an operator: <c>the witness kr/mfa</c>.</param>
/// <param name="Note">The checkpoint, not judged yet.</param>
public sealed record HeardCheckpoint(string By, string Note);
