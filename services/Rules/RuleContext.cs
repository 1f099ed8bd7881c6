using System.Collections.Frozen;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>All that a rule may know beside the request: the states, who asks, when and under which agreement.</summary>
public sealed class RuleContext
{
    /// <summary>The states.</summary>
    public required View View { get; init; }

    /// <summary>The caller: a participant of the agreement.</summary>
    public required Participant Caller { get; init; }

    /// <summary>The agreement in force.</summary>
    public required Permissions Permissions { get; init; }

    /// <summary>The full method name without a leading slash, such as
    /// <c>ministries.custody.v1.CustodyService/RecordStatus</c>; of an event its type.</summary>
    public required string Method { get; init; }

    /// <summary>The parts to which the agreement grants the method.</summary>
    public GrantedParts Granted => Permissions.PartsGranted(Method);

    /// <summary>The caller's id of the request; of an event its id (service/position/index).</summary>
    public required string RequestId { get; init; }

    /// <summary>The commit's time.</summary>
    public required DateTimeOffset Now { get; init; }

    /// <summary>What the service makes ids and etags with.</summary>
    public required RecordSecrets Secrets { get; init; }

    /// <summary>What another service answered before the command was queued; null: nothing was asked.</summary>
    public IMessage? Asked { get; init; }

    /// <summary>The officials whose approvals of this request were verified before it was queued. No other approval counts.</summary>
    public IReadOnlySet<string> Approved { get; init; } = FrozenSet<string>.Empty;

    /// <summary>Verifies signatures that a request carries beside its own, such as an attestation's. Where none is given, none
    /// verifies.</summary>
    public SignatureVerifier Verifies { get; init; } = static (_, _, _) => false;

    /// <summary>The commit's time as a protobuf timestamp.</summary>
    public Timestamp Time => Now.ToTimestamp();

    /// <summary>The state of a record, or null where there is none.</summary>
    public T? Find<T>(StreamKind<T> kind, string key)
        where T : class, IMessage<T>, new() => View.Find(kind, key);

    /// <summary>Whether the caller acts for the state in its own matter: it is no neutral observer and no Protecting Power.</summary>
    public bool ActsFor(string state) => Caller.ActsFor(state);

    /// <summary>The same with other states, such as those after the change.</summary>
    public RuleContext With(View view) => With(view, Asked);

    /// <summary>The same with another answer of another service, such as the part of it that is about one record.</summary>
    public RuleContext About(IMessage? asked) => With(View, asked);

    private RuleContext With(View view, IMessage? asked) =>
        new()
        {
            View = view,
            Caller = Caller,
            Permissions = Permissions,
            Method = Method,
            RequestId = RequestId,
            Now = Now,
            Secrets = Secrets,
            Asked = asked,
            Approved = Approved,
            Verifies = Verifies,
        };

    /// <summary>The id of a record that is made: the same for the same request, so that a retry names the same record, and
    /// known to nobody before. A fold that needs it again reads it in the event.</summary>
    /// <param name="kind">The id's first part, such as <c>call</c>.</param>
    /// <param name="index">Tells several records of one request apart.</param>
    public string NewId(string kind, int index = 0) => Secrets.IdOf(Caller.Id, RequestId, kind, index);

    /// <summary>The etag of a record as this caller sees it.</summary>
    /// <param name="seen">The record as it is shown to the caller.</param>
    public string EtagOf(IMessage seen) => Secrets.EtagOf(seen);
}
