using System.Collections.Frozen;
using System.Reflection;
using Google.Protobuf.Reflection;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>Every RPC of the contracts, by the path at which it is called.</summary>
public static class Methods
{
    /// <summary>Full method names without a leading slash, such as <c>ministries.custody.v1.CustodyService/RecordStatus</c>, in
    /// the order of their names.</summary>
    public static readonly IReadOnlyList<string> Names;

    /// <summary>Those of them that are writes: their request's first field is a request id.</summary>
    public static readonly IReadOnlySet<string> Writes;

    private static readonly FrozenDictionary<string, MethodDescriptor> ByName;

    static Methods()
    {
        ByName = typeof(Limits).Assembly.GetExportedTypes()
            .Select(t => t.GetProperty("Descriptor", BindingFlags.Public | BindingFlags.Static)?.GetValue(null))
            .OfType<FileDescriptor>().SelectMany(f => f.Services).SelectMany(s => s.Methods)
            .ToFrozenDictionary(m => $"{m.Service.FullName}/{m.Name}");
        Names = [.. ByName.Keys.Order(StringComparer.Ordinal)];
        Writes = Names.Where(n => ByName[n].InputType.FindFieldByNumber(1) is { Name: "request_id" }).ToFrozenSet();
    }

    /// <summary>The RPC of this name; null: there is none.</summary>
    public static MethodDescriptor? Find(string name) => ByName.GetValueOrDefault(name);
}
