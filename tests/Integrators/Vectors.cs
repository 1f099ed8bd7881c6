using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Ministries.Sealing;
using Ministries.Trust;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Integrators.Tests;

/// <summary>Makes <c>protos/vectors.json</c>. The tree is made here from RFC 6962 and not with the services' code, so that the services'
/// code can judge it.</summary>
internal static class Vectors
{
    private const string TrustDomain = "ministries.example",
        Origin = $"{TrustDomain}/calllog",
        Method = "ministries.calllog.v1.CallLogService/LogCall",
        RequestId = "0195a2f0-5c00-7000-8000-000000000001",
        RequestsKey = "kr/mfa/requests-1",
        ApprovalsKey = "kr/mfa/approvals-1",
        CheckpointKey = "service/calllog/checkpoint-1",
        Approver = "kr-mfa-official-2";

    private const ulong Position = 4;

    // 17 March 2025, 08:00 UTC.
    private static readonly DateTimeOffset Created = DateTimeOffset.FromUnixTimeSeconds(1742198400);

    // The seed of a private key that everybody knows, and that nobody can mistake for a secret.
    private static byte[] SeedOf(string id) => SHA256.HashData(Encoding.UTF8.GetBytes($"ministries vectors: {id}"));

    private static Key KeyOf(string id) =>
        Key.Import(
            SignatureAlgorithm.Ed25519,
            SeedOf(id),
            KeyBlobFormat.RawPrivateKey,
            new KeyCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextArchiving }
        );

    /// <summary>The vectors.</summary>
    public static JsonObject Make()
    {
        using var requests = KeyOf(RequestsKey);
        using var approvals = KeyOf(ApprovalsKey);
        using var checkpoints = KeyOf(CheckpointKey);
        var request = Request();
        return new JsonObject
        {
            ["about"] =
                "Test vectors of README.md. The private keys are published on purpose: each seed is the SHA-256 of "
                + "\"ministries vectors: \" and the key's id. Bytes are Base64.",
            ["keys"] = new JsonArray(KeyJson(RequestsKey, requests), KeyJson(ApprovalsKey, approvals), KeyJson(CheckpointKey, checkpoints)),
            ["sealing_key"] = SealingKeyJson("kr/mfa/sealing-1"),
            ["agreement"] = new JsonObject
            {
                ["trustDomain"] = TrustDomain,
                ["participants"] = new JsonArray(
                    Participant(
                        "kr/mfa",
                        "PARTICIPANT_KIND_MINISTRY",
                        Listed(RequestsKey, "SIGNING_KEY_USE_REQUESTS", requests),
                        Listed(ApprovalsKey, "SIGNING_KEY_USE_APPROVALS", approvals, Approver)
                    ),
                    Participant(
                        "service/calllog",
                        "PARTICIPANT_KIND_SERVICE",
                        Listed(CheckpointKey, "SIGNING_KEY_USE_CHECKPOINTS", checkpoints)
                    )
                ),
            },
            ["signatures"] = new JsonArray([.. HttpSignature.ContentTypes.Select(type => SignatureJson(request, type, requests))]),
            ["approval"] = ApprovalJson(request, approvals),
            ["receipt"] = ReceiptJson(request, checkpoints),
        };
    }

    private static JsonObject KeyJson(string id, Key key) =>
        new()
        {
            ["id"] = id,
            ["seed"] = Convert.ToBase64String(SeedOf(id)),
            ["pem"] = Encoding.ASCII.GetString(key.Export(KeyBlobFormat.PkixPrivateKeyText)).ReplaceLineEndings("\n"),
            ["public_key"] = PublicOf(key),
        };

    private static JsonObject SealingKeyJson(string id)
    {
        using var key = SealingIdentity.FromSeed(id, SeedOf(id));
        return new JsonObject
        {
            ["id"] = id,
            ["seed"] = Convert.ToBase64String(SeedOf(id)),
            ["pem"] = PemEncoding.WriteString("X-WING PRIVATE KEY", SeedOf(id)) + "\n",
            ["public_key"] = Convert.ToBase64String(key.PublicKey.Bytes),
        };
    }

    private static string PublicOf(Key key) => Convert.ToBase64String(key.PublicKey.Export(KeyBlobFormat.RawPublicKey));

    private static JsonObject Participant(string id, string kind, params IEnumerable<JsonNode> keys) =>
        new()
        {
            ["id"] = id,
            ["kind"] = kind,
            ["signingKeys"] = new JsonArray([.. keys]),
        };

    private static JsonObject Listed(string id, string use, Key key, string? official = null)
    {
        var listed = new JsonObject
        {
            ["id"] = id,
            ["use"] = use,
            ["publicKey"] = PublicOf(key),
            ["validFromTime"] = "2025-01-01T00:00:00Z",
        };
        if (official is not null)
            listed["official"] = official;
        return listed;
    }

    private static LogCallRequest Request() =>
        new()
        {
            RequestId = RequestId,
            Actor = new Actor
            {
                Office = "consular-department",
                Official = "kr-mfa-official-1",
                Authority = "order-12",
            },
            Case = "case_01jpgw5w00000000000000000v",
            Counterpart = "ua/mfa",
            Account = new Account
            {
                StartTime = new ZonedTime { Time = Timestamp.FromDateTimeOffset(Created.AddHours(-7)), TimeZone = "Asia/Seoul" },
                Channel = CallLog.V1.Channel.Telephone,
                Attendees =
                {
                    new Attendee { Participant = "kr/mfa", Office = "minister" },
                },
                Subjects = { Subject.Citizenship },
            },
        };

    private static JsonObject SignatureJson(LogCallRequest request, string contentType, Key key)
    {
        var message = request.ToByteArray();
        byte[] frame = [0, 0, 0, 0, 0, .. message];
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(1), message.Length);
        var values = new Dictionary<string, string>
        {
            ["@method"] = "POST",
            ["@path"] = $"/{Method}",
            ["@authority"] = "calllog.example:7101",
            ["content-type"] = contentType,
            ["content-digest"] = HttpSignature.ContentDigest(frame),
        };
        var tag = HttpSignature.TagOf(TrustDomain, "calllog");
        var life = TimeSpan.FromMinutes(2);
        var (input, signature) = HttpSignature.Sign(key, RequestsKey, RequestId, Created, life, tag, values);
        return new JsonObject
        {
            ["request"] = Json(request),
            ["request_id"] = RequestId,
            ["request_bytes"] = Convert.ToBase64String(message),
            ["frame"] = Convert.ToBase64String(frame),
            ["created"] = Created.ToUnixTimeSeconds(),
            ["expires"] = (Created + life).ToUnixTimeSeconds(),
            ["key_id"] = RequestsKey,
            ["tag"] = tag,
            ["signature_base"] = Encoding.ASCII.GetString(
                HttpSignature.Base(
                    HttpSignature.Covered.Select(c => KeyValuePair.Create(c, values[c])),
                    input[(HttpSignature.Label.Length + 1)..]
                )
            ),
            ["headers"] = new JsonObject
            {
                [":method"] = "POST",
                [":path"] = values["@path"],
                [":authority"] = values["@authority"],
                ["content-type"] = contentType,
                ["content-digest"] = values["content-digest"],
                ["signature-input"] = input,
                ["signature"] = signature,
            },
        };
    }

    private static JsonObject ApprovalJson(LogCallRequest request, Key key)
    {
        const string office = "legal-department";
        var text = $"ministries.approval.v1\nkr/mfa\n{Origin}\n{Method}\n{Hash(request.ToByteArray()).ToBase64()}\n{Approver}\n{office}\n";
        var approved = request.Clone();
        approved.Approvals.Add(
            new Approval
            {
                Official = Approver,
                Office = office,
                KeyId = ApprovalsKey,
                Signature = ByteString.CopyFrom(SignatureAlgorithm.Ed25519.Sign(key, Encoding.UTF8.GetBytes(text))),
            }
        );
        return new JsonObject
        {
            ["text"] = text,
            ["approval"] = Json(approved.Approvals[0]),
            ["request_bytes"] = approved.ToByteString().ToBase64(),
        };
    }

    private static JsonObject ReceiptJson(LogCallRequest request, Key key)
    {
        // 32 bytes each that are random in a ledger.
        var salt = SHA256.HashData("ministries vectors: salt"u8);
        var answerSalt = SHA256.HashData("ministries vectors: salt of the answer"u8);
        var response = new LogCallResponse
        {
            Call = "call_01jpgw5w00000000000000000v",
            Etag = "etag",
            State = CallState.OneSided,
        };
        var answer = new Answer { Response = Any.Pack(response) }.ToByteArray();
        var header = new EntryHeader
        {
            Position = Position,
            CommitTime = Timestamp.FromDateTimeOffset(Created.AddSeconds(1)),
            Participant = "kr/mfa",
            RequestId = RequestId,
            Method = Method,
            AgreementVersion = 1,
            Parts =
            {
                new PartDigest { Kind = PartKind.Request, Digest = Hash(salt, request.ToByteArray()) },
                new PartDigest { Kind = PartKind.Answer, Digest = Hash(answerSalt, answer) },
            },
        };
        var records = Enumerable
            .Range(0, 7)
            .Select(i => i == (int)Position ? Hash(header.ToByteArray()) : Hash(Encoding.UTF8.GetBytes($"ministries vectors: entry {i}")))
            .ToList();
        var leaves = records.Select(r => Hash([0], r.ToByteArray())).ToArray();
        var text = $"{Origin}\n{leaves.Length}\n{Forgery.RootOf(leaves).ToBase64()}\n";
        var keyId = SHA256.HashData([.. Encoding.UTF8.GetBytes($"{Origin}\n\u0001"), .. key.PublicKey.Export(KeyBlobFormat.RawPublicKey)])[
            ..4
        ];
        var signature = SignatureAlgorithm.Ed25519.Sign(key, Encoding.UTF8.GetBytes(text));
        var receipt = new Receipt
        {
            Service = "calllog",
            Position = Position,
            CommitTime = header.CommitTime,
            EntryHash = records[(int)Position],
            TreeSize = (ulong)leaves.Length,
            RootHash = Forgery.RootOf(leaves),
            InclusionProof = { Forgery.ProofOf((int)Position, leaves) },
            Checkpoint = $"{text}\n\u2014 {Origin} {Convert.ToBase64String([.. keyId, .. signature])}\n",
            Header = header.ToByteString(),
            RequestSalt = ByteString.CopyFrom(salt),
            Answer = ByteString.CopyFrom(answer),
            AnswerSalt = ByteString.CopyFrom(answerSalt),
        };
        return new JsonObject
        {
            ["header"] = Json(header),
            ["records"] = Base64(records),
            ["leaves"] = Base64(leaves),
            ["key_id"] = Convert.ToBase64String(keyId),
            ["receipt"] = Json(receipt),
            ["response"] = Json(response),
        };
    }

    private static JsonArray Base64(IEnumerable<ByteString> values) => [.. values.Select(v => (JsonNode)v.ToBase64())];

    private static JsonNode Json(IMessage message) => JsonNode.Parse(JsonFormatter.Default.Format(message))!;

    private static ByteString Hash(params byte[][] parts) => ByteString.CopyFrom(SHA256.HashData([.. parts.SelectMany(p => p)]));
}
