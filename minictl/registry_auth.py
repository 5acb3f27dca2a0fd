"""Credentials for a registry, from the docker CLI's config.json and its credential helpers, as X-Registry-Auth."""

from __future__ import annotations

from minictl import config, jsontext
from minictl.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_SERVER = "https://index.docker.io/v1/"


def server_key(domain: str) -> str:
    """The name under which a registry's credentials are kept."""
    return DEFAULT_SERVER if domain in ("docker.io", "index.docker.io") else domain


def header_for(domain: str) -> str:
    """The header's value (base64url of the JSON) for the registry `domain`; of `{}` when there are no credentials."""
    return encode(credentials(server_key(domain)))


def credentials(server: str) -> dict[str, Any]:
    """What is kept for `server` (a `server_key`), as the API's AuthConfig; {} when there is nothing."""
    settings = config.load()
    return _credentials(settings, server) if settings else {}


def header_for_all() -> str:
    """The value of X-Registry-Config: what is kept for every registry, by `server_key` (a build may pull from any)."""
    settings = config.load()
    servers: set[str] = {str(key) for part in ("auths", "credHelpers") for key in settings.get(part) or {}}
    if store := settings.get("credsStore"):
        servers |= set(run_helper(store, "list", ""))
    found = {server: _credentials(settings, server) for server in sorted(servers)}
    return encode({server: known for server, known in found.items() if known})


def encode(credentials: dict[str, Any]) -> str:
    if not credentials:
        return "e30="
    import binascii

    data = binascii.b2a_base64(jsontext.dumps(credentials).encode(), newline=False).decode("ascii")
    return data.replace("+", "-").replace("/", "_")


def _credentials(settings: dict[str, Any], server: str) -> dict[str, Any]:
    helper = (settings.get("credHelpers") or {}).get(server) or settings.get("credsStore")
    if helper:
        found = _from_helper(helper, server)
        if found:
            return found
    entries: dict[str, Any] = settings.get("auths") or {}
    entry = entries.get(server)
    if entry is None:
        for key, value in entries.items():
            if _host(key) == _host(server):
                entry = value
                break
    if not entry:
        return {}
    result = {"serveraddress": server}
    for key in ("username", "password", "identitytoken", "registrytoken"):
        if entry.get(key):
            result[key] = entry[key]
    if entry.get("auth"):
        import binascii

        try:
            user, _, password = binascii.a2b_base64(entry["auth"]).decode().partition(":")
        except ValueError:
            raise Failure(
                f"Error loading config file: {config.path()}: the auth of {server} is not base64"
            ) from None
        result["username"], result["password"] = user, password.rstrip("\0")
    return result


def _from_helper(helper: str, server: str) -> dict[str, Any]:
    answer = run_helper(helper, "get", server)
    if not answer:
        return {}
    user, secret = answer.get("Username", ""), answer.get("Secret", "")
    if user == "<token>":
        return {"identitytoken": secret, "serveraddress": server}
    return {"username": user, "password": secret, "serveraddress": server}


def run_helper(helper: str, action: str, text: str) -> dict[str, Any]:
    """Runs docker-credential-`helper`; {} when it knows nothing of it. Raises Failure when it can't be run."""
    import subprocess

    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, action], input=text.encode(), capture_output=True, check=False)
    except OSError as error:
        raise Failure(f"error getting credentials - {program}: {error.strerror}") from None
    if done.returncode:
        said = done.stdout.decode("utf-8", "replace").strip()
        if "credentials not found" in said:
            return {}
        raise Failure(f"error getting credentials - err: exit status {done.returncode}, out: `{said}`")
    try:
        answer = jsontext.loads(done.stdout) if done.stdout.strip() else {}
    except ValueError:
        raise Failure(f"error getting credentials - {program} did not answer with JSON") from None
    return answer if isinstance(answer, dict) else {}


def _host(server: str) -> str:
    return server.partition("://")[2].partition("/")[0] if "://" in server else server.partition("/")[0]
