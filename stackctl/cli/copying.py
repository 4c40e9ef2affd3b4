"""Files between a container and this machine, by the rules of ``docker cp``.

A folder is copied into one that is there and becomes one that is not; ``/.`` at its end means its content. Archives
from a container are not trusted: no entry leaves the target, and none is written through a link.
"""

import base64
import contextlib
import json
import os
import posixpath
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.frozen import frozen
from stackctl.orchestrator.apply.contract import ByteStream
from stackctl.values import JsonObject

if TYPE_CHECKING:
    from stackctl.orchestrator.apply.contract import Engine

# Go's os.FileMode bits, as the engine's path statistics carry them.
DIRECTORY, LINK = 1 << 31, 1 << 27
_LINKS = 40  # as the kernel: more in a row are a loop


@frozen
class Source:
    """What is sent: a path here, or the tar on standard input as ``content``."""

    path: str
    keep_owner: bool = False
    follow: bool = False
    content: BinaryIO | None = None

    @classmethod
    def of(cls, path: str, *, keep_owner: bool, follow: bool) -> "Source":
        """Raise NotFoundError for a path that is not there."""
        if path == "-":
            spool = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - kept by the value
            while piece := sys.stdin.buffer.read(1 << 20):
                spool.write(piece)
            return cls(path=path, content=spool)
        if not os.path.lexists(path):
            raise NotFoundError(f"there is no {path} here")
        return cls(path=path, keep_owner=keep_owner, follow=follow)


def stat(engine: "Engine", container: str, path: str) -> JsonObject | None:
    """Return what the engine says of a path in a container, links followed; None where there is nothing."""
    for _ in range(_LINKS):
        found = _lstat(engine, container, path)
        if found is None or not _bits(found) & LINK:
            return found
        path = posixpath.join(posixpath.dirname(path), str(found.get("linkTarget") or ""))
    raise InvalidInputError(f"{path}: too many links")


def _lstat(engine: "Engine", container: str, path: str) -> JsonObject | None:
    try:
        text = engine.stat_path(container, path)
    except NotFoundError:
        return None
    return cast(JsonObject, json.loads(base64.b64decode(text)))


def _bits(found: JsonObject) -> int:
    mode = found.get("mode")
    return mode if isinstance(mode, int) else 0


def send(engine: "Engine", container: str, source: Source, target: str) -> None:
    """Copy to a container; raises NotFoundError, InvalidInputError."""
    there = stat(engine, container, target)
    is_folder = there is not None and bool(_bits(there) & DIRECTORY)
    if source.content is not None:
        if not is_folder:
            raise InvalidInputError(f"{target} is no folder in the container")
        source.content.seek(0)
        engine.put_archive(container, target, source.content, keep_owner=source.keep_owner)
        return
    name, folder = _landing(source.path, target, is_folder, there is not None)
    with tempfile.TemporaryFile() as file:
        _pack(source, name, cast(BinaryIO, file))
        file.seek(0)
        engine.put_archive(container, folder, cast(BinaryIO, file), keep_owner=source.keep_owner)


def _landing(path: str, target: str, is_folder: bool, exists: bool) -> tuple[str, str]:
    """Return what the source is called in the archive and where the archive is unpacked."""
    folder = Path(path).is_dir()
    contents = path.endswith(("/.", "/..")) or path == "."
    if is_folder:
        name = "." if contents and folder else Path(path).resolve().name
        if not contents:
            name = posixpath.basename(path.rstrip("/")) or name
        return name, target
    if folder and exists:
        raise InvalidInputError(f"{target} is a file in the container, and {path} is a folder")
    if target.endswith("/") and not folder:
        raise NotFoundError(f"there is no folder {target} in the container")
    clean = target.rstrip("/")
    return posixpath.basename(clean), posixpath.dirname(clean) or "/"


