using System.Collections.Concurrent;
using System.Collections.Frozen;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net.Mime;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using MassTransit;
using MassTransit.Serialization;
using Ministries.CloudEvents.V1;
using Ministries.Contracts;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Types.V1;
using Type = System.Type;

namespace Ministries.Hosting.Bus;

/// <summary>An event on its way, and what came before it.</summary>
/// <param name="Recorded">The event with its origin, time, leaf and trace context.</param>
/// <param name="After">Per other event type of the same service the number of the last event before this one, as far as the relay
/// knows. A consumer that has not processed all of these has missed earlier events.</param>
public sealed record PublishedEvent(RecordedEvent Recorded, IReadOnlyDictionary<string, ulong> After);

/// <summary>A message: events of one type of one service, in the order of its ledger.</summary>
[ExcludeFromTopology]
public abstract class EventMessage
{
    /// <summary>The events, at least one.</summary>
    public required IReadOnlyList<PublishedEvent> Events { get; init; }

    /// <summary>Whether the broker has delivered it before without an acknowledgement.</summary>
    internal bool Redelivered { get; set; }

    /// <summary>What is on the wire.</summary>
    internal byte[] Body { get; init; } = [];

    /// <summary>The producer's signature and certificate, as they came (<see cref="MessageSeal"/>).</summary>
    internal (string Signature, string Certificate) Seal { get; init; }

    internal EventOrigin Origin => Events[0].Recorded.Origin;

    internal string Type => Events[0].Recorded.Event.Type;
}

/// <summary>Events of one type. One class per event type makes MassTransit use one exchange per event type. MassTransit never sees the
/// protobuf class, because it would take that class's interfaces for messages too.</summary>
/// <typeparam name="T">The event.</typeparam>
public sealed class EventMessage<T> : EventMessage
    where T : IMessage<T>;

/// <summary>A message that a process sends to itself through the broker, to check that the broker delivers.</summary>
public sealed class Canary
{
    /// <summary>Its number.</summary>
    public required long Number { get; init; }
}

/// <summary>A service's ledger named an event that the service cannot have made.</summary>
/// <param name="producer">The service.</param>
/// <param name="recorded">The event.</param>
internal sealed class ForeignEventException(string producer, RecordedEvent recorded)
    : Exception($"the ledger of {producer} has no event of type {recorded.Event?.Type} of {recorded.Origin?.Service}");

/// <summary>The events that the contracts know.</summary>
public static class EventTypes
{
    private static readonly FrozenDictionary<string, MessageDescriptor> ByName = Descriptors
        .Files.SelectMany(f => f.MessageTypes)
        .Where(m => m.GetOptions()?.GetExtension(OptionsExtensions.Published) == true)
        .ToFrozenDictionary(m => m.FullName);

    /// <summary>The event type of this name; null: there is none.</summary>
    public static MessageDescriptor? Find(string name) => ByName.GetValueOrDefault(name);

    /// <summary>The event types of a service.</summary>
    /// <param name="service">Its name, such as <c>custody</c>.</param>
    public static IEnumerable<MessageDescriptor> Of(string service) =>
        ByName.Values.Where(m => m.File.Package == $"ministries.{service}.v1").OrderBy(m => m.FullName, StringComparer.Ordinal);

    /// <summary>An event's id: service/position/index.</summary>
    public static string IdOf(EventOrigin origin) =>
        string.Create(CultureInfo.InvariantCulture, $"{origin.Service}/{origin.Position}/{origin.Index}");

    /// <summary>Whether an event is one that a service of this name can have made: it has that service as its origin, and is of a type that
    /// the service's contract declares.</summary>
    internal static bool IsOf(this RecordedEvent recorded, string producer) =>
        recorded is { Origin: { } origin, Event: { } e }
        && origin.Service == producer
        && origin.Type == e.Type
        && Find(e.Type)?.File.Package == $"ministries.{producer}.v1";

