using System.Security.Cryptography;

namespace Ministries.Ledger;

/// <summary>The hashes of RFC 6962 section 2.1, over SHA-256.</summary>
internal static class TreeHash
{
    /// <summary>The hash of a tree without leaves.</summary>
    public static readonly byte[] Empty = SHA256.HashData([]);

    /// <summary>The log record of an entry: SHA-256 of its header's bytes.</summary>
    public static byte[] Record(ReadOnlySpan<byte> header) => SHA256.HashData(header);

    /// <summary>The leaf of an entry: SHA-256(0x00 ‖ record).</summary>
    public static byte[] Leaf(ReadOnlySpan<byte> header)
    {
        Span<byte> bytes = stackalloc byte[33];
        bytes[0] = 0;
        SHA256.HashData(header, bytes[1..]);
        return SHA256.HashData(bytes);
    }

    /// <summary>The node above two: SHA-256(0x01 ‖ left ‖ right).</summary>
    public static byte[] Node(ReadOnlySpan<byte> left, ReadOnlySpan<byte> right)
    {
        Span<byte> bytes = stackalloc byte[65];
        bytes[0] = 1;
        left.CopyTo(bytes[1..]);
        right.CopyTo(bytes[33..]);
        return SHA256.HashData(bytes);
    }
}

/// <summary>
/// A tile: up to 256 hashes of one tile level (C2SP tlog-tiles) and the nodes above them. Hashes are only added, so a reader that knows a
/// smaller width may go on reading.
/// </summary>
internal sealed class Tile
{
    public const int Full = 256;

    private readonly byte[][] _nodes = new byte[2 * Full][];

    /// <summary>The number of its hashes.</summary>
    public int Width { get; private set; }

    /// <summary>The hash over a full tile.</summary>
    public byte[] Root => NodeAt(8, 0);

    public void Add(byte[] hash)
    {
        var index = Width++;
        for (var height = 0; ; height++, index >>= 1)
        {
            _nodes[Slot(height, index)] = hash;
            if ((index & 1) == 0 || height == 8)
                return;
            hash = TreeHash.Node(_nodes[Slot(height, index - 1)], hash);
        }
    }

    /// <summary>The node that is <paramref name="height"/> levels above the tile's hashes.</summary>
    public byte[] NodeAt(int height, int index) =>
        _nodes[Slot(height, index)] ?? throw new InvalidOperationException("the tile is not that wide");

    /// <summary>Its hashes one after another, 32 bytes each.</summary>
    public byte[] ToBytes()
    {
        var bytes = new byte[Width * 32];
        for (var i = 0; i < Width; i++)
            NodeAt(0, i).CopyTo(bytes, i * 32);
        return bytes;
    }

    public static Tile Of(ReadOnlySpan<byte> hashes)
    {
        var tile = new Tile();
        for (; hashes.Length > 0; hashes = hashes[32..])
            tile.Add(hashes[..32].ToArray());
        return tile;
    }

    private static int Slot(int height, int index) => 2 * Full - (2 * Full >> height) + index;
}

/// <summary>A tree of a size, over the tiles that are in memory. A tile that is not in memory reads as zeros and is noted, so that it can
/// be loaded and the question asked again.</summary>
internal sealed class TreeView(ulong size, IReadOnlyDictionary<(int Level, ulong Index), Tile> tiles)
{
    private static readonly byte[] Absent = new byte[32];
    private readonly HashSet<(int, ulong)> _missed = [];

    public ulong Size { get; } = size;

    /// <summary>The signed checkpoint over this tree; null: none was made of it.</summary>
    public Checkpoint? Checkpoint { get; set; }

    /// <summary>The tiles that were asked for and are not here; empties the list.</summary>
    public IReadOnlyCollection<(int Level, ulong Index)> TakeMissed()
    {
        var missed = _missed.ToArray();
        _missed.Clear();
        return missed;
    }

    /// <summary>MTH of the whole tree.</summary>
    public byte[] Root() => Size == 0 ? TreeHash.Empty : Range(0, Size);

