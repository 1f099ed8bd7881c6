namespace Ministries.Ledger;

/// <summary>A line of a signed note that holds a signature.</summary>
/// <param name="Name">The key's name.</param>
/// <param name="KeyId">The key's id, 4 bytes.</param>
/// <param name="Bytes">The signature, without the key's id.</param>
/// <param name="Line">The line as it stands in the note, with its end.</param>
public sealed record NoteSignature(string Name, byte[] KeyId, byte[] Bytes, string Line);
