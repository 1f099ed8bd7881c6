using System.Security.Cryptography;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Sealing;
using NSec.Cryptography;

namespace Ministries.Keys.Tests;

/// <summary>Keys in files and in the secrets folder, and the form of locations.</summary>
public sealed class KeySourceTests : IDisposable
{
    private const string Canary = "Canary-5f1c";
    private readonly string _folder = Directory.CreateTempSubdirectory("keys-").FullName;

    private string PathOf(string name) => Path.Combine(_folder, name);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void A_key_is_opened_from_a_file_of_its_owner_alone()
    {
        using var key = Signing.NewKey();
        Signing.Replace(PathOf("own.key"), key);
        using var opened = KeySource.Open(PathOf("own.key"));
        Assert.Equal(key.PublicKey.Export(KeyBlobFormat.RawPublicKey), opened.PublicKey.ToArray());
        Assert.True(SignatureAlgorithm.Ed25519.Verify(key.PublicKey, "text"u8, opened.Sign("text"u8)));
    }

    [Fact]
    public void A_key_is_read_into_memory_of_which_the_garbage_collector_makes_no_copies()
    {
        using var key = Signing.NewKey();
        var pem = System.Text.Encoding.ASCII.GetString(key.Export(KeyBlobFormat.PkixPrivateKeyText));
        var seed = KeyText.SeedOf(pem);
        using var read = Key.Import(SignatureAlgorithm.Ed25519, seed, KeyBlobFormat.RawPrivateKey);
        Assert.Equal(key.PublicKey, read.PublicKey);
        // What is pinned counts as the oldest generation from the start; an array that small is of the youngest otherwise.
        Assert.Equal(GC.MaxGeneration, GC.GetGeneration(seed));
    }

    [Theory]
    [InlineData(
        "own.key",
        0x1a4 /* 0644 */
    )]
    [InlineData(
        "own.key",
        0x190 /* 0620 */
    )]
    [InlineData(
        "secrets:own.key",
        0x1b4 /* 0664 */
    )]
    [InlineData(
        "secrets:own.key",
        0x1b6 /* 0666 */
    )]
    public void A_file_that_others_may_read_or_a_secret_that_others_may_write_is_refused(string location, int mode)
    {
        using var key = Signing.NewKey();
        Signing.Replace(PathOf("own.key"), key);
        File.SetUnixFileMode(PathOf("own.key"), (UnixFileMode)mode);
        if (!location.StartsWith("secrets:", StringComparison.Ordinal))
            location = PathOf(location);
        Assert.Throws<KeyFileExposedException>(() => KeySource.Open(location, _folder));
        Assert.Contains("is not used", KeySource.Wrong(location, _folder));
    }

