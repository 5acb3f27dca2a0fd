"""A small token server for Debian's docker-registry: accounts, scopes, identity tokens; tokens signed with a real key.

Source: distribution's "Token Authentication Specification", "… Implementation" and "Oauth2 Token Authentication".
"""

import base64
import json
import subprocess
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

ISSUER, SERVICE = "minid tests", "registry of the tests"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenServer:
    """``with TokenServer(...)``; ``accounts``: name → (password, {repository: actions})."""

    def __init__(self, place: Path, accounts: dict[str, tuple[str, dict[str, set[str]]]]) -> None:
        self.place = place
        self.accounts = accounts
        self.identities: dict[str, str] = {}  # identity token → account
        self.queries: list[dict[str, list[str]]] = []
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tokens"),
                *("-days", "2", "-keyout", str(place / "token.key"), "-out", str(place / "token.crt")),
            ],
            check=True,
            capture_output=True,
        )

    @property
    def registry_config(self) -> dict[str, Any]:
        """What a registry that believes this server has under ``auth``."""
        return {
            "token": {
                "realm": f"http://127.0.0.1:{self.port}/token",
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(self.place / "token.crt"),
            }
        }

    def __enter__(self) -> "TokenServer":
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                given = self.headers.get("Authorization", "").removeprefix("Basic ")
                name, _, password = base64.b64decode(given).decode().partition(":")
                known = server.accounts.get(name)
                self._answer(query, name if known and known[0] == password else "" if not given else None)

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                form["scope"] = form.get("scope", [""])[0].split()
                self._answer(form, server.identities.get(form.get("refresh_token", [""])[0]))

            def _answer(self, query: dict[str, list[str]], account: str | None) -> None:
                server.queries.append(query)
                if account is None:
                    status, answer = 401, {"details": "incorrect username or password"}
                else:
                    status, answer = 200, server.token(query, account)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: Any) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def token(self, query: dict[str, list[str]], account: str) -> dict[str, Any]:
        access = []
        for scope in query.get("scope", []):
            kind, _, rest = scope.partition(":")
            name, _, wanted = rest.rpartition(":")
            allowed = self.accounts[account][1].get(name, set()) if account else set()
            access.append({"type": kind, "name": name, "actions": sorted(allowed & set(wanted.split(",")))})
        token = self._sign(account, access)
        answer: dict[str, Any] = {"token": token, "access_token": token, "expires_in": 300}
        if account and query.get("offline_token") == ["true"]:
            answer["refresh_token"] = f"identity-{uuid.uuid4()}"
            self.identities[answer["refresh_token"]] = account
        return answer

    def _sign(self, account: str, access: list[dict[str, Any]]) -> str:
        lines = (self.place / "token.crt").read_text().splitlines()
        certificate = "".join(line for line in lines if "-----" not in line)
        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [certificate]}
        claims = {
            "iss": ISSUER,
            "sub": account,
            "aud": SERVICE,
            "jti": str(uuid.uuid4()),
            "access": access,
            "iat": now,
            "nbf": now - 10,
            "exp": now + 300,
        }
        text = ".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.place / "token.key")],
            input=text.encode(),
            capture_output=True,
            check=True,
        )
        return f"{text}.{_base64url(signed.stdout)}"
