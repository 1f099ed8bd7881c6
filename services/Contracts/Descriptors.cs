using System.Collections.Frozen;
using System.Runtime.CompilerServices;
using Google.Protobuf.Reflection;
using Google.Rpc;

namespace Ministries.Contracts;

/// <summary>The contracts' descriptors, made before any thread uses one.</summary>
/// <remarks>Generated code makes each file's descriptor when it is first asked for, on whichever thread asks. Google.Protobuf 3.36 keeps
/// intermediate results in a dictionary without a lock (protobuf issue 29696). Two threads that ask at once can break it, and then no
/// message of either file can be read until the process is restarted. So one thread asks for all of them here, and the others
/// wait.</remarks>
public static class Descriptors
{
    /// <summary>The contracts' files, in the order of their names.</summary>
    public static IReadOnlyList<FileDescriptor> Files { get; } =
    [
        .. typeof(Descriptors)
            .Assembly.GetTypes()
            .Where(type => type.Name.EndsWith("Reflection", StringComparison.Ordinal))
            .Select(type => (FileDescriptor)type.GetProperty("Descriptor")!.GetValue(null)!)
            .OrderBy(file => file.Name, StringComparer.Ordinal),
    ];

    /// <summary>The contracts' message types by their full names, nested ones too.</summary>
    public static FrozenDictionary<string, MessageDescriptor> Messages { get; } =
        Files.SelectMany(f => f.MessageTypes).SelectMany(WithNested).ToFrozenDictionary(m => m.FullName);

    // A module's initializer ends before any other code of the module runs. No other place comes before every use.
#pragma warning disable CA2255
    [ModuleInitializer]
#pragma warning restore CA2255
    internal static void Make()
    {
        _ = Files;
        _ = StatusReflection.Descriptor;
        _ = ErrorDetailsReflection.Descriptor;
    }

    private static IEnumerable<MessageDescriptor> WithNested(MessageDescriptor message) =>
        message.NestedTypes.SelectMany(WithNested).Append(message);
}
