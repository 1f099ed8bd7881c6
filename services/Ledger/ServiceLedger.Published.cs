namespace Ministries.Ledger;

/// <summary>What a ledger shows of itself to those who check it: tiles, the log's records, and cosigned checkpoints.</summary>
public sealed partial class ServiceLedger
{
    private CosignedFile _cosigned = null!;

    /// <summary>The greatest checkpoint that was kept as cosigned (<see cref="KeepCosigned"/>), its cosignatures in its text; null:
    /// there is none.</summary>
    public Checkpoint? Cosigned => _cosigned.Enough;

    /// <summary>Hashes of one tile level (C2SP tlog-tiles) under the present checkpoint; null: there are not as many.</summary>
    /// <param name="level">The tile level, 0 to 63; at 0 are the leaves.</param>
    /// <param name="index">The tile's index in its level.</param>
    /// <param name="width">How many hashes from its first on, 1 to 256.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<byte[]?> ReadTile(int level, ulong index, int width, CancellationToken cancel) =>
        Read(
            async session =>
            {
                var (head, _) = await Signed(session);
                if (!IsThere(level, index, width, head.Size))
                    return null;
                var hashes = (await Stored.TileOf(session, level, index, head.Size)).ToBytes();
                return hashes[..(32 * width)];
            },
            cancel
        );

    /// <summary>The log's records whose hashes are the leaves of a tile, each 32 bytes long with its length in two bytes before it
    /// (an entry bundle of C2SP tlog-tiles); null: there are not as many under the present checkpoint.</summary>
    /// <param name="index">The index of the tile of level 0.</param>
    /// <param name="width">How many records from its first on, 1 to 256.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<byte[]?> ReadRecords(ulong index, int width, CancellationToken cancel) =>
        Read(
            async session =>
            {
                var (head, _) = await Signed(session);
                if (!IsThere(0, index, width, head.Size))
                    return null;
                var headers = await session.Headers(index << 8, (index << 8) + (ulong)width);
                return headers.SelectMany(h => (byte[])[0, 32, .. TreeHash.Record(h)]).ToArray();
            },
            cancel
        );

    /// <summary>Keeps the cosignatures that a checkpoint of this ledger has. A checkpoint with as many as are demanded is kept in a file
    /// too. It is dropped if a greater one is kept, or if its key ended while it was being cosigned. It is kept with the present key's
    /// signature.</summary>
    /// <param name="cosigned">The checkpoint with its cosignatures.</param>
    /// <param name="enough">Whether it has as many as are demanded.</param>
    /// <exception cref="ArgumentException">This ledger did not sign it.</exception>
    public void KeepCosigned(Checkpoint cosigned, bool enough)
    {
        var (tree, counts) = _judge(cosigned.Text);
        if (tree is null)
            throw new ArgumentException("it is not signed by this ledger", nameof(cosigned));
        if (counts)
            _cosigned.Keep(cosigned, enough, () => _checkpoints.Key);
    }

    /// <summary>Compares a checkpoint that others have with this ledger. Returns how this ledger's history contradicts it; null: it does
    /// not, or the checkpoint is not this ledger's, or its key has ended and nothing shows that it signed before.</summary>
    /// <param name="note">The checkpoint.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<string?> Contradicts(string note, CancellationToken cancel) =>
        Read(
            async session =>
            {
                if (_judge(note) is not ({ Size: > 0 } theirs, true))
                    return null;
                // The checkpoint is kept for the next start, because the peer that showed it may be out of reach then.
                if (theirs.Size > (_context.Greatest?.Size ?? 0))
                    _end.See(theirs);
                var head = await session.ReadHead();
                if (theirs.Size > head.Size)
                    return $"a checkpoint over {theirs.Size} entries was signed, and the database has {head.Size}: acknowledged entries are "
                        + "missing. Restore the newest state.";
                var view = await Load(session, theirs.Size, head.Size, view => view.Root());
                return view.Root().AsSpan().SequenceEqual(theirs.Root)
                    ? null
                    : $"the database's first {theirs.Size} entries are not those of a checkpoint that was signed: its history was changed. "
                        + "Restore the database that fits the checkpoint.";
            },
            cancel
        );

    /// <summary>The checkpoint with the cosignatures that it has so far.</summary>
    private Checkpoint WithCosignatures(Checkpoint checkpoint) =>
        _cosigned.Newest is { } newest && newest.Size == checkpoint.Size ? newest : checkpoint;

    private static bool IsThere(int level, ulong index, int width, ulong size)
    {
        if (level is < 0 or > 7 || width is < 1 or > Tile.Full)
            return false;
        var hashes = size >> (8 * level);
        return index <= hashes >> 8 && (index << 8) + (ulong)width <= hashes;
    }
}
