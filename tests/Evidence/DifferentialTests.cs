using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Client;
using Ministries.Evidence.V1;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Evidence.Tests;

/// <summary>
/// If two verifiers differ, a participant can attack: it writes something that the service accepts and one verifier refuses, and no later
/// export of the case can be verified. So both are asked the same 20,000 questions, in all forms that are known to be read in two ways, and
/// must give the same answers. The edge is asked about the writes among them: what it accepts, both verifiers must accept.
/// <c>MINISTRIES_SEED</c> repeats the same questions.
/// </summary>
public sealed class DifferentialTests(CaseFiles files, ITestOutputHelper output)
{
    private const string Method = "ministries.calllog.v1.CallLogService/LogCall";
    private const string Seoul = "kr/mfa";

    private static readonly int Seed = int.TryParse(
        Environment.GetEnvironmentVariable("MINISTRIES_SEED"),
        CultureInfo.InvariantCulture,
        out var seed
    )
        ? seed
        : RandomNumberGenerator.GetInt32(int.MaxValue);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private readonly List<(char Kind, byte[] Asked, string What)> _questions = [];
    private readonly Agreement _agreement = JsonParser.Default.Parse<Agreement>(
        File.ReadAllText(Path.Combine(files.Certificates, "agreement.json"))
    );
    private readonly Dictionary<string, Key> _keys = [];

    private Key KeyOf(string file)
    {
        if (!_keys.TryGetValue(file, out var key))
            _keys[file] = key = Fixtures.Signing.KeyIn(Path.Combine(files.Certificates, file));
        return key;
    }

    private static byte[] Sign(Key key, byte[] text) => SignatureAlgorithm.Ed25519.Sign(key, text);

    [Theory]
    [InlineData("signature fields", 8_000), InlineData("checkpoints", 5_000), InlineData("versions of the agreement", 2_500)]
    [InlineData("a reader's agreement", 1_500), InlineData("files", 3_000)]
    public async Task Both_verifiers_answer_the_same(string what, int count)
    {
        // Each kind has its own sequence, so that one kind can be repeated alone.
        var mutator = new Mutator(new Random(Seed ^ count));
        output.WriteLine($"MINISTRIES_SEED={Seed}");
        _questions.Add(('v', _agreement.ToByteArray(), "the agreement"));
        var small = what == "files" ? new[] { OfOneRequest(), OfOneLog() } : [];
        Action<Mutator> ask = what switch
        {
            "signature fields" => SignatureFields,
            "checkpoints" => Checkpoint,
            "versions of the agreement" => Versions,
            "a reader's agreement" => OwnAgreement,
            _ => m => AFile(m, m.Of(small)),
        };
        while (_questions.Count <= count)
            ask(mutator);
        var first = new FirstVerifier { Adopted = DateTimeOffset.UtcNow };
        await using var second = new SecondVerifier();
        var differences = await first.Compare(second, _questions, Cancel);
        output.WriteLine($"{_questions.Count} questions about {what}, {first.Holding} of them hold, the edge accepts {first.Accepted}");
        // If hardly any question were answered with yes, the later checks would never be reached.
        Assert.True(first.Holding > count / 50, $"of {count} only {first.Holding} hold");
        Assert.True(what != "signature fields" || first.Accepted > count / 50, $"of {count} the edge accepts only {first.Accepted}");
        Assert.True(
            differences.Count == 0,
            $"MINISTRIES_SEED={Seed}: {differences.Count} differences\n{string.Join('\n', differences.Take(12))}"
        );
    }

    // ---- a request's signature and approvals -----------------------------------------------------------------------------------

