"""Log lines of many containers on one terminal: a thread a container, prefixed, coloured, whole lines only."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence, Set

from stackctl.cli.render.containers import Listed
from stackctl.errors import StackctlError
from stackctl.frozen import frozen
from stackctl.orchestrator.apply.contract import Engine
from stackctl.values import Json

COLOURS = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")


@frozen
class Look:
    """How lines look. ``tail`` "all" or a number; ``since`` and ``until`` as the Docker API takes them."""

    prefix: bool = True
    timestamps: bool = False
    colour: bool = False
    tail: str = "all"
    since: str = ""
    until: str = ""


class LogView:
    """Writes the logs of containers to standard output and standard error."""

    def __init__(self, engine: Engine, look: Look, *, names: Sequence[str] = ()) -> None:
        self._engine = engine
        self._look = look
        self._lock = threading.Lock()
        self._width = max((len(name) for name in names), default=0)
        self._threads: dict[str, threading.Thread] = {}
        self._colours: dict[str, str] = {}
        self._quiet = threading.Event()
        self._only: Set[str] | None = None

    def narrow(self, services: Set[str] | None) -> None:
        """From now on write the lines of these services alone; None: of all. What the others say is passed over."""
        self._only = services

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let no line be written meanwhile; none is lost."""
        with self._lock:
            yield

    def show(
        self, container: Listed, *, follow: bool, since: str = "", part: str = "whole"
    ) -> None:
        """Start showing a container's log; once per container and life.

        ``part``: the "whole" log, that of its present "life", or what is "new" from now on.
        """
        old = self._threads.get(container.id)
        if old is not None and old.is_alive():
            return
        thread = threading.Thread(
            target=self._copy,
            args=(container, follow, since or self._look.since, part),
            daemon=True,
        )
        self._threads[container.id] = thread
        thread.start()

    def join(self, timeout: float | None = None) -> None:
        """Return when every log shown has ended."""
        for thread in list(self._threads.values()):
            thread.join(timeout)

    def hush(self) -> None:
        """Write nothing more."""
        self._quiet.set()

    def ended(self, container: Listed, text: str) -> None:
        """Write a line of our own in a container's name, after its last line."""
        thread = self._threads.get(container.id)
        if thread is not None:
            thread.join(timeout=2)
        self._write(1, label(container), text.encode() + b"\n")

    def _copy(self, container: Listed, follow: bool, since: str, part: str) -> None:
        name = label(container)
        self._width = max(self._width, len(name))
        lines = _Lines(lambda stream, line: self._line(container.service, stream, name, line))
        try:
            about = self._engine.inspect_container(container.id)
            for stream, piece in self._engine.logs(
                container.id,
                follow=follow,
                tail="0" if part == "new" else self._look.tail,
                since=(_end_of_last_life(about) or since) if part == "life" else since,
                until=self._look.until,
                timestamps=self._look.timestamps,
                terminal=_is_tty(about),
            ):
                lines.feed(stream, piece)
        except (StackctlError, OSError):
            # The container or the engine went away; what was said has been shown.
            pass
        lines.flush()

    def _line(self, service: str, stream: int, name: str, line: bytes) -> None:
        with self._lock:
            # Asked for under the lock: what waited while the choice was made heeds it.
            if self._only is None or service in self._only:
                self._put(stream, name, line)

    def _write(self, stream: int, name: str, line: bytes) -> None:
        with self._lock:
            self._put(stream, name, line)

    def _put(self, stream: int, name: str, line: bytes) -> None:
        if self._quiet.is_set():
            return
        out = sys.stderr if stream == 2 else sys.stdout
        if self._look.prefix:
            out.buffer.write(self._prefix(name))
        out.buffer.write(line)
        out.buffer.flush()

    def _prefix(self, name: str) -> bytes:
        text = f"{name.ljust(self._width)}  | "
        if not self._look.colour:
            return text.encode()
        code = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        return f"\033[{code}m{text}\033[0m".encode()


def label(container: Listed) -> str:
    """Return the name that stands before a container's lines."""
    return f"{container.service}-{container.number}" if container.service else container.name


class _Lines:
    """Whole lines from pieces, a buffer for each stream."""

    def __init__(self, emit: Callable[[int, bytes], None]) -> None:
        self._emit = emit
        self._held: dict[int, bytes] = {}

    def feed(self, stream: int, data: bytes) -> None:
        *whole, rest = (self._held.get(stream, b"") + data).split(b"\n")
        self._held[stream] = rest
        for line in whole:
            self._emit(stream, line + b"\n")

    def flush(self) -> None:
        for stream, rest in self._held.items():
            if rest:
                self._emit(stream, rest + b"\n")
        self._held.clear()


def _end_of_last_life(about: Json) -> str:
    """Return when the present life of a container may have begun to say something, "" where that is not known."""
    match about:
        case {"State": {"StartedAt": str(started), "FinishedAt": str(finished)}}:
            from datetime import datetime

            if started.startswith("0001") or finished.startswith("0001"):
                return ""
            begun, ended = (
                datetime.fromisoformat(text).timestamp() for text in (started, finished)
            )
            # Ends are told to the clock tick, and no life begins that soon after another. A life that is over already
            # has written its own end over that of the one before; what it said may be a little older than its start.
            return f"{ended + 0.01 if ended < begun else begun - 0.2:.6f}"
    return ""


def _is_tty(about: Json) -> bool:
    match about:
        case {"Config": {"Tty": bool(tty)}}:
            return tty
    return False
