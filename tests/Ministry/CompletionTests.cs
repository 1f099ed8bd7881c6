using System.Diagnostics;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>The scripts for the shells, loaded in them as the README says. Each completes a verb, an option and the id of a
/// record.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class CompletionTests(Services services) : IClassFixture<Services>, IDisposable
{
    private readonly string _home = Directory.CreateTempSubdirectory("completion").FullName;

    /// <summary>How each shell loads the script, and how it is asked for the words to which the last one of some may be completed: by its
    /// own function, as its editor asks.</summary>
    public static TheoryData<string, string[], string> Shells =>
        new()
        {
            {
                "bash",
                ["--noprofile", "--norc", "-c"],
                """
                    source <(ministry completion bash)
                    complete -p ministry >/dev/null || exit 1
                    completed() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}; _ministry; printf '%s\n' "${COMPREPLY[@]}"; }
                    """
            },
            {
                "zsh",
                ["--no-rcs", "-c"],
                """
                    autoload -Uz compinit && compinit -u -D
                    source <(ministry completion zsh)
                    [[ $_comps[ministry] == _ministry ]] || exit 1
                    compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -rl -- "$@"; }
                    completed() { words=("$@") CURRENT=$#; _ministry; }
                    """
            },
            {
                "fish",
                ["--no-config", "-c"],
                """
                    ministry completion fish | source
                    function completed; complete --do-complete "$argv"; end
                    """
            },
        };

    [Theory]
    [MemberData(nameof(Shells))]
    public async Task A_shell_completes_a_verb_an_option_and_an_id(string shell, string[] options, string loading)
    {
        Assert.SkipUnless(IsInstalled(shell), $"{shell} is not installed");
        var said = await Run(
            shell,
            [
                .. options,
                $"""
                {loading}
                completed ministry call
                echo ---
                completed ministry calllog log-call --counter
                echo ---
                completed ministry get case_
                echo ---
                completed ministry list calls {(shell == "bash" ? "case = case_" : "case=case_")}
                """,
            ]
        );
        var words = said.Split("---\n").Select(w => w.Split('\n', StringSplitOptions.RemoveEmptyEntries)).ToArray();
        Assert.Equal(["calllog"], words[0]);
        Assert.Equal(["--counterpart"], words[1]);
        Assert.Equal([services.Case], words[2]);
        // Bash replaces only what stands after the sign.
        Assert.Equal([shell == "bash" ? services.Case : $"case={services.Case}"], words[3]);
    }

    public void Dispose() => Directory.Delete(_home, recursive: true);

    private static bool IsInstalled(string program) =>
        Environment.GetEnvironmentVariable("PATH")!.Split(':').Any(f => File.Exists(Path.Combine(f, program)));

    private async Task<string> Run(string shell, string[] arguments)
    {
        var ministry = Path.Combine(_home, "ministry");
        await File.WriteAllTextAsync(ministry, $"#!/bin/sh\nexec dotnet '{AppContext.BaseDirectory}/ministry.dll' \"$@\"\n", Cancel);
        File.SetUnixFileMode(ministry, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        var start = new ProcessStartInfo(shell, arguments) { WorkingDirectory = _home };
        services.Name(start.Environment);
        // How long the machine takes is not what is tested.
        start.Environment["MINISTRIES_TIMEOUT"] = "60";
        start.Environment["HOME"] = _home;
        start.Environment["PATH"] = $"{_home}:{start.Environment["PATH"]}";
        return await Processes.Output(start);
    }
}
