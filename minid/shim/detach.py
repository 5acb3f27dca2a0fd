"""The keys that detach a client from a container: their notation, and finding them in what is typed.

Source: Engine API v1.44 ``POST /containers/{id}/attach`` § detachKeys.
"""

DEFAULT_KEYS = "ctrl-p,ctrl-q"

_CONTROL = {f"ctrl-{name}": code for code, name in enumerate("@abcdefghijklmnopqrstuvwxyz[\\]^_")} | {
    "DEL": 127
}


def parse_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q``, ``a``, ``ctrl-[`` … as the bytes that a terminal sends; "" means the default.

    Raises ValueError with Docker's text for a key that does not exist.
    """
    keys = bytearray()
    for key in (text or DEFAULT_KEYS).split(","):
        if len(key) == 1 and ord(key) < 128:
            keys.append(ord(key))
        elif key in _CONTROL:
            keys.append(_CONTROL[key])
        else:
            raise ValueError(f"Unknown character: '{key}'")
    return bytes(keys)


class Detacher:
    """Watches a client's input for ``keys``, however it is cut into pieces."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0
        self._fallback = _fallbacks(keys)

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """``(what to pass on, whether the keys came)``. What could be their beginning is held back until
        the next byte.

        What follows the keys in ``data`` is dropped, as is what was held.
        """
        keys = self._keys
        if not keys or (not self._matched and keys[0] not in data):
            return data, False
        passed = bytearray()
        for byte in data:
            while self._matched and byte != keys[self._matched]:
                shorter = self._fallback[self._matched - 1]
                passed += keys[: self._matched - shorter]
                self._matched = shorter
            if byte == keys[self._matched]:
                self._matched += 1
                if self._matched == len(keys):
                    self._matched = 0
                    return bytes(passed), True
            else:
                passed.append(byte)
        return bytes(passed), False

    def flush(self) -> bytes:
        """What is held back, for the end of the input."""
        held, self._matched = self._keys[: self._matched], 0
        return held


def _fallbacks(keys: bytes) -> list[int]:
    """For each prefix of ``keys``, the length of its longest proper suffix that is a prefix (Knuth,
    Morris, Pratt).
    """
    table = [0] * len(keys)
    length = 0
    for index in range(1, len(keys)):
        while length and keys[index] != keys[length]:
            length = table[length - 1]
        if keys[index] == keys[length]:
            length += 1
        table[index] = length
    return table