    /// <summary>PATH(m, D[n]) of RFC 6962 2.1.1, leaf to root.</summary>
    public List<byte[]> Inclusion(ulong position)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(position, Size);
        var path = new List<byte[]>();
        ulong low = 0,
            high = Size;
        while (high - low > 1)
        {
            var middle = low + Split(high - low);
            if (position < middle)
            {
                path.Add(Range(middle, high));
                high = middle;
            }
            else
            {
                path.Add(Range(low, middle));
                low = middle;
            }
        }
        path.Reverse();
        return path;
    }

    /// <summary>PROOF(m, D[n]) of RFC 6962 2.1.2.</summary>
    public List<byte[]> Consistency(ulong from)
    {
        if (from == 0 || from > Size)
            throw new ArgumentOutOfRangeException(nameof(from));
        var proof = new List<byte[]>();
        ulong low = 0,
            high = Size;
        var known = true;
        // SUBPROOF goes down towards the border of the earlier tree; what it appends after its recursion comes first.
        while (from != high)
        {
            var middle = low + Split(high - low);
            if (from <= middle)
            {
                proof.Add(Range(middle, high));
                high = middle;
            }
            else
            {
                proof.Add(Range(low, middle));
                low = middle;
                known = false;
            }
        }
        if (!known)
            proof.Add(Range(low, high));
        proof.Reverse();
        return proof;
    }

    /// <summary>The complete subtrees of which the tree consists, left to right: its right edge.</summary>
    public List<byte[]> Edge()
    {
        var edge = new List<byte[]>();
        ulong low = 0;
        for (var height = 63; height >= 0; height--)
        {
            if ((Size >> height & 1) == 0)
                continue;
            edge.Add(NodeAt(height, low >> height));
            low += 1UL << height;
        }
        return edge;
    }

    /// <summary>The root of the tree with this right edge.</summary>
    public static byte[] RootOf(ReadOnlySpan<byte> edge)
    {
        if (edge.IsEmpty)
            return TreeHash.Empty;
        var root = edge[^32..].ToArray();
        for (edge = edge[..^32]; !edge.IsEmpty; edge = edge[..^32])
            root = TreeHash.Node(edge[^32..], root);
        return root;
    }

    private byte[] Range(ulong low, ulong high)
    {
        var count = high - low;
        if ((count & (count - 1)) == 0)
        {
            var height = System.Numerics.BitOperations.Log2(count);
            return NodeAt(height, low >> height);
        }
        var middle = low + Split(count);
        return TreeHash.Node(Range(low, middle), Range(middle, high));
    }

    private byte[] NodeAt(int height, ulong index)
    {
        var (level, above) = (height / 8, height % 8);
        var tile = (level, index >> (8 - above));
        if (tiles.TryGetValue(tile, out var found))
            return found.NodeAt(above, (int)(index & (0xFFUL >> above)));
        _missed.Add(tile);
        return Absent;
    }

    /// <summary>The largest power of two less than the count.</summary>
    private static ulong Split(ulong count) => 1UL << System.Numerics.BitOperations.Log2(count - 1);
}

/// <summary>The right side of the growing tree: at each tile level the tile that is not full yet.</summary>
internal sealed class TreeEdge(ulong size, List<Tile> levels)
{
    private Dictionary<(int, ulong), Tile> _touched = [];

    public ulong Size { get; private set; } = size;

    /// <summary>Adds a leaf; says which tiles it filled.</summary>
    public void Add(byte[] leaf, List<TileRow> filled)
    {
        var index = Size++;
        for (var level = 0; ; level++, index >>= 8)
        {
            if (levels.Count == level)
                levels.Add(new Tile());
            var tile = levels[level];
            tile.Add(leaf);
            _touched[(level, index >> 8)] = tile;
            if (tile.Width < Tile.Full)
                break;
            filled.Add(new TileRow(level, index >> 8, tile.ToBytes(), tile.Root));
            leaf = tile.Root;
            levels[level] = new Tile();
        }
    }

    /// <summary>The tree as it is, able to prove what was added since the last one, and its root and edge.</summary>
    public TreeView TakeView()
    {
        for (var level = 0; level < levels.Count; level++)
            if (levels[level].Width > 0)
                _touched[(level, Size >> (8 * level) >> 8)] = levels[level];
        var view = new TreeView(Size, _touched);
        _touched = [];
        return view;
    }
}

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
