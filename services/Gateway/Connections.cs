using System.Net.Security;
using System.Security.Authentication;
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
/// Who may hold a connection to the gateway. Each is in one of two pools. A new one is a stranger's: that pool has a time limit, and a newcomer
/// displaces another (<see cref="StrangersLimit"/>). With the first call whose caller is known, the connection becomes that caller's, and no
/// stranger can take its place.
/// </summary>
internal sealed class Connections
{
    /// <summary>How many connections of known callers there may be: 1,024, and fewer where the process may have few descriptors.</summary>
    internal const int MaxKnown = 1024;

    /// <summary>How many of them may be of one caller: 128, more than its calls and streams.</summary>
    internal const int MaxOfCaller = 128;

    /// <summary>How many a caller can have however many others have: 4.</summary>
    internal const int OwnOfCaller = 4;

    /// <summary>How many connections of strangers there may be: 256.</summary>
    internal const int MaxStrangers = 256;

    /// <summary>How many of them may be of one address (of IPv6: of one /64): 128.</summary>
    internal const int MaxStrangersOfAddress = 128;

    /// <summary>How many descriptors are kept for files, the database, the services and webhooks: 256.</summary>
    private const int OwnDescriptors = 256;

    /// <summary>How long a connection may be a stranger's: 10 s. Then it is asked to end, and 5 s later it is ended.</summary>
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(5);

    private readonly TimeProvider _time;
    private readonly int _most;
    private readonly StrangersLimit _strangers = new(MaxStrangers, MaxStrangersOfAddress);
    private readonly Lock _lock = new();
    private readonly Dictionary<string, int> _ofCaller = [];
    private int _known;

    /// <param name="time">The clock.</param>
    /// <param name="descriptors">How many descriptors the process may have; null: without limit.</param>
    public Connections(TimeProvider time, int? descriptors) =>
        (_time, _most) = (time, Math.Clamp((descriptors ?? int.MaxValue) - MaxStrangers - OwnDescriptors, OwnOfCaller, MaxKnown));

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
                                    handshake.Connection.Items[typeof(Vouched)] = new Vouched();
                                return true;
                            },
#pragma warning restore CA5359
                        }
                    ),
            }
        );
        listen.Use(HandshakeLimit.End);
    }

    /// <summary>The certificate by which the caller's system is known: an authority of the settings issued it. Null: there is none.</summary>
    public static X509Certificate2? CertificateOf(HttpContext http) =>
        Items(http)?.ContainsKey(typeof(Vouched)) == true ? http.Connection.ClientCertificate : null;

    /// <summary>After authentication: gives the connection to its first known caller. While that has as many as it may, its calls are
    /// refused.</summary>
    public Task Know(HttpContext http, RequestDelegate next) =>
        http.User.Identity is not { IsAuthenticated: true, Name: { } caller }
        || Items(http) is not { } items
        || !items.TryGetValue(typeof(Held), out var value)
        || Take((Held)value!, caller)
            ? next(http)
            : Problems.Answer(
                http,
                Problems.Of(new GatewayRefusedException(GatewayReason.Overloaded, "as many connections are open as may be"))
            );

    private static IDictionary<object, object?>? Items(HttpContext http) => http.Features.Get<IConnectionItemsFeature>()?.Items;

    private ConnectionDelegate Hold(ConnectionDelegate next) =>
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
                Leave(held);
            }
        });

    private void End(Held held)
    {
        lock (_lock)
            if (held.Caller is not null)
                return;
        if (!held.Asked)
            held.Connection.Features.Get<IConnectionLifetimeNotificationFeature>()?.RequestClose();
        else
            held.Connection.Abort(new ConnectionAbortedException("nobody whom the gateway knows has called"));
        held.Asked = true;
    }

    private bool Take(Held held, string caller)
    {
        lock (_lock)
        {
            if (held.Caller is not null)
                return true;
            var own = _ofCaller.GetValueOrDefault(caller);
            if (own >= MaxOfCaller || own >= OwnOfCaller && _known >= _most)
                return false;
            // A newer connection has displaced this one meanwhile, and it ends.
            if (!_strangers.Release(held.Connection))
                return false;
            held.Caller = caller;
            _ofCaller[caller] = own + 1;
            _known++;
        }
        held.Timer?.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        return true;
    }

    private void Leave(Held held)
    {
        lock (_lock)
        {
            if (held.Caller is not { } caller)
                return;
            _known--;
            if (_ofCaller[caller] == 1)
                _ofCaller.Remove(caller);
            else
                _ofCaller[caller]--;
        }
    }

    private sealed class Held(ConnectionContext connection)
    {
        public ConnectionContext Connection => connection;

        /// <summary>The first caller who was known on it; null: a stranger's.</summary>
        public string? Caller { get; set; }

        /// <summary>Ends it, unless a caller becomes known on it.</summary>
        public ITimer? Timer { get; set; }

        /// <summary>Whether it was asked to end.</summary>
        public bool Asked { get; set; }
    }

    /// <summary>Marks a connection whose certificate was issued by an authority of the settings.</summary>
    private sealed record Vouched;
}