    private void SignatureFields(Mutator m)
    {
        var commit = DateTimeOffset.UtcNow;
        var (requestId, service) = ($"request-{m.Id()}", m.Chance(0.95) ? "calllog" : "custody");
        var request = Request(m, requestId);
        var created = commit.ToUnixTimeSeconds() + (m.Chance(0.9) ? -1 : m.Next(120) - 100);
        var expires = created + (m.Chance(0.9) ? 120 : m.Next(700) - 100);
        var parameters =
            "(\"@method\" \"@path\" \"@authority\" \"content-type\" \"content-digest\")"
            + $";created={created};expires={expires};keyid=\"{m.Of($"{Seoul}/requests-1", $"{Seoul}/requests-1", $"{Seoul}/requests-1", "ua/mfa/requests-1", $"{Seoul}/agreements-1")}\""
            + $";nonce=\"{(m.Chance(0.95) ? requestId : "other")}\";tag=\"{HttpSignature.TagOf(_agreement.TrustDomain, "calllog")}\"";
        if (m.Chance(0.35))
            parameters = m.Text(parameters);
        else if (m.Chance(0.2))
            parameters = Reordered(m, parameters);
        var type = m.Chance(0.85)
            ? "application/grpc"
            : m.Of("application/grpc+proto", "application/grpc; a=b", "Application/gRPC", "", m.Text("application/grpc"));
        var authority = m.Chance(0.85) ? "127.0.0.1:7101" : m.Of("[::1]:443", "HOST:1", "", m.Text("calllog.example:7101"));
        var digest = HttpSignature.ContentDigestOfFrame(request);
        if (m.Chance(0.05))
            digest = m.Text(digest);
        var text =
            $"\"@method\": POST\n\"@path\": /{Method}\n\"@authority\": {authority}\n\"content-type\": {type}\n\"content-digest\": {digest}\n"
            + $"\"@signature-params\": {parameters}";
        // Libraries write characters beyond ASCII as UTF-8, Latin-1 or question marks.
        var bytes = Sign(KeyOf($"{Seoul}/requests.key"), m.Of(Encoding.UTF8, Encoding.Latin1, Encoding.ASCII).GetBytes(text));
        var (input, signature) = ($"sig1={parameters}", $"sig1=:{Convert.ToBase64String(bytes)}:");
        if (m.Chance(0.1))
            (input, signature) = (input.Replace("sig1", "sig2"), signature.Replace("sig1", "sig2"));
        if (m.Chance(0.2))
            signature = m.Text(signature);
        if (m.Chance(0.05))
            input = m.Text(input);
        var kept = new RequestSignature
        {
            Authority = authority,
            ContentType = type,
            ContentDigest = digest,
            SignatureInput = input,
            Signature = signature,
        }.ToByteArray();
        if (m.Chance(0.1))
            kept = m.Wire(kept);
        var header = HeaderOf(m.Chance(0.97) ? Seoul : "ua/mfa", requestId, Method, commit);
        AskAboutSignature(header, request, kept, service, $"{input} | {signature} | {type} | {authority}");
    }

    private EntryHeader HeaderOf(string participant, string requestId, string method, DateTimeOffset commit) =>
        new()
        {
            Position = 5,
            CommitTime = commit.ToTimestamp(),
            Participant = participant,
            RequestId = requestId,
            Method = method,
            AgreementVersion = _agreement.Version,
        };

    private void AskAboutSignature(EntryHeader header, byte[] request, byte[] signature, string service, string what) =>
        _questions.Add(
            (
                's',
                FirstVerifier.Json(
                    new
                    {
                        header = header.ToByteString().ToBase64(),
                        request = Convert.ToBase64String(request),
                        signature = Convert.ToBase64String(signature),
                        service,
                    }
                ),
                what
            )
        );

    [Fact]
    public async Task A_write_that_has_something_else_where_others_have_their_actor_is_judged_by_its_signature()
    {
        const string method = "ministries.operations.v1.OperationsService/ReplayDeadLetter";
        var (commit, id) = (DateTimeOffset.UtcNow, Guid.NewGuid().ToString());
        var request = new Operations.V1.ReplayDeadLetterRequest { RequestId = id, Id = "calllog/12/0" }.ToByteArray();
        var values = new Dictionary<string, string>
        {
            ["@method"] = "POST",
            ["@path"] = $"/{method}",
            ["@authority"] = "hub:1",
            ["content-type"] = "application/grpc",
            ["content-digest"] = HttpSignature.ContentDigestOfFrame(request),
        };
        var (input, signature) = HttpSignature.Sign(
            KeyOf("operator/requests.key"),
            "operator/requests-1",
            id,
            commit,
            TimeSpan.FromMinutes(1),
            HttpSignature.TagOf(_agreement.TrustDomain, "calllog"),
            values
        );
        var kept = new RequestSignature
        {
            Authority = "hub:1",
            ContentType = "application/grpc",
            ContentDigest = values["content-digest"],
            SignatureInput = input,
            Signature = signature,
        };
        _questions.Add(('v', _agreement.ToByteArray(), "the agreement"));
        AskAboutSignature(HeaderOf("operator", id, method, commit), request, kept.ToByteArray(), "calllog", "a replay");
        var first = new FirstVerifier { Adopted = commit.AddMinutes(-1) };
        await using var second = new SecondVerifier();
        Assert.Empty(await first.Compare(second, _questions, Cancel));
        Assert.Equal((_questions.Count, 1), (first.Holding, first.Accepted));
    }

