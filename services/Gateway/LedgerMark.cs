namespace Ministries.Gateway;

/// <summary>How far one ledger has come in the mirror; see <see cref="MirrorProgress"/>.</summary>
/// <param name="Next">The position from which it goes on.</param>
/// <param name="TreeSize">The greatest tree that was verified.</param>
/// <param name="CosignedSize">The greatest cosigned tree that was verified.</param>
/// <param name="CheckTime">When it last had everything, as <see cref="Database.Stored"/> has it.</param>
/// <param name="Audiences">How many audiences have numbers.</param>
internal sealed record LedgerMark(ulong Next, ulong TreeSize, ulong CosignedSize, long CheckTime, int Audiences);
