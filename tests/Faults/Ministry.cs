using System.Collections.Concurrent;
using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Faults.Tests;

/// <summary>An answer that a ministry got. It must be in the ledger, once, for ever.</summary>
/// <param name="Service">The service that answered.</param>
/// <param name="Participant">Who was answered.</param>
/// <param name="RequestId">The request's id.</param>
/// <param name="Position">The entry's position; null: it was refused.</param>
/// <param name="Digest">SHA-256 of the entry's header; null: it was refused.</param>
/// <param name="Reason">The reason of the refusal; null: it was accepted.</param>
internal sealed record Answered(string Service, string Participant, string RequestId, ulong? Position, ByteString? Digest, string? Reason);

/// <summary>A ministry's system: it sends a write until it is answered, the same bytes each time.</summary>
internal sealed class Ministry(string participant, Func<string, CallInvoker> reach, ConcurrentQueue<Answered> journal, int seed)
{
    // A call that exceeds the deadline tells nothing about its outcome; nor do UNAVAILABLE and OVERLOADED.
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(10),
        Pause = TimeSpan.FromMilliseconds(100);

    private readonly Random _random = new(seed);

    public string Participant => participant;

    public Actor Actor { get; } =
        new()
        {
            Office = "desk",
            Official = Pki.OfficialOf(participant, 1),
            Authority = "order-1",
        };

    public string NewRequestId()
    {
        var bytes = new byte[16];
        lock (_random)
            _random.NextBytes(bytes);
        return new Guid(bytes).ToString();
    }

    /// <summary>Sends a write until it is answered; a refusal is an answer. Now and then asks again for an answer that it has.
    /// </summary>
    /// <returns>The response, or the reason of the refusal.</returns>
    public async Task<(T? Response, string Reason)> Write<T>(
        string service,
        string requestId,
        Func<CallInvoker, CallOptions, AsyncUnaryCall<T>> send,
        CancellationToken cancel
    )
        where T : class, IMessage<T>
    {
        var first = await Once(service, requestId, send, cancel);
        bool again;
        lock (_random)
            again = _random.Next(8) == 0;
        journal.Enqueue(first.Answered);
        if (again)
            journal.Enqueue((await Once(service, requestId, send, cancel)).Answered);
        return (first.Response, first.Answered.Reason ?? "");
    }

    /// <summary>Reads until it is answered; a refusal is an exception.</summary>
    public Task<T> Read<T>(string service, Func<CallInvoker, CallOptions, AsyncUnaryCall<T>> read, CancellationToken cancel)
        where T : class => Call(service, read, cancel);

    // Calls until the outcome is known.
    private async Task<T> Call<T>(string service, Func<CallInvoker, CallOptions, AsyncUnaryCall<T>> call, CancellationToken cancel)
        where T : class
    {
        while (true)
        {
            try
            {
                return await call(reach(service), new CallOptions(deadline: DateTime.UtcNow + Deadline, cancellationToken: cancel));
            }
            catch (RpcException e) when (ReasonOf(e) is null)
            {
                await Task.Delay(Pause, cancel);
            }
        }
    }

    private async Task<(T? Response, Answered Answered)> Once<T>(
        string service,
        string requestId,
        Func<CallInvoker, CallOptions, AsyncUnaryCall<T>> send,
        CancellationToken cancel
    )
        where T : class, IMessage<T>
    {
        try
        {
            var response = await Call(service, send, cancel);
            var receipt = (Receipt)response.Descriptor.FindFieldByName("receipt").Accessor.GetValue(response);
            return (response, new(service, participant, requestId, receipt.Position, receipt.EntryHash, null));
        }
        catch (RpcException e)
        {
            return (null, new(service, participant, requestId, null, null, ReasonOf(e)));
        }
    }

    /// <summary>The reason of a refusal; null: the outcome of the call is unknown.</summary>
    private static string? ReasonOf(RpcException e)
    {
        if (e.StatusCode == StatusCode.Cancelled && e.InnerException is OperationCanceledException)
            return null;
        var reason = e.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason;
        return reason is "UNAVAILABLE" or "OVERLOADED" ? null : reason;
    }
}
