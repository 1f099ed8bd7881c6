using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.DependencyInjection;
using Ministries.CallLog.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Hosting;
using Ministries.Ledger.V1;
using Ministries.Ministry.Tests;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary>What a gateway has accepted it does not lose. The tests stop a service, so they have services of their own.</summary>
public class OutboxTests(OwnServices own) : IClassFixture<OwnServices>
{
    private readonly Services _services = own.Services;

    private JsonObject Call() => PlainJson.Write(_services.Call());

    [Fact]
    public async Task A_write_waits_on_the_disk_until_its_service_answers_also_over_a_restart()
    {
        var state = Directory.CreateTempSubdirectory("outbox").FullName;
        var key = Guid.NewGuid().ToString();
        await _services.Stop("calllog");
        await using (var gateway = await Start(state))
        {
            var (status, waiting, answer) = await gateway.Post("/v1/calllog/LogCall", Call(), key);
            Assert.Equal((202, "WAITING", $"/outbox/{key}"), (status, (string?)waiting["state"], answer.Headers.Location?.ToString()));
            // Asked again, it is the same write.
            Assert.Equal(202, (await gateway.Post("/v1/calllog/LogCall", Call(), key)).Status);
            // One more would be one too many.
            var (full, problem, _) = await gateway.Post("/v1/calllog/LogCall", Call());
            Assert.Equal((503, "OUTBOX_FULL"), (full, (string?)problem["reason"]));
            Assert.Equal(1, (int)(await gateway.Get("/status")).Body["outbox"]!["waiting"]!);
        }
        await _services.Start("calllog");
        await using (var gateway = await Start(state))
        {
            JsonObject became = [];
            await Until(async () => (string?)(became = (await gateway.Get($"/outbox/{key}")).Body)["state"] == "ANSWERED");
            Assert.StartsWith("call_", (string?)became["answer"]!["call"]);
            var (status, again, _) = await gateway.Post("/v1/calllog/LogCall", Call(), key);
            Assert.Equal((200, (string?)became["answer"]!["call"]), (status, (string?)again["call"]));
        }
        // It was made once.
        var (kr, made) = (_services.As("kr/mfa"), 0);
        await foreach (var response in kr.Follow("calllog", untilNow: true, cancel: Cancel))
            if (response.Entry is { } entry && LedgerEntry.Read(entry).Header.RequestId == key)
                made++;
        Assert.Equal(1, made);
        Directory.Delete(state, recursive: true);
    }

