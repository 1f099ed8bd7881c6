using System.CommandLine;
using System.Security.Cryptography;
using NSec.Cryptography;
using PrivateFiles = Ministries.Ledger.PrivateFiles;
using WholeFile = Ministries.Ledger.WholeFile;

namespace Ministries.Ministry;

/// <summary>The verb <c>key</c>: makes a private key before there is an agreement that could list it.</summary>
internal static class KeyCommand
{
    private const string Sealing = "sealing";

    public static Command Create()
    {
        var use = new Option<string>("--use")
        {
            Required = true,
            Description = "What it is for. A key signs one kind of thing only; a key for sealing opens what is sealed.",
        };
        use.AcceptOnlyFromAmong("requests", "approvals", "agreements", "checkpoints", "cosignatures", Sealing);
        var file = new Option<string>("--out")
        {
            Required = true,
            HelpName = "file",
            Description = "The private key's file, which must not be there yet. Only its owner may use it.",
        };
        var make = new Command(
            "new",
            "Makes a private key, and prints the public key as the agreement lists it (publicKey): hand that to whoever drafts the agreement."
        )
        {
            use,
            file,
        };
        make.SetAction(result =>
        {
            try
            {
                var made = Make(result.GetRequiredValue(file), result.GetRequiredValue(use) == Sealing);
                result.InvocationConfiguration.Output.WriteLine(Convert.ToBase64String(made));
                return 0;
            }
            catch (Exception e) when (e is FormatException or IOException or UnauthorizedAccessException or CryptographicException)
            {
                result.InvocationConfiguration.Error.WriteLine(Terminal.Line(e.Message));
                return ExitCodes.WrongInput;
            }
        });
        return new Command("key", "Private keys, where no agreement lists them yet.") { make };
    }

    // A file that is there may be the only copy of a key, so it is never replaced: not even one that another makes at the same moment.
    private static byte[] Make(string file, bool seals)
    {
        if (File.Exists(file))
            throw new FormatException($"{file} is there already: a key is never replaced. Name another file");
        var next = $"{file}.{Guid.NewGuid():N}";
        try
        {
            var made = seals ? SealingKeyFile.Make(next) : MakeSigningKey(next);
            WholeFile.Place(next, file, overwrite: false);
            return made;
        }
        finally
        {
            File.Delete(next);
        }
    }

    private static byte[] MakeSigningKey(string file)
    {
        using var key = Key.Create(
            SignatureAlgorithm.Ed25519,
            new KeyCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextArchiving }
        );
        var text = key.Export(KeyBlobFormat.PkixPrivateKeyText);
        try
        {
            using var written = PrivateFiles.Open(file, FileMode.CreateNew);
            written.Write(text);
            written.Flush(flushToDisk: true);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(text);
        }
        return key.PublicKey.Export(KeyBlobFormat.RawPublicKey);
    }
}
