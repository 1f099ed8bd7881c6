using System.Diagnostics;
using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Ministries.Contracts;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Sealing;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Gateway;

/// <summary>Who calls the gateway.</summary>
/// <param name="Name">A name for the gateway's own list: a system's, or what the provider calls an official.</param>
/// <param name="Official">The official's code; null: a system calls, and names in each write for whom.</param>
/// <param name="Office">The official's office; null: he names it himself.</param>
/// <param name="IsApprover">Whether the caller may open personal data to others.</param>
internal sealed record Caller(string Name, string? Official, string? Office, bool IsApprover);

/// <summary>What was read.</summary>
/// <param name="Message">The answer, opened.</param>
/// <param name="SeenTime">Since when the mirror knows it; null: the service itself answered.</param>
/// <param name="CheckTime">Of the mirror: when it last had everything that the service showed.</param>
internal sealed record Reading(IMessage Message, DateTimeOffset? SeenTime, DateTimeOffset? CheckTime);

/// <summary>
/// The gateway's work between its callers and the services, for callers by JSON and by gRPC. It completes a write: the acting official, the
/// request id, the etag, the seals. The outbox sends it. It opens what comes back.
/// </summary>
internal sealed class Exchange
{
    private readonly MinistryClient _client;
    private readonly Outbox _outbox;
    private readonly Mirror _mirror;
    private readonly TimeProvider _time;
    private readonly Openings _openings;
    private readonly byte[] _key;

    public Exchange(GatewaySettings settings, MinistryClient client, Outbox outbox, Mirror mirror, TimeProvider time)
    {
        (_client, _outbox, _mirror, _time, _openings) = (client, outbox, mirror, time, new Openings(client, mirror));
        var path = Path.Combine(settings.State, "outbox.key");
        if (!File.Exists(path))
            WholeFile.Write(path, Convert.ToBase64String(RandomNumberGenerator.GetBytes(32)));
        _key = Convert.FromBase64String(File.ReadAllText(path));
    }

    /// <summary>Reads: from the service, or from the mirror if the service is not reached.</summary>
    /// <param name="service">The service's name.</param>
    /// <param name="method">The RPC.</param>
    /// <param name="request">Its request.</param>
    /// <param name="asOf">As it was known then, which the mirror alone answers; null: now.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="RefusedException">The service refused.</exception>
    /// <exception cref="GatewayRefusedException">Nobody knows the answer.</exception>
    public async Task<Reading> Read(
        string service,
        MethodDescriptor method,
        IMessage request,
        DateTimeOffset? asOf,
        CancellationToken cancel
    )
    {
        var read = await ReadSealed(service, method, request, asOf, cancel);
        await _openings.Open(read.Message, service, request, cancel);
        return read;
    }

    /// <summary>Makes a write, and waits for its answer for the time that the settings give.</summary>
    /// <param name="service">The service's name.</param>
    /// <param name="method">The RPC.</param>
    /// <param name="request">Its request.</param>
    /// <param name="caller">Who calls.</param>
    /// <param name="wish">The wish that the request is to show; null: none.</param>
    /// <param name="cancel">Ends the wait.</param>
    /// <returns>What became of it so far.</returns>
    /// <exception cref="GatewayRefusedException">The gateway does not accept it.</exception>
    /// <exception cref="RefusedException">A record that must be read first cannot be.</exception>
    public async Task<OutboxStatus> Write(
        string service,
        MethodDescriptor method,
        IMessage request,
        Caller caller,
        WishToShow? wish,
        CancellationToken cancel
    )
    {
        DemandApprover(request, caller, wish);
        FillActor(request, caller);
        Identify(request);
        var id = Contract.TextOf(request, "request_id");
        var digest = DigestOf(service, method, request, wish);
        Telemetry.Makes(id);
        // A known write needs no service. A refused write that can be mended may be sent again.
        if (id.Length > 0 && _outbox.Find(id) is { IsMendable: false } known)
        {
            // Earlier versions left the service out, and what they accepted is still in the outbox.
            byte[][] digests = known.Item.Service == service ? [digest, DigestOf(null, method, request, wish)] : [digest];
            DemandSame(known.Item, digests);
            if (known.State == OutboxState.Unproved)
                await _outbox.Resume(known.Item);
            return await _outbox.Wait(known.Item, cancel);
        }
        // The write would wait until somebody changes the settings, and would hold up other writes once the outbox is full.
        if (!_client.Services.Contains(service))
            throw new GatewayRefusedException(GatewayReason.ServiceUnreachable, $"the settings name no address of {service}");
        await Complete(service, request, wish, cancel);
        Telemetry.Makes(Contract.TextOf(request, "request_id"));
        var item = await _outbox.Add(
            new OutboxItem(
                Contract.TextOf(request, "request_id"),
                service,
                Contract.NameOf(method),
                request.ToByteArray(),
                digest,
                caller.Name,
                Activity.Current?.Id ?? "",
                _time.GetUtcNow()
            )
        );
        DemandSame(item, [digest]);
        return await _outbox.Wait(item, cancel);
    }

