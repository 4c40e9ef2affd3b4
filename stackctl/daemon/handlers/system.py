"""/_ping, /version, /info, /events, /auth, /plugins and our own /_stackctl/v1."""

import asyncio
import contextlib
import os
import platform
import re
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

import stackctl
from stackctl.api import times
from stackctl.api.auth import read_auth
from stackctl.api.codec import encode_object
from stackctl.api.versions import MAXIMUM, MINIMUM, text
from stackctl.contracts.container import Status
from stackctl.contracts.logsinks import LogSinks
from stackctl.daemon.bodies import events as event_bodies
from stackctl.daemon.bodies.build import FEATURE
from stackctl.daemon.bodies.containers import STORAGE_DRIVER
from stackctl.daemon.call import JSON_TYPE, Call, credentials, ping_headers
from stackctl.daemon.streams import until_gone
from stackctl.engine.logoptions import DRIVERS as LOG_DRIVERS
from stackctl.engine.requests import EventQuery
from stackctl.engine.world import AddressPool
from stackctl.errors import InvalidInputError
from stackctl.oci.platform import of_machine
from stackctl.values import Json, JsonObject

EXTENSION = "/_stackctl/v1"
SYNC_FEATURE = "files.sync"
LEASE_FEATURE = "leases"
RELIEF_FEATURE = "containers.relieve"


async def ping(call: Call) -> web.StreamResponse:
    if call.request.method == "HEAD":
        return web.Response(headers={**ping_headers(), "Content-Length": "0"})
    return web.Response(body=b"OK", headers=ping_headers())


async def options(call: Call) -> web.StreamResponse:
    return call.empty(200)


async def version(call: Call) -> web.StreamResponse:
    host = call.engine.world.host
    details = {
        "ApiVersion": text(MAXIMUM),
        "Arch": of_machine(host.machine).architecture,
        "BuildTime": times.rfc3339(_built_at()),
        "Experimental": str(call.serving.settings.experimental).lower(),
        "GitCommit": "",
        "GoVersion": "",
        "KernelVersion": host.kernel,
        "MinAPIVersion": text(MINIMUM),
        "Os": "linux",
    }
    return call.json(
        {
            "Platform": {"Name": "stackctl"},
            "Components": [
                {"Name": "Engine", "Version": stackctl.__version__, "Details": details},
                {
                    "Name": "Python",
                    "Version": platform.python_version(),
                    "Details": {"GitCommit": ""},
                },
            ],
            "Version": stackctl.__version__,
            **{key: value for key, value in details.items() if key != "Experimental"},
        }
    )


def _built_at() -> float:
    return Path(stackctl.__file__).stat().st_mtime


async def info(call: Call) -> web.StreamResponse:
    engine, settings = call.engine, call.serving.settings
    host = engine.world.host
    records = engine.containers.all()
    statuses = [record.status for record in records]
    paused = statuses.count(Status.PAUSED)
    running = statuses.count(Status.RUNNING) + statuses.count(Status.RESTARTING)
    body: JsonObject = {
        "ID": host.engine_id or "stackctl",
        "Containers": len(records),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(records) - running - paused,
        "Images": len(engine.images.all()),
        "Driver": STORAGE_DRIVER,
        "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "macvlan", "null"],
            "Authorization": None,
            "Log": [*_log_drivers(engine.world.log_sinks)],
        },
        "MemoryLimit": True,
        "SwapLimit": True,
        "CpuCfsPeriod": True,
        "CpuCfsQuota": True,
        "CPUShares": True,
        "CPUSet": True,
        "PidsLimit": True,
        "OomKillDisable": host.cgroup_version == "1",
        "IPv4Forwarding": True,
        "Debug": settings.debug,
        "NFd": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - counted, nothing else
        "NGoroutines": len(asyncio.all_tasks()),
        "SystemTime": times.rfc3339(engine.world.clock.now()),
        "LoggingDriver": "json-file",
        "CgroupDriver": host.cgroup_driver,
        "CgroupVersion": host.cgroup_version,
        "NEventsListener": 0,
        "KernelVersion": host.kernel,
        "OperatingSystem": host.os_name,
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": host.machine,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": _registries(settings.insecure_registries, settings.mirrors),
        "NCPU": host.cpus,
        "MemTotal": host.memory,
        "GenericResources": None,
        "DockerRootDir": str(host.data_root),
        "HttpProxy": _shown_proxy(settings.proxies.get("HTTP_PROXY", "")),
        "HttpsProxy": _shown_proxy(settings.proxies.get("HTTPS_PROXY", "")),
        "NoProxy": settings.proxies.get("NO_PROXY", ""),
        "Name": host.hostname,
        "Labels": [*settings.labels, f"io.stackctl.api={EXTENSION}"],
        "ExperimentalBuild": call.serving.settings.experimental,
        "ServerVersion": stackctl.__version__,
        "Runtimes": {name: {"path": path} for name, path in settings.runtime_paths.items()},
        "DefaultRuntime": settings.default_runtime,
        "Swarm": _no_swarm(),
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": Path(host.init_path).name if host.init_path else "",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": _security(host.cgroup_version, rootless=host.rootless),
        "DefaultAddressPools": [
            {"Base": pool.base, "Size": pool.size}
            for pool in host.address_pools or (AddressPool(base=host.address_pool),)
        ],
        "CDISpecDirs": [],
        "FirewallBackend": {"Driver": "nftables"},
        "KernelMemoryTCP": False,
        "Warnings": None,
    }
    return call.json(body)


