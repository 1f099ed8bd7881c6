using System.Text;

namespace Ministries.Keys;

/// <summary>Where a key in a token is: a URI of the scheme <c>pkcs11</c> (RFC 7512).</summary>
internal sealed record TokenUri
{
    /// <summary>How such a location begins.</summary>
    public const string Scheme = "pkcs11:";

    /// <summary>The longest one: 4096 characters.</summary>
    public const int MaxLength = 4096;

    private static readonly string[] OfPath = ["token", "manufacturer", "serial", "model", "object", "id", "type"];
    private static readonly string[] OfQuery = ["module-path", "pin-source", "ml-kem-source"];

    private readonly Dictionary<string, string> _values = [];

    /// <summary>The PKCS #11 module, a shared library.</summary>
    public string Module => _values["module-path"];

    /// <summary>The key's label; null: not said.</summary>
    public string? Object => _values.GetValueOrDefault("object");

    /// <summary>The key's id; null: not said.</summary>
    public byte[]? Id { get; private init; }

    /// <summary>The file of the PIN.</summary>
    public KeyPath Pin { get; private init; }

    /// <summary>Where the ML-KEM half of a key for sealing is; null: not said.</summary>
    public string? MLKemSource { get; private init; }

    /// <summary>Whether a token is the one that is meant.</summary>
    public bool Names(string label, string serial, string manufacturer, string model) =>
        Is("token", label) && Is("serial", serial) && Is("manufacturer", manufacturer) && Is("model", model);

    private bool Is(string attribute, string value) => !_values.TryGetValue(attribute, out var wanted) || wanted == value;

    /// <summary>The key and its token, for messages.</summary>
    public override string ToString() =>
        $"the key {Object ?? Convert.ToHexStringLower(Id ?? [])} in the token {_values.GetValueOrDefault("token") ?? _values["serial"]}";

    /// <summary>Reads one.</summary>
    /// <param name="text">The URI.</param>
    /// <param name="secretsFolder">The secrets folder, where a file may be in it.</param>
    /// <exception cref="FormatException">It is not of this form. The message repeats nothing of it, because a PIN may be in it.</exception>
    public static TokenUri Parse(string text, string? secretsFolder)
    {
        if (text.Length > MaxLength)
            throw Wrong($"is longer than {MaxLength} characters");
        var parts = text[Scheme.Length..].Split('?', 2);
        var values = new Dictionary<string, string>();
        byte[]? id = null;
        foreach (var (attribute, known) in Attributes(parts))
        {
            var (name, value) = attribute.Split('=', 2) is [var n, var v] ? (n, v) : throw Wrong("has a part without an equals sign");
            if (name == "pin-value")
                throw Wrong("must not hold the PIN itself: name the PIN's file by pin-source=file:PATH");
            if (!known.Contains(name))
                throw Wrong($"has an attribute that is not one of {string.Join(", ", known)}");
            var decoded = Decode(value);
            if (!values.TryAdd(name, name == "id" ? "" : Encoding.UTF8.GetString(decoded)))
                throw Wrong($"has {name} twice");
            if (name == "id")
                id = decoded;
        }
        if (!values.ContainsKey("token") && !values.ContainsKey("serial"))
            throw Wrong("must name the token by token= or serial=");
        if (!values.ContainsKey("object") && id is not { Length: > 0 })
            throw Wrong("must name the key by object= or id=");
        if (values.GetValueOrDefault("type", "private") != "private")
            throw Wrong("must be that of a private key: type=private, or no type");
        if (!values.TryGetValue("module-path", out var module) || !Path.IsPathFullyQualified(module))
            throw Wrong("must name the module by module-path= and its whole path");
        if (!values.TryGetValue("pin-source", out var pin))
            throw Wrong("must name the PIN's file by pin-source=file:PATH or pin-source=secrets:NAME");
        return new TokenUri(values)
        {
            Id = id,
            Pin = KeySource.FileOf(LocationOf(pin), secretsFolder) ?? throw Wrong("must name the PIN's file, not a token, by pin-source="),
            MLKemSource = values.TryGetValue("ml-kem-source", out var other) ? LocationOf(other) : null,
        };
    }

    private TokenUri(Dictionary<string, string> values) => _values = values;

    private static IEnumerable<(string Attribute, string[] Known)> Attributes(string[] parts)
    {
        foreach (var attribute in parts[0].Split(';', StringSplitOptions.RemoveEmptyEntries))
            yield return (attribute, OfPath);
        foreach (var attribute in parts.Length == 1 ? [] : parts[1].Split('&', StringSplitOptions.RemoveEmptyEntries))
            yield return (attribute, OfQuery);
    }

    // file:/path, file:///path, /path or secrets:name. A command, which RFC 7512 permits too, is none of them.
    private static string LocationOf(string source)
    {
        if (source.StartsWith("secrets:", StringComparison.Ordinal))
            return source;
        var path =
            source.StartsWith("file:///", StringComparison.Ordinal) ? source["file://".Length..]
            : source.StartsWith("file:", StringComparison.Ordinal) ? source["file:".Length..]
            : source;
        return Path.IsPathFullyQualified(path) ? path : throw Wrong("must name files as file:PATH, with the whole path, or secrets:NAME");
    }

    private static byte[] Decode(string value)
    {
        var bytes = new List<byte>(value.Length);
        for (var i = 0; i < value.Length; i++)
            if (value[i] == '%' && i + 2 < value.Length && char.IsAsciiHexDigit(value[i + 1]) && char.IsAsciiHexDigit(value[i + 2]))
            {
                bytes.Add(Convert.FromHexString(value.AsSpan(i + 1, 2))[0]);
                i += 2;
            }
            else if (value[i] is > ' ' and < '\x7f' and not '%')
                bytes.Add((byte)value[i]);
            else
                throw Wrong("has a character that must be percent-encoded");
        return [.. bytes];
    }

    private static FormatException Wrong(string what) => new($"the location of a key in a token (pkcs11:…) {what}");
}
