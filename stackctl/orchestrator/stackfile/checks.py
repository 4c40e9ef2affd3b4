"""What the schema cannot say: references, cycles, values that contradict each other.

Every check notes all it finds. References are looked for among the active services; one to an element that was
dropped because it is itself wrong is not reported again.
"""

from collections.abc import Mapping

from stackctl.orchestrator.stackfile.marks import Map, Raw, Step, Where, dotted
from stackctl.orchestrator.stackfile.portspec import is_address
from stackctl.orchestrator.stackfile.problems import Problems

_EXCLUSIVE = {"configs": ("file", "environment", "content"), "secrets": ("file", "environment")}
_TESTS = frozenset({"CMD", "CMD-SHELL", "NONE"})


def check_values(tree: Map, problems: Problems) -> None:
    """Check elements one by one, on the merged tree in long form (disabled services included)."""
    for kind, keys in _EXCLUSIVE.items():
        for name, element in (tree.get(kind) or {}).items():
            _file_object(tree, kind, name, element, keys, problems)
    for name, volume in (tree.get("volumes") or {}).items():
        if isinstance(volume, dict) and volume.get("external") is True:
            for key in volume:
                if key not in ("name", "external") and not key.startswith("x-"):
                    problems.add(
                        f'volumes.{name}: "{key}" has no effect beside "external"',
                        tree=tree,
                        where=("volumes", name, key),
                        key=True,
                    )
    for name, service in (tree.get("services") or {}).items():
        if isinstance(service, dict):
            _service_values(tree, name, service, problems)


def _file_object(
    tree: Map,
    kind: str,
    name: str,
    element: Raw,
    keys: tuple[str, ...],
    problems: Problems,
) -> None:
    if not isinstance(element, dict) or ((kind, name) in problems.dropped):
        return
    given = [key for key in keys if key in element]
    words = ", ".join(keys)
    if len(given) > 1:
        problems.add(
            f"{kind}.{name}: only one of {words} may be set",
            tree=tree,
            where=(kind, name, given[-1]),
            key=True,
        )
    if not given and "driver" not in element and "external" not in element:
        problems.add(
            f"{kind}.{name}: one of {words} must be set", tree=tree, where=(kind, name), key=True
        )


def _service_values(tree: Map, name: str, service: Raw, problems: Problems) -> None:
    base: Where = ("services", name)
    for index, port in enumerate(service.get("ports") or ()):
        address = port.get("host_ip") if isinstance(port, dict) else None
        if address is not None and not is_address(str(address)):
            where = (*base, "ports", index, "host_ip")
            problems.add(
                f"{dotted(where)}: {address!r} is not an IP address", tree=tree, where=where
            )
    develop = service.get("develop")
    for index, rule in enumerate((develop or {}).get("watch") or ()):
        if isinstance(rule, dict) and rule.get("path") == "":
            where = (*base, "develop", "watch", index, "path")
            problems.add(f"{dotted(where)}: the path must not be empty", tree=tree, where=where)
    reservations = _inside(service, "deploy", "resources", "reservations")
    requests: list[tuple[Where, Raw]] = [
        (("deploy", "resources", "reservations", "devices"), reservations.get("devices")),
        (("gpus",), service.get("gpus")),
    ]
    for path, devices in requests:
        for index, device in enumerate(devices or ()):
            if isinstance(device, dict) and "count" in device and "device_ids" in device:
                where = (*base, *path, index)
                problems.add(
                    f'{dotted(where)}: "count" and "device_ids" exclude each other',
                    tree=tree,
                    where=where,
                )


def _inside(value: Raw, *keys: str) -> Mapping[str, Raw]:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