    /// <summary>Completes a write without making it: what officials approve.</summary>
    public async Task<IMessage> Prepare(string service, IMessage request, Caller caller, WishToShow? wish, CancellationToken cancel)
    {
        DemandApprover(request, caller, wish);
        FillActor(request, caller);
        Identify(request);
        await Complete(service, request, wish, cancel);
        return request;
    }

    /// <summary>The fault that somebody must mend before the write is sent; null: there is none.</summary>
    public string? HindranceOf(OutboxStatus status) => _outbox.HindranceOf(status.Item.RequestId);

    /// <summary>The answer to a write. No service puts anything sealed into one.</summary>
    public static IMessage AnswerIn(OutboxStatus status)
    {
        var response = status.Response;
        Openings.Strip(response);
        return response;
    }

    private static void DemandSame(OutboxItem item, byte[][] digests)
    {
        if (!digests.Any(d => CryptographicOperations.FixedTimeEquals(item.Digest, d)))
            throw new GatewayRefusedException(
                GatewayReason.IdempotencyKeyReused,
                $"the request id {item.RequestId} is of another request",
                "request_id"
            );
    }

    // Keyed, so that nobody who has the outbox alone can try guesses about what is sealed in it. Without a service it is as earlier
    // versions made it.
    private byte[] DigestOf(string? service, MethodDescriptor method, IMessage request, WishToShow? wish)
    {
        using var hash = IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, _key);
        hash.AppendData(System.Text.Encoding.UTF8.GetBytes($"{Contract.NameOf(method)}\n"));
        // The methods of every service's ledger are another write at each of them.
        if (service is not null && method.File.Package != $"ministries.{service}.v1")
            hash.AppendData(System.Text.Encoding.UTF8.GetBytes($"{service}\n"));
        // The id is what it is compared by, and may have been given by the gateway.
        var id = request.Descriptor.FindFieldByName("request_id");
        var given = id?.Accessor.GetValue(request);
        id?.Accessor.SetValue(request, "");
        hash.AppendData(request.ToByteArray());
        id?.Accessor.SetValue(request, given);
        if (wish is not null)
            hash.AppendData(System.Text.Encoding.UTF8.GetBytes($"{wish.Destination}\n{string.Join('\n', wish.Prisoners)}"));
        return hash.GetHashAndReset();
    }

    // It goes into headers, addresses and the log. Another than the contract's could not be sent, and would wait in the outbox for ever.
    private static void Identify(IMessage request)
    {
        var id = Contract.TextOf(request, "request_id");
        if (id.Length > 0 && (!Guid.TryParseExact(id, "D", out var uuid) || uuid.ToString() != id))
            throw new GatewayRefusedException(GatewayReason.BodyInvalid, "it must be a UUID in lower case", "request_id");
    }

    // An opening tells all sides what the prisoner wishes, in any request and from any caller.
    private static void DemandApprover(IMessage request, Caller caller, WishToShow? wish)
    {
        if (!caller.IsApprover && (wish is not null || MinistryClient.HasOpenings(request)))
            throw new GatewayRefusedException(
                GatewayReason.RoleMissing,
                "who opens a wish must be an approver",
                wish is not null ? JsonEndpoints.Opens : MinistryClient.Openings
            );
    }

    private static void FillActor(IMessage request, Caller caller)
    {
        if (caller.Official is null || request.Descriptor.FindFieldByName("actor") is not { } field)
            return;
        if (field.Accessor.GetValue(request) is not Actor actor)
            field.Accessor.SetValue(request, actor = new Actor());
        if (actor.Official.Length == 0)
            actor.Official = caller.Official;
        if (actor.Office.Length == 0)
            actor.Office = caller.Office ?? "";
        if (actor.Official != caller.Official || caller.Office is not null && actor.Office != caller.Office)
            throw new GatewayRefusedException(GatewayReason.ActorNotCaller, "the actor is not the official who calls", "actor");
    }

    private async Task Complete(string service, IMessage request, WishToShow? wish, CancellationToken cancel)
    {
        var (plain, @sealed) = (new List<SealedPlace>(), new List<SealedPlace>());
        foreach (var place in Seals.WithPaths(request))
            (PlainJson.IsPlain(place.Sealed.Scheme) ? plain : @sealed).Add(place);
        @sealed.ForEach(DemandSealed);
        if (
            Approvals.IsIn(request)
            && (
                plain.Count > 0
                || IsToWrap(request)
                || Contract.TextOf(request, "request_id").Length == 0
                || RecordReference.WithoutEtag(service, request).Any()
            )
        )
            throw new GatewayRefusedException(GatewayReason.ApprovedIncomplete, "the request is not the one that was approved");
        if (request.Descriptor.FindFieldByName("request_id") is { } id && Contract.TextOf(request, "request_id").Length == 0)
            id.Accessor.SetValue(request, MinistryClient.NewRequestId());
        foreach (var (field, record) in RecordReference.WithoutEtag(service, request).ToList())
        {
            var seen = await ReadSealed(record.Service, record.Get, record.Request, null, cancel);
            field.Accessor.SetValue(request, Contract.TextOf(seen.Message, "etag"));
        }
        if (wish is not null)
            await AddOpenings(request, wish, cancel);
        foreach (var one in plain)
            await Seal(request, one, cancel);
        if (IsToWrap(request))
            await Wrap(service, (ShareSealedRequest)request, cancel);
    }

    // A caller that misspells the scheme has sealed nothing, so its content must not be kept and sent as it is. The service checks whether
    // the recipients can open sealed content.
    private static void DemandSealed(SealedPlace place)
    {
        if (place.Sealed.Scheme != Seals.Scheme)
            throw Wrong($"the scheme must be {PlainJson.Scheme} or {Seals.Scheme}");
        if (Validation.Check(place.Sealed) is [var fault, ..])
            throw Wrong($"{fault.Field} {fault.Description}");
        if (Seals.Read(place.Sealed.Content)?.Message != place.Declared.Message)
            throw Wrong($"the content is not a sealed {place.Declared.Message}");

        GatewayRefusedException Wrong(string why) => new(GatewayReason.BodyInvalid, why, place.Path);
    }

    private static bool IsToWrap(IMessage request) => request is ShareSealedRequest { Encapsulation.IsEmpty: true, Secret.IsEmpty: true };

    // Adds the wrap, which only a participant that can open the datum can make.
    private async Task Wrap(string service, ShareSealedRequest request, CancellationToken cancel)
    {
        try
        {
            await _client.AddWrap(service, request, cancel);
        }
        catch (Exception e) when (e is ArgumentException or SealException)
        {
            throw new GatewayRefusedException(GatewayReason.BodyInvalid, e.Message, e is SealException ? "field" : "recipient");
        }
        catch (Exception e) when (e is HttpRequestException or InvalidEntryException or InvalidLogException)
        {
            throw new GatewayRefusedException(GatewayReason.ServiceUnreachable, e.Message);
        }
    }

    private async Task AddOpenings(IMessage request, WishToShow wish, CancellationToken cancel)
    {
        try
        {
            await _client.AddOpenings(
                request,
                wish,
                async (service, method, get) =>
                    await ReadSealed(service, method, get, null, cancel) is { SeenTime: null } read
                        ? read.Message
                        // He may have said something else since.
                        : throw new GatewayRefusedException(
                            GatewayReason.ServiceUnreachable,
                            "what is opened must be as the service has it now, and it does not answer"
                        )
            );
        }
        catch (ArgumentException e)
        {
            throw new GatewayRefusedException(GatewayReason.ParameterInvalid, e.Message, JsonEndpoints.Opens);
        }
        catch (InvalidDataException e)
        {
            throw new GatewayRefusedException(GatewayReason.ServiceUnreachable, e.Message);
        }
    }

    private async Task Seal(IMessage request, SealedPlace place, CancellationToken cancel)
    {
        if (place.Sealed.Scheme != PlainJson.Scheme && PlainJson.TypeOf(place.Sealed.Scheme)?.FullName != place.Declared.Message)
            throw new GatewayRefusedException(GatewayReason.BodyInvalid, $"the content is not a {place.Declared.Message}", place.Path);
        try
        {
            var message = Seals.MessageNamed(place.Declared.Message)!.Parser.ParseFrom(place.Sealed.Content);
            IReadOnlyCollection<string> recipients = [.. place.Sealed.Recipients];
            if (recipients.Count == 0)
                recipients = await _client.RecipientsOf(
                    request,
                    place.Declared,
                    async (service, method, get) =>
                        await ReadSealed(service, method, get, null, cancel) is { SeenTime: null } read
                            ? read.Message
                            // A participant may have left the case since, and must not get the content.
                            : throw new GatewayRefusedException(
                                GatewayReason.ServiceUnreachable,
                                $"{service} does not answer, so nobody knows to whom it is to be sealed now: name the recipients",
                                place.Path
                            )
                );
            _client.Seal(request, message, recipients);
        }
        catch (Exception e) when (e is InvalidProtocolBufferException or ArgumentException or SealException)
        {
            // These say which recipient has no key, or which field is too long, and nothing of what is in it.
            throw new GatewayRefusedException(
                GatewayReason.BodyInvalid,
                e is InvalidProtocolBufferException ? $"the content is not a {place.Declared.Message}" : e.Message,
                place.Path
            );
        }
    }

    // It gave no answer, or whoever answered is not the service.
    private static bool IsAway(RpcException e) =>
        e.StatusCode is StatusCode.Unavailable or StatusCode.DeadlineExceeded
        || e.Status.DebugException is { } fault && (ServiceChannel.IsLost(fault) || ServiceChannel.IsUnproved(fault));

    private async Task<Reading> ReadSealed(
        string service,
        MethodDescriptor method,
        IMessage request,
        DateTimeOffset? asOf,
        CancellationToken cancel
    )
    {
        if (asOf is { } time)
            return await _mirror.Read(service, method, request, time, cancel);
        if (_client.Services.Contains(service))
            try
            {
                return new Reading(await _client.Call(service, method, request, cancel), null, null);
            }
            catch (RpcException e) when (IsAway(e))
            {
                // The mirror may know it.
            }
        try
        {
            return await _mirror.Read(service, method, request, null, cancel);
        }
        catch (GatewayRefusedException missing) when (missing.Reason == GatewayReason.NotInMirror)
        {
            throw new GatewayRefusedException(
                GatewayReason.ServiceUnreachable,
                $"{service} is not reached, and the mirror has no copy of what was asked for"
            );
        }
    }
}
