using System.Globalization;
using System.Runtime.Versioning;
using Ministries.Cluster;

[assembly: SupportedOSPlatform("linux")]

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
Plan plan;
try
{
    plan = Plan.Read(args);
}
catch (FormatException e)
{
    Console.Error.WriteLine(e.Message);
    return 2;
}
var unknown = plan.Faults?.Where(name => Fault.All.All(f => f.Name != name)).ToList() ?? [];
if (unknown.Count > 0)
{
    Console.Error.WriteLine($"there is no fault {string.Join(", ", unknown)}: --list names them");
    return 2;
}
if (plan.Lists)
{
    foreach (var fault in Fault.All)
        Console.WriteLine($"{fault.Name, -26}{fault.What}");
    return 0;
}

// The command made a folder and a network namespace for this process.
var folder = Environment.GetEnvironmentVariable("MINISTRIES_CLUSTER_FOLDER") ?? throw new InvalidOperationException(Plan.Usage);
Console.WriteLine($"seed {plan.Seed}, {plan.Rate} writes/s; building the cluster");
var cluster = await Cluster.Build(folder, plan);
using var writes = new Writes(folder, plan);
await using var effects = new Effects();
using var stop = new CancellationTokenSource();
await writes.Prepare();
var tap = new Tap();
Task[] running = [writes.Run(stop.Token), effects.Run(stop.Token), tap.Run(stop.Token)];
var game = new Game(cluster, writes, effects, tap);

Console.WriteLine($"{"fault", -60} | writes | effects | joined | lost | doubled | (seconds)");
foreach (var fault in Fault.All.Where(f => plan.Faults?.Contains(f.Name) ?? true))
    await game.Play(fault);
var (random, until) = (new Random(plan.Seed), DateTime.UtcNow + plan.Pairs);
while (DateTime.UtcNow < until)
{
    // Two that differ: one fault twice is one fault.
    var pair = Fault.All.ToArray();
    random.Shuffle(pair);
    await game.Play(pair[0], pair[1], TimeSpan.FromSeconds(random.NextDouble() * 10));
}

await stop.CancelAsync();
await Task.WhenAll(running);
var last = await Audit.Make(cluster, [.. writes.Answered], TimeSpan.FromMinutes(1));
foreach (var complaint in last.Lost.Concat(last.Doubled).Concat(writes.Wrong).Take(10))
    Console.WriteLine(complaint);
var well = game.Failed == 0 && last.None && writes.Wrong.Count == 0 && writes.Pending == 0;
Console.WriteLine(
    $"{(well ? "passed" : "FAILED")}: {game.Played - game.Failed} of {game.Played} faults as they should; {writes.Answered.Count} answers, "
        + $"{last.Lost.Count} lost, {last.Doubled.Count} doubled, {writes.Pending} never answered"
);
return well ? 0 : 1;
