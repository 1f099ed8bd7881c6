using System.CommandLine;

namespace Ministries.Ministry;

/// <summary>The verb <c>completion</c>: what a shell needs to complete the words of this command.</summary>
internal sealed class CompletionCommand : Command
{
    // Each asks the command itself, hidden verb `words`, with the words up to the cursor.
    private const string Bash = """
        # For bash: source <(ministry completion bash)
        _ministry() {
          local line
          COMPREPLY=()
          _get_comp_words_by_ref -n =: words cword 2>/dev/null || { local words=("${COMP_WORDS[@]}") cword=$COMP_CWORD; }
          while IFS= read -r line; do COMPREPLY+=("$line"); done < <(ministry completion words -- "${words[@]:1:cword}" 2>/dev/null)
          [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=_] ]] && compopt -o nospace
          return 0
        }
        complete -o default -F _ministry ministry
        """;

    private const string Zsh = """
        #compdef ministry
        # For zsh: source <(ministry completion zsh)
        _ministry() {
          local -a found
          found=("${(@f)$(ministry completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
          if [[ -n "$found" ]]; then compadd -- $found; else _files; fi
        }
        compdef _ministry ministry
        """;

    private const string Fish = """
        # For fish: ministry completion fish | source
        function __ministry_words
          set -l words (commandline -opc) (commandline -ct)
          ministry completion words -- $words[2..-1] 2>/dev/null
        end
        complete -c ministry -a '(__ministry_words)'
        """;

    private CompletionCommand()
        : base("completion", "Writes what bash, zsh or fish needs to complete this command's words, ids of records included.") { }

    /// <summary>The commands whose words are completed.</summary>
    public RootCommand? Root { get; set; }

    public static Command Create()
    {
        var command = new CompletionCommand();
        foreach (var (shell, script) in ((string, string)[])[("bash", Bash), ("zsh", Zsh), ("fish", Fish)])
        {
            var one = new Command(shell, script.Split('\n')[shell == "zsh" ? 1 : 0].TrimStart('#', ' '));
            one.SetAction(result => result.InvocationConfiguration.Output.WriteLine(script));
            command.Add(one);
        }
        var words = new Argument<string[]>("word") { Arity = ArgumentArity.ZeroOrMore };
        var complete = new Command("words", "The words to which the last one may be completed.") { words };
        complete.Hidden = true;
        complete.SetAction(result =>
        {
            if (command.Root is { } root && result.GetValue(words) is { Length: > 0 } given)
                foreach (var word in Completion.Of(root, given, Shell.Of(result)))
                    result.InvocationConfiguration.Output.WriteLine(word);
        });
        command.Add(complete);
        return command;
    }
}
