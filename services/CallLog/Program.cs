using Ministries.CallLog;
using Ministries.Hosting;

return await ServiceHost.Run(args, CallLogService.Definition);
