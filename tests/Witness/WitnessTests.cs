using System.Net;
using System.Security.Cryptography;
using System.Text;
using Ministries.Gateway;
using Ministries.Ledger;
using Ministries.Trust;

[assembly: System.Runtime.Versioning.UnsupportedOSPlatform("windows")]

namespace Ministries.Witness.Tests;

/// <summary>A log signed with the custody service's key, with any history.</summary>
internal sealed class Log
{
    private readonly List<byte[]> _leaves = [];
    private readonly CheckpointKey _key;

    public Log(Hub hub) =>
        _key = CheckpointKey.FromPem(
            $"{hub.Agreement.TrustDomain}/custody",
            File.ReadAllText(Path.Combine(hub.Folder, "service/custody/checkpoint.key"))
        );

    public static byte[] Leaf(string entry) => TreeHash.Leaf(Encoding.UTF8.GetBytes(entry));

    public Log Add(params string[] entries)
    {
        _leaves.AddRange(entries.Select(Leaf));
        return this;
    }

    public TreeView At(int size)
    {
        var edge = new TreeEdge(0, []);
        foreach (var leaf in _leaves.Take(size))
            edge.Add(leaf, []);
        return edge.TakeView();
    }

    public string Checkpoint(int size) => _key.Sign((ulong)size, At(size).Root()).Text;

    public string Request(int old, int size, CheckpointKey? key = null)
    {
        var proof = old > 0 && old < size ? At(size).Consistency((ulong)old) : [];
        var note = key is null ? Checkpoint(size) : key.Sign((ulong)size, At(size).Root()).Text;
        return $"old {old}\n{string.Concat(proof.Select(h => Convert.ToBase64String(h) + "\n"))}\n{note}";
    }
}

public sealed class WitnessTests : IAsyncDisposable
{
    private readonly Hub _hub = Hub.Make();
    private readonly List<string> _alarms = [];
    private readonly List<string> _doubts = [];
    private readonly Clock _clock = new();
    private readonly string _origin;
    private readonly CosignatureKey _key;
    private Client.Witness _witness;

    private sealed class Clock : TimeProvider
    {
        public DateTimeOffset Now { get; set; } = DateTimeOffset.UtcNow;

        public override DateTimeOffset GetUtcNow() => Now;
    }

    public WitnessTests()
    {
        var agreement = _hub.Agreement;
        _origin = $"{agreement.TrustDomain}/custody";
        _key = CosignatureKey.FromPem(
            CosignatureKey.NameOf(agreement.TrustDomain, "icrc"),
            File.ReadAllText(Path.Combine(_hub.Folder, "icrc/cosignatures.key"))
        );
        _witness = Open();
    }

    public async ValueTask DisposeAsync()
    {
        _witness.Dispose();
        await _hub.DisposeAsync();
    }

    private Client.Witness Open() =>
        new(_hub.StateOf("icrc"), () => _hub.Agreement, _key, _clock) { Alarm = _alarms.Add, Warn = _doubts.Add };

    private Log New() => new(_hub);

    [Fact]
    public void A_log_that_grows_is_cosigned_with_the_time_and_the_largest_is_shown()
    {
        var log = New().Add("a", "b", "c", "d", "e", "f", "g");
        Assert.Null(_witness.CheckpointOf(Client.Witness.HashOf(_origin)));
        foreach (var (old, size) in ((int, int)[])[(0, 1), (1, 1), (1, 4), (4, 7), (7, 7)])
        {
            _clock.Now = _clock.Now.AddSeconds(1);
            var answer = _witness.AddCheckpoint(log.Request(old, size));
            Assert.Equal((200, "text/plain; charset=utf-8"), (answer.Status, answer.Type));
            var note = SignedNote.Read(log.Checkpoint(size) + answer.Body)!;
            Assert.Equal(_clock.Now.ToUnixTimeSeconds(), _key.Verify(note, note.Signatures.Single(_key.Names))!.Value.ToUnixTimeSeconds());
            // The shown checkpoint has the log's signature and the cosignature.
            Assert.Equal(note.ToString(), _witness.CheckpointOf(Client.Witness.HashOf(_origin)));
        }
    }

