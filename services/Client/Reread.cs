using System.Diagnostics;
using System.Security.Cryptography;

namespace Ministries.Client;

/// <summary>A value that is read from files, and read again when one of them has changed. Where that fails, the previous value stays. A
/// value that is replaced is disposed of, where that can be.</summary>
/// <typeparam name="T">The value.</typeparam>
internal sealed class Reread<T>
    where T : class
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private readonly IReadOnlyList<string> _paths;
    private readonly Func<T> _read;
    private readonly Action<string> _complain;
    private readonly TimeSpan _every;
    private T? _value;
    private DateTime[] _written = [];
    private string? _complained;
    private long? _failed;
    private long _looked;

    /// <param name="paths">The files.</param>
    /// <param name="read">Reads the value.</param>
    /// <param name="complain">Is called with the reason when reading fails.</param>
    /// <param name="every">How often the files are looked at, at most. Default: at each use.</param>
    public Reread(IReadOnlyList<string> paths, Func<T> read, Action<string> complain, TimeSpan every = default) =>
        (_paths, _read, _complain, _every) = (paths, read, complain, every);

    /// <summary>Reads the value for the first time, with the exceptions of the reading itself.</summary>
    /// <inheritdoc cref="Reread{T}(IReadOnlyList{string}, Func{T}, Action{string}, TimeSpan)"/>
    public static Reread<T> Begin(IReadOnlyList<string> paths, Func<T> read, Action<string> complain, TimeSpan every)
    {
        var reread = new Reread<T>(paths, read, complain, every) { _looked = Stopwatch.GetTimestamp() };
        reread._written = reread.Written();
        reread._value = read();
        return reread;
    }

    /// <summary>What was read last, without a look at the files; null: nothing was.</summary>
    public T? Last
    {
        get
        {
            lock (_lock)
                return _value;
        }
    }

    /// <summary>The value.</summary>
    /// <exception cref="FormatException">The files could never be read.</exception>
    public T Current => Use(value => value);

    /// <summary>Uses the value, which stays until that is done.</summary>
    /// <exception cref="FormatException">The files could never be read.</exception>
    public TResult Use<TResult>(Func<T, TResult> use)
    {
        lock (_lock)
            return use(Newest());
    }

    private T Newest()
    {
        // Files that cannot be read are tried again once a second, whoever calls.
        if (_value is not null && _failed is { } failed && Stopwatch.GetElapsedTime(failed) < Pause)
            return _value;
        if (_value is not null && Stopwatch.GetElapsedTime(_looked) < _every)
            return _value;
        try
        {
            _looked = Stopwatch.GetTimestamp();
            var written = Written();
            if (_value is not null && written.AsSpan().SequenceEqual(_written))
                return _value;
            var next = _read();
            (_value as IDisposable)?.Dispose();
            (_value, _written, _complained, _failed) = (next, written, null, null);
        }
        catch (Exception e)
            when (e is IOException or UnauthorizedAccessException or CryptographicException or ArgumentException or FormatException)
        {
            var paths = string.Join(" or ", _paths);
            if (_value is null)
                throw new FormatException($"{paths} cannot be read: {e.Message}", e);
            _failed = Stopwatch.GetTimestamp();
            // The same failure is reported once.
            if (_complained != e.Message)
                _complain($"{paths} cannot be read, and what it held before stays in use: {e.Message}");
            _complained = e.Message;
        }
        return _value;
    }

    private DateTime[] Written() => [.. _paths.Select(FileTimes.WrittenAt)];
}

/// <summary>When files were written.</summary>
internal static class FileTimes
{
    /// <summary>When a file was written, or what a link leads to; the default where there is none.</summary>
    /// <exception cref="IOException">It cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    public static DateTime WrittenAt(string path)
    {
        if (!File.Exists(path))
            return default;
        // The path's own time would be that of the link, so a secret that is renewed behind the link would go unnoticed.
        using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        return File.GetLastWriteTimeUtc(file);
    }
}
