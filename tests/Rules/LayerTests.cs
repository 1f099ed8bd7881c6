using System.Collections.Immutable;
using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;
using System.Reflection.PortableExecutable;
using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;
using Google.Protobuf;

namespace Ministries.Rules.Tests;

/// <summary>Contracts → Rules → Ledger and Trust → Hosting → services, Serving below Hosting, read from what was compiled: an assembly can
/// only use what it refers to.</summary>
public class LayerTests
{
    private static readonly Dictionary<string, string[]> Allowed = new()
    {
        ["Rules"] = ["Contracts"],
        ["Keys"] = [],
        ["Ledger"] = ["Contracts", "Keys", "Rules"],
        ["Trust"] = ["Contracts", "Keys", "Rules", "Ledger"],
        ["Serving"] = [],
        ["Hosting"] = ["Contracts", "Keys", "Rules", "Ledger", "Serving", "Trust"],
        ["CallLog"] = ["Contracts", "Rules", "Ledger", "Trust", "Hosting"],
        ["Custody"] = ["Contracts", "Rules", "Ledger", "Trust", "Hosting"],
        ["Consular"] = ["Contracts", "Rules", "Ledger", "Trust", "Hosting"],
    };

    private static readonly string[] Domains = ["Ministries.CallLog.V1", "Ministries.Custody.V1", "Ministries.Consular.V1"];

    // What of a service may know that it is called over a network, and how: its edge, and who asks another service on its behalf.
    private static readonly string[] Edges =
    [
        "Program",
        "Ministries.CallLog.CallLogService",
        "Ministries.Custody.CustodyService",
        "Ministries.Consular.ConsularService",
        "Ministries.Consular.CustodyQuestions",
    ];

    public static TheoryData<string> Layers => [.. Allowed.Keys];

    [Theory, MemberData(nameof(Layers))]
    public void A_layer_refers_to_those_below_it_alone(string layer)
    {
        using var assembly = new Compiled(layer);
        Assert.Empty(
            assembly.References.Where(r => r.StartsWith("Ministries.", StringComparison.Ordinal)).Except(Allowed[layer].Select(NameOf))
        );
    }

    /// <summary>What is sealed is checked with what the contracts say of it alone: nobody below a client could open anything.</summary>
    [Theory, MemberData(nameof(Layers))]
    public void No_layer_of_a_service_refers_to_a_library_that_opens_what_is_sealed(string layer)
    {
        using var assembly = new Compiled(layer);
        Assert.DoesNotContain(assembly.References, r => r is "Ministries.Sealing" or "BouncyCastle.Cryptography");
    }

    [Fact]
    public void Rules_refer_to_no_server_no_bus_and_no_database()
    {
        using var rules = new Compiled("Rules");
        Assert.DoesNotContain(
            rules.References,
            r => !r.StartsWith("System.", StringComparison.Ordinal) && r is not ("Ministries.Contracts" or "Google.Protobuf")
        );
    }

    [Fact]
    public void A_gateway_is_a_client_of_the_services_and_none_of_their_layers_refers_to_it()
    {
        string[] below = ["Client", "Contracts", "Keys", "Rules", "Ledger", "Serving", "Trust", "Sealing"];
        using var gateway = new Compiled("Gateway");
        Assert.Empty(gateway.References.Where(r => r.StartsWith("Ministries.", StringComparison.Ordinal)).Except(below.Select(NameOf)));
        foreach (var layer in Allowed.Keys)
        {
            using var assembly = new Compiled(layer);
            Assert.DoesNotContain("Ministries.Gateway", assembly.References);
        }
    }

    [Fact]
    public void Keys_alone_knows_that_there_are_tokens()
    {
        using var keys = new Compiled("Keys");
        Assert.Contains("Pkcs11Interop", keys.References);
        foreach (var layer in Allowed.Keys.Where(l => l != "Keys"))
        {
            using var assembly = new Compiled(layer);
            Assert.DoesNotContain("Pkcs11Interop", assembly.References);
        }
    }

    [Fact]
    public void Hosting_mentions_no_domain_type()
    {
        // The one exception: who may see what rests on the case in every service, and each keeps its copy of the cases (Rules/Cases.cs).
        // Hosting reads them from the ledger as what they are; what is made of them is for Rules to say.
        string[] common = ["Ministries.Custody.V1.Case"];
        using var hosting = new Compiled("Hosting");
        Assert.Equal(common, hosting.Types.Where(t => Domains.Contains(t[..t.LastIndexOf('.')])).Distinct());
    }

