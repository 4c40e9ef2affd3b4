"""StateStore by SQLite: one document per object, one writer.

WAL with synchronous NORMAL survives the daemon's death and costs 0.03 ms a commit. Images and volumes must survive
the machine's too: their commits are made with synchronous FULL.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stackctl.adapters.state.migrations import STEPS
from stackctl.contracts.container import ContainerRecord
from stackctl.contracts.state import (
    BuildCacheRecord,
    ImageRecord,
    LeaseRecord,
    NetworkRecord,
    R,
    Record,
    VolumeRecord,
)
from stackctl.errors import HostError, InvalidInputError, StackctlError, UnavailableError
from stackctl.values import from_json, to_json_text

_KINDS: dict[type, str] = {
    ContainerRecord: "container",
    NetworkRecord: "network",
    VolumeRecord: "volume",
    ImageRecord: "image",
    BuildCacheRecord: "build-cache",
    LeaseRecord: "lease",
}
_DURABLE = (ImageRecord, VolumeRecord)


class SqliteStateStore:
    """The state of one engine in one file."""

    def __init__(self, path: Path) -> None:
        """Open the file, making or migrating it.

        Raises HostError for a damaged file, UnavailableError for one that a newer release wrote.
        """
        self._path = path
        self._closed = False
        path.parent.mkdir(mode=0o710, parents=True, exist_ok=True)
        with self._errors("open"):
            # The daemon's loop is the one writer; tests open and close in other threads.
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise
        path.chmod(0o600)

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA busy_timeout = 5000")
        finding = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if finding != "ok":
            raise sqlite3.DatabaseError(str(finding))
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(STEPS):
            raise UnavailableError(
                f"the state in {self._path} was written by a newer release (schema {version}, "
                f"this one knows {len(STEPS)})",
                hint="Install that release again, or point STACKCTL_DATA_ROOT at another directory.",
            )
        for number in range(version, len(STEPS)):
            self._db.executescript(
                f"BEGIN IMMEDIATE; {STEPS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
            )
        row = self._db.execute("SELECT COALESCE(MAX(position), 0) FROM record").fetchone()
        self._position = int(row[0])

    def load(self, kind: type[R]) -> Sequence[R]:
        """Return every record of the kind, oldest first."""
        with self._errors("read"):
            rows = self._db.execute(
                "SELECT key, document FROM record WHERE kind = ? ORDER BY position",
                (_KINDS[kind],),
            ).fetchall()
        return [self._decode(kind, key, document) for key, document in rows]

    def _decode(self, kind: type[R], key: str, document: str) -> R:
        try:
            return from_json(kind, json.loads(document))
        except (ValueError, InvalidInputError) as error:
            raise HostError(
                f"the state in {self._path} has a {_KINDS[kind]} {key[:12]} that cannot be read: {error}",
                hint="Restore the file from a backup, or move it away to begin anew.",
            ) from error

    def save(self, record: Record) -> None:
        """Write a record; it survives a crash of the daemon, an image or a volume also one of the machine."""
        self._position += 1
        values = (
            _KINDS[type(record)],
            key_of(record),
            self._position,
            to_json_text(record),
        )
        with self._errors("write"), self._durability(record):
            self._db.execute(
                "INSERT INTO record (kind, key, position, document) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (kind, key) DO UPDATE SET document = excluded.document",
                values,
            )

    def delete(self, record: Record) -> None:
        """Forget a record; success when it is not there."""
        with self._errors("write"), self._durability(record):
            self._db.execute(
                "DELETE FROM record WHERE kind = ? AND key = ?",
                (_KINDS[type(record)], key_of(record)),
            )

    def setting(self, name: str) -> str:
        with self._errors("read"):
            row = self._db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def save_setting(self, name: str, value: str) -> None:
        with self._errors("write"):
            self._db.execute(
                "INSERT INTO setting (name, value) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )

    def close(self) -> None:
        """Flush and close; may be called twice."""
        if not self._closed:
            self._closed = True
            self._db.close()

    @contextmanager
    def _durability(self, record: Record) -> Iterator[None]:
        if not isinstance(record, _DURABLE):
            yield
            return
        self._db.execute("PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            self._db.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except StackctlError:
            raise
        except sqlite3.DatabaseError as error:
            raise HostError(
                f"cannot {action} the state in {self._path}: {error}",
                hint="If the file is damaged, restore it from a backup, or move it away to begin anew.",
            ) from error


def key_of(record: Record) -> str:
    """Return what a record is stored under."""
    return record.name if isinstance(record, VolumeRecord) else record.id
