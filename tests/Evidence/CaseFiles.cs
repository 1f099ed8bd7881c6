using System.Text;
using System.Text.Json;
using Google.Protobuf;
using Ministries.Client;
using Ministries.Evidence.V1;
using NSec.Cryptography;

[assembly: AssemblyFixture(typeof(Ministries.Evidence.Tests.CaseFiles))]

namespace Ministries.Evidence.Tests;

/// <summary>The case of 17 March, played once on the real services, and its evidence as two parties export it.</summary>
public sealed class CaseFiles : IAsyncLifetime
{
    public string Folder { get; } = Directory.CreateTempSubdirectory("ministries-evidence-").FullName;

    /// <summary>What the run wrote, as JSON.</summary>
    public JsonElement Report { get; private set; }

    public string Certificates { get; private set; } = "";

    /// <summary>The file of a participant.</summary>
    public byte[] Of(string participant) => File.ReadAllBytes(PathOf(participant));

    public string PathOf(string participant) =>
        Path.Combine(Path.GetDirectoryName(Certificates)!, $"evidence-{participant.Replace('/', '-')}.jsonl");

    public async ValueTask InitializeAsync()
    {
        var (output, error) = (new StringWriter(), new StringWriter());
        var code = await Local.Run.Play(json: true, serve: false, Folder, output, error, CancellationToken.None);
        Report = JsonDocument.Parse(output.ToString()).RootElement;
        Assert.True(code == 0, $"{output}\n{error}");
        Certificates = Path.Combine(Report.GetProperty("data").GetString()!, "certificates");
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(Folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    /// <summary>The lines of a file, read.</summary>
    public static List<EvidenceLine> LinesOf(byte[] file) =>
        [.. Encoding.UTF8.GetString(file).TrimEnd('\n').Split('\n').Select(l => JsonParser.Default.Parse<EvidenceLine>(l))];

    /// <summary>A file of these lines as a dishonest exporter would make it: with its end signed again.</summary>
    public byte[] Sealed(IReadOnlyList<EvidenceLine> lines, string participant)
    {
        using var key = Fixtures.Signing.KeyIn(Path.Combine(Certificates, participant, "requests.key"));
        var end = lines[^1].End.Clone();
        var texts = lines.Take(lines.Count - 1).Select(EvidenceFile.Write).ToList();
        end.Lines.Clear();
        end.Lines.AddRange(texts.Select(t => ByteString.CopyFrom(System.Security.Cryptography.SHA256.HashData(Encoding.UTF8.GetBytes(t)))));
        end.Signature = ByteString.CopyFrom(SignatureAlgorithm.Ed25519.Sign(key, EvidenceFile.TextOf(end)));
        return Encoding.UTF8.GetBytes(
            string.Concat(texts.Append(EvidenceFile.Write(new EvidenceLine { End = end })).Select(t => t + "\n"))
        );
    }
}
