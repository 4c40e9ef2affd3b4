"""Connects the containers of RUN steps as the engine connects its own: the same bridge, names and files."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from stackctl.builder.run import Joined
from stackctl.contracts.container import ContainerRecord, Endpoint


class Files(Protocol):
    """Host paths of /etc/hosts, resolv.conf and hostname."""

    @property
    def hosts(self) -> str: ...
    @property
    def resolv(self) -> str: ...
    @property
    def hostname(self) -> str: ...


class Opened(Protocol):
    """An open sandbox."""

    @property
    def record(self) -> ContainerRecord: ...
    @property
    def netns(self) -> Path | None: ...
    @property
    def files(self) -> Files: ...


class Planner(Protocol):
    """The engine's networks service, as far as it is needed here."""

    def plan(self, record: ContainerRecord) -> Mapping[str, Endpoint]:
        """Take addresses in the networks the record asks for."""

    def release(self, endpoints: Iterable[Endpoint]) -> None:
        """Give them back."""


class Opener(Protocol):
    """The engine's sandboxes."""

    async def open(self, record: ContainerRecord) -> Opened:
        """Make the namespace, connect it, write the files."""

    async def close(self, record: ContainerRecord) -> None:
        """Undo it; may be repeated."""


class Directories(Protocol):
    """Where the engine keeps a container's files."""

    def remove(self, container_id: str) -> None:
        """Remove them; success when they are gone."""


class EngineNetwork:
    """RUN steps in the engine's networks: "default" is its bridge."""

    def __init__(self, networks: Planner, sandboxes: Opener, files: Directories) -> None:
        self._networks = networks
        self._sandboxes = sandboxes
        self._files = files

    @contextlib.asynccontextmanager
    async def join(self, record: ContainerRecord) -> AsyncIterator[Joined]:
        """Connect the container for the duration."""
        endpoints = dict(self._networks.plan(record))
        record = replace(record, endpoints=endpoints)
        try:
            opened = await self._sandboxes.open(record)
            record = opened.record
            yield Joined(
                record=record,
                netns=opened.netns,
                hosts_file=opened.files.hosts,
                resolv_file=opened.files.resolv,
                hostname_file=opened.files.hostname,
            )
        finally:
            try:
                await asyncio.shield(self._sandboxes.close(record))
            finally:
                self._networks.release(endpoints.values())
                await asyncio.shield(asyncio.to_thread(self._files.remove, record.id))
