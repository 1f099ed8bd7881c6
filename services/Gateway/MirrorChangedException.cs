namespace Ministries.Gateway;

/// <summary>The mirror's database holds what this gateway has not written, or no longer what it has.</summary>
/// <param name="what">What. It names no record.</param>
internal sealed class MirrorChangedException(string what)
    : Exception($"the mirror's database was changed by another than this gateway: {what}");
