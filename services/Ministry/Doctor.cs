using System.Globalization;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Ministries.Errors.V1;
using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>How something is.</summary>
internal enum Health
{
    /// <summary>As it should be.</summary>
    Well,

    /// <summary>It works, and needs attention.</summary>
    Doubtful,

    /// <summary>It does not work.</summary>
    Wrong,
}

/// <summary>What was found.</summary>
/// <param name="Subject">About what.</param>
/// <param name="Health">How it is.</param>
/// <param name="What">What was found.</param>
/// <param name="Remedy">What helps; empty: nothing is needed.</param>
internal sealed record Finding(string Subject, Health Health, string What, string Remedy = "");

/// <summary>Looks at everything that a call needs, in the order in which it is needed.</summary>
internal sealed class Doctor(Connection connection)
{
    private static readonly TimeSpan RenewBefore = Pki.RenewBefore;

    private readonly DateTimeOffset _now = connection.Shell.Time.GetUtcNow();
    private bool _canCall = true;

    /// <summary>Looks.</summary>
    public async IAsyncEnumerable<Finding> Look([EnumeratorCancellation] CancellationToken cancel)
    {
        var version = typeof(Doctor).Assembly.GetName().Version;
        yield return new("versions", Health.Well, $"ministry {version}, .NET {Environment.Version}, {Environment.OSVersion.Platform}");
        yield return File.Exists(connection.Profile.Path)
            ? new("configuration", Health.Well, $"{connection.Profile.Path}, profile {connection.Profile.Name}")
            : new("configuration", Health.Well, $"none at {connection.Profile.Path}: options and variables say everything");
        var (folder, caller) = (connection.ValueOf("folder", Options.Folder), connection.ValueOf("as", Options.As));
        foreach (var finding in OfCaller(folder, caller))
            yield return finding;
        Agreement? agreement = null;
        if (folder.Length > 0)
            foreach (var finding in OfAgreement(connection.AgreementPath, caller, a => agreement = a))
                yield return finding;
        if (folder.Length > 0 && caller.Length > 0)
        {
            var participant = agreement?.Participants.FirstOrDefault(p => p.Id == caller);
            if (participant is not null && SettingsOrFault(out var settings) is var fault)
                foreach (var finding in settings is null ? [fault!] : OfFiles(settings, agreement!, participant))
                    yield return finding;
            yield return OfReceipts();
        }
        foreach (var service in Contract.Services)
        await foreach (var finding in OfService(service, agreement, cancel))
            yield return finding;
    }

    // Without these there is no call, and all else can be looked at all the same.
    private IEnumerable<Finding> OfCaller(string folder, string caller)
    {
        if (folder.Length == 0)
            yield return new(
                "folder",
                Health.Wrong,
                "nothing says where the agreement and your keys are",
                "`ministry config set folder …` keeps it; or --folder, or MINISTRIES_FOLDER. For a trial, `ministry pki init` makes one"
            );
        if (caller.Length == 0)
            yield return new(
                "participant",
                Health.Wrong,
                "nothing says as whom you call",
                "`ministry config set as …` keeps it, such as kr/mfa; or --as, or MINISTRIES_AS"
            );
        _canCall &= folder.Length > 0 && caller.Length > 0;
    }

    private Finding? SettingsOrFault(out MinistrySettings? settings)
    {
        settings = null;
        try
        {
            settings = connection.Settings();
            return null;
        }
        catch (FormatException e)
        {
            _canCall = false;
            return new("settings", Health.Wrong, e.Message, "correct it there, or give the option of that name");
        }
    }

    private IEnumerable<Finding> OfFiles(MinistrySettings settings, Agreement agreement, Participant participant)
    {
        yield return OfCertificate(settings, agreement);
        yield return OfRequestsKey(settings, participant);
        var permissions = new Permissions(agreement);
        if (connection.ValueOf("official") is { Length: > 0 } official && !permissions.ListsOfficial(official, participant.Id))
            yield return OfOfficial(official, participant, permissions);
        foreach (var finding in OfSealingKeys(settings, participant))
            yield return finding;
    }

