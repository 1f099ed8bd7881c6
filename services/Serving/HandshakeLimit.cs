using System.Buffers;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Connections;

namespace Ministries.Serving;

/// <summary>Ends a connection whose peer sends more than a handshake needs before the TLS handshake is finished: OpenSSL reads up to 100 KB
/// of certificates before they can be refused, and decoding each takes a fifth of a millisecond.</summary>
/// <param name="most">How many bytes a handshake may have.</param>
/// <param name="reject">Ends the connection.</param>
public sealed class HandshakeLimit(int most, Action<ConnectionContext> reject)
{
    /// <summary>The number of bytes that is enough for every honest peer: 8.5 KiB. Four certificates need 6.8 KiB with RSA keys of 4096
    /// bits, and 2.7 KiB with P-256 or Ed25519. A client that offers a post-quantum key exchange needs 1.2 KiB more.</summary>
    public const int Standard = 17 << 9;

    /// <summary>Before TLS: begins to count.</summary>
    public ConnectionDelegate Begin(ConnectionDelegate next) =>
        async connection =>
        {
            var transport = connection.Transport;
            var metered = new Metered(transport, most, () => reject(connection));
            connection.Items[typeof(HandshakeLimit)] = metered;
            connection.Transport = metered;
            try
            {
                await next(connection);
            }
            finally
            {
                connection.Transport = transport;
            }
        };

    /// <summary>After TLS: counts no more.</summary>
    public static ConnectionDelegate End(ConnectionDelegate next) =>
        connection =>
        {
            ((Metered)connection.Items[typeof(HandshakeLimit)]!).Handshaken = true;
            return next(connection);
        };

    private sealed class Metered(IDuplexPipe inner, int most, Action reject) : IDuplexPipe
    {
        private readonly Reader _input = new(inner.Input, most, reject);

        public PipeReader Input => _input;

        public PipeWriter Output => inner.Output;

        public bool Handshaken
        {
            set => _input.Handshaken = value;
        }
    }

    private sealed class Reader(PipeReader inner, int most, Action reject) : PipeReader
    {
        private ReadOnlySequence<byte> _read;
        private long _taken;

        public bool Handshaken { get; set; }

        public override void AdvanceTo(SequencePosition consumed) => AdvanceTo(consumed, consumed);

        public override void AdvanceTo(SequencePosition consumed, SequencePosition examined)
        {
            if (!Handshaken)
                _taken += _read.Slice(_read.Start, consumed).Length;
            _read = default;
            inner.AdvanceTo(consumed, examined);
        }

        public override ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default) =>
            Handshaken ? inner.ReadAsync(cancellationToken) : ReadCounted(cancellationToken);

        private async ValueTask<ReadResult> ReadCounted(CancellationToken cancellationToken)
        {
            Check();
            return Keep(await inner.ReadAsync(cancellationToken));
        }

        public override bool TryRead(out ReadResult result)
        {
            if (!Handshaken)
                Check();
            var some = inner.TryRead(out result);
            if (some)
                Keep(result);
            return some;
        }

        public override void CancelPendingRead() => inner.CancelPendingRead();

        public override void Complete(Exception? exception = null) => inner.Complete(exception);

        public override ValueTask CompleteAsync(Exception? exception = null) => inner.CompleteAsync(exception);

        // Bytes after the handshake are read only once it is finished. A read before that means that the handshake goes on.
        private void Check()
        {
            if (_taken < most)
                return;
            reject();
            throw new ConnectionAbortedException("more came than a handshake needs");
        }

        // TLS takes all bytes that are there, so it is given no more than a handshake may have.
        private ReadResult Keep(ReadResult result)
        {
            if (Handshaken)
            {
                _read = default;
                return result;
            }
            var room = most - _taken;
            if (result.Buffer.Length > room)
                result = new(result.Buffer.Slice(0, room), result.IsCanceled, isCompleted: false);
            _read = result.Buffer;
            return result;
        }
    }
}
