using System.CommandLine;
using System.Text.Json.Nodes;
using Grpc.Core;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>The verb <c>rewrap</c>: what is sealed to the caller is wrapped for the newest of its own keys.</summary>
internal static class RewrapCommand
{
    public static Command Create()
    {
        var basis = new Option<string>("--legal-basis")
        {
            Description = "The legal basis of the writes, as a code that the parties agreed on.",
            HelpName = "code",
            Required = true,
        };
        var @case = new Option<string>("--case")
        {
            Description = "Only of this case.",
            HelpName = "case",
            DefaultValueFactory = _ => "",
        };
        Completion.AddIds(@case, "case");
        var command = new Command(
            "rewrap",
            "Wraps all that is sealed to you, or was opened to you, for the newest of your own keys for sealing, one write for each. Afterwards "
                + "the older keys open nothing that is needed, and can be destroyed. It can be run again: what is done is left out."
        )
        {
            basis,
            @case,
            Options.Yes,
        };
        CallCommands.SetCall(
            command,
            (result, connection, cancel) =>
                Run(
                    connection,
                    result.GetRequiredValue(basis),
                    result.GetValue(@case) ?? "",
                    result.GetValue(Options.Yes) || !connection.Shell.Asks,
                    cancel
                )
        );
        return command;
    }

    private static async Task<int> Run(Connection connection, string basis, string @case, bool yes, CancellationToken cancel)
    {
        var actor = new Actor
        {
            Office = connection.ValueOf("office"),
            Official = connection.ValueOf("official"),
            Authority = connection.ValueOf("authority"),
        };
        if (actor.CalculateSize() == 0)
            throw new FormatException(
                "the official for whom you act must be known: `ministry config set office …`, official and authority"
            );
        var newest = Seals.KeyOf(
            connection.Client.Agreement.Participants.First(p => p.Id == connection.Client.Participant.Id),
            connection.Shell.Time.GetUtcNow()
        );
        if (
            !yes
            && !await connection.Ask(
                $"Wrap all that is sealed to {connection.Client.Participant.Id} for {newest?.Id}? Each write stays in the ledger.",
                "nothing was sent",
                cancel
            )
        )
            return ExitCodes.Declined;
        var work = new Work(connection, actor, basis);
        foreach (var service in connection.Client.Services.Order(StringComparer.Ordinal))
            await work.Wrap(service, await Found(connection, service, @case, cancel), cancel);
        if (!Answers.WriteData(connection, work.Data))
            connection.Screen.Line(
                new Span($"{work.Done} wrapped for {newest?.Id}", Style.Good),
                work.Left == 0 ? " · nothing else is sealed to an older key" : $" · {work.Left} not: keep the older keys"
            );
        return work.Left == 0 ? ExitCodes.Done : ExitCodes.WasRefused;
    }

    // Whether there is no datum for the caller. The ledger's own entries count more than the service's refusal, because a key that is
    // destroyed by mistake is lost for ever.
    private static bool IsNone(RefusedException refused, SealedSign sign) =>
        refused.Reason == "NOT_FOUND" && sign is SealedSign.None or SealedSign.Gone
        || refused.Reason == "SEALED_ERASED" && sign != SealedSign.Named;

    // And not of the caller, or of the service at this moment: then the next one is refused, too.
    private static bool IsOfTheDatum(RefusedException refused) =>
        refused.RetryAfter is null
        && refused.StatusCode is not (StatusCode.Unauthenticated or StatusCode.PermissionDenied or StatusCode.Unavailable);

    private static async Task<IReadOnlyDictionary<(ulong Position, string Field), SealedSign>> Found(
        Connection connection,
        string service,
        string @case,
        CancellationToken cancel
    ) =>
        await connection.Reach(
            service,
            async () =>
            {
                var found = new SortedDictionary<(ulong Position, string Field), SealedSign>();
                await foreach (var (position, field, sign) in connection.Client.FindPlaces(service, @case, cancel))
                    if (!found.TryGetValue((position, field), out var before) || before < sign)
                        found[(position, field)] = sign;
                return (IReadOnlyDictionary<(ulong Position, string Field), SealedSign>)found;
            },
            $"entries of {service}",
            cancel
        );

    // The data of all services, one after the other.
    private sealed class Work(Connection connection, Actor actor, string basis)
    {
        private readonly List<string> _warnings = [];

        public int Done { get; private set; }

        public int Left { get; private set; }

        public JsonArray Data { get; } = [];

        // Each call is short, and there may be thousands of them: how many of them are over is said while they last, and what was left
        // is said after that, so that the two do not mix on one line.
        public async Task Wrap(
            string service,
            IReadOnlyDictionary<(ulong Position, string Field), SealedSign> found,
            CancellationToken cancel
        )
        {
            var over = 0;
            try
            {
                await connection.Error.While(
                    () => $"wrapping what is sealed in {service}, {over} of {found.Count}",
                    async () =>
                    {
                        foreach (var ((position, field), sign) in found)
                        {
                            await Wrap(service, position, field, sign, cancel);
                            over++;
                        }
                        return over;
                    }
                );
            }
            finally
            {
                _warnings.ForEach(w => connection.Error.Line(new Span(w, Style.Warning)));
                _warnings.Clear();
            }
        }

        private async Task Wrap(string service, ulong position, string field, SealedSign sign, CancellationToken cancel)
        {
            try
            {
                var entries = await connection.Reach(
                    service,
                    () => connection.Client.WrapAnew(service, position, field, actor, basis, cancel),
                    "",
                    cancel
                );
                Done += entries.Count;
                foreach (var entry in entries)
                    Data.Add(Line(service, position, field, "entry", entry));
            }
            // Another's, which the ledger does not tell from one's own before it is asked for; or erased.
            catch (RefusedException refused) when (IsNone(refused, sign)) { }
            // The caller has left the case, the datum was erased just now, or the service does not tell the truth.
            catch (RefusedException refused) when (IsNone(refused, SealedSign.None))
            {
                Leave(service, position, field, "reason", refused.Reason, $"its ledger shows what it denies now: {refused.ToText()}");
            }
            catch (Sealing.SealException fault)
            {
                Leave(service, position, field, "fault", fault.Fault.ToString(), fault.Message);
            }
            // Another participant may have made the datum so that it is refused. That keeps none of the others from being wrapped.
            catch (RefusedException refused) when (IsOfTheDatum(refused))
            {
                Leave(service, position, field, "reason", refused.Reason, refused.ToText());
            }
        }

        private void Leave(string service, ulong position, string field, string name, string value, string why)
        {
            Left++;
            Data.Add(Line(service, position, field, name, value));
            _warnings.Add($"entry {position} of {service}: {Terminal.Line(why)}");
        }
    }

    private static JsonObject Line(string service, ulong position, string field, string name, JsonNode value) =>
        new()
        {
            ["service"] = service,
            ["position"] = position,
            ["field"] = field,
            [name] = value,
        };
}
