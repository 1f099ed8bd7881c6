using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Evidence.Tests;

/// <summary>
/// The edge cases of Ed25519 that C2SP publishes: CCTV's 914 with points of small and mixed order and encodings that are not canonical, and
/// Wycheproof's 151. Both verifiers judge each alike, alone and in each place where signatures occur.
/// </summary>
public sealed class VectorsTests : IDisposable
{
    private sealed record Vector(string Name, byte[] Key, byte[] Signature, byte[] Text, bool Good);

    private readonly string _folder = Directory.CreateTempSubdirectory("ministries-vectors-").FullName;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static List<Vector> Read([CallerFilePath] string here = "")
    {
        var folder = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../../../shared/vectors"));
        Assert.SkipUnless(Directory.Exists(folder), $"the published vectors are not at {folder}");
        using var cctv = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "cctv_ed25519.json")));
        string[] refused = ["low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R", "low_order_residue"];
        var vectors = cctv
            .RootElement.EnumerateArray()
            .Select(v => new Vector(
                $"cctv {v.GetProperty("number")}",
                Hex(v, "key"),
                Hex(v, "sig"),
                Encoding.UTF8.GetBytes(v.GetProperty("msg").GetString()!),
                v.GetProperty("flags") is not { ValueKind: JsonValueKind.Array } flags
                    || !flags.EnumerateArray().Any(f => refused.Contains(f.GetString()))
            ))
            .ToList();
        Assert.Equal(914, vectors.Count);
        using var wycheproof = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "wycheproof_ed25519.json")));
        vectors.AddRange(
            from g in wycheproof.RootElement.GetProperty("testGroups").EnumerateArray()
            from t in g.GetProperty("tests").EnumerateArray()
            select new Vector(
                $"wycheproof {t.GetProperty("tcId")}",
                Hex(g.GetProperty("publicKey"), "pk"),
                Hex(t, "sig"),
                Hex(t, "msg"),
                t.GetProperty("result").GetString() == "valid"
            )
        );
        Assert.Equal(914 + 151, vectors.Count);
        return vectors;

        static byte[] Hex(JsonElement of, string name) => Convert.FromHexString(of.GetProperty(name).GetString()!);
    }

    [Fact]
    public async Task Each_vector_is_judged_alike_and_as_the_profile_says()
    {
        var vectors = Read();
        var first = new FirstVerifier();
        await using var second = new SecondVerifier();
        // The other verifier splits key and signature by their lengths. Both refuse a signature of another length before that.
        var whole = vectors.Where(v => v.Signature.Length == 64).ToList();
        Assert.All(vectors.Except(whole), v => Assert.False(v.Good || StrictEd25519.Verifies(v.Key, v.Text, v.Signature), v.Name));
        var differences = await first.Compare(
            second,
            [.. whole.Select(v => ('e', (byte[])[.. v.Key, .. v.Signature, .. v.Text], v.Name))],
            Cancel
        );
        Assert.True(differences.Count == 0, string.Join('\n', differences));
        Assert.All(vectors, v => Assert.True(v.Good == StrictEd25519.Verifies(v.Key, v.Text, v.Signature), v.Name));
        Assert.Equal(43, vectors.Count(v => v.Good && v.Name.StartsWith("cctv", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task In_every_place_of_a_signature_each_vector_is_judged_alike()
    {
        var vectors = Read();
        Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System);
        var agreement = JsonParser.Default.Parse<Agreement>(await File.ReadAllTextAsync(Path.Combine(_folder, "agreement.json"), Cancel));
        var now = DateTimeOffset.UtcNow;
        var questions = new List<(char, byte[], string)>();
        var (listings, weak) = (new Dictionary<(string Key, SigningKeyUse Use), string>(), new HashSet<(string Key, SigningKeyUse Use)>());
        foreach (
            var vector in vectors
                .Where(v => v.Signature.Length <= 64)
                .DistinctBy(v => (Convert.ToHexString(v.Key), Convert.ToHexString(v.Signature)))
        )
        foreach (var (place, kind, use, question) in Places(vector, now))
        {
            var listing = (Convert.ToHexString(vector.Key), use);
            if (!listings.TryGetValue(listing, out var text))
            {
                var (listed, id, owner) = Listing(agreement, vector.Key, use);
                listings[listing] = text = listed.ToByteString().ToBase64();
                if (AgreementVersions.Check(null, listed, now) is { } fault)
                {
                    // The fault names the key and says that it is weak.
                    Assert.Equal(AgreementWrong.KeyWeak, fault.Wrong);
                    Assert.Contains(id, fault.ToString());
                    Assert.Equal([owner], fault.Suppliers);
                    weak.Add(listing);
                }
                else
                    Assert.True(StrictEd25519.IsKey(vector.Key));
                questions.Add(
                    (
                        'a',
                        FirstVerifier.Json(new[] { new { agreement = text, time = $"{now.ToUnixTimeSeconds() + 1}" } }),
                        $"{vector.Name} for {use}"
                    )
                );
            }
            questions.Add((kind, Json(question, text), $"{vector.Name} {place}"));
        }
        Assert.True(weak.Select(w => w.Key).Distinct().Count() >= 14, $"{weak.Count} weak keys");
        var first = new FirstVerifier { Adopted = now.AddSeconds(1) };
        await using var second = new SecondVerifier();
        var differences = await first.Compare(second, questions, Cancel);
        Assert.True(differences.Count == 0, string.Join('\n', differences.Take(10)));
        // Versions with good keys are accepted; nothing was signed with these keys.
        Assert.Equal(listings.Count - weak.Count, first.Holding);
    }

    private static byte[] Json(Dictionary<string, string> question, string agreement) =>
        FirstVerifier.Json(new Dictionary<string, string>(question) { ["agreement"] = agreement });

    // The agreement with the vector's key in one use only, because no key may be listed twice, signed by all.
    private (Agreement Listed, string KeyId, string Owner) Listing(Agreement agreement, byte[] key, SigningKeyUse use)
    {
        var listed = agreement.Clone();
        listed.Signatures.Clear();
        var owner = use == SigningKeyUse.Checkpoints ? "service/calllog" : "kr/mfa";
        var changed = listed.Participants.Single(p => p.Id == owner).SigningKeys.First(k => k.Use == use);
        changed.PublicKey = ByteString.CopyFrom(key);
        foreach (var participant in listed.Participants.Where(AgreementVersions.Signs).ToList())
            Pki.Sign(null, listed, participant.Id, Path.Combine(_folder, participant.Id, "agreements.key"));
        return (listed, changed.Id, owner);
    }

    private static IEnumerable<(string Place, char Kind, SigningKeyUse Use, Dictionary<string, string> Question)> Places(
        Vector vector,
        DateTimeOffset now
    )
    {
        const string domain = "ministries.example",
            log = $"{domain}/calllog",
            witness = $"{domain}/witness/kr/mfa",
            method = "ministries.calllog.v1.CallLogService/LogCall";
        string Base64(params ReadOnlySpan<byte> bytes) => Convert.ToBase64String(bytes);
        byte[] Id(string name, byte type) =>
            System.Security.Cryptography.SHA256.HashData([.. Encoding.UTF8.GetBytes(name), (byte)'\n', type, .. vector.Key])[..4];

        // As the signature of a request, and as an approval in it.
        var header = new EntryHeader
        {
            Position = 1,
            CommitTime = now.ToTimestamp(),
            Participant = "kr/mfa",
            RequestId = "request-1",
            Method = method,
            AgreementVersion = 1,
        };
        var request = new Evidence.V1.SignedFields { RequestId = "request-1" };
        yield return ("as the signature of a request", 's', SigningKeyUse.Requests, Signed(request, header, vector, now));
        request.Approvals.Add(
            new Approval
            {
                Official = "kr-mfa-official-1",
                Office = "legal",
                KeyId = "kr/mfa/approvals-1",
                Signature = ByteString.CopyFrom(vector.Signature),
            }
        );
        yield return ("as an approval", 's', SigningKeyUse.Approvals, Signed(request, header, vector, now));

        var text = $"{log}\n1\n{Base64(new byte[32])}\n";
        yield return (
            "on a checkpoint",
            'n',
            SigningKeyUse.Checkpoints,
            new() { ["note"] = $"{text}\n— {log} {Base64([.. Id(log, 1), .. vector.Signature])}\n", ["service"] = "calllog" }
        );
        yield return (
            "as a cosignature",
            'n',
            SigningKeyUse.Cosignatures,
            new()
            {
                ["note"] = $"{text}\n— {witness} {Base64([.. Id(witness, 4), 0, 0, 0, 0, 0x65, 0, 0, 0, .. vector.Signature])}\n",
                ["service"] = "calllog",
            }
        );
    }

    // A question about a request that the vector's signature signs.
    private static Dictionary<string, string> Signed(Evidence.V1.SignedFields fields, EntryHeader header, Vector vector, DateTimeOffset now)
    {
        var bytes = fields.ToByteArray();
        var input =
            "sig1=(\"@method\" \"@path\" \"@authority\" \"content-type\" \"content-digest\")"
            + $";created={now.ToUnixTimeSeconds()};expires={now.ToUnixTimeSeconds() + 60};keyid=\"kr/mfa/requests-1\";nonce=\"request-1\";tag=\"ministries/ministries.example/calllog\"";
        var signature = new RequestSignature
        {
            Authority = "calllog:7100",
            ContentType = "application/grpc",
            ContentDigest = HttpSignature.ContentDigestOfFrame(bytes),
            SignatureInput = input,
            Signature = $"sig1=:{Convert.ToBase64String(vector.Signature)}:",
        };
        return new()
        {
            ["header"] = header.ToByteString().ToBase64(),
            ["request"] = Convert.ToBase64String(bytes),
            ["signature"] = signature.ToByteString().ToBase64(),
            ["service"] = "calllog",
        };
    }

    [Fact]
    public void A_signature_that_anybody_can_make_for_a_weak_key_holds_nowhere()
    {
        // The neutral element as key and as R, and zero as S: the equation holds for every text.
        byte[] neutral = [1, .. new byte[31]],
            signature = [.. neutral, .. new byte[32]];
        Assert.False(StrictEd25519.IsKey(neutral));
        Assert.False(StrictEd25519.Verifies(neutral, "any text"u8, signature));
        var key = CheckpointKey.FromPublic("ministries.example/calllog", neutral);
        var id = Convert.FromHexString(key.Verifier.Split('+')[1]);
        Assert.Null(
            key.Verify(
                $"ministries.example/calllog\n0\n{Convert.ToBase64String(new byte[32])}\n\n— ministries.example/calllog "
                    + $"{Convert.ToBase64String([.. id, .. signature])}\n"
            )
        );
        // The order of the base point added to S: the equation holds as before.
        using var good = Key.Create(SignatureAlgorithm.Ed25519);
        var made = SignatureAlgorithm.Ed25519.Sign(good, "text"u8);
        var raw = good.PublicKey.Export(KeyBlobFormat.RawPublicKey);
        Assert.True(StrictEd25519.Verifies(raw, "text"u8, made));
        var order = (System.Numerics.BigInteger.One << 252) + System.Numerics.BigInteger.Parse("27742317777372353535851937790883648493");
        var other = (new System.Numerics.BigInteger(made.AsSpan(32), isUnsigned: true) + order).ToByteArray(isUnsigned: true);
        Assert.False(StrictEd25519.Verifies(raw, "text"u8, [.. made[..32], .. other, .. new byte[32 - other.Length]]));
    }

    /// <summary>A second place that verifies signatures could accept other ones.</summary>
    [Fact]
    public void Nothing_else_verifies_a_signature_of_Ed25519()
    {
        var callers = new List<string>();
        var folder = Path.GetDirectoryName(typeof(VectorsTests).Assembly.Location)!;
        var own = Directory
            .GetFiles(folder, "*.dll")
            .Where(f =>
                Path.GetFileName(f) is var name
                && (name.StartsWith("Ministries.", StringComparison.Ordinal) || name == "ministry.dll")
                && !name.EndsWith(".Tests.dll", StringComparison.Ordinal)
                && name != "Ministries.Fixtures.dll"
            )
            .ToList();
        Assert.Contains(own, f => f.EndsWith("Ministries.Hosting.dll", StringComparison.Ordinal));
        foreach (var file in own)
        {
            using var stream = File.OpenRead(file);
            using var executable = new PEReader(stream);
            var metadata = executable.GetMetadataReader();
            var verify = metadata
                .MemberReferences.Where(h => IsVerify(metadata, metadata.GetMemberReference(h)))
                .Select(h => System.Reflection.Metadata.Ecma335.MetadataTokens.GetToken(h))
                .ToList();
            if (verify.Count == 0)
                continue;
            foreach (
                var method in metadata.MethodDefinitions.Select(metadata.GetMethodDefinition).Where(m => m.RelativeVirtualAddress != 0)
            )
            {
                var code = executable.GetMethodBody(method.RelativeVirtualAddress).GetILBytes() ?? [];
                if (verify.Any(token => code.AsSpan().IndexOf(BitConverter.GetBytes(token)) >= 0))
                    callers.Add(
                        $"{metadata.GetString(metadata.GetTypeDefinition(method.GetDeclaringType()).Name)}.{metadata.GetString(method.Name)}"
                    );
            }
        }
        Assert.Equal(["StrictEd25519.Verifies"], callers);

        static bool IsVerify(MetadataReader metadata, MemberReference member) =>
            metadata.GetString(member.Name) is "Verify" or "VerifyData" or "TryVerify"
            && member.Parent.Kind == HandleKind.TypeReference
            && metadata.GetTypeReference((TypeReferenceHandle)member.Parent) is var type
            && metadata.GetString(type.Namespace) == "NSec.Cryptography";
    }
}
