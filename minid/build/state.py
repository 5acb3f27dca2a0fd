"""A stage as it is after each of its instructions: config, layers, history. Pure.

Instructions that only change the config are done here (``apply``); what they come to is what ``docker build`` makes of
them. Source: docs.docker.com/reference/dockerfile; OCI image-spec config.md.
"""

import dataclasses
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minid.build.dockerfile.model import (
    Cmd,
    Command,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from minid.errors import InvalidParameter
from minid.images.model import Image

DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# An address and a port of the host may be before it, and mean nothing: ``check`` warns (ExposeInvalidFormat).
_PORT = re.compile(
    r"(?:(?:[\d.]+:)?[\d-]*:)?(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class StageState:
    """``document`` is the image's JSON without config, history and rootfs; ``config`` its ``config`` object."""

    document: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    diff_ids: tuple[str, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    bases: tuple[Image, ...] = ()  # whose layers are among ``diff_ids``
    parent_id: str = ""
    cmd_set: bool = False  # by this stage, so that ENTRYPOINT leaves it
    keys: tuple[tuple[str, str], ...] = ()  # cache key → diff ID ("" for none) of the steps so far

    @property
    def env(self) -> dict[str, str]:
        pairs = (item.partition("=") for item in self.config.get("Env") or ())
        return {name: value for name, _, value in pairs}

    @property
    def workdir(self) -> str:
        return self.config.get("WorkingDir") or "/"

    @property
    def user(self) -> str:
        return self.config.get("User") or ""

    @property
    def shell(self) -> tuple[str, ...]:
        return tuple(self.config.get("Shell") or DEFAULT_SHELL)

    def with_config(self, **changes: Any) -> "StageState":
        return dataclasses.replace(self, config={**self.config, **changes})

    def with_step(self, created: str, created_by: str, diff_id: str | None) -> "StageState":
        """After one more step of the history, which made the layer ``diff_id`` or none."""
        step: dict[str, Any] = {"created": created, "created_by": created_by}
        if self.document.get("author"):
            step["author"] = self.document["author"]
        if diff_id is None:
            step["empty_layer"] = True
        return dataclasses.replace(
            self,
            history=(*self.history, step),
            diff_ids=(*self.diff_ids, diff_id) if diff_id else self.diff_ids,
        )

    def image_document(self, created: str) -> dict[str, Any]:
        """The whole config JSON of an image in this state."""
        return {
            **self.document,
            "created": created,
            "config": self.config,
            "history": list(self.history),
            "rootfs": {"type": "layers", "diff_ids": list(self.diff_ids)},
        }


def from_scratch(os: str, architecture: str, variant: str) -> StageState:
    """``FROM scratch``: nothing but the platform."""
    document = {"architecture": architecture, "os": os}
    return StageState(
        {**document, "variant": variant} if variant else document, {"Env": [f"PATH={DEFAULT_PATH}"]}
    )


def from_image(image: Image) -> StageState:
    """``FROM`` an image that is here. Its ONBUILD triggers are its own: the caller takes them."""
    kept = ("architecture", "variant", "os", "os.version", "os.features", "author")
    config = {key: value for key, value in (image.config.get("config") or {}).items() if key != "OnBuild"}
    if not config.get("Env"):
        config["Env"] = [f"PATH={DEFAULT_PATH}"]
    return StageState(
        document={key: image.config[key] for key in kept if key in image.config and key != "author"},
        config=config,
        diff_ids=image.diff_ids,
        history=tuple(image.config.get("history") or ()),
        bases=(image,),
        parent_id=image.id,
    )


def apply(state: StageState, instruction: Instruction) -> tuple[StageState, str]:
    """The state after an instruction (resolved) that makes no layer, and how the history tells it. InvalidParameter."""
    match instruction:
        case Env(pairs=pairs):
            env = state.env
            env.update((pair.key, pair.value) for pair in pairs)
            told = " ".join(f"{pair.key}={pair.value}" for pair in pairs)
            return state.with_config(Env=[f"{key}={value}" for key, value in env.items()]), f"ENV {told}"
        case Label(pairs=pairs):
            labels = {**(state.config.get("Labels") or {}), **{pair.key: pair.value for pair in pairs}}
            told = " ".join(f"{pair.key}={pair.value}" for pair in pairs)
            return state.with_config(Labels=labels), f"LABEL {told}"
        case Workdir(path=path):
            workdir = resolve_path(state, path)
            return state.with_config(WorkingDir=workdir), f"WORKDIR {workdir}"
        case User(user=user):
            return state.with_config(User=user), f"USER {user}"
        case Shell(args=args):
            return state.with_config(Shell=list(args)), f"SHELL {_list(args)}"
        case Cmd(command=command):
            words = argv(state, command)
            changed = dataclasses.replace(state.with_config(Cmd=words), cmd_set=True)
            return changed, f"CMD {_list(words)}"
        case Entrypoint(command=command):
            words = argv(state, command)
            changes: dict[str, Any] = {"Entrypoint": words}
            if not state.cmd_set:
                changes["Cmd"] = None
            return state.with_config(**changes), f"ENTRYPOINT {_list(words)}"
        case Expose(ports=ports):
            found = _ports(ports)
            exposed = {**(state.config.get("ExposedPorts") or {}), **{port: {} for port in found}}
            return state.with_config(ExposedPorts=dict(sorted(exposed.items()))), f"EXPOSE {' '.join(ports)}"
        case Volume(paths=paths):
            if not all(path.strip() for path in paths):
                raise InvalidParameter("VOLUME specified can not be an empty string")
            volumes = {**(state.config.get("Volumes") or {}), **{path: {} for path in paths}}
            return state.with_config(Volumes=dict(sorted(volumes.items()))), f"VOLUME [{' '.join(paths)}]"
        case StopSignal(signal=signal):
            return state.with_config(StopSignal=signal), f"STOPSIGNAL {signal}"
        case Healthcheck():
            return state.with_config(Healthcheck=_healthcheck(instruction)), instruction.original
        case Onbuild(trigger=trigger):
            triggers = [*(state.config.get("OnBuild") or ()), trigger]
            return state.with_config(OnBuild=triggers), f"ONBUILD {trigger}"
        case Maintainer(author=author):
            document = {**state.document, "author": author}
            return dataclasses.replace(state, document=document), f"MAINTAINER {author}"
    raise AssertionError(f"{type(instruction).__name__} makes a layer")


def argv(state: StageState, command: Command) -> list[str]:
    """The command as a list of words, the shell in front of the shell form."""
    return list(command.args) if isinstance(command, ExecForm) else [*state.shell, command.text]


def resolve_path(state: StageState, path: str) -> str:
    """``path``, from the working directory if it is relative, without ``.`` and ``..``."""
    joined = posixpath.normpath(posixpath.join(state.workdir, path))
    return "/" + joined.lstrip("/")


def _list(words: Sequence[str]) -> str:
    return "[" + " ".join(json.dumps(word, ensure_ascii=False) for word in words) + "]"


def _ports(words: Sequence[str]) -> list[str]:
    found = []
    for word in words:
        match = _PORT.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if match is None or not 0 < first <= last <= 65535:
            raise InvalidParameter(f"EXPOSE: invalid port {word!r}: expected port[-port][/tcp|udp|sctp]")
        found += [f"{port}/{(match[3] or 'tcp').lower()}" for port in range(first, last + 1)]
    return found


def _healthcheck(instruction: Healthcheck) -> dict[str, Any]:
    command = instruction.command
    if command is None:
        return {"Test": ["NONE"]}
    test = ["CMD", *command.args] if isinstance(command, ExecForm) else ["CMD-SHELL", command.text]
    given = {
        "Interval": instruction.interval_ns,
        "Timeout": instruction.timeout_ns,
        "StartPeriod": instruction.start_period_ns,
        "StartInterval": instruction.start_interval_ns,
        "Retries": instruction.retries,
    }
    return {"Test": test, **{key: value for key, value in given.items() if value}}
