using System.Text.Json.Nodes;
using Google.Api;
using Google.Protobuf.Reflection;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Ministries.Ledger.V1;
using Ministries.Types.V1;
using Scalar.AspNetCore;

namespace Ministries.Gateway;

/// <summary>The OpenAPI document (3.1), made from the contracts' descriptors, and a page to try it. Both hold nothing but the contracts, so
/// that a browser can show them without a token; each call from the page needs one.</summary>
internal static class OpenApi
{
    private static readonly Lazy<string> Document = new(() => Make().ToJsonString(Problems.Relaxed));

    // The page's script is the package's own, served from here. Nothing on it can reach another address.
    private const string Policy =
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
        + "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

    /// <summary>Maps both.</summary>
    public static void Map(IEndpointRouteBuilder app)
    {
        app.MapGet(
                "/openapi.json",
                (HttpContext http) =>
                {
                    http.Response.ContentType = "application/json";
                    return http.Response.WriteAsync(Document.Value, http.RequestAborted);
                }
            )
            .AllowAnonymous();
        app.MapScalarApiReference(
                "/scalar",
                options =>
                    options
                        .WithTitle("Ministries")
                        .WithOpenApiRoutePattern("/openapi.json")
                        .DisableDefaultFonts()
                        .DisableTelemetry()
                        .DisableAgent()
            )
            .AllowAnonymous()
            .AddEndpointFilter(
                (context, next) =>
                {
                    context.HttpContext.Response.Headers.ContentSecurityPolicy = Policy;
                    return next(context);
                }
            );
    }

    /// <summary>Makes the document.</summary>
    public static JsonObject Make()
    {
        var schemas = new SortedDictionary<string, JsonNode>(StringComparer.Ordinal) { ["Problem"] = Problem() };
        var paths = new JsonObject();
        foreach (var (service, method) in JsonEndpoints.Rpcs())
            paths[$"/v1/{service}/{method.Name}"] = PathOf(service, method, schemas);
        foreach (var (path, item) in OwnPaths())
            paths[path] = item;
        return new JsonObject
        {
            ["openapi"] = "3.1.0",
            ["info"] = new JsonObject
            {
                ["title"] = "Ministries: the gateway of a participant",
                ["version"] = "1",
                ["description"] =
                    "Each RPC of the contracts as JSON. Personal data are plain here; the gateway seals and signs. A field named @sealed beside them "
                    + "may name the recipients. In an answer it names them, as fields those that alone were opened, and as faults what is not as the "
                    + "contract declares it, such as a text that deceives: no service has read what was sealed.",
            },
            ["paths"] = paths,
            ["components"] = new JsonObject
            {
                ["schemas"] = new JsonObject(schemas.Select(s => KeyValuePair.Create(s.Key, (JsonNode?)s.Value))),
                ["securitySchemes"] = new JsonObject
                {
                    ["bearer"] = new JsonObject { ["type"] = "http", ["scheme"] = "bearer" },
                },
            },
            ["security"] = new JsonArray(new JsonObject { ["bearer"] = new JsonArray() }),
        };
    }

    private static JsonObject PathOf(string service, MethodDescriptor method, IDictionary<string, JsonNode> schemas)
    {
        var write = Contract.IsWrite(method);
        var body = new JsonObject { ["required"] = true, ["content"] = Content(Reference(method.InputType, schemas)) };
        var answers = new JsonObject
        {
            ["200"] = new JsonObject { ["description"] = "The answer.", ["content"] = Content(Reference(method.OutputType, schemas)) },
            ["default"] = new JsonObject
            {
                ["description"] = "It was refused.",
                ["content"] = new JsonObject { [Problems.Type] = new JsonObject { ["schema"] = Named("Problem") } },
            },
        };
        if (write)
            answers["202"] = new JsonObject { ["description"] = "It is on the disk, and waits for the service: see Location." };
        var item = new JsonObject
        {
            ["post"] = Operation(
                "post",
                body,
                [
                    .. write ? [Header(JsonEndpoints.IdempotencyKey)] : Array.Empty<JsonNode>(),
                    .. JsonEndpoints.ParametersOf(method).Select(p => (JsonNode)Query(p, p == "prepare" ? "boolean" : "string")),
                ]
            ),
        };
        if (!write)
            item["get"] = Operation(
                "get",
                null,
                [
                    .. method
                        .InputType.Fields.InFieldNumberOrder()
                        .Where(f => f.FieldType != FieldType.Message)
                        .Select(f => (JsonNode)Described(Parameter(f.Name, "query", SchemaOf(f, schemas)), f)),
                    Query("as_of", "string"),
                ]
            );
        return item;

        JsonObject Operation(string verb, JsonObject? content, JsonNode[] parameters)
        {
            var operation = new JsonObject
            {
                ["operationId"] = $"{service}_{method.Name}_{verb}",
                ["tags"] = new JsonArray(service),
                ["summary"] = Comments.FirstOf(method),
                ["description"] =
                    $"{Comments.Of(method)}\n\n{Contract.NameOf(method)}. For: {string.Join(", ", Roles.Of(Contract.NameOf(method)))}.",
                ["parameters"] = new JsonArray([.. parameters]),
                ["responses"] = answers.DeepClone(),
            };
            if (content is not null)
                operation["requestBody"] = content;
            return operation;
        }
    }

