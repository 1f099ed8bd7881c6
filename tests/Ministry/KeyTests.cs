using Ministries.Keys;
using Ministries.Sealing;

namespace Ministries.Ministry.Tests;

/// <summary><c>ministry key new</c>: an identity's keys before there is an agreement.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class KeyTests : IDisposable
{
    private static readonly UnixFileMode Own = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private readonly string _folder = Directory.CreateTempSubdirectory("keys").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("requests")]
    [InlineData("approvals")]
    [InlineData("agreements")]
    [InlineData("checkpoints")]
    [InlineData("cosignatures")]
    public async Task A_key_that_signs_is_made_for_its_owner_alone_and_its_public_half_is_shown(string use)
    {
        var file = Path.Combine(_folder, $"{use}.key");

        var (code, output, error) = await Run("key", "new", "--use", use, "--out", file);

        Assert.True(code == 0, error);
        using var key = KeySource.Open(file);
        Assert.Equal($"{Convert.ToBase64String(key.PublicKey.Span)}\n", output);
        Assert.Equal(Own, File.GetUnixFileMode(file));
        Assert.Equal(file, Assert.Single(Directory.GetFileSystemEntries(_folder)));
    }

    [Fact]
    public async Task A_key_for_sealing_is_made_likewise()
    {
        var file = Path.Combine(_folder, "sealing.key");

        var (code, output, error) = await Run("key", "new", "--use", "sealing", "--out", file);

        Assert.True(code == 0, error);
        using var key = SealingKeySource.Open(file);
        Assert.Equal($"{Convert.ToBase64String(key.PublicKey.Bytes)}\n", output);
        Assert.Equal(Own, File.GetUnixFileMode(file));
    }

    [Theory]
    [InlineData("requests")]
    [InlineData("sealing")]
    public async Task A_file_that_is_there_is_never_replaced(string use)
    {
        var file = Path.Combine(_folder, "a.key");
        await File.WriteAllTextAsync(file, "the only copy", Services.Cancel);

        var (code, output, error) = await Run("key", "new", "--use", use, "--out", file);

        Assert.Equal((ExitCodes.WrongInput, ""), (code, output));
        Assert.Contains("is there already", error);
        Assert.Equal("the only copy", await File.ReadAllTextAsync(file, Services.Cancel));
    }

    [Fact]
    public async Task A_file_that_cannot_be_written_is_told_in_one_line()
    {
        var (code, _, error) = await Run("key", "new", "--use", "requests", "--out", Path.Combine(_folder, "none/a.key"));

        Assert.Equal(ExitCodes.WrongInput, code);
        Assert.Single(error.Trim().Split('\n'));
    }

    private static async Task<(int Code, string Output, string Error)> Run(params string[] args)
    {
        var (output, error) = (new StringWriter(), new StringWriter());
        var code = await CommandLine.Run(
            CommandLine.Create(),
            args,
            new ShellConfiguration
            {
                Shell = new Shell { Variable = _ => null, Input = () => TextReader.Null },
                Output = new Terminal(output),
                Error = new Terminal(error),
            },
            Services.Cancel
        );
        return (code, output.ToString(), error.ToString());
    }
}
