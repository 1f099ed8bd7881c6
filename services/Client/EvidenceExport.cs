using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Ministries.Evidence.V1;
using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;

namespace Ministries.Client;

/// <summary>What was exported.</summary>
/// <param name="Entries">The number of entries by service, those of the agreement among them.</param>
/// <param name="Privileged">How many of them a neutral observer has not permitted to be shown.</param>
/// <param name="Uncosigned">The services whose checkpoint has fewer cosignatures than the agreement demands.</param>
public sealed record Exported(IReadOnlyDictionary<string, int> Entries, int Privileged, IReadOnlyList<string> Uncosigned);

/// <summary>Writes the history of a case, or of one request, as a file that proves itself (<c>protos/EVIDENCE.md</c>).</summary>
/// <param name="client">The participant's client. The file holds what the participant may see, and its key signs the file.</param>
/// <param name="time">The clock.</param>
public sealed class EvidenceExport(MinistryClient client, TimeProvider time)
{
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(200);

    /// <summary>The service that is asked now, or was asked last; empty: none was.</summary>
    internal string Service { get; private set; } = "";

    /// <summary>Writes the file.</summary>
    /// <param name="subject">The case's id, or the participant's own id of a request.</param>
    /// <param name="file">Where to.</param>
    /// <param name="progress">Receives a line of text about each step.</param>
    /// <param name="cancel">Cancels.</param>
    /// <exception cref="FormatException">There is nothing of that id for the participant, or it has no key to sign with.</exception>
    /// <exception cref="EntryMissingException">A service left an entry out.</exception>
    /// <exception cref="RpcException">A service refused, or was not reached.</exception>
    public async Task<Exported> Write(string subject, Stream file, IProgress<string>? progress, CancellationToken cancel)
    {
        var isCase = subject.StartsWith("case_", StringComparison.Ordinal);
        var (keyId, key) =
            client.RequestsKey
            ?? throw new FormatException($"{client.Participant.Id} has no key for requests here, so the file cannot be signed");
        var head = new EvidenceHead
        {
            Format = EvidenceFile.Format,
            Participant = client.Participant.Id,
            TrustDomain = client.Agreement.TrustDomain,
            Case = isCase ? subject : "",
            RequestId = isCase ? "" : subject,
            ExportTime = time.GetUtcNow().ToTimestamp(),
        };
        var found = await Collect(subject, isCase, progress, cancel);
        var lines = new LineWriter(file, cancel);
        var (counts, privileged, uncosigned) = (new Dictionary<string, int>(), 0, new List<string>());
        await lines.Put(new EvidenceLine { Head = head });
        foreach (var (service, entries) in found)
        {
            Service = service;
            progress?.Report($"proving {entries.Count} entries of {service}");
            var (cosigned, put) = await PutLog(service, entries, lines, progress, cancel);
            if (!cosigned)
                uncosigned.Add(service);
            privileged += put.Count(e => e.Privileged);
            counts[service] = put.Count;
        }
        await lines.Sign(keyId, key);
        return new Exported(counts, privileged, uncosigned);
    }

    /// <summary>The entries of a case or a request, by service.</summary>
    /// <exception cref="FormatException">There is none.</exception>
    private async Task<SortedDictionary<string, List<EvidenceEntry>>> Collect(
        string subject,
        bool isCase,
        IProgress<string>? progress,
        CancellationToken cancel
    )
    {
        var found = new SortedDictionary<string, List<EvidenceEntry>>(StringComparer.Ordinal);
        foreach (var service in client.Services.Order(StringComparer.Ordinal))
        {
            Service = service;
            progress?.Report($"reading {service}");
            var entries = isCase ? await OfCase(service, subject, cancel) : await OfRequest(service, subject, cancel);
            if (entries.Count > 0)
                found[service] = entries;
        }
        return found.Count > 0
            ? found
            : throw new FormatException($"there is no {(isCase ? "case" : "request")} {subject} that {client.Participant.Id} may see");
    }

    /// <summary>Writes a log's line and those of its entries, each with its proof, the agreement's versions among them.</summary>
    /// <returns>Whether its checkpoint is cosigned as demanded, and the entries as they were written.</returns>
    private async Task<(bool Cosigned, List<EvidenceEntry> Put)> PutLog(
        string service,
        List<EvidenceEntry> entries,
        LineWriter lines,
        IProgress<string>? progress,
        CancellationToken cancel
    )
    {
        var versions = await OfAgreement(service, cancel);
        var ordered = versions.Concat(entries).DistinctBy(PositionOf).OrderBy(PositionOf).ToList();
        var (size, checkpoint, cosigned) = await CheckpointOver(service, PositionOf(ordered[^1]), progress, cancel);
        await lines.Put(
            new EvidenceLine
            {
                Log = new EvidenceLog { Service = service, Checkpoint = checkpoint },
            }
        );
        var keys = LogKeys.Of(KeyHistory.Read(versions.Select(AdoptedOf)), service);
        foreach (var entry in ordered)
        {
            var proof = await client
                .LedgerOf(service)
                .GetInclusionProofAsync(
                    new GetInclusionProofRequest { Position = PositionOf(entry), TreeSize = size },
                    cancellationToken: cancel
                );
            entry.Proof.AddRange(proof.Proof);
            if (!entry.Privileged && client.ReceiptFor(service, PositionOf(entry)) is { } receipt)
                await Show(receipt, entry, keys, size, cancel);
            await lines.Put(new EvidenceLine { Entry = entry });
        }
        return (cosigned, ordered);
    }

    /// <summary>Writes the file's lines and keeps their digests, which the last line signs.</summary>
    private sealed class LineWriter(Stream file, CancellationToken cancel)
    {
        private readonly List<ByteString> _digests = [];

