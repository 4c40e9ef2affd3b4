"""Which engine: built-in, DOCKER_HOST, a context; and the built-in engine's daemon as something to start and stop.

The order: ``--engine``, STACKCTL_SOCKET (or STACKCTL_RUN_ROOT), DOCKER_HOST, the docker context that was chosen, the
built-in engine.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stackctl import __version__
from stackctl.errors import (
    ForbiddenError,
    HostError,
    InvalidInputError,
    NotFoundError,
    StackctlError,
    UnavailableError,
)
from stackctl.frozen import frozen
from stackctl.paths import EnginePaths, engine_paths, with_settings
from stackctl.values import JsonObject

if TYPE_CHECKING:
    from stackctl.client.ssh import Far

_START_SECONDS = 30.0
_STOP_SECONDS = 30.0
# What the daemon inherits; nothing of a user's session follows it.
_KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)


@frozen
class Endpoint:
    """One engine's address: a UNIX socket's path, host and port with TLS files, or what ssh goes to.

    ``source`` says who chose it.
    """

    address: str
    source: str
    builtin: bool = False
    path: str = ""
    host: str = ""
    port: int = 0
    tls: "Tls | None" = None
    far: "Far | None" = None


@frozen
class Tls:
    """Files for mutual TLS; "" where not given. Without ``verify`` the server's name is not checked."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    verify: bool = True


def choose(option: str, environ: Mapping[str, str], *, uid: int) -> Endpoint:
    """Return the engine to drive; raises InvalidInputError, NotFoundError."""
    paths = engine_paths(with_settings(environ, uid=uid), uid=uid)
    if option:
        return _named(option, paths, environ, uid)
    if environ.get("STACKCTL_SOCKET") or environ.get("STACKCTL_RUN_ROOT"):
        return _builtin(paths, "STACKCTL_SOCKET")
    if host := environ.get("DOCKER_HOST"):
        return _url(host, "DOCKER_HOST", paths, environ)
    context = _current_context(environ)
    if context:
        return _context(context, environ, paths)
    return _builtin(paths, "built-in")


def _named(option: str, paths: EnginePaths, environ: Mapping[str, str], uid: int) -> Endpoint:
    source = f"--engine {option}"
    if option in ("built-in", "builtin", "stackctl"):
        return _builtin(paths, source)
    if option == "docker":
        return _unix("/var/run/docker.sock", source)
    if option == "podman":
        runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
        return _unix(
            "/run/podman/podman.sock" if uid == 0 else f"{runtime}/podman/podman.sock", source
        )
    if "://" in option:
        return _url(option, source, paths, environ)
    if option.startswith(("/", "./", "~/")):
        return _unix(str(Path(option).expanduser().absolute()), source)
    return _context(option, environ, paths)


def _builtin(paths: EnginePaths, source: str) -> Endpoint:
    path = str(paths.socket)
    return Endpoint(address=f"unix://{path}", path=path, source=source, builtin=True)


def _unix(path: str, source: str) -> Endpoint:
    return Endpoint(address=f"unix://{path}", path=path, source=source)


def _url(text: str, source: str, paths: EnginePaths, environ: Mapping[str, str]) -> Endpoint:
    scheme, _, rest = text.partition("://")
    if scheme == "unix" and rest:
        if rest == str(paths.socket):
            return _builtin(paths, source)
        return _unix(rest, source)
    if scheme in ("tcp", "http", "https"):
        host, _, port = rest.rstrip("/").rpartition(":")
        if not host or not port.isdigit():
            raise InvalidInputError(
                f'{source}: "{text}" has no port', hint="such as tcp://host:2376"
            )
        verify = bool(environ.get("DOCKER_TLS_VERIFY"))
        folder = Path(environ.get("DOCKER_CERT_PATH") or f"{environ.get('HOME', '/')}/.docker")
        tls = None
        if verify or environ.get("DOCKER_TLS") or scheme == "https":
            tls = Tls(
                ca=str(folder / "ca.pem"),
                certificate=str(folder / "cert.pem"),
                key=str(folder / "key.pem"),
                verify=verify or scheme == "https",
            )
        return Endpoint(address=text, host=host.strip("[]"), port=int(port), source=source, tls=tls)
    if scheme == "ssh":
        from stackctl.client import ssh

        return Endpoint(address=text, source=source, far=ssh.parse(text, source))
    raise InvalidInputError(
        f'{source}: "{text}" is not an engine\'s address',
        hint="expected unix:///path/of.sock, tcp://host:port or ssh://user@host",
    )


