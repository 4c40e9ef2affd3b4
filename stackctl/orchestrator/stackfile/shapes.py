"""Long form to the normal form: each value in the type it has for good, empty ones left out.

The normal form is what ``docker compose config --format json`` prints, since tools depend on it: sizes are text of
bytes, durations Go's text, hosts ``name=address``. A table per element names its keys and how each is read;
``Shaper`` walks tree and table together. Extensions (``x-``) go to ``Shaper.extensions`` under the path of their
element.
"""

from collections.abc import Callable

from stackctl.errors import InvalidInputError
from stackctl.orchestrator.stackfile import casts, readiness, shellwords
from stackctl.orchestrator.stackfile.marks import Raw, Step, Where, dotted, entries
from stackctl.orchestrator.stackfile.problems import Problems
from stackctl.orchestrator.stackfile.text import go_text
from stackctl.units import format_nanoseconds, parse_bytes, parse_nanoseconds
from stackctl.values import Json, JsonObject


class Wrong(ValueError):
    """A value cannot be read."""

    def __init__(self, message: str, hint: str = "", step: Where = ()) -> None:
        super().__init__(message)
        self.hint = hint
        self.step = step


OMIT: Raw = object()
Read = Callable[["Shaper", Raw], Raw]
Shape = dict[str, Read]


class Shaper:
    """A walk over one tree."""

    def __init__(self, tree: object, problems: Problems) -> None:
        self.root = tree
        self.problems = problems
        self.path: list[Step] = []
        self.extensions: dict[Where, JsonObject] = {}

    def struct(self, value: Raw, shape: Shape) -> JsonObject:
        """Read the keys of a mapping by a table; unknown keys are left out."""
        made: JsonObject = {}
        path = self.path
        for key, item in value.items():
            read = shape.get(key)
            if read is None:
                if key[:2] == "x-":
                    self.extensions.setdefault(tuple(path), {})[key] = item
                continue
            if item is None:
                continue
            path.append(key)
            try:
                result = read(self, item)
                if result is not OMIT:
                    made[key] = result
            except Wrong as error:
                self.note(error)
            path.pop()
        return made

    def note(self, error: Wrong) -> None:
        where = (*self.path, *error.step)
        self.problems.add(f"{dotted(where)}: {error}", tree=self.root, where=where, hint=error.hint)


# Scalars; those with a trailing _or_none are printed even when zero ------------------------------------------------


def _string(_shaper: Shaper, value: Raw) -> Raw:
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise Wrong(f"expected text, got {go_text(value)}", "quote it to make it text")
    return value or OMIT


