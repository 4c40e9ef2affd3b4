"""The normal form to the typed stack: text of sizes and durations becomes numbers, mappings become values."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from stackctl.orchestrator.model.build import Build, SshKey
from stackctl.orchestrator.model.common import EMPTY, Extensions
from stackctl.orchestrator.model.deploy import (
    Deploy,
    GenericResource,
    Placement,
    Resource,
    RestartPolicy,
    UpdateConfig,
)
from stackctl.orchestrator.model.develop import Hook, WatchRule
from stackctl.orchestrator.model.files import FileObject, FileReference
from stackctl.orchestrator.model.health import Healthcheck
from stackctl.orchestrator.model.limits import (
    BlkioConfig,
    CredentialSpec,
    Device,
    DeviceRequest,
    ThrottleDevice,
    Ulimit,
    WeightDevice,
)
from stackctl.orchestrator.model.mounts import (
    BindMount,
    ImageMount,
    Mount,
    OtherMount,
    TmpfsMount,
    VolumeMount,
)
from stackctl.orchestrator.model.network import Endpoint, Ipam, IpamPool, Network
from stackctl.orchestrator.model.ports import Port
from stackctl.orchestrator.model.service import (
    Dependency,
    EnvFile,
    Logging,
    ModelUse,
    Provider,
    Service,
)
from stackctl.orchestrator.model.stack import Model, Stack
from stackctl.orchestrator.model.volume import Volume
from stackctl.orchestrator.stackfile.load import Loaded
from stackctl.orchestrator.stackfile.marks import Raw, Where
from stackctl.orchestrator.stackfile.readiness import (
    DEPENDENCY_TIMEOUT,
    EXTENSION,
    to_ready,
    to_timeout,
)
from stackctl.units import parse_duration

Tree = Mapping[str, Raw]
T = TypeVar("T")

# Keys whose value in the normal form is already that of the model.
_PLAIN = [
    "image",
    "platform",
    "pull_policy",
    "working_dir",
    "user",
    "init",
    "tty",
    "stdin_open",
    "stop_signal",
    "environment",
    "labels",
    "annotations",
    "container_name",
    "hostname",
    "domainname",
    "attach",
    "restart",
    "network_mode",
    "mac_address",
    "volume_driver",
    "read_only",
    "storage_opt",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_shares",
    "cpus",
    "cpuset",
    "oom_kill_disable",
    "oom_score_adj",
    "pids_limit",
    "cgroup",
    "cgroup_parent",
    "ipc",
    "isolation",
    "pid",
    "privileged",
    "runtime",
    "sysctls",
    "userns_mode",
    "uts",
    "use_api_socket",
]
_TUPLES = [
    "label_file",
    "profiles",
    "expose",
    "links",
    "external_links",
    "extra_hosts",
    "dns",
    "dns_opt",
    "dns_search",
    "volumes_from",
    "tmpfs",
    "device_cgroup_rules",
    "cap_add",
    "cap_drop",
    "group_add",
    "security_opt",
]
_SIZES = ("shm_size", "mem_limit", "mem_reservation", "memswap_limit")


def to_stack(loaded: Loaded) -> Stack:
    """Return the typed stack of a load."""
    tree: Raw = loaded.tree
    maker = _Maker(loaded)
    return Stack(
        name=loaded.name,
        working_dir=loaded.working_dir,
        files=loaded.files,
        paths_read=loaded.paths_read,
        env_files=loaded.env_files,
        profiles=loaded.profiles,
        services=_sorted_map(tree["services"], maker.service),
        disabled_services=_sorted_map(loaded.disabled, maker.service),
        networks=_sorted_map(tree.get("networks"), maker.network),
        volumes=_sorted_map(tree.get("volumes"), maker.volume),
        configs=_sorted_map(tree.get("configs"), maker.file_object("configs")),
        secrets=_sorted_map(tree.get("secrets"), maker.file_object("secrets")),
        models=_sorted_map(loaded.models, maker.model),
        environment=loaded.environment,
        extensions={key: value for key, value in tree.items() if key.startswith("x-")} or EMPTY,
        tree=loaded.tree,
    )


def _sorted_map(elements: Raw, make: Callable[[str, Tree], T]) -> Mapping[str, T]:
    return {key: make(key, elements[key] or {}) for key in sorted(elements or ())} or EMPTY


def _tuple(value: Raw) -> tuple[Raw, ...]:
    return tuple(value or ())


def _seconds(value: str | None) -> float | None:
    return None if value is None else parse_duration(value)


def _each(items: Sequence[Tree] | None, make: Callable[[Tree], T]) -> tuple[T, ...]:
    return tuple(make(item) for item in items or ())


def _given(value: Tree | None, make: Callable[[Tree], T]) -> T | None:
    return None if value is None else make(value)


class _Maker:
    """Makes the elements of one load; extensions are found by the path of their element."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    def extensions(self, *where: str | int) -> Extensions:
        path: Where = where
        return self.loaded.extensions.get(path, EMPTY)

    # Top-level elements ----------------------------------------------------------------------------------------

    def network(self, key: str, tree: Tree) -> Network:
        ipam = tree.get("ipam") or {}
        marked: Raw = (self.loaded.marked.get("networks") or {}).get(key) or {}
        options = (marked.get("ipam") or {}).get("options") or {}
        plain = (
            "driver",
            "external",
            "internal",
            "attachable",
            "enable_ipv4",
            "enable_ipv6",
            "labels",
            "driver_opts",
        )
        return Network(
            key=key,
            name=tree.get("name", key),
            **_picked(tree, plain),
            ipam=Ipam(
                driver=ipam.get("driver", ""),
                config=_each(ipam.get("config"), _pool),
                options={name: str(value) for name, value in options.items()} or EMPTY,
                extensions=self.extensions("networks", key, "ipam"),
            ),
            extensions=self.extensions("networks", key),
        )

    def volume(self, key: str, tree: Tree) -> Volume:
        return Volume(
            key=key,
            name=tree.get("name", key),
            **_picked(tree, ("driver", "driver_opts", "external", "labels")),
            extensions=self.extensions("volumes", key),
        )

    def file_object(self, kind: str) -> Callable[[str, Tree], FileObject]:
        plain = (
            "file",
            "environment",
            "external",
            "labels",
            "driver",
            "driver_opts",
            "template_driver",
        )

        def make(key: str, tree: Tree) -> FileObject:
            return FileObject(
                key=key,
                name=tree.get("name", key),
                content=self.loaded.contents.get((kind, key), tree.get("content")),
                **_picked(tree, plain),
                extensions=self.extensions(kind, key),
            )

        return make

    def model(self, key: str, tree: Tree) -> Model:
        return Model(
            key=key,
            **_picked(tree, ("name", "model", "context_size")),
            runtime_flags=_tuple(tree.get("runtime_flags")),
            extensions=self.extensions("models", key),
        )

    # Services --------------------------------------------------------------------------------------------------

    def service(self, name: str, tree: Tree) -> Service:
        values: dict[str, Raw] = _picked(tree, _PLAIN)
        values.update({key: tuple(tree[key]) for key in _TUPLES if key in tree})
        values.update({key: int(tree[key]) for key in _SIZES if key in tree})
        for key, make in _SERVICE_PARTS.items():
            if tree.get(key) is not None:
                values[key] = make(tree[key])
        for key in ("command", "entrypoint"):
            if tree.get(key) is not None:
                values[key] = tuple(tree[key])
        marked: Raw = (self.loaded.marked.get("services") or {}).get(name) or {}
        refresh = marked.get("pull_refresh_after")
        if isinstance(refresh, str):
            values["pull_refresh_after"] = refresh
        where = ("services", name)
        if "volumes" in tree:
            values["volumes"] = tuple(
                _mount(mount, self.extensions(*where, "volumes", n))
                for n, mount in enumerate(tree["volumes"])
            )
        if "networks" in tree:
            values["networks"] = {
                key: _endpoint(entry or {}, self.extensions(*where, "networks", key))
                for key, entry in sorted(tree["networks"].items())
            }
        if "develop" in tree:
            values["watch"] = _watch(tree["develop"])
        if "build" in tree:
            values["build"] = _build(tree["build"], self.extensions(*where, "build"))
        if "deploy" in tree:
            values["deploy"] = _deploy(tree["deploy"], self.extensions(*where, "deploy"))
        if "healthcheck" in tree:
            values["healthcheck"] = _healthcheck(
                tree["healthcheck"], self.extensions(*where, "healthcheck")
            )
        if "depends_on" in tree:
            values["depends_on"] = {
                key: _dependency(entry, self.extensions(*where, "depends_on", key))
                for key, entry in sorted(tree["depends_on"].items())
            }
        extensions = self.extensions(*where)
        ready = extensions.get(EXTENSION)
        if isinstance(ready, dict):
            values["ready"] = to_ready(ready)
        return Service(name=name, scale=_scale(tree), extensions=extensions, **values)


