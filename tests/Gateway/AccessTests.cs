using System.Collections.Concurrent;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Reflection;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Ministries.Ministry.Tests;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary>Who may use a gateway: everybody else is refused.</summary>
public class AccessTests(Services services)
{
    private const string Again = "MATRIX=write dotnet run --project tests/Gateway -- -method '*matrix*'";

    private JsonObject Call() => PlainJson.Write(services.Call());

    [Fact]
    public void Its_own_certificate_is_made_anew_before_it_ends_also_while_it_runs()
    {
        var state = Directory.CreateTempSubdirectory("certificate").FullName;
        // It has been up for so long that less than a month is left.
        var clock = new MovedClock { By = TimeSpan.FromDays(-340) };
        var certificate = new ServerCertificate(RunningGateway.SettingsFor(services, "kr/mfa", state), clock, Assert.Fail);
        Assert.InRange(certificate.Until, DateTimeOffset.UtcNow.AddDays(24), DateTimeOffset.UtcNow.AddDays(26));
        clock.By = TimeSpan.Zero;

        var shown = certificate.Current.TargetCertificate;

        Assert.InRange(certificate.Until, DateTimeOffset.UtcNow.AddDays(364), DateTimeOffset.UtcNow.AddDays(366));
        // A caller that reads the file again trusts what is shown from now on.
        using var file = X509CertificateLoader.LoadCertificateFromFile(Path.Combine(state, GatewayHost.OwnCertificate));
        Assert.Equal(file.RawData, shown.RawData);
        Directory.Delete(state, recursive: true);
    }

    [Fact]
    public void Its_own_certificate_that_is_not_valid_yet_is_made_anew()
    {
        var state = Directory.CreateTempSubdirectory("certificate").FullName;
        // A clock that was ahead by years, and was corrected.
        var clock = new MovedClock { By = TimeSpan.FromDays(3000) };
        var certificate = new ServerCertificate(RunningGateway.SettingsFor(services, "kr/mfa", state), clock, Assert.Fail);
        clock.By = TimeSpan.Zero;
        var shown = certificate.Current.TargetCertificate;
        Assert.True(shown.NotBefore.ToUniversalTime() <= DateTime.UtcNow, $"{shown.NotBefore}");
        Assert.InRange(certificate.Until, DateTimeOffset.UtcNow.AddDays(364), DateTimeOffset.UtcNow.AddDays(366));
        Directory.Delete(state, recursive: true);
    }

