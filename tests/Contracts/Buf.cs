using System.Diagnostics;
using Google.Protobuf.Reflection;

namespace Ministries.Contracts.Tests;

/// <summary>Runs buf on the protos of this work tree.</summary>
internal static class Buf
{
    /// <summary>The folder that holds the solution.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>The folder of the protos.</summary>
    public static string Protos { get; } = Path.Combine(Root, "protos");

    /// <summary>An image (buf's word for built protos) of the contracts as they were promised last.</summary>
    public static string Baseline { get; } = Path.Combine(Root, "tests", "Contracts", "baseline.binpb");

    /// <summary>Runs buf; what it says is the result where it fails, null where it does not.</summary>
    public static async Task<string?> Complaint(params string[] arguments)
    {
        var (code, output) = await Run(Path.Combine(Root, "tests", "Contracts", "node_modules", ".bin", "buf"), arguments);
        return code == 0 ? null : $"exit code {code}\n{output}";
    }

    /// <summary>The protos with their comments, as buf builds them.</summary>
    public static async Task<FileDescriptorSet> Build()
    {
        var image = Path.GetTempFileName();
        try
        {
            Assert.Null(await Complaint("build", Protos, "-o", image + "#format=binpb"));
            return FileDescriptorSet.Parser.ParseFrom(await File.ReadAllBytesAsync(image));
        }
        finally
        {
            File.Delete(image);
        }
    }

    /// <summary>Runs something with a copy of the protos that may be spoiled.</summary>
    public static async Task WithCopy(Func<string, Task> use)
    {
        var copy = Directory.CreateTempSubdirectory("protos").FullName;
        try
        {
            foreach (var file in Directory.EnumerateFiles(Protos, "*", SearchOption.AllDirectories))
            {
                var to = Path.Combine(copy, Path.GetRelativePath(Protos, file));
                Directory.CreateDirectory(Path.GetDirectoryName(to)!);
                File.Copy(file, to);
            }
            await use(copy);
        }
        finally
        {
            Directory.Delete(copy, recursive: true);
        }
    }

    /// <summary>Runs a program to its end.</summary>
    public static async Task<(int Code, string Output)> Run(string program, params string[] arguments)
    {
        if (Path.IsPathRooted(program) && !File.Exists(program))
            Assert.Fail("buf is not installed: run tests/run, or `npm ci --ignore-scripts` in tests/Contracts");
        var cancel = TestContext.Current.CancellationToken;
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync(cancel);
        var error = process.StandardError.ReadToEndAsync(cancel);
        await process.WaitForExitAsync(cancel);
        return (process.ExitCode, await output + await error);
    }

    private static string FindRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            if (File.Exists(Path.Combine(folder.FullName, "Ministries.sln")))
                return folder.FullName;
        throw new DirectoryNotFoundException("Ministries.sln is in no folder above the tests");
    }
}
