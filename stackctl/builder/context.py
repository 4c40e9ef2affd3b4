"""The build context as received, and trees of files that COPY and ADD read from.

A *tree* is a directory on the host seen as a root of its own: the context, or a stage's or image's files. Paths in it
are relative with slashes; a symlink never leads out of it. The context's .dockerignore is applied here as well, since
what was sent may hold more than it should.
"""

import contextlib
import hashlib
import os
import posixpath
import re
import shutil
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from stackctl.builder.parser import MAX_SIZE, located
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.frozen import frozen
from stackctl.ignore import Ignore, path_matcher

_MAX_LINKS = 40
_DIGESTS_KEPT = 200_000
_KIND = 0o170000
_WILDCARD = re.compile(r"[*?\[\\]")


class Digests:
    """SHA-256 of files, remembered by what stat says of them (device, inode, size, times)."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int, int, int], str] = {}

    def of(self, path: str, info: os.stat_result) -> str:
        """Return the hexadecimal digest of a regular file; blocks."""
        key = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        return self._known.get(key) or self._read(path, key)

    def _read(self, path: str, key: tuple[int, int, int, int, int]) -> str:
        with open(path, "rb", buffering=0) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if len(self._known) >= _DIGESTS_KEPT:
            self._known.clear()
        self._known[key] = found
        return found


@frozen
class Node:
    """One thing in a tree: ``path`` relative to the tree, ``info`` of the thing itself (a symlink is not followed)."""

    path: str
    info: os.stat_result

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.info.st_mode)


class Tree:
    """Files below a root. Every call blocks; call it from a thread."""

    def __init__(
        self, root: Path, digests: Digests, *, ignore: Ignore | None = None, ours: bool = False
    ) -> None:
        self.root = os.fspath(root)
        self.ours = ours
        self._digests = digests
        self._ignore = ignore or Ignore(())

    def hides(self, path: str) -> bool:
        """Tell whether something below a directory is left out."""
        if not self._ignore:
            return False
        with os.scandir(self.host_path(path)) as scan:
            entries = list(scan)
        start = f"{path}/" if path else ""
        return any(self._ignore.ignores(start + entry.name) for entry in entries) or any(
            self.hides(start + entry.name)
            for entry in entries
            if entry.is_dir(follow_symlinks=False)
        )

    def host_path(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def find(self, path: str) -> Node:
        """Return what the path leads to, symlinks followed inside the tree; raises NotFoundError."""
        waiting = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[str] = []
        links = 0
        info = os.lstat(self.root)
        while waiting:
            part = waiting.pop()
            if part == "..":
                if done:
                    done.pop()
                continue
            if part in ("", "."):
                continue
            name = "/".join([*done, part])
            info = self._lstat(name, path)
            if stat.S_ISLNK(info.st_mode):
                links += 1
                if links > _MAX_LINKS:
                    raise NotFoundError(f"{path}: too many levels of symbolic links")
                target = str(Path(self.host_path(name)).readlink())
                if target.startswith("/"):
                    done = []
                waiting.extend(reversed(target.split("/")))
                continue
            done.append(part)
            if waiting and not stat.S_ISDIR(info.st_mode):
                raise NotFoundError(f"stat {path}: not a directory")
        name = "/".join(done)
        if name and self._ignore.ignores(name) and not self._holds(name, info):
            raise NotFoundError(f"stat {path}: file does not exist")
        return Node(path=name, info=os.lstat(self.host_path(name)))

    def _holds(self, name: str, info: os.stat_result) -> bool:
        """Tell whether what is ignored is a directory with something in it that is not."""
        return stat.S_ISDIR(info.st_mode) and any(True for _ in self.walk(name))

    def _lstat(self, name: str, asked: str) -> os.stat_result:
        try:
            return os.lstat(self.host_path(name))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"stat {asked}: file does not exist") from None
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"stat {asked[:200]}: {error}") from error

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match a source pattern (path.Match per component), sorted; [] when none does."""
        clean = posixpath.normpath("/" + pattern).lstrip("/")
        if not _WILDCARD.search(clean):
            return [clean]
        found = [""]
        for part in clean.split("/"):
            wild = _WILDCARD.search(part)
            matches = path_matcher(part) if wild else part.__eq__
            following: list[str] = []
            for base in found:
                with contextlib.suppress(NotADirectoryError, FileNotFoundError):
                    following += [
                        f"{base}/{name}" if base else name
                        for name in _names(self.host_path(base))
                        if matches(name)
                    ]
            found = following
        return sorted(path for path in found if not self._ignore.ignores(path))

    def walk(self, path: str) -> Iterator[Node]:
        """Yield everything below a directory, parents first, names sorted; sockets are left out."""
        if not self._ignore:
            yield from self._plain(path)
            return
        for relative, entry in self._ignore.walk(self.root):
            if not path or relative.startswith(f"{path}/"):
                yield Node(path=relative, info=entry.stat(follow_symlinks=False))

    def _plain(self, path: str) -> Iterator[Node]:
        start = f"{path}/" if path else ""
        for name, info in _stats(self.host_path(path)):
            kind = info.st_mode & _KIND
            if kind == stat.S_IFSOCK:
                continue
            below = start + name
            yield Node(path=below, info=info)
            if kind == stat.S_IFDIR:
                yield from self._plain(below)

    def fingerprints(self, path: str) -> Iterator[str]:
        """Yield the names below a directory, each with its ``fingerprint`` and a NUL after either, in ``walk``'s order.

        The text of one directory's entries comes at once: contexts hold tens of thousands of files, and most of a
        build that finds everything in the cache is spent here.
        """
        if self._ignore.takes_back:
            start = len(path) + 1 if path else 0
            for node in self.walk(path):
                yield f"{node.path[start:]}\0{self.fingerprint(node)}\0"
            return
        yield from self._fingerprints(self.host_path(path), "", f"{path}/" if path else "")

    def _fingerprints(self, host: str, start: str, above: str) -> Iterator[str]:
        words: list[str] = []
        append, digest_of = words.append, self._digests.of
        ignores = self._ignore.ignores if self._ignore else None
        for name, info in _stats(host):
            if ignores is not None and ignores(f"{above}{start}{name}"):
                continue
            mode = info.st_mode
            kind = mode & _KIND
            if kind == stat.S_IFREG and self.ours:
                append(f"{start}{name}\0{mode:o} {digest_of(f'{host}/{name}', info)}\0")
            elif kind != stat.S_IFSOCK:
                below = f"{start}{name}"
                append(f"{below}\0{self._fingerprint(f'{host}/{name}', info)}\0")
                if kind == stat.S_IFDIR:
                    yield "".join(words)
                    words.clear()
                    yield from self._fingerprints(f"{host}/{name}", f"{below}/", above)
        yield "".join(words)

    def fingerprint(self, node: Node) -> str:
        """Return what the cache knows of a node: kind, mode, owner and content; never a time."""
        return self._fingerprint(self.host_path(node.path), node.info)

    def _fingerprint(self, host: str, info: os.stat_result) -> str:
        owner = "" if self.ours else f" {info.st_uid}:{info.st_gid}"
        head = f"{info.st_mode:o}{owner}"
        if info.st_mode & _KIND == stat.S_IFREG:
            return f"{head} {self._digests.of(host, info)}"
        if stat.S_ISLNK(info.st_mode):
            return f"{head} {Path(host).readlink()}"
        if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
            return f"{head} {info.st_rdev}"
        return head


