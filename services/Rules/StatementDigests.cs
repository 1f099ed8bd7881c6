using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Custody.V1;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>
/// The digest of a statement, which those who attest it sign (the form <c>ministries-statement-v1</c>, specified at
/// <see cref="AttestedStatement"/>). It has two parts: the fields that a verifier needs to see that an agreement rests on the statement,
/// and the digest of the rest. So a verifier does not learn the rest.
/// </summary>
public static class StatementDigests
{
    /// <summary>The size of a digest in bytes.</summary>
    public const int Bytes = 32;

    /// <summary>The digest of a statement.</summary>
    /// <param name="statement">The statement.</param>
    /// <param name="contentDigest">The digest (SHA-256) of its sealed bytes. A holder of the bytes computes it himself.</param>
    public static ByteString Of(Statement statement, ByteString contentDigest) => Of(ToAttest(statement, contentDigest));

    /// <summary>The digest of a statement of which only this is known.</summary>
    public static ByteString Of(AttestedStatement shown)
    {
        using var part = new Form("ministries-statement-v1");
        part.Add(shown.Case);
        part.Add(shown.Prisoner);
        part.Add(shown.ExpireTime);
        part.Add(shown.Interpreted);
        part.Add((uint)shown.Commitments.Count);
        foreach (var commitment in shown.Commitments)
            part.Add(commitment.Span);
        return ByteString.CopyFrom(SHA256.HashData([.. part.Digest(), .. shown.RestDigest.Span]));
    }

    /// <summary>The part of a statement that is shown to a verifier of an agreement that rests on it, without the attestations.</summary>
    /// <param name="statement">The statement.</param>
    /// <param name="contentDigest">The digest (SHA-256) of its sealed bytes.</param>
    public static AttestedStatement ToAttest(Statement statement, ByteString contentDigest) =>
        new()
        {
            Case = statement.Case,
            Prisoner = statement.Prisoner,
            ExpireTime = statement.ExpireTime,
            Interpreted = statement.Interpreter.Length > 0,
            Commitments = { statement.Commitments },
            RestDigest = RestOf(statement, contentDigest),
        };

    // Nobody can find the rest by trying, because the statement's id and the digest of the sealed bytes cannot be guessed.
    private static ByteString RestOf(Statement statement, ByteString contentDigest)
    {
        using var rest = new Form("ministries-statement-v1 rest");
        rest.Add(statement.Statement_);
        rest.Add(statement.Participant);
        rest.Add(statement.RecordedFor);
        rest.Add(statement.StatementTime);
        rest.Add(statement.Language);
        rest.Add(statement.Interpreter);
        rest.Add(statement.Under18);
        rest.Add(SHA256.HashData((statement.Interview ?? new Interview()).ToByteArray()));
        rest.Add((statement.Classification ?? new Classification()).ToByteArray());
        rest.Add(contentDigest.Span);
        return ByteString.CopyFrom(rest.Digest());
    }

    // Each text and value behind its length in 4 bytes, numbers in 4 bytes, a time in 8 bytes of seconds and 4 of nanoseconds, all
    // big-endian: no two lists give the same bytes.
    private sealed class Form : IDisposable
    {
        private readonly MemoryStream _bytes = new();

        public Form(string label) => Add(label);

        public void Add(string text) => Add(Encoding.UTF8.GetBytes(text));

        public void Add(ReadOnlySpan<byte> value)
        {
            Add((uint)value.Length);
            _bytes.Write(value);
        }

        public void Add(uint number)
        {
            Span<byte> bytes = stackalloc byte[4];
            BinaryPrimitives.WriteUInt32BigEndian(bytes, number);
            _bytes.Write(bytes);
        }

        public void Add(bool value) => _bytes.WriteByte(value ? (byte)1 : (byte)0);

        public void Add(Timestamp? time)
        {
            Span<byte> seconds = stackalloc byte[8];
            BinaryPrimitives.WriteInt64BigEndian(seconds, time?.Seconds ?? 0);
            _bytes.Write(seconds);
            Add((uint)(time?.Nanos ?? 0));
        }

        public byte[] Digest() => SHA256.HashData(_bytes.ToArray());

        public void Dispose() => _bytes.Dispose();
    }
}
