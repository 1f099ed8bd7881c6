using System.Buffers.Binary;
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Ministries.Hosting;
using Ministries.Ledger;

namespace Ministries.Witness.Tests;

/// <summary>The log as another tool reads it: from the files of C2SP tlog-tiles, with the tree of RFC 6962.</summary>
public sealed class LogFilesTests
{
    private static byte[] Root(ReadOnlySpan<byte[]> leaves)
    {
        if (leaves.Length == 1)
            return leaves[0];
        var split = 1;
        while (split * 2 < leaves.Length)
            split *= 2;
        return SHA256.HashData([1, .. Root(leaves[..split]), .. Root(leaves[split..])]);
    }

    private static byte[][] Hashes(byte[] tile) => [.. tile.Chunk(32)];

    [Fact]
    public async Task Checkpoint_tiles_and_records_are_of_one_tree()
    {
        await using var hub = await Hub.Start(0, 0);
        await hub.Write(600);
        using var http = hub.Http("kr/mfa");
        using var answer = await http.GetAsync(new Uri("/checkpoint", UriKind.Relative), Hub.Cancel);
        Assert.Equal(
            (HttpStatusCode.OK, "text/plain; charset=utf-8", true),
            (answer.StatusCode, answer.Content.Headers.ContentType!.ToString(), answer.Headers.CacheControl!.NoStore)
        );
        var tree = SignedNote.Read(await answer.Content.ReadAsStringAsync(Hub.Cancel))!.Tree!;
        Assert.InRange(tree.Size, 600UL, 700UL);

        var rest = (int)tree.Size - 512;
        var leaves = new List<byte[]>();
        foreach (var (path, width) in ((string, int)[])[("000", 256), ("001", 256), ($"002.p/{rest}", rest)])
        {
            using var got = await http.GetAsync(new Uri($"/tile/0/{path}", UriKind.Relative), Hub.Cancel);
            Assert.Equal((HttpStatusCode.OK, "application/octet-stream"), (got.StatusCode, got.Content.Headers.ContentType!.ToString()));
            var cache = got.Headers.CacheControl!;
            Assert.True(cache.Private && cache.MaxAge >= TimeSpan.FromDays(300), cache.ToString());
            var tile = Hashes(await got.Content.ReadAsByteArrayAsync(Hub.Cancel));
            Assert.Equal(width, tile.Length);

            var bundle = await http.GetByteArrayAsync(new Uri($"/tile/entries/{path}", UriKind.Relative), Hub.Cancel);
            for (var i = 0; i < width; i++)
            {
                Assert.Equal(32, BinaryPrimitives.ReadUInt16BigEndian(bundle));
                Assert.Equal(tile[i], SHA256.HashData([0, .. bundle.AsSpan(2, 32)]));
                bundle = bundle[34..];
            }
            Assert.Empty(bundle);
            leaves.AddRange(tile);
        }
        Assert.Equal(tree.Root, Root([.. leaves]));
        var above = Hashes(await http.GetByteArrayAsync(new Uri("/tile/1/000.p/2", UriKind.Relative), Hub.Cancel));
        Assert.Equal([Root([.. leaves[..256]]), Root([.. leaves[256..512]])], above);
        // A partial tile that has become full can still be read, for a checkpoint of that time.
        Assert.Equal(leaves[..7], Hashes(await http.GetByteArrayAsync(new Uri("/tile/0/000.p/7", UriKind.Relative), Hub.Cancel)));

        // The records are the headers' hashes, as the ledger's own entries have them.
        var entry = (await hub.Ledger.ReadEntry(300, null, Hub.Cancel))!;
        Assert.Equal(leaves[300], TreeHash.Leaf(entry.Entry.Header.Span));
    }

