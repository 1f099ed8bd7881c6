using System.Text.Json.Nodes;
using Google.Protobuf;
using Ministries.Rules;
using Ministries.Types.V1;

namespace Ministries.Sealing.Tests;

/// <summary>A second implementation, written from protos/SEALED.md with another library, opens what ours seals and the reverse.</summary>
public class InteropTests
{
    private const string Message = "ministries.type.v1.PersonIdentity";

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_other_opens_what_ours_seals()
    {
        var @sealed = Sample.Seal(Sample.Ministry, Sample.Observer);
        var wrap = Sample.Observer.Opener.Rewrap(@sealed, Sample.Context, PersonIdentity.Descriptor, Sample.Stranger.Recipient);
        var some = Sample.Observer.Opener.WrapFields(@sealed, Sample.Context, PersonIdentity.Descriptor, [2, 4], Sample.Stranger.Recipient);
        using var key = Sample.Observer.Opener.DiscloseField(@sealed, Sample.Context, PersonIdentity.Descriptor, 2);
        var changed = @sealed.Clone();
        changed.Content = ByteString.CopyFrom([.. @sealed.Content.Span[..^1], (byte)(@sealed.Content[^1] ^ 1)]);
        var answers = await Node.Ask(
            [
                Open(@sealed, Sample.Ministry),
                Open(@sealed, Sample.Observer),
                Open(@sealed, Sample.Stranger),
                Open(@sealed, Sample.Stranger, wrap),
                With(Request("openFields", @sealed), ("seed", Hex(Sample.Stranger.Seed)), ("wrap", Show(some))),
                With(Request("openField", @sealed), ("number", 2), ("key", Hex(key.Key))),
                Open(changed, Sample.Observer),
            ],
            Cancel
        );
        Assert.Equal(Sample.Person(), Read(answers[0]));
        Assert.Equal(Sample.Person(), Read(answers[1]));
        Assert.Equal("WrongRecipient", (string?)answers[2]["fault"]);
        Assert.Equal(Sample.Person(), Read(answers[3]));
        Assert.Equal(new PersonIdentity { Rank = "private", SerialNumber = "000-17" }, Read(answers[4]));
        Assert.Equal(new PersonIdentity { Rank = "private" }, PersonIdentity.Parser.ParseFrom(Bytes(answers[5]["plain"])));
        Assert.Equal("NotAuthentic", (string?)answers[6]["fault"]);
    }

    [Fact]
    public async Task Ours_opens_what_the_other_seals()
    {
        var person = Sample.Person();
        var fields = PersonIdentity
            .Descriptor.Fields.InFieldNumberOrder()
            .Zip<Google.Protobuf.Reflection.FieldDescriptor, PersonIdentity>([
                new() { Name = person.Name },
                new() { Rank = person.Rank },
                new(),
                new() { SerialNumber = person.SerialNumber },
                new() { Voluntary = { person.Voluntary } },
                new() { BirthPlace = person.BirthPlace },
                new() { FatherName = person.FatherName },
                new() { MotherMaidenName = person.MotherMaidenName },
                new() { PersonToInform = person.PersonToInform },
            ])
            .Select(f => new JsonObject { ["number"] = f.First.FieldNumber, ["plain"] = Hex(f.Second.ToByteArray()) });
        var made = (
            await Node.Ask(
                [
                    new JsonObject
                    {
                        ["op"] = "seal",
                        ["context"] = Context(),
                        ["message"] = Message,
                        ["fields"] = new JsonArray([.. fields]),
                        ["recipients"] = new JsonArray(Show(Sample.Ministry), Show(Sample.Observer)),
                    },
                ],
                Cancel
            )
        )[0];
        var @sealed = new Sealed
        {
            Scheme = (string)made["scheme"]!,
            Recipients = { made["recipients"]!.AsArray().Select(r => (string)r!) },
            Content = ByteString.CopyFrom(Bytes(made["content"])),
        };
        Assert.Equal(person, Sample.Ministry.Open(@sealed));
        Assert.Equal(person, Sample.Observer.Open(@sealed));

        var answers = await Node.Ask(
            [
                With(Open(@sealed, Sample.Observer), ("op", "rewrap"), ("recipient", Show(Sample.Stranger))),
                With(Open(@sealed, Sample.Observer), ("op", "disclose"), ("number", 2)),
            ],
            Cancel
        );
        var wrap = new SealedKey
        {
            Recipient = (string)answers[0]["recipient"]!,
            KeyId = (string)answers[0]["keyId"]!,
            Encapsulation = ByteString.CopyFrom(Bytes(answers[0]["encapsulation"])),
            Secret = ByteString.CopyFrom(Bytes(answers[0]["secret"])),
        };
        Assert.Equal(person, Sample.Stranger.Open(@sealed, wrap));
        using var key = FieldKey.Read([0, 0, 0, 2, .. Bytes(answers[1]["key"])]);
        Assert.Equal(new PersonIdentity { Rank = "private" }, Opener.OpenField<PersonIdentity>(@sealed, Sample.Context, key));
    }

