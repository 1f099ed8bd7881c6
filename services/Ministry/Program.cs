using System.CommandLine;
using Ministries.Client;
using Ministries.Ministry;

var root = new RootCommand(
    "What a ministry and an operator need beside the services: it calls them, and keeps keys, agreement and evidence."
);
foreach (
    var command in (Command[])
        [
            .. CallCommands.Create(),
            EvidenceCommand.Create(),
            WitnessCommand.Create(),
            ServeCommand.Create(),
            AgreementCommand.Create(),
            PkiCommand.Create(),
            DeploymentCommand.Create(),
        ]
)
    root.Add(command);

// All output of the verbs passes through this writer.
var shell = Shell.OfProcess();
Console.SetOut(new Terminal(Console.Out));
Console.SetError(new Terminal(Console.Error));
return await CommandLine.Run(
    root,
    args,
    new ShellConfiguration
    {
        Shell = shell,
        Output = Console.Out,
        Error = Console.Error,
    }
);
