"""Runtime config: the OCI runtime specification's config.json, built by engine.runtime_spec, read by the runtime.

The tree is kept as JSON since it is written once and read by runc alone; its shape is the specification's.
"""

from stackctl.frozen import frozen
from stackctl.values import JsonObject


@frozen
class RuntimeSpec:
    """A whole config.json (OCI runtime specification 1.0.2). ``seccomp`` asks the runtime adapter to add a profile.

    ``seccomp`` is "default", "unconfined" or a JSON profile in Docker's form, to be translated for the container's
    capabilities by the adapter (translation is cached there).
    """

    tree: JsonObject
    seccomp: str = "default"
