using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Ministries.Keys;

namespace Ministries.Ledger;

/// <summary>The Ed25519 key with which a service signs its checkpoints (C2SP signed-note, signature type 0x01). Whoever
/// replaces it disposes of it.</summary>
public sealed class CheckpointKey : IDisposable
{
    private readonly Signer? _key;
    private readonly byte[] _public;
    private readonly byte[] _id;

    private CheckpointKey(string name, Signer? key, byte[] @public)
    {
        if (!SignedNote.IsName(name))
            throw new ArgumentException(SignedNote.NameRule, nameof(name));
        Name = name;
        _key = key;
        _public = @public;
        _id = SHA256.HashData([.. Encoding.UTF8.GetBytes(name), (byte)'\n', 1, .. _public])[..4];
    }

    /// <summary>The key's name and the log's origin, such as <c>ministries.example/calllog</c>: without spaces and plus signs.
    /// </summary>
    public string Name { get; }

    /// <summary>The public key in the form that verifiers are given: name, key id and key (the notation of Go's sumdb/note).</summary>
    public string Verifier => $"{Name}+{Convert.ToHexStringLower(_id)}+{Convert.ToBase64String([1, .. _public])}";

    /// <summary>What a service that signs with this key makes ids and etags with.</summary>
    /// <exception cref="InvalidOperationException">The key verifies alone.</exception>
    /// <exception cref="TokenException">The token cannot be reached, or does not sign as RFC 8032 prescribes.</exception>
    internal RecordSecrets Secrets
    {
        get
        {
            var secret = Secret("records");
            try
            {
                return new(secret);
            }
            finally
            {
                CryptographicOperations.ZeroMemory(secret);
            }
        }
    }

    /// <summary>A secret that only a holder of this key can derive: SHA-512 of the key's signature over a text that is never published.
    /// Ed25519 signs the same text always alike, and a token does not hand out the key itself.</summary>
    /// <param name="use">What it is for. Each use has a secret of its own.</param>
    /// <returns>64 bytes. The caller zeroes them.</returns>
    /// <exception cref="InvalidOperationException">The key verifies alone.</exception>
    /// <exception cref="TokenException">The token cannot be reached, or does not sign as RFC 8032 prescribes.</exception>
    internal byte[] Secret(string use)
    {
        var key = _key ?? throw new InvalidOperationException("the key cannot sign");
        // A checkpoint begins with a name, so it is never this text.
        var text = Encoding.UTF8.GetBytes($"\nministries.secret.v1\n{Name}\n{use}\n");
        var (signature, again) = (key.Sign(text), key.Sign(text));
        try
        {
            return signature.AsSpan().SequenceEqual(again)
                ? SHA512.HashData(signature)
                : throw new TokenException($"{key}", "it signs the same text in different ways, which RFC 8032 does not permit");
        }
        finally
        {
            CryptographicOperations.ZeroMemory(signature);
            CryptographicOperations.ZeroMemory(again);
        }
    }

    /// <summary>A key that signs, wherever it lives; disposed of with this.</summary>
    /// <param name="name">The name.</param>
    /// <param name="signer">The key.</param>
    public static CheckpointKey Of(string name, Signer signer) => new(name, signer, signer.PublicKey.ToArray());

    /// <summary>Zeroes the private key, or leaves its token. It verifies as before.</summary>
    public void Dispose() => _key?.Dispose();

    /// <summary>The key of a seed.</summary>
    /// <param name="name">The name.</param>
    /// <param name="seed">The 32 bytes of an Ed25519 private key (RFC 8032).</param>
    public static CheckpointKey FromSeed(string name, ReadOnlySpan<byte> seed) => Of(name, Signer.FromSeed(seed));

    /// <summary>The key of a PEM text (PKCS #8, the label <c>PRIVATE KEY</c>).</summary>
    /// <exception cref="FormatException">It holds no such key (<see cref="KeyText"/>).</exception>
    public static CheckpointKey FromPem(string name, string pem) => Of(name, Signer.FromPem(pem));

