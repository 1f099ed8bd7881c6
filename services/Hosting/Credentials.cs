using System.Collections.Concurrent;
using System.Net.Security;
using System.Runtime.ExceptionServices;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using Ministries.Errors.V1;
using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Serving;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>The service's own certificate and key, from the files that the settings name. The files are read again when they change. If
/// they cannot be read, that is logged and the previous certificate stays in use.</summary>
public sealed class Credentials
{
    private readonly Settings _settings;
    private byte[] _digest = [];
    private volatile SslStreamCertificateContext _context;

    /// <summary>Reads the files.</summary>
    /// <exception cref="CryptographicException">They hold no certificate with its key.</exception>
    public Credentials(Settings settings)
    {
        _settings = settings;
        _context = Read(out _digest);
    }

    /// <summary>The certificate with its key.</summary>
    public X509Certificate2 Certificate => _context.TargetCertificate;

    /// <summary>The certificate with the chain that is sent with it.</summary>
    public SslStreamCertificateContext Context => _context;

    /// <summary>Reads the files again where they have changed; true: the certificate is another one now.</summary>
    public bool Reload()
    {
        var digest = Digest();
        if (digest.AsSpan().SequenceEqual(_digest))
            return false;
        // Connections may still use the previous certificate: the garbage collector disposes it.
        (_context, _digest) = (Read(out digest), digest);
        return true;
    }

    private byte[] Digest() => CertificateFiles.DigestOf(_settings.Certificate, _settings.CertificateKey, _settings.SecretsFolder);

    private SslStreamCertificateContext Read(out byte[] digest)
    {
        digest = Digest();
        try
        {
            return CertificateFiles.ReadChain(_settings.Certificate, _settings.CertificateKey, _settings.SecretsFolder);
        }
        catch (ArgumentException e)
        {
            // One of the two files is replaced before the other.
            throw new CryptographicException("the key is not that of the certificate", e);
        }
    }
}

/// <summary>The agreement by which a service judges. Its versions are entries of the ledger: a version is in force here once the
/// ledger has it, and every command names the version that it was judged by.</summary>
/// <param name="settings">Where the agreement's file is.</param>
/// <param name="time">The clock.</param>
public sealed class Agreements(Settings settings, TimeProvider time)
{
    /// <summary>The stream that tells which version the ledger has; its one record has the key <see cref="Key"/>.</summary>
    public static readonly StreamKind<AgreementAdopted> Kind = new(
        "agreement",
        1,
        (state, @event, _) =>
        {
            if (@event is AgreementAdopted adopted)
                (state.Version, state.Digest) = (adopted.Version, adopted.Digest);
        }
    );

    /// <summary>The key of the one record of <see cref="Kind"/>.</summary>
    public const string Key = "agreement";

    /// <summary>The request id under which a version is recorded.</summary>
    public static string RequestIdOf(ulong version) => $"agreement-{version}";

    /// <summary>A version's position in a ledger; null: the ledger does not have it.</summary>
    internal static Task<ulong?> PositionOf(ServiceLedger ledger, ulong version, CancellationToken cancel) =>
        ledger.FindPosition($"service/{ledger.Service}", RequestIdOf(version), cancel);

    private readonly ConcurrentDictionary<ulong, Permissions> _earlier = [];
    private volatile ParsedAgreement? _inForce;
    private byte[] _digest = [];

    /// <summary>The version in force.</summary>
    public ParsedAgreement InForce => _inForce ?? throw new InvalidOperationException("no agreement has been adopted yet");

    /// <summary>Whether an agreement is in force. There may be none before the service begins to serve.</summary>
    internal bool IsInForce => _inForce is not null;

    /// <summary>The version of the agreement that judged an entry; if the ledger does not have it, the version in force.</summary>
    internal async Task<Permissions> By(ServiceLedger ledger, ulong version, CancellationToken cancel)
    {
        var inForce = InForce.Permissions;
        if (inForce.Agreement.Version == version)
            return inForce;
        if (_earlier.TryGetValue(version, out var known))
            return known;
        if (await PositionOf(ledger, version, cancel) is not { } position)
            return inForce;
        return _earlier[version] = new Permissions(await Recorded(ledger, position, cancel));
    }

