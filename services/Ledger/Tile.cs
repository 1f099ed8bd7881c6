namespace Ministries.Ledger;

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
