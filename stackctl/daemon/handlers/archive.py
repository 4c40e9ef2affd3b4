"""/containers/{id}/archive: files in and out of a container."""

from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from stackctl.api import times
from stackctl.api.pathstat import STAT_HEADER, encode_stat
from stackctl.contracts.container import ContainerRecord, Status
from stackctl.contracts.storage import PathStat
from stackctl.daemon.call import TAR_TYPE, Call
from stackctl.engine.users import resolve_user
from stackctl.errors import InvalidInputError, NotFoundError, StackctlError

_FILE_LIMIT = 4 << 20


def _path(call: Call) -> str:
    path = call.text("path")
    if not path:
        raise InvalidInputError("bad parameter: 'path' cannot be empty")
    return path


def _stat_header(stat: PathStat) -> dict[str, str]:
    text = encode_stat(
        name=stat.name,
        size=stat.size,
        st_mode=stat.mode,
        mtime=times.rfc3339(stat.mtime),
        link_target=stat.link_target,
    )
    return {STAT_HEADER: text}


def _missing(path: str, name: str) -> NotFoundError:
    return NotFoundError(f"Could not find the file {path} in container {name}")


async def head(call: Call) -> web.StreamResponse:
    path = _path(call)
    containers = call.engine.containers
    record = containers.resolve(call.args["id"])
    async with containers.root(record.id) as root:
        try:
            stat = await call.engine.world.files.stat(root, path)
        except NotFoundError as error:
            raise _missing(path, call.args["id"]) from error
    return web.Response(headers={**call.headers(), **_stat_header(stat)})


async def get(call: Call) -> web.StreamResponse:
    path = _path(call)
    containers, files = call.engine.containers, call.engine.world.files
    record = containers.resolve(call.args["id"])
    async with containers.root(record.id) as root:
        try:
            stat = await files.stat(root, path)
        except NotFoundError as error:
            raise _missing(path, call.args["id"]) from error
        containers.tell(record.id, "archive-path")
        return await call.pour(TAR_TYPE, files.pack(root, path), headers=_stat_header(stat))


async def put(call: Call) -> web.StreamResponse:
    path = _path(call)
    containers = call.engine.containers
    record = containers.resolve(call.args["id"])
    # Before its first start nobody runs on the root: configs and secrets with content come this way.
    untouched = record.status is Status.CREATED and not record.started_at
    if record.spec.read_only_rootfs and not untouched and not _on_writable_mount(call, path):
        raise InvalidInputError("container rootfs is marked read-only")
    async with containers.root(record.id) as root:
        owner = await _owner(call, record, root) if call.flag("copyUIDGID") else None
        try:
            await call.engine.world.files.unpack(
                root,
                path,
                _body(call),
                no_overwrite_dir_non_dir=call.flag("noOverwriteDirNonDir"),
                copy_uid_gid=owner is not None,
                owner=owner,
            )
        except NotFoundError as error:
            raise _missing(path, call.args["id"]) from error
    containers.tell(record.id, "extract-to-dir")
    return call.empty(200)


async def _owner(call: Call, record: ContainerRecord, root: Path) -> tuple[int, int] | None:
    """Return whose the files are to be: the container's user, where it has one (Docker's copyUIDGID)."""
    if not record.user:
        return None
    texts = []
    for path in ("/etc/passwd", "/etc/group"):
        try:
            data = await call.engine.world.files.read(root, path, limit=_FILE_LIMIT)
        except StackctlError:
            data = b""
        texts.append(data.decode(errors="replace"))
    user = resolve_user(record.user, *texts)
    return user.uid, user.gid


def _on_writable_mount(call: Call, path: str) -> bool:
    record = call.engine.containers.resolve(call.args["id"])
    inside = f"{path.rstrip('/')}/"
    return any(
        not mount.read_only and inside.startswith(f"{mount.target.rstrip('/')}/")
        for mount in record.mounts
    )


def _body(call: Call) -> AsyncIterator[bytes]:
    return call.chunks()


ROUTES = (
    ("HEAD", "/containers/{id}/archive", head),
    ("GET", "/containers/{id}/archive", get),
    ("PUT", "/containers/{id}/archive", put),
)
