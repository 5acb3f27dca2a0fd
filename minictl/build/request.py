"""From the flags of `build` to the query of POST /build, as the docker CLI 28 writes it for the classic builder."""

from __future__ import annotations

import os

from minictl import config, create_network, jsontext, reference
from minictl.create_body import ulimits
from minictl.environment import environment, pairs
from minictl.errors import Failure, UsageError, invalid_argument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minictl.build.context import Context
    from minictl.flags import Options


def query(options: Options, context: Context, host: str, tags: list[str]) -> dict[str, Any]:
    """The parameters that docker's builder knows and, where their flags are given, minid's own. Raises UsageError."""
    labels = options["label"]
    for text in labels:
        if text.startswith("="):
            raise invalid_argument("label", "", text, f"invalid label '{text}': empty name")
    found: dict[str, Any] = {
        "buildargs": _json(
            build_arguments(options["build-arg"], host, inline_cache=bool(options["cache-to"]))
        ),
        "cachefrom": _json(cache_sources(options["cache-from"])),
        "cgroupparent": options["cgroup-parent"],
        "cpuperiod": options["cpu-period"] or None,
        "cpuquota": options["cpu-quota"] or None,
        "cpusetcpus": options["cpuset-cpus"],
        "cpusetmems": options["cpuset-mems"],
        "cpushares": options["cpu-shares"] or None,
        "dockerfile": context.dockerfile,
        "extrahosts": create_network.extra_hosts(options["add-host"]),
        "forcerm": options["force-rm"] or None,
        "isolation": options["isolation"] if options["isolation"] != "default" else None,
        "labels": _json(pairs(labels)),
        "memory": options["memory"] or None,
        "memswap": options["memory-swap"] or None,
        "networkmode": options["network"] if options["network"] != "default" else None,
        "nocache": options["no-cache"] or None,
        "platform": _platform(options["platform"]),
        "pull": options["pull"] or None,
        "q": options["quiet"] or None,
        "remote": context.remote,
        "rm": None if options["rm"] else False,
        "securityopt": options["security-opt"],
        "shmsize": options["shm-size"] or None,
        "squash": options["squash"] or None,
        "t": tags,
        "target": options["target"],
        "ulimits": _json(ulimits(options["ulimit"])),
        "version": "1",
    }
    if options["no-cache-filter"]:
        found["nocachefilter"] = ",".join(options["no-cache-filter"])
    if options["allow"]:
        found["allow"] = ",".join(options["allow"])
    return found


def checked_tags(names: list[str]) -> list[str]:
    """The names as they are. Raises UsageError for what can't be one."""
    for name in names:
        try:
            reference.parse(name)
        except Failure as error:
            raise invalid_argument("tag", "t", name, error.message) from None
    return names


def build_arguments(entries: list[str], host: str, *, inline_cache: bool = False) -> dict[str, str | None]:
    """NAME=value; NAME alone takes the caller's own value, None where there is none.

    The proxies of the user's settings and SOURCE_DATE_EPOCH of the environment come by themselves.
    """
    found: dict[str, str | None] = {}
    for entry in entries:
        if not entry or entry.startswith("="):
            raise invalid_argument("build-arg", "", entry, f"invalid environment variable: {entry}")
    if inline_cache:
        found["BUILDKIT_INLINE_CACHE"] = "1"
    for entry in environment(entries):
        name, equals, value = entry.partition("=")
        found[name] = value if equals else None
    for name, value in config.proxies(host).items():
        found.setdefault(name, value)
    if "SOURCE_DATE_EPOCH" in os.environ:
        found.setdefault("SOURCE_DATE_EPOCH", os.environ["SOURCE_DATE_EPOCH"])
    return dict(sorted(found.items()))


def cache_sources(texts: list[str]) -> list[str]:
    """Images to look for cached layers in: names, or `type=registry,ref=NAME` as buildx writes it."""
    names: list[str] = []
    typed: dict[str, str] = {}
    for text in texts:  # the flag takes lists: type=registry,ref=x has come apart at its comma
        key, equals, value = text.partition("=")
        if not equals:
            names.append(text)
        elif key == "type":
            typed = {"type": value}
            if value != "registry":
                raise UsageError(
                    f'--cache-from type={value} is not supported: only images are ("type=registry,ref=NAME", or NAME)'
                )
        elif key == "ref" and typed:
            names.append(value)
        elif not typed:
            raise invalid_argument(
                "cache-from", "", text, "expected an image's name or type=registry,ref=NAME"
            )
    return names


def check_cache_targets(texts: list[str]) -> None:
    """`--cache-to`: only type=inline, for which an image tells what its layers were made by. Raises UsageError."""
    for text in texts:
        kind = pairs(text.split(",")).get("type", "registry" if "=" not in text else "")
        if kind != "inline":
            raise UsageError(
                f"--cache-to type={kind} is not supported: the daemon keeps its own cache, and an image that is "
                "built with type=inline and pushed serves as one with --cache-from"
            )


def _platform(text: str) -> str:
    if "," in text:
        raise UsageError(f"--platform {text}: one build makes an image for one platform")
    return text.lower()


def _json(value: Any) -> str | None:
    """As Go's encoding/json writes it; None for what is empty."""
    if not value:
        return None
    if isinstance(value, dict):
        value = {key: value[key] for key in sorted(value)}
    return jsontext.dumps_for_html(value)