def _current_context(environ: Mapping[str, str]) -> str:
    if named := environ.get("DOCKER_CONTEXT"):
        return "" if named == "default" else named
    file = _docker_config(environ) / "config.json"
    try:
        data = json.loads(file.read_text())
    except (OSError, ValueError):
        return ""
    current = data.get("currentContext", "") if isinstance(data, dict) else ""
    return "" if current == "default" else str(current)


def _docker_config(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("DOCKER_CONFIG") or f"{environ.get('HOME', '/')}/.docker")


def _context(name: str, environ: Mapping[str, str], paths: EnginePaths) -> Endpoint:
    if name == "default":
        return _unix("/var/run/docker.sock", "context default")
    import hashlib

    folder = hashlib.sha256(name.encode()).hexdigest()
    contexts = _docker_config(environ) / "contexts"
    try:
        data = json.loads((contexts / "meta" / folder / "meta.json").read_text())
        about = data["Endpoints"]["docker"]
        host = str(about["Host"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFoundError(
            f'there is no engine and no docker context called "{name}"',
            hint="built-in, docker, podman, a URL, or one of: docker context ls",
        ) from error
    # What the environment says of TLS is not about this engine.
    own = {k: v for k, v in environ.items() if not k.startswith(("DOCKER_TLS", "DOCKER_CERT"))}
    found = _url(host, f"context {name}", paths, own)
    return _with_tls(found, contexts / "tls" / folder / "docker", about)


def _with_tls(endpoint: Endpoint, files: Path, about: Mapping[str, object]) -> Endpoint:
    """Return a context's endpoint with the certificates that the context keeps, where it keeps any."""
    if not endpoint.host or not files.is_dir():
        return endpoint
    tls = Tls(
        ca=str(files / "ca.pem"),
        certificate=str(files / "cert.pem"),
        key=str(files / "key.pem"),
        verify=about.get("SkipTLSVerify") is not True,
    )
    return dataclasses.replace(endpoint, tls=tls)


def connector(endpoint: Endpoint, environ: Mapping[str, str]) -> Callable[[], socket.socket]:
    """Return what opens a connection; it raises UnavailableError, ForbiddenError with a hint."""
    if endpoint.far is not None:
        from stackctl.client import ssh

        far = endpoint.far
        return lambda: ssh.connect(far, environ, address=endpoint.address)
    return (lambda: _connect_unix(endpoint)) if endpoint.path else (lambda: _connect_tcp(endpoint))


def _connect_unix(endpoint: Endpoint) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(endpoint.path)
    except OSError as error:
        sock.close()
        raise _not_reached(endpoint, error) from error
    return sock


def _connect_tcp(endpoint: Endpoint) -> socket.socket:
    try:
        sock = socket.create_connection((endpoint.host, endpoint.port), timeout=10)
        sock.settimeout(None)
        return _wrap(sock, endpoint) if endpoint.tls else sock
    except OSError as error:
        raise _not_reached(endpoint, error) from error


def _wrap(sock: socket.socket, endpoint: Endpoint) -> socket.socket:
    import ssl

    from stackctl.client.tls import wrap

    tls = endpoint.tls or Tls()
    context = ssl.create_default_context(cafile=tls.ca if Path(tls.ca).exists() else None)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if Path(tls.certificate).exists():
        context.load_cert_chain(tls.certificate, tls.key)
    return wrap(sock, context, endpoint.host)


def _not_reached(endpoint: Endpoint, error: OSError) -> StackctlError:
    if isinstance(error, PermissionError):
        group = "the group stackctl" if endpoint.builtin else "the group docker"
        return ForbiddenError(
            f"permission denied on {endpoint.path}",
            hint=f"use sudo, or join {group} (which equals root on this machine)",
        )
    reason = error.strerror or str(error)
    if endpoint.builtin:
        return UnavailableError(
            f"the built-in engine does not run ({endpoint.path}: {reason})",
            hint="sudo stackctl engine start; or use another engine: --engine docker",
        )
    return UnavailableError(
        f"no engine answers at {endpoint.address} ({reason}; chosen by {endpoint.source})",
        hint="start it, or use the built-in one: --engine built-in",
    )


class Daemon:
    """The built-in engine's daemon."""

    def __init__(
        self, paths: EnginePaths, environ: Mapping[str, str], *, note: Callable[[str], None]
    ) -> None:
        self._paths = paths
        self._environ = environ
        self._note = note

    def is_running(self) -> bool:
        """Tell whether something answers at the socket; raises ForbiddenError when it may not be asked."""
        try:
            _connect_unix(_builtin(self._paths, "built-in")).close()
        except UnavailableError:
            return False
        return True

    def has_state(self) -> bool:
        """Tell whether a daemon has kept state here before."""
        return (self._paths.data_root / "state.db").exists() or any(
            self._paths.data_root.glob("*.db")
        )

    def ensure(self) -> None:
        """Start it when it does not run, saying so; raises UnavailableError, HostError."""
        if not self.is_running() and self.start():
            self._note(f"started the engine ({self._paths.socket})")

    def start(self) -> bool:
        """Start it and return when it answers; False when it ran already."""
        if self.is_running():
            return False
        if os.getuid() != 0:
            raise UnavailableError(
                f"the built-in engine does not run (no socket at {self._paths.socket}),"
                " and starting it needs root",
                hint="sudo stackctl engine start; or use another engine: --engine docker",
            )
        self._paths.run_root.mkdir(mode=0o711, parents=True, exist_ok=True)
        with self._starting():
            if self.is_running():
                return False
            self._spawn()
            return True

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        with self._paths.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _spawn(self) -> None:
        from stackctl.host import process

        log = self._paths.daemon_log
        start = log.stat().st_size if log.exists() else 0
        environ = {name: self._environ[name] for name in _KEPT if name in self._environ}
        environ |= {k: v for k, v in self._environ.items() if k.startswith("STACKCTL_")}
        search = str(Path(__file__).resolve().parents[2])
        if "site-packages" not in search:
            environ["PYTHONPATH"] = search
        argv = [sys.executable, "-m", "stackctl.daemon.main", "--socket", str(self._paths.socket)]
        argv += ["--data-root", str(self._paths.data_root)]
        argv += ["--run-root", str(self._paths.run_root)]
        daemon = process.spawn_detached(
            argv,
            log=log,
            env=environ,
        )
        deadline = time.monotonic() + _START_SECONDS
        pause = 0.002
        while not self.is_running():
            if daemon.poll() is not None or time.monotonic() > deadline:
                with log.open("rb") as file:
                    file.seek(start)
                    said = file.read()[-2000:].decode(errors="replace").strip()
                raise UnavailableError(
                    f"the engine did not start: {said or 'it said nothing'}",
                    hint="stackctl engine check says what this machine lacks",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)
        daemon.release()

    def stop(self) -> bool:
        """End it and return when it is gone; containers go on. False when it did not run."""
        if not self.is_running():
            return False
        pid = int(str(self.status()["pid"]))
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while _alive(pid):
            if time.monotonic() > deadline:
                raise HostError(
                    f"the engine (pid {pid}) does not stop", hint="stackctl engine logs says why"
                )
            time.sleep(0.01)
        return True

    def status(self) -> JsonObject:
        """Return what is known of it: running, pid, version, containers, images."""
        if not self.is_running():
            return {"running": False, "socket": str(self._paths.socket)}
        from stackctl.client.raw import Transport

        transport = Transport(connector(_builtin(self._paths, "built-in"), self._environ))
        about = json.loads(transport.request("GET", "/_stackctl/v1/info")[2])
        info = json.loads(transport.request("GET", "/info")[2])
        return {
            "running": True,
            "socket": str(self._paths.socket),
            "pid": about["Pid"],
            "version": about["Version"],
            "client_version": __version__,
            "containers": info["Containers"],
            "containers_running": info["ContainersRunning"],
            "images": info["Images"],
        }

    def check(self, layout: str) -> int:
        """Run the daemon's own check of the machine, printing what it says; return its exit code."""
        from stackctl.host import process

        done = process.run_sync(
            [sys.executable, "-m", "stackctl.daemon.main", "check", "--format", layout],
            env={
                **{
                    k: v
                    for k, v in self._environ.items()
                    if k in _KEPT or k.startswith("STACKCTL_")
                },
                "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            },
            check=False,
        )
        sys.stdout.write(done.stdout.decode(errors="replace"))
        sys.stderr.write(done.stderr.decode(errors="replace"))
        return done.code


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
