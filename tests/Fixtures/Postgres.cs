using System.Diagnostics;
using Npgsql;

namespace Ministries.Fixtures;

/// <summary>A PostgreSQL server of its own for the test process, in a temporary folder, with a database for each test. It ends
/// with the process, however that ends.</summary>
public sealed class Postgres
{
    private const string Prefix = "ministries-postgres-";

    private static readonly Lazy<Task<Postgres>> One = new(() => Create());

    private readonly string _binaries;
    private readonly string _folder;
    private readonly int _port;
    private readonly string[] _settings;
    private Process? _server;
    private int _databases;

    private Postgres(string binaries, string folder, int port, string[] settings)
    {
        _binaries = binaries;
        _folder = folder;
        _port = port;
        _settings = settings;
    }

    /// <summary>Where its files are: the databases, their log, and the server's own log.</summary>
    public string Folder => _folder;

    /// <summary>The server of this process; started when first asked for.</summary>
    public static Task<Postgres> Shared => One.Value;

    /// <summary>A separate server, which a test may crash.</summary>
    /// <param name="settings">Settings that differ from the defaults, such as <c>shared_buffers=1GB</c>.</param>
    public static Task<Postgres> Create(params string[] settings) => CreateIn(Directory.CreateTempSubdirectory(Prefix).FullName, settings);

    /// <summary>A separate server on a disk of its own in memory, which a test may fill.</summary>
    /// <param name="megabytes">The disk's size; the server's first files take some 60.</param>
    /// <param name="settings">As in <see cref="Create"/>.</param>
    /// <returns>Null: this process may not mount a disk.</returns>
    public static async Task<Postgres?> CreateOnDisk(int megabytes, params string[] settings)
    {
        var folder = Directory.CreateTempSubdirectory(Prefix).FullName;
        try
        {
            await Run("mount", "-t", "tmpfs", "-o", $"size={megabytes}m", "tmpfs", folder);
        }
        catch (Exception e) when (e is InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            Directory.Delete(folder);
            return null;
        }
        return await CreateIn(folder, settings);
    }

    private static async Task<Postgres> CreateIn(string folder, string[] settings)
    {
        var binaries =
            Directory
                .GetDirectories("/usr/lib/postgresql")
                .Select(d => Path.Combine(d, "bin"))
                .Where(d => File.Exists(Path.Combine(d, "initdb")))
                .Order()
                .LastOrDefault()
            ?? throw new InvalidOperationException("PostgreSQL is not installed: no /usr/lib/postgresql/*/bin/initdb");
        var server = new Postgres(binaries, folder, Ports.Free(), settings);
        if (Environment.UserName == "root")
            await Run("chown", "postgres", folder);
        await RunAs(
            Path.Combine(binaries, "initdb"),
            "-D",
            Path.Combine(folder, "data"),
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--no-sync"
        );
        await server.Start();
        return server;
    }

    /// <summary>Makes an empty database. Returns its connection string.</summary>
    public async Task<string> CreateDatabase(string? template = null)
    {
        var name = $"test_{Interlocked.Increment(ref _databases)}";
        await Execute($"create database {name}{(template is null ? "" : $" template {template}")}");
        return ConnectionTo(name);
    }

    /// <summary>Copies a database that nobody uses. Returns the copy's connection string.</summary>
    public Task<string> Copy(string connection) => CreateDatabase(new NpgsqlConnectionStringBuilder(connection).Database);

    /// <summary>Writes a database to a file, as <c>pg_dump --format=custom</c> does.</summary>
    public Task Dump(string connection, string file) =>
        Run([
            Path.Combine(_binaries, "pg_dump"),
            .. Reach,
            "--format=custom",
            "--file",
            file,
            new NpgsqlConnectionStringBuilder(connection).Database!,
        ]);

    /// <summary>Makes a database from such a file. Returns its connection string.</summary>
    public async Task<string> Restore(string file)
    {
        var connection = await CreateDatabase();
        await Run([
            Path.Combine(_binaries, "pg_restore"),
            .. Reach,
            "--exit-on-error",
            "--dbname",
            new NpgsqlConnectionStringBuilder(connection).Database!,
            file,
        ]);
        return connection;
    }

    /// <summary>Copies the server's files while it runs, and keeps receiving its log from then on: a commit waits until the log is on that
    /// disk too. The process that it returns receives the log.</summary>
    public async Task<Process> BackUp(string folder)
    {
        var log = Directory.CreateDirectory(Path.Combine(folder, "wal")).FullName;
        string[] receive = [Path.Combine(_binaries, "pg_receivewal"), .. Reach, "--slot=backup", "--directory", log];
        await Run([.. receive, "--create-slot"]);
        var receiving = Process.Start(
            new ProcessStartInfo(receive[0], [.. receive[1..], "--synchronous"]) { RedirectStandardError = true, WorkingDirectory = "/" }
        )!;
        await Execute("alter system set synchronous_standby_names = '*'");
        await Execute("select pg_reload_conf()");
        await Run([
            Path.Combine(_binaries, "pg_basebackup"),
            .. Reach,
            "--pgdata",
            Path.Combine(folder, "data"),
            "--checkpoint=fast",
            "--no-sync",
        ]);
        return receiving;
    }

