"""Shell scripts of tab completion: each calls ``reglab completion query <line>``.

bash breaks words at ``=`` and ``:`` (COMP_WORDBREAKS), so it is given only what follows the last
break.
"""

_BASH = r"""
_reglab() {
    local line="${COMP_LINE:0:COMP_POINT}" word="" prefix="" reply
    [[ "$line" =~ [^[:space:]]*$ ]] && word="${BASH_REMATCH[0]}"
    [[ "$word" == *[=:]* ]] && prefix="${word%"${word##*[=:]}"}"
    COMPREPLY=()
    while IFS= read -r reply; do
        COMPREPLY+=("${reply#"$prefix"}")
    done < <(reglab completion query "$line" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then compopt -o default
    elif [[ "${COMPREPLY[0]}" == *[=.] || "$word" == *=\[* ]]; then compopt -o nospace; fi
}
complete -F _reglab reglab
"""

_ZSH = r"""
_reglab() {
    local -a replies
    replies=("${(@f)$(reglab completion query "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    replies=(${replies:#})
    if (( ${#replies} == 0 )); then _files; return; fi
    if [[ "${replies[1]}" == *[=.] || "$PREFIX" == *=\[* ]]; then compadd -Q -S '' -U -- "${replies[@]}"
    else compadd -Q -U -- "${replies[@]}"; fi
}
compdef _reglab reglab
"""

_FISH = r"""
function __reglab_complete
    reglab completion query (commandline -cp) 2>/dev/null
end
complete -c reglab -f -a '(__reglab_complete)'
"""

SCRIPTS = {"bash": _BASH.lstrip(), "zsh": _ZSH.lstrip(), "fish": _FISH.lstrip()}

INSTALL = {
    "bash": 'add to ~/.bashrc:  eval "$(reglab completion bash)"',
    "zsh": 'add to ~/.zshrc, after compinit:  eval "$(reglab completion zsh)"',
    "fish": "reglab completion fish > ~/.config/fish/completions/reglab.fish",
}
