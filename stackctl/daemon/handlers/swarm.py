"""What this engine does not offer: answered fast, in Docker's form, so that nobody waits or guesses."""

from aiohttp import web

from stackctl.daemon.app import Handler
from stackctl.daemon.call import Call
from stackctl.errors import NotFoundError, StackctlError, UnavailableError, UnsupportedError


def refuse(kind: type[StackctlError], message: str, *, hint: str = "") -> Handler:
    """Return a handler that answers with that error."""

    async def handler(_call: Call) -> web.StreamResponse:
        raise kind(message, hint=hint)

    return handler


no_manager = refuse(
    UnavailableError,
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
    "swarm and try again.",
)
no_member = refuse(UnavailableError, "This node is not part of a swarm")
no_swarm = refuse(UnsupportedError, "swarm mode is not offered by this engine")
no_plugins = refuse(UnsupportedError, "plugins are not offered by this engine")


async def no_plugin(call: Call) -> web.StreamResponse:
    raise NotFoundError(f'plugin "{call.args["name"]}" not found')


no_cluster_volumes = refuse(
    UnavailableError, "volume update only valid for cluster volumes, but swarm is unavailable"
)
no_checkpoints = refuse(UnsupportedError, "checkpoints are not offered by this engine")

_RESOURCES = ("services", "tasks", "nodes", "secrets", "configs")

ROUTES = (
    *((method, f"/{name}", no_manager) for name in _RESOURCES for method in ("GET", "POST")),
    *(
        (method, f"/{name}/{{rest:*}}", no_manager)
        for name in _RESOURCES
        for method in ("GET", "POST", "DELETE")
    ),
    ("GET", "/swarm", no_manager),
    ("GET", "/swarm/unlockkey", no_manager),
    ("POST", "/swarm/update", no_manager),
    ("POST", "/swarm/unlock", no_manager),
    ("POST", "/swarm/leave", no_member),
    ("POST", "/swarm/init", no_swarm),
    ("POST", "/swarm/join", no_swarm),
    ("GET", "/plugins/{name:*}/json", no_plugin),
    ("GET", "/plugins/{rest:*}", no_plugins),
    ("POST", "/plugins/{rest:*}", no_plugins),
    ("DELETE", "/plugins/{rest:*}", no_plugins),
    ("PUT", "/volumes/{name}", no_cluster_volumes),
    ("GET", "/containers/{id}/checkpoints", no_checkpoints),
    ("POST", "/containers/{id}/checkpoints", no_checkpoints),
    ("DELETE", "/containers/{id}/checkpoints/{checkpoint}", no_checkpoints),
)
