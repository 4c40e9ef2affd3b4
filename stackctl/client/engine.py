"""The engine calls of the stack half: the hot ones raw, pushes and pulls with their credentials.

Everything goes over ``client.raw``; see ``orchestrator.apply.contract`` for what each call promises. The ``docker``
SDK is at hand through ``sdk`` for what it does better; importing it costs as much as a whole no-op ``up``.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, cast

from stackctl.client.raw import (
    Connection,
    Headers,
    Http,
    Response,
    auth_header,
    path_part,
)
from stackctl.errors import NotFoundError, NotModifiedError, StackctlError
from stackctl.values import Json, JsonObject

if TYPE_CHECKING:
    import docker

Filters = Mapping[str, Sequence[str]]
OnProgress = Callable[[JsonObject], None]
Credentials = Callable[[str], JsonObject | None]


class Events:
    """The event stream: objects, until ``close``."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[JsonObject]:
        return self._response.objects()

    def close(self) -> None:
        self._response.close()


class Frames:
    """Multiplexed output: (1 stdout | 2 stderr, bytes). ``terminal``: plain bytes, all of stream 1."""

    def __init__(self, response: Response, *, terminal: bool) -> None:
        self._response = response
        self._terminal = terminal

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        raw = "raw-stream" in self._response.headers.get("content-type", "")
        if self._terminal or raw:
            return ((1, data) for data in self._response)
        return demultiplex(self._response)

    def close(self) -> None:
        self._response.close()


class Attached:
    """A process that is attached to: iterate its output, write its input."""

    def __init__(self, connection: Connection, *, terminal: bool) -> None:
        self._connection = connection
        self._terminal = terminal
        self._closed = False

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        if self._terminal:
            return ((1, data) for data in self._received())
        return demultiplex(self._received())

    def _received(self) -> Iterator[bytes]:
        while True:
            try:
                data = self._connection.receive()
            except OSError:
                if self._closed:
                    return
                raise
            if not data:
                return
            yield data

    def write(self, data: bytes) -> None:
        self._connection.send(data)

    def close_write(self) -> None:
        import socket

        try:
            self._connection.link.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side is gone already

    def close(self) -> None:
        self._closed = True
        self._connection.close()


