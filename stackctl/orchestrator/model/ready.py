"""How a service tells that it is ready, beside or instead of a healthcheck."""

from stackctl.frozen import frozen

INTERVAL = 0.2
TIMEOUT = 60.0


@frozen
class HttpProbe:
    """A GET that must be answered with a status from ``least`` to ``most``."""

    port: int
    path: str = "/"
    least: int = 200
    most: int = 399


@frozen
class Ready:
    """The ``x-ready`` element: every probe that is given must succeed once.

    ``tcp`` is a port of the container, 0 for none; ``log`` a regular expression that a line of its log matches;
    ``exec`` a command in the container that exits 0. Times in seconds: between two tries, and how long the service
    may take in all (0: no limit).
    """

    tcp: int = 0
    http: HttpProbe | None = None
    log: str = ""
    exec: tuple[str, ...] = ()
    interval: float = INTERVAL
    timeout: float = TIMEOUT
