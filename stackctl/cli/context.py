"""What every command shares; the composition root of the client half.

Here alone the environment is read, the engine chosen and the phases joined: stack file, plan, apply. Everything heavy
is imported where it is used, since the command line is judged by its start-up.
"""

import contextlib
import functools
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stackctl.cli.agentdesk import AgentDesk
from stackctl.cli.naming import checked, guess, is_true, with_twins
from stackctl.cli.render.containers import Listed, listed
from stackctl.errors import (
    ConflictError,
    InterruptedByUserError,
    InvalidInputError,
    NotFoundError,
    StackctlError,
    StackFileError,
)
from stackctl.frozen import frozen
from stackctl.paths import EnginePaths, engine_paths, with_settings

if TYPE_CHECKING:
    from stackctl.cli.planfile import Kept
    from stackctl.cli.planned import DownRequest, OneOff, UpRequest
    from stackctl.cli.trace import Span
    from stackctl.client.endpoints import Daemon, Endpoint
    from stackctl.client.engine import EngineClient
    from stackctl.host.process import Detached
    from stackctl.orchestrator.apply.lease import Owner
    from stackctl.orchestrator.apply.progress import OnEvent
    from stackctl.orchestrator.model.stack import Stack
    from stackctl.orchestrator.planning.plan import Plan
    from stackctl.orchestrator.stackfile.load import Loaded
    from stackctl.orchestrator.watch.changes import DirectoryEvents

PROJECT_LABEL = "com.docker.compose.project"
ONEOFF_LABEL = "com.docker.compose.oneoff"


@frozen
class GlobalOptions:
    """The options before the command."""

    files: tuple[str, ...] = ()
    project_name: str = ""
    project_directory: str = ""
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    engine: str = ""
    ansi: str = "auto"
    progress: str = "auto"
    parallel: int = 0
    dry_run: bool = False
    all_resources: bool = False
    compatibility: bool = False