    /// <summary>When an event was committed; null: the time cannot be read.</summary>
    internal static DateTimeOffset? CommittedAt(this RecordedEvent recorded) =>
        DateTimeOffset.TryParse(recorded.Time, CultureInfo.InvariantCulture, out var time) ? time : null;

    /// <summary>Reads an event's id.</summary>
    public static bool TryReadId(string id, [NotNullWhen(true)] out EventOrigin? origin)
    {
        origin = null;
        var parts = id.Split('/');
        if (
            parts.Length != 3
            || parts[0].Length == 0
            || !ulong.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out var position)
            || !uint.TryParse(parts[2], NumberStyles.None, CultureInfo.InvariantCulture, out var index)
        )
            return false;
        origin = new EventOrigin
        {
            Service = parts[0],
            Position = position,
            Index = index,
        };
        return true;
    }
}

/// <summary>Maps the name of an event type to the class that MassTransit uses. Nothing else does so.</summary>
internal abstract class EventKind
{
    private static readonly ConcurrentDictionary<string, EventKind?> Known = [];

    /// <summary>The kind of the event type; null: the contracts have none of this name.</summary>
    internal static EventKind? Of(string type) =>
        Known.GetOrAdd(
            type,
            static name =>
                EventTypes.Find(name) is { } descriptor
                    ? (EventKind)Activator.CreateInstance(typeof(EventKind<>).MakeGenericType(descriptor.ClrType))!
                    : null
        );

    internal abstract EventMessage Make(
        IReadOnlyList<PublishedEvent> events,
        byte[] body,
        (string Signature, string Certificate) seal = default
    );

    /// <summary>Publishes by the concrete type, because publishing by the base type hangs.</summary>
    internal abstract Task Publish(IBus bus, EventMessage message, Action<PublishContext> context, CancellationToken cancel);

    /// <summary>Includes the exchange in the topology that is declared when the bus starts, or excludes it. Without this, MassTransit would
    /// declare the exchange of every event that it handles.</summary>
    internal abstract void Declare(IBusFactoryConfigurator bus, bool own);

    internal abstract void Handle(IReceiveEndpointConfigurator endpoint, Func<EventMessage, Task> take);
}

internal sealed class EventKind<T> : EventKind
    where T : class, IMessage<T>
{
    internal override EventMessage Make(IReadOnlyList<PublishedEvent> events, byte[] body, (string Signature, string Certificate) seal) =>
        new EventMessage<T>
        {
            Events = events,
            Body = body,
            Seal = seal,
        };

    internal override Task Publish(IBus bus, EventMessage message, Action<PublishContext> context, CancellationToken cancel) =>
        bus.Publish((EventMessage<T>)message, (Action<PublishContext<EventMessage<T>>>)context, cancel);

    internal override void Declare(IBusFactoryConfigurator bus, bool own) =>
        bus.Publish<EventMessage<T>>(topology => topology.Exclude = !own);

    internal override void Handle(IReceiveEndpointConfigurator endpoint, Func<EventMessage, Task> take) =>
        endpoint.Handler<EventMessage<T>>(context =>
        {
            context.Message.Redelivered = context.ReceiveContext.Redelivered;
            return take(context.Message);
        });
}

/// <summary>The wire form of messages (protos/README.md, "Events on the wire"). A single event is sent as its bytes, with CloudEvents
/// attributes as headers. Several events are sent as a CloudEvents batch.</summary>
internal static class Wire
{
    internal const string Prefix = "cloudEvents:";
    internal const string TraceParent = "traceparent";
    internal const string TraceState = "tracestate";
    internal const string Signature = Prefix + "signature";
    internal const string Certificate = Prefix + "certificate";
    internal const string CanaryHeader = "ministries-canary";
    internal static readonly ContentType Protobuf = new("application/x-protobuf");
    internal static readonly ContentType Batch = new("application/cloudevents-batch+protobuf");

