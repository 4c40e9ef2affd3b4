"""The contracts in memory. Every effect is listed, and any call can be made to fail."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from stackctl.adapters.git import GitProgram
from stackctl.contracts.container import Endpoint, PublishedPort
from stackctl.contracts.runtime import Create, Exit, Launch, Running
from stackctl.contracts.state import ImageConfig, ImageRecord
from stackctl.engine.world import HostFacts, World
from stackctl.errors import HostError, NotFoundError
from stackctl.oci.runtime import RuntimeSpec
from stackctl.values import from_json, to_json
from tests.fakes.clock import ManualClock

IMAGE_ID = "sha256:" + "1" * 64
LAYER = "sha256:" + "2" * 64
BLOB = "sha256:" + "3" * 64


class DaemonKilledError(BaseException):
    """Stands for SIGKILL: what the daemon would still do has no effect any more."""


class Kernel:
    """What is there: names of effects that were done and not undone.

    ``fail`` names a call that raises; ``kill_at`` one after which the daemon is dead, its effect done.
    """

    def __init__(self) -> None:
        self.effects: set[str] = set()
        self.calls: list[str] = []
        self.fail = ""
        self.kill_at = ""
        self.is_dead = False
        self.processes: dict[str, asyncio.Future[Exit]] = {}
        self.exits: dict[str, Exit] = {}

    def call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fail:
            raise HostError(f"{name} failed as the test wants")

    def do(self, name: str, effect: str) -> None:
        if not self.is_dead:
            self.call(name)
            self.effects.add(effect)
        self.maybe_die(name)

    def maybe_die(self, name: str) -> None:
        if name == self.kill_at:
            self.is_dead = True
            raise DaemonKilledError

    def undo(self, effect: str) -> None:
        if not self.is_dead:
            self.effects.discard(effect)


class FakeState:
    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], str] = {}
        self.kernel: Kernel | None = None
        self.settings: dict[str, str] = {}

    def load(self, kind):
        return [
            from_json(kind, json.loads(text))
            for (name, _), text in self.documents.items()
            if name == kind.__name__
        ]

    def save(self, record) -> None:
        if self.kernel is not None and self.kernel.is_dead:
            return
        key = getattr(record, "id", None) or record.name
        self.documents[type(record).__name__, key] = json.dumps(to_json(record))

    def delete(self, record) -> None:
        if self.kernel is not None and self.kernel.is_dead:
            return
        key = getattr(record, "id", None) or record.name
        self.documents.pop((type(record).__name__, key), None)

    def setting(self, name: str) -> str:
        return self.settings.get(name, "")

    def save_setting(self, name: str, value: str) -> None:
        self.settings[name] = value

    def close(self) -> None:
        pass


class FakeRuntime:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.deaf = False
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()

    @asynccontextmanager
    async def creating(self, launch: Launch) -> AsyncIterator[Create]:
        async def create(spec: RuntimeSpec) -> Running:
            self.begun.set()
            await self.go_on.wait()
            self.kernel.do("runtime.create", f"process {launch.id}")
            self.kernel.processes[launch.id] = asyncio.get_running_loop().create_future()
            return Running(pid=1000, pid_start=1, monitor_pid=999, monitor_start=1)

        yield create

    async def start(self, container_id: str) -> None:
        self.kernel.call("runtime.start")
        self.kernel.maybe_die("runtime.start")

    async def wait(self, container_id: str, running: Running) -> Exit:
        return await asyncio.shield(self.kernel.processes[container_id])

    async def is_alive(self, container_id: str, running: Running) -> bool:
        process = self.kernel.processes.get(container_id)
        return process is not None and not process.done()

    async def exit_of(self, container_id: str) -> Exit | None:
        return self.kernel.exits.get(container_id)

    def finish(self, container_id: str, code: int, at: float = 0.0) -> None:
        """End a container's program."""
        result = Exit(code=code, at=at)
        self.kernel.exits[container_id] = result
        process = self.kernel.processes[container_id]
        if not process.done():
            process.set_result(result)

    async def kill(self, container_id: str, signal: int) -> None:
        self.kernel.call(f"kill {signal}")
        if signal == 9 or not self.deaf:
            self.finish(container_id, 128 + signal)

    async def pause(self, container_id: str) -> None:
        self.kernel.call("runtime.pause")

    async def resume(self, container_id: str) -> None:
        self.kernel.call("runtime.resume")

    async def delete(self, container_id: str) -> None:
        self.kernel.undo(f"process {container_id}")

    async def known(self) -> list[str]:
        found = [item for item in self.kernel.effects if item.startswith("process ")]
        return [item.removeprefix("process ") for item in found]


