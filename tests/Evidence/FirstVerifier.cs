using System.Text;
using System.Text.Json;
using Google.Protobuf;
using Ministries.Client;
using Ministries.Keys;
using Ministries.Ledger.V1;
using Ministries.Trust;

namespace Ministries.Evidence.Tests;

/// <summary>The verifier of this project, asked as <see cref="SecondVerifier"/> is.</summary>
public sealed class FirstVerifier
{
    private KeyHistory? _agreed;

    /// <summary>When the agreements of questions were adopted.</summary>
    public DateTimeOffset Adopted { get; init; } = DateTimeOffset.UtcNow;

    /// <summary>Answers a question. An exception is not an answer.</summary>
    public Answer Answer(char kind, byte[] asked)
    {
        try
        {
            return kind switch
            {
                'v' => Agree(asked),
                'f' => EvidenceVerification.Verify(asked).Break is { } b ? new(false, b.Line, "", b.Meaning) : new(true, 0, "", ""),
                'e' => new(StrictEd25519.Verifies(asked.AsSpan(0, 32), asked.AsSpan(96), asked.AsSpan(32, 64)), 0, "", ""),
                'n' => Note(JsonDocument.Parse(asked).RootElement),
                's' => Signature(JsonDocument.Parse(asked).RootElement),
                'a' => Versions(JsonDocument.Parse(asked).RootElement),
                'o' => new(true, 0, Convert.ToHexStringLower(AgreementVersions.DigestOf(EvidenceFile.ReadAgreement(asked))), ""),
                _ => throw new ArgumentException("no such question", nameof(kind)),
            };
        }
        catch (Exception e) when (e is KeyHistoryException || kind == 'o' && e is FormatException)
        {
            return new(false, 0, "", e.Message);
        }
        catch (Exception e)
        {
            return new(false, -1, "", $"THREW {e}");
        }
    }

    private Answer Agree(byte[] agreement)
    {
        _agreed = null;
        _agreed = KeyHistory.Read([new AdoptedAgreement(agreement, Adopted)]);
        return new(true, 0, "", "");
    }

    private KeyHistory History(JsonElement question) =>
        question.TryGetProperty("agreement", out var given)
            ? KeyHistory.Read([new AdoptedAgreement(given.GetBytesFromBase64(), Adopted)])
            : _agreed!;

    private Answer Note(JsonElement question)
    {
        var service = Text(question, "service");
        var judged = LogKeys.Of(History(question), service).Judge(Text(question, "note"), null);
        return (EvidenceVerification.Unsigned(judged, service) ?? judged.Wrong) is { } wrong
            ? new(false, 0, "", wrong)
            : new(true, 0, string.Join(' ', EvidenceVerification.CosignedBy(judged).Select(c => c.Participant)), "");
    }

    private Answer Signature(JsonElement question)
    {
        var header = EntryHeader.Parser.ParseFrom(question.GetProperty("header").GetBytesFromBase64());
        var wrong = EvidenceVerification.Signature(
            Text(question, "service"),
            header,
            ByteString.FromBase64(Text(question, "request")),
            ByteString.FromBase64(Text(question, "signature")),
            History(question),
            out _,
            out _
        );
        return new(wrong is null, 0, "", wrong ?? "");
    }

    private static Answer Versions(JsonElement question)
    {
        KeyHistory.Read(
            question
                .EnumerateArray()
                .Select(v => new AdoptedAgreement(
                    v.GetProperty("agreement").GetBytesFromBase64(),
                    DateTimeOffset.FromUnixTimeSeconds(long.Parse(Text(v, "time")))
                ))
        );
        return new(true, 0, "", "");
    }

    private static string Text(JsonElement question, string name) => question.GetProperty(name).GetString()!;

    /// <summary>A question in JSON.</summary>
    public static byte[] Json(object question) => Encoding.UTF8.GetBytes(JsonSerializer.Serialize(question));

    /// <summary>Asks both verifiers, and says where they differ, and where the edge accepts a write that a verifier refuses.</summary>
    public async Task<IReadOnlyList<string>> Compare(
        SecondVerifier second,
        IReadOnlyList<(char Kind, byte[] Asked, string What)> questions,
        CancellationToken cancel
    )
    {
        var asking = second.Ask([.. questions.Select(q => (q.Kind, q.Asked))], cancel);
        var own = await Task.Run(() => questions.Select(q => Answer(q.Kind, q.Asked)).ToList(), cancel);
        var theirs = await asking;
        var differences = new List<string>();
        for (var i = 0; i < questions.Count; i++)
        {
            var (one, two) = (own[i], theirs[i]);
            Holding += one.Holds && two.Holds ? 1 : 0;
            var edge = questions[i].Kind == 's' && EdgeAccepts(questions[i].Asked);
            Accepted += edge ? 1 : 0;
            if (one.Holds == two.Holds && one.Line == two.Line && one.Told == two.Told && (one.Holds || !edge))
                continue;
            var asked = questions[i].Asked;
            differences.Add(
                $"question {i} ({questions[i].Kind}), {questions[i].What}:\n  first: {one}\n  second: {two}\n"
                    + $"  {(edge ? "the edge accepts it" : "the edge does not accept it")}\n  "
                    + (asked.Length <= 3000 ? Encoding.UTF8.GetString(asked) : $"{asked.Length} bytes")
            );
        }
        return differences;
    }

    /// <summary>How many questions both have answered with yes.</summary>
    public int Holding { get; private set; }

    /// <summary>How many writes of the questions the edge would have accepted.</summary>
    public int Accepted { get; private set; }

    private bool EdgeAccepts(byte[] asked)
    {
        var question = JsonDocument.Parse(asked).RootElement;
        try
        {
            return Edge.Accepts(question, History(question));
        }
        // No service takes such an agreement over.
        catch (KeyHistoryException)
        {
            return false;
        }
    }
}
