using Ministries.Ministry;

return await CommandLine.Run(CommandLine.Create(), args);
