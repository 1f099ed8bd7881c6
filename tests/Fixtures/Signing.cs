using Ministries.Trust;

namespace Ministries.Fixtures;

/// <summary>Signs what a test's plain gRPC client sends, with the participant's key as <see cref="Pki.Init"/> made it.</summary>
public static class Signing
{
    /// <summary>A handler that signs writes before it hands them on.</summary>
    /// <param name="folder">Where the keys are.</param>
    /// <param name="participant">The participant; one that has no key for requests only reads.</param>
    /// <param name="inner">What sends them.</param>
    /// <param name="time">The clock; null: the system's.</param>
    public static HttpMessageHandler Handler(
        string folder, string participant, HttpMessageHandler inner, TimeProvider? time = null)
    {
        var key = Path.Combine(folder, participant, "requests.key");
        return File.Exists(key)
            ? new SigningHandler(Pki.ReadKey(key), $"{participant}/requests-1", time ?? TimeProvider.System) { InnerHandler = inner }
            : inner;
    }
}