    [Fact]
    public async Task A_tile_that_does_not_exist_yet_or_has_no_valid_name_is_not_found()
    {
        await using var hub = await Hub.Start(0, 0);
        await hub.Write(3);
        using var http = hub.Http("operator");
        var size = hub.Ledger.Size;
        foreach (
            var path in (string[])
                [
                    "/tile/0/000",
                    "/tile/0/001",
                    $"/tile/0/000.p/{size + 1}",
                    $"/tile/entries/000.p/{size + 1}",
                    "/tile/entries/000",
                    "/tile/1/000.p/1",
                    "/tile/0/000.p/0",
                    "/tile/0/000.p/256",
                    "/tile/0/000.p/01",
                    "/tile/0/000.p/",
                    "/tile/0/000.p",
                    "/tile/0/0",
                    "/tile/0/0000",
                    "/tile/0/x000/000.p/1",
                    "/tile/0/000/000.p/1",
                    "/tile/0/x001/x002",
                    "/tile/00/000.p/1",
                    "/tile/64/000.p/1",
                    "/tile/-1/000.p/1",
                    "/tile/63/000.p/1",
                    "/tile/a/000.p/1",
                    "/tile/0/",
                    "/tile/0",
                    "/tile",
                    "/tile/0/000.p/1/2",
                    "/tile/0/00a.p/1",
                    "/checkpoint/other",
                    "/tile/0/x999/x999/x999/x999/x999/x999/999",
                    "/tile/entries/x999/x999/x999/x999/x999/x999/x999/999",
                ]
        )
        {
            using var answer = await http.GetAsync(new Uri(path, UriKind.Relative), Hub.Cancel);
            Assert.True(answer.StatusCode == HttpStatusCode.NotFound, $"{path}: {answer.StatusCode}");
            // No cache may remember that it was missing.
            Assert.False(answer.Headers.CacheControl?.MaxAge > TimeSpan.Zero, path);
        }
        using var head = await http.SendAsync(
            new HttpRequestMessage(HttpMethod.Head, "/tile/0/000.p/1") { Version = HttpVersion.Version20 },
            Hub.Cancel
        );
        Assert.Equal((HttpStatusCode.OK, 32), (head.StatusCode, head.Content.Headers.ContentLength));
        Assert.Equal((1234067UL, 256), LogFiles.Read("x001/x234/067"));
        Assert.Equal((1234067UL, 5), LogFiles.Read("x001/x234/067.p/5"));
        Assert.Equal((ulong.MaxValue, 256), LogFiles.Read("x018/x446/x744/x073/x709/x551/615"));
        Assert.Null(LogFiles.Read("x018/x446/x744/x073/x709/x551/616"));
    }

    [Fact]
    public async Task Participants_of_the_agreement_alone_read_it()
    {
        await using var hub = await Hub.Start(0, 0);
        await hub.Write();
        using var nobody = hub.Http(null);
        await Assert.ThrowsAnyAsync<HttpRequestException>(() => nobody.GetAsync(new Uri("/checkpoint", UriKind.Relative), Hub.Cancel));
        // A certificate by an authority of the agreement, but for an unknown participant.
        var home = Path.Combine(hub.Folder, "icrc");
        using var authority = Trust.CertificateAuthority.Read(Path.Combine(home, "authority.pem"), Path.Combine(home, "authority.key"));
        using var issued = authority.Issue(
            "somebody",
            new Trust.CertificateTerms(
                ["spiffe://ministries.example/red/crescent/system"],
                DateTimeOffset.UtcNow.AddDays(-1),
                DateTimeOffset.UtcNow.AddDays(1)
            )
        );
        File.WriteAllText(Path.Combine(home, "system.pem"), issued.ExportCertificatePem());
        File.WriteAllText(Path.Combine(home, "system.key"), issued.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem());
        using var stranger = hub.Http("icrc");
        foreach (var path in (string[])["/checkpoint", "/tile/0/000.p/1", "/tile/entries/000.p/1", "/checkpoint/cosigned"])
        {
            await Assert.ThrowsAnyAsync<HttpRequestException>(() => stranger.GetAsync(new Uri(path, UriKind.Relative), Hub.Cancel));
        }
    }
}
