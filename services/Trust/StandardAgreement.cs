using Google.Protobuf;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>The agreement that development and tests start from: who takes part in the case of 17 March 2025 and what each part
/// may call. It names no certificates; the <c>ministry</c> command adds them.</summary>
public static class StandardAgreement
{
    /// <summary>A copy of it.</summary>
    public static Agreement Read()
    {
        using var stream = typeof(StandardAgreement).Assembly.GetManifestResourceStream("agreement.json")!;
        using var reader = new StreamReader(stream);
        return JsonParser.Default.Parse<Agreement>(reader);
    }
}
