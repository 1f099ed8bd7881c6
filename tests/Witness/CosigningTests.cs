using System.Diagnostics;
using System.Diagnostics.Metrics;
using Google.Protobuf.WellKnownTypes;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Ministries.Fixtures;
using Ministries.Gateway;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Operations.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Witness.Tests;

/// <summary>A service asks its witnesses, through the real hosts of both.</summary>
public sealed class CosigningTests
{
    private static LedgerService.LedgerServiceClient LedgerOf(Hub hub) => new(hub.As("kr/mfa")["custody"]);

    [Fact]
    public async Task A_checkpoint_is_cosigned_by_as_many_as_the_agreement_demands_and_shown_with_it()
    {
        await using var hub = await Hub.Start(2, 60, "icrc", "kr/mfa");
        await hub.Write(5);
        var cosigned = await hub.Cosigned();
        Assert.Equal(["icrc", "kr/mfa"], Cosigners.Of(cosigned.Text, hub.Agreement));
        Assert.Equal(PrivateFiles.Mode, File.GetUnixFileMode($"{hub.Checkpoint}.cosigned"));

        var shown = await LedgerOf(hub).GetCheckpointAsync(new GetCheckpointRequest(), cancellationToken: Hub.Cancel);
        Assert.Equal((cosigned.Text, cosigned.Size), (shown.CosignedCheckpoint, shown.CosignedTreeSize));
        // The present checkpoint has its cosignatures so far: here, all of them.
        Assert.Equal(["icrc", "kr/mfa"], Cosigners.Of(shown.Checkpoint, hub.Agreement));
        using var http = hub.Http("ua/mfa");
        Assert.Equal(cosigned.Text, await http.GetStringAsync(new Uri("/checkpoint/cosigned", UriKind.Relative), Hub.Cancel));
        Assert.Equal(shown.Checkpoint, await http.GetStringAsync(new Uri("/checkpoint", UriKind.Relative), Hub.Cancel));

        // Later entries make a greater tree, and every entry is proved in the cosigned one.
        await hub.Write(5);
        await hub.Cosigned();
        var proof = (await hub.Ledger.ProveInclusion(2, cosigned.Size, Hub.Cancel))!;
        var header = (await hub.Ledger.ReadEntry(2, null, Hub.Cancel))!.Entry.Header;
        Assert.True(Proofs.Includes(TreeHash.Leaf(header.Span), 2, cosigned.Size, cosigned.Root, proof.Hashes));
    }

    [Fact]
    public async Task A_witness_that_comes_later_is_asked_too_and_catches_up()
    {
        await using var hub = await Hub.Start(2, 60, "icrc", "kr/mfa");
        await hub.Write(3);
        await hub.Cosigned();
        await Hub.Until(() => hub.Witnessing.Missing.SequenceEqual(["ua/mfa"]), "the missing witness was not told");
        Assert.Contains(hub.Warnings, w => w.Contains("the witness ua/mfa did not cosign the log of custody: it cannot be reached"));
        await hub.StartWitness("ua/mfa");
        await Hub.Until(() => hub.Witnessing.Missing.Count == 0, "the witness that came was not asked");
        Assert.Equal(["icrc", "kr/mfa", "ua/mfa"], Cosigners.Of((await hub.Cosigned()).Text, hub.Agreement));
        Assert.Equal(
            3,
            Cosigners.On(hub.WitnessOf("ua/mfa").CheckpointOf(Client.Witness.HashOf("ministries.example/custody"))!, hub.Agreement).Count
                + 2
        );
    }

    [Fact]
    public async Task A_witness_that_fails_is_asked_ever_more_rarely_and_the_others_as_often_as_before()
    {
        var asked = 0;
        await using var hub = Hub.Make();
        await hub.StartWitness("icrc");
        await hub.StartWitness("kr/mfa");
        await using var failing = await hub.StartFalseWitness(
            "ua/mfa",
            context =>
            {
                Interlocked.Increment(ref asked);
                context.Response.StatusCode = StatusCodes.Status503ServiceUnavailable;
                return Task.CompletedTask;
            }
        );
        await hub.StartService(
            options: new WitnessingOptions { Pause = TimeSpan.FromMilliseconds(1), LongestPause = TimeSpan.FromHours(1) }
        );
        // So many rounds that a pause which doubled with each would be longer than the test.
        const int rounds = 30;
        for (var round = 0; round < rounds; round++)
        {
            await hub.Write();
            await hub.Cosigned();
        }
        Assert.Equal(["ua/mfa"], hub.Witnessing.Missing);
        Assert.InRange(asked, 1, rounds - 1);
    }

