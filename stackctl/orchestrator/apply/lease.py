"""A stack tied to the life of a process: what the stack half asks of an engine that keeps leases.

The list of a lease is in the order of the graph: dependents go before what they depend on, then networks, volumes
last. Everything that a plan creates is listed as it is created; what was there before is listed when the lease is
taken, volumes excepted: data that this ``up`` did not make is not its to remove.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from stackctl.errors import InvalidInputError, UnsupportedError
from stackctl.frozen import frozen
from stackctl.orchestrator.apply.contract import Filters
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.graph import dependencies, in_order
from stackctl.values import Json, JsonObject

FEATURE = "leases"
_NETWORKS = 1_000_000
_VOLUMES = 2_000_000
UndoOrder = Callable[[str, JsonObject], int]


class LeasingEngine(Protocol):
    """The calls beside the Docker Engine API, where ``offers("leases")`` says that they are there."""

    def offers(self, feature: str) -> bool: ...
    def list_containers(
        self, *, everything: bool = True, filters: Filters | None = None
    ) -> list[JsonObject]: ...
    def list_networks(self, *, filters: Filters | None = None) -> list[JsonObject]: ...
    def create_lease(
        self, *, pid: int, connection: bool, seconds: float, labels: Mapping[str, str]
    ) -> str: ...
    def list_leases(self) -> list[JsonObject]: ...
    def add_to_lease(self, lease: str, items: Sequence[tuple[str, str, int]]) -> None: ...
    def release_lease(self, lease: str) -> None: ...
    def hold_lease(self, lease: str) -> contextlib.AbstractContextManager[None]: ...
    def create_under(self, lease: str, undo_order: UndoOrder) -> None: ...


@frozen
class Owner:
    """Who a lease ends with: a process (0: none), a connection, or a time in seconds (0: none).

    ``ours``: it is this process, which lasts, so that a connection will do where the engine cannot see it.
    """

    pid: int = 0
    ours: bool = False
    connection: bool = False
    seconds: float = 0.0


def check(engine: LeasingEngine, what: str) -> None:
    """Raise UnsupportedError where the engine keeps no leases; ``what`` is what asked for one."""
    if not engine.offers(FEATURE):
        raise UnsupportedError(
            f"{what}: this engine keeps no leases; nothing was made",
            hint="the built-in engine does: --engine built-in; or leave it out and end with stackctl down -v",
        )


def take(engine: LeasingEngine, stack: Stack, owner: Owner) -> str:
    """Put a stack under a lease, in place of those it had, and return its ID; what is created from now on joins it.

    What they listed the new one lists too, so that volumes go with the last lease of the ``up`` that made them.

    Raises NotFoundError or InvalidInputError for a process that cannot own one.
    """
    order = undo_order(stack)
    mine = {labels.PROJECT: stack.name}
    lease = engine.create_lease(
        pid=owner.pid, connection=owner.connection, seconds=owner.seconds, labels=mine
    )
    filters = {"label": [f"{labels.PROJECT}={stack.name}"]}
    present = [
        (kind, str(item.get("Id")), order(kind, item))
        for kind, found in (
            ("container", engine.list_containers(everything=True, filters=filters)),
            ("network", engine.list_networks(filters=filters)),
        )
        for item in found
    ]
    others = [
        item
        for item in engine.list_leases()
        if item.get("Id") != lease and item.get("Labels") == mine and not item.get("Over")
    ]
    listed = [*present, *(entry for other in others for entry in _volumes_of(other))]
    if listed:
        engine.add_to_lease(lease, listed)
    for other in others:
        engine.release_lease(str(other.get("Id")))
    engine.create_under(lease, order)
    return lease


def _volumes_of(lease: JsonObject) -> list[tuple[str, str, int]]:
    found = lease.get("Items")
    items = [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
    return [
        ("volume", str(item.get("Id")), _VOLUMES) for item in items if item.get("Kind") == "volume"
    ]


def tie(
    engine: LeasingEngine,
    stack: Stack,
    owner: Owner,
    *,
    held: contextlib.ExitStack,
) -> str:
    """As ``take``; a process of ours that the engine cannot see owns the lease by a connection, kept open in ``held``."""
    try:
        return take(engine, stack, owner)
    except InvalidInputError:
        if not owner.ours:
            raise
    lease = take(engine, stack, replace(owner, pid=0, connection=True))
    held.enter_context(engine.hold_lease(lease))
    return lease


def undo_order(stack: Stack) -> UndoOrder:
    """Return what tells a thing's place in the list from its kind and its body (or entry in the engine's lists)."""
    known = {**stack.disabled_services, **stack.services}
    # Disabled ones may have containers of an earlier up; a cycle among them is none of ours.
    edges = {name: dependencies(service) for name, service in stack.services.items()}
    places = {name: len(known) - at for at, name in enumerate(in_order(edges))}

    def order(kind: str, body: JsonObject) -> int:
        if kind == "network":
            return _NETWORKS
        if kind == "volume":
            return _VOLUMES
        carried: Json = body.get("Labels")
        carried = carried if isinstance(carried, dict) else {}
        if carried.get(labels.ONEOFF) == "True":
            return 0
        return places.get(str(carried.get(labels.SERVICE)), 0)

    return order
