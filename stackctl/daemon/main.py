"""stackctld: start, signal, drain, stop.

The order is what makes the start quick and safe: leave the caller, lock the data, bind the socket, and only then import
what serving needs; requests that come meanwhile wait in the socket's queue.
"""

import argparse
import contextlib
import fcntl
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stackctl.daemon.settings import Settings, TlsFiles, load_settings
from stackctl.errors import ConflictError, HostError, StackctlError

if TYPE_CHECKING:
    import asyncio

    from stackctl.daemon.tlsfront import Factory

_BACKLOG = 4096
_DRAIN_SECONDS = 2.0
_FIRST_PASSED_FD = 3
_DESCRIPTORS = 1 << 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon (or ``check``); return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    try:
        settings = load_settings(
            os.environ,
            uid=os.geteuid(),
            socket=options.socket
            or next((host for host in options.host if host.startswith("unix://")), ""),
            data_root=options.data_root,
            run_root=options.run_root,
            config_file=options.config_file,
            debug=options.debug,
            mirrors=options.registry_mirror,
            insecure_registries=options.insecure_registry,
            hosts=options.host,
            tls=_tls_files(options),
            insecure_tcp=options.insecure_tcp,
            experimental=options.experimental,
            bridge_address=options.bip,
            address_pools=options.default_address_pool,
            labels=options.label,
            group=options.group,
            runtimes=options.add_runtime,
            default_runtime=options.default_runtime,
            pidfile=options.pidfile,
            max_downloads=options.max_concurrent_downloads,
            max_uploads=options.max_concurrent_uploads,
        )
        if options.command == "check":
            from stackctl.daemon.check import run_check

            return run_check(settings, form=options.format)
        return _serve(settings)
    except StackctlError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        sys.stderr.write(f"stackctld: {error.message}{hint}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stackctld", description="The container engine of stackctl."
    )
    parser.add_argument("--socket", default="", metavar="PATH", help="UNIX socket to serve")
    parser.add_argument("--data-root", default="", metavar="DIR", help="what survives a reboot")
    parser.add_argument("--run-root", default="", metavar="DIR", help="what does not")
    parser.add_argument("--config-file", default="", metavar="FILE", help="settings file (JSON)")
    parser.add_argument("--debug", action="store_true", help="log every refused request")
    parser.add_argument(
        "-H", "--host", action="append", default=[], metavar="ADDRESS",
        help="unix://PATH, or tcp://ADDRESS:PORT beside the UNIX socket; repeatable",
    )  # fmt: skip
    parser.add_argument("--tlsverify", action="store_true", help="mutual TLS for tcp addresses")
    for flag in ("--tlscacert", "--tlscert", "--tlskey"):
        parser.add_argument(flag, default="", metavar="FILE", help="as dockerd's (PEM)")
    parser.add_argument(
        "--insecure-tcp", action="store_true",
        help="serve tcp addresses without TLS: whoever reaches them is root on this machine",
    )  # fmt: skip
    parser.add_argument(
        "--experimental", action="store_true",
        help="say that experimental features are on; nothing here depends on it",
    )  # fmt: skip
    repeatable = ("registry-mirror", "insecure-registry", "default-address-pool", "label")
    for flag in (*repeatable, "add-runtime"):
        parser.add_argument(
            f"--{flag}", action="append", default=[], help="as dockerd's; repeatable"
        )
    limits = ("max-concurrent-downloads", "max-concurrent-uploads")
    for flag in ("bip", "group", "default-runtime", "pidfile", *limits):
        parser.add_argument(f"--{flag}", default="", help="as dockerd's")
    parser.set_defaults(command="", format="text")
    commands = parser.add_subparsers(dest="command", metavar="[check]")
    check = commands.add_parser("check", help="say what this machine has and lacks")
    check.add_argument("--format", choices=("text", "json"), default="text")
    return parser


def _tls_files(options: argparse.Namespace) -> TlsFiles | None:
    if not options.tlsverify:
        return None
    home = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    return TlsFiles(
        ca=Path(options.tlscacert or home / "ca.pem"),
        cert=Path(options.tlscert or home / "cert.pem"),
        key=Path(options.tlskey or home / "key.pem"),
    )


def _serve(settings: Settings) -> int:
    os.umask(0o022)
    _set_proxies(settings)
    passed = _passed_sockets()
    _close_inherited(keep=passed)
    _raise_descriptor_limit()
    _leave_caller()
    _make_roots(settings)
    lock = _lock(settings)
    pidfile = _write_pidfile(settings)
    listener, owned = _listen(settings, passed)
    try:
        return _run(settings, listener)
    finally:
        if pidfile is not None:
            pidfile.unlink(missing_ok=True)
        listener.close()
        if owned is not None:
            _remove_socket(settings.paths.socket, owned)
        os.close(lock)


def _set_proxies(settings: Settings) -> None:
    """Let every part of the daemon that fetches something, and git, find the proxies where programs look for them."""
    for name, value in settings.proxies.items():
        if name == "NO_PROXY":
            continue
        os.environ[name] = os.environ[name.lower()] = value
    if settings.proxies:
        # This machine itself is never reached through a proxy.
        excepted = ",".join(
            text
            for text in (settings.proxies.get("NO_PROXY", ""), "localhost,127.0.0.1,::1")
            if text
        )
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = excepted


