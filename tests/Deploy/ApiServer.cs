using System.Collections.Concurrent;
using System.Net;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Ministries.Fixtures;

namespace Ministries.Deploy.Tests;

/// <summary>As much of Kubernetes' API server as kubectl needs to apply, list and change objects: it knows kinds, keeps what it is given,
/// and judges nothing.</summary>
internal sealed class ApiServer : IAsyncDisposable
{
    private static readonly string[] OfNoNamespace = ["Namespace", "CustomResourceDefinition"];

    private readonly ILookup<string, string> _kinds;
    private WebApplication _host = null!;

    /// <summary>A server that is not started.</summary>
    /// <param name="kinds">The kinds that it knows: <c>apps/v1</c> and <c>StatefulSet</c>, for example.</param>
    private ApiServer(IEnumerable<(string Version, string Kind)> kinds) => _kinds = kinds.Distinct().ToLookup(k => k.Version, k => k.Kind);

    /// <summary>What it keeps, by path.</summary>
    public ConcurrentDictionary<string, JsonObject> Kept { get; } = [];

    /// <summary>What it was asked to write: method, path, query.</summary>
    public ConcurrentQueue<(string Method, string Path, string Query)> Written { get; } = [];

    public Uri Address { get; } = new($"http://127.0.0.1:{Ports.Free()}");

    public static async Task<ApiServer> Start(IEnumerable<(string Version, string Kind)> kinds)
    {
        var server = new ApiServer(kinds);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(k => k.Listen(IPAddress.Loopback, server.Address.Port));
        server._host = builder.Build();
        server._host.Run(server.Answer);
        await server._host.StartAsync();
        return server;
    }

    public async ValueTask DisposeAsync()
    {
        await _host.StopAsync();
        await _host.DisposeAsync();
    }

    /// <summary>The path of an object, such as <c>/apis/apps/v1/namespaces/ministries/statefulsets/calllog</c>.</summary>
    public static string PathOf(JsonObject content)
    {
        var (version, kind, about) = ((string)content["apiVersion"]!, (string)content["kind"]!, content["metadata"]!);
        var inside = OfNoNamespace.Contains(kind) ? "" : $"/namespaces/{about["namespace"]}";
        return $"/{Prefix(version)}{version}{inside}/{Plural(kind)}/{about["name"]}";
    }

    private async Task Answer(HttpContext http)
    {
        var path = http.Request.Path.Value!;
        var answer = http.Request.Method == "GET" ? Read(path) : await Write(http, path);
        http.Response.StatusCode = answer is null ? 404 : 200;
        http.Response.ContentType = "application/json";
        answer ??= new()
        {
            ["kind"] = "Status",
            ["apiVersion"] = "v1",
            ["status"] = "Failure",
            ["reason"] = "NotFound",
            ["message"] = $"{path} is not there",
            ["code"] = 404,
        };
        await http.Response.WriteAsync(answer.ToJsonString(), http.RequestAborted);
    }

    private JsonObject? Read(string path) =>
        path switch
        {
            "/version" => new()
            {
                ["major"] = "1",
                ["minor"] = "32",
                ["gitVersion"] = "v1.32.0",
            },
            "/api" => new() { ["kind"] = "APIVersions", ["versions"] = new JsonArray("v1") },
            "/apis" => Groups(),
            "/openapi/v3" => new()
            {
                ["paths"] = Each(
                    _kinds,
                    k => ($"{Prefix(k.Key)}{k.Key}", new JsonObject { ["serverRelativeURL"] = $"/openapi/v3/{Prefix(k.Key)}{k.Key}" })
                ),
            },
            _ when _kinds.FirstOrDefault(k => path == $"/{Prefix(k.Key)}{k.Key}") is { } group => Resources(group),
            _ when _kinds.FirstOrDefault(k => path == $"/openapi/v3/{Prefix(k.Key)}{k.Key}") is { } group => Schema(group),
            _ when Kept.TryGetValue(path, out var kept) => kept,
            _ when Kept.Keys.Any(k => k.StartsWith($"{path}/", StringComparison.Ordinal)) => List(path),
            _ => null,
        };

