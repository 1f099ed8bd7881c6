using System.Text;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Ministry.Tests;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary>The contracts as JSON and as gRPC, through a gateway to the real services.</summary>
public class JsonTests(Services services)
{
    private JsonObject Call() => PlainJson.Write(services.Call());

    private JsonObject Prisoner(string name) =>
        new()
        {
            ["actor"] = PlainJson.Write(Services.Actor),
            ["case"] = services.Case,
            ["status"] = "CUSTODY_STATE_REGISTERED",
            ["capture_time"] = "2025-01-09T00:00:00Z",
            ["identity"] = new JsonObject
            {
                ["name"] = new JsonObject { ["original"] = name, ["script"] = "Latn" },
                ["rank"] = "private",
            },
        };

    [Fact]
    [System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
    public async Task A_call_is_logged_in_JSON_with_a_receipt_that_is_kept()
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");

        var (status, logged, answer) = await gateway.Post("/v1/calllog/LogCall", Call());

        Assert.Equal(200, status);
        Assert.StartsWith("call_", (string?)logged["call"]);
        var position = (string?)logged["receipt"]!["position"];
        var kept = Path.Combine(gateway.State, "receipts", $"calllog-{position}.json");
        await Until(() => Task.FromResult(File.Exists(kept)));
        // The outbox, the mirror, the token and the receipt, whatever the umask.
        var files = Directory.GetFiles(gateway.State, "*", SearchOption.AllDirectories);
        Assert.True(files.Length > 3, string.Join(", ", files));
        Assert.All(files, f => Assert.Equal(PrivateFiles.Mode, File.GetUnixFileMode(f)));
        // What showed the entry to the gateway goes no further.
        foreach (var receipt in (JsonNode[])[logged["receipt"]!, JsonNode.Parse(await File.ReadAllTextAsync(kept, Cancel))!])
            Assert.Equal(
                ["service", "position", "commit_time", "entry_hash", "tree_size", "root_hash", "inclusion_proof", "checkpoint"],
                receipt.AsObject().Select(f => f.Key)
            );
        Assert.True(Guid.TryParse(answer.Headers.GetValues("Idempotency-Key").Single(), out _));
        var (found, read, from) = await gateway.Get($"/v1/calllog/GetCall?call={logged["call"]}");
        Assert.Equal((200, (string?)logged["call"]), (found, (string?)read["call"]!["id"]));
        Assert.Equal("service", from.Headers.GetValues("Ministries-Source").Single());
        // The other side sees it without any gateway.
        var ua = services.As("ua/mfa");
        Assert.NotNull(
            (await ua.CallLog.GetCallAsync(new GetCallRequest { Call = (string)logged["call"]! }, cancellationToken: Cancel)).Call
        );
    }

    [Fact]
    public async Task The_same_key_is_the_same_write_and_another_request_with_it_is_refused()
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        var key = Guid.NewGuid().ToString();

        var (_, first, _) = await gateway.Post("/v1/calllog/LogCall", Call(), key);
        var (_, again, _) = await gateway.Post("/v1/calllog/LogCall", Call(), key);
        var other = Call();
        other["counterpart"] = "ua/coordination-hq";
        var (status, problem, answer) = await gateway.Post("/v1/calllog/LogCall", other, key);