    [Fact]
    public void Cosigned_checkpoints_survive_a_restart()
    {
        var log = New().Add("a", "b", "c");
        Assert.Equal(200, _witness.AddCheckpoint(log.Request(0, 2)).Status);
        _witness.Dispose();
        _witness = Open();
        var conflict = _witness.AddCheckpoint(log.Request(0, 3));
        Assert.Equal((409, "2\n", "text/x.tlog.size"), (conflict.Status, conflict.Body, conflict.Type));
        Assert.Equal(200, _witness.AddCheckpoint(log.Request(2, 3)).Status);
    }

    [Fact]
    public void Two_witnesses_do_not_share_a_state() => Assert.ThrowsAny<IOException>(Open);

    private string[] Kept(string pattern) =>
        [.. Directory.GetFiles(_hub.StateOf("icrc"), $"{Client.Witness.HashOf(_origin)}.{pattern}").Order(StringComparer.Ordinal)];

    [Fact]
    public void A_log_of_two_histories_is_cosigned_in_one_of_them_only()
    {
        var one = New().Add("a", "b", "c");
        var rewritten = New().Add("a", "B", "c", "d", "e");
        var reordered = New().Add("a", "c", "b", "d", "e");
        Assert.Equal(200, _witness.AddCheckpoint(one.Request(0, 3)).Status);
        foreach (var other in (Log[])[rewritten, reordered])
        {
            // A correct proof of another history shows that history's root at size 3.
            var answer = _witness.AddCheckpoint(other.Request(3, 5));
            Assert.Equal((422, "it is not proved that the tree of size 3 is a prefix of this one\n"), (answer.Status, answer.Body));
            answer = _witness.AddCheckpoint(other.Request(3, 3));
            Assert.Equal((422, "the log has shown another root at size 3\n"), (answer.Status, answer.Body));
        }
        // A truncated log is offered, starting from its own size or from zero.
        Assert.Equal((409, "3\n"), (_witness.AddCheckpoint(one.Request(0, 2)) is var cut ? cut.Status : 0, cut.Body));
        Assert.Equal(400, _witness.AddCheckpoint(one.Request(3, 2)).Status);
        // Each contradicting checkpoint is kept, with the one that it contradicts.
        Assert.Equal(4, _alarms.Count);
        Assert.Equal(["1", "2", "3", "4"], _alarms.Select(a => a.Split("conflict ")[1][..1]));
        var known = _witness.CheckpointOf(Client.Witness.HashOf(_origin));
        Assert.Equal(
            new[] { rewritten.Checkpoint(3), rewritten.Checkpoint(5), reordered.Checkpoint(3), reordered.Checkpoint(5) }.Order(
                StringComparer.Ordinal
            ),
            Kept("conflict-*.shown").Select(File.ReadAllText).Order(StringComparer.Ordinal)
        );
        Assert.All(Kept("conflict-*.known"), k => Assert.Equal(known, File.ReadAllText(k)));
        // The files alone prove the conflict.
        foreach (var path in Kept("conflict-*.proof"))
        {
            var shown = SignedNote.Read(File.ReadAllText(path.Replace(".proof", ".shown")))!.Tree!;
            Assert.NotEqual(
                one.At(3).Root(),
                Proofs.PrefixOf(3, shown.Size, shown.Root, [.. File.ReadAllLines(path).Select(Convert.FromBase64String)])!
            );
        }
        Assert.Equal(2, Kept("conflict-*.proof").Length);
        // The same checkpoint again is no new conflict, whatever size it starts from.
        _witness.AddCheckpoint(rewritten.Request(3, 5));
        _witness.AddCheckpoint(rewritten.Request(0, 3));
        Assert.Equal((4, 4), (_alarms.Count, Kept("conflict-*.shown").Length));
        // The honest continuation of the log is still cosigned.
        Assert.Equal(200, _witness.AddCheckpoint(one.Add("d").Request(3, 4)).Status);
    }

