using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Rpc;
using Grpc.AspNetCore.Server.Model;
using Grpc.Core;
using Microsoft.AspNetCore.Authorization;
using Microsoft.Extensions.Hosting;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Status = Google.Rpc.Status;

namespace Ministries.Gateway;

/// <summary>
/// The same contracts over gRPC. A field that is sealed on the wire may be sealed by the caller, or be a <c>Sealed</c> of the scheme
/// <c>plain</c> whose content is the plain message: the gateway seals it then. Answers come opened, with the message's name in the scheme,
/// such as <c>plain/ministries.type.v1.PersonIdentity</c>. The methods that every service serves, such as those of its ledger, need the
/// header <c>ministries-service</c>.
/// </summary>
internal sealed class GrpcRelay(Exchange exchange, MinistryClient client, TimeProvider time, IHostApplicationLifetime lifetime)
{
    /// <summary>The header that names the service whose ledger is meant.</summary>
    public const string ServiceHeader = "ministries-service";

    private async Task<IMessage> Answer(MethodDescriptor method, IMessage request, ServerCallContext context)
    {
        try
        {
            var service = ServiceOf(method, context);
            if (!Contract.IsWrite(method))
            {
                var read = await exchange.Read(service, method, request, null, context.CancellationToken);
                JsonEndpoints.Say(context.GetHttpContext(), read);
                return read.Message;
            }
            var status = await exchange.Write(
                service,
                method,
                request,
                Callers.Of(context.GetHttpContext()),
                null,
                context.CancellationToken
            );
            return status.State switch
            {
                OutboxState.Answered => Exchange.AnswerIn(status),
                OutboxState.Refused => throw status.Refusal,
                OutboxState.Waiting => throw Refusal(
                    StatusCode.DeadlineExceeded,
                    "WAITING",
                    $"{status.Item.RequestId} waits for its service: send it again to learn the answer"
                ),
                _ => throw Refusal(StatusCode.DataLoss, "ANSWER_UNPROVED", System.Text.Encoding.UTF8.GetString(status.Answer)),
            };
        }
        catch (GatewayRefusedException e)
        {
            throw Refusal(e.Reason.Code, e.Reason.Name, e.Message);
        }
        catch (RpcException e)
        {
            Telemetry.Refused(RefusedException.From(e)?.Reason);
            throw;
        }
    }

    private async Task Follow(FollowEntriesRequest request, IServerStreamWriter<FollowEntriesResponse> stream, ServerCallContext context)
    {
        var service = ServiceOf(Contract.Find("calllog", "FollowEntries")!, context);
        using var over = new CancellationTokenSource(GatewayHost.StreamTime, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(
            context.CancellationToken,
            over.Token,
            lifetime.ApplicationStopping
        );
        using var late = new CancellationTokenSource(EventStream.Longest, time);
        using var cut = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, late.Token);
        try
        {
            await foreach (var response in client.Follow(service, request.FromPosition, request.Case, request.UntilNow, either.Token))
                // A write that is given up resets the stream, and its reader is not told why. So only one that waits for a reader that
                // takes hardly anything is: such a reader keeps its place no longer either.
                await stream.WriteAsync(response, cut.Token);
        }
        catch (OperationCanceledException) when (!context.CancellationToken.IsCancellationRequested)
        {
            throw Refusal(
                StatusCode.Unavailable,
                "STREAM_OVER",
                lifetime.ApplicationStopping.IsCancellationRequested
                    ? "the gateway stops: follow again from the next_position received last"
                    : $"a stream goes on for {GatewayHost.StreamTime.TotalMinutes:F0} min: follow again from the next_position received last"
            );
        }
    }

    private static string ServiceOf(MethodDescriptor method, ServerCallContext context)
    {
        var named = context.RequestHeaders.GetValue(ServiceHeader);
        var service = Contract.Services.FirstOrDefault(s => method.File.Package == $"ministries.{s}.v1") ?? named;
        return service is not null && Contract.Services.Contains(service)
            ? service
            : throw Refusal(StatusCode.InvalidArgument, "PARAMETER_INVALID", $"the header {ServiceHeader} must name a service");
    }

    private static RpcException Refusal(StatusCode code, string reason, string detail)
    {
        Telemetry.Refused(reason);
        var status = new Status { Code = (int)code, Message = detail };
        status.Details.Add(Google.Protobuf.WellKnownTypes.Any.Pack(new ErrorInfo { Reason = reason, Domain = "gateway.ministries" }));
        return status.ToRpcException();
    }

    /// <summary>Makes the methods from the descriptors, so that a new RPC needs nothing here.</summary>
    internal sealed class Methods : IServiceMethodProvider<GrpcRelay>
    {
        public void OnServiceMethodDiscovery(ServiceMethodProviderContext<GrpcRelay> context)
        {
            foreach (var method in Rules.Methods.All)
            {
                List<object> metadata = [new AuthorizeAttribute(Roles.PolicyOf(Contract.NameOf(method)))];
                if (method.IsServerStreaming)
                    metadata.Add(new GatewayHost.Lasting(FromService: true));
                if (!method.IsServerStreaming)
                    context.AddUnaryMethod(
                        new Method<IMessage, IMessage>(
                            MethodType.Unary,
                            method.Service.FullName,
                            method.Name,
                            MarshallerOf<IMessage>(method.InputType),
                            MarshallerOf<IMessage>(method.OutputType)
                        ),
                        metadata,
                        (relay, request, call) => relay.Answer(method, request, call)
                    );
                else
                    context.AddServerStreamingMethod(
                        new Method<FollowEntriesRequest, FollowEntriesResponse>(
                            MethodType.ServerStreaming,
                            method.Service.FullName,
                            method.Name,
                            MarshallerOf<FollowEntriesRequest>(method.InputType),
                            MarshallerOf<FollowEntriesResponse>(method.OutputType)
                        ),
                        metadata,
                        (relay, request, stream, call) => relay.Follow(request, stream, call)
                    );
            }
        }

        private static Marshaller<T> MarshallerOf<T>(MessageDescriptor type)
            where T : class, IMessage => Marshallers.Create(message => message.ToByteArray(), bytes => (T)Read(type, bytes));

        private static IMessage Read(MessageDescriptor type, byte[] bytes)
        {
            // This version cannot seal a field of a later contract. Clear text in such a field would be kept and sent as it is.
            if (WireWalk.Walk(type, bytes) is [var fault, ..])
                throw Wrong($": {fault.Field}: {fault.Description}");
            try
            {
                return type.Parser.ParseFrom(bytes);
            }
            catch (InvalidProtocolBufferException)
            {
                // Without it the call would end with UNKNOWN, as if the gateway had failed, and with a stack in the log.
                throw Wrong("");
            }

            RpcException Wrong(string why) =>
                Refusal(StatusCode.InvalidArgument, GatewayReason.BodyInvalid.Name, $"the body is no {type.FullName}{why}");
        }
    }
}
