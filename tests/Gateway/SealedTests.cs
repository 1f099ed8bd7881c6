using System.Collections.Concurrent;
using System.Text;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Grpc.Net.Client;
using Ministries.Custody.V1;
using Ministries.Ledger.V1;
using Ministries.Ministry.Tests;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary>Sealed data by JSON: opened wider, opened by the entry that carried them, and committed to.</summary>
public sealed class SealedTests(OwnServices own) : IClassFixture<OwnServices>
{
    private readonly Services _services = own.Services;

    [Fact]
    public async Task A_datum_is_opened_wider_by_json_and_the_recipient_reads_it_plain()
    {
        await using var hq = await RunningGateway.Start(_services, "ua/coordination-hq");
        var identity = new JsonObject
        {
            ["name"] = new JsonObject { ["original"] = "Ra Ma-ba", ["script"] = "Latn" },
            ["rank"] = "private",
            ["@sealed"] = new JsonObject { ["recipients"] = new JsonArray("ua/coordination-hq") },
        };
        var (status, registered, _) = await hq.Post(
            "/v1/custody/RegisterPrisoner",
            new JsonObject
            {
                ["actor"] = PlainJson.Write(Services.Actor),
                ["case"] = _services.Case,
                ["status"] = "CUSTODY_STATE_REGISTERED",
                ["capture_time"] = "2025-01-09T08:00:00+02:00",
                ["identity"] = identity,
            }
        );
        Assert.True(status == 200, registered.ToJsonString());
        var (_, read, _) = await hq.Get($"/v1/custody/GetPrisoner?case={_services.Case}&prisoner={registered["prisoner"]}");
        var position = (string?)read["prisoner"]!["identity"]!["@sealed"]!["position"];
        var (shared, answer, _) = await hq.Post(
            "/v1/custody/ShareSealed",
            new JsonObject
            {
                ["actor"] = PlainJson.Write(Services.Actor),
                ["position"] = position,
                ["field"] = "identity",
                ["recipient"] = "ua/mfa",
                ["fields"] = new JsonArray(PersonIdentity.RankFieldNumber),
                ["reason"] = "SHARING_REASON_MEDICAL_CARE",
                ["legal_basis"] = "gc3-30",
            }
        );
        Assert.True(shared == 200, answer.ToJsonString());

        await using var mfa = await RunningGateway.Start(_services, "ua/mfa");
        var (_, got, _) = await mfa.Get($"/v1/custody/GetSealed?position={position}&field=identity");
        Assert.Equal("private", (string?)got["sealed"]!["rank"]);
        Assert.Null(got["sealed"]!["name"]);
        // What is missing is not opened: the sender has left out nothing.
        Assert.Equal(["rank"], got["sealed"]!["@sealed"]!["fields"]!.AsArray().Select(f => (string?)f));
        Assert.Null(got["sealed"]!["@sealed"]!["faults"]);
    }

    [Fact]
    public async Task What_was_sealed_for_another_record_is_not_shown_and_the_answer_says_so()
    {
        await using var gateway = await RunningGateway.Start(_services, "icrc");
        string Path(int number) => $"/v1/custody/GetPrisoner?case={_services.Case}&prisoner={_services.Prisoners[number]}";
        Assert.Equal(Identity.Rank, (string?)(await gateway.Get(Path(0))).Body["prisoner"]!["identity"]!["rank"]);
        var other = await _services
            .As("icrc")
            .Custody.GetPrisonerAsync(new() { Case = _services.Case, Prisoner = _services.Prisoners[1] }, cancellationToken: Cancel);
        ShowOfFirst(other.Prisoner.Identity);
        try
        {
            var shown = (await gateway.Get(Path(0))).Body["prisoner"]!["identity"]!;
            Assert.Equal("OtherRecord", (string?)shown["@sealed"]!["fault"]);
            Assert.Null(shown["rank"]);
        }
        finally
        {
            _services.Later = null;
        }
    }

