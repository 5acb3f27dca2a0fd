"""Builds in Docker's JSON: the query of ``POST /build``, and the stream that answers it.

``Engine API v1.44 § ImageBuild``. Two forms of the stream: Docker's own, in which the output of steps that went on side
by side comes one step after the other, and (``progress=steps``) every event as it happens.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from minid.api.call import Call, parse_json
from minid.api.registry_auth import decode_base64_json, read_auth
from minid.api.schema import image as image_schema
from minid.api.schema.container import host_config_from
from minid.api.schema.naming import timestamp
from minid.build.dockerfile import DockerfileError
from minid.build.errors import StepFailed
from minid.build.progress import (
    CACHED,
    CANCELED,
    DONE,
    FAILED,
    STARTED,
    BuildWarning,
    Event,
    Step,
    StepOutput,
    StepPull,
    StepState,
)
from minid.build.pruning import Record
from minid.build.request import BuildRequest, Session
from minid.errors import InvalidParameter
from minid.images.platform import host_platform, parse_platform
from minid.images.reference import parse
from minid.images.registry.authorizer import Auth

Line = dict[str, Any]
Send = Callable[[Line], None]

HUB = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")
RESOURCES = {  # of the query: name → field of HostConfig
    "memory": "Memory",
    "memswap": "MemorySwap",
    "cpushares": "CpuShares",
    "cpuperiod": "CpuPeriod",
    "cpuquota": "CpuQuota",
    "shmsize": "ShmSize",
}
TEXTS = {"cpusetcpus": "CpusetCpus", "cpusetmems": "CpusetMems", "cgroupparent": "CgroupParent"}


def build_request(call: Call, session: Session) -> BuildRequest:
    """The query and ``X-Registry-Config``. InvalidParameter."""
    arguments = _object(call, "buildargs")
    if not all(value is None or isinstance(value, str) for value in arguments.values()):
        raise InvalidParameter("buildargs: the values must be strings or null")
    labels = _object(call, "labels")
    if not all(isinstance(value, str) for value in labels.values()):
        raise InvalidParameter("labels: the values must be strings")
    platform = call.text("platform")
    return BuildRequest(
        dockerfile=call.text("dockerfile") or "Dockerfile",
        names=tuple(name for name in call.request.query.getall("t", []) if name),
        target=call.text("target"),
        arguments=arguments,
        labels=labels,
        use_cache=not call.flag("nocache"),
        no_cache_stages=frozenset(name.lower() for name in call.text("nocachefilter").split(",") if name),
        cache_from=tuple(str(name) for name in _list(call, "cachefrom")),
        inline_cache=arguments.get("BUILDKIT_INLINE_CACHE") == "1",
        pull=call.flag("pull"),
        platform=parse_platform(platform, host_platform()) if platform else None,
        host_config=_host_config(call),
        squash=call.flag("squash"),
        privileged="security.insecure" in call.text("allow").split(","),
        host_network="network.host" in call.text("allow").split(","),
        check_only=call.flag("check"),
        auth=registry_config(call.request.headers.get("X-Registry-Config", "")),
        session=session,
    )


def registry_config(header: str) -> Mapping[str, Auth]:
    """``X-Registry-Config``: base64 of an object host → ``AuthConfig``. By the hosts of references."""
    data = decode_base64_json(header, "X-Registry-Config")
    found = {}
    for host, value in data.items():
        if not isinstance(value, dict):
            raise InvalidParameter("invalid X-Registry-Config header: an object for each registry is needed")
        name = (
            "docker.io"
            if host in HUB
            else host.removeprefix("https://").removeprefix("http://").split("/")[0]
        )
        found[name] = read_auth(value, "invalid X-Registry-Config header")
    return found


def _host_config(call: Call) -> Any:
    data: Line = {}
    for name, key in RESOURCES.items():
        value = call.integer(name)
        if value:
            data[key] = value
    data |= {key: call.text(name) for name, key in TEXTS.items() if call.text(name)}
    if call.text("networkmode") not in ("", "default"):
        data["NetworkMode"] = call.text("networkmode")
    if hosts := call.text("extrahosts"):
        data["ExtraHosts"] = [host for host in hosts.split(",") if host]
    if ulimits := _list(call, "ulimits"):
        data["Ulimits"] = ulimits
    if options := _list(call, "securityopt"):
        data["SecurityOpt"] = options
    return host_config_from(data)


def _object(call: Call, name: str) -> Line:
    text = call.text(name)
    data = parse_json(text.encode("utf-8", "surrogateescape")) if text else {}
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InvalidParameter(f"{name}: a JSON object is needed")
    return data


def _list(call: Call, name: str) -> list[Any]:
    text = call.text(name)
    data = parse_json(text.encode("utf-8", "surrogateescape")) if text else []
    if data is None:
        return []
    if not isinstance(data, list):
        raise InvalidParameter(f"{name}: a JSON list is needed")
    return data


def failed(error: Exception, message: str) -> Line:
    """The last line of a build that failed: with the exit code of a RUN, and where in the Dockerfile (an extension)."""
    detail: Line = {"message": message}
    if isinstance(error, StepFailed):
        detail["code"] = error.exit_code
    notes = getattr(error, "__notes__", [])
    if notes and not isinstance(error, DockerfileError):
        detail["location"] = notes[0]
    return {"errorDetail": detail, "error": message}


def cache_record(record: Record) -> Line:
    """``Engine API v1.44 BuildCache``."""
    return {
        "ID": record.id,
        "Parents": None,
        "Type": record.kind,
        "Description": record.description,
        "InUse": record.in_use,
        "Shared": record.shared,
        "Size": record.size_bytes,
        "CreatedAt": timestamp(record.created_ns),
        "LastUsedAt": timestamp(record.last_used_ns) if record.uses else None,
        "UsageCount": record.uses,
    }


class Classic:
    """Docker's stream. What goes on beside the first unfinished step waits until that has ended."""

    def __init__(self, send: Send, *, quiet: bool) -> None:
        self._send = send
        self._quiet = quiet
        self._current = 1
        self._waiting: dict[int, list[Event]] = {}
        self._ended: set[int] = set()

    def report(self, event: Event) -> None:
        if self._quiet:
            return
        if isinstance(event, BuildWarning):
            self._send({"stream": f" WARNING {event.rule}: {event.message} (line {event.line})\n"})
            return
        if event.step.id > self._current:
            self._waiting.setdefault(event.step.id, []).append(event)
            return
        self._tell(event)
        self._advance()

    def finish(self) -> None:
        """Say what waited behind another stage, if it is what failed."""
        for number in sorted(self._waiting):
            events = self._waiting.pop(number)
            if any(isinstance(event, StepState) and event.state == FAILED for event in events):
                for event in events:
                    self._tell(event)

    def done(self, image_id: str, names: tuple[str, ...]) -> None:
        if self._quiet:
            self._send({"stream": f"{image_id}\n"})
            return
        self._send({"aux": {"ID": image_id}})
        self._send({"stream": f"Successfully built {image_id.removeprefix('sha256:')[:12]}\n"})
        for name in names:
            familiar = parse(name).with_default_tag().familiar
            self._send({"stream": f"Successfully tagged {familiar}\n"})

    def _advance(self) -> None:
        while self._current in self._ended:
            self._current += 1
            for event in self._waiting.pop(self._current, []):
                self._tell(event)

    def _tell(self, event: Event) -> None:
        match event:
            case StepState(step=step, state=state, layer=layer):
                if state == STARTED:
                    self._send({"stream": f"Step {step.id}/{step.count} : {step.name}\n"})
                elif state == CACHED:
                    self._send({"stream": " ---> Using cache\n"})
                elif state == DONE:
                    self._send(
                        {"stream": f" ---> {layer.removeprefix('sha256:')[:12] or '(no files yet)'}\n"}
                    )
                if state in (DONE, FAILED, CANCELED):
                    self._ended.add(step.id)
            case StepOutput(data=data):
                self._send({"stream": data.decode("utf-8", "replace")})
            case StepPull(progress=progress):
                self._send(image_schema.progress(progress))


class Steps:
    """Every event as it happens, for minictl."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def report(self, event: Event) -> None:
        match event:
            case StepState(step=step, state=state, duration_s=duration_s):
                self._send({"step": _step(step) | {"state": state, "duration_s": round(duration_s, 3)}})
            case StepOutput(step=step, fd=fd, data=data):
                text = data.decode("utf-8", "replace")
                self._send({"log": {"step": step.id, "fd": fd, "data": text}})
            case StepPull(step=step, progress=progress):
                self._send(image_schema.progress(progress) | {"step_id": step.id})
            case BuildWarning(rule=rule, message=message, line=line):
                self._send({"warning": {"rule": rule, "message": message, "line": line}})

    def finish(self) -> None:
        pass

    def done(self, image_id: str, names: tuple[str, ...]) -> None:
        self._send({"aux": {"ID": image_id}})


def _step(step: Step) -> Line:
    data = dataclasses.asdict(step)
    del data["count"]
    return data
