using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Ministries.Custody.V1;
using Ministries.Gateway;
using Ministries.Keys;
using Ministries.Ledger.V1;
using Ministries.Types.V1;
using PlainText = Ministries.Ledger.PlainText;
using PrivateFiles = Ministries.Ledger.PrivateFiles;

namespace Ministries.Ministry;

/// <summary>One call of a typed verb, from the flags to the answer.</summary>
internal sealed class VerbCall(TypedVerb verb, ParseResult result, Connection connection)
{
    private static readonly string[] FilledIn = ["request_id", "actor", "etag", "same_as_etag", "case", "prisoner", "approvals"];

    // The records whose etags were read, as they were then.
    private readonly List<(EtagSource Source, IMessage Get, IMessage Record)> _seen = [];

    // What is sealed in the statement that is attested.
    private IMessage? _attested;

    /// <summary>Makes the call.</summary>
    /// <returns>The exit code.</returns>
    public async Task<int> Run(CancellationToken cancel)
    {
        var id = verb.IsWrite ? result.GetValue(Options.RequestId) ?? "" : "";
        if (id.Length > 0 && Outbox.Find(connection, verb, id) is { } sent)
            return await SendAgain(sent, id, cancel);
        var values = new FlagValue(connection.Shell.Zone, connection.Shell.Time.GetUtcNow(), file => ReadFile(file, cancel));
        var (request, seals) = await verb.Build(result, values, cancel);
        if (id.Length > 0)
            verb.Method.InputType.FindFieldByNumber(1).Accessor.SetValue(request, id);
        FillActor(request);
        Check(
            request,
            [.. FilledIn, .. seals.Select(s => s.Flag.FieldPath), .. WishIn(seals), .. WrapIn(request), .. SignatureIn(request)]
        );
        if (!verb.IsWrite)
            return await Read(request, cancel);
        await FillFromRecords(request, cancel);
        if (MinistryClient.TakesOpenings(request.Descriptor) && WishToShow.Read(result.GetValue(Options.Opens) ?? []) is { } wish)
            await connection.Client.AddOpenings(request, wish, (service, method, get) => connection.Call(service, method, get, cancel));
        await Seal(request, seals, cancel);
        await Wrap(request, cancel);
        if (
            request is AttestStatementRequest { Signature.IsEmpty: true } attest
            && result.GetValue(Options.SignWith) is { Length: > 0 } key
        )
            return await Attest(attest, key, cancel);
        NameRequest(request);
        Check(request, []);
        return await ShowOnly(request)
            ?? (await Confirmed(request, Sending, "nothing was sent", cancel) ? await Send(request, cancel) : ExitCodes.Declined);
    }

    private void NameRequest(IMessage request)
    {
        if (verb.Method.InputType.FindFieldByNumber(1).Accessor.GetValue(request) is "")
            verb.Method.InputType.FindFieldByNumber(1).Accessor.SetValue(request, MinistryClient.NewRequestId());
    }

    // A write that was sent and not answered is sent again unchanged.
    private async Task<int> SendAgain(IMessage sent, string id, CancellationToken cancel)
    {
        string[] ignored =
        [
            .. verb
                .Command.Options.Except([.. Options.OfConnection, .. Options.OfWrites.Where(o => o != Options.RequestFile)])
                .Select(result.GetResult)
                .OfType<OptionResult>()
                .Where(given => !given.Implicit)
                .Select(given => given.IdentifierToken?.Value ?? given.Option.Name),
        ];
        if (ignored.Length > 0)
            throw new FormatException(
                $"{id} waits and is sent as it was: leave out {string.Join(", ", ignored)}, or forget it with `ministry sent drop {id}`"
            );
        var code = await ShowOnly(sent);
        if (code is null && await Confirmed(sent, Sending, "it was not sent again", cancel))
            return await Send(sent, cancel);
        SayAgain(id);
        return code ?? ExitCodes.Declined;
    }

    // ---- the request -----------------------------------------------------------------------------------------------------------

    private string ReadFile(string file, CancellationToken cancel)
    {
        if (file != "-")
            return PlainText.ReadFile(file);
        if (_inputRead)
            throw new FormatException("reads standard input (-), which was read already");
        _inputRead = true;
        return connection.Shell.ReadInput(cancel).GetAwaiter().GetResult();
    }

    private bool _inputRead;

    private void FillActor(IMessage request)
    {
        if (request.Descriptor.FindFieldByName("actor") is not { } field || field.MessageType != Actor.Descriptor)
            return;
        var actor = (Actor?)field.Accessor.GetValue(request) ?? new Actor();
        if (actor.Office.Length == 0)
            actor.Office = connection.ValueOf("office");
        if (actor.Official.Length == 0)
            actor.Official = connection.ValueOf("official");
        if (actor.Authority.Length == 0)
            actor.Authority = connection.ValueOf("authority");
        if (actor.CalculateSize() == 0)
            throw new FormatException(
                "--actor.office, --actor.official and --actor.authority say for whom you act; `ministry config set office …` keeps each"
            );
        field.Accessor.SetValue(request, actor);
    }

