using System.CommandLine;
using Google.Protobuf;
using Ministries.Custody.V1;

namespace Ministries.Ministry;

/// <summary>The verb <c>get</c>: one record of any kind.</summary>
internal static class GetCommand
{
    public static Command Create()
    {
        var what = new Argument<string[]>("record")
        {
            Arity = ArgumentArity.OneOrMore,
            Description = "A record's id, which says its kind; before it, its kind and case may be named: `prisoner case_… pris_…`.",
        };
        Completion.AddIds(what);
        var command = new Command("get", "Reads one record, as you may see it.") { what };
        CallCommands.SetCall(
            command,
            async (result, connection, cancel) =>
            {
                var (kind, answer) = await Read(connection, result.GetRequiredValue(what), cancel);
                Answers.Write(connection, answer);
                return ExitCodes.Done;
            }
        );
        return command;
    }

    /// <summary>Reads the record that some words name.</summary>
    /// <returns>Its kind, and the answer that holds it.</returns>
    /// <exception cref="FormatException">They name none.</exception>
    public static async Task<(RecordType Kind, IMessage Answer)> Read(
        Connection connection,
        IReadOnlyList<string> words,
        CancellationToken cancel
    )
    {
        var byId = Records.OfId(words[^1]);
        var kind = words[0].Contains('_', StringComparison.Ordinal) && Records.OfId(words[0]) is not null ? byId : Records.Named(words[0]);
        if (kind is null)
            throw ListCommand.NoSuch("get", words[0]);
        string[] key = [.. words.Where(w => w.Contains('_', StringComparison.Ordinal) && Records.OfId(w) is not null)];
        var fields = kind.Get.InputType.Fields.InFieldNumberOrder();
        if (key.Length == 0 || key.Length > fields.Count || key.Length + (Records.OfId(words[0]) is null ? 1 : 0) != words.Count)
            throw new FormatException($"{kind.Name} is named by {string.Join(" and ", fields.Select(Words.Of))}");
        var request = (IMessage)Activator.CreateInstance(kind.Get.InputType.ClrType)!;
        foreach (var (field, value) in fields.TakeLast(key.Length).Zip(key))
            field.Accessor.SetValue(request, value);
        // A prisoner's reference does not say of which case he is.
        if (request is GetPrisonerRequest { Case: "" } prisoner)
            prisoner.Case = await CaseOf(connection, prisoner.Prisoner, cancel);
        return (kind, await connection.Call(kind.Service, kind.Get, request, cancel));
    }

    private static async Task<string> CaseOf(Connection connection, string prisoner, CancellationToken cancel)
    {
        var kind = Records.Named("prisoner")!;
        var all = await connection.ListAll(kind.Service, kind.List, new ListPrisonersRequest { PageSize = 200 }, cancel);
        return all.Cast<Prisoner>().FirstOrDefault(p => p.Prisoner_ == prisoner)?.Case
            ?? throw new FormatException($"you see no prisoner {prisoner}; name the case too: get prisoner case_… {prisoner}");
    }
}
