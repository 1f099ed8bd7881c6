using Ministries.Fixtures;
using Npgsql;

namespace Ministries.Faults.Tests;

/// <summary>Something that happens while a case is played.</summary>
/// <param name="Name">What happens.</param>
/// <param name="Kind">What kind of trouble it is.</param>
/// <param name="Run">Makes it happen, for some time.</param>
internal sealed record Trouble(string Name, string Kind, Func<TimeSpan, CancellationToken, Task> Run);

/// <summary>What happens to services, database and broker while a case is played. Each trouble begins, lasts for a time and is over when
/// its method returns; what it leaves behind is for the services to mend.</summary>
internal sealed class Troubles(Deployment deployment, Postgres postgres, bool hasOwnDisk, Random random)
{
    private const string Alarm = "the broker is out of disk and blocks its publishers",
        Unwritable = "the database is read-only",
        Crowd = "the database has no connection left",
        NoRoom = "the database's disk is full";

    private const string Kill = "killed",
        Pause = "paused",
        CutOff = "cut off",
        Fill = "filled up or closed";

    /// <summary>What fills up or closes. It is in every play, where this machine can have it.</summary>
    public static IReadOnlyList<string> Always { get; } = [Alarm, Unwritable, Crowd, NoRoom];

    /// <summary>All that this machine can have.</summary>
    public IReadOnlyList<Trouble> All { get; } =
    [
        .. Deployment.Names.Select(name => new Trouble($"{name} is killed at a point", Kill, Killed(deployment, name, random))),
        .. Deployment.Names.Select(name => new Trouble($"{name} is paused", Pause, Paused(deployment, name))),
        new("all services are killed", Kill, (_, _) => Task.WhenAll(deployment.Services.Values.Select(s => s.Kill()))),
        new("custody is cut off from its database", CutOff, Cut(deployment.Ways["custody"].Database)),
        new("consular is cut off from its database", CutOff, Cut(deployment.Ways["consular"].Database)),
        new("custody is cut off from the broker", CutOff, Cut(deployment.Ways["custody"].Broker)),
        new("consular is cut off from the broker", CutOff, Cut(deployment.Ways["consular"].Broker)),
        new("the broker is killed", Kill, (_, _) => deployment.RestartBroker()),
        new("the broker is paused", Pause, Both(deployment.Broker.Freeze, deployment.Broker.Thaw)),
        new(Alarm, Fill, (time, cancel) => Alarmed(deployment.Broker, time, cancel)),
        new("the database is killed", Kill, (_, _) => Restarted(postgres)),
        new("the database is paused", Pause, Both(postgres.Freeze, postgres.Thaw)),
        new(Unwritable, Fill, (time, cancel) => ReadOnly(postgres, time, cancel)),
        new(Crowd, Fill, (time, cancel) => Crowded(deployment, time, cancel)),
        .. hasOwnDisk ? [new Trouble(NoRoom, Fill, (time, cancel) => Full(postgres, time, cancel))] : Array.Empty<Trouble>(),
    ];

    /// <summary>Some troubles in an order by chance: those of <see cref="Always"/>, and of the others some whose kinds differ.</summary>
    /// <param name="all">All that there are.</param>
    /// <param name="most">How many of the others.</param>
    /// <param name="random">The chance.</param>
    public static Trouble[] Draw(IReadOnlyList<Trouble> all, int most, Random random)
    {
        var others = all.Where(t => !Always.Contains(t.Name)).ToArray();
        random.Shuffle(others);
        Trouble[] some = [.. all.Where(t => Always.Contains(t.Name)), .. others.DistinctBy(t => t.Kind).Take(most)];
        random.Shuffle(some);
        return some;
    }

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
