using System.Collections.Concurrent;
using System.Collections.Frozen;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net.Mime;
using System.Reflection;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using MassTransit;
using MassTransit.Serialization;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Hosting.Bus;

/// <summary>An event as a message: what the ledger recorded of it, and what came before it.</summary>
[ExcludeFromTopology]
public abstract class DomainEvent
{
    /// <summary>The event with its origin, time, leaf and trace context.</summary>
    public required RecordedEvent Recorded { get; init; }

    /// <summary>Per event type of the same service the number of the last event before this one, as far as the relay knows. A
    /// consumer that has not taken them all in has not got all of what came before.</summary>
    public IReadOnlyDictionary<string, ulong> After { get; init; } = FrozenDictionary<string, ulong>.Empty;

    /// <summary>Whether the broker gave it before and was not told that it is done with.</summary>
    internal bool Redelivered { get; set; }

    /// <summary>The producer's signature and certificate, as they came (<see cref="MessageSeal"/>).</summary>
    internal (string Signature, string Certificate) Seal { get; init; }

    /// <summary>The event's id: service/position/index.</summary>
    public string Id => EventTypes.IdOf(Recorded.Origin);
}

/// <summary>An event of one type. A class of its own for each type makes MassTransit give each its own exchange; it never sees
/// the protobuf class, whose interfaces it would take for messages too.</summary>
/// <typeparam name="T">The event.</typeparam>
public sealed class DomainEvent<T> : DomainEvent where T : IMessage<T>;

/// <summary>A message that a process sends to itself through the broker, to see that it goes round.</summary>
public sealed class Canary
{
    /// <summary>Its number.</summary>
    public required long Number { get; init; }
}

/// <summary>The events that the contracts know.</summary>
public static class EventTypes
{
    private static readonly FrozenDictionary<string, MessageDescriptor> ByName =
        typeof(EventOrigin).Assembly.GetExportedTypes()
            .Select(t => t.GetProperty("Descriptor", BindingFlags.Public | BindingFlags.Static)?.GetValue(null))
            .OfType<FileDescriptor>().SelectMany(f => f.MessageTypes)
            .Where(m => m.GetOptions()?.GetExtension(LimitsExtensions.Published) == true)
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

    /// <summary>When an event was committed; null: what says so cannot be read.</summary>
    internal static DateTimeOffset? CommittedAt(this RecordedEvent recorded) =>
        DateTimeOffset.TryParse(recorded.Time, CultureInfo.InvariantCulture, out var time) ? time : null;

    /// <summary>Reads an event's id.</summary>
    public static bool TryReadId(string id, [NotNullWhen(true)] out EventOrigin? origin)
    {
        origin = null;
        var parts = id.Split('/');
        if (parts.Length != 3 || parts[0].Length == 0 ||
            !ulong.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out var position) ||
            !uint.TryParse(parts[2], NumberStyles.None, CultureInfo.InvariantCulture, out var index)) return false;
        origin = new EventOrigin { Service = parts[0], Position = position, Index = index };
        return true;
    }
}

/// <summary>An event type as MassTransit is told of it: the one place where a type's name becomes a class.</summary>
internal abstract class EventKind
{
    private static readonly ConcurrentDictionary<string, EventKind?> Known = [];

    /// <summary>The kind of the event type; null: the contracts have none of this name.</summary>
    internal static EventKind? Of(string type) => Known.GetOrAdd(type, static name => EventTypes.Find(name) is { } descriptor
        ? (EventKind)Activator.CreateInstance(typeof(EventKind<>).MakeGenericType(descriptor.ClrType))!
        : null);

    internal abstract Type MessageType { get; }

    internal abstract DomainEvent Make(
        RecordedEvent recorded, IReadOnlyDictionary<string, ulong> after, (string Signature, string Certificate) seal = default);

    /// <summary>Publishes by the concrete type: by the base type it would hang.</summary>
    internal abstract Task Publish(IBus bus, DomainEvent message, Action<PublishContext> context, CancellationToken cancel);

    /// <summary>Makes the exchange part of the topology that is declared when the bus starts.</summary>
    internal abstract void Declare(IBusFactoryConfigurator bus);

    internal abstract void Handle(IReceiveEndpointConfigurator endpoint, Func<DomainEvent, Task> take);
}

internal sealed class EventKind<T> : EventKind where T : class, IMessage<T>
{
    internal override Type MessageType => typeof(DomainEvent<T>);

