"""How the image of a service is built."""

from collections.abc import Mapping

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY, Extensions, Strings
from stackctl.orchestrator.model.files import FileReference
from stackctl.orchestrator.model.limits import Ulimit


@frozen
class SshKey:
    """An SSH agent socket or key offered to the build; ``path`` is empty for the agent of the environment."""

    id: str
    path: str = ""


@frozen
class Build:
    """The ``build`` element of a service.

    ``context`` is an absolute directory or a URL. ``args`` map to None where the value was to come from the
    environment and is not set there: such an argument is not passed.
    """

    context: str = ""
    dockerfile: str = ""
    dockerfile_inline: str = ""
    args: Mapping[str, str | None] = EMPTY
    additional_contexts: Strings = EMPTY
    target: str = ""
    labels: Strings = EMPTY
    tags: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    pull: bool = False
    network: str = ""
    extra_hosts: tuple[str, ...] = ()
    secrets: tuple[FileReference, ...] = ()
    ssh: tuple[SshKey, ...] = ()
    shm_size: int = 0
    ulimits: Mapping[str, Ulimit] = EMPTY
    isolation: str = ""
    privileged: bool = False
    entitlements: tuple[str, ...] = ()
    provenance: str = ""
    sbom: str = ""
    extensions: Extensions = EMPTY