    /// <summary>The greatest number of events of one message.</summary>
    internal const int MaxEvents = 256;
    private const int MaxAfter = 128;
    private const string TypeUrl = "type.googleapis.com/";

    internal static ContentType ContentTypeOf(EventMessage message) => message.Events.Count == 1 ? Protobuf : Batch;

    /// <summary>The body of a message. From the second event on, its attribute <c>after</c> holds only what has changed since the previous
    /// event of the message.</summary>
    internal static byte[] BodyOf(IReadOnlyList<PublishedEvent> events)
    {
        if (events is [var single])
            return single.Recorded.Event.Data.ToByteArray();
        var batch = new CloudEventBatch();
        foreach (var (recorded, after) in events)
        {
            var (origin, e) = (recorded.Origin, recorded.Event);
            var cloud = new CloudEvent
            {
                Id = EventTypes.IdOf(origin),
                Source = origin.Service,
                SpecVersion = "1.0",
                Type = e.Type,
                ProtoData = new Any { TypeUrl = TypeUrl + e.Type, Value = e.Data },
            };
            void Add(string name, string value)
            {
                if (value.Length > 0)
                    cloud.Attributes[name] = new() { CeString = value };
            }
            Add("subject", e.Case);
            if (recorded.CommittedAt() is { } time)
                cloud.Attributes["time"] = new() { CeTimestamp = time.ToTimestamp() };
            Add("sequence", origin.Sequence.ToString(CultureInfo.InvariantCulture));
            cloud.Attributes["leaf"] = new() { CeBytes = recorded.Leaf };
            Add("after", TextOf(after));
            Add(TraceParent, recorded.Traceparent);
            Add(TraceState, recorded.Tracestate);
            batch.Events.Add(cloud);
        }
        return batch.ToByteArray();
    }

    internal static void Write(EventMessage message, SendHeaders headers, (string Signature, string Certificate) seal)
    {
        headers.Set(Signature, seal.Signature);
        headers.Set(Certificate, seal.Certificate);
        if (message.Events is not [var (recorded, after)])
            return;
        var (origin, e) = (recorded.Origin, recorded.Event);
        headers.Set(Prefix + "specversion", "1.0");
        headers.Set(Prefix + "id", EventTypes.IdOf(origin));
        headers.Set(Prefix + "source", origin.Service);
        headers.Set(Prefix + "type", e.Type);
        if (e.Case.Length > 0)
            headers.Set(Prefix + "subject", e.Case);
        headers.Set(Prefix + "time", recorded.Time);
        headers.Set(Prefix + "sequence", origin.Sequence.ToString(CultureInfo.InvariantCulture));
        headers.Set(Prefix + "leaf", Convert.ToHexStringLower(recorded.Leaf.Span));
        if (after.Count > 0)
            headers.Set(Prefix + "after", TextOf(after));
        if (recorded.Traceparent.Length > 0)
            headers.Set(TraceParent, recorded.Traceparent);
        if (recorded.Tracestate.Length > 0)
            headers.Set(TraceState, recorded.Tracestate);
    }

    private static string TextOf(IReadOnlyDictionary<string, ulong> after) =>
        after.Count == 0 ? "" : string.Join(' ', after.Select(a => $"{a.Key}={a.Value}"));

