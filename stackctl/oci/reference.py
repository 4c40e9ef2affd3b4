"""Reference: registry, repository, tag and digest (distribution/reference grammar, Docker's familiar names)."""

import re
from collections.abc import Iterable
from dataclasses import replace

from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen
from stackctl.oci.digest import is_digest

DEFAULT_REGISTRY = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_REGISTRY = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)


@frozen
class Reference:
    """A name of an image. ``tag`` and ``digest`` are "" where not given."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The name without tag and digest, in the familiar form ("busybox", "ghcr.io/a/b")."""
        if self.registry != DEFAULT_REGISTRY:
            return f"{self.registry}/{self.repository}"
        short = self.repository.removeprefix("library/")
        head, slash, _ = short.partition("/")
        if not slash:
            return short
        # Without its registry this would be read as another: the first part looks like a host.
        is_host = "." in head or head == "localhost"
        return f"{self.registry}/{self.repository}" if is_host else self.repository

    @property
    def full(self) -> str:
        """The whole reference with its registry ("docker.io/library/busybox:latest")."""
        rest = str(self).removeprefix(self.name)
        return f"{self.registry}/{self.repository}{rest}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"

    def with_default_tag(self) -> "Reference":
        """Return the reference with "latest" where neither tag nor digest is given."""
        return self if self.tag or self.digest else replace(self, tag="latest")

    def with_tag(self, tag: str) -> "Reference":
        """Return the name with this tag, whatever tag or digest it had. Raises InvalidInputError."""
        if not _TAG.fullmatch(tag):
            raise InvalidInputError(
                f'invalid tag format: "{tag[:200]}"',
                hint="a tag has up to 128 letters, digits, _, . and -, and starts with none of . and -",
            )
        return replace(self, tag=tag, digest="")


def parse_reference(text: str) -> Reference:
    """Return the parts of an image name; raises InvalidInputError."""
    name, _, digest = text.partition("@")
    if "@" in text and not is_digest(digest):
        raise _invalid(text, "the part after @ is not a digest")
    head, slash, rest = name.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost" or head.lower() != head):
        registry, path = head, rest
    else:
        registry, path = DEFAULT_REGISTRY, name
    path, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _invalid(text, f'"{tag}" is not a tag')
    if not _REGISTRY.fullmatch(registry):
        raise _invalid(text, f'"{registry}" is not a registry')
    if not _REPOSITORY.fullmatch(path) or len(path) > 255:
        reason = "a repository name must be lowercase" if path.lower() != path else "bad name"
        raise _invalid(text, reason)
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in path:
        path = f"library/{path}"
    if not colon and not digest and re.fullmatch(r"[0-9a-f]{64}", name):
        raise _invalid(text, "64 hexadecimal digits are an image ID, not a name")
    return Reference(registry=registry, repository=path, tag=tag, digest=digest)


def _invalid(text: str, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f'invalid reference format: "{text[:200]}": {reason}',
        hint="write it as [registry/]repository[:tag][@digest]",
    )


def is_registry(text: str) -> bool:
    """Tell whether a text can name a registry: a host, perhaps with a port."""
    return _REGISTRY.fullmatch(text) is not None


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of an image in the order in which Docker tells them: by the whole reference, each once."""
    return tuple(sorted(dict.fromkeys(names), key=lambda name: parse_reference(name).full))
