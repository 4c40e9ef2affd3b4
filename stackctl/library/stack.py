"""Stack and its services, from a program: up, ports, logs, exec, down.

    with Stack("stack.yaml") as stack:
        host, port = stack.service("db").port(5432)

Every call blocks; ``aio`` has the same for asyncio. Failures are kinds of ``stackctl.errors``.
"""

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from stackctl.errors import (
    DeadlineError,
    InterruptedByUserError,
    InvalidInputError,
    NotFoundError,
    StackctlError,
)
from stackctl.frozen import frozen
from stackctl.library.root import Given, Machine, read
from stackctl.orchestrator.apply import lease as leases
from stackctl.orchestrator.apply.contract import Engine, LogStream
from stackctl.orchestrator.apply.executor import execute
from stackctl.orchestrator.apply.inputs import read_inputs
from stackctl.orchestrator.apply.lock import project_lock
from stackctl.orchestrator.apply.observe import observe, relieves
from stackctl.orchestrator.model.stack import Stack as Model
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.destroy import destroy
from stackctl.orchestrator.planning.options import DestroyOptions, Options
from stackctl.orchestrator.planning.plan import BuildImage, Plan
from stackctl.orchestrator.planning.reconcile import reconcile
from stackctl.values import Json, JsonObject

_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class Address(NamedTuple):
    """Where a published port is reached: unpack it, or format it as ``host:port``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class Completed:
    """What a command in a container gave."""

    exit_code: int
    stdout: str
    stderr: str


class Stack:
    """A stack of containers that a program owns.

    ``file`` is a stack file's path or several to merge (none: found as the command line does); ``yaml`` its text
    instead, relative paths starting from ``directory``. By default it is a *copy* (``isolate``): a unique name, free
    host ports, networks and volumes of its own, so that any number run beside one another; ``project`` names it. With
    ``isolate=False`` it is the stack itself, as ``stackctl up`` sees it.

    ``lease`` ties it to this process: when that is gone, even by kill -9, the engine removes the stack. None means
    where the engine keeps leases (the built-in one does), True raises UnsupportedError elsewhere; a number is that
    process's.

    ``environment`` are further variables for interpolation, ``profiles`` those to switch on, ``engine`` as --engine.
    Used as a context manager it comes up, healthy, and goes with its volumes. Reading mistakes in the file raises
    StackFileError at once; nothing reaches the engine before ``up``.
    """

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
        if yaml and file is not None:
            raise InvalidInputError("a stack comes from a file or from YAML text, not from both")
        given = Given(
            files=_paths(file),
            yaml=yaml,
            directory=os.fspath(directory),
            project=project,
            isolate=isolate,
            profiles=tuple(profiles),
            environment=dict(environment or {}),
            engine=engine,
        )
        found = read(given)
        self._model = found.stack
        self._original = found.original
        self._machine = Machine(given)
        self._lease = lease
        self._held = contextlib.ExitStack()
        self._lease_id = ""
        self._wait_timeout = wait_timeout
        self.notes = found.notes

    def __repr__(self) -> str:
        return f"<Stack {self.name}>"

    @property
    def name(self) -> str:
        """The name on the engine: ``stackctl -p NAME ps`` finds it."""
        return self._model.name

    @property
    def original(self) -> str:
        """The name of what it is a copy of; its own where it is none."""
        return self._original

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the active services."""
        return tuple(self._model.services)

    def service(self, name: str) -> "Service":
        """Return a service; raises NotFoundError for one that the stack does not have."""
        if name not in self._model.services and name not in self._model.disabled_services:
            import difflib

            near = difflib.get_close_matches(name, self._model.services, 1)
            hint = f'did you mean "{near[0]}"?' if near else f"it has: {', '.join(self.services)}"
            raise NotFoundError(f"stack {self._original} has no service {name}", hint=hint)
        return Service(self, name)

    # Life

    def up(self, *services: str, build: bool = False, pull: str = "") -> Self:
        """Bring the stack, or these services with what they need, up and wait until all is ready.

        May be called again: it brings back what is missing. What has been made stays when it fails; ``down`` removes it.
        """
        options = Options(
            services=services, build=build, pull=pull, wait=True, wait_timeout=self._wait_timeout
        )
        with _interrupts():
            self._build_once(options)
            with self._lock(self.name):
                plan = self._plan(replace(options, build=False))
                self._tie()
                self._apply(plan)
        return self

    def down(self, *, volumes: bool = True) -> None:
        """Remove its containers and networks, with ``volumes`` its data too; done twice it is done."""
        with _interrupts(), self._lock(self.name):
            options = DestroyOptions(volumes=volumes, remove_orphans=True)
            engine = self._machine.engine()
            plan = destroy(self.name, self._model, observe(engine, self.name), options)
            self._apply(plan)
            self._release()
            engine.close()

    def reset(self) -> None:
        """Make its data anew: services with volumes are stopped, their volumes removed and made again, and all comes up.

        Services without volumes go on. The others get the host ports that they had, so that addresses stay what they
        are; new ones where somebody was faster.
        """
        with _interrupts():
            with self._lock(self.name):
                keep = {item.name for item in self._model.volumes.values() if item.external}
                users = {
                    str(_labels(entry).get(labels.SERVICE))
                    for entry in self._containers()
                    if _volumes(entry) - keep
                }
                before = self._model
                if users:
                    self._model = _with_ports(before, self._containers(), users)
                    options = DestroyOptions(services=tuple(sorted(users)), volumes=True, timeout=0)
                    observed = observe(self._machine.engine(), self.name)
                    self._apply(destroy(self.name, before, observed, options))
            try:
                self.up()
            except StackctlError:
                if self._model is before:
                    raise
                # Somebody may have one of the ports by now.
                self._model = before
                self.up()

    def __enter__(self) -> Self:
        try:
            return self.up()
        except BaseException as error:
            with contextlib.suppress(StackctlError):
                for name, text in self.logs(tail=50).items():
                    error.add_note(f"--- logs of {name}\n{text}")
            with contextlib.suppress(StackctlError):
                self.down()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def logs(self, *, tail: int | None = None, since: float = 0.0) -> dict[str, str]:
        """Return what every container has said, by service and number: ``{"db-1": …}``."""
        return {
            f"{_labels(entry).get(labels.SERVICE)}-{_number(entry)}": self._log(
                str(entry["Id"]), tail=tail, since=since
            )
            for entry in self._containers()
        }

    # Inside

    def _lock(self, name: str) -> contextlib.AbstractContextManager[None]:
        return project_lock(name, self._machine.locks())

    def _plan(self, options: Options) -> Plan:
        inputs = read_inputs(self._model, self._machine.key())
        engine = self._machine.engine()
        observed = observe(engine, self.name)
        options = replace(options, relieves=relieves(engine, self._model))
        return reconcile(self._model, observed, options, inputs=inputs)

    def _apply(self, plan: Plan) -> None:
        execute(plan, self._machine.engine(), stack=self._model, key=self._machine.key())

    def _build_once(self, options: Options) -> None:
        """Build under the lock of the stack itself: of many copies that start at once, one builds."""
        if not any(service.build for service in self._model.services.values()):
            return
        with self._lock(self._original):
            plan = self._plan(options)
            builds = {item.id: item for item in plan if isinstance(item.action, BuildImage)}
            operations = tuple(
                replace(item, after=tuple(key for key in item.after if key in builds))
                for item in builds.values()
            )
            self._apply(Plan(stack=self.name, operations=operations))

    def _tie(self) -> None:
        engine = self._machine.engine()
        if self._lease is False or self._lease_id:
            return
        if self._lease is not None:
            leases.check(engine, "lease=True")
        elif not engine.offers(leases.FEATURE):
            return
        ours = self._lease is None or self._lease is True
        owner = leases.Owner(pid=os.getpid() if ours else int(self._lease or 0), ours=ours)
        self._lease_id = leases.tie(engine, self._model, owner, held=self._held)

    def _release(self) -> None:
        if self._lease_id:
            engine = self._machine.engine()
            engine.create_under("", _no_order)
            engine.release_lease(self._lease_id)
            self._lease_id = ""
            self._held.close()

    def _containers(self, service: str = "") -> list[JsonObject]:
        wanted = [f"{labels.PROJECT}={self.name}", f"{labels.ONEOFF}=False"]
        if service:
            wanted.append(f"{labels.SERVICE}={service}")
        found = self._machine.engine().list_containers(everything=True, filters={"label": wanted})
        return sorted(
            found, key=lambda entry: (str(_labels(entry).get(labels.SERVICE)), _number(entry))
        )

    def _log(self, container: str, *, tail: int | None = None, since: float = 0.0) -> str:
        engine = self._machine.engine()
        stream = engine.logs(
            container,
            tail="all" if tail is None else str(tail),
            since=f"{since:.9f}" if since else "",
            terminal=_is_tty(engine.inspect_container(container)),
        )
        return b"".join(data for _, data in stream).decode(errors="replace")


