"""Help texts, made from the same tables that the parser uses, and what to say of a command that doesn't exist."""

from __future__ import annotations

from minictl import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minictl import flags

_WIDTH = 100
_DOCKERS_OWN = (
    "build", "builder", "buildx", "checkpoint", "compose", "config", "manifest", "node", "plugin",
    "search", "secret", "service", "stack", "swarm", "trust",
)  # fmt: skip


def overview(global_flags: tuple[flags.Flag, ...]) -> str:
    """`minictl --help`."""
    lines = [
        "Usage:  minictl [OPTIONS] COMMAND",
        "",
        "The thin client of minid: runs containers and manages images.",
        "",
    ]
    for title, names in commands.SECTIONS:
        lines.append(f"{title}:")
        rows = [(name, commands.load(commands.VERBS[name], name).summary) for name in names]
        lines += _rows(rows)
        lines.append("")
    lines.append("Management Commands:")
    lines += _rows([(name, summary) for name, (summary, _) in sorted(commands.GROUPS.items())])
    lines += ["", "Global Options:", *_flag_lines(global_flags), ""]
    lines.append(
        "The daemon is looked for at -H, --context, $MINID_HOST, $DOCKER_HOST, $DOCKER_CONTEXT, the context in use,"
    )
    lines.append("unix:///run/minid/minid.sock, in this order.")
    lines.append("Run 'minictl COMMAND --help' for more information on a command.")
    return "\n".join(lines)


def group(name: str) -> str:
    """`minictl container`."""
    summary, verbs = commands.GROUPS[name]
    shown: dict[str, str] = {}
    for verb, place in sorted(verbs.items()):
        if place not in shown.values() or (verb == commands.load(place, verb).name and verb not in shown):
            shown.setdefault(verb, place)
    rows = []
    seen = set()
    for verb, place in verbs.items():
        if place not in seen:
            seen.add(place)
            rows.append((verb, commands.load(place, verb).summary))
    return "\n".join(
        [
            f"Usage:  minictl {name} COMMAND", "", summary, "", "Commands:", *_rows(sorted(rows)), "",
            f"Run 'minictl {name} COMMAND --help' for more information on a command.",
        ]
    )  # fmt: skip


def command(wanted: flags.Command) -> str:
    """`minictl run --help`."""
    lines = [*usage(wanted), "", wanted.summary]
    if wanted.details:
        lines += ["", wanted.details]
    names = commands.names_of(wanted.name)
    if len(names) > 1:
        lines += ["", "Aliases:", "  " + ", ".join(f"minictl {name}" for name in names)]
    if wanted.flags:
        lines += ["", "Options:", *_flag_lines(wanted.flags)]
    return "\n".join(lines)


def usage(wanted: flags.Command) -> list[str]:
    first, *others = wanted.usage.split("\n")
    return [
        f"Usage:  minictl {wanted.name} {first}",
        *(f"\tminictl {wanted.name} {line}" for line in others),
    ]


def after_usage_error(wanted: flags.Command | None, message: str) -> str:
    """What follows the complaint `message` about a command line."""
    word = "See" if "requires at least" in message and "at most" not in message else "Run"
    if wanted is None or not wanted.name:
        return "\nUsage:  minictl [OPTIONS] COMMAND [ARG...]\n\nRun 'minictl --help' for more information"
    return "\n" + "\n".join(usage(wanted)) + f"\n\n{word} 'minictl {wanted.name} --help' for more information"


def unknown(words: str, known: list[str], prefix: str) -> str:
    """The complaint about an unknown command, with the nearest one that exists."""
    import difflib

    word = words.rpartition(" ")[2]
    near = (
        difflib.get_close_matches(word, known, 2, 0.55)
        or [name for name in known if name.startswith(word)][:2]
    )
    place = f"{prefix} " if prefix else ""
    text = f"minictl: unknown command: minictl {words}\n"
    if word in _DOCKERS_OWN and not prefix:
        return (
            text
            + f"\nThe docker CLI has `{word}`; minictl has not (yet). Run 'minictl --help' for what it has"
        )
    if near:
        text += "\nDid you mean: " + " or ".join(f"minictl {place}{name}" for name in near) + "?\n"
    return text + f"\nRun 'minictl {place}--help' for more information"


def _rows(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"  {name.ljust(width)}   {summary}" for name, summary in rows]


_SHOWN_TYPES = {"swap": "bytes", "bool": ""}


def flag_entry(flag: flags.Flag) -> tuple[str, str]:
    """`  -m, --memory bytes` and what it does with its default: a line of help, an entry of the man page."""
    name, short, kind, text = flag[:4]
    head = f"  -{short}, --{name}" if short else f"      --{name}"
    shown = _SHOWN_TYPES.get(kind, kind)
    if shown:
        head += f" {shown}"
    if len(flag) > 4 and flag[4] not in ("", False):
        text += f" (default {_default(flag[4])})"
    return head, text


def _flag_lines(table: tuple[flags.Flag, ...]) -> list[str]:
    """One entry a flag, sorted by name: short and long name, type, help and default, wrapped at 100 columns."""
    entries = [flag_entry(flag) for flag in sorted(table)]
    width = min(max(len(head) for head, _ in entries) + 3, 40)
    lines = []
    for head, text in entries:
        first = head.ljust(width)
        if len(head) >= width:
            lines.append(head)
            first = " " * width
        for index, part in enumerate(_wrapped(text, _WIDTH - width)):
            lines.append((first if index == 0 else " " * width) + part)
    return lines


def _default(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return "true" if value is True else str(value)


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines
