"""One frozen value per instruction; raw statements are checked and turned into them here; pure.

Variables are not replaced yet: that needs the state of the stage, see ``expand`` and ``stage``.
"""

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from stackctl.builder.parser import (
    Dockerfile,
    Heredoc,
    Statement,
    heredoc_word,
    json_words,
    parse,
    split_words,
    suggestion,
)
from stackctl.contracts.container import Healthcheck
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen

KEYWORDS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
    "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip
STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")


@frozen
class Instruction:
    """What every instruction has: where it is and how it was written."""

    line: int
    original: str


@frozen
class From(Instruction):
    """FROM image [AS name]."""

    image: str
    name: str = ""
    platform: str = ""


@frozen
class RunMount:
    """One ``--mount``: type bind, cache, tmpfs, secret or ssh.

    ``fields`` is what was written, when variables in it are to be replaced: then the others but ``from_`` say nothing
    until ``read_mount`` has read them again.
    """

    type: str = "bind"
    target: str = ""
    source: str = ""
    from_: str = ""
    id: str = ""
    env: str = ""
    sharing: str = "shared"
    read_only: bool | None = None
    required: bool = False
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)


@frozen
class Command(Instruction):
    """RUN, CMD, ENTRYPOINT: ``args`` in exec form, or one text for the shell."""

    args: tuple[str, ...]
    shell: bool


@frozen
class Run(Command):
    """RUN with its flags; heredocs are those of the shell form."""

    mounts: tuple[RunMount, ...] = ()
    network: str = ""
    security: str = ""
    heredocs: tuple[Heredoc, ...] = ()


@frozen
class Cmd(Command):
    """CMD."""


@frozen
class Entrypoint(Command):
    """ENTRYPOINT."""


@frozen
class Copy(Instruction):
    """COPY and ADD. ``unpack`` None follows the instruction: archives of the context are unpacked by ADD."""

    sources: tuple[str, ...]
    destination: str
    add: bool = False
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool = False
    unpack: bool | None = None
    heredocs: tuple[Heredoc, ...] = ()


@frozen
class Pairs(Instruction):
    """ENV and LABEL."""

    pairs: tuple[tuple[str, str], ...]


@frozen
class Env(Pairs):
    """ENV."""


@frozen
class Label(Pairs):
    """LABEL."""


@frozen
class Arg(Instruction):
    """Names and defaults; None where there is no default."""

    args: tuple[tuple[str, str | None], ...]


@frozen
class Workdir(Instruction):
    """WORKDIR."""

    path: str


@frozen
class User(Instruction):
    """USER."""

    user: str


@frozen
class Expose(Instruction):
    """EXPOSE."""

    ports: tuple[str, ...]


@frozen
class Volume(Instruction):
    """VOLUME."""

    paths: tuple[str, ...]


@frozen
class HealthcheckInstruction(Instruction):
    """``check`` with test ("NONE",), ("CMD", …) or ("CMD-SHELL", text)."""

    check: Healthcheck


@frozen
class Stopsignal(Instruction):
    """STOPSIGNAL."""

    signal: str


@frozen
class Shell(Instruction):
    """SHELL."""

    shell: tuple[str, ...]


@frozen
class Onbuild(Instruction):
    """``trigger`` is the instruction as text, run by builds on top of the image."""

    trigger: str


@frozen
class Maintainer(Instruction):
    """MAINTAINER."""

    name: str


@frozen
class _Reading:
    """A statement being read, with the means to say what is wrong with it."""

    file: Dockerfile
    statement: Statement
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def error(self, message: str, *, hint: str = "") -> InvalidInputError:
        return self.file.error(self.statement.line, message, hint=hint)

    def flag(self, name: str) -> str:
        values = self.flags.get(name, ())
        return values[-1] if values else ""

    def switch(self, name: str) -> bool:
        value = self.flag(name).lower() if name in self.flags else "false"
        if value not in ("", "true", "false", "1", "0"):
            raise self.error(f"--{name} is true or false, not {value!r}")
        return value in ("", "true", "1")

    def words(self, text: str) -> tuple[str, ...] | None:
        """Return the words of the JSON form, None where the text is another."""
        try:
            return json_words(text)
        except ValueError as error:
            raise self.error(str(error)) from error

    @property
    def place(self) -> tuple[int, str]:
        return self.statement.line, self.statement.original