    internal override DomainEvent Make(
        RecordedEvent recorded, IReadOnlyDictionary<string, ulong> after, (string Signature, string Certificate) seal) =>
        new DomainEvent<T> { Recorded = recorded, After = after, Seal = seal };

    internal override Task Publish(IBus bus, DomainEvent message, Action<PublishContext> context, CancellationToken cancel) =>
        bus.Publish((DomainEvent<T>)message, (Action<PublishContext<DomainEvent<T>>>)context, cancel);

    internal override void Declare(IBusFactoryConfigurator bus) => bus.Publish<DomainEvent<T>>(_ => { });

    internal override void Handle(IReceiveEndpointConfigurator endpoint, Func<DomainEvent, Task> take) =>
        endpoint.Handler<DomainEvent<T>>(context =>
        {
            context.Message.Redelivered = context.ReceiveContext.Redelivered;
            return take(context.Message);
        });
}

/// <summary>The headers of a message about an event (protos/README.md, "Events on the wire").</summary>
internal static class Wire
{
    internal const string Prefix = "cloudEvents:";
    internal const string TraceParent = "traceparent";
    internal const string TraceState = "tracestate";
    internal const string Signature = Prefix + "signature";
    internal const string Certificate = Prefix + "certificate";
    internal const string CanaryHeader = "ministries-canary";
    internal static readonly ContentType Protobuf = new("application/x-protobuf");
    private const int MaxAfter = 128;

    internal static void Write(
        DomainEvent message, SendHeaders headers, (string Signature, string Certificate) seal, string traceParent, string traceState)
    {
        var (origin, e) = (message.Recorded.Origin, message.Recorded.Event);
        headers.Set(Prefix + "specversion", "1.0");
        headers.Set(Prefix + "id", message.Id);
        headers.Set(Prefix + "source", origin.Service);
        headers.Set(Prefix + "type", e.Type);
        if (e.Case.Length > 0) headers.Set(Prefix + "subject", e.Case);
        headers.Set(Prefix + "time", message.Recorded.Time);
        headers.Set(Prefix + "sequence", e.Sequence.ToString(CultureInfo.InvariantCulture));
        headers.Set(Prefix + "leaf", Convert.ToHexStringLower(message.Recorded.Leaf.Span));
        if (message.After.Count > 0) headers.Set(Prefix + "after", string.Join(' ', message.After.Select(a => $"{a.Key}={a.Value}")));
        headers.Set(Signature, seal.Signature);
        headers.Set(Certificate, seal.Certificate);
        if (traceParent.Length > 0) headers.Set(TraceParent, traceParent);
        if (traceState.Length > 0) headers.Set(TraceState, traceState);
    }

    /// <summary>Reads a message; false: it is not as the contract says.</summary>
    internal static bool TryRead(Headers headers, ContentType? contentType, byte[] body, [NotNullWhen(true)] out Received? received)
    {
        received = null;
        string Text(string name) => headers.TryGetHeader(name, out var value) && value is string text ? text : "";
        if (contentType is not null && contentType.MediaType != Protobuf.MediaType) return false;
        if (Text(Prefix + "specversion") != "1.0" || !EventTypes.TryReadId(Text(Prefix + "id"), out var origin)) return false;
        var type = Text(Prefix + "type");
        if (Text(Prefix + "source") != origin.Service || EventTypes.Find(type) is not { } descriptor ||
            descriptor.File.Package != $"ministries.{origin.Service}.v1") return false;
        if (!ulong.TryParse(Text(Prefix + "sequence"), NumberStyles.None, CultureInfo.InvariantCulture, out var sequence) ||
            sequence == 0) return false;
        var leaf = Text(Prefix + "leaf");
        if (leaf.Length != 64 || !leaf.All(char.IsAsciiHexDigit)) return false;
        var after = new Dictionary<string, ulong>();
        foreach (var pair in Text(Prefix + "after").Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = pair.IndexOf('=');
            if (equals < 1 || after.Count == MaxAfter ||
                !ulong.TryParse(pair.AsSpan(equals + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var number)) return false;
            after[pair[..equals]] = number;
        }
        (origin.Type, origin.Sequence) = (type, sequence);
        received = new Received(
            new RecordedEvent
            {
                Origin = origin,
                Event = new Ledger.V1.Event
                {
                    Type = type, Sequence = sequence, Case = Text(Prefix + "subject"), Data = UnsafeByteOperations.UnsafeWrap(body),
                },
                Time = Text(Prefix + "time"),
                Leaf = UnsafeByteOperations.UnsafeWrap(Convert.FromHexString(leaf)),
                Traceparent = Text(TraceParent),
                Tracestate = Text(TraceState),
            }, after, (Text(Signature), Text(Certificate)));
        return true;
    }

    /// <summary>A message as it was read.</summary>
    internal sealed record Received(
        RecordedEvent Recorded, IReadOnlyDictionary<string, ulong> After, (string Signature, string Certificate) Seal);
}

/// <summary>Exchanges are named after what they carry: an event type's full name.</summary>
internal sealed class ExchangeNames : IEntityNameFormatter
{
    public string FormatEntityName<T>() =>
        typeof(T).IsGenericType && typeof(T).GetGenericTypeDefinition() == typeof(DomainEvent<>)
            ? ((IMessage)Activator.CreateInstance(typeof(T).GetGenericArguments()[0])!).Descriptor.FullName
            : $"ministries.{typeof(T).Name.ToLowerInvariant()}";
}

/// <summary>The one serializer: the body is the event's bytes as the ledger has them, all else is in headers.</summary>
internal sealed class ProtobufSerializer : ISerializerFactory, IMessageSerializer, IMessageDeserializer
{
    public ContentType ContentType => Wire.Protobuf;

