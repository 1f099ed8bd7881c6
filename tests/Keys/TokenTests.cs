using System.Security.Cryptography;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Sealing;
using NSec.Cryptography;

namespace Ministries.Keys.Tests;

/// <summary>Keys in a token, which is SoftHSM here.</summary>
public sealed class TokenTests : IDisposable
{
    private static readonly SoftToken Token = SoftToken.Here;
    private readonly string _folder = Directory.CreateTempSubdirectory("keys-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Write(Key key)
    {
        var path = Path.Combine(_folder, "own.key");
        Signing.Replace(path, key);
        return path;
    }

    [Fact]
    public void A_key_in_a_token_signs_as_it_did_in_a_file()
    {
        using var key = Signing.NewKey();
        using var moved = KeySource.Open(Token.Move(Write(key)));
        Assert.Equal(key.PublicKey.Export(KeyBlobFormat.RawPublicKey), moved.PublicKey.ToArray());
        Assert.Equal(SignatureAlgorithm.Ed25519.Sign(key, "text"u8), moved.Sign("text"u8));
        using var inFile = CheckpointKey.Of("ministries.example/custody", key);
        using var inToken = CheckpointKey.Of("ministries.example/custody", moved);
        Assert.Equal(inFile.Verifier, inToken.Verifier);
        Assert.Equal(inFile.Secret("records"), inToken.Secret("records"));
    }

    [Fact]
    public async Task Many_threads_sign_with_one_key_and_with_several_sessions()
    {
        using var key = Signing.NewKey();
        var location = Token.Move(Write(key));
        using var one = KeySource.Open(location);
        using var other = KeySource.Open(location);
        await Parallel.ForAsync(
            0,
            64,
            new ParallelOptions { MaxDegreeOfParallelism = 8, CancellationToken = TestContext.Current.CancellationToken },
            (i, _) =>
            {
                var text = BitConverter.GetBytes(i);
                Assert.True(SignatureAlgorithm.Ed25519.Verify(key.PublicKey, text, (i % 2 == 0 ? one : other).Sign(text)));
                return ValueTask.CompletedTask;
            }
        );
    }

    [Fact]
    public void A_token_a_key_or_a_PIN_that_is_not_right_is_named_and_the_PIN_is_not()
    {
        using var key = Signing.NewKey();
        var location = Token.Move(Write(key));
        var pin = Path.Combine(_folder, "pin");
        WholeFile.Write(pin, "Canary-9999", mode: PrivateFiles.Mode);

        Assert.Contains("no such token", Refused(location.Replace("token=ministries", "token=nobody", StringComparison.Ordinal)));
        Assert.Contains("no private key", Refused(Token.Location("nothing", SoftToken.Stays)));
        Assert.Contains(
            "module cannot be loaded",
            Refused(location.Replace(SoftToken.Module, "/no/such/module.so", StringComparison.Ordinal))
        );
        // The other token: whether a PIN is right is asked only while nobody is logged in.
        var refused = Refused(Token.Location("nothing", SoftToken.Goes, pin));
        Assert.Contains("refuses the PIN", refused);
        Assert.DoesNotContain("Canary-9999", refused);
        File.SetUnixFileMode(pin, (UnixFileMode)0x1a4);
        Assert.Throws<KeyFileExposedException>(() => KeySource.Open(Token.Location("nothing", SoftToken.Goes, pin)));

        static string Refused(string location) => Assert.Throws<TokenException>(() => KeySource.Open(location)).ToString();
    }

    [Fact]
    public void A_key_that_left_its_token_is_named_and_another_one_does_not_take_its_place()
    {
        using var key = Signing.NewKey();
        var (file, copy) = (Write(key), Path.Combine(_folder, "copy.key"));
        File.Copy(file, copy);
        var location = Token.Move(file, SoftToken.Goes);
        using var moved = KeySource.Open(location);
        Assert.NotEmpty(moved.Sign("text"u8));
        SoftToken.Remove(location);
        var gone = Assert.Throws<TokenException>(() => moved.Sign("text"u8));
        Assert.Contains("in the token goes cannot be used", gone.Message);
        using var another = Signing.NewKey();
        Token.Move(Write(another), SoftToken.Goes, LabelOf(location));
        Assert.Contains("another key than before", Assert.Throws<TokenException>(() => moved.Sign("text"u8)).Message);
        SoftToken.Remove(location);
        Token.Move(copy, SoftToken.Goes, LabelOf(location));
        Assert.Equal(SignatureAlgorithm.Ed25519.Sign(key, "text"u8), moved.Sign("text"u8));

        static string LabelOf(string location) => TokenUri.Parse(location, null).Object!;
    }

    [Fact]
    public void The_X25519_half_in_a_token_agrees_as_RFC_7748_does_and_refuses_points_of_low_order()
    {
        var mlKem = Path.Combine(_folder, "ml-kem.key");
        WriteMLKem(mlKem, RandomNumberGenerator.GetBytes(XWingPrivateKey.MLKemSeedBytes));
        var (half, other) = KeySource.OpenHalf($"{Token.MakeX25519()}&ml-kem-source=file:{mlKem}")!.Value;
        using (half)
        {
            Assert.Equal(mlKem, other);
            using var own = Key.Create(KeyAgreementAlgorithm.X25519);
            var secret = new byte[32];
            Assert.True(half.TryAgree(own.PublicKey.Export(KeyBlobFormat.RawPublicKey), secret));
            using var expected = KeyAgreementAlgorithm.X25519.Agree(
                own,
                PublicKey.Import(KeyAgreementAlgorithm.X25519, half.PublicKey.Span, KeyBlobFormat.RawPublicKey),
                new SharedSecretCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextExport }
            );
            Assert.Equal(expected!.Export(SharedSecretBlobFormat.RawSharedSecret), secret);
            Assert.False(half.TryAgree(new byte[32], secret));
        }
    }

