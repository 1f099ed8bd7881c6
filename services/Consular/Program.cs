using Ministries.Consular;
using Ministries.Hosting;

return await ServiceHost.Run(args, ConsularService.Definition);
