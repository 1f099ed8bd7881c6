using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Ministries.Keys;

/// <summary>Reads the files of private keys. Nothing else does. What was read is zeroed before the method returns.</summary>
internal static class KeyFile
{
    /// <summary>A longer file holds no key: 64 KiB.</summary>
    public const int MaxBytes = 64 << 10;

    private const UnixFileMode OthersOrWrite = UnixFileMode.GroupWrite | UnixFileMode.OtherRead | UnixFileMode.OtherWrite;

    /// <summary>Hands a file's bytes to a function.</summary>
    /// <param name="file">The file.</param>
    /// <param name="use">It must not keep the bytes.</param>
    /// <exception cref="KeyFileExposedException">Others than its owner may write it or read it.</exception>
    /// <exception cref="FormatException">It is too long.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static T Read<T>(KeyPath file, Func<ReadOnlySpan<byte>, T> use)
    {
        // The stream has no buffer of its own, because nobody could zero it.
        using var stream = new FileStream(file.Path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        // The open file is checked, because another file may have taken its name meanwhile.
        Check(file, stream.SafeFileHandle);
        if (stream.Length > MaxBytes)
            throw new FormatException($"{file.Path} is longer than {MaxBytes} bytes and holds no key");
        // Pinned, so that the garbage collector makes no copies.
        var bytes = GC.AllocateUninitializedArray<byte>((int)stream.Length, pinned: true);
        try
        {
            return use(bytes.AsSpan(0, stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false)));
        }
        finally
        {
            CryptographicOperations.ZeroMemory(bytes);
        }
    }

    /// <summary>As <see cref="Read"/>, for a text.</summary>
    public static T ReadText<T>(KeyPath file, Func<ReadOnlySpan<char>, T> use) =>
        Read(
            file,
            bytes =>
            {
                var text = GC.AllocateUninitializedArray<char>(Encoding.UTF8.GetMaxCharCount(bytes.Length), pinned: true);
                try
                {
                    return use(text.AsSpan(0, Encoding.UTF8.GetChars(bytes, text)));
                }
                finally
                {
                    CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(text.AsSpan()));
                }
            }
        );

    private static void Check(KeyPath file, SafeFileHandle handle)
    {
        if (OperatingSystem.IsWindows())
            return;
        var mode = File.GetUnixFileMode(handle);
        if (file.IsSecret)
        {
            // The program that starts a container puts secrets there as root, mostly readable by everybody in the container, because the
            // container itself keeps others out. No other user may have put them there or changed them.
            var folder = File.GetUnixFileMode(Path.GetDirectoryName(file.Path)!);
            if (
                ((mode | folder) & (UnixFileMode.GroupWrite | UnixFileMode.OtherWrite)) != 0
                || OwnerOf(handle) is not { } owner
                || owner != 0 && owner != OwnId()
            )
                throw new KeyFileExposedException(file.Path, mode, "chmod go-w the file and its folder, and make root its owner");
        }
        // The group may read it where root is the owner: that is how containers are given secrets.
        else if ((mode & OthersOrWrite) != 0 || (mode & UnixFileMode.GroupRead) != 0 && OwnerOf(handle) != 0)
            throw new KeyFileExposedException(file.Path, mode, $"chmod 600 {file.Path}");
    }

    // The owner's id. The runtime offers no call for it. The structure of statx is the same on every processor (statx(2)).
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

    [DllImport("libc", EntryPoint = "geteuid")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern uint OwnId();
}

/// <summary>Where a key's file is.</summary>
/// <param name="Path">The file.</param>
/// <param name="IsSecret">Whether it is in the secrets folder.</param>
internal readonly record struct KeyPath(string Path, bool IsSecret);

/// <summary>The file of a private key that others than its owner may write or read.</summary>
/// <param name="path">The file.</param>
/// <param name="mode">Who may do what with it.</param>
/// <param name="cure">What to do then.</param>
public sealed class KeyFileExposedException(string path, UnixFileMode mode, string cure)
    : IOException(
        $"the key in {path} is not its owner's alone (mode {Convert.ToString((int)mode, 8).PadLeft(4, '0')}) and is not used: "
            + $"find out who may have read or changed it, then {cure}"
    );
