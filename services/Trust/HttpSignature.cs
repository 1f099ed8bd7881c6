using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Ministries.Keys;

namespace Ministries.Trust;

/// <summary>
/// The signature of a request: RFC 9421 HTTP Message Signatures with Ed25519 (RFC 8032), over the exact body by way of an RFC 9530
/// <c>Content-Digest</c>. The body of a gRPC call is one uncompressed frame: the prefix of 5 bytes, then the message.
/// </summary>
public static class HttpSignature
{
    /// <summary>The components that every signed request covers, in this order.</summary>
    public static readonly IReadOnlyList<string> Covered = ["@method", "@path", "@authority", "content-type", "content-digest"];

    /// <summary>What the tag of this application begins with (RFC 9421, 2.3).</summary>
    public const string Tag = "ministries";

    /// <summary>The media types that are signed and sent.</summary>
    public static readonly IReadOnlyList<string> ContentTypes = ["application/grpc", "application/grpc+proto"];

    /// <summary>The label under which the signature stands in both header fields.</summary>
    public const string Label = "sig1";

    /// <summary>How long a signature may hold, from <c>created</c> to <c>expires</c>: 5 minutes.</summary>
    public static readonly TimeSpan LongestLife = TimeSpan.FromMinutes(5);

    /// <summary>How far a signer's clock may be ahead of the reader's: 30 seconds.</summary>
    public static readonly TimeSpan ClockSkew = TimeSpan.FromSeconds(30);

    /// <summary>The greatest length of either header field, in characters.</summary>
    public const int LongestField = 1024;

    /// <summary>The tag of a signature for one service. No other service and no other trust domain accepts it. The path does not say which
    /// service is called, because all services serve <c>LedgerService</c>.</summary>
    /// <param name="trustDomain">The agreement's trust domain.</param>
    /// <param name="service">The service that is called, such as <c>calllog</c>.</param>
    public static string TagOf(string trustDomain, string service) => $"{Tag}/{trustDomain}/{service}";

    /// <summary>Whether it is an <c>@authority</c> as it is signed (RFC 9421, 2.2.3): at most 255 characters, in lower case.</summary>
    public static bool IsAuthority(string text) =>
        text.Length is > 0 and <= 255
        && text.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '.' or '-' or '_' or ':' or '[' or ']');

    /// <summary>The value of <c>@signature-params</c> in its one form.</summary>
    internal static string ParametersOf(DateTimeOffset created, DateTimeOffset expires, string keyId, string nonce, string tag) =>
        $"{Components};created={created.ToUnixTimeSeconds()};expires={expires.ToUnixTimeSeconds()};keyid=\"{keyId}\";nonce=\"{nonce}\";tag=\"{tag}\"";

    private static readonly string Components = $"({string.Join(' ', Covered.Select(c => $"\"{c}\""))})";

    /// <summary>The value of <c>Content-Digest</c> (RFC 9530) for a body.</summary>
    public static string ContentDigest(ReadOnlySpan<byte> body) => ContentDigestOf(SHA256.HashData(body));

    /// <summary>The value of <c>Content-Digest</c> for a gRPC call with this one message, uncompressed.</summary>
    public static string ContentDigestOfFrame(ReadOnlySpan<byte> message)
    {
        Span<byte> prefix = stackalloc byte[5];
        prefix[0] = 0;
        BinaryPrimitives.WriteUInt32BigEndian(prefix[1..], (uint)message.Length);
        return ContentDigestOf(Ledger.Digests.Of(prefix, message));
    }

    private static string ContentDigestOf(ReadOnlySpan<byte> digest) => $"sha-256=:{Convert.ToBase64String(digest)}:";

    /// <summary>The signature base (RFC 9421, 2.5): a line per component, then the parameters.</summary>
    /// <param name="components">The covered components with their values, in order.</param>
    /// <param name="parameters">The value of <c>@signature-params</c>: the inner list with its parameters.</param>
    public static byte[] Base(IEnumerable<KeyValuePair<string, string>> components, string parameters)
    {
        var text = new StringBuilder();
        foreach (var (name, value) in components)
            text.Append('"').Append(name).Append("\": ").Append(value).Append('\n');
        text.Append("\"@signature-params\": ").Append(parameters);
        return Encoding.ASCII.GetBytes(text.ToString());
    }

    /// <summary>Signs a request.</summary>
    /// <param name="key">The signer's key.</param>
    /// <param name="keyId">Its id in the agreement.</param>
    /// <param name="nonce">The request id.</param>
    /// <param name="created">The time of signing.</param>
    /// <param name="life">How long it holds, at most <see cref="LongestLife"/>.</param>
    /// <param name="tag">For which service it is (<see cref="TagOf"/>).</param>
    /// <param name="values">The value of each of <see cref="Covered"/>.</param>
    /// <returns>The values of <c>Signature-Input</c> and <c>Signature</c>.</returns>
    public static (string Input, string Signature) Sign(
        Signer key,
        string keyId,
        string nonce,
        DateTimeOffset created,
        TimeSpan life,
        string tag,
        IReadOnlyDictionary<string, string> values
    )
    {
        var parameters = ParametersOf(created, created + life, keyId, nonce, tag);
        var bytes = key.Sign(Base(Covered.Select(c => KeyValuePair.Create(c, values[c])), parameters));
        return ($"{Label}={parameters}", $"{Label}=:{Convert.ToBase64String(bytes)}:");
    }
}

