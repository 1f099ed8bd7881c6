using System.CommandLine;
using Ministries.Client;
using Ministries.Ministry;

var root = new RootCommand("What a ministry and an operator need beside the services.")
{
    PkiCommand.Create(),
    AgreementCommand.Create(),
    DeploymentCommand.Create(),
    WitnessCommand.Create(),
    EvidenceCommand.Create(),
    ServeCommand.Create(),
};
foreach (var command in CallCommands.Create())
    root.Add(command);

// All output of the verbs passes through this writer.
Console.SetOut(new Terminal(Console.Out));
Console.SetError(new Terminal(Console.Error));
return await root.Parse(args).InvokeAsync(new InvocationConfiguration { Output = Console.Out, Error = Console.Error });
