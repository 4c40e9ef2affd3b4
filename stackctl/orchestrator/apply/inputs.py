"""The content of configs and secrets: read once, for their digests and for the containers."""

from collections.abc import Iterable
from pathlib import Path

from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.orchestrator.model.files import FileObject
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.fingerprint import Inputs, keyed_digest


def read_inputs(stack: Stack, key: bytes, services: Iterable[str] = ()) -> Inputs:
    """Return the digests of every config and secret that the services use (all when none is named).

    Raises NotFoundError or InvalidInputError naming the service and file for one that cannot be read.
    """
    chosen = list(services) or list(stack.services)
    digests: dict[str, str] = {}
    for name in chosen:
        service = stack.services[name]
        for kind, references, objects in (
            ("config", service.configs, stack.configs),
            ("secret", service.secrets, stack.secrets),
        ):
            for reference in references:
                item = objects.get(reference.source)
                if item is None or f"{kind}:{item.key}" in digests:
                    continue
                data = content_of(item, kind=kind, service=name)
                digests[f"{kind}:{item.key}"] = keyed_digest(key, data)
    return Inputs(key=key, files=digests)


def content_of(item: FileObject, *, kind: str, service: str) -> bytes:
    """Return the bytes of a config or secret; a directory counts by its files."""
    where = f"service {service!r}: {kind} {item.key!r}"
    if item.external:
        raise InvalidInputError(
            f"{where} is external, which needs an engine that stores {kind}s (a Swarm)",
            hint="Use file, environment or content instead.",
        )
    if item.file:
        return _read(Path(item.file), where)
    if item.content is None:
        raise NotFoundError(f"{where}: the environment variable {item.environment!r} is not set")
    return item.content.encode("utf-8", "surrogateescape")


def _read(path: Path, where: str) -> bytes:
    try:
        if path.is_dir():
            files = sorted(part for part in path.rglob("*") if part.is_file())
            return b"\0".join(str(part).encode() + b"\0" + part.read_bytes() for part in files)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"{where}: {path} is not there") from error
    except OSError as error:
        raise InvalidInputError(f"{where}: cannot read {path}: {error.strerror}") from error
