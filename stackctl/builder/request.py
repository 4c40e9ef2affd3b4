"""What a build is asked for and what it says while it runs."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import field
from pathlib import Path

from stackctl.contracts.container import Ulimit
from stackctl.contracts.registry import Credentials
from stackctl.contracts.state import BuildCacheRecord
from stackctl.frozen import frozen


@frozen
class BuildResult:
    """Where the result goes beside the store, ``path``.

    ``kind`` "tar" and "local" are the files of the last stage, as a new file or a directory; "oci" and "docker" an
    archive of the image, which is both at once.
    """

    kind: str
    path: Path


@frozen
class CachePlace:
    """Where steps are kept: the directory ``path``, or ``reference`` in a registry.

    With ``everything`` the steps of all stages are kept, else those of the target; with ``lenient`` failing to keep
    them does not fail the build.
    """

    path: Path | None = None
    reference: str = ""
    everything: bool = True
    lenient: bool = False


@frozen
class CachePrune:
    """What of the cache goes: its steps whose ID has ``part`` in it and that were not used after ``until``, its mounts.

    ``until`` is in seconds since the epoch, None for any.
    """

    part: str = ""
    until: float | None = None
    steps: bool = True
    mounts: bool = True

    def takes(self, step: BuildCacheRecord) -> bool:
        """Tell whether a step goes."""
        return self.part in step.id and (self.until is None or step.used_at <= self.until)


@frozen
class BuildRequest:
    """One build (Docker Engine API, POST /build). Sizes in bytes, CPU as in HostConfig.

    ``context`` is a tar stream (plain or compressed), a directory on this host, or a URL to fetch it from (a git
    repository, a tar, a Dockerfile alone). ``dockerfile`` is a path in it; ``dockerfile_text``, when not None, is taken
    instead. ``network_mode`` is "default", "host", "none" or a network's name. ``credentials`` are by registry host.
    ``secrets`` are what RUN --mount=type=secret may ask for. ``contexts`` are more contexts by name in lower case,
    directories of this host, URLs, OCI layouts or image references; they go before stages and images of the same name
    (``fetched`` are the directories among them that the builder fetched). ``no_cache_filter`` are stages whose steps
    are all done anew. ``ssh`` are sockets of SSH agents. ``cache_sources`` and ``cache_targets`` are where steps are
    taken from beside the engine's own, and kept. ``cache_from`` instead are images that steps must have led to, as the
    classic builder has it. ``host_network`` allows RUN --network=host, as ``network_mode`` "host" does. With a
    ``result`` the files or an archive of the image go there as well. ``platform`` may be several, with commas: then
    this machine's image is kept here, and the result, and what ``push`` pushes under the tags, are of all. With
    ``check`` nothing is built: findings of the build checks are an error.
    """

    context: AsyncIterator[bytes] | Path | str
    dockerfile: str = "Dockerfile"
    dockerfile_text: str | None = None
    target: str = ""
    tags: tuple[str, ...] = ()
    args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    pull: bool = False
    cache_from: tuple[str, ...] = ()
    quiet: bool = False
    remove: bool = True
    force_remove: bool = False
    squash: bool = False
    network_mode: str = "default"
    extra_hosts: tuple[str, ...] = ()
    shm_size: int = 0
    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    cgroup_parent: str = ""
    ulimits: tuple[Ulimit, ...] = ()
    security_opt: tuple[str, ...] = ()
    privileged: bool = False
    host_network: bool = False
    platform: str = ""
    credentials: Mapping[str, Credentials] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    contexts: Mapping[str, Path | str] = field(default_factory=dict)
    fetched: frozenset[Path] = frozenset()
    ssh: Mapping[str, Path] = field(default_factory=dict)
    cache_sources: tuple[CachePlace, ...] = ()
    cache_targets: tuple[CachePlace, ...] = ()
    result: BuildResult | None = None
    push: bool = False
    check: bool = False


@frozen
class BuildOutput:
    """One message of a build; exactly one of the five kinds is set.

    ``stream`` is text to show; ``status`` (with ``id``, ``current``, ``total``) progress of a pull; ``image_id`` the
    result, the JSON line's aux; ``checked`` the end of one that was only checked; ``error`` the end of a failed build,
    with the exit ``code`` of a RUN (0 otherwise) and, where that is not part of it, the same with its place (``located``).
    """

    stream: str = ""
    status: str = ""
    id: str = ""
    current: int = 0
    total: int = 0
    image_id: str = ""
    checked: bool = False
    error: str = ""
    code: int = 0
    located: str = ""
