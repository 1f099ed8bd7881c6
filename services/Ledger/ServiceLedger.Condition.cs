namespace Ministries.Ledger;

/// <content>Whether the ledger can be served in full.</content>
public sealed partial class ServiceLedger
{
    /// <summary>What is wrong with this machine's clock, so that nothing is committed; null: nothing. It costs no question to the database.
    /// </summary>
    public string? ClockFault => _context.Clock.Look();

    /// <summary>Commits something that leaves no trace, and compares what the database says with what is known.</summary>
    /// <param name="cancel">Ends it: the database then counts as not writable.</param>
    public async Task<LedgerCondition> Examine(CancellationToken cancel)
    {
        try
        {
            var before = _options.Time.GetUtcNow();
            var failing = _committer.FailingSince is not null;
            var pulse = await Read(session => session.Pulse(failing), cancel).WaitAsync(cancel);
            _end.Replicate(pulse.Head.Size);
            _context.Clock.Look(before, pulse.Clock, pulse.Head.Time);
            _committer.Recover();
            _asynchronous = !pulse.Synchronous && (_options.ExpectReplication || pulse.Standbys > 0);
            return Condition(_committer.FailingSince is null);
        }
        catch (LedgerInconsistentException) when (Contradiction is not null)
        {
            return Condition(_committer.FailingSince is null);
        }
        catch (Exception)
        {
            // Such faults need not be an outage: a table or a permission may be missing.
            return Condition(false);
        }
    }

    private volatile bool _asynchronous;

    private LedgerCondition Condition(bool writable) => new(writable, ClockFault, Contradiction, _asynchronous);
}
