"""What COPY and ADD take from a tree, and the tar that puts it into a stage's root.

Sources are chosen, named for the cache and packed here; the tar is unpacked by the storage adapters, which let no
path leave the root. The rules of directories are Docker's: a directory's *contents* are copied, a file goes into the
destination when that is a directory or ends with a slash.
"""

import asyncio
import bz2
import gzip
import hashlib
import io
import lzma
import os
import posixpath
import re
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import zstandard

from stackctl.builder.context import Node, Tree
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen
from stackctl.ignore import Ignore

CHUNK = 1 << 20
_CLAUSE = re.compile(r"([ugoa]*)((?:[+=-](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([+=-])([ugo]|[rwxXst]*)")
_OCTAL = re.compile(r"0{0,3}[0-7]{1,4}")
_SHIFT = {"u": 6, "g": 3, "o": 0}


@frozen
class Source:
    """One thing to copy: a node of a tree, or bytes made here (heredoc, download) under ``name``.

    ``prefix`` is the directory below the destination that --parents keeps.
    """

    name: str
    tree: Tree | None = None
    node: Node | None = None
    data: bytes = b""
    mode: int = 0o644
    mtime: int | None = None
    prefix: str = ""
    archive: bool = False

    @property
    def is_dir(self) -> bool:
        return self.node is not None and self.node.is_dir


@frozen
class Ownership:
    """Owner and mode asked for; None keeps the source's (which is 0:0 for the context's files)."""

    uid: int | None = None
    gid: int | None = None
    chmod: str = ""


def choose(
    tree: Tree, patterns: Sequence[str], *, unpack: bool = False, parents: bool = False
) -> list[Source]:
    """Return what the source patterns name, in order; raises NotFoundError for a path that is not there. Blocks.

    A pattern that nothing matches names nothing, as BuildKit has it.
    """
    found: list[Source] = []
    for pattern in patterns:
        prefix = ""
        for path in tree.glob(pattern):
            node = tree.find(path)
            if parents:
                prefix = _kept_parents(pattern, path, is_dir=node.is_dir)
            archive = (
                unpack and stat.S_ISREG(node.info.st_mode) and is_archive(tree.host_path(node.path))
            )
            found.append(
                Source(
                    name=posixpath.basename(path),
                    tree=tree,
                    node=node,
                    prefix=prefix,
                    archive=archive,
                )
            )
    return found


def _kept_parents(pattern: str, path: str, *, is_dir: bool) -> str:
    """Return the directories that --parents keeps: all, or those after a "/./" in the pattern."""
    pivot, mark, _ = pattern.partition("/./")
    skipped = posixpath.normpath("/" + pivot).strip("/") if mark else ""
    kept = path.removeprefix(skipped).strip("/") if skipped else path
    return kept if is_dir else posixpath.dirname(kept)


def is_archive(path: str) -> bool:
    """Tell whether a file is a tar, plain or compressed by gzip, bzip2, xz or zstd. Blocks."""
    with open(path, "rb") as file:
        magic = file.read(6)
        file.seek(0)
        try:
            reader: io.BufferedIOBase | zstandard.ZstdDecompressionReader = file
            if magic.startswith(b"\x1f\x8b"):
                reader = gzip.GzipFile(fileobj=file)
            elif magic.startswith(b"BZh"):
                reader = bz2.BZ2File(file)
            elif magic == b"\xfd7zXZ\x00":
                reader = lzma.LZMAFile(file)  # noqa: SIM115 (holds nothing)
            elif magic.startswith(b"\x28\xb5\x2f\xfd"):
                reader = zstandard.ZstdDecompressor().stream_reader(file)
            head = b""
            while len(head) < 512 and (piece := reader.read(512 - len(head))):
                head += piece
            if len(head) < 512 or not head.strip(b"\0"):
                return False
            tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        except (
            OSError,
            EOFError,
            ValueError,
            lzma.LZMAError,
            zstandard.ZstdError,
            tarfile.TarError,
        ):
            return False
    return True


