using System.Security.Cryptography;

namespace Ministries.Leaks.Tests;

/// <summary>Words that stand in personal fields and must come out nowhere. All of a test begin with the same letters, which appear in
/// nothing else, so that one search finds all of them.</summary>
internal sealed class Canary
{
    /// <summary>What all words of this test begin with: 16 letters and digits.</summary>
    public string Prefix { get; } = $"CNRY{Convert.ToHexString(RandomNumberGenerator.GetBytes(6))}";

    /// <summary>The word for a field.</summary>
    public string For(string field) => $"{Prefix}-{field}";
}
