using System.Diagnostics;
using System.Text;
using Ministries.Trust;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>What the command reads, from files and from standard input, as a process of its own.</summary>
public sealed class FileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("files").FullName;

    public FileTests() => Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static async Task<(int Code, string Error)> Run(byte[]? input, params string[] arguments)
    {
        using var process = Process.Start(
            new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "ministry.dll"), .. arguments])
            {
                RedirectStandardInput = true,
                RedirectStandardError = true,
                RedirectStandardOutput = true,
            }
        )!;
        var output = process.StandardOutput.ReadToEndAsync(Cancel);
        if (input is not null)
            await process.StandardInput.BaseStream.WriteAsync(input, Cancel);
        process.StandardInput.Close();
        var error = await process.StandardError.ReadToEndAsync(Cancel);
        await output;
        await process.WaitForExitAsync(Cancel);
        return (process.ExitCode, error);
    }

    private async Task<string> Write(string name, byte[] content)
    {
        var path = Path.Combine(_folder, name);
        await File.WriteAllBytesAsync(path, content, Cancel);
        return path;
    }

    [Fact]
    public async Task The_command_judges_an_agreements_file_as_the_service_reads_it()
    {
        var text = await File.ReadAllTextAsync(Path.Combine(_folder, "agreement.json"), Cancel);
        var marked = await Write("marked.json", [.. Encoding.UTF8.Preamble, .. Encoding.UTF8.GetBytes(text)]);
        var wide = await Write("wide.json", [.. Encoding.Unicode.Preamble, .. Encoding.Unicode.GetBytes(text)]);
        Assert.Equal(0, (await Run(null, "agreement", "check", marked)).Code);
        Assert.NotNull(AgreementFile.Load(marked));
        var refused = Assert.Throws<AgreementRefusedException>(() => AgreementFile.Load(wide));
        var (code, error) = await Run(null, "agreement", "check", wide);
        Assert.Equal(2, code);
        Assert.Contains(refused.Message, error);
    }

    [Fact]
    public async Task A_request_is_read_from_a_file_and_from_standard_input_alike()
    {
        string[] call =
        [
            "calllog",
            "get-call",
            "--folder",
            _folder,
            "--as",
            "kr/mfa",
            "--address",
            "calllog=https://127.0.0.1:1",
            "--timeout",
            "1",
            "--json",
        ];
        const string request = """{ "call": "call_00000000000000000000000001" }""";
        foreach (
            var (content, code, why) in new (byte[], int, string)[]
            {
                // It is read, and nobody answers.
                ([.. Encoding.UTF8.Preamble, .. Encoding.UTF8.GetBytes(request)], 3, ""),
                ([.. Encoding.Unicode.Preamble, .. Encoding.Unicode.GetBytes(request)], 2, "it is not UTF-8"),
                ([.. Encoding.UTF8.GetBytes(request), 0xff], 2, "it is not UTF-8"),
            }
        )
        {
            var file = await Run(null, [.. call, await Write("request.json", content)]);
            var input = await Run(content, [.. call, "-"]);
            Assert.Equal((code, code), (file.Code, input.Code));
            Assert.Contains(why, file.Error);
            Assert.Contains(why, input.Error);
        }
        var endless = await Run(null, [.. call, "/dev/zero"]);
        Assert.Equal(2, endless.Code);
        Assert.Contains("/dev/zero: it has more than 16 MiB", endless.Error);
    }
}
