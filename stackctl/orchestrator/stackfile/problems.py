"""Collecting mistakes, so that one run names them all."""

import re
from collections.abc import Collection, Iterable

from stackctl.errors import Problem, StackFileError
from stackctl.orchestrator.stackfile.marks import Mark, Source, Where, dotted, nearest

MAX_PROBLEMS = 200
_MAX_TEXT = 600
_MAX_WORD = 100
_MAX_COMPARED = 50_000
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
MEANT = 'did you mean "'


class Problems:
    """The mistakes found so far, and the warnings."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.warnings: list[str] = []
        # Elements that were dropped because they are wrong; what refers to them is not wrong as well.
        self.dropped: set[Where] = set()
        # Names compared in search of near ones: in a large stack full of mistakes that would take minutes.
        self.compared = 0
        # Whether a whole file or base is missing, so that asking what refers to what would only confuse.
        self.partial = False

    def add(
        self,
        message: str,
        *,
        tree: object = None,
        where: Where = (),
        hint: str = "",
        key: bool = False,
    ) -> None:
        """Note a mistake at a path of a tree; with ``key`` the key is shown rather than its value."""
        mark, exact = nearest(tree, where)
        self.add_at(mark, message, where=where, hint=hint, key=key or not exact)

    def add_at(
        self,
        mark: Mark | None,
        message: str,
        *,
        where: Where = (),
        hint: str = "",
        key: bool = False,
    ) -> None:
        """Note a mistake at a mark."""
        if mark is None:
            self._note(
                Problem(
                    path="",
                    line=0,
                    column=0,
                    message=_cut(message),
                    hint=_cut(hint),
                    where=_cut(dotted(where)),
                )
            )
            return
        node = mark.key if key and mark.key is not None else mark.value
        if mark.variables and node is mark.value:
            names = ", ".join(f"${{{name}}}" for name in mark.variables)
            hint = f"the value comes from {names}{'; ' if hint else ''}{hint}"
        position = node.start_mark
        self.add_in(
            mark.source, position.line + 1, position.column + 1, message, where=where, hint=hint
        )

    def add_in(
        self,
        source: Source,
        line: int,
        column: int,
        message: str,
        *,
        where: Where = (),
        hint: str = "",
    ) -> None:
        """Note a mistake at a line and column of a file, counted from 1."""
        if self.full:
            return
        excerpt, caret = source.excerpt(line, column)
        self._note(
            Problem(
                path=_cut(source.name),
                line=line,
                column=column,
                message=_cut(message),
                hint=_cut(hint),
                excerpt=excerpt,
                caret=caret,
                where=_cut(dotted(where)),
            )
        )

    def _note(self, problem: Problem) -> None:
        if not self.full and problem not in self.found:
            self.found.append(problem)

    def warn(self, text: str) -> None:
        """Note a warning once."""
        if text not in self.warnings:
            self.warnings.append(text)

    @property
    def full(self) -> bool:
        """Whether no further mistake is kept, so that looking for more is in vain."""
        return len(self.found) >= MAX_PROBLEMS

    def suggestion(self, word: str, known: Collection[str]) -> str:
        """Return what ``suggestion`` does, as long as it is worth its time."""
        self.compared += len(known)
        if self.compared > _MAX_COMPARED or self.full:
            return ""
        return suggestion(word, known)

    def stop_if_any(self) -> None:
        """Raise StackFileError when there is any mistake."""
        if self.found:
            raise StackFileError(self.sorted())

    def sorted(self) -> tuple[Problem, ...]:
        """Return the mistakes by file, in the order the files were first found wrong, then by line."""
        files = {problem.path: order for order, problem in reversed(list(enumerate(self.found)))}
        return tuple(sorted(self.found, key=lambda p: (files[p.path], p.line, p.column)))


def _cut(text: str) -> str:
    """Make a text fit for a terminal: of bounded length and without control characters."""
    text = text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return "did you mean …?" for a near name, else nothing."""
    if len(word) > _MAX_WORD:
        return ""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    if not near:
        plain = {name.replace("_", "").replace("-", ""): name for name in known}
        match = plain.get(word.lower().replace("_", "").replace("-", ""))
        near = [match] if match else []
    return f'{MEANT}{near[0]}"?' if near else ""
