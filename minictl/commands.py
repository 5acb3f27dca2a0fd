"""Which verb is in which module: read at every start, so names only; a verb's module is imported when it is run."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minictl.flags import Command

VERBS = {
    "create": "run:CREATE",
    "kill": "lifecycle:KILL",
    "pause": "lifecycle:PAUSE",
    "ps": "ps:PS",
    "pull": "pull:PULL",
    "push": "pull:PUSH",
    "rename": "lifecycle:RENAME",
    "restart": "lifecycle:RESTART",
    "rm": "lifecycle:RM",
    "run": "run:RUN",
    "stop": "lifecycle:STOP",
    "unpause": "lifecycle:UNPAUSE",
    "wait": "lifecycle:WAIT",
}

GROUPS: dict[str, tuple[str, dict[str, str]]] = {
    "container": (
        "Manage containers",
        {
            "create": "run:CREATE",
            "kill": "lifecycle:KILL",
            "list": "ps:PS",
            "ls": "ps:PS",
            "pause": "lifecycle:PAUSE",
            "ps": "ps:PS",
            "remove": "lifecycle:RM",
            "rename": "lifecycle:RENAME",
            "restart": "lifecycle:RESTART",
            "rm": "lifecycle:RM",
            "run": "run:RUN",
            "stop": "lifecycle:STOP",
            "unpause": "lifecycle:UNPAUSE",
            "wait": "lifecycle:WAIT",
        },
    ),
    "image": ("Manage images", {"pull": "pull:PULL", "push": "pull:PUSH"}),
}

SECTIONS = (
    ("Common Commands", ("run", "ps", "pull", "push")),
    ("Commands", ("create", "kill", "pause", "rename", "restart", "rm", "stop", "unpause", "wait")),
)


def load(place: str, name: str) -> Command:
    """The command at `place` ("module:NAME" below minictl.verbs), to be called as `name`."""
    module, _, attribute = place.partition(":")
    command: Command = getattr(__import__(f"minictl.verbs.{module}", fromlist=(attribute,)), attribute)
    command.name = name
    return command


def names_of(name: str) -> list[str]:
    """All the ways to call the command that is called `name`."""
    first, _, verb = name.partition(" ")
    place = GROUPS[first][1][verb] if verb else VERBS[first]
    names = [
        f"{group} {word}" for group, (_, verbs) in GROUPS.items() for word, at in verbs.items() if at == place
    ]
    return names + [word for word, at in VERBS.items() if at == place]
