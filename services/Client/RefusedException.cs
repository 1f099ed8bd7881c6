using System.Text;
using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;

namespace Ministries.Client;

/// <summary>A call that a service refused, with all that it said about it: what stands behind it, what is missing, who can supply
/// it and what would unlock it.</summary>
public sealed class RefusedException : RpcException
{
    private RefusedException(RpcException e, ErrorInfo info, IReadOnlyList<(string, string)> faults, TimeSpan? retryAfter)
        : base(e.Status, e.Trailers, e.Message)
    {
        Reason = info.Reason;
        Metadata = info.Metadata.ToDictionary();
        Faults = faults;
        RetryAfter = retryAfter;
        if (SentBefore.Is(e))
            SentBefore.Note(this);
    }

    /// <summary>The name of the reason, such as <c>STALE</c>: a value of <c>ministries.errors.v1.Reason</c> without its prefix.
    /// </summary>
    public string Reason { get; }

    /// <summary>What stands behind it: <c>LAW</c>, <c>AGREEMENT</c> or <c>FORM</c>.</summary>
    public string Basis => this["basis"];

    /// <summary>The article, the invariant or the document.</summary>
    public string Article => this["source"];

    /// <summary>What evidence or condition is missing.</summary>
    public string Missing => this["missing"];

    /// <summary>Who can supply it.</summary>
    public string Supplier => this["supplier"];

    /// <summary>What would unlock it.</summary>
    public string Unlock => this["unlock"];

    /// <summary>All that the refusal says, by name.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>The fields at fault, each with what is wrong with it.</summary>
    public IReadOnlyList<(string Field, string Description)> Faults { get; }

    /// <summary>After what time the service asks to be tried again; null: it does not.</summary>
    public TimeSpan? RetryAfter { get; }

    /// <summary>Whether the write may be recorded although it is refused. This is so if an earlier attempt of the same call lost its
    /// answer, and a service may refuse for this reason before it looks up its earlier answer. Send the same object again to learn the
    /// answer.</summary>
    public bool MayBeRecorded => SentBefore.Is(this) && !IsLastWord;

    /// <summary>Whether this refusal also decides a write that an earlier attempt may have recorded. A service may refuse for want of a
    /// grant, or for a reason that it does not keep as the answer, before it looks up its earlier answer.</summary>
    internal bool IsLastWord =>
        Reasons.Find(Reason) is { } reason and not (Errors.V1.Reason.Unspecified or Errors.V1.Reason.NotGranted) && Reasons.IsKept(reason);

    private string this[string name] => Metadata.GetValueOrDefault(name, "");

    /// <summary>The refusal that an error tells of; null: it is no refusal, such as an unreachable service.</summary>
    public static RefusedException? From(RpcException e)
    {
        if (e is RefusedException already)
            return already;
        try
        {
            if (e.GetRpcStatus() is not { } status || status.GetDetail<ErrorInfo>() is not { Domain: "ministries" } info)
                return null;
            var faults = status.GetDetail<BadRequest>()?.FieldViolations.Select(v => (v.Field, v.Description)).ToArray() ?? [];
            return new RefusedException(e, info, faults, status.GetDetail<RetryInfo>()?.RetryDelay?.ToTimeSpan());
        }
        catch (Exception wrong) when (wrong is InvalidProtocolBufferException or InvalidOperationException or OverflowException)
        {
            // The peer may write anything there. If it cannot be read, it is no refusal, and the original exception stays.
            return null;
        }
    }

    /// <summary>The refusal in lines for a person.</summary>
    public string ToText()
    {
        var text = new StringBuilder($"refused: {Terminal.Line(Reason)}");
        if (Basis.Length > 0)
            text.Append(Terminal.Line($" ({Basis}: {Article})"));
        Line("missing", Missing);
        Line("supplier", Supplier);
        Line("unlock", Unlock);
        foreach (var (name, value) in Metadata)
            if (name is not ("basis" or "source" or "missing" or "supplier" or "unlock"))
                Line(name, value);
        foreach (var (field, description) in Faults)
            Line("field", $"{field}: {description}");
        if (RetryAfter is { } after)
            Line("try again", $"after {after.TotalSeconds:0.###} s");
        return text.ToString();

        void Line(string name, string value)
        {
            if (value.Length > 0)
                text.Append($"\n  {Terminal.Line(name) + ":", -10} {Terminal.Line(value)}");
        }
    }
}

/// <summary>A mark on the exception that ends a write: the client had sent the write before within the same call. The service may then have
/// recorded it, whatever the result of the last attempt.</summary>
internal static class SentBefore
{
    private const string Mark = "ministries.sent-before";

    /// <summary>Sets the mark.</summary>
    public static void Note(RpcException e) => e.Data[Mark] = true;

    /// <summary>Whether the mark is set.</summary>
    public static bool Is(RpcException e) => e.Data.Contains(Mark);
}