        Assert.Equal(first.ToJsonString(), again.ToJsonString());
        Assert.Equal((422, "IDEMPOTENCY_KEY_REUSED"), (status, (string?)problem["reason"]));
        Assert.Equal("application/problem+json", answer.Content.Headers.ContentType?.MediaType);
        Assert.NotEmpty((string)problem["remedy"]!);
    }

    [Fact]
    public async Task What_is_about_a_person_goes_in_plain_is_sealed_on_the_way_and_comes_out_plain()
    {
        const string name = "Marked Nameword";
        await using var gateway = await RunningGateway.Start(services, "ua/coordination-hq");

        // No etag is given: the gateway reads the case's.
        var (status, registered, _) = await gateway.Post("/v1/custody/RegisterPrisoner", Prisoner(name));

        Assert.True(status == 200, registered.ToJsonString());
        var (_, read, _) = await gateway.Get($"/v1/custody/GetPrisoner?case={services.Case}&prisoner={registered["prisoner"]}");
        var identity = read["prisoner"]!["identity"]!;
        Assert.Equal(name, (string?)identity["name"]!["original"]);
        Assert.Contains("ua/coordination-hq", identity["@sealed"]!["recipients"]!.AsArray().Select(r => (string?)r));
        var direct = await services
            .As("icrc")
            .Custody.GetPrisonerAsync(
                new GetPrisonerRequest { Case = services.Case, Prisoner = (string)registered["prisoner"]! },
                cancellationToken: Cancel
            );
        Assert.Equal(Seals.Scheme, direct.Prisoner.Identity.Scheme);
        Assert.Equal(name, services.As("icrc").Open<PersonIdentity>(direct.Prisoner.Identity).Message.Name.Original);
        // Whatever the gateway keeps is sealed.
        await Until(async () =>
        {
            var (_, now, _) = await gateway.Get("/status");
            return now["mirror"]!.AsArray().Single(m => (string?)m!["service"] == "custody")!["check_time"] is not null;
        });
        await gateway.Host.StopAsync(Cancel);
        foreach (var file in Directory.EnumerateFiles(gateway.State, "*", SearchOption.AllDirectories).Where(f => !f.EndsWith("lock")))
        {
            await using var open = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            using var bytes = new MemoryStream();
            await open.CopyToAsync(bytes, Cancel);
            Assert.True(bytes.ToArray().AsSpan().IndexOf(Encoding.UTF8.GetBytes(name)) < 0, file);
        }
    }

    [Fact]
    public async Task A_refusal_is_a_problem_with_its_article_and_remedy()
    {
        await using var gateway = await RunningGateway.Start(services, "icrc");
        var (status, problem, answer) = await gateway.Post("/v1/calllog/LogCall", Call());
        Assert.Equal((403, "NO_CAPACITY"), (status, (string?)problem["reason"]));
        Assert.Equal("application/problem+json", answer.Content.Headers.ContentType?.MediaType);
        Assert.All((string[])["article", "missing", "supplier", "remedy", "request_id"], m => Assert.NotEmpty((string)problem[m]!));
    }

    [Fact]
    public async Task A_service_of_which_one_replica_is_away_is_reached_at_another()
    {
        await using var gateway = await RunningGateway.Start(
            services,
            "kr/mfa",
            s =>
                s with
                {
                    Services = services.Addresses.ToDictionary(
                        a => a.Key,
                        a => (IReadOnlyList<Uri>)[new Uri($"https://127.0.0.1:{Ports.Free()}"), a.Value]
                    ),
                }
        );
        var (status, body, _) = await gateway.Post("/v1/calllog/LogCall", PlainJson.Write(services.Call()));
        Assert.True(status == 200, body.ToJsonString());
    }

    [Theory]
    [InlineData("""{"unknown": 1}""", "unknown")]
    [InlineData("""{"case": "x", "case": "y"}""", "")]
    [InlineData("""{"account": {"channel": "SHOUTING"}}""", "account.channel")]
    [InlineData("""{"account": {"startTime": {}, "start_time": {}}}""", "account.start_time")]
    [InlineData("""{"account": {"minutes": {"minutes": {"text": 5}}}}""", "account.minutes.minutes.text")]
    [InlineData("""[]""", "")]
    [InlineData("""{"case": {"deep": true}}""", "case")]
    public async Task What_is_not_the_JSON_of_the_request_is_refused_by_its_field(string body, string field)
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        using var answer = await gateway.Http.PostAsync("/v1/calllog/LogCall", RunningGateway.Json(body), Cancel);
        var problem = JsonNode.Parse(await answer.Content.ReadAsStringAsync(Cancel))!.AsObject();
        Assert.Equal((400, "BODY_INVALID"), ((int)answer.StatusCode, (string?)problem["reason"]));
        Assert.Equal(field, (string?)problem["faults"]?[0]!["field"] ?? "");
    }

    [Theory]
    [InlineData("""{"case": "\ud800"}""", false)]
    [InlineData("""{"\udc00": 1}""", false)]
    [InlineData("""{"account": {"channel": "\ud800"}}""", false)]
    [InlineData("""{"case": "José"}""", true)]
    [InlineData("""{"José": 1}""", true)]
    public async Task What_is_no_text_is_refused_and_never_replaced(string body, bool latin)
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        using var content = new ByteArrayContent((latin ? Encoding.Latin1 : Encoding.UTF8).GetBytes(body));
        content.Headers.ContentType = new("application/json");
        using var answer = await gateway.Http.PostAsync("/v1/calllog/LogCall?prepare=true", content, Cancel);
        var problem = JsonNode.Parse(await answer.Content.ReadAsStringAsync(Cancel))!;
        Assert.Equal((400, "BODY_INVALID"), ((int)answer.StatusCode, (string?)problem["reason"]));
    }

    [Theory]
    [InlineData("/v1/calllog/LogCall?prepared=true", "prepared")]
    [InlineData("/v1/calllog/LogCall?opens=pris_1=KR", "opens")]
    [InlineData("/v1/consular/DecideTransfer?opens=KR", "opens")]
    [InlineData("/v1/consular/DecideTransfer?opens=pris_1=KR&opens=pris_2=CH", "opens")]
    [InlineData("/v1/calllog/LogCall?Prepare=true", "Prepare")]
    [InlineData("/v1/calllog/LogCall?as_of=2025-04-03T14:00:00Z", "as_of")]
    [InlineData("/v1/calllog/ListCalls?asof=2025-04-03T14:00:00Z", "asof")]
    [InlineData("/v1/calllog/ListCalls?as_of=2025-04-03T14:00:00", "as_of")]
    public async Task A_parameter_that_it_does_not_know_is_refused_and_nothing_is_written(string path, string parameter)
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        var (status, problem, _) = await gateway.Post(path, path.Contains("LogCall") ? Call() : []);
        Assert.Equal((400, "PARAMETER_INVALID"), (status, (string?)problem["reason"]));
        Assert.Equal(parameter, (string?)problem["faults"]?[0]!["field"]);
    }

    [Fact]
    public async Task A_decision_shows_the_wish_that_its_caller_names_and_no_other()
    {
        var kr = services.As("kr/mfa");
        var drafted = await kr.Consular.DraftTransferRequestAsync(
            new DraftTransferRequestRequest
            {
                Actor = Services.Actor,
                Case = services.Case,
                Prisoner = services.Prisoners[0],
                Route = Types.V1.Route.Article12Transfer,
                Destination = "KR",
            },
            cancellationToken: Cancel
        );
        var draft = await kr.Consular.GetTransferAsync(new GetTransferRequest { Transfer = drafted.Transfer }, cancellationToken: Cancel);
        await kr.Consular.SubmitTransferRequestAsync(
            new SubmitTransferRequestRequest
            {
                Actor = Services.Actor,
                Etag = draft.Etag,
                Case = services.Case,
                Transfer = drafted.Transfer,
                NoteVerbale = "KR-1",
            },
            cancellationToken: Cancel
        );
        await using var gateway = await RunningGateway.Start(services, "ua/coordination-hq");
        var decision = PlainJson.Write(
            new DecideTransferRequest
            {
                Actor = Services.Actor,
                Case = services.Case,
                Transfer = drafted.Transfer,
                Agreed = true,
                NoteVerbale = "UA-1",
            }
        );

        var (status, prepared, _) = await Prepare($"{services.Prisoners[0]}=KR");
        Assert.Equal((200, drafted.Transfer), (status, (string?)prepared["transfer"]));
        // Nobody has recorded what he says, so there is nothing to show.
        Assert.Null(prepared["openings"]);
        foreach (var other in (string[])[$"{services.Prisoners[0]}=UA", $"{services.Prisoners[1]}=KR"])
        {
            var (code, problem, _) = await Prepare(other);
            Assert.Equal((400, "opens"), (code, (string?)problem["faults"]?[0]!["field"]));
        }

        Task<(int Status, JsonObject Body, HttpResponseMessage Answer)> Prepare(string wish) =>
            gateway.Post($"/v1/consular/DecideTransfer?prepare=true&opens={wish}", decision);
    }

    [Theory]
    [InlineData("/events?types=ministries.calllog.v1.CallLogged")]
    [InlineData("/events?From=now")]
    public async Task A_stream_of_events_takes_no_parameter_that_it_does_not_know(string path)
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        using var answer = await gateway.Http.GetAsync(path, HttpCompletionOption.ResponseHeadersRead, Cancel);
        Assert.Equal(400, (int)answer.StatusCode);
    }

    [Theory]
    [InlineData("Ga Na-da")]
    [InlineData("가나다")]
    [InlineData("a\r\nb")]
    [InlineData("5D2A6F0E-0000-4000-8000-000000000001")]
    [InlineData("5d2a6f0e-0000-4000-8000-000000000001\n")]
    public async Task A_request_id_that_is_none_never_comes_to_the_outbox_nor_to_the_log(string id)
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        var call = Call();
        call["request_id"] = id;
        foreach (var path in (string[])["/v1/calllog/LogCall", "/v1/calllog/LogCall?prepare=true"])
        {
            var (status, problem, _) = await gateway.Post(path, call);
            Assert.Equal((400, "request_id"), (status, (string?)problem["faults"]?[0]!["field"]));
        }
        Assert.Equal(404, (await gateway.Get($"/outbox/{Uri.EscapeDataString(id)}")).Status);
    }

    [Fact]
    public async Task A_request_is_prepared_approved_and_sent_unchanged()
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        var (_, prepared, _) = await gateway.Post("/v1/calllog/LogCall?prepare=true", Call());
        var request = (LogCallRequest)PlainJson.Read(prepared, LogCallRequest.Descriptor);
        var kr = services.As("kr/mfa");
        foreach (var number in (int[])[2, 3])
            kr.Approve(request, Path.Combine(services.Folder, "kr/mfa/officials", $"kr-mfa-official-{number}.key"), "legal-department");

        var (status, logged, _) = await gateway.Post("/v1/calllog/LogCall", PlainJson.Write(request));

        Assert.True(status == 200, logged.ToJsonString());
        request.RequestId = "";
        var (refused, problem, _) = await gateway.Post("/v1/calllog/LogCall", PlainJson.Write(request));
        Assert.Equal((422, "APPROVED_REQUEST_INCOMPLETE"), (refused, (string?)problem["reason"]));
    }

    [Fact]
    public async Task The_same_contracts_are_served_over_gRPC_and_plain_content_is_sealed()
    {
        await using var gateway = await RunningGateway.Start(services, "ua/coordination-hq");
        using var channel = GrpcChannel.ForAddress(gateway.Settings.Listen, new GrpcChannelOptions { HttpClient = gateway.Http });
        var custody = new CustodyService.CustodyServiceClient(channel);
        var plain = new PersonIdentity
        {
            Name = new PersonName { Original = "Nobody Known", Script = "Latn" },
            Rank = "private",
        };

        var registered = await custody.RegisterPrisonerAsync(
            new RegisterPrisonerRequest
            {
                Actor = Services.Actor,
                Case = services.Case,
                Status = CustodyState.Registered,
                CaptureTime = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTime(new DateTime(2025, 1, 9, 0, 0, 0, DateTimeKind.Utc)),
                Identity = new Sealed { Scheme = "plain", Content = plain.ToByteString() },
            },
            cancellationToken: Cancel
        );

        var read = await custody.GetPrisonerAsync(
            new GetPrisonerRequest { Case = services.Case, Prisoner = registered.Prisoner },
            cancellationToken: Cancel
        );
        Assert.Equal("plain/ministries.type.v1.PersonIdentity", read.Prisoner.Identity.Scheme);
        Assert.Equal(plain, PersonIdentity.Parser.ParseFrom(read.Prisoner.Identity.Content));
        var checkpoint = await new Ledger.V1.LedgerService.LedgerServiceClient(channel).GetCheckpointAsync(
            new Ledger.V1.GetCheckpointRequest(),
            new Metadata { { "ministries-service", "custody" } },
            cancellationToken: Cancel
        );
        Assert.True(checkpoint.TreeSize > 0);
        var refused = await Assert.ThrowsAsync<RpcException>(async () =>
            await custody.GetCaseAsync(new GetCaseRequest { Case = "case_00000000000000000000000000" }, cancellationToken: Cancel)
        );
        Assert.Equal("NOT_FOUND", RefusedException.From(refused)?.Reason);
    }

    [Theory]
    [InlineData("ListCalls")]
    [InlineData("LogCall")]
    public async Task What_is_no_message_over_gRPC_is_the_callers_fault(string method)
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        using var channel = GrpcChannel.ForAddress(gateway.Settings.Listen, new GrpcChannelOptions { HttpClient = gateway.Http });
        var bytes = Marshallers.Create<byte[]>(b => b, b => b);
        var typed = new Method<byte[], byte[]>(MethodType.Unary, "ministries.calllog.v1.CallLogService", method, bytes, bytes);
        using var call = channel.CreateCallInvoker().AsyncUnaryCall(typed, null, new CallOptions(cancellationToken: Cancel), [0x12, 0xff]);
        Assert.Equal(StatusCode.InvalidArgument, (await Assert.ThrowsAsync<RpcException>(async () => await call)).StatusCode);
    }

    [Fact]
    public async Task The_document_has_every_RPC_and_the_page_reaches_no_other_address()
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        using var stranger = gateway.Client(null);

        var (status, document, _) = await gateway.Get("/openapi.json", stranger);

        Assert.Equal((200, "3.1.0"), (status, (string?)document["openapi"]));
        foreach (var (service, method) in JsonEndpoints.Rpcs())
            Assert.NotNull(document["paths"]![$"/v1/{service}/{method.Name}"]?["post"]);
        var schemas = document["components"]!["schemas"]!.AsObject();
        foreach (var reference in References(document))
            Assert.True(schemas.ContainsKey(reference[(reference.LastIndexOf('/') + 1)..]), reference);
        using var page = await stranger.GetAsync("/scalar", Cancel);
        var html = await page.Content.ReadAsStringAsync(Cancel);
        Assert.True(page.IsSuccessStatusCode);
        Assert.Contains("default-src 'self'", page.Headers.GetValues("Content-Security-Policy").Single());
        Assert.DoesNotContain("https://", html);
        var script = System.Text.RegularExpressions.Regex.Match(html, "src=\"([^\"]+\\.js)\"").Groups[1].Value;
        using var served = await stranger.GetAsync(new Uri(page.RequestMessage!.RequestUri!, script), Cancel);
        Assert.True(served.IsSuccessStatusCode, script);
    }

    [Fact]
    public void The_document_says_of_every_RPC_and_field_what_the_contract_says_and_shows_no_field_that_never_comes()
    {
        var document = OpenApi.Make();
        foreach (var (path, item) in document["paths"]!.AsObject().Where(p => p.Key.StartsWith("/v1/", StringComparison.Ordinal)))
        foreach (var (_, operation) in item!.AsObject())
            Assert.True(((string)operation!["description"]!).Length > ((string)operation["summary"]!).Length, path);
        foreach (var (name, schema) in document["components"]!["schemas"]!.AsObject())
        {
            if (!name.StartsWith("ministries.", StringComparison.Ordinal))
                continue;
            Assert.NotEmpty((string)schema!["description"]!);
            foreach (var (field, property) in schema["properties"]!.AsObject())
                Assert.False(string.IsNullOrEmpty((string?)property!["description"]), $"{name}.{field}");
        }
        var receipt = document["components"]!["schemas"]!["ministries.ledger.v1.Receipt"]!["properties"]!.AsObject();
        Assert.Equal("checkpoint", receipt.Select(p => p.Key).Last());
    }

    private static IEnumerable<string> References(JsonNode? node) =>
        node switch
        {
            JsonObject o when o["$ref"] is { } reference => [(string)reference!],
            JsonObject o => o.SelectMany(p => References(p.Value)),
            JsonArray a => a.SelectMany(References),
            _ => [],
        };

    [Fact]
    public async Task The_callers_trace_goes_on_to_the_drafted_transfer_request()
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        var trace = System.Diagnostics.ActivityTraceId.CreateRandom().ToString();
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/calllog/LogCall")
        {
            Content = RunningGateway.Json(Call().ToJsonString()),
        };
        request.Headers.Add("traceparent", $"00-{trace}-00f067aa0ba902b7-01");

        using var answer = await gateway.Http.SendAsync(request, Cancel);

        Assert.True(answer.IsSuccessStatusCode);
        var kr = services.As("kr/mfa");
        Assert.Contains(trace, await TracesIn(kr, "calllog"));
        await Until(async () => (await TracesIn(kr, "consular")).Contains(trace));
    }

    private static async Task<HashSet<string>> TracesIn(MinistryClient client, string service)
    {
        var traces = new HashSet<string>();
        await foreach (var response in client.Follow(service, untilNow: true, cancel: Cancel))
            if (response.Entry?.Traceparent.Split('-') is [_, var trace, ..])
                traces.Add(trace);
        return traces;
    }
}