def _integer_or_none(_shaper: Shaper, value: Raw) -> Raw:
    if isinstance(value, str):
        return _cast(casts.to_integer, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong(f"expected an integer, got {go_text(value)}")
    return int(value)


def _integer(shaper: Shaper, value: Raw) -> Raw:
    return _integer_or_none(shaper, value) or OMIT


def _unsigned_or_none(_shaper: Shaper, value: Raw) -> Raw:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong(f"expected a number, got {go_text(value)!r}", "write it without quotes")
    if value < 0:
        raise Wrong(f"expected no negative number, got {go_text(value)}")
    return int(value)


def _unsigned(shaper: Shaper, value: Raw) -> Raw:
    return _unsigned_or_none(shaper, value) or OMIT


def _bounded(limit: int) -> Read:
    def bounded(shaper: Shaper, value: Raw) -> Raw:
        number = _unsigned_or_none(shaper, value)
        if number > limit:
            raise Wrong(f"{number} is more than {limit}")
        return number or OMIT

    return bounded


def _boolean_or_none(_shaper: Shaper, value: Raw) -> Raw:
    if isinstance(value, str):
        return _cast(casts.to_boolean, value)
    if not isinstance(value, bool):
        raise Wrong(f"expected true or false, got {go_text(value)}")
    return value


def _boolean(shaper: Shaper, value: Raw) -> Raw:
    return _boolean_or_none(shaper, value) or OMIT


def _float32(_shaper: Shaper, value: Raw) -> Raw:
    if isinstance(value, str):
        value = _cast(casts.to_float32, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong(f"expected a number, got {go_text(value)}")
    try:
        return casts.single(float(value)) or OMIT
    except (casts.CastError, OverflowError) as error:
        raise Wrong(str(error)) from error


def _cast(how: Callable[[str], Raw], text: str) -> Raw:
    try:
        return how(text)
    except casts.CastError as error:
        raise Wrong(str(error)) from error


def _size(_shaper: Shaper, value: Raw) -> Raw:
    """Bytes as text; a fraction without unit counts as nothing, as in Compose."""
    if isinstance(value, float):
        return OMIT
    if isinstance(value, str) and value.strip().startswith("-"):
        raise Wrong(f"{value!r} is negative", "write -1 without quotes for unlimited")
    try:
        number = value if isinstance(value, int) else parse_bytes(value)
    except InvalidInputError as error:
        raise Wrong(error.message, error.hint) from error
    return str(int(number)) if number else OMIT


def _duration(_shaper: Shaper, value: Raw) -> Raw:
    try:
        return format_nanoseconds(parse_nanoseconds(go_text(value)))
    except InvalidInputError as error:
        raise Wrong(error.message, error.hint) from error


def _duration_or_omit(shaper: Shaper, value: Raw) -> Raw:
    text = _duration(shaper, value)
    return OMIT if text == "0s" else text


def _mode(_shaper: Shaper, value: Raw) -> Raw:
    if isinstance(value, str):
        if not value or value.strip("01234567"):
            raise Wrong(f"expected octal permission bits, got {value!r}", 'write it like "0440"')
        return f"0{int(value, 8):o}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise Wrong(f"expected permission bits, got {go_text(value)}", 'write it like "0440"')
    return f"0{value:o}" if value >= 0 else f"0-{-value:o}"


# Lists -----------------------------------------------------------------------------------------------------------


def _strings(_shaper: Shaper, value: Raw) -> Raw:
    if isinstance(value, str):
        value = [value]
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise Wrong(f"expected text, got {go_text(item)}", "quote it to make it text", (index,))
    return list(value) or OMIT


def _loose_strings(_shaper: Shaper, value: Raw) -> Raw:
    if isinstance(value, str):
        return [value]
    return [go_text(item) for item in value] or OMIT


def _command(_shaper: Shaper, value: Raw) -> Raw:
    if not isinstance(value, str):
        return [str(item) for item in value]
    try:
        return shellwords.split(value)
    except InvalidInputError as error:
        raise Wrong(error.message, error.hint) from error


def _test(_shaper: Shaper, value: Raw) -> Raw:
    return ["CMD-SHELL", value] if isinstance(value, str) else list(value) or OMIT


def _list(shape: Shape, always: JsonObject | None = None) -> Read:
    def read(shaper: Shaper, value: Raw) -> Raw:
        items: list[Json] = []
        for index, item in enumerate(value):
            shaper.path.append(index)
            if item is None:
                items.append(dict(always or {}))
            else:
                items.append({**(always or {}), **shaper.struct(item, shape)})
            shaper.path.pop()
        return items or OMIT

    return read


# Mappings --------------------------------------------------------------------------------------------------------


def _pairs(_shaper: Shaper, value: Raw) -> Raw:
    """Variables: no value is null."""
    if isinstance(value, dict):
        return {key: None if item is None else go_text(item) for key, item in value.items()} or OMIT
    made: dict[str, str | None] = {}
    for index, item in enumerate(value):
        name, equals, text = go_text(item).partition("=")
        if name and name[-1].isspace():
            raise Wrong(f"the variable {name!r} ends in a space", "", (index,))
        made[name] = text if equals else None
    return made or OMIT


def _labels(_shaper: Shaper, value: Raw) -> Raw:
    """Labels and the like: no value is empty text."""
    if isinstance(value, dict):
        return {key: "" if item is None else go_text(item) for key, item in value.items()} or OMIT
    made: dict[str, str] = {}
    for item in value:
        name, _, text = go_text(item).partition("=")
        made[name] = text
    return made or OMIT


def _plain_map(_shaper: Shaper, value: Raw) -> Raw:
    """Options that must be text already."""
    if not isinstance(value, dict):
        raise Wrong(f"expected a mapping, got {go_text(value)}")
    made: JsonObject = {}
    for key, item in value.items():
        if item is not None and not isinstance(item, str) and type(item) is not int:
            raise Wrong(f"expected text, got {go_text(item)}", "quote it to make it text", (key,))
        made[key] = "" if item is None else str(item)
    return made or OMIT


def _multi_options(_shaper: Shaper, value: Raw) -> Raw:
    listed = {
        key: [go_text(part) for part in item] if isinstance(item, list) else [go_text(item)]
        for key, item in value.items()
    }
    return {key: parts for key, parts in listed.items() if parts} or OMIT


def _map(shape: Shape, *, null: bool = False) -> Read:
    """A mapping of names to elements; with ``null`` an element may be absent and is printed as null."""

    def read(shaper: Shaper, value: Raw) -> Raw:
        made: JsonObject = {}
        for key, item in value.items():
            shaper.path.append(key)
            if item is None:
                made[key] = None if null else {}
            else:
                made[key] = shaper.struct(item, shape)
            shaper.path.pop()
        return made or OMIT

    return read


def _one(shape: Shape, always: JsonObject | None = None) -> Read:
    def read(shaper: Shaper, value: Raw) -> Raw:
        return {**(always or {}), **shaper.struct(value, shape)}

    return read


def _hosts(_shaper: Shaper, value: Raw) -> Raw:
    """``name=address`` lines, sorted; one name may have several addresses."""
    hosts: dict[str, list[str]] = {}
    if isinstance(value, dict):
        for name, item in value.items():
            hosts[name] = (
                [go_text(part) for part in item] if isinstance(item, list) else [item or ""]
            )
    else:
        for index, item in enumerate(value):
            text = go_text(item)
            separator = "=" if "=" in text else ":"
            name, found, addresses = text.partition(separator)
            if not found:
                raise Wrong(f"{text!r} has no address", "write NAME=ADDRESS", (index,))
            hosts.setdefault(name, []).extend(addresses.split(","))
    lines: list[str] = []
    for name, listed in hosts.items():
        if not name or ":" in name or "=" in name:
            raise Wrong(f"bad host name {name!r}", "write NAME=ADDRESS")
        for address in listed:
            bare = (
                address[1:-1] if len(address) > 2 and address[0] + address[-1] == "[]" else address
            )
            lines.append(f"{name}={bare}")
    return sorted(lines, key=str.encode) or OMIT


def _ulimits(shaper: Shaper, value: Raw) -> Raw:
    made: JsonObject = {}
    for name, item in value.items():
        if isinstance(item, dict):
            limits: JsonObject = {}
            for key in ("soft", "hard"):
                number = item.get(key, 0)
                if isinstance(number, str):
                    number = _cast(casts.to_integer, number)
                if number:
                    limits[key] = int(number)
            made[name] = limits
        elif item is not None:
            single = _integer_or_none(shaper, item)
            made[name] = single or {}
    return made or OMIT


def _env_files(shaper: Shaper, value: Raw) -> Raw:
    files: list[Json] = []
    for index, item in enumerate(value):
        shaper.path.append(index)
        entry = shaper.struct(item, _ENV_FILE)
        shaper.path.pop()
        plain = entry.get("required") is True
        files.append(entry.get("path", "") if plain else {"required": False, **entry})
    return files or OMIT


def _ssh(_shaper: Shaper, value: Raw) -> Raw:
    return [
        name if not path else f"{name}: {go_text(path)}" for name, path in value.items()
    ] or OMIT


def _count(shaper: Shaper, value: Raw) -> Raw:
    if isinstance(value, str):
        if value.lower() == "all":
            return -1
        try:
            return casts.to_integer(value) or OMIT
        except casts.CastError as error:
            raise Wrong(f"expected a number or all, got {value!r}") from error
    return _integer(shaper, value)


def _target(shaper: Shaper, value: Raw) -> Raw:
    number = _unsigned_or_none(shaper, value)
    if not 0 < number < 65536:
        raise Wrong(f"{number} is not a port")
    return number


def _published(shaper: Shaper, value: Raw) -> Raw:
    return _string(shaper, value)


# The tables ------------------------------------------------------------------------------------------------------

_ENV_FILE: Shape = {"path": _string, "required": _boolean_or_none, "format": _string}
_FILE_REFERENCE: Shape = {
    "source": _string,
    "target": _string,
    "uid": _string,
    "gid": _string,
    "mode": _mode,
}
_DEVICE_REQUEST: Shape = {
    "capabilities": _strings,
    "driver": _string,
    "count": _count,
    "device_ids": _strings,
    "options": _labels,
}
_HOOK: Shape = {
    "command": _command,
    "user": _string,
    "privileged": _boolean,
    "working_dir": _string,
    "environment": _pairs,
    "image": _string,
    "per_replica": _boolean,
}
_NO_COMMAND: JsonObject = {"command": None}
_UPDATE: Shape = {
    "parallelism": _unsigned_or_none,
    "delay": _duration_or_omit,
    "failure_action": _string,
    "monitor": _duration_or_omit,
    "max_failure_ratio": _float32,
    "order": _string,
}
_RESOURCE: Shape = {
    "cpus": _float32,
    "memory": _size,
    "pids": _integer,
    "devices": _list(_DEVICE_REQUEST),
    "generic_resources": _list(
        {
            "discrete_resource_spec": _one(
                {"kind": _string, "value": _integer_or_none}, {"kind": "", "value": 0}
            )
        }
    ),
}
_DEPLOY: Shape = {
    "mode": _string,
    "replicas": _integer_or_none,
    "labels": _labels,
    "update_config": _one(_UPDATE),
    "rollback_config": _one(_UPDATE),
    "resources": _one({"limits": _one(_RESOURCE), "reservations": _one(_RESOURCE)}),
    "restart_policy": _one(
        {
            "condition": _string,
            "delay": _duration,
            "max_attempts": _unsigned_or_none,
            "window": _duration,
        }
    ),
    "placement": _one(
        {
            "constraints": _strings,
            "preferences": _list({"spread": _string}),
            "max_replicas_per_node": _unsigned,
        }
    ),
    "endpoint_mode": _string,
}
_BUILD: Shape = {
    "context": _string,
    "dockerfile": _string,
    "dockerfile_inline": _string,
    "entitlements": _strings,
    "args": _pairs,
    "provenance": _string,
    "sbom": _string,
    "ssh": _ssh,
    "labels": _labels,
    "cache_from": _strings,
    "cache_to": _strings,
    "no_cache": _boolean,
    "no_cache_filter": _strings,
    "additional_contexts": _labels,
    "pull": _boolean,
    "extra_hosts": _hosts,
    "isolation": _string,
    "network": _string,
    "target": _string,
    "secrets": _list(_FILE_REFERENCE),
    "shm_size": _size,
    "tags": _strings,
    "ulimits": _ulimits,
    "platforms": _strings,
    "privileged": _boolean,
}
_THROTTLE: Shape = {"path": _string, "rate": _size}
_MOUNT: Shape = {
    "type": _string,
    "source": _string,
    "target": _string,
    "read_only": _boolean,
    "consistency": _string,
    "bind": _one(
        {
            "selinux": _string,
            "propagation": _string,
            "create_host_path": _boolean,
            "recursive": _string,
        }
    ),
    "volume": _one({"labels": _labels, "nocopy": _boolean, "subpath": _string}),
    "tmpfs": _one({"size": _size, "mode": _bounded((1 << 32) - 1)}),
    "image": _one({"subpath": _string}),
}
_ENDPOINT: Shape = {
    "aliases": _strings,
    "driver_opts": _labels,
    "gw_priority": _integer,
    "interface_name": _string,
    "ipv4_address": _string,
    "ipv6_address": _string,
    "link_local_ips": _strings,
    "mac_address": _string,
    "priority": _integer,
}


def _dependency_timeout(shaper: Shaper, value: Raw) -> Raw:
    _checked(readiness.to_timeout, value)
    return _kept(shaper, value)


def _ready(shaper: Shaper, value: Raw) -> Raw:
    if not isinstance(value, dict):
        return OMIT  # the schema has said so
    for key, item in value.items():
        if key in readiness.READERS:
            _checked(readiness.READERS[key], item, (key,))
    if tuple(shaper.path) not in shaper.problems.dropped:
        _checked(readiness.to_ready, value)
    return _kept(shaper, value)


def _checked(read: Callable[[Raw], Raw], value: Raw, step: Where = ()) -> None:
    try:
        read(value)
    except InvalidInputError as error:
        raise Wrong(error.message, error.hint, step) from error


def _kept(shaper: Shaper, value: Raw) -> Raw:
    """Leave an extension where extensions are: the normal form is that of other tools too."""
    *parent, key = shaper.path
    shaper.extensions.setdefault(tuple(parent), {})[str(key)] = value
    return OMIT


_DEPENDENCY: Shape = {
    "condition": _string,
    "restart": _boolean,
    "required": _boolean_or_none,
    readiness.DEPENDENCY_TIMEOUT: _dependency_timeout,
}
_HEALTHCHECK: Shape = {
    "test": _test,
    "timeout": _duration,
    "interval": _duration,
    "retries": _unsigned_or_none,
    "start_period": _duration,
    "start_interval": _duration,
    "disable": _boolean,
}


def _raw_throttle(shaper: Shaper, value: Raw) -> Raw:
    """Compose prints these two with capital keys and all fields."""
    items: list[Json] = []
    for index, item in enumerate(value):
        shaper.path.append(index)
        entry = shaper.struct(item, _THROTTLE)
        shaper.path.pop()
        items.append({"Path": entry.get("path", ""), "Rate": entry.get("rate", "0")})
    return items or OMIT


def _raw_weight(shaper: Shaper, value: Raw) -> Raw:
    items: list[Json] = []
    for index, item in enumerate(value):
        shaper.path.append(index)
        entry = shaper.struct(item, {"path": _string, "weight": _bounded(65535)})
        shaper.path.pop()
        items.append({"Path": entry.get("path", ""), "Weight": entry.get("weight", 0)})
    return items or OMIT


SERVICE: Shape = {
    "annotations": _labels,
    "attach": _boolean_or_none,
    "build": _one(_BUILD),
    "develop": _one(
        {
            "watch": _list(
                {
                    "path": _string,
                    "action": _string,
                    "target": _string,
                    "exec": _one(_HOOK, _NO_COMMAND),
                    "include": _strings,
                    "ignore": _strings,
                    "initial_sync": _boolean,
                },
                {"path": "", "action": "", "exec": {"command": None}},
            )
        }
    ),
    "blkio_config": _one(
        {
            "weight": _bounded(65535),
            "weight_device": _raw_weight,
            "device_read_bps": _raw_throttle,
            "device_read_iops": _raw_throttle,
            "device_write_bps": _raw_throttle,
            "device_write_iops": _raw_throttle,
        }
    ),
    "cap_add": _strings,
    "cap_drop": _strings,
    "cgroup_parent": _string,
    "cgroup": _string,
    "cpu_count": _integer,
    "cpu_percent": _float32,
    "cpu_period": _integer,
    "cpu_quota": _integer,
    "cpu_rt_period": _integer,
    "cpu_rt_runtime": _integer,
    "cpus": _float32,
    "cpuset": _string,
    "cpu_shares": _integer,
    "command": _command,
    "configs": _list(_FILE_REFERENCE),
    "container_name": _string,
    "credential_spec": _one({"config": _string, "file": _string, "registry": _string}),
    "depends_on": _map(_DEPENDENCY),
    "deploy": _one(_DEPLOY, {"resources": {}, "placement": {}}),
    "device_cgroup_rules": _strings,
    "devices": _list({"source": _string, "target": _string, "permissions": _string}),
    "dns": _strings,
    "dns_opt": _strings,
    "dns_search": _strings,
    "domainname": _string,
    "entrypoint": _command,
    "provider": _one({"type": _string, "options": _multi_options}),
    "environment": _pairs,
    "env_file": _env_files,
    "expose": _loose_strings,
    "extends": _one({"file": _string, "service": _string}),
    "external_links": _strings,
    "extra_hosts": _hosts,
    "group_add": _loose_strings,
    "gpus": _list(_DEVICE_REQUEST),
    "hostname": _string,
    "healthcheck": _one(_HEALTHCHECK),
    "image": _string,
    "init": _boolean_or_none,
    "ipc": _string,
    "isolation": _string,
    "labels": _labels,
    "label_file": _strings,
    "links": _strings,
    "logging": _one({"driver": _string, "options": _labels}),
    "mem_limit": _size,
    "mem_reservation": _size,
    "memswap_limit": _size,
    "mem_swappiness": _size,
    "mac_address": _string,
    "models": _map({"endpoint_var": _string, "model_var": _string}, null=True),
    "network_mode": _string,
    "networks": _map(_ENDPOINT, null=True),
    "oom_kill_disable": _boolean,
    "oom_score_adj": _integer,
    "pid": _string,
    "pids_limit": _integer,
    "platform": _string,
    "ports": _list(
        {
            "name": _string,
            "mode": _string,
            "host_ip": _string,
            "target": _target,
            "published": _published,
            "protocol": _string,
            "app_protocol": _string,
        }
    ),
    "privileged": _boolean,
    "profiles": _strings,
    "pull_policy": _string,
    "read_only": _boolean,
    "restart": _string,
    "runtime": _string,
    "scale": _integer_or_none,
    "secrets": _list(_FILE_REFERENCE),
    "security_opt": _strings,
    "shm_size": _size,
    "stdin_open": _boolean,
    "stop_grace_period": _duration,
    "stop_signal": _string,
    "storage_opt": _plain_map,
    "sysctls": _labels,
    "tmpfs": _strings,
    "tty": _boolean,
    "ulimits": _ulimits,
    "use_api_socket": _boolean,
    "user": _string,
    "userns_mode": _string,
    "uts": _string,
    "volumes": _list(_MOUNT),
    "volumes_from": _strings,
    "working_dir": _string,
    readiness.EXTENSION: _ready,
    "pre_start": _list(_HOOK, _NO_COMMAND),
    "post_start": _list(_HOOK, _NO_COMMAND),
    "pre_stop": _list(_HOOK, _NO_COMMAND),
}
_FILE_OBJECT: Shape = {
    "name": _string,
    "file": _string,
    "environment": _string,
    "content": _string,
    "external": _boolean,
    "labels": _labels,
    "driver": _string,
    "driver_opts": _plain_map,
    "template_driver": _string,
}
TOP_LEVEL: dict[str, Shape] = {
    "networks": {
        "name": _string,
        "driver": _string,
        "driver_opts": _labels,
        "ipam": _one(
            {
                "driver": _string,
                "config": _list(
                    {
                        "subnet": _string,
                        "gateway": _string,
                        "ip_range": _string,
                        "aux_addresses": _labels,
                    }
                ),
            }
        ),
        "external": _boolean,
        "internal": _boolean,
        "attachable": _boolean,
        "labels": _labels,
        "enable_ipv4": _boolean_or_none,
        "enable_ipv6": _boolean_or_none,
    },
    "volumes": {
        "name": _string,
        "driver": _string,
        "driver_opts": _labels,
        "external": _boolean,
        "labels": _labels,
    },
    "secrets": _FILE_OBJECT,
    "configs": _FILE_OBJECT,
    "models": {
        "name": _string,
        "model": _string,
        "context_size": _integer,
        "runtime_flags": _strings,
    },
}
_ALWAYS: dict[str, JsonObject] = {"networks": {"ipam": {}}}


def shape_service(shaper: Shaper, name: str, service: Raw) -> JsonObject:
    """Return the normal form of one service."""
    shaper.path[:] = ["services", name]
    return {"command": None, "entrypoint": None, **shaper.struct(service or {}, SERVICE)}


def shape_top_level(shaper: Shaper, kind: str, elements: Raw) -> JsonObject:
    """Return the normal form of all networks, volumes, configs, secrets or models."""
    made: JsonObject = {}
    for name, element in elements.items():
        shaper.path[:] = [kind, name]
        made[name] = {**_ALWAYS.get(kind, {}), **shaper.struct(element or {}, TOP_LEVEL[kind])}
    return made


__all__ = ["OMIT", "Shaper", "Wrong", "entries", "shape_service", "shape_top_level"]
