"""What a watch session tells: one value an event, as text for people and JSON for editors."""

import posixpath
from enum import StrEnum

from stackctl.frozen import frozen
from stackctl.values import JsonObject

_SHOWN = 3
_IN_JSON = 1000


class Kind(StrEnum):
    """What happened."""

    WATCHING = "watching"
    MISSING = "missing"
    SYNCED = "synced"
    EXECUTED = "executed"
    RESTARTED = "restarted"
    REBUILDING = "rebuilding"
    REBUILT = "rebuilt"
    SUPERSEDED = "superseded"
    RESCANNED = "rescanned"
    CHANGED = "changed"
    FAILED = "failed"


@frozen
class Happening:
    """One event of a session. ``seconds`` counts from the first change seen; 0.0 where that means nothing.

    ``paths`` are paths in the container (files on the host for kinds without a container); ``size`` is in bytes.
    """

    kind: Kind
    service: str = ""
    container: str = ""
    paths: tuple[str, ...] = ()
    written: int = 0
    deleted: int = 0
    size: int = 0
    seconds: float = 0.0
    text: str = ""
    hint: str = ""

    def to_json(self) -> JsonObject:
        """Return it as one object, what is empty left out."""
        body: JsonObject = {"event": self.kind.value}
        for name in ("service", "container", "text", "hint"):
            if value := getattr(self, name):
                body[name] = value
        if self.kind is Kind.SYNCED:
            body |= {"written": self.written, "deleted": self.deleted, "bytes": self.size}
        if self.seconds:
            body["seconds"] = round(self.seconds, 6)
        if self.paths:
            body["paths"] = list(self.paths[:_IN_JSON])
            if len(self.paths) > _IN_JSON:
                body["more"] = len(self.paths) - _IN_JSON
        return body

    def __str__(self) -> str:
        name = self.container or self.service
        head = f"{name}: " if name else ""
        took = f" in {_span(self.seconds)}" if self.seconds else ""
        hint = f"\nhint: {self.hint}" if self.hint else ""
        return f"{head}{self._what()}{took}{self._which()}{hint}"

    def _what(self) -> str:
        if self.kind is not Kind.SYNCED:
            return " ".join(filter(None, (_WORDS.get(self.kind, ""), self.text)))
        counts = []
        if self.written or not self.deleted:
            plural = "" if self.written == 1 else "s"
            counts.append(f"{self.written} path{plural} ({_bytes(self.size)})")
        if self.deleted:
            counts.append(f"{self.deleted} deleted")
        return f"synced {', '.join(counts)} to {_common(self.paths)}"

    def _which(self) -> str:
        if self.kind is not Kind.SYNCED or len(self.paths) < 2:
            return ""
        names = ", ".join(posixpath.basename(path) for path in self.paths[:_SHOWN])
        rest = len(self.paths) - _SHOWN
        return f": {names}{f' and {rest} more' if rest > 0 else ''}"


_WORDS = {
    Kind.WATCHING: "watching",
    Kind.MISSING: "not in the container:",
    Kind.EXECUTED: "ran",
    Kind.RESTARTED: "restarted",
    Kind.REBUILDING: "rebuilding:",
    Kind.REBUILT: "rebuilt",
    Kind.SUPERSEDED: "build stopped:",
    Kind.RESCANNED: "events were lost; compared all files:",
    Kind.CHANGED: "changed:",
    Kind.FAILED: "failed:",
}


def _common(paths: tuple[str, ...]) -> str:
    if not paths:
        return "nothing"
    return paths[0] if len(paths) == 1 else posixpath.commonpath(paths)


def _span(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
