"""Programs of the host: the only door through which a process is started.

Everything goes the vfork way of ``subprocess`` (never ``preexec_fn``, ``user=`` or ``group=``, which make it fork the
whole daemon), with a list of arguments, closed descriptors and a clean environment.
"""

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stackctl.errors import DeadlineError, HostError
from stackctl.frozen import frozen

PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL
STDOUT = subprocess.STDOUT
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STREAM_LIMIT = 1 << 20


@frozen
class Result:
    """What a finished program left; ``code`` is its exit code, or minus the signal that ended it."""

    code: int
    stdout: bytes = b""
    stderr: bytes = b""


def clean_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment programs get: PATH, a UTF-8 locale and ``extra``; nothing of the caller's."""
    return {"PATH": os.environ.get("PATH") or _PATH, "LC_ALL": "C.UTF-8", **(extra or {})}


async def spawn(
    argv: Sequence[str],
    *,
    stdin: int = DEVNULL,
    stdout: int = DEVNULL,
    stderr: int = DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: str | Path = "/",
    pass_fds: Sequence[int] = (),
    new_session: bool = False,
) -> asyncio.subprocess.Process:
    """Start a program and return it; ``env`` adds to the clean environment.

    Raises HostError when the program is not there or may not be run.
    """
    _watch_by_pidfd()
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=clean_env(env),
            cwd=cwd,
            pass_fds=tuple(pass_fds),
            start_new_session=new_session,
            limit=_STREAM_LIMIT,
        )
    except OSError as error:
        raise _not_started(argv, error) from error


def start(
    argv: Sequence[str],
    *,
    stdin: int = DEVNULL,
    stdout: int = DEVNULL,
    stderr: int = DEVNULL,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    cwd: str | Path = "/",
) -> int:
    """Start a program at once and return its pid, for ``pidfd.wait_child``; ``env`` adds to the clean environment.

    For where a millisecond counts: ``spawn`` needs several turns of the event loop, and objects that look after the
    program. Raises HostError when the program is not there or may not be run.
    """
    try:
        popen = subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=clean_env(env),
            cwd=cwd,
            pass_fds=tuple(pass_fds),
        )
    except OSError as error:
        raise _not_started(argv, error) from error
    popen.returncode = 0  # whoever waits for the pid is not Popen, which would warn of that
    return popen.pid


async def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout: float | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: str | Path = "/",
    pass_fds: Sequence[int] = (),
) -> Result:
    """Run a program to its end, its output collected; ``timeout`` is in seconds.

    Raises HostError when it cannot be started or (with ``check``) fails, DeadlineError when it took too long; a
    program that took too long or whose caller was cancelled is killed. Never for a program that leaves a child
    holding its output (``runc create``).
    """
    process = await spawn(
        argv,
        stdin=PIPE if stdin else DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=env,
        cwd=cwd,
        pass_fds=pass_fds,
    )
    try:
        async with asyncio.timeout(timeout):
            stdout, stderr = await process.communicate(stdin or None)
            code = await process.wait()
    except TimeoutError as error:
        raise DeadlineError(f"{shlex.join(argv)} did not end within {timeout:g} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if check and code != 0:
        raise failed(argv, code, stderr)
    return Result(code=code, stdout=stdout, stderr=stderr)


def run_sync(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout: float | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: str | Path = "/",
) -> Result:
    """As ``run``, for programs without an event loop."""
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            capture_output=True,
            timeout=timeout,
            env=clean_env(env),
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeadlineError(f"{shlex.join(argv)} did not end within {timeout:g} s") from error
    except OSError as error:
        raise _not_started(argv, error) from error
    if check and done.returncode != 0:
        raise failed(argv, done.returncode, done.stderr)
    return Result(code=done.returncode, stdout=done.stdout, stderr=done.stderr)


class Detached:
    """A daemon that was started; it goes on when this program ends."""

    def __init__(self, popen: "subprocess.Popen[bytes]", argv: Sequence[str]) -> None:
        self._popen = popen
        self.argv = tuple(argv)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def poll(self) -> int | None:
        """Return the exit code when it has ended already, else None; reaps it."""
        return self._popen.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for its end, ``timeout`` seconds at most; None when it still runs."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def release(self) -> None:
        """Forget it: no warning when this program ends before it does."""
        if self._popen.returncode is None and self._popen.poll() is None:
            # Popen warns when it is collected while the child runs, unless the child is known to be gone.
            self._popen.returncode = 0


def spawn_detached(
    argv: Sequence[str],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Detached:
    """Start a daemon in a session of its own: cwd /, umask 022, input from /dev/null, output appended to ``log``.

    ``env`` adds to the clean environment. Raises HostError when the program or the log cannot be opened. Leaving the
    caller's cgroup is the daemon's own first step (``host.cgroup``).
    """
    try:
        with open(log if log is not None else os.devnull, "ab") as output:
            popen = subprocess.Popen(
                list(argv),
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                env=clean_env(env),
                cwd="/",
                umask=0o022,
                pass_fds=tuple(pass_fds),
                start_new_session=True,
            )
    except OSError as error:
        raise _not_started(argv, error) from error
    return Detached(popen, argv)


def spawn_joined(
    argv: Sequence[str], joined: socket.socket, *, stderr: int, env: Mapping[str, str]
) -> None:
    """Start a program whose input and output are a socket; it ends when the other end is closed.

    ``env`` adds to the clean environment, ``stderr`` is a descriptor. Raises HostError when it cannot be started.
    """
    both = joined.fileno()
    start(argv, stdin=both, stdout=both, stderr=stderr, env=env, cwd=".")


def failed(argv: Sequence[str], code: int, stderr: bytes) -> HostError:
    """Return the error for a program that ended badly, with its command line and what it said."""
    said = stderr.decode(errors="replace").strip()
    how = f"was killed by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
    return HostError(f"{shlex.join(argv)} {how}{': ' + said if said else ''}", exit_code=code)


def signal_name(number: int) -> str:
    """Return SIGTERM for 15; "signal N" for one without a name (real-time signals)."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _not_started(argv: Sequence[str], error: OSError) -> HostError:
    text = f"cannot start {shlex.join(argv)}: {error.strerror or error}"
    missing = isinstance(error, FileNotFoundError)
    hint = f"Install {Path(argv[0]).name}, or put it on PATH." if missing else ""
    return HostError(text, hint=hint, errno=error.errno or 0)


def _watch_by_pidfd() -> None:
    # Python 3.11 waits for each child in a thread of its own unless told; newer versions choose pidfds themselves.
    if sys.version_info < (3, 12):
        watcher = asyncio.get_child_watcher()
        if not isinstance(watcher, asyncio.PidfdChildWatcher) or not watcher.is_active():
            watcher = asyncio.PidfdChildWatcher()
            watcher.attach_loop(asyncio.get_running_loop())
            asyncio.set_child_watcher(watcher)
