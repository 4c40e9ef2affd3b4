"""Collecting mistakes, so that one run names them all."""

from collections.abc import Iterable

from stackctl.errors import Problem, StackFileError
from stackctl.orchestrator.stackfile.marks import Mark, Source, Where, dotted, nearest

MAX_PROBLEMS = 200
MEANT = 'did you mean "'


class Problems:
    """The mistakes found so far, and the warnings."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.warnings: list[str] = []
        # Elements that were dropped because they are wrong; what refers to them is not wrong as well.
        self.dropped: set[Where] = set()
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
                Problem(path="", line=0, column=0, message=message, hint=hint, where=dotted(where))
            )
            return
        node = mark.key if key and mark.key is not None else mark.value
        if mark.variables and not hint:
            names = ", ".join(f"${{{name}}}" for name in mark.variables)
            hint = f"the value comes from {names}"
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
        if len(self.found) >= MAX_PROBLEMS:
            return
        self._note(
            Problem(
                path=source.name,
                line=line,
                column=column,
                message=message,
                hint=hint,
                excerpt=source.line(line),
                where=dotted(where),
            )
        )

    def _note(self, problem: Problem) -> None:
        if len(self.found) < MAX_PROBLEMS and problem not in self.found:
            self.found.append(problem)

    def warn(self, text: str) -> None:
        """Note a warning once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def stop_if_any(self) -> None:
        """Raise StackFileError when there is any mistake."""
        if self.found:
            raise StackFileError(self.sorted())

    def sorted(self) -> tuple[Problem, ...]:
        """Return the mistakes by file, in the order the files were first found wrong, then by line."""
        files = {problem.path: order for order, problem in reversed(list(enumerate(self.found)))}
        return tuple(sorted(self.found, key=lambda p: (files[p.path], p.line, p.column)))


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return "did you mean …?" for a near name, else nothing."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    if not near:
        plain = {name.replace("_", "").replace("-", ""): name for name in known}
        match = plain.get(word.lower().replace("_", "").replace("-", ""))
        near = [match] if match else []
    return f'{MEANT}{near[0]}"?' if near else ""
