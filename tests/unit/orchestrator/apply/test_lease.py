"""What is asked of an engine that keeps leases, and in which order a stack goes."""

from contextlib import ExitStack, contextmanager

import pytest

from stackctl.errors import InvalidInputError, UnsupportedError
from stackctl.orchestrator.apply.lease import Owner, check, take, tie, undo_order
from stackctl.orchestrator.model.service import Dependency, Service
from stackctl.orchestrator.model.stack import Stack

PROJECT = {"com.docker.compose.project": "shop"}


def labels(service: str, **more: str) -> dict:
    return {"Labels": {**PROJECT, "com.docker.compose.service": service, **more}}


def stack() -> Stack:
    services = (
        Service(name="web", depends_on={"app": Dependency()}),
        Service(name="app", depends_on={"db": Dependency(), "cache": Dependency()}),
        Service(name="db"),
        Service(name="cache"),
    )
    return Stack(
        name="shop",
        working_dir="/shop",
        services={item.name: item for item in services},
        tree={"services": {}},
    )


class Keeper:
    """An engine's leases in memory."""

    def __init__(self, *, sees_us: bool = True, features=("leases",)) -> None:
        self.features = features
        self.sees_us = sees_us
        self.leases: dict[str, dict] = {}
        self.under = ""
        self.held: list[str] = []

    def offers(self, feature: str) -> bool:
        return feature in self.features

    def list_containers(self, *, everything=True, filters=None) -> list[dict]:
        assert filters == {"label": ["com.docker.compose.project=shop"]}
        return [{"Id": "c1", **labels("db")}, {"Id": "c2", **labels("web")}]

    def list_networks(self, *, filters=None) -> list[dict]:
        return [{"Id": "n1", "Labels": PROJECT}]

    def create_lease(self, *, pid, connection, seconds, labels) -> str:
        if pid and not self.sees_us:
            raise InvalidInputError("process 7 is in another pid namespace")
        key = f"lease-{len(self.leases)}"
        self.leases[key] = {"Id": key, "Labels": labels, "Items": [], "Over": False}
        self.leases[key] |= {"Pid": pid, "Connection": connection}
        return key

    def list_leases(self) -> list[dict]:
        return list(self.leases.values())

    def add_to_lease(self, lease, items) -> None:
        entries = [{"Kind": kind, "Id": key, "Order": order} for kind, key, order in items]
        self.leases[lease]["Items"] += entries

    def release_lease(self, lease) -> None:
        del self.leases[lease]

    @contextmanager
    def hold_lease(self, lease):
        self.held.append(lease)
        yield
        self.held.remove(lease)

    def create_under(self, lease, undo_order) -> None:
        self.under = lease


def test_dependents_go_first_then_networks_then_volumes():
    order = undo_order(stack())
    things = [
        ("volume", {}),
        ("network", {}),
        *(("container", labels(name)) for name in ("db", "app", "web")),
        ("container", labels("db", **{"com.docker.compose.oneoff": "True"})),
    ]
    ranked = sorted(things, key=lambda item: order(*item))
    assert [kind for kind, _ in ranked] == ["container"] * 4 + ["network", "volume"]
    names = [body["Labels"]["com.docker.compose.service"] for _, body in ranked[:4]]
    assert names == ["db", "web", "app", "db"]
    assert "com.docker.compose.oneoff" in ranked[0][1]["Labels"]


def test_a_new_lease_lists_what_is_there_and_takes_the_place_of_the_old_one():
    engine = Keeper()
    first = take(engine, stack(), Owner(pid=7))
    engine.add_to_lease(first, [("volume", "shop_data", 5)])
    other = engine.create_lease(pid=1, connection=False, seconds=0, labels={})
    second = take(engine, stack(), Owner(seconds=60))
    assert set(engine.leases) == {other, second}
    assert engine.under == second
    found = [(item["Kind"], item["Id"]) for item in engine.leases[second]["Items"]]
    # Volumes come from the lease before: those that are just there may hold data of another time.
    assert found == [
        ("container", "c1"),
        ("container", "c2"),
        ("network", "n1"),
        ("volume", "shop_data"),
    ]


def test_this_process_owns_by_a_connection_where_the_engine_cannot_see_it():
    engine, held = Keeper(sees_us=False), ExitStack()
    with held:
        lease = tie(engine, stack(), Owner(pid=7, ours=True), held=held)
        assert (engine.leases[lease]["Pid"], engine.leases[lease]["Connection"]) == (0, True)
        assert engine.held == [lease]
    assert engine.held == []
    with pytest.raises(InvalidInputError, match="another pid namespace"):
        tie(engine, stack(), Owner(pid=7), held=ExitStack())


def test_an_engine_without_leases_is_told_of():
    check(Keeper(), "--lease")
    with pytest.raises(UnsupportedError, match="--ttl: this engine keeps no leases") as caught:
        check(Keeper(features=()), "--ttl")
    assert "--engine built-in" in caught.value.hint
