using System.Text;

namespace Ministries.Ledger;

/// <summary>A file that is replaced whole or not at all.</summary>
public static class WholeFile
{
    /// <summary>Writes a text in a file's place. It is on the disk before it takes the other's place, so that neither a kill nor a
    /// power cut leaves half of it. One writer at a time.</summary>
    /// <param name="path">The file; its folder is there.</param>
    /// <param name="text">The text, written in UTF-8.</param>
    public static void Write(string path, string text)
    {
        var next = path + ".next";
        using (var file = new FileStream(next, FileMode.Create, FileAccess.Write, FileShare.None))
        {
            file.Write(Encoding.UTF8.GetBytes(text));
            file.Flush(flushToDisk: true);
        }
        File.Move(next, path, overwrite: true);
    }
}