    private void Check(IMessage request, IReadOnlyCollection<string> filled)
    {
        var faults = Limits.Faults(request, filled.ToHashSet());
        if (faults.Count > 0)
            throw new FormatException(string.Join('\n', faults.Select(f => $"{verb.FlagFor(f.Path)} {f.What}")));
    }

    // Fills in fields that were not given, from a record that the request names: the case, the prisoner and the etags.
    private async Task FillFromRecords(IMessage request, CancellationToken cancel)
    {
        foreach (var name in (string[])["case", "prisoner"])
        {
            if (
                request.Descriptor.FindFieldByName(name) is not { FieldType: FieldType.String } field
                || field.Accessor.GetValue(request) is not ""
            )
                continue;
            foreach (var source in EtagSource.In(verb.Service, request).Take(1))
                if (
                    source.ReadRequest(request) is { } get
                    && source.Kind.Type.FindFieldByName(name) is { FieldType: FieldType.String } there
                )
                    field.Accessor.SetValue(request, there.Accessor.GetValue((await ReadOnce(source, get, cancel)).Record));
            if (name == "case" && field.Accessor.GetValue(request) is "")
                field.Accessor.SetValue(request, connection.ValueOf("case"));
        }
        foreach (var source in EtagSource.In(verb.Service, request))
            if (source.Field.Accessor.GetValue(request) is "" && source.ReadRequest(request) is { } get)
                source.Field.Accessor.SetValue(request, (await ReadOnce(source, get, cancel)).Etag);
    }

    private async Task<(IMessage Record, string Etag)> ReadOnce(EtagSource source, IMessage get, CancellationToken cancel)
    {
        var answer = _seen.FirstOrDefault(s => s.Get.Equals(get)).Record;
        if (answer is null)
            _seen.Add((source, get, answer = await connection.Call(verb.Service, source.Kind.Get, get, cancel)));
        return (source.Kind.In(answer), (string)answer.Descriptor.FindFieldByName("etag").Accessor.GetValue(answer));
    }

    private async Task Seal(IMessage request, IReadOnlyList<ToSeal> seals, CancellationToken cancel)
    {
        foreach (var seal in seals)
        {
            // The client makes the secret of a wish.
            var filled = seal.Content is StatementContent ? new HashSet<string> { "wish_secret" } : [];
            if (Limits.Faults(seal.Content, filled) is { Count: > 0 } faults)
                throw new FormatException(string.Join('\n', faults.Select(f => $"{seal.Flag.Name}: {f.Path} {f.What}")));
            if (seal.Recipients.Count > 0)
                connection.Client.Seal(request, seal.Content, seal.Recipients);
            else
                await connection.Reach(
                    "custody",
                    async () =>
                    {
                        await connection.Client.Seal(request, seal.Content, cancel);
                        return true;
                    },
                    "the records that say to whom it is sealed",
                    cancel
                );
        }
    }

    // The fields that only a participant that can open the datum can fill when it opens the datum to another.
    private static IEnumerable<string> WrapIn(IMessage request) =>
        request is ShareSealedRequest ? ["key_id", "encapsulation", "secret"] : [];

    private async Task Wrap(IMessage request, CancellationToken cancel)
    {
        if (request is ShareSealedRequest { Encapsulation.IsEmpty: true, Secret.IsEmpty: true, Approvals.Count: 0 } share)
            await connection.Reach(
                verb.Service,
                async () =>
                {
                    await connection.Client.AddWrap(verb.Service, share, cancel);
                    return true;
                },
                "the datum that is opened wider",
                cancel
            );
    }

    // A statement carries commitments to the destinations in its sealed content, which nobody makes by hand.
    private static IEnumerable<string> WishIn(IReadOnlyList<ToSeal> seals) =>
        seals.Any(s => s.Content is StatementContent) ? ["commitments"] : [];

    // An official who was present signs what he has read.
    private static IEnumerable<string> SignatureIn(IMessage request) =>
        request is AttestStatementRequest ? ["digest", "signature", "official_key"] : [];