    [Theory]
    [InlineData("CallLog")]
    [InlineData("Custody")]
    [InlineData("Consular")]
    public void Rules_of_a_service_use_no_server_and_no_host(string service)
    {
        using var assembly = new Compiled(service);
        var used = assembly
            .UsedByType()
            .Where(t => !Edges.Contains(t.Type) && t.Type != "Ministries.Consular.Reactions")
            .SelectMany(t => t.Used.Where(IsOfAServer).Select(u => $"{t.Type} uses {u}"))
            .ToArray();
        Assert.True(used.Length == 0, string.Join('\n', used));
        // It would be seen.
        Assert.Contains(assembly.UsedByType(), t => Edges.Contains(t.Type) && t.Used.Any(IsOfAServer));
    }

    /// <summary>A call is judged by one version of the agreement, the one that admitted it, although another may be in force meanwhile.
    /// </summary>
    [Theory]
    [InlineData("CallLog")]
    [InlineData("Custody")]
    [InlineData("Consular")]
    public void A_service_cannot_ask_which_agreement_is_in_force(string service)
    {
        const string inForce = "Ministries.Hosting.Agreements";
        using var assembly = new Compiled(service);
        Assert.DoesNotContain(inForce, assembly.Types);
        // It would be seen.
        Assert.Contains("Ministries.Hosting.Reads", assembly.Types);
        Assert.NotNull(typeof(Hosting.Reads).Assembly.GetType(inForce));
    }

    [Fact]
    public void Reactions_ask_for_what_asks_custody_and_use_nothing_else_of_a_server()
    {
        using var assembly = new Compiled("Consular");
        Assert.All(
            assembly.UsedByType().Where(t => t.Type == "Ministries.Consular.Reactions").SelectMany(t => t.Used).Where(IsOfAServer),
            used => Assert.StartsWith("Microsoft.Extensions.DependencyInjection.", used)
        );
    }

    private static readonly System.Reflection.Assembly[] OfRules =
    [
        typeof(Rule).Assembly,
        typeof(CallLog.Calls).Assembly,
        typeof(Custody.Prisoners).Assembly,
        typeof(Consular.Transfers).Assembly,
    ];

    /// <summary>A rule decides by its context alone, so that a replica and a replay decide the same.</summary>
    [Fact]
    public void Nothing_in_rules_is_process_wide_and_mutable()
    {
        const BindingFlags statics = BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;
        var fields = OfRules
            .SelectMany(a => a.GetTypes())
            // What the compiler makes for lambdas keeps delegates, which have no state.
            .Where(t =>
                !t.IsDefined(typeof(CompilerGeneratedAttribute)) && t.DeclaringType?.IsDefined(typeof(CompilerGeneratedAttribute)) != true
            )
            .SelectMany(t => t.GetFields(statics))
            .Where(f => !f.IsLiteral)
            .ToArray();
        Assert.True(fields.Length > 100, $"{fields.Length} fields");
        var mutable = fields
            .Where(f => !f.IsInitOnly || !IsFixed(f.FieldType, [], !f.IsPublic))
            .Select(f => $"{f.DeclaringType}.{f.Name}: {f.FieldType}");
        Assert.True(!mutable.Any(), string.Join('\n', mutable));
    }

    // Whether a value of the type stays as it is: it is a number or text, a delegate, a fixed collection of such, or a class whose fields
    // are all set once. An array is one where only the assembly that made it can reach it, and a contract's message as a declaration.
    private static bool IsFixed(Type type, HashSet<Type> asked, bool isOwn)
    {
        if (!asked.Add(type) || type.IsPrimitive || type.IsEnum || type == typeof(string) || type.IsGenericParameter)
            return true;
        if (type.IsAssignableTo(typeof(Delegate)) || type.IsAssignableTo(typeof(IMessage)) || type.IsAssignableTo(typeof(MessageParser)))
            return true;
        if (type.IsArray)
            return isOwn && IsFixed(type.GetElementType()!, asked, isOwn);
        if (type.Namespace!.StartsWith("Ministries", StringComparison.Ordinal))
            return AllFields(type)
                // The compiler makes a field of a primary constructor's parameter, which is set once although it does not say so.
                .All(f => (f.IsInitOnly || f.Name.EndsWith(">P", StringComparison.Ordinal)) && IsFixed(f.FieldType, asked, !f.IsPublic));
        if (type.IsGenericType)
            return (
                    type.Name.StartsWith("IReadOnly", StringComparison.Ordinal)
                    || type.Namespace is "System.Collections.Frozen" or "System.Collections.Immutable"
                    || type.GetGenericTypeDefinition() == typeof(Lazy<>)
                    || type.IsValueType
                ) && type.GetGenericArguments().All(a => IsFixed(a, asked, isOwn));
        return type.IsValueType || type == typeof(Enum) || type == typeof(Regex) || type.Namespace == "Google.Protobuf.Reflection";
    }

