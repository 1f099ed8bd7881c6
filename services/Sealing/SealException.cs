namespace Ministries.Sealing;

/// <summary>Why something was not sealed or not opened (protos/SEALED.md, "Order of the checks").</summary>
public enum SealFault
{
    /// <summary>A recipient has no key for sealing in force.</summary>
    NoSealingKey,

    /// <summary>A public key or an encapsulation is no valid X-Wing value.</summary>
    InvalidKey,

    /// <summary>There is no recipient, there are more than 16, or one is named twice.</summary>
    BadRecipients,

    /// <summary>A field exceeds 49,148 bytes, or the whole exceeds 65,536.</summary>
    TooLarge,

    /// <summary>The content to be sealed breaks a limit that its contract declares. A recipient could not rely on it, and no service can
    /// check it.</summary>
    NotAsDeclared,

    /// <summary>The scheme is not ministries-sealed-v1.</summary>
    UnknownScheme,

    /// <summary>Something is missing at the end: of the content, of its keys, or of its fields.</summary>
    Truncated,

    /// <summary>The bytes are not the only serialization of what they hold, or hold something that the contracts do not know.</summary>
    NotCanonical,

    /// <summary>Another sender sealed it.</summary>
    OtherSender,

    /// <summary>It was sealed for another case.</summary>
    OtherCase,

    /// <summary>It was sealed for another request.</summary>
    OtherRecord,

    /// <summary>It was sealed for another field of the request, or what is said of one field belongs to another.</summary>
    OtherField,

    /// <summary>Another message is inside.</summary>
    OtherMessage,

    /// <summary>The recipients beside the content are not those in it.</summary>
    OtherRecipients,

    /// <summary>It is not sealed to this participant.</summary>
    WrongRecipient,

    /// <summary>It is sealed to a key of this participant that is not at hand.</summary>
    KeyUnknown,

    /// <summary>A field's key is not the one that the sender committed to.</summary>
    CommitmentDiffers,

    /// <summary>The ciphertext was changed, or belongs to another key or place.</summary>
    NotAuthentic,

    /// <summary>The padding is not zeros up to the smallest size that fits.</summary>
    WrongPadding,
}

/// <summary>Something was not sealed or not opened. Nothing was changed. The message has neither personal data nor keys.</summary>
/// <param name="fault">Why.</param>
/// <param name="path">The path of the field in the request, such as <c>identity</c> for all of it or <c>identity.birth</c> for
/// one field of it.</param>
/// <param name="message">The reason in plain English.</param>
public sealed class SealException(SealFault fault, string path, string message) : Exception($"{path}: {message}")
{
    /// <summary>Why.</summary>
    public SealFault Fault => fault;

    /// <summary>The path of the field in the request.</summary>
    public string Field => path;
}
