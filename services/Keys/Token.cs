using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Net.Pkcs11Interop.Common;
using Net.Pkcs11Interop.HighLevelAPI;
using NSec.Cryptography;

namespace Ministries.Keys;

/// <summary>A key in a token (PKCS #11) that cannot be used.</summary>
/// <param name="which">The key and its token.</param>
/// <param name="why">Why not.</param>
/// <param name="cause">What the module said; null: it said nothing.</param>
public sealed class TokenException(string which, string why, Exception? cause = null)
    : IOException($"{which} cannot be used: {why}", cause);

/// <summary>A private key in a token, with a session of its own that one thread uses at a time. A session that has ended, because the
/// token was taken out and put back, is opened again once.</summary>
internal sealed class Token : IDisposable
{
    public static readonly Pkcs11InteropFactories Factories = Make();

    // A module is loaded once and stays: it has one state for the whole process, and other keys may use it.
    private static readonly ConcurrentDictionary<string, Lazy<IPkcs11Library>> Modules = [];

    private readonly Lock _lock = new();
    private readonly TokenUri _uri;
    private ISession? _session;
    private IObjectHandle? _key;
    private bool _disposed;

    // The library asks for libdl by the name that only development packages of the C library install.
    private static Pkcs11InteropFactories Make()
    {
        if (OperatingSystem.IsLinux())
            NativeLibrary.SetDllImportResolver(
                typeof(Pkcs11InteropFactories).Assembly,
                (name, _, _) =>
                    name == "libdl"
                    && (NativeLibrary.TryLoad("libdl.so.2", out var loaded) || NativeLibrary.TryLoad("libc.so.6", out loaded))
                        ? loaded
                        : 0
            );
        return new Pkcs11InteropFactories();
    }

    /// <summary>Opens the key.</summary>
    /// <exception cref="TokenException">It cannot be used.</exception>
    public Token(TokenUri uri)
    {
        _uri = uri;
        lock (_lock)
            PublicKey = Reach(() => Open());
    }

    /// <summary>The public key: 32 bytes.</summary>
    public byte[] PublicKey { get; }

    /// <summary>Uses the private key.</summary>
    /// <exception cref="TokenException">It cannot be used.</exception>
    public T Use<T>(Func<ISession, IObjectHandle, T> use)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (_session is not null)
                try
                {
                    return use(_session, _key!);
                }
                catch (Pkcs11Exception)
                {
                    Close();
                }
            return Reach(() =>
            {
                if (!Open().AsSpan().SequenceEqual(PublicKey))
                    throw new TokenException($"{_uri}", "it is another key than before");
                return use(_session!, _key!);
            });
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            Close();
        }
    }

    private T Reach<T>(Func<T> what)
    {
        try
        {
            return what();
        }
        catch (Exception e) when (e is Pkcs11Exception or UnmanagedException or LibraryArchitectureException)
        {
            Close();
            throw new TokenException($"{_uri}", Why(e), e);
        }
        catch
        {
            Close();
            throw;
        }
    }

    internal static IPkcs11Library ModuleAt(string path) =>
        Modules
            .GetOrAdd(path, _ => new(() => Factories.Pkcs11LibraryFactory.LoadPkcs11Library(Factories, path, AppType.MultiThreaded)))
            .Value;

    private static string Why(Exception e) =>
        e switch
        {
            Pkcs11Exception { RV: CKR.CKR_PIN_INCORRECT or CKR.CKR_PIN_INVALID or CKR.CKR_PIN_LEN_RANGE } =>
                "the token refuses the PIN; correct its file before the token locks itself",
            Pkcs11Exception { RV: CKR.CKR_PIN_LOCKED } => "the token's PIN is locked; its security officer unlocks it",
            Pkcs11Exception p => $"the token answers {p.RV} to {p.Method}; see that it is connected",
            _ => "the module cannot be loaded",
        };

    private void Close()
    {
        try
        {
            _session?.Dispose();
        }
        catch (Pkcs11Exception)
        {
            // The session went with the token.
        }
        (_session, _key) = (null, null);
    }

    private byte[] Open()
    {
        var slots = ModuleAt(_uri.Module).GetSlotList(SlotsType.WithTokenPresent).Where(IsMeant).ToList();
        if (slots.Count != 1)
            throw new TokenException($"{_uri}", slots.Count == 0 ? "there is no such token" : "there are several such tokens");
        _session = slots[0].OpenSession(SessionType.ReadOnly);
        Login(_session);
        _key = Find(CKO.CKO_PRIVATE_KEY, "private");
        return Point(_session.GetAttributeValue(Find(CKO.CKO_PUBLIC_KEY, "public"), [CKA.CKA_EC_POINT])[0].GetValueAsByteArray());
    }

    private bool IsMeant(ISlot slot)
    {
        try
        {
            var token = slot.GetTokenInfo();
            return token.TokenFlags.TokenInitialized
                && _uri.Names(token.Label.Trim(), token.SerialNumber.Trim(), token.ManufacturerId.Trim(), token.Model.Trim());
        }
        catch (Pkcs11Exception)
        {
            return false;
        }
    }

    private void Login(ISession session) =>
        KeyFile.Read(
            _uri.Pin,
            bytes =>
            {
                var pin = bytes.TrimEnd("\r\n"u8).ToArray();
                try
                {
                    session.Login(CKU.CKU_USER, pin);
                }
                catch (Pkcs11Exception e) when (e.RV == CKR.CKR_USER_ALREADY_LOGGED_IN)
                {
                    // Another session of this process did it: it holds for all.
                }
                finally
                {
                    CryptographicOperations.ZeroMemory(pin);
                }
                return true;
            }
        );

    private IObjectHandle Find(CKO kind, string name)
    {
        var attributes = Factories.ObjectAttributeFactory;
        List<IObjectAttribute> wanted = [attributes.Create(CKA.CKA_CLASS, kind)];
        if (_uri.Object is { } label)
            wanted.Add(attributes.Create(CKA.CKA_LABEL, label));
        if (_uri.Id is { } id)
            wanted.Add(attributes.Create(CKA.CKA_ID, id));
        var found = _session!.FindAllObjects(wanted);
        return found.Count == 1
            ? found[0]
            : throw new TokenException($"{_uri}", $"the token has {(found.Count == 0 ? "no" : "more than one")} {name} key of this name");
    }

    // An octet string (DER) around the 32 bytes, or from some tokens the bytes alone.
    private byte[] Point(byte[]? point) =>
        point switch
        {
            { Length: 32 } => point,
            [4, 32, .. { Length: 32 } bytes] => bytes,
            _ => throw new TokenException($"{_uri}", "it is not of Ed25519 or X25519"),
        };
}

