namespace Ministries.Gateway;

/// <summary>Why writes wait although their service answers: something is wrong with the gateway itself, or with the service's version or
/// log, and somebody must mend it.</summary>
/// <param name="Service">The service for which they are.</param>
/// <param name="Reason">The service's reason, such as <c>CERTIFICATE_NOT_ACCEPTED</c>, or the gateway's own: <c>ADDRESS_NOT_SET</c>,
/// <c>METHOD_UNKNOWN</c>, <c>METHOD_NOT_SERVED</c> (the service runs an earlier version), <c>SERVICE_NOT_PROVED</c> (whoever answers at its
/// address does not prove to be the service), <c>LOG_NOT_SHOWN</c> (its answers cannot be verified, because its log cannot be read), or the
/// type of an unforeseen exception.</param>
/// <param name="Remedy">What helps.</param>
/// <param name="Since">Since when it is so.</param>
/// <param name="Writes">How many writes wait for it.</param>
internal sealed record Hindrance(string Service, string Reason, string Remedy, DateTimeOffset Since, int Writes);

/// <summary>The writes that wait until somebody mends a fault. Safe for concurrent use.</summary>
internal sealed class Hindrances
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, (string Service, string Reason)> _writes = [];
    private readonly Dictionary<(string Service, string Reason), (DateTimeOffset Since, string Remedy, int Writes)> _all = [];

    /// <summary>All of them.</summary>
    public IReadOnlyList<Hindrance> All
    {
        get
        {
            lock (_lock)
                return [.. _all.Select(a => new Hindrance(a.Key.Service, a.Key.Reason, a.Value.Remedy, a.Value.Since, a.Value.Writes))];
        }
    }

    /// <summary>For what a write waits; null: for nothing of the kind.</summary>
    public string? ReasonOf(string requestId)
    {
        lock (_lock)
            return _writes.TryGetValue(requestId, out var of) ? of.Reason : null;
    }

    /// <summary>Notes for what a write waits.</summary>
    /// <returns>Whether it is the first that does.</returns>
    public bool Add(string requestId, string service, string reason, string remedy, DateTimeOffset now)
    {
        lock (_lock)
        {
            if (_writes.TryGetValue(requestId, out var of) && of == (service, reason))
                return false;
            RemoveCore(requestId);
            _writes[requestId] = (service, reason);
            var first = !_all.TryGetValue((service, reason), out var known);
            _all[(service, reason)] = first ? (now, remedy, 1) : known with { Writes = known.Writes + 1 };
            return first;
        }
    }

    /// <summary>Notes that a write no longer waits for something of the kind.</summary>
    /// <param name="requestId">The write's request id.</param>
    /// <param name="reason">For which reason; null: for whichever there was.</param>
    public void Remove(string requestId, string? reason = null)
    {
        lock (_lock)
            if (reason is null || _writes.TryGetValue(requestId, out var of) && of.Reason == reason)
                RemoveCore(requestId);
    }

    private void RemoveCore(string requestId)
    {
        if (!_writes.Remove(requestId, out var of))
            return;
        var known = _all[of];
        if (known.Writes > 1)
            _all[of] = known with { Writes = known.Writes - 1 };
        else
            _all.Remove(of);
    }
}
