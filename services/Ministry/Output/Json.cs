using System.Text.Encodings.Web;
using System.Text.Json;

namespace Ministries.Ministry;

/// <summary>How JSON is written.</summary>
internal static class Json
{
    /// <summary>For a person and a program: indented, with letters as they are.</summary>
    public static readonly JsonSerializerOptions Indented = new()
    {
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };
}