    [Fact]
    public async Task An_entry_that_is_forged_as_privileged_does_not_make_another_record_s_data_this_one_s()
    {
        var other = await _services
            .As("icrc")
            .Custody.GetPrisonerAsync(new() { Case = _services.Case, Prisoner = _services.Prisoners[1] }, cancellationToken: Cancel);
        // The service claims, without proof, that the entry that registered the first prisoner registered the second one.
        _services.Forged = entry =>
        {
            if (EntryHeader.Parser.ParseFrom(entry.Header).Position != other.Prisoner.Identity.Position || entry.Case != _services.Case)
                return entry;
            entry.Privileged = true;
            foreach (var part in entry.Parts)
                (part.Salt, part.Data) = (ByteString.Empty, part.Kind == PartKind.Events ? Renamed(part.Data) : part.Data);
            return entry;
        };
        ShowOfFirst(other.Prisoner.Identity);
        try
        {
            await using var gateway = await RunningGateway.Start(_services, "icrc");
            await Until(async () =>
                (await gateway.Get("/status")).Body["mirror"]!.AsArray().Single(m => (string?)m!["service"] == "custody")! is var custody
                && (custody["alarm"] is not null || (ulong)custody["next_position"]! > other.Prisoner.Identity.Position)
            );
            var shown = (await gateway.Get($"/v1/custody/GetPrisoner?case={_services.Case}&prisoner={_services.Prisoners[0]}")).Body[
                "prisoner"
            ]!["identity"]!;
            Assert.Equal("OtherRecord", (string?)shown["@sealed"]!["fault"]);
            Assert.Null(shown["rank"]);
        }
        finally
        {
            (_services.Forged, _services.Later) = (null, null);
        }

        ByteString Renamed(ByteString data)
        {
            var events = Events.Parser.ParseFrom(data);
            foreach (var e in events.Events_.Where(e => e.Type == PrisonerRegistered.Descriptor.FullName))
            {
                var registered = PrisonerRegistered.Parser.ParseFrom(e.Data);
                registered.Prisoner = _services.Prisoners[0];
                e.Data = registered.ToByteString();
            }
            return events.ToByteString();
        }
    }

    // The service shows another's identity as the first prisoner's.
    private void ShowOfFirst(Sealed identity) =>
        _services.Later = answer =>
        {
            if (answer is not GetPrisonerResponse { Prisoner: { } prisoner } read || prisoner.Prisoner_ != _services.Prisoners[0])
                return answer;
            // A service answers several with one object, whose bytes it keeps.
            read = read.Clone();
            read.Prisoner.Identity = identity.Clone();
            return read;
        };

    // No service reads sealed content, and another maker's client may have sealed it.
    [Theory]
    [InlineData(10_000_000_000_000, 0)]
    [InlineData(-10_000_000_000_000, 0)]
    [InlineData(0, -1)]
    [InlineData(0, 1_000_000_000)]
    public async Task A_sealed_time_that_is_none_is_named_and_the_rest_is_read(long seconds, int nanos)
    {
        var prisoner = await OutOfRange.Notify(_services, new Timestamp { Seconds = seconds, Nanos = nanos });
        await using var gateway = await RunningGateway.Start(_services, "icrc");

        var (status, read, _) = await gateway.Get($"/v1/custody/GetPrisoner?case={_services.Case}&prisoner={prisoner}");

        Assert.Equal(200, status);
        var data = read["prisoner"]!["notifications"]!.AsArray().Single()!["data"]!;
        Assert.Equal(OutOfRange.Place, (string?)data["capture"]!["capture_place"]);
        Assert.Null(data["capture"]!["capture_time"]);
        Assert.Equal(["capture.capture_time"], data["@sealed"]!["faults"]!.AsArray().Select(f => (string?)f!["field"]));
        Assert.Equal(200, (await gateway.Get($"/v1/custody/ListPrisoners?case={_services.Case}")).Status);
    }

    [Fact]
    public async Task A_time_that_is_none_keeps_back_nothing_else_of_what_a_service_answers()
    {
        await using var gateway = await RunningGateway.Start(_services, "icrc");
        _services.Later = answer =>
        {
            if (answer is not GetCaseResponse read)
                return answer;
            read = read.Clone();
            read.Case.OpenTime = new Timestamp { Seconds = 10_000_000_000_000 };
            return read;
        };
        try
        {
            var (status, shown, _) = await gateway.Get($"/v1/custody/GetCase?case={_services.Case}");
            Assert.Equal((200, _services.Case), (status, (string?)shown["case"]?["id"]));
            Assert.Null(shown["case"]!["open_time"]);
        }
        finally
        {
            _services.Later = null;
        }
    }

