using NSec.Cryptography;

namespace Ministries.Ledger;

/// <summary>The Ed25519 key with which a service signs its checkpoints (C2SP signed-note).</summary>
public sealed class CheckpointKey
{
    private CheckpointKey(string name, Key key) => throw new NotImplementedException();

    /// <summary>The key's name and the log's origin, such as <c>ministries.example/calllog</c>: without spaces and plus signs.
    /// </summary>
    public string Name => throw new NotImplementedException();

    /// <summary>The public key as verifiers are told it: name, key id and key (the notation of Go's sumdb/note).</summary>
    public string Verifier => throw new NotImplementedException();

    /// <summary>The key of a seed.</summary>
    /// <param name="name">The name.</param>
    /// <param name="seed">The 32 bytes of an Ed25519 private key (RFC 8032).</param>
    public static CheckpointKey FromSeed(string name, ReadOnlySpan<byte> seed) => throw new NotImplementedException();

    /// <summary>The key of a PEM text (PKCS #8).</summary>
    public static CheckpointKey FromPem(string name, string pem) => throw new NotImplementedException();

    /// <summary>A new key.</summary>
    public static CheckpointKey Generate(string name) => throw new NotImplementedException();
}