    [Fact]
    public async Task A_witness_that_does_not_answer_delays_no_cosignature_of_the_others()
    {
        await using var hub = Hub.Make();
        await hub.StartWitness("icrc");
        await hub.StartWitness("kr/mfa");
        var asked = new TaskCompletionSource();
        await using var hanging = await hub.StartFalseWitness(
            "ua/mfa",
            context =>
            {
                asked.TrySetResult();
                return Task.Delay(Timeout.Infinite, context.RequestAborted);
            }
        );
        await hub.StartService(options: new WitnessingOptions { Patience = TimeSpan.FromHours(1) });
        await hub.Write();
        await asked.Task.WaitAsync(Hub.Cancel);
        for (var round = 0; round < 3; round++)
        {
            await hub.Write();
            await hub.Cosigned();
        }
        // The service stops, though the witness still has not answered.
        await hub.StopService();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_witness_that_another_replica_was_faster_to_ask_is_not_missing_and_one_that_only_says_so_is(bool shows)
    {
        await using var hub = await Hub.Start(2, 60, "icrc", "kr/mfa");
        await hub.Write();
        var earlier = (await hub.Cosigned()).Text;
        // What the witness has: a checkpoint of this ledger that is later than any that this service has read when it asks.
        var (shown, posts) = (new TaskCompletionSource(), 0);
        await using var ahead = await hub.StartFalseWitness(
            "ua/mfa",
            async context =>
            {
                if (context.Request.Method == HttpMethods.Get)
                {
                    if (shows)
                        await hub.Write();
                    await context.Response.WriteAsync(shows ? (await hub.Ledger.ReadCheckpoint(Hub.Cancel)).Text : earlier);
                    return;
                }
                if (Interlocked.Increment(ref posts) > 4)
                    shown.TrySetResult();
                (context.Response.StatusCode, context.Response.ContentType) = (StatusCodes.Status409Conflict, "text/x.tlog.size");
                await context.Response.WriteAsync("1000000\n");
            }
        );
        await hub.Write();
        await shown.Task.WaitAsync(TimeSpan.FromSeconds(30), Hub.Cancel);
        await Hub.Until(() => hub.Witnessing.Missing.Count == (shows ? 0 : 1), "the witness is missing, or is not");
        Assert.Equal(!shows, hub.Warnings.Any(w => w.Contains("it reports a greater checkpoint than it shows")));
    }

    [Fact]
    public async Task The_cosigned_checkpoint_is_kept_while_the_witnesses_are_away()
    {
        await using var hub = await Hub.Start(2, 60, "icrc", "kr/mfa");
        await hub.Write(4);
        var cosigned = await hub.Cosigned();
        await hub.StopWitness("icrc");
        await hub.StopWitness("kr/mfa");
        await hub.StopService();
        await hub.StartService();
        Assert.Equal(cosigned.Text, hub.Ledger.Cosigned!.Text);
        // Writes go on and do not wait for witnesses.
        var began = Stopwatch.GetTimestamp();
        await hub.Write(10);
        Assert.True(Stopwatch.GetElapsedTime(began) < TimeSpan.FromSeconds(10));
        Assert.Equal(cosigned.Size, hub.Ledger.Cosigned!.Size);
        Assert.False(hub.Witnessing.Late);
    }

    [Fact]
    public async Task Late_cosignatures_are_reported_until_they_come()
    {
        await using var hub = await Hub.Start(2, 1, "icrc");
        var gauges = new Dictionary<string, double>();
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, l) =>
        {
            if (instrument.Meter.Name == Telemetry.Source && instrument.Name.StartsWith("ministries.cosignatures."))
                l.EnableMeasurementEvents(instrument);
        };
        listener.SetMeasurementEventCallback<int>((instrument, value, _, _) => Largest(instrument.Name, value));
        listener.SetMeasurementEventCallback<double>((instrument, value, _, _) => Largest(instrument.Name, value));
        listener.Start();
        // Services of other tests report the same gauges in this process.
        void Largest(string name, double value) => gauges[name] = Math.Max(value, gauges.GetValueOrDefault(name));

        await hub.Write(2);
        await Hub.Until(() => hub.Witnessing.Late, "nobody was told that the cosignatures are late");
        await Hub.Until(
            () => hub.Warnings.Any(w => w.Contains("cosignatures are late: entries of custody do not have 2 cosignatures within 1 s")),
            "it was not logged"
        );
        Assert.Null(hub.Ledger.Cosigned);
        listener.RecordObservableInstruments();
        Assert.Equal(1, gauges["ministries.cosignatures.late"]);
        Assert.True(gauges["ministries.cosignatures.wait"] > 1);
        var status = await new OperationsService.OperationsServiceClient(hub.As("operator")["custody"]).GetStatusAsync(
            new GetStatusRequest(),
            cancellationToken: Hub.Cancel
        );
        Assert.True(status.CosignaturesLate);
        Assert.Equal(["kr/mfa", "ua/mfa"], status.WitnessesMissing);
        Assert.InRange(status.CosignaturesWaitingSinceTime.ToDateTimeOffset(), DateTimeOffset.UtcNow.AddMinutes(-2), DateTimeOffset.UtcNow);

        await hub.StartWitness("kr/mfa");
        await hub.Cosigned();
        await Hub.Until(() => !hub.Witnessing.Late && hub.Witnessing.WaitingSince is null, "it is still said to be late");
        status = await new OperationsService.OperationsServiceClient(hub.As("operator")["custody"]).GetStatusAsync(
            new GetStatusRequest(),
            cancellationToken: Hub.Cancel
        );
        Assert.Equal(
            (false, hub.Ledger.Size, null),
            (status.CosignaturesLate, status.CosignedEntries, status.CosignaturesWaitingSinceTime)
        );
    }