class FakeLayers:
    def __init__(self, kernel: Kernel, root: Path) -> None:
        self.kernel = kernel
        self.root = root

    def has(self, chain_id: str) -> bool:
        return True

    async def layers(self) -> list[str]:
        return [LAYER]

    async def remove(self, chain_id: str) -> None:
        pass

    async def prepare(self, key: str, layers, *, volatile: bool = False, files=()) -> None:
        self.kernel.do("layers.prepare", f"snapshot {key}")

    async def mount(self, key: str) -> Path:
        self.kernel.do("layers.mount", f"mount {key}")
        return self.root

    async def unmount(self, key: str) -> None:
        self.kernel.undo(f"mount {key}")

    async def discard(self, key: str) -> None:
        self.kernel.undo(f"mount {key}")
        self.kernel.undo(f"snapshot {key}")

    async def snapshots(self) -> list[str]:
        found = [item for item in self.kernel.effects if item.startswith("snapshot ")]
        return [item.removeprefix("snapshot ") for item in found]

    async def usage(self, key: str) -> int:
        return 7

    @asynccontextmanager
    async def view(self, layers) -> AsyncIterator[Path]:
        yield self.root


class FakeVolumes:
    def __init__(self, kernel: Kernel, root: Path) -> None:
        self.kernel = kernel
        self.root = root

    async def create(self, name: str, options) -> Path:
        self.kernel.do("volumes.create", f"volume {name}")
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    async def copy_up(self, mountpoint: Path, source: Path) -> None:
        self.kernel.call("volumes.copy_up")

    async def remove(self, name: str) -> None:
        self.kernel.undo(f"volume {name}")

    async def usage(self, name: str) -> int:
        return 5


class FakeFiles:
    async def read(self, root: Path, path: str, *, limit: int) -> bytes:
        raise NotFoundError(path)


class FakeNetwork:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.host: list[str] = []

    async def start(self) -> None:
        self.kernel.do("network.start", "shared")

    async def stop(self) -> None:
        self.kernel.undo("shared")

    async def create_network(self, network) -> None:
        self.kernel.do("network.create_network", f"network {network.name}")

    async def remove_network(self, network) -> None:
        self.kernel.undo(f"network {network.name}")

    async def networks(self) -> list[str]:
        return [item for item in self.kernel.effects if item.startswith("network ")]

    async def host_subnets(self) -> list[str]:
        return self.host

    async def create_sandbox(self, container_id: str, sysctls=None) -> Path:
        self.kernel.do("network.create_sandbox", f"sandbox {container_id}")
        return self.sandbox_path(container_id)

    async def remove_sandbox(self, container_id: str) -> None:
        self.kernel.undo(f"sandbox {container_id}")
        for item in list(self.kernel.effects):
            if item.startswith(f"link {container_id} "):
                self.kernel.undo(item)

    async def finish(self) -> None:
        pass

    async def sandboxes(self) -> list[str]:
        found = [item for item in self.kernel.effects if item.startswith("sandbox ")]
        return [item.removeprefix("sandbox ") for item in found]

    def sandbox_path(self, container_id: str) -> Path:
        return Path(f"/netns/{container_id}")

    async def connect(self, container_id, network, endpoint: Endpoint, *, default_route) -> str:
        self.kernel.do("network.connect", f"link {container_id} {network.name}")
        return "eth0"

    async def disconnect(self, container_id, network, endpoint) -> None:
        self.kernel.undo(f"link {container_id} {network.name}")

    async def set_default_route(self, container_id, endpoint) -> None:
        self.kernel.call("network.set_default_route")

    async def publish(self, container_id, endpoint, ports) -> list[PublishedPort]:
        self.kernel.do("network.publish", f"ports {container_id}")
        return [
            PublishedPort(
                container_port=port.container_port,
                protocol=port.protocol,
                host_ip=port.host_ip or "0.0.0.0",
                host_port=port.host_port or 40000,
            )
            for port in ports
        ]

    async def hand_over(self, donor_id, container_id, endpoint, ports) -> list[PublishedPort]:
        self.kernel.undo(f"ports {donor_id}")
        return await self.publish(container_id, endpoint, ports)

    async def unpublish(self, container_id: str) -> None:
        self.kernel.undo(f"ports {container_id}")

    async def restore(self, networks, containers) -> None:
        self.kernel.call("network.restore")


