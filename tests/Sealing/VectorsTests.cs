using System.Security.Cryptography;
using System.Text.Json;
using NSec.Cryptography;
using Org.BouncyCastle.Crypto.Parameters;

namespace Ministries.Sealing.Tests;

/// <summary>Every primitive gives what its published vectors say, and refuses what they call invalid.</summary>
public class VectorsTests
{
    [Fact]
    public void XWing_gives_what_the_draft_says()
    {
        var vectors = Vectors.Json("xwing.json").EnumerateArray().ToList();
        Assert.Equal(3, vectors.Count);
        foreach (var v in vectors)
            CheckXWing(v.Hex("seed"), v.Hex("eseed"), v.Hex("pk"), v.Hex("ct"), v.Hex("ss"));
    }

    [Fact]
    public void Hpke_with_xwing_gives_what_its_draft_says()
    {
        var vectors = Vectors.Json("hpke_pq.json").EnumerateArray().Where(v => v.GetProperty("kem_id").GetInt32() == 0x647A).ToList();
        Assert.Equal(2, vectors.Count);
        // The KEM is the same whichever the KDF is.
        foreach (var v in vectors)
            CheckXWing(v.Hex("skRm"), v.Hex("ikmE"), v.Hex("pkRm"), v.Hex("enc"), v.Hex("shared_secret"));
        var ours = Assert.Single(vectors, v => v.GetProperty("kdf_id").GetInt32() == 1);
        Assert.Equal(3, ours.GetProperty("aead_id").GetInt32());
        CheckHpke(ours);
    }

    private static void CheckHpke(JsonElement v)
    {
        var context = Hpke.ContextOf(v.Hex("info"));
        var (key, nonce) = (new byte[32], new byte[12]);
        Hpke.Schedule(v.Hex("shared_secret"), context, key, nonce);
        Assert.Equal(v.Hex("key"), key);
        Assert.Equal(v.Hex("base_nonce"), nonce);
        using var identity = SealingIdentity.FromSeed("key", v.Hex("skRm"));
        var messages = v.GetProperty("encryptions").EnumerateArray().ToList();
        Assert.Equal(10, messages.Count);
        for (var i = 0; i < messages.Count; i++)
        {
            var (m, of) = (messages[i], (byte[])[.. nonce]);
            of[11] ^= (byte)i;
            Assert.Equal(m.Hex("nonce"), of);
            var (ciphertext, plain) = (m.Hex("ct"), m.Hex("pt"));
            var sealedText = new byte[ciphertext.Length];
            using var aead = new System.Security.Cryptography.ChaCha20Poly1305(key);
            aead.Encrypt(of, plain, sealedText.AsSpan(0, plain.Length), sealedText.AsSpan(plain.Length), m.Hex("aad"));
            Assert.Equal(ciphertext, sealedText);
        }
        // One message per encapsulation: the first.
        var opened = new byte[messages[0].Hex("pt").Length];
        Assert.True(Hpke.TryOpen(identity.PrivateHalf, v.Hex("enc"), context, messages[0].Hex("aad"), messages[0].Hex("ct"), opened));
        Assert.Equal(messages[0].Hex("pt"), opened);
        Assert.False(Hpke.TryOpen(identity.PrivateHalf, v.Hex("enc"), context, [], messages[0].Hex("ct"), opened));
        Assert.Equal(new byte[opened.Length], opened);
    }

    private static void CheckXWing(byte[] seed, byte[] randomness, byte[] publicKey, byte[] encapsulation, byte[] secret)
    {
        using var identity = SealingIdentity.FromSeed("key", seed);
        Assert.Equal(publicKey, identity.PublicKey.Bytes.ToArray());
        var (made, shared) = (new byte[XWing.EncapsulationBytes], new byte[32]);
        Assert.True(XWing.TryEncapsulate(XWingPublicKey.TryRead(publicKey)!, randomness, made, shared));
        Assert.Equal(encapsulation, made);
        Assert.Equal(secret, shared);
        var opened = new byte[32];
        Assert.True(identity.PrivateHalf.TryDecapsulate(encapsulation, opened));
        Assert.Equal(secret, opened);
    }

    [Fact]
    public void X25519_gives_what_wycheproof_says_and_no_secret_for_a_point_of_low_order()
    {
        foreach (var t in Vectors.Wycheproof("wycheproof_x25519.json", 518))
        {
            using var own = Key.Import(KeyAgreementAlgorithm.X25519, t.Hex("private"), KeyBlobFormat.RawPrivateKey);
            var other = PublicKey.Import(KeyAgreementAlgorithm.X25519, t.Hex("public"), KeyBlobFormat.RawPublicKey);
            var shared = new byte[32];
            var agreed = XWing.TryAgree(own, other, shared);
            Assert.True(agreed == t.Hex("shared").Any(b => b != 0), t.Name());
            Assert.True(shared.SequenceEqual(t.Hex("shared")), t.Name());
        }
    }

