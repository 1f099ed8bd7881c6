using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Ministries.Ministry;

/// <summary>Standard output where it is a pipe. The console's own writer keeps silent about a reader that has ended: what it writes is
/// lost, and a command that follows would go on for ever.</summary>
#pragma warning disable CA1001 // There is one, and it ends with the process.
internal sealed class StandardOutput
#pragma warning restore CA1001
{
    private const int Descriptor = 1;

    private readonly CancellationTokenSource _unread = new();
    private readonly Lazy<CancellationToken> _watched;

    private StandardOutput(FileStream pipe, System.Text.Encoding encoding)
    {
        Writer = TextWriter.Synchronized(new StreamWriter(new Pipe(pipe, _unread), encoding, 4096) { AutoFlush = true });
        _watched = new(Watch);
    }

    /// <summary>Writes to it. Once nobody reads it, nothing is written, and nothing is said about that.</summary>
    public TextWriter Writer { get; }

    /// <summary>Whether it was noticed that nobody reads it any more.</summary>
    public bool IsUnread => _unread.IsCancellationRequested;

    /// <summary>Cancelled as soon as nobody reads it any more, also while nothing is written.</summary>
    public CancellationToken Unread => _watched.Value;

    /// <summary>That of this process; null: it is a terminal, a file or the like, which does not end.</summary>
    public static StandardOutput? OfProcess()
    {
        if (OperatingSystem.IsWindows() || !Console.IsOutputRedirected)
            return null;
        try
        {
            var pipe = new FileStream(new SafeFileHandle(Descriptor, ownsHandle: false), FileAccess.Write, bufferSize: 0);
            return pipe.CanSeek ? null : new StandardOutput(pipe, Console.Out.Encoding);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            // It was closed before the start.
            return null;
        }
    }

    private CancellationToken Watch()
    {
        new Thread(() =>
        {
            // Of a pipe that nobody reads, an error is told, whatever else was asked for.
            var asked = new Polled { Descriptor = Descriptor };
            while (poll(ref asked, 1, -1) <= 0)
                if (Marshal.GetLastPInvokeError() != Interrupted)
                    return;
            _unread.Cancel();
        })
        {
            IsBackground = true,
            Name = "reader of standard output",
        }.Start();
        return _unread.Token;
    }

    private sealed class Pipe(FileStream pipe, CancellationTokenSource unread) : Stream
    {
        public override bool CanRead => false;
        public override bool CanSeek => false;
        public override bool CanWrite => true;
        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            if (unread.IsCancellationRequested)
                return;
            try
            {
                pipe.Write(buffer);
            }
            catch (IOException)
            {
                unread.Cancel();
            }
        }

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Flush() { }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }

    private const int Interrupted = 4;

    [StructLayout(LayoutKind.Sequential)]
    private struct Polled
    {
        public int Descriptor;
        public short Events;
        public short Happened;
    }

    [DllImport("libc", EntryPoint = "poll", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int poll(ref Polled polled, nuint count, int milliseconds);
}
