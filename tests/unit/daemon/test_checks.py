"""Every field of a create body with every wrong type, and what the host changes about a request."""

import contextlib
import itertools

import pytest

from stackctl.api.codec import Reader
from stackctl.daemon.bodies import checks, limits
from stackctl.daemon.bodies.create import read_spec
from stackctl.engine.world import HostFacts
from stackctl.errors import InvalidInputError, StackctlError

CONFIG = [
    "ArgsEscaped",
    "AttachStderr",
    "AttachStdin",
    "AttachStdout",
    "Cmd",
    "Domainname",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Hostname",
    "Image",
    "Labels",
    "MacAddress",
    "NetworkDisabled",
    "NetworkingConfig",
    "OnBuild",
    "OpenStdin",
    "Shell",
    "StdinOnce",
    "StopSignal",
    "StopTimeout",
    "Tty",
    "User",
    "Volumes",
    "WorkingDir",
]
HOST = [
    "Annotations",
    "AutoRemove",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeight",
    "BlkioWeightDevice",
    "CapAdd",
    "CapDrop",
    "Cgroup",
    "CgroupParent",
    "CgroupnsMode",
    "ConsoleSize",
    "ContainerIDFile",
    "CpuCount",
    "CpuPercent",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "IOMaximumBandwidth",
    "IOMaximumIOps",
    "Init",
    "IpcMode",
    "Isolation",
    "KernelMemory",
    "Links",
    "LogConfig",
    "MaskedPaths",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "MemorySwappiness",
    "Mounts",
    "NanoCpus",
    "NetworkMode",
    "OomKillDisable",
    "OomScoreAdj",
    "PidMode",
    "PidsLimit",
    "PortBindings",
    "Privileged",
    "PublishAllPorts",
    "ReadonlyPaths",
    "ReadonlyRootfs",
    "RestartPolicy",
    "Runtime",
    "SecurityOpt",
    "ShmSize",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "UTSMode",
    "Ulimits",
    "UsernsMode",
    "VolumeDriver",
    "VolumesFrom",
]
DEEP = {"a": {"b": [{"c": {"d": [[], {}, None, 0]}}]}}
VALUES = [
    None, True, 0, 7, -1, 1.5, 1e300, 2**70, "", "x", "\0", "x" * 70000, "²", "-", ":", "a:b:c:d", "/",
    [], [None], [5], [""], ["x"], ["\0"], [[]], [["x"]], [{}], [{"Path": 5}], [{"Name": "x", "Soft": "y"}],
    {}, {"": None}, {"x": None}, {"x": 5}, {"x": "y"}, {"x": [{}]}, {"80/tcp": [{"HostPort": {}}]}, {"Type": 5},
    {"Test": "x", "Interval": 1.5}, {"EndpointsConfig": []}, {"EndpointsConfig": {"a": [1]}}, DEEP,
]  # fmt: skip


def read(config, host):
    return read_spec(Reader({"Image": "busybox", **config, "HostConfig": host}), cpus=2)


@pytest.mark.parametrize("field", [*CONFIG, *HOST])
def test_a_field_of_any_type_is_read_or_refused_by_a_named_error(field):
    for value in VALUES:
        config, host = ({field: value}, {}) if field in CONFIG else ({}, {field: value})
        body = Reader({"Image": "busybox", **config, "HostConfig": host})
        with contextlib.suppress(StackctlError):
            spec = read(config, host)
            limits.check_sets(spec, cpu_list="0-1", memory_nodes="0")
            checks.settle(spec, body, host_facts())


def test_two_wrong_fields_are_refused_like_one():
    for one, other in itertools.product(HOST, VALUES):
        try:
            read({}, {one: other, "Memory": "x"})
        except StackctlError:
            continue
        pytest.fail(f"{one}={other!r} hid the wrong Memory")


def host_facts(**given):
    return HostFacts(boot_id="x", data_root="/d", run_root="/r", **given)


def settled(config=None, host=None, **facts):
    body = Reader({"Image": "busybox", **(config or {}), "HostConfig": host or {}})
    return checks.settle(read_spec(body, cpus=2), body, host_facts(**facts))


def test_swap_is_twice_the_memory_unless_told_otherwise():
    assert settled(host={"Memory": 64 << 20})[0].memory_swap == 128 << 20
    assert settled(host={"Memory": 64 << 20, "MemorySwap": -1})[0].memory_swap == -1


def test_weights_are_discarded_with_a_warning_where_the_kernel_has_none():
    asked = {"BlkioWeight": 300, "BlkioWeightDevice": [{"Path": "/dev/vda", "Weight": 300}]}
    spec, warnings = settled(host=asked, blkio_weight=False)
    assert (spec.blkio_weight, spec.blkio_devices) == (0, ())
    assert [words.split(" or ")[0] for words in warnings] == [
        "Your kernel does not support Block I/O weight",
        "Your kernel does not support Block I/O weight_device",
    ]
    spec, warnings = settled(host=asked, blkio_weight=True)
    assert (spec.blkio_weight, spec.blkio_devices[0].value, warnings) == (300, 300, ())


def test_users_are_told_of_what_is_deprecated_discarded_or_new():
    _, warnings = settled(
        {"MacAddress": "02:42:ac:11:00:09"},
        {"CpuPercent": 5, "Mounts": [{"Type": "image", "Source": "x", "Target": "/x"}]},
    )
    assert [words.split()[0] for words in warnings] == ["linux", "Image", "The"]


def test_cpus_and_memory_nodes_must_be_there():
    spec = read({}, {"CpusetCpus": "0,2-3"})
    limits.check_sets(spec, cpu_list="0-3", memory_nodes="0")
    limits.check_sets(spec, cpu_list="", memory_nodes="")
    with pytest.raises(InvalidInputError, match="requested 0,2-3, available: 0-1"):
        limits.check_sets(spec, cpu_list="0-1", memory_nodes="0")


def test_a_runtime_must_be_known():
    checks.check_runtime(read({}, {"Runtime": "runc"}), ["runc"])
    with pytest.raises(InvalidInputError, match="unknown or invalid runtime name: bogus"):
        checks.check_runtime(read({}, {"Runtime": "bogus"}), ["runc"])