    // A caller that misspells the scheme would have a person's data stored on the disk and sent in clear.
    [Theory]
    [InlineData("Plain")]
    [InlineData("")]
    [InlineData("plaintext")]
    [InlineData("fault/OtherRecord")]
    [InlineData(Seals.Scheme)]
    public async Task What_is_called_sealed_and_is_not_is_neither_kept_nor_sent(string scheme)
    {
        var sent = new ConcurrentQueue<IMessage>();
        _services.Before = request =>
        {
            sent.Enqueue(request);
            return Task.CompletedTask;
        };
        try
        {
            await using var gateway = await RunningGateway.Start(_services, "ua/coordination-hq");
            var request = new RegisterPrisonerRequest
            {
                Actor = Services.Actor,
                Case = _services.Case,
                Status = CustodyState.Registered,
                CaptureTime = Timestamp.FromDateTime(new DateTime(2025, 1, 9, 0, 0, 0, DateTimeKind.Utc)),
                Identity = new Sealed
                {
                    Scheme = scheme,
                    Recipients = { "icrc" },
                    Content = new PersonIdentity { Rank = Marked }.ToByteString(),
                },
            };
            var json = PlainJson.Write(request);
            json["identity"] = new JsonObject
            {
                ["scheme"] = scheme,
                ["recipients"] = new JsonArray("icrc"),
                ["content"] = request.Identity.Content.ToBase64(),
            };
            foreach (var path in (string[])["/v1/custody/RegisterPrisoner", "/v1/custody/RegisterPrisoner?prepare=true"])
            {
                var (status, problem, _) = await gateway.Post(path, json);
                Assert.Equal((400, "BODY_INVALID"), (status, (string?)problem["reason"]));
                Assert.Equal("identity", (string?)problem["faults"]?[0]!["field"]);
                Assert.DoesNotContain(Marked, problem.ToJsonString());
            }
            using var channel = GrpcChannel.ForAddress(gateway.Settings.Listen, new GrpcChannelOptions { HttpClient = gateway.Http });
            var refused = await Assert.ThrowsAsync<RpcException>(async () =>
                await new CustodyService.CustodyServiceClient(channel).RegisterPrisonerAsync(request, cancellationToken: Cancel)
            );
            Assert.Equal("BODY_INVALID", refused.GetRpcStatus()?.GetDetail<Google.Rpc.ErrorInfo>()?.Reason);

            await NeitherKeptNorSent(gateway, sent);
        }
        finally
        {
            _services.Before = null;
        }
    }

    /// <summary>A client of a later contract seals a field that this gateway does not know, or a field within what is sealed.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_field_that_the_contract_does_not_know_is_neither_kept_nor_sent_and_is_not_sealed(bool within)
    {
        var sent = new ConcurrentQueue<IMessage>();
        _services.Before = request =>
        {
            sent.Enqueue(request);
            return Task.CompletedTask;
        };
        try
        {
            await using var gateway = await RunningGateway.Start(_services, "ua/coordination-hq");
            var identity = new Sealed
            {
                Scheme = PlainJson.Scheme,
                Recipients = { "icrc" },
                Content = Later(within, new PersonIdentity { Rank = Marked }),
            };
            var request = new RegisterPrisonerRequest
            {
                Actor = Services.Actor,
                Case = _services.Case,
                Status = CustodyState.Registered,
                CaptureTime = Timestamp.FromDateTime(new DateTime(2025, 1, 9, 0, 0, 0, DateTimeKind.Utc)),
                Identity = within ? identity : null,
            };
            using var channel = GrpcChannel.ForAddress(gateway.Settings.Listen, new GrpcChannelOptions { HttpClient = gateway.Http });
            var register = new Method<byte[], byte[]>(
                MethodType.Unary,
                "ministries.custody.v1.CustodyService",
                "RegisterPrisoner",
                Marshallers.Create(bytes => bytes, bytes => bytes),
                Marshallers.Create(bytes => bytes, bytes => bytes)
            );
            var bytes = within ? request.ToByteArray() : [.. request.ToByteArray(), .. FieldOf(identity)];
            var refused = await Assert.ThrowsAsync<RpcException>(() =>
                channel.CreateCallInvoker().AsyncUnaryCall(register, null, new CallOptions(cancellationToken: Cancel), bytes).ResponseAsync
            );
            Assert.Equal(StatusCode.InvalidArgument, refused.StatusCode);
            Assert.Equal("BODY_INVALID", refused.GetRpcStatus()?.GetDetail<Google.Rpc.ErrorInfo>()?.Reason);
            Assert.DoesNotContain(Marked, refused.ToString());
            await NeitherKeptNorSent(gateway, sent);
        }
        finally
        {
            _services.Before = null;
        }

        static ByteString Later(bool within, PersonIdentity identity)
        {
            var name = new PersonName { Original = "Ga Na-da", Script = "Latn" };
            if (within)
                identity.Name = PersonName.Parser.ParseFrom((byte[])[.. name.ToByteArray(), .. FieldOf(new Text { Text_ = Marked })]);
            return identity.ToByteString();
        }

        // The field 4000, which no contract has.
        static byte[] FieldOf(IMessage message) => [0x82, 0xFA, 0x01, (byte)message.CalculateSize(), .. message.ToByteArray()];
    }

