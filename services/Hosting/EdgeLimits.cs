using Ministries.Serving;

namespace Ministries.Hosting;

/// <summary>The limits on what comes in from outside.</summary>
public sealed record EdgeLimits
{
    /// <summary>How many descriptors the service keeps for what is not a caller's connection: files, the database, the broker, other
    /// services, metrics, and <see cref="OwnConnections"/> of each participant beyond <see cref="MaxConnections"/>: 320.</summary>
    public const int OwnDescriptors = 320;

    /// <summary>With how few descriptors a service does not start: 512.</summary>
    public const int LeastDescriptors = 512;

    /// <summary>The standard limits, with so few connections that their descriptors suffice. A connection needs one. Without a descriptor
    /// the process could open no file any more.</summary>
    /// <param name="descriptors">How many descriptors the process may have (RLIMIT_NOFILE); null: without limit.</param>
    public static EdgeLimits For(int? descriptors)
    {
        var limits = new EdgeLimits();
        if (descriptors is not { } most || most >= OwnDescriptors + limits.MaxConnections + limits.MaxUnidentified)
            return limits;
        // Half for those who are served, half for those who are not identified yet; of these, half for one address.
        var half = Math.Max(1, (most - OwnDescriptors) / 2);
        return limits with
        {
            MaxConnections = Math.Min(limits.MaxConnections, half),
            MaxConnectionsPerParticipant = Math.Min(limits.MaxConnectionsPerParticipant, half),
            MaxUnidentified = Math.Min(limits.MaxUnidentified, half),
            MaxUnidentifiedPerAddress = Math.Min(limits.MaxUnidentifiedPerAddress, Math.Max(1, half / 2)),
        };
    }

    /// <summary>The greatest size of a request's message: 1 MiB. What is greater is refused before it is parsed.</summary>
    public int MaxMessageBytes { get; init; } = 1 << 20;

    /// <summary>How large a message may be that needs no room (<see cref="MaxBodyBytes"/>): 32 KiB.</summary>
    public const int SmallMessageBytes = 32 << 10;

    /// <summary>How many bytes the messages of calls in progress may have together that are greater than <see cref="SmallMessageBytes"/>,
    /// as they say before they come: 64 MiB. Beyond it, each participant may have one.</summary>
    public long MaxBodyBytes { get; init; } = 64 << 20;

    /// <summary>How many of these may be of one participant, where they are of more than one call: 16 MiB.</summary>
    public long MaxBodyBytesPerParticipant { get; init; } = 16 << 20;

    /// <summary>How many bytes of messages whose precedence is FLASH a participant may have beyond <see cref="MaxBodyBytes"/> and
    /// <see cref="MaxBodyBytesPerParticipant"/>: 1 MiB.</summary>
    public long BodyBytesForFlash { get; init; } = 1 << 20;

    /// <summary>How old a connection grows before its peer is asked to open another: 30 minutes, and up to a tenth less so that
    /// not all do at once.</summary>
    public TimeSpan MaxConnectionAge { get; init; } = TimeSpan.FromMinutes(30);

