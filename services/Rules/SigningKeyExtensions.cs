using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>What the agreement says of a key for signatures.</summary>
public static class SigningKeyExtensions
{
    /// <summary>Whether the key may sign at a moment.</summary>
    /// <param name="key">The key.</param>
    /// <param name="moment">The moment.</param>
    public static bool IsValidAt(this SigningKey key, DateTimeOffset moment) =>
        (key.ValidFromTime is null || key.ValidFromTime.ToDateTimeOffset() <= moment)
        && (key.ValidUntilTime is null || moment < key.ValidUntilTime.ToDateTimeOffset())
        && (key.RevokeTime is null || moment < key.RevokeTime.ToDateTimeOffset());
}