    /// <summary>Reads a message; null: it does not follow the contract.</summary>
    internal static EventMessage? Read(Headers headers, ContentType? contentType, byte[] body)
    {
        string Text(string name) => headers.TryGetHeader(name, out var value) && value is string text ? text : "";
        List<PublishedEvent>? events = null;
        if (contentType is null || contentType.MediaType == Protobuf.MediaType)
        {
            if (
                Text(Prefix + "specversion") != "1.0"
                || Text(Prefix + "leaf") is not { Length: 64 } leaf
                || !leaf.All(char.IsAsciiHexDigit)
            )
                return null;
            var after = new Dictionary<string, ulong>();
            if (
                EventOf(
                    Text(Prefix + "id"),
                    Text(Prefix + "source"),
                    Text(Prefix + "type"),
                    Text(Prefix + "sequence"),
                    Text(Prefix + "subject"),
                    Text(Prefix + "time"),
                    UnsafeByteOperations.UnsafeWrap(Convert.FromHexString(leaf)),
                    Text(TraceParent),
                    Text(TraceState),
                    UnsafeByteOperations.UnsafeWrap(body)
                )
                    is { } single
                && TryAddAfter(after, Text(Prefix + "after"))
            )
                events = [new PublishedEvent(single, after)];
        }
        else if (contentType.MediaType == Batch.MediaType)
            events = EventsOf(body);
        return events is not null && EventKind.Of(events[0].Recorded.Event.Type) is { } kind
            ? kind.Make(events, body, (Text(Signature), Text(Certificate)))
            : null;
    }

    private static List<PublishedEvent>? EventsOf(byte[] body)
    {
        CloudEventBatch batch;
        try
        {
            batch = CloudEventBatch.Parser.ParseFrom(body);
        }
        catch (InvalidProtocolBufferException)
        {
            return null;
        }
        if (batch.Events.Count is 0 or > MaxEvents)
            return null;
        var (events, first) = (new List<PublishedEvent>(batch.Events.Count), batch.Events[0]);
        IReadOnlyDictionary<string, ulong> after = FrozenDictionary<string, ulong>.Empty;
        foreach (var cloud in batch.Events)
        {
            CloudEvent.Types.CloudEventAttributeValue? Of(string name) => cloud.Attributes.GetValueOrDefault(name);
            if (
                cloud.SpecVersion != "1.0"
                || cloud.Type != first.Type
                || cloud.Source != first.Source
                || cloud.ProtoData is not { } data
                || !data.TypeUrl.EndsWith($"/{cloud.Type}", StringComparison.Ordinal)
                || Of("leaf")?.CeBytes is not { Length: 32 } leaf
            )
                return null;
            if (Of("after")?.CeString is { Length: > 0 } changed)
            {
                var then = new Dictionary<string, ulong>(after);
                if (!TryAddAfter(then, changed))
                    return null;
                after = then;
            }
            if (
                EventOf(
                    cloud.Id,
                    cloud.Source,
                    cloud.Type,
                    Of("sequence")?.CeString ?? "",
                    Of("subject")?.CeString ?? "",
                    Of("time")?.CeTimestamp is { } time ? NumberedEvent.TimeText(time.ToDateTimeOffset()) : "",
                    leaf,
                    Of(TraceParent)?.CeString ?? "",
                    Of(TraceState)?.CeString ?? "",
                    data.Value
                )
                is not { } recorded
            )
                return null;
            events.Add(new PublishedEvent(recorded, after));
        }
        return events;
    }

