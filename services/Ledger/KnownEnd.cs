namespace Ministries.Ledger;

/// <summary>What this process knows of the ledger's end: up to where it is replicated, and the greatest tree that anybody has signed or
/// seen. No entry is answered, shown or signed before it is known to be replicated, and nothing is served from a database that is behind
/// that tree. See decisions 0058 and 0078. What others signed or saw is kept in a file, since nobody may be there to tell it again when the
/// process starts the next time.</summary>
internal sealed class KnownEnd
{
    private readonly Lock _lock = new();
    private readonly string _file;
    private ulong _replicated;
    private volatile Checkpoint? _seen;
    private bool _unwritten;
    private volatile string? _contradiction;

    /// <summary>Reads the file, where there is one.</summary>
    /// <param name="file">The file. It is replaced as a whole, and only its owner may use it.</param>
    /// <param name="judge">Whose the checkpoint in it is.</param>
    /// <param name="own">The greatest checkpoint that this replica signed; null: there is none.</param>
    /// <exception cref="LedgerInconsistentException">It holds something that may be more than the replica knows itself, and no checkpoint
    /// of the log.</exception>
    public KnownEnd(string file, CheckpointJudge judge, Checkpoint? own)
    {
        _file = file;
        if (!File.Exists(file))
            return;
        var note = File.ReadAllText(file);
        (_seen, var counts) = judge(note);
        IsDoubtful = !counts;
        // An old checkpoint is ignored, because the agreement may no longer list its key.
        if (_seen is null && !(SignedNote.Read(note)?.Tree?.Size <= own?.Size))
            throw new LedgerInconsistentException(
                $"{file} holds no checkpoint that a key signed which the agreement lists for the service. It tells what other replicas or "
                    + "witnesses knew. Restore the file or the key; where the newest state is there, remove the file."
            );
    }

    /// <summary>The file beside a replica's own checkpoints that holds the greatest one of others.</summary>
    public static string FileBeside(string checkpoints) => checkpoints + ".seen";

    /// <summary>Whether <see cref="Seen"/> was found in the file with the signature of a key that has ended, so that a thief of that key
    /// may have made it.</summary>
    public bool IsDoubtful { get; private set; }

    /// <summary>The number of entries that are known to be replicated: a commit of this process that began after them was answered without
    /// a warning.</summary>
    public ulong Replicated => Volatile.Read(ref _replicated);

    /// <summary>The greatest tree that was heard of; null: none was.</summary>
    public Checkpoint? Seen => _seen;

    /// <summary>How the database that was looked at last contradicts what was signed or seen; null: it does not.</summary>
    public string? Contradiction
    {
        get => _contradiction;
        set => _contradiction = value;
    }

    /// <summary>Notes that the first entries are replicated.</summary>
    /// <param name="size">How many.</param>
    public void Replicate(ulong size)
    {
        lock (_lock)
            if (size > _replicated)
                Volatile.Write(ref _replicated, size);
    }

    /// <summary>Notes a tree that a replica or a witness has signed, and keeps it in the file. The caller has verified that the log's key
    /// signed it.</summary>
    public void See(Checkpoint seen)
    {
        lock (_lock)
        {
            if (seen.Size > (_seen?.Size ?? 0))
                (_seen, _unwritten, IsDoubtful) = (seen, true, false);
            if (!_unwritten)
                return;
            try
            {
                WholeFile.Write(_file, _seen!.Text);
                _unwritten = false;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // A disk that takes no file takes no checkpoint either, so commits fail and report it. The file is written with the next
                // checkpoint.
            }
        }
    }

    /// <summary>Forgets what was seen, because a checkpoint of this replica covers it, which is on the disk.</summary>
    /// <param name="size">The size of that checkpoint's tree.</param>
    public void Forget(ulong size)
    {
        lock (_lock)
        {
            if (_seen is null || _seen.Size > size)
                return;
            File.Delete(_file);
            (_seen, _unwritten, IsDoubtful) = (null, false, false);
        }
    }
}
