"""What a container runs: its own request over its image's configuration, as Docker merges them; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from stackctl.contracts.container import ContainerRecord, ContainerSpec, Healthcheck
from stackctl.contracts.state import ImageConfig
from stackctl.engine.logoptions import check_log_config
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen


@frozen
class Merged:
    """The merged configuration; the fields are those of the record."""

    path: str
    args: tuple[str, ...]
    entrypoint: tuple[str, ...] | None
    cmd: tuple[str, ...] | None
    env: tuple[str, ...]
    working_dir: str
    user: str
    labels: Mapping[str, str]
    exposed_ports: tuple[str, ...]
    stop_signal: str
    healthcheck: Healthcheck | None


def merge(spec: ContainerSpec, image: ImageConfig) -> Merged:
    """Return what the container runs; raises InvalidInputError when there is no command."""
    entrypoint, cmd = _program(spec, image)
    words = (*(item for item in entrypoint or () if entrypoint != ("",)), *(cmd or ()))
    if not words:
        raise InvalidInputError("no command specified")
    bound = (f"{port.container_port}/{port.protocol}" for port in spec.port_bindings)
    ports = {*map(full_port, spec.exposed_ports), *map(full_port, image.exposed_ports), *bound}
    return Merged(
        path=words[0],
        args=tuple(words[1:]),
        entrypoint=entrypoint,
        cmd=cmd,
        env=merge_env(image.env, spec.env),
        working_dir=spec.working_dir or image.working_dir,
        user=spec.user or image.user,
        labels={**image.labels, **spec.labels},
        exposed_ports=tuple(sorted(ports)),
        stop_signal=spec.stop_signal or image.stop_signal,
        healthcheck=merge_healthcheck(spec.healthcheck, image.healthcheck),
    )


def container_config(record: ContainerRecord, image: ImageConfig) -> ImageConfig:
    """Return what a container ran with, as what containers made from it are to run with (Docker's commit).

    Triggers of its image and its shell for builds are no part of it.
    """
    asked = (mount.target for mount in record.spec.mounts if mount.origin == "volumes")
    return ImageConfig(
        user=record.user,
        exposed_ports=tuple(record.exposed_ports),
        env=record.env,
        entrypoint=record.entrypoint,
        cmd=record.cmd,
        volumes=tuple(sorted({*image.volumes, *asked})),
        working_dir=record.working_dir,
        labels=dict(record.labels),
        stop_signal=record.stop_signal,
        healthcheck=record.healthcheck,
        shell=record.spec.shell,
    )


def over(upper: ImageConfig, lower: ImageConfig) -> ImageConfig:
    """Return the upper configuration with what it leaves open from the lower, as Docker's commit merges them."""
    entrypoint, cmd = _program(upper, lower)
    return replace(
        upper,
        entrypoint=entrypoint,
        cmd=cmd,
        env=merge_env(lower.env, upper.env),
        working_dir=upper.working_dir or lower.working_dir,
        user=upper.user or lower.user,
        labels={**lower.labels, **upper.labels},
        exposed_ports=tuple(sorted({*upper.exposed_ports, *lower.exposed_ports})),
        volumes=tuple(sorted({*upper.volumes, *lower.volumes})),
        stop_signal=upper.stop_signal or lower.stop_signal,
        healthcheck=merge_healthcheck(upper.healthcheck, lower.healthcheck),
    )


def _program(
    spec: ContainerSpec | ImageConfig, image: ImageConfig
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    entrypoint, cmd = spec.entrypoint, spec.cmd
    # An entrypoint of one's own drops the image's command with the image's entrypoint.
    if not entrypoint:
        cmd = cmd or image.cmd
        if entrypoint is None:
            entrypoint = image.entrypoint
    return entrypoint, cmd


def merge_env(lower: Iterable[str], upper: Iterable[str]) -> tuple[str, ...]:
    """Return the upper's entries, then the lower's that it does not name (Docker's order).

    An entry without "=" is kept: it takes the variable away from the process.
    """
    values = {item.partition("=")[0]: item for item in upper}
    for item in lower:
        values.setdefault(item.partition("=")[0], item)
    return tuple(values.values())


def merge_healthcheck(own: Healthcheck | None, image: Healthcheck | None) -> Healthcheck | None:
    """Return the check; what the container's leaves open comes from the image's."""
    if own is None:
        return image
    if image is None or own.test[:1] == ("NONE",):
        return own
    return replace(
        own,
        test=own.test or image.test,
        interval=own.interval or image.interval,
        timeout=own.timeout or image.timeout,
        start_period=own.start_period or image.start_period,
        start_interval=own.start_interval or image.start_interval,
        retries=own.retries or image.retries,
    )


def full_port(port: str) -> str:
    """Return "80/tcp" for "80" and "80/TCP"."""
    number, _, protocol = port.partition("/")
    return f"{number}/{(protocol or 'tcp').lower()}"


def port_numbers(port: str) -> Sequence[int]:
    """Return the numbers of "80" or "8000-8010"; raises InvalidInputError."""
    first, dash, last = port.partition("-")
    try:
        low = int(first)
        high = int(last) if dash else low
    except ValueError as error:
        raise InvalidInputError(f"invalid port specification: {port!r}") from error
    if not 0 < low <= high <= 65535:
        raise InvalidInputError(f"invalid port specification: {port!r}")
    return range(low, high + 1)


def check(spec: ContainerSpec) -> None:
    """Raise InvalidInputError for what Docker refuses at create, whatever the image."""
    check_log_config(spec.log_config)
    mode = spec.network_mode
    if mode.startswith("container:"):
        _check_shared_network(spec)
    if mode == "host" and spec.links:
        raise InvalidInputError(
            "conflicting options: host type networking can't be used with links. "
            "This would result in undefined behavior"
        )
    if spec.working_dir and not spec.working_dir.startswith("/"):
        raise InvalidInputError(
            f"the working directory '{spec.working_dir}' is invalid, it needs to be an absolute path"
        )
    if spec.memory and spec.memory < 6 * 1024 * 1024:
        raise InvalidInputError("Minimum memory limit allowed is 6MB")
    if spec.memory and 0 < spec.memory_swap < spec.memory:
        raise InvalidInputError(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if spec.memory_swap > 0 and not spec.memory:
        raise InvalidInputError(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if spec.nano_cpus and (spec.cpu_period or spec.cpu_quota):
        raise InvalidInputError("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if not -1000 <= spec.oom_score_adj <= 1000:
        raise InvalidInputError(
            f"Invalid value {spec.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    for port in spec.exposed_ports:
        port_numbers(full_port(port).partition("/")[0])


def _check_shared_network(spec: ContainerSpec) -> None:
    refused = (
        (bool(spec.hostname), "hostname and the network mode"),
        (bool(spec.links), ("container type network can't be used with links. This would result in "
         "undefined behavior")),
        (bool(spec.dns), "dns and the network mode"),
        (bool(spec.extra_hosts), "custom host-to-IP mapping and the network mode"),
        (bool(spec.mac_address), "mac-address and the network mode"),
        (bool(spec.port_bindings), "port publishing and the container type network mode"),
        (spec.publish_all_ports, "port publishing and the container type network mode"),
        (bool(spec.exposed_ports), "port exposing and the container type network mode"),
    )  # fmt: skip
    for wrong, what in refused:
        if wrong:
            raise InvalidInputError(f"conflicting options: {what}")