    private static IEnumerable<(string, JsonObject)> OwnPaths()
    {
        yield return ("/outbox/{id}", Own("get", "What became of a write.", "id"));
        yield return ("/events", Own("get", "Events as they come (text/event-stream); Last-Event-ID goes on."));
        var dead = Own(
            "get",
            "Events that a webhook did not take, at most 200; next, if there are more, is the after of the next page.",
            "name"
        );
        dead["get"]!["parameters"]!.AsArray().Add(Query(JsonEndpoints.After, "string"));
        yield return ("/webhooks/{name}/dead-letters", dead);
        yield return ("/webhooks/{name}/replay", Own("post", "Sends a dead letter once more: { \"id\": … }.", "name"));
        yield return ("/status", Own("get", "How the gateway is."));

        static JsonObject Own(string verb, string summary, string? parameter = null) =>
            new()
            {
                [verb] = new JsonObject
                {
                    ["tags"] = new JsonArray("gateway"),
                    ["summary"] = summary,
                    ["parameters"] = parameter is null
                        ? []
                        : new JsonArray(Parameter(parameter, "path", new JsonObject { ["type"] = "string" }, required: true)),
                    ["responses"] = new JsonObject { ["200"] = new JsonObject { ["description"] = "The answer." } },
                },
            };
    }

    private static JsonObject Content(JsonNode schema) => new() { ["application/json"] = new JsonObject { ["schema"] = schema } };

    private static JsonObject Named(string name) => new() { ["$ref"] = $"#/components/schemas/{name}" };

    private static JsonObject Query(string name, string type) => Parameter(name, "query", new JsonObject { ["type"] = type });

    private static JsonObject Header(string name) => Parameter(name, "header", new JsonObject { ["type"] = "string", ["format"] = "uuid" });

    private static JsonObject Parameter(string name, string place, JsonNode schema, bool required = false) =>
        new()
        {
            ["name"] = name,
            ["in"] = place,
            ["required"] = required,
            ["schema"] = schema,
        };

    private static JsonObject Reference(MessageDescriptor type, IDictionary<string, JsonNode> schemas)
    {
        if (schemas.ContainsKey(type.FullName))
            return Named(type.FullName);
        // Noted first, because messages may hold themselves.
        schemas[type.FullName] = new JsonObject();
        var properties = new JsonObject();
        var required = new JsonArray();
        foreach (var field in type.Fields.InFieldNumberOrder().Where(IsShown))
        {
            var schema = SchemaOf(field, schemas);
            var property = field.IsRepeated ? new JsonObject { ["type"] = "array", ["items"] = schema } : schema;
            properties[field.Name] = Described(property, field);
            // The gateway gives these where the caller does not.
            if (
                field.Name is not ("request_id" or "etag" or "same_as_etag" or "actor")
                && field.GetOptions()?.GetExtension(FieldBehaviorExtensions.FieldBehavior)?.Contains(FieldBehavior.Required) == true
            )
                required.Add(field.Name);
        }
        var written = Described(new JsonObject { ["type"] = "object", ["properties"] = properties }, type);
        if (required.Count > 0)
            written["required"] = required;
        schemas[type.FullName] = written;
        return Named(type.FullName);
    }

    // What a receipt shows of its entry, the client checks and removes.
    private static bool IsShown(FieldDescriptor field) =>
        field.ContainingType != Receipt.Descriptor || field.FieldNumber is < Receipt.HeaderFieldNumber or > Receipt.AnswerSaltFieldNumber;

    private static JsonObject Described(JsonObject schema, IDescriptor of)
    {
        if (Comments.Of(of) is { Length: > 0 } text)
            schema["description"] = text;
        return schema;
    }

    private static JsonObject SchemaOf(FieldDescriptor field, IDictionary<string, JsonNode> schemas) =>
        field.FieldType switch
        {
            FieldType.Message when field.MessageType == Sealed.Descriptor && PlainJson.TypeIn(field) is { } plain => new JsonObject
            {
                ["anyOf"] = new JsonArray(Reference(plain, schemas), Reference(Sealed.Descriptor, schemas)),
            },
            // A record does not declare what is sealed in it: it may be one of several messages.
            FieldType.Message when field.MessageType == Sealed.Descriptor => new JsonObject
            {
                ["anyOf"] = new JsonArray(new JsonObject { ["type"] = "object" }, Reference(Sealed.Descriptor, schemas)),
            },
            FieldType.Message when field.MessageType.FullName == "google.protobuf.Timestamp" => new JsonObject
            {
                ["type"] = "string",
                ["format"] = "date-time",
            },
            FieldType.Message when field.MessageType.File.Package == "google.protobuf" => new JsonObject(),
            FieldType.Message => Reference(field.MessageType, schemas),
            FieldType.Enum => new JsonObject
            {
                ["type"] = "string",
                ["enum"] = new JsonArray([.. field.EnumType.Values.Select(v => (JsonNode)v.Name)]),
            },
            FieldType.Bool => new JsonObject { ["type"] = "boolean" },
            FieldType.String => new JsonObject { ["type"] = "string" },
            FieldType.Bytes => new JsonObject { ["type"] = "string", ["contentEncoding"] = "base64" },
            FieldType.Int64 or FieldType.UInt64 or FieldType.SInt64 or FieldType.Fixed64 or FieldType.SFixed64 => new JsonObject
            {
                ["type"] = new JsonArray("string", "integer"),
            },
            FieldType.Double or FieldType.Float => new JsonObject { ["type"] = "number" },
            _ => new JsonObject { ["type"] = "integer" },
        };

    private static JsonObject Problem()
    {
        var properties = new JsonObject { ["status"] = new JsonObject { ["type"] = "integer" } };
        foreach (
            var name in (string[])["type", "title", "detail", "reason", "basis", "article", "missing", "supplier", "remedy", "request_id"]
        )
            properties[name] = new JsonObject { ["type"] = "string" };
        properties["faults"] = new JsonObject { ["type"] = "array" };
        return new JsonObject { ["type"] = "object", ["properties"] = properties };
    }
}
