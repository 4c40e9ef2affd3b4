"""Lines and heredocs, with positions: Dockerfile text to raw statements; pure.

The rules are those of the Dockerfile reference: parser directives first, comments dropped (also inside a continued
line), continuation by the escape character, heredocs after RUN, COPY and ADD. What the arguments of a statement mean
is for ``instructions``.
"""

import difflib
import json
import re
from collections.abc import Iterable, Sequence

from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen

MAX_SIZE = 4 << 20
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_HEREDOC = re.compile(r"([0-9]*)<<(-?)([^<]+)")
_WITH_HEREDOCS = frozenset({"RUN", "COPY", "ADD"})


@frozen
class Heredoc:
    """One heredoc. ``expand`` is false when its name was quoted; ``chomp`` when it was written ``<<-``."""

    name: str
    content: str
    expand: bool = True
    chomp: bool = False
    descriptor: str = ""

    @property
    def text(self) -> str:
        """The content as the instruction sees it, leading tabs removed under ``<<-``."""
        if not self.chomp:
            return self.content
        return "".join(line.lstrip("\t") for line in self.content.splitlines(keepends=True))


@frozen
class Statement:
    """One instruction as written: ``keyword`` in upper case, ``rest`` its arguments on one line, flags taken off.

    ``line`` and ``end_line`` count from 1. ``original`` is what is shown as the step.
    """

    keyword: str
    rest: str
    flags: tuple[str, ...]
    heredocs: tuple[Heredoc, ...]
    line: int
    end_line: int
    original: str


@frozen
class Dockerfile:
    """A parsed file. ``lines`` are kept for excerpts."""

    name: str
    lines: tuple[str, ...]
    statements: tuple[Statement, ...]
    escape: str = "\\"
    syntax: str = ""
    check: str = ""

    def error(self, line: int, message: str, *, hint: str = "") -> InvalidInputError:
        """Return an error located at the line, with the excerpt."""
        return located(self.name, self.lines, line, message, hint=hint)


