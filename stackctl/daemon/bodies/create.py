"""The create body (Config, HostConfig, NetworkingConfig) to ContainerSpec; pure.

What Docker refuses for contradicting itself is refused here in Docker's words, before anything is made.
"""

import ipaddress
import re

from stackctl.api.codec import Reader
from stackctl.contracts.container import (
    ContainerSpec,
    Device,
    EndpointRequest,
    Healthcheck,
    LogConfig,
    RestartPolicy,
    Ulimit,
)
from stackctl.daemon.bodies import checks, limits, mounts, ports
from stackctl.engine.logoptions import check_log_config
from stackctl.errors import InvalidInputError, UnsupportedError

NANO = 10**9
_CONTAINER_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_MAC = re.compile(r"(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}")


def check_name(name: str) -> str:
    """Return a container name that may be used; raises InvalidInputError in Docker's words."""
    if name and not _CONTAINER_NAME.fullmatch(name):
        raise InvalidInputError(
            f"Invalid container name ({name[:200]}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return name.removeprefix("/")


def read_spec(body: Reader, *, cpus: int) -> ContainerSpec:
    """Return what a create body asks for; ``cpus`` is how many the host has. Raises InvalidInputError."""
    host = body.child("HostConfig")
    for name, title in (("IOMaximumIOps", "IOPs"), ("IOMaximumBandwidth", "bandwidth")):
        if host.integer(name):
            raise InvalidInputError(
                f"invalid option: QoS maximum {title} configuration is not supported on linux"
            )
    spec = _spec(body, host)
    limits.check(spec, cpus=cpus)
    checks.check(spec)
    return spec


def _spec(body: Reader, host: Reader) -> ContainerSpec:
    image = body.text("Image")
    if not image:
        raise InvalidInputError("invalid Image: no image specified", hint="name an image in Image")
    return ContainerSpec(
        image=image,
        cmd=body.words("Cmd"),
        entrypoint=body.words("Entrypoint"),
        env=_environment(body),
        working_dir=body.text("WorkingDir"),
        user=body.text("User"),
        hostname=body.text("Hostname"),
        domainname=body.text("Domainname"),
        labels=body.text_map("Labels"),
        exposed_ports=ports.read_exposed(body, "ExposedPorts"),
        tty=body.boolean("Tty"),
        open_stdin=body.boolean("OpenStdin"),
        stdin_once=body.boolean("StdinOnce"),
        attach_stdin=body.boolean("AttachStdin"),
        attach_stdout=body.boolean("AttachStdout"),
        attach_stderr=body.boolean("AttachStderr"),
        stop_signal=body.text("StopSignal"),
        stop_timeout=_stop_timeout(body),
        healthcheck=read_healthcheck(body.optional_child("Healthcheck")),
        shell=body.texts("Shell"),
        network_disabled=body.boolean("NetworkDisabled"),
        mac_address=_mac(body, "MacAddress"),
        args_escaped=body.boolean("ArgsEscaped"),
        mounts=mounts.read_all(body, host),
        volumes_from=host.texts("VolumesFrom"),
        port_bindings=ports.read_bindings(host, "PortBindings"),
        publish_all_ports=host.boolean("PublishAllPorts"),
        network_mode=host.text("NetworkMode") or "default",
        endpoints=_endpoints(body.child("NetworkingConfig")),
        links=host.texts("Links"),
        restart_policy=read_restart_policy(host.optional_child("RestartPolicy")),
        auto_remove=host.boolean("AutoRemove"),
        privileged=host.boolean("Privileged"),
        cap_add=host.words("CapAdd") or (),
        cap_drop=host.words("CapDrop") or (),
        security_opt=host.texts("SecurityOpt"),
        read_only_rootfs=host.boolean("ReadonlyRootfs"),
        sysctls=host.text_map("Sysctls"),
        shm_size=host.integer("ShmSize"),
        init=host.optional_boolean("Init"),
        dns=host.texts("Dns"),
        dns_search=host.texts("DnsSearch"),
        dns_options=host.texts("DnsOptions"),
        extra_hosts=host.texts("ExtraHosts"),
        group_add=host.texts("GroupAdd"),
        ipc_mode=host.text("IpcMode"),
        pid_mode=host.text("PidMode"),
        uts_mode=host.text("UTSMode"),
        userns_mode=host.text("UsernsMode"),
        cgroupns_mode=host.text("CgroupnsMode"),
        devices=_devices(host),
        device_cgroup_rules=host.texts("DeviceCgroupRules"),
        log_config=_log_config(host.child("LogConfig")),
        runtime=host.text("Runtime"),
        masked_paths=host.optional_texts("MaskedPaths"),
        readonly_paths=host.optional_texts("ReadonlyPaths"),
        annotations=host.text_map("Annotations"),
        storage_opt=_storage_opt(host),
        console_size=_console_size(host),
        container_id_file=host.text("ContainerIDFile"),
        volume_driver=host.text("VolumeDriver"),
        isolation=_isolation(host),
        ulimits=read_ulimits(host),
        **limits.read(host),
    )


def _environment(body: Reader) -> tuple[str, ...]:
    env = body.texts("Env")
    for number, item in enumerate(env):
        if not item or item.startswith("="):
            raise InvalidInputError(
                f"invalid Env[{number}]: invalid environment variable: {item[:80]}"
            )
        if "\0" in item:
            raise InvalidInputError(f"invalid Env[{number}]: holds a null byte")
    return env


def _mac(reader: Reader, name: str) -> str:
    text = reader.text(name)
    if text and not _MAC.fullmatch(text.replace("-", ":")):
        raise reader.fail(name, f'"{text[:80]}" is not a MAC address')
    return text.replace("-", ":").lower()


def _stop_timeout(body: Reader) -> int | None:
    seconds = body.optional_integer("StopTimeout")
    return None if seconds is None else max(seconds, -1)


def _devices(host: Reader) -> tuple[Device, ...]:
    if host.children("DeviceRequests"):
        raise UnsupportedError(
            f"{host.path('DeviceRequests')}: could not select device driver",
            hint="pass device files in HostConfig.Devices",
        )
    devices = []
    for item in host.children("Devices"):
        path = item.text("PathOnHost")
        if not path:
            raise item.fail("PathOnHost", "must not be empty")
        permissions = item.text("CgroupPermissions") or "rwm"
        if not set(permissions) <= set("rwm"):
            raise item.fail("CgroupPermissions", f'"{permissions[:20]}" is not a part of rwm')
        inside = item.text("PathInContainer") or path
        devices.append(Device(path_on_host=path, path_in_container=inside, permissions=permissions))
    return tuple(devices)


def _log_config(reader: Reader) -> LogConfig:
    config = LogConfig(type=reader.text("Type") or "json-file", config=reader.text_map("Config"))
    check_log_config(config)
    return config


def _storage_opt(host: Reader) -> dict[str, str]:
    options = host.text_map("StorageOpt")
    if options:
        raise UnsupportedError(
            f"{host.path('StorageOpt')}: --storage-opt is not supported by the storage of this engine",
            hint="leave the option out",
        )
    return options


def _isolation(host: Reader) -> str:
    text = host.text("Isolation")
    if text.lower() not in ("", "default"):
        raise InvalidInputError(f"invalid isolation ({text[:80]}): linux only supports 'default'")
    return text


def _console_size(host: Reader) -> tuple[int, int]:
    return read_console_size(host, "ConsoleSize")


def read_console_size(reader: Reader, name: str) -> tuple[int, int]:
    """Return [height, width] in characters; (0, 0) when not given."""
    value = reader.raw(name)
    if value is None:
        return (0, 0)
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(item, int) and 0 <= item < 65536 for item in value)
    ):
        raise reader.fail(name, "expected [height, width]")
    height, width = (int(item) for item in value if isinstance(item, int))
    return (height, width)


