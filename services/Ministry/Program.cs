using System.CommandLine;
using Ministries.Ministry;

return await new RootCommand("What a ministry and an operator need beside the services.")
{
    PkiCommand.Create(),
    DeploymentCommand.Create(),
}.Parse(args).InvokeAsync();
