using System.CommandLine;

namespace Ministries.Ministry;

/// <summary>The verb <c>completion</c>: what a shell needs to complete the words of this command.</summary>
internal sealed class CompletionCommand : Command
{
    // Each asks the command itself, hidden verb `words`, with the words up to the cursor.
    private const string Bash = """
        # For bash: source <(ministry completion bash)
        _ministry() {
          local line word words=() typed=
          COMPREPLY=()
          # Bash parts words at = too, and replaces only what stands after it.
          for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do
            if [[ ${#words[@]} -gt 0 && ( $word == = || ${words[-1]} == [a-z]*= ) ]]; then words[-1]+=$word; else words+=("$word"); fi
          done
          if [[ ${#words[@]} -gt 0 && ${words[-1]} == [a-z]*=* && $COMP_WORDBREAKS == *=* ]]; then typed=${words[-1]%%=*}=; fi
          while IFS= read -r line; do COMPREPLY+=("${line#"$typed"}"); done < <(ministry completion words -- "${words[@]}" 2>/dev/null)
          [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=_] ]] && compopt -o nospace 2>/dev/null
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
          if [[ $#found -eq 1 && $found[1] == *[=_] ]]; then compadd -S '' -- $found
          elif [[ -n "$found" ]]; then compadd -- $found; else _files; fi
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