def demultiplex(chunks: "Response | Iterator[bytes]") -> Iterator[tuple[int, bytes]]:
    """Take Docker's frames apart: a header of 8 bytes (stream, 3 zeros, length), then the data."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        at = 0
        while len(buffer) - at >= 8:
            size = int.from_bytes(buffer[at + 4 : at + 8], "big")
            if len(buffer) - at - 8 < size:
                break
            if size:
                yield buffer[at], bytes(buffer[at + 8 : at + 8 + size])
            at += 8 + size
        del buffer[:at]


class HttpEngine:
    """An engine behind ``Http``. ``address`` is its DOCKER_HOST form, for people and for the SDK."""

    def __init__(
        self, http: Http, *, address: str = "", credentials: Credentials | None = None
    ) -> None:
        self.http = http
        self.address = address
        self._credentials = credentials
        self._version: JsonObject = {}

    @property
    def api_version(self) -> tuple[int, int]:
        if not self.http.api_version[0]:
            self.http.request("GET", "/_ping").read()
        return self.http.api_version

    def sdk(self) -> "docker.DockerClient":
        """Return the docker SDK's client for the same engine."""
        import docker

        return docker.DockerClient(base_url=self.address)

    def ping(self) -> None:
        self.http.request("GET", "/_ping").read()

    def version(self) -> JsonObject:
        return self._object("GET", "/version")

    def info(self) -> JsonObject:
        return self._object("GET", "/info")

    def disk_usage(self) -> JsonObject:
        return self._object("GET", "/system/df")

    def events(self, *, filters: Filters, since: str = "", until: str = "") -> Events:
        query = _with_filters(filters)
        if since:
            query["since"] = since
        if until:
            query["until"] = until
        return Events(self.http.request("GET", "/events", query=query, stream=True))

    # -- containers

    def list_containers(
        self, *, everything: bool = True, filters: Filters | None = None
    ) -> list[JsonObject]:
        query = _with_filters(filters) | {"all": "1" if everything else "0"}
        return self._objects("/containers/json", query)

    def inspect_container(self, container: str) -> JsonObject:
        return self._object("GET", f"/containers/{path_part(container)}/json")

    def create_container(self, name: str, body: JsonObject, *, platform: str = "") -> JsonObject:
        query = {"name": name} if name else {}
        if platform:
            query["platform"] = platform
        return self._object("POST", "/containers/create", query=query, body=body)

    def start_container(self, container: str) -> None:
        self._done(f"/containers/{path_part(container)}/start")

    def stop_container(
        self, container: str, *, timeout: float | None = None, signal: str = ""
    ) -> None:
        query = _seconds(timeout)
        if signal:
            query["signal"] = signal
        self._done(f"/containers/{path_part(container)}/stop", query)

    def restart_container(self, container: str, *, timeout: float | None = None) -> None:
        self._done(f"/containers/{path_part(container)}/restart", _seconds(timeout))

    def kill_container(self, container: str, *, signal: str = "SIGKILL") -> None:
        self._done(f"/containers/{path_part(container)}/kill", {"signal": signal})

    def pause_container(self, container: str) -> None:
        self._done(f"/containers/{path_part(container)}/pause")

    def unpause_container(self, container: str) -> None:
        self._done(f"/containers/{path_part(container)}/unpause")

    def rename_container(self, container: str, name: str) -> None:
        self._done(f"/containers/{path_part(container)}/rename", {"name": name})

    def remove_container(
        self, container: str, *, force: bool = False, volumes: bool = False
    ) -> None:
        query = {"force": force, "v": volumes}
        self.http.json("DELETE", f"/containers/{path_part(container)}", query=query)

    def wait_container(self, container: str, *, condition: str = "not-running") -> int:
        path = f"/containers/{path_part(container)}/wait"
        response = self.http.request("POST", path, query={"condition": condition}, stream=True)
        answer = json.loads(response.read() or b"{}")
        failed = answer.get("Error") or {}
        if failed.get("Message"):
            raise StackctlError(str(failed["Message"]))
        return int(answer.get("StatusCode", 0))

    def top(self, container: str, arguments: str = "") -> JsonObject:
        query = {"ps_args": arguments} if arguments else None
        return self._object("GET", f"/containers/{path_part(container)}/top", query=query)

    def stats(self, container: str) -> JsonObject:
        path = f"/containers/{path_part(container)}/stats"
        return self._object("GET", path, query={"stream": False})

    def stats_stream(self, container: str) -> Events:
        path = f"/containers/{path_part(container)}/stats"
        return Events(self.http.request("GET", path, stream=True))

    def resize_container(self, container: str, *, rows: int, columns: int) -> None:
        self._done(f"/containers/{path_part(container)}/resize", {"h": rows, "w": columns})

    def put_archive(self, container: str, path: str, archive: bytes | BinaryIO) -> None:
        place = f"/containers/{path_part(container)}/archive"
        self.http.request("PUT", place, query={"path": path}, data=archive).read()

    def get_archive(self, container: str, path: str) -> Response:
        place = f"/containers/{path_part(container)}/archive"
        return self.http.request("GET", place, query={"path": path}, stream=True)

    def export_container(self, container: str) -> Response:
        return self.http.request("GET", f"/containers/{path_part(container)}/export", stream=True)

    def commit_container(self, container: str, query: Mapping[str, str]) -> str:
        answer = self._object("POST", "/commit", query={"container": container, **query}, body={})
        return str(answer.get("Id", ""))

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
    ) -> Frames:
        query: dict[str, str | bool | int] = {
            "stdout": True,
            "stderr": True,
            "follow": follow,
            "tail": tail,
            "timestamps": timestamps,
        }
        if since:
            query["since"] = since
        if until:
            query["until"] = until
        path = f"/containers/{path_part(container)}/logs"
        response = self.http.request("GET", path, query=query, stream=True)
        return Frames(response, terminal=terminal)

    def attach(
        self, container: str, *, stdin: bool, terminal: bool, logs: bool = False
    ) -> Attached:
        query = {"stream": True, "stdout": True, "stderr": True, "stdin": stdin, "logs": logs}
        path = f"/containers/{path_part(container)}/attach"
        connection, _ = self.http.hijack(path, query=query)
        return Attached(connection, terminal=terminal)

    # -- processes added to a container

    def create_exec(self, container: str, body: JsonObject) -> str:
        path = f"/containers/{path_part(container)}/exec"
        return str(self._object("POST", path, body=body)["Id"])

    def start_exec(self, exec_id: str, *, terminal: bool = False) -> Attached:
        body: JsonObject = {"Detach": False, "Tty": terminal}
        connection, _ = self.http.hijack(f"/exec/{path_part(exec_id)}/start", body=body)
        return Attached(connection, terminal=terminal)

    def start_exec_detached(self, exec_id: str, *, terminal: bool = False) -> None:
        body: JsonObject = {"Detach": True, "Tty": terminal}
        self.http.request("POST", f"/exec/{path_part(exec_id)}/start", body=body).read()

    def inspect_exec(self, exec_id: str) -> JsonObject:
        return self._object("GET", f"/exec/{path_part(exec_id)}/json")

    def resize_exec(self, exec_id: str, *, rows: int, columns: int) -> None:
        self._done(f"/exec/{path_part(exec_id)}/resize", {"h": rows, "w": columns})

    # -- networks

    def list_networks(self, *, filters: Filters | None = None) -> list[JsonObject]:
        return self._objects("/networks", _with_filters(filters))

    def inspect_network(self, network: str) -> JsonObject:
        return self._object("GET", f"/networks/{path_part(network)}")

    def create_network(self, body: JsonObject) -> str:
        return str(self._object("POST", "/networks/create", body=body).get("Id", ""))

    def remove_network(self, network: str) -> None:
        self.http.json("DELETE", f"/networks/{path_part(network)}")

    def connect_network(self, network: str, body: JsonObject) -> None:
        self.http.request("POST", f"/networks/{path_part(network)}/connect", body=body).read()

    def disconnect_network(self, network: str, container: str, *, force: bool = False) -> None:
        body: JsonObject = {"Container": container, "Force": force}
        self.http.request("POST", f"/networks/{path_part(network)}/disconnect", body=body).read()

    # -- volumes

    def list_volumes(self, *, filters: Filters | None = None) -> list[JsonObject]:
        answer = self._object("GET", "/volumes", query=_with_filters(filters))
        return cast(list[JsonObject], answer.get("Volumes") or [])

    def create_volume(self, body: JsonObject) -> JsonObject:
        return self._object("POST", "/volumes/create", body=body)

    def remove_volume(self, volume: str, *, force: bool = False) -> None:
        self.http.json("DELETE", f"/volumes/{path_part(volume)}", query={"force": force})

    # -- images

    def list_images(self, *, filters: Filters | None = None) -> list[JsonObject]:
        return self._objects("/images/json", _with_filters(filters))

    def inspect_image(self, reference: str) -> JsonObject:
        return self._object("GET", f"/images/{path_part(reference)}/json")

    def pull_image(
        self, reference: str, *, platform: str = "", on_progress: OnProgress | None = None
    ) -> None:
        name, tag = split_reference(reference)
        query = {"fromImage": name, "tag": tag}
        if platform:
            query["platform"] = platform
        self._progress("/images/create", query, self._auth(reference), on_progress)

    def push_image(self, reference: str, *, on_progress: OnProgress | None = None) -> None:
        name, tag = split_reference(reference)
        path = f"/images/{path_part(name)}/push"
        headers = self._auth(reference) or {"X-Registry-Auth": auth_header({})}
        self._progress(path, {"tag": tag}, headers, on_progress)

    def build_image(
        self,
        context: BinaryIO,
        query: Mapping[str, str],
        *,
        on_progress: OnProgress | None = None,
    ) -> str:
        headers = {"Content-Type": "application/x-tar", **self._build_auth()}
        response = self.http.request("POST", "/build", query=query, data=context, headers=headers)
        found = ""
        for message in _checked(response):
            aux = message.get("aux")
            if isinstance(aux, dict) and isinstance(aux.get("ID"), str):
                found = str(aux["ID"])
            if on_progress is not None:
                on_progress(message)
        return found

    def load_image(self, archive: BinaryIO, *, on_progress: OnProgress | None = None) -> None:
        response = self.http.request("POST", "/images/load", query={"quiet": False}, data=archive)
        for message in _checked(response):
            if on_progress is not None:
                on_progress(message)

    def import_image(self, archive: BinaryIO, repository: str, tag: str) -> None:
        query = {"fromSrc": "-", "repo": repository, "tag": tag}
        response = self.http.request("POST", "/images/create", query=query, data=archive)
        for _ in _checked(response):
            pass

    def tag_image(self, reference: str, repository: str, tag: str) -> None:
        path = f"/images/{path_part(reference)}/tag"
        self._done(path, {"repo": repository, "tag": tag})

    def remove_image(self, reference: str, *, force: bool = False) -> None:
        self.http.json("DELETE", f"/images/{path_part(reference)}", query={"force": force})

    # -- in common

    def _object(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | bool | int] | None = None,
        body: Json = None,
    ) -> JsonObject:
        answer = self.http.json(method, path, query=query, body=body)
        return answer if isinstance(answer, dict) else {}

    def _objects(self, path: str, query: Mapping[str, str | bool | int] | None) -> list[JsonObject]:
        answer = self.http.json("GET", path, query=query)
        return cast(list[JsonObject], answer if isinstance(answer, list) else [])

    def _done(self, path: str, query: Mapping[str, str | bool | int] | None = None) -> None:
        """POST where "it already is so" (304) is as good as done."""
        try:
            self.http.request("POST", path, query=query).read()
        except NotModifiedError:
            return

    def _auth(self, reference: str) -> Headers:
        found = self._credentials(reference) if self._credentials else None
        return {"X-Registry-Auth": auth_header(found)} if found else {}

    def _build_auth(self) -> Headers:
        # An empty reference asks for the credentials of every registry, by address.
        found = self._credentials("") if self._credentials else None
        return {"X-Registry-Config": auth_header(found)} if found else {}

    def _progress(
        self,
        path: str,
        query: Mapping[str, str],
        headers: Headers,
        on_progress: OnProgress | None,
    ) -> None:
        response = self.http.request("POST", path, query=query, headers=headers, stream=True)
        for message in _checked(response):
            if on_progress is not None:
                on_progress(message)


def split_reference(reference: str) -> tuple[str, str]:
    """Return the name and the tag or digest of an image reference; the tag is ``latest`` where there is none."""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    head, slash, last = reference.rpartition("/")
    base, _, tag = last.partition(":")
    return f"{head}{slash}{base}", tag or "latest"


def _checked(response: Response) -> Iterator[JsonObject]:
    """Yield progress messages; raises the error that one of them carries."""
    for message in response.objects():
        detail = message.get("errorDetail")
        if detail or message.get("error"):
            response.close()
            text = str(detail.get("message")) if isinstance(detail, dict) else ""
            text = text or str(message.get("error"))
            missing = "not found" in text or "manifest unknown" in text or "does not exist" in text
            raise NotFoundError(text) if missing else StackctlError(text)
        yield message


def _with_filters(filters: Filters | None) -> dict[str, str | bool | int]:
    if not filters:
        return {}
    return {"filters": json.dumps({name: list(values) for name, values in filters.items()})}


def _seconds(timeout: float | None) -> dict[str, str | bool | int]:
    return {} if timeout is None else {"t": max(-1, round(timeout))}
