using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>What one writing RPC may do: from which states, for which side, and what follows. A rule is declared once, as a value named
/// after its RPC.</summary>
public abstract class Rule
{
    private protected Rule(MessageDescriptor request) =>
        Method = Methods.NameFor(request) ?? throw new ArgumentException($"no RPC takes {request.FullName}", nameof(request));

    /// <summary>The RPC's full name without a leading slash, such as <c>ministries.consular.v1.ConsularService/BeginReview</c>.</summary>
    public string Method { get; }

    /// <summary>The RPC's own name, such as <c>BeginReview</c>.</summary>
    public string Name => Method[(Method.IndexOf('/') + 1)..];

    /// <summary>The states of the record from which it is allowed. Empty: its record has no states that matter, or is yet to be made.
    /// </summary>
    public abstract IReadOnlyList<Enum> States { get; }

    /// <summary>The name of the only side that may do it, such as <c>detaining power</c>; null: every participant with the grant.</summary>
    public abstract string? SideName { get; }

    /// <summary>Whether it is allowed in a closed case: facts, corrections and what Article 12(3) demands.</summary>
    public bool InClosedCase { get; init; }

    /// <summary>How many officials must approve it beside the one who acts, whatever the agreement says; the agreement may demand
    /// more.</summary>
    public uint Approvals { get; init; }

    /// <summary>Whether it decides by itself to whom content may be sealed, instead of <see cref="Gate.Recipients"/>.</summary>
    public bool Releases { get; init; }
}

/// <summary>A rule with the types of its request and of its answer.</summary>
/// <typeparam name="TRequest">The request.</typeparam>
/// <typeparam name="TResponse">The answer.</typeparam>
public abstract class Rule<TRequest, TResponse> : Rule
    where TRequest : class, IMessage<TRequest>, new()
    where TResponse : class, IMessage<TResponse>, new()
{
    private protected Rule()
        : base(new TRequest().Descriptor) { }

    /// <summary>Decides a request. Pure: the same states, request and context give the same decision.</summary>
    /// <param name="request">The request.</param>
    /// <param name="context">The caller, the time and the states.</param>
    public abstract Decision Run(TRequest request, RuleContext context);
}

