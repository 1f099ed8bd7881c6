using System.Buffers.Binary;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Text.Json;

namespace Ministries.Evidence.Tests;

/// <summary>What the second verifier answers.</summary>
/// <param name="Holds">Whether what was asked holds.</param>
/// <param name="Line">Of a file: where it breaks; zero: nowhere.</param>
/// <param name="Told">Who cosigned, or the digest.</param>
/// <param name="Meaning">Why it does not hold.</param>
public sealed record Answer(bool Holds, int Line, string Told, string Meaning);

/// <summary>The second verifier as one process that answers any number of questions (<c>verifier/answers.mjs</c>).</summary>
public sealed class SecondVerifier : IAsyncDisposable
{
    private readonly Process _node = Process.Start(
        new ProcessStartInfo("node", [Script()]) { RedirectStandardInput = true, RedirectStandardOutput = true }
    )!;

    private static string Script([CallerFilePath] string here = "") =>
        Path.Combine(Path.GetDirectoryName(here)!, "verifier", "answers.mjs");

    /// <summary>Asks all questions. The caller can work meanwhile.</summary>
    /// <param name="questions">Each a letter and what is asked.</param>
    /// <param name="cancel">Ends the asking.</param>
    public async Task<IReadOnlyList<Answer>> Ask(IReadOnlyList<(char Kind, byte[] Asked)> questions, CancellationToken cancel)
    {
        var asking = Task.Run(
            async () =>
            {
                var frame = new byte[5];
                foreach (var (kind, asked) in questions)
                {
                    BinaryPrimitives.WriteInt32BigEndian(frame, asked.Length + 1);
                    frame[4] = (byte)kind;
                    await _node.StandardInput.BaseStream.WriteAsync(frame, cancel);
                    await _node.StandardInput.BaseStream.WriteAsync(asked, cancel);
                }
                await _node.StandardInput.BaseStream.FlushAsync(cancel);
            },
            cancel
        );
        var answers = new List<Answer>(questions.Count);
        while (answers.Count < questions.Count)
        {
            var line =
                await _node.StandardOutput.ReadLineAsync(cancel)
                ?? throw new InvalidOperationException($"the second verifier ended after {answers.Count} of {questions.Count} answers");
            using var json = JsonDocument.Parse(line);
            var answer = json.RootElement;
            if (Text(answer, "error") is { Length: > 0 } error)
                throw new InvalidOperationException($"the second verifier failed at question {answers.Count}: {error}");
            answers.Add(
                new Answer(
                    answer.GetProperty("ok").GetBoolean(),
                    answer.TryGetProperty("line", out var number) && number.ValueKind == JsonValueKind.Number ? number.GetInt32() : 0,
                    answer.TryGetProperty("cosigned", out var list)
                        ? string.Join(' ', list.EnumerateArray().Select(c => c.GetString()))
                        : Text(answer, "digest"),
                    Text(answer, "meaning")
                )
            );
        }
        await asking;
        return answers;

        static string Text(JsonElement answer, string name) =>
            answer.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString()! : "";
    }

    public async ValueTask DisposeAsync()
    {
        _node.StandardInput.Close();
        await _node.WaitForExitAsync();
        _node.Dispose();
    }
}
