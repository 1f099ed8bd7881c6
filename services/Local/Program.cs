using Ministries.Local;

return await Run.Command().Parse(args).InvokeAsync();
