"""What a build is asked for and what it says while it runs."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import field
from pathlib import Path

from stackctl.contracts.container import Ulimit
from stackctl.contracts.registry import Credentials
from stackctl.frozen import frozen


@frozen
class BuildResult:
    """Where the files of the last stage go: ``kind`` "tar", a new file at ``path``, or "local", a directory."""

    kind: str
    path: Path


@frozen
class BuildRequest:
    """One build (Docker Engine API, POST /build). Sizes in bytes, CPU as in HostConfig.

    ``context`` is a tar stream (plain or compressed) or a directory on this host. ``dockerfile`` is a path in it;
    ``dockerfile_text``, when not None, is taken instead. ``network_mode`` is "default", "host", "none" or a
    network's name. ``credentials`` are by registry host. ``secrets`` are what RUN --mount=type=secret may ask for.
    ``contexts`` are more contexts by name in lower case, directories of this host or image references; they go before
    stages and images of the same name. ``ssh`` are sockets of SSH agents. ``cache_sources`` and ``cache_targets`` are
    directories that steps are taken from and kept in. With a ``result`` the files go there and no image is made.
    """

    context: AsyncIterator[bytes] | Path
    dockerfile: str = "Dockerfile"
    dockerfile_text: str | None = None
    target: str = ""
    tags: tuple[str, ...] = ()
    args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
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
    platform: str = ""
    credentials: Mapping[str, Credentials] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    contexts: Mapping[str, Path | str] = field(default_factory=dict)
    ssh: Mapping[str, Path] = field(default_factory=dict)
    cache_sources: tuple[Path, ...] = ()
    cache_targets: tuple[Path, ...] = ()
    result: BuildResult | None = None


@frozen
class BuildOutput:
    """One message of a build; exactly one of the four kinds is set.

    ``stream`` is text to show; ``status`` (with ``id``, ``current``, ``total``) progress of a pull; ``image_id`` the
    result, the JSON line's aux; ``error`` the end of a failed build, with the exit ``code`` of a RUN (0 otherwise).
    """

    stream: str = ""
    status: str = ""
    id: str = ""
    current: int = 0
    total: int = 0
    image_id: str = ""
    error: str = ""
    code: int = 0