def fingerprint(sources: Sequence[Source], exclude: Sequence[str] = ()) -> str:
    """Return a digest of the sources: names, modes, owners and contents, but no times. Blocks."""
    digest = hashlib.sha256()

    def add(*words: str) -> None:
        for word in words:
            digest.update(word.encode("utf-8", "surrogateescape") + b"\0")

    for source in sources:
        if source.tree is None or source.node is None:
            add("data", source.name, f"{source.mode:o}", hashlib.sha256(source.data).hexdigest())
            continue
        name = "" if source.is_dir else source.name
        add("node", source.prefix, name, source.tree.fingerprint(source.node))
        if source.is_dir and not exclude:
            for text in source.tree.fingerprints(source.node.path):
                digest.update(text.encode("utf-8", "surrogateescape"))
            continue
        for relative, node in _below(source, exclude):
            add(relative, source.tree.fingerprint(node))
    return digest.hexdigest()


def _below(source: Source, exclude: Sequence[str]) -> Iterator[tuple[str, Node]]:
    if source.tree is None or source.node is None or not source.is_dir:
        return
    ignore = Ignore(exclude)
    start = len(source.node.path) + 1 if source.node.path else 0
    if not exclude:
        for node in source.tree.walk(source.node.path):
            yield node.path[start:], node
        return
    for node in source.tree.walk(source.node.path):
        relative = node.path[start:]
        if not ignore.ignores(relative):
            yield relative, node


@frozen
class Destination:
    """Where to: ``path`` absolute inside the root; ``directory`` when files go into it, ``exists`` when it is there.

    ``missing`` are its parents that have to be made, topmost first.
    """

    path: str
    directory: bool
    exists: bool
    missing: tuple[str, ...] = ()


def clash(root: str, sources: Sequence[Source], place: Destination, exclude: Sequence[str]) -> str:
    """Return what of the sources would take the place of something of another kind, "" for nothing. Blocks.

    ``root`` is the host path of what ``place.path`` is, a directory that is there.
    """
    made: set[str] = set()
    for source in sources:
        if source.archive:
            continue
        base = f"{root}/{source.prefix}" if source.prefix else root
        if not source.is_dir:
            path = Path(base, source.name)
            if path.is_dir() and not path.is_symlink():
                return f"cannot replace the directory {place.path}/{source.name} by a file"
            continue
        for relative, node in _below(source, exclude):
            parent, _, _ = relative.rpartition("/")
            if f"{base}/{parent}" in made:
                if node.is_dir:
                    made.add(f"{base}/{relative}")
                continue
            try:
                is_dir = stat.S_ISDIR(os.lstat(f"{base}/{relative}").st_mode)
            except FileNotFoundError:
                made.add(f"{base}/{relative}")
                continue
            shown = posixpath.join(place.path, source.prefix, relative)
            if is_dir and not node.is_dir:
                return f"cannot replace the directory {shown} by a file"
            if node.is_dir and not is_dir:
                return f"cannot copy to non-directory: {shown}"
    return ""


def pack(
    sources: Sequence[Source],
    destination: Destination,
    owner: Ownership,
    *,
    exclude: Sequence[str] = (),
    now: int = 0,
    epoch: int | None = None,
) -> Iterator[bytes]:
    """Yield a tar, its names relative to the root, that makes the copy. Blocks; archives are not in it."""
    if sources and all(source.archive for source in sources):
        owner = replace(owner, chmod="")  # an archive has modes of its own
    packer = _Packer(owner, now if epoch is None else epoch, epoch)
    for path in destination.missing:
        yield from packer.directory(path)
    made = {destination.path} if destination.exists else set()
    for source in sources:
        if source.archive:
            continue
        target = destination.path
        if source.prefix:
            for part in source.prefix.split("/"):
                made_before = target in made
                if not made_before:
                    made.add(target)
                    yield from packer.directory(target)
                target = posixpath.join(target, part)
        if source.is_dir:
            yield from _pack_directory(packer, source, target, exclude, made)
            continue
        if destination.directory:
            if target not in made:
                made.add(target)
                yield from packer.directory(target)
            target = posixpath.join(target, source.name)
        yield from packer.source(source, target)
    yield tarfile.NUL * (2 * tarfile.BLOCKSIZE)


