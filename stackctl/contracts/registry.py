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


@frozen
class TransferLimits:
    """How many layers are on their way at a time, whoever asked for them."""

    downloads: int = 3
    uploads: int = 5


@frozen
class SearchResult:
    """A repository that a search found."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False


class Registry(Protocol):
    """One client for all registries. Raises NotFoundError, UnauthorizedError, ForbiddenError, UnavailableError, each
    naming the registries that were tried.
    """

    async def resolve(
        self, reference: Reference, platform: Platform | None, credentials: Credentials | None
    ) -> ResolvedManifest:
        """Return the manifest of the image for the platform, verified."""

    async def digest(self, reference: Reference, credentials: Credentials | None) -> str:
        """Return the digest of what a name stands for now, fetching nothing; "" where the registry does not tell."""

    def fetch(
        self,
        reference: Reference,
        descriptor: Descriptor,
        credentials: Credentials | None,
        *,
        start: int = 0,
    ) -> AsyncIterator[bytes]:
        """Yield a blob's bytes from ``start`` on; the caller verifies while storing."""

    async def tags(self, reference: Reference, credentials: Credentials | None) -> Sequence[str]:
        """Return every tag of a repository, sorted."""

    async def push_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        path: Path,
        credentials: Credentials | None,
        progress: Callable[[int], None] | None = None,
        *,
        sources: Sequence[str] = (),
    ) -> str:
        """Upload a blob unless the registry has it; return what became of it in Docker's words.

        These are "Pushed", "Layer already exists" and "Mounted from REPOSITORY". ``sources`` are repositories of the same registry that may have it, to be mounted from instead.
        """

    async def push_manifest(
        self, reference: Reference, data: bytes, media_type: str, credentials: Credentials | None
    ) -> Descriptor:
        """Publish a manifest under the reference's tag."""

    async def search(
        self, term: str, limit: int, credentials: Credentials | None
    ) -> Sequence[SearchResult]:
        """Return what a registry's index finds for a word; "host/word" asks another than Docker Hub."""

    async def login(self, credentials: Credentials) -> str:
        """Check credentials; return an identity token or ""."""

    async def close(self) -> None:
        """Close connections."""
