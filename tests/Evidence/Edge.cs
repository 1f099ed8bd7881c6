using System.Text.Json;
using Google.Protobuf;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Evidence.Tests;

/// <summary>The edge of a service, asked as the verifiers are. What it accepts stays in a log, so no verifier may refuse it.</summary>
public static class Edge
{
    /// <summary>Whether a service would have accepted the write of a question and recorded exactly what the question has.</summary>
    /// <param name="question">The question about a signature.</param>
    /// <param name="agreed">The versions of the agreement.</param>
    public static bool Accepts(JsonElement question, KeyHistory agreed)
    {
        var header = EntryHeader.Parser.ParseFrom(question.GetProperty("header").GetBytesFromBase64());
        var (message, recorded) = (
            question.GetProperty("request").GetBytesFromBase64(),
            question.GetProperty("signature").GetBytesFromBase64()
        );
        if (
            Methods.At($"/{header.Method}") is not { Writes: true } rpc
            || agreed.Version(header.AgreementVersion) is not { } permissions
            || permissions.Participant(header.Participant) is not { } caller
            || Recorded(recorded) is not { } signature
            || WireWalk.Walk(rpc.Method.InputType, message).Count > 0
        )
            return false;
        var request = rpc.Method.InputType.Parser.ParseFrom(message);
        // The header's request id is the one that the service read.
        if (!Equals(request.Descriptor.FindFieldByNumber(1).Accessor.GetValue(request), header.RequestId))
            return false;
        var (service, now) = (question.GetProperty("service").GetString()!, header.CommitTime.ToDateTimeOffset());
        var approvals = request.Descriptor.FindFieldByNumber(Approvals.Field) is { Name: "approvals" } field
            ? (IReadOnlyList<Approval>)field.Accessor.GetValue(request)
            : [];
        return RequestSignatures.Check(signature, rpc.Name, message, header.RequestId, caller, permissions, now, service).Refusal is null
            && Approvals.Check(approvals, rpc.Name, message, caller, permissions, now, service).Refusal is null;
    }

    // A service writes the signature itself, from header fields that have text: other bytes that read the same are not its own.
    private static RequestSignature? Recorded(byte[] bytes)
    {
        try
        {
            var read = RequestSignature.Parser.ParseFrom(bytes);
            var signature = new RequestSignature
            {
                Authority = read.Authority,
                ContentType = read.ContentType,
                ContentDigest = read.ContentDigest,
                SignatureInput = read.SignatureInput,
                Signature = read.Signature,
            };
            return
                read is { SignatureInput.Length: > 0, Signature.Length: > 0, ContentDigest.Length: > 0 }
                && signature.ToByteArray().AsSpan().SequenceEqual(bytes)
                ? signature
                : null;
        }
        catch (InvalidProtocolBufferException)
        {
            return null;
        }
    }
}
