"""Trying the ``x-ready`` probes of a container, from where its port can be reached.

A port of a container need not be published. It is reached, in this order:

1. ``network_mode: host``: on the engine's machine;
2. the container's own address, where this machine is on one of its networks (every local engine on Linux);
3. the published port, where there is one (a remote engine, an engine in a virtual machine);
4. from inside: the kernel's table of sockets for ``tcp`` (read with the container's cat), its wget or curl for ``http``.

Where none of these can do it, the failure says so by name.
"""

import contextlib
import re
import socket
import threading
from collections.abc import Callable

from stackctl.errors import InvalidInputError, StackctlError
from stackctl.frozen import frozen
from stackctl.orchestrator.apply.contract import Engine, LogStream
from stackctl.orchestrator.model.ready import HttpProbe, Ready
from stackctl.values import Json, JsonObject

_CONNECT = 1.0
_ANSWER = 5.0
_EXEC = 10.0
_HANG_UP = 0.05  # a proxy that accepts for a port behind which nobody listens hangs up at once
_SAID = 2000
_LISTENING = "0A"
_STATUS_LINE = re.compile(rb"HTTP/[0-9.]+ ([0-9]{3})")
Place = tuple[str, int]


@frozen
class _Target:
    """A container to probe: its ID, what inspect says, and whose network it has."""

    identity: str
    body: JsonObject
    network: JsonObject


class Probes:
    """Tries probes and remembers which have succeeded: each has to once in a life of its container."""

    def __init__(self, engine: Engine) -> None:
        """``on_log`` is called, on another thread, when a line that was waited for is there."""
        self._engine = engine
        self.on_log: Callable[[], None] = _nothing
        self._passed: set[tuple[str, str, object]] = set()
        self._logs: dict[tuple[str, str], _LogWatch] = {}
        self._lock = threading.Lock()

    def look(self, identity: str, body: JsonObject, ready: Ready) -> str:
        """Return why the container is not ready yet, "" when it is; ``body`` is what inspect says of it."""
        life = f"{identity} {_part(body, 'State').get('StartedAt', '')}"
        tries: list[tuple[str, object, Callable[[], str]]] = []
        if ready.tcp:
            tries.append(
                ("tcp", ready.tcp, lambda: self._tcp(self._target(identity, body), ready.tcp))
            )
        if ready.http is not None:
            http = ready.http
            tries.append(("http", http, lambda: self._http(self._target(identity, body), http)))
        if ready.log:
            tries.append(("log", ready.log, lambda: self._log(life, identity, body, ready.log)))
        if ready.exec:
            tries.append(("exec", ready.exec, lambda: self._exec(identity, ready.exec)))
        for kind, what, probe in tries:
            if (life, kind, what) in self._passed:
                continue
            why = probe()
            if why:
                return f"{kind}: {why}"
            self._passed.add((life, kind, what))
        return ""

    def close(self) -> None:
        with self._lock:
            watches, self._logs = list(self._logs.values()), {}
        for watch in watches:
            watch.close()

    # Ports

    def _target(self, identity: str, body: JsonObject) -> _Target:
        mode = str(_part(body, "HostConfig").get("NetworkMode", ""))
        network = body
        while mode.startswith("container:"):
            network = self._engine.inspect_container(mode.partition(":")[2])
            mode = str(_part(network, "HostConfig").get("NetworkMode", ""))
        return _Target(identity=identity, body=body, network=network)

    def _places(self, target: _Target, port: int) -> list[Place]:
        """Return where the port may be reached from here, the best first."""
        machine = self._engine.machine
        if _part(target.network, "HostConfig").get("NetworkMode") == "host":
            return [(machine or "127.0.0.1", port)]
        settings = _part(target.network, "NetworkSettings")
        if not machine:
            for endpoint in _part(settings, "Networks").values():
                if isinstance(endpoint, dict) and _is_near(endpoint):
                    return [(str(endpoint["IPAddress"]), port)]
        bound = _part(settings, "Ports").get(f"{port}/tcp")
        return [
            (machine or _reachable(str(entry.get("HostIp", ""))), int(str(entry["HostPort"])))
            for entry in (bound if isinstance(bound, list) else [])
            if isinstance(entry, dict) and str(entry.get("HostPort", "")).isdigit()
        ][:1]

    def _tcp(self, target: _Target, port: int) -> str:
        places = self._places(target, port)
        if not places:
            return self._tcp_inside(target.identity, port)
        try:
            with socket.create_connection(places[0], timeout=_CONNECT) as connection:
                connection.settimeout(_HANG_UP)
                try:
                    hung_up = not connection.recv(1, socket.MSG_PEEK)
                except TimeoutError:
                    hung_up = False
        except OSError as error:
            return f"{_shown(places[0])}: {error.strerror or error}"
        return f"{_shown(places[0])}: the connection was closed at once" if hung_up else ""

    def _tcp_inside(self, identity: str, port: int) -> str:
        code, said = self._run(identity, ("cat", "/proc/net/tcp", "/proc/net/tcp6"))
        lines = [line.split() for line in said.splitlines()]
        rows = [words for words in lines if len(words) > 3 and ":" in words[1]]
        if not rows and code:
            return (
                f"port {port} cannot be reached from here and the container has no cat to look inside "
                f"({said.strip()}): publish the port, or probe by exec or log"
            )
        listening = {
            int(words[1].rpartition(":")[2], 16) for words in rows if words[3] == _LISTENING
        }
        return "" if port in listening else f"nobody listens at port {port}"

    def _http(self, target: _Target, probe: HttpProbe) -> str:
        places = self._places(target, probe.port)
        if not places:
            return self._http_inside(target.identity, probe)
        where = f"{_shown(places[0])}{probe.path}"
        try:
            status = _get(places[0], probe.path)
        except OSError as error:
            return f"{where}: {error.strerror or error}"
        if not status:
            return f"{where}: the answer is no HTTP"
        return "" if probe.least <= status <= probe.most else f"{where}: status {status}"

    def _http_inside(self, identity: str, probe: HttpProbe) -> str:
        url = f"http://127.0.0.1:{probe.port}{probe.path}"
        code, said = self._run(identity, ("wget", "-q", "-O", "/dev/null", url))
        if code in (126, 127):
            code, said = self._run(identity, ("curl", "-sSf", "-o", "/dev/null", url))
        if code in (126, 127):
            return (
                f"port {probe.port} cannot be reached from here and the container has neither wget nor curl: "
                "publish the port, or probe by exec or log"
            )
        return "" if code == 0 else f"{url} inside: {said.strip() or f'exit code {code}'}"

    # Log and exec

    def _log(self, life: str, identity: str, body: JsonObject, pattern: str) -> str:
        with self._lock:
            watch = self._logs.get((life, pattern))
            if watch is None:
                terminal = bool(_part(body, "Config").get("Tty"))
                since = _since(str(_part(body, "State").get("StartedAt", "")))
                stream = self._engine.logs(identity, follow=True, since=since, terminal=terminal)
                watch = self._logs[life, pattern] = _LogWatch(stream, pattern, self.on_log)
        return "" if watch.found else f'no line of its log matches "{pattern}" yet'

    def _exec(self, identity: str, command: tuple[str, ...]) -> str:
        code, said = self._run(identity, command)
        return "" if code == 0 else f"exit code {code}: {said.strip()}".rstrip(": ")

    def _run(self, identity: str, command: tuple[str, ...]) -> tuple[int, str]:
        """Run a command in the container; one that takes too long counts as failed."""
        body: JsonObject = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True}
        try:
            started = self._engine.create_exec(identity, body)
            conversation = self._engine.start_exec(started)
            limit = threading.Timer(_EXEC, conversation.close)
            limit.daemon = True
            limit.start()
            try:
                output = b"".join(data for _, data in conversation)
            finally:
                limit.cancel()
            code = self._engine.inspect_exec(started).get("ExitCode")
        except StackctlError as error:
            # Docker refuses a program that is not there; the container may also have ended meanwhile.
            return 127, error.message
        except (OSError, ValueError):
            return -1, f"no end within {_EXEC:g} s"
        text = output[-_SAID:].decode(errors="replace")
        return (code, text) if isinstance(code, int) else (-1, f"no end within {_EXEC:g} s")