class FakeKeeper:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.names: dict[tuple[str, str], list[str]] = {}
        self.zones: dict[str, object] = {}

    async def start(self) -> bool:
        self.kernel.do("keeper.start", "keeper")
        return True

    async def stop(self) -> None:
        held = ("keeper", "zone ", "names ")
        for effect in [item for item in self.kernel.effects if item.startswith(held)]:
            self.kernel.undo(effect)

    async def serve(self, zone, netns) -> None:
        self.kernel.do("keeper.serve", f"zone {zone.container_id}")
        self.zones[zone.container_id] = zone

    async def unserve(self, container_id: str) -> None:
        self.kernel.undo(f"zone {container_id}")

    async def add_names(self, network_id, container_id, addresses, names) -> None:
        self.kernel.do("keeper.add_names", f"names {container_id}")
        self.names[network_id, container_id] = list(names)

    async def remove_names(self, network_id, container_id) -> None:
        self.kernel.undo(f"names {container_id}")
        self.names.pop((network_id, container_id), None)

    async def reset(self, keep) -> None:
        self.kernel.call("keeper.reset")


class FakeProcesses:
    """Processes that a test ends."""

    def __init__(self, boot_id: str) -> None:
        self.boot_id = boot_id
        self.alive: dict[int, asyncio.Event] = {}

    def begin(self, pid: int) -> None:
        self.alive[pid] = asyncio.Event()

    def end(self, pid: int) -> None:
        self.alive.pop(pid).set()

    def space(self) -> str:
        return f"{self.boot_id} pid:[1]"

    def start_time(self, pid: int) -> int:
        return 7 if pid in self.alive else 0

    async def gone(self, pid: int, started: int) -> None:
        if pid in self.alive:
            await self.alive[pid].wait()


class FakeContent:
    def has(self, digest: str) -> bool:
        return True

    async def digests(self) -> list[str]:
        return [BLOB]

    async def delete(self, digest: str) -> None:
        pass


class FakeRegistry:
    async def close(self) -> None:
        pass


def make_world(
    base: Path,
    *,
    kernel: Kernel | None = None,
    state: FakeState | None = None,
    boot_id: str = "boot",
    config: ImageConfig | None = None,
) -> World:
    """Return a world with one image, "image:latest"."""
    kernel = kernel or Kernel()
    if state is None:
        state = FakeState()
        state.save(
            ImageRecord(
                id=IMAGE_ID,
                created="",
                config=config or ImageConfig(cmd=("run",)),
                layers=(LAYER,),
                diff_ids=(LAYER,),
                layer_blobs=(BLOB,),
                manifest=BLOB,
                tags=("image:latest",),
            )
        )
    state.kernel = kernel
    root = base / "root"
    root.mkdir(exist_ok=True)
    return World(
        runtime=FakeRuntime(kernel),
        content=FakeContent(),
        layers=FakeLayers(kernel, root),
        volumes=FakeVolumes(kernel, base / "volumes"),
        files=FakeFiles(),
        network=FakeNetwork(kernel),
        keeper=FakeKeeper(kernel),
        registry=FakeRegistry(),
        repositories=GitProgram(),
        state=state,
        clock=ManualClock(1000.0),
        processes=FakeProcesses(boot_id),
        host=HostFacts(boot_id=boot_id, data_root=base / "data", run_root=base / "run", cpus=2),
    )


Check = Callable[[], bool]