    private static string Reordered(Mutator m, string parameters)
    {
        var parts = parameters.Split(';').ToList();
        var moved = parts[m.Next(parts.Count - 1) + 1];
        if (m.Chance(0.7))
            parts.Remove(moved);
        parts.Insert(m.Next(parts.Count) + 1, m.Of(moved, moved, "alg=\"ed25519\"", "alg=\"rsa\"", "x=1", "created=\"1\""));
        return string.Join(';', parts);
    }

    private byte[] Request(Mutator m, string requestId)
    {
        var content = new SignedFields { RequestId = requestId }.ToByteArray();
        // Field 10, which the verifiers do not know.
        content = [.. content, 0x52, 2, 0x41, 0x42];
        if (m.Chance(0.15))
            content = m.Wire(content);
        var approvals = new List<byte>();
        for (var number = m.Of(0, 0, 1, 2); number > 0; number--)
        {
            var official = Pki.OfficialOf(Seoul, number);
            var approval = new Approval
            {
                Official = official,
                Office = m.Of("legal", "", "Amt\n1", "e\u0301"),
                KeyId = KeyIdOf(official),
            };
            var digest = SHA256.HashData(Without(content));
            var lines =
                $"ministries.approval.v1\n{Seoul}\n{_agreement.TrustDomain}/{m.Of("calllog", "calllog", "calllog", "custody")}\n{Method}\n"
                + $"{Convert.ToBase64String(digest)}\n{official}\n{approval.Office}\n";
            approval.Signature = ByteString.CopyFrom(Sign(KeyOf($"{Seoul}/officials/{official}.key"), Encoding.UTF8.GetBytes(lines)));
            if (m.Chance(0.1))
                m.Field(approval);
            var bytes = approval.ToByteArray();
            if (m.Chance(0.1))
                bytes = m.Wire(bytes);
            if (bytes.Length is > 0 and < 16_384)
                approvals.AddRange([0x22, (byte)(bytes.Length & 0x7f | 0x80), (byte)(bytes.Length >> 7), .. bytes]);
        }
        return m.Chance(0.5) ? [.. content, .. approvals] : [.. approvals, .. content];
    }

    private static byte[] Without(byte[] message)
    {
        try
        {
            return WireWalk.Without(message, Approvals.Field);
        }
        catch (FormatException)
        {
            return message;
        }
    }

    private string KeyIdOf(string official) => _agreement.Participants.SelectMany(p => p.SigningKeys).First(k => k.Official == official).Id;

    // ---- a checkpoint ----------------------------------------------------------------------------------------------------------

    private void Checkpoint(Mutator m)
    {
        var origin = $"{_agreement.TrustDomain}/calllog";
        var text =
            $"{(m.Chance(0.95) ? origin : $"{_agreement.TrustDomain}/custody")}\n{m.Of("0", "1", "1234", "18446744073709551615")}\n{Convert.ToBase64String(m.Bytes(32))}\n";
        if (m.Chance(0.3))
            text = m.Text(text);
        if (m.Chance(0.1))
            text += m.Of("extension\n", "\n", " \n", "é\n");
        var lines = new List<string> { Line(m, origin, 1, "service/calllog/checkpoint.key", text, null) };
        for (var more = m.Of(0, 1, 1, 2, 3); more > 0; more--)
            lines.Add(
                m.Next(8) switch
                {
                    0 => Line(m, origin, 1, "service/calllog/checkpoint.key", text, null),
                    1 => Line(m, origin, 1, "service/custody/checkpoint.key", text, null),
                    2 =>
                        $"— {m.Of("other.example/log", "na+me", "na\u0085me", "na\ufeffme", "é", new string('x', 257), "x")} {m.Of("AAAAAAA=", "AAAAAAB=", "AAAA", Convert.ToBase64String(m.Bytes(68)))}\n",
                    var n => Line(
                        m,
                        $"{_agreement.TrustDomain}/witness/{m.Of(Seoul, "icrc")}",
                        4,
                        $"{m.Of(Seoul, "icrc")}/cosignatures.key",
                        text,
                        m.Chance(0.8)
                            ? (ulong)DateTimeOffset.UtcNow.ToUnixTimeSeconds()
                            : m.Of<ulong>(0, 1, 253_370_764_799, 253_370_764_800, 253_402_300_799, 253_402_300_800, ulong.MaxValue)
                    ),
                }
            );
        var note = $"{text}\n{string.Concat(lines)}";
        if (m.Chance(0.3))
            note = m.Text(note);
        _questions.Add(('n', FirstVerifier.Json(new { note, service = "calllog" }), note));
    }

