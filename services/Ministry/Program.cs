using Ministries.Ministry;
using Ministries.Serving;

// Whatever it does, the command reads private keys; a gateway and a witness keep them.
ProcessLimits.KeepMemoryOffDisks();
return await CommandLine.Run(CommandLine.Create(), args);
