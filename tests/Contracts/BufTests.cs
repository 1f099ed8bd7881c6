namespace Ministries.Contracts.Tests;

public class BufTests
{
    private const string Events = "ministries/calllog/v1/events.proto";

    [Fact]
    public async Task Lint_finds_nothing() => Assert.Null(await Buf.Complaint("lint", Buf.Protos));

    [Fact]
    public Task Lint_finds_a_field_without_a_comment() =>
        Buf.WithCopy(async copy =>
        {
            await Spoil(Path.Combine(copy, Events), "  // The call.\n", "");
            Assert.Contains("non-empty comment", await Buf.Complaint("lint", copy));
        });

    /// <summary>The baseline holds the contracts that clients were last promised. A commit that changes it must say which clients break,
    /// and why they may.</summary>
    [Fact]
    public async Task Nothing_breaks_against_what_was_promised_last() =>
        Assert.Null(await Buf.Complaint("breaking", Buf.Protos, "--against", Buf.Baseline));

    [Fact]
    public Task A_field_that_changes_its_number_breaks() =>
        Buf.WithCopy(async copy =>
        {
            Assert.Null(await Buf.Complaint("breaking", copy, "--against", Buf.Protos));
            await Spoil(Path.Combine(copy, Events), "string call = 2;", "string call = 102;");
            Assert.Contains("field \"2\"", await Buf.Complaint("breaking", copy, "--against", Buf.Protos));
        });

    private static async Task Spoil(string file, string text, string with)
    {
        var before = await File.ReadAllTextAsync(file);
        var after = before.Replace(text, with);
        Assert.NotEqual(before, after);
        await File.WriteAllTextAsync(file, after);
    }
}
