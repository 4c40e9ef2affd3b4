"""ARG and ENV substitution: quotes, escapes and every form of ``$name`` and ``${name…}``; pure.

Forms (Dockerfile reference, environment replacement): ``${v:-w}`` ``${v-w}`` ``${v:+w}`` ``${v+w}`` ``${v:?w}``
``${v?w}`` ``${v#p}`` ``${v##p}`` ``${v%p}`` ``${v%%p}`` ``${v/p/w}`` ``${v//p/w}``. Patterns know ``*``, ``?`` and
the backslash; they are matched by stepping a set of states, so that no pattern takes exponential time.
"""

from collections.abc import Callable, Mapping

from stackctl.frozen import frozen

MAX_LENGTH = 1 << 20
MAX_DEPTH = 100


class ExpandError(ValueError):
    """The text is not well formed, or a ``${v:?…}`` was not met; the caller adds the place."""


@frozen
class Expanded:
    """What came out, which names were asked for, and the words (split at blanks that were not quoted)."""

    text: str
    words: tuple[str, ...]
    used: frozenset[str]


def expand(
    text: str, variables: Mapping[str, str], *, escape: str = "\\", raw_quotes: bool = False
) -> Expanded:
    """Return the text with variables replaced; ``raw_quotes`` leaves quotes alone (heredocs). Raises ExpandError."""
    run = _Expansion(text, variables, escape, raw_quotes)
    result = run.process("")
    return Expanded(text=result, words=tuple(run.words()), used=frozenset(run.used))


class _Expansion:
    def __init__(
        self, text: str, variables: Mapping[str, str], escape: str, raw_quotes: bool
    ) -> None:
        self._text = text
        self._variables = variables
        self._escape = escape
        self._raw_quotes = raw_quotes
        self._at = 0
        self._depth = 0
        self.used: set[str] = set()
        self._words: list[str] = []
        self._word: list[str] | None = None

    def words(self) -> list[str]:
        return [*self._words, *(["".join(self._word)] if self._word is not None else [])]

    def process(self, stop: str) -> str:
        """Read up to a character of ``stop`` (not consumed) or the end."""
        out: list[str] = []
        length = 0
        top = not self._depth
        while self._at < len(self._text):
            char = self._text[self._at]
            if stop and char in stop:
                break
            quoted = False
            if char == "'" and not self._raw_quotes:
                piece, quoted = self._single(), True
            elif char == '"' and not self._raw_quotes:
                piece, quoted = self._double(), True
            elif char == "$":
                piece = self._dollar()
            elif char == self._escape:
                piece, quoted = self._escaped(), True
            else:
                piece = char
                self._at += 1
            out.append(piece)
            length += len(piece)
            if length > MAX_LENGTH:
                raise ExpandError("the result of the substitution is too long")
            if top:
                self._collect(piece, quoted)
        return "".join(out)

    def _collect(self, piece: str, quoted: bool) -> None:
        if quoted:
            if self._word is None:
                self._word = []
            self._word.append(piece)
            return
        for char in piece:
            if char.isspace():
                if self._word is not None:
                    self._words.append("".join(self._word))
                    self._word = None
            elif self._word is None:
                self._word = [char]
            else:
                self._word.append(char)

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise ExpandError("unexpected end of statement while looking for matching single-quote")
        piece = self._text[self._at + 1 : end]
        self._at = end + 1
        return piece

    def _double(self) -> str:
        self._at += 1
        out: list[str] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == '"':
                self._at += 1
                return "".join(out)
            if char == "$":
                out.append(self._dollar())
                continue
            if char == self._escape and self._at + 1 < len(self._text):
                following = self._text[self._at + 1]
                # Inside double quotes the escape character is itself before anything else.
                out.append(following if following in ('"', "$", self._escape) else char + following)
                self._at += 2
                continue
            out.append(char)
            self._at += 1
        raise ExpandError("unexpected end of statement while looking for matching double-quote")

    def _escaped(self) -> str:
        self._at += 1
        if self._at >= len(self._text):
            return self._escape if self._raw_quotes else ""
        char = self._text[self._at]
        self._at += 1
        return char

    def _dollar(self) -> str:
        self._at += 1
        if self._at < len(self._text) and self._text[self._at] == "{":
            self._at += 1
            return self._braced()
        name = self._name()
        return self._value(name) if name else "$"

    def _name(self) -> str:
        start = self._at
        text = self._text
        if start < len(text) and (
            (text[start].isascii() and text[start].isdigit()) or text[start] in "@*#?!$-"
        ):
            self._at += 1
            return text[start]
        while (
            self._at < len(text)
            and text[self._at].isascii()
            and (text[self._at].isalnum() or text[self._at] == "_")
        ):
            self._at += 1
        return text[start : self._at]

    def _value(self, name: str) -> str:
        self.used.add(name)
        return self._variables.get(name, "")

    def _braced(self) -> str:
        name = self._name()
        if not name:
            raise ExpandError("bad substitution: no name after ${")
        if self._at >= len(self._text):
            raise ExpandError("missing } after ${" + name)
        char = self._text[self._at]
        if char == "}":
            self._at += 1
            return self._value(name)
        self._at += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpandError("substitutions are nested too deeply")
        try:
            return self._modified(name, char)
        finally:
            self._depth -= 1

    def _modified(self, name: str, char: str) -> str:
        value = self._value(name)
        is_set = name in self._variables
        if char == ":":
            char = self._text[self._at] if self._at < len(self._text) else ""
            self._at += 1
            is_set = is_set and value != ""
            if char not in ("-", "+", "?"):
                raise ExpandError(f"unsupported modifier (:{char}) in substitution")
        if char in "-+?":
            return self._default(name, char, value, is_set)
        if char in "#%":
            longest = self._at < len(self._text) and self._text[self._at] == char
            self._at += longest
            pattern = self._pattern("}")
            self._close(name)
            return (_trim_prefix if char == "#" else _trim_suffix)(value, pattern, longest)
        if char == "/":
            every = self._at < len(self._text) and self._text[self._at] == "/"
            self._at += every
            pattern = self._pattern("/}")
            if self._at >= len(self._text) or self._text[self._at] != "/":
                raise ExpandError(f"missing / before the replacement in ${{{name}/…}}")
            self._at += 1
            replacement = self.process("}")
            self._close(name)
            return _replace(value, pattern, replacement, every)
        raise ExpandError(f"unsupported modifier ({char}) in substitution")

    def _default(self, name: str, char: str, value: str, is_set: bool) -> str:
        word = self.process("}")
        self._close(name)
        if char == "-":
            return value if is_set else word
        if char == "+":
            return word if is_set else ""
        if not is_set:
            raise ExpandError(f"{name}: {word or 'is not allowed to be unset'}")
        return value

    def _pattern(self, stop: str) -> list[str]:
        r"""Read a pattern: variables in it are replaced, escaped characters stand for themselves (as "\c")."""
        out: list[str] = []
        while self._at < len(self._text) and self._text[self._at] not in stop:
            char = self._text[self._at]
            if char == "$":
                out += ["\\" + item for item in self._dollar()]
            elif char == self._escape and self._at + 1 < len(self._text):
                out.append("\\" + self._text[self._at + 1])
                self._at += 2
            elif char in "'\"" and not self._raw_quotes:
                out += ["\\" + item for item in (self._single() if char == "'" else self._double())]
            elif char == "*" and out and out[-1] == "*":
                self._at += 1
            else:
                out.append(char if char in "*?" else "\\" + char)
                self._at += 1
        return out

    def _close(self, name: str) -> None:
        if self._at >= len(self._text) or self._text[self._at] != "}":
            raise ExpandError("missing } after ${" + name)
        self._at += 1


