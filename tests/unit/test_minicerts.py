"""The certificates of `minictl certs`: what openssl makes of them, what is refused, who may read the keys."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minicerts.main import main

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    assert main(["--dir", str(tmp_path / "ca"), "init", "--name", "Team CA"]) == 0
    return tmp_path / "ca"


def openssl(*line: str) -> str:
    done = subprocess.run(["openssl", *line], capture_output=True, text=True)
    return done.stdout + done.stderr


def verified(place: Path, purpose: str, certificate: Path) -> str:
    more = ("-CRLfile", f"{place}/crl.pem", "-crl_check", "-x509_strict", "-purpose", purpose)
    return openssl("verify", "-CAfile", f"{place}/ca.pem", *more, str(certificate))


def test_a_certificate_is_for_one_purpose(place: Path) -> None:
    assert main(["--dir", str(place), "server", "far.test", "192.0.2.7", "::1", "*.far.test"]) == 0
    assert main(["--dir", str(place), "client", "alice", "--ou", "dev", "--ou", "ops"]) == 0
    server, client = place / "server/far.test/cert.pem", place / "clients/alice/cert.pem"
    assert ": OK" in verified(place, "sslserver", server)
    assert ": OK" in verified(place, "sslclient", client)
    assert "unsuitable certificate purpose" in verified(place, "sslclient", server)
    assert "unsuitable certificate purpose" in verified(place, "sslserver", client)
    names = openssl("x509", "-in", str(server), "-noout", "-ext", "subjectAltName")
    assert "DNS:far.test, IP Address:192.0.2.7, IP Address:0:0:0:0:0:0:0:1, DNS:*.far.test" in names
    subject = openssl("x509", "-in", str(client), "-noout", "-subject")
    assert [part.strip() for part in subject.partition("=")[2].split(",")] == [
        "OU = dev",
        "OU = ops",
        "CN = alice",
    ]


def test_keys_are_for_their_owner(place: Path, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        assert main(["--dir", str(place), "server", "far.test", "--out", str(tmp_path / "out")]) == 0
        assert main(["--dir", str(place), "client", "alice", "--out", str(tmp_path / "out")]) == 0
    finally:
        os.umask(old)
    keys = list(tmp_path.rglob("*key.pem"))
    assert len(keys) == 5
    assert all(path.stat().st_mode & 0o077 == 0 for path in keys)


def test_revoked_and_made_anew(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certs = ["--dir", str(place)]
    certificate = place / "clients/bob/cert.pem"
    assert main([*certs, "client", "bob"]) == 0
    first = certificate.read_bytes()
    assert main([*certs, "client", "bob"]) == 1
    assert "bob has a certificate that is valid" in capsys.readouterr().err
    assert certificate.read_bytes() == first
    assert main([*certs, "revoke", "bob"]) == main([*certs, "revoke", "bob"]) == 0
    assert "certificate revoked" in verified(place, "sslclient", certificate)
    assert main([*certs, "client", "bob"]) == 0
    assert ": OK" in verified(place, "sslclient", certificate)
    (place / "old.pem").write_bytes(first)
    assert "certificate revoked" in verified(place, "sslclient", place / "old.pem")
    assert len((place / "revoked").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["client", "../evil"], "cannot be a name here"),
        (["client", "a" * 65], "cannot be a name here"),
        (["server", "a b"], "cannot be a name here"),
        (["revoke", "nobody"], "there is no certificate of nobody"),
        (["init"], "has a CA already"),
    ],
)
def test_refused(place: Path, line: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dir", str(place), *line]) == 1
    assert words in capsys.readouterr().err
    assert not list(place.parent.rglob("evil*"))


def test_minictl_certs_becomes_it(tmp_path: Path) -> None:
    """Without it minictl says what to install."""
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(TOP), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "minictl", "certs"]
    if not (Path(sys.executable).parent / "minid-certs").exists():
        done = subprocess.run([*command, "ls"], env=environment, capture_output=True, text=True)
        assert done.returncode == 1 and "pip install 'minid[certs]'" in done.stderr
        (tmp_path / "minid-certs").write_text(f'#!/bin/sh\nexec {sys.executable} -m minicerts "$@"\n')
        (tmp_path / "minid-certs").chmod(0o755)
    done = subprocess.run([*command, "init", "--name", "x"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".minid-certs/ca.pem").exists()
