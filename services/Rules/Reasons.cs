using System.Collections.Frozen;
using Ministries.Errors.V1;

namespace Ministries.Rules;

/// <summary>The reasons of refusals, as the contract declares them.</summary>
public static class Reasons
{
    private const string Prefix = "REASON_";

    private static readonly FrozenDictionary<Reason, (string Name, About? About)> Declared = ReasonReflection
        .Descriptor.EnumTypes.Single(e => e.Name == nameof(Reason))
        .Values.ToFrozenDictionary(
            v => (Reason)v.Number,
            v => (v.Name[Prefix.Length..], v.GetOptions()?.GetExtension(ReasonExtensions.About))
        );

    private static readonly FrozenDictionary<string, Reason> ByName = Declared.ToFrozenDictionary(d => d.Value.Name, d => d.Key);

    /// <summary>Those that a refusal can have.</summary>
    public static IEnumerable<Reason> All => Declared.Where(d => d.Value.About is not null).Select(d => d.Key);

    /// <summary>The reason's name without its prefix, such as <c>NOT_FOUND</c>.</summary>
    public static string NameOf(Reason reason) => Declared[reason].Name;

    /// <summary>What a refusal for this reason tells.</summary>
    /// <exception cref="ArgumentException">No refusal has it.</exception>
    public static About AboutOf(Reason reason) =>
        Declared[reason].About ?? throw new ArgumentException($"nothing is refused for {reason}", nameof(reason));

    /// <summary>Whether a refusal for this reason is the answer to its request id for ever (D21). A refusal is not kept if the request can
    /// be mended and sent again under the same id, because only its form, an approval or room was missing.</summary>
    /// <exception cref="ArgumentException">No refusal has it.</exception>
    public static bool IsKept(Reason reason) => !AboutOf(reason).Mendable;

    /// <summary>The reason of this name, without its prefix; null: there is none.</summary>
    public static Reason? Find(string name) => ByName.TryGetValue(name, out var reason) ? reason : null;
}