def read_ulimits(host: Reader) -> tuple[Ulimit, ...]:
    """Return HostConfig.Ulimits."""
    found = []
    for item in host.children("Ulimits"):
        name = item.text("Name")
        if not name:
            raise item.fail("Name", "must not be empty")
        soft, hard = item.integer("Soft"), item.integer("Hard")
        if hard != -1 and (soft > hard or soft == -1):
            raise item.fail("Soft", "ulimit soft limit must be less than or equal to hard limit")
        found.append(Ulimit(name=name.lower(), soft=soft, hard=hard))
    return tuple(found)


def read_healthcheck(reader: Reader | None) -> Healthcheck | None:
    """Return a Healthcheck, its nanoseconds as seconds; raises InvalidInputError."""
    if reader is None:
        return None
    test = reader.words("Test") or ()
    if test and test[0] not in ("NONE", "CMD", "CMD-SHELL", ""):
        raise reader.fail("Test", f'unknown type "{test[0][:80]}"; use NONE, CMD or CMD-SHELL')
    seconds = {}
    for name in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        value = reader.integer(name)
        if value != 0 and value < 1_000_000:
            raise reader.fail(name, f"{name} in Healthcheck cannot be less than 1ms")
        seconds[name] = value / NANO
    retries = reader.integer("Retries")
    if retries < 0:
        raise reader.fail("Retries", "Retries in Healthcheck cannot be negative")
    return Healthcheck(
        test=test if test != ("",) else (),
        interval=seconds["Interval"],
        timeout=seconds["Timeout"],
        start_period=seconds["StartPeriod"],
        start_interval=seconds["StartInterval"],
        retries=retries,
    )


