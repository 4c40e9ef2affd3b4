"""Operation, Plan and the text and JSON forms of a plan.

A plan is one directed acyclic graph: every operation names those it comes ``after`` by their IDs, which stand earlier
in ``Plan.operations``. What an operation does is one frozen *action*; what it needs at run time (IDs of things that
earlier operations make) is looked up by name when it runs.

JSON form (``Plan.to_json``), ``format`` 1, described by schemas/plan.schema.json::

    {"format": 1, "stack": "shop", "destroys_data": false, "orphans": ["shop-old-1"], "warnings": [],
     "operations": [{"id": "create container shop-web-1", "verb": "create", "kind": "container",
                     "name": "shop-web-1", "service": "web", "after": ["create network shop_front"],
                     "when_changed": [], "destroys_data": false,
                     "cause": {"reason": "not there", "changes": [
                        {"field": "environment.LEVEL", "before": "info", "after": "debug"}]}}]}

An operation of verb ``update`` has ``update`` too: ``{"order": "start-first", "parallelism": 1, "delay": 0.0,
"monitor": 0.0, "failure_action": "rollback", "max_failure_ratio": 0.0}``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY
from stackctl.orchestrator.model.deploy import UpdateConfig
from stackctl.orchestrator.model.develop import Hook
from stackctl.orchestrator.model.ready import Ready
from stackctl.values import Json, JsonObject

FORMAT = 1


@frozen
class Change:
    """One field that differs; None where it is absent. Secret values are digests already."""

    field: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        before = "(none)" if self.before is None else self.before
        after = "(none)" if self.after is None else self.after
        return f"{self.field}: {before} -> {after}"


@frozen
class Cause:
    """Why an operation is needed."""

    reason: str
    changes: tuple[Change, ...] = ()


@frozen
class Action:
    """What an operation does; ``name`` is what it does it to, ``service`` the service concerned, if one.

    Without generated comparison and text in the kinds below: nobody compares actions, and generating them for twenty
    classes would be the dearest part of importing this module.
    """

    verb: ClassVar[str] = ""
    kind: ClassVar[str] = ""
    sign: ClassVar[str] = " "
    name: str
    service: str = ""


@frozen
class PullImage(Action):
    """Fetch ``name`` from its registry; a missing image may be built instead when ``build_fallback``.

    ``timed``: its pull policy counts from the last time, so the engine has to note that it was looked for even where
    it is the same as before.
    """

    verb: ClassVar[str] = "pull"
    kind: ClassVar[str] = "image"
    sign: ClassVar[str] = "+"
    platform: str = ""
    build_fallback: bool = False
    present: str = ""
    timed: bool = False


@frozen
class BuildImage(Action):
    """Build the image of ``service`` and tag it ``name``; ``present`` is the ID it has now, if any.

    ``output`` are pairs (type, path) that say where the files go besides, on an engine that offers that; ``asked`` what
    ``build`` was asked for beside it: "push", "platforms" ("all"), "memory" (bytes).
    """

    verb: ClassVar[str] = "build"
    kind: ClassVar[str] = "image"
    sign: ClassVar[str] = "+"
    present: str = ""
    pull: bool = False
    no_cache: bool = False
    output: tuple[tuple[str, str], ...] = ()
    asked: tuple[tuple[str, str], ...] = ()


@frozen
class RemoveImage(Action):
    """Remove the image ``name`` refers to."""

    verb: ClassVar[str] = "remove"
    kind: ClassVar[str] = "image"
    sign: ClassVar[str] = "-"


@frozen
class CreateNetwork(Action):
    """Create the network ``key`` of the stack file under ``name``."""

    verb: ClassVar[str] = "create"
    kind: ClassVar[str] = "network"
    sign: ClassVar[str] = "+"
    key: str


@frozen
class RemoveNetwork(Action):
    """Remove a network that nothing is in any more; ``keep_if_used``: others being in it is a warning only."""

    verb: ClassVar[str] = "remove"
    kind: ClassVar[str] = "network"
    sign: ClassVar[str] = "-"
    id: str
    keep_if_used: bool = False


@frozen
class ConnectNetwork(Action):
    """Connect container ``name`` to the network ``key`` of the stack file, called ``network``."""

    verb: ClassVar[str] = "connect"
    kind: ClassVar[str] = "container"
    sign: ClassVar[str] = "~"
    key: str
    network: str


@frozen
class DisconnectNetwork(Action):
    """Take container ``name`` out of ``network``."""

    verb: ClassVar[str] = "disconnect"
    kind: ClassVar[str] = "container"
    sign: ClassVar[str] = "~"
    id: str
    network: str


@frozen
class CreateVolume(Action):
    """Create the volume ``key`` of the stack file under ``name``."""

    verb: ClassVar[str] = "create"
    kind: ClassVar[str] = "volume"
    sign: ClassVar[str] = "+"
    key: str


@frozen
class RemoveVolume(Action):
    """Remove a volume and the data in it; ``keep_if_used``: others using it is a warning only."""

    verb: ClassVar[str] = "remove"
    kind: ClassVar[str] = "volume"
    sign: ClassVar[str] = "-"
    keep_if_used: bool = False


@frozen
class CreateContainer(Action):
    """Create replica ``number`` of ``service``, which will be called ``name``.

    While the container that it ``replaces`` (an ID) still has the name, it is called ``created_as``.
    ``inherited`` are the anonymous volumes it takes over: (path in the container, volume name).
    """

    verb: ClassVar[str] = "create"
    kind: ClassVar[str] = "container"
    sign: ClassVar[str] = "+"
    number: int
    created_as: str
    image: str
    replaces: str = ""
    inherited: tuple[tuple[str, str], ...] = ()


@frozen
class UpdateContainer(CreateContainer):
    """Exchange a replica that serves: create, start, wait until it is ready, and only then let the ``former`` go.

    ``order`` is ``start-first`` (the new container takes ports and names over when it is ready) or ``stop-first``;
    what fails is undone. ``delay`` seconds are waited first, ``timeout`` is how long stopping may take. ``prepares``:
    it is the first of its service, which runs what is run once for all. The former container stays, stopped, under
    the name ``created_as``.
    """

    verb: ClassVar[str] = "update"
    sign: ClassVar[str] = "±"
    former: str
    order: str
    strategy: UpdateConfig
    delay: float = 0.0
    timeout: float | None = None
    prepares: bool = False

    @property
    def failure_action(self) -> str:
        return self.strategy.failure_action or "pause"

    def manner(self) -> str:
        """Return how it is done, in words."""
        size = self.strategy.parallelism
        words = [
            self.order,
            "all at once" if size == 0 else f"{size or 1} at a time",
            f"{self.strategy.delay:g} s apart" if self.strategy.delay else "",
            f"watched for {self.strategy.monitor:g} s" if self.strategy.monitor else "",
            f"on failure {self.failure_action}",
        ]
        return ", ".join(word for word in words if word)


@frozen
class RenameContainer(Action):
    """Give the container called ``current`` its final ``name``."""

    verb: ClassVar[str] = "rename"
    kind: ClassVar[str] = "container"
    sign: ClassVar[str] = "~"
    current: str


@frozen
class ContainerAction(Action):
    """An action on one container: by ``id`` when it exists already, else by its ``name`` when its turn comes."""

    kind: ClassVar[str] = "container"
    sign: ClassVar[str] = "~"
    id: str = ""


@frozen
class StartContainer(ContainerAction):
    """Start a container."""

    verb: ClassVar[str] = "start"


@frozen
class StopContainer(ContainerAction):
    """Stop with ``signal`` and kill after ``timeout`` seconds; the container's own settings where not given."""

    verb: ClassVar[str] = "stop"
    timeout: float | None = None
    signal: str = ""


