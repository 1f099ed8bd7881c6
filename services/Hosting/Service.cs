using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace Ministries.Hosting;

/// <summary>Describes a service to its host: what it keeps, what it answers, what it reacts to.</summary>
public sealed record Service
{
    /// <summary>Its name, such as <c>calllog</c>: its participant is <c>service/calllog</c>, its events are the messages of
    /// <c>ministries.calllog.v1</c>.</summary>
    public required string Name { get; init; }

    /// <summary>The kinds of streams that it keeps.</summary>
    public required IReadOnlyList<StreamKind> Streams { get; init; }

    /// <summary>Maps its gRPC services (<see cref="Edge.Serve"/>).</summary>
    public required Action<IEndpointRouteBuilder> Map { get; init; }

    /// <summary>How it reacts to other services' events: at most one reaction for an event type.</summary>
    public IReadOnlyList<Reaction> Reactions { get; init; } = [];

    /// <summary>What it records when duties fall due.</summary>
    public IReadOnlyList<Duty> Duties { get; init; } = [];

    /// <summary>Registers what else its gRPC services and reactions need.</summary>
    public Action<IServiceCollection>? Register { get; init; }
}
