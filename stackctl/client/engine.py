"""The contract of apply, spoken as the Docker Engine API: hot calls by ``raw``, registries by the docker SDK."""

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, cast
from urllib.parse import quote, urlencode

from stackctl.api.framing import STDOUT, Decoder
from stackctl.client.endpoints import Endpoint, connector
from stackctl.client.raw import Answer, Connection, Stream, Transport, lines_of
from stackctl.errors import InvalidInputError, NotModifiedError, StackctlError, UnavailableError
from stackctl.values import Json, JsonObject

NEWEST = (1, 51)
_EXTENSION = "/_stackctl/v1"
LOCAL_BUILD_TYPE = "application/vnd.stackctl.build.v1+json"
Filters = Mapping[str, Sequence[str]]
OnProgress = Callable[[JsonObject], None]
UndoOrder = Callable[[str, JsonObject], int]
QueryValue = str | int | float | bool | None | Sequence[str]


class EngineClient:
    """One engine; safe to use from several threads. Satisfies the contract that apply states."""

    def __init__(self, endpoint: Endpoint, *, environ: Mapping[str, str]) -> None:
        self._endpoint = endpoint
        self._environ = environ
        self._transport = Transport(connector(endpoint, environ), host=endpoint.host or "docker")
        self._version: tuple[int, int] | None = None
        self._features: frozenset[str] | None = None
        self._lock = threading.Lock()
        self._lease = ""
        self._undo_order: UndoOrder | None = None

    # The wire

    def close(self) -> None:
        """Hang up; a later call connects anew."""
        self._transport.close()

    @property
    def api_version(self) -> tuple[int, int]:
        """The API version spoken: the newest that both sides know."""
        if self._version is None:
            with self._lock:
                if self._version is None:
                    _, headers, _ = self._transport.request("GET", "/_ping")
                    self._version = min(_version(headers.get("api-version", "1.24")), NEWEST)
        return self._version

    def _target(self, path: str, query: Mapping[str, QueryValue]) -> str:
        major, minor = self.api_version
        pairs: list[tuple[str, str]] = []
        for name, value in query.items():
            if value is None or value == "":
                continue
            if isinstance(value, bool):
                pairs.append((name, "1" if value else "0"))
            elif isinstance(value, str | int | float):
                pairs.append((name, str(value)))
            else:
                pairs += [(name, item) for item in value]
        question = f"?{urlencode(pairs)}" if pairs else ""
        return f"/v{major}.{minor}{path}{question}"

    def _call(self, method: str, path: str, body: Json = None, **query: QueryValue) -> Json:
        content = self._transport.request(method, self._target(path, query), body)[2]
        try:
            return cast(Json, json.loads(content)) if content else None
        except ValueError:
            return None  # Podman answers some calls whose answer says nothing with plain text

    def _object(self, method: str, path: str, body: Json = None, **query: QueryValue) -> JsonObject:
        answer = self._call(method, path, body, **query)
        if not isinstance(answer, dict):
            raise UnavailableError(f"the engine's answer to {method} {path} is no JSON object")
        return answer

    def _objects(self, path: str, **query: QueryValue) -> list[JsonObject]:
        answer = self._call("GET", path, None, **query)
        if not isinstance(answer, list):
            raise UnavailableError(f"the engine's answer to GET {path} is no JSON array")
        return [item for item in answer if isinstance(item, dict)]

    @property
    def machine(self) -> str:
        """The host that the engine runs on, "" for this one."""
        return self._endpoint.host

    def _created(self, kind: str, path: str, body: JsonObject, **query: QueryValue) -> JsonObject:
        """Create a thing, under the lease there is."""
        if not self._lease or self._undo_order is None:
            return self._object("POST", path, body, **query)
        from stackctl.client import leases

        extra = leases.headers(self._lease, self._undo_order(kind, body))
        content = self._transport.request("POST", self._target(path, query), body, extra)[2]
        answer = json.loads(content) if content else None
        if not isinstance(answer, dict):
            raise UnavailableError(f"the engine's answer to POST {path} is no JSON object")
        return answer

    # Leases, where the engine offers "leases"

    def create_lease(
        self,
        *,
        pid: int,
        connection: bool,
        seconds: float,
        labels: Mapping[str, str],
        claims: Mapping[str, str] | None = None,
    ) -> str:
        """Make a lease and return its ID; raises NotFoundError or InvalidInputError for its process.

        What anybody creates with all the labels of ``claims`` is listed by itself.
        """
        from stackctl.client import leases

        return leases.create(
            self._transport,
            pid=pid,
            connection=connection,
            seconds=seconds,
            labels=labels,
            claims=claims or {},
        )

    def list_leases(self) -> list[JsonObject]:
        from stackctl.client import leases

        return leases.every(self._transport)

    def add_to_lease(self, lease: str, items: Sequence[tuple[str, str, int]]) -> None:
        """List things that exist: (kind, ID, order)."""
        from stackctl.client import leases

        leases.add(self._transport, lease, items)

    def release_lease(self, lease: str) -> None:
        """Forget a lease and leave what it lists; success when it is gone."""
        from stackctl.client import leases

        leases.release(self._transport, lease)

    def hold_lease(self, lease: str) -> "contextlib.AbstractContextManager[None]":
        """Hold a connection's lease while the context is open."""
        from stackctl.client import leases

        return leases.held(self._transport, lease)

    def create_under(self, lease: str, undo_order: UndoOrder) -> None:
        """Put everything that is created from now on under a lease ("": under none); lower orders go first."""
        self._lease, self._undo_order = lease, undo_order

    # System

    def version(self) -> JsonObject:
        return self._object("GET", "/version")

    def info(self) -> JsonObject:
        return self._object("GET", "/info")

    def events(self, *, filters: Filters, since: str = "", until: str = "") -> "JsonStream":
        query = {"filters": _filters(filters), "since": since, "until": until}
        return JsonStream(self._transport.stream("GET", self._target("/events", query)))

    def offers(self, feature: str) -> bool:
        """Tell whether the engine announces one of our own features; another engine announces none."""
        if self._features is None:
            found: Json = None
            with contextlib.suppress(StackctlError, ValueError):
                _, _, content = self._transport.request("GET", f"{_EXTENSION}/info")
                found = json.loads(content).get("Features")
            names = found if isinstance(found, list) else []
            self._features = frozenset(name for name in names if isinstance(name, str))
        return feature in self._features

    # Containers

    def list_containers(
        self, *, everything: bool = True, filters: Filters | None = None
    ) -> list[JsonObject]:
        return self._objects("/containers/json", all=everything, filters=_filters(filters))

    def inspect_container(self, container: str) -> JsonObject:
        return self._object("GET", f"/containers/{_part(container)}/json")

    def create_container(self, name: str, body: JsonObject, *, platform: str = "") -> JsonObject:
        return self._created("container", "/containers/create", body, name=name, platform=platform)

    def start_container(self, container: str) -> None:
        with contextlib.suppress(NotModifiedError):
            self._call("POST", f"/containers/{_part(container)}/start")

    def start_aside(self, container: str) -> None:
        with contextlib.suppress(NotModifiedError):
            self._transport.request(
                "POST", f"{_EXTENSION}/containers/{_part(container)}/start-aside"
            )

    def relieve_container(self, container: str, donor: str) -> None:
        target = f"{_EXTENSION}/containers/{_part(container)}/relieve"
        self._transport.request("POST", target, {"From": donor})

    def drain_container(self, container: str, *, timeout: float) -> int:
        # A connection of its own: the answer may take long.
        path = f"{_EXTENSION}/containers/{_part(container)}/drain?t={max(round(timeout), 0)}"
        for answer in JsonStream(self._transport.stream("POST", path)):
            found = answer.get("Open")
            return found if isinstance(found, int) else 0
        return 0

    def stop_container(
        self, container: str, *, timeout: float | None = None, signal: str = ""
    ) -> None:
        seconds = None if timeout is None else max(round(timeout), -1)
        with contextlib.suppress(NotModifiedError):
            self._call("POST", f"/containers/{_part(container)}/stop", t=seconds, signal=signal)

    def restart_container(self, container: str, *, timeout: float | None = None) -> None:
        seconds = None if timeout is None else max(round(timeout), -1)
        self._call("POST", f"/containers/{_part(container)}/restart", t=seconds)

    def kill_container(self, container: str, *, signal: str = "SIGKILL") -> None:
        self._call("POST", f"/containers/{_part(container)}/kill", signal=signal)

    def pause_container(self, container: str) -> None:
        self._call("POST", f"/containers/{_part(container)}/pause")

    def unpause_container(self, container: str) -> None:
        self._call("POST", f"/containers/{_part(container)}/unpause")

    def rename_container(self, container: str, name: str) -> None:
        self._call("POST", f"/containers/{_part(container)}/rename", name=name)

    def remove_container(
        self, container: str, *, force: bool = False, volumes: bool = False
    ) -> None:
        self._call("DELETE", f"/containers/{_part(container)}", force=force, v=volumes)

    def wait_container(self, container: str, *, condition: str = "not-running") -> int:
        """Return the exit code when the condition is met."""
        path = self._target(f"/containers/{_part(container)}/wait", {"condition": condition})
        # A connection of its own: the answer may take for ever.
        for answer in JsonStream(self._transport.stream("POST", path)):
            code = answer.get("StatusCode")
            if isinstance(code, int):
                return code
        raise UnavailableError("the engine stopped waiting for the container")

    def top(self, container: str, arguments: str = "") -> JsonObject:
        return self._object("GET", f"/containers/{_part(container)}/top", ps_args=arguments)

    def stats(self, container: str) -> JsonObject:
        return self._object("GET", f"/containers/{_part(container)}/stats", stream=False)

    def resize_container(self, container: str, *, rows: int, columns: int) -> None:
        self._call("POST", f"/containers/{_part(container)}/resize", h=rows, w=columns)

    def put_archive(
        self,
        container: str,
        path: str,
        archive: bytes | BinaryIO,
        *,
        keep_owner: bool = False,
    ) -> None:
        query: dict[str, QueryValue] = {"path": path}
        if keep_owner:
            query["copyUIDGID"] = True
        target = self._target(f"/containers/{_part(container)}/archive", query)
        headers = {"Content-Type": "application/x-tar"}
        for _ in self._transport.stream("PUT", target, archive, headers):
            pass

    def stat_path(self, container: str, path: str) -> str:
        """Return the header that tells what a path in a container is: base64 of JSON."""
        target = self._target(f"/containers/{_part(container)}/archive", {"path": path})
        _, headers, _ = self._transport.request("HEAD", target)
        return headers.get("x-docker-container-path-stat", "")

    def get_archive(self, container: str, path: str) -> Stream:
        target = self._target(f"/containers/{_part(container)}/archive", {"path": path})
        return self._transport.stream("GET", target)

    def export_container(self, container: str) -> Stream:
        return self._transport.stream(
            "GET", self._target(f"/containers/{_part(container)}/export", {})
        )

    def commit_container(self, container: str, query: Mapping[str, str]) -> str:
        return _id(self._object("POST", "/commit", None, container=container, **query))

    def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        tail: str = "all",
        since: str = "",
        until: str = "",
        timestamps: bool = False,
        terminal: bool = False,
    ) -> "FramedStream":
        query: dict[str, QueryValue] = {
            "stdout": True,
            "stderr": True,
            "follow": follow,
            "tail": tail,
            "since": since,
            "until": until,
            "timestamps": timestamps,
        }
        target = self._target(f"/containers/{_part(container)}/logs", query)
        return FramedStream(self._transport.stream("GET", target), raw=terminal)

    def attach(
        self, container: str, *, stdin: bool, terminal: bool, logs: bool = False
    ) -> "Conversation":
        query: dict[str, QueryValue] = {
            "stream": True,
            "stdin": stdin,
            "stdout": True,
            "stderr": True,
            "logs": logs,
        }
        target = self._target(f"/containers/{_part(container)}/attach", query)
        return Conversation(*self._transport.hijack(target), raw=terminal)

    def sync_files(self, container: str, batch: Iterator[bytes]) -> JsonObject:
        """Apply a batch of file changes to a container and return what was done."""
        from stackctl.client.sync import send

        return send(self._transport, _part(container), batch)

    # Processes added to a container

    def create_exec(self, container: str, body: JsonObject) -> str:
        return _id(self._object("POST", f"/containers/{_part(container)}/exec", body))

    def start_exec(self, exec_id: str, *, terminal: bool = False) -> "Conversation":
        target = self._target(f"/exec/{_part(exec_id)}/start", {})
        body: JsonObject = {"Detach": False, "Tty": terminal}
        return Conversation(*self._transport.hijack(target, body), raw=terminal)

    def start_exec_detached(self, exec_id: str, *, terminal: bool = False) -> None:
        self._call("POST", f"/exec/{_part(exec_id)}/start", {"Detach": True, "Tty": terminal})

    def inspect_exec(self, exec_id: str) -> JsonObject:
        return self._object("GET", f"/exec/{_part(exec_id)}/json")

    def resize_exec(self, exec_id: str, *, rows: int, columns: int) -> None:
        self._call("POST", f"/exec/{_part(exec_id)}/resize", h=rows, w=columns)

    # Networks

    def list_networks(self, *, filters: Filters | None = None) -> list[JsonObject]:
        return self._objects("/networks", filters=_filters(filters))

    def inspect_network(self, network: str) -> JsonObject:
        return self._object("GET", f"/networks/{_part(network)}")

    def create_network(self, body: JsonObject) -> str:
        return _id(self._created("network", "/networks/create", body))

    def remove_network(self, network: str) -> None:
        self._call("DELETE", f"/networks/{_part(network)}")

    def connect_network(self, network: str, body: JsonObject) -> None:
        self._call("POST", f"/networks/{_part(network)}/connect", body)

    def disconnect_network(self, network: str, container: str, *, force: bool = False) -> None:
        body: JsonObject = {"Container": container, "Force": force}
        self._call("POST", f"/networks/{_part(network)}/disconnect", body)

    # Volumes

    def list_volumes(self, *, filters: Filters | None = None) -> list[JsonObject]:
        found = self._object("GET", "/volumes", None, filters=_filters(filters)).get("Volumes")
        return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []

    def create_volume(self, body: JsonObject) -> JsonObject:
        return self._created("volume", "/volumes/create", body)

    def remove_volume(self, volume: str, *, force: bool = False) -> None:
        self._call("DELETE", f"/volumes/{_part(volume)}", force=force)

    # Images

    def list_images(self, *, filters: Filters | None = None) -> list[JsonObject]:
        return self._objects("/images/json", filters=_filters(filters))

    def inspect_image(self, reference: str) -> JsonObject:
        return self._object("GET", f"/images/{quote(reference, safe='/:@')}/json")

    def remote_digest(self, reference: str) -> str:
        """Return the digest that a registry has for a reference, as the engine sees it."""
        from stackctl.client.credentials import header_for

        target = self._target(f"/distribution/{quote(reference, safe='/:@')}/json", {})
        headers = header_for(reference, self._environ)
        content = self._transport.request("GET", target, None, headers)[2]
        answer = json.loads(content) if content else {}
        digest = (answer.get("Descriptor") or {}).get("digest", "")
        if not digest:
            raise UnavailableError(f"the engine told no digest of {reference}")
        return str(digest)

    def pull_image(
        self, reference: str, *, platform: str = "", on_progress: OnProgress | None = None
    ) -> None:
        from stackctl.client.credentials import header_for

        name, tag = _split(reference)
        query = {"fromImage": name, "tag": tag, "platform": platform}
        headers = header_for(reference, self._environ)
        stream = self._transport.stream("POST", self._target("/images/create", query), b"", headers)
        _follow(stream, on_progress)

    def push_image(self, reference: str, *, on_progress: OnProgress | None = None) -> None:
        from stackctl.client.credentials import header_for

        name, tag = _split(reference)
        target = self._target(f"/images/{quote(name, safe='/:')}/push", {"tag": tag})
        headers = header_for(reference, self._environ) or {"X-Registry-Auth": "e30="}
        _follow(self._transport.stream("POST", target, b"", headers), on_progress)

    def build_image(
        self,
        context: BinaryIO,
        query: Mapping[str, str],
        *,
        on_progress: OnProgress | None = None,
        on_open: Callable[[Callable[[], None]], None] | None = None,
    ) -> str:
        """Build from a tar stream with the query of ``POST /build``; return the image's ID.

        ``on_open`` gets what ends the build from another thread, once the context was sent.
        """
        return self._build(context, "application/x-tar", query, on_progress, on_open)

    def build_local(
        self,
        body: JsonObject,
        query: Mapping[str, str],
        *,
        on_progress: OnProgress | None = None,
        on_open: Callable[[Callable[[], None]], None] | None = None,
    ) -> str:
        """Build from a directory that the engine reads itself; only where it offers "build.local".

        The body is that of stackctl.daemon.bodies.build. Returns the image's ID, "" where it was only checked.
        """
        content = io.BytesIO(json.dumps(body).encode())
        return self._build(content, LOCAL_BUILD_TYPE, query, on_progress, on_open)

    def _build(
        self,
        content: BinaryIO,
        content_type: str,
        query: Mapping[str, str],
        on_progress: OnProgress | None,
        on_open: Callable[[Callable[[], None]], None] | None,
    ) -> str:
        from stackctl.client.credentials import header_for_build

        headers = {"Content-Type": content_type, **header_for_build(self._environ)}
        target = self._target("/build", {"version": "1", **query})
        made, checked = "", False

        def watch(message: JsonObject) -> None:
            nonlocal made, checked
            match message:
                case {"aux": {"ID": str(image)}}:
                    made = image
                case {"aux": {"Checked": True}}:
                    checked = True
            if on_progress:
                on_progress(message)

        stream = self._transport.stream("POST", target, content, headers)
        if on_open:
            on_open(stream.close)
        _follow(stream, watch)
        if not made and not checked:
            raise UnavailableError("the engine ended the build without naming an image")
        return made

    def import_image(
        self, archive: BinaryIO, reference: str, *, changes: Iterable[str] = ()
    ) -> None:
        """Make an image of a root file system's tar."""
        name, tag = _split(reference)
        query: dict[str, QueryValue] = {
            "fromSrc": "-",
            "repo": name,
            "tag": tag,
            "changes": [*changes],
        }
        headers = {"Content-Type": "application/x-tar"}
        _follow(
            self._transport.stream("POST", self._target("/images/create", query), archive, headers)
        )

    def load_images(self, archive: BinaryIO) -> Iterator[str]:
        """Load images from an archive; yield what the engine says, a line each."""
        headers = {"Content-Type": "application/x-tar"}
        stream = self._transport.stream("POST", self._target("/images/load", {}), archive, headers)
        for message in JsonStream(stream):
            _raise_for(message)
            text = message.get("stream")
            if isinstance(text, str):
                yield text.rstrip("\n")

    def save_images(self, references: Sequence[str]) -> Stream:
        """Return an archive of images as it comes (docker-archive; ours and newer Docker's an OCI layout as well)."""
        return self._transport.stream("GET", self._target("/images/get", {"names": references}))

    def image_history(self, reference: str) -> list[JsonObject]:
        return self._objects(f"/images/{quote(reference, safe='/:@')}/history")

    def prune_images(self, *, filters: Filters | None = None) -> JsonObject:
        return self._object("POST", "/images/prune", None, filters=_filters(filters))

    def prune_builds(self, *, everything: bool = False) -> JsonObject:
        return self._object("POST", "/build/prune", None, all=everything)

    def login(self, server: str, username: str, password: str) -> JsonObject:
        """Let the engine try a login; raises UnauthorizedError when the registry refuses it."""
        body: JsonObject = {
            "username": username,
            "password": password,
            "serveraddress": server,
        }
        return self._object("POST", "/auth", body)

    def tag_image(self, reference: str, repository: str, tag: str) -> None:
        self._call("POST", f"/images/{quote(reference, safe='/:@')}/tag", repo=repository, tag=tag)

    def remove_image(self, reference: str, *, force: bool = False) -> None:
        self._call("DELETE", f"/images/{quote(reference, safe='/:@')}", force=force)