    [Fact]
    public async Task Another_server_in_the_place_of_a_witness_is_not_believed()
    {
        await using var hub = Hub.Make();
        await hub.StartWitness("icrc");
        // The witness of ua/mfa at the address of kr/mfa: its certificate is another participant's.
        var address = hub.AddressOf("kr/mfa");
        await using var other = WitnessServer.Build(
            WitnessSettings.In(hub.Folder, "ua/mfa", hub.StateOf("ua/mfa"), address),
            TimeProvider.System
        );
        await other.StartAsync(Hub.Cancel);
        await hub.StartService();
        await hub.Write(2);
        await Hub.Until(
            () => hub.Warnings.Any(w => w.Contains("the witness kr/mfa did not cosign the log of custody: it cannot be reached")),
            "it was taken for the other"
        );
        Assert.Null(hub.Ledger.Cosigned);
        await other.StopAsync(CancellationToken.None);
    }

    [Theory]
    [InlineData("text/plain; charset=none-such", "not a note")]
    [InlineData("text/plain", "ministries.example/custody\n5\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n")]
    public async Task A_witness_that_answers_nonsense_stops_nobody(string type, string body)
    {
        await using var hub = Hub.Make(1);
        await hub.StartWitness("icrc");
        await using var other = await hub.StartFalseWitness(
            "kr/mfa",
            async http =>
            {
                http.Response.StatusCode = http.Request.Method == "POST" ? 422 : 200;
                http.Response.ContentType = type;
                await http.Response.WriteAsync(body, http.RequestAborted);
            }
        );
        await hub.StartService();
        await hub.Write(2);
        await Hub.Until(
            () => hub.Warnings.Any(w => w.Contains("the witness kr/mfa did not cosign the log of custody: it refuses")),
            "what it answers was not told"
        );
        await hub.Cosigned();
        await hub.Write();
        await hub.Cosigned();
        Assert.Equal(0, hub.ExitCode);
        // It does not stop an auditor either.
        var audit = await hub.As("ua/mfa").Audit("custody", cancel: Hub.Cancel);
        Assert.Equal("what it shows is not signed by the service", audit.NotCompared["kr/mfa"]);
    }

