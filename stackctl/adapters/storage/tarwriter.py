"""Write tars: one header form (ustar, with pax records where it cannot say it), one order (by name), one clock (seconds).

The same tree always gives the same bytes. As a layer (``whiteouts``), overlayfs's marks become those of OCI layer.md.
"""

import os
import stat
from collections.abc import Iterator, Mapping

from stackctl.adapters.storage.treewriter import OPAQUE_XATTR
from stackctl.frozen import frozen

_BLOCK = 512
_CHUNK = 1 << 20
_END = bytes(1024)
_MAX_OCTAL_ID = 0o7777777
_MAX_OCTAL_SIZE = 0o77777777777
_PREFIX_XATTR = b"SCHILY.xattr."
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@frozen
class Owner:
    """What every entry has: permission bits, owner and modification time in seconds."""

    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0


_ROOT = Owner()


def header(
    name: bytes,
    kind: bytes,
    owner: Owner = _ROOT,
    *,
    size: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """Return one entry's header blocks: pax records where ustar cannot say it, then the ustar header."""
    pax: dict[bytes, bytes] = {}
    short, prefix = name, b""
    if len(name) > 100:
        short, prefix = _split(name)
        if not short:
            pax[b"path"] = name
            short = name[:100]
    if len(link) > 100:
        pax[b"linkpath"] = link
    for key, value, bound in (
        (b"size", size, _MAX_OCTAL_SIZE),
        (b"uid", owner.uid, _MAX_OCTAL_ID),
        (b"gid", owner.gid, _MAX_OCTAL_ID),
        (b"mtime", owner.mtime, _MAX_OCTAL_SIZE),
    ):
        if not 0 <= value <= bound:
            pax[key] = b"%d" % value
    for key, data in (xattrs or {}).items():
        pax[_PREFIX_XATTR + key] = data
    blocks = b""
    if pax:
        body = b"".join(_record(key, pax[key]) for key in sorted(pax))
        base = name.rstrip(b"/").rpartition(b"/")[2]
        blocks = _ustar(b"PaxHeaders/" + base[:80], b"x", Owner(), size=len(body))
        blocks += body + padding(len(body))
    return blocks + _ustar(
        short, kind, owner, prefix=prefix, size=size, link=link[:100], device=device
    )


def padding(size: int) -> bytes:
    """Return the zeros that fill a file's last block."""
    return bytes(-size % _BLOCK)


def end() -> bytes:
    """Return the two blocks that end a tar."""
    return _END


def _ustar(
    name: bytes,
    kind: bytes,
    owner: Owner,
    *,
    prefix: bytes = b"",
    size: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(100, b"\0"),
        owner.mode & 0o7777,
        owner.uid if owner.uid <= _MAX_OCTAL_ID else 0,
        owner.gid if owner.gid <= _MAX_OCTAL_ID else 0,
        size if size <= _MAX_OCTAL_SIZE else 0,
        owner.mtime if 0 <= owner.mtime <= _MAX_OCTAL_SIZE else 0,
    )
    tail = b"%s%sustar\x0000%s%07o\0%07o\0%s%s" % (
        kind,
        link.ljust(100, b"\0"),
        bytes(64),
        *device,
        prefix.ljust(155, b"\0"),
        bytes(12),
    )
    total = sum(head) + sum(tail) + 8 * 32
    return b"%s%06o\0 %s" % (head, total, tail)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Return (name, prefix) for ustar, or (b"", b"") where no "/" is in the right place."""
    if len(name) > 256:
        return b"", b""
    at = name.rfind(b"/", 0, 156)
    while at > 0:
        rest = name[at + 1 :]
        if len(rest) > 100:
            break
        if rest:
            return rest, name[:at]
        at = name.rfind(b"/", 0, at)
    return b"", b""


def _record(key: bytes, value: bytes) -> bytes:
    body = b" %s=%s\n" % (key, value)
    length = len(body) + len(str(len(body)))
    if len(str(length)) + len(body) != length:
        length = len(body) + len(str(length))
    return b"%d%s" % (length, body)


class TreePacker:
    """Packs what is below a directory descriptor, reading by descriptors only.

    A file that shrinks while it is read is filled with zeros, one that grows is cut: the header's size is kept, as a
    reader depends on it. ``entries`` counts what was packed. Of directories on the ``hollow`` devices only the
    directory itself is packed, and of the paths ``without`` nothing.
    """

    def __init__(
        self,
        *,
        whiteouts: bool = False,
        hollow: frozenset[int] = frozenset(),
        without: frozenset[bytes] = frozenset(),
    ) -> None:
        self._without = without
        self._whiteouts = whiteouts
        self._hollow = hollow
        self._links: dict[tuple[int, int], bytes] = {}
        self.entries = 0

    def tree(self, dir_fd: int, prefix: bytes = b"") -> Iterator[bytes]:
        """Yield the entries below the descriptor, without the directory itself; no end blocks."""
        for name in sorted(os.fsencode(entry) for entry in os.listdir(dir_fd)):
            yield from self.entry(dir_fd, name, prefix + name)

    def entry(self, parent_fd: int, name: bytes, path: bytes) -> Iterator[bytes]:
        """Yield one entry and, for a directory, all below; what vanished meanwhile yields nothing."""
        try:
            info = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        kind = stat.S_IFMT(info.st_mode)
        if path in self._without:
            return
        if kind == stat.S_IFSOCK:
            return  # a socket means nothing without its listener
        self.entries += 1
        if kind == stat.S_IFDIR:
            yield from self._directory(parent_fd, name, path)
        elif kind == stat.S_IFREG:
            yield from self._file(parent_fd, name, path)
        elif kind == stat.S_IFCHR and info.st_rdev == 0 and self._whiteouts:
            directory, slash, base = path.rpartition(b"/")
            yield header(directory + slash + b".wh." + base, b"0", Owner(mode=0))
        else:
            try:
                yield self._special(parent_fd, name, path, info)
            except FileNotFoundError:
                return

    def _directory(self, parent_fd: int, name: bytes, path: bytes) -> Iterator[bytes]:
        try:
            fd = os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=parent_fd)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            yield from self.directory(fd, path)
        finally:
            os.close(fd)

    def directory(self, fd: int, path: bytes) -> Iterator[bytes]:
        """Yield the entry of an open directory and all below."""
        info = os.fstat(fd)
        xattrs = read_xattrs(fd)
        yield header(path + b"/", b"5", _owner(info), xattrs=_kept(xattrs))
        if self._whiteouts and xattrs.get(OPAQUE_XATTR) == b"y":
            yield header(path + b"/.wh..wh..opq", b"0", Owner(mode=0))
        if info.st_dev not in self._hollow:
            yield from self.tree(fd, path + b"/")

    def _file(self, parent_fd: int, name: bytes, path: bytes) -> Iterator[bytes]:
        try:
            fd = os.open(name, _FLAGS, dir_fd=parent_fd)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                return
            raise
        try:
            yield from self.file(fd, path)
        finally:
            os.close(fd)

    def file(self, fd: int, path: bytes) -> Iterator[bytes]:
        """Yield the entry of an open regular file and its data, or the link to where the file was packed first."""
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            return
        if info.st_nlink > 1:
            first = self._links.setdefault((info.st_dev, info.st_ino), path)
            if first != path:
                yield header(path, b"1", _owner(info), link=first)
                return
        yield header(path, b"0", _owner(info), size=info.st_size, xattrs=_kept(read_xattrs(fd)))
        left = info.st_size
        while left:
            data = os.read(fd, min(left, _CHUNK))
            if not data:
                break
            left -= len(data)
            yield data
        while left:
            zeros = bytes(min(left, _CHUNK))
            left -= len(zeros)
            yield zeros
        yield padding(info.st_size)

    def _special(self, parent_fd: int, name: bytes, path: bytes, info: os.stat_result) -> bytes:
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFLNK:
            target = os.fsencode(os.readlink(name, dir_fd=parent_fd))
            return header(path, b"2", _owner(info), link=target)
        flag = {stat.S_IFCHR: b"3", stat.S_IFBLK: b"4", stat.S_IFIFO: b"6"}[kind]
        major, minor = os.major(info.st_rdev), os.minor(info.st_rdev)
        if kind == stat.S_IFIFO:
            major = minor = 0
        if info.st_nlink > 1:
            first = self._links.setdefault((info.st_dev, info.st_ino), path)
            if first != path:
                return header(path, b"1", _owner(info), link=first)
        return header(path, flag, _owner(info), device=(major, minor))


def read_xattrs(fd: int) -> dict[bytes, bytes]:
    """Return a descriptor's extended attributes; none where the file system has none."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return {}
    values = {}
    for name in names:
        try:
            values[os.fsencode(name)] = os.getxattr(fd, name)
        except OSError:
            continue  # gone, or not ours to read
    return values


def _kept(xattrs: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Leave out what belongs to this machine: overlayfs's marks and security labels but for capabilities."""
    return {
        key: value
        for key, value in xattrs.items()
        if key == b"security.capability" or key.startswith(b"user.")
        if not key.startswith(b"user.overlay.")
    }


def _owner(info: os.stat_result) -> Owner:
    return Owner(
        mode=stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
        mtime=info.st_mtime_ns // 1_000_000_000,
    )
