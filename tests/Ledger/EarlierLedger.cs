using System.Globalization;
using System.IO.Compression;
using System.Security.Cryptography;
using Google.Protobuf;
using Ministries.Ledger.V1;
using static Ministries.Ledger.Tests.Counting;

namespace Ministries.Ledger.Tests;

/// <summary>
/// A ledger with something of everything: several participants and cases, more entries than fill a tile, refusals, repeated requests,
/// entries of several events, of foreign ones and of none, events that were taken in, erased requests. The folder <c>Schema1</c> has what
/// the last version of the software with schema 1 made of <see cref="Fill"/> (<c>pg_dump --inserts --no-owner --no-privileges</c>, and
/// SQLite's file after <c>vacuum</c>), its checkpoint, and what that version answered to <see cref="Describe"/>. So a change of the tables
/// can be shown to change nothing else.
/// </summary>
internal static class EarlierLedger
{
    public const string Admitted = "ministries.custody.v1.PartyAdmitted",
        Opened = "ministries.custody.v1.CaseOpened";

    /// <summary>What the earlier version made for an engine: a file of the folder <c>Schema1</c>, decompressed if needed.</summary>
    public static byte[] Read(string file)
    {
        var path = Path.Combine(AppContext.BaseDirectory, "Schema1", file);
        if (!file.EndsWith(".gz", StringComparison.Ordinal))
            return File.ReadAllBytes(path);
        using var packed = new GZipStream(File.OpenRead(path), CompressionMode.Decompress);
        using var bytes = new MemoryStream();
        packed.CopyTo(bytes);
        return bytes.ToArray();
    }

    /// <summary>The positions of the entries whose requests are erased.</summary>
    public static readonly ulong[] Erased = [3, 70, 263];

    /// <summary>What was committed, in its order. All but the last are an entry each.</summary>
    public static IReadOnlyList<Command> Commands { get; } =
    [
        .. Enumerable
            .Range(0, 260)
            .Select(i => Add($"p/{i % 4}", $"r{i}", $"c{i % 9}", content: new string('x', i % 40), @case: $"case_{i % 3}")),
        Decides("p/1", "refused", (_, _) => Refused),
        Decides(
            "p/2",
            "several",
            (_, _) =>
                Decision.Accept(
                    "case_1",
                    [Audience.Case("case_1"), Audience.Everybody],
                    [
                        new Change(Foreign, [Kind.Id("c0")]),
                        Change("d"),
                        Change("d"),
                        new Change(new Custody.V1.CaseOpened { Case = "case_9" }, [Kind.Id("e"), Kind.Id("d")]),
                    ]
                )
        ),
        Decides("p/2", "none", (_, _) => Decision.Accept("", [], [])),
        Whole("p/3", "whole"),
        .. Enumerable
            .Range(1, 3)
            .Select(i =>
                Add(
                    "service/calllog",
                    $"calllog/{i}/0",
                    "c1",
                    intake: new IntakeNumber("calllog", "ministries.calllog.v1.CallLogged", (ulong)i)
                )
            ),
        Decides("p/0", "opened", (_, _) => Decision.Accept("", [], [new Change(new Custody.V1.CaseOpened(), [Kind.Id("f")])])),
        Add("p/0", "r0", "c0", content: "another content under an old id"),
    ];

    /// <summary>A command with every part that an entry may have.</summary>
    private static Command Whole(string participant, string requestId)
    {
        var request = new Ministries.Custody.V1.PartyAdmitted { Case = "g", Participant = participant };
        return new()
        {
            Participant = participant,
            RequestId = requestId,
            Method = "test/Whole",
            Request = request,
            Bytes = request.ToByteArray(),
            AgreementVersion = 7,
            Signature = new RequestSignature { Authority = "localhost:1", Signature = "sig=:AAAA:" },
            Asked = new EventCursor { Type = "asked", Sequence = 3 },
            Cause = new Cause
            {
                Event = new EventOrigin { Service = "calllog", Position = 4 },
            },
            TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            TraceState = "a=1",
            Decide = (view, _) =>
            {
                view.Find(Kind, "g");
                return Decision.Accept("case_2", [Audience.Case("case_2")], [Change("g")], after => after.Find(Kind, "g")!);
            },
        };
    }

