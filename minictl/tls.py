"""TLS to a daemon: certificates, the handshake, and what to tell the user when one side doesn't trust the other.

The first line of a message is in the words of Go's crypto/tls, which people search for; the second says what to do.
"""

from __future__ import annotations

import _socket
import ssl

from minictl import tcp
from minictl.endpoint import TlsFiles
from minictl.errors import ConnectError, Failure
from minictl.http import Connection
from minictl.relay import Relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HANDSHAKE_TIMEOUT_S = 10.0
_READ_BYTES = 64 * 1024
_X509_NAMES = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_X509_TIMES = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED

# The alerts by which a daemon turns a client's certificate down (RFC 8446 § 6.2), and Go's words for them.
_ALERTS = {
    "CERTIFICATE_REQUIRED": ("certificate required", "the daemon wants a certificate of yours, and was shown none"),
    "HANDSHAKE_FAILURE": ("handshake failure", "the daemon wants a certificate of yours, or other ciphers"),
    "BAD_CERTIFICATE": ("bad certificate", "the daemon does not accept your certificate"),
    "UNKNOWN_CA": ("unknown certificate authority", "your certificate is of a CA that the daemon does not know"),
    "CERTIFICATE_REVOKED": ("revoked certificate", "your certificate has been revoked"),
    "CERTIFICATE_EXPIRED": ("expired certificate", "your certificate has expired, or is not valid yet"),
    "CERTIFICATE_UNKNOWN": ("unknown certificate", "the daemon does not accept your certificate"),
    "UNSUPPORTED_CERTIFICATE": ("unsupported certificate", "your certificate is not one for clients"),
    "PROTOCOL_VERSION": ("protocol version not supported", "the daemon speaks no TLS 1.2 or later"),
}  # fmt: skip


class _SpeaksHttp(ssl.SSLError):
    """What answered the first message of TLS with HTTP."""


def connect(host: str, name: str, shown: str, sock: _socket.socket, files: TlsFiles) -> Connection:
    """A connection over TLS on `sock`, connected to `host`, whose certificate has to be for `name`."""
    context = client_context(files)
    try:
        tls, incoming, outgoing = handshake(sock, context, name)
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise ConnectError(_distrusted(error, context, host, name, files)) from None
    except OSError as error:
        sock.close()
        raise ConnectError(_explained(error, host, files)) from None
    relay = Relay(sock, tls, incoming, outgoing)

    def trouble() -> str:
        return _explained(relay.problem, host, files) if relay.problem else ""

    return Connection(relay.start(), shown, trouble)


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Raises Failure for files that can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if files.verify:
        context.hostname_checks_common_name = False
        context.verify_flags |= (
            ssl.VERIFY_X509_PARTIAL_CHAIN
        )  # who trusts a certificate need not have what signed it
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    path = files.ca
    try:
        if files.verify:
            context.load_verify_locations(path)
        if files.certificate or files.key:
            if not (files.certificate and files.key):
                missing = "key" if files.certificate else "certificate"
                raise Failure(
                    f"Could not load X509 key pair: {files.certificate or files.key} has no {missing} with it: "
                    "give both --tlscert and --tlskey"
                )
            path = files.key
            with open(path, "rb"):  # OpenSSL doesn't say which file is missing
                path = files.certificate
            context.load_cert_chain(files.certificate, files.key)
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            raise Failure(
                f"Could not load X509 key pair: tls: private key does not match public key: {files.key} is not the "
                f"key of {files.certificate}"
            ) from None
        raise Failure(
            f"could not read the TLS file {path}: {getattr(error, 'reason', None) or error}: is it PEM?"
        ) from None
    except OSError as error:
        raise Failure(
            f"Failed to initialize: unable to resolve docker endpoint: open {path}: "
            f"{(error.strerror or str(error)).lower()}\n"
            "TLS needs ca.pem, cert.pem and key.pem: in ~/.docker, in DOCKER_CERT_PATH, or as --tlscacert, --tlscert, "
            "--tlskey (docs/remote.md)."
        ) from None
    return context


