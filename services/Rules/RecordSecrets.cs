using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;

namespace Ministries.Rules;

/// <summary>
/// What makes ids of records and etags that nobody outside the service can compute: HMAC-SHA-256 with keys derived from a secret of the
/// service (HKDF, RFC 5869), each for one use. A request with its id and etag is shown to others too; without a key they could compute
/// which records it made, or try out what its sender saw. The same secret gives the same ids and etags across restarts and replicas.
/// </summary>
public sealed class RecordSecrets
{
    private static readonly char[] Base32 = [.. "0123456789abcdefghjkmnpqrstvwxyz"];
    private readonly byte[] _ids,
        _etags;

    /// <summary>The keys that follow from a secret.</summary>
    /// <param name="secret">What the service keeps across restarts and all of its replicas have.</param>
    public RecordSecrets(ReadOnlySpan<byte> secret) =>
        (_ids, _etags) = (Derive(secret, "ministries.record-id.v1"u8), Derive(secret, "ministries.etag.v1"u8));

    /// <summary>The id of a record that a request makes, such as <c>call_</c> and 26 characters of Crockford's base 32.</summary>
    /// <param name="participant">Whose request it is.</param>
    /// <param name="requestId">The participant's id of the request.</param>
    /// <param name="kind">The id's first part, such as <c>call</c>.</param>
    /// <param name="index">Tells several records of one request apart.</param>
    public string IdOf(string participant, string requestId, string kind, int index = 0)
    {
        var hash = HMACSHA256.HashData(_ids, Encoding.UTF8.GetBytes($"{participant}\n{requestId}\n{kind}\n{index}"));
        return $"{kind}_{string.Create(26, hash, (chars, bytes) =>
        {
            for (var i = 0; i < chars.Length; i++)
            {
                var bit = i * 5;
                var pair = bytes[bit / 8] << 8 | bytes[bit / 8 + 1];
                chars[i] = Base32[pair >> (11 - bit % 8) & 31];
            }
        })}";
    }

    /// <summary>The etag of a record as somebody sees it.</summary>
    /// <param name="seen">The record as it is shown to him.</param>
    public string EtagOf(IMessage seen) =>
        Convert
            .ToBase64String(HMACSHA256.HashData(_etags, seen.ToByteArray()).AsSpan(0, 16))
            .TrimEnd('=')
            .Replace('+', '-')
            .Replace('/', '_');

    private static byte[] Derive(ReadOnlySpan<byte> secret, ReadOnlySpan<byte> use)
    {
        var key = new byte[32];
        HKDF.DeriveKey(HashAlgorithmName.SHA256, secret, key, [], use);
        return key;
    }
}
