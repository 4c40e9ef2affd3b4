"""The whole application of one set of stack files, under one name."""

from collections.abc import Mapping
from dataclasses import field

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY, Extensions, Strings
from stackctl.orchestrator.model.files import FileObject
from stackctl.orchestrator.model.network import Network
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.volume import Volume
from stackctl.values import JsonObject


@frozen
class Model:
    """A top-level AI model."""

    key: str
    name: str = ""
    model: str = ""
    context_size: int = 0
    runtime_flags: tuple[str, ...] = ()
    extensions: Extensions = EMPTY


@frozen
class Stack:
    """A stack, resolved.

    ``services`` are those that are to run (profiles and selection applied), ``disabled_services`` the others.
    ``files`` are the absolute paths of the stack files (``-`` for standard input), ``env_files`` of those that fed
    interpolation, ``paths_read`` of all that had a say, includes and services' env files too. ``environment`` is what interpolation saw. ``profiles`` are the active ones.

    ``separator`` stands between the parts of generated names ("_" is that of old Compose versions).

    ``tree`` is the normalised form as Compose prints it (``config --format json``), of the active services; see
    ``service_tree`` for the part of one service, from which its Compose config hash is made. Treat both as
    read-only: they are plain dicts for the sake of the JSON encoder. Neither it nor ``environment`` is shown by ``repr``,
    since both hold what may be secret.
    """

    name: str
    working_dir: str
    files: tuple[str, ...] = ()
    paths_read: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    separator: str = "-"
    services: Mapping[str, Service] = EMPTY
    disabled_services: Mapping[str, Service] = EMPTY
    networks: Mapping[str, Network] = EMPTY
    volumes: Mapping[str, Volume] = EMPTY
    configs: Mapping[str, FileObject] = EMPTY
    secrets: Mapping[str, FileObject] = EMPTY
    models: Mapping[str, Model] = EMPTY
    environment: Strings = field(default=EMPTY, repr=False)
    extensions: Extensions = EMPTY
    tree: JsonObject = field(repr=False)

    def named(self, *parts: str | int) -> str:
        """Return a generated name of something of this stack."""
        return self.separator.join((self.name, *map(str, parts)))

    def service_tree(self, name: str) -> JsonObject:
        """Return the normalised form of one active service; raises KeyError for another name."""
        services = self.tree["services"]
        if not isinstance(services, dict):
            raise KeyError(name)
        part = services[name]
        return part if isinstance(part, dict) else {}
