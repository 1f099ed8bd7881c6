namespace Ministries.Ledger;

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
