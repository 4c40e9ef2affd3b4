"""Monitor by conmon: starts a container under it, and tells it to resize or to reopen its log."""

import asyncio
import contextlib
import errno
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from stackctl.adapters.runtime.bundle import Note
from stackctl.errors import ConflictError, HostError
from stackctl.frozen import frozen
from stackctl.host import pidfd, process

_CONTROL_BUFFER = 199
_RESIZE, _REOPEN = 1, 2
_SOCKET_NAME = len("/conmon-term.XXXXXX")
_ADDRESS = 107
# The runtime is a Go program: one thread of Go's scheduler costs less than several for its few milliseconds.
_ENVIRONMENT = {"TZ": "UTC", "GOMAXPROCS": "2", "XDG_RUNTIME_DIR": ""}


@frozen
class Started:
    """What conmon reported: the container's first process, and itself."""

    pid: int
    monitor_pid: int


class RuntimeFailedError(HostError):
    """The OCI runtime under conmon failed; the message is what it said."""


@frozen
class Waiting:
    """A conmon that has been started and does nothing yet; ``start`` and ``report`` are pipes to and from it."""

    argv: list[str]
    bundle: Path
    parent: asyncio.subprocess.Process
    start: int
    report: int

    async def create(self) -> Started:
        """Have the runtime create the container of the bundle, and return when it has.

        Raises RuntimeFailedError with the runtime's words; nothing of conmon runs then.
        """
        # It may have died already; then reading its report gives nothing and its own words are in the file.
        with contextlib.suppress(BrokenPipeError):
            os.write(self.start, b"\0")
        report = await _line(self.report)
        code = await self.parent.wait()
        try:
            return self._judge(report, code)
        except HostError:
            with contextlib.suppress(OSError, ValueError):
                await pidfd.wait_child(int((self.bundle / "conmon.pid").read_text()))
            raise

    def _judge(self, report: bytes, code: int) -> Started:
        words = _said(self.bundle).read_bytes()
        try:
            told = json.loads(report, strict=False)
            pid = int(told.get("data", told.get("pid", -1)))
        except ValueError:
            raise process.failed(self.argv, code, words) from None
        if pid <= 0:
            message = str(told.get("message") or "") or words.decode(errors="replace")
            raise RuntimeFailedError(runtime_words(message, log_text(self.bundle)))
        monitor = int((self.bundle / "conmon.pid").read_text() or 0)
        return Started(pid=pid, monitor_pid=monitor)


@frozen
class Conmon:
    """The monitor program and the places it is told."""

    program: str
    runtime_root: Path
    exits: Path
    terminals: Path

    @contextlib.asynccontextmanager
    async def waiting(
        self,
        container_id: str,
        bundle: Path,
        note: Note,
        *,
        scratch: Path,
        leave: Callable[[int], Awaitable[None]],
    ) -> AsyncIterator[Waiting]:
        """Start conmon, which waits until it is told to go on; it is ended when it never is.

        ``leave`` takes the monitor out of the daemon's cgroup before it starts anything. What the two tell each other
        in files goes to ``scratch``.
        """
        sync_read, sync_write = os.pipe2(os.O_CLOEXEC)
        start_read, start_write = os.pipe2(os.O_CLOEXEC)
        pid_file = scratch / f"{container_id}.pid"
        argv = self._argv(container_id, bundle, note, pid_file)
        try:
            try:
                with _said(bundle).open("wb") as stderr:
                    parent = await process.spawn(
                        argv,
                        stdout=stderr.fileno(),
                        stderr=stderr.fileno(),
                        env=self._env(sync_write, start_read),
                        cwd=bundle,
                        pass_fds=(sync_write, start_read),
                    )
            finally:
                os.close(sync_write)
                os.close(start_read)
            try:
                await leave(parent.pid)
                yield Waiting(
                    argv=argv,
                    bundle=bundle,
                    parent=parent,
                    start=start_write,
                    report=sync_read,
                )
            finally:
                # Told to go on, its first process has left the work to another, and ended.
                if parent.returncode is None:
                    parent.kill()
                    await parent.wait()
        finally:
            pid_file.unlink(missing_ok=True)
            os.close(sync_read)
            os.close(start_write)

    def _argv(self, container_id: str, bundle: Path, note: Note, pid_file: Path) -> list[str]:
        argv = [self.program, "--api-version", "1", "-c", container_id, "-u", container_id]
        argv += ["-r", note.runtime, "-b", str(bundle), "-p", str(pid_file)]
        argv += ["-P", str(bundle / "conmon.pid"), "--exit-dir", str(self.exits)]
        argv += ["-l", f"k8s-file:{note.log_path}" if note.log_path else "none"]
        argv += ["--full-attach", "--no-sync-log", "--log-level", "error"]
        for option in ("--root", str(self.runtime_root), "--log", str(bundle / "runtime.log")):
            argv += ["--runtime-arg", option]
        argv += ["--runtime-arg", "--log-format", "--runtime-arg", "json"]
        if note.tty:
            argv.append("-t")
        if note.open_stdin:
            argv.append("-i")
            if not note.stdin_once:
                argv.append("--leave-stdin-open")
        return argv

    def _env(self, sync: int, start: int) -> dict[str, str]:
        env = {**_ENVIRONMENT, "_OCI_SYNCPIPE": str(sync), "_OCI_STARTPIPE": str(start)}
        if len(str(self.terminals)) + _SOCKET_NAME <= _ADDRESS:
            env["TMPDIR"] = str(self.terminals)
        return env


