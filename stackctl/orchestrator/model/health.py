"""Healthchecks."""

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY, Extensions


@frozen
class Healthcheck:
    """The ``healthcheck`` element; times in seconds, None where the image or engine decides.

    ``test`` starts with ``CMD``, ``CMD-SHELL`` or ``NONE``; it is empty when only the times are set.
    """

    test: tuple[str, ...] = ()
    interval: float | None = None
    timeout: float | None = None
    retries: int | None = None
    start_period: float | None = None
    start_interval: float | None = None
    disable: bool = False
    extensions: Extensions = EMPTY