def _pack(source: Source, name: str, file: BinaryIO) -> None:
    root = Path(source.path)
    if source.follow or source.path.endswith("/"):
        root = root.resolve()

    def owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
        if not source.keep_owner:
            info.uid = info.gid = 0
            info.uname = info.gname = ""
        return info

    try:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(root, arcname=name, filter=owned)
    except OSError as error:
        raise InvalidInputError(f"cannot read {error.filename}: {error.strerror}") from error


def fetch(engine: "Engine", container: str, path: str, target: str, *, follow: bool) -> None:
    """Copy from a container to a path here, or as a tar to standard output (``-``)."""
    if follow:
        for _ in range(_LINKS):
            found = _lstat(engine, container, path)
            if found is None or not _bits(found) & LINK:
                break
            path = posixpath.join(posixpath.dirname(path), str(found.get("linkTarget") or ""))
    stream = engine.get_archive(container, path)
    if target == "-":
        for piece in stream:
            sys.stdout.buffer.write(piece)
        return
    with (
        contextlib.closing(stream),
        tarfile.open(fileobj=cast(BinaryIO, _Reader(stream)), mode="r|") as archive,
    ):
        try:
            _unpack(archive, path, target)
        except OSError as error:
            raise InvalidInputError(f"cannot write {error.filename}: {error.strerror}") from error


def _unpack(archive: tarfile.TarFile, path: str, target: str) -> None:
    contents = path.endswith("/.")
    place = Path(target)
    links: list[tuple[Path, str]] = []
    base = ""
    for number, member in enumerate(archive):
        first, _, rest = member.name.strip("/").partition("/")
        if number == 0:
            base = first
            place = _first_place(place, target, first, member, contents)
        if first != base or ".." in rest.split("/"):
            raise InvalidInputError(f"the container's archive holds {member.name!r}")
        _entry(archive, member, place, rest, links)
    # Links come last, so that nothing was written through one.
    for where, text in links:
        if where.is_symlink() or where.is_file():
            where.unlink()
        where.symlink_to(text)


def _first_place(
    place: Path, target: str, name: str, member: tarfile.TarInfo, contents: bool
) -> Path:
    if place.is_dir():
        if contents and member.isdir():
            return place
        return place / name
    if member.isdir() and place.exists():
        raise InvalidInputError(f"{target} is a file, and what comes is a folder")
    if target.endswith("/") and not member.isdir():
        raise NotFoundError(f"there is no folder {target} here")
    if not place.parent.is_dir():
        raise NotFoundError(f"there is no folder {place.parent} here")
    return place


def _entry(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    place: Path,
    rest: str,
    links: list[tuple[Path, str]],
) -> None:
    where = place / rest if rest else place
    for parent in where.parents:
        if parent == place.parent:
            break
        if parent.is_symlink():
            raise InvalidInputError(f"{parent} is a link; nothing is written through it")
    if member.isdir():
        where.mkdir(exist_ok=True)
        where.chmod(member.mode & 0o777 | 0o700)
    elif member.issym():
        links.append((where, member.linkname))
    elif member.islnk():
        _, _, other = member.linkname.strip("/").partition("/")
        if ".." in other.split("/"):
            raise InvalidInputError(f"the container's archive links to {member.linkname!r}")
        where.unlink(missing_ok=True)
        os.link(place / other if other else place, where, follow_symlinks=False)
    elif member.isreg():
        _write(archive, member, where)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, where: Path) -> None:
    if where.is_symlink():
        where.unlink()
    content = archive.extractfile(member)
    handle = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        while content is not None and (piece := content.read(1 << 20)):
            file.write(piece)
        os.fchmod(file.fileno(), member.mode & 0o777)
    os.utime(where, (member.mtime, member.mtime))


class _Reader:
    """A stream of pieces as something to read from."""

    def __init__(self, stream: ByteStream) -> None:
        self._pieces: Iterator[bytes] = iter(stream)
        self._held = b""

    def read(self, size: int = -1) -> bytes:
        parts = [self._held]
        length = len(self._held)
        while size < 0 or length < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            parts.append(piece)
            length += len(piece)
        data = b"".join(parts)
        end = len(data) if size < 0 else size
        self._held = data[end:]
        return data[:end]