    [Fact]
    public void A_secret_may_be_read_by_everybody_in_its_container()
    {
        using var key = Signing.NewKey();
        Signing.Replace(PathOf("own"), key);
        File.SetUnixFileMode(PathOf("own"), UnixFileMode.UserRead | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
        Assert.Null(KeySource.Wrong("secrets:own", _folder));
        using var opened = KeySource.Open("secrets:own", _folder);
        Assert.Equal(key.PublicKey.Export(KeyBlobFormat.RawPublicKey), opened.PublicKey.ToArray());
    }

    [Fact]
    public void A_secret_in_a_folder_that_others_may_write_is_refused()
    {
        var open = Directory.CreateDirectory(PathOf("open")).FullName;
        using var key = Signing.NewKey();
        Signing.Replace(Path.Combine(open, "own"), key);
        File.SetUnixFileMode(open, (UnixFileMode)0x1ff);
        Assert.Throws<KeyFileExposedException>(() => KeySource.Open("secrets:own", open));
    }

    [Theory]
    [InlineData("secrets:")]
    [InlineData("secrets:..")]
    [InlineData("secrets:../own.key")]
    [InlineData("secrets:/etc/own.key")]
    [InlineData("pkcs11:object=a?module-path=/m.so&pin-source=file:/pin")]
    [InlineData("pkcs11:token=a?module-path=/m.so&pin-source=file:/pin")]
    [InlineData("pkcs11:token=a;object=b?pin-source=file:/pin")]
    [InlineData("pkcs11:token=a;object=b?module-path=m.so&pin-source=file:/pin")]
    [InlineData("pkcs11:token=a;object=b?module-path=/m.so")]
    [InlineData("pkcs11:token=a;object=b?module-path=/m.so&pin-value=Canary-5f1c")]
    [InlineData("pkcs11:token=a;object=b?module-path=/m.so&pin-source=Canary-5f1c")]
    [InlineData("pkcs11:token=a;object=b?module-path=/m.so&pin-source=|Canary-5f1c")]
    [InlineData("pkcs11:token=a;token=c;object=b?module-path=/m.so&pin-source=file:/pin")]
    [InlineData("pkcs11:token=a;object=b;type=public?module-path=/m.so&pin-source=file:/pin")]
    [InlineData("pkcs11:token=a;object=b;what=c?module-path=/m.so&pin-source=file:/pin")]
    [InlineData("pkcs11:token=a b;object=b?module-path=/m.so&pin-source=file:/pin")]
    [InlineData("pkcs11:token=a%2;object=b?module-path=/m.so&pin-source=file:/pin")]
    public void A_wrong_location_is_refused_and_not_repeated(string location)
    {
        var refused = Assert.Throws<FormatException>(() => KeySource.Open(location, _folder));
        Assert.DoesNotContain(Canary, refused.ToString());
        Assert.Equal(refused.Message, KeySource.Wrong(location, _folder));
    }

    [Fact]
    public void A_location_in_a_token_is_read_as_RFC_7512_writes_it()
    {
        var uri = TokenUri.Parse(
            "pkcs11:token=The%20ministry;serial=01;id=%01%ff;object=a%3Bb?module-path=/m.so&pin-source=secrets:pin&ml-kem-source=file:///k",
            "/s"
        );
        Assert.True(uri.Names("The ministry", "01", "any", "any"));
        Assert.False(uri.Names("The ministry", "02", "any", "any"));
        Assert.Equal("a;b", uri.Object);
        Assert.Equal((byte[])[1, 0xff], uri.Id);
        Assert.Equal(new KeyPath("/s/pin", IsSecret: true), uri.Pin);
        Assert.Equal(("/m.so", "/k"), (uri.Module, uri.MLKemSource));
    }

    [Theory]
    [InlineData("-----BEGIN PRIVATE KEY-----\nQ2FuYXJ5LTVmMWM=\n-----END PRIVATE KEY-----\n")]
    [InlineData("-----BEGIN PRIVATE KEY-----\nCanary-5f1c\n-----END PRIVATE KEY-----\n")]
    [InlineData("-----BEGIN RSA PRIVATE KEY-----\nQ2FuYXJ5LTVmMWM=\n-----END RSA PRIVATE KEY-----\n")]
    [InlineData("-----BEGIN X-WING PRIVATE KEY-----\nQ2FuYXJ5LTVmMWM=\n-----END X-WING PRIVATE KEY-----\n")]
    [InlineData("-----BEGIN X-WING PRIVATE KEY-----\nCanary-5f1c!\n-----END X-WING PRIVATE KEY-----\n")]
    [InlineData("Canary-5f1c")]
    [InlineData("")]
    public void What_a_wrong_file_holds_is_in_no_message(string text)
    {
        WholeFile.Write(PathOf("wrong.key"), text, mode: PrivateFiles.Mode);
        foreach (
            var open in (Action[])
                [
                    () => KeySource.Open(PathOf("wrong.key")),
                    () => SealingKeySource.Open(PathOf("wrong.key")),
                    () => CheckpointKey.FromPem("ministries.example/custody", text),
                ]
        )
        {
            var refused = Assert.Throws<FormatException>(open);
            Assert.DoesNotContain(Canary, refused.ToString());
            Assert.DoesNotContain("Q2FuYXJ5", refused.ToString());
        }
        Assert.DoesNotContain(
            Canary,
            Assert.ThrowsAny<CryptographicException>(() => CertificateFiles.Read(PathOf("wrong.key"), PathOf("wrong.key"))).ToString()
        );
    }

    [Fact]
    public void A_file_that_is_too_long_holds_no_key()
    {
        WholeFile.Write(PathOf("long.key"), new string('a', KeyFile.MaxBytes + 1), mode: PrivateFiles.Mode);
        Assert.Throws<FormatException>(() => KeySource.Open(PathOf("long.key")));
    }

    [Fact]
    public void A_key_prints_as_its_public_key()
    {
        var seed = SHA256.HashData("seed"u8);
        using var signer = Signer.FromSeed(seed);
        using var checkpoint = CheckpointKey.FromSeed("ministries.example/custody", seed);
        Assert.Equal($"Ed25519 {Convert.ToHexStringLower(signer.PublicKey.Span)}", $"{signer}");
        foreach (var printed in (string[])[$"{signer}", $"{checkpoint}"])
            Assert.DoesNotContain(Convert.ToHexString(seed), printed, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public void A_key_that_was_disposed_of_signs_no_more()
    {
        var key = CheckpointKey.FromSeed("ministries.example/custody", new byte[32]);
        key.Dispose();
        Assert.Throws<ObjectDisposedException>(() => key.Secret("use"));
        Assert.NotEmpty(key.Verifier);
    }

    [Fact]
    public void Each_use_of_a_key_has_a_secret_of_its_own_that_the_key_gives_again()
    {
        using var key = CheckpointKey.FromSeed("ministries.example/custody", new byte[32]);
        using var again = CheckpointKey.FromSeed("ministries.example/custody", new byte[32]);
        using var other = CheckpointKey.FromSeed("ministries.example/calllog", new byte[32]);
        Assert.Equal(key.Secret("records"), again.Secret("records"));
        Assert.NotEqual(key.Secret("records"), key.Secret("page-tokens"));
        Assert.NotEqual(key.Secret("records"), other.Secret("records"));
    }

    [Fact]
    public void A_signature_of_a_key_in_a_file_costs_no_more_memory_than_NSecs_own()
    {
        using var key = Key.Create(SignatureAlgorithm.Ed25519);
        var signer = Signer.Of(key);
        var text = new byte[200];
        Measure(() => signer.Sign(text));
        Assert.Equal(Measure(() => SignatureAlgorithm.Ed25519.Sign(key, text)), Measure(() => signer.Sign(text)));

        static long Measure(Func<byte[]> sign)
        {
            sign();
            var before = GC.GetAllocatedBytesForCurrentThread();
            for (var i = 0; i < 100; i++)
                sign();
            return GC.GetAllocatedBytesForCurrentThread() - before;
        }
    }
}