def _picked(tree: Tree, keys: Sequence[str]) -> dict[str, Raw]:
    return {key: tree[key] for key in keys if key in tree}


def _tupled(tree: Tree, keys: Sequence[str]) -> dict[str, Raw]:
    return {key: tuple(tree[key]) for key in keys if key in tree}


def _scale(tree: Tree) -> int:
    scale = tree.get("scale")
    if scale is None:
        scale = (tree.get("deploy") or {}).get("replicas")
    return 1 if scale is None else int(scale)


def _pool(tree: Tree) -> IpamPool:
    return IpamPool(**_picked(tree, ("subnet", "gateway", "ip_range", "aux_addresses")))


def _reference(tree: Tree) -> FileReference:
    mode = tree.get("mode")
    return FileReference(
        source=tree.get("source", ""),
        **_picked(tree, ("target", "uid", "gid")),
        mode=None if mode is None else int(mode, 8),
    )


def _references(items: Sequence[Tree]) -> tuple[FileReference, ...]:
    return _each(items, _reference)


def _ulimits(tree: Tree) -> Mapping[str, Ulimit]:
    limits: dict[str, Ulimit] = {}
    for name, value in sorted(tree.items()):
        soft, hard = (
            (value, value)
            if isinstance(value, int)
            else (value.get("soft", 0), value.get("hard", 0))
        )
        limits[name] = Ulimit(soft=soft, hard=hard)
    return limits


