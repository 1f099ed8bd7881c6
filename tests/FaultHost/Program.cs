using Ministries.CallLog;
using Ministries.Consular;
using Ministries.Custody;
using Ministries.Hosting;

// Runs one service as its own Program.cs does, with the probe in a test's hand: FaultHost SERVICE REMOVED… -- SETTING…
// On standard input come lines: `kill POINT HITS` ends the process at that hit of the point, as SIGKILL does; `tell POINT HITS`
// only says so. At the end of the input, when the test has gone, it ends as well.
var split = Array.IndexOf(args, "--");
var service = args[0] switch
{
    "calllog" => CallLogService.Definition,
    "consular" => ConsularService.Definition,
    "custody" => CustodyService.Definition,
    _ => throw new ArgumentException($"there is no service {args[0]}"),
};
foreach (var removed in args[1..split])
    Ministries.FaultHost.Faults.Remove(removed);
Ministries.FaultHost.Faults.Listen();
return await ServiceHost.Run(args[(split + 1)..], service);
