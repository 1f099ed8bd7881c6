using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using Npgsql;

namespace Ministries.Benchmarks;

/// <summary>PostgreSQL's own benchmark program: a transaction per command that inserts the rows of one entry (entry, stream,
/// change, keys of lists) into the ledger's own tables, prepared, in one pipeline, with positions from a sequence.</summary>
internal sealed partial class Pgbench
{
    private readonly string _script,
        _database;

    private Pgbench(string script, string database) => (_script, _database) = (script, database);

    /// <summary>The number of clients at which it is fastest.</summary>
    public int Clients { get; private set; }

    /// <summary>Makes the script of a ledger's last entry, and finds the best number of clients.</summary>
    /// <param name="bench">Where its database is made.</param>
    /// <param name="like">A ledger that has an entry of a call.</param>
    public static async Task<Pgbench> Create(Bench bench, string like)
    {
        await using var source = NpgsqlDataSource.Create(like);
        await using var select = source.CreateCommand(
            """
            select format(E'insert into entries values (nextval(''positions''), currval(''positions''), currval(''positions''), %s, %L, ' ||
                E'gen_random_uuid(), %L, %L, %L, %L, %L, %L, %L, %L, %L, %L);\n', e.event_index, e.participant, e.digest, e.case_id,
                e.audience, e.trace_parent, e.trace_state, e.event_type, e.header, e.request_type, e.request, e.parts) ||
              format(E'insert into streams values (currval(''positions''), %L, %L || currval(''positions''), 1, %s, %L, ' ||
                E'currval(''positions''), null, %L, %L);\n', s.kind, s.kind || '_', s.fold, s.state, s.audience, s.keys) ||
              E'insert into changes values (currval(''positions''), 1, currval(''positions''), ''0'');\n' ||
              E'insert into list_keys values ' || (select string_agg(
                format('(%L, %L, currval(''positions''))', s.kind, token), ', ') from unnest(s.keys) as token) || E';\n'
            from entries e join streams s using (position) where s.kind = 'call' order by e.position desc limit 1
            """
        );
        // For pgbench, a colon begins a variable even within quotes.
        var statements = ((string)(await select.ExecuteScalarAsync())!).Replace(':', '.');
        var database = await bench.Postgres.CreateDatabase();
        await using (await bench.OpenLedger(database)) { }
        await bench.Postgres.Execute("create sequence positions cache 100", database);
        var script = Path.Combine(bench.Folder, $"pgbench-{Guid.NewGuid():N}");
        await File.WriteAllTextAsync(script, $"\\startpipeline\nbegin;\n{statements}commit;\n\\endpipeline\n");
        var pgbench = new Pgbench(script, database);
        var best = 0d;
        foreach (var clients in (int[])[16, 32, 64, 96])
        {
            pgbench.Clients = clients;
            var rate = await pgbench.Run(TimeSpan.FromSeconds(1));
            if (rate < best)
            {
                pgbench.Clients = clients / (clients == 96 ? 3 : 2) * (clients == 96 ? 2 : 1);
                break;
            }
            best = rate;
        }
        return pgbench;
    }

    /// <summary>Transactions per second.</summary>
    public async Task<double> Run(TimeSpan time)
    {
        var reach = new NpgsqlConnectionStringBuilder(_database);
        var binaries = Directory.GetDirectories("/usr/lib/postgresql").Order().Last();
        using var process = Process.Start(
            new ProcessStartInfo(
                Path.Combine(binaries, "bin", "pgbench"),
                [
                    "-n",
                    "-M",
                    "prepared",
                    "-f",
                    _script,
                    "-c",
                    $"{Clients}",
                    "-j",
                    "2",
                    "-T",
                    $"{(int)Math.Ceiling(time.TotalSeconds)}",
                    "-h",
                    reach.Host!,
                    "-p",
                    $"{reach.Port}",
                    "-U",
                    reach.Username!,
                    reach.Database!,
                ]
            )
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;
        var error = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0 && Tps().Match(output) is { Success: true } tps
            ? double.Parse(tps.Groups[1].Value, CultureInfo.InvariantCulture)
            : throw new InvalidOperationException($"pgbench failed: {output}{await error}");
    }

    [GeneratedRegex(@"tps = ([0-9.]+) \(without initial")]
    private static partial Regex Tps();
}
