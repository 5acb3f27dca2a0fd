"""Completion for bash, made from the same tables as `--help`. `python -m minictl.completion` prints it.

The words are in the script, so that completing one costs no start of Python; only names of containers, images,
networks and volumes are asked of the daemon.
"""

from __future__ import annotations

import sys

from minictl import commands, main, manual

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minictl.flags import Command

# What the arguments of a command are, by the word in its usage line.
_ARGUMENTS = (
    ("CONTAINER", "containers"),
    ("IMAGE", "images"),
    ("NETWORK", "networks"),
    ("VOLUME", "volumes"),
)

_SCRIPT = r"""# Completion of minictl for bash; made by `python -m minictl.completion`, not to be edited.

_minictl_names() { # _minictl_names KIND: what the daemon knows of it; nothing if it does not answer
    case $1 in
        containers) "${COMP_WORDS[0]}" ps -a --format '{{.Names}}' ;;
        images) "${COMP_WORDS[0]}" images --format '{{.Repository}}:{{.Tag}}' ;;
        networks) "${COMP_WORDS[0]}" network ls --format '{{.Name}}' ;;
        volumes) "${COMP_WORDS[0]}" volume ls --format '{{.Name}}' ;;
    esac 2>/dev/null </dev/null
}

_minictl() {
    local word=${COMP_WORDS[COMP_CWORD]} command='' flags=$_minictl_global index part
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        part=${COMP_WORDS[index]}
        case $part in
            -H | --host | -c | --context | --config | -l | --log-level | --tls*cert | --tlskey)
                [ "$command" ] || { ((index++)); continue; } ;;
        esac
        if [[ $part == -* ]]; then continue; fi
        if [ -z "$command" ]; then command=$part; elif [ "${_minictl_verbs[$command]-}" ]; then command+=" $part"; fi
        [ "${_minictl_verbs[$command]-}" ] || break
    done
    if [ -z "$command" ] && [[ $word != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$_minictl_top" -- "$word")
    elif [ "${_minictl_verbs[${command:-none}]-}" ] && [[ $word != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${_minictl_verbs[$command]}" -- "$word")
    elif [[ $word == -* ]]; then
        [ -z "$command" ] || flags="${_minictl_flags[$command]-} --help"
        mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$word")
    elif [ "${_minictl_arguments[$command]-}" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_minictl_names "${_minictl_arguments[$command]}")" -- "$word")
        if declare -F __ltrimcolonwords >/dev/null; then __ltrimcolonwords "$word"; fi
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
}

complete -o bashdefault -F _minictl minictl
"""


def script() -> str:
    """The whole completion script."""
    top = sorted({*commands.VERBS, *commands.GROUPS, "help"})
    flags: dict[str, str] = {}
    arguments: dict[str, str] = {}
    for names, command in manual.all_commands():
        for name in names:
            flags[name] = _flag_words(command)
            kind = next((kind for word, kind in _ARGUMENTS if word in command.usage), "")
            if kind:
                arguments[name] = kind
    verbs = {group: " ".join(sorted(words)) for group, (_, words) in commands.GROUPS.items()}
    top_flags = " ".join(_words_of(main.GLOBAL_FLAGS))
    head, _, body = _SCRIPT.partition("\n\n")
    tables = (
        f"_minictl_top='{' '.join(top)}'\n_minictl_global='{top_flags} --help'\n"
        + _array("_minictl_verbs", verbs)
        + _array("_minictl_flags", flags)
        + _array("_minictl_arguments", arguments)
    )
    return f"{head}\n\n{tables}\n{body}"


def _flag_words(command: Command) -> str:
    return " ".join(_words_of(command.flags))


def _words_of(table: tuple[tuple[object, ...], ...]) -> list[str]:
    return [
        word for flag in sorted(table) for word in (f"--{flag[0]}", f"-{flag[1]}" if flag[1] else "") if word
    ]


def _array(name: str, values: dict[str, str]) -> str:
    rows = "".join(f"    ['{key}']='{value}'\n" for key, value in sorted(values.items()))
    return f"declare -A {name}=(\n{rows})\n"


if __name__ == "__main__":
    sys.stdout.write(script())
