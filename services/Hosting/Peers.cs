using Grpc.Core;

namespace Ministries.Hosting;

/// <summary>The other services, called over TLS with this service's own certificate and a deadline on each call.</summary>
public sealed class Peers
{
    /// <summary>The way to a service.</summary>
    /// <param name="service">Its name, such as <c>custody</c>.</param>
    public CallInvoker this[string service] => throw new NotImplementedException();
}
