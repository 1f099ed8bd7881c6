using System.Net.Security;
using System.Security.Authentication;
using System.Security.Claims;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Ministries.Serving;

namespace Ministries.Gateway;

/// <summary>
/// Who may hold a connection to the gateway. Each is in one of two pools. A new one is a stranger's: that pool has a time limit, and a
/// newcomer displaces another (<see cref="StrangersLimit"/>). With the first call whose caller is known, the connection becomes that
/// caller's, and no stranger can take its place.
/// </summary>
internal sealed class Connections
{
    /// <summary>How many connections of known callers there may be: 1,024, and fewer where the process may have few descriptors.</summary>
    internal const int MaxKnown = 1024;

    /// <summary>How many of them may be of one caller: 128, more than its calls and streams.</summary>
    internal const int MaxOfCaller = 128;

    /// <summary>How many a caller can have however many others have: 4, of 128 for all such callers.</summary>
    internal const int OwnOfCaller = 4,
        MaxBeyond = 128;

    /// <summary>How many connections of strangers there may be: 256.</summary>
    internal const int MaxStrangers = 256;

    /// <summary>How many of them may be of one address (of IPv6: of one /64): 128.</summary>
    internal const int MaxStrangersOfAddress = 128;

    /// <summary>How many descriptors are kept for files, the database, the services, webhooks and metrics: 256; and for a witness's
    /// connections.</summary>
    private const int OwnDescriptors = 256;

    /// <summary>With how few places for known callers a gateway does not start: 64.</summary>
    private const int LeastKnown = 64;

    /// <summary>How long a connection may be a stranger's: 10 s. Then it is asked to end, and 5 s later it is ended.</summary>
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    /// <summary>How long a connection keeps its place after its last call if others need it: 2 min.</summary>
    internal static readonly TimeSpan Unused = TimeSpan.FromMinutes(2);

    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(5);

    private readonly TimeProvider _time;
    private readonly int _most;
    private readonly StrangersLimit _strangers = new(MaxStrangers, MaxStrangersOfAddress);
    private readonly Lock _lock = new();
    private readonly Owned<Held> _known = new();

    /// <param name="time">The clock.</param>
    /// <param name="descriptors">How many descriptors the process may have; null: without limit.</param>
    /// <param name="witness">Whether a witness runs beside, which has connections of its own.</param>
    /// <exception cref="FormatException">They are too few.</exception>
    public Connections(TimeProvider time, int? descriptors, bool witness)
    {
        var needed = MaxStrangers + MaxBeyond + OwnDescriptors + (witness ? WitnessServer.MaxConnections : 0);
        if (descriptors < needed + LeastKnown)
            throw new FormatException($"the process may have {descriptors} descriptors, and needs {needed + LeastKnown}: ulimit -n");
        (_time, _most) = (time, Math.Min((descriptors ?? int.MaxValue) - needed, MaxKnown));
    }

    /// <summary>Listens with TLS 1.3, and limits who holds connections.</summary>
    /// <param name="listen">The listener.</param>
    /// <param name="certificate">The gateway's certificate with its chain.</param>
    /// <param name="systems">The systems that may call by certificate; null: none is asked for.</param>
    public void Use(ListenOptions listen, Func<SslStreamCertificateContext> certificate, SystemSettings? systems)
    {
        var policy = systems?.Policy();
        listen.Use(Hold);
        listen.Use(new HandshakeLimit(HandshakeLimit.Standard, c => c.Abort()).Begin);
        listen.UseHttps(
            new TlsHandshakeCallbackOptions
            {
                HandshakeTimeout = Patience,
                OnConnection = handshake =>
                    new(
                        new SslServerAuthenticationOptions
                        {
                            ServerCertificateContext = certificate(),
                            EnabledSslProtocols = SslProtocols.Tls13,
                            ApplicationProtocols = [SslApplicationProtocol.Http2, SslApplicationProtocol.Http11],
                            ClientCertificateRequired = policy is not null,
                            AllowRenegotiation = false,
                            // A resumed session would keep what an old handshake has found out.
                            AllowTlsResume = policy is null,
                            CertificateChainPolicy = policy?.Clone(),
#pragma warning disable CA5359 // Who may call is decided by authentication, not by the handshake, so that a caller is told why.
                            RemoteCertificateValidationCallback = (_, shown, _, errors) =>
                            {
                                if (shown is not null && errors == SslPolicyErrors.None)
                                    handshake.Connection.Items[typeof(KnownSystem)] = new KnownSystem();
                                return true;
                            },
#pragma warning restore CA5359
                        }
                    ),
            }
        );
        listen.Use(HandshakeLimit.End);
    }

