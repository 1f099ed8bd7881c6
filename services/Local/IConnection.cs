using Google.Protobuf;
using Grpc.Core;
using Ministries.Types.V1;

namespace Ministries.Local;

/// <summary>How a participant's system calls the services: with the participant's keys, or by the participant's gateway, which holds them.
/// </summary>
internal interface IConnection : IDisposable
{
    /// <summary>The way to a service.</summary>
    CallInvoker this[string service] { get; }

    /// <summary>Prepares what is about a person for the way: sealed, or plain for the gateway, which seals it.</summary>
    /// <param name="request">The write that carries it, complete but for what is sealed.</param>
    /// <param name="place">Where it stands in the write.</param>
    /// <param name="content">What it is.</param>
    /// <param name="recipients">Who can open it; none: those to whom the contract seals it by default.</param>
    /// <exception cref="RpcException">A service that must be asked who the recipients are does not answer.</exception>
    Task Seal(IMessage request, Sealed place, IMessage content, IReadOnlyCollection<string> recipients);

    /// <summary>Reads what came sealed to the participant, as what was sealed for the record in which it stands.</summary>
    /// <param name="record">The record.</param>
    /// <param name="shown">The field, as the record has it.</param>
    /// <exception cref="Sealing.SealException">It does not open.</exception>
    /// <exception cref="InvalidDataException">The gateway did not open it.</exception>
    Task<T> Open<T>(IMessage record, Sealed shown)
        where T : class, IMessage<T>, new();
}
