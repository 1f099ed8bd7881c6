namespace Ministries.Hosting;

/// <summary>The room that a call has taken for its message (<see cref="Admission.TakeRoom"/>).</summary>
/// <param name="Bytes">How many bytes; 0: it has taken none.</param>
/// <param name="OfFlash">Whether they are of those that are kept for FLASH (<see cref="EdgeLimits.BodyBytesForFlash"/>).</param>
internal readonly record struct TakenRoom(long Bytes, bool OfFlash);
