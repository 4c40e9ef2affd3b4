"""What is mounted into a container: bind mounts, named volumes, tmpfs, images."""

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY, Extensions, Strings


@frozen
class BindMount:
    """A path of the host; ``source`` is absolute."""

    source: str
    target: str
    read_only: bool = False
    consistency: str = ""
    propagation: str = ""
    create_host_path: bool = True
    recursive: str = ""
    selinux: str = ""
    extensions: Extensions = EMPTY


@frozen
class VolumeMount:
    """A named volume; ``source`` is the key under ``volumes``, empty for an anonymous volume."""

    source: str
    target: str
    read_only: bool = False
    consistency: str = ""
    nocopy: bool = False
    subpath: str = ""
    labels: Strings = EMPTY
    extensions: Extensions = EMPTY


@frozen
class TmpfsMount:
    """Memory; ``size`` in bytes (0: no limit), ``mode`` the permission bits (0: the default)."""

    target: str
    read_only: bool = False
    consistency: str = ""
    size: int = 0
    mode: int = 0
    extensions: Extensions = EMPTY


@frozen
class ImageMount:
    """The file system of an image, read-only."""

    source: str
    target: str
    read_only: bool = False
    consistency: str = ""
    subpath: str = ""
    extensions: Extensions = EMPTY


@frozen
class OtherMount:
    """A mount type that only other platforms have: ``npipe``, ``cluster``."""

    type: str
    source: str
    target: str
    read_only: bool = False
    consistency: str = ""
    extensions: Extensions = EMPTY


Mount = BindMount | VolumeMount | TmpfsMount | ImageMount | OtherMount
