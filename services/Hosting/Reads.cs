using System.Buffers.Binary;
using System.Buffers.Text;
using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Grpc.Core;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>Runs every read: identity, form, grant, need to know.</summary>
public sealed class Reads
{
    /// <summary>The number of records on a page where the request names none: 50.</summary>
    public const int DefaultPage = 50;

    /// <summary>The greatest number of records on a page: 200.</summary>
    public const int LargestPage = 200;

    // The number of guessed cases of records that are kept.
    private const int MostGuesses = 10_000;

    // How many judgements are kept for one state of a record.
    private const int MostJudgements = 4;

    private readonly ServiceLedger _ledger;
    private readonly PageTokens _tokens;

    internal Reads(ServiceLedger ledger, PageTokens tokens) => (_ledger, _tokens) = (ledger, tokens);

    // The cases of records that a request may name without their case, as the same participant was shown them before. Each is only a guess,
    // which is checked. Records that the participant may not see are not kept here, because he could notice the faster answer.
    private readonly ConcurrentDictionary<(string Participant, string Key), string> _casesOfRecords = new();

    // Judgements of a record's state, kept for as long as that state.
    private readonly ConditionalWeakTable<IMessage, Judgement[]> _judgements = [];

    // The bytes of answers that were given more than once, kept for as long as the answers.
    private readonly ConditionalWeakTable<object, byte[]> _written = [];

    // The key of no case. A record that does not exist is looked up together with this key, so that it costs the same reads as one that
    // exists.
    private const string NoCase = "case_00000000000000000000000000";

    /// <summary>Reads one record that the caller may see.</summary>
    /// <param name="request">The request, as received.</param>
    /// <param name="context">The call.</param>
    /// <param name="kind">The kind of record.</param>
    /// <param name="key">The record's key.</param>
    /// <returns>The record, not to be changed, and the reader with the tokens that matter for it.</returns>
    /// <exception cref="RpcException">NOT_FOUND where it does not exist or is not for the caller; NOT_GRANTED where the caller may see it
    /// but not call the method.</exception>
    public Task<(T Record, Reader Reader)> Get<T>(IMessage request, ServerCallContext context, StreamKind<T> kind, string key)
        where T : class, IMessage<T>, new() => Read(request, context, kind, key, static (record, judged) => (record, judged.Reader));

    /// <summary>Reads one record that the caller may see, and shows it.</summary>
    /// <param name="request">The request, as received.</param>
    /// <param name="context">The call.</param>
    /// <param name="kind">The kind of record.</param>
    /// <param name="key">The record's key.</param>
    /// <param name="show">Makes the answer from the record and the reader alone. It is called once for as long as record, case and
    /// agreement stay the same.</param>
    /// <returns>The answer, not to be changed.</returns>
    /// <exception cref="RpcException">As <see cref="Get"/>.</exception>
    public Task<TResponse> Show<T, TResponse>(
        IMessage request,
        ServerCallContext context,
        StreamKind<T> kind,
        string key,
        Func<T, Reader, TResponse> show
    )
        where T : class, IMessage<T>, new()
        where TResponse : class, IMessage<TResponse> =>
        Read(
            request,
            context,
            kind,
            key,
            (record, judged) =>
            {
                if (judged.Answer is not { } shown)
                    return (TResponse)(judged.Answer = show(record, judged.Reader));
                _written.GetValue(shown, static answer => ((IMessage)answer).ToByteArray());
                return (TResponse)shown;
            }
        );

    /// <summary>The bytes of an answer; null: it must be serialized.</summary>
    internal byte[]? Written(object answer) => _written.TryGetValue(answer, out var bytes) ? bytes : null;

    /// <summary>The refusal of what is not there or not for the caller, at a time that does not tell the two apart.</summary>
    /// <param name="context">The call.</param>
    public static async Task<RpcException> NotFound(ServerCallContext context)
    {
        await Evenly.Wait(context);
        return Refuse(context, Reason.NotFound);
    }

