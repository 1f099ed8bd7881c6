using System.ComponentModel;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Ministries.Ledger;

/// <summary>Replaces a file atomically and durably: after the call has returned, neither a kill nor a power cut leaves half of the file or
/// the previous one.</summary>
public static class WholeFile
{
    /// <summary>Writes a text in a file's place. When it returns, both the text and its name are on the disk.</summary>
    /// <param name="path">The file; its folder is there.</param>
    /// <param name="text">The text, written in UTF-8.</param>
    /// <param name="next">The temporary file, in the same folder; null: a fixed name beside the file, so only one writer at a time is
    /// allowed.</param>
    /// <param name="mode">The file's mode, except on Windows; null: only its owner may use it (<see cref="PrivateFiles.Mode"/>).</param>
    public static void Write(string path, string text, string? next = null, UnixFileMode? mode = null)
    {
        next ??= path + ".next";
        // A file that a killed writer left may have another mode.
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
    /// <param name="overwrite">Whether it may replace another file; false: an existing file is a fault.</param>
    /// <exception cref="IOException">The name is taken, or the folder cannot be written to the disk.</exception>
    public static void Place(string next, string path, bool overwrite)
    {
        File.Move(next, path, overwrite);
        // Windows has no call for it and writes names by itself.
        if (OperatingSystem.IsWindows())
            return;
        // A name belongs to the folder: until the folder is on the disk too, a power cut brings back the previous file, and a witness must
        // never forget what it signed. The runtime cannot open folders, so the system's calls are used.
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
