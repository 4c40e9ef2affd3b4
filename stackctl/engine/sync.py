"""Batches of file changes for one container: what hot reload sends.

A running container gets them through its own root, volumes and tmpfs included; a stopped one into its files.
"""

import errno
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from stackctl.contracts.storage import SyncResult
from stackctl.errors import ConflictError, HostError, InvalidInputError

if TYPE_CHECKING:
    from stackctl.engine.core import Engine

_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENOTDIR})
_READ_ONLY = "Read-only file system"


async def sync_files(engine: "Engine", ref: str, chunks: AsyncIterator[bytes]) -> SyncResult:
    """Apply a batch to a container; raises NotFoundError, InvalidInputError, ConflictError, HostError.

    ConflictError: the container ends or restarts at this moment; the batch may be sent again.
    """
    record = engine.containers.resolve(ref)
    try:
        async with engine.containers.root(record.id) as root:
            result = await engine.world.files.sync(root, chunks)
    except HostError as error:
        if error.errno in _GONE:
            raise ConflictError(
                f"container {record.name} is between two lives", hint="try again"
            ) from error
        raise
    if result.failures and not result.written and not result.deleted:
        path, why = result.failures[0]
        if why == _READ_ONLY:
            raise InvalidInputError(
                f"container {record.name}: {path} cannot be written, its file system is read-only",
                hint="mount a volume or a tmpfs there, or leave out read_only",
            )
    return result
