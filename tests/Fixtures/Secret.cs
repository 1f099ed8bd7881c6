using Ministries.Ledger;

namespace Ministries.Fixtures;

/// <summary>What tests without a service around them make ids and etags with.</summary>
public static class Secret
{
    /// <summary>Always the same.</summary>
    public static RecordSecrets OfTests { get; } = new("tests"u8);
}
