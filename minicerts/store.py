"""The directory with a team's certificates: what has been issued is what lies there.

ca.pem  ca-key.pem  crl.pem  revoked    the CA, its key, the list of revoked certificates and what that is made of
server/NAME/{ca,cert,key}.pem           for daemons
clients/NAME/{ca,cert,key}.pem          what a client copies to ~/.docker, or names as DOCKER_CERT_PATH
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from minicerts import issue
from minicerts.issue import Pair


class StoreError(Exception):
    """Its text is for the user."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One issued certificate; ``revoked``: since when, None if it holds."""

    kind: str
    name: str
    certificate: x509.Certificate
    revoked: datetime | None

    @property
    def units(self) -> list[str]:
        attributes = self.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
        return [str(attribute.value) for attribute in attributes]

    @property
    def alternative_names(self) -> list[str]:
        try:
            extension = self.certificate.extensions.get_extension_for_oid(
                ExtensionOID.SUBJECT_ALTERNATIVE_NAME
            )
        except x509.ExtensionNotFound:
            return []
        return [str(name.value) for name in extension.value]  # type: ignore[attr-defined]


class Store:
    def __init__(self, place: Path) -> None:
        self.place = place

    def create(self, name: str, days: int, crl_days: int) -> None:
        """A new CA and an empty revocation list. StoreError when there is one already."""
        if (self.place / "ca-key.pem").exists():
            raise StoreError(
                f"{self.place} has a CA already: its certificates would be worth nothing with another"
            )
        self.place.mkdir(mode=0o700, parents=True, exist_ok=True)
        ca = issue.authority(name, days)
        _write(self.place / "ca-key.pem", ca.key_pem(), 0o600)
        _write(self.place / "ca.pem", ca.certificate_pem(), 0o644)
        self.write_list(crl_days)

    def ca(self) -> Pair:
        try:
            return Pair.load((self.place / "ca.pem").read_bytes(), (self.place / "ca-key.pem").read_bytes())
        except FileNotFoundError as error:
            raise StoreError(f"{error.filename} is not there: make a CA first, with `init`") from None
        except ValueError as error:
            raise StoreError(f"{self.place}: the CA cannot be read: {error}") from None

    def add(self, kind: str, name: str, pair: Pair) -> Path:
        """Keep a certificate; one of the same name goes, and if it was a client's, it has to be revoked first."""
        directory = self.place / kind / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(directory / "ca.pem", (self.place / "ca.pem").read_bytes(), 0o644)
        _write(directory / "key.pem", pair.key_pem(), 0o600)
        _write(directory / "cert.pem", pair.certificate_pem(), 0o644)
        return directory

    def entries(self) -> Iterator[Entry]:
        revoked = self.revoked()
        for kind in ("server", "clients"):
            for path in sorted((self.place / kind).glob("*/cert.pem")):
                certificate = x509.load_pem_x509_certificate(path.read_bytes())
                yield Entry(kind, path.parent.name, certificate, revoked.get(certificate.serial_number))

    def find(self, name: str) -> Entry | None:
        """The client's, else the server's."""
        found = [entry for entry in self.entries() if entry.name == name]
        return found[-1] if found else None

    def revoked(self) -> dict[int, datetime]:
        try:
            lines = (self.place / "revoked").read_text().splitlines()
        except FileNotFoundError:
            return {}
        fields = [line.split() for line in lines if line.strip()]
        return {int(serial, 16): datetime.fromisoformat(since) for serial, since, *_ in fields}

    def revoke(self, entry: Entry, crl_days: int) -> None:
        """Into the list, which is written anew."""
        now = datetime.now(UTC).replace(microsecond=0)
        with (self.place / "revoked").open("a") as file:
            file.write(f"{entry.certificate.serial_number:x} {now.isoformat()} {entry.kind}/{entry.name}\n")
        self.write_list(crl_days)

    def write_list(self, days: int) -> None:
        _write(
            self.place / "crl.pem",
            issue.revocation_list(self.ca(), list(self.revoked().items()), days),
            0o644,
        )


def _write(path: Path, data: bytes, mode: int) -> None:
    """It appears whole, never readable by more than ``mode`` says."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
    aside.rename(path)