class Consistency:
    """The checks of a whole stack, on the normal form; ``tree`` is the marked tree it was made from."""

    def __init__(
        self,
        tree: Map,
        services: Mapping[str, Raw],
        disabled: Mapping[str, Raw],
        top: Mapping[str, Raw],
        problems: Problems,
    ) -> None:
        self.tree = tree
        self.services = services
        self.disabled = disabled
        self.top = top
        self.problems = problems

    def run(self) -> None:
        for name, service in self.services.items():
            self.service(name, service)
        for name, secret in (self.top.get("secrets") or {}).items():
            external = secret.get("external") or ("secrets", name) in self.problems.dropped
            if not external and not secret.get("file") and not secret.get("environment"):
                self.note(
                    f"secrets.{name}: one of file and environment must be set",
                    "secrets",
                    name,
                    key=True,
                )
        self.cycles()

    def note(self, message: str, *where: Step, hint: str = "", key: bool = False) -> None:
        self.problems.add(message, tree=self.tree, where=where, hint=hint, key=key)

    def service(self, name: str, service: Raw) -> None:
        self.image(name, service)
        self.build(name, service)
        self.references(name, service)
        self.dependencies(name, service)
        self.replicas(name, service)
        self.resources(name, service)
        self.mounts(name, service)
        test = (service.get("healthcheck") or {}).get("test")
        if test and test[0] not in _TESTS:
            self.note(
                f'service "{name}": healthcheck.test must start with CMD, CMD-SHELL or NONE',
                "services",
                name,
                "healthcheck",
                "test",
                hint="write the command as text to run it in a shell",
            )
        for index, rule in enumerate((service.get("develop") or {}).get("watch") or ()):
            if not rule.get("target") and rule.get("action") not in ("rebuild", "restart"):
                self.note(
                    f'service "{name}": develop.watch[{index}] needs a "target" to {rule.get("action")}',
                    "services",
                    name,
                    "develop",
                    "watch",
                    index,
                )

    def image(self, name: str, service: Raw) -> None:
        dropped = any(
            ("services", name, key) in self.problems.dropped
            for key in ("image", "build", "provider")
        )
        without = service.get("build") is None and service.get("provider") is None
        if not service.get("image") and not dropped and without:
            node = self.tree["services"].get(name)
            marks = node.marks if isinstance(node, Map) else {}
            removed = next((key for key in ("image", "build") if key in marks), None)
            where: Where = ("services", name, removed) if removed else ("services", name)
            self.note(
                f'service "{name}" has neither an image nor a build context',
                *where,
                hint='add "image:" or "build:"',
                key=not removed,
            )
        if service.get("network_mode") and service.get("networks"):
            self.note(
                f'service "{name}": network_mode and networks exclude each other',
                "services",
                name,
                "network_mode",
                key=True,
            )

    def build(self, name: str, service: Raw) -> None:
        build = service.get("build")
        if build is None:
            return
        if build.get("dockerfile_inline") and build.get("dockerfile"):
            self.note(
                f'service "{name}": dockerfile and dockerfile_inline exclude each other',
                "services",
                name,
                "build",
                "dockerfile",
                key=True,
            )
        for context, reference in (build.get("additional_contexts") or {}).items():
            if not reference.startswith("service:"):
                continue
            target = reference.removeprefix("service:")
            where = ("services", name, "build", "additional_contexts", context)
            if target not in self.services:
                self.undefined(name, "service", target, self.services, where)
            elif self.services[target].get("build") is None:
                self.note(
                    f'service "{name}": the context {context} needs service "{target}" to have a build',
                    *where,
                )
        platforms = build.get("platforms")
        if platforms and service.get("platform") and service["platform"] not in platforms:
            self.note(
                f'service "{name}": build.platforms must include the platform {service["platform"]}',
                "services",
                name,
                "build",
                "platforms",
            )

    def references(self, name: str, service: Raw) -> None:
        base = ("services", name)
        for network in service.get("networks") or ():
            self.known(name, "networks", network, (*base, "networks", network))
        for index, mount in enumerate(service.get("volumes") or ()):
            if mount.get("type") == "volume" and mount.get("source"):
                self.known(name, "volumes", mount["source"], (*base, "volumes", index))
        for kind in ("configs", "secrets"):
            for index, reference in enumerate(service.get(kind) or ()):
                self.known(name, kind, reference.get("source", ""), (*base, kind, index))
        for index, reference in enumerate((service.get("build") or {}).get("secrets") or ()):
            self.known(
                name, "secrets", reference.get("source", ""), (*base, "build", "secrets", index)
            )
        for model in service.get("models") or ():
            self.known(name, "models", model, (*base, "models", model))

    def known(self, service: str, kind: str, target: str, where: Where) -> None:
        elements = self.top.get(kind) or {}
        if target not in elements:
            self.undefined(service, kind.removesuffix("s"), target, elements, where)

    def undefined(
        self, service: str, kind: str, target: str, known: Mapping[str, Raw], where: Where
    ) -> None:
        if (kind + "s", target) in self.problems.dropped:
            return
        hint = self.problems.suggestion(target, known)
        if not hint:
            hint = (
                f'the profile of "{target}" is not active'
                if kind == "service" and target in self.disabled
                else f'define it under "{kind}s:"'
            )
        self.note(
            f'service "{service}" refers to {kind} "{target}", which is not defined',
            *where,
            hint=hint,
            key=kind in ("network", "model"),
        )

    def dependencies(self, name: str, service: Raw) -> None:
        for target, dependency in (service.get("depends_on") or {}).items():
            if target in self.services or (target in self.disabled and not dependency["required"]):
                continue
            if self.problems.full:
                return
            if ("services", target) in self.problems.dropped:
                continue
            hint = self.problems.suggestion(target, self.services) or 'define it under "services:"'
            if target in self.disabled:
                profiles = ", ".join(self.disabled[target].get("profiles") or ())
                hint = f"it is switched on by the profile {profiles}; or set required: false"
            self.note(
                f'service "{name}" depends on "{target}", which is not defined',
                *self.dependency_place(name, target),
                hint=hint,
                key=True,
            )

    def dependency_place(self, name: str, target: str) -> Where:
        """A dependency may come from depends_on, links, a namespace or volumes_from."""
        service = self.tree["services"].get(name) or {}
        base = ("services", name)
        declared = service.get("depends_on")
        if isinstance(declared, Map) and target in declared.marks:
            return (*base, "depends_on", target)
        for key in ("links", "volumes_from"):
            for index, item in enumerate(service.get(key) or ()):
                if str(item).split(":")[0] == target:
                    return (*base, key, index)
        for key in ("network_mode", "ipc", "pid", "uts", "cgroup"):
            if service.get(key) == f"service:{target}":
                return (*base, key)
        return (*base, "depends_on")

    def replicas(self, name: str, service: Raw) -> None:
        scale = service.get("scale")
        deploy = service.get("deploy")
        replicas = deploy.get("replicas") if deploy else None
        if scale is not None and replicas is not None and scale != replicas:
            self.note(
                f'service "{name}": scale and deploy.replicas have distinct values',
                "services",
                name,
                "scale",
                key=True,
            )
        if scale is not None and deploy is not None:
            deploy["replicas"] = replicas = scale
        for key, path in ((scale, ("scale",)), (replicas, ("deploy", "replicas"))):
            if key is not None and key < 0:
                self.note(
                    f'service "{name}": {".".join(path)} must not be negative',
                    "services",
                    name,
                    *path,
                )
        count = scale if scale is not None else replicas
        if count is not None and count > 1 and service.get("container_name"):
            self.note(
                f'service "{name}": container_name does not go with {count} replicas, since names are unique',
                "services",
                name,
                "container_name",
                key=True,
            )

    def resources(self, name: str, service: Raw) -> None:
        resources = (service.get("deploy") or {}).get("resources") or {}
        for key, side, limit in (
            ("cpus", "limits", "cpus"),
            ("mem_limit", "limits", "memory"),
            ("mem_reservation", "reservations", "memory"),
            ("pids_limit", "limits", "pids"),
        ):
            part = resources.get(side)
            if service.get(key) and part is not None and part.get(limit) != service[key]:
                self.note(
                    f'service "{name}": {key} and deploy.resources.{side}.{limit} have distinct values',
                    "services",
                    name,
                    key,
                    key=True,
                )

    def mounts(self, name: str, service: Raw) -> None:
        taken: dict[str, str] = {}
        places: list[tuple[str, int, str]] = [
            ("tmpfs", index, text.partition(":")[0])
            for index, text in enumerate(service.get("tmpfs") or ())
        ]
        places += [
            ("volumes", index, mount.get("target", ""))
            for index, mount in enumerate(service.get("volumes") or ())
        ]
        for key, index, target in places:
            if target in taken:
                self.note(
                    f'service "{name}": {target} is mounted twice, first by {taken[target]}',
                    "services",
                    name,
                    key,
                    index,
                )
            taken.setdefault(target, f"{key}[{index}]")

    def cycles(self) -> None:
        """Note each dependency cycle once, with its path."""
        done: set[str] = set()
        for start in self.services:
            if start in done:
                continue
            trail: dict[str, None] = {start: None}
            stack = [iter(self.services[start].get("depends_on") or ())]
            while stack:
                target = next(stack[-1], None)
                if target is None:
                    stack.pop()
                    done.add(next(reversed(trail)))
                    trail.popitem()
                elif target in trail:
                    names = list(trail)
                    path = [*names[names.index(target) :], target]
                    words = path if len(path) <= 20 else [*path[:10], "…", *path[-5:]]
                    self.note(
                        f"dependency cycle: {' -> '.join(words)}",
                        *self.dependency_place(path[-2], target),
                    )
                elif target not in done and target in self.services:
                    trail[target] = None
                    stack.append(iter(self.services[target].get("depends_on") or ()))

    def container_names(self) -> None:
        """Note container names used twice."""
        owners: dict[str, str] = {}
        for name, service in self.services.items():
            container = service.get("container_name")
            if container and container in owners:
                self.note(
                    f'service "{name}": the container name {container} is taken by service "{owners[container]}"',
                    "services",
                    name,
                    "container_name",
                )
            elif container:
                owners[container] = name
