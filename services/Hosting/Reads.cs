using Google.Protobuf;
using Grpc.Core;
using Ministries.Ledger;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>The way of every read: identity, form, grant, need to know.</summary>
public sealed class Reads
{
    /// <summary>Reads one record that the caller may see, with the cases that it needs to show it.</summary>
    /// <param name="request">The request, as received; its form is checked.</param>
    /// <param name="context">The call.</param>
    /// <param name="kind">The kind of record.</param>
    /// <param name="key">The record's key.</param>
    /// <exception cref="RpcException">NOT_FOUND where it is not there or not for the caller.</exception>
    public Task<(T Record, Reader Reader)> Get<T>(IMessage request, ServerCallContext context, StreamKind<T> kind, string key)
        where T : class, IMessage<T>, new() => throw new NotImplementedException();

    /// <summary>Lists records that the caller may see, oldest first, in an order that stays while others write.</summary>
    /// <param name="request">The request, as received, with <c>page_size</c> and <c>page_token</c>; its form is checked.</param>
    /// <param name="context">The call.</param>
    /// <param name="kind">The kind of records.</param>
    /// <param name="filters">Keys (<see cref="StreamKind.KeysOf"/>) that a record must all have; empty ones are left out.</param>
    public Task<(IReadOnlyList<T> Records, string NextPageToken, Reader Reader)> List<T>(
        IMessage request, ServerCallContext context, StreamKind<T> kind, params IEnumerable<string?> filters)
        where T : class, IMessage<T>, new() => throw new NotImplementedException();

    /// <summary>Reads a state for the service's own use, such as before it asks another service; null: there is none.</summary>
    public Task<T?> Peek<T>(StreamKind<T> kind, string key, CancellationToken cancel)
        where T : class, IMessage<T>, new() => throw new NotImplementedException();
}

/// <summary>Who reads, and what he holds.</summary>
/// <param name="Participant">The participant.</param>
/// <param name="Tokens">The tokens that it holds (<see cref="Audience"/>).</param>
public sealed record Reader(Participant Participant, IReadOnlySet<string> Tokens);
