"""Certificate authorities and certificates of every good and bad kind, made by the openssl command."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_CONFIG = """
[ca]
default_ca = here
[here]
new_certs_dir = .
database = index.txt
serial = serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


def openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


@dataclass(frozen=True)
class Certificate:
    """PEM files."""

    certificate: Path
    key: Path


def self_signed(place: Path, names: str) -> Certificate:
    """``names`` as in subjectAltName: ``DNS:registry.test,IP:127.0.0.1``."""
    place.mkdir(parents=True)
    more = ("-subj", "/CN=self-signed", "-days", "2", "-addext", f"subjectAltName={names}")
    openssl("req", "-x509", *_KEY, *more, "-keyout", "key.pem", "-out", "cert.pem", cwd=place)
    return Certificate(place / "cert.pem", place / "key.pem")


class Authority:
    """A CA whose certificate is ``certificate``."""

    def __init__(self, place: Path, name: str = "test CA") -> None:
        self.place = place
        self.certificate = place / "ca.pem"
        place.mkdir(parents=True)
        (place / "config").write_text(_CONFIG)
        (place / "index.txt").touch()
        (place / "serial").write_text("01\n")
        more = ("-subj", f"/CN={name}", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem")
        openssl("req", "-x509", *_KEY, *more, cwd=place)

    def issue(self, name: str, names: str, *, expired: bool = False) -> Certificate:
        """A certificate for ``names``; ``name`` is that of its files."""
        place = self.place
        request = ("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("req", *_KEY, *request, cwd=place)
        (place / f"{name}.ext").write_text(f"subjectAltName={names}\n")
        when = ("-startdate", "20200101000000Z", "-enddate", "20200201000000Z") if expired else ("-days", "2")
        openssl(
            *("ca", "-batch", "-config", "config", "-cert", "ca.pem", "-keyfile", "ca.key", "-notext", *when),
            *("-extfile", f"{name}.ext", "-in", f"{name}.csr", "-out", f"{name}.pem"),
            cwd=place,
        )
        return Certificate(place / f"{name}.pem", place / f"{name}.key")
