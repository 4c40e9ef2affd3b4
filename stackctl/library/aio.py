"""The same for asyncio: ``Stack`` with every call on a thread, so that the loop goes on.

    async with AsyncStack("stack.yaml") as stack:
        host, port = await stack.service("db").port(5432)

A call that is cancelled ends in its thread nevertheless; the next one on the stack waits for it.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from stackctl.library.stack import Address, Completed, Service, Stack
from stackctl.values import JsonObject


class AsyncStack:
    """A stack of containers that a program owns; arguments and promises are those of ``Stack``."""

    def __init__(
        self,
        file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        *,
        yaml: str = "",
        directory: str | os.PathLike[str] = "",
        project: str = "",
        isolate: bool = True,
        lease: bool | int | None = None,
        profiles: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        engine: str = "",
        wait_timeout: float = 300.0,
    ) -> None:
        self.sync = Stack(
            file,
            yaml=yaml,
            directory=directory,
            project=project,
            isolate=isolate,
            lease=lease,
            profiles=profiles,
            environment=environment,
            engine=engine,
            wait_timeout=wait_timeout,
        )

    def __repr__(self) -> str:
        return f"<AsyncStack {self.name}>"

    @property
    def name(self) -> str:
        return self.sync.name

    @property
    def services(self) -> tuple[str, ...]:
        return self.sync.services

    @property
    def notes(self) -> tuple[str, ...]:
        return self.sync.notes

    def service(self, name: str) -> "AsyncService":
        """Return a service; raises NotFoundError for one that the stack does not have."""
        return AsyncService(self.sync.service(name))

    async def up(self, *services: str, build: bool = False, pull: str = "") -> Self:
        await asyncio.to_thread(self.sync.up, *services, build=build, pull=pull)
        return self

    async def down(self, *, volumes: bool = True) -> None:
        await asyncio.to_thread(self.sync.down, volumes=volumes)

    async def reset(self) -> None:
        await asyncio.to_thread(self.sync.reset)

    async def logs(self, *, tail: int | None = None, since: float = 0.0) -> dict[str, str]:
        return await asyncio.to_thread(self.sync.logs, tail=tail, since=since)

    async def __aenter__(self) -> Self:
        entering = asyncio.ensure_future(asyncio.to_thread(self.sync.__enter__))
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            # What the thread brings up must not stay behind.
            await asyncio.gather(entering, return_exceptions=True)
            await asyncio.to_thread(self.sync.down)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.sync.down))


class AsyncService:
    """One service of a stack; see ``Service``."""

    def __init__(self, service: Service) -> None:
        self.sync = service

    @property
    def name(self) -> str:
        return self.sync.name

    async def port(self, target: int, *, protocol: str = "tcp", index: int = 1) -> Address:
        return await asyncio.to_thread(self.sync.port, target, protocol=protocol, index=index)

    async def logs(self, *, tail: int | None = None, since: float = 0.0, index: int = 1) -> str:
        return await asyncio.to_thread(self.sync.logs, tail=tail, since=since, index=index)

    async def wait_for_log(self, pattern: str, *, timeout: float = 60.0, index: int = 1) -> str:
        return await asyncio.to_thread(
            self.sync.wait_for_log, pattern, timeout=timeout, index=index
        )

    async def exec(
        self,
        *argv: str,
        user: str = "",
        workdir: str = "",
        environment: Mapping[str, str] | None = None,
        check: bool = True,
        index: int = 1,
    ) -> Completed:
        return await asyncio.to_thread(
            self.sync.exec,
            *argv,
            user=user,
            workdir=workdir,
            environment=environment,
            check=check,
            index=index,
        )

    async def inspect(self, *, index: int = 1) -> JsonObject:
        return await asyncio.to_thread(self.sync.inspect, index=index)

    async def stop(self, *, timeout: float | None = None, index: int = 1) -> None:
        await asyncio.to_thread(self.sync.stop, timeout=timeout, index=index)

    async def start(self, *, index: int = 1) -> None:
        await asyncio.to_thread(self.sync.start, index=index)

    async def restart(self, *, timeout: float | None = None, index: int = 1) -> None:
        await asyncio.to_thread(self.sync.restart, timeout=timeout, index=index)

    async def kill(self, signal: str = "SIGKILL", *, index: int = 1) -> None:
        await asyncio.to_thread(self.sync.kill, signal, index=index)