    private static RecordedEvent? EventOf(
        string id,
        string source,
        string type,
        string number,
        string subject,
        string time,
        ByteString leaf,
        string traceParent,
        string traceState,
        ByteString data
    )
    {
        if (
            !EventTypes.TryReadId(id, out var origin)
            || !ulong.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var sequence)
            || sequence == 0
        )
            return null;
        (origin.Type, origin.Sequence) = (type, sequence);
        var recorded = new RecordedEvent
        {
            Origin = origin,
            Event = new Ledger.V1.Event
            {
                Type = type,
                Case = subject,
                Data = data,
            },
            Time = time,
            Leaf = leaf,
            // In the message of a single event, the signature does not cover them.
            Traceparent = TraceText.OrNothing(traceParent),
            Tracestate = TraceText.OrNothing(traceState),
        };
        return recorded.IsOf(source) ? recorded : null;
    }

    private static bool TryAddAfter(Dictionary<string, ulong> after, string text)
    {
        foreach (var pair in text.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = pair.IndexOf('=');
            if (
                equals < 1
                || after.Count == MaxAfter
                || !ulong.TryParse(pair.AsSpan(equals + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            )
                return false;
            after[pair[..equals]] = number;
        }
        return true;
    }
}

/// <summary>Names exchanges: an event's by the full name of its type, a canary's by its service.</summary>
internal sealed class ExchangeNames(string service) : IEntityNameFormatter
{
    public string FormatEntityName<T>() =>
        typeof(T).IsGenericType && typeof(T).GetGenericTypeDefinition() == typeof(EventMessage<>)
            ? ((IMessage)Activator.CreateInstance(typeof(T).GetGenericArguments()[0])!).Descriptor.FullName
            : Broker.CanaryExchangeOf(service);
}

/// <summary>The only serializer. It passes on bodies that were made before (<see cref="Wire.BodyOf"/>), because their bytes are
/// signed.</summary>
internal sealed class ProtobufSerializer : ISerializerFactory, IMessageSerializer, IMessageDeserializer
{
    public ContentType ContentType => Wire.Protobuf;

    public IMessageSerializer CreateSerializer() => this;

    public IMessageDeserializer CreateDeserializer() => this;

    public MessageBody GetMessageBody<T>(SendContext<T> context)
        where T : class =>
        context.Message switch
        {
            EventMessage e => new BytesMessageBody(e.Body),
            Canary => new BytesMessageBody([]),
            _ => throw new NotSupportedException(typeof(T).FullName),
        };

    public MessageBody GetMessageBody(string text) => new StringMessageBody(text);

    public ConsumeContext Deserialize(ReceiveContext receiveContext) =>
        new BodyConsumeContext(
            receiveContext,
            Read(receiveContext.Body, receiveContext.TransportHeaders, receiveContext.InputAddress, receiveContext.ContentType)
        );

    public SerializerContext Deserialize(MessageBody body, Headers headers, Uri? destinationAddress = null) =>
        Read(body, headers, destinationAddress, null);

    public void Probe(ProbeContext context) => context.CreateScope("protobuf").Add("contentType", ContentType.MediaType);

    private static Context Read(MessageBody body, Headers headers, Uri? destination, ContentType? contentType) =>
        new(new RawMessageContext(headers, destination, 0), Wire.Read(headers, contentType, body.GetBytes()));

    /// <summary>The message as the type that MassTransit asks for. Only the exact type is returned, never a base type.</summary>
    private sealed class Context(MessageContext message, EventMessage? received)
        : BaseSerializerContext(SystemTextJsonMessageSerializer.Instance, message, [])
    {
        public override bool IsSupportedMessageType<T>() => IsSupportedMessageType(typeof(T));

        public override bool IsSupportedMessageType(Type messageType) => TryGetMessage(messageType, out _);

        public override bool TryGetMessage<T>(out T? message)
            where T : class
        {
            message = TryGetMessage(typeof(T), out var found) ? (T)found : null;
            return message is not null;
        }

        public override bool TryGetMessage(Type messageType, [NotNullWhen(true)] out object? message)
        {
            message = null;
            if (messageType == typeof(Canary))
            {
                if (
                    Headers.TryGetHeader(Wire.CanaryHeader, out var number)
                    && long.TryParse(number as string, CultureInfo.InvariantCulture, out var parsed)
                )
                    message = new Canary { Number = parsed };
            }
            else if (received?.GetType() == messageType)
                message = received;
            return message is not null;
        }

        public override IMessageSerializer GetMessageSerializer() => new ProtobufSerializer();

        public override IMessageSerializer GetMessageSerializer<T>(MessageEnvelope envelope, T message) => new ProtobufSerializer();

        public override IMessageSerializer GetMessageSerializer(object message, string[] messageTypes) => new ProtobufSerializer();

        public override Dictionary<string, object> ToDictionary<T>(T? message)
            where T : class => [];
    }
}
