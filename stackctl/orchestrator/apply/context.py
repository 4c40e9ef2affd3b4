"""Pack a build context, and say how to build it."""

import hashlib
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from stackctl.errors import InvalidInputError, NotFoundError, UnsupportedError
from stackctl.ignore import Ignore
from stackctl.orchestrator.model.build import Build
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.plan import BuildImage

_IN_MEMORY = 8 << 20
_DOCKERFILE = "Dockerfile"


def is_remote(context: str) -> bool:
    """Tell whether the engine fetches the context itself: a URL or a Git repository."""
    return "://" in context or context.startswith(("git@", "github.com/"))


def dockerfile_name(build: Build) -> str:
    """Return the Dockerfile's name inside the context as it is sent."""
    if build.dockerfile_inline:
        digest = hashlib.sha256(build.dockerfile_inline.encode()).hexdigest()
        return f".dockerfile.{digest[:12]}"
    name = build.dockerfile or _DOCKERFILE
    if is_remote(build.context):
        return name
    root = Path(build.context)
    path = root / name
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return f".dockerfile.{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


def pack(build: Build, *, service: str) -> BinaryIO:
    """Return the context as an uncompressed tar, small ones in memory, others in an unnamed file.

    Owners are left out, as the docker CLI does. Raises NotFoundError or InvalidInputError naming what cannot be read.
    """
    output = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115
    try:
        if not is_remote(build.context):
            _pack_into(output, build, service)
            output.seek(0)
    except BaseException:
        output.close()
        raise
    return output


def _pack_into(output: BinaryIO, build: Build, service: str) -> None:
    root = Path(build.context)
    if not root.is_dir():
        raise NotFoundError(f"service {service!r}: build context {root} is not a directory")
    source = root / (build.dockerfile or _DOCKERFILE)
    name = dockerfile_name(build)
    text = build.dockerfile_inline.encode() if build.dockerfile_inline else _read(source, service)
    ignore = Ignore.parse(_ignore_text(root, source))
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
        try:
            for path, entry in ignore.walk(root):
                if path != name:
                    _add(archive, path, entry.path)
        except OSError as error:
            raise InvalidInputError(
                f"service {service!r}: cannot read the build context: {error}",
                hint="Leave it out with .dockerignore if the build does not need it.",
            ) from error
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(text), 0o644
        archive.addfile(info, io.BytesIO(text))


def build_query(stack: Stack, service: Service, action: BuildImage) -> dict[str, str]:
    """Return the query of ``POST /build`` for a service.

    Raises UnsupportedError for what the classic builder cannot do.
    """
    build = service.build
    if build is None:
        raise InvalidInputError(f"service {service.name!r} has no build")
    beyond = {
        "secrets": build.secrets,
        "ssh": build.ssh,
        "additional_contexts": build.additional_contexts,
        "privileged": build.privileged,
    }
    for name, value in beyond.items():
        if value:
            raise UnsupportedError(
                f"service {service.name!r}: build.{name} is not supported yet",
                hint=f"Build the image by other means and leave build.{name} out.",
            )
    if len(build.platforms) > 1:
        raise UnsupportedError(f"service {service.name!r}: only one build platform is supported")
    carried = {
        **build.labels,
        labels.PROJECT: stack.name,
        labels.SERVICE: service.name,
        labels.VERSION: labels.COMPOSE_VERSION,
    }
    args = {name: value for name, value in build.args.items() if value is not None}
    platform = next(iter(build.platforms), service.platform)
    optional = {
        "target": build.target,
        "networkmode": build.network,
        "platform": platform,
        "extrahosts": ",".join(entry.replace("=", ":", 1) for entry in build.extra_hosts),
        "shmsize": str(build.shm_size) if build.shm_size else "",
        "cachefrom": json.dumps(list(build.cache_from)) if build.cache_from else "",
        "nocache": "1" if action.no_cache else "",
        "pull": "1" if action.pull else "",
        "buildargs": json.dumps(args) if args else "",
        "remote": build.context if is_remote(build.context) else "",
        "ulimits": json.dumps(
            [
                {"Name": name, "Soft": limit.soft, "Hard": limit.hard}
                for name, limit in build.ulimits.items()
            ]
        )
        if build.ulimits
        else "",
    }
    return {
        "t": action.name,
        "dockerfile": dockerfile_name(build),
        "labels": json.dumps(carried),
        "rm": "1",
        "forcerm": "1",
        **{name: value for name, value in optional.items() if value},
    }


def _ignore_text(root: Path, dockerfile: Path) -> str:
    for path in (dockerfile.with_name(f"{dockerfile.name}.dockerignore"), root / ".dockerignore"):
        if path.is_file():
            return path.read_text(errors="surrogateescape")
    return ""


def _read(path: Path, service: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"service {service!r}: there is no Dockerfile at {path}") from error
    except OSError as error:
        raise InvalidInputError(
            f"service {service!r}: cannot read {path}: {error.strerror}"
        ) from error


def _add(archive: tarfile.TarFile, name: str, path: str) -> None:
    info = cast("tarfile.TarInfo | None", archive.gettarinfo(path, arcname=name))
    if info is None:
        return  # a socket: it has no place in an archive
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    if info.isreg():
        with open(path, "rb") as file:
            archive.addfile(info, file)
    else:
        archive.addfile(info)
