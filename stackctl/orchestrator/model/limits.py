"""Limits of a service: ulimits, block I/O, devices asked for."""

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY, Extensions, Strings


@frozen
class Ulimit:
    """One resource limit; -1 is unlimited."""

    soft: int
    hard: int


@frozen
class WeightDevice:
    """The block I/O weight of one device."""

    path: str
    weight: int


@frozen
class ThrottleDevice:
    """The block I/O rate of one device, in bytes or operations a second."""

    path: str
    rate: int


@frozen
class BlkioConfig:
    """The ``blkio_config`` element."""

    weight: int = 0
    weight_device: tuple[WeightDevice, ...] = ()
    device_read_bps: tuple[ThrottleDevice, ...] = ()
    device_read_iops: tuple[ThrottleDevice, ...] = ()
    device_write_bps: tuple[ThrottleDevice, ...] = ()
    device_write_iops: tuple[ThrottleDevice, ...] = ()


@frozen
class Device:
    """A host device given to the container; a CDI name has ``source`` only (equal to ``target``)."""

    source: str
    target: str
    permissions: str = "rwm"


@frozen
class DeviceRequest:
    """Devices asked for by capability (``gpus``, ``deploy.resources.reservations.devices``).

    ``count`` is -1 for all, 0 when ``device_ids`` choose.
    """

    capabilities: tuple[str, ...] = ()
    driver: str = ""
    count: int = 0
    device_ids: tuple[str, ...] = ()
    options: Strings = EMPTY


@frozen
class CredentialSpec:
    """The ``credential_spec`` element (Windows only)."""

    config: str = ""
    file: str = ""
    registry: str = ""
    extensions: Extensions = EMPTY
