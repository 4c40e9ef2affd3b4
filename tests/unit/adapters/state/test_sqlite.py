"""The state store on a real file."""

import sqlite3

import pytest

from stackctl.adapters.state.migrations import STEPS
from stackctl.adapters.state.sqlite import SqliteState
from stackctl.contracts.container import (
    ContainerRecord,
    ContainerSpec,
    Endpoint,
    Health,
    MountRequest,
)
from stackctl.contracts.state import ImageConfig, ImageRecord, NetworkRecord, Subnet, VolumeRecord
from stackctl.errors import HostError


def container(number, **changes):
    values = {
        "id": f"{number:064x}",
        "name": f"c{number}",
        "created": 1.5,
        "spec": ContainerSpec(image="x", mounts=(MountRequest(type="tmpfs", target="/t"),), cmd=()),
        "image_id": "sha256:0",
        "layers": ("a",),
        "path": "p",
        "args": (),
        "endpoints": {"n": Endpoint(network_id="n", network_name="n", endpoint_id="e")},
        "health": Health(),
    }
    return ContainerRecord(**{**values, **changes})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "state.db"


def test_records_come_back_as_they_were_after_reopening(path):
    records = [
        container(1),
        NetworkRecord(id="n", name="front", created=2.0, subnets=(Subnet(subnet="10.0.0.0/24"),)),
        VolumeRecord(name="v", created=3.0, labels={"a": "b"}),
        ImageRecord(id="sha256:1", created="x", config=ImageConfig(cmd=("sh",))),
    ]
    store = SqliteState(path)
    for record in records:
        store.save(record)
    store.close()
    again = SqliteState(path)
    for record in records:
        assert list(again.load(type(record))) == [record]
    again.close()


def test_saving_again_replaces_and_keeps_the_order(path):
    store = SqliteState(path)
    store.save(container(1))
    store.save(container(2))
    store.save(container(1, name="renamed"))
    assert [record.name for record in store.load(ContainerRecord)] == ["renamed", "c2"]
    store.close()


def test_deleting_what_is_not_there_is_success(path):
    store = SqliteState(path)
    store.save(container(1))
    store.delete(container(1))
    store.delete(container(1))
    assert store.load(ContainerRecord) == []
    store.close()


def test_settings_last(path):
    store = SqliteState(path)
    assert store.setting("boot") == ""
    store.save_setting("boot", "a")
    store.save_setting("boot", "b")
    store.close()
    store.close()
    again = SqliteState(path)
    assert again.setting("boot") == "b"
    again.close()


def test_one_broken_record_does_not_hide_the_others(path, caplog):
    store = SqliteState(path)
    store.save(container(1))
    store.save(container(2))
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE records SET body = '{}' WHERE key = ?", (container(1).id,))
    database.close()
    again = SqliteState(path)
    assert [record.name for record in again.load(ContainerRecord)] == ["c2"]
    assert container(1).id in caplog.text
    again.close()


def test_a_newer_database_is_refused(path):
    SqliteState(path).close()
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version={len(STEPS) + 1}")
    database.close()
    with pytest.raises(HostError, match="newer version"):
        SqliteState(path)


def test_a_file_that_is_no_database_is_refused_by_name(path):
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(HostError, match=r"state\.db"):
        SqliteState(path)
