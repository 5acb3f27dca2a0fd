"""The flags of `run` and `create` that are about devices: which ones, their rules and limits, GPUs."""

from __future__ import annotations

from minictl import units
from minictl.environment import pairs
from minictl.errors import invalid_argument, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minictl.flags import Options


def devices(options: Options) -> dict[str, Any]:
    """The part of HostConfig that is about devices. Raises UsageError, Failure."""
    return {
        "Devices": [device(text) for text in options["device"]],
        "DeviceCgroupRules": device_rules(options["device-cgroup-rule"]),
        "DeviceRequests": gpus(options["gpus"]),
        **device_limits(options),
    }


def device(text: str) -> dict[str, str]:
    parts = text.split(":")
    if not parts[0].startswith("/"):
        raise refused(f"{text} is not an absolute path")
    inside, permissions = parts[0], "rwm"
    if len(parts) > 3:
        raise refused(f"invalid device specification: {text}")
    if len(parts) == 3:
        inside, permissions = parts[1] or inside, parts[2]
    elif len(parts) == 2:
        if parts[1] and set(parts[1]) <= set("rwm"):
            permissions = parts[1]
        else:
            inside = parts[1]
    return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": permissions}


def device_rules(texts: list[str]) -> list[str] | None:
    for text in texts:
        words = text.split(" ")
        numbers = words[1].split(":") if len(words) == 3 else []
        if (
            len(numbers) != 2
            or words[0] not in ("a", "b", "c")
            or not all(number == "*" or number.isdigit() for number in numbers)
            or not words[2]
            or not set(words[2]) <= set("rwm")
        ):
            raise invalid_argument("device-cgroup-rule", "", text, f"invalid device cgroup format '{text}'")
    return texts or None


def gpus(text: str) -> list[dict[str, Any]] | None:
    if not text:
        return None
    request: dict[str, Any] = {
        "Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {},
    }  # fmt: skip
    for index, field in enumerate(text.split(",")):
        key, equals, value = field.partition("=")
        if not equals and index == 0:
            key, value = "count", key
        if key == "count":
            if value != "all" and not value.isdigit():
                raise invalid_argument(
                    "gpus", "", text, f'invalid count ({value}): value must be either "all" or an integer'
                )
            request["Count"] = -1 if value == "all" else int(value)
        elif key == "device":
            request["DeviceIDs"] = [*(request["DeviceIDs"] or []), value]
        elif key == "driver":
            request["Driver"] = value
        elif key == "capabilities":
            request["Capabilities"] = [["gpu", *[word for word in value.split(",") if word != "gpu"]]]
        elif key == "options":
            request["Options"] = pairs([value])
        else:
            raise invalid_argument("gpus", "", text, f"unexpected key '{key}' in '{field}'")
    if request["Count"] == 0 and request["DeviceIDs"] is None:
        request["Count"] = 1
    return [request]


def device_limits(options: Options) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, flag, value_name in (
        ("BlkioWeightDevice", "blkio-weight-device", "Weight"),
        ("BlkioDeviceReadBps", "device-read-bps", "Rate"),
        ("BlkioDeviceWriteBps", "device-write-bps", "Rate"),
        ("BlkioDeviceReadIOps", "device-read-iops", "Rate"),
        ("BlkioDeviceWriteIOps", "device-write-iops", "Rate"),
    ):
        entries = result[key] = []
        for text in options[flag]:
            path, _, value = text.rpartition(":")
            try:
                number = units.parse_bytes(value) if flag.endswith("bps") else int(value)
            except ValueError:
                number = -1
            if not path.startswith("/dev/") or number < 0:
                raise invalid_argument(
                    flag, "", text, f"invalid value for device: {text}: the form is /dev/PATH:NUMBER"
                )
            entries.append({"Path": path, value_name: number})
    return result
