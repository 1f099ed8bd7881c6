using System.CommandLine;
using System.Security.Cryptography;
using Ministries.Trust;
using PrivateFiles = Ministries.Ledger.PrivateFiles;
using WholeFile = Ministries.Ledger.WholeFile;

namespace Ministries.Ministry;

/// <summary>
/// The verb <c>evidence</c>: a case's history as a file that a court can verify without the services (<c>protos/EVIDENCE.md</c>).
/// </summary>
internal static class EvidenceCommand
{
    public static Command Create() =>
        new("evidence", "The history of a case or a request, as a file that can be verified by itself.") { Export(), Verify() };

    private static Command Export()
    {
        var subject = new Argument<string>("subject") { Description = "A case's id (case_…), or the id of a request of the caller's own." };
        Completion.AddIds(subject, "case");
        var file = new Option<FileInfo>("--out")
        {
            Required = true,
            HelpName = "file",
            Description = "The file to write; it must not exist.",
        };
        var command = new Command("export", "Writes the history as far as the caller may see it, signed by the caller.") { subject, file };
        CallCommands.SetCall(
            command,
            async (result, connection, cancel) =>
            {
                var client = connection.Client;
                var (error, path) = (result.InvocationConfiguration.Error, result.GetRequiredValue(file).FullName);
                if (File.Exists(path))
                    throw new FormatException($"{path} exists already");
                var next = path + ".next";
                Exported done;
                File.Delete(next);
                await using (var stream = PrivateFiles.Open(next, FileMode.CreateNew))
                {
                    var export = new EvidenceExport(client, TimeProvider.System);
                    done = await connection.Reach(
                        () => export.Service,
                        () => export.Write(result.GetRequiredValue(subject), stream, new Told(error), cancel),
                        "",
                        cancel
                    );
                    stream.Flush(flushToDisk: true);
                }
                WholeFile.Place(next, path, overwrite: false);
                await error.WriteLineAsync($"{string.Join(", ", done.Entries.Select(e => $"{e.Value} entries of {e.Key}"))} in {path}");
                if (done.Privileged > 0)
                    await error.WriteLineAsync(
                        $"{done.Privileged} of them are marked as privileged: a neutral observer has not permitted to show them"
                    );
                if (done.Uncosigned.Count > 0)
                    await error.WriteLineAsync(
                        $"not cosigned as the agreement demands: {string.Join(", ", done.Uncosigned)}; export again later"
                    );
                return 0;
            }
        );
        return command;
    }

    private static Command Verify()
    {
        var file = new Argument<FileInfo>("file") { Description = "The evidence file." };
        var agreement = new Option<string?>("--agreement")
        {
            HelpName = "file|digest",
            Description =
                "The reader's own agreement.json, or its digest (64 hexadecimal digits). The keys in the evidence file must be keys of this agreement. Not given: that of the folder "
                + "that a variable or the profile names, if it has one; none: without one.",
        };
        var command = new Command(
            "verify",
            "Verifies a file offline: says what is proved, by whose signatures, and what is not; or where the file breaks (exit code 1)."
        )
        {
            file,
            agreement,
            Options.Profile,
            Options.Zone,
            Options.Output,
            Options.Json,
        };
        CallCommands.SetRun(
            command,
            (result, connection, _) => Verify(connection, result.GetRequiredValue(file).FullName, result.GetValue(agreement))
        );
        return command;
    }

    private static async Task<int> Verify(Connection connection, string file, string? agreement)
    {
        if (agreement is null && connection.ValueOf("folder") is { Length: > 0 } folder)
        {
            var path = Path.Combine(folder, "agreement.json");
            if (File.Exists(path))
            {
                // Nobody has typed it, and another agreement would make every key a wrong one.
                connection.Error.Paragraph($"compared with {path}, which {connection.SourceOf("folder")} names");
                agreement = path;
            }
        }
        // Its signatures need no check of their own: it must be one of the file's versions, and theirs are verified.
        var own =
            agreement is null or "none" ? null
            : IsDigest(agreement) ? Convert.FromHexString(agreement)
            : AgreementVersions.DigestOf(EvidenceFile.ReadAgreement(File.ReadAllBytes(agreement)));
        var report = await connection.Error.While(
            $"verifying {Path.GetFileName(file)}",
            () => Task.Run(() => EvidenceVerification.Verify(File.ReadAllBytes(file), own))
        );
        if (!Answers.WriteData(connection, EvidenceText.ToJson(report)))
            EvidenceText.Write(report, connection.Screen);
        return report.Break is null ? ExitCodes.Done : ExitCodes.WasRefused;
    }

    private static bool IsDigest(string text) => text.Length == 2 * SHA256.HashSizeInBytes && text.All(char.IsAsciiHexDigit);

    private sealed class Told(TextWriter error) : IProgress<string>
    {
        private string _last = "";

        public void Report(string value)
        {
            if (value == _last)
                return;
            _last = value;
            error.WriteLine(value);
        }
    }
}
