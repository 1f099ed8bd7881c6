using System.Globalization;
using Google.Protobuf;
using Ministries.Ledger;
using Ministries.Ledger.V1;

namespace Ministries.Fixtures;

/// <summary>A service's ledger into which a test puts what rules decided, one interval after the other. It says in words all that one
/// reader sees. The reader may ask for the checkpoint, the log's files and every proof, follows what is for him, and has his
/// receipts.</summary>
public sealed class WatchedLedger : IAsyncDisposable
{
    private const int Leaves = 8;

    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    private readonly ServiceLedger _ledger;
    private readonly SteppedClock _clock;
    private readonly bool _covers;
    private ulong _said;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private WatchedLedger(ServiceLedger ledger, SteppedClock clock, bool covers) => (_ledger, _clock, _covers) = (ledger, clock, covers);

    /// <summary>A new one.</summary>
    /// <param name="service">The service's name.</param>
    /// <param name="covers">Whether it commits by a schedule, with cover entries.</param>
    private static async Task<WatchedLedger> Open(string service, bool covers)
    {
        var folder = Directory.CreateTempSubdirectory("ministries-watched-").FullName;
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(folder, recursive: true);
        var clock = new SteppedClock();
        var ledger = await ServiceLedger.Open(
            new LedgerOptions
            {
                Service = service,
                Kinds = [],
                Connection = $"sqlite:{folder}/ledger.db",
                Key = CheckpointKey.FromSeed($"ministries.example/{service}", new byte[32]),
                CheckpointFile = $"{folder}/checkpoint",
                Time = clock,
                ComparesDatabaseClock = false,
                CoverInterval = covers ? Interval : TimeSpan.Zero,
                CoverLeaves = Leaves,
            },
            Cancel
        );
        return new(ledger, clock, covers);
    }

    /// <summary>Plays accepted commands into a new one. What comes first and last has intervals of its own. What is hidden comes in one
    /// interval, after which nothing comes for another.</summary>
    /// <param name="service">The service's name.</param>
    /// <param name="covers">Whether it commits by a schedule, with cover entries.</param>
    /// <param name="reader">The reader.</param>
    /// <param name="accepted">The commands.</param>
    /// <param name="hidden">Which of them are hidden from the reader.</param>
    /// <returns>All that the reader sees, commit by commit.</returns>
    public static async Task<string> Watch(string service, bool covers, Reader reader, IReadOnlyList<Played> accepted, Range hidden)
    {
        await using var ledger = await Open(service, covers);
        var (first, count) = hidden.GetOffsetAndLength(accepted.Count);
        List<string> seen = [];
        foreach (var one in accepted.Take(first))
            seen.Add(await ledger.Pass(reader, one));
        seen.Add(await ledger.Pass(reader, [.. accepted.Skip(first).Take(count)]));
        seen.Add(await ledger.Pass(reader));
        foreach (var one in accepted.Skip(first + count))
            seen.Add(await ledger.Pass(reader, one));
        return string.Join('\n', seen);
    }

    /// <summary>Lets an interval pass in which commands come.</summary>
    /// <param name="reader">The reader.</param>
    /// <param name="played">The commands, at most as many as one commit takes.</param>
    /// <returns>What the reader sees at its end that he did not see before.</returns>
    private async Task<string> Pass(Reader reader, params IReadOnlyCollection<Played> played)
    {
        Assert.InRange(played.Count, 0, Leaves);
        var (before, size) = (_ledger.Size, _ledger.Size);
        var running = played.Select(p => (p.Participant, Outcome: _ledger.Commit(CommandOf(p), Cancel))).ToList();
        if (_covers)
            _clock.Step(Interval);
        foreach (var (_, outcome) in running)
            await outcome;
        if (_covers)
            await _ledger.WaitForMore(size, Cancel);
        else
            _clock.Step(Interval);
        List<string> seen = [.. await Log(before), .. await Entries(reader)];
        foreach (var (participant, outcome) in running)
            if (participant == reader.Participant.Id)
            {
                var receipt = await _ledger.ReceiptOf(await outcome, Cancel);
                seen.Add(
                    $"receipt: at {Place(receipt.Position)} of {receipt.TreeSize}, {receipt.CommitTime}, {receipt.Checkpoint.Length} bytes"
                );
            }
        return string.Join('\n', seen);
    }

