using System.Globalization;
using System.Text;
using Grpc.Core;
using Ministries.Client;
using Ministries.Types.V1;

namespace Ministries.Local;

/// <summary>The identity of one prisoner as those who read his record see it, and as somebody with the service's files sees it.</summary>
internal static class SealedViews
{
    private const int BytesPerLine = 16;
    private const int Lines = 3;

    // The words of an identity that would be found if it stood anywhere in clear.
    private static IEnumerable<string> WordsOf(PersonIdentity identity) =>
        [identity.Name.Original, identity.Name.Transliteration, identity.SerialNumber, identity.BirthPlace];

    /// <summary>What each reader sees of the prisoner who stays where he is.</summary>
    /// <param name="participants">The participants.</param>
    /// <param name="story">What was played.</param>
    public static async Task<IReadOnlyList<SealedView>> Of(Participants participants, Story story)
    {
        var views = new List<SealedView>();
        foreach (var (reader, part) in Readers)
            views.Add(new SealedView(reader, part, await SeenBy(participants[reader], story)));
        return views;
    }

    /// <summary>Where his identity stands in custody's database, in hexadecimal, and how often a word of it does anywhere in the run's
    /// folder.
    /// </summary>
    /// <param name="participants">The participants.</param>
    /// <param name="story">What was played.</param>
    /// <param name="folder">The run's folder, in which the services wrote their files.</param>
    public static async Task<DatabaseDump> Dump(Participants participants, Story story, string folder)
    {
        var detaining = participants[Readers[0].Reader];
        var @sealed = (await detaining.Custody.GetPrisonerAsync(new() { Case = story.Case, Prisoner = story.Second })).Prisoner.Identity;
        var content = SealedContent.Parser.ParseFrom(@sealed.Content);
        byte[][] words = [.. WordsOf(detaining.Client.Open<PersonIdentity>(@sealed).Message).SelectMany(Encodings)];
        var (lines, file, found) = ((IReadOnlyList<string>)[], "", 0);
        foreach (var path in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
        {
            // A lock file is empty, and no other process may open it.
            if (Path.GetFileName(path) == "lock")
                continue;
            var bytes = await Read(path);
            found += words.Sum(w => CountOf(bytes, w));
            if (lines.Count > 0 || !Path.GetFileName(path).StartsWith("custody.db", StringComparison.Ordinal))
                continue;
            var at = content
                .Fields.Select(f => bytes.AsSpan().IndexOf(f.Ciphertext.Span[..(BytesPerLine * Lines)]))
                .FirstOrDefault(i => i >= 0, -1);
            if (at >= 0)
                (lines, file) = ([.. Enumerable.Range(0, Lines).Select(i => Line(bytes, at + i * BytesPerLine))], Path.GetFileName(path));
        }
        return new DatabaseDump(file, lines, found);
    }

    // The order in which they are shown.
    private static readonly (string Reader, string Part)[] Readers =
    [
        ("ua/coordination-hq", "detaining power"),
        ("icrc", "observer"),
        ("kr/mfa", "requesting state"),
        ("operator", "operator"),
    ];

    private static async Task<string> SeenBy(ParticipantClient reader, Story story)
    {
        try
        {
            var prisoner = (await reader.Custody.GetPrisonerAsync(new() { Case = story.Case, Prisoner = story.Second })).Prisoner;
            return prisoner.Identity switch
            {
                null => "nothing of an identity",
                { Content.IsEmpty: true } hidden => $"sealed to others; digest {Convert.ToHexStringLower(hidden.Digest.Span)[..16]}…",
                var mine => InWords(await reader.Open<PersonIdentity>(prisoner, mine)),
            };
        }
        catch (RefusedException e)
        {
            return $"refused: {e.Reason}";
        }
        catch (RpcException e)
        {
            return $"refused: {e.StatusCode}";
        }
    }

    private static string InWords(PersonIdentity identity) =>
        string.Create(
            CultureInfo.InvariantCulture,
            $"{identity.Name.Transliteration}, {identity.Rank}, born {identity.BirthDate.Year}, number {identity.SerialNumber}; "
                + $"of his own will: {identity.BirthPlace}"
        );

    private static IEnumerable<byte[]> Encodings(string word) => [Encoding.UTF8.GetBytes(word), Encoding.Unicode.GetBytes(word)];

    private static string Line(byte[] bytes, int at)
    {
        var row = bytes.AsSpan(at, BytesPerLine);
        var text = new StringBuilder().Append(at.ToString("x6", CultureInfo.InvariantCulture)).Append("  ");
        foreach (var b in row)
            text.Append(b.ToString("x2", CultureInfo.InvariantCulture)).Append(' ');
        text.Append(' ');
        foreach (var b in row)
            text.Append(b is > 32 and < 127 ? (char)b : '.');
        return text.ToString();
    }

    private static int CountOf(ReadOnlySpan<byte> bytes, byte[] word)
    {
        var count = 0;
        for (var at = bytes.IndexOf(word); at >= 0; at = bytes.IndexOf(word))
        {
            count++;
            bytes = bytes[(at + word.Length)..];
        }
        return count;
    }

    // The services have the files open.
    private static async Task<byte[]> Read(string path)
    {
        await using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        using var copy = new MemoryStream();
        await file.CopyToAsync(copy);
        return copy.ToArray();
    }
}
