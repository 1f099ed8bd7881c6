using System.Net;
using System.Net.Security;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.Extensions.Logging;
using Ministries.Errors.V1;
using Ministries.Serving;

namespace Ministries.Hosting;

/// <summary>Why a connection was refused or closed. The names are the label <c>reason</c> of <c>ministries.connections.rejected</c>, in
/// lower case with underscores.</summary>
internal enum Rejection
{
    /// <summary>The TLS handshake failed: another version, no certificate, no HTTP/2 offered, or the peer went away.</summary>
    HandshakeFailed,

    /// <summary>The peer was not identified within <see cref="EdgeLimits.HandshakeTimeout"/>.</summary>
    HandshakeLate,

    /// <summary>The peer sent more than <see cref="EdgeLimits.MaxHandshakeBytes"/> before the handshake was finished.</summary>
    HandshakeTooLarge,

    /// <summary>It was closed for a newer one, because <see cref="EdgeLimits.MaxUnidentified"/> was reached.</summary>
    Displaced,

    /// <summary>Its certificate names no participant, or was not issued by an authority of the participant that it names.</summary>
    Stranger,

    /// <summary>Its certificate was issued by its participant's authority, but is expired, not valid yet, denied, or not for a system that
    /// may call. The peer is told so.</summary>
    CertificateNotAccepted,

    /// <summary>It did not choose HTTP/2 in the handshake (ALPN).</summary>
    NoHttp2,

    /// <summary>Its participant has <see cref="EdgeLimits.MaxConnectionsPerParticipant"/> already.</summary>
    ParticipantFull,

    /// <summary>The service has <see cref="EdgeLimits.MaxConnections"/> already, and the participant has its
    /// <see cref="EdgeLimits.OwnConnections"/>.</summary>
    ServiceFull,
}

/// <summary>
/// Who may hold a connection. Each connection is in one of two pools. A new one is unidentified: that pool has a time limit, and a newcomer
/// displaces the oldest, so that an attacker mainly displaces its own connections. Once the certificate is known to be a participant's and
/// valid, the connection moves to the pool of those that are served, whose places unidentified ones cannot take. When the certificate
/// ends or is denied, the connection goes back to the unidentified: its place is free at once, and its next call is refused with the
/// reason.
/// </summary>
internal sealed partial class Connections : IDisposable
{
    private readonly EdgeLimits _limits;
    private readonly Agreements _agreements;
    private readonly TimeProvider _time;
    private readonly RejectedPeers _rejected;
    private readonly ITimer _sweep;
    private readonly ILogger _log;
    private readonly Lock _lock = new();
    private readonly Newcomers<Held> _unidentified;
    private readonly Owned<Held> _served = new();

    public Connections(EdgeLimits limits, Agreements agreements, TimeProvider time, ILogger<Connections> log)
    {
        (_limits, _agreements, _time) = (limits, agreements, time);
        _unidentified = new(limits.MaxUnidentified, limits.MaxUnidentifiedPerAddress);
        _rejected = new(time, log);
        _log = log;
        _sweep = time.CreateTimer(_ => Sweep(), null, limits.ReloadInterval, limits.ReloadInterval);
    }

    /// <summary>How many connections are served now.</summary>
    public int Served
    {
        get
        {
            lock (_lock)
                return _served.Count;
        }
    }

    /// <summary>How many connections are unidentified now.</summary>
    public int Unidentified
    {
        get
        {
            lock (_lock)
                return _unidentified.Count;
        }
    }

    public void Dispose()
    {
        _sweep.Dispose();
        _rejected.Dispose();
    }

    /// <summary>Before TLS: holds the connection among the unidentified.</summary>
    public ConnectionDelegate Hold(ConnectionDelegate next) =>
        async connection =>
        {
            using var held = new Held(connection, _time.GetTimestamp());
            connection.Items[typeof(Held)] = held;
            held.Timer = _time.CreateTimer(_ => Due(held), null, _limits.HandshakeTimeout, Timeout.InfiniteTimeSpan);
            Held? displaced;
            lock (_lock)
                displaced = _unidentified.Add(held, held.Address);
            displaced?.Reject(Rejection.Displaced);
            try
            {
                await next(connection);
            }
            finally
            {
                Leave(held);
            }
        };

    /// <summary>After TLS: gives the connection of an accepted peer its place. The connection of any other peer stays unidentified until
    /// the peer has been told.</summary>
    public ConnectionDelegate Admit(ConnectionDelegate next) =>
        connection =>
        {
            var held = Held.Of(connection);
            // Without this check, Kestrel would log each connection that did not choose HTTP/2.
            var protocol = connection.Features.Get<ISslStreamFeature>()?.SslStream.NegotiatedApplicationProtocol;
            if (protocol != SslApplicationProtocol.Http2)
                return Rejected(held, Rejection.NoHttp2);
            if (held.Peer?.Judge(_agreements.InForce.Authorities, _time) is not { Refused: Reason.Unspecified, Identity: { } identity })
            {
                held.Why ??= Rejection.CertificateNotAccepted;
                return next(connection);
            }
            return Take(held, identity.Participant.Id) is { } full ? Rejected(held, full) : next(connection);

            static Task Rejected(Held held, Rejection why)
            {
                held.Reject(why);
                return Task.CompletedTask;
            }
        };

    /// <summary>Closes a connection whose peer has been told that it is not accepted. Calls that run may end, and no others begin. Its
    /// place among those served is free at once.</summary>
    public void Refuse(Held held)
    {
        Return(held);
        held.RequestClose();
    }

