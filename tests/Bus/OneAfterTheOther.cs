namespace Ministries.Bus.Tests;

/// <summary>Tests that kill and wipe the broker, and that count the process's spans, run while no other does.</summary>
[CollectionDefinition("RabbitMQ", DisableParallelization = true)]
public sealed class OneAfterTheOther;