    public ValueTask DisposeAsync() => _ledger.DisposeAsync();

    // What everybody may ask for.
    private async Task<List<string>> Log(ulong before)
    {
        var checkpoint = await _ledger.ReadCheckpoint(Cancel);
        List<string> seen = [$"checkpoint over {checkpoint.Size}, {checkpoint.Text.Length} bytes"];
        var (index, width) = (checkpoint.Size / 256, (int)(checkpoint.Size % 256));
        foreach (var more in (int[])[width, width + 1])
        {
            var (tile, records) = (await _ledger.ReadTile(0, index, more, Cancel), await _ledger.ReadRecords(index, more, Cancel));
            seen.Add($"tile {index} of {more}: {tile?.Length} and {records?.Length} bytes");
        }
        if (before > 0)
            seen.Add($"from {before}: {(await _ledger.ProveConsistency(before, 0, Cancel))!.Hashes.Count} hashes");
        return seen;
    }

    // What is for the reader, and how far he is told that there was nothing else for him.
    private async Task<List<string>> Entries(Reader reader)
    {
        var page = await _ledger.ReadEntries(_said, null, null, 1000, Cancel);
        List<string> seen = [];
        foreach (var stored in page.Entries.Where(e => e.Entry.Audience.Any(a => reader.Tokens.Contains(a.Audience))))
        {
            var header = EntryHeader.Parser.ParseFrom(stored.Entry.Header);
            var numbers = stored.Entry.Audience.Where(a => reader.Tokens.Contains(a.Audience)).Select(a => $"{a.Audience} {a.Number}");
            var events = stored.Entry.Parts.Single(p => p.Kind == PartKind.Events).Data;
            seen.Add(
                $"entry at {Place(header.Position)}, {header.CommitTime}: {header.Participant} {header.Method} {header.RequestId} "
                    + $"{stored.Entry.Case}, {string.Join(", ", numbers.Order(StringComparer.Ordinal))}, {Events.Parser.ParseFrom(events)}, "
                    + $"parts {string.Join(' ', header.Parts.Select(p => p.Kind))}"
            );
            // Of its own entry a participant sees every part.
            if (header.Participant == reader.Participant.Id)
                seen.AddRange(
                    stored
                        .Entry.Parts.Where(p => p.Kind is not (PartKind.Events or PartKind.Cause))
                        .Select(p => $"its {p.Kind}: {Convert.ToHexString(p.Data.Span)}")
                );
        }
        Assert.True(page.Complete);
        _said = page.Next;
        seen.Add($"nothing else before {_said}");
        return seen;
    }

    // The place of an entry within a covered commit is drawn at random. So only the commit is compared.
    private string Place(ulong position) => (_covers ? position / Leaves : position).ToString(CultureInfo.InvariantCulture);

    // The rule has decided. What it decided is recorded without the states, which nobody reads here.
    private static Command CommandOf(Played played)
    {
        var decision = Decision.Accept(
            played.Decision.Case,
            played.Decision.Audience,
            [.. played.Decision.Changes.Select(c => c with { Streams = [] })],
            played.Answer is { } answer ? _ => answer : null
        );
        return new()
        {
            Participant = played.Participant,
            RequestId = played.RequestId,
            Method = played.Method,
            Request = played.Request,
            Bytes = played.Request.ToByteArray(),
            Asked = played.Asked,
            AgreementVersion = 1,
            Decide = (_, _) => decision,
        };
    }
}
