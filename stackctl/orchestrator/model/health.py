"""Healthchecks."""

from dataclasses import dataclass

from stackctl.orchestrator.model.common import EMPTY, Extensions


@dataclass(frozen=True, slots=True, kw_only=True)
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
