namespace Ministries.Ledger;

/// <content>The ledger's end: what is replicated, and what must be there.</content>
public sealed partial class ServiceLedger
{
    /// <summary>Why nothing is served from the present database: it is behind a checkpoint that was signed or seen, or has another history;
    /// null: it is not.</summary>
    public string? Contradiction => _end.Contradiction;

    /// <summary>Notes a checkpoint that another replica or a witness has. From then on nothing is served from a database that is behind it.
    /// One that no key of the log signed, or whose key has ended, is ignored.</summary>
    /// <param name="note">The checkpoint.</param>
    /// <returns>Whether it counts.</returns>
    public bool See(string note)
    {
        if (note.Length > SignedNote.MaxLength || _judge(note) is not ({ } seen, true))
            return false;
        if (seen.Size > (_context.Greatest?.Size ?? 0))
        {
            _end.See(seen);
            _store.CheckAll();
        }
        return true;
    }

    /// <summary>The greatest checkpoint that this replica signed; null: there is none.</summary>
    public Checkpoint? LastSigned => _checkpoints.Last;

    /// <summary>The greatest checkpoint that this replica signed or heard of, as it is told to others; null: there is none.</summary>
    public string? Known => _context.Greatest is { Text: { Length: <= LongestTold } text } ? text : LastSigned?.Text;

    /// <summary>The greatest length of a checkpoint that is told to others, in characters: 8 Ki. Whoever sends one may add lines to it.
    /// </summary>
    private const int LongestTold = 8 << 10;

    /// <summary>The greatest checkpoint that a replica's files hold, whoever made it: for others to judge, before the ledger is opened;
    /// null: they hold none.</summary>
    /// <param name="checkpointFile"><see cref="LedgerOptions.CheckpointFile"/>.</param>
    public static string? KnownIn(string checkpointFile)
    {
        var notes = Checkpoints.NotesIn(checkpointFile);
        if (KnownEnd.FileBeside(checkpointFile) is var seen && File.Exists(seen))
            notes = notes.Append(File.ReadAllText(seen));
        return notes
            .Where(n => n.Length <= LongestTold)
            .Select(n => SignedNote.Read(n)?.Tree)
            .OfType<Checkpoint>()
            .MaxBy(t => t.Size)
            ?.Text;
    }

    /// <summary>What is kept beside a replica's own checkpoints: the greatest one with cosignatures, and the greatest one of others. Each
    /// file is replaced as a whole.</summary>
    /// <param name="checkpointFile"><see cref="LedgerOptions.CheckpointFile"/>.</param>
    internal static IReadOnlyList<string> FilesBeside(string checkpointFile) =>
        [CosignedBeside(checkpointFile), KnownEnd.FileBeside(checkpointFile)];

    private static string CosignedBeside(string checkpointFile) => checkpointFile + ".cosigned";

    internal static LedgerInconsistentException Behind(ulong size, ulong known) =>
        new(
            $"the database has {size} entries, and a checkpoint over {known} was signed: it was put back to an earlier state, or is a "
                + "server that was cut off. Nothing is served from it. Restore the newest state, or connect to the server that has it."
        );

    /// <summary>Returns when the first entries are known to be replicated. A commit of this process that began after them shows it; if
    /// there was none, one that leaves no trace is made.</summary>
    /// <param name="session">The session that read them.</param>
    /// <param name="size">How many.</param>
    internal async Task Replicate(Session session, ulong size)
    {
        if (size <= _end.Replicated)
            return;
        // One reader at a time: the others mostly find that its commit covers what they read.
        await _replicating.WaitAsync();
        try
        {
            if (size > _end.Replicated)
                _end.Replicate(await session.Replicated());
        }
        finally
        {
            _replicating.Release();
        }
    }

    /// <summary>Returns what was read once the entries that it rests on are known to be replicated.</summary>
    private async Task<T> OnceReplicated<T>(Session session, T read, Func<T, ulong> size)
    {
        if (read is not null)
            await Replicate(session, size(read));
        return read;
    }

    private Task<ulong?> OnceReplicated(Session session, ulong? position, Func<ulong, ulong> size) =>
        OnceReplicated<ulong?>(session, position, p => size(p!.Value));

    /// <summary>Compares a database with the greatest tree that was signed or seen.</summary>
    /// <exception cref="LedgerInconsistentException">It is behind it, or has another history.</exception>
    private async Task CheckEnd(Session session, bool whole)
    {
        // The known tree is read before the head, so the head must contain every tree that was signed by then.
        if (_context.Greatest is not { } known)
            return;
        var head = await session.ReadHead();
        try
        {
            if (head.Size < known.Size)
                throw Behind(head.Size, known.Size);
            if (whole)
                await CheckTree(session, head, known, _options.CheckpointFile, doubtful: false);
            else if (head.Size == known.Size && head.Size > 0 && !TreeView.RootOf(head.Edge).AsSpan().SequenceEqual(known.Root))
                throw new LedgerInconsistentException(
                    $"the database's {head.Size} entries are not those of the checkpoint that was signed: its history was changed, or it is "
                        + "another ledger. Restore the database that fits the checkpoint."
                );
        }
        catch (LedgerInconsistentException e)
        {
            _end.Contradiction = e.Message;
            throw;
        }
        _end.Contradiction = null;
    }
}
