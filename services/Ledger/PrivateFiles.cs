using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Ministries.Ledger;

/// <summary>Makes files that only their owner can read and write, whatever the process's umask, so that nobody else on the machine reads a
/// ledger, a receipt or evidence. Also checks that files of private keys are such files.</summary>
public static class PrivateFiles
{
    /// <summary>Read and written by the owner: 0600.</summary>
    public const UnixFileMode Mode = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private const UnixFileMode OthersOrWrite = UnixFileMode.GroupWrite | UnixFileMode.OtherRead | UnixFileMode.OtherWrite;

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

    /// <summary>Reads the text of a private key's file.</summary>
    /// <exception cref="KeyFileExposedException">Others than its owner may write it or read it. The group may read it where root is the
    /// owner: that is how containers are given secrets.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static string ReadKey(string path)
    {
        using var file = File.OpenRead(path);
        // The open file is checked, because another file may have taken its name meanwhile.
        if (
            !OperatingSystem.IsWindows()
            && File.GetUnixFileMode(file.SafeFileHandle) is var mode
            && ((mode & OthersOrWrite) != 0 || (mode & UnixFileMode.GroupRead) != 0 && OwnerOf(file.SafeFileHandle) != 0)
        )
            throw new KeyFileExposedException(path, mode);
        using var reader = new StreamReader(file);
        return reader.ReadToEnd();
    }

    // The runtime has no call for it. The structure of statx is the same on every processor (statx(2)).
    private static uint? OwnerOf(SafeFileHandle file)
    {
        if (!OperatingSystem.IsLinux())
            return null;
        var facts = new byte[256];
        try
        {
            return
                Statx(
                    file,
                    "",
                    0x1000 /* AT_EMPTY_PATH */
                    ,
                    0x08 /* STATX_UID */
                    ,
                    facts
                ) == 0
                ? BitConverter.ToUInt32(facts, 20)
                : null;
        }
        catch (EntryPointNotFoundException)
        {
            return null;
        }
    }

    [DllImport("libc", EntryPoint = "statx", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Statx(
        SafeFileHandle file,
        [MarshalAs(UnmanagedType.LPUTF8Str)] string path,
        int flags,
        uint mask,
        byte[] facts
    );
}

/// <summary>The file of a private key that others than its owner may write or read.</summary>
/// <param name="path">The file.</param>
/// <param name="mode">Who may do what with it.</param>
public sealed class KeyFileExposedException(string path, UnixFileMode mode)
    : IOException(
        $"the key in {path} is not its owner's alone (mode {Convert.ToString((int)mode, 8).PadLeft(4, '0')}) and is not used: "
            + $"find out who may have read or changed it, then chmod 600 {path}"
    );