    /// <summary>The key that a verifier's text names (<see cref="Verifier"/>): it verifies and cannot sign.</summary>
    /// <exception cref="FormatException">It is not such a text.</exception>
    public static CheckpointKey FromVerifier(string verifier)
    {
        var parts = verifier.Split('+', 3);
        if (parts.Length != 3 || SignedNote.Base64(parts[2]) is not [1, .. { Length: 32 } bytes] || !SignedNote.IsName(parts[0]))
            throw new FormatException("not a verifier's key of Ed25519");
        var key = FromPublic(parts[0], bytes);
        return key.Verifier == verifier ? key : throw new FormatException("the key id is not that of the key");
    }

    /// <summary>The key of a public key: it verifies and cannot sign.</summary>
    /// <param name="name">The name.</param>
    /// <param name="bytes">The 32 bytes of an Ed25519 public key (RFC 8032).</param>
    public static CheckpointKey FromPublic(string name, ReadOnlySpan<byte> bytes) => new(name, null, bytes.ToArray());

    /// <summary>A new key.</summary>
    public static CheckpointKey Generate(string name) => FromSeed(name, RandomNumberGenerator.GetBytes(32));

    /// <summary>Signs a checkpoint.</summary>
    internal Checkpoint Sign(ulong size, byte[] root)
    {
        var text = $"{Name}\n{size.ToString(CultureInfo.InvariantCulture)}\n{Convert.ToBase64String(root)}\n";
        var signature = (_key ?? throw new InvalidOperationException("this key verifies only")).Sign(Encoding.UTF8.GetBytes(text));
        return new(size, root, $"{text}\n{SignedNote.Mark}{Name} {Convert.ToBase64String([.. _id, .. signature])}\n");
    }

    /// <summary>A checkpoint with this key's signature in place of those of the log's other keys. Cosignatures stay: they are over
    /// the text alone.</summary>
    internal Checkpoint SignAgain(Checkpoint signed)
    {
        if (Verify(signed.Text) is not null)
            return signed;
        var others = SignedNote.Read(signed.Text)?.Signatures.Where(s => s.Name != Name).Select(s => s.Line) ?? [];
        var again = Sign(signed.Size, signed.Root);
        return again with { Text = again.Text + string.Concat(others) };
    }

    /// <summary>Whether the line names this key, by name and key id. Other lines must be ignored.</summary>
    public bool Names(NoteSignature signature) => signature.Name == Name && signature.KeyId.AsSpan().SequenceEqual(_id);

    /// <summary>Reads a checkpoint and verifies this key's signature on it; null: it has none, has one that is not valid, or is no
    /// checkpoint.</summary>
    /// <param name="text">The signed note; signatures of other keys are ignored.</param>
    public Checkpoint? Verify(string text)
    {
        if (SignedNote.Read(text) is not { } note || note.Origin != Name || note.Tree is not { } tree)
            return null;
        var signed = Encoding.UTF8.GetBytes(note.Text);
        var own = note.Signatures.Where(Names).ToList();
        // If one line of the key were enough, another reader could look at the other line.
        return own.Count > 0 && own.All(s => StrictEd25519.Verifies(_public, signed, s.Bytes)) ? tree : null;
    }
}

/// <summary>Judges whose a checkpoint is, by the log's keys in the agreement in force now. Keys change while the service runs, so this is
/// asked each time.</summary>
/// <param name="note">The signed note.</param>
/// <returns>The tree that it describes; null: none of the log's keys signed it. And whether the signature counts: it does not if its key
/// has ended and nothing shows that it signed before.</returns>
public delegate (Checkpoint? Tree, bool Counts) CheckpointJudge(string note);

/// <summary>
/// The last checkpoint, kept in a file outside the database. The file has two slots that are written in turn, so that an interrupted write
/// leaves the previous checkpoint. The signature shows that a slot is complete. A checkpoint is on the disk before anybody receives it.
/// </summary>
internal sealed class Checkpoints : IDisposable
{
    private const int Place = 1024;

    private readonly Lock _lock = new();
    private readonly FileStream _file;
    private CheckpointKey _key;
    private int _next;

