""".dockerignore patterns, as Docker matches them; packing and building need them.

The rules are those of moby/patternmatcher: a pattern is anchored at the context's root, ``*`` and ``?`` stop at a
slash, ``**`` does not, a later pattern wins, ``!`` takes back, and what matches a directory matches all below it.
"""

import os
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from stackctl.errors import InvalidInputError

_State = tuple[bool, tuple[bool, ...]]
_ESCAPED = frozenset(".+()|{}$")


def read_patterns(text: str) -> tuple[str, ...]:
    """Return the patterns of a .dockerignore file, cleaned; comments and empty lines are dropped."""
    patterns = []
    for line in text.removeprefix("\ufeff").splitlines():
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        inverted = pattern.startswith("!")
        pattern = pattern[1:].strip() if inverted else pattern
        if pattern:
            pattern = _clean(pattern)
            if len(pattern) > 1 and pattern.startswith("/"):
                pattern = pattern[1:]
        patterns.append(f"!{pattern}" if inverted else pattern)
    return tuple(patterns)


class Ignore:
    """Decides which paths of a context are left out. Paths are relative, with slashes, without a leading one.

    Results for directories are remembered, so that a file costs one match per pattern whatever its depth. Raises
    InvalidInputError for a pattern that is not well formed.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._matchers: list[tuple[bool, Callable[[str], object]]] = []
        self._kept: list[str] = []
        for raw in patterns:
            text = raw.strip()
            if not text:
                continue
            keeps = text.startswith("!")
            pattern = text[1:].strip() if keeps else text
            if not pattern:
                raise InvalidInputError('illegal exclusion pattern: "!"')
            pattern = _clean(pattern)
            if len(pattern) > 1 and pattern.startswith("/"):
                pattern = pattern[1:]
            self._matchers.append((keeps, _matcher(pattern)))
            if keeps:
                self._kept.append(pattern)
        self._none = (False,) * len(self._matchers)
        self._directories: dict[str, _State] = {}

    @classmethod
    def parse(cls, text: str) -> "Ignore":
        """Return the matcher of a .dockerignore file's text."""
        return cls(read_patterns(text))

    def __bool__(self) -> bool:
        return bool(self._matchers)

    @property
    def takes_back(self) -> bool:
        """Whether something below a directory that is left out may be wanted all the same."""
        return bool(self._kept)

    def ignores(self, path: str) -> bool:
        """Tell whether the path is left out."""
        if not self._matchers:
            return False
        return self._match(path, self._parent(path))[0]

    def skips(self, directory: str) -> bool:
        """Tell whether the directory and certainly everything below it is left out, so that it need not be read."""
        if not self.ignores(directory):
            return False
        return not any(_may_match_below(pattern, directory) for pattern in self._kept)

    def walk(self, root: Path | str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield (relative path, entry) of all that is not left out, parents first, names sorted.

        A directory that is left out but holds something that is not is yielded before it.
        """
        yield from self._walk(os.fspath(root), "", ())

    def _walk(
        self, directory: str, prefix: str, pending: tuple[tuple[str, os.DirEntry[str]], ...]
    ) -> Iterator[tuple[str, os.DirEntry[str]]]:
        with os.scandir(directory) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        for entry in entries:
            path = prefix + entry.name
            is_directory = entry.is_dir(follow_symlinks=False)
            ignored = self.ignores(path)
            if not ignored:
                yield from pending
                pending = ()
                yield path, entry
                if is_directory:
                    yield from self._walk(entry.path, f"{path}/", ())
            elif is_directory and not self.skips(path):
                for item in self._walk(entry.path, f"{path}/", (*pending, (path, entry))):
                    pending = ()
                    yield item

    def _parent(self, path: str) -> _State:
        parent, slash, _ = path.rpartition("/")
        if not slash:
            return False, self._none
        state = self._directories.get(parent)
        if state is None:
            state = self._match(parent, self._parent(parent))
            self._directories[parent] = state
        return state

    def _match(self, path: str, parent: _State) -> _State:
        flags = []
        ignored = False
        for (keeps, matches), above in zip(self._matchers, parent[1], strict=True):
            hit = above or bool(matches(path))
            flags.append(hit)
            if hit:
                ignored = not keeps
        return ignored, tuple(flags)


def _clean(pattern: str) -> str:
    # normpath keeps two leading slashes, Go's Clean does not.
    return posixpath.normpath(re.sub(r"^//+", "/", pattern))


def _may_match_below(pattern: str, directory: str) -> bool:
    """Tell whether a pattern could match something below the directory, by the parts before its first ``**``."""
    wanted = pattern.split("/")
    for part, name in zip(wanted, directory.split("/"), strict=False):
        if "**" in part:
            return True
        if not _matcher(part)(name):
            return False
    return len(wanted) > directory.count("/") + 1


def path_matcher(pattern: str) -> Callable[[str], object]:
    """Return what tells whether one path (without its parents) matches the pattern; raises InvalidInputError."""
    return _matcher(_clean(pattern))


def _matcher(pattern: str) -> Callable[[str], object]:
    regex, kind = _translate(pattern)
    if kind == "exact":
        return pattern.__eq__
    if kind == "prefix":
        prefix = pattern[:-2]
        return lambda path: path.startswith(prefix)
    if kind == "suffix":
        suffix = pattern[2:]
        bare = suffix[1:] if suffix.startswith("/") else None
        return lambda path: path.endswith(suffix) or path == bare
    try:
        return re.compile(regex, re.DOTALL).fullmatch
    except re.error as error:
        raise InvalidInputError(f'syntax error in pattern: "{pattern[:200]}": {error}') from error


def _translate(pattern: str) -> tuple[str, str]:
    """Return the regular expression and how to match: "exact", "prefix", "suffix" or "regex"."""
    out: list[str] = []
    kind = "exact"
    at = 0
    while at < len(pattern):
        char = pattern[at]
        first = at == 0
        at += 1
        if char == "*":
            if pattern[at : at + 1] != "*":
                out.append("[^/]*")
                kind = "regex"
                continue
            at += 1
            if pattern[at : at + 1] == "/":
                at += 1
            if at >= len(pattern):
                kind = "prefix" if kind == "exact" else "regex"
                out.append(".*")
            else:
                # Repeated "**/" mean the same as one; many of them would make matching slow.
                if not out or out[-1] != "(?:.*/)?":
                    out.append("(?:.*/)?")
                kind = "regex"
            if first:
                kind = "suffix"
        elif char == "?":
            out.append("[^/]")
            kind = "regex"
        elif char == "\\":
            if at >= len(pattern):
                raise InvalidInputError(f'syntax error in pattern: "{pattern[:200]}"')
            out.append(re.escape(pattern[at]))
            at += 1
            kind = "regex"
        elif char == "[":
            text, at = _character_class(pattern, at)
            out.append(text)
            kind = "regex"
        else:
            out.append(f"\\{char}" if char in _ESCAPED else re.escape(char))
    return "".join(out), kind


def _character_class(pattern: str, at: int) -> tuple[str, int]:
    """Translate what follows "[" (path.Match's grammar) up to its "]"."""
    negated = pattern[at : at + 1] == "^"
    at += negated
    out: list[str] = []

    def single(at: int) -> tuple[str, int]:
        char = pattern[at : at + 1]
        if char == "\\":
            at += 1
            char = pattern[at : at + 1]
        elif char in ("-", "]"):
            char = ""
        if not char:
            raise InvalidInputError(f'syntax error in pattern: "{pattern[:200]}"')
        return char, at + 1

    while True:
        if pattern[at : at + 1] == "]" and out:
            break
        low, at = single(at)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = single(at + 1)
        if low <= high:
            out.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            out.append("")
    body = "".join(out)
    if not body:
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{body}]", at + 1