    /// <summary>Reads the files of the agreement and of the key for checkpoints. If the agreement is another version than the one in force,
    /// it is recorded in the ledger and put into force. Checkpoints are signed with the key from then on, and the previous key is zeroed. A
    /// key in a token is opened once, when the service starts: to change it, start the service with another location.</summary>
    /// <exception cref="AgreementRefusedException">The key cannot be read; if an agreement was in force before, the file's agreement still
    /// comes into force, and the present key goes on signing. Or the file's agreement cannot follow the ledger's one, is not signed by the
    /// participants that it affects, does not list the key for checkpoints, or cannot be read.</exception>
    public async Task Adopt(ServiceLedger ledger, CancellationToken cancel)
    {
        byte[] text;
        try
        {
            text = AgreementFile.BytesOf(settings.Agreement);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new AgreementRefusedException("its file cannot be read", e);
        }
        var key = ledger.Key;
        AgreementRefusedException? unreadable = null;
        try
        {
            key = CheckpointKeyOf(ledger);
        }
        catch (AgreementRefusedException e) when (IsInForce)
        {
            // The version may revoke other keys, so an unreadable key does not stop it. The present key goes on signing if the version
            // lists it.
            unreadable = e;
        }
        try
        {
            await Adopt(ledger, text, key, cancel);
            if (unreadable is not null)
                throw unreadable;
        }
        finally
        {
            // It is the ledger's only if it signs from now on.
            if (!ReferenceEquals(key, ledger.Key))
                key.Dispose();
        }
    }

