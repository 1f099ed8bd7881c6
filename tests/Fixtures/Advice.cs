using System.Text.RegularExpressions;
using Google.Protobuf.Reflection;
using Google.Rpc;
using Ministries.Errors.V1;

namespace Ministries.Fixtures;

/// <summary>A play in which a request is refused, its refusal's advice is followed, and the same is asked again.</summary>
/// <param name="Ask">Makes the request as its caller would send it now, with the etag of now and a request id of its own, and says
/// why it is refused; <see cref="Reason.Unspecified"/>: it is not.</param>
/// <param name="Follow">What those whom the refusal names as suppliers do as it says.</param>
public sealed record Advised(Func<Reason> Ask, Action Follow);

/// <summary>A play for a reason.</summary>
/// <typeparam name="TCase">The service's fixture of a case.</typeparam>
/// <param name="Reason">The reason of the refusal.</param>
/// <param name="Cause">What causes it here, and which of its advice is followed.</param>
/// <param name="Play">Sets the scene.</param>
public sealed record Advice<TCase>(Reason Reason, string Cause, Func<TCase, Advised> Play);

/// <summary>Whether what refusals advise is so (<see cref="About"/>: missing, supplier, unlock).</summary>
public static partial class Advice
{
    [GeneratedRegex(@"\b([A-Z][a-z]+){2,}\b")]
    private static partial Regex RpcName();

    [GeneratedRegex(@"\b[a-z0-9]+(_[a-z0-9]+)+\b")]
    private static partial Regex FieldName();

    /// <summary>The reasons of a service, in the order of their numbers.</summary>
    /// <param name="from">The first number of its range.</param>
    /// <param name="to">The last.</param>
    public static IReadOnlyList<Reason> ReasonsOf(int from, int to) =>
        [.. Reasons.All.Where(reason => (int)reason >= from && (int)reason <= to).Order()];

    /// <summary>A play in which the request itself is what is mended.</summary>
    /// <param name="request">Makes the request, with the etag of now.</param>
    /// <param name="send">Sends it and says why it is refused.</param>
    /// <param name="wrong">Makes it what is refused.</param>
    /// <param name="right">Makes it what the refusal advises; null: it is right as it is made.</param>
    public static Advised OfRequest<T>(Func<T> request, Func<T, Reason> send, Action<T> wrong, Action<T>? right = null)
    {
        var change = wrong;
        return new(
            () =>
            {
                var sent = request();
                change(sent);
                return send(sent);
            },
            () => change = right ?? (_ => { })
        );
    }

    /// <summary>The request is refused for the reason, and no longer once the advice was followed.</summary>
    public static void AssertWorks(Reason reason, Advised advised)
    {
        Assert.Equal(reason, advised.Ask());
        advised.Follow();
        Assert.Equal(Reason.Unspecified, advised.Ask());
    }

    /// <summary>Each reason has a play or a sentence that says why there is nothing to follow, and nothing else has.</summary>
    /// <param name="reasons">The reasons of the service.</param>
    /// <param name="played">Those with plays.</param>
    /// <param name="nothingToFollow">The others, each with its sentence.</param>
    public static void AssertComplete(
        IReadOnlyList<Reason> reasons,
        IEnumerable<Reason> played,
        IReadOnlyDictionary<Reason, string> nothingToFollow
    )
    {
        Assert.NotEmpty(reasons);
        Assert.Equal(reasons, played.Distinct().Concat(nothingToFollow.Keys).Order());
        Assert.All(nothingToFollow.Values, Assert.NotEmpty);
    }

    /// <summary>Every RPC that the advice names is there, or is a detail of the refusal's status, and every field is one of a request or a
    /// record of a service.</summary>
    /// <param name="reasons">The reasons.</param>
    /// <param name="metadata">What refusals for them add in their metadata.</param>
    public static void AssertNamesExist(IReadOnlyList<Reason> reasons, params string[] metadata)
    {
        var rpcs = Methods.All.Select(m => m.Name).Concat(ErrorDetailsReflection.Descriptor.MessageTypes.Select(m => m.Name)).ToHashSet();
        var fields = Contracts
            .Descriptors.Files.SelectMany(f => f.MessageTypes)
            .SelectMany(FieldsOf)
            .Select(f => f.Name)
            .Concat(metadata)
            .ToHashSet();
        foreach (var reason in reasons)
        {
            var about = Reasons.AboutOf(reason);
            var advice = $"{about.Missing}; {about.Supplier}; {about.Unlock}";
            Assert.All(RpcName().Matches(advice), name => Assert.Contains(name.Value, rpcs));
            Assert.All(FieldName().Matches(advice), name => Assert.Contains(name.Value, fields));
        }
    }

    private static IEnumerable<FieldDescriptor> FieldsOf(MessageDescriptor message) =>
        message.Fields.InDeclarationOrder().Concat(message.NestedTypes.SelectMany(FieldsOf));
}
