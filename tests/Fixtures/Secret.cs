namespace Ministries.Fixtures;

/// <summary>The secret with which tests without a service make ids and etags.</summary>
public static class Secret
{
    /// <summary>Always the same.</summary>
    public static RecordSecrets OfTests { get; } = new("tests"u8);
}
