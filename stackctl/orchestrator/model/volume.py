"""Named volumes."""

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY, Extensions, Strings


@frozen
class Volume:
    """A top-level volume; ``key`` is its name in the file, ``name`` its name on the engine."""

    key: str
    name: str
    driver: str = ""
    driver_opts: Strings = EMPTY
    external: bool = False
    labels: Strings = EMPTY
    extensions: Extensions = EMPTY