def _build(tree: Tree, extensions: Extensions) -> Build:
    plain = [
        "context",
        "dockerfile",
        "dockerfile_inline",
        "args",
        "additional_contexts",
        "target",
        "labels",
        "no_cache",
        "pull",
        "network",
        "isolation",
        "privileged",
        "provenance",
        "sbom",
    ]
    tuples = [
        "tags",
        "platforms",
        "cache_from",
        "cache_to",
        "no_cache_filter",
        "extra_hosts",
        "entitlements",
    ]
    return Build(
        **_picked(tree, plain),
        **_tupled(tree, tuples),
        secrets=_references(tree.get("secrets") or ()),
        ssh=tuple(_ssh_key(text) for text in tree.get("ssh") or ()),
        shm_size=int(tree.get("shm_size", 0)),
        ulimits=_ulimits(tree.get("ulimits") or {}) or EMPTY,
        extensions=extensions,
    )


def _ssh_key(text: str) -> SshKey:
    name, _, path = text.partition(": ")
    return SshKey(id=name, path=path)


def _request(tree: Tree) -> DeviceRequest:
    return DeviceRequest(
        capabilities=_tuple(tree.get("capabilities")),
        device_ids=_tuple(tree.get("device_ids")),
        **_picked(tree, ("driver", "count", "options")),
    )


def _resource(tree: Tree) -> Resource:
    generic = (item.get("discrete_resource_spec") for item in tree.get("generic_resources") or ())
    return Resource(
        **_picked(tree, ("cpus", "pids")),
        memory=int(tree.get("memory", 0)),
        devices=_each(tree.get("devices"), _request),
        generic_resources=tuple(
            GenericResource(kind=str(item["kind"]), value=int(item["value"]))
            for item in generic
            if item
        ),
    )


def _update(tree: Tree) -> UpdateConfig:
    return UpdateConfig(
        **_picked(tree, ("parallelism", "failure_action", "max_failure_ratio", "order")),
        delay=_seconds(tree.get("delay")) or 0.0,
        monitor=_seconds(tree.get("monitor")) or 0.0,
    )


def _restart_policy(tree: Tree) -> RestartPolicy:
    return RestartPolicy(
        **_picked(tree, ("condition", "max_attempts")),
        delay=_seconds(tree.get("delay")),
        window=_seconds(tree.get("window")),
    )


def _deploy(tree: Tree, extensions: Extensions) -> Deploy:
    resources = tree.get("resources") or {}
    placement = tree.get("placement") or {}
    return Deploy(
        **_picked(tree, ("mode", "replicas", "labels", "endpoint_mode")),
        limits=_given(resources.get("limits"), _resource),
        reservations=_given(resources.get("reservations"), _resource),
        restart_policy=_given(tree.get("restart_policy"), _restart_policy),
        update_config=_given(tree.get("update_config"), _update),
        rollback_config=_given(tree.get("rollback_config"), _update),
        placement=Placement(
            constraints=_tuple(placement.get("constraints")),
            preferences=tuple(
                item.get("spread", "") for item in placement.get("preferences") or ()
            ),
            max_replicas_per_node=placement.get("max_replicas_per_node", 0),
        ),
        extensions=extensions,
    )


def _hook(tree: Tree) -> Hook:
    plain = ("user", "privileged", "working_dir", "environment", "image", "per_replica")
    return Hook(command=_tuple(tree.get("command")), **_picked(tree, plain))


def _hooks(items: Sequence[Tree]) -> tuple[Hook, ...]:
    return _each(items, _hook)


def _watch(tree: Tree) -> tuple[WatchRule, ...]:
    return _each(tree.get("watch"), _watch_rule)


def _watch_rule(tree: Tree) -> WatchRule:
    run = tree.get("exec") or {}
    return WatchRule(
        path=tree["path"],
        action=tree["action"],
        **_picked(tree, ("target", "initial_sync")),
        exec=_hook(run) if run.get("command") else None,
        include=_tuple(tree.get("include")),
        ignore=_tuple(tree.get("ignore")),
    )


