using Ministries.Types.V1;

namespace Ministries.Local;

/// <summary>The prisoners' identities as the play has them. Nothing in them is of a real person.</summary>
public static class InventedIdentities
{
    /// <summary>The identity of a prisoner, with the four data that he must give and one that he gave of his own will (D13).</summary>
    /// <param name="label">His label in the output, such as <c>P-1</c>.</param>
    public static PersonIdentity Of(string label) =>
        new()
        {
            Name = new PersonName
            {
                Original = label == "P-1" ? "가나다" : "라마바",
                Script = "Kore",
                Transliteration = label == "P-1" ? "Ga Na-da" : "Ra Ma-ba",
                Scheme = "revised-romanization",
                Order = NameOrder.FamilyFirst,
            },
            Rank = "private",
            BirthDate = new PartialDate { Year = label == "P-1" ? 2005 : 1999 },
            SerialNumber = $"invented-{label}",
            BirthPlace = "An invented town",
        };
}