    /// <summary>How long calls on an old connection may go on: 1 minute.</summary>
    public TimeSpan ConnectionGrace { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>How many connections of participants may be served: 1000, and fewer where the process may have fewer than 2344
    /// descriptors (<see cref="For"/>). Unidentified connections do not count.</summary>
    public int MaxConnections { get; init; } = 1000;

    /// <summary>How many of them one participant may have: 64. One more is closed after its handshake.</summary>
    public int MaxConnectionsPerParticipant { get; init; } = 64;

    /// <summary>How many connections a participant can have however many others have: 4.</summary>
    public int OwnConnections { get; init; } = 4;

    /// <summary>How many connections may be open whose peer is not identified, or not accepted: 1024. For one more, the oldest connection
    /// of the address that has the most is closed.</summary>
    public int MaxUnidentified { get; init; } = 1024;

    /// <summary>How many of them may be of one address (of IPv6: of one /64): 512. For one more, its oldest is closed.</summary>
    public int MaxUnidentifiedPerAddress { get; init; } = 512;

    /// <summary>How many bytes a peer may send before its TLS handshake is finished: <see cref="HandshakeLimit.Standard"/>.</summary>
    /// <remarks>It limits what a stranger costs, not as far as is wished. TLS 1.3 encrypts the client's certificates, so their number is
    /// known only once OpenSSL has decoded all of them, before any callback of .NET runs. OpenSSL 3.0 takes 0.2 ms for each, however small.
    /// 44 of 174 bytes fit, and cost 8 ms beyond a handshake (services/decisions/0059).</remarks>
    public int MaxHandshakeBytes { get; init; } = HandshakeLimit.Standard;

    /// <summary>How many calls may run on one connection: 100, the number of streams whose memory the web server keeps for reuse.</summary>
    public int MaxCallsPerConnection { get; init; } = 100;

    /// <summary>How many writes may be in progress, and likewise how many reads: 512. Streams have places of their own
    /// (<see cref="MaxStreams"/>).</summary>
    public int MaxCalls { get; init; } = 512;

    /// <summary>How many of them may be of one participant: 256.</summary>
    public int MaxCallsPerParticipant { get; init; } = 256;

    /// <summary>How many of them may be of one participant while another has called within the last second: 64. The more of its calls are
    /// committed together, the longer the other participant waits.</summary>
    public int MaxCallsBesideOthers { get; init; } = 64;

    /// <summary>How many calls a participant can always have in progress, whatever others do: 8.</summary>
    public int OwnPlaces { get; init; } = 8;

    /// <summary>How many calls of a participant may be in progress beyond <see cref="MaxCalls"/> and
    /// <see cref="MaxCallsPerParticipant"/> if their precedence is FLASH: 16.</summary>
    public int PlacesForFlash { get; init; } = 16;

    /// <summary>How many writes may ask another service at once, each by at most two calls: 8, and beyond these <see cref="OwnQuestions"/>
    /// of each participant. One more is refused (OVERLOADED) before it asks, whatever its precedence. To the service that is asked, all of
    /// them are calls of one participant, of which it takes <see cref="MaxCallsBesideOthers"/>. With five participants that write, one
    /// replica asks at most 22 at once, so the greater part is left to reactions to events and to the search for missed events
    /// (<c>ListEvents</c>). Where three replicas ask one that hangs, all places may be taken; reactions then wait, as they would for its
    /// answer.</summary>
    public int MaxQuestions { get; init; } = 8;

    /// <summary>How many of these writes may be of one participant: 4.</summary>
    public int MaxQuestionsPerParticipant { get; init; } = 4;

    /// <summary>How many writes of a participant can always ask at once, whatever others do: 1.</summary>
    public int OwnQuestions { get; init; } = 1;

    /// <summary>How long a call that is no stream may take, from its head to the last byte of its answer, and how long a stream may take to
    /// send its request: 60 seconds. After that, it is reset.</summary>
    public TimeSpan CallTime { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>How many bytes of an answer may be on the way to a reader who has not taken them: 64 KiB.</summary>
    public const int MaxUntakenBytes = 64 << 10;

    /// <summary>How many streams may be open, such as those that follow the ledger: 512, and beyond these <see cref="OwnPlaces"/> of each
    /// participant. A stream whose reader has stalled holds at most 256 KiB.</summary>
    public int MaxStreams { get; init; } = 512;

    /// <summary>How many of them may be of one participant: 64.</summary>
    public int MaxStreamsPerParticipant { get; init; } = 64;

    /// <summary>How long a stream waits for its reader to take what was sent, at most 128 KiB: 30 seconds. After that, the stream ends
    /// (STREAM_STALLED).</summary>
    public TimeSpan StreamStall { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How much longer the reader has to take it and the reason after it, before the stream is reset without a reason: 10
    /// seconds.</summary>
    public TimeSpan StreamGrace { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How often a stream reports its position while nothing comes for its reader: every 10 seconds.</summary>
    public TimeSpan StreamProgress { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>The longest time until a call without a free place is refused, once its message has begun or <see cref="PrecedenceDelay"/>
    /// is over: 50 milliseconds. Until then it counts as one of its connection's calls and holds nothing else.</summary>
    public TimeSpan RefusalDelay { get; init; } = TimeSpan.FromMilliseconds(50);

    /// <summary>How long a write without a free place may take to send its first 4 KiB, if they might show that it is FLASH: 250
    /// milliseconds. After that, it counts as not FLASH.</summary>
    public TimeSpan PrecedenceDelay { get; init; } = TimeSpan.FromMilliseconds(250);

    /// <summary>After how much silence a peer is asked whether it is still there; it has half of that to answer: 30 seconds.
    /// </summary>
    public TimeSpan KeepAlive { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long a connection may be unidentified: 3 seconds from its first packet to the end of its handshake. A connection whose
    /// certificate is not accepted is closed when its peer has been told, or when this time is over.</summary>
    public TimeSpan HandshakeTimeout { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>How often the files of the certificate and the agreement are looked at, and whether the certificates of open connections
    /// still hold: every 2 seconds.</summary>
    public TimeSpan ReloadInterval { get; init; } = TimeSpan.FromSeconds(2);
}
