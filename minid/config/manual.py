"""What is written about the options for people: ``minid(8)``, ``minid.yaml(5)`` and a file to begin with. Pure.

Made from the same table as ``--help`` and the parsers. ``python -m minid.config.manual minid.8`` prints one.
"""

import json
import sys
from collections.abc import Iterable

from minid import __version__
from minid.config.flags import PROGRAM_FLAGS, effective, row
from minid.config.options import NO_EFFECT, OPTIONS, Option
from minid.exits import ExitStatus

# Where the default says nothing about how a value is written.
_EXAMPLES = {
    "hosts": "[unix:///run/minid/minid.sock]",
    "registries": "{registry.example: {hosts: [{url: https://mirror.example}]}}",
    "image-gc": "{max-age: 30d, min-free: 10g, interval: 1h}",
    "builder": "{gc: {enabled: true, defaultKeepStorage: 20gb}}",
    "default-shm-size": "64m",
}
_SIGNALS = (
    ("SIGTERM, SIGINT", "Stop. Containers go on running and are found again at the next start."),
    ("SIGHUP", "Read the configuration file again; a file with errors changes nothing. See minid.yaml(5)."),
)
_FILES = (
    ("/etc/minid/minid.yaml", "The configuration, see minid.yaml(5)."),
    ("/etc/minid/certs.d, /etc/docker/certs.d", "Certificates of registries, and hosts.toml."),
    ("/var/lib/minid", "Images, containers, volumes (--data-root)."),
    ("/run/minid/minid.sock", "The socket of the Docker Engine API."),
)


def example() -> str:
    """``/etc/minid/minid.yaml`` to begin with: all options that have an effect, each commented out."""
    lines = [
        "# The configuration of minid, see minid.yaml(5). Each key is spelled as in dockerd's daemon.json.",
        "# A line that begins with # and a key shows the option's default, or an example where there is none:",
        "# take the # away and change it. `minid --validate` checks the file; `systemctl reload minid` takes over what",
        "# is marked (reload), the rest waits for `systemctl restart minid`. Containers go on running through both.",
    ]
    for option in _keys():
        lines += ["", f"# {option.help}{' (reload)' if option.reload else ''}"]
        if option.key == "hosts":
            lines.append("# Under systemd the socket is minid.socket's: change it there.")
        lines.append(f"#{option.key}: {_value(option)}")
    return "\n".join(lines) + "\n"


def _keys() -> list[Option]:
    """The options that do something, in the table's order."""
    return [option for option in OPTIONS if option.field and option.why == NO_EFFECT]


def _value(option: Option) -> str:
    """As YAML."""
    if option.key in _EXAMPLES:
        return _EXAMPLES[option.key]
    default = list(option.default) if isinstance(option.default, tuple) else option.default
    return json.dumps(default)


def minid_8() -> str:
    """The man page of the daemon."""
    return _page(
        "MINID",
        8,
        ("NAME", "minid \\- a small container engine behind the Docker Engine API"),
        ("SYNOPSIS", ".B minid\n[OPTIONS]"),
        (
            "DESCRIPTION",
            _text(
                "minid pulls and builds images, makes containers of them and runs these, for clients of the Docker "
                "Engine API: minictl(1), docker(1) and others. Containers do not need it to go on running."
            ),
        ),
        ("OPTIONS", _items((*PROGRAM_FLAGS, *map(row, effective())), sort=True)),
        (
            "FLAGS WITHOUT EFFECT",
            _text("These flags of dockerd are understood and have no effect in this version:")
            + _text(
                ", ".join(sorted(f"--{one.flag}" for one in OPTIONS if one.flag and one not in effective()))
            ),
        ),
        ("SIGNALS", _items(_SIGNALS)),
        ("EXIT STATUS", _items((str(status.value), f"{status.meaning}.") for status in ExitStatus)),
        ("FILES", _items(_FILES)),
        ("SEE ALSO", ".BR minictl (1),\n.BR minid.yaml (5)"),
    )


def minid_yaml_5() -> str:
    """The man page of the configuration file."""
    reloadable = ", ".join(sorted(option.key for option in OPTIONS if option.reload))
    return _page(
        "MINID.YAML",
        5,
        ("NAME", "minid.yaml \\- configuration of minid"),
        ("SYNOPSIS", ".I /etc/minid/minid.yaml"),
        (
            "DESCRIPTION",
            _text(
                "A YAML mapping with the keys of dockerd's daemon.json; JSON is YAML, so that a daemon.json is valid "
                "as it stands. An unknown key or a value of the wrong type is an error that names key and line. An "
                "option that is both here and a flag is an error. Flags that are repeated are lists here."
            ),
        ),
        ("KEYS", _items((f"{one.key}: {_value(one)}", _about(one)) for one in _keys())),
        (
            "KEYS WITHOUT EFFECT",
            _text("These keys of daemon.json are understood and have no effect in this version:")
            + _text(", ".join(sorted(one.key for one in OPTIONS if one not in _keys()))),
        ),
        (
            "RELOADING",
            _text(
                f"SIGHUP (systemctl reload minid) reads the file again, all or nothing. These change while running: "
                f"{reloadable}. The others wait for a restart, and the log names them."
            ),
        ),
        ("SEE ALSO", ".BR minid (8)"),
    )


def _about(option: Option) -> str:
    flag = f" Flag: --{option.flag}." if option.flag else ""
    return f"{option.help}.{flag}{' Changes by SIGHUP.' if option.reload else ''}"


def _page(name: str, section: int, *sections: tuple[str, str]) -> str:
    head = f'.TH {name} {section} "" "minid {__version__}" "minid"\n.nh\n.ad l\n'
    return head + "".join(f".SH {title}\n{body.rstrip()}\n" for title, body in sections)


def _text(text: str) -> str:
    return f".PP\n{escaped(text)}\n"


def _items(rows: Iterable[tuple[str, str]], *, sort: bool = False) -> str:
    """Tagged paragraphs; sorted by the long flag if wanted."""
    listed = [(tag.strip(), text) for tag, text in rows]
    if sort:
        listed.sort(key=lambda one: one[0].partition("--")[2])
    return "".join(f".TP\n.B {escaped(tag)}\n{escaped(text)}\n" for tag, text in listed)


def escaped(text: str) -> str:
    """For groff_man(7): nothing in it is a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    text = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in text)
    return f"\\&{text}" if text.startswith((".", "'")) else text


PAGES = {"minid.8": minid_8, "minid.yaml.5": minid_yaml_5, "minid.yaml": example}

if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