    private async Task<TResult> Read<T, TResult>(
        IMessage request,
        ServerCallContext context,
        StreamKind<T> kind,
        string key,
        Func<T, Judgement, TResult> result
    )
        where T : class, IMessage<T>, new()
    {
        var cancel = context.CancellationToken;
        var (permissions, caller) = Caller(context);
        // A key of two parts holds a prisoner's reference, which goes into no trace (D16).
        if (!key.Contains('/'))
            EdgeCall.Of(context).Span?.SetTag("ministries.record", key);
        // The case must not be older than the record: a party that was removed before the record changed must not see the change. So the
        // case is read with the record if the request or an earlier read says which case it is, and after the record otherwise.
        var isCase = ReferenceEquals(kind, Cases.Kind);
        var named =
            isCase ? ""
            : NeedToKnow.CaseOf(request) is { Length: > 0 } said ? said
            : _casesOfRecords.GetValueOrDefault((caller.Id, key), "");
        var (found, beside) = await FindWithCase(kind, key, named, cancel);
        if (found is null)
        {
            if (named.Length == 0 && !isCase)
                await _ledger.Find(Cases.Kind, NoCase, null, cancel);
            await Evenly.Wait(context);
            throw Refuse(context, Reason.NotFound);
        }
        var record = found.State;
        var method = context.NameOf();
        // Most records are about one case, the one that was read with them.
        if (Known(record, caller, permissions, method, isCase ? (Case)(object)record : beside?.State) is not { } judged)
        {
            var ids = CasesAbout(kind, record).ToList();
            var cases = new Dictionary<string, Case>();
            foreach (var id in ids)
                if (isCase && id == key)
                    cases[id] = (Case)(object)record;
                else if ((id == named ? beside : await _ledger.Find(Cases.Kind, id, null, cancel))?.State is { } @case)
                    cases[id] = @case;
            var reader = Cases.ReaderOf(caller, cases.Values);
            var reason = NeedToKnow.Judge(record, kind, reader, EdgeCall.Of(context).Granted, cases);
            judged = new(caller, permissions, method, cases.GetValueOrDefault(ids.FirstOrDefault("")), reader, reason);
            if (judged.Reason == Reason.NotFound)
            {
                // This judgement is not kept, so that the next answer takes as long.
                await Evenly.Wait(context);
                throw Refuse(context, Reason.NotFound);
            }
            if (named.Length == 0 && !isCase && NeedToKnow.CaseOf(record) is { Length: > 0 } own)
                Remember(caller, key, own);
            if (ids.Count == 1 && cases.Count == 1)
                Keep(record, judged);
        }
        return judged.Reason == Reason.Unspecified ? result(record, judged) : throw Refuse(context, judged.Reason);
    }

    private async Task<(Recorded<T>? Record, Recorded<Case>? Case)> FindWithCase<T>(
        StreamKind<T> kind,
        string key,
        string @case,
        CancellationToken cancel
    )
        where T : class, IMessage<T>, new()
    {
        if (@case.Length == 0)
            return (await _ledger.Find(kind, key, null, cancel), null);
        var together = await _ledger.FindTogether(kind, key, Cases.Kind, @case);
        return (together.Of(kind, key), together.Of(Cases.Kind, @case));
    }

    private void Remember(Participant caller, string key, string @case)
    {
        if (_casesOfRecords.Count >= MostGuesses)
            _casesOfRecords.Clear();
        _casesOfRecords[(caller.Id, key)] = @case;
    }

    private Judgement? Known(IMessage record, Participant caller, Permissions permissions, string method, Case? @case)
    {
        if (@case is null || !_judgements.TryGetValue(record, out var known))
            return null;
        foreach (var judged in known)
            if (judged.Is(caller, permissions, method, @case))
                return judged;
        return null;
    }

    private void Keep(IMessage record, Judgement judged) =>
        _judgements.AddOrUpdate(
            record,
            _judgements.TryGetValue(record, out var known) ? [judged, .. known.Take(MostJudgements - 1)] : [judged]
        );

    /// <summary>Whether a participant may see a record. A judgement counts only for the same states of record and case, and for the same
    /// version of the agreement.</summary>
    private sealed class Judgement(Participant caller, Permissions permissions, string method, Case? @case, Reader reader, Reason reason)
    {
        public Reader Reader => reader;

        public Reason Reason => reason;

        /// <summary>The answer that shows the record; null: there is none yet.</summary>
        public IMessage? Answer { get; set; }