def _ends(pattern: list[str], char_at: Callable[[int], str], length: int) -> list[int]:
    """Return every length at which the pattern matches the text from its start."""
    found = []
    states = _closure({0}, pattern)
    for at in range(length + 1):
        if len(pattern) in states:
            found.append(at)
        if at == length or not states:
            break
        char = char_at(at)
        moved = set()
        for state in states:
            if state == len(pattern):
                continue
            item = pattern[state]
            if item == "*":
                moved.add(state)
            elif item == "?" or item[1:] == char:
                moved.add(state + 1)
        states = _closure(moved, pattern)
    return found


def _closure(states: set[int], pattern: list[str]) -> set[int]:
    closed = set(states)
    for state in states:
        following = state
        while following < len(pattern) and pattern[following] == "*":
            following += 1
            closed.add(following)
    return closed


def _trim_prefix(value: str, pattern: list[str], longest: bool) -> str:
    ends = _ends(pattern, value.__getitem__, len(value))
    if not ends:
        return value
    return value[ends[-1] if longest else ends[0] :]


def _trim_suffix(value: str, pattern: list[str], longest: bool) -> str:
    backwards = value[::-1]
    ends = _ends(pattern[::-1], backwards.__getitem__, len(value))
    if not ends:
        return value
    return value[: len(value) - (ends[-1] if longest else ends[0])]


def _replace(value: str, pattern: list[str], replacement: str, every: bool) -> str:
    out: list[str] = []
    at = 0
    done = False
    while at < len(value):
        ends = [] if done else _ends(pattern, lambda n, at=at: value[at + n], len(value) - at)  # type: ignore[misc]
        if ends and ends[-1] > 0:
            out.append(replacement)
            at += ends[-1]
            done = not every
        else:
            out.append(value[at])
            at += 1
    return "".join(out)
