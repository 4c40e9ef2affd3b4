"""Hooks and the ``develop`` element."""

from collections.abc import Mapping

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY, Extensions


@frozen
class Hook:
    """A command run at a point of a container's life (``pre_start``, ``post_start``, ``pre_stop``, ``exec``).

    ``image`` and ``per_replica`` belong to ``pre_start``, which runs a container of its own.
    """

    command: tuple[str, ...] = ()
    user: str = ""
    privileged: bool = False
    working_dir: str = ""
    environment: Mapping[str, str | None] = EMPTY
    image: str = ""
    per_replica: bool = False
    extensions: Extensions = EMPTY


@frozen
class WatchRule:
    """One entry of ``develop.watch``.

    ``action`` is ``sync``, ``rebuild``, ``restart``, ``sync+restart`` or ``sync+exec``; ``path`` is absolute.
    """

    path: str
    action: str
    target: str = ""
    exec: Hook | None = None
    include: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    initial_sync: bool = False
    extensions: Extensions = EMPTY