        public bool Is(Participant reader, Permissions by, string asked, Case about) =>
            ReferenceEquals(caller, reader) && ReferenceEquals(permissions, by) && ReferenceEquals(@case, about) && method == asked;
    }

    /// <summary>Lists records that the caller may see, oldest first, in an order that does not change while others write. A page may be
    /// shorter than asked for although more follow.</summary>
    /// <param name="request">The request, as received, with <c>page_size</c> and <c>page_token</c>.</param>
    /// <param name="context">The call.</param>
    /// <param name="kind">The kind of records.</param>
    /// <param name="filters">Keys (<see cref="StreamKind.KeysOf"/>) that a record must all have; empty ones are left out.</param>
    /// <returns>The records, the token of the next page, and the reader with the tokens that matter for these records.</returns>
    /// <exception cref="RpcException">REQUEST_INVALID where the page token is not one of this caller's for these filters.</exception>
    public async Task<(IReadOnlyList<T> Records, string NextPageToken, Reader Reader)> List<T>(
        IMessage request,
        ServerCallContext context,
        StreamKind<T> kind,
        params IEnumerable<string?> filters
    )
        where T : class, IMessage<T>, new()
    {
        var cancel = context.CancellationToken;
        var (caller, granted) = (CallerOf(context), EdgeCall.Of(context).Granted);
        var keys = filters.Where(f => !string.IsNullOrEmpty(f)).Select(f => f!).ToArray();
        var bound = _tokens.Bind(context.NameOf(), caller.Id, kind.Name, keys);
        var size = Value(request, "page_size") is int asked and > 0 ? Math.Min(asked, LargestPage) : DefaultPage;
        var after = 0ul;
        if (Value(request, "page_token") is string { Length: > 0 } token && !PageTokens.TryRead(token, bound, out after))
            throw Refuse(context, Refusals.Invalid("page_token", "must be a page token as it was returned, with the same filters"));
        var found = await _ledger.List(kind, keys, Viewer.Of(caller), after, size + 1, cancel);
        var page = found.Take(size).ToArray();
        // The cases are read after the records, so a party that was removed before a record changed does not see the change.
        var cases = await CasesOf(caller, page.SelectMany(r => CasesAbout(kind, r.State)), cancel);
        var reader = Cases.ReaderOf(caller, cases.Values);
        T[] shown =
        [
            .. page.Where(r => NeedToKnow.Judge(r.State, kind, reader, granted, cases) == Reason.Unspecified).Select(r => r.State),
        ];
        // A filter may be an id that the caller guessed. That nothing is shown must take as long where something is hidden.
        if (shown.Length == 0 && keys.Length > 0)
            await Evenly.Wait(context);
        return (shown, found.Count > size ? PageTokens.Write(page[^1].Number, bound) : "", reader);
    }

    /// <summary>Who calls.</summary>
    public static Participant CallerOf(ServerCallContext context) => Caller(context).Caller;

    /// <summary>The version of the agreement by which the call is judged. A later one may be in force meanwhile.</summary>
    public static Permissions PermissionsOf(ServerCallContext context) => Caller(context).Permissions;

    /// <summary>Reads a state for the service's own use, such as before it asks another service; null: there is none.</summary>
    public async Task<T?> Peek<T>(StreamKind<T> kind, string key, CancellationToken cancel)
        where T : class, IMessage<T>, new() => (await _ledger.Find(kind, key, null, cancel))?.State;

    /// <summary>Reads a record and a case as they are at one moment, for the service's own use.</summary>
    public async Task<(T? Record, Case? Case)> PeekWithCase<T>(StreamKind<T> kind, string key, string @case)
        where T : class, IMessage<T>, new()
    {
        var found = await _ledger.FindTogether(kind, key, Cases.Kind, @case);
        return (found.Of(kind, key)?.State, found.Of(Cases.Kind, @case)?.State);
    }

    /// <summary>A participant with its tokens among those of an audience.</summary>
    internal async Task<Reader> ReaderAmong(IEnumerable<string> audience, Participant participant, CancellationToken cancel) =>
        Cases.ReaderOf(participant, (await CasesOf(participant, audience.Select(Audience.CaseOf), cancel)).Values);