    private string Line(Mutator m, string name, byte type, string file, string text, ulong? time)
    {
        var key = KeyOf(file);
        var id = SHA256.HashData([.. Encoding.UTF8.GetBytes(name), (byte)'\n', type, .. key.PublicKey.Export(KeyBlobFormat.RawPublicKey)])[
            ..4
        ];
        byte[] stamp = [];
        if (time is { } seconds)
        {
            stamp = new byte[8];
            System.Buffers.Binary.BinaryPrimitives.WriteUInt64BigEndian(stamp, seconds);
        }
        var signed = time is null ? text : $"cosignature/v1\ntime {time}\n{text}";
        var encoded = Convert.ToBase64String([.. id, .. stamp, .. Sign(key, Encoding.UTF8.GetBytes(signed))]);
        var line = $"— {name} {(m.Chance(0.05) ? m.Text(encoded) : encoded)}\n";
        return m.Chance(0.05) ? m.Text(line) : line;
    }

    // ---- versions of the agreement ---------------------------------------------------------------------------------------------

    private void Versions(Mutator m)
    {
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        var next = _agreement.Clone();
        for (var changes = m.Of(0, 1, 1, 2); changes > 0; changes--)
            m.Field(m.Chance(0.5) ? next : m.Of(next.Participants.AsEnumerable().ToList()));
        var follows = m.Chance(0.7);
        if (follows)
            AgreementVersions.Follow(_agreement, next);
        else
            next.Signatures.Clear();
        if (m.Chance(0.1))
            m.Field(next);
        foreach (var participant in _agreement.Participants.Where(AgreementVersions.Signs).Select(p => p.Id))
            if (m.Chance(0.9))
                AgreementVersions.Sign(next, participant, $"{participant}/agreements-1", KeyOf($"{participant}/agreements.key"));
        if (m.Chance(0.1) && next.Signatures.Count > 0)
            m.Field(m.Of(next.Signatures.AsEnumerable().ToList()));
        var bytes = next.ToByteArray();
        if (m.Chance(0.15))
            bytes = m.Wire(bytes);
        var time = m.Chance(0.9) ? now : m.Of<long>(0, 1, 253_370_764_799);
        object last = new { agreement = Convert.ToBase64String(bytes), time = time.ToString(CultureInfo.InvariantCulture) };
        object first = new { agreement = _agreement.ToByteString().ToBase64(), time = now.ToString(CultureInfo.InvariantCulture) };
        _questions.Add(
            (
                'a',
                FirstVerifier.Json(follows ? new[] { first, last } : [last]),
                string.Join("; ", AgreementVersions.Between(_agreement, next).Select(c => c.What))
            )
        );
    }

    private void OwnAgreement(Mutator m)
    {
        var agreement = _agreement.Clone();
        if (m.Chance(0.3))
            m.Field(agreement);
        string text;
        try
        {
            text = new JsonFormatter(m.Of(JsonFormatter.Settings.Default, JsonFormatter.Settings.Default.WithIndentation())).Format(
                agreement
            );
        }
        // An invalid time cannot be written as JSON.
        catch (InvalidOperationException)
        {
            return;
        }
        if (m.Chance(0.8))
            text = m.Chance(0.7) ? m.Json(text) : m.Text(text);
        var bytes = Mutator.Utf8(text);
        if (m.Chance(0.05))
            bytes[m.Next(bytes.Length)] ^= 0x80;
        _questions.Add(('o', bytes, "a reader's agreement"));
    }

    // ---- files -----------------------------------------------------------------------------------------------------------------

    // A file of one of Seoul's own requests: the versions of the agreement, the request, its receipt.
    private List<EvidenceLine> OfOneRequest()
    {
        var lines = CaseFiles.LinesOf(files.Of(Seoul));
        var log = lines.FindIndex(l => l.Log is not null);
        var kept = new List<EvidenceLine> { lines[0].Clone(), lines[log] };
        for (var i = log + 1; lines[i].Entry is { } entry; i++)
        {
            var header = EntryHeader.Parser.ParseFrom(entry.Header);
            var own = kept[0].Head.RequestId.Length == 0 && header.Participant == Seoul && entry.Receipt is not null;
            if (own)
                (kept[0].Head.Case, kept[0].Head.RequestId) = ("", header.RequestId);
            if (own || header.Method == AgreementVersions.Method)
                kept.Add(lines[i]);
        }
        kept.Add(lines[^1]);
        return Whole(kept);
    }

