"""The table of routes, put together from the handlers."""

from stackctl.daemon.app import Route, Router
from stackctl.daemon.handlers import (
    archive,
    build,
    containers,
    execs,
    images,
    leases,
    lifecycle,
    networks,
    relief,
    streaming,
    swarm,
    sync,
    system,
    usage,
    volumes,
)

# The more particular path stands first.
TABLE: tuple[Route, ...] = (
    *system.ROUTES,
    *usage.ROUTES,
    *sync.ROUTES,
    *leases.ROUTES,
    *relief.ROUTES,
    *streaming.ROUTES,
    *lifecycle.ROUTES,
    *archive.ROUTES,
    *execs.ROUTES,
    *containers.ROUTES,
    *swarm.ROUTES,
    *images.ROUTES,
    *build.ROUTES,
    *networks.ROUTES,
    *volumes.ROUTES,
)


def router() -> Router:
    """Return the router of every endpoint."""
    return Router(TABLE)
