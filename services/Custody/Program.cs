using Ministries.Custody;
using Ministries.Hosting;

return await ServiceHost.Run(args, CustodyService.Definition);
