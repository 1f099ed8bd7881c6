using System.Globalization;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Grpc.Core;
using Ministries.Errors.V1;
using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Sealing;
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
        var settings = connection.Settings();
        Agreement? agreement = null;
        foreach (var finding in OfAgreement(settings.Agreement, a => agreement = a))
            yield return finding;
        var participant = agreement?.Participants.FirstOrDefault(p => p.Id == connection.As);
        if (participant is not null)
        {
            yield return OfCertificate(settings, agreement!);
            yield return OfRequestsKey(settings, participant);
            foreach (var finding in OfSealingKeys(settings, participant))
                yield return finding;
        }
        yield return OfReceipts();
        foreach (var service in Contract.Services)
        await foreach (var finding in OfService(service, agreement, cancel))
            yield return finding;
    }

    private IEnumerable<Finding> OfAgreement(string path, Action<Agreement> found)
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
        if (agreement.Participants.All(p => p.Id != connection.As))
        {
            _canCall = false;
            var near = Suggestion.Nearest(connection.As, agreement.Participants.Select(p => p.Id));
            yield return new(
                "participant",
                Health.Wrong,
                $"the agreement has no {connection.As}",
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
            PrivateFiles.MakeFolder(connection.Receipts);
            var waiting = Outbox.All(connection);
            return waiting.Count == 0
                ? new("receipts", Health.Well, connection.Receipts)
                : new(
                    "receipts",
                    Health.Doubtful,
                    $"{waiting.Count} writes were sent and not answered: {string.Join(", ", waiting.Take(4))}",
                    $"send each again with its --request-id; {connection.Receipts} says which verb it was"
                );
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

    private async IAsyncEnumerable<Finding> OfService(
        string service,
        Agreement? agreement,
        [EnumeratorCancellation] CancellationToken cancel
    )
    {
        var (addresses, source) = connection.AddressesOf(service);
        foreach (var address in addresses)
            if (await Unreachable(address, cancel) is { } why)
            {
                yield return new(
                    service,
                    Health.Wrong,
                    $"nothing answers at {address.GetLeftPart(UriPartial.Authority)}: {why}",
                    $"start the service, or say where it is: --address {service}=https://HOST:PORT (the address is from: {source})"
                );
                yield break;
            }
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
            wrong = new(service, Health.Wrong, $"it refuses you: {e.Reason}, for want of {e.Missing}", e.Unlock);
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
        yield return new(service, Health.Well, $"{addresses[0].GetLeftPart(UriPartial.Authority)} answers; {size} entries");
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
