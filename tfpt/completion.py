"""Prints the script that lets a shell complete programs, flags and what flags may be.

bash: add to ~/.bashrc     source <(tfpt completion bash)
zsh:  add to ~/.zshrc      source <(tfpt completion zsh)
fish: write once           tfpt completion fish > ~/.config/fish/completions/tfpt.fish
"""

import contextlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NoReturn

from tfpt import app, config, flags, programs, registry
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.fields import Setting

PROGRAM = "Print a script for shell completion."

# Bash cuts words at = and : unless told otherwise, so the word is taken from the line; what it cut off is cut off of
# the answers, too. An empty answer leaves files to the shell.
_BASH = r"""_tfpt() {
    local line="${COMP_LINE:0:COMP_POINT}" word candidate
    word="${line##*[[:space:]]}"
    local kept="${word%"${COMP_WORDS[COMP_CWORD]}"}"
    [[ "$word" == *[=:] && "${COMP_WORDS[COMP_CWORD]}" == [=:] ]] && kept="$word"
    local words
    read -ra words <<< "${line%"$word"}"
    COMPREPLY=()
    while IFS= read -r candidate; do
        COMPREPLY+=("${candidate#"$kept"}")
    done < <(tfpt completion candidates -- "${words[@]:1}" "$word" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *[=:] ]] && compopt -o nospace
}
complete -o default -F _tfpt tfpt
"""
_ZSH = r"""_tfpt() {
    local -a found
    found=("${(@f)$(tfpt completion candidates -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    found=("${(@)found:#}")
    if (( $#found )); then
        compadd -S '' -- "${(@)found}"
    else
        compset -P '*[=:]'
        _files
    fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _tfpt tfpt
"""
_FISH = r"""function __tfpt_candidates
    set -l words (commandline -opc) (commandline -ct)
    tfpt completion candidates -- $words[2..-1] 2>/dev/null
end
complete -c tfpt -a '(__tfpt_candidates)'
"""
SCRIPTS: Mapping[str, str] = MappingProxyType({"bash": _BASH, "zsh": _ZSH, "fish": _FISH})


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the program."""
    app.run(
        _complete,
        program="completion",
        about=__doc__ or "",
        example="tfpt completion bash",
        need_experiment=False,
        positional="|".join(SCRIPTS),
        argv=argv,
    )


def _complete(parsed: flags.Parsed, console: Console) -> None:
    asked, *words = parsed.paths or ("",)
    if asked == "candidates":  # what the scripts call
        print("\n".join(candidates(words)))
    elif asked in SCRIPTS and not words:
        print(SCRIPTS[asked], end="")
    else:
        raise UserError(f"Write which shell it is for: tfpt completion {'|'.join(SCRIPTS)}.")


def candidates(words: Sequence[str]) -> list[str]:
    """Returns what the last word may become; nothing where a file is wanted.

    Args:
        words: what stands on the line behind `tfpt`; the last one is not finished and may be empty.
    """
    *before, last = words or ("",)
    known = programs.descriptions()
    if not before:
        names = [name.replace("_", "-") for name in known]
        return [name for name in [*names, "--help", "--version"] if name.startswith(last)]
    program = before[0].replace("-", "_")
    if program not in known or not last.startswith("-"):
        return []
    settings = _settings(program, before[1:])
    name, equals, value = last.removeprefix("--").partition("=")
    if not equals:
        shown = [f"--{flag}" + ("" if item.is_switch else "=") for flag, item in settings.items() if not item.hidden]
        return [flag for flag in [*shown, "--help"] if flag.startswith(last)]
    if name not in settings:
        return []
    return [f"--{name}={one}" for one in _values(settings[name]) if one.startswith(value) and one != value]


def _settings(program: str, given: Sequence[str]) -> dict[str, Setting]:
    """Returns flag -> setting, those of the components that are chosen already among them."""
    groups = programs.groups(program)
    chosen = [word for word in given if word.partition("=")[0] in ("--task", "--data", "--backbone", "--flagfile")]
    sections = flags.settings_for_help([], groups)
    with contextlib.suppress(UserError):
        sections = flags.settings_for_help(chosen, groups)
    return {item.flag: item for section in sections.values() for item in section}


def _values(setting: Setting) -> list[str]:
    if setting.flag in config.KINDS:
        return _components(setting.flag)
    if setting.choices:
        return list(setting.choices)
    if bool in setting.members:
        return ["true", "false"]
    return [member for member in setting.members if isinstance(member, str)]


def _components(kind: str) -> list[str]:
    """Returns names, and with their arguments those that have a list of them; a colon where one may follow."""
    found = []
    for name in registry.names(kind):
        cls = registry.find(kind, name)
        variants = cls.variants() if hasattr(cls, "variants") else ()
        found += [f"{name}:{variant}" for variant in variants] or [name]
    return found


if __name__ == "__main__":
    main()