    [Fact]
    public void An_honest_checkpoint_with_a_wrong_proof_is_no_conflict()
    {
        var log = New().Add("a", "b", "c", "d", "e", "f", "g");
        var hash = Convert.ToBase64String(new byte[32]);
        Assert.Equal(200, _witness.AddCheckpoint(log.Request(0, 3)).Status);
        // The checkpoint that the witness itself shows, posted back.
        var own = _witness.CheckpointOf(Client.Witness.HashOf(_origin))!;
        Assert.Equal(422, _witness.AddCheckpoint($"old 3\n{hash}\n\n{own}").Status);
        Assert.Equal(409, _witness.AddCheckpoint($"old 0\n\n{own}").Status);
        // Greater checkpoints, which the service shows to everybody, with no proof, a short one, invented hashes, or the proof of another
        // pair.
        var right = log.At(7).Consistency(3).Select(Convert.ToBase64String).ToArray();
        foreach (
            var proof in (string[][])
                [
                    [],
                    [hash],
                    right[..^1],
                    [.. right, hash],
                    [hash, .. right[1..]],
                    [.. right[..^1], hash],
                    [.. right.Reverse()],
                    [.. log.At(6).Consistency(3).Select(Convert.ToBase64String)],
                ]
        )
            Assert.Equal(422, _witness.AddCheckpoint($"old 3\n{string.Concat(proof.Select(p => p + "\n"))}\n{log.Checkpoint(7)}").Status);
        Assert.Empty(_alarms);
        Assert.Empty(Kept("conflict*"));
        Assert.Single(_doubts);
        Assert.Equal([log.Checkpoint(7)], Kept("unproved-*").Select(File.ReadAllText));
        // Once it is proved, the unproved file is removed.
        Assert.Equal(200, _witness.AddCheckpoint(log.Request(3, 7)).Status);
        Assert.Empty(Kept("unproved-*"));
        Assert.Empty(_alarms);
    }

    [Fact]
    public void An_unproved_checkpoint_becomes_a_conflict_when_a_checkpoint_of_its_size_decides()
    {
        var one = New().Add("a", "b", "c", "d", "e", "f");
        var other = New().Add("a", "B", "c", "d", "e", "f");
        var third = New().Add("a", "b", "C", "d", "e", "f");
        // At a power of two a proof does not show the earlier root.
        Assert.Equal(200, _witness.AddCheckpoint(one.Request(0, 4)).Status);
        Assert.Equal(422, _witness.AddCheckpoint(other.Request(4, 5)).Status);
        Assert.Equal(422, _witness.AddCheckpoint(other.Request(4, 6)).Status);
        Assert.Equal((0, 2), (_alarms.Count, Kept("unproved-*").Length));
        // Two checkpoints of one size are two histories, even if neither is the known one.
        Assert.Equal(422, _witness.AddCheckpoint(third.Request(4, 6)).Status);
        Assert.Single(_alarms);
        Assert.Equal(
            (other.Checkpoint(6), third.Checkpoint(6)),
            (File.ReadAllText(Kept("conflict-6-*.known").Single()), File.ReadAllText(Kept("conflict-6-*.shown").Single()))
        );
        Assert.Equal(200, _witness.AddCheckpoint(one.Request(4, 5)).Status);
        Assert.Equal(2, _alarms.Count);
        Assert.Equal(
            (one.Checkpoint(5), other.Checkpoint(5)),
            (File.ReadAllText(Kept("conflict-5-*.known").Single()), File.ReadAllText(Kept("conflict-5-*.shown").Single()))
        );
        Assert.Equal(200, _witness.AddCheckpoint(one.Request(5, 6)).Status);
        Assert.Equal((3, 0), (_alarms.Count, Kept("unproved-*").Length));
    }

    [Fact]
    public void A_conflict_that_a_checkpoint_decides_is_kept_before_the_checkpoint_is_cosigned()
    {
        var one = New().Add("a", "b", "c", "d", "e", "f");
        Assert.Equal(200, _witness.AddCheckpoint(one.Request(0, 4)).Status);
        Assert.Equal(422, _witness.AddCheckpoint(New().Add("a", "B", "c", "d", "e", "f").Request(4, 5)).Status);
        // The witness fails where it would keep the cosigned checkpoint, because nothing can be written there.
        var next = Path.Combine(_hub.StateOf("icrc"), $"{Client.Witness.HashOf(_origin)}.checkpoint.next");
        Directory.CreateDirectory(next);
        Assert.ThrowsAny<Exception>(() => _witness.AddCheckpoint(one.Request(4, 5)));
        Directory.Delete(next);
        Assert.Single(Kept("conflict-5-*.shown"));
        // The log goes on, and the deciding size is never offered again.
        Assert.Equal(200, _witness.AddCheckpoint(one.Request(4, 6)).Status);
        Assert.Single(_alarms);
    }

