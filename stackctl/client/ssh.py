"""Engines reached by ssh: one ``ssh`` a connection, its input and output being the connection's.

As the docker command line does it, the far side runs ``docker system dial-stdio``; where there is no docker, podman's
or our own does the same. The user's own ssh configuration, agent and known hosts count. Connections share one
authenticated session (ControlMaster), since an ``up`` opens many.
"""

import os
import shlex
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stackctl.errors import InvalidInputError, UnavailableError
from stackctl.frozen import frozen

_PROBE = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nUser-Agent: stackctl\r\n\r\n"

_SOCKET_PATH_MOST = 107
_CONTROL_NAME = 60  # the digest that ssh puts there, and what it appends while it makes the socket


@frozen
class Far:
    """Where ssh goes: a host of the ssh configuration, perhaps a user, a port and the path of the engine's socket."""

    host: str
    user: str = ""
    port: int = 0
    path: str = ""


def parse(text: str, source: str) -> Far:
    """Return what an ssh:// address says; raises InvalidInputError."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or 0
    except ValueError as error:
        raise InvalidInputError(f'{source}: "{text}" is no address: {error}') from error
    hint = "such as ssh://user@host, ssh://host:2222 or ssh://host/path/of/engine.sock"
    if not host or host.startswith("-"):
        raise InvalidInputError(f'{source}: "{text}" names no host', hint=hint)
    if parts.password is not None or parts.query or parts.fragment:
        raise InvalidInputError(
            f'{source}: "{text}" has a password, query or fragment, which ssh does not take',
            hint=hint,
        )
    path = "" if parts.path == "/" else unquote(parts.path)
    return Far(host=host, user=unquote(parts.username or ""), port=port, path=path)


def command(far: Far, environ: Mapping[str, str]) -> list[str]:
    """Return the command line of ssh."""
    argv = ["ssh", "-T", "-o", "ConnectTimeout=30", *_sharing(environ)]
    if far.user:
        argv += ["-l", far.user]
    if far.port:
        argv += ["-p", str(far.port)]
    return [*argv, "--", far.host, _dial(far.path)]


def _sharing(environ: Mapping[str, str]) -> list[str]:
    folder = Path(environ.get("XDG_RUNTIME_DIR") or f"/tmp/stackctl-{os.getuid()}") / "ssh"
    if len(str(folder)) > _SOCKET_PATH_MOST - _CONTROL_NAME:
        return []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            return []
    except OSError:
        return []
    return ["-o", "ControlMaster=auto", "-o", f"ControlPath={folder}/%C", "-o", "ControlPersist=10"]


def _dial(path: str) -> str:
    """Return the far side's command: whichever program there joins its input and output to an engine."""
    docker = f"docker --host {shlex.quote(f'unix://{path}')}" if path else "docker"
    podman = f"podman --url {shlex.quote(f'unix://{path}')}" if path else "podman"
    script = (
        f"if command -v docker >/dev/null 2>&1; then exec {docker} system dial-stdio; "
        f"elif command -v stackctl >/dev/null 2>&1; then exec stackctl engine dial-stdio {shlex.quote(path)}; "
        f"else exec {podman} system dial-stdio; fi"
    )
    return f"sh -c {shlex.quote(script)}"


def connect(far: Far, environ: Mapping[str, str], *, address: str) -> socket.socket:
    """Return a connection on which the engine has answered once; raises UnavailableError with what ssh said."""
    from stackctl.host import process

    near, given = socket.socketpair()
    with tempfile.TemporaryFile() as said:
        try:
            with given:
                process.spawn_joined(
                    command(far, environ), given, stderr=said.fileno(), env=environ
                )
            near.settimeout(60)
            near.sendall(_PROBE)
            _swallow_answer(near)
            near.settimeout(None)
        except (OSError, ValueError) as error:
            near.close()
            said.seek(0)
            reason = said.read().decode(errors="replace").strip() or str(error)
            raise UnavailableError(
                f"no engine answers at {address}: {reason}",
                hint=f"try: ssh {far.user + '@' if far.user else ''}{far.host} docker version",
            ) from error
    return near


def _swallow_answer(sock: socket.socket) -> None:
    """Read one whole answer of ``GET /_ping`` off the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(4096)
        if not piece:
            raise ConnectionResetError("the far side hung up")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        piece = sock.recv(length - len(body))
        if not piece:
            raise ConnectionResetError("the far side hung up")
        body += piece
