"""Files into containers: as one stream to an engine that takes batches, as archives to any other.

What is at a path is read when it is sent: what vanished in between is deleted in the container.
"""

import contextlib
import io
import json
import os
import shlex
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, Protocol, cast

from stackctl.errors import StackctlError
from stackctl.frozen import frozen
from stackctl.orchestrator.apply.contract import Engine
from stackctl.values import JsonObject

_PIECE = 256 * 1024
_IN_MEMORY = 8 << 20
_NAMES_AT_ONCE = 64 * 1024
Files = Mapping[str, str]


@frozen
class Delivered:
    """What one container got; ``failures`` are (path, why) of what it did not take."""

    written: int = 0
    deleted: int = 0
    size: int = 0
    failures: tuple[tuple[str, str], ...] = ()


class Delivery(Protocol):
    """Puts files into a container: a map of the container's paths to where each comes from."""

    def __call__(self, container: str, files: Files) -> Delivered: ...


class BatchEngine(Protocol):
    """An engine that takes batches of changes (``/_stackctl/v1/containers/{id}/sync``)."""

    def sync_files(self, container: str, batch: Iterator[bytes]) -> JsonObject: ...


class BatchDelivery:
    """Everything in one stream, deletions too; nothing of the container's image is needed."""

    def __init__(self, engine: BatchEngine) -> None:
        self._engine = engine

    def __call__(self, container: str, files: Files) -> Delivered:
        answer = self._engine.sync_files(container, batch_of(files))
        failures = answer.get("Failures")
        return Delivered(
            written=_number(answer, "Written"),
            deleted=_number(answer, "Deleted"),
            size=_number(answer, "Bytes"),
            failures=tuple(
                (str(item.get("Path")), str(item.get("Message")))
                for item in (failures if isinstance(failures, list) else ())
                if isinstance(item, dict)
            ),
        )


def _number(answer: JsonObject, name: str) -> int:
    value = answer.get(name)
    return value if isinstance(value, int) else 0


def batch_of(files: Files) -> Iterator[bytes]:
    """Yield the stream of a batch, deletions first, in pieces worth sending."""
    held = bytearray()
    for part in _entries(files):
        held += part
        if len(held) >= _PIECE:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _entries(files: Files) -> Iterator[bytes]:
    gone, there = _split(files)
    for target in gone:
        yield _line({"path": target, "type": "deleted"})
    for target, source in there:
        try:
            yield from _entry(target, source)
        except FileNotFoundError:
            yield _line({"path": target, "type": "deleted"})
        except OSError as error:
            raise StackctlError(f"cannot read {source}: {error.strerror}") from error


def _split(files: Files) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the targets to delete (without those below another one) and what to write, parents first."""
    gone: list[str] = []
    there: list[tuple[str, str]] = []
    for target, source in sorted(files.items()):
        if os.path.lexists(source):
            there.append((target, source))
        elif not gone or not target.startswith(f"{gone[-1]}/"):
            gone.append(target)
    return gone, there


def _entry(target: str, source: str) -> Iterator[bytes]:
    info = os.lstat(source)
    if stat.S_ISLNK(info.st_mode):
        link = os.readlink(source)  # noqa: PTH115 - as it is written
        yield _line({"path": target, "type": "symlink", "link": link})
    elif stat.S_ISDIR(info.st_mode):
        mode = stat.S_IMODE(info.st_mode)
        yield _line({"path": target, "type": "directory", "mode": mode})
    elif stat.S_ISREG(info.st_mode):
        yield from _file(target, source)


def _file(target: str, source: str) -> Iterator[bytes]:
    with open(source, "rb", buffering=0) as file:
        info = os.fstat(file.fileno())
        head: JsonObject = {
            "path": target,
            "type": "file",
            "mode": stat.S_IMODE(info.st_mode),
            "mtime": info.st_mtime_ns,
        }
        if info.st_size < _PIECE:
            data = file.read()
            yield _line({**head, "size": len(data)})
            yield data
            return
        yield _line({**head, "size": info.st_size})
        left = info.st_size
        while left:
            # A file that shrank meanwhile is filled up: its next change is on its way.
            data = file.read(min(left, _PIECE)) or bytes(min(left, _PIECE))
            left -= len(data)
            yield data


def _line(value: JsonObject) -> bytes:
    return json.dumps(value).encode() + b"\n"


class ArchiveDelivery:
    """A tar by the archive endpoint and ``rm`` run in the container: for engines that have nothing better."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, container: str, files: Files) -> Delivered:
        gone, there = _split(files)
        for names in _in_groups(gone):
            self._remove(container, names)
        size = 0
        if there:
            with cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)) as spool:
                with tarfile.open(fileobj=spool, mode="w", format=tarfile.PAX_FORMAT) as archive:
                    for target, source in there:
                        size += _add(archive, target, source)
                spool.seek(0)
                self._engine.put_archive(container, "/", spool)
        return Delivered(written=len(there), deleted=len(gone), size=size)

    def _remove(self, container: str, names: Sequence[str]) -> None:
        body: JsonObject = {
            "Cmd": ["rm", "-rf", "--", *names],
            "User": "0",
            "AttachStdout": True,
            "AttachStderr": True,
        }
        identity = self._engine.create_exec(container, body)
        with contextlib.closing(self._engine.start_exec(identity)) as process:
            output = b"".join(data for _, data in process)
        if self._engine.inspect_exec(identity).get("ExitCode") != 0:
            said = output.decode(errors="replace").strip()
            raise StackctlError(
                f"cannot delete {shlex.join(names[:3])} in the container: {said}",
                hint="this engine deletes with the image's rm; the built-in engine needs none",
            )


def _in_groups(names: Sequence[str]) -> Iterator[list[str]]:
    group: list[str] = []
    length = 0
    for name in names:
        if group and length + len(name) > _NAMES_AT_ONCE:
            yield group
            group, length = [], 0
        group.append(name)
        length += len(name) + 1
    if group:
        yield group


def _add(archive: tarfile.TarFile, target: str, source: str) -> int:
    try:
        info = archive.gettarinfo(source, arcname=target.lstrip("/"))
    except FileNotFoundError:
        return 0
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    if not info.isreg():
        archive.addfile(info)
        return 0
    with open(source, "rb") as file:
        data = file.read()
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
    return info.size