def located(
    name: str, lines: Sequence[str], line: int, message: str, *, hint: str = ""
) -> InvalidInputError:
    """Return "NAME:LINE: message" with the source line below it; the message alone for a text without a name."""
    if not name:
        return InvalidInputError(message, hint=hint)
    excerpt = lines[line - 1].strip()[:200] if 0 < line <= len(lines) else ""
    shown = f"\n  {line} | {excerpt}" if excerpt else ""
    return InvalidInputError(f"{name}:{line}: {message}{shown}", hint=hint)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean X?)" or ""."""
    close = difflib.get_close_matches(word[:40], list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def parse(text: str, *, name: str = "Dockerfile") -> Dockerfile:
    """Return the statements of a Dockerfile; raises InvalidInputError naming the line."""
    if len(text) > MAX_SIZE:
        raise located(name, (), 1, f"the file is larger than {MAX_SIZE >> 20} MiB")
    raw = text.removeprefix("\ufeff").split("\n")
    lines = tuple(line.removesuffix("\r") for line in raw)
    directives = _directives(name, lines)
    escape = directives.get("escape", "\\")
    reader = _Reader(name, lines, escape, raw)
    statements = tuple(reader.statements())
    if not statements:
        raise located(name, lines, 1, "the file holds no instructions")
    return Dockerfile(
        name=name,
        lines=lines,
        statements=statements,
        escape=escape,
        syntax=directives.get("syntax", ""),
        check=directives.get("check", ""),
    )


def _directives(name: str, lines: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        key = match[1].lower() if match else ""
        if match is None or key not in _DIRECTIVES:
            break
        if key in found:
            raise located(name, lines, number, f"only one {key} parser directive can be used")
        if key == "escape" and match[2] not in ("\\", "`"):
            raise located(
                name, lines, number, f"invalid escape token {match[2]!r}: must be ` or \\"
            )
        found[key] = match[2]
    return found


class _Reader:
    """Walks the lines once."""

    def __init__(self, name: str, lines: Sequence[str], escape: str, raw: Sequence[str]) -> None:
        self._name = name
        self._lines = lines
        # With their carriage returns, which heredocs keep.
        self._raw = raw
        self._escape = escape
        self._at = 0
        self._continued = re.compile(rf"(?:^|(?<!{re.escape(escape)})){re.escape(escape)}[ \t]*$")

    def statements(self) -> Iterable[Statement]:
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if not line.strip() or line.lstrip().startswith("#"):
                self._at += 1
                continue
            yield self._statement()

    def _statement(self) -> Statement:
        start = self._at + 1
        text = self._logical_line()
        keyword, _, rest = _split_keyword(text)
        if not keyword:
            raise located(self._name, self._lines, start, "no instruction on this line")
        heredocs: tuple[Heredoc, ...] = ()
        inner = keyword
        if inner == "ONBUILD":
            inner = _split_keyword(rest)[0]
        if inner in _WITH_HEREDOCS and "<<" in rest:
            heredocs = self._heredocs(rest, start)
        flags, rest = _take_flags(rest, self._escape) if keyword != "ONBUILD" else ((), rest)
        return Statement(
            keyword=keyword,
            rest=rest,
            flags=flags,
            heredocs=heredocs,
            line=start,
            end_line=self._at,
            original=text,
        )

    def _logical_line(self) -> str:
        parts: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            # Comments and empty lines inside a continued instruction are no part of it.
            if parts and (not line.strip() or line.lstrip().startswith("#")):
                continue
            match = self._continued.search(line)
            if match is None:
                parts.append(line)
                break
            parts.append(line[: match.start()])
        return "".join(parts).strip()

    def _heredocs(self, rest: str, start: int) -> tuple[Heredoc, ...]:
        found: list[Heredoc] = []
        for word in split_words(rest, self._escape):
            match = _HEREDOC.fullmatch(word)
            if match is None:
                continue
            name = _unquote(match[3], self._escape)
            if not name:
                continue
            chomp = match[2] == "-"
            content = self._heredoc_content(name, chomp, start)
            found.append(
                Heredoc(
                    name=name,
                    content=content,
                    expand=name == match[3],
                    chomp=chomp,
                    descriptor=match[1],
                )
            )
        return tuple(found)

    def _heredoc_content(self, name: str, chomp: bool, start: int) -> str:
        parts: list[str] = []
        while self._at < len(self._lines):
            line, raw = self._lines[self._at], self._raw[self._at]
            self._at += 1
            if (line.lstrip("\t") if chomp else line) == name:
                return "".join(parts)
            parts.append(raw + "\n")
        raise located(self._name, self._lines, start, f"unterminated heredoc {name!r}")


def heredoc_word(word: str) -> bool:
    """Tell whether a text is the mark of a heredoc, such as ``<<EOF``, and nothing beside it."""
    return _HEREDOC.fullmatch(word) is not None and len(split_words(word, "")) == 1


def _split_keyword(text: str) -> tuple[str, str, str]:
    match = re.match(r"\S+", text)
    if match is None:
        return "", "", ""
    return match[0].upper(), " ", text[match.end() :].strip()


def split_words(text: str, escape: str) -> list[str]:
    """Split at blanks outside quotes; quotes and escapes stay in the words (they are for ``expand``)."""
    words: list[str] = []
    current: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            current.append(text[at : at + 2])
            at += 2
            continue
        if quote:
            if char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char.isspace():
            if current:
                words.append("".join(current))
                current = []
            at += 1
            continue
        current.append(char)
        at += 1
    if current:
        words.append("".join(current))
    return words


def _unquote(text: str, escape: str) -> str:
    result: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            at += 1
            result.append(text[at])
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            result.append(char)
        at += 1
    return "".join(result)


def _take_flags(rest: str, escape: str) -> tuple[tuple[str, ...], str]:
    """Take ``--flag[=value]`` words off the front; "--" alone ends them. Quotes in a flag are removed."""
    flags: list[str] = []
    rest = rest.lstrip()
    while rest.startswith("--"):
        at = 0
        quote = ""
        while at < len(rest) and (quote or not rest[at].isspace()):
            if rest[at] == escape and quote != "'" and at + 1 < len(rest):
                at += 2
                continue
            if quote:
                quote = "" if rest[at] == quote else quote
            elif rest[at] in "'\"":
                quote = rest[at]
            at += 1
        word, rest = rest[:at], rest[at:].lstrip()
        if word == "--":
            break
        flags.append(_unquote(word, escape))
    return tuple(flags), rest


def json_words(rest: str) -> tuple[str, ...] | None:
    """Return the words of the JSON (exec) form; None when the text is no JSON array.

    Raises ValueError for an array that holds anything but strings.
    """
    if not rest.lstrip().startswith("["):
        return None
    try:
        value = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list):
        return None
    if not all(isinstance(item, str) for item in value):
        raise ValueError("when using JSON array syntax, arrays must be comprised of strings only")
    return tuple(value)
