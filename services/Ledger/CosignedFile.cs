namespace Ministries.Ledger;

/// <summary>The cosigned checkpoint, in a file beside that of the last checkpoint that is replaced as a whole. It outlives the
/// process, so that what was proved can be proved while the witnesses are away.</summary>
internal sealed class CosignedFile
{
    private readonly Lock _lock = new();
    private readonly string _path;

    /// <summary>Reads the file.</summary>
    /// <param name="judge">Judges the checkpoint in it. One that does not count is ignored.</param>
    /// <param name="path">The file.</param>
    public CosignedFile(CheckpointJudge judge, string path)
    {
        _path = path;
        if (File.Exists(path) && judge(File.ReadAllText(path)) is ({ } kept, true))
            Enough = Newest = kept;
    }

    /// <summary>The greatest that has as many cosignatures as were demanded.</summary>
    public Checkpoint? Enough { get; private set; }

    /// <summary>The greatest that has any.</summary>
    public Checkpoint? Newest { get; private set; }

    /// <summary>Keeps a checkpoint, signed with the present key. The key is read here, because it may just have changed.</summary>
    public void Keep(Checkpoint cosigned, bool enough, Func<CheckpointKey> key)
    {
        lock (_lock)
        {
            cosigned = key().SignAgain(cosigned);
            if (cosigned.Size >= (Newest?.Size ?? 0))
                Newest = cosigned;
            if (!enough || cosigned.Size < (Enough?.Size ?? 0) || cosigned.Text == Enough?.Text)
                return;
            WholeFile.Write(_path, cosigned.Text);
            Enough = cosigned;
        }
    }

    /// <summary>Signs what is kept with the present key. So nothing is shown that only a former key vouches for.</summary>
    public void SignAgain(Func<CheckpointKey> key)
    {
        lock (_lock)
        {
            var own = key();
            if (Newest is not null)
                Newest = own.SignAgain(Newest);
            if (Enough is null || own.SignAgain(Enough) is var again && ReferenceEquals(again, Enough))
                return;
            WholeFile.Write(_path, again.Text);
            Enough = again;
        }
    }
}