    private IEnumerable<Finding> OfAgreement(string path, string caller, Action<Agreement> found)
    {
        ParsedAgreement parsed;
        Finding? wrong = null;
        try
        {
            parsed = AgreementFile.Trust(path, null, _now);
            found(parsed.Agreement);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            _canCall = false;
            wrong = new(
                "agreement",
                Health.Wrong,
                e.Message,
                e is IOException or UnauthorizedAccessException
                    ? "name the folder that holds agreement.json: --folder, or `ministry config set folder …`"
                    : "get the agreement in force from the operator or another participant, with the versions before it beside it"
            );
            parsed = null!;
        }
        if (wrong is not null)
        {
            yield return wrong;
            yield break;
        }
        var agreement = parsed.Agreement;
        var begins = agreement.ValidFromTime?.ToDateTimeOffset();
        yield return begins > _now
            ? new(
                "agreement",
                Health.Doubtful,
                $"version {agreement.Version} is in force only from {connection.Screen.Time(begins.Value)}",
                "put the version in force in its place until then"
            )
            : new("agreement", Health.Well, $"version {agreement.Version} of {agreement.TrustDomain}, signed by all whom it affects");
        if (caller.Length > 0 && agreement.Participants.All(p => p.Id != caller))
        {
            _canCall = false;
            var near = Suggestion.Nearest(caller, agreement.Participants.Select(p => p.Id));
            yield return new(
                "participant",
                Health.Wrong,
                $"the agreement has no {caller}",
                near is null ? "name one of its participants with --as" : $"did you mean --as {near}?"
            );
        }
    }

