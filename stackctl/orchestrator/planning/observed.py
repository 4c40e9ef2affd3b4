"""A snapshot of what exists on the engine, as far as planning needs it."""

from collections.abc import Mapping

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY, Strings
from stackctl.orchestrator.planning import labels

RUNNING = frozenset({"running", "restarting", "paused"})


@frozen
class ObservedMount:
    """``source`` is the volume's name for ``type`` volume, else the host path."""

    type: str
    source: str
    target: str
    read_only: bool = False


@frozen
class ObservedContainer:
    """One container of the stack.

    ``state`` is Docker's word (created, running, paused, restarting, exited, dead, removing), ``health`` is empty
    without a healthcheck. ``networks`` maps names to IDs (empty where the engine does not tell). ``mounts`` is None
    where the engine does not tell them.
    """

    id: str
    name: str
    service: str
    number: int = 1
    oneoff: bool = False
    state: str = "running"
    health: str = ""
    exit_code: int = 0
    image: str = ""
    image_id: str = ""
    labels: Strings = EMPTY
    networks: Strings = EMPTY
    mounts: tuple[ObservedMount, ...] | None = None

    @property
    def running(self) -> bool:
        return self.state in RUNNING

    @property
    def depends_on(self) -> Mapping[str, str]:
        """The services it was said to depend on, with their conditions, as its label tells."""
        return labels.read_depends_on(self.labels.get(labels.DEPENDS_ON, ""))


@frozen
class ObservedNetwork:
    """One network."""

    id: str
    name: str
    driver: str = ""
    labels: Strings = EMPTY


@frozen
class ObservedVolume:
    """One volume."""

    name: str
    driver: str = ""
    labels: Strings = EMPTY


@frozen
class ObservedImage:
    """``references`` are its tags and digests in familiar form."""

    id: str
    references: tuple[str, ...] = ()
    labels: Strings = EMPTY


@frozen
class Observed:
    """What exists: containers of the stack only; networks, volumes and images all, by name, name and reference.

    ``ages`` are the seconds since images with a timed pull policy were last pulled, by reference.
    """

    containers: tuple[ObservedContainer, ...] = ()
    networks: Mapping[str, ObservedNetwork] = EMPTY
    volumes: Mapping[str, ObservedVolume] = EMPTY
    images: Mapping[str, ObservedImage] = EMPTY
    ages: Mapping[str, float] = EMPTY

    def image(self, reference: str) -> ObservedImage | None:
        """Return the image a reference names, or None; ``:latest`` and the Docker Hub prefixes may be left out."""
        return self.images.get(reference) or self.images.get(familiar(reference))


def familiar(reference: str) -> str:
    """Return the short form of an image reference: no ``docker.io/library/``, but always a tag or digest."""
    if reference.startswith("sha256:"):
        return reference
    name = reference.removeprefix("docker.io/").removeprefix("index.docker.io/")
    name = name.removeprefix("library/")
    if "@" in name:
        name, _, digest = name.partition("@")
        head, _, last = name.rpartition("/")
        last = last.split(":", 1)[0]
        return f"{head}/{last}@{digest}" if head else f"{last}@{digest}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
