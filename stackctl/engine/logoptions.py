"""Log drivers and their options: what Docker accepts, and when a log is rotated.

json-file and local are both served from the monitor's file, which is rotated by these options.
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stackctl.contracts.clock import Clock
from stackctl.contracts.container import ContainerRecord, LogConfig
from stackctl.contracts.logsinks import LogSinks
from stackctl.contracts.runtime import Runtime
from stackctl.engine.logforward import FORWARDED, check_present
from stackctl.engine.logmessages import attributes_of, check_options, tag_of, tag_values
from stackctl.errors import ConflictError, InvalidInputError, StackctlError, StartError
from stackctl.units import parse_bytes

log = logging.getLogger(__name__)
DRIVERS = ("json-file", "local", "none", *FORWARDED)
_COMMON = frozenset({"mode", "max-buffer-size"})
_OPTIONS = {
    "json-file": frozenset(
        {"compress", "env", "env-regex", "labels", "labels-regex", "max-file", "max-size", "tag"}
    ),
    "local": frozenset({"compress", "max-file", "max-size"}),
    "journald": frozenset({"env", "env-regex", "labels", "labels-regex", "tag"}),
    "syslog": frozenset(
        {"env", "env-regex", "labels", "labels-regex", "tag", "syslog-address"}
        | {"syslog-facility", "syslog-format"}
    ),
}
_TRUE = frozenset({"1", "t", "true"})
_FALSE = frozenset({"0", "f", "false", ""})
_KEPT = ("local", *FORWARDED)
_LOCAL_SIZE = 20_000_000
_INTERVAL = 0.5
_SHORT_INTERVAL = 0.05


def check_log_config(config: LogConfig) -> None:
    """Raise InvalidInputError for a driver or an option that Docker refuses at create."""
    kind = config.type or "json-file"
    if kind not in DRIVERS:
        # Docker's text as it is: clients compare the whole of it.
        raise InvalidInputError(
            f'error looking up logging plugin {kind[:80]}: plugin "{kind[:80]}" not found'
        )
    if kind == "none":
        return
    mode = config.config.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidInputError(f"logger: logging mode not supported: {mode[:80]}")
    if "max-buffer-size" in config.config:
        if mode != "non-blocking":
            raise InvalidInputError(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
            )
        try:
            _size(config, "max-buffer-size", base=1024)
        except InvalidInputError as error:
            raise InvalidInputError(
                f"error parsing option max-buffer-size: {error.message}", hint=error.hint
            ) from error
    for name in config.config:
        if name not in _OPTIONS[kind] | _COMMON:
            whose = f"for log driver {kind}" if kind == "local" else f"for {kind} log driver"
            raise InvalidInputError(f"unknown log opt '{name[:80]}' {whose}")
    check_options(config)


def check_start(record: ContainerRecord, sinks: LogSinks | None) -> None:
    """Raise StartError for what a driver cannot work with, which Docker tells at a start only."""
    config = record.spec.log_config
    try:
        check_present(config, sinks)
        attributes_of(record)
        if config.type != "none":
            tag_of(config.config.get("tag", ""), tag_values(record))
            _check_rotation(config)
    except InvalidInputError as error:
        raise StartError(
            f"failed to create task for container: failed to initialize logging driver: {error.message}",
            exit_code=128,
            hint=error.hint,
        ) from error


def _check_rotation(config: LogConfig) -> None:
    text = config.config.get("compress", "")
    if text.lower() not in _TRUE | _FALSE:
        raise InvalidInputError(
            f"strconv.ParseBool: parsing {json.dumps(text[:80])}: invalid syntax",
            hint="The option compress is true or false.",
        )
    size, files = rotation(config)
    if config.type not in _KEPT and text.lower() in _TRUE and (files < 2 or not size):
        raise InvalidInputError(
            "compress cannot be true when max-file is less than 2 or max-size is not set"
        )


def rotation(config: LogConfig) -> tuple[int, int]:
    """Return (bytes after which a log is rotated, 0 for never; how many files there are at most).

    Sizes are in powers of 1000, as Docker reads them here. Raises InvalidInputError.
    """
    # What goes elsewhere is kept as the local driver keeps it, for those who ask here.
    local = config.type in _KEPT
    try:
        size = _size(config, "max-size", base=1000) or (_LOCAL_SIZE if local else 0)
    except InvalidInputError as error:
        if not local:
            raise
        text = config.config["max-size"][:80]
        raise InvalidInputError(
            f"invalid value for max-size: {text}: {error.message}", hint=error.hint
        ) from error
    text = config.config.get("max-file", "")
    if not text:
        return size, 5 if local else 1
    if not re.fullmatch("[+-]?[0-9]{1,6}", text):
        raise InvalidInputError(
            f"strconv.Atoi: parsing {json.dumps(text[:80])}: invalid syntax",
            hint="The option max-file is a number.",
        )
    if int(text) < 1:
        raise InvalidInputError("max-file cannot be less than 1")
    return size, int(text)


def compressed(config: LogConfig) -> bool:
    """Tell whether rotated parts are compressed: where asked for, and always with the local driver."""
    text = config.config.get("compress", "").lower()
    return text in _TRUE or (config.type in _KEPT and not text)


def _size(config: LogConfig, name: str, *, base: int) -> int:
    text = config.config.get(name, "")
    try:
        size = parse_bytes(text, base=base) if text else 0
    except InvalidInputError as error:
        raise InvalidInputError(f"invalid size: '{text[:80]}'", hint=error.hint) from error
    if text and size != -1 and size <= 0:
        raise InvalidInputError(f"{name} must be a positive number")
    return max(size, 0)


async def rotate_until(
    record: ContainerRecord,
    runtime: Runtime,
    clock: Clock,
    *,
    over: Callable[[], bool],
) -> None:
    """Rotate a container's log whenever it has grown beyond its size, until ``over`` says that the container ended."""
    size, _ = rotation(record.spec.log_config)
    path = Path(record.log_path)
    compress = compressed(record.spec.log_config)
    pause = _INTERVAL
    while size and not over():
        await clock.sleep(pause)
        with suppress(FileNotFoundError):
            if (await asyncio.to_thread(path.stat)).st_size < size:
                pause = min(2 * pause, _INTERVAL)
                continue
            # One that writes fast is looked at more often.
            pause = _SHORT_INTERVAL
            try:
                await runtime.reopen_log(record.id, path, compress=compress)
            except ConflictError:
                return  # nobody writes it any more
            except StackctlError as error:
                log.warning("cannot rotate the log of %s: %s", record.name, error.message)
