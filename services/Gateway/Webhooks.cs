using System.Globalization;
using System.Net.Http.Headers;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Microsoft.Extensions.Logging;
using Ministries.Serving;

namespace Ministries.Gateway;

/// <summary>An event that a webhook did not take.</summary>
/// <param name="Webhook">The webhook.</param>
/// <param name="Event">The event's id.</param>
/// <param name="Type">Its type's full name.</param>
/// <param name="Attempts">How often it was sent.</param>
/// <param name="Error">What came of the last time.</param>
/// <param name="Time">When it was set aside.</param>
internal sealed record DeadLetter(string Webhook, string Event, string Type, int Attempts, string Error, DateTimeOffset Time);

/// <summary>A page of the dead letters of a webhook.</summary>
/// <param name="Letters">The dead letters.</param>
/// <param name="Next">Where the next page begins; null: this is the last.</param>
/// <param name="Total">How many dead letters the webhook has.</param>
internal sealed record DeadLetterPage(IReadOnlyList<DeadLetter> Letters, string? Next, long Total);

/// <summary>
/// Sends events to the webhooks of the settings (Standard Webhooks 1.0: <c>webhook-id</c>, <c>webhook-timestamp</c>,
/// <c>webhook-signature</c>). To each of them, one event after the other, in order: the next is not sent before this one is taken, or set
/// aside as a dead letter after the attempts that the settings give. A webhook may get an event twice, with the same id, if the gateway
/// ends before it has noted the answer.
/// </summary>
internal sealed partial class Webhooks : SupervisedService
{
    /// <summary>The tables in the state folder, wherever the mirror is. A mirror that is built again begins with the first event again.
    /// </summary>
    public const string Schema = """
        create table if not exists deliveries (
          name text primary key, numbering text not null, sequence integer not null, attempts integer not null, next_time integer not null,
          error text not null
        ) without rowid;
        create table if not exists undelivered (
          name text not null, event text not null, type text not null, attempts integer not null, error text not null,
          time integer not null, primary key (name, event)
        ) without rowid;
        """;

    private const int OnPage = 200;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(15),
        Longest = TimeSpan.FromHours(2);

    private readonly Mirror _mirror;
    private readonly EventStream _events;
    private readonly TimeProvider _time;
    private readonly ILogger<Webhooks> _log;
    private readonly Dictionary<string, Target> _targets;

    private sealed record Target(WebhookSettings Settings, byte[] Secret, HttpClient Http) : IDisposable
    {
        public void Dispose()
        {
            CryptographicOperations.ZeroMemory(Secret);
            Http.Dispose();
        }
    }

    private sealed record Cursor(string Numbering, long Sequence, int Attempts, DateTimeOffset Next);

    public Webhooks(GatewaySettings settings, Mirror mirror, EventStream events, TimeProvider time, ILogger<Webhooks> log)
        : base(log)
    {
        (_mirror, _events, _time, _log) = (mirror, events, time, log);
        _targets = settings.Webhooks.ToDictionary(w => w.Name, w => new Target(w, SecretOf(w), Open(w)));
    }

    /// <summary>How many events wait for a webhook, by its name.</summary>
    public IReadOnlyDictionary<string, long> Pending =>
        _targets.Keys.ToDictionary(n => n, n => Math.Max(0, _mirror.Store.LastEvent - CursorOf(n).Sequence));

    /// <summary>How many dead letters there are.</summary>
    public long Dead => Data.Read(c => (long)Database.Scalar(c, "select count(*) from undelivered")!);

    /// <summary>A page of a webhook's dead letters, at most 200, in the order in which they were set aside.</summary>
    /// <param name="webhook">The webhook.</param>
    /// <param name="after">Where the previous page ended (<see cref="DeadLetterPage.Next"/>), even if that letter is no longer a dead
    /// letter; null: the first page.</param>
    /// <returns>null: there is no such webhook.</returns>
    /// <exception cref="GatewayRefusedException">No page ended there.</exception>
    public DeadLetterPage? DeadLetters(string webhook, string? after = null)
    {
        if (!_targets.ContainsKey(webhook))
            return null;
        var (time, id) = after is null ? (long.MinValue, "") : PlaceOf(after);
        return Data.Read(c =>
        {
            var rows = Database.Rows(
                c,
                r => (Event: r.GetString(0), Type: r.GetString(1), Attempts: r.GetInt32(2), Error: r.GetString(3), Time: r.GetInt64(4)),
                "select event, type, attempts, error, time from undelivered where name = @0 and (time > @1 or time = @1 and event > @2) "
                    + "order by time, event limit @3",
                webhook,
                time,
                id,
                OnPage + 1
            );
            var page = rows.Take(OnPage).ToList();
            return new DeadLetterPage(
                page.ConvertAll(r => new DeadLetter(webhook, r.Event, r.Type, r.Attempts, r.Error, Database.Time(r.Time))),
                rows.Count > OnPage ? string.Create(CultureInfo.InvariantCulture, $"{page[^1].Time}-{page[^1].Event}") : null,
                (long)Database.Scalar(c, "select count(*) from undelivered where name = @0", webhook)!
            );
        });
    }

