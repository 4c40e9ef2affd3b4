"""Takes what containers write on to the journal or to syslog, from their files, so that no receiver holds them up.

How far it came is kept beside the log: the next daemon goes on there, and of the last moment some lines may come twice.
"""

import contextlib
import os
from pathlib import Path

from stackctl.contracts.container import ContainerRecord, LogConfig
from stackctl.contracts.logsinks import LogSink, LogSinks
from stackctl.contracts.runtime import Ended, Runtime
from stackctl.engine.logmessages import Messages
from stackctl.errors import InvalidInputError

FORWARDED = ("journald", "syslog")


def check_present(config: LogConfig, sinks: LogSinks | None) -> None:
    """Raise InvalidInputError where the machine has not what the driver needs."""
    if config.type == "journald" and (sinks is None or not sinks.has_journal()):
        raise InvalidInputError("journald is not enabled on this host", hint="use json-file")
    own = config.type == "syslog" and not config.config.get("syslog-address", "")
    if own and (sinks is None or not sinks.has_syslog()):
        raise InvalidInputError(
            "no syslog daemon listens at /dev/log",
            hint="name one in the option syslog-address",
        )


async def forward(
    record: ContainerRecord, runtime: Runtime, sinks: LogSinks, *, ended: Ended, hostname: str
) -> None:
    """Hand on every line until the container has ended and the rest is read."""
    config = record.spec.log_config
    sink: LogSink = (
        sinks.journal()
        if config.type == "journald"
        else sinks.syslog(config.config.get("syslog-address", ""))
    )
    messages = Messages(record, hostname=hostname, process=os.getpid())
    path = Path(record.log_path)
    note = path.with_name(f"{path.name}-forwarded")
    try:
        async for batch in runtime.follow_log_entries(path, since=_read(note), ended=ended):
            for stream, at, line, whole in batch:
                await sink.send(messages.make(stream, at / 10**9, line, whole=whole))
            if batch:
                _write(note, batch[-1][1])
    finally:
        await sink.close()


def _read(note: Path) -> int:
    try:
        return int(note.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _write(note: Path, at: int) -> None:
    draft = note.with_name(f"{note.name}.new")
    # The container may have been removed meanwhile, directory and all.
    with contextlib.suppress(OSError):
        draft.write_text(str(at), encoding="ascii")
        draft.replace(note)
