using Microsoft.Data.Sqlite;
using Ministries.CallLog.V1;
using Ministries.Ledger;

namespace Ministries.Hosting.Tests;

/// <summary>Calls of a service whose ledger cannot be used.</summary>
public sealed class UnavailableTests : IAsyncLifetime
{
    private readonly Running _running = new();

    public ValueTask InitializeAsync() => _running.InitializeAsync();

    public ValueTask DisposeAsync() => _running.DisposeAsync();

    /// <summary>As while replicas are replaced one after the other: what the new ones write, the old ones would misread.</summary>
    [Fact]
    public async Task A_call_that_needs_a_record_of_newer_software_is_told_to_come_again()
    {
        var logged = await _running.Log();
        await _running.Host.StopAsync(Running.Cancel);
        await _running.Host.DisposeAsync();
        await using (var database = new SqliteConnection($"Data Source={Path.Combine(_running.Folder, "calllog.db")};Pooling=false"))
        {
            await database.OpenAsync(Running.Cancel);
            await using var newer = database.CreateCommand();
            newer.CommandText = "update streams set fold = 99 where kind in ('call', 'case')";
            Assert.True(await newer.ExecuteNonQueryAsync(Running.Cancel) > 1);
        }
        await _running.Start("calllog", new Dictionary<string, Uri>());
        var client = _running.Calling("kr/mfa");
        await Running.Refused("UNAVAILABLE", () => client.LogCallAsync(Running.Request()).ResponseAsync);
        await Running.Refused("UNAVAILABLE", () => client.GetCallAsync(new GetCallRequest { Call = logged.Call }).ResponseAsync);
    }

    [Theory]
    [InlineData("/checkpoint")]
    [InlineData("/tile/0/000.p/1")]
    public async Task The_logs_files_say_that_the_ledger_cannot_be_read_and_no_line_is_written_for_each_request(string path)
    {
        await _running.Log();
        await using (var database = new SqliteConnection($"Data Source={Path.Combine(_running.Folder, "calllog.db")};Pooling=false"))
        {
            await database.OpenAsync(Running.Cancel);
            await using var behind = database.CreateCommand();
            behind.CommandText = "update head set size = 0";
            Assert.Equal(1, await behind.ExecuteNonQueryAsync(Running.Cancel));
        }
        using var http = _running.Http(_running.CertificateOf("kr/mfa"));
        var before = _running.Warned.Count;
        for (var i = 0; i < 10; i++)
        {
            using var answer = await http.GetAsync(new Uri(_running.Address, path), Running.Cancel);
            Assert.Equal(System.Net.HttpStatusCode.ServiceUnavailable, answer.StatusCode);
        }
        Assert.True(_running.Warned.Count < before + 10);
    }

    [Fact]
    public async Task Calls_that_end_for_the_same_reason_are_told_of_once_a_minute_with_the_number_left_out()
    {
        const int calls = 20;
        List<string> About(string what) => [.. _running.Warned.Where(w => w.Contains(what, StringComparison.Ordinal))];
        var client = _running.Calling("kr/mfa");
        _running.Ask = _ => throw new InvalidOperationException();
        for (var i = 0; i < calls; i++)
            await Running.Refused("INTERNAL", () => client.LogCallAsync(Running.Request()).ResponseAsync);
        Assert.Single(About("LogCall failed"));
        _running.Ask = null;
        await _running.Ledger.Drain();
        for (var i = 0; i < calls; i++)
            await Running.Refused("UNAVAILABLE", () => client.LogCallAsync(Running.Request()).ResponseAsync);
        Assert.Single(About("LogCall was refused"));
        _running.Time.Moved = TimeSpan.FromMinutes(2);
        await Running.Refused("UNAVAILABLE", () => client.LogCallAsync(Running.Request()).ResponseAsync);
        Assert.Equal(2, About("LogCall was refused").Count);
        var more = Assert.Single(About("more times"), w => w.Contains(nameof(LedgerClosedException), StringComparison.Ordinal));
        Assert.Contains($"failed {calls - 1} more times", more);
    }
}
