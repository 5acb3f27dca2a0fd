"""minid-certs (and `minictl certs`): makes a CA, certificates for daemons and for people, and revokes them."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from minicerts import issue
from minicerts.store import Entry, Store, StoreError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+:-]{0,63}")  # it becomes a directory's name and a subject's
DAYS, CA_DAYS = 365, 3650
CRL_DAYS = 3650  # a list that is out of date locks everybody out


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    store = Store(Path(options.dir))
    try:
        options.run(store, options)
    except StoreError as error:
        print(f"minid-certs: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"minid-certs: {error.filename or options.dir}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    default = os.environ.get("MINID_CERTS", os.path.expanduser("~/.minid-certs"))
    # `minictl certs` calls itself so in the help.
    parser = argparse.ArgumentParser(
        prog=os.environ.get("MINID_CERTS_PROG", "minid-certs"), description=__doc__
    )
    parser.add_argument(
        "--dir", default=default, help="where the CA is (MINID_CERTS; default ~/.minid-certs)"
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    init = verbs.add_parser("init", help="make a CA")
    init.add_argument("--name", default="minid CA", help="its common name")
    init.add_argument("--days", type=int, default=CA_DAYS)
    init.set_defaults(run=_init)

    server = verbs.add_parser("server", help="make the certificate of a daemon")
    server.add_argument(
        "names", nargs="+", metavar="NAME", help="DNS names and addresses under which it is reached"
    )
    server.add_argument("--days", type=int, default=DAYS)
    server.add_argument("--out", help="copy server-cert.pem, server-key.pem, ca.pem and crl.pem there, too")
    server.set_defaults(run=_server)

    client = verbs.add_parser("client", help="make the certificate of a person or program")
    client.add_argument("name", metavar="NAME", help="the common name")
    client.add_argument(
        "--ou", action="append", default=[], help="an organizational unit, for roles; may be repeated"
    )
    client.add_argument("--days", type=int, default=DAYS)
    client.add_argument("--out", help="copy ca.pem, cert.pem and key.pem there, too (a DOCKER_CERT_PATH)")
    client.set_defaults(run=_client)

    revoke = verbs.add_parser("revoke", help="take certificates back: for the daemon's --tlscrl")
    revoke.add_argument("names", nargs="*", metavar="NAME", help="none: only write the list anew")
    revoke.set_defaults(run=_revoke)

    ls = verbs.add_parser("ls", help="list what has been issued")
    ls.set_defaults(run=_ls)
    return parser


def _init(store: Store, options: argparse.Namespace) -> None:
    store.create(options.name, options.days, CRL_DAYS)
    print(
        f"{store.place}/ca.pem is the CA: daemons and clients need it. Keep {store.place}/ca-key.pem to yourself."
    )


def _server(store: Store, options: argparse.Namespace) -> None:
    for name in options.names:
        if not _is_address(name):
            _check(name.removeprefix("*."))
    place = store.add("server", options.names[0], issue.server(store.ca(), options.names, options.days))
    if options.out:
        shown = Path(options.out)
        shown.mkdir(parents=True, exist_ok=True)
        _copy(place / "cert.pem", shown / "server-cert.pem")
        _copy(place / "key.pem", shown / "server-key.pem")
        _copy(store.place / "ca.pem", shown / "ca.pem")
        _copy(store.place / "crl.pem", shown / "crl.pem")
        files = (shown / "ca.pem", shown / "server-cert.pem", shown / "server-key.pem", shown / "crl.pem")
    else:
        files = (place / "ca.pem", place / "cert.pem", place / "key.pem", store.place / "crl.pem")
    flags = " ".join(f"--{name} {file}" for name, file in zip(_SERVER_FLAGS, files, strict=True))
    print(f"minid -H fd:// -H tcp://0.0.0.0:2376 --tlsverify {flags}")


_SERVER_FLAGS = ("tlscacert", "tlscert", "tlskey", "tlscrl")


def _client(store: Store, options: argparse.Namespace) -> None:
    _check(options.name)
    old = next(
        (entry for entry in store.entries() if (entry.kind, entry.name) == ("clients", options.name)), None
    )
    if old and not old.revoked and old.certificate.not_valid_after_utc > _now():
        raise StoreError(
            f"{options.name} has a certificate that is valid: `revoke {options.name}` first, or give this one "
            f"another name, such as {options.name}-2"
        )
    pair = issue.client(store.ca(), options.name, options.ou, options.days)
    place = store.add("clients", options.name, pair)
    if options.out:
        shown = Path(options.out)
        shown.mkdir(parents=True, exist_ok=True)
        for name in ("ca.pem", "cert.pem", "key.pem"):
            _copy(place / name, shown / name)
        place = shown
    print(f"export DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH={place}")


def _revoke(store: Store, options: argparse.Namespace) -> None:
    entries = []
    for name in options.names:
        entry = store.find(name)
        if entry is None:
            raise StoreError(f"there is no certificate of {name}: see `ls`")
        entries.append(entry)
    for entry in entries:
        if not entry.revoked:
            store.revoke(entry, CRL_DAYS)
    store.write_list(CRL_DAYS)
    print(
        f"{store.place}/crl.pem is the new list: copy it to where the daemons' --tlscrl is; no restart is needed."
    )


def _ls(store: Store, options: argparse.Namespace) -> None:
    store.ca()
    rows = [("KIND", "NAME", "NAMES AND UNITS", "UNTIL", "STATE", "SERIAL")]
    for entry in store.entries():
        more = ",".join(entry.alternative_names or [f"OU={unit}" for unit in entry.units])
        until = entry.certificate.not_valid_after_utc.strftime("%Y-%m-%d")
        kind = entry.kind.removesuffix("s")
        rows.append((kind, entry.name, more, until, _state(entry), f"{entry.certificate.serial_number:x}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _state(entry: Entry) -> str:
    if entry.revoked:
        return "revoked"
    left = entry.certificate.not_valid_after_utc - _now()
    return "expired" if left < timedelta() else "expires soon" if left < timedelta(days=30) else "valid"


def _now() -> datetime:
    return datetime.now(UTC)


def _check(name: str) -> None:
    if not NAME.fullmatch(name):
        raise StoreError(f"{name!r} cannot be a name here: letters, digits and _.@+:- please")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    shutil.copy(source, target)  # with its mode