    /// <summary>Commits all of it.</summary>
    public static async Task Fill(ServiceLedger ledger, CancellationToken cancel)
    {
        foreach (var command in Commands)
            await ledger.Commit(command, cancel);
        foreach (var position in Erased)
            Assert.True(await ledger.EraseRequest(position, cancel));
        await ledger.MoveCursor("relay", 5, cancel);
    }

    /// <summary>Everything that the ledger answers, a line each; long values by their digest.</summary>
    public static async Task<string> Describe(ServiceLedger ledger, CancellationToken cancel)
    {
        var lines = new List<string>();
        var checkpoint = await ledger.ReadCheckpoint(cancel);
        lines.Add($"tree {checkpoint.Size} {Convert.ToHexStringLower(checkpoint.Root)}");
        for (ulong position = 0; position < ledger.Size; position++)
        {
            var entry = (await ledger.ReadEntry(position, null, cancel))!;
            lines.Add($"entry {position} {entry.Participant} {Digest(entry.Entry)} {entry.TraceState}");
        }
        foreach (var @case in new[] { "case_0", "case_1", "case_2" })
        {
            var page = await ledger.ReadEntries(0, @case, new HashSet<string> { Audience.Case(@case) }, 1000, cancel);
            lines.Add($"case {@case} {string.Join(' ', page.Entries.Select(e => e.Position))} {page.Next}");
        }
        foreach (var e in await ledger.EventsAfter(0, 1000, cancel))
            lines.Add($"event {e.Number} {e.Event.Origin.Type} {e.Event.Origin.Sequence} {e.Event.Origin.Position} {Digest(e.Event)}");
        foreach (var (admitted, opened) in new (ulong, ulong)[] { (0, 0), (100, 1), (264, 2), (1000, 0) })
        {
            var after = new Dictionary<string, ulong>
            {
                [Admitted] = admitted,
                [Opened] = opened,
                ["unknown"] = 0,
            };
            lines.Add(
                $"events after {admitted} {opened}: {string.Join(' ', (await ledger.EventsAfter(after, 7, cancel)).Select(e => e.Number))}"
            );
        }
        foreach (var command in Commands)
            lines.Add($"answer {command.Participant} {command.RequestId} {await Answer(command)}");
        foreach (var keys in new string[][] { [], ["all"], ["v1", "odd"], ["even"], ["none"] })
        {
            var listed = (await ledger.List(Kind, keys, null, 0, 1000, cancel)).Select(r =>
                $"{r.Key}/{r.Version}/{r.Number}/{r.Position}/{Digest(r.State)}"
            );
            lines.Add($"list {string.Join('+', keys)} {await ledger.Count(Kind, keys, cancel)} {string.Join(' ', listed)}");
        }
        var due = await ledger.ListDue(DateTimeOffset.MaxValue, 0, 1000, cancel);
        lines.Add($"due {string.Join(' ', due.Select(d => $"{d.Stream.Key}/{d.Due.UtcTicks}"))}");
        lines.Add($"events {await ledger.CountEvents(cancel)}, relay {await ledger.ReadCursor("relay", cancel)}");
        lines.Add($"taken in {await ledger.LastTaken("calllog", "ministries.calllog.v1.CallLogged", cancel)}");
        return string.Join('\n', lines) + "\n";

        async Task<string> Answer(Command command)
        {
            var found = await ledger.FindAnswer(command.Participant, command.RequestId, command.Method, command.Bytes, cancel);
            return found is null
                ? "none"
                : string.Create(
                    CultureInfo.InvariantCulture,
                    $"{found.Position} {(found.Refusal is null ? found.Time.UtcTicks : 0)} {found.Refusal?.Reason} {(found.Answer is null ? "" : Digest(found.Answer))}"
                );
        }
    }

    private static string Digest(IMessage message) => Convert.ToHexStringLower(SHA256.HashData(message.ToByteArray()))[..24];
}
