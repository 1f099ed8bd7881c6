using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Integrators.Tests;

/// <summary>The vectors that <c>protos/README.md</c> gives an integrator.</summary>
public sealed class VectorsTests(Examples examples)
{
    private static readonly string File = Path.Combine(Example.Here, "..", "..", "protos", "vectors.json");

    // As an integrator reads it: quotation marks and the dash of a checkpoint's signatures are written as they are.
    private static readonly JsonSerializerOptions Readable = new()
    {
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        NewLine = "\n",
    };

    [Fact]
    public void The_published_vectors_are_what_the_code_makes()
    {
        var made = Path.Combine(AppContext.BaseDirectory, "vectors.json");
        System.IO.File.WriteAllText(made, Vectors.Make().ToJsonString(Readable) + "\n");
        Assert.True(
            System.IO.File.Exists(File) && System.IO.File.ReadAllText(File) == System.IO.File.ReadAllText(made),
            $"compare protos/vectors.json with {made}"
        );
    }

    [Fact]
    public void The_readme_shows_the_first_signed_write()
    {
        var shown = System.IO.File.ReadAllText(Path.Combine(Path.GetDirectoryName(File)!, "README.md"));
        var vector = Published()["signatures"]![0]!;
        Assert.Contains($"```\n{string.Concat(vector["headers"]!.AsObject().Select(h => $"{h.Key}: {h.Value}\n"))}```\n", shown);
        Assert.Contains($"```\n{Text(vector, "signature_base")}\n```\n", shown);
    }

    [Fact]
    public void The_services_accept_each_published_signature_and_refuse_it_for_any_other_request()
    {
        var vectors = Published();
        var agreement = Parse<Agreement>(vectors["agreement"]!);
        var signatures = vectors["signatures"]!.AsArray();
        Assert.Equal(["application/grpc", "application/grpc+proto"], signatures.Select(s => Text(s!, "headers", "content-type")));
        foreach (var vector in signatures)
        {
            var request = Bytes(vector!, "request_bytes");
            Assert.Equal(Parse<LogCallRequest>(vector!["request"]!).ToByteArray(), request);
            Assert.Equal(Reason.Unspecified, Judge(vector, request, "calllog"));
            Assert.Equal(Reason.ContentDigestWrong, Judge(vector, [.. request, 0], "calllog"));
            Assert.Equal(Reason.SignatureWrong, Judge(vector, request, "custody"));
        }

        Reason Judge(JsonNode vector, byte[] request, string service)
        {
            var signature = new RequestSignature
            {
                Authority = Text(vector, "headers", ":authority"),
                ContentType = Text(vector, "headers", "content-type"),
                ContentDigest = Text(vector, "headers", "content-digest"),
                SignatureInput = Text(vector, "headers", "signature-input"),
                Signature = Text(vector, "headers", "signature"),
            };
            return RequestSignatures
                    .Check(
                        signature,
                        Text(vector, "headers", ":path")[1..],
                        request,
                        Text(vector, "request_id"),
                        agreement.Participants.Single(p => p.Id == "kr/mfa"),
                        new Permissions(agreement),
                        DateTimeOffset.FromUnixTimeSeconds((long)vector["created"]! + 1),
                        service
                    )
                    .Refusal?.Reason
                ?? Reason.Unspecified;
        }
    }

    [Fact]
    public void The_published_receipt_is_that_of_the_published_request()
    {
        var vectors = Published();
        var agreement = Parse<Agreement>(vectors["agreement"]!);
        var vector = vectors["receipt"]!;
        var receipt = Parse<Receipt>(vector["receipt"]!);
        Assert.Null(Receipts.Wrong(receipt, "calllog", agreement, receipt.CommitTime.ToDateTimeOffset()));
        Assert.NotNull(Receipts.Wrong(receipt, "custody", agreement, receipt.CommitTime.ToDateTimeOffset()));

        Assert.Equal(Parse<EntryHeader>(vector["header"]!), EntryHeader.Parser.ParseFrom(receipt.Header));
        var (request, response) = (vectors["signatures"]![0]!, Parse<LogCallResponse>(vector["response"]!));
        response.Receipt = receipt;
        Assert.Null(Wrong("LogCall", "request_bytes"));
        Assert.NotNull(Wrong("LogCall", "frame"));
        Assert.NotNull(Wrong("SubmitReadout", "request_bytes"));

        string? Wrong(string method, string bytes) =>
            Receipts.WrongEntry(
                receipt,
                "kr/mfa",
                $"ministries.calllog.v1.CallLogService/{method}",
                Text(request, "request_id"),
                Bytes(request, bytes),
                response
            );
    }

    [Fact]
    public void The_published_approval_counts_for_the_published_request_alone()
    {
        var vectors = Published();
        var agreement = Parse<Agreement>(vectors["agreement"]!);
        var request = Bytes(vectors["approval"]!, "request_bytes");
        var approval = Parse<Approval>(vectors["approval"]!["approval"]!);
        Assert.Equal([approval], LogCallRequest.Parser.ParseFrom(request).Approvals);
        Assert.Equal(["kr-mfa-official-2"], Officials(request, "calllog"));
        Assert.Empty(Officials(request, "custody"));
        Assert.Empty(Officials([.. request, 0x38, 0x01], "calllog"));

        IReadOnlySet<string> Officials(byte[] bytes, string service) =>
            Approvals
                .Check(
                    [approval],
                    "ministries.calllog.v1.CallLogService/LogCall",
                    bytes,
                    agreement.Participants.Single(p => p.Id == "kr/mfa"),
                    new Permissions(agreement),
                    DateTimeOffset.FromUnixTimeSeconds((long)vectors["signatures"]![0]!["created"]!),
                    service
                )
                .Officials;
    }

    [Fact]
    public void The_published_keys_are_read_from_files_of_the_published_form()
    {
        var vectors = Published();
        foreach (var key in vectors["keys"]!.AsArray())
        {
            using var read = Keys.Signer.FromPem(Text(key!, "pem"));
            Assert.Equal(Bytes(key!, "public_key"), read.PublicKey.ToArray());
        }
        var file = Path.Combine(AppContext.BaseDirectory, "sealing-vector");
        Ledger.WholeFile.Write(file, Text(vectors["sealing_key"]!, "pem"), mode: Ledger.PrivateFiles.Mode);
        using var sealing = Sealing.SealingKeySource.Open(file);
        Assert.Equal(Bytes(vectors["sealing_key"]!, "public_key"), sealing.PublicKey.Bytes.ToArray());
    }

    [Theory]
    [MemberData(nameof(Example.Languages), MemberType = typeof(Example))]
    public async Task An_example_signs_and_verifies_as_the_vectors_say(string language)
    {
        var ran = new RanBlocks();
        var (code, output) = await examples.Of(language, ran).Compare();
        Assert.True(code == 0, output);
        ran.AreAll("Integrators/VectorsTests", nameof(An_example_signs_and_verifies_as_the_vectors_say), b => b.Heading == language);
    }

    private static JsonNode Published() => JsonNode.Parse(System.IO.File.ReadAllText(File))!;

    private static T Parse<T>(JsonNode json)
        where T : IMessage, new() => JsonParser.Default.Parse<T>(json.ToJsonString());

    private static string Text(JsonNode node, params IEnumerable<string> names) => (string)names.Aggregate(node, (n, name) => n[name]!)!;

    private static byte[] Bytes(JsonNode node, string name) => Convert.FromBase64String(Text(node, name));
}
