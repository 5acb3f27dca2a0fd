"""minictl(1), made from the same tables as `--help`. `python -m minictl.manual` prints it."""

from __future__ import annotations

import sys

from minictl import __version__, commands, help, main

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minictl.flags import Command, Flag

_ENVIRONMENT = (
    ("MINID_HOST, DOCKER_HOST", "Where the daemon is; the first goes before the second, -H before both."),
    ("DOCKER_CONFIG", "Directory of config.json (default ~/.docker)."),
    ("DOCKER_API_VERSION", "The API version to speak, instead of the newest that both know."),
)
_STATUSES = (
    ("0", "It worked; of run, start -a and exec: what ran ended with 0."),
    ("1", "It failed, and stderr says why."),
    (
        "125",
        "run, create: there is no such container because minictl or the daemon failed, or the command line is wrong.",
    ),
    ("126", "run, exec: the command cannot be executed."),
    ("127", "run, exec: there is no such command."),
)


def all_commands() -> list[tuple[list[str], Command]]:
    """Each command once, with all the words that call it, the shortest first; sorted."""
    names: dict[str, list[str]] = {}
    for word, place in commands.VERBS.items():
        names.setdefault(place, []).append(word)
    for group, (_, verbs) in commands.GROUPS.items():
        for word, place in verbs.items():
            names.setdefault(place, []).append(f"{group} {word}")
    listed = [(words, commands.load(place, words[0])) for place, words in names.items()]
    return sorted(listed, key=lambda one: one[0][0])


def page() -> str:
    text = f'.TH MINICTL 1 "" "minid {__version__}" "minid"\n.nh\n.ad l\n'
    text += ".SH NAME\nminictl \\- client of the container engine minid\n"
    text += ".SH SYNOPSIS\n.B minictl\n[OPTIONS] COMMAND [ARG...]\n"
    text += (
        ".SH DESCRIPTION\nRuns containers and manages images by a daemon, minid(8), with the commands and\n"
    )
    text += "flags of docker(1).\n"
    text += ".SH GLOBAL OPTIONS\n" + _flags(main.GLOBAL_FLAGS)
    text += ".SH COMMANDS\n"
    for names, command in all_commands():
        text += f".SS {_escaped(names[0])}\n"
        text += "".join(
            f".B minictl {_escaped(names[0])}\n{_escaped(line)}\n.br\n" for line in command.usage.split("\n")
        )
        text += f".PP\n{_escaped(command.summary)}.\n"
        if command.details:
            text += "".join(f".PP\n{_escaped(part)}\n" for part in command.details.split("\n\n"))
        if len(names) > 1:
            text += f".PP\nAlso: {_escaped(', '.join(f'minictl {name}' for name in names[1:]))}\n"
        text += _flags(command.flags)
    text += ".SH ENVIRONMENT\n" + _items(_ENVIRONMENT)
    text += ".SH EXIT STATUS\n" + _items(_STATUSES)
    text += ".SH FILES\n" + _items(
        (("~/.docker/config.json", "Logins, credential helpers, proxies: the docker CLI's file."),)
    )
    return text + ".SH SEE ALSO\n.BR minid (8),\n.BR minid.yaml (5)\n"


def _flags(table: tuple[Flag, ...]) -> str:
    return _items(help.flag_entry(flag) for flag in sorted(table))


def _items(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(f".TP\n.B {_escaped(tag.strip())}\n{_escaped(text)}\n" for tag, text in rows)


def _escaped(text: str) -> str:
    """For groff_man(7): no line of it is a request, nothing in it an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    text = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in text)
    return "\n".join(
        f"\\&{line}" if line.startswith((".", "'")) else line.strip() for line in text.split("\n")
    )


if __name__ == "__main__":
    sys.stdout.write(page())
