using Ministries.CallLog;
using Ministries.Consular;
using Ministries.Custody;
using Ministries.Hosting;

// Runs one service as its own Program.cs does, with the probe controlled by a test: FaultHost SERVICE REMOVED… -- SETTING…
// A protection that starts with `leak-` makes the service leak the word in the variable LEAK on purpose (Leak.cs).
// It reads lines from standard input: `kill POINT HITS` ends the process at that hit of the point, as SIGKILL does; `tell POINT HITS`
// only reports it. At the end of the input, when the test has ended, the process ends too.
var split = Array.IndexOf(args, "--");
var service = args[0] switch
{
    "calllog" => CallLogService.Definition,
    "consular" => ConsularService.Definition,
    "custody" => CustodyService.Definition,
    _ => throw new ArgumentException($"there is no service {args[0]}"),
};
foreach (var removed in args[1..split])
    if (removed.StartsWith("leak-", StringComparison.Ordinal))
        service = Ministries.FaultHost.Leak.Into(service, removed);
    else
        Ministries.FaultHost.Faults.Remove(removed);
Ministries.FaultHost.Faults.Listen();
return await ServiceHost.Run(args[(split + 1)..], service);