def _pack_directory(
    packer: "_Packer", source: Source, target: str, exclude: Sequence[str], made: set[str]
) -> Iterator[bytes]:
    if source.tree is None or source.node is None:
        return
    if target not in made:
        made.add(target)
        # It has the time of the source; its mode and owner are those of every directory that is made.
        yield from packer.directory(target, mtime=int(source.node.info.st_mtime))
    for relative, node in _below(source, exclude):
        yield from packer.node(source.tree, node, posixpath.join(target, relative))


class _Packer:
    """Turns nodes into tar entries."""

    def __init__(self, owner: Ownership, now: int, epoch: int | None) -> None:
        self._owner = owner
        self._now = now
        self._epoch = epoch
        self._linked: dict[tuple[int, int], str] = {}

    def directory(self, path: str, *, mtime: int | None = None) -> Iterator[bytes]:
        info = tarfile.TarInfo(path.strip("/"))
        if not info.name:
            return
        info.type = tarfile.DIRTYPE
        # A mode in octal counts for directories that are made as well, less what a umask takes.
        octal = _OCTAL.fullmatch(self._owner.chmod)
        info.mode = int(self._owner.chmod, 8) & 0o755 if octal else 0o755
        info.mtime = self._now if mtime is None else self._clamped(mtime)
        info.uid, info.gid = self._owner.uid or 0, self._owner.gid or 0
        yield _header(info)

    def source(self, source: Source, target: str) -> Iterator[bytes]:
        if source.tree is not None and source.node is not None:
            yield from self.node(source.tree, source.node, target)
            return
        info = tarfile.TarInfo(target.strip("/"))
        info.mode = changed_mode(self._owner.chmod, source.mode, is_dir=False)
        info.mtime = self._clamped(source.mtime if source.mtime is not None else self._now)
        info.uid, info.gid = self._owner.uid or 0, self._owner.gid or 0
        info.size = len(source.data)
        yield _header(info) + source.data + _padding(info.size)

    def node(self, tree: Tree, node: Node, target: str) -> Iterator[bytes]:
        info = tarfile.TarInfo(target.strip("/"))
        if not info.name:
            return
        mode = node.info.st_mode
        host = tree.host_path(node.path)
        info.mode = changed_mode(self._owner.chmod, stat.S_IMODE(mode), is_dir=stat.S_ISDIR(mode))
        info.mtime = self._clamped(int(node.info.st_mtime))
        own = (0, 0) if tree.ours else (node.info.st_uid, node.info.st_gid)
        info.uid = own[0] if self._owner.uid is None else self._owner.uid
        info.gid = own[1] if self._owner.gid is None else self._owner.gid
        if stat.S_ISREG(mode) and node.info.st_nlink > 1:
            inode = (node.info.st_dev, node.info.st_ino)
            first = self._linked.setdefault(inode, info.name)
            if first != info.name:
                info.type, info.linkname = tarfile.LNKTYPE, first
                yield _header(info)
                return
        if stat.S_ISREG(mode):
            info.size = node.info.st_size
            _add_xattrs(info, host, tree)
            yield _header(info)
            yield from _content(host, info.size)
            return
        if stat.S_ISDIR(mode):
            info.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(mode):
            info.type = tarfile.SYMTYPE
            info.linkname = str(Path(host).readlink())
        elif stat.S_ISFIFO(mode):
            info.type = tarfile.FIFOTYPE
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            info.type = tarfile.CHRTYPE if stat.S_ISCHR(mode) else tarfile.BLKTYPE
            info.devmajor, info.devminor = os.major(node.info.st_rdev), os.minor(node.info.st_rdev)
        else:
            return
        yield _header(info)

    def _clamped(self, mtime: int) -> int:
        return mtime if self._epoch is None else min(mtime, self._epoch)


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padding(size: int) -> bytes:
    return tarfile.NUL * (-size % tarfile.BLOCKSIZE)


