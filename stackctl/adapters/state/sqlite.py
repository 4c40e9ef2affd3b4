"""StateStore by SQLite: one file, one writer, write-ahead log.

Records are JSON (see ``stackctl.values``) by kind and key, so that a field more or less needs no migration. A commit
survives the daemon's death at once (synchronous NORMAL); images and volumes, whose bytes are on disk, are synced, so
that a crash of the machine does not forget what it still holds.
"""

import json
import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from stackctl.adapters.state.migrations import STEPS
from stackctl.contracts.container import ContainerRecord
from stackctl.contracts.state import (
    BuildCacheRecord,
    ImageRecord,
    NetworkRecord,
    Record,
    VolumeRecord,
)
from stackctl.errors import HostError, InvalidInputError
from stackctl.values import from_json, to_json

LOG = logging.getLogger(__name__)
R = TypeVar("R", ContainerRecord, NetworkRecord, VolumeRecord, ImageRecord, BuildCacheRecord)

_KINDS: dict[type, str] = {
    ContainerRecord: "container",
    NetworkRecord: "network",
    VolumeRecord: "volume",
    ImageRecord: "image",
    BuildCacheRecord: "build-cache",
}
_SYNCED = (ImageRecord, VolumeRecord)


class SqliteState:
    """The StateStore contract. Raises HostError when the database cannot be opened or written (a full disk)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("PRAGMA cache_size=-512")
            path.chmod(0o600)
            self._migrate()
        except (sqlite3.Error, OSError) as error:
            raise self._failed("open", error) from error
        self._open = True

    def _migrate(self) -> None:
        (done,) = self._database.execute("PRAGMA user_version").fetchone()
        if done > len(STEPS):
            raise HostError(
                f"{self._path} was written by a newer version of the engine",
                hint="install that version again, or choose another --data-root",
            )
        for number, step in enumerate(STEPS[done:], start=done + 1):
            self._database.executescript(f"BEGIN; {step} PRAGMA user_version={number}; COMMIT;")

    def _failed(self, verb: str, error: Exception) -> HostError:
        return HostError(f"cannot {verb} the state in {self._path}: {error}")

    def load(self, kind: type[R]) -> Sequence[R]:
        query = "SELECT key, body FROM records WHERE kind = ? ORDER BY number"
        found: list[R] = []
        try:
            rows = self._database.execute(query, (_KINDS[kind],)).fetchall()
        except sqlite3.Error as error:
            raise self._failed("read", error) from error
        for key, body in rows:
            try:
                found.append(from_json(kind, json.loads(body)))
            except (InvalidInputError, ValueError) as error:
                # One record that cannot be read must not keep all the others from being served.
                LOG.error("%s: the %s %s cannot be read: %s", self._path, _KINDS[kind], key, error)
        return found

    def save(self, record: Record) -> None:
        body = json.dumps(to_json(record), separators=(",", ":"), ensure_ascii=False)
        statement = (
            "INSERT INTO records (kind, key, body) VALUES (?, ?, ?) "
            "ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body"
        )
        synced = isinstance(record, _SYNCED)
        try:
            if synced:
                self._database.execute("PRAGMA synchronous=FULL")
            try:
                values = (_KINDS[type(record)], _key(record), body)
                self._database.execute(statement, values)
            finally:
                if synced:
                    self._database.execute("PRAGMA synchronous=NORMAL")
        except (sqlite3.Error, UnicodeError) as error:
            raise self._failed("write", error) from error

    def delete(self, record: Record) -> None:
        values = (_KINDS[type(record)], _key(record))
        try:
            self._database.execute("DELETE FROM records WHERE kind = ? AND key = ?", values)
        except sqlite3.Error as error:
            raise self._failed("write", error) from error

    def setting(self, name: str) -> str:
        try:
            row = self._database.execute(
                "SELECT value FROM settings WHERE name = ?", (name,)
            ).fetchone()
        except sqlite3.Error as error:
            raise self._failed("read", error) from error
        return str(row[0]) if row else ""

    def save_setting(self, name: str, value: str) -> None:
        statement = (
            "INSERT INTO settings (name, value) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        )
        try:
            self._database.execute(statement, (name, value))
        except sqlite3.Error as error:
            raise self._failed("write", error) from error

    def close(self) -> None:
        if self._open:
            self._open = False
            self._database.close()


def _key(record: Record) -> str:
    return record.name if isinstance(record, VolumeRecord) else record.id
