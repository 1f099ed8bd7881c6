using System.Collections.Concurrent;
using Ministries.Fixtures;
using static Ministries.Ledger.Tests.Counting;

namespace Ministries.Ledger.Tests;

/// <summary>What an operator backs up and restores, with PostgreSQL's own programs, while the ledger is written.</summary>
public sealed class BackupTests : IDisposable
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    // The database server's account writes and reads here too.
    private readonly string _folder = Directory.CreateTempSubdirectory("ministries-backup-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task A_dump_taken_under_load_is_a_whole_ledger_which_the_checkpoint_copied_before_it_fits_and_no_later_one()
    {
        var postgres = await Postgres.Shared;
        var connection = await postgres.CreateDatabase();
        var (newest, copied, dump) = (In("newest"), In("copied"), In("dump"));
        ConcurrentDictionary<string, ulong> answered = [];
        KeyValuePair<string, ulong>[] before;
        await using (var ledger = await ServiceLedger.Open(Options(connection, newest), Cancel))
        {
            using var enough = new CancellationTokenSource();
            var writers = Write(ledger, answered, enough.Token);
            await Until(() => answered.Count > 50);
            before = answered.ToArray();
            // First the checkpoint, then the database. In the other order, the checkpoint would be ahead of the dump.
            File.Copy(newest, copied);
            await postgres.Dump(connection, dump);
            var reached = answered.Count;
            await Until(() => answered.Count > reached + 50);
            await enough.CancelAsync();
            await writers;
        }

        var late = await Assert.ThrowsAsync<LedgerInconsistentException>(async () =>
            await ServiceLedger.Open(Options(await postgres.Restore(dump), newest), Cancel)
        );
        Assert.Contains("acknowledged entries are missing. Restore the newest backup", late.Message);

        var restored = await postgres.Restore(dump);
        await using var again = await ServiceLedger.Open(Options(restored, copied), Cancel);
        Assert.InRange(again.Size, (ulong)before.Length, (ulong)answered.Count - 1);
        // Who was answered before the backup gets the same answer from it.
        foreach (var (request, position) in before)
            Assert.Equal(position, (await again.Commit(Add("w", request, "c"), Cancel)).Position);
        Assert.True((await again.Commit(Add("w", "after", "c"), Cancel)).Position >= (ulong)before.Length);
    }

    [Fact]
    public async Task A_base_backup_and_the_log_received_since_bring_back_everything_that_was_answered()
    {
        var lost = await Postgres.Create();
        var connection = await lost.CreateDatabase();
        var checkpoint = In("checkpoint");
        ConcurrentDictionary<string, ulong> answered = [];
        using var receiving = await lost.BackUp(_folder);
        try
        {
            var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel);
            using var enough = new CancellationTokenSource();
            var writers = Write(ledger, answered, enough.Token);
            await Until(() => answered.Count > 100);
            // The server is killed and loses its disk.
            lost.Stop();
            await enough.CancelAsync();
            await writers;
            await ledger.DisposeAsync();
        }
        finally
        {
            lost.Stop();
            receiving.Kill();
            await receiving.WaitForExitAsync(Cancel);
        }

        var recovered = await Postgres.Recover(lost, _folder);
        try
        {
            await using var again = await ServiceLedger.Open(Options(recovered.On(connection), checkpoint), Cancel);
            foreach (var (request, position) in answered)
                Assert.Equal(position, (await again.Commit(Add("w", request, "c"), Cancel)).Position);
        }
        finally
        {
            recovered.Stop();
            Directory.CreateDirectory(_folder);
        }
    }

    private string In(string file) => Path.Combine(_folder, file);

    private static async Task Write(ServiceLedger ledger, ConcurrentDictionary<string, ulong> answered, CancellationToken enough) =>
        await Task.WhenAll(
            Enumerable
                .Range(0, 4)
                .Select(async writer =>
                {
                    for (var i = 0; !enough.IsCancellationRequested; i++)
                    {
                        try
                        {
                            answered[$"r{writer}-{i}"] = (await ledger.Commit(Add("w", $"r{writer}-{i}", "c"), Cancel)).Position!.Value;
                        }
                        catch (LedgerException)
                        {
                            // The database is gone, so this call was not answered.
                        }
                    }
                })
        );

    private static async Task Until(Func<bool> isSo)
    {
        using var late = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        late.CancelAfter(TimeSpan.FromSeconds(60));
        while (!isSo())
            await Task.Delay(10, late.Token);
    }
}