def _passed_sockets() -> int:
    """Return how many sockets systemd passed (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    text = os.environ.pop("LISTEN_FDS", "0")
    os.environ.pop("LISTEN_PID", None)
    return int(text) if text.isdigit() else 0


def _close_inherited(*, keep: int) -> None:
    """Close what the caller left open, so that no file of theirs lives as long as the daemon."""
    first = _FIRST_PASSED_FD + keep
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def _raise_descriptor_limit() -> None:
    """Hold as many connections and pidfds as the caller's hard limit lets us; shells start with 1024."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _leave_caller() -> None:
    """Leave the session and directory of whoever started the daemon; its cgroup is left when the engine is built."""
    os.chdir("/")
    with contextlib.suppress(PermissionError):
        os.setsid()


def _make_roots(settings: Settings) -> None:
    paths = settings.paths
    try:
        paths.data_root.mkdir(mode=0o710, parents=True, exist_ok=True)
        paths.run_root.mkdir(mode=0o711, parents=True, exist_ok=True)
        paths.socket.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(
            f"cannot make {error.filename}: {error.strerror}",
            hint="run as root, or name directories of your own with --data-root and --run-root",
            errno=error.errno or 0,
        ) from error


def _lock(settings: Settings) -> int:
    """Take the data root for this daemon alone; the lock goes with the process."""
    file = settings.paths.data_root / "daemon.lock"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise ConflictError(
            f"another daemon (process {holder or 'unknown'}) uses {settings.paths.data_root}",
            hint="stop it with: stackctl engine stop",
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _write_pidfile(settings: Settings) -> Path | None:
    if not settings.pidfile:
        return None
    file = Path(settings.pidfile)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{os.getpid()}", encoding="ascii")
    except OSError as error:
        raise HostError(f"cannot write the pidfile {file}: {error.strerror}") from error
    return file


def _listen(settings: Settings, passed: int) -> tuple[socket.socket, int | None]:
    """Return the listening socket, and its inode when the file is ours to remove."""
    if passed:
        return socket.socket(fileno=_FIRST_PASSED_FD), None
    path = settings.paths.socket
    # Whoever served this path before held the lock; we hold it now, so what is here is stale.
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConflictError(f"{path} exists and is no socket", hint="choose another --socket")
        if _answers(path):
            raise ConflictError(
                f"another daemon already serves {path}", hint="stop it, or choose another --socket"
            )
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        raise HostError(f"cannot serve {path}: {error.strerror}", errno=error.errno or 0) from error
    finally:
        os.umask(before)
    _open_to_group(path, settings.group)
    listener.listen(_BACKLOG)
    return listener, path.stat().st_ino


def _answers(path: Path) -> bool:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(str(path))
    except OSError:
        return False
    finally:
        probe.close()
    return True


def _open_to_group(path: Path, group: str) -> None:
    """Let the group use the socket where there is such a group; else it stays the owner's alone."""
    import grp

    if os.geteuid() != 0:
        return
    with contextlib.suppress(KeyError):
        os.chown(path, 0, grp.getgrnam(group).gr_gid)
        path.chmod(0o660)


def _remove_socket(path: Path, inode: int) -> None:
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()


def _run(settings: Settings, listener: socket.socket) -> int:
    import asyncio
    import logging

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if settings.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for name in ("asyncio", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING)
    log = logging.getLogger("stackctld")
    try:
        asyncio.run(_answer(settings, listener))
    except StackctlError as error:
        log.error("cannot go on: %s%s", error.message, f" ({error.hint})" if error.hint else "")
        return 1
    except Exception:
        log.exception("the daemon failed")
        return 1
    log.info("stopped")
    return 0


async def _answer(settings: Settings, listener: socket.socket) -> None:
    import asyncio
    import gc
    import logging

    from stackctl.daemon.weblib import defer_client

    # Nothing is garbage yet: what is imported now stays.
    gc.disable()
    defer_client()
    from aiohttp import web

    from stackctl.daemon.app import Application, BadRequestFilter
    from stackctl.daemon.call import Serving
    from stackctl.daemon.routes import router
    from stackctl.daemon.wiring import build

    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    built = await build(settings)
    engine = built.engine
    await engine.start()
    serving = Serving(engine=engine, settings=settings, stopping=stopping, started_at=time.time())
    logging.getLogger("aiohttp.server").addFilter(BadRequestFilter())
    server = web.Server(
        Application(router(), serving),
        access_log=None,
        auto_decompress=False,
        max_line_size=1 << 20,
        max_field_size=1 << 20,
        lingering_time=2.0,
    )
    listening = await loop.create_unix_server(server, sock=listener, backlog=_BACKLOG)
    logging.getLogger("stackctld").info("serving %s", settings.paths.socket)
    fronts = await _listen_tcp(settings, server)
    # Modules and tables live for ever: taken out of the collector's sight they stay shared and cost no time.
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 50)
    try:
        await stopping.wait()
    finally:
        engine.leases.rest()
        # Take no more requests, let those in flight end, cut what streams for ever.
        for one in (listening, *fronts):
            one.close()
        server.pre_shutdown()
        await server.shutdown(_DRAIN_SECONDS)
        await engine.stop()
        await built.close()


async def _listen_tcp(settings: Settings, server: "Factory") -> "list[asyncio.AbstractServer]":
    """Serve the tcp addresses too; nothing is imported where there is none."""
    if not settings.tcp_hosts:
        return []
    import logging

    from stackctl.daemon.tlsfront import listen, tls_context

    context = tls_context(settings.tls) if settings.tls is not None else None
    found = []
    for host in settings.tcp_hosts:
        found.append(await listen(host, server, context))
        logging.getLogger("stackctld").info("serving %s%s", host, "" if context else " without TLS")
    return found


if __name__ == "__main__":
    sys.exit(main())
