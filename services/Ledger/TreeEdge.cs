namespace Ministries.Ledger;

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

    /// <summary>The tree as it is now. It can prove every leaf added since the previous view, and it has the root and the right
    /// edge.</summary>
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
