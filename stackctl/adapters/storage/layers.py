"""Layer tar to directory and back; run with ``python -m`` it does one such job in a process of its own.

A job is a frozen value, so that it can be done here in a thread (small ones: starting Python costs 40 ms) or there
(large ones: unpacking holds the interpreter's lock).
"""

import asyncio
import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from stackctl.adapters.storage.bridge import to_the_end
from stackctl.adapters.storage.tarreader import TarStream, decompressed
from stackctl.adapters.storage.tarwriter import TreePacker, end
from stackctl.adapters.storage.treewriter import TreeWriter
from stackctl.contracts.storage import TarLimits
from stackctl.errors import HostError, InvalidInputError, StackctlError
from stackctl.frozen import frozen
from stackctl.host.files import write_all
from stackctl.host.worker import run_module
from stackctl.values import JsonObject, from_json, to_json

_MODULE = "stackctl.adapters.storage.layers"
_SMALL_BLOB = 1 << 20
_SMALL_TREE = 500
_OWN_FAULT = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)


@frozen
class UnpackJob:
    """Unpack the blob below ``target``, an empty directory; ``diff_id`` is checked unless it is "".

    It may hold ``max_bytes`` of plain data and ``max_entries``.
    """

    blob: str
    target: str
    diff_id: str
    max_bytes: int = TarLimits().size
    max_entries: int = TarLimits().entries


@frozen
class PackJob:
    """Pack the directory ``source``, an overlay's upper, into the new file ``target``; absolute paths ``without`` stay out."""

    source: str
    target: str
    without: tuple[str, ...] = ()


@frozen
class JobResult:
    """``digest`` and ``length`` of the plain tar, ``size`` of the files in it, how many ``entries`` there were."""

    digest: str
    length: int = 0
    size: int = 0
    entries: int = 0


async def unpack(job: UnpackJob) -> JobResult:
    """Do the job. Raises InvalidInputError for what is wrong with the layer, HostError for the host's refusal."""
    small = (await asyncio.to_thread(Path(job.blob).stat)).st_size <= _SMALL_BLOB
    return await (to_the_end(lambda: unpack_now(job)) if small else _elsewhere("unpack", job))


async def pack(job: PackJob) -> JobResult:
    """Do the job. Raises HostError."""
    small = await asyncio.to_thread(_is_small, job.source)
    return await (to_the_end(lambda: pack_now(job)) if small else _elsewhere("pack", job))


def unpack_now(job: UnpackJob) -> JobResult:
    with open(job.blob, "rb", buffering=0) as blob:
        stream = TarStream(
            decompressed(blob), hashing=True, max_bytes=job.max_bytes, max_entries=job.max_entries
        )
        root = os.open(job.target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            writer = TreeWriter(root, whiteouts=True)
            try:
                for entry in stream:
                    try:
                        writer.apply(entry, stream)
                    except OSError as error:
                        raise _refused(entry.name, error) from error
                writer.finish()
            finally:
                writer.close()
        finally:
            os.close(root)
        stream.drain()
    if job.diff_id and stream.digest != job.diff_id:
        raise InvalidInputError(
            f"the layer unpacks to {stream.digest}, but the image says {job.diff_id}",
            hint="the image is damaged; pull or load it again",
        )
    return JobResult(digest=stream.digest, size=writer.size)


def pack_now(job: PackJob) -> JobResult:
    digest = hashlib.sha256()
    length = 0
    without = frozenset(os.fsencode(path.lstrip("/")) for path in job.without)
    packer = TreePacker(whiteouts=True, without=without)
    root = os.open(job.source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = os.open(job.target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for chunk in batched(packer.tree(root)):
                digest.update(chunk)
                write_all(fd, chunk)
                length += len(chunk)
            digest.update(end())
            write_all(fd, end())
            length += len(end())
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError(f"cannot pack {job.source}: {error}", errno=error.errno or 0) from error
    finally:
        os.close(root)
    return JobResult(digest=f"sha256:{digest.hexdigest()}", length=length, entries=packer.entries)


def batched(chunks: Iterator[bytes], size: int = 1 << 20) -> Iterator[bytes]:
    """Join small chunks, so that a thousand headers are not a thousand writes."""
    parts: list[bytes] = []
    length = 0
    for chunk in chunks:
        parts.append(chunk)
        length += len(chunk)
        if length >= size:
            yield b"".join(parts)
            parts, length = [], 0
    if parts:
        yield b"".join(parts)


def _refused(name: bytes, error: OSError) -> StackctlError:
    what = f'cannot unpack "{name[:200].decode(errors="replace")}": {error.strerror}'
    if error.errno in _OWN_FAULT:
        hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return HostError(what, errno=error.errno or 0, hint=hint)
    return InvalidInputError(what)


def _is_small(root: str) -> bool:
    count = 0
    stack = [root]
    while stack:
        with os.scandir(stack.pop()) as scan:
            for entry in scan:
                count += 1
                if count > _SMALL_TREE:
                    return False
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
    return True


async def _elsewhere(verb: str, job: UnpackJob | PackJob) -> JobResult:
    answer = cast(JsonObject, await run_module(_MODULE, {"verb": verb, "job": to_json(job)}))
    if "error" in answer:
        message, hint = str(answer["error"]), str(answer["hint"])
        if answer["kind"] == "host":
            raise HostError(message, hint=hint, errno=cast(int, answer["errno"]))
        raise InvalidInputError(message, hint=hint)
    return from_json(JobResult, answer)


def main() -> None:
    """Do the job on standard input and answer on standard output."""
    request = json.load(sys.stdin)
    try:
        if request["verb"] == "unpack":
            answer = to_json(unpack_now(from_json(UnpackJob, request["job"])))
        else:
            answer = to_json(pack_now(from_json(PackJob, request["job"])))
    except HostError as error:
        answer = {"error": error.message, "hint": error.hint, "kind": "host", "errno": error.errno}
    except StackctlError as error:
        answer = {"error": error.message, "hint": error.hint, "kind": "input"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