@frozen
class KillContainer(ContainerAction):
    """Send a signal to a container."""

    verb: ClassVar[str] = "kill"
    signal: str = "SIGKILL"


@frozen
class PauseContainer(ContainerAction):
    """Freeze a container."""

    verb: ClassVar[str] = "pause"


@frozen
class UnpauseContainer(ContainerAction):
    """Thaw a container."""

    verb: ClassVar[str] = "unpause"


@frozen
class RemoveContainer(ContainerAction):
    """Remove a container, with its anonymous volumes when ``volumes``, killing it when ``force``."""

    verb: ClassVar[str] = "remove"
    sign: ClassVar[str] = "-"
    volumes: bool = False
    force: bool = False


@frozen
class RunHook(ContainerAction):
    """Run a hook of the container: ``post_start`` or ``pre_stop`` inside it, ``pre_start`` beside it."""

    verb: ClassVar[str] = "run hook"
    point: str
    hook: Hook


@frozen
class WaitContainers(Action):
    """Wait until ``containers`` (names) of ``service`` are as ``condition`` says.

    Conditions: ``service_started``, ``service_healthy``, ``service_completed_successfully`` and ``ready`` (healthy
    where there is a healthcheck, else running; ``exit_ok``: having exited 0 is as good). ``ready``: the probes that
    must succeed as well, where the condition is no end. ``timeout`` in seconds, 0 for none. Not ``required``: a
    failure is a warning and what comes after goes on.
    """

    verb: ClassVar[str] = "wait"
    kind: ClassVar[str] = "service"
    containers: tuple[str, ...]
    condition: str
    required: bool = True
    exit_ok: bool = False
    ready: Ready | None = None
    timeout: float = 0.0