def _said(bundle: Path) -> Path:
    return bundle / "conmon.log"


def log_text(bundle: Path) -> str:
    """Return what the runtime logged of a container so far."""
    try:
        return (bundle / "runtime.log").read_text(errors="replace")
    except OSError:
        return ""


async def resize(bundle: Path, height: int, width: int) -> None:
    """Set the size of a monitored terminal; raises ConflictError when its monitor is gone."""
    await _tell(bundle / "winsz", f"{height} {width}")


async def reopen(bundle: Path) -> None:
    """Have the monitor write a new log file; raises ConflictError when it is gone."""
    await _tell(bundle / "ctl", f"{_REOPEN} 0 0")


def listens(bundle: Path) -> bool:
    """Whether the monitor is there to be told something."""
    try:
        os.close(os.open(bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in (errno.ENXIO, errno.ENOENT)
    return True


async def _tell(fifo: Path, message: str) -> None:
    # conmon 2.1 mixes up two messages that it reads at once, so each fills its whole buffer (a FIFO keeps a write of
    # this size in one piece).
    line = f"{message:<{_CONTROL_BUFFER - 1}}\n".encode()
    try:
        descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            raise ConflictError(f"container {fifo.parent.name} is not running") from error
        raise HostError(f"cannot open {fifo}: {error.strerror}", errno=error.errno or 0) from error
    try:
        os.write(descriptor, line)
    except BlockingIOError as error:
        raise HostError(f"the monitor does not read {fifo}") from error
    finally:
        os.close(descriptor)


async def _line(descriptor: int) -> bytes:
    """Read to the first newline or the end."""
    os.set_blocking(descriptor, False)
    data = b""
    while not data.endswith(b"\n"):
        await pidfd.readable(descriptor)
        chunk = os.read(descriptor, 65536)
        if not chunk:
            break
        data += chunk
    return data


def runtime_words(message: str, log: str) -> str:
    """Return what an OCI runtime complained about: its JSON log's last error, else ``message`` without decoration."""
    for line in reversed(log.splitlines()):
        with contextlib.suppress(ValueError, AttributeError):
            entry = json.loads(line)
            if entry.get("level") in ("error", "fatal") and entry.get("msg"):
                return str(entry["msg"]).strip()
    for line in reversed(message.splitlines()):
        if "level=error" in line and 'msg="' in line:
            text = line.partition('msg="')[2].rpartition('"')[0]
            return text.replace('\\"', '"').replace("\\\\", "\\").strip()
    return message.strip()
