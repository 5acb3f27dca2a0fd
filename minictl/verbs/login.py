"""login and logout: credentials of a registry, kept where the docker CLI keeps them."""

from __future__ import annotations

import os
import sys

from minictl import config, jsontext, registry_auth, terminal
from minictl.engine import Engine
from minictl.errors import ApiError, Failure
from minictl.flags import Command, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def login(options: Options, arguments: list[str], engine: Engine) -> int:
    server = _server(arguments)
    user, password = options["username"], options["password"]
    if options["password-stdin"]:
        if password:
            raise Failure("--password and --password-stdin are mutually exclusive")
        if not user:
            raise Failure("Must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\r\n")
    elif password:
        sys.stderr.write("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")
    elif not user and (known := registry_auth.credentials(server)):
        sys.stderr.write("Authenticating with existing credentials...\n")
        try:
            return _check(engine, known, server)
        except ApiError as error:
            sys.stderr.write(f"Login did not succeed, error: {error.message}\n")
    if not user or not password:
        if not terminal.is_terminal(0):
            raise Failure("Error: Cannot perform an interactive login from a non TTY device")
        user = user or input("Username: ")
        if not password:
            import getpass

            password = getpass.getpass("Password: ")
    if not user or not password:
        raise Failure("Error: a user name and a password are needed")
    return _check(engine, {"username": user, "password": password, "serveraddress": server}, server)


def _check(engine: Engine, credentials: dict[str, Any], server: str) -> int:
    """Asks the registry (the daemon does), and keeps what it has accepted."""
    answer = engine.call("POST", "/auth", None, credentials) or {}
    token = answer.get("IdentityToken") or credentials.get("identitytoken", "")
    _store(server, credentials.get("username", ""), credentials.get("password", ""), token)
    print(answer.get("Status") or "Login Succeeded")
    return 0


def logout(options: Options, arguments: list[str], engine: Engine) -> int:
    server = _server(arguments)
    settings = config.load()
    entries: dict[str, Any] = settings.get("auths") or {}
    print(f"Removing login credentials for {server}")
    helper = (settings.get("credHelpers") or {}).get(server) or settings.get("credsStore")
    if helper:
        registry_auth.run_helper(helper, "erase", server)
    if server in entries:
        del entries[server]
        config.save(settings)
    return 0


def _server(arguments: list[str]) -> str:
    name = arguments[0] if arguments else "docker.io"
    if "://" in name:
        name = name.partition("://")[2]
    return registry_auth.server_key(name.rstrip("/").partition("/")[0])


def _store(server: str, user: str, password: str, token: str) -> None:
    settings = config.load()
    helper = (settings.get("credHelpers") or {}).get(server) or settings.get("credsStore")
    if helper:
        secret = {"ServerURL": server, "Username": "<token>" if token else user, "Secret": token or password}
        registry_auth.run_helper(helper, "store", jsontext.dumps(secret))
        settings.setdefault("auths", {})[server] = {}
        config.save(settings)
        return
    import binascii

    kept = "" if token else password  # the token stands for it
    coded = binascii.b2a_base64(f"{user}:{kept}".encode(), newline=False).decode("ascii")
    entry = {"auth": coded} | ({"identitytoken": token} if token else {})
    settings.setdefault("auths", {})[server] = entry
    config.save(settings)
    sys.stderr.write(
        f"The password is kept unencrypted in {config.path()}, readable by you ({os.getuid()}) only.\n"
    )


LOGIN = Command(
    "login",
    "[OPTIONS] [SERVER]",
    "Log in to a registry",
    login,
    (
        ("password", "p", "string", "Password (others can see it: better --password-stdin)"),
        ("password-stdin", "", "bool", "Read the password from stdin"),
        ("username", "u", "string", "User name"),
    ),
    0,
    1,
)
LOGOUT = Command("logout", "[SERVER]", "Log out from a registry", logout, (), 0, 1)
