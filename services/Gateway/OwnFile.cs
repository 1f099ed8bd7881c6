using System.Text;

namespace Ministries.Gateway;

/// <summary>Files with secrets of the gateway's own, such as tokens.</summary>
internal static class OwnFile
{
    private const int MaxBytes = 1 << 20;
    private const UnixFileMode Others = UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.OtherRead | UnixFileMode.OtherWrite;

    /// <summary>Reads a file that its owner alone may read.</summary>
    /// <exception cref="FormatException">Others may read or write it, or it is longer than 1 MiB.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static string ReadText(string path)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        // The open file is checked, because another may have taken its name meanwhile.
        if (!OperatingSystem.IsWindows() && (File.GetUnixFileMode(file.SafeFileHandle) & Others) != 0)
            throw new FormatException($"others than its owner may read or write {path}: chmod 600 {path}");
        if (file.Length > MaxBytes)
            throw new FormatException($"{path} is longer than {MaxBytes} bytes");
        using var reader = new StreamReader(file, Encoding.UTF8);
        return reader.ReadToEnd();
    }
}
