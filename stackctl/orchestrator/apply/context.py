"""Pack a build context, and say how to build it."""

import base64
import hashlib
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from stackctl.errors import InvalidInputError, NotFoundError, UnsupportedError
from stackctl.ignore import Ignore
from stackctl.orchestrator.model.build import Build
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.fingerprint import image_name
from stackctl.orchestrator.planning.plan import BuildImage
from stackctl.values import JsonObject

if TYPE_CHECKING:
    import tarfile

_IN_MEMORY = 8 << 20
_DOCKERFILE = "Dockerfile"
_LAYOUT = "oci-layout://"


def is_remote(context: str) -> bool:
    """Tell whether the engine fetches the context itself: a URL or a Git repository."""
    return "://" in context or context.startswith(("git@", "github.com/"))


def remote_url(context: str) -> str:
    """Return what is fetched as the engine knows it: "github.com/…" is a repository there by an old custom."""
    if not context.startswith("github.com/"):
        return context
    path, mark, fragment = context.partition("#")
    return f"https://{path.removesuffix('.git')}.git{mark}{fragment}"


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
    import tempfile  # with all that it imports: most builds pack nothing

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
    import tarfile  # 10 ms that an ``up`` without builds need not wait for

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


def local_body(stack: Stack, service: Service) -> JsonObject:
    """Return what a local engine is told of a build beside the query: where everything is, nothing packed.

    Raises NotFoundError or InvalidInputError naming what is not there.
    """
    build = service.build or Build()
    root = Path(build.context)
    body: JsonObject = {
        "context": _place(build.context, service.name),
        "contexts": {
            name: _context(stack, text, root) for name, text in build.additional_contexts.items()
        },
        "secrets": {
            one.target or one.source: base64.b64encode(
                _secret(stack, one.source, service.name)
            ).decode()
            for one in build.secrets
        },
        "ssh": {one.id: one.path or _agent(service.name) for one in build.ssh},
        "privileged": build.privileged or "security.insecure" in build.entitlements,
        "host_network": "network.host" in build.entitlements,
        "no_cache_filter": list(build.no_cache_filter),
        "tags": list(build.tags),
    }
    name = dockerfile_name(build)
    if build.dockerfile_inline:
        body["dockerfile"] = build.dockerfile_inline
    elif name.startswith(".dockerfile.") and not is_remote(build.context):
        source = root / (build.dockerfile or _DOCKERFILE)
        body["dockerfile"] = _read(source, service.name).decode(errors="surrogateescape")
    for key, texts in (("cache_from", build.cache_from), ("cache_to", build.cache_to)):
        body[key] = [
            place for text in texts if (place := _cache_place(text, key, service.name)) is not None
        ]
    return body


def _place(context: str, service: str) -> JsonObject:
    """Return where the context is: a directory and what tells it from any other, or what the engine fetches."""
    if is_remote(context):
        return {"remote": remote_url(context)}
    root = Path(context)
    if not root.is_dir():
        raise NotFoundError(f"service {service!r}: build context {root} is not a directory")
    found = root.stat()
    return {"path": str(root.resolve()), "device": found.st_dev, "inode": found.st_ino}


def _context(stack: Stack, text: str, root: Path) -> str:
    """Return a named context as the engine takes it: an absolute directory, oci-layout:// with one, docker-image://NAME
    or a URL.
    """
    if text.startswith("service:"):
        return f"docker-image://{image_name(stack, text.removeprefix('service:'))}"
    if text.startswith(_LAYOUT):
        return f"{_LAYOUT}{(root / text.removeprefix(_LAYOUT)).absolute()}"
    if is_remote(text):
        return remote_url(text)
    return str((root / text).resolve())


def _secret(stack: Stack, source: str, service: str) -> bytes:
    known = stack.secrets.get(source)
    if known is not None and known.content is not None:
        return known.content.encode()
    if known is None or not known.file:
        raise NotFoundError(f"service {service!r}: the build secret {source!r} has no content")
    try:
        return Path(known.file).read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"service {service!r}: cannot read the build secret {source!r}: {error}"
        ) from error


def _agent(service: str) -> str:
    socket = os.environ.get("SSH_AUTH_SOCK", "")
    if not socket:
        raise NotFoundError(
            f"service {service!r}: the build wants an SSH agent, and none runs",
            hint="start ssh-agent, so that SSH_AUTH_SOCK is set",
        )
    return socket


def _image_cache(text: str) -> str:
    """Return the image of a cache that is one (its name, or "type=registry,ref=NAME"), "" for another kind."""
    words = dict(word.partition("=")[::2] for word in text.split(","))
    return text if "type" not in words else words.get("ref", "")


def _cache_place(text: str, key: str, service: str) -> JsonObject | None:
    """Return where a cache is; None for "inline", which every image of ours is. Raises UnsupportedError."""
    words = dict(word.partition("=")[::2] for word in text.split(","))
    if "type" not in words and "=" not in text:
        words = {"type": "registry", "ref": text}
    kind = words.get("type", "")
    if kind == "inline":
        return None
    common: JsonObject = {
        "mode": words.get("mode", ""),
        "ignore_error": words.get("ignore-error") == "true",
    }
    if kind == "local" and (directory := words.get("src") or words.get("dest")):
        return {"path": str(Path(directory).absolute()), **common}
    if kind == "registry" and words.get("ref"):
        return {"reference": words["ref"], **common}
    raise UnsupportedError(
        f"service {service!r}: build.{key} {text[:200]!r} is not offered",
        hint="type=registry,ref=NAME, type=local with src or dest, or type=inline",
    )


def build_query(
    stack: Stack, service: Service, action: BuildImage, *, local: bool = False
) -> dict[str, str]:
    """Return the query of ``POST /build`` for a service; with ``local`` the rest goes by ``local_body``.

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
        if value and not local:
            raise UnsupportedError(
                f"service {service.name!r}: build.{name} is not offered by this engine",
                hint=f"The built-in engine takes it; or leave build.{name} out.",
            )
    asked = dict(action.asked)
    every = asked.get("platforms") == "all"
    if len(build.platforms) > 1 and every and not local:
        raise UnsupportedError(
            f"service {service.name!r}: this engine builds for one platform at a time",
            hint="The built-in engine builds for all of build.platforms; or leave one there.",
        )
    # The built-in engine takes every kind of cache, see local_body.
    images = [] if local else [name for text in build.cache_from if (name := _image_cache(text))]
    carried = {
        **build.labels,
        labels.PROJECT: stack.name,
        labels.SERVICE: service.name,
        labels.VERSION: labels.COMPOSE_VERSION,
    }
    args = {name: value for name, value in build.args.items() if value is not None}
    # Only ``build`` makes the images of all platforms; what runs here needs one.
    platform = service.platform
    if len(build.platforms) == 1 or (build.platforms and every):
        platform = ",".join(build.platforms)
    optional = {
        "target": build.target,
        "networkmode": build.network,
        "platform": platform,
        "extrahosts": ",".join(entry.replace("=", ":", 1) for entry in build.extra_hosts),
        "shmsize": str(build.shm_size) if build.shm_size else "",
        "cachefrom": json.dumps(images) if images else "",
        "nocache": "1" if action.no_cache else "",
        "pull": "1" if action.pull else "",
        "memory": asked.get("memory", ""),
        "buildargs": json.dumps(args) if args else "",
        "remote": remote_url(build.context) if is_remote(build.context) and not local else "",
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


def _add(archive: "tarfile.TarFile", name: str, path: str) -> None:
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