/// <summary>The two header fields of a signature, read. Only what this application writes is read: one signature with one
/// inner list of plain component names, and parameters each at most once.</summary>
/// <param name="Label">The label.</param>
/// <param name="Components">The covered components, in order.</param>
/// <param name="Parameters">The exact text of the inner list and its parameters: the value of <c>@signature-params</c>.</param>
/// <param name="Created">When it was made.</param>
/// <param name="Expires">Until when it holds; null: not said.</param>
/// <param name="KeyId">The key's id; null: not said.</param>
/// <param name="Nonce">The nonce; null: not said.</param>
/// <param name="Tag">The application's tag; null: not said.</param>
/// <param name="Algorithm">The algorithm named; null: none, the key decides.</param>
/// <param name="Bytes">The signature's 64 bytes.</param>
public sealed record SignatureFields(
    string Label,
    IReadOnlyList<string> Components,
    string Parameters,
    DateTimeOffset? Created,
    DateTimeOffset? Expires,
    string? KeyId,
    string? Nonce,
    string? Tag,
    string? Algorithm,
    byte[] Bytes
)
{
    /// <summary>Reads the two fields (RFC 9421, 4; RFC 8941); null where they are not of this form.</summary>
    /// <param name="input">The value of <c>Signature-Input</c>.</param>
    /// <param name="signature">The value of <c>Signature</c>.</param>
    public static SignatureFields? Read(string input, string signature)
    {
        if (input.Length > HttpSignature.LongestField || signature.Length > HttpSignature.LongestField)
            return null;
        var text = new Cursor(input);
        if (text.Key() is not { } label || !text.Take('='))
            return null;
        var start = text.Position;
        if (!text.Take('('))
            return null;
        var components = new List<string>();
        while (!text.Take(')'))
        {
            if (components.Count > 0 && !text.Take(' '))
                return null;
            if (text.String() is not { } component || components.Contains(component))
                return null;
            components.Add(component);
        }
        var parameters = new Dictionary<string, object>();
        while (text.Take(';'))
        {
            if (text.Key() is not { } name || !text.Take('='))
                return null;
            object? value = text.Peek == '"' ? text.String() : text.Integer();
            if (value is null || !parameters.TryAdd(name, value))
                return null;
        }
        if (!text.AtEnd)
            return null;
        string[] strings = ["keyid", "nonce", "tag", "alg"],
            integers = ["created", "expires"];
        foreach (var (name, value) in parameters)
            if (!(value is string ? strings : integers).Contains(name))
                return null;

        var before = $"{label}=:";
        if (!signature.StartsWith(before, StringComparison.Ordinal) || !signature.EndsWith(':') || signature.Length <= before.Length)
            return null;
        if (Ledger.SignedNote.Base64(signature[before.Length..^1]) is not { Length: StrictEd25519.SignatureLength } bytes)
            return null;

        return new SignatureFields(
            label,
            components,
            input[start..],
            TimeOf("created"),
            TimeOf("expires"),
            TextOf("keyid"),
            TextOf("nonce"),
            TextOf("tag"),
            TextOf("alg"),
            bytes
        );

        string? TextOf(string name) => parameters.GetValueOrDefault(name) as string;
        DateTimeOffset? TimeOf(string name) =>
            parameters.GetValueOrDefault(name) is long seconds
            && seconds is >= (long)Ledger.CosignatureKey.FirstSecond and <= (long)Ledger.CosignatureKey.LastSecond
                ? DateTimeOffset.FromUnixTimeSeconds(seconds)
                : null;
    }

    /// <summary>Whether the fields are in the one form in which they are signed and kept (<c>protos/EVIDENCE.md</c>, section 5): other
    /// forms that RFC 9421 allows could be read in two ways.</summary>
    public bool IsCanonical =>
        this is { Label: HttpSignature.Label, Created: { } created, Expires: { } expires, KeyId: { } keyId, Nonce: { } nonce, Tag: { } tag }
        && Parameters == HttpSignature.ParametersOf(created, expires, keyId, nonce, tag);

    /// <summary>Whether the signature is the key's over these component values, which are printable ASCII.</summary>
    /// <param name="key">The public key, 32 bytes.</param>
    /// <param name="valueOf">The value of a component in the request as received; null: it is not there.</param>
    public bool IsBy(ReadOnlySpan<byte> key, Func<string, string?> valueOf)
    {
        var values = new List<KeyValuePair<string, string>>(Components.Count);
        foreach (var component in Components)
        {
            // Other characters have no defined bytes in a signature base, and libraries encode them in different ways.
            if (valueOf(component) is not { } value || value.AsSpan().ContainsAnyExceptInRange(' ', '~'))
                return false;
            values.Add(new(component, value));
        }
        return StrictEd25519.Verifies(key, HttpSignature.Base(values, Parameters), Bytes);
    }

    /// <summary>Reads RFC 8941 text from left to right.</summary>
    private ref struct Cursor(string text)
    {
        public int Position { get; private set; }

        public readonly bool AtEnd => Position == text.Length;

        public readonly char Peek => AtEnd ? '\0' : text[Position];

        public bool Take(char expected)
        {
            if (Peek != expected || AtEnd)
                return false;
            Position++;
            return true;
        }

        public string? Key()
        {
            var start = Position;
            if (!char.IsAsciiLetterLower(Peek) && Peek != '*')
                return null;
            while (char.IsAsciiLetterLower(Peek) || char.IsAsciiDigit(Peek) || Peek is '_' or '-' or '.' or '*')
                Position++;
            return text[start..Position];
        }

        public string? String()
        {
            if (!Take('"'))
                return null;
            var start = Position;
            // Quoted characters never occur in the fields that are signed here. A backslash is refused: it could be read in two ways.
            while (Peek is >= ' ' and < '\x7f' and not '"' and not '\\')
                Position++;
            var end = Position;
            return Take('"') ? text[start..end] : null;
        }

        public long? Integer()
        {
            var start = Position;
            while (char.IsAsciiDigit(Peek))
                Position++;
            return Position - start is > 0 and <= 15 ? long.Parse(text[start..Position]) : null;
        }
    }
}