    [Fact]
    public void A_flood_of_bad_posts_drives_out_no_conflict_and_fills_no_disk()
    {
        var log = New().Add([.. Enumerable.Range(0, 200).Select(i => $"{i}")]);
        var fork = New().Add("0", "1", "x", "y", "z");
        Assert.Equal(200, _witness.AddCheckpoint(log.Request(0, 3)).Status);
        Assert.Equal(422, _witness.AddCheckpoint(fork.Request(3, 5)).Status);
        Assert.Equal(
            422,
            _witness.AddCheckpoint(log.Request(3, 4).Replace("old 3\n", $"old 3\n{Convert.ToBase64String(new byte[32])}\n")).Status
        );
        var first = Assert.Single(Kept("unproved-*"));
        for (var size = 5; size < 200; size++)
            Assert.Equal(422, _witness.AddCheckpoint($"old 3\n\n{log.Checkpoint(size)}").Status);
        Assert.Equal(Client.Witness.MaxUnproved, Kept("unproved-*").Length);
        // One more is told of, and those after it are not.
        Assert.Equal(Client.Witness.MaxUnproved + 1, _doubts.Count);
        Assert.Contains("no more are kept, of which the first is over 68 entries", _doubts[^1]);
        Assert.Contains(first, Kept("unproved-*"));
        // The size of the fork was among those that were posted, so the pair is the same conflict.
        Assert.Equal(fork.Checkpoint(5), File.ReadAllText(Kept("conflict-*.shown").Single()));
        // The unproved checkpoint that has waited longest is replaced after its time.
        _clock.Now += Client.Witness.UnprovedLife;
        Assert.Equal(422, _witness.AddCheckpoint($"old 3\n\n{log.Checkpoint(199)}").Status);
        Assert.Equal(Client.Witness.MaxUnproved, Kept("unproved-*").Length);
        Assert.Contains(Kept("unproved-*"), u => u.Contains(".unproved-199-"));

        // If a service signs more histories than are kept, the first conflicts stay.
        for (var i = 0; i < 100; i++)
            _witness.AddCheckpoint(New().Add($"{i}", "b", "c").Request(3, 3));
        Assert.Equal(Client.Witness.MaxConflicts, Kept("conflict-*.shown").Length);
        Assert.Equal(Client.Witness.MaxConflicts + 1, _alarms.Count);
        Assert.Contains("more than 64", _alarms[^1]);
        Assert.Equal(fork.Checkpoint(5), File.ReadAllText(Kept("conflict-5-*.shown").Single()));
    }

    [Fact]
    public void What_no_checkpoint_will_decide_any_more_gives_its_place_to_a_fork()
    {
        var log = New().Add([.. Enumerable.Range(0, 200).Select(i => $"{i}")]);
        Assert.Equal(200, _witness.AddCheckpoint(log.Request(0, 4)).Status);
        // Honest checkpoints with proofs that are made up.
        for (var size = 5; size < 5 + Client.Witness.MaxUnproved; size++)
            Assert.Equal(422, _witness.AddCheckpoint($"old 4\n\n{log.Checkpoint(size)}").Status);
        Assert.Equal(200, _witness.AddCheckpoint(log.Request(4, 128)).Status);
        Assert.Equal(Client.Witness.MaxUnproved, Kept("unproved-*").Length);
        var fork = New().Add([.. Enumerable.Range(0, 150).Select(i => i == 1 ? "another" : $"{i}")]);
        Assert.Equal(422, _witness.AddCheckpoint(fork.Request(128, 150)).Status);
        Assert.Equal(Client.Witness.MaxUnproved, Kept("unproved-*").Length);
        Assert.Equal(fork.Checkpoint(150), File.ReadAllText(Kept("unproved-150-*").Single()));
        Assert.Equal(200, _witness.AddCheckpoint(log.Request(128, 150)).Status);
        Assert.Single(_alarms);
    }

