using System.Globalization;
using Ministries.Benchmarks;

switch (args)
{
    case ["service", ..]:
        return await Hosts.Service(args[1..]);
    case ["echo", ..]:
        return await Hosts.Echo(args[1..]);
    case ["conventional", ..]:
        return await Conventional.Run(args[1..]);
    case ["publish", ..]:
        return await PlainBus.Publish(args[1..]);
    case ["consume", ..]:
        return await PlainBus.Consume(args[1..]);
    case ["gateway", ..]:
        return await GatewayCost.Serve(args[1..]);
    case ["collector"]:
        return await Hosts.Collector();
}
CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
return await Table.Run(args);
