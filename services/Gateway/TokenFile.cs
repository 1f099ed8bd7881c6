using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Ministries.Ledger;

namespace Ministries.Gateway;

/// <summary>A system's token, as the file lists it. The token itself is nowhere.</summary>
/// <param name="Name">The system's name.</param>
/// <param name="Sha256">SHA-256 of the token's text, in hexadecimal. A token has 256 random bits, so nobody finds it by trying.</param>
/// <param name="Roles">Its roles.</param>
public sealed record SystemToken(string Name, string Sha256, IReadOnlyList<string> Roles);

/// <summary>
/// The tokens of the ministry's systems: a file that its owner alone may read (JSON: an array of <see cref="SystemToken"/>), at most 1,000.
/// It is read again when it changes, so that a token that is removed counts no more from the next request on. While it cannot be read, no
/// token counts.
/// </summary>
public sealed class TokenFile
{
    /// <summary>What every token begins with.</summary>
    public const string Prefix = "mgw_";

    private const int Most = 1000;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);
    private static readonly JsonSerializerOptions Form = new(JsonSerializerDefaults.Web)
    {
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectRequiredConstructorParameters = true,
        RespectNullableAnnotations = true,
        WriteIndented = true,
    };

    private readonly Lock _lock = new();
    private readonly string _path;
    private (DateTime Written, (byte[] Hash, SystemToken Token)[] Tokens) _read;

    /// <summary>Reads the file.</summary>
    /// <exception cref="FormatException">It cannot be read, lists what is no token, or others may read it.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public TokenFile(string path)
    {
        _path = path;
        _read = (FileTimes.WrittenAt(path), Read(path));
    }

    /// <summary>The system whose token it is; null: nobody's.</summary>
    public SystemToken? Find(string token)
    {
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes(token));
        SystemToken? found = null;
        // All of them are compared, so that the time tells nothing of where one is.
        foreach (var (known, system) in Current())
            if (CryptographicOperations.FixedTimeEquals(hash, known))
                found = system;
        return found;
    }

    /// <summary>Makes a token and adds it to a file, which is made if there is none. Others may add to the file at the same time: an empty
    /// file beside it, which stays there, keeps them apart.</summary>
    /// <param name="path">The file.</param>
    /// <param name="name">The system's name. A token that it had stays beside the new one.</param>
    /// <param name="roles">Its roles.</param>
    /// <returns>The token, which is shown this once.</returns>
    /// <exception cref="FormatException">A role is none, or the file holds what is no token.</exception>
    /// <exception cref="IOException">The file cannot be written, or another process has held it for 10 s.</exception>
    public static string Add(string path, string name, IReadOnlyList<string> roles)
    {
        // Without the lock, a process that reads the file while another adds a token would write the file without that token. The token was
        // already shown, but would not count.
        using var alone = Lock(path);
        return Write(path, File.Exists(path) ? Read(path).Select(t => t.Token) : [], name, roles);
    }

    /// <summary>Makes a token and a file that lists only this token, and replaces any earlier file. No other process may create the
    /// file.</summary>
    /// <inheritdoc cref="Add"/>
    public static string Create(string path, string name, IReadOnlyList<string> roles) => Write(path, [], name, roles);

    private static string Write(string path, IEnumerable<SystemToken> before, string name, IReadOnlyList<string> roles)
    {
        var token = Prefix + Convert.ToBase64String(RandomNumberGenerator.GetBytes(32)).TrimEnd('=').Replace('+', '-').Replace('/', '_');
        var added = new SystemToken(name, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(token))), roles);
        SystemToken[] all = [.. before, added];
        Check(path, all);
        WholeFile.Write(path, JsonSerializer.Serialize(all, Form));
        return token;
    }

    // The token file is replaced at each change, so the lock is a second file beside it. The lock file is never deleted: a process could
    // delete the one that another process has just locked.
    private static FileStream Lock(string path)
    {
        for (var began = Stopwatch.GetTimestamp(); ; Thread.Sleep(10))
            try
            {
                return PrivateFiles.Open($"{path}.lock", FileMode.OpenOrCreate);
            }
            catch (IOException e) when (e is not (DirectoryNotFoundException or FileNotFoundException or PathTooLongException))
            {
                if (Stopwatch.GetElapsedTime(began) > Patience)
                    throw new IOException($"another process changes {path}, or {path}.lock cannot be written", e);
            }
    }

    private (byte[] Hash, SystemToken Token)[] Current()
    {
        lock (_lock)
        {
            try
            {
                var written = FileTimes.WrittenAt(_path);
                if (written != _read.Written)
                    _read = (written, Read(_path));
                return _read.Tokens;
            }
            catch (Exception e) when (e is IOException or FormatException or UnauthorizedAccessException)
            {
                return [];
            }
        }
    }

    private static (byte[] Hash, SystemToken Token)[] Read(string path)
    {
        try
        {
            var tokens = JsonSerializer.Deserialize<SystemToken[]>(OwnFile.ReadText(path), Form) ?? [];
            Check(path, tokens);
            return [.. tokens.Select(t => (Convert.FromHexString(t.Sha256), t))];
        }
        catch (JsonException e)
        {
            throw new FormatException($"{path} is not a list of tokens: {e.Message}", e);
        }
    }

    private static void Check(string path, SystemToken[] tokens)
    {
        if (tokens.Length > Most)
            throw new FormatException($"{path} lists more than {Most} tokens");
        foreach (var token in tokens)
            if (
                token.Name.Length is 0 or > 64
                || token.Sha256.Length != 64
                || !token.Sha256.All(char.IsAsciiHexDigit)
                || token.Roles.FirstOrDefault(r => !Roles.All.Contains(r)) is not null
            )
                throw new FormatException(
                    $"{path}: the token of {token.Name} must have a name of at most 64 characters, 64 hexadecimal digits, and roles of "
                        + string.Join(", ", Roles.All)
                );
    }
}