    [Fact]
    public void A_witness_whose_checkpoint_was_damaged_cosigns_nothing_of_that_log_and_says_so_once()
    {
        var log = New().Add("a", "b", "c");
        Assert.Equal(200, _witness.AddCheckpoint(log.Request(0, 2)).Status);
        File.WriteAllText(Kept("checkpoint").Single(), "damaged");
        for (var i = 0; i < 3; i++)
            Assert.Equal(503, _witness.AddCheckpoint(log.Request(i, 3)).Status);
        Assert.Contains("was damaged", Assert.Single(_alarms));
        Assert.Empty(Kept("conflict-*"));
    }

    [Fact]
    public void A_prefix_that_a_proof_shows_is_the_true_one_and_no_change_to_the_proof_shows_another()
    {
        var log = New().Add([.. Enumerable.Range(0, 40).Select(i => $"{i}")]);
        foreach (var (from, to) in from to in Enumerable.Range(2, 38) from @from in Enumerable.Range(1, to - 1) select (@from, to))
        {
            var root = log.At(to).Root();
            var proof = log.At(to).Consistency((ulong)from);
            Assert.Equal((from & (from - 1)) == 0 ? null : log.At(from).Root(), Proofs.PrefixOf((ulong)from, (ulong)to, root, proof));
            for (var i = 0; i < proof.Count; i++)
            {
                byte[][] changed = [.. proof];
                changed[i] = [.. changed[i]];
                changed[i][0] ^= 1;
                Assert.Null(Proofs.PrefixOf((ulong)from, (ulong)to, root, changed));
                Assert.Null(Proofs.PrefixOf((ulong)from, (ulong)to, root, [.. proof.Take(i), .. proof.Skip(i + 1)]));
                Assert.Null(Proofs.PrefixOf((ulong)from, (ulong)to, root, [.. proof.Take(i), proof[i], .. proof.Skip(i)]));
            }
        }
    }

    [Fact]
    public void A_checkpoint_without_the_services_signature_is_refused_by_status()
    {
        var log = New().Add("a", "b", "c");
        var good = log.Request(0, 2);
        Assert.Equal(403, _witness.AddCheckpoint(log.Request(0, 2, CheckpointKey.Generate(_origin))).Status);
        Assert.Equal(404, _witness.AddCheckpoint(log.Request(0, 2, CheckpointKey.Generate("ministries.example/nobody"))).Status);
        // A signature that names the key but was not made with it invalidates the note, whatever else is on it.
        Assert.Equal(403, _witness.AddCheckpoint(log.Request(0, 2)[..^1].Replace("\n2\n", "\n3\n") + "\n").Status);
        var lines = good[(good.LastIndexOf("\n\n", StringComparison.Ordinal) + 2)..];
        var forged = Convert.FromBase64String(lines.Trim().Split(' ')[2]);
        forged[^1] ^= 1;
        Assert.Equal(403, _witness.AddCheckpoint(good + $"— {_origin} {Convert.ToBase64String(forged)}\n").Status);
        var stranger = $"— stranger.example/w {Convert.ToBase64String(new byte[76])}\n";
        Assert.Equal(200, _witness.AddCheckpoint(good + stranger).Status);
        // It does not pass on signatures that it did not verify.
        Assert.DoesNotContain(stranger, _witness.CheckpointOf(Client.Witness.HashOf(_origin)));
    }

    [Fact]
    public void A_checkpoint_of_a_key_that_is_revoked_is_refused()
    {
        var log = New().Add("a");
        var key = _hub
            .Agreement.Participants.Single(p => p.Id == "service/custody")
            .SigningKeys.Single(k => k.Use == Types.V1.SigningKeyUse.Checkpoints);
        _clock.Now = key.ValidFromTime.ToDateTimeOffset().AddSeconds(-1);
        Assert.Equal(403, _witness.AddCheckpoint(log.Request(0, 1)).Status);
        _clock.Now = key.ValidFromTime.ToDateTimeOffset();
        Assert.Equal(200, _witness.AddCheckpoint(log.Request(0, 1)).Status);
    }

