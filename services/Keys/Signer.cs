using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using NSec.Cryptography;

namespace Ministries.Keys;

/// <summary>An Ed25519 private key (RFC 8032) that signs, wherever it lives: in memory of this process that is zeroed when it is disposed
/// of, or in a token that it never leaves. Safe for use by many threads. It prints as its public key.</summary>
public abstract class Signer : IDisposable
{
    /// <summary>The public key: 32 bytes.</summary>
    public abstract ReadOnlyMemory<byte> PublicKey { get; }

    /// <summary>Signs. The same bytes give the same signature, as RFC 8032 prescribes.</summary>
    /// <param name="data">What is signed.</param>
    /// <returns>The signature: 64 bytes.</returns>
    /// <exception cref="TokenException">The token does not sign, for example because it was removed.</exception>
    /// <exception cref="ObjectDisposedException">The key was disposed of.</exception>
    public abstract byte[] Sign(ReadOnlySpan<byte> data);

    /// <summary>A key in this process. It is disposed of with the signer.</summary>
    public static Signer Of(Key key) => new InProcess(key);

    /// <summary>As <see cref="Of"/>.</summary>
    public static implicit operator Signer(Key key) => Of(key);

    /// <summary>The key of a seed. The seed is not kept; the caller zeroes it.</summary>
    /// <param name="seed">The 32 bytes of an Ed25519 private key (RFC 8032).</param>
    public static Signer FromSeed(ReadOnlySpan<byte> seed) => Of(Key.Import(SignatureAlgorithm.Ed25519, seed, KeyBlobFormat.RawPrivateKey));

    /// <summary>The key of a PEM text (<see cref="KeyText"/>). The text is not kept.</summary>
    /// <exception cref="FormatException">It holds no such key. The message says what it holds instead, and nothing of the key.</exception>
    public static Signer FromPem(ReadOnlySpan<char> pem)
    {
        var seed = KeyText.SeedOf(pem);
        try
        {
            return FromSeed(seed);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(seed);
        }
    }

    internal static Signer FromPem(ReadOnlySpan<byte> pem)
    {
        var text = GC.AllocateUninitializedArray<char>(pem.Length, pinned: true);
        try
        {
            return FromPem(text.AsSpan(0, Encoding.UTF8.GetChars(pem, text)));
        }
        finally
        {
            CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(text.AsSpan()));
        }
    }

    /// <summary>The public key in hexadecimal, and nothing of the private one.</summary>
    public override string ToString() => $"Ed25519 {Convert.ToHexStringLower(PublicKey.Span)}";

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Zeroes the key, or leaves the token.</summary>
    protected abstract void Dispose(bool disposing);

    private sealed class InProcess(Key key) : Signer
    {
        private readonly byte[] _public = key.PublicKey.Export(KeyBlobFormat.RawPublicKey);

        public override ReadOnlyMemory<byte> PublicKey => _public;

        public override byte[] Sign(ReadOnlySpan<byte> data) => SignatureAlgorithm.Ed25519.Sign(key, data);

        protected override void Dispose(bool disposing) => key.Dispose();
    }
}