    [Fact]
    public async Task Both_make_the_same_public_key_and_the_same_commitments_to_a_wish()
    {
        var secret = Sample.Power.Seed;
        JsonObject Wish(params string[] destinations) =>
            new()
            {
                ["op"] = "wish",
                ["case"] = Sample.Context.Case,
                ["prisoner"] = "pris_01jqk5s4y0000000000000000b",
                ["destinations"] = new JsonArray([.. destinations.Select(d => (JsonNode)d)]),
                ["secret"] = Hex(secret),
            };
        string[][] wishes =
        [
            [],
            ["KR"],
            ["KR", "CH", "UA"],
        ];
        var answers = await Node.Ask(
            [.. Sample.All.Select(p => new JsonObject { ["op"] = "publicKey", ["seed"] = Hex(p.Seed) }), .. wishes.Select(w => Wish(w))],
            Cancel
        );
        Assert.All(answers.Zip(Sample.All), a => Assert.Equal(Hex(a.Second.Identity.PublicKey.Bytes), (string?)a.First["publicKey"]));
        foreach (var (wish, answer) in wishes.Zip(answers.Skip(Sample.All.Length)))
        {
            var (id, prisoner) = (Sample.Context.Case, "pris_01jqk5s4y0000000000000000b");
            Assert.Equal(
                WishCommitments.Make(id, prisoner, wish, secret).Select(c => Hex(c.Span)),
                answer["commitments"]!.AsArray().Select(c => (string?)c)
            );
            Assert.Equal(
                wish.Select(d => Hex(WishCommitments.OpeningOf(id, prisoner, d, secret).Span)),
                answer["openings"]!.AsArray().Select(o => (string?)o)
            );
        }
    }

    [Fact]
    public void What_was_sealed_once_still_opens()
    {
        var golden = JsonNode.Parse(File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "golden.json")))!;
        using var identity = SealingIdentity.FromSeed("icrc/seal-1", Bytes(golden["seed"]));
        var @sealed = new Sealed
        {
            Scheme = "ministries-sealed-v1",
            Recipients = { "kr/mfa", "icrc" },
            Content = ByteString.CopyFrom(Bytes(golden["content"])),
        };
        var opener = new Opener("icrc", [identity]);
        Assert.Equal(
            new PersonIdentity
            {
                Name = new PersonName { Original = Sample.Canary },
                Rank = "private",
                SerialNumber = "000-17",
            },
            opener.Open<PersonIdentity>(@sealed, Sample.Context)
        );
        using var key = opener.DiscloseField(@sealed, Sample.Context, PersonIdentity.Descriptor, 2);
        Assert.Equal((string?)golden["keyOfField2"], Hex(key.Key));
    }

    private static JsonObject Open(Sealed @sealed, Party reader, SealedKey? added = null)
    {
        var request = With(Request("open", @sealed), ("participant", reader.Id), ("keyId", reader.Identity.Id), ("seed", Hex(reader.Seed)));
        return added is null ? request : With(request, ("added", Show(added)));
    }

    private static JsonObject Request(string operation, Sealed @sealed) =>
        new()
        {
            ["op"] = operation,
            ["sealed"] = new JsonObject
            {
                ["scheme"] = @sealed.Scheme,
                ["recipients"] = new JsonArray([.. @sealed.Recipients.Select(r => (JsonNode)r)]),
                ["content"] = Hex(@sealed.Content.Span),
            },
            ["context"] = Context(),
            ["message"] = Message,
        };

    private static JsonObject Context() =>
        new()
        {
            ["case"] = Sample.Context.Case,
            ["record"] = Sample.Context.Record,
            ["field"] = Sample.Context.Field,
            ["sender"] = Sample.Context.Sender,
        };

    private static JsonObject Show(Party party) =>
        new()
        {
            ["participant"] = party.Id,
            ["keyId"] = party.Identity.Id,
            ["publicKey"] = Hex(party.Identity.PublicKey.Bytes),
        };

    private static JsonObject Show(SealedKey key) =>
        new()
        {
            ["recipient"] = key.Recipient,
            ["keyId"] = key.KeyId,
            ["encapsulation"] = Hex(key.Encapsulation.Span),
            ["secret"] = Hex(key.Secret.Span),
        };

    private static JsonObject With(JsonObject request, params (string Name, JsonNode Value)[] more)
    {
        foreach (var (name, value) in more)
            request[name] = value;
        return request;
    }

    private static PersonIdentity Read(JsonObject answer)
    {
        Assert.True(answer.ContainsKey("fields"), answer.ToJsonString());
        return PersonIdentity.Parser.ParseFrom([.. answer["fields"]!.AsArray().SelectMany(f => Bytes(f!["plain"]))]);
    }

    private static string Hex(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(bytes);

    private static byte[] Bytes(JsonNode? hex) => Convert.FromHexString((string)hex!);
}
