using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using Ministries.Ledger;
using Npgsql;

namespace Ministries.Benchmarks;

/// <summary>PostgreSQL's own benchmark program: a transaction per command that inserts the rows of one entry (entry, parts, stream,
/// request) into the ledger's own tables, prepared, in one pipeline, with positions from a sequence.</summary>
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
            with last as (select max(position) as position from entries)
            select format(E'insert into entries values (nextval(''positions''), %L, %L, %L, %L, %L, %L);\n',
                participant, case_id, audience, trace_parent, trace_state, header) ||
              (select E'insert into parts values ' || string_agg(
                format('(currval(''positions''), %s, %L, %L, %L)', kind, type, salt, data), ', ') || E';\n'
                from parts where position = entries.position) ||
              (select format(E'insert into streams values (currval(''positions''), %L, %L || currval(''positions''), 1, %s, %L, ' ||
                E'currval(''positions''), null, %L);\n', kind, kind || '_', fold, state, audience)
                from streams where position = entries.position) ||
              (select format(E'insert into requests values (%L, gen_random_uuid(), %L, currval(''positions''));\n', participant, digest)
                from requests where position = entries.position)
            from entries join last using (position)
            """
        );
        // A colon begins a variable for pgbench, within quotes too.
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
