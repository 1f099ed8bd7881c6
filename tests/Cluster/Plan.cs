using System.Globalization;

namespace Ministries.Cluster;

/// <summary>What is asked for.</summary>
internal sealed record Plan
{
    /// <summary>How the command is called.</summary>
    public const string Usage =
        "usage: tests/cluster [--faults NAME,NAME] [--for 10m] [--seed N] [--rate 50] [--without replication|fencing] [--list]";

    /// <summary>The seed of the random pairs.</summary>
    public int Seed { get; private init; } = Random.Shared.Next(1_000_000);

    /// <summary>How long random pairs are played after the faults.</summary>
    public TimeSpan Pairs { get; private init; }

    /// <summary>The faults to play; null: all.</summary>
    public IReadOnlyList<string>? Faults { get; private init; }

    /// <summary>Writes a second.</summary>
    public double Rate { get; private init; } = 50;

    /// <summary>Whether commits wait for a standby. False: a protection is taken out.</summary>
    public bool Replicates { get; private init; } = true;

    /// <summary>The protections that the services' test host takes out.</summary>
    public IReadOnlyList<string> Removed { get; private init; } = [];

    /// <summary>Whether only the faults' names are wanted.</summary>
    public bool Lists { get; private init; }

    /// <summary>Reads the command line.</summary>
    /// <exception cref="FormatException">It is something else.</exception>
    public static Plan Read(ReadOnlySpan<string> args)
    {
        var plan = new Plan();
        while (args.Length > 0)
        {
            plan = args switch
            {
                ["--list", ..] => plan with { Lists = true },
                ["--faults", var names, ..] => plan with { Faults = names.Split(',') },
                ["--for", var time, ..] => plan with { Pairs = TimeOf(time) },
                ["--seed", var seed, ..] => plan with { Seed = int.Parse(seed, CultureInfo.InvariantCulture) },
                ["--rate", var rate, ..] => plan with { Rate = double.Parse(rate, CultureInfo.InvariantCulture) },
                ["--without", "replication", ..] => plan with { Replicates = false },
                ["--without", "fencing", ..] => plan with { Removed = ["fencing"] },
                _ => throw new FormatException(Usage),
            };
            args = args[(args[0] == "--list" ? 1 : 2)..];
        }
        return plan;
    }

    // A number of seconds, or of minutes or hours with their letter.
    private static TimeSpan TimeOf(string text)
    {
        var number = double.Parse(text.TrimEnd('s', 'm', 'h'), CultureInfo.InvariantCulture);
        return text[^1] switch
        {
            'm' => TimeSpan.FromMinutes(number),
            'h' => TimeSpan.FromHours(number),
            _ => TimeSpan.FromSeconds(number),
        };
    }
}