    private CheckpointKey CheckpointKeyOf(ServiceLedger ledger)
    {
        try
        {
            return KeySource.IsInToken(settings.CheckpointKey)
                ? ledger.Key
                : CheckpointKey.Of(ledger.Key.Name, KeySource.Open(settings.CheckpointKey, settings.SecretsFolder));
        }
        catch (KeyFileExposedException e)
        {
            throw new AgreementRefusedException(e.Message, e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new AgreementRefusedException("the file of the key for checkpoints cannot be read", e);
        }
        catch (FormatException e)
        {
            throw new AgreementRefusedException("the file for the key for checkpoints holds no key", e);
        }
    }

    private async Task Adopt(ServiceLedger ledger, byte[] text, CheckpointKey key, CancellationToken cancel)
    {
        // A key that the version in force lists signs from now on, so that a key that the next version revokes no longer signs. This is
        // done also for the same key, because its last signature may not have been written.
        var listed = _inForce is { } before && LogKeys.Of(before.Permissions.Agreement, ledger.Service).IsInForce(key, time.GetUtcNow());
        ExceptionDispatchInfo? unwritten = null;
        try
        {
            if (listed)
                Replace(ledger, key);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException)
        {
            // The key signs from now on all the same: only the last checkpoint does not bear its signature yet. The next version must not
            // wait for that, since it may revoke the key of an attacker.
            unwritten = ExceptionDispatchInfo.Capture(e);
        }
        if (!await Take(ledger, text, key, listed, cancel))
            unwritten?.Throw();
    }

    // Whether the text is of a version that is in force only now.
    private async Task<bool> Take(ServiceLedger ledger, byte[] text, CheckpointKey key, bool listed, CancellationToken cancel)
    {
        var digest = SHA256.HashData(text);
        if (digest.AsSpan().SequenceEqual(_digest))
        {
            // The key may have expired since the file was read.
            if (!listed)
                throw KeyMissing(key);
            return false;
        }
        var parsed = AgreementFile.Read(text);
        var agreement = parsed.Agreement;
        if (agreement.ValidFromTime?.ToDateTimeOffset() > time.GetUtcNow())
        {
            if (_inForce is null)
                throw new AgreementRefusedException("it is not valid yet");
            return false;
        }
        // Otherwise the operator could change the key unnoticed, and receipts from then on would prove nothing.
        var keys = LogKeys.Of(agreement, ledger.Service);
        if (!keys.IsInForce(key, time.GetUtcNow()))
            throw KeyMissing(key);
        await Record(ledger, agreement, cancel);
        ledger.JudgeWith(keys.Judging(time));
        // A handshake may still use the authorities of the previous version: the garbage collector disposes them.
        _inForce = parsed;
        _digest = digest;
        // The version is in force also where this cannot be written. The next look tries it again.
        Replace(ledger, key);
        return true;
    }

    private static void Replace(ServiceLedger ledger, CheckpointKey key)
    {
        var previous = ledger.Key;
        try
        {
            ledger.SignWith(key);
        }
        finally
        {
            if (!ReferenceEquals(previous, ledger.Key))
                previous.Dispose();
        }
    }

    private static AgreementRefusedException KeyMissing(CheckpointKey key) =>
        new(
            $"the key of this service for checkpoints, {key.Verifier}, is missing among its keys that are valid now; all participants "
                + "can supply it, by signing a version that lists it"
        );

    private async Task Record(ServiceLedger ledger, Agreement agreement, CancellationToken cancel)
    {
        var adopted = new AgreementAdopted
        {
            Version = agreement.Version,
            Digest = ByteString.CopyFrom(AgreementVersions.DigestOf(agreement)),
        };
        var known = await ledger.Find(Kind, Key, null, cancel);
        var before = known is null ? null : await Recorded(ledger, known.Position, cancel);
        if (!AgreementFile.Follows(before, agreement, time.GetUtcNow()))
            return;
        AgreementFault? late = null;
        var outcome = await ledger.Commit(
            new Command
            {
                Participant = $"service/{ledger.Service}",
                RequestId = RequestIdOf(agreement.Version),
                Method = AgreementVersions.Method,
                Request = agreement,
                Bytes = agreement.ToByteArray(),
                AgreementVersion = agreement.Version,
                // The version may revoke the very key that floods the service, and the service itself may have many duties to record.
                Precedence = (int)Precedence.Flash,
                StoresRefusal = false,
                // Verifiers judge the version at the commit time of its entry. If a key that signed it had ended by then, they would
                // accept no later entry of the log.
                Decide = (view, now) =>
                    view.Find(Kind, Key)?.Version >= agreement.Version ? Decision.Refuse(Reason.AlreadyExists)
                    : (late = AgreementVersions.Check(before, agreement, now)) is not null ? Decision.Refuse(Reason.SignatureKeyNotValid)
                    : Decision.Accept("", [Audience.Everybody], [new Change(adopted, [Kind.Id(Key)])]),
            },
            cancel
        );
        if (outcome.Refusal is not null && late is not null)
            throw new AgreementRefusedException(late);
        // Another replica may have recorded the same version, perhaps with other signatures.
        if (outcome.Refusal is not null && !adopted.Equals((await ledger.Find(Kind, Key, null, cancel))?.State))
            throw new AgreementRefusedException($"the ledger has another agreement of version {agreement.Version} or a later one");
    }

    private static async Task<Agreement> Recorded(ServiceLedger ledger, ulong position, CancellationToken cancel)
    {
        var entry =
            await ledger.ReadEntry(position, null, cancel) ?? throw new AgreementRefusedException($"entry {position} cannot be read");
        return Agreement.Parser.ParseFrom(entry.Entry.Parts.Single(p => p.Kind == PartKind.Request).Data);
    }
}

/// <summary>Adopts the agreement before the service serves, and looks for new files from then on.</summary>
internal sealed partial class Reloading(
    Agreements agreements,
    Credentials credentials,
    ServiceLedger ledger,
    EdgeLimits limits,
    TimeProvider time,
    ILogger<Reloading> log
) : SupervisedService(log)
{
    public override async Task StartAsync(CancellationToken cancel)
    {
        await agreements.Adopt(ledger, cancel);
        await base.StartAsync(cancel);
    }

    /// <inheritdoc/>
    protected override async Task Work(CancellationToken stop)
    {
        using var timer = new PeriodicTimer(limits.ReloadInterval, time);
        string? ofAgreement = null,
            ofCertificate = null;
        while (await timer.WaitForNextTickAsync(stop))
        {
            // A failure of one does not stop the other. A version of the agreement may revoke keys, so it comes first.
            ofAgreement = await Try(() => Adopt(stop), ofAgreement);
            ofCertificate = await Try(ReadCertificate, ofCertificate);
        }
    }

    private async Task Adopt(CancellationToken stop)
    {
        var before = agreements.InForce.Permissions.Agreement.Version;
        try
        {
            await agreements.Adopt(ledger, stop);
        }
        finally
        {
            // The version may be in force although the key for checkpoints cannot be read.
            if (agreements.InForce.Permissions.Agreement.Version is var now && now != before)
                LogAgreement(now);
        }
    }

    private Task ReadCertificate()
    {
        if (credentials.Reload())
            LogCertificate(credentials.Certificate.NotAfter.ToUniversalTime());
        return Task.CompletedTask;
    }

    // Reports why the reading failed, unless that was reported before. Returns the reason; null: it did not fail.
    private async Task<string?> Try(Func<Task> read, string? said)
    {
        try
        {
            await read();
            return null;
        }
        catch (Exception e)
            when (e is AgreementRefusedException or CryptographicException or IOException or UnauthorizedAccessException or LedgerException)
        {
            if (said != e.Message)
                LogKept(e.Message);
            return e.Message;
        }
    }

    [LoggerMessage(20, LogLevel.Information, "the certificate was read again; it ends at {End:O}")]
    private partial void LogCertificate(DateTime end);

    [LoggerMessage(21, LogLevel.Information, "version {Version} of the agreement is in force")]
    private partial void LogAgreement(ulong version);

    [LoggerMessage(22, LogLevel.Error, "the new files are not used: {Why}")]
    private partial void LogKept(string why);
}