def _nothing() -> None:
    return


class _LogWatch:
    """Follows a log on a thread of its own until a line matches."""

    def __init__(self, stream: LogStream, pattern: str, on_found: Callable[[], None]) -> None:
        self.found = False
        self._stream = stream
        self._pattern = re.compile(pattern)
        self._on_found = on_found
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        rest = {1: "", 2: ""}
        with contextlib.suppress(StackctlError, OSError, ValueError):
            for number, data in self._stream:
                *lines, last = (rest.get(number, "") + data.decode(errors="replace")).split("\n")
                rest[number] = last[-_SAID:]
                # The last one too: a prompt has no end of line.
                if any(self._pattern.search(line) for line in (*lines, last)):
                    self.found = True
                    self._on_found()
                    return

    def close(self) -> None:
        self._stream.close()


def _get(place: Place, path: str) -> int:
    """Return the status that a GET is answered with, 0 for what is no HTTP; raises OSError."""
    with socket.create_connection(place, timeout=_CONNECT) as connection:
        connection.settimeout(_ANSWER)
        host = _shown(place)
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: stackctl\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b""
        while len(answer) < 32 and b"\n" not in answer and (data := connection.recv(4096)):
            answer += data
    match = _STATUS_LINE.match(answer)
    return int(match[1]) if match else 0


def _is_near(endpoint: JsonObject) -> bool:
    """Tell whether this machine is on the network itself: it would speak from an address of the same subnet."""
    address, prefix = endpoint.get("IPAddress"), endpoint.get("IPPrefixLen")
    if not address or not isinstance(address, str) or not isinstance(prefix, int):
        return False
    import ipaddress  # 3 ms that an ``up`` without such probes need not wait for

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((address, 9))  # UDP: nothing is sent
        except OSError:
            return False
        own = str(sock.getsockname()[0])
    return ipaddress.ip_address(own) in ipaddress.ip_network(f"{address}/{prefix}", strict=False)


def _since(started: str) -> str:
    from stackctl.api.times import parse_instant

    try:
        # A moment before: the clock's text is rounded, and the first line may be the one.
        return f"{parse_instant(started, field='StartedAt', now=0.0) - 0.001:.9f}"
    except InvalidInputError:
        return ""  # an engine that tells none: all of the log


def _reachable(host_ip: str) -> str:
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host_ip, host_ip)


def _shown(place: Place) -> str:
    return f"[{place[0]}]:{place[1]}" if ":" in place[0] else f"{place[0]}:{place[1]}"


def _part(body: JsonObject, name: str) -> JsonObject:
    found: Json = body.get(name)
    return found if isinstance(found, dict) else {}
