using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Ministries.CallLog.V1;
using Ministries.CloudEvents.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using RabbitMQ.Client;

namespace Ministries.Bus.Tests;

/// <summary>What is on the wire, and what happens if the broker changes, loses or delays it.</summary>
[Collection("RabbitMQ")]
public sealed class BrokerTests
{
    private const string CallLoggedExchange = "ministries.calllog.v1.CallLogged";
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static async Task<string> QueueOfCallsLogged(IChannel channel)
    {
        await channel.ExchangeDeclareAsync(CallLoggedExchange, "fanout", durable: true, cancellationToken: Cancel);
        var queue = (await channel.QueueDeclareAsync("", cancellationToken: Cancel)).QueueName;
        await channel.QueueBindAsync(queue, CallLoggedExchange, "", cancellationToken: Cancel);
        return queue;
    }

    [Fact]
    public async Task A_client_of_another_kind_decodes_an_event_from_the_contract_alone()
    {
        var uri = await Node.Clean();
        await using var connection = await Node.Connect(uri);
        await using var channel = await connection.CreateChannelAsync(cancellationToken: Cancel);
        var queue = await QueueOfCallsLogged(channel);

        await using var fixture = new BusFixture(uri);
        await fixture.StartReady(fixture.CallLog);
        await fixture.Log();
        var id = await fixture.Log("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        List<BasicGetResult> got = [];
        await BusFixture.Until(
            async () =>
            {
                if (await channel.BasicGetAsync(queue, autoAck: true, Cancel) is { } one)
                    got.Add(one);
                // An event may come twice or overtake another one, so it is recognised by its id.
                return got.Any(g => IdOf(g) == id);
            },
            () => "the message"
        );

        static string IdOf(BasicGetResult message) => Encoding.UTF8.GetString((byte[])message.BasicProperties.Headers!["cloudEvents:id"]!);

        var message = got.First(g => IdOf(g) == id);
        Assert.Equal("application/x-protobuf", message.BasicProperties.ContentType);
        Assert.True(message.BasicProperties.Persistent);
        // The publishing client adds a header of its own for confirmations.
        var headers = message
            .BasicProperties.Headers!.Where(h => h.Key != "x-dotnet-pub-seq-no")
            .ToDictionary(h => h.Key, h => Encoding.UTF8.GetString((byte[])h.Value!));
        var call = CallLogged.Parser.ParseFrom(message.Body.Span);
        Assert.Equal(("case_1", "call-000002"), (call.Case, call.Call));
        Assert.Equal("1.0", headers["cloudEvents:specversion"]);
        Assert.Equal(id, headers["cloudEvents:id"]);
        Assert.Equal("calllog", headers["cloudEvents:source"]);
        Assert.Equal(CallLoggedExchange, headers["cloudEvents:type"]);
        Assert.Equal("case_1", headers["cloudEvents:subject"]);
        Assert.Equal("2", headers["cloudEvents:sequence"]);
        Assert.InRange(
            DateTimeOffset.Parse(headers["cloudEvents:time"], CultureInfo.InvariantCulture),
            DateTimeOffset.UtcNow.AddMinutes(-1),
            DateTimeOffset.UtcNow.AddSeconds(1)
        );
        Assert.Matches("^[0-9a-f]{64}$", headers["cloudEvents:leaf"]);
        Assert.Matches("^00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]{16}-01$", headers["traceparent"]);
        Assert.DoesNotContain(headers.Keys, k => k.StartsWith("MT-", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Several_events_of_a_type_go_in_one_message_of_a_public_format_that_is_signed_as_a_whole()
    {
        var uri = await Node.Clean();
        await using var connection = await Node.Connect(uri);
        await using var channel = await connection.CreateChannelAsync(cancellationToken: Cancel);
        var queue = await QueueOfCallsLogged(channel);

        await using var fixture = new BusFixture(uri) { LedgerReachable = false };
        List<string> events = [await fixture.Log(), await fixture.Log(), await fixture.Submit(), await fixture.Log()];
        await fixture.StartReady(fixture.CallLog);
        BasicGetResult? got = null;
        await BusFixture.Until(
            async () => (got = await channel.BasicGetAsync(queue, autoAck: true, Cancel)) is not null,
            () => "the message"
        );
        Assert.Equal("application/cloudevents-batch+protobuf", got!.BasicProperties.ContentType);
        var batch = CloudEventBatch.Parser.ParseFrom(got.Body.Span);
        Assert.Equal([events[0], events[1], events[3]], batch.Events.Select(e => e.Id));
        Assert.Equal(["1", "2", "3"], batch.Events.Select(e => e.Attributes["sequence"].CeString));
        Assert.Equal(
            ["", "", "ministries.calllog.v1.ReadoutSubmitted=1"],
            batch.Events.Select(e => e.Attributes.GetValueOrDefault("after")?.CeString ?? "")
        );
        Assert.All(
            batch.Events,
            e =>
                Assert.Equal(
                    ("calllog", "1.0", CallLoggedExchange, "case_1", 32),
                    (e.Source, e.SpecVersion, e.Type, e.Attributes["subject"].CeString, e.Attributes["leaf"].CeBytes.Length)
                )
        );
        Assert.InRange(
            batch.Events[0].Attributes["time"].CeTimestamp.ToDateTimeOffset(),
            DateTimeOffset.UtcNow.AddMinutes(-1),
            DateTimeOffset.UtcNow.AddSeconds(1)
        );
        Assert.Equal("call-000004", batch.Events[2].ProtoData.Unpack<CallLogged>().Call);

        await fixture.Stop(fixture.CallLog);
        await fixture.StartReady(fixture.Consular);
        var altered = got.Body.ToArray();
        altered[altered.AsSpan().IndexOf("case_1"u8) + 5] = (byte)'2';
        await Publish(altered);
        await BusFixture.Until(
            async () => await channel.MessageCountAsync("ministries.consular.dead", Cancel) == 1,
            () => "it is put aside"
        );
        Assert.Empty(await fixture.Effects());
        await Publish(got.Body);
        await Send(fixture, events[2]);
        await fixture.UntilEffects(events);

        ValueTask Publish(ReadOnlyMemory<byte> body) =>
            channel.BasicPublishAsync(
                CallLoggedExchange,
                "",
                mandatory: true,
                new BasicProperties { ContentType = got.BasicProperties.ContentType, Headers = got.BasicProperties.Headers },
                body,
                Cancel
            );
    }

    [Fact]
    public async Task The_queue_is_as_the_architecture_says()
    {
        var uri = await Node.Clean();
        await using var fixture = new BusFixture(uri);
        await fixture.StartReady(fixture.Consular);
        await using var connection = await Node.Connect(uri);
        await using var channel = await connection.CreateChannelAsync(cancellationToken: Cancel);
        // The broker accepts a second declaration only with the same arguments.
        await channel.QueueDeclareAsync(
            "ministries.consular",
            durable: true,
            exclusive: false,
            autoDelete: false,
            new Dictionary<string, object?>
            {
                ["x-queue-type"] = "quorum",
                ["x-single-active-consumer"] = true,
                ["x-delivery-limit"] = 20,
                ["x-overflow"] = "reject-publish",
                ["x-dead-letter-strategy"] = "at-least-once",
                ["x-dead-letter-exchange"] = "ministries.consular.dead",
            },
            cancellationToken: Cancel
        );
        Assert.Equal(1u, await channel.ConsumerCountAsync("ministries.consular", Cancel));
        await channel.QueueDeclarePassiveAsync("ministries.consular.dead", Cancel);
    }

    [Fact]
    public async Task Missing_events_are_read_from_the_producers_ledger_before_later_ones()
    {
        await using var fixture = new BusFixture(await Node.Clean(), o => o with { FillAge = TimeSpan.FromHours(1) });
        List<string> events = [await fixture.Log(), await fixture.Submit(), await fixture.Log(), await fixture.Log()];
        await fixture.StartReady(fixture.Consular);
        await Send(fixture, events[2]);
        await fixture.UntilEffects(events.GetRange(0, 3));
        await Send(fixture, events[3]);
        await fixture.UntilEffects(events);
    }

    [Fact]
    public async Task Reordered_events_have_their_effects_in_the_producers_order()
    {
        await using var fixture = new BusFixture(await Node.Clean(), o => o with { GapPatience = TimeSpan.FromMinutes(1) });
        List<string> events = [await fixture.Log(), await fixture.Submit(), await fixture.Log(), await fixture.Submit()];
        fixture.LedgerReachable = false;
        await fixture.StartReady(fixture.Consular);
        foreach (var place in (int[])[3, 1, 2, 2, 0, 1])
            await Send(fixture, events[place]);
        await fixture.UntilEffects(events);
    }

    [Fact]
    public async Task A_repeated_event_has_no_second_effect()
    {
        await using var fixture = new BusFixture(await Node.Clean());
        await fixture.StartReady(fixture.Consular);
        List<string> events = [await fixture.Log(), await fixture.Log()];
        foreach (var place in (int[])[0, 0, 1, 0, 1, 1])
            await Send(fixture, events[place]);
        await UntilQueueIsEmpty(fixture.Uri);
        await fixture.UntilEffects(events);
    }

    [Fact]
    public async Task A_message_that_is_no_event_is_set_aside_by_the_broker_and_stops_nobody()
    {
        await using var fixture = new BusFixture(await Node.Clean());
        await fixture.StartReady(fixture.Consular);
        await using var connection = await Node.Connect(fixture.Uri);
        await using var channel = await connection.CreateChannelAsync(cancellationToken: Cancel);
        await channel.BasicPublishAsync(
            "ministries.consular",
            "",
            true,
            new BasicProperties { ContentType = "application/json" },
            "{}"u8.ToArray(),
            Cancel
        );
        var id = await fixture.Log();
        await Send(fixture, id);
        await fixture.UntilEffects(id);
        await BusFixture.Until(
            async () => await channel.MessageCountAsync("ministries.consular.dead", Cancel) == 1,
            () => "it is put aside"
        );
    }

    [Fact]
    public async Task A_message_that_another_signed_has_no_effect_and_the_true_one_has()
    {
        await using var fixture = new BusFixture(await Node.Clean(), o => o with { FillAge = TimeSpan.FromHours(1), DeliveryLimit = 2 });
        await fixture.StartReady(fixture.Consular);
        await using var connection = await Node.Connect(fixture.Uri);
        await using var channel = await connection.CreateChannelAsync(cancellationToken: Cancel);
        var id = await fixture.Log();
        await Send(fixture, id, seal: BusFixture.NewSeal());
        await BusFixture.Until(
            async () => await channel.MessageCountAsync("ministries.consular.dead", Cancel) == 1,
            () => "it is put aside"
        );
        Assert.Empty(await fixture.Effects());
        await Send(fixture, id);
        await fixture.UntilEffects(id);
    }

    [Fact]
    public async Task A_brokers_operator_who_forges_alters_drops_repeats_and_reorders_achieves_delay_and_a_named_alert()
    {
        // The alert MessagesRejected rests on this counter.
        var rejected = 0L;
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Name == "ministries.messages.rejected")
                    listener.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((_, count, _, _) => Interlocked.Add(ref rejected, count));
        listener.Start();

        await using var fixture = new BusFixture(await Node.Clean(), o => o with { DeliveryLimit = 1 });
        List<string> events =
        [
            await fixture.Log(),
            await fixture.Submit(),
            await fixture.Log(),
            await fixture.Log(),
            await fixture.Submit(),
            await fixture.Log(),
        ];
        var data = (await (await fixture.Ledger(fixture.CallLog)).EventsAfter(0, 100, Cancel))
            .Select(e => e.Event.Event.Data.ToByteArray())
            .ToList();
        await fixture.StartReady(fixture.Consular);

        await Send(fixture, events[0], seal: BusFixture.NewSeal());
        await Send(fixture, events[0], body: data[2]);
        await Send(fixture, events[0], alter: h => h["cloudEvents:sequence"] = "3");
        await Send(fixture, events[0], alter: h => h["cloudEvents:time"] = "2025-03-17T00:00:00Z");
        await Send(fixture, events[0], alter: h => h["cloudEvents:id"] = events[3]);
        await Send(fixture, events[0], alter: h => h.Remove("cloudEvents:signature"));
        await BusFixture.Until(() => Interlocked.Read(ref rejected) >= 6, "each is rejected");
        Assert.DoesNotContain(events[3], await fixture.Effects());
        // Each counts, and few are told of, so that nobody can fill the disk with log lines.
        Assert.InRange(fixture.Warnings.Count(w => w.Contains("does not bear the signature", StringComparison.Ordinal)), 1, 2);

        // The second message is never delivered; the others come late, twice and in another order.
        foreach (var place in (int[])[5, 3, 3, 0, 2, 5, 4, 0])
            await Send(fixture, events[place]);
        await fixture.UntilEffects(events);
    }

    /// <summary>The trace context of a single event's message is outside of what is signed.</summary>
    [Fact]
    public async Task A_brokers_operator_spoils_no_commit_with_a_trace_context()
    {
        var databases = new Dictionary<string, string>();
        foreach (var service in (string[])["calllog", "consular"])
            databases[service] = await (await Postgres.Shared).CreateDatabase();
        var clock = new SteppedClock();
        await using var fixture = new BusFixture(await Node.Clean()) { Clock = clock, DatabaseOf = service => databases[service] };
        var id = await fixture.Log();
        await fixture.StartReady(fixture.Consular);
        var ledger = await fixture.Ledger(fixture.Consular);
        await Send(fixture, id, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", alter: h => h["tracestate"] = "a=\0");
        var own = BusFixture.Begin(ledger, BusFixture.Noted, "own", "own");
        await BusFixture.Until(() => ledger.QueueLength == 2, "both wait for their commit");
        clock.Step(BusFixture.Interval);
        await ledger.WaitForMore(0, Cancel);
        Assert.Equal([id], await fixture.Effects());
        await own.WaitAsync(TimeSpan.FromSeconds(10), Cancel);
        Assert.Equal((ulong)fixture.Leaves, ledger.Size);
        Assert.Equal("", Assert.Single(await ledger.EventsAfter(0, 10, Cancel)).Event.Tracestate);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")]
    [InlineData("nonsense")]
    public async Task A_message_without_a_sampled_trace_is_processed_like_any_other(string? traceParent)
    {
        using var spans = new Spans();
        await using var fixture = new BusFixture(await Node.Clean());
        await fixture.StartReady(fixture.Consular);
        var id = await fixture.Log();
        await Send(fixture, id, traceParent);
        await fixture.UntilEffects(id);
        Activity? Process() => spans.Ended.FirstOrDefault(s => s.OperationName == $"process {CallLoggedExchange}");
        await BusFixture.Until(() => Process() is not null, "the span has ended");
        var parent = ActivityContext.TryParse(traceParent, null, out var context) ? context.SpanId : default;
        Assert.Equal(parent, Process()!.ParentSpanId);
    }

    [Fact]
    public async Task A_message_that_no_queue_receives_is_sent_again_until_one_does()
    {
        var uri = await Node.Clean();
        await using var fixture = new BusFixture(uri, o => o with { ReturnPatience = TimeSpan.FromMinutes(1) });
        await fixture.StartBoth();
        List<string> events = [await fixture.Log()];
        await fixture.UntilEffects(events);
        fixture.LedgerReachable = false;
        await using var connection = await Node.Connect(uri);
        await using var channel = await connection.CreateChannelAsync(cancellationToken: Cancel);
        await channel.ExchangeUnbindAsync("ministries.consular", CallLoggedExchange, "", cancellationToken: Cancel);
        events.Add(await fixture.Log());
        await BusFixture.Until(() => fixture.Status(fixture.CallLog).Backlog == 1, "it was returned");
        await channel.ExchangeBindAsync("ministries.consular", CallLoggedExchange, "", cancellationToken: Cancel);
        await fixture.UntilEffects(events);
    }

    [Fact]
    public async Task A_broker_that_is_killed_and_started_again_loses_and_repeats_nothing()
    {
        // A node of its own, because a kill may bring back what earlier tests deleted from the shared one.
        var node = await RabbitMq.Create();
        try
        {
            await using var fixture = new BusFixture(node.Uri);
            await fixture.StartBoth();
            var events = new List<string>();
            for (var i = 0; i < 600; i++)
            {
                if (i == 200)
                    node.Kill();
                if (i == 400)
                    await node.Start();
                events.Add(await fixture.Log());
            }
            var since = Stopwatch.StartNew();
            await fixture.UntilEffects(events);
            Assert.InRange(since.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(30));
            // A client that does not recover ends its process, which is restarted.
            await BusFixture.Until(
                async () =>
                {
                    await fixture.Supervise(fixture.CallLog);
                    await fixture.Supervise(fixture.Consular);
                    return fixture.Status(fixture.CallLog).BrokerReady && fixture.Status(fixture.Consular).BrokerReady;
                },
                () => "ready again",
                60
            );
        }
        finally
        {
            node.Stop();
        }
    }

    [Fact]
    public async Task No_event_is_lost_when_the_broker_loses_its_disk()
    {
        var node = await RabbitMq.Shared;
        await using var fixture = new BusFixture(await Node.Clean());
        await fixture.StartBoth();
        List<string> events = [await fixture.Log(), await fixture.Submit()];
        await fixture.UntilEffects(events);
        // What the consumer has not acknowledged is lost with the disk.
        await fixture.Stop(fixture.Consular);
        for (var i = 0; i < 50; i++)
            events.Add(await fixture.Log());
        await BusFixture.Until(() => fixture.Status(fixture.CallLog).Backlog == 0, "all is published");
        node.Kill();
        node.Wipe();
        events.Add(await fixture.Submit());
        await node.Start();
        var since = Stopwatch.StartNew();
        await fixture.StartReady(fixture.Consular);
        events.Add(await fixture.Log());
        await fixture.UntilEffects(events);
        Assert.InRange(since.Elapsed, TimeSpan.Zero, TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task A_frozen_broker_is_waited_for_while_the_ledger_goes_on()
    {
        var node = await RabbitMq.Shared;
        await using var fixture = new BusFixture(await Node.Clean(), o => o with { MaxBacklog = 3 });
        await fixture.StartBoth();
        fixture.LedgerReachable = false;
        var events = new List<string>();
        node.Freeze();
        try
        {
            for (var i = 0; i < 5; i++)
                events.Add(await fixture.Log());
            await BusFixture.Until(() => !fixture.Status(fixture.CallLog).BrokerReady, "not ready");
            await BusFixture.Until(() => fixture.Status(fixture.CallLog).Overloaded, "overloaded");
        }
        finally
        {
            node.Thaw();
        }
        await fixture.UntilEffects(events);
        await BusFixture.Until(
            () => fixture.Status(fixture.CallLog) is { BrokerReady: true, Backlog: 0, Overloaded: false },
            "ready again"
        );
    }

    // Services that reach the broker through a proxy. Times in seconds.
    private static BusFixture Through(Proxy proxy, double renewAfter, double endAfter, double startDeadline) =>
        new(
            new Uri($"amqp://guest:guest@127.0.0.1:{proxy.Port}"),
            o =>
                o with
                {
                    CanaryDeadline = TimeSpan.FromSeconds(1),
                    RenewAfter = TimeSpan.FromSeconds(renewAfter),
                    EndAfter = TimeSpan.FromSeconds(endAfter),
                    StartDeadline = TimeSpan.FromSeconds(startDeadline),
                }
        );

    [Fact]
    public async Task A_client_that_stalls_while_the_broker_answers_others_ends_the_process()
    {
        await using var proxy = new Proxy((await Node.Clean()).Port);
        await using var fixture = Through(proxy, renewAfter: 1, endAfter: 4, startDeadline: 2);
        var host = await fixture.StartReady(fixture.Consular);
        proxy.IsStalled = true;
        var lifecycle = (Lifecycle)host.Services.GetService(typeof(Lifecycle))!;
        await BusFixture.Until(() => lifecycle.Stopping.IsCancellationRequested, "the process ends");
        Assert.Equal(ServiceHost.Stalled, lifecycle.ExitCode);
    }

    [Fact]
    public async Task A_process_whose_clients_never_worked_does_not_end_and_works_once_they_can()
    {
        await using var proxy = new Proxy((await Node.Clean()).Port);
        await using var fixture = Through(proxy, renewAfter: 0.1, endAfter: 1, startDeadline: 1);
        proxy.IsStalled = true;
        var host = await fixture.Start(fixture.Consular);
        var lifecycle = (Lifecycle)host.Services.GetService(typeof(Lifecycle))!;
        // Several times as long as it takes until a process ends whose client had worked.
        var since = Stopwatch.StartNew();
        await BusFixture.Until(
            () =>
            {
                Assert.False(lifecycle.Stopping.IsCancellationRequested);
                return since.Elapsed > TimeSpan.FromSeconds(8);
            },
            "the time is over"
        );
        proxy.IsStalled = false;
        await BusFixture.Until(() => fixture.Status(fixture.Consular).BrokerReady, "it works");
    }

    [Fact]
    public async Task Over_TLS_only_a_broker_of_a_trusted_authority_is_used()
    {
        var folder = Directory.CreateTempSubdirectory("ministries-tls-").FullName;
        var port = Ports.Free();
        string In(string file) => Path.Combine(folder, file);
        Certificates(In("authority.pem"), In("broker.pem"), In("broker.key"));
        Certificates(In("other.pem"), In("unused.pem"), In("unused.key"));
        var node = await RabbitMq.Create(
            $"""
            listeners.ssl.1 = 127.0.0.1:{port}
            ssl_options.cacertfile = {In("authority.pem")}
            ssl_options.certfile = {In("broker.pem")}
            ssl_options.keyfile = {In("broker.key")}
            """
        );
        try
        {
            var uri = new Uri($"amqps://guest:guest@127.0.0.1:{port}");
            await using var trusting = new BusFixture(uri, o => o with { BrokerAuthority = In("authority.pem") });
            await trusting.StartReady(trusting.Consular);
            await trusting.Stop(trusting.Consular);
            foreach (var authority in (string?[])[null, In("other.pem")])
            {
                await using var wary = new BusFixture(uri, o => o with { BrokerAuthority = authority });
                var host = await wary.Start(wary.Consular);
                var broker = (Broker)host.Services.GetService(typeof(Broker))!;
                await Assert.ThrowsAnyAsync<Exception>(() => broker.Connect(Cancel));
                using var soon = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
                soon.CancelAfter(TimeSpan.FromSeconds(3));
                await Assert.ThrowsAnyAsync<Exception>(() => broker.Start(soon.Token));
                Assert.False(wary.Status(wary.Consular).BrokerReady);
            }
        }
        finally
        {
            node.Stop();
            Directory.Delete(folder, recursive: true);
        }
    }

    private static void Certificates(string authorityFile, string certificateFile, string keyFile)
    {
        using var authorityKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var authority = new CertificateRequest("CN=authority", authorityKey, HashAlgorithmName.SHA256);
        authority.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        using var signed = authority.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=broker", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddIpAddress(IPAddress.Loopback);
        request.CertificateExtensions.Add(names.Build());
        using var certificate = request.Create(signed, DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddHours(12), [1, 2, 3, 4]);
        File.WriteAllText(authorityFile, signed.ExportCertificatePem());
        File.WriteAllText(certificateFile, certificate.ExportCertificatePem());
        File.WriteAllText(keyFile, key.ExportPkcs8PrivateKeyPem());
    }

    /// <summary>Sends an event of the call log's ledger as a plain client would, with a given trace.</summary>
    private static async Task Send(
        BusFixture fixture,
        string id,
        string? traceParent = "",
        MessageSeal? seal = null,
        Action<Dictionary<string, object?>>? alter = null,
        byte[]? body = null
    )
    {
        var events = (await (await fixture.Ledger(fixture.CallLog)).EventsAfter(0, 1000, Cancel)).Select(e => e.Event).ToList();
        var place = events.FindIndex(e => EventTypes.IdOf(e.Origin) == id);
        var recorded = events[place];
        var after = events
            .Take(place)
            .Where(e => e.Event.Type != recorded.Event.Type)
            .GroupBy(e => e.Event.Type)
            .Select(g => $"{g.Key}={g.Max(e => e.Origin.Sequence)}");
        var headers = new Dictionary<string, object?>
        {
            ["cloudEvents:specversion"] = "1.0",
            ["cloudEvents:id"] = id,
            ["cloudEvents:source"] = "calllog",
            ["cloudEvents:type"] = recorded.Event.Type,
            ["cloudEvents:subject"] = recorded.Event.Case,
            ["cloudEvents:time"] = recorded.Time,
            ["cloudEvents:sequence"] = $"{recorded.Origin.Sequence}",
            ["cloudEvents:leaf"] = Convert.ToHexStringLower(recorded.Leaf.Span),
            ["cloudEvents:after"] = string.Join(' ', after),
        };
        (headers["cloudEvents:signature"], headers["cloudEvents:certificate"]) = (seal ?? fixture.Seal).Sign(recorded);
        if (!string.IsNullOrEmpty(traceParent))
            headers["traceparent"] = traceParent;
        alter?.Invoke(headers);
        await using var connection = await Node.Connect(fixture.Uri);
        await using var channel = await connection.CreateChannelAsync(
            new CreateChannelOptions(publisherConfirmationsEnabled: true, publisherConfirmationTrackingEnabled: true),
            Cancel
        );
        await channel.BasicPublishAsync(
            recorded.Event.Type,
            "",
            mandatory: true,
            new BasicProperties { ContentType = "application/x-protobuf", Headers = headers },
            body ?? recorded.Event.Data.Memory,
            Cancel
        );
    }

    private static async Task UntilQueueIsEmpty(Uri uri)
    {
        await using var connection = await Node.Connect(uri);
        await using var channel = await connection.CreateChannelAsync(cancellationToken: Cancel);
        await BusFixture.Until(async () => await channel.MessageCountAsync("ministries.consular", Cancel) == 0, () => "the queue is empty");
    }
}
