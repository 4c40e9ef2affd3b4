"""What every StateStore keeps: SQLite's."""

import sqlite3
from pathlib import Path

import pytest

from stackctl.adapters.state.migrations import STEPS
from stackctl.adapters.state.sqlite import SqliteStateStore
from stackctl.contracts.container import ContainerRecord, ContainerSpec, Endpoint, Health, Status
from stackctl.contracts.state import ImageRecord, NetworkRecord, Subnet, VolumeRecord
from stackctl.errors import HostError, UnavailableError


def container(number: int, **fields: object) -> ContainerRecord:
    values: dict = {
        "id": f"{number:064x}", "name": f"c{number}", "created": float(number),
        "spec": ContainerSpec(image="x", cmd=("a", "b"), labels={"k": "v"}),
        "image_id": "sha256:0", "layers": ("sha256:1",), "path": "a", "args": ("b",),
    }  # fmt: skip
    return ContainerRecord(**{**values, **fields})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sub" / "state.db"


def test_records_come_back_as_they_were_oldest_first(path: Path) -> None:
    store = SqliteStateStore(path)
    endpoint = Endpoint(network_id="n", network_name="net", endpoint_id="e", aliases=("x",))
    first = container(2, endpoints={"net": endpoint}, health=Health(), status=Status.RUNNING)
    second = container(1)
    network = NetworkRecord(
        id="n", name="net", created=1.0, subnets=(Subnet(subnet="10.0.0.0/24"),)
    )
    volume = VolumeRecord(name="v", created=1.0, options={"type": "tmpfs"})
    image = ImageRecord(id="sha256:0", created="", layers=("a", "b"))
    for record in (first, second, network, volume, image):
        store.save(record)
    store.close()
    store.close()
    again = SqliteStateStore(path)
    assert list(again.load(ContainerRecord)) == [first, second]
    assert list(again.load(NetworkRecord)) == [network]
    assert list(again.load(VolumeRecord)) == [volume]
    assert list(again.load(ImageRecord)) == [image]
    again.close()


def test_saving_again_replaces_in_place_and_deleting_twice_is_fine(path: Path) -> None:
    store = SqliteStateStore(path)
    store.save(container(1))
    store.save(container(2))
    store.save(container(1, name="new"))
    assert [record.name for record in store.load(ContainerRecord)] == ["new", "c2"]
    store.delete(container(1))
    store.delete(container(1))
    assert [record.name for record in store.load(ContainerRecord)] == ["c2"]
    store.close()


def test_what_was_saved_is_seen_by_another_reader_at_once(path: Path) -> None:
    store = SqliteStateStore(path)
    store.save(container(1))
    other = SqliteStateStore(path)
    assert len(other.load(ContainerRecord)) == 1
    other.close()
    store.close()


def test_settings_are_kept_and_unknown_ones_are_empty(path: Path) -> None:
    store = SqliteStateStore(path)
    store.save_setting("boot", "1")
    store.save_setting("boot", "2")
    assert (store.setting("boot"), store.setting("other")) == ("2", "")
    store.close()


def test_a_damaged_file_is_named_with_a_hint(path: Path) -> None:
    SqliteStateStore(path).close()
    path.write_bytes(b"this is no database" * 500)
    with pytest.raises(HostError, match=r"state\.db") as raised:
        SqliteStateStore(path)
    assert "backup" in raised.value.hint


def test_a_newer_schema_is_refused(path: Path) -> None:
    SqliteStateStore(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    db.close()
    with pytest.raises(UnavailableError, match="newer release"):
        SqliteStateStore(path)


def test_an_unreadable_record_is_named(path: Path) -> None:
    store = SqliteStateStore(path)
    store.save(container(1))
    store.close()
    db = sqlite3.connect(path)
    db.execute("UPDATE record SET document = '{}'")
    db.commit()
    db.close()
    again = SqliteStateStore(path)
    with pytest.raises(HostError, match="container"):
        again.load(ContainerRecord)
    again.close()
