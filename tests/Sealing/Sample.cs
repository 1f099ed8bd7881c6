using System.Security.Cryptography;
using System.Text;
using Ministries.Types.V1;

namespace Ministries.Sealing.Tests;

/// <summary>Invented participants with their keys, and an invented person.</summary>
internal static class Sample
{
    public const string Canary = "Canary-Hong-Gildong";

    public static readonly SealContext Context = new(
        "case_01jqk5s4y0000000000000000a",
        "018f0000-0000-7000-8000-000000000001",
        "identity",
        "ua/coordination-hq"
    );

    public static readonly Party Observer = new("icrc", "icrc/seal-1");
    public static readonly Party Ministry = new("kr/mfa", "kr/mfa/seal-1");
    public static readonly Party Power = new("ua/coordination-hq", "ua/seal-1");
    public static readonly Party Stranger = new("kp/mfa", "kp/mfa/seal-1");

    public static readonly Party[] All = [Observer, Ministry, Power, Stranger];

    public static PersonIdentity Person() =>
        new()
        {
            Name = new PersonName
            {
                Original = Canary,
                Script = "Latn",
                Order = NameOrder.FamilyFirst,
            },
            Rank = "private",
            SerialNumber = "000-17",
            Voluntary =
            {
                new VoluntaryDatum
                {
                    Kind = "family",
                    Value = new Text { Text_ = new string('x', 400) },
                },
            },
        };

    public static Sealed Seal(params Party[] to) => Sealer.Seal(Person(), Context, [.. to.Select(p => p.Recipient)]);
}

/// <summary>A participant with one key for sealing.</summary>
internal sealed class Party
{
    public Party(string id, string keyId)
    {
        Id = id;
        Seed = SHA256.HashData(Encoding.UTF8.GetBytes(keyId));
        Identity = SealingIdentity.FromSeed(keyId, Seed);
        Opener = new Opener(id, [Identity]);
    }

    public string Id { get; }

    public byte[] Seed { get; }

    public SealingIdentity Identity { get; }

    public Opener Opener { get; }

    public Recipient Recipient => new(Id, Identity.Id, Identity.PublicKey);

    public PersonIdentity Open(Sealed @sealed, SealedKey? added = null) => Opener.Open<PersonIdentity>(@sealed, Sample.Context, added);
}
