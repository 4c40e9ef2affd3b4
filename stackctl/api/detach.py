"""Detach keys: the key sequence that leaves an attached terminal and lets the container go on; pure."""

from stackctl.errors import InvalidInputError

DEFAULT_KEYS = b"\x10\x11"

_CONTROLS = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse_keys(text: str) -> bytes:
    """Return the bytes of "ctrl-p,ctrl-q"; the default for "". Raises InvalidInputError."""
    if not text:
        return DEFAULT_KEYS
    keys = bytearray()
    for word in text.split(","):
        if len(word) == 1 and word.isascii():
            keys += word.encode()
            continue
        prefix, _, key = word.lower().partition("-")
        if prefix != "ctrl" or len(key) != 1 or not ("a" <= key <= "z" or key in _CONTROLS):
            raise InvalidInputError(
                f"invalid detachKeys: Invalid escape keys ({text[:80]}) provided",
                hint="such as ctrl-p,ctrl-q",
            )
        keys.append(ord(key) - 96 if "a" <= key <= "z" else _CONTROLS[key])
    return bytes(keys)


class Detector:
    """Finds the sequence in what is typed, however it is cut; what might begin it is held back until it is clear."""

    __slots__ = ("_held", "_keys", "detached")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""
        self.detached = False

    def feed(self, data: bytes) -> bytes:
        """Return what may be passed on; ``detached`` is set when the sequence was complete."""
        data = self._held + data
        position = data.find(self._keys)
        if position >= 0:
            self.detached = True
            self._held = b""
            return data[:position]
        keep = next(
            (
                length
                for length in range(min(len(self._keys) - 1, len(data)), 0, -1)
                if data.endswith(self._keys[:length])
            ),
            0,
        )
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]
