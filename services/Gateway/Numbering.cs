namespace Ministries.Gateway;

/// <summary>How the events of a mirror are numbered.</summary>
/// <param name="Name">A name of its own: 16 hexadecimal digits.</param>
/// <param name="Shared">How many of its first events have the same numbers as in the numbering before.</param>
internal sealed record Numbering(string Name, long Shared);
