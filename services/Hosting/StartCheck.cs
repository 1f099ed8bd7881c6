using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Serving;
using Ministries.Trust;

namespace Ministries.Hosting;

/// <summary>Finds what keeps a service from starting before anything is opened, so that all faults of one start are told together, each
/// with its setting and its file or address. A setting with a known fault is not checked again.</summary>
/// <param name="settings">The settings as far as they could be read.</param>
internal sealed class StartCheck(Settings settings)
{
    private readonly List<string> _faults = [];
    private readonly List<string> _taken = [];

    /// <summary>What another attempt does not mend.</summary>
    public IReadOnlyList<string> Faults => _faults;

    /// <summary>Addresses that another process uses; it may end.</summary>
    public IReadOnlyList<string> Taken => _taken;

    /// <summary>Checks everything.</summary>
    /// <param name="cancel">Ends it.</param>
    public async Task Run(CancellationToken cancel)
    {
        if (ProcessLimits.Descriptors() is { } most and < EdgeLimits.LeastDescriptors)
            _faults.Add(
                $"the process may have {most} descriptors, and needs {EdgeLimits.LeastDescriptors}: ulimit -n, or ulimits.nofile of compose"
            );
        CheckCertificate();
        Try("Agreement", settings.Agreement, file => AgreementFile.Load(file));
        CheckKey();
        if (settings.BrokerAuthority is { } authority)
            Try("Broker:Authority", authority, CheckAuthority);
        CheckFolder("Checkpoint:File", settings.Checkpoint);
        if (settings.Checkpoint.Length > 0)
            foreach (var beside in ServiceLedger.FilesBeside(settings.Checkpoint))
                CheckBeside("Checkpoint:File", beside);
        const string sqlite = "sqlite:";
        if (settings.Ledger.StartsWith(sqlite, StringComparison.Ordinal))
            CheckFolder("Ledger:Connection", settings.Ledger[sqlite.Length..]);
        else if (settings.Ledger.Length > 0)
            _faults.AddRange((await LedgerConnection.Faults(settings.Ledger, cancel)).Select(f => $"Ledger:Connection: {f}"));
        CheckAddress("Listen", settings.Listen, ServiceHost.AddressesOf);
        if (settings.Metrics is { } metrics)
            CheckAddress("Metrics:Listen", metrics, Addresses.OwnOf);
    }

    private void CheckCertificate()
    {
        var text = "";
        Try(
            "Certificate",
            settings.Certificate,
            file =>
            {
                var read = File.ReadAllText(file);
                X509Certificate2.CreateFromPem(read).Dispose();
                text = read;
            }
        );
        if (text.Length > 0)
            Try(
                "CertificateKey",
                KeySource.PathOf(settings.CertificateKey, settings.SecretsFolder) ?? settings.CertificateKey,
                _ =>
                {
                    try
                    {
                        CertificateFiles.Read(settings.Certificate, settings.CertificateKey, settings.SecretsFolder).Dispose();
                    }
                    catch (ArgumentException e)
                    {
                        throw new FormatException($"the key is not that of the certificate in {settings.Certificate}", e);
                    }
                }
            );
    }

    private void CheckKey()
    {
        try
        {
            // A file that is missing, or that others may read, was told with the settings.
            if (KeySource.Wrong(settings.CheckpointKey, settings.SecretsFolder) is null)
                KeySource.Open(settings.CheckpointKey, settings.SecretsFolder).Dispose();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            _faults.Add($"Checkpoint:Key: {e.Message}");
        }
    }

    private static void CheckAuthority(string file)
    {
        var authorities = new X509Certificate2Collection();
        authorities.ImportFromPemFile(file);
        if (authorities.Count == 0)
            throw new FormatException("there is no certificate in PEM");
    }

    private void Try(string setting, string file, Action<string> read)
    {
        // A file that is missing, or a key that others may read, was told with the settings.
        if (!File.Exists(file))
            return;
        try
        {
            read(file);
        }
        catch (KeyFileExposedException) { }
        catch (Exception e)
            when (e is IOException or UnauthorizedAccessException or CryptographicException or FormatException or ArgumentException)
        {
            _faults.Add($"{setting}: {file}: {e.Message}");
        }
    }

    // The folder is made as the ledger would make it, and a file is made in it and removed.
    private void CheckFolder(string setting, string path)
    {
        if (path.Length == 0)
            return;
        try
        {
            var folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
            PrivateFiles.MakeFolder(folder);
            var probe = Path.Combine(folder, $".{Guid.NewGuid():N}");
            PrivateFiles.Open(probe, FileMode.CreateNew).Dispose();
            File.Delete(probe);
            if (Directory.Exists(path))
                throw new IOException("it is a folder");
            if (File.Exists(path) && setting == "Checkpoint:File")
                PrivateFiles.Open(path, FileMode.Open, share: FileShare.ReadWrite | FileShare.Delete).Dispose();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            _faults.Add($"{setting}: {path} cannot be written: {e.Message}");
        }
    }

    // A file that is missing is made, and one that is there is replaced. It holds one checkpoint.
    private void CheckBeside(string setting, string path)
    {
        try
        {
            if (Directory.Exists(path))
                throw new IOException("it is a folder");
            if (!File.Exists(path))
                return;
            using var file = PrivateFiles.Open(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            if (file.Length > MaxNoteBytes)
                throw new IOException($"it is larger than {MaxNoteBytes} bytes, and so no checkpoint");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _faults.Add($"{setting}: {path} cannot be used: {e.Message}");
        }
    }

    // Every character of a signed note takes at most three bytes: a pair of them takes four.
    private const int MaxNoteBytes = SignedNote.MaxLength * 3;

    private void CheckAddress(string setting, Uri listen, Func<Uri, IReadOnlyList<IPEndPoint>> resolve)
    {
        if (listen.Scheme == "none" || listen.Port <= 0)
            return;
        try
        {
            foreach (var address in resolve(listen))
            {
                using var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
                if (address.Address.Equals(IPAddress.IPv6Any))
                    socket.DualMode = true;
                socket.Bind(address);
                socket.Listen();
            }
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.AddressAlreadyInUse)
        {
            _taken.Add($"{setting}: another process uses port {listen.Port} of {listen.Host}");
        }
        catch (SocketException e)
        {
            _faults.Add($"{setting}: {listen} cannot be listened at: {e.Message}");
        }
    }
}
