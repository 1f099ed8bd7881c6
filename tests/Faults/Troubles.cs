using Ministries.Fixtures;
using Npgsql;

namespace Ministries.Faults.Tests;

/// <summary>What happens to services, database and broker while a case is played. Each trouble begins, lasts for a time and is over when its
/// method returns; what it leaves behind is for the services to mend.</summary>
internal sealed class Troubles(Deployment deployment, Postgres postgres, bool hasOwnDisk, Random random)
{
    private const string Alarm = "the broker is out of disk and blocks its publishers",
        Unwritable = "the database is read-only",
        Crowd = "the database has no connection left",
        NoRoom = "the database's disk is full";

    /// <summary>What fills up or closes. It is in every play, where this machine can have it.</summary>
    public static IReadOnlyList<string> Always { get; } = [Alarm, Unwritable, Crowd, NoRoom];

    /// <summary>All that this machine can have, by name.</summary>
    public IReadOnlyList<(string Name, Func<TimeSpan, CancellationToken, Task> Run)> All { get; } =
    [
        .. Deployment.Names.Select(name => ($"{name} is killed at a point", Killed(deployment, name, random))),
        .. Deployment.Names.Select(name => ($"{name} is paused", Paused(deployment, name))),
        ("all services are killed", (_, _) => Task.WhenAll(deployment.Services.Values.Select(s => s.Kill()))),
        ("custody is cut off from its database", Cut(deployment.Ways["custody"].Database)),
        ("consular is cut off from its database", Cut(deployment.Ways["consular"].Database)),
        ("custody is cut off from the broker", Cut(deployment.Ways["custody"].Broker)),
        ("consular is cut off from the broker", Cut(deployment.Ways["consular"].Broker)),
        ("the broker is killed", (_, _) => deployment.RestartBroker()),
        ("the broker is paused", Both(deployment.Broker.Freeze, deployment.Broker.Thaw)),
        (Alarm, (time, cancel) => Alarmed(deployment.Broker, time, cancel)),
        ("the database is killed", (_, _) => Restarted(postgres)),
        ("the database is paused", Both(postgres.Freeze, postgres.Thaw)),
        (Unwritable, (time, cancel) => ReadOnly(postgres, time, cancel)),
        (Crowd, (time, cancel) => Crowded(deployment, time, cancel)),
        .. hasOwnDisk
            ? [(NoRoom, (TimeSpan time, CancellationToken cancel) => Full(postgres, time, cancel))]
            : Array.Empty<(string, Func<TimeSpan, CancellationToken, Task>)>(),
    ];

    private static Func<TimeSpan, CancellationToken, Task> Killed(Deployment deployment, string name, Random random)
    {
        return async (time, cancel) =>
        {
            var point = Scenario.Points[random.Next(Scenario.Points.Count)];
            try
            {
                await deployment.Services[name].Arm(point, random.Next(1, 4)).WaitAsync(time, cancel);
            }
            catch (TimeoutException)
            {
                // It did not come to that point.
                await deployment.Services[name].Kill();
            }
        };
    }

    private static Func<TimeSpan, CancellationToken, Task> Paused(Deployment deployment, string name) =>
        (time, _) => deployment.Services[name].Pause(time);

    private static Func<TimeSpan, CancellationToken, Task> Cut(Gate way) => Both(way.Cut, way.Heal);

    private static Func<TimeSpan, CancellationToken, Task> Both(Action begin, Action end) =>
        async (time, cancel) =>
        {
            begin();
            try
            {
                await Task.Delay(time, cancel);
            }
            finally
            {
                end();
            }
        };

    private static async Task Alarmed(RabbitMq broker, TimeSpan time, CancellationToken cancel)
    {
        await broker.Control("set_disk_free_limit", "1000000GB");
        await Task.Delay(time, cancel);
        await broker.Control("set_disk_free_limit", "50MB");
    }

    private static async Task Restarted(Postgres postgres)
    {
        postgres.Crash();
        await postgres.Start();
    }

    private static async Task ReadOnly(Postgres postgres, TimeSpan time, CancellationToken cancel)
    {
        await Set("on");
        await Task.Delay(time, cancel);
        await Set("off");

        async Task Set(string value)
        {
            await postgres.Execute($"alter system set default_transaction_read_only = {value}");
            await postgres.Execute("select pg_reload_conf()");
        }
    }

    // Takes every connection that the server gives, those of the services too.
    private static async Task Crowded(Deployment deployment, TimeSpan time, CancellationToken cancel)
    {
        var (until, taken) = (DateTime.UtcNow + time, new List<NpgsqlConnection>());
        var any = new NpgsqlConnectionStringBuilder(deployment.Databases["calllog"]) { Pooling = false }.ConnectionString;
        const string end =
            "select pg_terminate_backend(pid) from pg_stat_activity where datname is not null and application_name <> 'crowd' and pid <> pg_backend_pid()";
        try
        {
            while (DateTime.UtcNow < until)
                try
                {
                    var connection = new NpgsqlConnection(any + ";Application Name=crowd");
                    taken.Add(connection);
                    await connection.OpenAsync(cancel);
                }
                catch (NpgsqlException)
                {
                    // There is none left. What the services hold is taken as soon as it ends.
                    await using var command = new NpgsqlCommand(end, taken[0]);
                    await command.ExecuteNonQueryAsync(cancel);
                    await Task.Delay(20, cancel);
                }
        }
        finally
        {
            foreach (var connection in taken)
                await connection.DisposeAsync();
        }
    }

    private static async Task Full(Postgres postgres, TimeSpan time, CancellationToken cancel)
    {
        postgres.FillDisk();
        try
        {
            await Task.Delay(time, cancel);
        }
        finally
        {
            postgres.ClearDisk();
        }
        // Without room for its log it ends itself, and perhaps again when it begins anew.
        if (!await postgres.Answers())
            await Restarted(postgres);
    }
}
