using System.Diagnostics;
using System.Runtime.InteropServices;
using Ministries.Ledger;
using Net.Pkcs11Interop.Common;
using Net.Pkcs11Interop.HighLevelAPI;

[assembly: System.Runtime.Versioning.UnsupportedOSPlatform("windows")]

namespace Ministries.Keys.Tests;

/// <summary>SoftHSM, with tokens in a folder of this process. SoftHSM knows the tokens that are there when it is loaded, so they are made
/// before: one for most tests, and for each test that takes keys away one of its own.</summary>
public sealed class SoftToken
{
    public const string Module = "/usr/lib/softhsm/libsofthsm2.so";
    public const string Stays = "ministries";
    public const string Goes = "goes";
    public const string Empties = "empties";

    private static readonly string[] Labels = [Stays, Goes, Empties];

    private const string Pin = "4812-7733";
    private static readonly Lazy<SoftToken> Once = new(() => new SoftToken());
    private static int _last;

    private SoftToken()
    {
        Folder = Directory.CreateTempSubdirectory("tokens-").FullName;
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(Folder, recursive: true);
        Directory.CreateDirectory(Path.Combine(Folder, "tokens"));
        var configuration = Path.Combine(Folder, "softhsm2.conf");
        File.WriteAllText(
            configuration,
            $"directories.tokendir = {Path.Combine(Folder, "tokens")}\nobjectstore.backend = file\nlog.level = ERROR\n"
        );
        // The module reads the C library's environment, which .NET does not change.
        _ = SetVariable("SOFTHSM2_CONF", configuration, 1);
        Environment.SetEnvironmentVariable("SOFTHSM2_CONF", configuration);
        PinFile = Path.Combine(Folder, "pin");
        using (var pin = new StreamWriter(PrivateFiles.Open(PinFile, FileMode.Create)))
            pin.WriteLine(Pin);
        foreach (var label in Labels)
            Util("--init-token", "--free", "--label", label, "--so-pin", "a5b5-0c0c", "--pin", Pin);
    }

    public static SoftToken Here => Once.Value;

    public string Folder { get; }

    public string PinFile { get; }

    /// <summary>Puts the key of a file into a token, and deletes the file.</summary>
    /// <returns>Its location.</returns>
    public string Move(string file, string token = Stays, string? label = null)
    {
        var number = Interlocked.Increment(ref _last);
        label ??= $"key-{number}";
        Util("--import", file, "--token", token, "--label", label, "--id", $"{number:x8}", "--pin", Pin);
        File.Delete(file);
        return Location(label, token);
    }

    /// <summary>Makes an X25519 key in the token.</summary>
    /// <returns>Its location, without that of another half.</returns>
    public string MakeX25519()
    {
        var label = $"key-{Interlocked.Increment(ref _last)}";
        var attributes = Token.Factories.ObjectAttributeFactory;
        using var session = Open(Stays);
        // SoftHSM makes Montgomery keys by the mechanism of Edwards keys (CKM_EC_EDWARDS_KEY_PAIR_GEN), told apart by the curve.
        using var mechanism = Token.Factories.MechanismFactory.Create(0x1055ul);
        session.GenerateKeyPair(
            mechanism,
            [
                attributes.Create(CKA.CKA_TOKEN, true),
                attributes.Create(CKA.CKA_EC_PARAMS, (byte[])[6, 3, 0x2b, 0x65, 0x6e]),
                attributes.Create(CKA.CKA_LABEL, label),
            ],
            [
                attributes.Create(CKA.CKA_TOKEN, true),
                attributes.Create(CKA.CKA_PRIVATE, true),
                attributes.Create(CKA.CKA_SENSITIVE, true),
                attributes.Create(CKA.CKA_EXTRACTABLE, false),
                attributes.Create(CKA.CKA_DERIVE, true),
                attributes.Create(CKA.CKA_LABEL, label),
            ],
            out _,
            out _
        );
        return Location(label, Stays);
    }

    public string Location(string label, string token, string? pin = null) =>
        $"pkcs11:token={token};object={label};type=private?module-path={Module}&pin-source=file:{pin ?? PinFile}";

    /// <summary>Removes a key from its token.</summary>
    public static void Remove(string location)
    {
        var uri = TokenUri.Parse(location, null);
        using var session = Open(Labels.Single(l => uri.Names(l, "", "", "")));
        var label = Token.Factories.ObjectAttributeFactory.Create(CKA.CKA_LABEL, uri.Object!);
        foreach (var found in session.FindAllObjects([label]))
            session.DestroyObject(found);
    }

    private static ISession Open(string token)
    {
        var slots = Token.ModuleAt(Module).GetSlotList(SlotsType.WithTokenPresent);
        var session = slots.Single(s => s.GetTokenInfo().Label.Trim() == token).OpenSession(SessionType.ReadWrite);
        try
        {
            session.Login(CKU.CKU_USER, Pin);
        }
        catch (Pkcs11Exception e) when (e.RV == CKR.CKR_USER_ALREADY_LOGGED_IN) { }
        return session;
    }

    private static void Util(params string[] arguments)
    {
        using var process = Process.Start(
            new ProcessStartInfo("softhsm2-util", arguments) { RedirectStandardOutput = true, RedirectStandardError = true }
        )!;
        var text = process.StandardOutput.ReadToEnd() + process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, text);
    }

    [DllImport("libc", EntryPoint = "setenv")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int SetVariable(
        [MarshalAs(UnmanagedType.LPUTF8Str)] string name,
        [MarshalAs(UnmanagedType.LPUTF8Str)] string value,
        int overwrite
    );
}
