using Ministries.Local;

return await Run.From(args);