    [Fact]
    public void A_malformed_request_is_refused()
    {
        var log = New().Add("a", "b", "c");
        var good = log.Request(0, 2);
        var hash = Convert.ToBase64String(new byte[32]);
        foreach (
            var wrong in (string[])
                [
                    "",
                    "\n\n",
                    "old 0\n",
                    good["old 0\n".Length..],
                    good.Replace("old 0", "old 00"),
                    good.Replace("old 0", "old -1"),
                    good.Replace("old 0", "old"),
                    good.Replace("old 0", "new 0"),
                    good.Replace("old 0\n", "old 0\nAAAA\n"),
                    good.Replace("old 0\n", "old 0\n!\n"),
                    good.Replace("\n2\n", "\nx\n"),
                    good[..^1],
                    good.Replace("\n", "\r\n"),
                    good.Replace("old 0\n", "old 0\n" + string.Concat(Enumerable.Repeat(hash + "\n", 64))),
                ]
        )
            Assert.Equal(400, _witness.AddCheckpoint(wrong).Status);
        // A proof although there is nothing to prove.
        Assert.Equal(422, _witness.AddCheckpoint(good.Replace("old 0\n", $"old 0\n{hash}\n")).Status);
        Assert.Equal(200, _witness.AddCheckpoint(good).Status);
        Assert.Equal(422, _witness.AddCheckpoint(log.Request(2, 3).Replace("old 2\n", $"old 2\n{hash}\n")).Status);
        Assert.Equal(422, _witness.AddCheckpoint(log.Request(2, 2).Replace("old 2\n", $"old 2\n{hash}\n")).Status);
        Assert.Equal(200, _witness.AddCheckpoint(log.Request(2, 3)).Status);
    }

    [Fact]
    public void An_empty_log_has_the_root_of_nothing()
    {
        var log = New();
        Assert.Equal(200, _witness.AddCheckpoint(log.Request(0, 0)).Status);
        Assert.Equal(200, _witness.AddCheckpoint(log.Add("a").Request(0, 1)).Status);
        var key = CheckpointKey.FromPem(_origin, File.ReadAllText(Path.Combine(_hub.Folder, "service/custody/checkpoint.key")));
        Assert.Equal(409, _witness.AddCheckpoint($"old 0\n\n{key.Sign(0, SHA256.HashData([])).Text}").Status);
        _witness.Dispose();
        Directory.Delete(_hub.StateOf("icrc"), recursive: true);
        _witness = Open();
        Assert.Equal(422, _witness.AddCheckpoint($"old 0\n\n{key.Sign(0, new byte[32]).Text}").Status);
    }

    [Fact]
    public async Task Requests_that_race_leave_the_greatest_checkpoint()
    {
        var log = New().Add([.. Enumerable.Range(0, 40).Select(i => $"{i}")]);
        Assert.Equal(200, _witness.AddCheckpoint(log.Request(0, 1)).Status);
        for (var round = 0; round < 30; round++)
        {
            var from = 1 + round;
            var requests = Enumerable.Range(from + 1, 4).Select(size => log.Request(from, size)).ToArray();
            var answers = await Task.WhenAll(requests.Select(r => Task.Run(() => _witness.AddCheckpoint(r))));
            Assert.Single(answers, a => a.Status == 200);
            Assert.All(answers.Where(a => a.Status != 200), a => Assert.Equal(409, a.Status));
            var size = SignedNote.Read(_witness.CheckpointOf(Client.Witness.HashOf(_origin))!)!.Tree!.Size;
            Assert.Equal(from + 1 + Array.FindIndex(answers, a => a.Status == 200), (int)size);
            // On to the next.
            if ((int)size != from + 1)
                _witness = Reset(log, from + 1);
        }
    }

    private Client.Witness Reset(Log log, int size)
    {
        _witness.Dispose();
        Directory.Delete(_hub.StateOf("icrc"), recursive: true);
        var witness = Open();
        Assert.Equal(200, witness.AddCheckpoint(log.Request(0, size)).Status);
        return witness;
    }

