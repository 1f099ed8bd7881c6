using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Hosting.Tests;

/// <summary>Keys change while the service runs. Only their owners can change them, and no call fails.</summary>
public sealed class KeyTests : IAsyncLifetime
{
    private readonly Running _running = new();

    public ValueTask InitializeAsync() => _running.InitializeAsync();

    public ValueTask DisposeAsync() => _running.DisposeAsync();

    private ulong InForce => _running.Agreements.InForce.Permissions.Agreement.Version;

    private static Participant Of(Agreement agreement, string id) => agreement.Participants.Single(p => p.Id == id);

    private async Task Next(Action<Agreement> change, params string[] signers)
    {
        var version = Signing.Next(_running.Folder, change, signers.Length == 0 ? null : signers).Version;
        await Running.Until(() => Task.FromResult(InForce == version), $"version {version} is in force");
    }

    private static SigningKey Listed(string id, SigningKeyUse use, Key key) =>
        new()
        {
            Id = id,
            Use = use,
            PublicKey = ByteString.CopyFrom(key.PublicKey.Export(KeyBlobFormat.RawPublicKey)),
        };

    private static Key NewKey() =>
        Key.Create(SignatureAlgorithm.Ed25519, new KeyCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextArchiving });

    private CallLogService.CallLogServiceClient Signed(Key key, string id) =>
        new(
            _running.Channel(
                _running.CertificateOf("kr/mfa"),
                sign: inner => new SigningHandler(key, id, Running.Tag, _running.Time) { InnerHandler = inner }
            )
        );

    // Calls without a pause until the work is done; every one of them must be accepted.
    private static async Task<List<LogCallResponse>> Under(Func<CallLogService.CallLogServiceClient> client, Func<Task> work)
    {
        var answers = new List<LogCallResponse>();
        var done = work();
        while (!done.IsCompleted)
            answers.Add(await client().LogCallAsync(Running.Request(), cancellationToken: Running.Cancel));
        await done;
        answers.Add(await client().LogCallAsync(Running.Request(), cancellationToken: Running.Cancel));
        return answers;
    }

    [Fact]
    public async Task A_key_for_requests_is_changed_while_calls_run_and_none_fails()
    {
        using var old = Signing.KeyIn(Path.Combine(_running.Folder, "kr/mfa", "requests.key"));
        using var fresh = NewKey();
        var (first, second) = (Signed(old, "kr/mfa/requests-1"), Signed(fresh, "kr/mfa/requests-2"));
        await Running.Refused("SIGNATURE_KEY_UNKNOWN", () => second.LogCallAsync(Running.Request()).ResponseAsync);
        // This call is made under version 1, however soon the next version comes.
        await first.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);
        var current = first;
        var answers = await Under(
            () => Volatile.Read(ref current),
            async () =>
            {
                await Next(a => Of(a, "kr/mfa").SigningKeys.Add(Listed("kr/mfa/requests-2", SigningKeyUse.Requests, fresh)), "kr/mfa");
                // Both keys are valid now.
                await first.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);
                await second.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);
                Volatile.Write(ref current, second);
                await Next(
                    a =>
                        Of(a, "kr/mfa").SigningKeys.Single(k => k.Id == "kr/mfa/requests-1").ValidUntilTime = DateTimeOffset
                            .UtcNow.AddSeconds(2)
                            .ToTimestamp(),
                    "kr/mfa"
                );
                await Running.Until(
                    () =>
                        Task.FromResult(
                            !RequestSignatures.IsValidAt(
                                _running.Agreements.InForce.Permissions.SigningKey("kr/mfa/requests-1")!.Value.Key,
                                DateTimeOffset.UtcNow
                            )
                        ),
                    "the key has ended"
                );
            }
        );
        Assert.NotEmpty(answers);
        await Running.Refused("SIGNATURE_KEY_NOT_VALID", () => first.LogCallAsync(Running.Request()).ResponseAsync);
        // Every signature that was accepted stands, each as its own version has it.
        var (history, entries) = await HistorySeenBy("kr/mfa");
        Assert.Equal([1ul, 2, 3], history.Versions.Select(v => v.Version));
        Assert.Equal([1ul, 2, 3], entries.Select(e => e.Header.AgreementVersion).Distinct());
        Assert.All(entries, e => Assert.Null(history.WrongRequest(e.Header, e.Signature, e.Request, e.Header.RequestId, "calllog")));
    }

    [Fact]
    public async Task The_key_for_checkpoints_is_changed_without_a_restart_while_calls_run_and_none_fails()
    {
        using var fresh = NewKey();
        var path = Path.Combine(_running.Folder, "service/calllog", "checkpoint.key");
        var client = _running.Calling("kr/mfa");
        var before = _running.Ledger.Key.Verifier;
        var answers = await Under(
            () => client,
            async () =>
            {
                await Next(a =>
                    Of(a, "service/calllog").SigningKeys.Add(Listed("service/calllog/checkpoint-2", SigningKeyUse.Checkpoints, fresh))
                );
                Replace(path, fresh);
                await Running.Until(
                    () => Task.FromResult(_running.Ledger.Key.Verifier != before),
                    "checkpoints are signed with the new key"
                );
                await client.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);
                await Next(a => Of(a, "service/calllog").SigningKeys[0].ValidUntilTime = DateTimeOffset.UtcNow.ToTimestamp());
            }
        );
        var agreement = _running.Agreements.InForce.Permissions.Agreement;
        Assert.Equal(3ul, agreement.Version);
        Assert.All(answers, a => Assert.Null(Receipts.Wrong(a.Receipt, "calllog", agreement)));
        var key = CheckpointKey.FromPublic("ministries.example/calllog", fresh.PublicKey.Export(KeyBlobFormat.RawPublicKey));
        Assert.NotNull(key.Verify(answers[^1].Receipt.Checkpoint));
        // A restart finds its last checkpoint, signed with the new key.
        await Restart();
        Assert.NotNull(key.Verify((await _running.Log()).Receipt.Checkpoint));
    }

    [Fact]
    public async Task A_version_takes_effect_although_what_a_new_key_for_checkpoints_signs_cannot_be_written()
    {
        using var fresh = NewKey();
        await Next(a => Of(a, "service/calllog").SigningKeys.Add(Listed("service/calllog/checkpoint-2", SigningKeyUse.Checkpoints, fresh)));
        await _running.Log();
        _running.Ledger.KeepCosigned(await _running.Ledger.ReadCheckpoint(Running.Cancel), enough: true);
        // No file can be written under the name of a folder. So it is on a full disk.
        var next = Directory.CreateDirectory(Path.Combine(_running.Folder, "calllog.checkpoint.cosigned.next"));
        Replace(Path.Combine(_running.Folder, "service/calllog", "checkpoint.key"), fresh);
        await Running.Until(
            () => Task.FromResult(_running.Warned.Any(w => w.Contains("the new files are not used", StringComparison.Ordinal))),
            "the fault is told"
        );
        await Next(a => Of(a, "kr/mfa").DeniedCertificates.Add(_running.CertificateOf("kr/mfa").SerialNumber), "kr/mfa");
        await Running.Refused("CERTIFICATE_NOT_ACCEPTED", () => _running.Log());
        var key = CheckpointKey.FromPublic("ministries.example/calllog", fresh.PublicKey.Export(KeyBlobFormat.RawPublicKey));
        Assert.Null(key.Verify(_running.Ledger.Cosigned!.Text));
        next.Delete();
        await Running.Until(() => Task.FromResult(key.Verify(_running.Ledger.Cosigned!.Text) is not null), "it is written");
    }

    [Fact]
    public async Task A_key_for_checkpoints_that_no_version_lists_is_never_used_and_prevents_a_start()
    {
        using var own = NewKey();
        var before = _running.Ledger.Key.Verifier;
        var path = Path.Combine(_running.Folder, "service/calllog", "checkpoint.key");
        var kept = await File.ReadAllBytesAsync(path, Running.Cancel);
        Replace(path, own);
        var e = await Assert.ThrowsAsync<AgreementRefusedException>(() => _running.Agreements.Adopt(_running.Ledger, Running.Cancel));
        Assert.Contains("all participants can supply it", e.Message);
        Assert.Equal(before, _running.Ledger.Key.Verifier);
        await _running.Log();
        await _running.Host.StopAsync(Running.Cancel);
        await _running.Host.DisposeAsync();
        await Assert.ThrowsAsync<AgreementRefusedException>(() => _running.Start("calllog", new Dictionary<string, Uri>()));
        await _running.Host.DisposeAsync();
        await File.WriteAllBytesAsync(path, kept, Running.Cancel);
        await _running.Start("calllog", new Dictionary<string, Uri>());
        await _running.Log();
    }

    [Fact]
    public async Task A_revoked_key_is_refused_from_the_next_call_on_and_what_it_signed_stands()
    {
        var request = Running.Request();
        var frame = Running.FrameOf(request.ToByteArray());
        var signed = _running.Signed(request.RequestId, frame);
        Assert.Equal(0, (await _running.Post(frame, headers: signed)).Code);
        var client = _running.Calling("kr/mfa");
        await client.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);
        await Next(
            a => Of(a, "kr/mfa").SigningKeys.Single(k => k.Id == "kr/mfa/requests-1").RevokeTime = DateTimeOffset.UtcNow.ToTimestamp(),
            "kr/mfa"
        );
        var (_, status) = await Running.Refused("SIGNATURE_KEY_NOT_VALID", () => client.LogCallAsync(Running.Request()).ResponseAsync);
        Assert.Equal(StatusCode.Unauthenticated, (StatusCode)status.Code);
        var size = _running.Ledger.Size;
        Assert.Equal(0, (await _running.Post(frame, headers: signed)).Code);
        Assert.Equal(size, _running.Ledger.Size);
        var (history, entries) = await HistorySeenBy("kr/mfa");
        Assert.Equal(2, entries.Count);
        Assert.All(entries, e => Assert.Null(history.WrongRequest(e.Header, e.Signature, e.Request, e.Header.RequestId, "calllog")));
        // It is not valid for another request or sender, or under an unknown version.
        var entry = entries[0];
        // Nor is it valid with a key that had ended by then, whatever time the signature states.
        var (late, ended) = (new EntryHeader(entry.Header), Signing.Agreement(_running.Folder));
        late.AgreementVersion = 2;
        late.CommitTime = Of(ended, "kr/mfa").SigningKeys.Single(k => k.Id == "kr/mfa/requests-1").RevokeTime;
        Assert.Equal(
            Errors.V1.Reason.SignatureKeyNotValid,
            history.WrongRequest(late, entry.Signature, entry.Request, late.RequestId, "calllog")
        );
        Assert.NotNull(history.WrongRequest(entry.Header, entry.Signature, entries[1].Request, entry.Header.RequestId, "calllog"));
        Assert.NotNull(
            history.WrongRequest(
                new(entry.Header) { Participant = "ua/mfa" },
                entry.Signature,
                entry.Request,
                entry.Header.RequestId,
                "calllog"
            )
        );
        Assert.NotNull(
            history.WrongRequest(
                new(entry.Header) { AgreementVersion = 9 },
                entry.Signature,
                entry.Request,
                entry.Header.RequestId,
                "calllog"
            )
        );
    }

    [Fact]
    public async Task A_replica_without_the_ledgers_version_judges_nothing_by_the_previous_one()
    {
        var client = _running.Calling("kr/mfa");
        await _running.Log();
        // Another replica adopts the next version, while this one's file is still the previous one.
        var home = Path.Combine(_running.Folder, "elsewhere");
        Directory.CreateDirectory(home);
        var before = Signing.Agreement(_running.Folder);
        var next = before.Clone();
        Of(next, "kr/mfa").SigningKeys.Single(k => k.Id == "kr/mfa/requests-1").RevokeTime = DateTimeOffset.UtcNow.ToTimestamp();
        AgreementVersions.Follow(before, next);
        Pki.Sign(before, next, "kr/mfa", Path.Combine(_running.Folder, "kr/mfa", "agreements.key"));
        Signing.Put(home, next);
        var settings = _running.Host.Services.GetRequiredService<Settings>() with { Agreement = Path.Combine(home, "agreement.json") };
        await new Agreements(settings, TimeProvider.System).Adopt(_running.Ledger, Running.Cancel);
        var size = _running.Ledger.Size;
        await Running.Refused("UNAVAILABLE", () => client.LogCallAsync(Running.Request()).ResponseAsync);
        Assert.Equal((1ul, size), (InForce, _running.Ledger.Size));
        Signing.Put(_running.Folder, next);
        await Running.Until(() => Task.FromResult(InForce == 2), "version 2 is in force");
        await Running.Refused("SIGNATURE_KEY_NOT_VALID", () => client.LogCallAsync(Running.Request()).ResponseAsync);
    }

    [Fact]
    public async Task A_file_that_cannot_be_read_does_not_end_the_service()
    {
        var version = Signing.Agreement(_running.Folder);
        foreach (
            var path in (string[])
                [Path.Combine(_running.Folder, "agreement.json"), Path.Combine(_running.Folder, "service", "calllog", "checkpoint.key")]
        )
        {
            // Opening a folder fails like opening a file without permission.
            File.Move(path, path + ".away");
            Directory.CreateDirectory(path);
            await Assert.ThrowsAsync<AgreementRefusedException>(() => _running.Agreements.Adopt(_running.Ledger, Running.Cancel));
            Directory.Delete(path);
            File.Move(path + ".away", path);
        }
        await _running.Log();
        Assert.Equal(version.Version, InForce);
    }

    [Fact]
    public async Task Everybody_can_read_every_version_and_check_who_signed_it()
    {
        await Next(a => Of(a, "ua/mfa").DeniedCertificates.Add("0A"), "ua/mfa");
        // A participant that is admitted to no case.
        var (history, entries) = await HistorySeenBy("kr/unification");
        Assert.Empty(entries);
        Assert.Equal([1ul, 2], history.Versions.Select(v => v.Version));
    }

    public static TheoryData<string, AgreementWrong> Swaps() =>
        new()
        {
            { "unsigned", AgreementWrong.SignatureMissing },
            { "signed by the others", AgreementWrong.SignatureMissing },
            { "signed with the key that was put in", AgreementWrong.SignatureKeyTooNew },
            { "with the signatures of the version before", AgreementWrong.SignatureWrong },
            { "after another predecessor", AgreementWrong.PreviousDigestWrong },
            { "two versions on", AgreementWrong.VersionNotNext },
        };

    [Theory]
    [MemberData(nameof(Swaps))]
    public async Task The_operator_cannot_swap_a_key_and_the_refusal_says_whose_signature_is_missing(string how, AgreementWrong wrong)
    {
        using var own = NewKey();
        using var another = NewKey();
        var previous = Signing.Agreement(_running.Folder);
        var next = previous.Clone();
        var keys = Of(next, "kr/mfa").SigningKeys;
        keys.Single(k => k.Use == SigningKeyUse.Requests).PublicKey = Listed("", SigningKeyUse.Requests, own).PublicKey;
        keys.Add(Listed("kr/mfa/agreements-2", SigningKeyUse.Agreements, another));
        AgreementVersions.Follow(previous, next);
        switch (how)
        {
            case "signed by the others":
                foreach (var other in previous.Participants.Where(p => AgreementVersions.Signs(p) && p.Id != "kr/mfa"))
                    Pki.Sign(previous, next, other.Id, Path.Combine(_running.Folder, other.Id, "agreements.key"));
                break;
            case "signed with the key that was put in":
                AgreementVersions.Sign(next, "kr/mfa", "kr/mfa/agreements-2", another);
                break;
            case "with the signatures of the version before":
                next.Signatures.Add(previous.Signatures);
                break;
            case "after another predecessor":
                next.PreviousDigest = ByteString.CopyFrom(new byte[32]);
                break;
            case "two versions on":
                next.Version = 3;
                break;
        }
        Signing.Put(_running.Folder, next);
        var e = await Assert.ThrowsAsync<AgreementRefusedException>(() => _running.Agreements.Adopt(_running.Ledger, Running.Cancel));
        Assert.Equal(wrong, e.Fault?.Wrong);
        if (wrong == AgreementWrong.SignatureMissing)
            Assert.Equal(["kr/mfa"], e.Fault!.Suppliers);
        Assert.Equal(1ul, InForce);
        await _running.Log();
        var swapped = Signed(own, "kr/mfa/requests-1");
        await Running.Refused("SIGNATURE_WRONG", () => swapped.LogCallAsync(Running.Request()).ResponseAsync);
        // Nor does a restart help, which knows only the ledger's version.
        await _running.Host.StopAsync(Running.Cancel);
        await _running.Host.DisposeAsync();
        var start = await Assert.ThrowsAsync<AgreementRefusedException>(() => _running.Start("calllog", new Dictionary<string, Uri>()));
        Assert.Equal(wrong, start.Fault?.Wrong);
        await _running.Host.DisposeAsync();
        Signing.Put(_running.Folder, previous);
        await _running.Start("calllog", new Dictionary<string, Uri>());
    }

    [Fact]
    public async Task A_version_whose_signers_key_has_ended_at_the_time_of_its_entry_is_not_recorded()
    {
        using var fresh = NewKey();
        await Next(
            a =>
            {
                Of(a, "kr/mfa").SigningKeys.Single(k => k.Use == SigningKeyUse.Agreements).ValidUntilTime = DateTimeOffset
                    .UtcNow.AddMinutes(-2)
                    .ToTimestamp();
                Of(a, "kr/mfa").SigningKeys.Add(Listed("kr/mfa/agreements-2", SigningKeyUse.Agreements, fresh));
            },
            "kr/mfa"
        );
        var previous = Signing.Agreement(_running.Folder);
        var next = previous.Clone();
        Of(next, "kr/mfa").DeniedCertificates.Add("0A");
        AgreementVersions.Follow(previous, next);
        Pki.Sign(previous, next, "kr/mfa", Path.Combine(_running.Folder, "kr/mfa", "agreements.key"));
        // The ledger's time is ahead of the clock by which the version is checked.
        _running.Time.Moved = TimeSpan.FromMinutes(-4);
        Signing.Put(_running.Folder, next);
        var e = await Assert.ThrowsAsync<AgreementRefusedException>(() => _running.Agreements.Adopt(_running.Ledger, Running.Cancel));
        Assert.Equal((AgreementWrong.SignatureKeyNotValid, 2ul), (e.Fault?.Wrong, InForce));
        Assert.Equal([1ul, 2], (await HistorySeenBy("kr/mfa")).History.Versions.Select(v => v.Version));
    }

    [Fact]
    public async Task A_write_whose_signature_has_expired_at_its_commit_time_is_not_recorded()
    {
        await _running.Log();
        var size = _running.Ledger.Size;
        // The ledger's time is ahead of the clock by which the signature is checked.
        _running.Time.Moved = TimeSpan.FromMinutes(-4);
        var request = Running.Request();
        var frame = Running.FrameOf(request.ToByteArray());
        Assert.Equal((int)StatusCode.Unavailable, (await _running.Post(frame, headers: _running.Signed(request.RequestId, frame))).Code);
        _running.Time.Moved = default;
        Assert.Equal(size, _running.Ledger.Size);
        Assert.Equal(0, (await _running.Post(frame, headers: _running.Signed(request.RequestId, frame))).Code);
        var (history, entries) = await HistorySeenBy("kr/mfa");
        Assert.All(entries, e => Assert.Null(history.WrongRequest(e.Header, e.Signature, e.Request, e.Header.RequestId, "calllog")));
    }

    private async Task Restart()
    {
        await _running.Host.StopAsync(Running.Cancel);
        await _running.Host.DisposeAsync();
        await _running.Start("calllog", new Dictionary<string, Uri>());
    }

    private static void Replace(string path, Key key)
    {
        WholeFile.Write(path, System.Text.Encoding.ASCII.GetString(key.Export(KeyBlobFormat.PkixPrivateKeyText)));
    }

    // The key history and the signed requests of a participant, from what the ledger shows it.
    private async Task<(KeyHistory History, List<(EntryHeader Header, RequestSignature Signature, byte[] Request)> Entries)> HistorySeenBy(
        string reader
    )
    {
        var client = new LedgerService.LedgerServiceClient(_running.As(reader));
        using var call = client.FollowEntries(new FollowEntriesRequest { UntilNow = true }, cancellationToken: Running.Cancel);
        var versions = new List<AdoptedAgreement>();
        var entries = new List<(EntryHeader, RequestSignature, byte[])>();
        await foreach (var response in call.ResponseStream.ReadAllAsync(Running.Cancel))
        {
            if (response.Entry is not { } entry)
                continue;
            var header = EntryHeader.Parser.ParseFrom(entry.Header);
            byte[]? Part(PartKind kind) => entry.Parts.FirstOrDefault(p => p.Kind == kind)?.Data.ToByteArray();
            if (header.Method == AgreementVersions.Method)
                versions.Add(new(Part(PartKind.Request)!, header.CommitTime.ToDateTimeOffset()));
            else if (header.Participant == reader)
                entries.Add((header, RequestSignature.Parser.ParseFrom(Part(PartKind.Signature)), Part(PartKind.Request)!));
        }
        return (KeyHistory.Read(versions), entries);
    }
}
