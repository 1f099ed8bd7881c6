using System.CommandLine;
using Ministries.Ministry;

var root = new RootCommand(
    "What a ministry and an operator need beside the services: it calls them, and keeps keys, agreement and evidence."
);
foreach (var command in CallCommands.Create())
    root.Add(command);
root.Add(EvidenceCommand.Create());
root.Add(WitnessCommand.Create());
root.Add(ServeCommand.Create());
root.Add(AgreementCommand.Create());
root.Add(PkiCommand.Create());
root.Add(DeploymentCommand.Create());
return await CommandLine.Run(root, args);
