using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http;
using Ministries.Errors.V1;
using Ministries.Trust;

namespace Ministries.Hosting;

/// <summary>The peer of a connection. The owner of its certificate is determined once for each version of the agreement. Whether the
/// certificate is still valid is checked with every call (<see cref="Access"/>).</summary>
internal sealed class Peer(
    X509Certificate2 certificate,
    IReadOnlyList<X509Certificate2> sent,
    Action refuse,
    Authorities authorities,
    Identified identified
)
{
    private volatile JudgedBy _judged = new(authorities, identified);

    private sealed record JudgedBy(Authorities By, Identified Identified);

    /// <summary>The peer of the request's connection; null: it has shown no certificate.</summary>
    public static Peer? Of(HttpContext http) =>
        http.Features.Get<IConnectionItemsFeature>()?.Items is { } items && items.TryGetValue(typeof(Peer), out var found)
            ? found as Peer
            : null;

    /// <summary>Whose certificate the peer of a call has, and whether it is valid now. If it is not, the connection ends with the call,
    /// whose answer says why.</summary>
    public static Identified Identify(Peer? peer, Authorities authorities, TimeProvider time)
    {
        if (peer is null)
            return new(null, Reason.CallerUnknown);
        var identified = peer.Judge(authorities, time);
        if (identified.Refused != Reason.Unspecified)
            peer.End();
        return identified;
    }

    /// <summary>Whose certificate the peer has, and whether it is valid now.</summary>
    public Identified Judge(Authorities authorities, TimeProvider time)
    {
        var (judged, now) = (_judged, time.GetUtcNow());
        if (!ReferenceEquals(judged.By, authorities))
            _judged = judged = new(authorities, authorities.Identify(certificate, sent, CertificateUse.Client, now));
        return judged.Identified.Identity is { } identity && !identity.HoldsAt(now)
            ? new(identity, Reason.CertificateNotAccepted, Issued: true)
            : judged.Identified;
    }

    private void End() => refuse();
}
