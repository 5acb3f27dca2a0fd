"""Writes records of a Dockerfile down as text again."""

import json
from collections.abc import Iterable

from minid.build.dockerfile import model
from minid.build.dockerfile.model import Command, Dockerfile, ExecForm, Heredoc, Instruction, Mount


def render(dockerfile: Dockerfile) -> str:
    directives = dockerfile.directives
    lines = [
        f"# {key}={value}"
        for key, value in (
            ("syntax", directives.syntax),
            ("escape", directives.escape),
            ("check", directives.check),
        )
        if value
    ]
    lines += [render_instruction(arg) for arg in dockerfile.args]
    for stage in dockerfile.stages:
        lines += [render_instruction(each) for each in (stage.base, *stage.instructions)]
    return "".join(f"{line}\n" for line in lines)


def render_instruction(instruction: Instruction) -> str:
    return f"{instruction.KEYWORD} {_arguments(instruction)}{_bodies(instruction)}"


def _arguments(instruction: Instruction) -> str:
    match instruction:
        case model.From():
            name = f" AS {instruction.stage_name}" if instruction.stage_name else ""
            return f"{_flag('platform', instruction.platform)}{instruction.image}{name}"
        case model.Run():
            return "".join(
                (
                    *(f"--mount={_mount(mount)} " for mount in instruction.mounts),
                    *(f"--device={each.name}{',required' * each.required} " for each in instruction.devices),
                    f"--network={instruction.network} --security={instruction.security} ",
                    _command(instruction.command),
                )
            )
        case model.Copy() | model.Add():
            flags = [_flag("chown", instruction.chown), _flag("chmod", instruction.chmod)]
            flags += [_flag("exclude", pattern) for pattern in instruction.exclude]
            flags += ["--link=true " if instruction.link else ""]
            if isinstance(instruction, model.Copy):
                flags += [_flag("from", instruction.from_), "--parents " * instruction.parents]
            else:
                flags += [
                    _flag("checksum", instruction.checksum),
                    "--keep-git-dir " * instruction.keep_git_dir,
                ]
                if instruction.unpack is not None:
                    flags.append(_flag("unpack", str(instruction.unpack)))
            words = [*instruction.sources, instruction.destination]
            if any(isinstance(word, Heredoc) for word in words):
                return "".join(flags) + " ".join(
                    _opening(word) if isinstance(word, Heredoc) else word for word in words
                )
            return "".join(flags) + json.dumps(words)
        case model.Env() | model.Label():
            if instruction.is_legacy:
                return f"{instruction.pairs[0].key} {instruction.pairs[0].value}"
            return " ".join(f"{pair.key}={pair.value}" for pair in instruction.pairs)
        case model.Arg():
            return " ".join(
                each.name if each.default is None else f"{each.name}={each.default}"
                for each in instruction.definitions
            )
        case model.User():
            return instruction.user
        case model.Workdir():
            return instruction.path
        case model.StopSignal():
            return instruction.signal
        case model.Maintainer():
            return instruction.author
        case model.Shell():
            return json.dumps(instruction.args)
        case model.Entrypoint() | model.Cmd():
            return _command(instruction.command)
        case model.Expose():
            return " ".join(instruction.ports)
        case model.Volume():
            return json.dumps(instruction.paths)
        case model.Onbuild():
            return instruction.trigger
        case model.Healthcheck():
            if instruction.command is None:
                return "NONE"
            times = (
                ("interval", instruction.interval_ns),
                ("timeout", instruction.timeout_ns),
                ("start-period", instruction.start_period_ns),
                ("start-interval", instruction.start_interval_ns),
            )
            flags = [_flag(name, f"{value}ns") for name, value in times if value is not None]
            if instruction.retries is not None:
                flags.append(_flag("retries", str(instruction.retries)))
            return f"{''.join(flags)}CMD {_command(instruction.command)}"
    raise TypeError(instruction)


def _flag(name: str, value: str) -> str:
    return f"--{name}={value} " if value else ""


def _command(command: Command) -> str:
    return json.dumps(command.args) if isinstance(command, ExecForm) else command.text


def _mount(mount: Mount) -> str:
    if mount.raw:
        return mount.raw
    fields: Iterable[tuple[str, object]] = (
        ("type", mount.type),
        ("target", mount.target),
        ("source", mount.source),
        ("from", mount.from_),
        ("id", mount.id),
        ("sharing", mount.sharing if mount.type == "cache" else ""),
        ("mode", "" if mount.mode is None else f"{mount.mode:o}"),
        ("uid", mount.uid),
        ("gid", mount.gid),
        ("env", mount.env),
        ("size", mount.size_bytes),
    )
    parts = [f"{name}={value}" for name, value in fields if value not in ("", None)]
    if mount.type in ("bind", "cache"):
        parts.append("ro" if mount.readonly else "rw=true")
    return ",".join(parts + ["required"] * mount.required)


def _opening(heredoc: Heredoc) -> str:
    name = heredoc.name if heredoc.expand else f"'{heredoc.name}'"
    return f"{heredoc.descriptor or ''}<<{'-' * heredoc.strip_tabs}{name}"


def _bodies(instruction: Instruction) -> str:
    heredocs: Iterable[Heredoc] = ()
    if isinstance(instruction, model.Run):
        heredocs = instruction.heredocs
    elif isinstance(instruction, model.Transfer):
        heredocs = [each for each in instruction.sources if isinstance(each, Heredoc)]
    return "".join(f"\n{each.content}{each.name}" for each in heredocs)