    private Finding OfCertificate(MinistrySettings settings, Agreement agreement)
    {
        X509Certificate2 certificate;
        try
        {
            certificate = CertificateFiles.Read(settings.Certificate, settings.CertificateKey, settings.SecretsFolder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException or CryptographicException)
        {
            _canCall = false;
            return new(
                "certificate",
                Health.Wrong,
                e.Message,
                $"put the certificate chain and its key at {settings.Certificate} and {settings.CertificateKey}, readable by you alone"
            );
        }
        using (certificate)
        using (var authorities = new Authorities(agreement))
        {
            var identified = authorities.Identify(certificate, [], CertificateUse.Client, _now);
            var until = new DateTimeOffset(certificate.NotAfter.ToUniversalTime(), TimeSpan.Zero);
            var from = new DateTimeOffset(certificate.NotBefore.ToUniversalTime(), TimeSpan.Zero);
            _canCall &=
                identified is { Refused: Reason.Unspecified, Identity: not null } && identified.Identity.Participant.Id == connection.As;
            if (until < _now)
                return new(
                    "certificate",
                    Health.Wrong,
                    $"it expired on {connection.Screen.Time(until)}",
                    "have your authority issue a new one; replace the key file, then the certificate file"
                );
            if (from > _now)
                return new(
                    "certificate",
                    Health.Wrong,
                    $"it is valid only from {connection.Screen.Time(from)}",
                    "set this machine's clock, or wait"
                );
            if (identified.Identity is not { } identity)
                return new(
                    "certificate",
                    Health.Wrong,
                    "no authority that the agreement lists for its participant issued it",
                    "have your own authority issue it, or add the authority: ministry agreement add-authority"
                );
            if (identity.Participant.Id != connection.As)
                return new(
                    "certificate",
                    Health.Wrong,
                    $"it is {identity.Participant.Id}'s, not {connection.As}'s",
                    $"call as {identity.Participant.Id}, or use your own certificate"
                );
            if (identified.Refused != Reason.Unspecified)
                return new("certificate", Health.Wrong, "the agreement denies it", "have your authority issue a new one");
            return until - _now < RenewBefore
                ? new(
                    "certificate",
                    Health.Doubtful,
                    $"it ends {connection.Screen.Until(until)}",
                    "renew it: replace the key file, then the certificate file"
                )
                : new("certificate", Health.Well, $"{identity.System}, until {connection.Screen.Time(until)}");
        }
    }

    private Finding OfRequestsKey(MinistrySettings settings, Participant participant)
    {
        const string Subject = "key for requests";
        if (settings.RequestsKey is not { } location)
            return new(
                Subject,
                Health.Doubtful,
                "there is none, so that you can read and not write",
                "put requests.key into your folder, or name it with --requests-key"
            );
        try
        {
            using var key = KeySource.Open(location, settings.SecretsFolder);
            var listed = SigningKeys.Listed(participant, SigningKeyUse.Requests, key);
            return RequestSignatures.IsValidAt(listed, _now)
                ? new(Subject, Health.Well, $"{listed.Id}")
                : new(
                    Subject,
                    Health.Wrong,
                    $"{listed.Id} is not in force: it ended, was revoked or has not begun",
                    "sign with the key that replaced it, or list a new one: ministry agreement add-key"
                );
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException or CryptographicException)
        {
            // Without it, a client is not made at all.
            _canCall = false;
            return new(
                Subject,
                Health.Wrong,
                e.Message,
                e is KeyFileExposedException ? $"chmod 600 {location}, and ask yourself who may have read it"
                    : e is FormatException
                        ? "use the key that the agreement lists, or list this one: ministry agreement add-key --use requests"
                    : "name the key with --requests-key"
            );
        }
    }

    private Finding OfOfficial(string official, Participant participant, Permissions permissions)
    {
        var near = Suggestion.Nearest(official, permissions.OfficialsOf(participant.Id));
        return new(
            "official",
            Health.Wrong,
            $"{connection.SourceOf("official")}: the agreement does not list {official} for {participant.Id}, so that every write of his is refused",
            near is null
                ? "name one whom it lists: `ministry config set official …`; or list him: ministry agreement add-official"
                : $"did you mean {near}? `ministry config set official {Shell.Word(near)}`"
        );
    }

    private IEnumerable<Finding> OfSealingKeys(MinistrySettings settings, Participant participant)
    {
        const string Subject = "key for sealing";
        var newest = Seals.KeyOf(participant, _now);
        var opens = new List<string>();
        foreach (var file in settings.SealingKeys)
        {
            Finding? wrong = null;
            try
            {
                using var identity = SealingKeyFile.Read(file, participant, settings.SecretsFolder);
                opens.Add(identity.Id);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException or CryptographicException)
            {
                _canCall = false;
                wrong = new(
                    Subject,
                    Health.Wrong,
                    e.Message,
                    e is KeyFileExposedException
                        ? $"chmod 600 {file}, and ask yourself who may have read it"
                        : "use a key that the agreement lists, or list this one: ministry agreement add-key --use sealing"
                );
            }
            if (wrong is not null)
                yield return wrong;
        }
        if (newest is null)
            yield return new(
                Subject,
                Health.Doubtful,
                "the agreement lists none in force: nobody can seal to you",
                "ministry agreement add-key --use sealing"
            );
        else if (!opens.Contains(newest.Id))
            yield return new(
                Subject,
                Health.Doubtful,
                $"others seal to {newest.Id}, and it is not here: you cannot open that",
                "put its file at sealing.key in your folder"
            );
        else
            yield return new(Subject, Health.Well, newest.Id);
    }

    private Finding OfReceipts()
    {
        try
        {
            // A folder may be there, and refuse a file.
            var trial = Path.Combine(Nearest(connection.Receipts), $"trial-{Guid.NewGuid():N}");
            PrivateFiles.Open(trial, FileMode.CreateNew).Dispose();
            File.Delete(trial);
            var waiting = Outbox.All(connection);
            return waiting.Count == 0
                ? new("receipts", Health.Well, connection.Receipts)
                : new(
                    "receipts",
                    Health.Doubtful,
                    $"{waiting.Count} writes were sent and not answered: {string.Join(", ", waiting.Take(4).Select(w => w.Id))}",
                    "`ministry sent` lists each with the command that sends it again; `ministry sent drop` forgets one"
                );
        }
        catch (FormatException e)
        {
            return new("receipts", Health.Doubtful, e.Message, "move that file away");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new(
                "receipts",
                Health.Wrong,
                e.Message,
                "name a folder that you can write: --receipts, or `ministry config set receipts …`"
            );
        }
    }

    // The folder. If it does not exist, the nearest existing folder above it, in which it is made with the first receipt.
    private static string Nearest(string folder)
    {
        var nearest = Path.GetFullPath(folder);
        for (; !Directory.Exists(nearest); nearest = Path.GetDirectoryName(nearest)!)
            if (File.Exists(nearest))
                throw new IOException($"{nearest} is not a folder");
        return nearest;
    }

    private async IAsyncEnumerable<Finding> OfService(
        string service,
        Agreement? agreement,
        [EnumeratorCancellation] CancellationToken cancel
    )
    {
        if (AddressesOrFault(service, out var addresses, out var source) is { } fault)
        {
            yield return fault;
            yield break;
        }
        var away = (await Task.WhenAll(addresses.Select(async a => (Address: a, Why: await Unreachable(a, cancel)))))
            .Where(a => a.Why is not null)
            .ToArray();
        foreach (var finding in OfAway(service, away, all: away.Length == addresses.Count, source))
            yield return finding;
        if (away.Length == addresses.Count)
            yield break;
        if (!_canCall || agreement is null)
        {
            yield return new(service, Health.Doubtful, "it can be connected to, and was not asked", "mend what is wrong above first");
            yield break;
        }
        Finding? wrong = null;
        DateTimeOffset? clock = null;
        ulong size = 0;
        try
        {
            using var call = connection.Client.LedgerOf(service).GetCheckpointAsync(new GetCheckpointRequest(), cancellationToken: cancel);
            size = (await call).TreeSize;
            if ((await call.ResponseHeadersAsync).GetValue("date") is { } date)
                clock = DateTimeOffset.ParseExact(date, "r", CultureInfo.InvariantCulture);
        }
        catch (RefusedException e)
        {
            wrong = new(service, Health.Wrong, $"it refuses you: {e.Reason}; what is missing: {e.Missing}", e.Unlock);
        }
        catch (RpcException e)
        {
            var cause = (e.Status.DebugException ?? e).GetBaseException().Message;
            wrong = new(
                service,
                Health.Wrong,
                $"no call gets through: {cause}",
                "whoever answers there must show a certificate that the agreement lists for this service; check the address, its certificate, and that your agreement is the one in force"
            );
        }
        if (wrong is not null)
        {
            yield return wrong;
            yield break;
        }
        yield return new(service, Health.Well, $"{Answering(addresses, away)} answers; {size} entries");
        if (clock is { } theirs && (theirs - connection.Shell.Time.GetUtcNow()).Duration() is var apart && apart > HttpSignature.ClockSkew)
            yield return new(
                $"clock against {service}",
                Health.Wrong,
                $"this machine's clock is {apart.TotalSeconds:0} s {(theirs > connection.Shell.Time.GetUtcNow() ? "behind" : "ahead")}, so that signatures are refused beyond {HttpSignature.ClockSkew.TotalSeconds:0} s",
                "set this machine's clock by NTP"
            );
        if (await KnowsVersion(service, agreement.Version + 1, cancel))
            yield return new(
                $"agreement at {service}",
                Health.Doubtful,
                $"it has a later version than {agreement.Version}, which is yours",
                "get the later version from the operator or another participant, and put it in place: ministry agreement put"
            );
    }

    // Calls go to the replicas that are there.
    private static IEnumerable<Finding> OfAway(string service, IEnumerable<(Uri Address, string? Why)> away, bool all, string source) =>
        away.Select(a => new Finding(
            service,
            all ? Health.Wrong : Health.Doubtful,
            $"nothing answers at {a.Address.GetLeftPart(UriPartial.Authority)}: {a.Why}",
            all
                ? $"start the service, or say where it is: --address {service}=https://HOST:PORT (the address is from: {source})"
                : $"start that replica, or take its address away (it is from: {source}); the others are called meanwhile"
        ));

    private Finding? AddressesOrFault(string service, out IReadOnlyList<Uri> addresses, out string source)
    {
        (addresses, source) = ([], "");
        try
        {
            (addresses, source) = connection.AddressesOf(service);
            return null;
        }
        catch (FormatException e)
        {
            _canCall = false;
            return new(service, Health.Wrong, e.Message, "correct it there");
        }
    }

    private async Task<bool> KnowsVersion(string service, ulong version, CancellationToken cancel)
    {
        try
        {
            await connection
                .Client.LedgerOf(service)
                .GetEntryAsync(new GetEntryRequest { AgreementVersion = version }, cancellationToken: cancel);
            return true;
        }
        catch (RpcException)
        {
            return false;
        }
    }

    private static string Answering(IReadOnlyList<Uri> addresses, IEnumerable<(Uri Address, string? Why)> away) =>
        string.Join(", ", addresses.Except(away.Select(a => a.Address)).Select(a => a.GetLeftPart(UriPartial.Authority)));

    private static async Task<string?> Unreachable(Uri address, CancellationToken cancel)
    {
        using var soon = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        soon.CancelAfter(TimeSpan.FromSeconds(3));
        using var client = new TcpClient();
        try
        {
            await client.ConnectAsync(address.IdnHost.Trim('[', ']'), address.Port, soon.Token);
            return null;
        }
        catch (SocketException e)
        {
            return e.Message;
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            return "no connection within 3 s";
        }
    }
}