    // The official is asked before he signs. If the request is only shown, he does not sign.
    private async Task<int> Attest(AttestStatementRequest request, string key, CancellationToken cancel)
    {
        using var official = KeySource.Open(key, CallCommands.SecretsFolder);
        var (opened, digest) = await connection.Reach(
            verb.Service,
            () => connection.Client.OpenToAttest(request, cancel),
            "the statement",
            cancel
        );
        _attested = opened.Message;
        NameRequest(request);
        Check(request, [.. SignatureIn(request)]);
        var (isKept, shows) = (result.GetValue(Options.Out) is { Length: > 0 }, result.GetValue(Options.DryRun));
        if (shows && !isKept)
        {
            ShowAttested(connection.Error);
            return DryRun.Show(connection, verb, request);
        }
        var question = isKept ? $"Sign it as {request.Actor.Official}?" : $"Sign it as {request.Actor.Official}? {Sending}";
        if (!await Confirmed(request, question, "nothing was signed, and nothing was sent", cancel))
            return ExitCodes.Declined;
        connection.Client.Attest(request, digest, official, request.OfficialKey);
        Check(request, []);
        return await ShowOnly(request) ?? await Send(request, cancel);
    }

    private void ShowAttested(Screen screen)
    {
        if (_attested is null)
            return;
        screen.Paragraph("What is attested, as it is sealed in the statement:", 2, Style.Bold);
        new Fields(screen, whole: true).Write(_attested, 4, "wish_secret");
    }

    // ---- what becomes of it ------------------------------------------------------------------------------------------------------

    // Where it is only to be shown or put into a file, the exit code; null: it is to be sent.
    private async Task<int?> ShowOnly(IMessage request) =>
        result.GetValue(Options.Out) is { Length: > 0 } file ? await WriteOut(request, file)
        : result.GetValue(Options.DryRun) ? DryRun.Show(connection, verb, request)
        : null;

    private async Task<int> WriteOut(IMessage request, string file)
    {
        await using (var stream = PrivateFiles.Open(file, FileMode.CreateNew))
        await using (var writer = new StreamWriter(stream))
            await writer.WriteLineAsync(Contract.Formatter.Format(request));
        var name = $"{verb.Service} {verb.Command.Name}";
        connection.Error.Line($"{file} holds the request; nothing was sent");
        if (request.Descriptor.FindFieldByNumber(4) is { Name: "approvals" })
            connection.Error.Paragraph($"each official: ministry approve {name} --json {file} --office … --key …", 2, Style.Dim);
        connection.Error.Paragraph($"then: ministry {name} --json {file}", 2, Style.Dim);
        return ExitCodes.Done;
    }

    // Every write stays in the ledger for ever, so every write is asked about.
    private async Task<bool> Confirmed(IMessage request, string question, string otherwise, CancellationToken cancel)
    {
        if (result.GetValue(Options.Yes) || !connection.Shell.Asks)
            return true;
        var screen = connection.Asking;
        screen.Paragraph(Comments.FirstOf(verb.Method), style: Style.Bold);
        new Fields(screen, whole: false).Write(request, 2, "request_id", "etag", "approvals");
        ShowAttested(screen);
        if (request.Descriptor.FindFieldByNumber(4) is { Name: "approvals" } field)
            screen.Line(
                new Span("  approvals: ", Style.Dim),
                $"{((System.Collections.ICollection)field.Accessor.GetValue(request)).Count} of {Demanded} that the agreement demands"
            );
        foreach (var (source, _, answer) in _seen)
            if (source.Kind.Type.FindFieldByName("state") is { } state)
                screen.Line(
                    new Span($"  {source.Kind.Name} now: ", Style.Dim),
                    new Fields(screen, true).InLine(source.Kind.In(answer), state, false)
                );
        return await connection.Ask(question, otherwise, cancel);
    }

    private string Sending => $"Send it as {connection.Client.Participant.Id}? It stays in the ledger.";

    private uint Demanded => new Permissions(connection.Client.Agreement).ApprovalsDemanded(Contract.NameOf(verb.Method));

    private async Task<int> Send(IMessage request, CancellationToken cancel)
    {
        var id = (string)verb.Method.InputType.FindFieldByNumber(1).Accessor.GetValue(request);
        // If the caller's files cannot be read, nothing is sent, so nothing is kept.
        var client = connection.Client;
        var isNew = Outbox.Keep(connection, verb, id, request);
        IMessage answer;
        try
        {
            answer = await connection.Call(verb.Service, verb.Method, request, cancel);
        }
        catch (Exception e) when (e is NotReachedException or OperationCanceledException)
        {
            // It may have been sent by an earlier command, in which case it stays.
            if (isNew && !client.HasConnected(verb.Service))
            {
                Forget(id);
                connection.Error.Line("nothing was sent");
                throw;
            }
            SayAgain(id);
            throw;
        }
        catch (RefusedException e) when (Decides(e, isNew))
        {
            Forget(id);
            await ShowChanges(e, cancel);
            throw;
        }
        catch (Exception e) when (e is RefusedException or InvalidReceiptException or InvalidLogException)
        {
            SayAgain(id);
            throw;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The client keeps a receipt once it has proved it.
            SayAgain(id, "It was recorded. To get its receipt, send the same write again");
            throw new ReceiptNotKeptException(e);
        }
        Forget(id);
        Show(answer, id);
        return ExitCodes.Done;
    }

