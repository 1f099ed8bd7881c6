using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Ministries.Ledger;
using Ministries.Sealing;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Fixtures;

/// <summary>Sealed content that has the right form and opens for nobody: random bytes stand where ciphertexts go. For rules and services,
/// which never open any.</summary>
public static class SealedForm
{
    /// <summary>Something sealed to recipients, for rules, which look at no content.</summary>
    public static Sealed To(params IEnumerable<string> recipients) => OfBytes(16, recipients);

    /// <summary>The same, with so many bytes of content, always the same ones.</summary>
    public static Sealed OfBytes(int bytes, params IEnumerable<string> recipients) =>
        new()
        {
            Scheme = Seals.Scheme,
            Recipients = { recipients },
            Content = ByteString.CopyFrom(new byte[bytes]),
        };

    /// <summary>Gives each sealed field of a request the content that its services demand: of this request, this field, the message that
    /// the contract declares, and its recipients' newest keys. The request must have its id and case.</summary>
    /// <param name="request">The request, which is changed.</param>
    /// <param name="sender">Who sends it.</param>
    /// <param name="agreement">The agreement that lists the recipients' keys.</param>
    /// <param name="but">Changes a content before it is written; null: none.</param>
    /// <returns>The request.</returns>
    public static T In<T>(T request, string sender, Agreement agreement, Action<SealedContent>? but = null)
        where T : IMessage
    {
        foreach (var place in Seals.WithPaths(request))
        {
            var content = ContentOf(place, request, sender, agreement);
            but?.Invoke(content);
            place.Sealed.Content = content.ToByteString();
        }
        return request;
    }

    /// <summary>Seals in each write of a client that stands for a participant, to the recipients' real keys. What was sealed for the same
    /// request before stays, so that a repeated request has the same bytes.</summary>
    /// <param name="sender">The participant.</param>
    /// <param name="agreement">The agreement of now.</param>
    public static Interceptor Sealing(string sender, Func<Agreement> agreement) => new Completion(sender, agreement);

    /// <summary>Makes the file of a key for sealing, as <see cref="Pki.Init"/> wants it, and its public key.</summary>
    /// <param name="path">The file.</param>
    public static byte[] Key(string path)
    {
        if (!File.Exists(path))
            WholeFile.Write(path, PemEncoding.WriteString(SealingKeySource.Label, SealingIdentity.NewSeed()), mode: PrivateFiles.Mode);
        using var key = SealingKeySource.Open(path);
        return key.PublicKey.Bytes.ToArray();
    }

    /// <summary>A public key that has the form of one and seals nothing.</summary>
    /// <param name="seed">Another seed gives another key.</param>
    public static byte[] PublicKey(string seed)
    {
        var key = Shake256.HashData(System.Text.Encoding.UTF8.GetBytes(seed), SealingKeys.PublicKeyBytes);
        // The upper four bits of each number of twelve are at most 12, so it is below 3329.
        for (var i = 0; i < 1152; i += 3)
            (key[i + 1], key[i + 2]) = ((byte)(key[i + 1] & 0xf7), (byte)(key[i + 2] & 0x7f));
        return key;
    }

    /// <summary>A key for sealing as an agreement lists it, in force from 2020 on.</summary>
    /// <param name="id">Its id.</param>
    public static SealingKey Listed(string id) =>
        new()
        {
            Id = id,
            PublicKey = ByteString.CopyFrom(PublicKey(id)),
            ValidFromTime = new Timestamp { Seconds = 1_577_836_800 },
        };

    private static SealedContent ContentOf(SealedPlace place, IMessage request, string sender, Agreement agreement)
    {
        var content = new SealedContent
        {
            Case = Text(request, "case"),
            Record = Text(request, "request_id"),
            Field = place.Path,
            Sender = sender,
            Message = place.Declared.Message,
        };
        foreach (var recipient in place.Sealed.Recipients)
            content.Keys.Add(
                new SealedKey
                {
                    Recipient = recipient,
                    KeyId = agreement.Participants.FirstOrDefault(p => p.Id == recipient)?.SealingKeys.LastOrDefault()?.Id ?? "none",
                    Encapsulation = Random(1120),
                    Secret = Random(48),
                }
            );
        foreach (var field in Seals.MessageNamed(content.Message)!.Fields.InFieldNumberOrder())
            content.Fields.Add(
                new SealedField
                {
                    Number = (uint)field.FieldNumber,
                    Commitment = Random(32),
                    Ciphertext = Random(Seals.Buckets[0] + Seals.TagBytes),
                }
            );
        return content;
    }

    private static string Text(IMessage request, string field) =>
        (string?)request.Descriptor.FindFieldByName(field)?.Accessor.GetValue(request) ?? "";

    private static ByteString Random(int bytes) => ByteString.CopyFrom(RandomNumberGenerator.GetBytes(bytes));

    private sealed class Completion(string sender, Func<Agreement> agreement) : Interceptor
    {
        public override AsyncUnaryCall<TResponse> AsyncUnaryCall<TRequest, TResponse>(
            TRequest request,
            ClientInterceptorContext<TRequest, TResponse> context,
            AsyncUnaryCallContinuation<TRequest, TResponse> continuation
        )
        {
            if (request is IMessage message && Seals.CanBeIn(message.Descriptor))
                foreach (var place in Seals.WithPaths(message))
                    if (!IsOf(place.Sealed, message))
                        Seal(place, message);
            return continuation(request, context);
        }

        private static bool IsOf(Sealed @sealed, IMessage request) =>
            Seals.Read(@sealed.Content) is { } content && content.Record == Text(request, "request_id");

        // The message inside is empty but for its first text: what is in it is nobody's business here.
        private void Seal(SealedPlace place, IMessage request)
        {
            var (known, now) = (agreement(), Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow));
            var message = (IMessage)Activator.CreateInstance(Seals.MessageNamed(place.Declared.Message)!.ClrType)!;
            foreach (var field in message.Descriptor.Fields.InFieldNumberOrder().Where(f => !f.IsRepeated).Take(1))
                if (field.FieldType == FieldType.String)
                    field.Accessor.SetValue(message, "invented");
                else if (field.FieldType == FieldType.Message && field.MessageType == Types.V1.Text.Descriptor)
                    field.Accessor.SetValue(message, new Text { Language = "en", Text_ = "Invented." });
            place.Sealed.Content = Sealer
                .Seal(
                    message,
                    new SealContext(Text(request, "case"), Text(request, "request_id"), place.Path, sender),
                    [.. place.Sealed.Recipients.Select(r => Recipient.Of(known.Participants.Single(p => p.Id == r), now, place.Path))]
                )
                .Content;
        }
    }
}