def _healthcheck(tree: Tree, extensions: Extensions) -> Healthcheck:
    return Healthcheck(
        test=_tuple(tree.get("test")),
        interval=_seconds(tree.get("interval")),
        timeout=_seconds(tree.get("timeout")),
        start_period=_seconds(tree.get("start_period")),
        start_interval=_seconds(tree.get("start_interval")),
        **_picked(tree, ("retries", "disable")),
        extensions=extensions,
    )


def _dependency(tree: Tree, extensions: Extensions) -> Dependency:
    timeout = extensions.get(DEPENDENCY_TIMEOUT)
    return Dependency(
        **_picked(tree, ("condition", "restart", "required")),
        timeout=None if timeout is None else to_timeout(timeout),
    )


def _endpoint(tree: Tree, extensions: Extensions) -> Endpoint:
    plain = [
        "ipv4_address",
        "ipv6_address",
        "mac_address",
        "interface_name",
        "driver_opts",
        "priority",
        "gw_priority",
    ]
    return Endpoint(
        aliases=_tuple(tree.get("aliases")),
        link_local_ips=_tuple(tree.get("link_local_ips")),
        **_picked(tree, plain),
        extensions=extensions,
    )


def _ports(items: Sequence[Tree]) -> tuple[Port, ...]:
    keys = ("target", "published", "host_ip", "protocol", "mode", "name", "app_protocol")
    return tuple(Port(**_picked(item, keys)) for item in items)


def _env_files(items: Sequence[Raw]) -> tuple[EnvFile, ...]:
    return tuple(
        EnvFile(path=item)
        if isinstance(item, str)
        else EnvFile(**_picked(item, ("path", "required", "format")))
        for item in items
    )


def _mount(tree: Tree, extensions: Extensions) -> Mount:
    common = {**_picked(tree, ("read_only", "consistency")), "target": tree.get("target", "")}
    common["extensions"] = extensions
    source = tree.get("source", "")
    match tree.get("type"):
        case "bind":
            options = tree.get("bind")
            keys = ("propagation", "recursive", "selinux")
            return BindMount(
                source=source,
                create_host_path=bool((options or {}).get("create_host_path", False)),
                **_picked(options or {}, keys),
                **common,
            )
        case "volume":
            return VolumeMount(
                source=source,
                **_picked(tree.get("volume") or {}, ("nocopy", "subpath", "labels")),
                **common,
            )
        case "tmpfs":
            options = tree.get("tmpfs") or {}
            return TmpfsMount(
                size=int(options.get("size", 0)), mode=options.get("mode", 0), **common
            )
        case "image":
            return ImageMount(
                source=source, **_picked(tree.get("image") or {}, ("subpath",)), **common
            )
    return OtherMount(type=str(tree.get("type", "")), source=source, **common)


def _blkio(tree: Tree) -> BlkioConfig:
    rates = ("device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops")
    return BlkioConfig(
        weight=tree.get("weight", 0),
        weight_device=tuple(
            WeightDevice(path=item["Path"], weight=item["Weight"])
            for item in tree.get("weight_device") or ()
        ),
        **{
            key: tuple(
                ThrottleDevice(path=item["Path"], rate=int(item["Rate"])) for item in tree[key]
            )
            for key in rates
            if key in tree
        },
    )


def _devices(items: Sequence[Tree]) -> tuple[Device, ...]:
    return tuple(
        Device(
            source=item.get("source", ""),
            target=item.get("target", item.get("source", "")),
            permissions=item.get("permissions", "rwm"),
        )
        for item in items
    )


def _requests(items: Sequence[Tree]) -> tuple[DeviceRequest, ...]:
    return _each(items, _request)


def _provider(tree: Tree) -> Provider:
    options = tree.get("options") or {}
    return Provider(
        type=tree.get("type", ""), options={key: tuple(value) for key, value in options.items()}
    )


_SERVICE_PARTS: dict[str, Callable[[Raw], Raw]] = {
    "blkio_config": _blkio,
    "configs": _references,
    "credential_spec": lambda tree: CredentialSpec(**_picked(tree, ("config", "file", "registry"))),
    "devices": _devices,
    "env_file": _env_files,
    "gpus": _requests,
    "logging": lambda tree: Logging(**_picked(tree, ("driver", "options"))),
    "mem_swappiness": int,
    "models": lambda tree: {
        key: ModelUse(**_picked(value or {}, ("endpoint_var", "model_var")))
        for key, value in sorted(tree.items())
    },
    "ports": _ports,
    "post_start": _hooks,
    "pre_start": _hooks,
    "pre_stop": _hooks,
    "provider": _provider,
    "secrets": _references,
    "stop_grace_period": parse_duration,
    "ulimits": _ulimits,
}
__all__ = ["to_stack"]
