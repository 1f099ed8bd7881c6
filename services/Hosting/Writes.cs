using Google.Protobuf;
using Grpc.Core;
using Ministries.Ledger;
using Ministries.Trust;

namespace Ministries.Hosting;

/// <summary>The way of every write: identity, form, what is asked elsewhere, the commit, the receipt.</summary>
public sealed class Writes
{
    /// <summary>Runs one write. The response is the rule's answer with its receipt; a refusal is thrown as a rich gRPC status.
    /// </summary>
    /// <param name="request">The request, as received.</param>
    /// <param name="context">The call.</param>
    /// <param name="rule">The rule that decides.</param>
    /// <param name="ask">Asks another service before the command is queued. Not called where the request has its answer.</param>
    /// <exception cref="RpcException">The refusal.</exception>
    public Task<TResponse> Run<TRequest, TResponse>(
        TRequest request, ServerCallContext context, Func<View, TRequest, Act, Decision> rule,
        Func<TRequest, Act, CancellationToken, Task<IMessage?>>? ask = null)
        where TRequest : class, IMessage<TRequest> where TResponse : class, IMessage<TResponse> =>
        throw new NotImplementedException();
}