    [Theory]
    [InlineData("cosigned")]
    [InlineData("cosigned.next")]
    public async Task A_disk_that_takes_no_file_is_no_fault_of_a_witness_and_its_cosignature_is_asked_for_again(string file)
    {
        await using var hub = Hub.Make(1);
        await hub.StartWitness("icrc");
        // A file cannot take the place of a folder. The second is not permitted to be removed, as in a folder that one may not change.
        var hindrance = Directory.CreateDirectory($"{hub.Checkpoint}.{file}");
        await hub.StartService();
        await hub.Write();
        await Hub.Until(() => hub.Warnings.Any(w => w.Contains("cannot be kept")), "it was not hindered");
        Assert.DoesNotContain("icrc", hub.Witnessing.Missing);
        Assert.DoesNotContain(hub.Warnings, w => w.Contains("the witness icrc did not cosign") || w.Contains("Witnessing failed"));
        hindrance.Delete();
        await hub.Cosigned();
        Assert.Equal(["icrc"], Cosigners.Of(hub.Ledger.Cosigned!.Text, hub.Agreement));
    }

    [Fact]
    public async Task What_failed_once_is_tried_again()
    {
        await using var hub = Hub.Make(1);
        await hub.StartWitness("icrc");
        var hindrance = Directory.CreateDirectory($"{hub.Checkpoint}.cosigned");
        // What is told of it cannot be logged, which nobody foresaw.
        await hub.StartService(log: new FailingLog("cannot be kept"));
        await hub.Write();
        await Hub.Until(() => hub.Warnings.Any(w => w.Contains("Witnessing failed and starts again")), "it was not hindered");
        hindrance.Delete();
        await hub.Cosigned();
        Assert.Equal(["icrc"], Cosigners.Of(hub.Ledger.Cosigned!.Text, hub.Agreement));
    }

    private sealed class FailingLog(string at) : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Warning;

        public void Log<TState>(
            LogLevel logLevel,
            EventId eventId,
            TState state,
            Exception? exception,
            Func<TState, Exception?, string> formatter
        )
        {
            if (formatter(state, exception).Contains(at, StringComparison.Ordinal))
                throw new InvalidOperationException("the log takes nothing");
        }

