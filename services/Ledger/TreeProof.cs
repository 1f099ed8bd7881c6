namespace Ministries.Ledger;

/// <summary>A proof, with the root that it leads to.</summary>
/// <param name="Size">The size of the tree that it leads to.</param>
/// <param name="Root">That tree's root hash, 32 bytes.</param>
/// <param name="Hashes">The hashes.</param>
public sealed record TreeProof(ulong Size, byte[] Root, IReadOnlyList<byte[]> Hashes);
