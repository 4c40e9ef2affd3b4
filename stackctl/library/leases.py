"""A lease for what other clients create: in the place of the reaper containers that they start for it."""

import atexit
import contextlib
import os
from collections.abc import Mapping

from stackctl.errors import InvalidInputError
from stackctl.library.root import Given, Machine
from stackctl.orchestrator.apply.lease import check

_held = contextlib.ExitStack()


def lease(labels: Mapping[str, str], *, engine: str = "") -> str:
    """Let the engine remove, when this process is gone, everything that is created with all these labels.

    Whoever creates it, by whatever client: ``lease({"org.testcontainers.session-id": SESSION_ID})`` does for
    testcontainers what its own reaper would. Returns the lease's ID; raises UnsupportedError where the engine keeps
    none.
    """
    if not labels:
        raise InvalidInputError("a lease on no labels would claim everything")
    client = Machine(Given(isolate=False, engine=engine)).engine()
    check(client, "lease()")
    try:
        made = client.create_lease(
            pid=os.getpid(), connection=False, seconds=0, labels={}, claims=labels
        )
    except InvalidInputError:
        # The engine cannot see this process.
        made = client.create_lease(pid=0, connection=True, seconds=0, labels={}, claims=labels)
        _held.enter_context(client.hold_lease(made))
        atexit.register(_held.close)
    client.close()
    return made
