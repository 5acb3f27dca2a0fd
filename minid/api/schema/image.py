"""Images in Docker's JSON: ``Engine API v1.44 § ImageSummary, ImageInspect, HistoryResponseItem``."""

from collections.abc import Mapping
from typing import Any

from minid.api.schema.naming import seconds_of, timestamp, without_empty
from minid.images.gc import GcReport
from minid.images.gc_plan import Verdict
from minid.images.model import Deleted, HistoryEntry, Image, Progress

NONE_TAG = "<none>:<none>"
NONE_DIGEST = "<none>@<none>"

CONFIG_DEFAULTS: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}
CONFIG_OPTIONAL = (
    "ExposedPorts",
    "Healthcheck",
    "ArgsEscaped",
    "NetworkDisabled",
    "MacAddress",
    "StopSignal",
    "StopTimeout",
    "Shell",
)


def image_config(config: Any) -> dict[str, Any]:
    """An image's ``config`` with every field that dockerd always shows."""
    given = config if isinstance(config, Mapping) else {}
    data = {name: given.get(name, default) for name, default in CONFIG_DEFAULTS.items()}
    return data | {name: given[name] for name in CONFIG_OPTIONAL if given.get(name)}


def summary(
    image: Image, version: tuple[int, ...], *, containers: int = -1, shared_bytes: int = -1
) -> dict[str, Any]:
    """One element of ``GET /images/json``."""
    tags, digests = list(image.tags), list(image.digests)
    if version < (1, 43) and not tags and not digests:
        tags, digests = [NONE_TAG], [NONE_DIGEST]
    data: dict[str, Any] = {
        "Containers": containers,
        "Created": seconds_of(image.created),
        "Id": image.id,
        "Labels": labels_of(image) or None,
        "ParentId": image.parent_id,
        "RepoDigests": digests,
        "RepoTags": tags,
        "SharedSize": shared_bytes,
        "Size": image.size_bytes,
    }
    if version < (1, 44):
        data["VirtualSize"] = image.size_bytes
    return data


def labels_of(image: Image) -> Mapping[str, str]:
    config = image.config.get("config")
    labels = config.get("Labels") if isinstance(config, Mapping) else None
    return labels if isinstance(labels, Mapping) else {}


def inspect(image: Image, version: tuple[int, ...], *, graph_driver: dict[str, Any]) -> dict[str, Any]:
    """``GET /images/{name}/json``."""
    config = image.config
    history = config.get("history") or [{}]
    data: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "RepoDigests": list(image.digests),
        "Parent": image.parent_id,
        "Comment": str((history[-1] or {}).get("comment") or config.get("comment") or ""),
        "Created": image.created,
        "Container": str(config.get("container") or ""),
        "ContainerConfig": image_config(config.get("container_config")),
        "DockerVersion": str(config.get("docker_version") or ""),
        "Author": str(config.get("author") or ""),
        "Config": image_config(config.get("config")),
        "Architecture": str(config.get("architecture") or ""),
        "Variant": str(config.get("variant") or ""),
        "Os": str(config.get("os") or ""),
        "OsVersion": str(config.get("os.version") or ""),
        "Size": image.size_bytes,
        "GraphDriver": graph_driver,
        "RootFS": without_empty({"Type": "layers", "Layers": list(image.diff_ids)}, "Layers"),
        "Metadata": {"LastTagTime": timestamp(image.last_tagged_ns)},
    }
    if version < (1, 44):
        data["VirtualSize"] = image.size_bytes
    return without_empty(data, "Variant", "OsVersion", "Created")


def history_entry(entry: HistoryEntry) -> dict[str, Any]:
    """One element of ``GET /images/{name}/history``, newest first."""
    return {
        "Comment": entry.comment,
        "Created": entry.created_s,
        "CreatedBy": entry.created_by,
        "Id": entry.id or "<missing>",
        "Size": entry.size_bytes,
        "Tags": list(entry.tags) or None,
    }


def deleted(item: Deleted) -> dict[str, str | None]:
    return {"Untagged": item.untagged} if item.untagged else {"Deleted": item.deleted}


def gc_report(report: GcReport) -> dict[str, Any]:
    """``POST /minid/images/gc``: an extension."""
    return {
        "DryRun": report.dry_run,
        "Collected": [_verdict(each) for each in report.collected],
        "Kept": [_verdict(each) for each in report.kept],
        "SpaceReclaimed": report.freed_bytes,
        "TotalSize": report.total_bytes,
        "FreeSpace": report.free_bytes,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    thing = verdict.thing
    return {
        "Kind": thing.kind,
        "Id": thing.id,
        "Names": list(thing.names),
        "LastUsed": timestamp(thing.last_used_ns),
        "Size": verdict.size_bytes,
        "Reason": verdict.reason,
    }


def progress(report: Progress) -> dict[str, Any]:
    """One line of a pull or push; the bar's text is what older clients print."""
    if report.pushed is not None:
        pushed = report.pushed
        aux = {"Tag": pushed.tag, "Digest": pushed.digest, "Size": pushed.size_bytes}
        return {"progressDetail": {}, "aux": aux}
    data: dict[str, Any] = {"status": report.status}
    if report.current_bytes is not None:
        detail = without_empty({"current": report.current_bytes, "total": report.total_bytes or 0})
        data["progressDetail"] = detail
        if detail:
            data["progress"] = bar(report.current_bytes, report.total_bytes or 0)
    elif report.id and report.status not in ("", "Digest") and not report.status.startswith("Pulling from"):
        data["progressDetail"] = {}
    if report.id:
        data["id"] = report.id
    return data


def load_progress(report: Progress) -> dict[str, Any]:
    """One line of a load: of a layer, or a message."""
    return progress(report) if report.id else {"stream": report.status + "\n"}


def bar(current_bytes: int, total_bytes: int) -> str:
    """``[=====>     ]  1.2MB/3.4MB``: fifty characters between the brackets."""
    if not total_bytes:
        return f"{human_size(current_bytes):>8}"
    filled = min(50, current_bytes * 50 // total_bytes)
    line = ("=" * filled + ">")[:50].ljust(50)
    return f"[{line}] {human_size(current_bytes):>8}/{human_size(total_bytes)}"


def human_size(size_bytes: float) -> str:
    """Four significant digits and a decimal unit, as Docker's go-units ``HumanSize``."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.4g}{unit}"
        size /= 1000
    return f"{size:.4g}PB"