    [Fact]
    public async Task Until_when_its_certificate_is_valid_is_seen()
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        var until = DateTimeOffset.Parse((string)(await gateway.Get("/status")).Body["certificate_until"]!);
        Assert.InRange(until, DateTimeOffset.UtcNow.AddDays(364), DateTimeOffset.UtcNow.AddDays(366));
    }

    [Fact]
    public async Task Tokens_that_are_made_at_once_are_all_kept()
    {
        var folder = Directory.CreateTempSubdirectory("tokens").FullName;
        var file = Path.Combine(folder, "tokens.json");
        var tokens = await Task.WhenAll(
            Enumerable.Range(0, 20).Select(i => Task.Run(() => TokenFile.Add(file, $"system-{i}", [Roles.Clerk]), Cancel))
        );
        var read = new TokenFile(file);
        Assert.Equal(tokens.Select((_, i) => $"system-{i}"), tokens.Select(t => read.Find(t)?.Name));
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void The_matrix_is_as_it_was_decided()
    {
        var path = Path.Combine(Root(), "tests", "Gateway", "matrix.txt");
        var now = Render();
        if (Environment.GetEnvironmentVariable("MATRIX") == "write")
            File.WriteAllText(path, now);
        var before = File.Exists(path) ? File.ReadAllText(path) : "";
        var (was, @is) = (before.Split('\n'), now.Split('\n'));
        Assert.True(
            now == before,
            $"What the gateway grants is not what tests/Gateway/matrix.txt says. If it is meant: {Again}\n"
                + $"{string.Join('\n', was.Except(@is).Select(l => $"- {l}").Concat(@is.Except(was).Select(l => $"+ {l}")))}"
        );
    }

    [Fact]
    public void Every_RPC_that_the_agreement_grants_to_a_participant_is_somebodys_and_no_other()
    {
        // A service asks these of another service.
        string[] ofServices = ["CheckStanding", "CheckReadiness", "ListEvents"];
        Assert.Equal(ofServices.Order(), Roles.Names.Where(n => Roles.Of(n).Count == 0).Select(n => n.Split('/')[1]).Order());
    }

    [Fact]
    public async Task Nothing_but_health_and_the_document_answers_a_stranger()
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        using var stranger = gateway.Client(null);
        using var guesser = gateway.Client(TokenFile.Prefix + new string('A', 43));
        var open = new List<string>();
        foreach (var endpoint in gateway.Host.Services.GetRequiredService<EndpointDataSource>().Endpoints.OfType<RouteEndpoint>())
        {
            var methods = endpoint.Metadata.GetMetadata<HttpMethodMetadata>()?.HttpMethods ?? ["GET"];
            if (endpoint.Metadata.GetMetadata<IAllowAnonymous>() is not null)
            {
                open.Add(endpoint.RoutePattern.RawText!);
                continue;
            }
            var path = "/" + endpoint.RoutePattern.RawText!.TrimStart('/').Replace("{", "").Replace("}", "");
            foreach (var client in (HttpClient[])[stranger, guesser])
            {
                using var request = new HttpRequestMessage(new HttpMethod(methods[0]), path);
                if (methods[0] == "POST")
                    request.Content = RunningGateway.Json("{}");
                using var answer = await client.SendAsync(request, Cancel);
                Assert.True(
                    answer.StatusCode is HttpStatusCode.Unauthorized or HttpStatusCode.UnsupportedMediaType,
                    $"{path}: {answer.StatusCode}"
                );
            }
        }
        Assert.All(open, path => Assert.Matches("^/?(health/|openapi.json|scalar)", path));
        Assert.Contains("/health/ready", open);
        using var ready = await stranger.GetAsync("/health/ready", Cancel);
        Assert.Equal((HttpStatusCode.OK, ""), (ready.StatusCode, await ready.Content.ReadAsStringAsync(Cancel)));
    }

    [Fact]
    public async Task A_stranger_writes_nothing_into_its_log()
    {
        var written = new ConcurrentQueue<string>();
        var settings = RunningGateway.SettingsFor(services, "kr/mfa", Directory.CreateTempSubdirectory("log").FullName);
        await using (
            var host = GatewayHost.Build(
                settings,
                logging: logging => logging.ClearProviders().AddProvider(new Heard(written, LogLevel.Trace))
            )
        )
        {
            await host.StartAsync(Cancel);
            using var handler = new SocketsHttpHandler
            {
                SslOptions = RunningGateway.Trusting(Path.Combine(settings.State, "gateway.pem")),
            };
            using var http = new HttpClient(handler) { BaseAddress = settings.Listen };
            foreach (var token in (string[])["", "x", TokenFile.Prefix + new string('A', 43)])
            {
                using var request = new HttpRequestMessage(HttpMethod.Get, "/status");
                if (token.Length > 0)
                    request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
                using var answer = await http.SendAsync(request, Cancel);
                Assert.Equal(HttpStatusCode.Unauthorized, answer.StatusCode);
            }
            await host.StopAsync(Cancel);
        }
        Assert.DoesNotContain(written, l => l.Contains("token", StringComparison.Ordinal));
        Directory.Delete(settings.State, recursive: true);
    }

    [Fact]
    public async Task Strangers_who_hold_every_place_do_not_make_it_look_dead()
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        using var handler = new SocketsHttpHandler { SslOptions = RunningGateway.Trusting(Path.Combine(gateway.State, "gateway.pem")) };
        // They read nothing of a long answer, which then stays in progress.
        handler.ConnectCallback = async (context, cancel) =>
        {
            var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { ReceiveBufferSize = 4096 };
            await socket.ConnectAsync(context.DnsEndPoint, cancel);
            return new NetworkStream(socket, ownsSocket: true);
        };
        using var slow = new HttpClient(handler) { BaseAddress = gateway.Settings.Listen };
        var held = new List<HttpResponseMessage>();
        for (var i = 0; i < GatewayHost.CallsOfStrangers; i++)
            held.Add(await slow.GetAsync("/scalar/scalar.js", HttpCompletionOption.ResponseHeadersRead, Cancel));
        using var stranger = gateway.Client(null);

        using var document = await stranger.GetAsync("/openapi.json", Cancel);
        Assert.Equal(HttpStatusCode.ServiceUnavailable, document.StatusCode);
        foreach (var path in (string[])["/health/live", "/health/ready"])
        {
            using var health = await stranger.GetAsync(path, Cancel);
            Assert.Equal(HttpStatusCode.OK, health.StatusCode);
        }
        held.ForEach(answer => answer.Dispose());
    }

    [Theory]
    [InlineData("clerk", 403)]
    [InlineData("auditor", 403)]
    [InlineData("administrator", 403)]
    [InlineData("approver", 403)]
    [InlineData("official", 200)]
    public async Task A_token_gives_the_roles_that_its_file_says_and_no_other(string role, int expected)
    {
        var file = Path.Combine(Directory.CreateTempSubdirectory("tokens").FullName, "tokens.json");
        var token = TokenFile.Add(file, "case-system", [role]);
        await using var gateway = await RunningGateway.Start(services, "kr/mfa", s => s with { Tokens = file });
        using var http = gateway.Client(token);

        var (status, body, _) = await gateway.Post("/v1/calllog/LogCall", Call(), http: http);

        Assert.True(status == expected, body.ToJsonString());
        Assert.DoesNotContain(token, await File.ReadAllTextAsync(file, Cancel));
        // Once it is taken from the list it counts no more.
        await File.WriteAllTextAsync(file, "[]", Cancel);
        File.SetLastWriteTimeUtc(file, DateTime.UtcNow.AddSeconds(5));
        var (after, problem, _) = await gateway.Get("/status", http);
        Assert.Equal((401, "CALLER_UNKNOWN"), (after, (string?)problem["reason"]));
    }

    [Fact]
    public async Task A_token_that_is_withdrawn_behind_a_link_counts_no_more()
    {
        var folder = Directory.CreateTempSubdirectory("tokens").FullName;
        var (file, link) = (Path.Combine(folder, "tokens.json"), Path.Combine(folder, "link.json"));
        var token = TokenFile.Add(file, "case-system", [Roles.Administrator]);
        File.CreateSymbolicLink(link, file);
        var tokens = new TokenFile(link);
        Assert.NotNull(tokens.Find(token));
        await File.WriteAllTextAsync(file, "[]", Cancel);
        File.SetLastWriteTimeUtc(file, DateTime.UtcNow.AddSeconds(5));
        Assert.Null(tokens.Find(token));
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task Who_opens_a_wish_must_be_an_approver_whatever_the_request()
    {
        var file = Path.Combine(Directory.CreateTempSubdirectory("tokens").FullName, "tokens.json");
        var (official, approver) = (
            TokenFile.Add(file, "desk", [Roles.Official]),
            TokenFile.Add(file, "chief", [Roles.Official, Roles.Approver])
        );
        await using var gateway = await RunningGateway.Start(services, "ua/coordination-hq", s => s with { Tokens = file });
        async Task<string?> ReasonOf(string token)
        {
            using var http = gateway.Client(token);
            var body = new JsonObject
            {
                ["case"] = services.Case,
                ["prisoner"] = services.Prisoners[0],
                ["status"] = "CUSTODY_STATE_RELEASED",
            };
            return (string?)
                (await gateway.Post($"/v1/custody/RecordStatus?opens={services.Prisoners[0]}=KR", body, http: http)).Body["reason"];
        }
        Assert.Equal("ROLE_MISSING", await ReasonOf(official));
        Assert.NotEqual("ROLE_MISSING", await ReasonOf(approver));
    }

    [Fact]
    public void A_file_of_tokens_that_others_may_read_is_refused()
    {
        var file = Path.Combine(Directory.CreateTempSubdirectory("tokens").FullName, "tokens.json");
        TokenFile.Add(file, "case-system", [Roles.Clerk]);
        if (OperatingSystem.IsWindows())
            return;
        File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead);
        Assert.Contains("chmod 600", Assert.Throws<FormatException>(() => new TokenFile(file)).Message);
    }

    [Fact]
    public async Task A_system_calls_with_its_certificate_if_the_settings_name_it()
    {
        var folder = Directory.CreateTempSubdirectory("systems").FullName;
        using var authority = Authority("systems");
        await File.WriteAllTextAsync(Path.Combine(folder, "roots.pem"), authority.ExportCertificatePem(), Cancel);
        using var other = Authority("systems");
        await using var gateway = await RunningGateway.Start(
            services,
            "kr/mfa",
            s =>
                s with
                {
                    Systems = new SystemSettings
                    {
                        Authorities = Path.Combine(folder, "roots.pem"),
                        Names = new Dictionary<string, IReadOnlyList<string>> { ["registry.mfa.example"] = [Roles.Official] },
                    },
                }
        );
        async Task<int> StatusOf(X509Certificate2? own)
        {
            using var http = gateway.Client(null, own);
            return (await gateway.Post("/v1/calllog/LogCall", Call(), http: http)).Status;
        }

        using var good = Issue(authority, "registry.mfa.example");
        using var unnamed = Issue(authority, "other.mfa.example");
        using var foreign = Issue(other, "registry.mfa.example");
        Assert.Equal(200, await StatusOf(good));
        Assert.Equal((401, 401, 401), (await StatusOf(unnamed), await StatusOf(foreign), await StatusOf(null)));
    }

    [Fact]
    public async Task An_official_is_known_by_his_providers_token_and_acts_in_his_own_name_alone()
    {
        await using var provider = await TestProvider.Start();
        await using var gateway = await RunningGateway.Start(
            services,
            "kr/mfa",
            s =>
                s with
                {
                    Officials = new OfficialSettings
                    {
                        Authority = provider.Address,
                        Audience = "ministries-gateway",
                        Authorities = provider.Root,
                        Roles = new Dictionary<string, string> { ["desk"] = Roles.Official },
                    },
                }
        );
        using var http = gateway.Client(provider.Token(official: "o-17", roles: ["desk", "clerk"]));
        var call = Call();
        call["actor"] = new JsonObject { ["authority"] = "order-12" };

        var (status, logged, _) = await gateway.Post("/v1/calllog/LogCall", call, http: http);

        Assert.True(status == 200, logged.ToJsonString());
        var kr = services.As("kr/mfa");
        var entry = await kr.LedgerOf("calllog")
            .GetEntryAsync(
                new GetEntryRequest { Position = ulong.Parse((string?)logged["receipt"]!["position"] ?? "0") },
                cancellationToken: Cancel
            );
        var sent = LogCallRequest.Parser.ParseFrom(entry.Entry.Parts.Single(p => p.Kind == PartKind.Request).Data);
        Assert.Equal(("o-17", "consular-department"), (sent.Actor.Official, sent.Actor.Office));
        call["actor"]!["official"] = "o-1";
        var (denied, problem, _) = await gateway.Post("/v1/calllog/LogCall", call, http: http);
        Assert.Equal((403, "ACTOR_NOT_CALLER"), (denied, (string?)problem["reason"]));
        // A role that the settings do not translate is none.
        Assert.Equal(403, await StatusOf(gateway, provider.Token(official: "o-17", roles: ["official"])));
        Assert.Equal(401, await StatusOf(gateway, provider.Token(official: null, roles: ["desk"])));
        Assert.Equal(401, await StatusOf(gateway, provider.Token(official: "o-17", roles: ["desk"], audience: "another")));
        Assert.Equal(401, await StatusOf(gateway, provider.Token(official: "o-17", roles: ["desk"], minutes: -5)));
        Assert.Equal(401, await StatusOf(gateway, provider.Token(official: "o-17", roles: ["desk"], key: RSA.Create(2048))));
        foreach (var type in (string?[])[null, "JWT", "application/at+jwt"])
            Assert.Equal(200, await StatusOf(gateway, provider.Token(official: "o-17", roles: ["desk"], type: type)));
        // What the provider signed for other uses says nothing of who calls.
        foreach (var type in (string[])["logout+jwt", "dpop+jwt", "secevent+jwt"])
            Assert.Equal(401, await StatusOf(gateway, provider.Token(official: "o-17", roles: ["desk"], type: type)));
        Assert.Equal(401, await StatusOf(gateway, Unsigned(provider.Token(official: "o-17", roles: ["desk"]))));
    }

    [Fact]
    public async Task A_provider_that_does_not_answer_holds_up_a_limited_number_of_callers_and_none_who_needs_no_provider()
    {
        using var silent = new TcpListener(IPAddress.Loopback, 0);
        silent.Start();
        await using var provider = await TestProvider.Start();
        var file = Path.Combine(Directory.CreateTempSubdirectory("tokens").FullName, "tokens.json");
        var token = TokenFile.Add(file, "case-system", [Roles.Administrator]);
        await using var gateway = await RunningGateway.Start(
            services,
            "kr/mfa",
            s =>
                s with
                {
                    Tokens = file,
                    Officials = new OfficialSettings
                    {
                        Authority = new Uri($"https://localhost:{((IPEndPoint)silent.LocalEndpoint).Port}/"),
                        Audience = "ministries-gateway",
                        Authorities = provider.Root,
                    },
                }
        );
        using var officials = gateway.Client(provider.Token(official: "o-17", roles: [Roles.Clerk]));
        using var enough = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        var calls = Enumerable.Range(0, Callers.MostJudged + 8).Select(_ => officials.GetAsync("/status", enough.Token)).ToList();
        for (var refused = 0; refused < 8; refused++)
        {
            var answered = await Task.WhenAny(calls);
            calls.Remove(answered);
            using var answer = await answered;
            Assert.Equal(HttpStatusCode.ServiceUnavailable, answer.StatusCode);
        }
        using var system = gateway.Client(token);
        Assert.Equal(200, (await gateway.Get("/status", system)).Status);
        await enough.CancelAsync();
        foreach (var call in calls)
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
    }

    private async Task<int> StatusOf(RunningGateway gateway, string token)
    {
        using var http = gateway.Client(token);
        return (await gateway.Post("/v1/calllog/LogCall", Call(), http: http)).Status;
    }

    private static string Unsigned(string token)
    {
        var head = Convert.ToBase64String(Encoding.UTF8.GetBytes("""{"alg":"none","typ":"JWT"}""")).TrimEnd('=');
        return $"{head}.{token.Split('.')[1]}.";
    }

    [Theory]
    [InlineData("Host", "attacker.example", 400)]
    [InlineData("Origin", "https://attacker.example", 403)]
    [InlineData("Sec-Fetch-Site", "cross-site", 403)]
    public async Task A_page_of_another_site_does_not_reach_it(string header, string value, int expected)
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        // It takes any certificate: the name in the header is not the one that the certificate has.
        using var handler = new SocketsHttpHandler { SslOptions = new() { RemoteCertificateValidationCallback = (_, _, _, _) => true } };
        using var http = new HttpClient(handler) { BaseAddress = gateway.Settings.Listen };
        http.DefaultRequestHeaders.Authorization = gateway.Http.DefaultRequestHeaders.Authorization;
        using var request = new HttpRequestMessage(HttpMethod.Get, "/status");
        request.Headers.TryAddWithoutValidation(header, value);
        using var answer = await http.SendAsync(request, Cancel);
        Assert.Equal(expected, (int)answer.StatusCode);
    }

    [Theory]
    [InlineData("text/plain")]
    [InlineData("application/x-www-form-urlencoded")]
    public async Task What_a_form_can_send_is_not_read(string type)
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        using var content = new StringContent(Call().ToJsonString(), new MediaTypeHeaderValue(type));
        using var answer = await gateway.Http.PostAsync("/v1/calllog/LogCall", content, Cancel);
        Assert.Equal(HttpStatusCode.UnsupportedMediaType, answer.StatusCode);
        Assert.DoesNotContain(answer.Headers, h => h.Key.StartsWith("Access-Control", StringComparison.OrdinalIgnoreCase));
        Assert.DoesNotContain(answer.Headers, h => h.Key.Equals("Set-Cookie", StringComparison.OrdinalIgnoreCase));
    }

    [Fact]
    public void What_other_machines_reach_must_have_a_certificate_and_say_who_may_call()
    {
        var state = Directory.CreateTempSubdirectory("gateway").FullName;
        var settings = RunningGateway.SettingsFor(services, "kr/mfa", state) with { Listen = new Uri("https://0.0.0.0:7120") };
        Assert.Contains("tokens", Assert.Throws<FormatException>(() => GatewayHost.Build(settings)).Message);
        Assert.Throws<FormatException>(() => GatewayHost.Build(settings with { Tokens = "tokens.json" }));
        Assert.Throws<FormatException>(() => GatewayHost.Build(settings with { Listen = new Uri("http://127.0.0.1:7120") }));
        Assert.Throws<FormatException>(() => GatewayHost.Build(settings with { Otlp = new Uri("ftp://127.0.0.1:4317") }));
    }

    [Fact]
    public void What_no_caller_and_no_service_could_use_is_told_at_the_start()
    {
        var state = Directory.CreateTempSubdirectory("gateway").FullName;
        var settings = RunningGateway.SettingsFor(services, "kr/mfa", state);
        var officials = new OfficialSettings { Authority = new Uri("https://login.example/"), Audience = "gateway" };
        // No token of a provider that is asked without TLS could ever be judged.
        Assert.Contains("login.example", Told(settings with { Officials = officials with { Authority = new("http://login.example/") } }));
        Dictionary<string, string> clerks = new() { ["desk"] = "clark" };
        Assert.Contains("desk is clark", Told(settings with { Officials = officials with { Roles = clerks } }));
        var systems = new SystemSettings
        {
            Authorities = "none",
            Names = new Dictionary<string, IReadOnlyList<string>> { ["registry"] = ["offical"] },
        };
        Assert.Contains("registry has the role offical", Told(settings with { Systems = systems }));
        Dictionary<string, IReadOnlyList<Uri>> addresses = new(settings.Services) { ["custdy"] = [new("https://127.0.0.1:7102")] };
        Assert.Contains("custdy", Told(settings with { Services = addresses }));
        var hook = new WebhookSettings
        {
            Name = "cases",
            Url = new Uri("https://hook.example/"),
            Secret = "none",
            Types = ["CallLogged"],
        };
        Assert.Contains("CallLogged", Told(settings with { Webhooks = [hook] }));

        static string Told(GatewaySettings wrong) => Assert.Throws<FormatException>(() => GatewayHost.Build(wrong)).Message;
    }

    [Fact]
    public void A_name_is_listened_at_where_it_has_addresses_and_not_everywhere()
    {
        Assert.Equal([new IPEndPoint(IPAddress.Parse("192.0.2.7"), 7120)], GatewayHost.AddressesOf(new Uri("https://192.0.2.7:7120")));
        Assert.Equal([new IPEndPoint(IPAddress.Loopback, 7120)], GatewayHost.AddressesOf(new Uri("https://localhost:7120")));
        var own = GatewayHost.AddressesOf(new Uri($"https://{Dns.GetHostName()}:7120"));
        Assert.Equal(Dns.GetHostAddresses(Dns.GetHostName()).Select(a => new IPEndPoint(a, 7120)), own);
        Assert.DoesNotContain(own, e => e.Address.Equals(IPAddress.Any));
        Assert.Throws<FormatException>(() => GatewayHost.AddressesOf(new Uri("https://nowhere.invalid:7120")));
    }

    [Fact]
    public void Nobody_on_another_machine_reaches_it_where_nothing_is_said_of_it()
    {
        var settings = new GatewaySettings
        {
            Participant = "kr/mfa",
            Folder = services.Folder,
            State = services.Folder,
        };
        Assert.Equal([new IPEndPoint(IPAddress.Loopback, 7120)], GatewayHost.AddressesOf(settings.Listen));
        // A file that says nothing of it.
        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        File.WriteAllText(file, """{ "participant": "kr/mfa", "folder": "certificates", "state": "state" }""");
        Assert.Equal([new IPEndPoint(IPAddress.Loopback, 7120)], GatewayHost.AddressesOf(GatewaySettings.Read(file).Listen));
    }

    [Fact]
    public async Task Every_problem_says_what_is_missing_who_supplies_it_and_what_mends_it()
    {
        var reasons = typeof(GatewayReason)
            .GetFields(BindingFlags.Public | BindingFlags.Static)
            .Select(f => (GatewayReason)f.GetValue(null)!)
            .ToArray();
        Assert.All(reasons, r => Assert.All((string[])[r.Name, r.Missing, r.Supplier, r.Remedy], Assert.NotEmpty));
        Assert.Equal(reasons.Length, reasons.DistinctBy(r => r.Name).Count());
        for (var status = 400; status < 600; status++)
        {
            // As the framework gives it, and as a request that cannot be read does.
            var answered = new DefaultHttpContext { Response = { StatusCode = status, Body = new MemoryStream() } };
            await Problems.Answer(answered);
            answered.Response.Body.Position = 0;
            foreach (
                var problem in (JsonNode?[])
                    [JsonNode.Parse(answered.Response.Body), Problems.Of(new BadHttpRequestException("it is too long", status))]
            )
            {
                Assert.Equal(status, (int)problem!["status"]!);
                Assert.All((string[])["reason", "missing", "supplier", "remedy"], m => Assert.NotEmpty((string)problem[m]!));
            }
        }
    }

    private static X509Certificate2 Authority(string name)
    {
        var request = new CertificateRequest($"CN={name}", ECDsa.Create(ECCurve.NamedCurves.nistP256), HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        return request.CreateSelfSigned(DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddDays(1));
    }

    private static X509Certificate2 Issue(X509Certificate2 authority, string name)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName(name);
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid("1.3.6.1.5.5.7.3.2")], false));
        using var issued = request.Create(
            authority,
            DateTimeOffset.UtcNow.AddMinutes(-30),
            DateTimeOffset.UtcNow.AddHours(1),
            [1, 2, 3, 4]
        );
        using var with = issued.CopyWithPrivateKey(key);
        return X509CertificateLoader.LoadPkcs12(with.Export(X509ContentType.Pkcs12), null);
    }

    // A row for each RPC, a column for each role; + where the gateway grants it.
    private static string Render()
    {
        var text = new StringBuilder();
        text.Append("# Which role may do what at a gateway (services/Gateway/Roles.cs). Everything else is denied.\n");
        text.Append($"# To write it anew: {Again}\n");
        var width = Roles.Names.Max(n => n.Split('/')[1].Length) + 2;
        foreach (var service in Roles.Names.GroupBy(n => n.Split('/')[0]))
        {
            text.Append($"\n{service.Key}\n{new string(' ', width + 2)}{string.Join("  ", Roles.All)}\n");
            foreach (var name in service)
            {
                var row = Roles.All.Select(r => (Roles.Of(name).Contains(r) ? "+" : ".").PadRight(r.Length));
                text.Append($"  {name.Split('/')[1].PadRight(width)}{string.Join("  ", row).TrimEnd()}\n");
            }
        }
        return text.ToString();
    }

    internal static string Root()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            if (File.Exists(Path.Combine(folder.FullName, "Ministries.sln")))
                return folder.FullName;
        throw new DirectoryNotFoundException("Ministries.sln is in no folder above the tests");
    }
}
