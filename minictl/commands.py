"""Which verb is in which module: read at every start, so only names; the module is imported when the verb is run."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minictl.flags import Command

VERBS = {
    "attach": "start:ATTACH",
    "build": "build:BUILD",
    "certs": "certs:CERTS",
    "commit": "containers:COMMIT",
    "cp": "copy:CP",
    "create": "run:CREATE",
    "diff": "containers:DIFF",
    "events": "events:EVENTS",
    "exec": "exec:EXEC",
    "explain": "explain:EXPLAIN",
    "export": "archives:EXPORT",
    "history": "images:HISTORY",
    "images": "images:IMAGES",
    "import": "archives:IMPORT",
    "info": "system:INFO",
    "inspect": "inspect:INSPECT",
    "kill": "lifecycle:KILL",
    "load": "archives:LOAD",
    "login": "login:LOGIN",
    "logout": "login:LOGOUT",
    "logs": "logs:LOGS",
    "pause": "lifecycle:PAUSE",
    "port": "containers:PORT",
    "ps": "ps:PS",
    "pull": "pull:PULL",
    "push": "pull:PUSH",
    "remote-env": "remote_env:REMOTE_ENV",
    "rename": "lifecycle:RENAME",
    "restart": "lifecycle:RESTART",
    "rm": "lifecycle:RM",
    "rmi": "images:RMI",
    "run": "run:RUN",
    "save": "archives:SAVE",
    "start": "start:START",
    "stats": "stats:STATS",
    "stop": "lifecycle:STOP",
    "tag": "images:TAG",
    "top": "containers:TOP",
    "unpause": "lifecycle:UNPAUSE",
    "update": "containers:UPDATE",
    "version": "system:VERSION",
    "wait": "lifecycle:WAIT",
}

_CONTAINER = {
    name: VERBS[name]
    for name in (
        "attach", "commit", "cp", "create", "diff", "exec", "export", "kill", "logs", "pause", "port", "rename",
        "restart", "rm", "run", "start", "stats", "stop", "top", "unpause", "update", "wait",
    )
}  # fmt: skip

GROUPS: dict[str, tuple[str, dict[str, str]]] = {
    "builder": ("Manage builds", {"build": "build:BUILD", "prune": "builder:PRUNE"}),
    "container": (
        "Manage containers",
        _CONTAINER
        | {
            "inspect": "inspect:INSPECT_CONTAINER",
            "ls": "ps:PS",
            "list": "ps:PS",
            "ps": "ps:PS",
            "prune": "containers:PRUNE",
            "remove": "lifecycle:RM",
        },
    ),
    "context": (
        "Manage contexts (where daemons are)",
        {
            "create": "context:CREATE",
            "export": "context:EXPORT",
            "import": "context:IMPORT",
            "inspect": "context:INSPECT",
            "ls": "context:LS",
            "list": "context:LS",
            "rm": "context:RM",
            "remove": "context:RM",
            "show": "context:SHOW",
            "update": "context:UPDATE",
            "use": "context:USE",
        },
    ),
    "image": (
        "Manage images",
        {
            "build": "build:BUILD",
            "copy": "image_copy:COPY",
            "gc": "image_gc:GC",
            "history": "images:HISTORY",
            "import": "archives:IMPORT",
            "inspect": "inspect:INSPECT_IMAGE",
            "load": "archives:LOAD",
            "ls": "images:IMAGES",
            "list": "images:IMAGES",
            "prune": "images:PRUNE",
            "pull": "pull:PULL",
            "push": "pull:PUSH",
            "rm": "images:RMI",
            "remove": "images:RMI",
            "save": "archives:SAVE",
            "tag": "images:TAG",
            "verify": "verify:VERIFY",
        },
    ),
    "network": (
        "Manage networks",
        {
            "connect": "networks:CONNECT",
            "create": "networks:CREATE",
            "disconnect": "networks:DISCONNECT",
            "inspect": "inspect:INSPECT_NETWORK",
            "ls": "networks:LS",
            "list": "networks:LS",
            "prune": "networks:PRUNE",
            "rm": "networks:RM",
            "remove": "networks:RM",
        },
    ),
    "registry": ("Look at registries", {"test": "registry:TEST"}),
    "system": (
        "Look after the daemon",
        {
            "df": "disk:DF",
            "dial-stdio": "dial_stdio:DIAL_STDIO",
            "doctor": "doctor:DOCTOR",
            "events": "events:EVENTS",
            "info": "system:INFO",
            "prune": "disk:PRUNE",
        },
    ),
    "volume": (
        "Manage volumes",
        {
            "create": "volumes:CREATE",
            "inspect": "inspect:INSPECT_VOLUME",
            "ls": "volumes:LS",
            "list": "volumes:LS",
            "prune": "volumes:PRUNE",
            "rm": "volumes:RM",
            "remove": "volumes:RM",
        },
    ),
}

SECTIONS = (
    ("Common Commands", ("run", "exec", "ps", "logs", "stop", "rm", "build", "pull", "push", "images")),
    (
        "Containers",
        (
            "attach", "commit", "cp", "create", "diff", "export", "kill", "pause", "port", "rename", "restart",
            "start", "stats", "top", "unpause", "update", "wait",
        ),
    ),
    ("Images", ("explain", "history", "import", "load", "login", "logout", "rmi", "save", "tag")),
    ("Daemons elsewhere", ("certs", "remote-env")),
    ("Everything", ("events", "info", "inspect", "version")),
)  # fmt: skip


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