    /// <summary>The certificate by which the caller's system is known: an authority of the settings issued it. Null: there is
    /// none.</summary>
    public static X509Certificate2? CertificateOf(HttpContext http) =>
        Items(http)?.ContainsKey(typeof(KnownSystem)) == true ? http.Connection.ClientCertificate : null;

    /// <summary>Whose the caller is: a name counts with the scheme by which it is known, because a provider may give an official any
    /// name.</summary>
    public static string KeyOf(HttpContext http) => $"{http.User.Identity?.AuthenticationType}\n{http.User.Identity?.Name}";

    /// <summary>After authentication: gives the connection to its first known caller who has a role. While that has as many as it may, its
    /// calls are refused.</summary>
    public async Task Know(HttpContext http, RequestDelegate next)
    {
        if (
            !http.User.HasClaim(c => c.Type == ClaimTypes.Role)
            || Items(http) is not { } items
            || !items.TryGetValue(typeof(Held), out var value)
        )
        {
            await next(http);
            return;
        }
        var held = (Held)value!;
        if (!Take(held, KeyOf(http)))
        {
            await Problems.Answer(
                http,
                Problems.Of(new GatewayRefusedException(GatewayReason.Overloaded, "as many connections are open as may be"))
            );
            return;
        }
        try
        {
            await next(http);
        }
        finally
        {
            lock (_lock)
                (held.Calls, held.Called) = (held.Calls - 1, _time.GetTimestamp());
        }
    }

    private static IDictionary<object, object?>? Items(HttpContext http) => http.Features.Get<IConnectionItemsFeature>()?.Items;

    /// <summary>Before TLS: holds the connection as a stranger's.</summary>
    internal ConnectionDelegate Hold(ConnectionDelegate next) =>
        _strangers.Hold(async connection =>
        {
            var held = new Held(connection);
            connection.Items[typeof(Held)] = held;
            using var timer = held.Timer = _time.CreateTimer(_ => End(held), null, Patience, Grace);
            try
            {
                await next(connection);
            }
            finally
            {
                lock (_lock)
                    _known.Remove(held);
            }
        });

    private void End(Held held)
    {
        lock (_lock)
        {
            // Without its place, nobody becomes known on it any more.
            if (held.Caller is not null || held.Asked && !_strangers.Release(held.Connection))
                return;
        }
        if (held.Asked)
            held.Connection.Abort(new ConnectionAbortedException("nobody whom the gateway knows has called"));
        else
            held.Connection.Features.Get<IConnectionLifetimeNotificationFeature>()?.RequestClose();
        held.Asked = true;
    }

    // Notes a call of the connection's caller, and gives it a place with the first one.
    private bool Take(Held held, string caller)
    {
        Held? unused = null;
        lock (_lock)
        {
            if (held.Caller is null)
            {
                var own = _known.CountOf(caller);
                if (own >= MaxOfCaller || _known.Count >= (own < OwnOfCaller ? _most + MaxBeyond : _most))
                {
                    var among = own >= MaxOfCaller ? _known.All.Where(k => k.Caller == caller) : _known.All;
                    unused = among.Where(k => k.Calls == 0).MinBy(k => k.Called);
                    if (unused is null || _time.GetElapsedTime(unused.Called) < Unused)
                        return false;
                }
                // A newer connection has displaced this one meanwhile, and it ends. It takes nobody's place.
                if (!_strangers.Release(held.Connection))
                    return false;
                if (unused is not null)
                    _known.Remove(unused);
                held.Caller = caller;
                _known.Add(held, caller);
            }
            held.Calls++;
        }
        unused?.Connection.Abort(new ConnectionAbortedException("another connection needs its place"));
        held.Timer?.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        return true;
    }

    private sealed class Held(ConnectionContext connection)
    {
        public ConnectionContext Connection => connection;

        /// <summary>The first caller who was known on it; null: a stranger's.</summary>
        public string? Caller { get; set; }

        /// <summary>How many of his calls are in progress.</summary>
        public int Calls { get; set; }

        /// <summary>When the last one ended, as a timestamp of the clock.</summary>
        public long Called { get; set; }

        /// <summary>Ends it, unless a caller becomes known on it.</summary>
        public ITimer? Timer { get; set; }

        /// <summary>Whether it was asked to end.</summary>
        public bool Asked { get; set; }
    }

    /// <summary>Marks a connection whose certificate was issued by an authority of the settings.</summary>
    private sealed record KnownSystem;
}