def _stats(host: str) -> list[tuple[str, os.stat_result]]:
    """Return what lstat says of a directory's entries, names sorted; by the directory, half the work of by path."""
    directory = os.open(host, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 (of a descriptor)
        return [(name, os.lstat(name, dir_fd=directory)) for name in names]
    finally:
        os.close(directory)


def _names(directory: str) -> list[str]:
    with os.scandir(directory) as scan:
        return [entry.name for entry in scan]


def named_tree(root: Path, digests: Digests, fetched: Collection[Path] = ()) -> Tree:
    """Return the files of a named context, without what its own .dockerignore names unless it was fetched.

    It is so in Docker, too: what comes from elsewhere comes whole.
    """
    if root in fetched:
        return Tree(root, digests, ours=True)
    try:
        text = _text_of(Tree(root, digests, ours=True), ".dockerignore")
    except NotFoundError:
        text = ""
    return Tree(root, digests, ignore=_ignore(".dockerignore", text), ours=True)


def _ignore(name: str, text: str) -> Ignore:
    """Return the patterns of a file; raises InvalidInputError naming the line of one that is not well formed."""
    try:
        return Ignore.parse(text)
    except InvalidInputError as error:
        lines = text.splitlines()
        for number, line in enumerate(lines, 1):
            try:
                Ignore.parse(line)
            except InvalidInputError:
                raise located(name, lines, number, error.message) from error
        raise


def _text_of(plain: Tree, name: str) -> str:
    node = plain.find(name)
    if not stat.S_ISREG(node.info.st_mode):
        raise InvalidInputError(f"{name} is not a regular file")
    if node.info.st_size > MAX_SIZE:
        raise InvalidInputError(f"{name} is larger than {MAX_SIZE >> 20} MiB")
    with open(plain.host_path(node.path), "rb") as file:
        data = file.read(MAX_SIZE + 1)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{name} is not UTF-8 text: {error.reason}") from error


class Context:
    """The received context on disk. ``dockerfile`` is its text, ``name`` how messages call it."""

    def __init__(
        self, root: Path, digests: Digests, *, temporary: bool, tidy: bool = False
    ) -> None:
        self.root = root
        self._tidy = tidy
        self._temporary = temporary
        self._digests = digests
        self.tree = Tree(root, digests, ours=True)

    def apply_ignore(self, dockerfile: str) -> None:
        """Read .dockerignore (the Dockerfile's own one first) and hide what it names."""
        for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
            try:
                text = self.read(name)
            except NotFoundError:
                continue
            self.tree = Tree(self.root, self._digests, ignore=_ignore(name, text), ours=True)
            return

    def read(self, name: str) -> str:
        """Return a text file of the context; raises NotFoundError or InvalidInputError."""
        return _text_of(Tree(self.root, self._digests, ours=True), name)

    def close(self) -> None:
        """Remove it when it is a temporary one; may be called twice; blocks."""
        if self._temporary:
            shutil.rmtree(self.root, ignore_errors=True)
            if self._tidy:
                with contextlib.suppress(OSError):
                    self.root.parent.rmdir()  # when this was the last one in it