def read(file: Dockerfile) -> tuple[Instruction, ...]:
    """Return the instructions of a parsed file; raises InvalidInputError naming the line."""
    return tuple(_read_one(file, statement) for statement in file.statements)


def read_text(text: str, *, name: str = "Dockerfile") -> tuple[Dockerfile, tuple[Instruction, ...]]:
    """Parse and read in one go."""
    file = parse(text, name=name)
    return file, read(file)


def read_trigger(trigger: str, *, line: int, escape: str = "\\") -> Instruction:
    """Return the instruction of an ONBUILD trigger kept in an image; raises InvalidInputError."""
    del escape
    file = parse(trigger, name=f"ONBUILD trigger of the base image (Dockerfile:{line})")
    instruction = read(file)[0]
    if isinstance(instruction, Onbuild | From | Maintainer):
        raise file.error(1, f"{file.statements[0].keyword} isn't allowed as an ONBUILD trigger")
    return instruction


def _read_one(file: Dockerfile, statement: Statement) -> Instruction:
    reader = _READERS.get(statement.keyword)
    if reader is None:
        raise file.error(
            statement.line,
            f"unknown instruction: {statement.keyword[:40]}"
            f"{suggestion(statement.keyword, KEYWORDS)}",
        )
    allowed = _FLAGS.get(statement.keyword, ())
    flags: dict[str, tuple[str, ...]] = {}
    for text in statement.flags:
        name, equals, value = text[2:].partition("=")
        if name not in allowed:
            raise file.error(
                statement.line,
                f"unknown flag: --{name[:40]} for {statement.keyword}{suggestion(name, allowed)}",
            )
        if not equals and name not in _SWITCHES:
            raise file.error(statement.line, f"missing a value on flag: --{name}")
        if name in flags and name not in _REPEATABLE:
            raise file.error(statement.line, f"duplicate flag: --{name}")
        flags[name] = (*flags.get(name, ()), value)
    return reader(_Reading(file=file, statement=statement, flags=flags))