    private static (Permissions Permissions, Participant Caller) Caller(ServerCallContext context) =>
        (EdgeCall.Of(context).Agreement.Permissions, EdgeCall.Of(context).Caller.Participant);

    // The cases that decide who may see a record.
    private static IEnumerable<string> CasesAbout(StreamKind kind, IMessage record) =>
        kind.AudienceOf(record).Select(Audience.CaseOf).Append(NeedToKnow.CaseOf(record)).Where(c => c.Length > 0).Distinct();

    // The cases among these to which a participant is a party. Even without any case the same read is made, so that it takes equally long.
    private async Task<Dictionary<string, Case>> CasesOf(Participant participant, IEnumerable<string> ids, CancellationToken cancel)
    {
        var wanted = ids.Where(id => id.Length > 0).Distinct().DefaultIfEmpty(NoCase);
        var found = await Task.WhenAll(wanted.Select(id => _ledger.Find(Cases.Kind, id, null, cancel)));
        return found.OfType<Recorded<Case>>().Select(c => c.State).Where(c => Cases.IsParty(participant, c)).ToDictionary(c => c.Id);
    }

    private static object? Value(IMessage request, string name) => request.Descriptor.FindFieldByName(name)?.Accessor.GetValue(request);

    private static RpcException Refuse(ServerCallContext context, Reason reason) => Refuse(context, new Refusal(reason));

    private static RpcException Refuse(ServerCallContext context, Refusal refusal)
    {
        Refusals.Trace(context.GetHttpContext(), refusal);
        return refusal.ToException();
    }
}

/// <summary>Page tokens. A token is the number of the last record on a page, encrypted and authenticated (AES-256-GCM, NIST SP 800-38D)
/// with a key for one list of one participant. Records are numbered in the order in which the service made them, so a readable number would
/// tell its holder how many others there are.</summary>
/// <param name="secret">A secret that all replicas of the service have and that stays the same across restarts. The keys are derived from
/// it (HKDF, RFC 5869). Tokens of another secret are not accepted, and the list must be started again.</param>
internal sealed class PageTokens(byte[] secret)
{
    private const int Nonce = 12,
        Tag = 16,
        Length = Nonce + sizeof(ulong) + Tag;

    private static readonly byte[] Purpose = [.. "ministries.page-token.v1"u8, 0];

    private readonly byte[] _key = HKDF.Extract(HashAlgorithmName.SHA256, secret, []);

    /// <summary>The key of a list's tokens.</summary>
    /// <param name="method">The method that lists.</param>
    /// <param name="participant">Who reads.</param>
    /// <param name="kind">The kind of records.</param>
    /// <param name="filters">What they must have.</param>
    internal byte[] Bind(string method, string participant, string kind, IEnumerable<string> filters)
    {
        var list = SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\n', [method, participant, kind, .. filters])));
        return HKDF.Expand(HashAlgorithmName.SHA256, _key, 32, [.. Purpose, .. list]);
    }

    internal static string Write(ulong number, byte[] bound)
    {
        Span<byte> bytes = stackalloc byte[Length],
            plain = stackalloc byte[sizeof(ulong)];
        RandomNumberGenerator.Fill(bytes[..Nonce]);
        BinaryPrimitives.WriteUInt64BigEndian(plain, number);
        using var aes = new AesGcm(bound, Tag);
        aes.Encrypt(bytes[..Nonce], plain, bytes[Nonce..^Tag], bytes[^Tag..]);
        return Base64Url.EncodeToString(bytes);
    }

    internal static bool TryRead(string token, byte[] bound, out ulong number)
    {
        number = 0;
        Span<byte> bytes = stackalloc byte[Length],
            plain = stackalloc byte[sizeof(ulong)];
        try
        {
            if (token.Length != Base64Url.GetEncodedLength(Length) || Base64Url.DecodeFromChars(token, bytes) != Length)
                return false;
            using var aes = new AesGcm(bound, Tag);
            aes.Decrypt(bytes[..Nonce], bytes[Nonce..^Tag], bytes[^Tag..], plain);
        }
        catch (Exception e) when (e is FormatException or AuthenticationTagMismatchException)
        {
            return false;
        }
        number = BinaryPrimitives.ReadUInt64BigEndian(plain);
        return true;
    }
}