    [Fact]
    public async Task It_is_called_over_https_as_the_protocol_has_it()
    {
        var log = New().Add("a", "b");
        await _hub.StartWitness("kr/mfa");
        using var http = new HttpClient(
            new SocketsHttpHandler { SslOptions = { RemoteCertificateValidationCallback = (_, c, _, _) => c is not null } }
        )
        {
            BaseAddress = _hub.AddressOf("kr/mfa"),
        };
        http.DefaultRequestHeaders.ExpectContinue = true;
        // HTTP/1.1, for the simplest clients.
        using var added = await http.PostAsync(
            new Uri("add-checkpoint", UriKind.Relative),
            new StringContent(log.Request(0, 2)),
            Hub.Cancel
        );
        Assert.Equal(HttpStatusCode.OK, added.StatusCode);
        Assert.StartsWith($"— {_hub.Agreement.TrustDomain}/witness/kr/mfa ", await added.Content.ReadAsStringAsync(Hub.Cancel));
        using var again = await http.PostAsync(
            new Uri("add-checkpoint", UriKind.Relative),
            new StringContent(log.Request(0, 2)),
            Hub.Cancel
        );
        Assert.Equal(
            (HttpStatusCode.Conflict, "text/x.tlog.size", "2\n"),
            (again.StatusCode, again.Content.Headers.ContentType!.ToString(), await again.Content.ReadAsStringAsync(Hub.Cancel))
        );
        var shown = await http.GetStringAsync(new Uri($"{Client.Witness.HashOf(_origin)}/checkpoint", UriKind.Relative), Hub.Cancel);
        Assert.Equal(["kr/mfa"], Cosigners.Of(shown, _hub.Agreement));
        foreach (
            var (path, body, status) in ((string, byte[], HttpStatusCode)[])
                [
                    ("add-checkpoint", [0xff], HttpStatusCode.BadRequest),
                    ("add-checkpoint", new byte[Client.Witness.MaxRequest + 1], HttpStatusCode.RequestEntityTooLarge),
                    ("checkpoint", [], HttpStatusCode.NotFound),
                ]
        )
        {
            using var answer = await http.PostAsync(new Uri(path, UriKind.Relative), new ByteArrayContent(body), Hub.Cancel);
            Assert.Equal(status, answer.StatusCode);
        }
        foreach (var path in (string[])[$"{new string('0', 64)}/checkpoint", "..%2flock/checkpoint", "lock/checkpoint", "add-checkpoint"])
        {
            using var answer = await http.GetAsync(new Uri(path, UriKind.Relative), Hub.Cancel);
            Assert.True(answer.StatusCode is HttpStatusCode.NotFound or HttpStatusCode.MethodNotAllowed, path);
        }
    }

    [Fact]
    public void A_key_that_the_agreement_does_not_list_is_refused_at_the_start()
    {
        File.Copy(
            Path.Combine(_hub.Folder, "kr/mfa/cosignatures.key"),
            Path.Combine(_hub.Folder, "ua/mfa/cosignatures.key"),
            overwrite: true
        );
        var e = Assert.Throws<FormatException>(() =>
            WitnessServer.Build(
                WitnessSettings.In(_hub.Folder, "ua/mfa", _hub.StateOf("ua/mfa"), _hub.AddressOf("ua/mfa")),
                TimeProvider.System
            )
        );
        Assert.Contains("does not list", e.Message);
    }

    [Fact]
    public async Task A_witness_that_listens_by_a_name_is_reached_at_every_address_of_the_machine()
    {
        Assert.SkipUnless(System.Net.Sockets.Socket.OSSupportsIPv6, "this machine has no IPv6");
        var settings = WitnessSettings.In(_hub.Folder, "ua/mfa", _hub.StateOf("ua/mfa"), new Uri("https://witness.example:0"));
        await using var host = WitnessServer.Build(settings, TimeProvider.System);
        await host.StartAsync(Hub.Cancel);
        var port = new Uri(Assert.Single(host.Urls)).Port;
        using var http = new HttpClient(
            new SocketsHttpHandler { SslOptions = { RemoteCertificateValidationCallback = (_, c, _, _) => c is not null } }
        );
        foreach (var address in new[] { "127.0.0.1", "[::1]" })
        {
            using var answer = await http.GetAsync(new Uri($"https://{address}:{port}/{new string('0', 64)}/checkpoint"), Hub.Cancel);
            Assert.Equal(HttpStatusCode.NotFound, answer.StatusCode);
        }
        await host.StopAsync(Hub.Cancel);
    }

