using System.Collections.Frozen;
using Google.Protobuf.Reflection;
using Ministries.Contracts;

namespace Ministries.Rules;

/// <summary>Every RPC of the contracts, by the path at which it is called.</summary>
public static class Methods
{
    /// <summary>Full method names without a leading slash, such as <c>ministries.custody.v1.CustodyService/RecordStatus</c>, in
    /// the order of their names.</summary>
    public static readonly IReadOnlyList<string> Names;

    /// <summary>Those of them that are writes.</summary>
    public static readonly IReadOnlySet<string> Writes;

    private static readonly FrozenDictionary<string, MethodDescriptor> ByName;
    private static readonly FrozenDictionary<string, Rpc> ByPath;
    private static readonly FrozenDictionary<MessageDescriptor, string> ByRequest;

    static Methods()
    {
        ByName = Descriptors
            .Files.SelectMany(f => f.Services)
            .SelectMany(s => s.Methods)
            .ToFrozenDictionary(m => $"{m.Service.FullName}/{m.Name}");
        ByPath = ByName.ToFrozenDictionary(m => $"/{m.Key}", m => new Rpc(m.Key, m.Value));
        Names = [.. ByName.Keys.Order(StringComparer.Ordinal)];
        ByRequest = ByName.ToFrozenDictionary(m => m.Value.InputType, m => m.Key);
        Writes = ByPath.Values.Where(r => r.Writes).Select(r => r.Name).ToFrozenSet();
    }

    /// <summary>All of them.</summary>
    public static IEnumerable<MethodDescriptor> All => ByName.Values;

    /// <summary>The RPC of this name; null: there is none.</summary>
    public static MethodDescriptor? Find(string name) => ByName.GetValueOrDefault(name);

    /// <summary>The RPC that is called at this path, such as <c>/ministries.custody.v1.CustodyService/RecordStatus</c>; null: there is
    /// none.</summary>
    public static Rpc? At(string? path) => path is null ? null : ByPath.GetValueOrDefault(path);

    /// <summary>The service that alone serves a method, such as <c>consular</c>: its package is the service's; null: all services serve
    /// it.</summary>
    /// <param name="name">The method's full name without a leading slash.</param>
    public static string? ServiceOf(string name) => name.Split('.') is ["ministries", not "ledger" and var service, ..] ? service : null;

    /// <summary>The full name of the one RPC that takes this request; null: none takes it.</summary>
    public static string? NameFor(MessageDescriptor request) => ByRequest.GetValueOrDefault(request);
}

/// <summary>An RPC of the contracts.</summary>
/// <param name="Name">Its full name without a leading slash.</param>
/// <param name="Method">Its declaration.</param>
public sealed record Rpc(string Name, MethodDescriptor Method)
{
    /// <summary>Whether it is a write: its request's first field is a request id.</summary>
    public bool Writes { get; } = Method.InputType.FindFieldByNumber(1) is { Name: "request_id" };
}
