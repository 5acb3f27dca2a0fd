"""D-Bus messages; with systemd itself scripts/vm-test tries them."""

import socket
import threading
from pathlib import Path

import pytest

from minid.kernel import dbus


def test_splits_a_signature_into_complete_types() -> None:
    assert dbus.split("ssa(sv)a(sa(sv))uau") == ["s", "s", "a(sv)", "a(sa(sv))", "u", "au"]


def test_encodes_as_the_specification_shows() -> None:
    # "Marshalling": a string has its length, its bytes and a NUL; what follows is aligned to its size.
    assert dbus.encode("su", ("foo", 2)) == b"\x03\0\0\0foo\0\x02\0\0\0"
    # "Arrays": the length does not count the padding before the first element.
    assert dbus.encode("at", ([5],)) == b"\x08\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0"
    assert dbus.encode("v", (("b", True),)) == b"\x01b\0\0\x01\0\0\0"


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("ssa(sv)a(sa(sv))", ("a.scope", "fail", [("PIDs", ("au", [1, 2])), ("Delegate", ("b", True))], [])),
        ("uoss", (7, "/org/freedesktop/systemd1/job/7", "a.scope", "done")),
        ("ay(tg)as", ([1, 2, 3], (2**64 - 1, "a(sv)"), ["", "ü"])),
    ],
)
def test_decodes_what_it_encodes(signature: str, values: tuple[object, ...]) -> None:
    assert dbus.decode(signature, dbus.encode(signature, values)) == values


def test_refuses_types_that_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="not known"):
        dbus.encode("d", (1.5,))


class Service(threading.Thread):
    """The other end of one connection: answers the authentication, then sends what it is told to."""

    def __init__(self, path: Path, answer: bytes, *, greeting: bytes = b"OK 0123\r\n") -> None:
        super().__init__()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answer, self._greeting = answer, greeting
        self.start()

    def run(self) -> None:
        with self._listener, self._listener.accept()[0] as peer:
            while not peer.recv(4096).endswith(b"\r\n"):
                pass
            peer.sendall(self._greeting)
            if peer.recv(4096):
                for index in range(len(self._answer)):
                    peer.sendall(self._answer[index : index + 1])
                peer.recv(65536)


def message(kind: int, serial: int, fields: list[tuple[int, tuple[str, object]]], body: bytes) -> bytes:
    head = bytearray(b"l" + bytes([kind, 0, 1]) + dbus.encode("uu", (len(body), serial)))
    head += dbus.encode("a(yv)", (fields,)) if not fields else b""
    if fields:
        # The array begins at 12; encode() alone would align it as if at 0.
        content = dbus.encode("ua(yv)", (0, fields))[4:]
        head += content
    head += bytes(-len(head) % 8)
    return bytes(head) + body


def signal(member: str, signature: str, body: bytes) -> bytes:
    return message(4, 1, [(3, ("s", member)), (8, ("g", signature))], body)


def test_calls_and_keeps_the_signals_that_come_before_the_answer(tmp_path: Path) -> None:
    odd = signal("PropertiesChanged", "a{sv}", b"\0\0\0\0\0\0\0\0")
    answer = message(2, 2, [(5, ("u", 1)), (8, ("g", "o"))], dbus.encode("o", ("/job/7",)))
    later = signal("JobRemoved", "uoss", dbus.encode("uoss", (7, "/job/7", "a.scope", "done")))
    service = Service(tmp_path / "s", odd + answer + later)
    with dbus.Peer(str(tmp_path / "s")) as peer:
        assert peer.call("/p", "i.f", "Start", "s", "x", destination="d") == ("/job/7",)
        assert peer.next_signal().member == "PropertiesChanged"
        removed = peer.next_signal()
        assert (removed.member, removed.body[3]) == ("JobRemoved", "done")
    service.join()


def test_an_error_has_its_name_and_text(tmp_path: Path) -> None:
    body = dbus.encode("s", ("Unit a.scope already exists.",))
    name = "org.freedesktop.systemd1.UnitExists"
    service = Service(tmp_path / "s", message(3, 2, [(4, ("s", name)), (5, ("u", 1)), (8, ("g", "s"))], body))
    with (
        dbus.Peer(str(tmp_path / "s")) as peer,
        pytest.raises(dbus.DBusError, match="already exists") as raised,
    ):
        peer.call("/p", "i.f", "Start", "", destination="d")
    assert raised.value.name == name
    service.join()


def test_a_refused_authentication_is_a_permission_error(tmp_path: Path) -> None:
    service = Service(tmp_path / "s", b"", greeting=b"REJECTED EXTERNAL\r\n")
    with pytest.raises(PermissionError):
        dbus.Peer(str(tmp_path / "s"))
    service.join()
