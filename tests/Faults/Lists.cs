using Google.Protobuf.Collections;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;

namespace Ministries.Faults.Tests;

/// <summary>Compares what each ministry's lists show with what was played.</summary>
internal sealed class Lists(Play play)
{
    // So small that a list takes several pages.
    private const int PageSize = 7;

    private const string Headquarters = "ua/coordination-hq";

    private readonly List<Played> _played = [.. play.Done];
    private readonly List<string> _complaints = [];

    /// <summary>Compares all lists. Returns what is listed twice, missing or not expected.</summary>
    public async Task<IReadOnlyList<string>> Check(IEnumerable<Ministry> ministries, CancellationToken cancel)
    {
        foreach (var ministry in ministries)
        {
            await Cases(ministry, cancel);
            await Prisoners(ministry, cancel);
            await Calls(ministry, cancel);
            await Transfers(ministry, cancel);
        }
        return _complaints;
    }

    private async Task Cases(Ministry ministry, CancellationToken cancel)
    {
        var cases = await All(
            ministry,
            "custody",
            (i, token, options) =>
                new CustodyService.CustodyServiceClient(i).ListCasesAsync(new() { PageSize = PageSize, PageToken = token }, options),
            page => (page.Cases, page.NextPageToken),
            cancel
        );
        Same(
            $"{ministry.Participant}: cases",
            _played.Select(p => p.Case).Concat(ministry.Participant == Headquarters ? play.Opened : []),
            [.. cases.Select(c => c.Id)]
        );
    }

    private async Task Prisoners(Ministry ministry, CancellationToken cancel)
    {
        var prisoners = await All(
            ministry,
            "custody",
            (i, token, options) =>
                new CustodyService.CustodyServiceClient(i).ListPrisonersAsync(new() { PageSize = PageSize, PageToken = token }, options),
            page => (page.Prisoners, page.NextPageToken),
            cancel
        );
        Same(
            $"{ministry.Participant}: prisoners",
            _played.SelectMany(p => p.Prisoners.Select(x => $"{p.Case}/{x}")),
            [.. prisoners.Select(p => $"{p.Case}/{p.Prisoner_}")]
        );
        Same(
            $"{ministry.Participant}: interests",
            _played.SelectMany(p => p.Transfers),
            [.. prisoners.SelectMany(p => p.Interests).Where(x => x.Submitted).Select(x => x.Transfer)]
        );
        if (ministry.Participant == Headquarters)
            Same(
                "statuses",
                _played.SelectMany(p => p.Statuses.Select(s => $"{p.Case}/{s.Key} {s.Value}")),
                [.. prisoners.Select(p => $"{p.Case}/{p.Prisoner_} {p.Statuses.Count}")]
            );
    }

    private async Task Calls(Ministry ministry, CancellationToken cancel)
    {
        var calls = await All(
            ministry,
            "calllog",
            (i, token, options) =>
                new CallLogService.CallLogServiceClient(i).ListCallsAsync(new() { PageSize = PageSize, PageToken = token }, options),
            page => (page.Calls, page.NextPageToken),
            cancel
        );
        Same(
            $"{ministry.Participant}: calls",
            _played.Select(p => $"{p.Call} {CallState.Mutual}"),
            [.. calls.Select(c => $"{c.Call} {c.State}")]
        );
        foreach (var played in _played)
            await Commitment(ministry, played, cancel);
    }

    private async Task Commitment(Ministry ministry, Played played, CancellationToken cancel)
    {
        var seen = await ministry.Read(
            "calllog",
            (i, options) => new CallLogService.CallLogServiceClient(i).GetCallAsync(new() { Call = played.Call }, options),
            cancel
        );
        Same(
            $"{ministry.Participant}: commitment of {played.Call}",
            played.Transfers.Append($"{CommitmentState.Kept}"),
            [
                .. seen.Call.Commitments.SelectMany(c => c.Requests).Select(r => r.Transfer),
                .. seen.Call.Commitments.Select(c => $"{c.State}"),
            ]
        );
    }

    private async Task Transfers(Ministry ministry, CancellationToken cancel)
    {
        var transfers = await All(
            ministry,
            "consular",
            (i, token, options) =>
                new ConsularService.ConsularServiceClient(i).ListTransfersAsync(new() { PageSize = PageSize, PageToken = token }, options),
            page => (page.Transfers, page.NextPageToken),
            cancel
        );
        Same(
            $"{ministry.Participant}: transfers",
            _played.SelectMany(p => p.Transfers.Select(t => $"{t} {TransferState.Submitted}")),
            [.. transfers.Select(t => $"{t.Id} {t.State}")]
        );
    }

    private void Same(string what, IEnumerable<string> expected, IReadOnlyCollection<string> seen)
    {
        if (seen.Count != seen.Distinct().Count())
            _complaints.Add($"{what}: something is listed twice");
        _complaints.AddRange(expected.Except(seen).Select(x => $"{what}: {x} is missing"));
        _complaints.AddRange(seen.Except(expected).Select(x => $"{what}: {x} was not expected"));
    }

    // All pages of a list.
    private static async Task<List<T>> All<TPage, T>(
        Ministry ministry,
        string service,
        Func<CallInvoker, string, CallOptions, AsyncUnaryCall<TPage>> list,
        Func<TPage, (RepeatedField<T> Items, string Next)> read,
        CancellationToken cancel
    )
        where TPage : class
    {
        var all = new List<T>();
        var token = "";
        do
        {
            var from = token;
            (var items, token) = read(await ministry.Read(service, (i, options) => list(i, from, options), cancel));
            all.AddRange(items);
        } while (token.Length > 0);
        return all;
    }
}