    [Fact]
    public async Task A_rogue_log_is_not_cosigned_by_an_agreement_that_nobody_signed()
    {
        var log = New().Add("a");
        await _hub.StartWitness("kr/mfa");
        using var http = new HttpClient(
            new SocketsHttpHandler { SslOptions = { RemoteCertificateValidationCallback = (_, c, _, _) => c is not null } }
        )
        {
            BaseAddress = _hub.AddressOf("kr/mfa"),
        };
        var rogue = CheckpointKey.Generate(_origin);
        async Task<HttpStatusCode> Offer() =>
            (
                await http.PostAsync(new Uri("add-checkpoint", UriKind.Relative), new StringContent(log.Request(0, 1, rogue)), Hub.Cancel)
            ).StatusCode;
        Assert.Equal(HttpStatusCode.Forbidden, await Offer());
        var (file, real) = (Path.Combine(_hub.Folder, "agreement.json"), _hub.Agreement);
        foreach (var version in (ulong[])[0, 1, 2, 9])
        {
            var forged = real.Clone();
            forged.Version = version;
            forged.Signatures.Clear();
            forged
                .Participants.Single(p => p.Id == "service/custody")
                .SigningKeys.Add(
                    new Types.V1.SigningKey
                    {
                        Id = "service/custody/checkpoint-9",
                        Use = Types.V1.SigningKeyUse.Checkpoints,
                        PublicKey = Google.Protobuf.ByteString.CopyFrom(Convert.FromBase64String(rogue.Verifier.Split('+', 3)[2])[1..]),
                    }
                );
            File.WriteAllText(file, Google.Protobuf.JsonFormatter.Default.Format(forged));
            // Neither while it runs nor after a start.
            Assert.Equal(HttpStatusCode.Forbidden, await Offer());
            var e = Assert.Throws<AgreementRefusedException>(() =>
                WitnessServer.Build(
                    WitnessSettings.In(_hub.Folder, "ua/mfa", _hub.StateOf("ua/mfa"), _hub.AddressOf("ua/mfa")),
                    TimeProvider.System
                )
            );
            Assert.Contains("refused", e.Message);
            Assert.Throws<AgreementRefusedException>(() => _hub.As("icrc", s => s with { SeenFolder = Path.Combine(_hub.Folder, "seen") }));
            Assert.Throws<AgreementRefusedException>(() => _hub.As("icrc"));
        }
    }

    [Fact]
    public async Task Only_its_owner_can_use_a_witnesss_files_and_a_key_that_others_may_change_is_not_used()
    {
        await _hub.StartWitness("kr/mfa");
        var witness = _hub.WitnessOf("kr/mfa");
        var log = New().Add("a", "b", "c");
        Assert.Equal(200, witness.AddCheckpoint(log.Request(0, 3)).Status);
        Assert.Equal(422, witness.AddCheckpoint(New().Add("a", "B", "c").Request(3, 3)).Status);
        var state = _hub.StateOf("kr/mfa");
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(state));
        Assert.Equal(5, Directory.GetFiles(state).Length);
        Assert.All(Directory.GetFiles(state), f => Assert.Equal(PrivateFiles.Mode, File.GetUnixFileMode(f)));
        foreach (var key in (string[])["cosignatures.key", "witness.key"])
        {
            var path = Path.Combine(_hub.Folder, "ua/mfa", key);
            foreach (var mode in (UnixFileMode[])[UnixFileMode.GroupWrite, UnixFileMode.OtherWrite, UnixFileMode.OtherRead])
            {
                File.SetUnixFileMode(path, PrivateFiles.Mode | mode);
                var e = Assert.ThrowsAny<Exception>(() =>
                    WitnessServer.Build(
                        WitnessSettings.In(_hub.Folder, "ua/mfa", _hub.StateOf("ua/mfa"), _hub.AddressOf("ua/mfa")),
                        TimeProvider.System
                    )
                );
                Assert.Contains($"chmod 600 {path}", e.Message);
            }
            File.SetUnixFileMode(path, PrivateFiles.Mode);
        }
    }
}
