using System.ComponentModel;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Ministries.Ledger;

/// <summary>A file that is replaced whole or not at all, and stays so once that was told: neither a kill nor a power cut leaves half of
/// it, or the one before.</summary>
public static class WholeFile
{
    /// <summary>Writes a text in a file's place. When it returns, both the text and its name are on the disk.</summary>
    /// <param name="path">The file; its folder is there.</param>
    /// <param name="text">The text, written in UTF-8.</param>
    /// <param name="next">Where it is written before it takes the other's place, in the same folder; null: beside the file, and then
    /// with one writer at a time.</param>
    /// <param name="mode">Who may do what with it, not on Windows; null: its owner alone (<see cref="PrivateFiles.Mode"/>).</param>
    public static void Write(string path, string text, string? next = null, UnixFileMode? mode = null)
    {
        next ??= path + ".next";
        // What a writer that was killed has left may have another mode.
        File.Delete(next);
        var options = new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            Share = FileShare.None,
        };
        if (!OperatingSystem.IsWindows())
            options.UnixCreateMode = mode ?? PrivateFiles.Mode;
        using (var file = new FileStream(next, options))
        {
            file.Write(Encoding.UTF8.GetBytes(text));
            file.Flush(flushToDisk: true);
        }
        Place(next, path, overwrite: true);
    }

    /// <summary>Gives a file that is on the disk its name.</summary>
    /// <param name="next">The file as it was written.</param>
    /// <param name="path">Its name, in the same folder.</param>
    /// <param name="overwrite">Whether it takes another's place; else it is a fault that there is one.</param>
    /// <exception cref="IOException">The name is taken, or the folder cannot be written to the disk.</exception>
    public static void Place(string next, string path, bool overwrite)
    {
        File.Move(next, path, overwrite);
        // Windows writes names by itself; it has no call for it.
        if (OperatingSystem.IsWindows())
            return;
        // A name is the folder's: until that is on the disk, too, a power cut brings back the file before. What a witness has signed it
        // must know ever after. The runtime opens no folders.
        var folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        var descriptor = Open(folder, 0);
        if (descriptor < 0)
            throw new IOException($"{folder} cannot be written to the disk", new Win32Exception(Marshal.GetLastPInvokeError()));
        using var handle = new SafeFileHandle(descriptor, ownsHandle: true);
        RandomAccess.FlushToDisk(handle);
    }

    [DllImport("libc", EntryPoint = "open", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Open([MarshalAs(UnmanagedType.LPUTF8Str)] string path, int flags);
}