    // Whether a refusal decides the write. A service's fault may come after the write was recorded. If the answer of an earlier attempt was
    // lost, so may a refusal of the caller, or one that asks for another attempt. With a new id the write would then be made twice.
    private static bool Decides(RefusedException e, bool isNew) =>
        e is { RetryAfter: null, StatusCode: not (StatusCode.Unavailable or StatusCode.Internal or StatusCode.Unauthenticated) }
        // An earlier command, or an earlier attempt of this one, may have recorded the write.
        && (isNew ? !e.MayBeRecorded : e.IsLastWord);

    // A write that cannot be forgotten is answered all the same. Sent again, it is the same write.
    private void Forget(string id)
    {
        try
        {
            Outbox.Forget(connection, id);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            connection.Error.Line(new Span($"{id} no longer waits, and `ministry sent` still lists it: {e.Message}", Style.Warning));
        }
    }

    private void SayAgain(string id, string known = "It is not known whether it was recorded. To send the same write again")
    {
        connection.Error.Paragraph($"request_id: {id}");
        connection.Error.Paragraph($"{known}:");
        // One line, so that it can be copied.
        connection.Error.Line($"  {Outbox.Again(connection, verb.Service, verb.Command.Name, id, connection.As)}");
    }

    // The record changed between reading and writing. The changes are shown, because the caller must decide again. If the record cannot be
    // read again, or no person is asking, only the refusal is shown.
    private async Task ShowChanges(RefusedException refused, CancellationToken cancel)
    {
        if (refused.Reason != "STALE")
            return;
        foreach (var (source, get, before) in _seen)
        {
            IMessage after;
            try
            {
                after = await connection.Call(verb.Service, source.Kind.Get, get, cancel);
            }
            catch (Exception e) when (e is NotReachedException or RpcException or OperationCanceledException)
            {
                connection.Error.Line(
                    new Span($"The {source.Kind.Name} changed since it was read, and was not read again.", Style.Warning)
                );
                continue;
            }
            if (after.Equals(before))
                continue;
            connection.Error.Line(new Span($"The {source.Kind.Name} changed since it was read:", Style.Warning));
            foreach (var line in Changes.Between(Answers.InJson(source.Kind.In(before)), Answers.InJson(source.Kind.In(after))))
                connection.Error.Line($"  {line}");
        }
    }

    private void Show(IMessage answer, string id)
    {
        var receipt = answer.Descriptor.FindFieldByName("receipt")?.Accessor.GetValue(answer) as Receipt;
        if (connection.Format is OutputFormat.Json or OutputFormat.Yaml)
        {
            Answers.Write(connection, answer);
            connection.Error.Line($"request_id: {id}");
            return;
        }
        var screen = connection.Screen;
        screen.Line(
            new Span("recorded", Style.Good),
            $" by {verb.Service} at position {receipt?.Position.ToString(CultureInfo.InvariantCulture)}"
        );
        new Fields(screen, connection.Format == OutputFormat.Wide).Write(answer, 0, "receipt");
        screen.Line(new Span("request-id: ", Style.Dim), id);
        if (receipt is not null)
            screen.Line(new Span("receipt: ", Style.Dim), connection.ReceiptOf(verb.Service, receipt.Position));
    }

    private async Task<int> Read(IMessage request, CancellationToken cancel)
    {
        if (
            request.Descriptor.FindFieldByName("case") is { FieldType: FieldType.String } field
            && Flag.IsRequiredField(field)
            && field.Accessor.GetValue(request) is ""
        )
            field.Accessor.SetValue(request, connection.ValueOf("case"));
        Check(request, []);
        if (verb.Method.IsServerStreaming)
        {
            var asked = (FollowEntriesRequest)request;
            return await FollowCommand.Follow(connection, verb.Service, asked.FromPosition, asked.Case, asked.UntilNow, cancel);
        }
        if (verb.IsList)
            return await ListCommand.Write(connection, verb.Service, verb.Method, request, result.GetValue(Options.All), cancel);
        Answers.Write(connection, await connection.Call(verb.Service, verb.Method, request, cancel));
        return ExitCodes.Done;
    }
}

/// <summary>A write was recorded, but its receipt cannot be kept.</summary>
/// <param name="inner">Why not.</param>
internal sealed class ReceiptNotKeptException(Exception inner) : Exception($"its receipt cannot be kept: {inner.Message}", inner);
