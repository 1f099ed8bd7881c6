using Google.Protobuf;
using Google.Protobuf.Reflection;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Ledger;
using Ministries.Trust;

namespace Ministries.Hosting;

/// <summary>A service, as its host needs to know it: what it keeps, what it answers, what it reacts to.</summary>
public sealed class Service
{
    /// <summary>Its name, such as <c>calllog</c>: its participant is <c>service/calllog</c>, its events are the messages of
    /// <c>ministries.calllog.v1</c>.</summary>
    public required string Name { get; init; }

    /// <summary>The kinds of streams that it keeps.</summary>
    public required IReadOnlyList<StreamKind> Streams { get; init; }

    /// <summary>Maps its gRPC services (<see cref="Edge.Serve"/>).</summary>
    public required Action<IEndpointRouteBuilder> Map { get; init; }

    /// <summary>What it does on other services' events: at most one reaction for an event type.</summary>
    public IReadOnlyList<Reaction> Reactions { get; init; } = [];

    /// <summary>What it records when duties fall due.</summary>
    public IReadOnlyList<Duty> Duties { get; init; } = [];

    /// <summary>Registers what else its gRPC services and reactions need.</summary>
    public Action<IServiceCollection>? Register { get; init; }
}

/// <summary>What a service does on another service's event: a command into its own ledger, whose request id is the event's id.
/// </summary>
/// <param name="Producer">The other service's name.</param>
/// <param name="Event">The event's type.</param>
/// <param name="Decide">The rule; it never refuses what it can record.</param>
/// <param name="Ask">Asks another service before the command is queued; null: nothing is asked. Where it cannot be asked for long
/// (<see cref="Bus.BusOptions.AskPatience"/>), the rule decides without an answer, on the safe side.</param>
public sealed record Reaction(
    string Producer,
    MessageDescriptor Event,
    Func<View, IMessage, Act, Decision> Decide,
    Func<IMessage, IServiceProvider, CancellationToken, Task<IMessage?>>? Ask = null
)
{
    /// <summary>A reaction to events of the type.</summary>
    public static Reaction To<T>(
        string producer,
        Func<View, T, Act, Decision> decide,
        Func<T, IServiceProvider, CancellationToken, Task<IMessage?>>? ask = null
    )
        where T : IMessage<T>, new() =>
        new(
            producer,
            new T().Descriptor,
            (view, e, act) => decide(view, (T)e, act),
            ask is null ? null : (e, services, cancel) => ask((T)e, services, cancel)
        );
}

/// <summary>What a service records when a duty of one of its records falls due. The record's <see cref="StreamKind.DueOf"/> says
/// when; the rule records it, so that the state afterwards has another due time or none.</summary>
/// <param name="Kind">The kind of record.</param>
/// <param name="Record">Given the record's key and the time, makes the events.</param>
public sealed record Duty(StreamKind Kind, Func<View, string, Act, Decision> Record);