        public void Dispose() { }
    }

    [Fact]
    public async Task A_database_and_its_checkpoint_restored_from_yesterday_are_not_served_where_a_witness_knows_more()
    {
        await using var hub = await WithYesterday();
        // Everything that the service has is of yesterday, so the service alone cannot notice it.
        var refused = await Assert.ThrowsAsync<LedgerInconsistentException>(() => StartYesterday(hub));
        Assert.Contains("was signed (the witness ", refused.Message);
        Assert.Contains("acknowledged entries are missing", refused.Message);
    }

    [Fact]
    public async Task Where_no_witness_can_be_asked_a_service_starts_and_says_so_and_ends_once_it_is_told()
    {
        await using var hub = await WithYesterday();
        await hub.StopWitness("icrc");
        await hub.StopWitness("kr/mfa");
        await StartYesterday(hub);
        Assert.Contains(hub.Warnings, w => w.Contains("custody serves what nobody else has confirmed"));
        await hub.StartWitness("icrc");
        await Hub.Until(() => hub.ExitCode == ServiceHost.LedgerRefused, "the service went on with yesterday's database");
        Assert.Contains(
            hub.Warnings,
            w => w.Contains("custody must not be served from this database") && w.Contains("acknowledged entries are missing")
        );
        // What it was told it knows at its next start.
        await hub.StopService();
        await hub.StopWitness("icrc");
        await Assert.ThrowsAsync<LedgerInconsistentException>(() => StartYesterday(hub));
    }

    // A service that was stopped, and beside its files those of yesterday.
    private static async Task<Hub> WithYesterday()
    {
        var hub = await Hub.Start(2, 60, "icrc", "kr/mfa");
        await hub.Write(3);
        await hub.Cosigned();
        await hub.StopService();
        foreach (var file in Directory.GetFiles(hub.Folder, "custody.*"))
            File.Copy(file, file.Replace("custody.", "yesterday."));
        await hub.StartService();
        await hub.Write(3);
        await hub.Cosigned();
        await hub.StopService();
        return hub;
    }

    private static Task StartYesterday(Hub hub) =>
        hub.StartService(Path.Combine(hub.Folder, "yesterday.db"), Path.Combine(hub.Folder, "yesterday.checkpoint"));

    [Fact]
    public async Task A_service_that_begins_another_history_is_found_out_by_a_witness()
    {
        await using var hub = await Hub.Start(2, 60, "icrc", "kr/mfa");
        await hub.Write(3);
        var first = await hub.Cosigned();
        await hub.StopService();
        var refused = await Assert.ThrowsAsync<LedgerInconsistentException>(() =>
            hub.StartService(Path.Combine(hub.Folder, "other.db"), Path.Combine(hub.Folder, "other.checkpoint"))
        );
        Assert.Contains("was signed (the witness ", refused.Message);
        // The witnesses still show what they cosigned.
        Assert.Equal(
            first.Size,
            SignedNote.Read(hub.WitnessOf("icrc").CheckpointOf(Client.Witness.HashOf("ministries.example/custody"))!)!.Tree!.Size
        );
    }

    [Fact]
    public async Task The_key_for_checkpoints_is_rotated_with_witnesses_and_all_goes_on()
    {
        await using var hub = await Hub.Start(2, 60, "icrc", "kr/mfa");
        await hub.Write(2);
        await hub.Cosigned();
        using var fresh = Signing.NewKey();
        await hub.Next(a =>
            Signing
                .Of(a, "service/custody")
                .SigningKeys.Add(Signing.Listed("service/custody/checkpoint-2", SigningKeyUse.Checkpoints, fresh))
        );
        Signing.Replace(Path.Combine(hub.Folder, "service/custody/checkpoint.key"), fresh);
        var key = CheckpointKey.FromPublic(
            "ministries.example/custody",
            fresh.PublicKey.Export(NSec.Cryptography.KeyBlobFormat.RawPublicKey)
        );
        await Hub.Until(() => hub.Ledger.Key.Verifier == key.Verifier, "the new key was not taken over");
        await hub.Write(2);
        await hub.Next(a => Signing.Of(a, "service/custody").SigningKeys[0].ValidUntilTime = DateTimeOffset.UtcNow.ToTimestamp());
        await hub.Write(2);
        var cosigned = await hub.Cosigned();
        Assert.NotNull(key.Verify(cosigned.Text));
        Assert.Equal(["icrc", "kr/mfa"], Cosigners.Of(cosigned.Text, hub.Agreement));
        Assert.False(hub.Stopping);
        // After a restart, the service finds what it kept and goes on.
        await hub.StopService();
        await hub.StartService();
        Assert.Equal(cosigned.Size, hub.Ledger.Cosigned!.Size);
        await hub.Write();
        await hub.Cosigned();
        Assert.Equal((0, false), (hub.ExitCode, hub.Stopping));
        Assert.Equal(2, (await hub.As("ua/mfa").Audit("custody", cancel: Hub.Cancel)).Cosigners.Count);
    }

    [Fact]
    public async Task A_ledger_that_contradicts_its_cosigned_checkpoint_does_not_start()
    {
        await using var hub = await Hub.Start(2, 60, "icrc", "kr/mfa");
        await hub.Write(3);
        await hub.Cosigned();
        await hub.StopService();
        File.Delete(hub.Checkpoint);
        foreach (var file in Directory.GetFiles(hub.Folder, "custody.db*"))
            File.Delete(file);
        var refused = await Assert.ThrowsAsync<LedgerInconsistentException>(() => hub.StartService());
        Assert.Contains("acknowledged entries are missing", refused.Message);
    }
}
