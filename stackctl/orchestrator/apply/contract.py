"""The engine calls that plans and commands need; ``client.engine`` satisfies it.

Synchronous and safe to call from several threads. Bodies and answers are those of the Docker Engine API. Every call
raises a kind of ``stackctl.errors``: NotFoundError, ConflictError, UnavailableError and so on, from the HTTP status.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, Protocol

from stackctl.values import JsonObject

Filters = Mapping[str, Sequence[str]]
OnProgress = Callable[[JsonObject], None]
OnOpen = Callable[[Callable[[], None]], None]


class EventStream(Protocol):
    """Engine events, one object each; ``close`` ends the iteration from another thread."""

    def __iter__(self) -> Iterator[JsonObject]: ...
    def close(self) -> None: ...


class ByteStream(Protocol):
    """Bytes as they arrive; ``close`` ends the iteration from another thread."""

    def __iter__(self) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class Conversation(Protocol):
    """An attached process: its output as (1: stdout, 2: stderr, bytes) and its input.

    With a terminal everything is stream 1. ``close_write`` gives the process end of file on its input.
    """

    def __iter__(self) -> Iterator[tuple[int, bytes]]: ...
    def write(self, data: bytes) -> None: ...
    def close_write(self) -> None: ...
    def close(self) -> None: ...


class LogStream(Protocol):
    """Log output as (1: stdout, 2: stderr, bytes); ``close`` ends the iteration from another thread."""

    def __iter__(self) -> Iterator[tuple[int, bytes]]: ...
    def close(self) -> None: ...


class Engine(Protocol):
    """A Docker-compatible engine. Durations in seconds; a timeout of None leaves it to the container."""

    @property
    def api_version(self) -> tuple[int, int]:
        """The API version spoken, as (1, 47)."""

    @property
    def machine(self) -> str:
        """The host name or address of the machine that the engine runs on; "" where it is this one."""

    def version(self) -> JsonObject: ...
    def info(self) -> JsonObject: ...
    def events(self, *, filters: Filters, since: str = "", until: str = "") -> EventStream: ...

    # containers
    def list_containers(
        self, *, everything: bool = True, filters: Filters | None = None
    ) -> list[JsonObject]: ...
    def inspect_container(self, container: str) -> JsonObject: ...
    def create_container(
        self, name: str, body: JsonObject, *, platform: str = ""
    ) -> JsonObject: ...
    def start_container(self, container: str) -> None: ...
    def start_aside(self, container: str) -> None:
        """Start without published ports and aliases, where the engine offers "containers.relieve"."""

    def relieve_container(self, container: str, donor: str) -> None:
        """Give one started aside its ports and names, taking them from the donor in one step."""

    def drain_container(self, container: str, *, timeout: float) -> int:
        """Wait until nobody is connected to it; return how many are when the time is over."""

    def stop_container(
        self, container: str, *, timeout: float | None = None, signal: str = ""
    ) -> None: ...
    def restart_container(self, container: str, *, timeout: float | None = None) -> None: ...
    def kill_container(self, container: str, *, signal: str = "SIGKILL") -> None: ...
    def pause_container(self, container: str) -> None: ...
    def unpause_container(self, container: str) -> None: ...
    def rename_container(self, container: str, name: str) -> None: ...
    def remove_container(
        self, container: str, *, force: bool = False, volumes: bool = False
    ) -> None: ...
    def wait_container(self, container: str, *, condition: str = "not-running") -> int: ...
    def top(self, container: str, arguments: str = "") -> JsonObject: ...
    def stats(self, container: str) -> JsonObject: ...
    def resize_container(self, container: str, *, rows: int, columns: int) -> None: ...
    def put_archive(
        self,
        container: str,
        path: str,
        archive: bytes | BinaryIO,
        *,
        keep_owner: bool = False,
    ) -> None: ...
    def stat_path(self, container: str, path: str) -> str:
        """Return the header that tells what a path in a container is: base64 of JSON."""

    def get_archive(self, container: str, path: str) -> ByteStream: ...
    def export_container(self, container: str) -> ByteStream: ...
    def commit_container(self, container: str, query: Mapping[str, str]) -> str: ...
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
    ) -> LogStream: ...
    def attach(
        self, container: str, *, stdin: bool, terminal: bool, logs: bool = False
    ) -> Conversation: ...

    # processes added to a container
    def create_exec(self, container: str, body: JsonObject) -> str: ...
    def start_exec(self, exec_id: str, *, terminal: bool = False) -> Conversation: ...
    def start_exec_detached(self, exec_id: str, *, terminal: bool = False) -> None: ...
    def inspect_exec(self, exec_id: str) -> JsonObject: ...
    def resize_exec(self, exec_id: str, *, rows: int, columns: int) -> None: ...

    # networks
    def list_networks(self, *, filters: Filters | None = None) -> list[JsonObject]: ...
    def inspect_network(self, network: str) -> JsonObject: ...
    def create_network(self, body: JsonObject) -> str: ...
    def remove_network(self, network: str) -> None: ...
    def connect_network(self, network: str, body: JsonObject) -> None: ...
    def disconnect_network(self, network: str, container: str, *, force: bool = False) -> None: ...

    # volumes
    def list_volumes(self, *, filters: Filters | None = None) -> list[JsonObject]: ...
    def create_volume(self, body: JsonObject) -> JsonObject: ...
    def remove_volume(self, volume: str, *, force: bool = False) -> None: ...

    # images
    def list_images(self, *, filters: Filters | None = None) -> list[JsonObject]: ...
    def inspect_image(self, reference: str) -> JsonObject: ...
    def pull_image(
        self, reference: str, *, platform: str = "", on_progress: OnProgress | None = None
    ) -> None: ...
    def push_image(self, reference: str, *, on_progress: OnProgress | None = None) -> None: ...
    def build_image(
        self,
        context: BinaryIO,
        query: Mapping[str, str],
        *,
        on_progress: OnProgress | None = None,
        on_open: OnOpen | None = None,
    ) -> str:
        """Build from a tar stream with the query of ``POST /build``; return the image's ID.

        ``on_open`` gets what ends the build from another thread, once the context was sent.
        """

    def offers(self, feature: str) -> bool:
        """Tell whether the engine has a feature that Docker's API lacks."""

    def build_local(
        self,
        body: JsonObject,
        query: Mapping[str, str],
        *,
        on_progress: OnProgress | None = None,
        on_open: OnOpen | None = None,
    ) -> str:
        """Build from a directory the engine reads itself, where it offers "build.local"; return the image's ID."""

    def tag_image(self, reference: str, repository: str, tag: str) -> None: ...
    def remove_image(self, reference: str, *, force: bool = False) -> None: ...