    /// <summary>Starts a server on such a copy, with all of the log that was received. It begins a new timeline.</summary>
    /// <param name="lost">The server that was copied.</param>
    /// <param name="folder">Where the copy is.</param>
    /// <param name="port">The new server's port; null: any free one.</param>
    public static async Task<Postgres> Recover(Postgres lost, string folder, int? port = null)
    {
        var server = new Postgres(lost._binaries, folder, port ?? Ports.Free(), lost._settings);
        var data = Path.Combine(folder, "data");
        await File.WriteAllTextAsync(Path.Combine(data, "recovery.signal"), "");
        // A segment that was not full has another name.
        await File.AppendAllTextAsync(
            Path.Combine(data, "postgresql.auto.conf"),
            $"""
            synchronous_standby_names = ''
            hot_standby = off
            restore_command = 'cp {folder}/wal/%f %p || cp {folder}/wal/%f.partial %p'

            """
        );
        if (Environment.UserName == "root")
            await Run("chown", "-R", "postgres", folder);
        await Run("chmod", "700", folder, data);
        await server.Start();
        return server;
    }

    /// <summary>The connection string of the same database on this server.</summary>
    public string On(string connection) => ConnectionTo(new NpgsqlConnectionStringBuilder(connection).Database!);

    private string[] Reach => ["--host=127.0.0.1", $"--port={_port}", "--username=postgres"];

    /// <summary>Runs one statement as the superuser.</summary>
    public async Task Execute(string sql, string? connection = null)
    {
        await using var open = new NpgsqlConnection(connection ?? ConnectionTo("postgres"));
        await open.OpenAsync();
        await using var command = new NpgsqlCommand(sql, open);
        await command.ExecuteNonQueryAsync();
    }

    /// <summary>Starts the server and returns when it answers.</summary>
    public async Task Start()
    {
        // The shell reads its input, which ends when this process ends in any way, and then ends the server.
        var server = string.Join(
            ' ',
            [
                .. As,
                Path.Combine(_binaries, "postgres"),
                "-D",
                Path.Combine(_folder, "data"),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                $"port={_port}",
                "-c",
                $"unix_socket_directories={_folder}",
                "-c",
                "max_connections=200",
                "-c",
                "log_min_messages=fatal",
                .. _settings.SelectMany(s => new[] { "-c", s }),
            ]
        );
        _server = Process.Start(
            new ProcessStartInfo(
                "/bin/sh",
                [
                    "-c",
                    $"{server} >{_folder}/log 2>&1 & trap '' INT TERM; "
                        + $"read keep; kill -QUIT $!; wait $!; test -n \"$keep\" || {{ umount -l {_folder} 2>/dev/null; rm -rf {_folder}; }}",
                ]
            )
            {
                RedirectStandardInput = true,
            }
        )!;
        var deadline = Stopwatch.StartNew();
        while (true)
        {
            try
            {
                await Execute("select 1");
                return;
            }
            catch (NpgsqlException) when (deadline.Elapsed < TimeSpan.FromSeconds(30) && !_server.HasExited)
            {
                await Task.Delay(50);
            }
        }
    }

    /// <summary>Ends the server at once, as a crash would: what was not written to its log is lost.</summary>
    public void Crash()
    {
        if (_server is null)
            return;
        _server.StandardInput.WriteLine("keep");
        _server.WaitForExit();
        _server = null;
    }

    /// <summary>Stops it from doing anything (SIGSTOP): connections stay open, and nothing is answered.</summary>
    public void Freeze() => Signals.SendToAll(ProcessId, Signals.Stop);

    /// <summary>Lets it go on (SIGCONT).</summary>
    public void Thaw() => Signals.SendToAll(ProcessId, Signals.Continue);

    /// <summary>Takes all that is left of its own disk (<see cref="CreateOnDisk"/>).</summary>
    public void FillDisk()
    {
        using var file = new FileStream(Filling, FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 0);
        try
        {
            for (var zeros = new byte[1 << 20]; ; )
                file.Write(zeros);
        }
        catch (IOException)
        {
            // It is full.
        }
    }

    /// <summary>Frees what <see cref="FillDisk"/> took.</summary>
    public void ClearDisk() => File.Delete(Filling);

    /// <summary>Whether it answers.</summary>
    public async Task<bool> Answers()
    {
        try
        {
            await Execute("select 1");
            return true;
        }
        catch (NpgsqlException)
        {
            return false;
        }
    }

    private string Filling => Path.Combine(_folder, "filling");

    // The first line of the file that the server keeps while it runs.
    private int ProcessId => int.Parse(File.ReadLines(Path.Combine(_folder, "data", "postmaster.pid")).First());

    /// <summary>Ends the server and removes its folder.</summary>
    public void Stop()
    {
        if (_server is null)
            return;
        _server.StandardInput.Close();
        _server.WaitForExit();
        _server = null;
    }

    private static IEnumerable<string> As =>
        Environment.UserName == "root" ? ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] : [];

    private string ConnectionTo(string database) =>
        new NpgsqlConnectionStringBuilder
        {
            Host = "127.0.0.1",
            Port = _port,
            Username = "postgres",
            Database = database,
            Pooling = database != "postgres",
        }.ToString();

    private static Task RunAs(params string[] command) => Run([.. As, .. command]);

    private static async Task Run(params string[] command)
    {
        using var process = Process.Start(
            new ProcessStartInfo(command[0], command[1..])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
                WorkingDirectory = "/",
            }
        )!;
        var output = process.StandardOutput.ReadToEndAsync();
        var error = await process.StandardError.ReadToEndAsync();
        await output;
        await process.WaitForExitAsync();
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"{command[0]} failed: {error}");
    }
}