    private static async Task NeitherKeptNorSent(RunningGateway gateway, IEnumerable<IMessage> sent)
    {
        // The content of a request is read only after this check.
        Assert.DoesNotContain(sent, r => r is RegisterPrisonerRequest);
        foreach (var file in Directory.EnumerateFiles(gateway.State, "outbox.db*"))
        {
            await using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            using var reader = new StreamReader(stream, Encoding.Latin1);
            Assert.DoesNotContain(Marked, await reader.ReadToEndAsync(Cancel));
        }
    }

    private const string Marked = "a-marked-word";

    [Fact]
    public async Task A_statement_in_plain_fields_gets_its_secret_and_its_commitments()
    {
        await using var gateway = await RunningGateway.Start(_services, "icrc");
        var now = DateTimeOffset.UtcNow.ToTimestamp();
        var statement = new RecordStatementRequest
        {
            Actor = Services.Actor,
            Case = _services.Case,
            Prisoner = _services.Prisoners[0],
            StatementTime = now,
            Language = "ko",
            LanguageUnderstood = true,
            Uncoerced = true,
            WithoutInterpreter = true,
        };
        var json = PlainJson.Write(statement);
        json["content"] = new JsonObject
        {
            ["accepted_destinations"] = new JsonArray("KR"),
            ["words"] = new JsonObject { ["language"] = "ko", ["text"] = "Invented words." },
        };
        var (status, recorded, _) = await gateway.Post("/v1/custody/RecordStatement", json);
        Assert.True(status == 200, recorded.ToJsonString());

        var icrc = _services.As("icrc");
        var get = new GetStatementRequest { Statement = (string?)recorded["statement"] };
        var seen = (await icrc.Custody.GetStatementAsync(get, cancellationToken: Cancel)).Statement;
        var said = (await icrc.OpenIn<StatementContent>(seen, seen.Content, Cancel)).Message;
        Assert.True(WishCommitments.Verify(seen.Commitments, seen.Case, seen.Prisoner, said.AcceptedDestinations, said.WishSecret.Span));
    }

