namespace Ministries.Ledger;

/// <summary>Checks proofs as their receivers do (RFC 6962, in the form of RFC 9162 2.1.3.2 and 2.1.4.2).</summary>
public static class Proofs
{
    /// <summary>Whether the proof shows that the leaf is at the position in the tree of this size and root.</summary>
    /// <param name="leaf">The leaf hash: SHA-256(0x00 ‖ SHA-256(header)).</param>
    /// <param name="position">The entry's position.</param>
    /// <param name="size">The tree's size.</param>
    /// <param name="root">The tree's root.</param>
    /// <param name="proof">The hashes, leaf to root.</param>
    public static bool Includes(ReadOnlySpan<byte> leaf, ulong position, ulong size, ReadOnlySpan<byte> root, IReadOnlyList<byte[]> proof)
    {
        if (position >= size || leaf.Length != 32)
            return false;
        var (index, last, hash) = (position, size - 1, leaf.ToArray());
        foreach (var sibling in proof)
        {
            if (last == 0 || sibling.Length != 32)
                return false;
            if ((index & 1) == 1 || index == last)
            {
                hash = TreeHash.Node(sibling, hash);
                while ((index & 1) == 0 && index != 0)
                    (index, last) = (index >> 1, last >> 1);
            }
            else
                hash = TreeHash.Node(hash, sibling);
            (index, last) = (index >> 1, last >> 1);
        }
        return last == 0 && root.SequenceEqual(hash);
    }

    /// <summary>Whether the proof shows that the earlier tree is a prefix of the later one.</summary>
    /// <param name="from">The earlier size, at least 1.</param>
    /// <param name="fromRoot">The earlier root.</param>
    /// <param name="to">The later size.</param>
    /// <param name="toRoot">The later root.</param>
    /// <param name="proof">The hashes.</param>
    public static bool Extends(ulong from, ReadOnlySpan<byte> fromRoot, ulong to, ReadOnlySpan<byte> toRoot, IReadOnlyList<byte[]> proof)
    {
        if (from == 0 || from > to)
            return false;
        if (from == to)
            return proof.Count == 0 && fromRoot.SequenceEqual(toRoot);
        return Lead(from, (from & (from - 1)) == 0 ? fromRoot.ToArray() : null, to, proof) is var (earlier, later)
            && fromRoot.SequenceEqual(earlier)
            && toRoot.SequenceEqual(later);
    }

    /// <summary>The root of the first entries as a consistency proof shows it; null: it shows none. It shows none if the earlier size is a
    /// power of two, because the earlier root is then not part of the proof.</summary>
    /// <param name="from">The earlier size.</param>
    /// <param name="to">The later size.</param>
    /// <param name="toRoot">The later root.</param>
    /// <param name="proof">The hashes.</param>
    public static byte[]? PrefixOf(ulong from, ulong to, ReadOnlySpan<byte> toRoot, IReadOnlyList<byte[]> proof) =>
        from > 0
        && from < to
        && (from & (from - 1)) != 0
        && Lead(from, null, to, proof) is var (earlier, later)
        && toRoot.SequenceEqual(later)
            ? earlier
            : null;

    // The two roots to which the hashes lead; null: their number or length is not that of a proof between these sizes.
    private static (byte[] Earlier, byte[] Later)? Lead(ulong from, byte[]? fromRoot, ulong to, IReadOnlyList<byte[]> proof)
    {
        var (index, last) = (from - 1, to - 1);
        while ((index & 1) == 1)
            (index, last) = (index >> 1, last >> 1);
        if (fromRoot is null && (proof.Count == 0 || proof[0].Length != 32))
            return null;
        byte[] earlier,
            later;
        earlier = later = fromRoot ?? proof[0];
        foreach (var hash in proof.Skip(fromRoot is null ? 1 : 0))
        {
            if (last == 0 || hash.Length != 32)
                return null;
            if ((index & 1) == 1 || index == last)
            {
                earlier = TreeHash.Node(hash, earlier);
                later = TreeHash.Node(hash, later);
                while ((index & 1) == 0 && index != 0)
                    (index, last) = (index >> 1, last >> 1);
            }
            else
                later = TreeHash.Node(later, hash);
            (index, last) = (index >> 1, last >> 1);
        }
        return last == 0 ? (earlier, later) : null;
    }
}