    // The lines of a case's file that belong to its shortest log.
    private List<EvidenceLine> OfOneLog()
    {
        var lines = CaseFiles.LinesOf(files.Of(Seoul));
        var shortest = lines
            .Index()
            .Where(l => l.Item.Log is not null)
            .Select(l => (l.Index, Count: lines.Skip(l.Index + 1).TakeWhile(e => e.Entry is not null).Count()))
            .MinBy(l => l.Count);
        return Whole([lines[0], .. lines.Skip(shortest.Index).Take(shortest.Count + 1), lines[^1]]);
    }

    private List<EvidenceLine> Whole(List<EvidenceLine> lines)
    {
        var verified = EvidenceVerification.Verify(Sealed([.. lines.SkipLast(1).Select(EvidenceFile.Write)], lines[^1].End, e => e)).Break;
        Assert.True(verified is null, verified?.ToString());
        return lines;
    }

    private void AFile(Mutator m, List<EvidenceLine> lines)
    {
        var texts = lines.SkipLast(1).Select(EvidenceFile.Write).ToList();
        var at = m.Next(texts.Count);
        var what = m.Next(10);
        byte[] file;
        switch (what)
        {
            case 0:
                file = Sealed(texts, lines[^1].End, e => e);
                for (var flips = m.Of(0, 1, 1, 2); flips > 0; flips--)
                    file[m.Next(file.Length)] ^= (byte)(1 << m.Next(8));
                break;
            case 1:
                file = Encoding.UTF8.GetBytes(m.Text(Encoding.UTF8.GetString(Sealed(texts, lines[^1].End, e => e))));
                break;
            case 2:
                (texts[at], var other) = (texts[m.Next(texts.Count)], texts[at]);
                if (m.Chance(0.5))
                    texts.Insert(m.Next(texts.Count + 1), m.Of(other, "", "{}", "null", "[]", "\"x\""));
                file = Sealed(texts, lines[^1].End, e => e);
                break;
            case 3:
                file = Sealed(
                    texts,
                    lines[^1].End,
                    e =>
                    {
                        if (m.Chance(0.8))
                            m.Field(e);
                        return e;
                    }
                );
                break;
            case 4:
                texts[at] = m.Text(texts[at]);
                file = Sealed(texts, lines[^1].End, e => e);
                break;
            case 5 or 6:
                texts[at] = m.Json(texts[at]);
                file = Sealed(texts, lines[^1].End, e => e);
                break;
            default:
                var changed = lines[at].Clone();
                try
                {
                    for (var changes = m.Of(1, 1, 2); changes > 0; changes--)
                        Change(m, changed);
                    texts[at] = EvidenceFile.Write(changed);
                }
                // An invalid time cannot be written as JSON, and a changed header may be unreadable.
                catch (Exception e) when (e is InvalidOperationException or InvalidProtocolBufferException)
                {
                    return;
                }
                file = Sealed(texts, lines[^1].End, e => e);
                break;
        }
        _questions.Add(('f', file, $"change {what} of line {at + 1}"));
    }

    private static void Change(Mutator m, EvidenceLine line)
    {
        if (line.Entry is not { } entry)
            m.Field(line);
        else if (m.Chance(0.4))
            m.Field(entry);
        else if (m.Chance(0.5))
        {
            // Changes the header: other bytes or other content.
            var header = EntryHeader.Parser.ParseFrom(entry.Header);
            m.Field(header);
            entry.Header = ByteString.CopyFrom(m.Chance(0.3) ? m.Wire(entry.Header.ToByteArray()) : header.ToByteArray());
        }
        else if (entry.Parts.Count > 0)
            m.Field(m.Of(entry.Parts.AsEnumerable().ToList()));
    }

    private byte[] Sealed(List<string> texts, EvidenceEnd last, Func<EvidenceEnd, EvidenceEnd> change)
    {
        var end = last.Clone();
        end.Lines.Clear();
        end.Lines.AddRange(texts.Select(t => ByteString.CopyFrom(SHA256.HashData(Encoding.UTF8.GetBytes(t)))));
        end.Signature = ByteString.CopyFrom(Sign(KeyOf($"{Seoul}/requests.key"), EvidenceFile.TextOf(end)));
        end = change(end);
        return Encoding.UTF8.GetBytes(
            string.Concat(texts.Append(EvidenceFile.Write(new EvidenceLine { End = end })).Select(t => t + "\n"))
        );
    }
}
