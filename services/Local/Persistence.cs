using System.Diagnostics;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Ministries.Client;

namespace Ministries.Local;

/// <summary>Asks again until a call is answered, for as long as it has patience: the same request, under the same id, so that it is decided
/// once whatever became of the first attempts. A service that is killed or cut off meanwhile does not end the play. A refusal is an answer,
/// unless it says that the service cannot decide now.</summary>
/// <param name="patience">For how long it asks.</param>
internal sealed class Persistence(TimeSpan patience) : Interceptor
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(100);

    /// <inheritdoc/>
    public override AsyncUnaryCall<TResponse> AsyncUnaryCall<TRequest, TResponse>(
        TRequest request,
        ClientInterceptorContext<TRequest, TResponse> context,
        AsyncUnaryCallContinuation<TRequest, TResponse> continuation
    ) =>
        // A caller that sets a deadline is told by then what the service said.
        context.Options.Deadline
            is not null
            ? continuation(request, context)
            : new(
                Ask(
                    async () =>
                    {
                        using var call = continuation(request, context);
                        return await call;
                    },
                    context.Options.CancellationToken
                ),
                Task.FromResult(new Metadata()),
                () => Status.DefaultSuccess,
                () => [],
                () => { }
            );

    /// <summary>Does something that calls services until it is answered.</summary>
    public async Task<T> Ask<T>(Func<Task<T>> attempt, CancellationToken cancel = default)
    {
        var begun = Stopwatch.GetTimestamp();
        while (true)
            try
            {
                return await attempt();
            }
            catch (Exception e)
                // A service's log is read by HTTP.
                when ((e is HttpRequestException or TaskCanceledException || e is RpcException call && !IsAnswer(call))
                    && !cancel.IsCancellationRequested
                    && Stopwatch.GetElapsedTime(begun) < patience
                )
            {
                await Task.Delay(Pause, cancel);
            }
    }

    // Whether a service has decided, so that another attempt would be told the same.
    private static bool IsAnswer(RpcException e) =>
        RefusedException.From(e) is { } refused
            ? refused.Reason is not ("UNAVAILABLE" or "OVERLOADED")
            : e.StatusCode
                is not (
                    StatusCode.Unavailable
                    or StatusCode.DeadlineExceeded
                    or StatusCode.Internal
                    or StatusCode.Unknown
                    or StatusCode.Cancelled
                );
}
