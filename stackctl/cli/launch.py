"""The program ``stackctl``: hands its command line to a warm process where one is wanted, else runs it here.

With STACKCTL_WARM=1 a process of the same user that has everything imported already (``cli.warm``) runs the command in
a fork of itself: with this process's arguments, environment, directory, umask and open files. It is started when it is
missed (the command that missed it runs here), serves only who is like itself (same code, groups and namespaces), and
ends when it was not needed for ten minutes (or as many seconds as STACKCTL_WARM says, above 1). Whatever goes wrong before the command began, it runs here.

Nothing is imported but what the interpreter has at hand: that is the point.
"""

# _signal and _socket as C has them: the modules around them would cost more than all that happens here.
import _signal  # type: ignore[import-not-found]
import _socket
import os
import sys

_OFF = ("", "0", "false", "no", "off")
_CONNECT_SECONDS = 0.5


def main() -> None:
    """Run the command line; never returns."""
    if (
        os.environ.get("STACKCTL_WARM", "").lower() not in _OFF
        and "_STACKCTL_COMPLETE" not in os.environ
    ):
        code = _warm(sys.argv[1:])
        if code is not None:
            os._exit(code)
    from stackctl.cli.main import main as run

    run()


def folder() -> str:
    """Return where the warm process of this user listens."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/stackctl-{os.getuid()}"
    return f"{runtime}/stackctl-warm"


def stamp() -> str:
    """Return what a command and the process that runs it must have in common."""
    here = os.path.dirname(os.path.abspath(__file__))  # the package cli
    spaces = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "user")]
    newest = max(
        os.stat(f"{here}/{name}").st_mtime_ns for name in (".", "commands", "launch.py", "..")
    )
    groups = sorted(os.getgroups())
    return f"{sys.version_info[:3]} {here} {newest} {os.getuid()} {os.getgid()} {groups} {spaces}"


def _warm(argv: list[str]) -> int | None:
    """Return the command's exit code; None where there is no warm process, or none for us."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(_CONNECT_SECONDS)
        connection.connect(f"{folder()}/socket")
        _ask(connection, argv)
        answer = connection.recv(16)
    except OSError:
        connection.close()
        _start()
        return None
    if not answer:
        connection.close()  # it is not like us, or just ends
        _start()
        return None
    connection.settimeout(None)
    return _wait(connection, int.from_bytes(answer[:4], "little"), answer[4:])


def _ask(connection: _socket.socket, argv: list[str]) -> None:
    mask = os.umask(0o077)
    os.umask(mask)
    fields = [stamp(), os.getcwd(), str(mask), str(len(argv)), *argv]
    fields += [f"{name}={value}" for name, value in os.environ.items()]
    data = os.fsencode("\0".join(fields))
    files = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
    head = len(data).to_bytes(4, "little")
    connection.sendmsg([head], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
    connection.sendall(data)


def _wait(connection: _socket.socket, child: int, data: bytes) -> int:
    """Pass signals on until the command has ended; return its exit code."""

    def forward(number: int, _frame: object) -> None:
        try:
            os.kill(child, number)
        except ProcessLookupError:
            pass

    def pause(_number: int, _frame: object) -> None:
        forward(_signal.SIGSTOP, None)
        os.kill(os.getpid(), _signal.SIGSTOP)
        forward(_signal.SIGCONT, None)

    for number in (
        _signal.SIGINT,
        _signal.SIGTERM,
        _signal.SIGHUP,
        _signal.SIGQUIT,
        _signal.SIGWINCH,
    ):
        _signal.signal(number, forward)
    _signal.signal(_signal.SIGTSTP, pause)
    while not data:
        data = connection.recv(1)
        if not data:
            os.write(2, b"stackctl: the process that ran this command died\n")
            return 1
    return data[0]


def _start() -> None:
    """Start the warm process for the commands to come, on its own."""
    try:
        if os.fork():
            return
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.chdir("/")
        search = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        environ = (
            {**os.environ, "PYTHONPATH": search} if "site-packages" not in search else os.environ
        )
        os.execve(sys.executable, [sys.executable, "-m", "stackctl.cli.warm"], environ)
    except OSError:
        os._exit(1)