@frozen
class Operation:
    """One step of a plan.

    ``when_changed`` holds IDs of image operations: the step is passed over unless one of them gave another image
    than there was (a build or a pull whose result is not known beforehand).
    """

    id: str
    action: Action
    cause: Cause
    after: tuple[str, ...] = ()
    when_changed: tuple[str, ...] = ()

    @property
    def destroys_data(self) -> bool:
        return isinstance(self.action, RemoveVolume)

    def __str__(self) -> str:
        maybe = " (if the image changes)" if self.when_changed else ""
        text = f"{self.action.sign} {self.id}: {self.cause.reason}{maybe}"
        lines = [text, *(f"      {change}" for change in self.cause.changes)]
        if isinstance(self.action, UpdateContainer):
            lines.append(f"      {self.action.manner()}")
        return "\n".join(lines)

    def to_json(self) -> JsonObject:
        action = self.action
        changes: list[Json] = [
            {"field": change.field, "before": change.before, "after": change.after}
            for change in self.cause.changes
        ]
        form: JsonObject = {
            "id": self.id,
            "verb": action.verb,
            "kind": action.kind,
            "name": action.name,
            "service": action.service,
            "after": list(self.after),
            "when_changed": list(self.when_changed),
            "destroys_data": self.destroys_data,
            "cause": {"reason": self.cause.reason, "changes": changes},
        }
        if isinstance(action, UpdateContainer):
            form["update"] = {
                "order": action.order,
                "parallelism": 1
                if action.strategy.parallelism is None
                else action.strategy.parallelism,
                "delay": action.strategy.delay,
                "monitor": action.strategy.monitor,
                "failure_action": action.failure_action,
                "max_failure_ratio": action.strategy.max_failure_ratio,
            }
        return form


@frozen
class Plan:
    """What is to be done to a stack; empty when it is as asked for.

    ``orphans`` are the names of containers of services that the stack file no longer has, ``warnings`` what the user
    should know before.
    """

    stack: str
    operations: tuple[Operation, ...] = ()
    orphans: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def has_changes(self) -> bool:
        """Whether something would change; waiting alone changes nothing."""
        return any(not isinstance(item.action, WaitContainers) for item in self.operations)

    @property
    def destroys_data(self) -> bool:
        return any(item.destroys_data for item in self.operations)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    def __str__(self) -> str:
        return "\n".join(map(str, self.operations))

    def order(self) -> str:
        """Return the operations with what each comes after, one a line."""
        return "\n".join(
            f"{item.id} <- {', '.join(item.after)}" if item.after else item.id
            for item in self.operations
        )

    def to_json(self) -> JsonObject:
        return {
            "format": FORMAT,
            "stack": self.stack,
            "destroys_data": self.destroys_data,
            "orphans": list(self.orphans),
            "warnings": list(self.warnings),
            "operations": [item.to_json() for item in self.operations],
        }


@dataclass(slots=True)
class Draft:
    """A plan in the making: operations by ID, in any order until ``finish``."""

    operations: dict[str, Operation] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(
        self,
        action: Action,
        reason: str | Cause,
        after: "tuple[str, ...] | list[str] | set[str]" = (),
        *,
        when_changed: tuple[str, ...] = (),
        detail: str = "",
    ) -> str:
        """Add an operation and return its ID; adding it again widens ``after`` only."""
        key = f"{action.verb} {action.kind} {action.name}{' ' + detail if detail else ''}"
        cause = Cause(reason=reason) if isinstance(reason, str) else reason
        known = self.operations.get(key)
        names = dict.fromkeys((*(known.after if known else ()), *after))
        names.pop(key, None)
        self.operations[key] = Operation(
            id=key,
            action=known.action if known else action,
            cause=known.cause if known else cause,
            after=tuple(names),
            when_changed=known.when_changed if known else when_changed,
        )
        return key

    def follow(self, key: str, after: "tuple[str, ...] | list[str]") -> None:
        """Let the operation ``key`` come after the given ones as well."""
        known = self.operations[key]
        names = dict.fromkeys((*known.after, *after))
        names.pop(key, None)
        self.operations[key] = Operation(
            id=key,
            action=known.action,
            cause=known.cause,
            after=tuple(names),
            when_changed=known.when_changed,
        )

    def has(self, key: str) -> bool:
        return key in self.operations


NO_LABELS: Mapping[str, str] = EMPTY
