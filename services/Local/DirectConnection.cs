using Google.Protobuf;
using Grpc.Core;
using Ministries.Client;
using Ministries.Types.V1;

namespace Ministries.Local;

/// <summary>Calls the services with the participant's certificate and keys.</summary>
/// <param name="client">The participant's client, which somebody else disposes of.</param>
internal sealed class DirectConnection(MinistryClient client) : IConnection
{
    /// <inheritdoc/>
    public CallInvoker this[string service] => client[service];

    /// <inheritdoc/>
    public Task Seal(IMessage request, Sealed place, IMessage content, IReadOnlyCollection<string> recipients)
    {
        if (recipients.Count == 0)
            return client.Seal(request, content);
        client.Seal(request, content, recipients);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task<T> Open<T>(IMessage record, Sealed shown)
        where T : class, IMessage<T>, new() => (await client.OpenIn<T>(record, shown)).Message;

    /// <inheritdoc/>
    public void Dispose() { }
}
