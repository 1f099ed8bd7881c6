namespace Ministries.Bus.Tests;

/// <summary>Tests that kill or wipe the broker, or count the process's spans, run alone.</summary>
[CollectionDefinition("RabbitMQ", DisableParallelization = true)]
public sealed class OneAfterTheOther;