def read_restart_policy(reader: Reader | None) -> RestartPolicy:
    """Return HostConfig.RestartPolicy; raises InvalidInputError."""
    if reader is None:
        return RestartPolicy()
    name, count = reader.text("Name"), reader.integer("MaximumRetryCount")
    if name not in ("", "no", "always", "unless-stopped", "on-failure"):
        raise reader.fail(
            "Name",
            f"invalid restart policy: unknown policy '{name[:80]}'; use one of 'no', 'always', "
            "'on-failure', or 'unless-stopped'",
        )
    if count < 0:
        raise reader.fail(
            "MaximumRetryCount", "invalid restart policy: maximum retry count cannot be negative"
        )
    if count and name != "on-failure":
        raise reader.fail(
            "MaximumRetryCount",
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        )
    return RestartPolicy(name=name or "no", maximum_retry_count=count)


def _endpoints(networking: Reader) -> tuple[EndpointRequest, ...]:
    configs = networking.child("EndpointsConfig")
    for name in configs.names():
        if configs.raw(name) is None:
            raise InvalidInputError(
                f"invalid config for network {name[:80]}: EndpointsConfig is nil"
            )
    return tuple(read_endpoint(name, configs.child(name)) for name in configs.names())


def read_endpoint(network: str, reader: Reader) -> EndpointRequest:
    """Return one EndpointSettings; raises InvalidInputError naming the field."""
    ipam = reader.child("IPAMConfig")
    return EndpointRequest(
        network=network,
        aliases=reader.texts("Aliases"),
        links=reader.texts("Links"),
        ipv4_address=_ip(ipam, "IPv4Address"),
        ipv6_address=_ip(ipam, "IPv6Address"),
        mac_address=_mac(reader, "MacAddress"),
        driver_opts=reader.text_map("DriverOpts"),
        gw_priority=reader.integer("GwPriority"),
        link_local_ips=_link_local(ipam),
    )


def _link_local(ipam: Reader) -> tuple[str, ...]:
    texts = ipam.texts("LinkLocalIPs")
    for text in texts:
        try:
            ipaddress.ip_address(text)
        except ValueError as error:
            raise ipam.fail("LinkLocalIPs", f'"{text[:80]}" is not an IP address') from error
    return texts


def _ip(reader: Reader, name: str) -> str:
    text = reader.text(name)
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise reader.fail(name, f'"{text[:80]}" is not an IP address') from error
    if address.version != int(name[3]):
        raise reader.fail(name, f'"{text}" is not an IPv{name[3]} address')
    return str(address)
