"""Credentials for a registry: an ``AuthConfig``, in ``X-Registry-Auth`` as base64url.

Source: Engine API v1.44 § Authentication.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from minid.api.call import parse_json
from minid.errors import InvalidParameter
from minid.images.service import Auth

FIELDS = {  # lower-case key to field
    "username": "username",
    "password": "password",
    "identitytoken": "identity_token",
    "registrytoken": "registry_token",
    "serveraddress": "server_address",
}


def decode_registry_auth(header: str) -> Auth | None:
    """The credentials; None without any (no header, or an empty object).

    Unpadded and standard base64 are taken too; ``auth`` (base64 of user:password) stands for both.
    """
    data = decode_base64_json(header, "X-Registry-Auth")
    auth = read_auth(data, "invalid X-Registry-Auth header")
    return auth if auth.username or auth.identity_token or auth.registry_token else None


def decode_base64_json(header: str, name: str) -> dict[str, Any]:
    """The object that the header ``name`` is base64 (of either alphabet, padded or not) of; {} for none."""
    try:
        text = header.strip().replace("-", "+").replace("_", "/").rstrip("=")
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        data = parse_json(raw) if raw.strip() else {}
    except (binascii.Error, ValueError, InvalidParameter) as error:
        raise InvalidParameter(f"invalid {name} header: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InvalidParameter(f"invalid {name} header: an object is needed")
    return data


def read_auth(data: Mapping[str, Any], what: str) -> Auth:
    """An ``AuthConfig`` object, keys in any case; ``what`` begins the error messages."""
    lower: dict[str, Any] = {key.lower(): value for key, value in data.items()}
    fields: dict[str, str] = {}
    for key, name in FIELDS.items():
        value = lower.get(key)
        if value is not None and not isinstance(value, str):
            raise InvalidParameter(f"{what}: {key} must be a string")
        if value:
            fields[name] = value
    if "username" not in fields and isinstance(lower.get("auth"), str) and lower["auth"]:
        try:
            user, _, password = base64.b64decode(lower["auth"]).decode().partition(":")
        except ValueError:
            raise InvalidParameter(f"{what}: auth is not base64") from None
        fields |= {"username": user, "password": password}
    return Auth(**fields)
