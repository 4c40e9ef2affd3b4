"""RUN: one command in a container of its own, on a stage's root.

The container is made with the runtime directly: it has no record and is never listed. What the runtime needs in the
root to mount on (/etc/resolv.conf, a --mount's target …) and was not there before is taken away again afterwards, so
that it does not end up in the layer.
"""

import asyncio
import codecs
import contextlib
import os
import resource
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stackctl.builder.request import BuildRequest
from stackctl.contracts.container import ContainerRecord, ContainerSpec, LogConfig, MountPoint
from stackctl.contracts.runtime import Launch, Runtime
from stackctl.contracts.storage import RootTree
from stackctl.engine.runtime_spec import SpecInputs, runtime_spec
from stackctl.engine.users import User, resolve_user
from stackctl.engine.world import HostFacts
from stackctl.errors import StackctlError
from stackctl.frozen import frozen
from stackctl.oci.runtime import RuntimeSpec

HOSTNAME = "buildkitsandbox"  # what Docker's builder calls the machine of a step; some programs write it into files
_FILE_LIMIT = 4 << 20
_STUBS = ("/proc", "/sys", "/dev", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname")
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@frozen
class Joined:
    """A step's container, connected: ``netns`` None is the host's network; the files are host paths to mount."""

    record: ContainerRecord
    netns: Path | None
    hosts_file: str = ""
    resolv_file: str = ""
    hostname_file: str = ""


class StepNetwork(Protocol):
    """Connects the containers of RUN steps."""

    def join(self, record: ContainerRecord) -> AbstractAsyncContextManager[Joined]:
        """Connect for the duration, as ``record.spec.network_mode`` says."""


@frozen
class Command:
    """What to run: ``args`` resolved, ``env`` NAME=value; ``mounts`` from --mount, sources on the host."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    user: str = ""
    working_dir: str = "/"
    network: str = "default"
    privileged: bool = False
    mounts: tuple[MountPoint, ...] = ()
    hostname: str = HOSTNAME


class Runner:
    """Runs commands on mounted roots."""

    def __init__(
        self, runtime: Runtime, files: RootTree, host: HostFacts, network: StepNetwork
    ) -> None:
        self._runtime = runtime
        self._files = files
        self._host = host
        self._network = network

    async def run(
        self,
        container_id: str,
        root: Path,
        command: Command,
        request: BuildRequest,
        output: Callable[[str], None],
    ) -> int:
        """Run to the end and return the exit code; output is given as text as it comes.

        Raises StartError when the program cannot be started. Cancelling ends the container.
        """
        stubs = _Stubs(
            root, (*_STUBS, *(item.target for item in command.mounts if not _in_dev(item.target)))
        )
        try:
            await asyncio.to_thread(stubs.look)
            user = resolve_user(
                command.user,
                await self._text(root, "/etc/passwd"),
                await self._text(root, "/etc/group"),
            )
            record = _record(container_id, command, request)
            async with self._network.join(record) as joined:
                return await self._to_end(record.id, self._spec(root, joined, user), output)
        finally:
            await asyncio.shield(asyncio.to_thread(stubs.remove))

    def _spec(self, root: Path, joined: Joined, user: User) -> RuntimeSpec:
        record = joined.record
        return runtime_spec(
            SpecInputs(
                record=record,
                rootfs=str(root),
                netns_path=str(joined.netns) if joined.netns else None,
                user=user,
                mounts=record.mounts,
                hosts_file=joined.hosts_file,
                resolv_file=joined.resolv_file,
                hostname_file=joined.hostname_file,
                cgroup_parent=self._host.cgroup_parent,
                cgroup_version=self._host.cgroup_version,
                capabilities=self._host.capabilities,
                max_rlimits=_max_rlimits(),
            )
        )

    async def _text(self, root: Path, path: str) -> str:
        try:
            return (await self._files.read(root, path, limit=_FILE_LIMIT)).decode(errors="replace")
        except StackctlError:
            return ""

    async def _to_end(
        self, container_id: str, spec: RuntimeSpec, output: Callable[[str], None]
    ) -> int:
        launch = Launch(
            id=container_id,
            log_path=self._host.run_root / f"build-{container_id[:12]}.log",
            log_config=LogConfig(type="none"),
        )
        try:
            async with self._runtime.creating(launch) as create:
                running = await create(spec)
            streams = await self._runtime.attach(container_id)
            try:
                reading = asyncio.create_task(_pass_on(streams.output(), output))
                try:
                    await self._runtime.start(container_id)
                    end = await self._runtime.wait(container_id, running)
                    # A process left behind keeps the streams open; it ends with the container.
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(asyncio.shield(reading), 2.0)
                finally:
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
            finally:
                await streams.close()
            return end.code
        finally:
            await asyncio.shield(self._runtime.delete(container_id))


async def _pass_on(chunks: AsyncIterator[tuple[int, bytes]], output: Callable[[str], None]) -> None:
    decoders = {
        stream: codecs.getincrementaldecoder("utf-8")(errors="replace") for stream in (1, 2)
    }
    async for stream, data in chunks:
        text = decoders[stream if stream in decoders else 1].decode(data)
        if text:
            output(f"\x1b[91m{text}\x1b[0m" if stream == 2 else text)  # red, as Docker shows errors


def _in_dev(path: str) -> bool:
    """Tell whether a path is below /dev, a tmpfs of the container's own."""
    return path == "/dev" or path.startswith("/dev/")


def new_container_id() -> str:
    return secrets.token_hex(32)


def _max_rlimits() -> dict[str, int]:
    """Return the hard limits of this process that containers must stay within, by name."""
    found = {}
    for name in (
        "nofile",
        "nproc",
        "core",
        "memlock",
        "stack",
        "fsize",
        "data",
        "as",
        "cpu",
        "rss",
    ):
        hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
        if hard != resource.RLIM_INFINITY:
            found[name] = hard
    return found


def _record(container_id: str, command: Command, request: BuildRequest) -> ContainerRecord:
    mode = command.network
    spec = ContainerSpec(
        image="",
        cmd=command.args,
        privileged=command.privileged,
        network_mode=(request.network_mode or "default") if mode in ("", "default") else mode,
        # Its own name leads to itself in every network, none included.
        extra_hosts=(f"{command.hostname}:127.0.0.1", *request.extra_hosts),
        shm_size=request.shm_size,
        memory=request.memory,
        memory_swap=request.memory_swap,
        cpu_shares=request.cpu_shares,
        cpu_period=request.cpu_period,
        cpu_quota=request.cpu_quota,
        cpuset_cpus=request.cpuset_cpus,
        cpuset_mems=request.cpuset_mems,
        cgroup_parent=request.cgroup_parent,
        ulimits=request.ulimits,
        security_opt=request.security_opt,
        labels={"io.stackctl.build": "true"},
    )
    return ContainerRecord(
        id=container_id,
        name=f"build-{container_id[:12]}",
        created=0.0,
        spec=spec,
        image_id="",
        layers=(),
        path=command.args[0],
        args=command.args[1:],
        env=command.env,
        working_dir=command.working_dir or "/",
        user=command.user,
        hostname=command.hostname,
        mounts=command.mounts,
    )


@dataclass(slots=True)
class _Made:
    """A path that was not there, with the directory above it and that one's times."""

    path: tuple[str, ...]
    times: tuple[int, int]


class _Stubs:
    """Paths the runtime makes to mount on: what was not there before goes again, if nothing was put into it."""

    def __init__(self, root: Path, paths: Sequence[str]) -> None:
        self._root = root
        self._paths = paths
        self._missing: list[_Made] = []

    def look(self) -> None:
        """Note which of the paths are missing, and the times of the directories they will be made in."""
        seen: set[tuple[str, ...]] = set()
        for path in self._paths:
            parts = tuple(part for part in path.split("/") if part not in ("", "."))
            if ".." in parts:
                continue
            times: tuple[int, int] | None = None
            for length in range(1, len(parts) + 1):
                if times is None:
                    times = self._times_above(parts[:length])
                if times is not None and parts[:length] not in seen:
                    seen.add(parts[:length])
                    self._missing.append(_Made(parts[:length], times))

    def _times_above(self, path: tuple[str, ...]) -> tuple[int, int] | None:
        """Return the times of the directory a missing path will be made in; None when the path is there."""
        with contextlib.suppress(OSError), _opened(self._root, path[:-1]) as fd:
            try:
                os.stat(path[-1], dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                info = os.fstat(fd)
                return info.st_atime_ns, info.st_mtime_ns
        return None

    def remove(self) -> None:
        """Remove them where they are empty and untouched; the directories' times are set back."""
        for made in sorted(self._missing, key=lambda item: len(item.path), reverse=True):
            with contextlib.suppress(OSError), _opened(self._root, made.path[:-1]) as fd:
                name = made.path[-1]
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    os.rmdir(name, dir_fd=fd)
                elif stat.S_ISREG(info.st_mode) and info.st_size == 0:
                    os.unlink(name, dir_fd=fd)
                else:
                    continue
                os.utime(fd, ns=made.times)


@contextlib.contextmanager
def _opened(root: Path, parts: Sequence[str]) -> Iterator[int]:
    fd = os.open(root, _DIR)
    try:
        for part in parts:
            below = os.open(part, _DIR, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)