/// <summary>
/// A rule on a kind of record. The checks that all rules share are made here, in one order for all records of all services. The order is:
/// the record exists and the caller may see it; the caller's capacity; the grant; the caller's side; approvals; the case is open; the
/// caller saw the record as it is (etag); the record's state; the recipients of sealed content; the rule's own demands; and last, room. The
/// fields that all events and answers share are added at the end. Decision 0049 gives the reasons for this order.
/// </summary>
/// <typeparam name="TRecord">The record's state.</typeparam>
/// <typeparam name="TRequest">The request.</typeparam>
/// <typeparam name="TResponse">The answer.</typeparam>
public sealed class Rule<TRecord, TRequest, TResponse> : Rule<TRequest, TResponse>
    where TRecord : class, IMessage<TRecord>, new()
    where TRequest : class, IMessage<TRequest>, new()
    where TResponse : class, IMessage<TResponse>, new()
{
    private readonly RecordKind<TRecord> _kind;
    private readonly IFieldAccessor? _case,
        _record,
        _prisoner,
        _etag,
        _other,
        _otherEtag;
    private readonly IFieldAccessor _answeredId,
        _answeredEtag;
    private readonly IFieldAccessor? _answeredState;
    private readonly bool _isOfPersons;
    private readonly IReadOnlyList<Enum> _from = [];
    private readonly ulong _fromBits = ulong.MaxValue;

    /// <summary>A rule on records of a kind.</summary>
    /// <param name="kind">The kind of record.</param>
    public Rule(RecordKind<TRecord> kind)
    {
        _kind = kind;
        _isOfPersons = Gate.CapacityFor(Method) is Capacity.Custody or Capacity.Consular;
        var (request, response) = (new TRequest().Descriptor, new TResponse().Descriptor);
        _case = request.FindFieldByName("case")?.Accessor;
        _record = (request.FindFieldByName(kind.Field) ?? request.FindFieldByName("record"))?.Accessor;
        _prisoner = request.FindFieldByName("prisoner")?.Accessor;
        _etag = request.FindFieldByName("etag")?.Accessor;
        _other = request.FindFieldByName($"same_as_{kind.Field}")?.Accessor;
        _otherEtag = request.FindFieldByName("same_as_etag")?.Accessor;
        _answeredId = response.FindFieldByNumber(2).Accessor;
        _answeredEtag = response.FindFieldByName("etag").Accessor;
        _answeredState = response.FindFieldByName("state")?.Accessor;
    }

    /// <summary>The states from which it is allowed. Not set: the record has none that matter.</summary>
    public IReadOnlyList<Enum> From
    {
        get => _from;
        init
        {
            _from = value;
            _fromBits = value.Aggregate(0ul, (bits, state) => bits | 1ul << Convert.ToInt32(state, null));
        }
    }

    /// <summary>The reason for which it is refused from any other state.</summary>
    public Reason Else { get; init; } = Reason.StateNotAllowed;

    /// <summary>The only side that may do it; null: every participant with the grant.</summary>
    public Side<TRecord>? By { get; init; }

    /// <summary>The reason why the record as a whole takes no such write in any state; null: it always takes it.</summary>
    public Func<TRecord, Reason?>? Unless { get; init; }

    /// <summary>Whether the record has no room for more from the caller. It is asked only about requests that are otherwise accepted; null:
    /// there is always room. No caller takes another caller's room.</summary>
    public Func<TRecord, TRequest, RuleContext, bool>? Full { get; init; }

    /// <summary>The kind of record that it makes, which its answer is then about; null: it changes the record that it is on.</summary>
    public RecordKind? Makes { get; init; }

    /// <summary>What it decides by itself, once all that is common has been asked.</summary>
    public required Func<TRecord, TRequest, RuleContext, Ruling> Decide { get; init; }

    /// <summary>Fills in what its answer has beside the record's id, etag and state. The context has the states after the change.
    /// Null: nothing.</summary>
    public Action<TResponse, TRequest, RuleContext>? Answer { get; init; }

    /// <inheritdoc/>
    public override IReadOnlyList<Enum> States => _from;

    /// <inheritdoc/>
    public override string? SideName => By?.Name;

    // The one write that needs no case is the one that makes it.
    private bool OpensCase => _case is null;

    /// <inheritdoc/>
    public override Decision Run(TRequest request, RuleContext context)
    {
        var caseId = Text(_case, request);
        var @case = OpensCase ? null : context.Find(Cases.Kind, caseId);
        var record = OpensCase ? null : Seen(Text(_record, request), @case, caseId, context);
        var other = _other is null ? null : Seen(Text(_other, request), @case, caseId, context);
        if (!OpensCase && (record is null || _other is not null && other is null))
            return new Refusal(Reason.NotFound);
        if (Enter(record, other, @case, request, context) is { } refusal)
            return refusal;
        if (_isOfPersons && !Releases && @case is not null && Unreleased(record!, @case, request, context) is { } unreleased)
            return unreleased;
        var ruling = Decide(record!, request, context);
        if (ruling.Refusal is not null)
            return ruling.Refusal;
        if (Full?.Invoke(record!, request, context) == true)
            return new Refusal(Reason.RecordFull);
        var id = Makes is null ? _kind.Id(record!) : context.NewId(Makes.Prefix);
        return Decision.Accept(
            OpensCase ? id : caseId,
            [.. ruling.Audience ?? _kind.Entries(record!)],
            Array.ConvertAll(ruling.Changes, c => c.Streams.Count > 0 ? c : _kind.On(record!, c.Event)),
            after => AnswerTo(request, context.With(after), OpensCase ? id : caseId, id)
        );
    }

    private Refusal? Unreleased(TRecord record, Case @case, TRequest request, RuleContext context) =>
        Gate.Recipients(
            context,
            request,
            @case,
            _kind.Prisoner?.Invoke(record) ?? Text(_prisoner, request),
            [.. _kind.Sides?.Invoke(record) ?? []],
            [.. _kind.Origins?.Invoke(record, context) ?? []]
        );

    // The record, if the caller may see it. A record that the caller may not see is handled like one that does not exist.
    private TRecord? Seen(string id, Case? @case, string caseId, RuleContext context)
    {
        var record = context.Find(_kind.Stream, _kind.Key(caseId, id));
        return
            record is not null
            && @case is not null
            && _kind.Case(record) == caseId
            && (_kind.SeenBy is null || Cases.MaySee(context.Caller, @case, [.. _kind.SeenBy(record)]))
            ? record
            : null;
    }

    // The checks of every write before its own demands, in the order of the refusals.
    private Refusal? Enter(TRecord? record, TRecord? other, Case? @case, TRequest request, RuleContext context)
    {
        var named = _prisoner is null ? null : Text(_prisoner, request);
        var prisoner = record is null || _kind.Prisoner is null ? named : _kind.Prisoner(record);
        if (named is not null && prisoner != named)
            return new Refusal(Reason.NotFound);
        var side = record is null ? null : By?.Check(record, context);
        if (Gate.Check(context, request, @case, prisoner, OpensCase, InClosedCase, side, Approvals) is { } refusal)
            return refusal;
        if (
            other is not null
            && _kind.Prisoner is not null
            && Gate.Check(context, request, @case, _kind.Prisoner(other), closedToo: InClosedCase) is { } refused
        )
            return refused;
        if (record is null)
            return null;
        return SeenAsItIs(_etag, record, @case!, request, context)
            ?? (other is null ? null : SeenAsItIs(_otherEtag, other, @case!, request, context))
            ?? (Unless?.Invoke(record) is { } reason ? new Refusal(reason) : null)
            ?? ((_fromBits >> _kind.State(record) & 1) == 1 ? null : NotFrom(record));
    }

    private Refusal? SeenAsItIs(IFieldAccessor? etag, TRecord record, Case @case, TRequest request, RuleContext context) =>
        etag is null ? null : Gate.CheckEtag(context, Text(etag, request), _kind.Show(record, @case, context));

    private Refusal NotFrom(TRecord record) => Else == Reason.StateNotAllowed ? _kind.NotAllowed(record) : new Refusal(Else);

    private TResponse AnswerTo(TRequest request, RuleContext after, string caseId, string id)
    {
        var (shown, state) = (Makes ?? _kind).ShownTo(after, caseId, id);
        var response = new TResponse();
        _answeredId.SetValue(response, id);
        _answeredEtag.SetValue(response, after.EtagOf(shown));
        _answeredState?.SetValue(response, state);
        Answer?.Invoke(response, request, after);
        return response;
    }

    private static string Text(IFieldAccessor? field, TRequest request) => (string?)field?.GetValue(request) ?? "";
}