def _shown_proxy(url: str) -> str:
    """Return a proxy's URL without the password in it, as Docker shows it."""
    return re.sub(r"//[^/@]*@", "//xxxxx:xxxxx@", url)


def _log_drivers(sinks: LogSinks | None) -> list[str]:
    absent = set()
    if sinks is None or not sinks.has_journal():
        absent.add("journald")
    return [name for name in LOG_DRIVERS if name not in absent]


def _registries(insecure: tuple[str, ...], mirrors: tuple[str, ...]) -> JsonObject:
    index: JsonObject = {
        "docker.io": {"Mirrors": [*mirrors], "Name": "docker.io", "Official": True, "Secure": True},
        **{
            name: {"Mirrors": [], "Name": name, "Official": False, "Secure": False}
            for name in insecure
            if "/" not in name
        },
    }
    nets: list[Json] = ["::1/128", "127.0.0.0/8", *(name for name in insecure if "/" in name)]
    return {"IndexConfigs": index, "InsecureRegistryCIDRs": nets, "Mirrors": [*mirrors]}


def _no_swarm() -> JsonObject:
    return {
        "NodeID": "",
        "NodeAddr": "",
        "LocalNodeState": "inactive",
        "ControlAvailable": False,
        "Error": "",
        "RemoteManagers": None,
    }


def _security(cgroup_version: str, *, rootless: bool) -> list[Json]:
    options: list[Json] = ["name=seccomp,profile=builtin"]
    if cgroup_version == "2":
        options.append("name=cgroupns")
    if rootless:
        options.append("name=rootless")
    return options


async def events(call: Call) -> web.StreamResponse:
    query = EventQuery(
        since=call.instant("since"),
        until=call.instant("until"),
        filters=call.filters(),
    )
    if query.until and query.until < query.since:
        since, until = call.text("since"), call.text("until")
        raise InvalidInputError(f"`since` time ({since}) cannot be after `until` time ({until})")
    with contextlib.closing(call.engine.events.subscribe(query)) as source:
        response = await call.stream(JSON_TYPE)

        async def lines() -> AsyncIterator[bytes]:
            async for event in source:
                yield encode_object(event_bodies.event_body(event))

        await until_gone(call, lines(), response.write)
    await response.write_eof()
    return response


async def auth(call: Call) -> web.StreamResponse:
    given = credentials(read_auth(await call.body()))
    if given is None:
        return call.json({"Status": "", "IdentityToken": ""})
    token = await call.engine.world.registry.login(given)
    return call.json({"Status": "Login Succeeded", "IdentityToken": token})


async def plugins(call: Call) -> web.StreamResponse:
    return call.json([])


async def extension_info(call: Call) -> web.StreamResponse:
    settings = call.serving.settings
    return call.json(
        {
            "Version": stackctl.__version__,
            "Pid": os.getpid(),
            "EngineID": settings.paths.engine_id,
            "Socket": str(settings.paths.socket),
            "DataRoot": str(settings.paths.data_root),
            "RunRoot": str(settings.paths.run_root),
            "Log": str(settings.paths.daemon_log),
            "StartedAt": times.rfc3339(call.serving.started_at),
            "Python": platform.python_version(),
            "Features": [FEATURE, SYNC_FEATURE, LEASE_FEATURE, RELIEF_FEATURE],
        }
    )


async def shutdown(call: Call) -> web.StreamResponse:
    call.serving.stopping.set()
    return call.empty()


ROUTES = (
    ("GET", "/_ping", ping),
    ("HEAD", "/_ping", ping),
    ("OPTIONS", "/", options),
    ("GET", "/version", version),
    ("GET", "/info", info),
    ("GET", "/events", events),
    ("POST", "/auth", auth),
    ("GET", "/plugins", plugins),
    ("GET", f"{EXTENSION}/info", extension_info),
    ("POST", f"{EXTENSION}/shutdown", shutdown),
)