    private static IEnumerable<FieldInfo> AllFields(Type? type)
    {
        for (; type is not null && type != typeof(object); type = type.BaseType)
            foreach (
                var field in type.GetFields(
                    BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly
                )
            )
                yield return field;
    }

    private static bool IsOfAServer(string type) =>
        type.StartsWith("Microsoft.", StringComparison.Ordinal)
        || type.StartsWith("Grpc.", StringComparison.Ordinal)
        || type.StartsWith("MassTransit", StringComparison.Ordinal)
        || type.StartsWith("Npgsql", StringComparison.Ordinal)
        || type.StartsWith("Ministries.Hosting.", StringComparison.Ordinal)
        || type.StartsWith("Ministries.Ledger.", StringComparison.Ordinal)
            && !type.StartsWith("Ministries.Ledger.V1.", StringComparison.Ordinal)
        || type.StartsWith("Ministries.Trust.", StringComparison.Ordinal);

    private static string NameOf(string layer) => $"Ministries.{layer}";

    /// <summary>A compiled assembly, as its metadata tell of it.</summary>
    private sealed class Compiled : IDisposable
    {
        private readonly PEReader _file;
        private readonly MetadataReader _metadata;

        public Compiled(string layer)
        {
            _file = new PEReader(File.OpenRead(Path.Combine(AppContext.BaseDirectory, $"Ministries.{layer}.dll")));
            _metadata = _file.GetMetadataReader();
        }

        /// <summary>The assemblies that it refers to.</summary>
        public IEnumerable<string> References =>
            _metadata.AssemblyReferences.Select(r => _metadata.GetString(_metadata.GetAssemblyReference(r).Name));

        /// <summary>The types of others that it mentions anywhere.</summary>
        public IEnumerable<string> Types => _metadata.TypeReferences.Select(t => NameOf(_metadata, t)).Where(n => n.Contains('.'));

        /// <summary>What each type uses of other assemblies; what the compiler made for a type counts as its own.</summary>
        public IEnumerable<(string Type, IReadOnlyCollection<string> Used)> UsedByType() =>
            _metadata
                .TypeDefinitions.Select(t => (Type: Outermost(t), Used: UsedBy(t)))
                .GroupBy(t => t.Type, t => t.Used)
                .Select(g => (g.Key, (IReadOnlyCollection<string>)g.SelectMany(u => u).ToHashSet()));

        public void Dispose() => _file.Dispose();

        private string Outermost(TypeDefinitionHandle handle)
        {
            var type = _metadata.GetTypeDefinition(handle);
            return type.GetDeclaringType() is { IsNil: false } outer
                ? Outermost(outer)
                : $"{_metadata.GetString(type.Namespace)}.{_metadata.GetString(type.Name)}".TrimStart('.');
        }

        private HashSet<string> UsedBy(TypeDefinitionHandle handle)
        {
            var names = new Names();
            var type = _metadata.GetTypeDefinition(handle);
            names.Found.UnionWith(NamesOf(type.BaseType, names));
            foreach (var field in type.GetFields())
                _metadata.GetFieldDefinition(field).DecodeSignature(names, null);
            foreach (var method in type.GetMethods().Select(_metadata.GetMethodDefinition))
            {
                method.DecodeSignature(names, null);
                if (method.RelativeVirtualAddress == 0)
                    continue;
                var body = _file.GetMethodBody(method.RelativeVirtualAddress);
                if (!body.LocalSignature.IsNil)
                    _metadata.GetStandaloneSignature(body.LocalSignature).DecodeLocalSignature(names, null);
                foreach (var token in Tokens(body.GetILBytes()!))
                    NamesOf(token, names);
            }
            return names.Found;
        }

