"""The short form of a mount, ``SOURCE:TARGET:OPTIONS``."""

import posixpath

from stackctl.errors import InvalidInputError
from stackctl.values import JsonObject

_PROPAGATIONS = frozenset({"rprivate", "private", "rshared", "shared", "rslave", "slave"})
_SELINUX = frozenset({"z", "Z"})
_HINT = 'write it as "SOURCE:TARGET" or "SOURCE:TARGET:ro"'


def parse_volume(text: str) -> JsonObject:
    """Return the long form of a mount; raises InvalidInputError.

    Unknown options are ignored, as Compose does. A source that starts with ``.``, ``/`` or ``~`` is a path of the
    host, whose directory is made when it is missing.
    """
    if not text:
        raise InvalidInputError("a mount must not be empty", hint=_HINT)
    if len(text) <= 2:
        return {"type": "volume", "target": posixpath.normpath(text)}
    source, target, options = _split(text)
    volume: JsonObject = {"type": "bind" if _is_path(source) else "volume"}
    if source:
        volume["source"] = source
    volume["target"] = _clean(target)
    bind: JsonObject = {}
    named: JsonObject = {}
    for option in options:
        if option == "ro":
            volume["read_only"] = True
        elif option == "rw":
            volume.pop("read_only", None)
        elif option == "nocopy":
            named["nocopy"] = True
        elif option in _PROPAGATIONS:
            bind["propagation"] = option
        elif option in _SELINUX:
            bind["selinux"] = option
    if volume["type"] == "bind":
        bind["create_host_path"] = True
    if bind or volume["type"] == "bind":
        volume["bind"] = bind
    if named or volume["type"] == "volume":
        volume["volume"] = named
    return volume


def volume_target(text: str) -> str | None:
    """Return the target as written, by which a later mount replaces an earlier one; None when unreadable."""
    try:
        return text if len(text) <= 2 else _split(text)[1]
    except InvalidInputError:
        return text


def _split(text: str) -> tuple[str, str, list[str]]:
    sections = _sections(text)
    if "" in sections:
        raise InvalidInputError(f"invalid mount {text!r}: empty section between colons", hint=_HINT)
    if len(sections) == 1:
        return "", sections[0], []
    if len(sections) > 3:
        raise InvalidInputError(f"invalid mount {text!r}: too many colons", hint=_HINT)
    return sections[0], sections[1], sections[2].split(",") if len(sections) == 3 else []


def _sections(text: str) -> list[str]:
    """Split at colons, except those of a Windows drive and of ``${NAME:-default}``."""
    sections: list[str] = []
    current = ""
    depth = 0
    for index, char in enumerate(text):
        if char == "$" and text[index + 1 : index + 2] == "{":
            depth += 1
        elif char == "}" and depth:
            depth -= 1
        drive = len(current) == 1 and current.isalpha()
        if char == ":" and not depth and not drive:
            sections.append(current)
            current = ""
        else:
            current += char
    sections.append(current)
    return sections


def _clean(path: str) -> str:
    cleaned = posixpath.normpath(path) if path else ""
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _is_path(source: str) -> bool:
    if not source:
        return False
    if source[0] in "./~" or source.startswith("\\\\"):
        return True
    return len(source) > 1 and source[0].isalpha() and source[1] == ":"
