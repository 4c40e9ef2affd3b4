"""A line of a container as a message of journald or syslog; tags as Docker's templates have them; pure."""

import re
import struct
import time
from collections.abc import Mapping

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
    """Raise InvalidInputError for values that no message could be made with."""
    options = config.config
    tag_of(options.get("tag", ""), _EXAMPLE)
    if config.type != "syslog":
        return
    _facility(options.get("syslog-facility", ""))
    if options.get("syslog-format", "") not in _FORMATS:
        raise InvalidInputError(
            "Invalid syslog format", hint=f"syslog-format is one of {', '.join(_FORMATS[1:])}"
        )
    address = options.get("syslog-address", "")
    if address and not address.startswith(_SCHEMES):
        raise InvalidInputError(
            f"invalid value for syslog-address: {address[:80]}",
            hint=f"write it as one of {', '.join(_SCHEMES)}",
        )


_EXAMPLE = dict.fromkeys(
    ("ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "DaemonName"), ""
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
    image = record.image_id.removeprefix("sha256:")
    return {
        "ID": record.id[:12], "FullID": record.id, "Name": record.name, "ImageID": image[:12],
        "ImageFullID": record.image_id, "ImageName": record.spec.image, "DaemonName": "docker",
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
        f"invalid syslog facility: {text[:80]}", hint="daemon, user, local0 to local7, or a number"
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
            **_chosen(record, options),
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


def _chosen(record: ContainerRecord, options: Mapping[str, str]) -> dict[str, str]:
    """Return the labels and variables that the options "labels" and "env" name, as fields of the journal."""
    environment = dict(item.partition("=")[::2] for item in record.env)
    found = {}
    for option, values in (("labels", record.labels), ("env", environment)):
        for key in options.get(option, "").split(","):
            if key.strip() in values:
                name = _NAME.sub("_", key.strip().upper()).lstrip("_0123456789")
                found[name] = values[key.strip()]
    return {name: value for name, value in found.items() if name}


def _field(name: str, value: bytes) -> bytes:
    """Return a field in journald's native protocol: a value with line feeds is preceded by its length."""
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