    [Fact]
    public async Task A_service_that_is_silent_keeps_back_no_write_to_another()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 0.1 });
        var (silence, sent) = (new TaskCompletionSource(), 0);
        _services.Before = request =>
        {
            if (request is not LogCallRequest)
                return Task.CompletedTask;
            Interlocked.Increment(ref sent);
            return silence.Task;
        };
        try
        {
            // More than are sent to one service at once.
            await Parallel.ForEachAsync(
                Enumerable.Range(0, 100),
                new ParallelOptions { MaxDegreeOfParallelism = 32, CancellationToken = Cancel },
                async (_, _) => Assert.Equal(202, (await gateway.Post("/v1/calllog/LogCall", Call())).Status)
            );
            await Until(() => Task.FromResult(Volatile.Read(ref sent) >= 64));
            var key = Guid.NewGuid().ToString();
            await gateway.Post("/v1/custody/OpenCase", new JsonObject { ["actor"] = PlainJson.Write(Services.Actor) }, key);
            await Until(async () => await StateOf(gateway, key) is "ANSWERED" or "REFUSED");
            // None of them had to end for it.
            Assert.Equal(64, sent);
        }
        finally
        {
            silence.SetResult();
            _services.Before = null;
        }
    }

    [Theory]
    [InlineData("shows another service's certificate")]
    [InlineData("closes each connection")]
    public async Task Whoever_answers_in_a_services_place_costs_no_write_and_the_mirror_answers(string who)
    {
        var state = Directory.CreateTempSubdirectory("outbox").FullName;
        string path;
        await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 30 }, state))
        {
            var (_, logged, _) = await gateway.Post("/v1/calllog/LogCall", Call());
            path = $"/v1/calllog/GetCall?call={logged["call"]}";
            await Until(() => MirrorTests.Followed(gateway, "calllog", (string)logged["receipt"]!["position"]!));
        }
        using var balancer = new TcpListener(IPAddress.Loopback, 0);
        balancer.Start();
        _ = Close();
        var at = who.StartsWith("shows") ? _services.Addresses["custody"] : new Uri($"https://{balancer.LocalEndpoint}");
        var (key, time) = (Guid.NewGuid().ToString(), new Swift());
        GatewaySettings Elsewhere(GatewaySettings settings) =>
            settings with
            {
                AnswerSeconds = 0.1,
                Services = new Dictionary<string, IReadOnlyList<Uri>>(settings.Services) { ["calllog"] = [at] },
            };
        await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", Elsewhere, state, time))
        {
            var (_, shown, answer) = await gateway.Get(path);
            Assert.Equal("mirror", answer.Headers.GetValues("Ministries-Source").Single());
            Assert.NotNull(shown["etag"]);
            Assert.Equal(202, (await gateway.Post("/v1/calllog/LogCall", Call(), key)).Status);
            // As often as a service may fail, after which there is no pause.
            await Until(async () => time.LongPauses > 2 || await StateOf(gateway, key) != "WAITING");
            Assert.Equal("WAITING", await StateOf(gateway, key));
            if (who.StartsWith("shows"))
                Assert.Equal("SERVICE_NOT_PROVED", (string?)(await gateway.Get($"/outbox/{key}")).Body["hindrance"]);
        }
        await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", state: state))
            await Until(async () => await StateOf(gateway, key) == "ANSWERED");
        Directory.Delete(state, recursive: true);

        async Task Close()
        {
            while (true)
                try
                {
                    (await balancer.AcceptTcpClientAsync(Cancel)).Dispose();
                }
                catch (SocketException e) when (e.SocketErrorCode != SocketError.OperationAborted)
                {
                    // The caller has hung up already.
                }
                catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
                {
                    return;
                }
        }
    }

    [Fact]
    public async Task A_key_of_a_write_to_one_service_is_not_that_of_the_same_write_to_another()
    {
        await using var gateway = await RunningGateway.Start(_services, "icrc", s => s with { AnswerSeconds = 0.1 });
        // Every service has this method, and an entry at that position.
        var permit = new JsonObject { ["actor"] = PlainJson.Write(Services.Actor), ["position"] = 1 };
        var key = Guid.NewGuid().ToString();
        await _services.Stop("custody");
        try
        {
            Assert.Equal(202, (await gateway.Post("/v1/custody/PermitDisclosure", permit, key)).Status);
            Assert.Equal(202, (await gateway.Post("/v1/custody/PermitDisclosure", permit, key)).Status);
            var (status, problem, _) = await gateway.Post("/v1/consular/PermitDisclosure", permit, key);
            Assert.Equal((422, "IDEMPOTENCY_KEY_REUSED"), (status, (string?)problem["reason"]));
        }
        finally
        {
            await _services.Start("custody");
        }
    }

    [Fact]
    public async Task A_key_that_was_accepted_before_digests_named_the_service_is_still_that_of_its_write()
    {
        var state = Directory.CreateTempSubdirectory("outbox").FullName;
        var permit = new JsonObject { ["actor"] = PlainJson.Write(Services.Actor), ["position"] = 1 };
        var key = Guid.NewGuid().ToString();
        await _services.Stop("custody");
        try
        {
            await using (var gateway = await Begin())
                Assert.Equal(202, (await Permit(gateway, "custody")).Status);
            LeaveServiceOut();
            await using (var gateway = await Begin())
            {
                Assert.Equal(202, (await Permit(gateway, "custody")).Status);
                var (status, problem, _) = await Permit(gateway, "consular");
                Assert.Equal((422, "IDEMPOTENCY_KEY_REUSED"), (status, (string?)problem["reason"]));
                permit["position"] = 2;
                (status, problem, _) = await Permit(gateway, "custody");
                Assert.Equal((422, "IDEMPOTENCY_KEY_REUSED"), (status, (string?)problem["reason"]));
            }
        }
        finally
        {
            await _services.Start("custody");
        }
        Directory.Delete(state, recursive: true);

        Task<RunningGateway> Begin() => RunningGateway.Start(_services, "icrc", s => s with { AnswerSeconds = 0.1 }, state);

        Task<(int Status, JsonObject Body, HttpResponseMessage Answer)> Permit(RunningGateway gateway, string service) =>
            gateway.Post($"/v1/{service}/PermitDisclosure", permit, key);

        // Gives the write the digest that an earlier version gave it.
        void LeaveServiceOut()
        {
            using var database = new SqliteConnection($"Data Source={Path.Combine(state, "outbox.db")};Pooling=False");
            database.Open();
            using var command = database.CreateCommand();
            command.CommandText = "select method, bytes, digest from writes";
            string method;
            PermitDisclosureRequest request;
            using (var row = command.ExecuteReader())
            {
                Assert.True(row.Read());
                (method, request) = (row.GetString(0), PermitDisclosureRequest.Parser.ParseFrom((byte[])row[1]));
                request.RequestId = "";
                Assert.Equal(DigestOf($"{method}\ncustody\n"), (byte[])row[2]);
            }
            command.CommandText = "update writes set digest = $digest";
            command.Parameters.AddWithValue("$digest", DigestOf($"{method}\n"));
            Assert.Equal(1, command.ExecuteNonQuery());

            byte[] DigestOf(string head) =>
                HMACSHA256.HashData(
                    Convert.FromBase64String(File.ReadAllText(Path.Combine(state, "outbox.key"))),
                    (byte[])[.. Encoding.UTF8.GetBytes(head), .. request.ToByteArray()]
                );
        }
    }

    [Fact]
    public async Task A_service_that_was_not_proved_and_is_merely_down_since_is_no_hindrance()
    {
        // At first it leads to another service.
        using var balancer = new TcpListener(IPAddress.Loopback, 0);
        balancer.Start();
        _ = Lead();
        await using var gateway = await RunningGateway.Start(
            _services,
            "kr/mfa",
            s =>
                s with
                {
                    AnswerSeconds = 0.1,
                    Services = new Dictionary<string, IReadOnlyList<Uri>>(s.Services)
                    {
                        ["calllog"] = [new Uri($"https://{balancer.LocalEndpoint}")],
                    },
                },
            time: new Swift()
        );
        var key = Guid.NewGuid().ToString();
        Assert.Equal(202, (await gateway.Post("/v1/calllog/LogCall", Call(), key)).Status);
        await Until(async () => await Hindrance() == "SERVICE_NOT_PROVED");
        balancer.Stop();
        await Until(async () => await Hindrance() is null);
        Assert.Empty((await gateway.Get("/status")).Body["outbox"]!["hindrances"]!.AsArray());
        Assert.Equal("WAITING", await StateOf(gateway, key));

        async Task<string?> Hindrance() => (string?)(await gateway.Get($"/outbox/{key}")).Body["hindrance"];

        async Task Lead()
        {
            try
            {
                while (true)
                    _ = Carry(await balancer.AcceptTcpClientAsync(Cancel));
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException) { }
        }

        async Task Carry(TcpClient client)
        {
            using (client)
            using (var other = new TcpClient())
            {
                await other.ConnectAsync(IPAddress.Loopback, _services.Addresses["custody"].Port, Cancel);
                var (from, to) = (client.GetStream(), other.GetStream());
                await Task.WhenAny(from.CopyToAsync(to, Cancel), to.CopyToAsync(from, Cancel));
            }
        }
    }

    [Fact]
    public async Task What_is_on_the_disk_at_any_moment_after_the_answer_suffices_to_send_it()
    {
        var (state, image) = (Directory.CreateTempSubdirectory("outbox").FullName, Directory.CreateTempSubdirectory("image").FullName);
        var key = Guid.NewGuid().ToString();
        await _services.Stop("calllog");
        await using (var gateway = await Start(state))
        {
            Assert.Equal(202, (await gateway.Post("/v1/calllog/LogCall", Call(), key)).Status);
            // What would be there if the process were killed now: nothing is written at the end.
            foreach (var file in Directory.EnumerateFiles(state, "outbox*"))
            {
                await using var from = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
                await using var to = new FileStream(Path.Combine(image, Path.GetFileName(file)), FileMode.CreateNew);
                await from.CopyToAsync(to, Cancel);
            }
        }
        await _services.Start("calllog");
        await using (var gateway = await Start(image))
            await Until(async () => await StateOf(gateway, key) == "ANSWERED");
        Directory.Delete(state, recursive: true);
        Directory.Delete(image, recursive: true);
    }

    [Fact]
    public async Task What_a_service_calls_plain_is_not_taken_for_what_a_participant_sealed()
    {
        await using var gateway = await RunningGateway.Start(_services, "icrc");
        var path = $"/v1/custody/GetPrisoner?case={_services.Case}&prisoner={_services.Prisoners[0]}";
        async Task<JsonNode?> Shown() => (await gateway.Get(path)).Body["prisoner"]!["identity"];
        Assert.Equal(Identity.Rank, (string?)(await Shown())!["rank"]);
        var forged = new PersonIdentity { Rank = "general" };
        _services.Later = answer =>
        {
            if (answer is not GetPrisonerResponse read)
                return answer;
            // A service answers several with one object, whose bytes it keeps.
            read = read.Clone();
            read.Prisoner.Identity = new Sealed { Scheme = PlainJson.SchemeOf(PersonIdentity.Descriptor), Content = forged.ToByteString() };
            return read;
        };
        var shown = await Shown();
        _services.Later = null;
        Assert.DoesNotContain(forged.Rank, shown?.ToJsonString() ?? "");
        Assert.DoesNotContain(Identity.Rank, shown?.ToJsonString() ?? "");
    }

    [Fact]
    public async Task What_became_of_a_refused_write_is_told_too_and_what_is_not_there_is_not_found()
    {
        await using var gateway = await RunningGateway.Start(_services, "icrc");
        var key = Guid.NewGuid().ToString();
        Assert.Equal(403, (await gateway.Post("/v1/calllog/LogCall", Call(), key)).Status);
        JsonObject became = [];
        await Until(async () => (string?)(became = (await gateway.Get($"/outbox/{key}")).Body)["state"] == "REFUSED");
        Assert.Equal("NO_CAPACITY", (string?)became["problem"]!["reason"]);
        Assert.Equal("local", (string?)became["caller"]);
        Assert.Equal(404, (await gateway.Get($"/outbox/{Guid.NewGuid()}")).Status);
    }

    [Fact]
    public async Task A_write_for_which_the_record_has_no_room_is_refused_and_does_not_wait_for_ever()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 30 });
        _services.Later = answer => answer is LogCallResponse ? throw new Refusal(Reason.RecordFull).ToException() : answer;
        var (status, problem, _) = await gateway.Post("/v1/calllog/LogCall", Call());
        _services.Later = null;
        // Not 429: to send it again would change nothing.
        Assert.Equal((409, "RECORD_FULL"), (status, (string?)problem["reason"]));
    }

    [Fact]
    public async Task A_write_that_an_earlier_version_of_its_service_does_not_serve_waits_and_that_is_seen()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 0.1 });
        var key = Guid.NewGuid().ToString();
        _services.Later = answer =>
            answer is LogCallResponse ? throw new RpcException(new Status(StatusCode.Unimplemented, "the method is not served")) : answer;
        try
        {
            Assert.Equal(202, (await gateway.Post("/v1/calllog/LogCall", Call(), key)).Status);
            await Until(async () => (string?)(await gateway.Get($"/outbox/{key}")).Body["hindrance"] == "METHOD_NOT_SERVED");
            var hindrance = (await gateway.Get("/status")).Body["outbox"]!["hindrances"]!.AsArray().Single()!;
            Assert.Contains("ministries.calllog.v1.CallLogService/LogCall", (string?)hindrance["remedy"]);
        }
        finally
        {
            _services.Later = null;
        }
        await Until(async () => await StateOf(gateway, key) == "ANSWERED");
    }

    [Fact]
    public async Task A_service_that_fails_is_asked_again_and_its_answer_is_not_guessed()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 30 });
        var failures = 0;
        _services.Later = answer => answer is LogCallResponse && failures++ < 2 ? throw Failure() : answer;
        var (status, answer, _) = await gateway.Post("/v1/calllog/LogCall", Call());
        _services.Later = null;
        Assert.Equal((200, 3), (status, failures));
        Assert.StartsWith("call_", (string)answer["call"]!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_service_that_fails_every_time_leaves_it_open_whether_the_write_is_recorded_until_it_is_sent_again()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 30 }, time: new Swift());
        var failures = 0;
        _services.Later = answer => answer is LogCallResponse && failures++ >= 0 ? throw Failure() : answer;
        var (key, call) = (Guid.NewGuid().ToString(), Call());
        for (var times = 1; times <= 2; times++)
        {
            var (status, problem, _) = await gateway.Post("/v1/calllog/LogCall", call, key);
            Assert.Equal((502, "ANSWER_UNPROVED", times * Outbox.MostFailures), (status, (string?)problem["reason"], failures));
            Assert.Contains("is not known", (string)problem["detail"]!);
        }
        _services.Later = null;
        var other = Call();
        other["account"]!["attendees"]![0]!["office"] = "another";
        Assert.Equal(422, (await gateway.Post("/v1/calllog/LogCall", other, key)).Status);
        var (found, answer, _) = await gateway.Post("/v1/calllog/LogCall", call, key);
        Assert.True(found == 200, answer.ToJsonString());
        Assert.Equal(await PositionOf(key), (string?)answer["receipt"]!["position"]);
        await Until(async () => await StateOf(gateway, key) != "WAITING");
        Assert.Equal("ANSWERED", await StateOf(gateway, key));
    }

    [Theory]
    [InlineData(Reason.NotGranted)]
    [InlineData(Reason.RequestInvalid)]
    public async Task A_refusal_that_may_come_before_the_old_answer_leaves_an_unproved_write_unproved_and_nothing_takes_its_place(
        Reason reason
    )
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 30 }, time: new Swift());
        _services.Later = answer => answer is LogCallResponse ? throw Failure() : answer;
        var (key, call) = (Guid.NewGuid().ToString(), Call());
        try
        {
            Assert.Equal(502, (await gateway.Post("/v1/calllog/LogCall", call, key)).Status);
            _services.Before = request => request is LogCallRequest ? throw new Refusal(reason).ToException() : Task.CompletedTask;
            var (status, problem, _) = await gateway.Post("/v1/calllog/LogCall", call, key);
            Assert.Equal((502, "ANSWER_UNPROVED"), (status, (string?)problem["reason"]));
            Assert.Contains(Reasons.NameOf(reason), (string)problem["detail"]!);
            var corrected = Call();
            corrected["account"]!["attendees"]![0]!["office"] = "another";
            (status, problem, _) = await gateway.Post("/v1/calllog/LogCall", corrected, key);
            Assert.Equal((422, "IDEMPOTENCY_KEY_REUSED"), (status, (string?)problem["reason"]));
        }
        finally
        {
            (_services.Later, _services.Before) = (null, null);
        }
        var (found, answer, _) = await gateway.Post("/v1/calllog/LogCall", call, key);
        Assert.True(found == 200, answer.ToJsonString());
        Assert.Equal(await PositionOf(key), (string?)answer["receipt"]!["position"]);
    }

    /// <summary>One call makes several attempts: the first is recorded, and its answer is lost.</summary>
    [Theory]
    [InlineData(Reason.NotGranted, null)]
    [InlineData(Reason.RequestInvalid, null)]
    [InlineData(Reason.NotGranted, StatusCode.Unauthenticated)]
    [InlineData(Reason.NotGranted, StatusCode.Unimplemented)]
    public async Task A_refusal_of_a_repeated_attempt_says_nothing_of_a_write_that_the_first_may_have_had_recorded(
        Reason reason,
        StatusCode? between
    )
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 30 }, time: new Swift());
        var (key, call, attempts) = (Guid.NewGuid().ToString(), Call(), 0);
        _services.Before = request =>
        {
            if (request is not LogCallRequest || Interlocked.Increment(ref attempts) == 1)
                return Task.CompletedTask;
            throw attempts == 2 && between is { } code
                ? new RpcException(new Status(code, "not accepted, or not served"))
                : new Refusal(reason).ToException();
        };
        _services.Later = answer =>
            answer is LogCallResponse ? throw new RpcException(new Status(StatusCode.Unavailable, "the answer is lost")) : answer;
        try
        {
            var (status, problem, _) = await gateway.Post("/v1/calllog/LogCall", call, key);
            Assert.Equal((502, "ANSWER_UNPROVED"), (status, (string?)problem["reason"]));
            Assert.Contains(Reasons.NameOf(reason), (string)problem["detail"]!);
        }
        finally
        {
            (_services.Later, _services.Before) = (null, null);
        }
        var (found, answer, _) = await gateway.Post("/v1/calllog/LogCall", call, key);
        Assert.True(found == 200, answer.ToJsonString());
        Assert.Equal(await PositionOf(key), (string?)answer["receipt"]!["position"]);
    }

    [Fact]
    public async Task A_refusal_after_a_lost_answer_says_nothing_of_a_write_also_after_a_restart()
    {
        var state = Directory.CreateTempSubdirectory("outbox").FullName;
        var (key, call, lost) = (Guid.NewGuid().ToString(), Call(), new TaskCompletionSource());
        _services.Later = answer =>
        {
            if (answer is not LogCallResponse)
                return answer;
            lost.TrySetResult();
            throw Failure();
        };
        try
        {
            await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 0.1 }, state))
            {
                Assert.Equal(202, (await gateway.Post("/v1/calllog/LogCall", call, key)).Status);
                await lost.Task.WaitAsync(Cancel);
            }
            _services.Before = request =>
                request is LogCallRequest ? throw new Refusal(Reason.RequestInvalid).ToException() : Task.CompletedTask;
            await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", state: state))
            {
                await Until(async () => await StateOf(gateway, key) != "WAITING");
                Assert.Equal("UNPROVED", await StateOf(gateway, key));
                (_services.Later, _services.Before) = (null, null);
                var (status, answer, _) = await gateway.Post("/v1/calllog/LogCall", call, key);
                Assert.True(status == 200, answer.ToJsonString());
                Assert.Equal(await PositionOf(key), (string?)answer["receipt"]!["position"]);
            }
        }
        finally
        {
            (_services.Later, _services.Before) = (null, null);
        }
        Directory.Delete(state, recursive: true);
    }

    [Fact]
    public async Task A_write_that_ended_while_another_resumed_it_keeps_nobody_waiting()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 30 });
        var key = Guid.NewGuid().ToString();
        Assert.Equal(200, (await gateway.Post("/v1/calllog/LogCall", Call(), key)).Status);
        await Until(async () => (int)(await gateway.Get("/status")).Body["outbox"]!["waiting"]! == 0);
        var outbox = gateway.Host.Services.GetRequiredService<Outbox>();
        var item = outbox.Find(key)!.Item;
        // Makes the request wait before the outbox notices that there is nothing to resume.
        await using var other = new SqliteConnection($"Data Source={Path.Combine(gateway.State, "outbox.db")};Pooling=False");
        other.Open();
        Database.Run(other, "begin immediate");
        var resuming = outbox.Resume(item);
        var waiting = outbox.Wait(item, Cancel);
        Database.Run(other, "rollback");
        await resuming;
        Assert.Equal(OutboxState.Answered, (await waiting).State);
        Assert.Equal(0, outbox.PendingCount);
    }

    [Fact]
    public async Task A_write_that_is_sent_again_waits_since_then()
    {
        var time = new Swift();
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 30 }, time: time);
        _services.Later = answer => answer is LogCallResponse ? throw Failure() : answer;
        var (key, call) = (Guid.NewGuid().ToString(), Call());
        Assert.Equal(502, (await gateway.Post("/v1/calllog/LogCall", call, key)).Status);
        _services.Later = null;
        var outbox = gateway.Host.Services.GetRequiredService<Outbox>();
        await Until(() => Task.FromResult(outbox.Find(key)!.State == OutboxState.Unproved));
        time.Moved = TimeSpan.FromHours(3);
        var silence = new TaskCompletionSource();
        _services.Before = request => request is LogCallRequest ? silence.Task : Task.CompletedTask;
        try
        {
            await outbox.Resume(outbox.Find(key)!.Item);
            Assert.True(outbox.PendingSince > DateTimeOffset.UtcNow.AddHours(2), $"{outbox.PendingSince}");
        }
        finally
        {
            silence.SetResult();
            _services.Before = null;
        }
    }

    [Fact]
    public async Task An_answer_whose_log_cannot_be_compared_for_long_is_seen_as_a_hindrance_until_it_can()
    {
        var state = Directory.CreateTempSubdirectory("outbox").FullName;
        await using (var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 0.1 }, state))
        {
            var seen = gateway.Host.Services.GetRequiredService<MinistryClient>().SeenOf("calllog");
            var key = Guid.NewGuid().ToString();
            // No audit comes to its end meanwhile.
            await seen.OneAtATime.WaitAsync(Cancel);
            try
            {
                for (ulong size = 1_000_000; size < 1_000_000 + SeenLog.MaxPending; size++)
                    try
                    {
                        seen.Add(new Ledger.Checkpoint(size, new byte[32], ""));
                    }
                    catch (InvalidLogException)
                    {
                        // An earlier receipt waits, too.
                    }
                Assert.Equal(202, (await gateway.Post("/v1/calllog/LogCall", Call(), key)).Status);
                await Until(async () => (string?)(await gateway.Get($"/outbox/{key}")).Body["hindrance"] == "LOG_NOT_SHOWN");
                var hindrance = (await gateway.Get("/status")).Body["outbox"]!["hindrances"]!.AsArray().Single()!;
                Assert.Equal(("calllog", "LOG_NOT_SHOWN"), ((string?)hindrance["service"], (string?)hindrance["reason"]));
            }
            finally
            {
                seen.OneAtATime.Release();
            }
        }
        Directory.Delete(state, recursive: true);
    }

    // What the gateway says of a write now.
    private static async Task<string?> StateOf(RunningGateway gateway, string key) =>
        (string?)(await gateway.Get($"/outbox/{key}")).Body["state"];

    // Checks that the service recorded the request exactly once.
    private async Task<string> PositionOf(string key)
    {
        var entry = await _services.As("kr/mfa").LedgerOf("calllog").GetEntryAsync(new() { OwnRequestId = key }, cancellationToken: Cancel);
        return $"{EntryHeader.Parser.ParseFrom(entry.Entry.Header).Position}";
    }

    private static RpcException Failure() => new(new Status(StatusCode.Internal, "the service failed"));

    // A clock on which the pauses between attempts pass a thousand times faster.
    private sealed class Swift : TimeProvider
    {
        private int _longPauses;

        /// <summary>How far ahead of the machine's its time is.</summary>
        public TimeSpan Moved { get; set; }

        public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + Moved;

        /// <summary>How many pauses of about half a minute there were, which begin with the eighth attempt.</summary>
        public int LongPauses => Volatile.Read(ref _longPauses);

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            if (dueTime > TimeSpan.FromSeconds(20) && dueTime < TimeSpan.FromSeconds(40) && dueTime != TimeSpan.FromSeconds(30))
                Interlocked.Increment(ref _longPauses);
            return base.CreateTimer(
                callback,
                state,
                dueTime > TimeSpan.Zero && dueTime != TimeSpan.FromSeconds(30) && dueTime != Connections.Patience
                    ? dueTime / 1000
                    : dueTime,
                period
            );
        }
    }

    [Theory]
    [InlineData("header")]
    [InlineData("checkpoint")]
    [InlineData("entry_hash")]
    [InlineData("inclusion_proof")]
    [InlineData("commit_time")]
    [InlineData("tree_size")]
    [InlineData("answer_salt")]
    [InlineData("receipt")]
    public async Task Whatever_a_service_answers_a_write_does_not_stay_behind(string forged)
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 30 });
        _services.Later = answer =>
        {
            if (answer is not LogCallResponse { Receipt: { } receipt } logged)
                return answer;
            if (forged == "receipt")
                logged.Receipt = null;
            if (forged == "header")
                receipt.Header = ByteString.CopyFrom(0xff, 0xff);
            if (forged == "checkpoint")
                receipt.Checkpoint = "\n\n— x\n";
            if (forged == "entry_hash")
                receipt.EntryHash = ByteString.Empty;
            if (forged == "inclusion_proof")
                receipt.InclusionProof.Add(ByteString.CopyFrom(1));
            if (forged == "commit_time")
                receipt.CommitTime = new() { Seconds = long.MaxValue, Nanos = -1 };
            if (forged == "tree_size")
                receipt.TreeSize = ulong.MaxValue;
            if (forged == "answer_salt")
                receipt.AnswerSalt = ByteString.Empty;
            return answer;
        };
        var (_, problem, _) = await gateway.Post("/v1/calllog/LogCall", Call());
        _services.Later = null;
        Assert.Equal("ANSWER_UNPROVED", (string?)problem["reason"]);
        Assert.StartsWith("Send the same request under the same key", (string?)problem["remedy"]);
        await Until(async () => (int)(await gateway.Get("/status")).Body["outbox"]!["waiting"]! == 0);
    }

    [Fact]
    public async Task A_second_gateway_does_not_use_the_same_folder()
    {
        await using var gateway = await RunningGateway.Start(_services, "kr/mfa");
        var second = RunningGateway.SettingsFor(_services, "kr/mfa", gateway.State);
        Assert.Contains("another gateway", Assert.ThrowsAny<IOException>(() => GatewayHost.Build(second)).Message);
    }

    private Task<RunningGateway> Start(string state) =>
        RunningGateway.Start(_services, "kr/mfa", s => s with { AnswerSeconds = 0.3, OutboxRequests = 1 }, state);
}
