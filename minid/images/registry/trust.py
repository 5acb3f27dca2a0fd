"""What was wrong with a TLS connection to a registry, in words: which registry, what, and the ways to allow it.

Pure. The certificate errors are OpenSSL's (``x509_vfy.h``), the alerts those of RFC 8446 § 6.2.
"""

import ssl

_EXPIRED, _NOT_YET = (10,), (9,)
_SELF_SIGNED = (18,)
_UNKNOWN_CA = (2, 19, 20, 21)
_OTHER_NAME = (62, 63, 64)
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")
_WANTS_CLIENT = (
    "CERTIFICATE_REQUIRED",
    "BAD_CERTIFICATE",
    "HANDSHAKE_FAILURE",
    "UNKNOWN_CA",
    "CERTIFICATE_UNKNOWN",
)


def explain(error: ssl.SSLError, host: str) -> str:
    """The message for a failed handshake with the registry ``host[:port]``."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, host)
    reason = error.reason or str(error)
    if reason in _NOT_TLS:
        return (
            f"registry {host}: server gave HTTP response to HTTPS client: let it serve HTTPS, or {insecure(host)}, "
            "or reach it as localhost through a tunnel (ssh -L)"
        )
    if "ALERT" in reason and reason.endswith(_WANTS_CLIENT):
        return (
            f"registry {host}: refused the connection ({_plain(reason)}): it wants a certificate from this client: "
            f"put the pair in {directory(host)}/client.cert and client.key"
        )
    return f"registry {host}: the TLS handshake failed: {_plain(reason)}"


def _untrusted(error: ssl.SSLCertVerificationError, host: str) -> str:
    code = error.verify_code
    why = error.verify_message or str(error)
    if code in _SELF_SIGNED:
        what, ways = "self-signed", [f"put it in {directory(host)}/ca.crt"]
    elif code in _UNKNOWN_CA:
        what, ways = "signed by an unknown CA", [f"put the CA's certificate in {directory(host)}/ca.crt"]
    elif code in _EXPIRED:
        what, ways = "expired", ["renew it (and check this machine's clock)"]
    elif code in _NOT_YET:
        what, ways = "not valid yet", ["check this machine's clock, and the registry's certificate"]
    elif code in _OTHER_NAME:
        what, ways = (
            "for another name",
            ["call the registry by a name that is in it, or let this one be added to it"],
        )
    else:
        what, ways = "not acceptable", [f"put the CA's certificate in {directory(host)}/ca.crt"]
    return (
        f"registry {host}: its certificate is not trusted, it is {what} ({why.rstrip('.')}): "
        f"{', or '.join([*ways, insecure(host)])}"
    )


def directory(host: str) -> str:
    """Where the certificates for a registry belong."""
    return f"/etc/minid/certs.d/{host}"


def insecure(host: str) -> str:
    """How to do without a certificate."""
    return f"add {host} to insecure-registries if you trust the network (minid --insecure-registry {host})"


def _plain(reason: str) -> str:
    return reason.lower().replace("_", " ")