    private static (long Time, string Event) PlaceOf(string after) =>
        after.Split('-', 2) is [var text, var id] && long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var time)
            ? (time, id)
            : throw new GatewayRefusedException(GatewayReason.ParameterInvalid, "it must be the next of the page before", "after");

    /// <summary>Sends a dead letter once more. If it is taken, it is none any longer.</summary>
    /// <returns>What came of it: empty, it was taken; null, there is no such dead letter.</returns>
    /// <exception cref="GatewayRefusedException">The event cannot be read now.</exception>
    public async Task<string?> Replay(string webhook, string id, CancellationToken cancel)
    {
        if (!_targets.TryGetValue(webhook, out var target) || !IsDead(webhook, id) || await _mirror.Find(id, cancel) is not { } letter)
            return null;
        var error = await Send(target, letter, cancel) ?? "";
        if (error.Length == 0)
            await Data.Write(c => Database.Run(c, "delete from undelivered where name = @0 and event = @1", webhook, id));
        return error;
    }

    // However many others there are.
    private bool IsDead(string webhook, string id) =>
        Data.Read(c => Database.Scalar(c, "select 1 from undelivered where name = @0 and event = @1", webhook, id)) is not null;

    /// <inheritdoc/>
    protected override Task Work(CancellationToken stop) =>
        Together(
            _targets.Values.Select<Target, Func<CancellationToken, Task>>(target =>
                cancel => Task.Run(() => Deliver(target, cancel), CancellationToken.None)
            ),
            stop
        );

    /// <inheritdoc/>
    public override void Dispose()
    {
        base.Dispose();
        foreach (var target in _targets.Values)
            target.Dispose();
    }

    private Database Data => _mirror.Store.File;

    private async Task Deliver(Target target, CancellationToken cancel)
    {
        while (!cancel.IsCancellationRequested)
            try
            {
                var grown = _mirror.Grown;
                if (!await DeliverNext(target, cancel))
                    await grown.WaitAsync(cancel);
            }
            catch (OperationCanceledException) when (cancel.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
                // The disk is full, or the mirror's database is away, for example.
                LogFailed(_log, target.Settings.Name, e.Message);
                await Task.Delay(TimeSpan.FromSeconds(5), _time, cancel).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
    }

    // False: there is nothing to deliver.
    private async Task<bool> DeliverNext(Target target, CancellationToken cancel)
    {
        var (name, cursor) = (target.Settings.Name, CursorOf(target.Settings.Name));
        if (await _mirror.Events(cursor.Numbering, cursor.Sequence, 1, cancel) is not [var next])
            return false;
        // Numbered anew meanwhile: the cursor is looked at again.
        if (_mirror.Head.Numbering != cursor.Numbering)
            return true;
        if (target.Settings.Types.Count > 0 && !target.Settings.Types.Contains(next.Type))
        {
            await Move(name, cursor.Numbering, next.Sequence);
            return true;
        }
        if (cursor.Next - _time.GetUtcNow() is { Ticks: > 0 } wait)
        {
            // A clock that was put back meanwhile must not make it wait for the time that it showed before.
            var most = PauseAfter(cursor.Attempts) * MostSpread;
            await Task.Delay(wait < most ? wait : most, _time, cancel);
        }
        if (await Send(target, next, cancel) is not { } error)
        {
            await Move(name, cursor.Numbering, next.Sequence);
            return true;
        }
        var attempts = cursor.Attempts + 1;
        if (attempts >= target.Settings.Attempts)
        {
            LogDead(_log, name, next.Id, error);
            await SetAside(name, cursor.Numbering, next, attempts, error);
            return true;
        }
        var at = Database.Stored(_time.GetUtcNow() + PauseAfter(attempts) * (LeastSpread + Random.Shared.NextDouble() / 2));
        await Data.Write(c => Database.Run(c, Moves, name, cursor.Numbering, cursor.Sequence, attempts, at, error));
        return true;
    }

    // Without the spread by which those that wait come at different times.
    private static TimeSpan PauseAfter(int attempts) => TimeSpan.FromSeconds(Math.Min(Longest.TotalSeconds, Math.Pow(2, attempts - 1)));

    private const double LeastSpread = 0.75,
        MostSpread = LeastSpread + 0.5;

    // Where the events were numbered anew, those from before that have their number still are known to be sent.
    private Cursor CursorOf(string name)
    {
        if (_mirror.Store.Head is not { } head)
            return new Cursor("", 0, 0, DateTimeOffset.UnixEpoch);
        var stored = Data.Read(c =>
                Database.Rows(
                    c,
                    r => new Cursor(r.GetString(0), r.GetInt64(1), r.GetInt32(2), Database.Time(r.GetInt64(3))),
                    "select numbering, sequence, attempts, next_time from deliveries where name = @0",
                    name
                )
            )
            .FirstOrDefault();
        return stored?.Numbering == head.Numbering
            ? stored
            : new Cursor(
                head.Numbering,
                stored is null ? 0 : Math.Min(stored.Sequence, head.SharedWith(stored.Numbering)),
                0,
                DateTimeOffset.UnixEpoch
            );
    }

    private const string Moves =
        "insert into deliveries values (@0, @1, @2, @3, @4, @5) on conflict (name) do update set numbering = @1, sequence = @2, attempts = @3, "
        + "next_time = @4, error = @5";

    private Task<int> Move(string name, string numbering, long sequence) =>
        Data.Write(c => Database.Run(c, Moves, name, numbering, sequence, 0, 0, ""));

    private Task SetAside(string name, string numbering, MirroredEvent e, int attempts, string error) =>
        Data.Write(c =>
        {
            Database.Run(
                c,
                "insert into undelivered values (@0, @1, @2, @3, @4, @5) on conflict do nothing",
                name,
                e.Id,
                e.Type,
                attempts,
                error,
                Database.Stored(_time.GetUtcNow())
            );
            Database.Run(c, Moves, name, numbering, e.Sequence, 0, 0, "");
        });

    /// <summary>Sends one event. Returns what failed; null: it was taken.</summary>
    private async Task<string?> Send(Target target, MirroredEvent e, CancellationToken cancel)
    {
        var body = _events.ToJson(e).ToJsonString();
        var timestamp = _time.GetUtcNow().ToUnixTimeSeconds().ToString(CultureInfo.InvariantCulture);
        using var request = new HttpRequestMessage(HttpMethod.Post, target.Settings.Url) { Content = new StringContent(body) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/cloudevents+json");
        request.Headers.Add("webhook-id", e.Id);
        request.Headers.Add("webhook-timestamp", timestamp);
        request.Headers.Add("webhook-signature", Sign(target.Secret, e.Id, timestamp, body));
        try
        {
            using var answer = await target.Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancel);
            return answer.IsSuccessStatusCode ? null : $"it answered {(int)answer.StatusCode}";
        }
        catch (Exception e2) when (e2 is HttpRequestException || e2 is OperationCanceledException && !cancel.IsCancellationRequested)
        {
            return e2 is HttpRequestException http ? $"it is not reached ({http.HttpRequestError})" : "it did not answer in time";
        }
    }

    /// <summary>The value of <c>webhook-signature</c>: <c>v1,</c> and the HMAC-SHA256 over id, timestamp and body, with dots between them,
    /// in Base64.</summary>
    public static string Sign(byte[] secret, string id, string timestamp, string body) =>
        $"v1,{Convert.ToBase64String(HMACSHA256.HashData(secret, Encoding.UTF8.GetBytes($"{id}.{timestamp}.{body}")))}";

    private static byte[] SecretOf(WebhookSettings webhook)
    {
        var text = OwnFile.ReadText(webhook.Secret).Trim();
        var secret = new byte[64];
        if (
            !text.StartsWith("whsec_", StringComparison.Ordinal)
            || !Convert.TryFromBase64String(text[6..], secret, out var length)
            || length < 24
        )
            throw new FormatException($"{webhook.Secret} must hold whsec_ and 24 to 64 bytes in Base64");
        return secret[..length];
    }

    private static HttpClient Open(WebhookSettings webhook)
    {
        // Neither a redirection nor a proxy leads elsewhere than the settings say.
        var handler = new SocketsHttpHandler
        {
            AllowAutoRedirect = false,
            UseProxy = false,
            UseCookies = false,
            ConnectTimeout = TimeSpan.FromSeconds(5),
            MaxResponseHeadersLength = 16,
        };
        if (webhook.Authorities is { } authorities)
            handler.SslOptions = Trust(authorities);
        return new HttpClient(handler) { Timeout = Patience };
    }

    /// <summary>Trusts the authorities of a file, and no others.</summary>
    internal static SslClientAuthenticationOptions Trust(string authorities)
    {
        var roots = new X509Certificate2Collection();
        roots.ImportFromPemFile(authorities);
        var policy = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
            DisableCertificateDownloads = true,
        };
        policy.CustomTrustStore.AddRange(roots);
        return new SslClientAuthenticationOptions { CertificateChainPolicy = policy };
    }

    [LoggerMessage(1, LogLevel.Error, "The webhook {Name} did not take {Id}, which is a dead letter now: {Why}")]
    private static partial void LogDead(ILogger log, string name, string id, string why);

    [LoggerMessage(2, LogLevel.Error, "The webhook {Name} is tried again: {Why}")]
    private static partial void LogFailed(ILogger log, string name, string why);
}