def _content(path: str, size: int) -> Iterator[bytes]:
    left = size
    with open(path, "rb", buffering=0) as file:
        while left > 0:
            piece = file.read(min(CHUNK, left))
            if not piece:
                raise InvalidInputError(
                    f"{posixpath.basename(path)} became shorter while it was copied"
                )
            left -= len(piece)
            yield piece
    yield _padding(size)


def _add_xattrs(info: tarfile.TarInfo, path: str, tree: Tree) -> None:
    if tree.ours:
        return
    headers: dict[str, str] = {}
    info.pax_headers = headers
    try:
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith(("security.capability", "user.")):
                value = os.getxattr(path, name, follow_symlinks=False)
                headers[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
    except OSError:
        return


def changed_mode(change: str, mode: int, *, is_dir: bool) -> int:
    """Return the mode after --chmod: octal, or symbolic as chmod(1) writes it ("u=rwX,go=rX").

    Raises InvalidInputError for what is neither.
    """
    if not change:
        return mode
    if _OCTAL.fullmatch(change):
        return int(change, 8)
    for clause in change.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise InvalidInputError(
                f"invalid chmod {change[:60]!r}",
                hint="write it in octal, 0 to 07777, or as chmod(1) does, such as u=rwX,go=rX",
            )
        who = "ugo" if not match[1] or "a" in match[1] else match[1]
        for sign, letters in _ACTION.findall(match[2]):
            mode = _acted(mode, who, sign, letters, is_dir=is_dir)
    return mode


def _acted(mode: int, who: str, sign: str, letters: str, *, is_dir: bool) -> int:
    """Return the mode after one action of chmod(1), such as "+x", or "=g" which copies the group's bits."""
    if letters in _SHIFT and letters:
        value = mode >> _SHIFT[letters] & 7
    else:
        execute = "x" in letters or ("X" in letters and (is_dir or bool(mode & 0o111)))
        value = ("r" in letters) << 2 | ("w" in letters) << 1 | execute
    bits = area = 0
    for letter in who:
        area |= 7 << _SHIFT[letter]
        bits |= value << _SHIFT[letter]
    if "s" in letters:
        bits |= (0o4000 if "u" in who else 0) | (0o2000 if "g" in who else 0)
    if "t" in letters:
        bits |= 0o1000
    if sign == "+":
        return mode | bits
    return mode & ~bits if sign == "-" else (mode & ~area) | bits


def reowned(path: str, owner: Ownership) -> Iterator[bytes]:
    """Yield the archive's entries again with the owner asked for (ADD --chown of an archive). Blocks."""
    with open(path, "rb") as raw:
        file: io.BufferedReader | zstandard.ZstdDecompressionReader = raw
        if raw.peek(4)[:4] == b"\x28\xb5\x2f\xfd":
            file = zstandard.ZstdDecompressor().stream_reader(raw)
        try:
            with tarfile.open(fileobj=file, mode="r|*") as archive:
                for info in archive:
                    info.uid = info.uid if owner.uid is None else owner.uid
                    info.gid = info.gid if owner.gid is None else owner.gid
                    info.uname = info.gname = ""
                    yield _header(info)
                    data = archive.extractfile(info) if info.isreg() else None
                    if data is not None:
                        while piece := data.read(CHUNK):
                            yield piece
                        yield _padding(info.size)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InvalidInputError(f"cannot unpack {posixpath.basename(path)}: {error}") from error
    yield tarfile.NUL * (2 * tarfile.BLOCKSIZE)


def file_chunks(path: str) -> Iterator[bytes]:
    """Yield a file's bytes. Blocks."""
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            yield piece


async def in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a blocking iterator's chunks, joined to about a MiB, without blocking the loop."""

    def more() -> bytes:
        parts: list[bytes] = []
        length = 0
        for chunk in chunks:
            parts.append(chunk)
            length += len(chunk)
            if length >= CHUNK:
                break
        return b"".join(parts)

    while piece := await asyncio.to_thread(more):
        yield piece
