"""What the user asked a plan for: the flags of up and down as values."""

from collections.abc import Mapping, Sequence
from dataclasses import field

from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen


@frozen
class UpRequest:
    """The flags of ``up``; times in seconds, None and "" for "as the stack file says"."""

    services: tuple[str, ...] = ()
    wait: bool = False
    wait_timeout: float = 0
    build: bool = False
    no_build: bool = False
    pull: str = ""
    force_recreate: bool = False
    no_recreate: bool = False
    always_recreate_deps: bool = False
    remove_orphans: bool = False
    renew_anon_volumes: bool = False
    no_deps: bool = False
    no_start: bool = False
    scale: Mapping[str, int] = field(default_factory=dict)
    timeout: int | None = None


@frozen
class DownRequest:
    """The flags of ``down``."""

    services: tuple[str, ...] = ()
    volumes: bool = False
    images: str = ""
    remove_orphans: bool = False
    timeout: int | None = None


def parse_scale(pairs: Sequence[str]) -> dict[str, int]:
    """Read SERVICE=NUMBER pairs; raises InvalidInputError."""
    scale = {}
    for pair in pairs:
        service, _, number = pair.partition("=")
        if not service or not number.isdigit():
            raise InvalidInputError(
                f'--scale: "{pair}" is not SERVICE=NUMBER', hint="for example --scale web=3"
            )
        scale[service] = int(number)
    return scale


@frozen
class OneOff:
    """The flags of ``run``: what its container has other than the service says."""

    service: str
    command: tuple[str, ...] | None = None
    entrypoint: str | None = None
    env: tuple[str, ...] = ()
    name: str = ""
    tty: bool = False
    stdin: bool = True
    remove: bool = False
    user: str = ""
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    service_ports: bool = False
    use_aliases: bool = False
    labels: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()


def check_recreate(force: bool, keep: bool, build: bool, no_build: bool, pull: str) -> None:
    """Raise InvalidInputError for flags that exclude each other."""
    if force and keep:
        raise InvalidInputError("--force-recreate and --no-recreate exclude each other")
    if build and no_build:
        raise InvalidInputError("--build and --no-build exclude each other")
    if pull not in ("", "policy", "always", "missing", "never", "build"):
        raise InvalidInputError(f'--pull: "{pull}" is not one of always, missing, never, build')