/// <summary>An Ed25519 key in a token: <c>CKM_EDDSA</c>.</summary>
internal sealed class TokenSigner : Signer
{
    // Of PKCS #11 3.0, which the library's names lack.
    private const ulong EdDsa = 0x1057;

    private readonly Token _token;
    private volatile bool _verified;

    public TokenSigner(TokenUri uri) => _token = new Token(uri);

    public override ReadOnlyMemory<byte> PublicKey => _token.PublicKey;

    public override byte[] Sign(ReadOnlySpan<byte> data)
    {
        var bytes = data.ToArray();
        var signature = _token.Use(
            (session, key) =>
            {
                using var mechanism = Token.Factories.MechanismFactory.Create(EdDsa);
                return session.Sign(mechanism, key, bytes);
            }
        );
        // The token's public key is an object of its own, and could be that of another private key.
        if (!_verified && !StrictEd25519.Verifies(_token.PublicKey, data, signature))
            throw new TokenException(ToString(), "what it signs is not an Ed25519 signature of the public key beside it");
        _verified = true;
        return signature;
    }

    protected override void Dispose(bool disposing) => _token.Dispose();
}

/// <summary>An X25519 key in a token: <c>CKM_ECDH1_DERIVE</c>.</summary>
internal sealed class TokenAgreement : IKeyAgreement
{
    private static readonly Key Any = Key.Create(KeyAgreementAlgorithm.X25519);

    private readonly Token _token;

    public TokenAgreement(TokenUri uri) => _token = new Token(uri);

    public ReadOnlyMemory<byte> PublicKey => _token.PublicKey;

    public bool TryAgree(ReadOnlySpan<byte> other, Span<byte> secret)
    {
        if (other.Length != 32 || secret.Length != 32)
            throw new ArgumentException("Public keys and secrets have 32 bytes.", nameof(other));
        // Tokens answer differently to a point of low order. So a random key in this process tries the point first: such a point gives no
        // secret with any key.
        using (var any = SharedWith(other))
            if (any is null)
                return false;
        byte[] point = [4, 32, .. other];
        byte[]? value = null;
        try
        {
            value = _token.Use((session, key) => Derive(session, key, point));
            if (value is not { Length: 32 })
                throw new TokenException(ToString(), "it gives secrets that are not X25519's");
            value.CopyTo(secret);
            return true;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(value);
        }
    }

    private static SharedSecret? SharedWith(ReadOnlySpan<byte> other)
    {
        var key = NSec.Cryptography.PublicKey.Import(KeyAgreementAlgorithm.X25519, other, KeyBlobFormat.RawPublicKey);
        return KeyAgreementAlgorithm.X25519.Agree(Any, key);
    }

    public override string ToString() => $"X25519 {Convert.ToHexStringLower(_token.PublicKey)}";

    private static byte[]? Derive(ISession session, IObjectHandle key, byte[] point)
    {
        var attributes = Token.Factories.ObjectAttributeFactory;
        using var parameters = Token.Factories.MechanismParamsFactory.CreateCkEcdh1DeriveParams((ulong)CKD.CKD_NULL, null, point);
        using var mechanism = Token.Factories.MechanismFactory.Create(CKM.CKM_ECDH1_DERIVE, parameters);
        var derived = session.DeriveKey(
            mechanism,
            key,
            [
                attributes.Create(CKA.CKA_CLASS, CKO.CKO_SECRET_KEY),
                attributes.Create(CKA.CKA_KEY_TYPE, CKK.CKK_GENERIC_SECRET),
                attributes.Create(CKA.CKA_TOKEN, false),
                attributes.Create(CKA.CKA_SENSITIVE, false),
                attributes.Create(CKA.CKA_EXTRACTABLE, true),
                attributes.Create(CKA.CKA_VALUE_LEN, 32),
            ]
        );
        try
        {
            return session.GetAttributeValue(derived, [CKA.CKA_VALUE])[0].GetValueAsByteArray();
        }
        finally
        {
            session.DestroyObject(derived);
        }
    }

    public void Dispose() => _token.Dispose();
}
