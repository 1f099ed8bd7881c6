using System.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Ministries.Serving;

/// <summary>
/// Background work for as long as the service or the gateway runs. When it fails, it is restarted after a pause that doubles from
/// <see cref="FirstPause"/> to <see cref="LongestPause"/>. Only the type of its exception is logged: the message may contain what is in
/// a record. Without this an exception would end the host, or end the work unnoticed.
/// </summary>
/// <param name="log">Where failures are logged.</param>
public abstract partial class SupervisedService(ILogger log) : BackgroundService
{
    /// <summary>The pause after the first failure: 100 milliseconds.</summary>
    public static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(100);

    /// <summary>The longest pause: 30 seconds. After work that ran longer than that, the next pause is <see cref="FirstPause"/> again.
    /// </summary>
    public static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(30);

    /// <summary>Called with the name of the class whenever its work begins. Only tests set it, and make the work fail there.</summary>
    internal static Action<string>? Begins { get; set; }

    /// <summary>Runs a host, which stops when background work fails that nothing restarts.</summary>
    /// <param name="host">The host.</param>
    /// <param name="run">Runs it until it has stopped.</param>
    /// <returns>Which work failed for good, and the type of its exception; null: none did.</returns>
    public static async Task<string?> Run(IHost host, Func<Task> run)
    {
        var background = host.Services.GetServices<IHostedService>().OfType<BackgroundService>().ToList();
        BackgroundService? Failed() => background.FirstOrDefault(b => b.ExecuteTask is { IsFaulted: true });
        try
        {
            await run();
        }
        catch (Exception) when (Failed() is not null)
        {
            // The failure is reported below.
        }
        return Failed() is { } failed
            ? $"{failed.GetType().Name} failed: {failed.ExecuteTask!.Exception!.InnerException!.GetType().FullName}"
            : null;
    }

    /// <summary>The work. It returns when it is told to stop, or when it is finished.</summary>
    /// <param name="stop">Stops it.</param>
    protected abstract Task Work(CancellationToken stop);

    /// <summary>Runs once, when the work has ended and is not restarted.</summary>
    protected virtual Task Ended() => Task.CompletedTask;

    /// <inheritdoc/>
    protected sealed override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var pause = FirstPause;
        while (!stoppingToken.IsCancellationRequested)
        {
            var began = Stopwatch.GetTimestamp();
            try
            {
                Begins?.Invoke(GetType().Name);
                await Work(stoppingToken);
                break;
            }
            catch (Exception e) when (!stoppingToken.IsCancellationRequested)
            {
                if (Stopwatch.GetElapsedTime(began) > LongestPause)
                    pause = FirstPause;
                LogFailed(log, GetType().Name, pause.TotalSeconds, e.GetType().Name);
                // The machine's clock is used, because the service's own clock may be what failed.
                await Task.Delay(pause, stoppingToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                pause = pause * 2 < LongestPause ? pause * 2 : LongestPause;
            }
            catch (Exception)
            {
                // It was told to stop.
            }
        }
        await Ended();
    }

    /// <summary>Does several things at once. Where one fails the others are stopped, so that none goes on while another is missing.
    /// </summary>
    /// <param name="works">What is done.</param>
    /// <param name="stop">Stops all of them.</param>
    protected static async Task Together(IEnumerable<Func<CancellationToken, Task>> works, CancellationToken stop)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(stop);
        await Task.WhenAll(
            works
                .Select(async work =>
                {
                    try
                    {
                        await work(end.Token);
                    }
                    catch
                    {
                        await end.CancelAsync();
                        throw;
                    }
                })
                .ToList()
        );
    }

    [LoggerMessage(60, LogLevel.Error, "{Work} failed and starts again in {Seconds} s: {Error}")]
    private static partial void LogFailed(ILogger log, string work, double seconds, string error);
}
