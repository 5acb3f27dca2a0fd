"""`--mount type=…,source=…,target=…`: one file system to attach (CSV fields, as in the docker CLI)."""

from __future__ import annotations

import os

from minictl.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


def parse_mount(text: str) -> dict[str, Any]:
    """The Mount object of the API. Raises UsageError with pflag's words."""
    try:
        return _parse(text)
    except ValueError as error:
        raise UsageError(f'invalid argument "{text}" for "--mount" flag: {error}') from None


def _parse(text: str) -> dict[str, Any]:
    mount: dict[str, Any] = {"Type": "volume"}
    volume: dict[str, Any] = {}
    bind: dict[str, Any] = {}
    tmpfs: dict[str, Any] = {}
    image: dict[str, Any] = {}
    if not text:
        raise ValueError("value is empty")
    for field in fields(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals:
            if key in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src"):
                value = "true"
            else:
                raise ValueError(f"invalid field '{field}' must be a key=value pair")
        if key == "type":
            mount["Type"] = value.lower()
        elif key in ("source", "src"):
            mount["Source"] = (
                os.path.abspath(value) if value == "." or value.startswith(("./", "../")) else value
            )
        elif key in ("target", "dst", "destination"):
            mount["Target"] = value
        elif key in ("readonly", "ro"):
            mount["ReadOnly"] = _boolean(key, value)
        elif key == "consistency":
            mount["Consistency"] = value.lower()
        elif key == "bind-propagation":
            bind["Propagation"] = value.lower()
        elif key == "bind-nonrecursive":
            bind["NonRecursive"] = _boolean(key, value)
        elif key == "bind-create-src":
            bind["CreateMountpoint"] = _boolean(key, value)
        elif key == "bind-recursive":
            _recursive(bind, value)
        elif key == "volume-subpath":
            volume["Subpath"] = value
        elif key == "volume-nocopy":
            volume["NoCopy"] = _boolean(key, value)
        elif key == "volume-label":
            _put(volume.setdefault("Labels", {}), value)
        elif key == "volume-driver":
            volume.setdefault("DriverConfig", {})["Name"] = value
        elif key == "volume-opt":
            _put(volume.setdefault("DriverConfig", {}).setdefault("Options", {}), value)
        elif key == "image-subpath":
            image["Subpath"] = value
        elif key == "tmpfs-size":
            tmpfs["SizeBytes"] = _size(key, value)
        elif key == "tmpfs-mode":
            try:
                tmpfs["Mode"] = int(value, 8)
            except ValueError:
                raise ValueError(f"invalid value for {key}: {value}") from None
        else:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
    if not mount["Type"]:
        raise ValueError("type is required")
    if not mount.get("Target"):
        raise ValueError("target is required")
    kind = mount["Type"]
    if volume:
        volume.setdefault("DriverConfig", {})
    for name, settings, key in (
        ("volume", volume, "VolumeOptions"),
        ("image", image, "ImageOptions"),
        ("bind", bind, "BindOptions"),
        ("tmpfs", tmpfs, "TmpfsOptions"),
    ):
        if settings and kind != name:
            raise ValueError(f"cannot mix '{name}-*' options with mount type '{kind}'")
        if settings:
            mount[key] = settings
    if bind.get("ReadOnlyForceRecursive") and not mount.get("ReadOnly"):
        raise ValueError(
            "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction"
        )
    return mount


def fields(text: str) -> list[str]:
    """CSV: commas separate, a field in double quotes may contain them."""
    fields: list[str] = []
    current = ""
    quoted = False
    for letter in text:
        if letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            fields.append(current)
            current = ""
        else:
            current += letter
    return [*fields, current]


def _boolean(key: str, value: str) -> bool:
    if value in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError(f"invalid value for {key}: {value}")


def _recursive(bind: dict[str, Any], value: str) -> None:
    if value == "disabled":
        bind["NonRecursive"] = True
    elif value == "writable":
        bind["ReadOnlyNonRecursive"] = True
    elif value == "readonly":
        bind["ReadOnlyForceRecursive"] = True
    elif value != "enabled":
        raise ValueError(
            f'invalid value for bind-recursive: {value} (must be "enabled", "disabled", "writable", or "readonly")'
        )


def _put(target: dict[str, str], pair: str) -> None:
    name, _, value = pair.partition("=")
    target[name] = value


def _size(key: str, value: str) -> int:
    from minictl import units

    try:
        return units.parse_bytes(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None
