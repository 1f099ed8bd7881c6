using System.Collections.Frozen;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>Who does what, when and under which agreement: all that a rule may know beside the states and the request.</summary>
public sealed class Act
{
    private static readonly char[] Base32 = [.. "0123456789abcdefghjkmnpqrstvwxyz"];

    /// <summary>The caller: a participant of the agreement.</summary>
    public required Participant Caller { get; init; }

    /// <summary>The agreement in force.</summary>
    public required Permissions Permissions { get; init; }

    /// <summary>The full method name without a leading slash, such as
    /// <c>ministries.custody.v1.CustodyService/RecordStatus</c>; of an event its type.</summary>
    public required string Method { get; init; }

    /// <summary>The parts to which the agreement grants the method.</summary>
    public GrantedParts Granted => Permissions.PartsGranted(Method);

    /// <summary>The caller's id of the request; of an event its id (service/position/index).</summary>
    public required string RequestId { get; init; }

    /// <summary>The commit's time.</summary>
    public required DateTimeOffset Now { get; init; }

    /// <summary>What another service answered before the command was queued; null: nothing was asked.</summary>
    public IMessage? Asked { get; init; }

    /// <summary>The officials whose approvals of this request were verified before it was queued (<see cref="Approvals"/>); nobody's
    /// approval counts that is not among them.</summary>
    public IReadOnlySet<string> Approved { get; init; } = FrozenSet<string>.Empty;

    /// <summary>The commit's time as a protobuf timestamp.</summary>
    public Timestamp Time => Now.ToTimestamp();

    /// <summary>The id of a record that this act makes: the same for the same request, so that a retry names the same record.
    /// </summary>
    /// <param name="kind">The id's first part, such as <c>call</c>.</param>
    /// <param name="index">Tells several records of one act apart.</param>
    public string NewId(string kind, int index = 0) => IdOf(Caller.Id, RequestId, kind, index);

    /// <summary>The id of a record that a request made, for a fold that needs it again (<see cref="NewId"/>).</summary>
    /// <param name="participant">Whose request it was.</param>
    /// <param name="requestId">The participant's id of the request.</param>
    /// <param name="kind">The id's first part, such as <c>call</c>.</param>
    /// <param name="index">Tells several records of one request apart.</param>
    public static string IdOf(string participant, string requestId, string kind, int index = 0)
    {
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes($"{participant}\n{requestId}\n{kind}\n{index}"));
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

    private static byte[]? _etagKey;

    /// <summary>Gives etags their secret, once in a process, before the first one is made. A request with its etag is shown to others
    /// too: without a secret they could try out what its sender saw that they may not know.</summary>
    /// <param name="secret">What a service keeps across restarts and all of its replicas have; a key of the etags' own is derived
    /// from it (HKDF, RFC 5869).</param>
    public static void KeyEtags(ReadOnlySpan<byte> secret)
    {
        var key = new byte[32];
        HKDF.DeriveKey(HashAlgorithmName.SHA256, secret, key, [], "ministries.etag.v1"u8);
        Interlocked.CompareExchange(ref _etagKey, key, null);
    }

    /// <summary>The etag of a record as this caller sees it: a keyed digest (HMAC-SHA-256).</summary>
    /// <param name="seen">The record as it is shown to the caller.</param>
    public static string EtagOf(IMessage seen)
    {
        // Rules without a service around them, such as in tests, have a secret of the process.
        if (Volatile.Read(ref _etagKey) is null) Interlocked.CompareExchange(ref _etagKey, RandomNumberGenerator.GetBytes(32), null);
        return Convert.ToBase64String(HMACSHA256.HashData(_etagKey!, seen.ToByteArray()).AsSpan(0, 16))
            .TrimEnd('=').Replace('+', '-').Replace('/', '_');
    }
}
