"""The create body."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackctl.api.codec import Reader
from stackctl.contracts.container import PortBinding, RestartPolicy, Ulimit
from stackctl.daemon.bodies.create import check_name, read_spec
from stackctl.errors import InvalidInputError, StackctlError, UnsupportedError


def spec(host=None, **config):
    return read_spec(Reader({"Image": "busybox", **config, "HostConfig": host or {}}), cpus=2)


def test_the_least_body_takes_the_defaults():
    found = spec()
    assert (found.image, found.cmd, found.network_mode) == ("busybox", None, "default")
    assert found.restart_policy == RestartPolicy()
    assert found.memory_swappiness is None


def test_what_the_docker_cli_sends_for_unset_fields_means_unset():
    found = spec(
        {
            "Binds": None,
            "PortBindings": {},
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "MemorySwappiness": -1,
            "OomKillDisable": False,
            "PidsLimit": 0,
            "Ulimits": [],
            "ConsoleSize": [0, 0],
            "MaskedPaths": None,
        },
        Entrypoint=None,
        Volumes={},
        OnBuild=None,
    )
    assert found == spec()


def test_an_empty_entrypoint_is_not_the_images():
    assert spec(Entrypoint=[]).entrypoint == ()
    assert spec(Entrypoint=None).entrypoint is None


def test_healthcheck_nanoseconds_become_seconds():
    check = spec(
        Healthcheck={
            "Test": ["CMD", "true"],
            "Interval": 1_500_000_000,
            "StartInterval": 10_000_000,
        }
    ).healthcheck
    assert (check.interval, check.start_interval, check.timeout) == (1.5, 0.01, 0.0)


def test_ports_read_with_addresses_and_ranges():
    found = spec(
        {
            "PortBindings": {
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostPort": "9000-9010"}],
                "53/udp": [{"HostIp": "", "HostPort": ""}],
                "90-91/tcp": [{"HostPort": "5090-5091"}],
            }
        }
    )
    assert found.port_bindings == (
        PortBinding(container_port=80, host_ip="127.0.0.1", host_port=8080),
        PortBinding(container_port=80, host_port=9000, host_port_end=9010),
        PortBinding(container_port=53, protocol="udp"),
        PortBinding(container_port=90, host_port=5090),
        PortBinding(container_port=91, host_port=5091),
    )


def test_exposed_ranges_are_spelled_out():
    assert spec(ExposedPorts={"80-82/tcp": {}, "53/udp": {}, "9": {}}).exposed_ports == (
        "80/tcp",
        "81/tcp",
        "82/tcp",
        "53/udp",
        "9/tcp",
    )


def test_mounts_of_every_kind_read():
    found = spec(
        {
            "Binds": ["/srv:/data:ro,rshared", "vol:/v:nocopy", "/anonymous"],
            "Mounts": [
                {"Type": "bind", "Source": "/etc", "Target": "/e", "ReadOnly": True},
                {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 5, "Mode": 448}},
                {
                    "Type": "volume",
                    "Target": "/w",
                    "VolumeOptions": {"NoCopy": True, "Labels": {"a": "b"}},
                },
            ],
            "Tmpfs": {"/run/": "size=64m"},
        },
        Volumes={"/data": {}, "/fresh": {}},
    )
    kinds = [(mount.type, mount.source, mount.target, mount.origin) for mount in found.mounts]
    assert kinds == [
        ("bind", "/srv", "/data", "binds"),
        ("volume", "vol", "/v", "binds"),
        ("volume", "", "/anonymous", "binds"),
        ("bind", "/etc", "/e", "mounts"),
        ("tmpfs", "", "/t", "mounts"),
        ("volume", "", "/w", "mounts"),
        ("tmpfs", "", "/run", "tmpfs"),
        ("volume", "", "/fresh", "volumes"),
    ]
    first = found.mounts[0]
    assert (first.read_only, first.propagation, first.create_source) == (True, "rshared", True)
    assert not found.mounts[3].create_source


def test_several_networks_read():
    found = read_spec(
        Reader(
            {
                "Image": "x",
                "NetworkingConfig": {
                    "EndpointsConfig": {
                        "front": {"Aliases": ["web"], "IPAMConfig": {"IPv4Address": "10.0.0.5"}},
                        "back": {},
                    }
                },
            }
        ),
        cpus=1,
    )
    assert [endpoint.network for endpoint in found.endpoints] == ["front", "back"]
    assert found.endpoints[0].ipv4_address == "10.0.0.5"


def test_ulimits_read():
    assert spec({"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": -1}]}).ulimits == (
        Ulimit(name="nofile", soft=1, hard=-1),
    )


@pytest.mark.parametrize(
    ("host", "config", "words"),
    [
        (
            {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
            {},
            "can't create 'AutoRemove'",
        ),
        ({"RestartPolicy": {"Name": "sometimes"}}, {}, r"HostConfig\.RestartPolicy\.Name"),
        ({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}, {}, "MaximumRetryCount"),
        (
            {"PortBindings": {"80/tcp": [{"HostPort": "x"}]}},
            {},
            r"PortBindings\.80/tcp\[0\]\.HostPort",
        ),
        ({"PortBindings": {"0/tcp": []}}, {}, "PortBindings"),
        ({"PortBindings": {"80/icmp": []}}, {}, "proto"),
        ({"PortBindings": {"80/tcp": [{"HostIp": "nowhere"}]}}, {}, "HostIp"),
        ({"Binds": ["a:b:c:d"]}, {}, "volume specification"),
        ({"Binds": ["./x:/x"]}, {}, "use absolute path"),
        ({"Binds": ["/x:relative"]}, {}, "must be absolute"),
        ({"Binds": ["/x:/"]}, {}, "can't be '/'"),
        ({"Binds": ["/a:/x", "/b:/x/"]}, {}, "Duplicate mount point: /x"),
        ({"Mounts": [{"Type": "npipe", "Target": "/x"}]}, {}, r"HostConfig\.Mounts\[0\]\.Type"),
        ({"Mounts": [{"Type": "bind", "Target": "/x"}]}, {}, "Source"),
        ({"Memory": 1024}, {}, "6MB"),
        ({"Memory": 10**8, "MemorySwap": 10**7}, {}, "memoryswap"),
        ({"NanoCpus": 3 * 10**9}, {}, "only 2 CPUs"),
        ({"NanoCpus": 10**9, "CpuQuota": 5000}, {}, "Nano CPUs"),
        (
            {"LogConfig": {"Type": "carrier-pigeon"}},
            {},
            "error looking up logging plugin carrier-pigeon",
        ),
        ({"NetworkMode": "container:x", "PortBindings": {"80/tcp": []}}, {}, "port publishing"),
        ({"SecurityOpt": ["bogus"]}, {}, "SecurityOpt"),
        ({"CpusetCpus": "a-b"}, {}, "CpusetCpus"),
        ({"CpusetCpus": "9999"}, {}, "out of range"),
        ({"SecurityOpt": ["no-new-privileges:maybe"]}, {}, "SecurityOpt"),
        ({"CapAdd": ["BOGUS"]}, {}, 'unknown capability: "CAP_BOGUS"'),
        ({"CapDrop": ["nope"]}, {}, "CapDrop"),
        ({"PidMode": "bogus"}, {}, "invalid PID mode: bogus"),
        ({"PidMode": "container:"}, {}, "invalid PID mode"),
        ({"IpcMode": "bogus"}, {}, "invalid IPC mode"),
        ({"UTSMode": "container:x"}, {}, "invalid UTS mode"),
        ({"CgroupnsMode": "bogus"}, {}, "cgroup namespace mode"),
        ({"Dns": ["bad"]}, {}, "bad nameserver address bad"),
        ({"ExtraHosts": ["a"]}, {}, "bad format for add-host"),
        ({"ExtraHosts": ["a:b"]}, {}, "invalid IP address in add-host"),
        ({"Annotations": {"": "x"}}, {}, "annotation key"),
        ({"IOMaximumIOps": 5}, {}, "QoS maximum IOPs"),
        ({"BlkioDeviceReadBps": [{"Path": "/dev/vda", "Rate": -1}]}, {}, "negative"),
        ({"VolumesFrom": [""]}, {}, "volumes-from"),
        ({"Links": [""]}, {}, "links"),
        ({"Tmpfs": {"/x": "bogus=1"}}, {}, 'invalid tmpfs option "bogus=1"'),
        (
            {
                "Mounts": [
                    {"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Options": [["suid"]]}}
                ]
            },
            {},
            "invalid option: suid",
        ),
        ({}, {"StopSignal": "BAD"}, "invalid signal: BAD"),
        ({}, {"Hostname": "x" * 65}, "Hostname"),
        (
            {},
            {"NetworkingConfig": {"EndpointsConfig": {"host": {}}}},
            "must be created in host network mode",
        ),
        ({}, {"NetworkingConfig": {"EndpointsConfig": {"bridge": None}}}, "EndpointsConfig is nil"),
        ({"OomScoreAdj": 2000}, {}, "oom score"),
        ({"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]}, {}, "soft limit"),
        ({}, {"Env": ["=x"]}, r"Env\[0\]"),
        ({}, {"WorkingDir": "here"}, "WorkingDir"),
        ({}, {"Hostname": "not valid"}, "Hostname"),
        ({}, {"Healthcheck": {"Test": ["MAYBE"]}}, "Healthcheck.Test"),
        ({}, {"Healthcheck": {"Interval": 5}}, "cannot be less than 1ms"),
        ({}, {"MacAddress": "zz"}, "MacAddress"),
        ({}, {"Image": ""}, "Image"),
    ],
)
def test_what_cannot_be_is_refused_by_name(host, config, words):
    with pytest.raises(InvalidInputError, match=words):
        spec(host, **config)


def test_what_is_not_offered_is_refused_clearly():
    with pytest.raises(UnsupportedError, match="StorageOpt"):
        spec({"StorageOpt": {"size": "10G"}})
    with pytest.raises(UnsupportedError, match="DeviceRequests"):
        spec({"DeviceRequests": [{"Driver": "nvidia", "Count": -1}]})


@pytest.mark.parametrize("name", ["x", "-web", "a b", "ä", "a/b"])
def test_names_docker_refuses_are_refused(name):
    with pytest.raises(InvalidInputError, match="Invalid container name"):
        check_name(name)


def test_a_leading_slash_is_no_part_of_the_name():
    assert check_name("/web") == "web"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
CONFIG = [
    "Cmd",
    "Env",
    "Labels",
    "ExposedPorts",
    "Volumes",
    "Healthcheck",
    "Tty",
    "StopTimeout",
    "NetworkingConfig",
]
HOST = [
    "Binds",
    "Mounts",
    "PortBindings",
    "RestartPolicy",
    "Ulimits",
    "Devices",
    "Tmpfs",
    "Memory",
    "Dns",
    "LogConfig",
]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(CONFIG), JSON), st.dictionaries(st.sampled_from(HOST), JSON))
def test_any_json_is_a_container_or_a_named_error(config, host):
    with contextlib.suppress(StackctlError):
        assert spec(host, **config).image == "busybox"
