using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Ledger.V1;

namespace Ministries.Ministry.Tests;

/// <summary>The command shows the parts that can be shown.</summary>
public sealed class OutOfRangeTests(Services services) : IClassFixture<Services>
{
    private static Timestamp NoTime => new() { Seconds = 10_000_000_000_000 };

    [Theory]
    [InlineData("text")]
    [InlineData("json")]
    public async Task A_sealed_time_that_is_none_is_named_and_the_rest_is_shown(string format)
    {
        var prisoner = await OutOfRange.Notify(services, NoTime);
        var command = new CommandRunner(services) { As = "icrc" };

        string[] how = format == "json" ? ["-o", "json"] : [];
        var ran = await command.Succeed([.. (string[])["open", prisoner], .. how]);

        Assert.Contains(OutOfRange.Place, ran.Output);
        Assert.Contains("capture.capture_time", ran.Output);
        Assert.Contains("must be a time from 1900 to 2199", ran.Output);
    }

    /// <summary>Nobody checks a service's answers and entries beforehand: every time in them may be impossible.</summary>
    [Theory]
    [InlineData("case", "CASE")]
    [InlineData("case", "CASE", "-o", "json")]
    [InlineData("get", "CASE")]
    [InlineData("get", "CASE", "-o", "json")]
    [InlineData("list", "prisoners", "case=CASE", "-o", "json")]
    [InlineData("next", "--everybody")]
    [InlineData("next", "--everybody", "-o", "json")]
    [InlineData("follow", "custody", "--until-now", "--case", "CASE")]
    [InlineData("follow", "custody", "--until-now", "--case", "CASE", "-o", "json")]
    public async Task A_time_that_is_none_in_an_answer_or_an_entry_keeps_back_nothing_else(params string[] args)
    {
        services.Later = answer =>
        {
            if (
                answer.Descriptor.Name.StartsWith("Get", StringComparison.Ordinal)
                || answer.Descriptor.Name.StartsWith("List", StringComparison.Ordinal)
            )
                answer = Spoilt(answer);
            return answer;
        };
        services.Forged = Spoilt;
        try
        {
            var ran = await new CommandRunner(services) { As = "ua/coordination-hq" }.Succeed([
                .. args.Select(a => a.Replace("CASE", services.Case, StringComparison.Ordinal)),
            ]);
            if (args[0] is "case" or "get" or "list")
                Assert.Contains(args[0] == "list" ? services.Prisoners[0] : services.Case, ran.Output);
        }
        finally
        {
            (services.Later, services.Forged) = (null, null);
        }
    }

    // The service's own answer, of an existing method: with such a time, with bytes of another type, or with a message within messages.
    private static Entry Spoilt(Entry entry)
    {
        var header = EntryHeader.Parser.ParseFrom(entry.Header);
        header.CommitTime = NoTime;
        entry.Header = header.ToByteString();
        var logged = Any.Pack(new LogCallResponse { Receipt = new Receipt { CommitTime = NoTime } });
        var answer = (header.Position % 3) switch
        {
            0 => logged,
            1 => new Any { TypeUrl = logged.TypeUrl, Value = ByteString.CopyFrom(0xff) },
            _ => Any.Pack(new Answer { Response = logged }),
        };
        // In the place of the true one, or beside it.
        if (header.Position % 2 == 0)
            foreach (var part in entry.Parts.Where(p => p.Kind == PartKind.Answer).ToList())
                entry.Parts.Remove(part);
        entry.Parts.Add(new EntryPart { Kind = PartKind.Answer, Data = new Answer { Response = answer }.ToByteString() });
        return entry;
    }

    private static IMessage Spoilt(IMessage answer)
    {
        var copy = answer.Descriptor.Parser.ParseFrom(answer.ToByteString());
        Spoil(copy);
        return copy;

        static void Spoil(IMessage message)
        {
            foreach (var field in message.Descriptor.Fields.InDeclarationOrder())
                if (field is { FieldType: Google.Protobuf.Reflection.FieldType.Message, IsMap: false })
                    foreach (
                        var one in field.IsRepeated
                            ? (System.Collections.IEnumerable)field.Accessor.GetValue(message)
                            : new[] { field.Accessor.GetValue(message) }
                    )
                        if (one is Timestamp time)
                            time.Seconds = NoTime.Seconds;
                        else if (one is IMessage inner)
                            Spoil(inner);
        }
    }
}