    [Fact]
    public void What_is_sealed_is_opened_with_halves_that_live_apart()
    {
        var mlKem = Path.Combine(_folder, "ml-kem.key");
        WriteMLKem(mlKem, RandomNumberGenerator.GetBytes(XWingPrivateKey.MLKemSeedBytes));
        using var key = SealingKeySource.Open($"{Token.MakeX25519()}&ml-kem-source=file:{mlKem}");
        Opens(key);
        Assert.Throws<FormatException>(() => SealingKeySource.Open(Token.MakeX25519()));
    }

    [Fact]
    public void Halves_in_one_process_that_are_joined_open_what_is_sealed_to_both()
    {
        using var key = SealingKeySource.Join(new InProcess(), RandomNumberGenerator.GetBytes(XWingPrivateKey.MLKemSeedBytes));
        Opens(key);
    }

    [Fact]
    public void A_whole_key_for_sealing_is_read_from_its_file()
    {
        var seed = SealingIdentity.NewSeed();
        var path = Path.Combine(_folder, "seal.key");
        WholeFile.Write(path, PemEncoding.WriteString(SealingKeySource.Label, seed), mode: PrivateFiles.Mode);
        using var key = SealingKeySource.Open(path);
        using var own = SealingIdentity.FromSeed("kr/mfa/seal-1", seed);
        Assert.True(own.PublicKey.Bytes.SequenceEqual(key.PublicKey.Bytes));
        Opens(key);
    }

    private static void Opens(IDecapsulator key)
    {
        var (encapsulation, sent, got) = (new byte[XWing.EncapsulationBytes], new byte[32], new byte[32]);
        Assert.True(XWing.TryEncapsulate(key.PublicKey, encapsulation, sent));
        Assert.True(key.TryDecapsulate(encapsulation, got));
        Assert.Equal(sent, got);
        // A point of low order.
        encapsulation.AsSpan(XWing.EncapsulationBytes - 32).Clear();
        Assert.False(key.TryDecapsulate(encapsulation, got));
    }

    private static void WriteMLKem(string path, byte[] seed) =>
        WholeFile.Write(path, PemEncoding.WriteString(SealingKeySource.MLKemLabel, seed), mode: PrivateFiles.Mode);

    private sealed class InProcess : IKeyAgreement
    {
        private readonly Key _key = Key.Create(KeyAgreementAlgorithm.X25519);

        public ReadOnlyMemory<byte> PublicKey => _key.PublicKey.Export(KeyBlobFormat.RawPublicKey);

        public bool TryAgree(ReadOnlySpan<byte> other, Span<byte> secret)
        {
            using var shared = KeyAgreementAlgorithm.X25519.Agree(
                _key,
                NSec.Cryptography.PublicKey.Import(KeyAgreementAlgorithm.X25519, other, KeyBlobFormat.RawPublicKey),
                new SharedSecretCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextExport }
            );
            return shared is not null && shared.TryExport(SharedSecretBlobFormat.RawSharedSecret, secret, out _);
        }

        public void Dispose() => _key.Dispose();
    }
}
