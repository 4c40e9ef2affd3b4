"""What the user may ask of a plan beyond the stack file."""

from collections.abc import Mapping

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY


@frozen
class Options:
    """The flags of ``up`` and its kin; each has the meaning of docker compose's flag of that name.

    ``services`` empty means all. ``timeout`` (seconds) is how long stopping may take, None for each container's own.
    ``build`` builds even where there is an image, ``no_build`` never does. ``pull`` overrides the pull policies
    (``always``, ``missing``, ``never``, ``build``). ``keep_volumes``: leave volumes alone whose definition changed.
    ``dependent`` is a service whose dependencies are waited for as if it were started at the end. ``relieves``: the engine lets one container take ports and names over from another.
    ``wait`` waits until all is running or healthy, ``wait_timeout`` seconds at most (0: no limit).
    """

    services: tuple[str, ...] = ()
    force_recreate: bool = False
    no_recreate: bool = False
    always_recreate_deps: bool = False
    renew_anon_volumes: bool = False
    remove_orphans: bool = False
    no_deps: bool = False
    no_start: bool = False
    scale: Mapping[str, int] = EMPTY
    build: bool = False
    no_build: bool = False
    build_no_cache: bool = False
    pull: str = ""
    timeout: float | None = None
    keep_volumes: bool = False
    relieves: bool = False
    dependent: str = ""
    wait: bool = False
    wait_timeout: float = 0.0


@frozen
class DestroyOptions:
    """The flags of ``down``: ``images`` is ``""``, ``local`` (without a tag of their own) or ``all``."""

    services: tuple[str, ...] = ()
    volumes: bool = False
    images: str = ""
    remove_orphans: bool = False
    timeout: float | None = None
