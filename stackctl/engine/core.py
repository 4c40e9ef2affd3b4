"""The services of the core, held together.

The services and what they offer (errors are kinds of ``stackctl.errors`` with Docker's texts):

- ``containers``: ``resolve(ref)``, ``all()``, ``create(spec, *, name, platform)``, ``rename``, ``remove``, ``update``,
  ``root``, ``changes``, ``export``, ``size``, ``prune``, ``commit``
- ``running``: ``start``, ``stop``, ``kill``, ``restart``, ``pause``, ``unpause``, ``watch``/``wait``, ``attach``,
  ``resize``, ``top``, ``usage``
- ``execs``: ``create``, ``start``, ``inspect``, ``resize``, ``ids(container_id)``
- ``networks``: ``resolve``, ``all``, ``create``, ``remove``, ``connect``, ``disconnect``, ``prune``, ``members``
- ``volumes``: ``resolve``, ``all``, ``create``, ``remove``, ``prune``, ``users``, ``usage``
- ``logs``: ``read``; ``events``: ``publish``, ``subscribe``; ``images``: see ``engine.images``
"""

from stackctl.engine.world import HostFacts, World

__all__ = ["HostFacts", "World"]