def handshake(
    sock: _socket.socket, context: ssl.SSLContext, name: str
) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    """Raises ssl.SSLError, OSError (TimeoutError), and ConnectError when it is HTTP that is spoken there."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=tcp.encoded(name))
    sock.settimeout(_HANDSHAKE_TIMEOUT_S)
    first = True
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            _send(sock, outgoing)  # the alert that says why
            raise
        _send(sock, outgoing)
        data = sock.recv(_READ_BYTES)
        if first and data.startswith(b"HTTP/"):
            raise _SpeaksHttp
        first = False
        if data:
            incoming.write(data)
        else:
            incoming.write_eof()
    _send(sock, outgoing)
    sock.settimeout(None)
    return tls, incoming, outgoing


def _send(sock: _socket.socket, outgoing: ssl.MemoryBIO) -> None:
    data = outgoing.read()
    if data:
        try:
            sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):  # what the daemon has said before can still be read
            pass


def _distrusted(
    error: ssl.SSLCertVerificationError, context: ssl.SSLContext, host: str, name: str, files: TlsFiles
) -> str:
    """Why the daemon's certificate is not taken."""
    says = "error during connect: tls: failed to verify certificate: x509: "
    if error.verify_code in _X509_NAMES:
        names = _names_of_certificate(context, host, name)
        if not names:
            return (
                f"{says}certificate relies on legacy Common Name field, use SANs instead: it is valid for no name\n"
                f"Make the daemon one for {name}: minictl certs server {name}"
            )
        return (
            f"{says}certificate is valid for {', '.join(names)}, not {name}\n"
            "Name the daemon by one of these, or make it a certificate for all its names: minictl certs server …"
        )
    if error.verify_code in _X509_TIMES:
        return (
            f"{says}certificate has expired or is not yet valid: {error.verify_message}\n"
            "The daemon needs a new one (minictl certs server), or this machine's clock is wrong."
        )
    return (
        f"{says}certificate signed by unknown authority ({error.verify_message})\n"
        f"{files.ca} is not the CA that made the certificate of the daemon at {host}: fetch the right ca.pem."
    )


def _names_of_certificate(context: ssl.SSLContext, host: str, name: str) -> list[str]:
    """The names that it is for: asked once more, since OpenSSL forgets a certificate that it doesn't take."""
    context.check_hostname = False
    sock = None
    try:
        sock = tcp.dial(host, *tcp.address(host, tls=True))
        tls, _, _ = handshake(sock, context, name)
        certificate: dict[str, Any] = dict(tls.getpeercert() or {})
        return [str(value) for _, value in certificate.get("subjectAltName", ())]
    except (OSError, Failure):
        return []
    finally:
        if sock:
            sock.close()


def _explained(error: Exception, host: str, files: TlsFiles) -> str:
    """Why a handshake or a connection has failed, in the daemon's view or in OpenSSL's."""
    says = "error during connect: "
    if isinstance(error, TimeoutError):
        return f"{says}net/http: TLS handshake timeout: what listens at {host} answers nothing: is it minid, with TLS?"
    if not isinstance(error, ssl.SSLError):
        reason = getattr(error, "strerror", None) or error
        return f"{says}the connection to the daemon at {host} broke: {str(reason).lower()}"
    reason = getattr(error, "reason", None) or ""
    if isinstance(error, _SpeaksHttp) or reason == "WRONG_VERSION_NUMBER":
        return (
            f"{says}http: server gave HTTP response to HTTPS client\n"
            f"The daemon at {host} speaks no TLS: leave away --tls, --tlsverify and DOCKER_TLS_VERIFY, or give it "
            "certificates (docs/remote.md)."
        )
    for alert, (words, meaning) in _ALERTS.items():
        if reason.endswith(f"ALERT_{alert}"):
            shown = (
                f"{files.certificate} is not what it wants" if files.certificate else "none was found here"
            )
            return (
                f"{says}remote error: tls: {words}: {meaning}\n"
                "The server probably has client authentication (--tlsverify) enabled; check your TLS client "
                f"certification configuration ({shown}): --tlscert, --tlskey, DOCKER_CERT_PATH."
            )
    if isinstance(error, ssl.SSLEOFError):
        return f"{says}the daemon at {host} closed the connection without saying so (unexpected EOF)"
    return f"{says}tls: {(reason or str(error)).lower().replace('_', ' ')}"