class Service:
    """One service of a stack; where it has several replicas, ``index`` chooses one."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._stack = stack
        self.name = name

    def __repr__(self) -> str:
        return f"<Service {self.name} of {self._stack.name}>"

    def port(self, target: int, *, protocol: str = "tcp", index: int = 1) -> Address:
        """Return where a published port is reached; raises NotFoundError when it is not published or not up."""
        entry = self._container(index)
        found = entry.get("Ports")
        ports = (
            [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
        )
        mine = [
            item
            for item in ports
            if item.get("PrivatePort") == target
            and item.get("Type", "tcp") == protocol
            and item.get("PublicPort")
        ]
        if not mine:
            raise NotFoundError(
                f"service {self.name} does not publish {target}/{protocol}",
                hint=f'publish it in the stack file: ports: ["{target}"]; a stopped service has no ports',
            )
        first = min(mine, key=lambda item: ":" in str(item.get("IP")))
        address = str(first.get("IP") or "")
        remote = self._stack._machine.remote_host  # noqa: SLF001 - the other half of one thing
        host = remote if remote and address in _ANYWHERE else _ANYWHERE.get(address, address)
        return Address(host, int(str(first["PublicPort"])))

    def logs(self, *, tail: int | None = None, since: float = 0.0, index: int = 1) -> str:
        """Return what it has said on both streams; ``since`` in seconds since the epoch."""
        identity = str(self._container(index)["Id"])
        return self._stack._log(identity, tail=tail, since=since)  # noqa: SLF001 - as above

    def wait_for_log(self, pattern: str, *, timeout: float = 60.0, index: int = 1) -> str:
        """Return the first line, from its start on, in which a regular expression is found.

        Raises DeadlineError after ``timeout`` seconds, or when it ended without saying so; with its last lines.
        """
        try:
            wanted = re.compile(pattern)
        except re.error as error:
            raise InvalidInputError(f"{pattern!r} is no regular expression: {error}") from error
        engine = self._engine()
        identity = str(self._container(index)["Id"])
        terminal = _is_tty(engine.inspect_container(identity))
        stream = engine.logs(identity, follow=True, terminal=terminal)
        late = threading.Timer(timeout, stream.close)
        late.daemon = True
        late.start()
        said: list[str] = []
        try:
            for line in _lines(stream):
                said.append(line)
                if wanted.search(line):
                    return line
        finally:
            late.cancel()
            stream.close()
        last = "\n".join(f"    {line}" for line in said[-10:])
        raise DeadlineError(
            f"service {self.name} did not say {pattern!r} within {timeout:g} s"
            f"{f'; it said last:{chr(10)}{last}' if last else '; it said nothing'}"
        )

    def exec(
        self,
        *argv: str,
        user: str = "",
        workdir: str = "",
        environment: Mapping[str, str] | None = None,
        check: bool = True,
        index: int = 1,
    ) -> Completed:
        """Run a command in its container; with ``check`` raise StackctlError when its exit code is not 0."""
        if not argv:
            raise InvalidInputError(f"exec in {self.name}: there is no command")
        engine = self._engine()
        variables: list[Json] = [f"{key}={value}" for key, value in (environment or {}).items()]
        body: JsonObject = {
            "Cmd": list[Json](argv),
            "User": user,
            "WorkingDir": workdir,
            "Env": variables,
            "AttachStdout": True,
            "AttachStderr": True,
        }
        identity = engine.create_exec(str(self._container(index)["Id"]), body)
        output: dict[int, list[bytes]] = {1: [], 2: []}
        for stream, data in engine.start_exec(identity):
            output[stream].append(data)
        code = engine.inspect_exec(identity).get("ExitCode")
        done = Completed(
            exit_code=code if isinstance(code, int) else -1,
            stdout=b"".join(output[1]).decode(errors="replace"),
            stderr=b"".join(output[2]).decode(errors="replace"),
        )
        if check and done.exit_code:
            said = (done.stderr or done.stdout).strip()[-2000:]
            raise StackctlError(
                f"service {self.name}: {' '.join(argv)} exited with code {done.exit_code}"
                f"{f': {said}' if said else ''}"
            )
        return done

    def inspect(self, *, index: int = 1) -> JsonObject:
        """Return all that the engine knows of its container."""
        return self._engine().inspect_container(str(self._container(index)["Id"]))

    def stop(self, *, timeout: float | None = None, index: int = 1) -> None:
        """Stop its container; ``start`` brings it back, with its data."""
        self._engine().stop_container(str(self._container(index)["Id"]), timeout=timeout)

    def start(self, *, index: int = 1) -> None:
        """Start its container."""
        self._engine().start_container(str(self._container(index)["Id"]))

    def restart(self, *, timeout: float | None = None, index: int = 1) -> None:
        """Stop and start its container."""
        self._engine().restart_container(str(self._container(index)["Id"]), timeout=timeout)

    def kill(self, signal: str = "SIGKILL", *, index: int = 1) -> None:
        """Send a signal to its container."""
        self._engine().kill_container(str(self._container(index)["Id"]), signal=signal)

    def _engine(self) -> Engine:
        return self._stack._machine.engine()  # noqa: SLF001 - as above

    def _container(self, index: int) -> JsonObject:
        for entry in self._stack._containers(self.name):  # noqa: SLF001 - as above
            if _number(entry) == index:
                return entry
        replica = f" number {index}" if index != 1 else ""
        raise NotFoundError(
            f"service {self.name} has no container{replica}", hint="bring the stack up first"
        )


def remove(name: str, *, engine: str = "", volumes: bool = True) -> None:
    """Remove what there is of a stack, by its name alone; success when there is nothing."""
    machine = Machine(Given(engine=engine))
    client = machine.engine()
    with _interrupts(), project_lock(name, machine.locks()):
        plan = destroy(name, None, observe(client, name), DestroyOptions(volumes=volumes))
        execute(plan, client, stack=None)
    client.close()


def _with_ports(model: Model, entries: Sequence[JsonObject], names: set[str]) -> Model:
    """Return the stack with the host ports that containers have, for these services where they have one container."""
    had: dict[tuple[str, int, str], str] = {}
    for entry in entries:
        found = entry.get("Ports")
        for item in found if isinstance(found, list) else ():
            if isinstance(item, dict) and item.get("PublicPort"):
                target, protocol = int(str(item.get("PrivatePort"))), str(item.get("Type", "tcp"))
                key = (str(_labels(entry).get(labels.SERVICE)), target, protocol)
                had.setdefault(key, str(item["PublicPort"]))
    services = {
        name: service
        if service.scale != 1 or name not in names
        else replace(
            service,
            ports=tuple(
                replace(port, published=had.get((name, port.target, port.protocol), ""))
                if not port.published
                else port
                for port in service.ports
            ),
        )
        for name, service in model.services.items()
    }
    return replace(model, services=services)


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """Give the program the KeyboardInterrupt that it knows."""
    try:
        yield
    except InterruptedByUserError as error:
        raise KeyboardInterrupt from error


def _paths(
    file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None,
) -> tuple[str, ...]:
    if file is None:
        return ()
    several = [file] if isinstance(file, str | os.PathLike) else file
    paths = tuple(os.fspath(one) for one in several)
    for path in paths:
        if "\n" in path:
            raise InvalidInputError(
                "the stack file's path holds line breaks", hint="YAML text goes to yaml="
            )
    return tuple(str(Path(path).absolute()) for path in paths)


def _lines(stream: LogStream) -> Iterator[str]:
    held: dict[int, bytes] = {}
    for number, data in stream:
        *whole, held[number] = (held.get(number, b"") + data).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
    for rest in held.values():
        if rest:
            yield rest.decode(errors="replace")


def _labels(entry: JsonObject) -> JsonObject:
    found = entry.get("Labels")
    return found if isinstance(found, dict) else {}


def _number(entry: JsonObject) -> int:
    text = str(_labels(entry).get(labels.NUMBER, "1"))
    return int(text) if text.isdigit() else 1


def _volumes(entry: JsonObject) -> set[str]:
    found = entry.get("Mounts")
    mounts = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    return {str(item.get("Name")) for item in mounts if item.get("Type") == "volume"}


def _is_tty(about: JsonObject) -> bool:
    config = about.get("Config")
    return isinstance(config, dict) and config.get("Tty") is True


def _no_order(_kind: str, _body: JsonObject) -> int:
    return 0