    public IMessageSerializer CreateSerializer() => this;

    public IMessageDeserializer CreateDeserializer() => this;

    public MessageBody GetMessageBody<T>(SendContext<T> context) where T : class => context.Message switch
    {
        DomainEvent e => new BytesMessageBody(e.Recorded.Event.Data.ToByteArray()),
        Canary => new BytesMessageBody([]),
        _ => throw new NotSupportedException(typeof(T).FullName),
    };

    public MessageBody GetMessageBody(string text) => new StringMessageBody(text);

    public ConsumeContext Deserialize(ReceiveContext receiveContext) => new BodyConsumeContext(
        receiveContext,
        Read(receiveContext.Body, receiveContext.TransportHeaders, receiveContext.InputAddress, receiveContext.ContentType));

    public SerializerContext Deserialize(MessageBody body, Headers headers, Uri? destinationAddress = null) =>
        Read(body, headers, destinationAddress, null);

    public void Probe(ProbeContext context) => context.CreateScope("protobuf").Add("contentType", ContentType.MediaType);

    private static Context Read(MessageBody body, Headers headers, Uri? destination, ContentType? contentType)
    {
        Wire.TryRead(headers, contentType, body.GetBytes(), out var received);
        return new Context(new RawMessageContext(headers, destination, 0), received);
    }

    /// <summary>A message as MassTransit asks for it. A type is given only to who wants exactly that type.</summary>
    private sealed class Context(MessageContext message, Wire.Received? received)
        : BaseSerializerContext(SystemTextJsonMessageSerializer.Instance, message, [])
    {
        public override bool IsSupportedMessageType<T>() => IsSupportedMessageType(typeof(T));

        public override bool IsSupportedMessageType(Type messageType) => TryGetMessage(messageType, out _);

        public override bool TryGetMessage<T>(out T? message) where T : class
        {
            message = TryGetMessage(typeof(T), out var found) ? (T)found : null;
            return message is not null;
        }

        public override bool TryGetMessage(Type messageType, [NotNullWhen(true)] out object? message)
        {
            message = null;
            if (messageType == typeof(Canary))
            {
                if (Headers.TryGetHeader(Wire.CanaryHeader, out var number) &&
                    long.TryParse(number as string, CultureInfo.InvariantCulture, out var parsed)) message = new Canary { Number = parsed };
            }
            else if (received is not null && EventKind.Of(received.Recorded.Event.Type) is { } kind && messageType == kind.MessageType)
                message = kind.Make(received.Recorded, received.After, received.Seal);
            return message is not null;
        }

        public override IMessageSerializer GetMessageSerializer() => new ProtobufSerializer();

        public override IMessageSerializer GetMessageSerializer<T>(MessageEnvelope envelope, T message) => new ProtobufSerializer();

        public override IMessageSerializer GetMessageSerializer(object message, string[] messageTypes) => new ProtobufSerializer();

        public override Dictionary<string, object> ToDictionary<T>(T? message) where T : class => [];
    }
}