_FLAGS: Mapping[str, tuple[str, ...]] = {
    "FROM": ("platform",),
    "RUN": ("mount", "network", "security", "device"),
    "COPY": ("from", "chown", "chmod", "link", "parents", "exclude"),
    "ADD": ("chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}
_SWITCHES = frozenset({"link", "parents", "keep-git-dir", "unpack"})
_REPEATABLE = frozenset({"mount", "exclude", "device"})


def _words(reading: _Reading) -> list[str]:
    return split_words(reading.statement.rest, reading.file.escape)


def _needs(reading: _Reading, what: str) -> str:
    rest = reading.statement.rest
    if not rest:
        raise reading.error(f"{reading.statement.keyword} requires {what}")
    return rest


def _from(reading: _Reading) -> From:
    words = reading.statement.rest.split()
    line, original = reading.place
    platform = reading.flag("platform")
    if len(words) == 1:
        return From(line=line, original=original, image=words[0], platform=platform)
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not STAGE_NAME.fullmatch(name):
            raise reading.error(
                f'invalid name for build stage: "{words[2][:80]}", '
                "name can't start with a number or contain symbols"
            )
        return From(line=line, original=original, image=words[0], name=name, platform=platform)
    raise reading.error("FROM requires either one or three arguments: FROM image [AS name]")


def _command(reading: _Reading) -> tuple[tuple[str, ...], bool]:
    rest = reading.statement.rest
    words = reading.words(rest)
    return ((rest,), True) if words is None else (words, False)


def _run(reading: _Reading) -> Run:
    args, shell = _command(reading)
    line, original = reading.place
    if not args:
        raise reading.error("RUN requires at least one argument")
    network = reading.flag("network")
    security = reading.flag("security")
    if "security" in reading.flags and security not in ("sandbox", "insecure"):
        raise reading.error(f'security {security!r} is not valid: "sandbox" or "insecure"')
    if "device" in reading.flags:
        raise reading.error("RUN --device is not offered here")
    heredocs = reading.statement.heredocs if shell else ()
    return Run(
        line=line,
        original=original,
        args=args,
        shell=shell,
        mounts=tuple(_mount(text, reading.error) for text in reading.flags.get("mount", ())),
        network=network,
        security=security,
        heredocs=heredocs,
    )


_MOUNT_KEYS: Mapping[str, tuple[str, ...]] = {
    "bind": ("type", "target", "source", "from", "rw", "ro"),
    "cache": ("type", "id", "target", "ro", "rw", "sharing", "from", "source", "mode", "uid", "gid"),
    "tmpfs": ("type", "target", "size"),
    "secret": ("type", "id", "target", "required", "mode", "uid", "gid", "env", "source"),
    "ssh": ("type", "id", "target", "required", "mode", "uid", "gid"),
}  # fmt: skip
_MOUNT_ALIASES = {
    "src": "source", "dst": "target", "destination": "target", "readonly": "ro", "readwrite": "rw",
}  # fmt: skip


Refuse = Callable[[str], InvalidInputError]


def _mount(text: str, error: Refuse) -> RunMount:
    fields: dict[str, str] = {}
    for part in _comma_separated(text):
        key, equals, value = part.partition("=")
        key = _MOUNT_ALIASES.get(key.strip().lower(), key.strip().lower())
        if not equals and key not in ("ro", "rw", "required"):
            raise error(f"invalid field {part[:60]!r} in --mount: must be key=value")
        fields[key] = value if equals else "true"
    from_ = fields.get("from", "")
    if "$" in from_:
        raise error(
            f"from={from_[:60]} of --mount takes no variables: name a stage FROM it instead"
        )
    if any(char in value for value in fields.values() for char in "$\"'\\"):
        return RunMount(from_=from_, fields=fields)
    return read_mount(fields, error)


def _comma_separated(text: str) -> list[str]:
    """Return the parts of a list in which a part may stand in double quotes (RFC 4180)."""
    return next(csv.reader([text]), [""])


def read_mount(fields: Mapping[str, str], error: Refuse) -> RunMount:
    """Return the mount that fields without variables say; ``error`` makes what is raised for others."""
    kind = fields.get("type", "bind")
    if kind not in _MOUNT_KEYS:
        raise error(f"unsupported mount type {kind[:40]!r}{suggestion(kind, _MOUNT_KEYS)}")
    for key in fields:
        if key not in _MOUNT_KEYS[kind]:
            raise error(
                f"unexpected key {key[:40]!r} for mount type {kind!r}"
                f"{suggestion(key, _MOUNT_KEYS[kind])}"
            )
    target = fields.get("target", "")
    if not target and kind in ("bind", "cache", "tmpfs"):
        raise error(f"a {kind} mount needs a target")
    if kind == "secret" and not (fields.keys() & {"id", "source", "target"}):
        raise error("a secret mount needs an id or a target")
    sharing = fields.get("sharing", "shared")
    if sharing not in ("shared", "private", "locked"):
        raise error(f"unsupported sharing value {sharing[:40]!r}")
    read_only: bool | None = None
    if "ro" in fields:
        read_only = _truth(error, "ro", fields["ro"])
    if "rw" in fields:
        read_only = not _truth(error, "rw", fields["rw"])
    return RunMount(
        type=kind,
        target=target,
        source=fields.get("source", ""),
        from_=fields.get("from", ""),
        id=fields.get("id", ""),
        env=fields.get("env", ""),
        sharing=sharing,
        read_only=read_only,
        required="required" in fields and _truth(error, "required", fields["required"]),
        mode=_octal(error, fields["mode"]) if "mode" in fields else None,
        uid=_number(error, "uid", fields.get("uid", "0")),
        gid=_number(error, "gid", fields.get("gid", "0")),
        size=_size(error, fields["size"]) if "size" in fields else 0,
    )


def _truth(error: Refuse, key: str, value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise error(f"{key} is true or false, not {value[:40]!r}")
    return value.lower() in ("true", "1")


def _octal(error: Refuse, value: str) -> int:
    if not re.fullmatch(r"0?[0-7]{1,4}", value):
        raise error(f"mode {value[:40]!r} is not an octal number")
    return int(value, 8)


def _number(error: Refuse, key: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", value, re.ASCII):
        raise error(f"{key} {value[:40]!r} is not a number")
    return int(value)


def _size(error: Refuse, value: str) -> int:
    match = re.fullmatch(r"([0-9]{1,15})([kmgt]?)i?b?", value.lower(), re.ASCII)
    if match is None:
        raise error(f"size {value[:40]!r} is not a size, such as 64m")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[match[2]]


def _copy(reading: _Reading) -> Copy:
    keyword = reading.statement.keyword
    rest = _needs(reading, "at least two arguments")
    words = list(reading.words(rest) or ()) or _words(reading)
    if len(words) < 2:
        raise reading.error(
            f"{keyword} requires at least two arguments: a source and a destination"
        )
    line, original = reading.place
    heredocs = reading.statement.heredocs
    if "$" in (from_ := reading.flag("from")):
        raise reading.error(
            f"--from={from_[:60]} takes no variables", hint="name a stage FROM it instead"
        )
    sources = tuple(word for word in words[:-1] if not (heredocs and heredoc_word(word)))
    if heredoc_word(words[-1]) and heredocs:
        raise reading.error("the destination of a heredoc must be a path")
    checksum = reading.flag("checksum")
    if (
        "checksum" in reading.flags
        and not re.fullmatch(r"sha256:[0-9a-f]{64}|[0-9a-f]{7,64}", checksum)
        and "$" not in checksum
    ):
        raise reading.error(
            f"checksum {checksum[:80]!r} is not sha256:<64 hexadecimal digits>",
            hint="or the commit, in hexadecimal, for a git repository",
        )
    return Copy(
        line=line,
        original=original,
        sources=sources,
        destination=words[-1],
        add=keyword == "ADD",
        from_=reading.flag("from"),
        chown=reading.flag("chown"),
        chmod=reading.flag("chmod"),
        link=reading.switch("link"),
        parents=reading.switch("parents"),
        exclude=reading.flags.get("exclude", ()),
        checksum=checksum,
        keep_git_dir=reading.switch("keep-git-dir"),
        unpack=reading.switch("unpack") if "unpack" in reading.flags else None,
        heredocs=heredocs,
    )


def _pairs(reading: _Reading) -> tuple[tuple[str, str], ...]:
    keyword = reading.statement.keyword
    _needs(reading, "at least one argument")
    words = _words(reading)
    if words and "=" not in words[0]:
        parts = reading.statement.rest.split(None, 1)
        if len(parts) < 2:
            raise reading.error(
                f"{keyword} must have two arguments", hint=f"write it as {keyword} name=value"
            )
        return ((parts[0], parts[1]),)
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise reading.error(
                f"can't find = in {word[:80]!r}: must be of the form name=value",
                hint="Put values with blanks into double quotes.",
            )
        if not name:
            raise reading.error(f"{keyword} names can not be blank")
        pairs.append((name, value))
    return tuple(pairs)


def _env(reading: _Reading) -> Env:
    line, original = reading.place
    return Env(line=line, original=original, pairs=_pairs(reading))


def _label(reading: _Reading) -> Label:
    line, original = reading.place
    return Label(line=line, original=original, pairs=_pairs(reading))


def _arg(reading: _Reading) -> Arg:
    _needs(reading, "at least one argument")
    line, original = reading.place
    args: list[tuple[str, str | None]] = []
    for word in _words(reading):
        name, equals, value = word.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.\-]*", name):
            raise reading.error(f"ARG name {name[:80]!r} is not a variable's name")
        args.append((name, value if equals else None))
    return Arg(line=line, original=original, args=tuple(args))


def _workdir(reading: _Reading) -> Workdir:
    line, original = reading.place
    return Workdir(line=line, original=original, path=_needs(reading, "exactly one argument"))


def _user(reading: _Reading) -> User:
    line, original = reading.place
    return User(line=line, original=original, user=_needs(reading, "exactly one argument"))


def _expose(reading: _Reading) -> Expose:
    line, original = reading.place
    _needs(reading, "at least one argument")
    return Expose(line=line, original=original, ports=tuple(_words(reading)))


def _volume(reading: _Reading) -> Volume:
    line, original = reading.place
    rest = _needs(reading, "at least one argument")
    paths = reading.words(rest)
    if paths is None:
        paths = tuple(_words(reading))
    if not paths or not all(path.strip() for path in paths):
        raise reading.error("VOLUME specified can not be an empty string")
    return Volume(line=line, original=original, paths=paths)


def _cmd(reading: _Reading) -> Cmd:
    line, original = reading.place
    args, shell = _command(reading)
    return Cmd(line=line, original=original, args=args, shell=shell)


def _entrypoint(reading: _Reading) -> Entrypoint:
    line, original = reading.place
    args, shell = _command(reading)
    return Entrypoint(line=line, original=original, args=args, shell=shell)


def _healthcheck(reading: _Reading) -> HealthcheckInstruction:
    line, original = reading.place
    rest = _needs(reading, "at least one argument")
    kind, _, text = rest.partition(" ")
    kind, text = kind.upper(), text.strip()
    if kind == "NONE":
        if text:
            raise reading.error("HEALTHCHECK NONE takes no arguments")
        return HealthcheckInstruction(
            line=line, original=original, check=Healthcheck(test=("NONE",))
        )
    if kind != "CMD":
        raise reading.error(f"unknown type {kind[:40]!r} in HEALTHCHECK (try CMD)")
    words = reading.words(text)
    if not text or words == ():
        raise reading.error("missing command after HEALTHCHECK CMD")
    test = ("CMD-SHELL", text) if words is None else ("CMD", *words)
    retries = reading.flag("retries") or "0"
    if not re.fullmatch(r"[0-9]{1,6}", retries, re.ASCII):
        raise reading.error(f"--retries must be a number of at least 1, not {retries[:40]!r}")
    return HealthcheckInstruction(
        line=line,
        original=original,
        check=Healthcheck(
            test=test,
            interval=_seconds(reading, "interval"),
            timeout=_seconds(reading, "timeout"),
            start_period=_seconds(reading, "start-period"),
            start_interval=_seconds(reading, "start-interval"),
            retries=int(retries),
        ),
    )


def _seconds(reading: _Reading, name: str) -> float:
    text = reading.flag(name)
    if text in ("", "0"):
        return 0.0
    if not re.fullmatch(rf"(?:{_DURATION_PART})+", text, re.ASCII):
        raise reading.error(f"--{name}: {text[:40]!r} is not a duration, such as 1m30s")
    seconds = sum(
        float(number) * _UNITS[unit] for number, unit in re.findall(_DURATION_PART_READ, text)
    )
    if 0 < seconds < 0.001:
        raise reading.error(f"--{name} cannot be less than 1ms")
    return seconds


# Durations as Go writes them, which is what Docker's builder takes.
_DURATION_PART = r"[0-9]{1,9}(?:\.[0-9]{0,9})?(?:ns|us|µs|ms|s|m|h)"
_DURATION_PART_READ = r"([0-9]+(?:\.[0-9]*)?)(ns|us|µs|ms|s|m|h)"
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _stopsignal(reading: _Reading) -> Stopsignal:
    line, original = reading.place
    rest = _needs(reading, "exactly one argument")
    if len(rest.split()) != 1:
        raise reading.error("STOPSIGNAL requires exactly one argument")
    return Stopsignal(line=line, original=original, signal=rest)


def _shell(reading: _Reading) -> Shell:
    line, original = reading.place
    words = reading.words(_needs(reading, "at least one argument"))
    if not words:
        raise reading.error(
            "SHELL requires the arguments to be in JSON form",
            hint='write it as SHELL ["/bin/bash", "-c"]',
        )
    return Shell(line=line, original=original, shell=words)


def _onbuild(reading: _Reading) -> Onbuild:
    line, original = reading.place
    trigger = _needs(reading, "at least one argument")
    keyword = trigger.split()[0].upper()
    if keyword in ("ONBUILD", "FROM", "MAINTAINER"):
        chained = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"
        raise reading.error(
            chained if keyword == "ONBUILD" else f"{keyword} isn't allowed as an ONBUILD trigger"
        )
    if keyword not in KEYWORDS:
        raise reading.error(
            f"unknown instruction: {keyword[:40]}{suggestion(keyword, KEYWORDS)} in ONBUILD"
        )
    for heredoc in reading.statement.heredocs:
        trigger += f"\n{heredoc.content}{heredoc.name}"
    return Onbuild(line=line, original=original, trigger=trigger)


def _maintainer(reading: _Reading) -> Maintainer:
    line, original = reading.place
    return Maintainer(line=line, original=original, name=_needs(reading, "exactly one argument"))


_READERS: Mapping[str, Callable[[_Reading], Instruction]] = {
    "ADD": _copy,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def command_text(args: Sequence[str]) -> str:
    """Return the exec form of a command as history and messages show it."""
    return "[" + " ".join(json.dumps(word, ensure_ascii=False) for word in args) + "]"
