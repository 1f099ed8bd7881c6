using System.Text;

namespace Ministries.Ledger;

/// <summary>Makes files that only their owner can read and write, whatever the process's umask, so that nobody else on the machine reads a
/// ledger, a receipt or evidence.</summary>
public static class PrivateFiles
{
    /// <summary>Read and written by the owner: 0600.</summary>
    public const UnixFileMode Mode = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    /// <summary>Makes a missing folder, for its owner alone (0700), and the missing ones above it.</summary>
    public static void MakeFolder(string path) => MakeFolder(path, Mode | UnixFileMode.UserExecute);

    /// <summary>Makes a missing folder in which others may find files that are for them but not replace any (0755), and the missing ones
    /// above it.</summary>
    public static void MakeOpenFolder(string path) =>
        MakeFolder(
            path,
            Mode
                | UnixFileMode.UserExecute
                | UnixFileMode.GroupRead
                | UnixFileMode.GroupExecute
                | UnixFileMode.OtherRead
                | UnixFileMode.OtherExecute
        );

    private static void MakeFolder(string path, UnixFileMode mode)
    {
        if (OperatingSystem.IsWindows())
            Directory.CreateDirectory(path);
        else if (!Directory.Exists(path))
        {
            if (Path.GetDirectoryName(Path.GetFullPath(path)) is { } above)
                MakeFolder(above, mode);
            Directory.CreateDirectory(path, mode);
        }
    }

    /// <summary>Opens a file; if it creates the file, only the owner may use it.</summary>
    public static FileStream Open(
        string path,
        FileMode mode,
        FileAccess access = FileAccess.ReadWrite,
        FileShare share = FileShare.None,
        int bufferSize = 4096
    )
    {
        var options = new FileStreamOptions
        {
            Mode = mode,
            Access = access,
            Share = share,
            BufferSize = bufferSize,
        };
        if (!OperatingSystem.IsWindows() && mode is not (FileMode.Open or FileMode.Truncate))
            options.UnixCreateMode = Mode;
        return new FileStream(path, options);
    }

    /// <summary>Appends a text to a file, which is created if missing.</summary>
    public static void Append(string path, string text)
    {
        using var file = Open(path, FileMode.Append, FileAccess.Write);
        file.Write(Encoding.UTF8.GetBytes(text));
    }
}
