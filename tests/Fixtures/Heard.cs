using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace Ministries.Fixtures;

/// <summary>Keeps what is logged, line by line.</summary>
/// <param name="lines">Where to.</param>
/// <param name="from">From which level on.</param>
public sealed class Heard(ConcurrentQueue<string> lines, LogLevel from = LogLevel.Warning) : ILoggerProvider, ILogger
{
    public ILogger CreateLogger(string categoryName) => this;

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => logLevel >= from;

    public void Log<TState>(
        LogLevel logLevel,
        EventId eventId,
        TState state,
        Exception? exception,
        Func<TState, Exception?, string> formatter
    )
    {
        if (IsEnabled(logLevel))
            lines.Enqueue(formatter(state, exception));
    }

    public void Dispose() { }
}