class JsonStream:
    """The JSON objects of a stream as they arrive; ``close`` ends the iteration from another thread."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[JsonObject]:
        return lines_of(iter(self._stream))

    def close(self) -> None:
        self._stream.close()


class FramedStream:
    """Log output as (1: stdout, 2: stderr, bytes); ``close`` ends the iteration from another thread."""

    def __init__(self, stream: Stream, *, raw: bool) -> None:
        self._stream = stream
        self._raw = raw

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        decoder = Decoder()
        for data in self._stream:
            if self._raw:
                yield STDOUT, data
            else:
                yield from decoder.feed(data)

    def close(self) -> None:
        self._stream.close()


class Conversation:
    """An attached process: its output as (1: stdout, 2: stderr, bytes) and its input."""

    def __init__(self, connection: Connection, answer: Answer, *, raw: bool) -> None:
        del answer
        self._connection = connection
        self._raw = raw

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        decoder = Decoder()
        while True:
            try:
                data = self._connection.file.read1(65536)
            except (OSError, ValueError):
                return
            if not data:
                return
            if self._raw:
                yield STDOUT, data
            else:
                yield from decoder.feed(data)

    def write(self, data: bytes) -> None:
        self._connection.socket.sendall(data)

    def close_write(self) -> None:
        """Give the process end of file on its input."""
        import socket

        with contextlib.suppress(OSError):
            self._connection.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._connection.close()


def _follow(stream: Stream, on_progress: OnProgress | None = None) -> None:
    for message in JsonStream(stream):
        _raise_for(message)
        if on_progress:
            on_progress(message)


def _raise_for(message: JsonObject) -> None:
    """An error in the middle of a stream: the status was sent as 200 long before."""
    match message:
        case {"errorDetail": {"message": str(text)}} | {"error": str(text)}:
            raise StackctlError(text)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    if not (major.isdigit() and minor.isdigit()):
        raise UnavailableError(f'the engine speaks API version "{text[:20]}", which is none')
    return int(major), int(minor)


def _filters(filters: Filters | None) -> str | None:
    if not filters:
        return None
    return json.dumps({name: list(values) for name, values in filters.items()})


def _part(name: str) -> str:
    if not name:
        raise InvalidInputError("a name or ID is empty")
    return quote(name, safe="")


def _id(answer: JsonObject) -> str:
    found = answer.get("Id")
    if not isinstance(found, str):
        raise UnavailableError("the engine's answer has no Id")
    return found


def _split(reference: str) -> tuple[str, str]:
    """Return an image's name and its tag or digest, "latest" where neither is given."""
    name, at, digest = reference.partition("@")
    head, colon, tag = name.rpartition(":")
    has_tag = bool(colon) and "/" not in tag
    if at:
        return (head if has_tag else name), digest
    return (head, tag) if has_tag else (name, "latest")
