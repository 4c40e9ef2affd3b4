"""What the operations of one run of a plan share."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from stackctl.errors import InvalidInputError, NotFoundError, StackctlError
from stackctl.orchestrator.apply.contract import Engine
from stackctl.orchestrator.apply.probes import Probes
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.fingerprint import Inputs
from stackctl.orchestrator.planning.plan import ContainerAction, UpdateContainer
from stackctl.values import JsonObject

Tell = Callable[[JsonObject], None]


@dataclass(slots=True, kw_only=True)
class Exchanged:
    """A replica that has a new container; the old one is there, stopped or about to be."""

    action: UpdateContainer
    new: str
    old: str


@dataclass(slots=True, kw_only=True)
class ServiceUpdate:
    """One rolling update: ``total`` replicas, those exchanged, and those that failed and kept their container.

    ``ratio`` is the part of them that may fail. ``halted``: a failure ended it.
    """

    total: int = 0
    ratio: float = 0.0
    done: list[Exchanged] = field(default_factory=list)
    failed: dict[str, StackctlError] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    halted: bool = False

    @property
    def has_failed(self) -> bool:
        """Whether more replicas failed than may."""
        return len(self.failed) > self.ratio * max(self.total, 1)


@dataclass(slots=True, kw_only=True)
class Run:
    """One run of a plan: the engine, what is wanted, and what was made so far.

    ``containers`` maps final names to IDs, ``images`` references to IDs. ``unchanged`` are the image operations that
    gave the image there was. ``updates`` are the rolling updates by service, ``kept`` the IDs of containers that
    stay although they were to be replaced. ``stopping`` is set when the user interrupts.
    """

    engine: Engine
    stack: Stack | None
    inputs: Inputs
    containers: dict[str, str] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    unchanged: set[str] = field(default_factory=set)
    updates: dict[str, ServiceUpdate] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)
    news: threading.Condition = field(default_factory=threading.Condition)
    probes: Probes = field(init=False)

    def __post_init__(self) -> None:
        self.probes = Probes(self.engine)

    def tell_news(self) -> None:
        """Wake those who wait for something to happen to a container; called from any thread."""
        with self.news:
            self.news.notify_all()

    def await_news(self, seconds: float) -> None:
        """Return when something happened to a container of the stack, or the time is over."""
        with self.news:
            self.news.wait(seconds)

    def wanted(self) -> Stack:
        if self.stack is None:
            raise InvalidInputError("this needs the stack file")
        return self.stack

    def service(self, name: str) -> Service:
        return self.wanted().services[name]

    def container(self, action: ContainerAction) -> str:
        """Return the ID (or at least the name) of the container that an action is about."""
        return action.id or self.containers.get(action.name, action.name)

    def container_of(self, service: str) -> str:
        """Return the ID of a service's first container; raises NotFoundError when it has none."""
        if service in self.services:
            return self.services[service]
        mine = [
            f"{labels.PROJECT}={self.wanted().name}",
            f"{labels.SERVICE}={service}",
            f"{labels.ONEOFF}=False",
        ]
        found = self.engine.list_containers(everything=True, filters={"label": mine})
        if not found:
            raise NotFoundError(f"service {service!r} has no container to share with")
        return str(found[0]["Id"])

    def image_id(self, reference: str) -> str:
        """Return the ID of an image, asking the engine once."""
        with self.lock:
            if reference not in self.images:
                self.images[reference] = str(self.engine.inspect_image(reference)["Id"])
            return self.images[reference]