    private Rejection? Take(Held held, string participant)
    {
        lock (_lock)
        {
            var own = _served.CountOf(participant);
            if (own >= _limits.MaxConnectionsPerParticipant)
                return Rejection.ParticipantFull;
            if (own >= _limits.OwnConnections && _served.Count >= _limits.MaxConnections)
                return Rejection.ServiceFull;
            // A newer connection has displaced this one meanwhile.
            if (!_unidentified.Remove(held))
                return Rejection.Displaced;
            _served.Add(held, participant);
        }
        // Up to a tenth less, so that not all peers are asked to reconnect at once.
        held.Timer?.Change(_limits.MaxConnectionAge * (1 - Random.Shared.NextDouble() / 10), Timeout.InfiniteTimeSpan);
        return null;
    }

    // Moves a served connection back to the unidentified.
    private void Return(Held held)
    {
        Held? displaced;
        lock (_lock)
        {
            if (!_served.Remove(held))
                return;
            held.Why = Rejection.CertificateNotAccepted;
            held.Closing = false;
            displaced = _unidentified.Add(held, held.Address);
        }
        held.Timer?.Change(_limits.HandshakeTimeout, Timeout.InfiniteTimeSpan);
        displaced?.Reject(Rejection.Displaced);
    }

    private void Leave(Held held)
    {
        bool served;
        lock (_lock)
        {
            served = _served.Remove(held);
            _unidentified.Remove(held);
        }
        if (served)
            return;
        // Kestrel has the same time limit for the handshake, so either of the two may end it.
        var late = _time.GetElapsedTime(held.Began) >= _limits.HandshakeTimeout;
        _rejected.Count(
            held.Why ?? (late ? Rejection.HandshakeLate : Rejection.HandshakeFailed),
            held.Peer?.Judge(_agreements.InForce.Authorities, _time).Identity?.Participant.Id
        );
    }

    private void Due(Held held)
    {
        bool served;
        lock (_lock)
            served = _served.Contains(held);
        if (!served)
            held.Reject(Rejection.HandshakeLate);
        else if (held.Closing)
            held.Connection.Abort();
        else
        {
            held.Closing = true;
            held.RequestClose();
            held.Timer?.Change(_limits.ConnectionGrace, Timeout.InfiniteTimeSpan);
        }
    }

    // What escapes from a timer ends the process. The next time is soon.
    private void Sweep()
    {
        try
        {
            ReturnThoseThatEnded();
        }
        catch (Exception e)
        {
            LogSweepFailed(e.GetType().Name);
        }
    }

    // A certificate may end, or a new version of the agreement may deny it, while the connection is idle.
    private void ReturnThoseThatEnded()
    {
        Held[] served;
        lock (_lock)
            served = [.. _served.All];
        foreach (var held in served)
            if (held.Peer!.Judge(_agreements.InForce.Authorities, _time).Refused != Reason.Unspecified)
                Return(held);
        _rejected.WriteOver();
    }

    [LoggerMessage(52, LogLevel.Error, "the connections were not looked through; they are again at the next time: {Error}")]
    private partial void LogSweepFailed(string error);
}

/// <summary>A connection, from its first byte to its end.</summary>
internal sealed class Held(ConnectionContext connection, long began) : IDisposable
{
    public ConnectionContext Connection => connection;

    /// <summary>When it came, as a timestamp of the clock.</summary>
    public long Began => began;

    /// <summary>The address by which its peer counts.</summary>
    public IPAddress Address { get; } = Addresses.Of(connection.RemoteEndPoint);

    /// <summary>Who is at its other end; null: that is not known yet.</summary>
    public Peer? Peer { get; set; }

    /// <summary>Why it was rejected; null: it was not.</summary>
    public Rejection? Why { get; set; }

    /// <summary>Whether its peer was asked to open another connection, because this one is old.</summary>
    public bool Closing { get; set; }

    public ITimer? Timer { get; set; }

    public static Held Of(BaseConnectionContext connection) => (Held)connection.Items[typeof(Held)]!;

    /// <summary>Ends it at once. The first reason is the one that is counted.</summary>
    public void Reject(Rejection why)
    {
        Why ??= why;
        connection.Abort(new ConnectionAbortedException($"rejected: {why}"));
    }

    /// <summary>Lets the calls on it end, and no others begin (GOAWAY, RFC 9113, 6.8).</summary>
    public void RequestClose() => connection.Features.Get<IConnectionLifetimeNotificationFeature>()?.RequestClose();

    public void Dispose() => Timer?.Dispose();
}

/// <summary>Counts rejected connections and logs few of them for each reason (<see cref="FewLines{TKind}"/>).</summary>
internal sealed partial class RejectedPeers : IDisposable
{
    private readonly ILogger _log;
    private readonly FewLines<Rejection> _lines;

    public RejectedPeers(TimeProvider time, ILogger log) =>
        (_log, _lines) = (log, new(time, (why, leftOut) => LogMore(Metrics.NameOf(why), leftOut)));

    /// <summary>Counts one.</summary>
    /// <param name="why">Why.</param>
    /// <param name="participant">The participant whose certificate it has; null: unknown.</param>
    public void Count(Rejection why, string? participant)
    {
        Metrics.Rejected(why);
        if (_lines.Writes(why))
            LogRejected(Metrics.NameOf(why), participant ?? "unknown");
    }

    /// <summary>Logs how many rejections were not logged, once the minute is over.</summary>
    public void WriteOver() => _lines.WriteOver();

    public void Dispose() => _lines.Dispose();

    [LoggerMessage(
        50,
        LogLevel.Warning,
        "a connection was rejected: {Reason}; its certificate names the participant {Participant}. For one minute, further rejections of this kind are only counted"
    )]
    private partial void LogRejected(string reason, string participant);

    [LoggerMessage(51, LogLevel.Warning, "{Count} further connections were rejected without a log line: {Reason}")]
    private partial void LogMore(string reason, long count);
}
