"""The labels that tie containers, networks, volumes and images to a stack.

The ``com.docker.compose.*`` ones are those of docker compose, so that other tools group what we make; the
``io.stackctl.*`` ones are ours.
"""

from collections.abc import Mapping

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
ONEOFF = "com.docker.compose.oneoff"
CONFIG_HASH = "com.docker.compose.config-hash"
WORKING_DIR = "com.docker.compose.project.working_dir"
CONFIG_FILES = "com.docker.compose.project.config_files"
ENVIRONMENT_FILE = "com.docker.compose.project.environment_file"
DEPENDS_ON = "com.docker.compose.depends_on"
IMAGE = "com.docker.compose.image"
REPLACE = "com.docker.compose.replace"
VERSION = "com.docker.compose.version"
NETWORK = "com.docker.compose.network"
VOLUME = "com.docker.compose.volume"

FINGERPRINT = "io.stackctl.fingerprint"
DEFINITION = "io.stackctl.definition"
HOOK = "com.docker.compose.hook"
STACKCTL_VERSION = "io.stackctl.version"

COMPOSE_VERSION = "2.40.3"


def write_depends_on(dependencies: Mapping[str, tuple[str, bool]]) -> str:
    """Return the label's text: ``name:condition:restart`` joined by commas."""
    return ",".join(
        f"{name}:{condition}:{'true' if restart else 'false'}"
        for name, (condition, restart) in sorted(dependencies.items())
    )


def read_depends_on(text: str) -> dict[str, str]:
    """Return service name to condition; older labels may hold names alone."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, _, rest = part.strip().partition(":")
        if name:
            found[name] = rest.partition(":")[0] or "service_started"
    return found