    [Fact]
    public async Task No_caller_gets_the_secret_of_a_wish_and_none_but_an_approver_shows_a_wish()
    {
        const string Hq = "ua/coordination-hq";
        var (statement, position, opening) = await Say(["KR"]);
        var folder = Directory.CreateTempSubdirectory("tokens").FullName;
        var file = Path.Combine(folder, "tokens.json");
        var tokens = Roles.All.ToDictionary(r => r, r => TokenFile.Add(file, r, [r]));
        var both = TokenFile.Add(file, "chief", [Roles.Official, Roles.Approver]);
        await using var gateway = await RunningGateway.Start(_services, Hq, s => s with { Tokens = file });
        foreach (var role in (string[])[Roles.Clerk, Roles.Official, Roles.Approver, Roles.Auditor])
        {
            using var http = gateway.Client(tokens[role]);
            var shown = (await gateway.Get($"/v1/custody/GetStatement?statement={statement}", http)).Body["statement"]!["content"]!;
            var listed = (
                await gateway.Get($"/v1/custody/ListStatements?case={_services.Case}&prisoner={_services.Prisoners[1]}", http)
            ).Body["statements"]!
                .AsArray()
                .Single(s => (string?)s!["statement"] == statement)!["content"]!;
            foreach (var content in (JsonNode[])[shown, listed])
            {
                Assert.Equal("KR", (string?)content["accepted_destinations"]!.AsArray().Single());
                Assert.Null(content["wish_secret"]);
                Assert.Null(content["@sealed"]!["faults"]);
            }
        }
        using (var http = gateway.Client(tokens[Roles.Official]))
        {
            var read = (await gateway.Get($"/v1/custody/GetSealed?position={position}&field=content", http)).Body["sealed"]!;
            Assert.Equal("KR", (string?)read["accepted_destinations"]!.AsArray().Single());
            Assert.Null(read["wish_secret"]);
            using var channel = GrpcChannel.ForAddress(gateway.Settings.Listen, new GrpcChannelOptions { HttpClient = http });
            var get = new GetStatementRequest { Statement = statement };
            var relayed = await new CustodyService.CustodyServiceClient(channel).GetStatementAsync(get, cancellationToken: Cancel);
            var said = StatementContent.Parser.ParseFrom(relayed.Statement.Content.Content);
            Assert.Equal(["KR"], said.AcceptedDestinations);
            Assert.True(said.WishSecret.IsEmpty);
        }

        var released = new RecordStatusRequest
        {
            Actor = Services.Actor,
            Case = _services.Case,
            Prisoner = _services.Prisoners[1],
            Status = CustodyState.Released,
            Destination = "KR",
            Openings = { opening },
        };
        foreach (var query in (string[])["", "?prepare=true"])
        {
            using var official = gateway.Client(tokens[Roles.Official]);
            var path = $"/v1/custody/RecordStatus{query}";
            var (status, problem, _) = await gateway.Post(path, PlainJson.Write(released), http: official);
            Assert.Equal((403, "ROLE_MISSING"), (status, (string?)problem["reason"]));
            Assert.Equal("openings", (string?)problem["faults"]?[0]!["field"]);
            using var approver = gateway.Client(both);
            var (_, passed, _) = await gateway.Post(
                $"{path}{(query.Length > 0 ? "" : "?prepare=true")}",
                PlainJson.Write(released),
                http: approver
            );
            Assert.NotEqual("ROLE_MISSING", (string?)passed["reason"]);
        }
        using (var http = gateway.Client(tokens[Roles.Official]))
        {
            using var channel = GrpcChannel.ForAddress(gateway.Settings.Listen, new GrpcChannelOptions { HttpClient = http });
            var refused = await Assert.ThrowsAsync<RpcException>(async () =>
                await new CustodyService.CustodyServiceClient(channel).RecordStatusAsync(released, cancellationToken: Cancel)
            );
            Assert.Equal("ROLE_MISSING", refused.GetRpcStatus()?.GetDetail<Google.Rpc.ErrorInfo>()?.Reason);
        }
        Directory.Delete(folder, recursive: true);
    }

    // Without the secret no caller could see it.
    [Fact]
    public async Task A_statement_whose_commitments_are_to_another_wish_is_not_shown_and_the_answer_says_so()
    {
        var (statement, _, _) = await Say(["KR"]);
        _services.Later = answer =>
        {
            if (answer is not GetStatementResponse read)
                return answer;
            read = read.Clone();
            read.Statement.Commitments[0] = ByteString.CopyFrom(new byte[WishCommitments.Bytes]);
            return read;
        };
        try
        {
            await using var gateway = await RunningGateway.Start(_services, "icrc");
            var shown = (await gateway.Get($"/v1/custody/GetStatement?statement={statement}")).Body["statement"]!["content"]!;
            Assert.Equal("CommitmentDiffers", (string?)shown["@sealed"]!["fault"]);
            Assert.Null(shown["accepted_destinations"]);
        }
        finally
        {
            _services.Later = null;
        }
    }

    // The second prisoner's statement to the observer, and the opening that shows that he accepts the first destination.
    private async Task<(string Statement, ulong Position, ByteString Opening)> Say(string[] destinations)
    {
        using var icrc = _services.As("icrc");
        var get = new GetPrisonerRequest { Case = _services.Case, Prisoner = _services.Prisoners[1] };
        var request = new RecordStatementRequest
        {
            Actor = Services.Actor,
            Case = get.Case,
            Prisoner = get.Prisoner,
            Etag = (await icrc.Custody.GetPrisonerAsync(get, cancellationToken: Cancel)).Etag,
            StatementTime = DateTimeOffset.UtcNow.ToTimestamp(),
            Language = "ko",
            LanguageUnderstood = true,
            Uncoerced = true,
            WithoutInterpreter = true,
        };
        var said = new StatementContent { AcceptedDestinations = { destinations } };
        icrc.Seal(request, said, ["icrc", "ua/coordination-hq"]);
        var recorded = await icrc.Custody.RecordStatementAsync(request, cancellationToken: Cancel);
        var opening = WishCommitments.OpeningOf(request.Case, request.Prisoner, destinations[0], said.WishSecret.Span);
        return (recorded.Statement, recorded.Receipt.Position, opening);
    }
}
