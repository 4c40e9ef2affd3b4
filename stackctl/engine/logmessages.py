"""A line of a container as a message of journald or syslog; tags as Docker's templates have them; pure."""

import re
import struct
import time
from collections.abc import Mapping
from urllib.parse import quote_plus

from stackctl.contracts.container import ContainerRecord, LogConfig
from stackctl.errors import InvalidInputError

FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
)  # fmt: skip
_LOCAL = 16
_DAEMON = 3
_FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_ERROR, _INFORMATION = 3, 6
_SCHEMES = ("udp://", "tcp://", "unix://", "unixgram://")
_FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")
_NAME = re.compile(r"[^A-Z0-9_]")


def check_options(config: LogConfig) -> None:
    """Raise InvalidInputError for values that no message could be made with, in Docker's words."""
    options = config.config
    if config.type != "syslog":
        return
    address = options.get("syslog-address", "")
    if address and not address.startswith(_SCHEMES):
        scheme = address.partition("://")[0] if "://" in address else ""
        raise InvalidInputError(
            f"unsupported scheme: '{scheme[:80]}'",
            hint=f"syslog-address begins with one of {', '.join(_SCHEMES)}",
        )
    _facility(options.get("syslog-facility", ""))
    if options.get("syslog-format", "") not in _FORMATS:
        raise InvalidInputError(
            "Invalid syslog format", hint=f"syslog-format is one of {', '.join(_FORMATS[1:])}"
        )


def tag_of(template: str, values: Mapping[str, str]) -> str:
    """Return a tag with its {{.Fields}} filled in; raises InvalidInputError for other templates."""

    def value(match: "re.Match[str]") -> str:
        if match[1] not in values:
            raise InvalidInputError(
                f"invalid value for tag: there is no {{{{.{match[1][:80]}}}}}",
                hint=f"there are {', '.join(sorted(values))}",
            )
        return values[match[1]]

    text = _FIELD.sub(value, template or "{{.ID}}")
    if "{{" in text or "}}" in text:
        raise InvalidInputError(f"invalid value for tag: {template[:80]}", hint="write {{.Name}}")
    return text


def tag_values(record: ContainerRecord) -> dict[str, str]:
    """Return what a tag's fields stand for."""
    image = record.image_id.removeprefix("sha256:")
    return {
        "ID": record.id[:12], "FullID": record.id, "Name": record.name, "ImageID": image[:12],
        "ImageFullID": record.image_id, "ImageName": record.spec.image, "DaemonName": "docker",
        "ContainerID": record.id, "ContainerName": f"/{record.name}", "ContainerImageID": record.image_id,
        "ContainerImageName": record.spec.image, "Command": " ".join((record.path, *record.args)),
    }  # fmt: skip


def _facility(text: str) -> int:
    if not text:
        return _DAEMON
    if text in FACILITIES:
        return FACILITIES.index(text)
    number = text.removeprefix("local") if text.startswith("local") else text
    if number.isascii() and number.isdecimal():
        value = int(number) + (_LOCAL if text.startswith("local") else 0)
        if len(number) < 4 and value <= _LOCAL + 7:
            return value
    raise InvalidInputError(
        "invalid syslog facility",
        hint="syslog-facility is daemon, user, local0 to local7, or a number",
    )


class Messages:
    """Makes the messages of one container."""

    def __init__(self, record: ContainerRecord, *, hostname: str, process: int) -> None:
        options = record.spec.log_config.config
        self._journal = record.spec.log_config.type == "journald"
        self._tag = tag_of(options.get("tag", ""), tag_values(record))
        self._facility = _facility(options.get("syslog-facility", ""))
        self._format = options.get("syslog-format", "")
        self._hostname = hostname
        self._process = process
        fields = {
            "CONTAINER_ID": record.id[:12],
            "CONTAINER_ID_FULL": record.id,
            "CONTAINER_NAME": record.name,
            "CONTAINER_TAG": self._tag,
            "IMAGE_NAME": record.spec.image,
            "SYSLOG_IDENTIFIER": self._tag,
            **_journal_fields(attributes_of(record)),
        }
        self._fields = b"".join(_field(name, value.encode()) for name, value in fields.items())

    def make(self, stream: int, at: float, line: bytes, *, whole: bool) -> bytes:
        """Return one line, without its line feed, as a message."""
        severity = _INFORMATION if stream == 1 else _ERROR
        text = line.removesuffix(b"\n")
        if self._journal:
            partial = b"" if whole else b"CONTAINER_PARTIAL_MESSAGE=true\n"
            return (
                self._fields
                + partial
                + _field("PRIORITY", b"%d" % severity)
                + _field("MESSAGE", text)
            )
        return self._head(8 * self._facility + severity, at).encode() + text

    def _head(self, priority: int, at: float) -> str:
        tag, process = self._tag, self._process
        if self._format.startswith("rfc5424"):
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
            if self._format.endswith("micro"):
                stamp += f".{int(at % 1 * 1_000_000):06d}"
            return f"<{priority}>1 {stamp}Z {self._hostname} {tag} {process} {tag} - "
        stamp = time.strftime("%b %e %H:%M:%S", time.localtime(at))
        host = f"{self._hostname} " if self._format == "rfc3164" else ""
        return f"<{priority}>{stamp} {host}{tag}[{process}]: "


def attributes_of(record: ContainerRecord) -> dict[str, str]:
    """Return the labels and variables that the log options name, by key or by a regular expression for keys.

    Raises InvalidInputError for what is no expression.
    """
    options = record.spec.log_config.config
    patterns = {
        option: _pattern(option, text)
        for option in ("labels", "env")
        if (text := options.get(f"{option}-regex", ""))
    }
    environment = dict(item.partition("=")[::2] for item in record.env if "=" in item)
    found: dict[str, str] = {}
    for option, values in (("labels", record.labels), ("env", environment)):
        for key in options.get(option, "").split(","):
            if key in values:
                found[key] = values[key]
        if option in patterns:
            chosen = patterns[option].search
            found |= {key: value for key, value in values.items() if chosen(key)}
    return found


def _pattern(option: str, text: str) -> "re.Pattern[str]":
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidInputError(
            f"error parsing regexp: {error}: `{text[:80]}`",
            hint=f"The log option {option}-regex is a regular expression for keys.",
        ) from error


def details_of(record: ContainerRecord) -> bytes:
    """Return what ``docker logs --details`` shows before each line, the space included."""
    config = record.spec.log_config
    if config.type not in ("json-file", "journald"):
        return b" "
    found = attributes_of(record)
    if config.type == "journald":
        found = _journal_fields(found)
    elif config.config.get("tag"):
        found["tag"] = tag_of(config.config["tag"], tag_values(record))
    pairs = (f"{quote_plus(key)}={quote_plus(value)}" for key, value in sorted(found.items()))
    return ",".join(pairs).encode() + b" "


def _journal_fields(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return attributes by names that journald takes."""
    named = {
        _NAME.sub("_", key.upper()).lstrip("_0123456789"): value
        for key, value in attributes.items()
    }
    return {name: value for name, value in named.items() if name}


def _field(name: str, value: bytes) -> bytes:
    """Return a field in journald's native protocol: a value with line feeds is preceded by its length."""
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
