"""Containers as they are listed and inspected."""

import json
from dataclasses import replace

import pytest

from stackctl.api.codec import Reader
from stackctl.contracts.container import (
    ContainerRecord,
    ContainerSpec,
    Endpoint,
    Health,
    MountPoint,
    PublishedPort,
    Status,
)
from stackctl.daemon.bodies import listing
from stackctl.daemon.bodies.containers import Surroundings, host_config, inspect_body
from stackctl.daemon.bodies.create import read_spec
from stackctl.errors import InvalidInputError, NotFoundError

ENDPOINT = Endpoint(
    network_id="f" * 64,
    network_name="front",
    endpoint_id="e" * 64,
    ipv4_address="10.1.0.2",
    ipv4_prefix=24,
    gateway="10.1.0.1",
    mac_address="02:00:00:00:00:02",
    aliases=("web",),
)


def record(number=1, **changes):
    values = {
        "id": f"{number:064x}",
        "name": f"c{number}",
        "created": 1000.0 + number,
        "spec": ContainerSpec(image="busybox"),
        "image_id": "sha256:" + "a" * 64,
        "layers": (),
        "path": "sh",
        "args": ("-c", "echo hi"),
        "status": Status.RUNNING,
        "started_at": 1000.0,
        "endpoints": {"front": ENDPOINT},
        "exposed_ports": ("80/tcp", "90/tcp"),
        "ports": (
            PublishedPort(container_port=80, protocol="tcp", host_ip="0.0.0.0", host_port=8080),
        ),
    }
    return ContainerRecord(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Up 3 minutes"),
        ({"health": Health(status="healthy")}, "Up 3 minutes (healthy)"),
        ({"health": Health()}, "Up 3 minutes (health: starting)"),
        ({"status": Status.PAUSED}, "Up 3 minutes (Paused)"),
        (
            {"status": Status.EXITED, "exit_code": 7, "finished_at": 1120.0},
            "Exited (7) About a minute ago",
        ),
        (
            {"status": Status.RESTARTING, "exit_code": 1, "finished_at": 1179.0},
            "Restarting (1) 1 second ago",
        ),
        ({"status": Status.CREATED}, "Created"),
        ({"status": Status.DEAD}, "Dead"),
        ({"status": Status.REMOVING}, "Removal In Progress"),
    ],
)
def test_status_sentences_are_dockers(changes, sentence):
    assert listing.status_sentence(record(**changes), 1180.0) == sentence


def choose(records, *, all_=True, limit=0, **filters):
    def resolve(name):
        for item in records:
            if name in (item.name, item.id):
                return item
        raise NotFoundError(f"No such container: {name}")

    query = listing.ListQuery(
        all=all_,
        limit=limit,
        filters={key.replace("_", "-"): value for key, value in filters.items()},
        ancestors=frozenset(
            item.image_id for item in records if item.spec.image in filters.get("ancestor", ())
        ),
    )
    return [item.name for item in listing.select(records, query, resolve)]


RECORDS = (
    record(1, labels={"tier": "web"}),
    record(2, status=Status.EXITED, exit_code=3, finished_at=5.0, ports=(), endpoints={}),
    record(
        3,
        health=Health(status="healthy"),
        mounts=(MountPoint(type="volume", target="/data", name="vol"),),
    ),
)


def test_the_list_shows_what_runs_newest_first():
    assert choose(RECORDS, all_=False) == ["c3", "c1"]
    assert choose(RECORDS) == ["c3", "c2", "c1"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"status": ("exited",)}, ["c2"]),
        ({"exited": ("3",)}, ["c2"]),
        ({"label": ("tier=web",)}, ["c1"]),
        ({"health": ("healthy",)}, ["c3"]),
        ({"volume": ("vol",)}, ["c3"]),
        ({"volume": ("/data",)}, ["c3"]),
        ({"network": ("front",)}, ["c3", "c1"]),
        ({"name": ("c[12]",)}, ["c2", "c1"]),
        ({"name": ("/c1",)}, ["c1"]),
        ({"publish": ("8080/tcp",)}, ["c3", "c1"]),
        ({"expose": ("85-95/tcp",)}, ["c3", "c1"]),
        ({"before": ("c3",)}, ["c2", "c1"]),
        ({"since": ("c2",)}, ["c3"]),
        ({"ancestor": ("busybox",)}, ["c3", "c2", "c1"]),
        ({"label": ("tier=web",), "status": ("exited",)}, []),
    ],
)
def test_every_filter_selects(filters, expected):
    assert choose(RECORDS, **filters) == expected


def test_a_limit_counts_from_the_newest():
    assert choose(RECORDS, all_=False, limit=2) == ["c3", "c2"]


@pytest.mark.parametrize(
    "filters",
    [{"status": ("bogus",)}, {"health": ("fine",)}, {"exited": ("x",)}, {"publish": ("x",)}],
)
def test_values_no_container_can_have_are_refused(filters):
    with pytest.raises(InvalidInputError):
        choose(RECORDS, **filters)


def test_a_filter_that_names_no_container_says_so():
    with pytest.raises(NotFoundError, match="No such container: ghost"):
        choose(RECORDS, before=("ghost",))


def test_a_list_entry_reads_as_dockers():
    body = listing.entry_body(record(), now=1180.0, image="busybox")
    assert body["Names"] == ["/c1"]
    assert body["Command"] == "sh -c 'echo hi'"
    assert body["Ports"] == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 90, "Type": "tcp"},
    ]
    assert body["NetworkSettings"]["Networks"]["front"]["IPAddress"] == "10.1.0.2"


def test_inspect_shows_the_state_and_the_addresses():
    body = inspect_body(record(), Surroundings(directory="/d", sandbox="/run/ns/x"))
    assert json.loads(json.dumps(body)) == body
    assert (body["Name"], body["State"]["Running"]) == ("/c1", True)
    assert body["NetworkSettings"]["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}],
        "90/tcp": None,
    }
    assert body["NetworkSettings"]["Networks"]["front"]["Gateway"] == "10.1.0.1"


def test_a_stopped_container_has_no_addresses():
    stopped = replace(record(), status=Status.EXITED, finished_at=5.0)
    settings = inspect_body(stopped, Surroundings(directory="/d"))["NetworkSettings"]
    assert settings["Ports"] == {}
    assert settings["Networks"]["front"]["IPAddress"] == ""
    assert settings["Networks"]["front"]["NetworkID"] == "f" * 64


def test_host_config_goes_in_and_comes_out():
    asked = {
        "Binds": ["/srv:/data:ro", "vol:/v"],
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 4},
        "Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/e", "ReadOnly": True}],
        "Tmpfs": {"/run": "size=64m"},
        "Memory": 64 * 2**20,
        "CapAdd": ["CAP_NET_ADMIN"],
        "Init": True,
        "Ulimits": [{"Name": "nofile", "Hard": 2, "Soft": 1}],
        "Sysctls": {"net.core.somaxconn": "10"},
    }
    spec = read_spec(Reader({"Image": "x", "HostConfig": asked}), cpus=1)
    shown = host_config(spec)
    assert {key: shown[key] for key in asked} == asked
    assert read_spec(Reader({"Image": "x", "HostConfig": shown}), cpus=1).mounts == spec.mounts
