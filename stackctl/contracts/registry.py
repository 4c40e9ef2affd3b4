"""Registry: fetching and publishing images by the OCI distribution protocol."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import field
from pathlib import Path
from typing import Protocol

from stackctl.frozen import frozen
from stackctl.oci.descriptor import Descriptor
from stackctl.oci.platform import Platform
from stackctl.oci.reference import Reference


@frozen
class Credentials:
    """What X-Registry-Auth carried."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    server_address: str = ""


@frozen
class ResolvedManifest:
    """A manifest chosen for a platform: its bytes, its descriptor and, where an index led to it, the index's.

    ``platforms`` are all those that the index offers.
    """

    descriptor: Descriptor
    data: bytes
    top: Descriptor
    platforms: tuple[Platform, ...] = ()


class Registry(Protocol):
    """One client for all registries. Raises NotFoundError, UnauthorizedError, ForbiddenError, UnavailableError, each
    naming the registries that were tried.
    """

    async def resolve(
        self, reference: Reference, platform: Platform | None, credentials: Credentials | None
    ) -> ResolvedManifest:
        """Return the manifest of the image for the platform, verified."""

    async def tags(self, reference: Reference, credentials: Credentials | None) -> tuple[str, ...]:
        """Return the tags of a repository, as the registry lists them."""

    def fetch(
        self,
        reference: Reference,
        descriptor: Descriptor,
        credentials: Credentials | None,
        *,
        start: int = 0,
    ) -> AsyncIterator[bytes]:
        """Yield a blob's bytes from ``start`` on; the caller verifies while storing."""

    async def push_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        path: Path,
        credentials: Credentials | None,
        progress: Callable[[int], None] | None = None,
        *,
        sources: Sequence[str] = (),
    ) -> bool:
        """Upload a blob unless the registry has it (False then).

        ``sources`` are repositories of the same registry that may have it, to be mounted from instead.
        """

    async def push_manifest(
        self, reference: Reference, data: bytes, media_type: str, credentials: Credentials | None
    ) -> Descriptor:
        """Publish a manifest under the reference's tag."""

    async def login(self, credentials: Credentials) -> str:
        """Check credentials; return an identity token or ""."""

    async def close(self) -> None:
        """Close connections."""