    // An object that is applied comes whole, a patch of one that is there as what is merged into it.
    private async Task<JsonObject?> Write(HttpContext http, string path)
    {
        var content = (await JsonNode.ParseAsync(http.Request.Body, cancellationToken: http.RequestAborted))!.AsObject();
        Written.Enqueue((http.Request.Method, path, http.Request.QueryString.Value ?? ""));
        if (content["kind"] is null)
            content = Merged(Kept[path].DeepClone().AsObject(), content);
        Kept[path] = content;
        var answer = content.DeepClone().AsObject();
        (answer["metadata"]!["uid"], answer["metadata"]!["resourceVersion"]) = ("1", "1");
        return answer;
    }

    private static JsonObject Merged(JsonObject into, JsonObject change)
    {
        foreach (var (name, value) in change)
            into[name] =
                value is JsonObject inner && into[name] is JsonObject there
                    ? Merged(there.DeepClone().AsObject(), inner)
                    : value?.DeepClone();
        return into;
    }

    private JsonObject Groups()
    {
        var groups = new JsonArray();
        foreach (var version in _kinds.Select(k => k.Key).Where(v => v.Contains('/')))
        {
            var said = new JsonObject { ["groupVersion"] = version, ["version"] = version.Split('/')[1] };
            groups.Add(
                new JsonObject
                {
                    ["name"] = version.Split('/')[0],
                    ["versions"] = new JsonArray(said),
                    ["preferredVersion"] = said.DeepClone(),
                }
            );
        }
        return new()
        {
            ["kind"] = "APIGroupList",
            ["apiVersion"] = "v1",
            ["groups"] = groups,
        };
    }

    private static JsonObject Resources(IGrouping<string, string> kinds) =>
        new()
        {
            ["kind"] = "APIResourceList",
            ["groupVersion"] = kinds.Key,
            ["resources"] = new JsonArray([
                .. kinds.Select(k => new JsonObject
                {
                    ["name"] = Plural(k),
                    ["singularName"] = k.ToLowerInvariant(),
                    ["kind"] = k,
                    ["namespaced"] = !OfNoNamespace.Contains(k),
                    ["shortNames"] = k == "CustomResourceDefinition" ? new JsonArray("crd") : new JsonArray(),
                    ["verbs"] = new JsonArray("get", "list", "patch"),
                }),
            ]),
        };

    // It says no more of a kind than that it can be patched, and that the server looks for unknown fields.
    private static JsonObject Schema(IGrouping<string, string> kinds) =>
        new()
        {
            ["openapi"] = "3.0.0",
            ["info"] = new JsonObject { ["title"] = "test", ["version"] = "1" },
            ["components"] = new JsonObject { ["schemas"] = new JsonObject() },
            ["paths"] = Each(
                kinds,
                k =>
                    (
                        $"/{Prefix(kinds.Key)}{kinds.Key}/{Plural(k)}/{{name}}",
                        new JsonObject
                        {
                            ["patch"] = new JsonObject
                            {
                                ["parameters"] = new JsonArray(new JsonObject { ["name"] = "fieldValidation", ["in"] = "query" }),
                                ["responses"] = new JsonObject(),
                                ["x-kubernetes-group-version-kind"] = new JsonObject
                                {
                                    ["group"] = kinds.Key.Contains('/') ? kinds.Key.Split('/')[0] : "",
                                    ["version"] = kinds.Key.Split('/')[^1],
                                    ["kind"] = k,
                                },
                            },
                        }
                    )
            ),
        };

    private JsonObject List(string path)
    {
        var kept = Kept.Where(k => k.Key.StartsWith($"{path}/", StringComparison.Ordinal))
            .OrderBy(k => k.Key, StringComparer.Ordinal)
            .ToList();
        return new()
        {
            ["apiVersion"] = (string)kept[0].Value["apiVersion"]!,
            ["kind"] = $"{kept[0].Value["kind"]}List",
            ["metadata"] = new JsonObject { ["resourceVersion"] = "1" },
            ["items"] = new JsonArray([.. kept.Select(k => k.Value.DeepClone())]),
        };
    }

    private static JsonObject Each<T>(IEnumerable<T> all, Func<T, (string Name, JsonObject Value)> to) =>
        new(all.Select(to).Select(p => KeyValuePair.Create(p.Name, (JsonNode?)p.Value)));

    private static string Prefix(string version) => version.Contains('/') ? "apis/" : "api/";

    private static string Plural(string kind) => kind.EndsWith('y') ? $"{kind[..^1].ToLowerInvariant()}ies" : $"{kind.ToLowerInvariant()}s";
}