    [Fact]
    public void ChaCha20Poly1305_gives_what_wycheproof_says()
    {
        foreach (var t in Vectors.Wycheproof("wycheproof_chacha20_poly1305.json", 325))
        {
            using var aead = new System.Security.Cryptography.ChaCha20Poly1305(t.Hex("key"));
            var (plain, ciphertext, tag) = (new byte[t.Hex("ct").Length], t.Hex("ct"), t.Hex("tag"));
            if (t.Text("result") != "valid")
            {
                Assert.ThrowsAny<Exception>(() => aead.Decrypt(t.Hex("iv"), ciphertext, tag, plain, t.Hex("aad")));
                continue;
            }
            aead.Decrypt(t.Hex("iv"), ciphertext, tag, plain, t.Hex("aad"));
            Assert.True(plain.SequenceEqual(t.Hex("msg")), t.Name());
            aead.Encrypt(t.Hex("iv"), plain, ciphertext, tag, t.Hex("aad"));
            Assert.True(ciphertext.SequenceEqual(t.Hex("ct")) && tag.SequenceEqual(t.Hex("tag")), t.Name());
        }
    }

    [Fact]
    public void Hkdf_gives_what_wycheproof_says()
    {
        foreach (var t in Vectors.Wycheproof("wycheproof_hkdf_sha256.json", 86))
        {
            byte[] Derive() =>
                HKDF.DeriveKey(
                    System.Security.Cryptography.HashAlgorithmName.SHA256,
                    t.Hex("ikm"),
                    t.GetProperty("size").GetInt32(),
                    t.Hex("salt"),
                    t.Hex("info")
                );
            if (t.Text("result") == "valid")
                Assert.True(t.Hex("okm").SequenceEqual(Derive()), t.Name());
            else
                Assert.ThrowsAny<ArgumentException>(Derive);
        }
    }

    [Fact]
    public void MLKem_decapsulates_as_wycheproof_says()
    {
        foreach (var t in Vectors.Wycheproof("wycheproof_mlkem_768.json", 193))
        {
            var (encapsulated, secret) = (t.Hex("c"), new byte[32]);
            if (t.Text("result") != "valid")
            {
                Assert.ThrowsAny<ArgumentException>(() => MLKem768.Decapsulate(FromSeed(t.Hex("seed")), encapsulated, secret));
                continue;
            }
            var key = FromSeed(t.Hex("seed"));
            Assert.True(key.GetPublicKeyEncoded().SequenceEqual(t.Hex("ek")), t.Name());
            MLKem768.Decapsulate(key, encapsulated, secret);
            Assert.True(secret.SequenceEqual(t.Hex("K")), t.Name());
        }
    }

    [Fact]
    public void MLKem_encapsulates_as_wycheproof_says_and_to_no_key_above_the_modulus()
    {
        foreach (var t in Vectors.Wycheproof("wycheproof_mlkem_768_encaps.json", 265))
        {
            var (ek, encapsulated, secret) = (t.Hex("ek"), new byte[1088], new byte[32]);
            // The X25519 half makes it a key of X-Wing, by whose check alone a key gets in.
            var key = XWingPublicKey.TryRead([.. ek, 9, .. new byte[31]]);
            Assert.True(key is not null == (t.Text("result") == "valid"), t.Name());
            if (key is null)
                continue;
            MLKem768.Encapsulate(key.MLKem, t.Hex("m"), encapsulated, secret);
            Assert.True(encapsulated.SequenceEqual(t.Hex("c")) && secret.SequenceEqual(t.Hex("K")), t.Name());
        }
    }

    [Fact]
    public void MLKem_takes_expanded_keys_as_wycheproof_says()
    {
        foreach (var t in Vectors.Wycheproof("wycheproof_mlkem_768_semi_expanded_decaps.json", 9))
        {
            var secret = new byte[32];
            void Decapsulate() =>
                MLKem768.Decapsulate(MLKemPrivateKeyParameters.FromEncoding(MLKemParameters.ml_kem_768, t.Hex("dk")), t.Hex("c"), secret);
            if (t.Text("result") == "valid")
            {
                Decapsulate();
                Assert.True(secret.SequenceEqual(t.Hex("K")), t.Name());
            }
            else
                Assert.ThrowsAny<ArgumentException>(Decapsulate);
        }
    }

    [Fact]
    public void MLKem_passes_the_accumulated_cases_of_cctv()
    {
        var above = Vectors.CompressedLines("cctv_mlkem768_modulus.txt.gz");
        Assert.Equal(780, above.Count);
        Assert.All(above, ek => Assert.Null(XWingPublicKey.TryRead([.. ek, 9, .. new byte[31]])));

        var (secret, encapsulated) = (new byte[32], new byte[1088]);
        var compared = Vectors.Named("cctv_mlkem768_strcmp.txt");
        MLKem768.Decapsulate(MLKemPrivateKeyParameters.FromEncoding(MLKemParameters.ml_kem_768, compared["dk"]), compared["c"], secret);
        Assert.Equal(compared["K"], secret);

        var unlucky = Vectors.Named("cctv_mlkem768_unluckysample.txt");
        var key = FromSeed([.. unlucky["d"], .. unlucky["z"]]);
        Assert.Equal(unlucky["ek"], key.GetPublicKeyEncoded());
        MLKem768.Encapsulate(key.GetPublicKey(), unlucky["m"], encapsulated, secret);
        Assert.Equal(unlucky["c"], encapsulated);
        Assert.Equal(unlucky["K"], secret);
        MLKem768.Decapsulate(key, unlucky["c"], secret);
        Assert.Equal(unlucky["K"], secret);
    }

    private static MLKemPrivateKeyParameters FromSeed(byte[] seed) => MLKemPrivateKeyParameters.FromSeed(MLKemParameters.ml_kem_768, seed);
}