class Session:
    """One command: its options, its engine, its output."""

    def __init__(self, options: GlobalOptions, *, quiet: bool = False) -> None:
        self.options = options
        self.quiet = quiet or options.progress == "quiet"
        self.environ: Mapping[str, str] = with_twins(os.environ)
        self.quiet_pull = False
        self.quiet_build = False
        self.trace = ""
        self.spans: list[Span] = []
        self.copy_of = ""
        self.lease: Owner | None = None
        self.goes_with_us = False
        self.on_event: OnEvent | None = None
        self._held = contextlib.ExitStack()
        self._kept: Kept | None = None

    @classmethod
    def of(cls, ctx: Any, *, quiet: bool = False) -> "Session":  # noqa: ANN401
        options = ctx.find_object(GlobalOptions) or GlobalOptions()
        return cls(options, quiet=quiet)

    def variant(self, **options: Any) -> "Session":  # noqa: ANN401 - fields of GlobalOptions
        """Return a session like this one with other options."""
        made = Session(replace(self.options, **options), quiet=self.quiet)
        made.quiet_pull, made.quiet_build, made.trace = (
            self.quiet_pull, self.quiet_build, self.trace,
        )  # fmt: skip
        made.copy_of = self.copy_of
        return made

    # Output

    @property
    def colour(self) -> bool:
        """Whether standard output takes colours."""
        return self._colour(sys.stdout)

    def _colour(self, stream: Any) -> bool:  # noqa: ANN401
        if self.options.ansi != "auto":
            return self.options.ansi == "always"
        return bool(stream.isatty()) and not self.environ.get("NO_COLOR")

    def out(self, text: str) -> None:
        """Print what was asked for."""
        sys.stdout.write(text)

    def note(self, text: str) -> None:
        """Say what happened, on standard error, unless told to be quiet."""
        if not self.quiet:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def did(self, text: str) -> None:
        """Say what was done; nothing was in a dry run."""
        if not self.options.dry_run:
            self.note(text)

    def warn(self, text: str) -> None:
        yellow, end = ("\033[33m", "\033[0m") if self._colour(sys.stderr) else ("", "")
        sys.stderr.write(f"{yellow}warning:{end} {text}\n")

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Note how long something took, for the trace where one is asked for."""
        start = time.monotonic()
        yield
        if self.trace:
            from stackctl.cli.trace import Span

            self.spans.append(Span(name=name, start=start, end=time.monotonic()))

    # The stack file

    def load(
        self,
        services: Sequence[str] = (),
        *,
        interpolate: bool = True,
        normalize: bool = True,
        resolve_paths: bool = True,
        consistency: bool = True,
        resolve_environment: bool = True,
        all_resources: bool = False,
        with_dependencies: bool = True,
        strict: bool = False,
        files: Sequence[str] = (),
        warn: bool = True,
    ) -> "Loaded":
        """Read the stack file, or other ``files``; raises StackFileError with every mistake."""
        from stackctl.orchestrator.stackfile.load import LoadOptions, load

        options = self.options
        if options.project_name == "auto":
            _ = self.given_name  # says so
        loaded = load(
            LoadOptions(
                environ=self.environ,
                cwd=str(Path.cwd()),
                files=files or options.files,
                project_name=options.project_name,
                project_directory=options.project_directory,
                env_files=options.env_files,
                profiles=options.profiles,
                services=services,
                with_dependencies=with_dependencies,
                stdin=_stdin,
                interpolate=interpolate,
                normalize=normalize,
                resolve_paths=resolve_paths,
                consistency=consistency,
                resolve_environment=resolve_environment,
                all_resources=all_resources or options.all_resources,
                strict=strict,
            )
        )
        if warn:
            for text in loaded.warnings:
                self.warn(text)
        return loaded

    def stack_to_start(self, services: Sequence[str], *, no_deps: bool = False) -> "Stack":
        """Return the stack as ``stack`` does, after refusing what cannot work among the services to be started.

        Raises StackFileError for host ports claimed twice, addresses outside their subnet and the like.
        """
        with self._timed("read the stack file"):
            loaded = self.load(warn=False)
        if loaded.doubts or any(name not in loaded.stack.services for name in services):
            self.load(services, with_dependencies=not no_deps, strict=True, warn=False)
        return self.stack(services, loaded=loaded)

    def stack(
        self,
        services: Sequence[str] = (),
        *,
        also_inactive: bool = False,
        loaded: "Loaded | None" = None,
    ) -> "Stack":
        """Return the stack, all its active services; those named switch their profiles on."""
        if loaded is None:
            with self._timed("read the stack file"):
                loaded = self.load(warn=False)
        for text in loaded.warnings:
            self.warn(text)
        missing = [name for name in services if name not in loaded.stack.services]
        if missing or also_inactive:
            # Naming a service switches its profiles on.
            profiles = {
                profile
                for name in missing
                if name in loaded.stack.disabled_services
                for profile in loaded.stack.disabled_services[name].profiles
            }
            if profiles:
                widened = self.variant(profiles=(*loaded.profiles, *sorted(profiles)))
                loaded = widened.load(warn=False)
        return self._copied(self._named_as_asked(loaded.stack))

    def _copied(self, stack: "Stack") -> "Stack":
        """Return the stack as this session's copy of it, where it makes one."""
        if not self.copy_of:
            return stack
        from stackctl.orchestrator.planning.isolation import isolate

        copy = isolate(stack, self.copy_of)
        for text in copy.notes:
            self.note(text)
        return copy.stack

    def tie(self, stack: "Stack") -> None:
        """Put the stack under the lease that was asked for, if one was."""
        if self.lease is None:
            return
        from stackctl.orchestrator.apply import lease

        lease.tie(self._started, stack, self.lease, held=self._held)
        self.goes_with_us = self.lease.ours
        self.lease = None

    def project(self) -> str:
        """Return the stack's name; with -p the stack file need not be there, and is never read."""
        return self._project

    @cached_property
    def _project(self) -> str:
        given = self.given_name
        if given:
            return given
        options = self.options
        found = guess(
            self.environ,
            Path.cwd(),
            files=options.files,
            directory=options.project_directory,
            env_files=options.env_files,
        )
        return found or self.load(warn=False).name

    @property
    def given_name(self) -> str:
        """The stack's name where the command line or a variable gives it; raises InvalidInputError."""
        given = self.options.project_name or self.environ.get("COMPOSE_PROJECT_NAME", "")
        if self.options.project_name == "auto":
            raise InvalidInputError(
                "-p auto makes a new copy of the stack each time, so up and test alone take it",
                hint="name the copy: -p with the name that up printed; stackctl ls lists them",
            )
        return checked(given) if given else ""

    def flag(self, variable: str) -> bool:
        """Tell whether a variable of the environment switches something on."""
        return is_true(self.environ.get(variable, ""))

    def dump(self, loaded: "Loaded", layout: str, *, escape: bool = True) -> str:
        """Return the resolved stack as YAML or JSON."""
        from stackctl.orchestrator.stackfile import dump

        write = dump.to_json if layout == "json" else dump.to_yaml
        return write(loaded, escape=escape)

    def image_names(self, stack: "Stack") -> list[str]:
        """Return the image of every service."""
        from stackctl.orchestrator.planning.fingerprint import image_name

        return list(dict.fromkeys(image_name(stack, one) for one in stack.services))

    def profile_names(self, stack: "Stack") -> list[str]:
        """Return every profile that a service names."""
        every = [*stack.services.values(), *stack.disabled_services.values()]
        return sorted({profile for service in every for profile in service.profiles})

    # The engine

    def paths(self) -> EnginePaths:
        """Return the built-in engine's places."""
        return engine_paths(with_settings(self.environ, uid=os.getuid()), uid=os.getuid())

    def daemon(self) -> "Daemon":
        """Return the built-in engine's daemon as something to start and stop."""
        from stackctl.client.endpoints import Daemon

        return Daemon(self.paths(), self.environ, note=self.note)

    @cached_property
    def _endpoint(self) -> "Endpoint":
        from stackctl.client.endpoints import choose

        return choose(self.options.engine, self.environ, uid=os.getuid())

    @property
    def is_builtin(self) -> bool:
        """Whether the engine that was chosen is the built-in one."""
        return self._endpoint.builtin

    def address(self) -> str:
        """Return the URL of the engine that was chosen."""
        return self._endpoint.address

    def engine(self, *, start: bool = True) -> "EngineClient":
        """Return the engine, starting the built-in one when it is the chosen one and does not run."""
        return self._client if not start else self._started

    @cached_property
    def _started(self) -> "EngineClient":
        if self._endpoint.builtin:
            self.daemon().ensure()
        if self.options.dry_run:
            from stackctl.cli.rehearsal import rehearsal

            return rehearsal(self._client, self.note)
        return self._client

    @cached_property
    def _client(self) -> "EngineClient":
        from stackctl.client.engine import EngineClient

        return EngineClient(self._endpoint, environ=self.environ)

    def credentials(self) -> ModuleType:
        """Return what keeps logins to registries."""
        from stackctl.client import credentials

        return credentials

    # Containers

    def all_containers(
        self, *, every: bool, filters: Sequence[str] = (), start: bool = True
    ) -> list[Listed]:
        """Return the engine's containers, those with all the labels given."""
        found = self.engine(start=start).list_containers(
            everything=every, filters={"label": list(filters)} if filters else None
        )
        return [listed(entry) for entry in found]

    def containers(
        self, services: Iterable[str], *, every: bool, one_off: bool = False, start: bool = True
    ) -> list[Listed]:
        """Return the stack's containers, those of ``run`` on request, in the order of services and numbers.

        Raises NotFoundError for a service that neither has containers nor stands in the stack file.
        """
        found = [
            one
            for one in self.all_containers(
                every=True, filters=[f"{PROJECT_LABEL}={self.project()}"], start=start
            )
            if one_off or one.labels.get(ONEOFF_LABEL, "False") != "True"
        ]
        wanted = list(services)
        for name in wanted:
            if not any(one.service == name for one in found):
                self._check_service(name, found)
        return sorted(
            (
                one
                for one in found
                if (not wanted or one.service in wanted)
                and (every or one.state in ("running", "paused", "restarting"))
            ),
            key=lambda one: (one.service, one.number),
        )

    def _check_service(self, name: str, found: Sequence[Listed]) -> None:
        known = {one.service for one in found}
        stack = None if self.given_name else self.stack_or_none(self.project())
        if stack is not None:
            known |= {*stack.services, *stack.disabled_services}
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, 1)
            hint = f'did you mean "{near[0]}"?' if near else f"it has: {', '.join(sorted(known))}"
            raise NotFoundError(f"stack {self.project()} has no service {name}", hint=hint)

    def container(self, service: str, *, index: int = 0, running: bool = True) -> Listed:
        """Return one container of a service, running or (on request) not; raises NotFoundError, ConflictError."""
        found = self.containers([service], every=True)
        chosen = [one for one in found if not index or one.number == index]
        if chosen and not running:
            return chosen[0]
        alive = [one for one in chosen if one.state in ("running", "paused", "restarting")]
        if alive:
            return alive[0]
        if chosen:
            raise ConflictError(
                f"service {service} is not running ({chosen[0].name}: {chosen[0].status})",
                hint=f"stackctl up -d {service}; stackctl logs {service} shows what it said",
            )
        replica = f" number {index}" if index else ""
        raise NotFoundError(
            f"service {service} has no container{replica}", hint=f"stackctl up -d {service}"
        )

    def instant(self, text: str) -> str:
        """Return a time option as the API takes it: seconds since the epoch, or "" for none."""
        if not text:
            return ""
        from stackctl.units import parse_duration

        if text[-1:].isdigit() and ("T" in text or "-" in text):
            return _timestamp(text)
        if text.replace(".", "", 1).isdigit():
            return text
        with contextlib.suppress(InvalidInputError):
            return f"{time.time() - parse_duration(text):.9f}"
        return _timestamp(text)

    # Plans

    @contextlib.contextmanager
    def lock(self, project: str) -> Iterator[None]:
        """Let one command at a time change a stack."""
        from stackctl.orchestrator.apply.lock import project_lock

        with project_lock(project, self._lock_folder(), waiting=self._say_waiting):
            yield

    def _lock_folder(self) -> Path:
        from stackctl.orchestrator.apply.lock import lock_folder

        return lock_folder(self.paths().run_root, self.environ, uid=os.getuid())

    # Agents

    @cached_property
    def agents(self) -> AgentDesk:
        """The agents that keep stacks true to their files."""
        return AgentDesk(self, self._lock_folder().parent / "agents")

    def spawn_detached(
        self, argv: Sequence[str], *, log: Path, env: Mapping[str, str]
    ) -> "Detached":
        """Start a program that goes on when this one ends."""
        from stackctl.host import process

        return process.spawn_detached(argv, log=log, env=env)

    def leave_cgroups(self) -> None:
        """Take this process out of the control groups of whoever started it."""
        from stackctl.host import cgroup

        cgroup.leave()

    def _say_waiting(self, project: str) -> None:
        self.note(f"another command is changing {project}; waiting for it")

    def keep_to(self, path: str, *, given: "UpRequest") -> "UpRequest":
        """Let plans be the one kept in a file, or be refused; return the request that it was made for."""
        from stackctl.cli import planfile
        from stackctl.cli.planned import UpRequest

        # What --wait and COMPOSE_REMOVE_ORPHANS say is no part of what was reviewed.
        if given.services or given != UpRequest(remove_orphans=given.remove_orphans):
            raise InvalidInputError("--plan takes its services and flags from the file")
        self._kept = planfile.read(path)
        return self._kept.request

    def plan_up(self, stack: "Stack", request: "UpRequest", *, keep: str = "") -> "Plan":
        """Compare the stack with what is there; the plan is kept in a file where one is named.

        Raises ConflictError when it is not the plan to keep to.
        """
        from stackctl.cli import joining

        with self._timed("reach the engine"):
            engine = self.engine()
        with self._timed("look and plan"):
            plan = joining.plan_up(engine, stack, request, self.key(), keep=keep, kept=self._kept)
        if plan.orphans and not request.remove_orphans and not self.flag("COMPOSE_IGNORE_ORPHANS"):
            self.warn(
                f"not in the stack file any more: {', '.join(plan.orphans)}"
                " (--remove-orphans removes them)"
            )
        return plan

    def plan_down(self, request: "DownRequest") -> "Plan":
        """Compare nothing with what is there; the stack file is read when it can be."""
        from stackctl.cli import joining

        stack = None
        if not self.given_name:
            stack = self._named_as_asked(self.load(all_resources=True, warn=False).stack)
        else:
            stack = self.stack_or_none(self.project(), all_resources=True)
        return joining.plan_down(self.engine(), self.project(), stack, request)

    def apply(self, plan: "Plan", stack: "Stack | None") -> None:
        """Carry a plan out, showing its progress; a dry run prints it instead."""
        from stackctl.cli import joining

        if self.options.dry_run:
            from stackctl.cli.render import plan as render

            self.out(render.text(plan, colour=self.colour))
            return
        joining.apply(self, plan, stack)

    def agreed(self, plan: "Plan", *, yes: bool = False) -> "Plan":
        """Return the plan once the user agrees to lose the data that it destroys.

        Raises InvalidInputError without a terminal to ask on, InterruptedByUserError at a no.
        """
        if not plan.destroys_data or yes or self.options.dry_run:
            return plan
        doomed = [item for item in plan if item.destroys_data]
        names = ", ".join(item.action.name for item in doomed)
        reasons = "\n".join(str(item) for item in doomed)
        if not sys.stdin.isatty():
            raise InvalidInputError(
                f"this would remove data: {names}\n{reasons}",
                hint="-y agrees to it; stackctl plan shows everything",
            )
        sys.stderr.write(f"{reasons}\nRemove {names} and the data in it? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise InterruptedByUserError("nothing was changed")
        return plan

    def with_dependencies(
        self, stack: "Stack", services: tuple[str, ...], also: bool
    ) -> tuple[str, ...]:
        """Return the services named (all where none is), with what they depend on where asked for."""
        from stackctl.orchestrator.planning.selection import select

        return tuple(select(stack, services, with_dependencies=also))

    def push(self, stack: "Stack", services: Sequence[str], *, ignore_failures: bool) -> None:
        """Push the images that services build."""
        from stackctl.cli.render.progress import PullLines

        for name in services:
            service = stack.services[name]
            if service.build is None:
                continue
            if not service.image:
                self.note(f"{name}: passed over, since its image has no name of its own")
                continue
            for reference in dict.fromkeys((service.image, *service.build.tags)):
                lines = PullLines(reference, quiet=self.quiet, live=self.live, verb="push")
                try:
                    self.engine().push_image(reference, on_progress=lines.tell)
                except StackctlError as error:
                    if not ignore_failures:
                        raise
                    self.warn(f"{name}: cannot push {reference}: {error}")
                    continue
                lines.done()

    def start_containers(self, project: str, services: tuple[str, ...]) -> None:
        """Start what is stopped, dependencies first."""
        from stackctl.cli import joining

        joining.start(self, project, services)

    def stop_containers(
        self, project: str, services: tuple[str, ...], *, timeout: int | None
    ) -> None:
        """Stop what runs, dependents first."""
        from stackctl.cli import joining

        joining.stop(self, project, services, timeout)

    def kill_containers(
        self, project: str, services: tuple[str, ...], signal: str = "SIGKILL"
    ) -> None:
        """Send a signal to what runs."""
        self.agents.warn_of(project)
        engine = self.engine()
        for one in self.containers(services, every=False):
            with contextlib.suppress(ConflictError, NotFoundError):
                engine.kill_container(one.id, signal=signal)
                self.did(f"killed {one.name}")

    def prepare_one_off(self, stack: "Stack", request: "UpRequest") -> None:
        """Bring up what a one-off container of a service needs: image, networks, volumes, dependencies."""
        from stackctl.cli import joining

        joining.prepare_one_off(self, stack, request)

    def create_one_off(self, stack: "Stack", request: "OneOff") -> str:
        """Create the container of ``run`` and return its ID."""
        from stackctl.cli import joining

        return joining.create_one_off(self, stack, request)

    def build(
        self,
        stack: "Stack",
        services: Sequence[str],
        *,
        no_cache: bool,
        pull: bool,
        args: Mapping[str, str | None],
        ssh: Mapping[str, str] | None = None,
        output: Mapping[str, str] | None = None,
        asked: Mapping[str, str] | None = None,
    ) -> None:
        """Build the images of services, ``ssh`` being agents and keys by ID; with ``output`` (type, path) the files of one go there."""
        from stackctl.cli import joining

        joining.build(
            self,
            stack,
            services,
            no_cache=no_cache,
            pull=pull,
            args=args,
            ssh=ssh or {},
            output=output or {},
            asked=asked or {},
        )

    def has_image(self, reference: str) -> bool:
        """Tell whether the engine has an image."""
        try:
            self.engine().inspect_image(reference)
        except NotFoundError:
            return False
        return True

    def directory_events(self) -> "DirectoryEvents":
        """Return what tells of changes in directories; raises HostError."""
        if os.uname().sysname == "Linux":
            from stackctl.host.inotify import DirectoryEvents as Kernel

            return Kernel()
        from stackctl.orchestrator.watch.portable import AnyChange

        return AnyChange()

    def pull(self, reference: str) -> None:
        """Pull an image, showing its progress."""
        from stackctl.cli.render.progress import PullLines

        lines = PullLines(reference, quiet=self.quiet, live=self.live)
        self.engine().pull_image(reference, on_progress=lines.tell)
        lines.done()

    def remove_everything(self) -> None:
        """Remove every container and every network made by users."""
        engine = self.engine()
        for one in self.all_containers(every=True):
            with contextlib.suppress(NotFoundError):
                engine.remove_container(one.id, force=True, volumes=True)
        for network in engine.list_networks():
            if network.get("Name") not in ("bridge", "host", "none"):
                with contextlib.suppress(NotFoundError):
                    engine.remove_network(str(network.get("Id")))

    def stack_or_none(self, project: str, *, all_resources: bool = False) -> "Stack | None":
        """Return the stack of that name when its file is at hand."""
        try:
            stack = self.load(all_resources=all_resources, warn=False).stack
        except StackFileError as error:
            if not error.no_file:
                self.warn(f"the stack file is left aside, since it is wrong:\n{error}")
            return None
        return self._named_as_asked(stack) if stack.name == project else None

    def _named_as_asked(self, stack: "Stack") -> "Stack":
        if not (self.options.compatibility or self.flag("COMPOSE_COMPATIBILITY")):
            return stack
        from dataclasses import replace

        return replace(stack, separator="_")

    @property
    def progress_mode(self) -> str:
        """How progress is shown: live, plain, json or quiet."""
        if self.quiet:
            return "quiet"
        if self.options.progress == "json":
            return "json"
        return "live" if self.live else "plain"

    @property
    def colour_of_progress(self) -> bool:
        """Whether standard error takes colours."""
        return self._colour(sys.stderr)

    @property
    def live(self) -> bool:
        """Whether progress may redraw lines."""
        if self.options.progress in ("plain", "json", "quiet") or self.options.ansi == "never":
            return False
        return self.options.progress == "tty" or sys.stderr.isatty()

    def key(self) -> bytes:
        """Return the key that digests of secrets in labels are made with, from a file only its owner reads."""
        from stackctl.orchestrator.apply.lock import key_path, secret_key

        return secret_key(key_path(self.paths().data_root, self.environ, uid=os.getuid()))


@functools.cache
def _stdin() -> bytes:
    """Return what standard input holds; a stack file there may be loaded more than once."""
    return sys.stdin.buffer.read()


def _timestamp(text: str) -> str:
    from datetime import datetime

    try:
        return f"{datetime.fromisoformat(text).astimezone().timestamp():.9f}"
    except ValueError as error:
        raise InvalidInputError(
            f'"{text}" is neither a time nor a duration', hint="such as 2026-01-31T12:00:00 or 10m"
        ) from error
