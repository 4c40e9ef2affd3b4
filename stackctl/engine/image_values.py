"""What the images service takes and gives."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from stackctl.contracts.clock import Clock
from stackctl.contracts.container import ContainerRecord, Status
from stackctl.contracts.registry import Registry, TransferLimits
from stackctl.contracts.state import ImageConfig, ImageRecord, StateStore
from stackctl.contracts.storage import ContentStore, LayerStore
from stackctl.errors import NotFoundError, StackctlError
from stackctl.frozen import frozen
from stackctl.oci.platform import Platform
from stackctl.values import JsonObject

Publish = Callable[[str, str, str, Mapping[str, str]], None]


@frozen
class Progress:
    """One message of a pull, push or load, to be rendered as Docker's JSON lines. ``stream`` is load's text.

    A ``bare`` one is about no progress, though it has an ID.
    """

    status: str = ""
    id: str = ""
    current: int = 0
    total: int = 0
    aux: JsonObject | None = None
    error: str = ""
    stream: str = ""
    bare: bool = False


@frozen
class Removal:
    """One thing a remove did: exactly one of a reference untagged, an ID or chain ID deleted."""

    untagged: str = ""
    deleted: str = ""


@frozen
class HistoryLine:
    """One line of ``docker history``, newest first; ``id`` is "<missing>" where no image is known for it."""

    id: str
    created: float
    created_by: str
    size: int
    comment: str = ""
    tags: tuple[str, ...] = ()


@frozen
class ImagePruneFilter:
    """What prune takes: dangling images only or all unused; ``until`` an instant, None for any; labels as (key, value).

    A label's value None means "has the key".
    """

    dangling: bool = True
    until: float | None = None
    labels: tuple[tuple[str, str | None], ...] = ()
    not_labels: tuple[tuple[str, str | None], ...] = ()


@frozen
class ImageParts:
    """What the service asks of the outside.

    ``users_of`` returns the containers made from an image ID, ``layers_in_use`` every chain ID a container stands on.
    """

    content: ContentStore
    layers: LayerStore
    registry: Registry
    state: StateStore
    clock: Clock
    platform: Platform
    users_of: Callable[[str], Sequence[ContainerRecord]]
    layers_in_use: Callable[[], Collection[str]]
    publish: Publish
    transfers: TransferLimits = TransferLimits()


@frozen
class CommitRequest:
    """What a commit adds; ``config`` goes over the container's, None keeps that; paths ``without`` are left out."""

    reference: str = ""
    message: str = ""
    author: str = ""
    config: ImageConfig | None = None
    without: frozenset[str] = frozenset()


@dataclass(slots=True)
class Held:
    """What must not be collected although no record names it yet: digests of blobs and chain IDs."""

    counts: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def hold(self, names: Collection[str]) -> Iterator[None]:
        self.counts.update(names)
        try:
            yield
        finally:
            self.counts.subtract(names)
            self.counts += Counter()


class Gate:
    """Many may pass at once, or one alone; who came first goes first. A pass is never asked for inside another.

    Taking something and holding it passes shared, removing what nobody holds alone: so nothing goes in between.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._empty = asyncio.Event()
        self._empty.set()
        self._inside = 0

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        async with self._turn:
            self._inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        async with self._turn:
            await self._empty.wait()
            yield


def is_running(container: ContainerRecord) -> bool:
    return container.status in (Status.RUNNING, Status.PAUSED, Status.RESTARTING)


def platform_of(image: ImageRecord) -> Platform:
    """Return what the image is for."""
    return Platform(os=image.os, architecture=image.architecture, variant=image.variant)


def check_platform(image: ImageRecord, name: str, wanted: Platform | None) -> None:
    """Raise NotFoundError, in Docker's words, when an image is not for the platform; None is any."""
    if wanted is not None and not wanted.accepts(platform_of(image)):
        raise NotFoundError(
            f"image with reference {name} was found but its platform ({platform_of(image)}) does not match the "
            f"specified platform ({wanted})"
        )


def short(digest: str) -> str:
    """Return the twelve digits that people see."""
    return digest.partition(":")[2][:12] or digest[:12]


def first_failure(group: BaseExceptionGroup) -> BaseException:
    """Return the failure that says most: the first of ours, else the first."""
    leaves: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        item = stack.pop(0)
        if isinstance(item, BaseExceptionGroup):
            stack.extend(item.exceptions)
        else:
            leaves.append(item)
    return next((item for item in leaves if isinstance(item, StackctlError)), leaves[0])
