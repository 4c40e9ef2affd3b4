"""The composition root of the engine half: the only place that names the adapters."""

import os

from stackctl.adapters.registry.client import RegistryClient
from stackctl.adapters.runtime.runc import ConmonRuntime, RuntimeSettings
from stackctl.adapters.state.sqlite import SqliteState
from stackctl.adapters.storage.content import BlobStore
from stackctl.adapters.storage.overlay import OverlayStore
from stackctl.adapters.storage.roottree import OpenAtRootTree
from stackctl.adapters.storage.volumes import DirectoryVolumes
from stackctl.daemon.hostfacts import read_host
from stackctl.daemon.settings import Settings
from stackctl.engine.core import Engine
from stackctl.engine.world import World
from stackctl.host.clock import SystemClock


async def build_engine(settings: Settings) -> Engine:
    """Return the engine on this machine, not started; what a crash left half written in the stores is removed.

    Raises HostError when the state cannot be opened.
    """
    raise NotImplementedError