        public async Task Put(EvidenceLine line)
        {
            var bytes = Encoding.UTF8.GetBytes(EvidenceFile.Write(line));
            if (bytes.Length > EvidenceFile.LongestLine || _digests.Count == EvidenceFile.MostLines)
                throw new FormatException("the history is longer than a file may be");
            _digests.Add(ByteString.CopyFrom(SHA256.HashData(bytes)));
            await file.WriteAsync((byte[])[.. bytes, (byte)'\n'], cancel);
        }

        public async Task Sign(string keyId, Signer key)
        {
            var end = new EvidenceEnd
            {
                Lines = { _digests },
                KeyId = keyId,
                PublicKey = ByteString.CopyFrom(key.PublicKey.Span),
            };
            end.Signature = ByteString.CopyFrom(key.Sign(EvidenceFile.TextOf(end)));
            await Put(new EvidenceLine { End = end });
        }
    }

    // Where a receipt's key has been revoked since, a consistency proof shows that its tree is a prefix of the log's present one.
    private async Task Show(Receipt receipt, EvidenceEntry entry, LogKeys keys, ulong size, CancellationToken cancel)
    {
        if (!keys.Judge(receipt.Checkpoint, at: null).Counts)
        {
            if (receipt.TreeSize > size)
                return;
            if (receipt.TreeSize < size)
                entry.Consistency.AddRange(
                    (
                        await client
                            .LedgerOf(receipt.Service)
                            .GetConsistencyProofAsync(
                                new GetConsistencyProofRequest { FromSize = receipt.TreeSize, ToSize = size },
                                cancellationToken: cancel
                            )
                    ).Proof
                );
        }
        // A caller that keeps its receipts elsewhere may pass one that still shows the entry. Other readers must not get the entry.
        Receipts.Shorten(receipt);
        entry.Receipt = receipt;
    }

    private static AdoptedAgreement AdoptedOf(EvidenceEntry entry) =>
        new(
            entry.Parts.Single(p => p.Kind == PartKind.Request).Data.Memory,
            EntryHeader.Parser.ParseFrom(entry.Header).CommitTime.ToDateTimeOffset()
        );

    private async Task<List<EvidenceEntry>> OfCase(string service, string @case, CancellationToken cancel)
    {
        var entries = new List<EvidenceEntry>();
        await foreach (var response in client.Follow(service, 0, @case, untilNow: true, cancel))
            if (response.Entry is { } entry)
                entries.Add(Of(entry));
        return entries;
    }

    private async Task<List<EvidenceEntry>> OfRequest(string service, string requestId, CancellationToken cancel) =>
        await Find(service, new GetEntryRequest { OwnRequestId = requestId }, cancel) is { } entry ? [entry] : [];

    // Every version from the first that the ledger has. Earlier ones are not in it, and no entry names them.
    private async Task<List<EvidenceEntry>> OfAgreement(string service, CancellationToken cancel)
    {
        var entries = new List<EvidenceEntry>();
        for (var version = 1ul; ; version++)
        {
            if (await Find(service, new GetEntryRequest { AgreementVersion = version }, cancel) is { } entry)
                entries.Add(entry);
            else if (entries.Count > 0 || version >= client.Agreement.Version)
                return entries;
        }
    }

    private async Task<EvidenceEntry?> Find(string service, GetEntryRequest request, CancellationToken cancel)
    {
        try
        {
            return Of((await client.LedgerOf(service).GetEntryAsync(request, cancellationToken: cancel)).Entry);
        }
        catch (RpcException e) when (e.StatusCode == StatusCode.NotFound)
        {
            return null;
        }
    }

    // The tree of the inclusion proofs: one that is cosigned as the agreement demands, if there is one within the time that it allows.
    private async Task<(ulong Size, string Checkpoint, bool Cosigned)> CheckpointOver(
        string service,
        ulong position,
        IProgress<string>? progress,
        CancellationToken cancel
    )
    {
        var demanded = client.Agreement.CosignaturesDemanded;
        var until = time.GetUtcNow().AddSeconds(client.Agreement.CosignatureSeconds);
        while (true)
        {
            var checkpoint = await client.LedgerOf(service).GetCheckpointAsync(new(), cancellationToken: cancel);
            if (demanded == 0)
                return (checkpoint.TreeSize, checkpoint.Checkpoint, true);
            if (checkpoint.CosignedTreeSize > position)
                return (checkpoint.CosignedTreeSize, checkpoint.CosignedCheckpoint, true);
            if (time.GetUtcNow() >= until)
                return (checkpoint.TreeSize, checkpoint.Checkpoint, false);
            progress?.Report($"waiting for the cosignatures of {service}");
            await Task.Delay(Poll, time, cancel);
        }
    }

    private static ulong PositionOf(EvidenceEntry entry) => EntryHeader.Parser.ParseFrom(entry.Header).Position;

    private static EvidenceEntry Of(Entry entry)
    {
        var header = EntryHeader.Parser.ParseFrom(entry.Header);
        var shown = new EvidenceEntry { Header = entry.Header, Privileged = entry.Privileged };
        // The exporter's own audience is left out: it would reveal how many entries the exporter has on this service.
        shown.Audience.AddRange(
            entry
                .Audience.Where(a => !a.Audience.StartsWith(Audience.Of(""), StringComparison.Ordinal))
                .OrderBy(a => header.Audience.IndexOf(Digests.OfAudience(a)))
        );
        if (entry.Privileged)
            return shown;
        shown.Parts.AddRange(entry.Parts.OrderBy(p => header.Parts.Select(d => d.Kind).ToList().IndexOf(p.Kind)));
        return shown;
    }
}