        // The tokens in a method's code. Any four bytes that read as one are taken for one: that may find too much, and never too little.
        private IEnumerable<EntityHandle> Tokens(byte[] code)
        {
            for (var i = 0; i + 4 < code.Length; i++)
            {
                if (!TakesToken(code, i))
                    continue;
                var token = BitConverter.ToInt32(code, i + 1);
                if (
                    (token >> 24) is 0x01 or 0x0A or 0x1B or 0x2B
                    && MetadataTokens.EntityHandle(token) is var handle
                    && MetadataTokens.GetRowNumber(handle) is > 0 and var row
                    && row <= _metadata.GetTableRowCount((TableIndex)(token >> 24))
                )
                    yield return handle;
            }
        }

        // Whether an instruction whose last byte stands here has a token behind it (ECMA-335, III).
        private static bool TakesToken(byte[] code, int at) =>
            code[at]
                is 0x27
                    or 0x28
                    or 0x6F
                    or >= 0x70
                    and <= 0x75
                    or 0x79
                    or >= 0x7B
                    and <= 0x81
                    or 0x8C
                    or 0x8D
                    or 0x8F
                    or >= 0xA3
                    and <= 0xA5
                    or 0xC2
                    or 0xC6
                    or 0xD0
            || at > 0 && code[at - 1] == 0xFE && code[at] is 0x06 or 0x07 or 0x15 or 0x16 or 0x1C;

        private IEnumerable<string> NamesOf(EntityHandle handle, Names names)
        {
            if (handle.IsNil)
                return names.Found;
            switch (handle.Kind)
            {
                case HandleKind.TypeReference:
                    names.Found.Add(NameOf((TypeReferenceHandle)handle));
                    break;
                case HandleKind.TypeSpecification:
                    _metadata.GetTypeSpecification((TypeSpecificationHandle)handle).DecodeSignature(names, null);
                    break;
                case HandleKind.MemberReference:
                    var member = _metadata.GetMemberReference((MemberReferenceHandle)handle);
                    NamesOf(member.Parent, names);
                    if (member.GetKind() == MemberReferenceKind.Method)
                        member.DecodeMethodSignature(names, null);
                    else
                        member.DecodeFieldSignature(names, null);
                    break;
                case HandleKind.MethodSpecification:
                    var method = _metadata.GetMethodSpecification((MethodSpecificationHandle)handle);
                    NamesOf(method.Method, names);
                    method.DecodeSignature(names, null);
                    break;
            }
            return names.Found;
        }

        private string NameOf(TypeReferenceHandle handle) => NameOf(_metadata, handle);

        private static string NameOf(MetadataReader reader, TypeReferenceHandle handle)
        {
            var type = reader.GetTypeReference(handle);
            return type.ResolutionScope.Kind == HandleKind.TypeReference
                ? NameOf(reader, (TypeReferenceHandle)type.ResolutionScope)
                : $"{reader.GetString(type.Namespace)}.{reader.GetString(type.Name)}".TrimStart('.');
        }

        /// <summary>Collects the names of types in signatures.</summary>
        private sealed class Names : ISignatureTypeProvider<bool, object?>
        {
            public HashSet<string> Found { get; } = [];

            public bool GetTypeFromReference(MetadataReader reader, TypeReferenceHandle handle, byte rawTypeKind) =>
                Found.Add(NameOf(reader, handle));

            public bool GetTypeFromSpecification(
                MetadataReader reader,
                object? context,
                TypeSpecificationHandle handle,
                byte rawTypeKind
            ) => reader.GetTypeSpecification(handle).DecodeSignature(this, context);

            public bool GetTypeFromDefinition(MetadataReader reader, TypeDefinitionHandle handle, byte rawTypeKind) => true;

            public bool GetArrayType(bool elementType, ArrayShape shape) => true;

            public bool GetByReferenceType(bool elementType) => true;

            public bool GetFunctionPointerType(MethodSignature<bool> signature) => true;

            public bool GetGenericInstantiation(bool genericType, ImmutableArray<bool> typeArguments) => true;

            public bool GetGenericMethodParameter(object? context, int index) => true;

            public bool GetGenericTypeParameter(object? context, int index) => true;

            public bool GetModifiedType(bool modifier, bool unmodifiedType, bool isRequired) => true;

            public bool GetPinnedType(bool elementType) => true;

            public bool GetPointerType(bool elementType) => true;

            public bool GetPrimitiveType(PrimitiveTypeCode typeCode) => true;

            public bool GetSZArrayType(bool elementType) => true;
        }
    }
}