    /// <summary>Reads the file, which is created if missing.</summary>
    /// <param name="key">The key that signs from now on.</param>
    /// <param name="path">The file.</param>
    /// <param name="judge">Whose the checkpoints in it are; null: only those of <paramref name="key"/> are the log's.</param>
    /// <exception cref="LedgerInconsistentException">It holds something, and no checkpoint of the log.</exception>
    public Checkpoints(CheckpointKey key, string path, CheckpointJudge? judge = null)
    {
        _key = key;
        judge ??= note => (key.Verify(note), true);
        if (Path.GetDirectoryName(Path.GetFullPath(path)) is { } folder)
            PrivateFiles.MakeFolder(folder);
        _file = PrivateFiles.Open(path, FileMode.OpenOrCreate, share: FileShare.Read, bufferSize: 0);
        var bytes = new byte[2 * Place];
        _file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
        var whole = false;
        for (var place = 0; place < 2; place++)
        {
            var text = TextAt(bytes, place);
            whole |= place == 0 ? text.EndsWith('\n') : text.Length > 0;
            if (judge(text) is not ({ } found, var counts) || found.Size < (Last?.Size ?? 0))
                continue;
            (Last, IsDoubtful) = (found, !counts);
            _next = 1 - place;
        }
        // The file is empty, or its first write was interrupted and nobody received that checkpoint.
        if (Last is not null || !whole)
            return;
        _file.Dispose();
        throw new LedgerInconsistentException(
            $"{path} holds no checkpoint that {key.Verifier} or another key that the agreement lists for the service signed. "
                + "Restore the file or the key; a new key is first listed in the agreement, beside the old one."
        );
    }

    /// <summary>The content of a file of checkpoints, made by any program.</summary>
    public static IEnumerable<string> NotesIn(string path)
    {
        if (!File.Exists(path))
            return [];
        using var file = PrivateFiles.Open(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        var bytes = new byte[2 * Place];
        file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
        return [TextAt(bytes, 0), TextAt(bytes, 1)];
    }

    private static string TextAt(byte[] bytes, int place) => Encoding.UTF8.GetString(bytes.AsSpan(place * Place, Place).TrimEnd((byte)0));

    /// <summary>Whether <see cref="Last"/> was found in the file with the signature of a key that has ended, so that a thief of that key
    /// may have made it. Sign it again, or rely on it, only once the ledger confirms it.</summary>
    public bool IsDoubtful { get; private set; }

    /// <summary>Signs the last checkpoint with the present key if another key has signed it. The ledger must have confirmed it.</summary>
    public void Renew()
    {
        lock (_lock)
        {
            if (Last is not null && _key.Verify(Last.Text) is null)
                Last = Write(Last.Size, Last.Root);
            IsDoubtful = false;
        }
    }

    /// <summary>The last checkpoint; null: there has been none.</summary>
    public Checkpoint? Last { get; private set; }

    /// <summary>Signs and stores the checkpoint over a greater tree; null: a greater one was signed meanwhile.</summary>
    /// <exception cref="LedgerInconsistentException">Another root was signed at this size: the ledger's history was changed.</exception>
    public Checkpoint? Advance(ulong size, byte[] root)
    {
        lock (_lock)
        {
            if (Last is not null)
            {
                if (size < Last.Size)
                    return null;
                if (size == Last.Size)
                    return root.AsSpan().SequenceEqual(Last.Root)
                        ? Last
                        : throw new LedgerInconsistentException(
                            $"the ledger's root at {size} entries is not the one that was signed: its history was changed. "
                                + "Stop, and restore the database that fits the checkpoint."
                        );
            }
            return Last = Write(size, root);
        }
    }

    /// <summary>Signs with a key from now on, beginning with the last tree. If that fails, the next call signs that tree. A doubtful
    /// checkpoint is left to <see cref="Renew"/>.</summary>
    public void SignWith(CheckpointKey key)
    {
        lock (_lock)
        {
            if (key.Verifier != _key.Verifier)
                _key = key;
            if (Last is not null && !IsDoubtful && _key.Verify(Last.Text) is null)
                Last = Write(Last.Size, Last.Root);
        }
    }

    public CheckpointKey Key => Volatile.Read(ref _key);

    private Checkpoint Write(ulong size, byte[] root)
    {
        var signed = _key.Sign(size, root);
        var bytes = new byte[Place];
        Encoding.UTF8.GetBytes(signed.Text, bytes);
        _file.Position = _next * Place;
        _file.Write(bytes);
        _file.Flush(flushToDisk: true);
        _next = 1 - _next;
        return signed;
    }

    public void Dispose() => _file.Dispose();
}
