using System.CommandLine;
using System.Text.Json;
using PrivateFiles = Ministries.Ledger.PrivateFiles;
using WholeFile = Ministries.Ledger.WholeFile;

namespace Ministries.Ministry;

/// <summary>
/// The verb <c>evidence</c>: a case's history as a file that a court can verify without the services (<c>protos/EVIDENCE.md</c>).
/// </summary>
internal static class EvidenceCommand
{
    private static readonly JsonSerializerOptions Indented = new()
    {
        WriteIndented = true,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public static Command Create() =>
        new("evidence", "The history of a case or a request, as a file that can be verified by itself.") { Export(), Verify() };

    private static Command Export()
    {
        var subject = new Argument<string>("subject") { Description = "A case's id (case_…), or the id of a request of the caller's own." };
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
                    done = await new EvidenceExport(client, TimeProvider.System).Write(
                        result.GetRequiredValue(subject),
                        stream,
                        new Told(error),
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
        var agreement = new Option<FileInfo?>("--agreement")
        {
            HelpName = "file",
            Description = "The reader's own agreement.json. The keys in the evidence file must be keys of this agreement.",
        };
        var json = new Option<bool>("--json-output", "-j") { Description = "Write JSON." };
        var command = new Command(
            "verify",
            "Verifies a file offline: says what is proved, by whose signatures, and what is not; or where the file breaks (exit code 1)."
        )
        {
            file,
            agreement,
            json,
        };
        command.SetAction(result =>
        {
            var output = result.InvocationConfiguration.Output;
            EvidenceReport report;
            try
            {
                // Its signatures need no check of their own: it must be one of the file's versions, and theirs are verified.
                var own = result.GetValue(agreement) is { } path ? EvidenceFile.ReadAgreement(File.ReadAllBytes(path.FullName)) : null;
                report = EvidenceVerification.Verify(File.ReadAllBytes(result.GetRequiredValue(file).FullName), own);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
            {
                result.InvocationConfiguration.Error.WriteLine(e.Message);
                return ExitCodes.WrongInput;
            }
            if (result.GetValue(json))
                output.WriteLine(EvidenceText.ToJson(report).ToJsonString(Indented));
            else
                EvidenceText.Write(report, output);
            return report.Break is null ? 0 : ExitCodes.WasRefused;
        });
        return command;
    }

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
