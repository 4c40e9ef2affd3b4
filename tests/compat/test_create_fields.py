"""What each field of a create body does, as its container sees it."""

import json
import os
import time
import urllib.parse
from pathlib import Path

import pytest

from tests.compat import raw

pytestmark = pytest.mark.root
SELF_CGROUP = "cat /sys/fs/cgroup/{0} 2>/dev/null || cat /sys/fs/cgroup/{1}"
NET_ADMIN = 1 << 12


def block_device():
    name = next(
        path.name
        for path in sorted(Path("/sys/block").iterdir())
        if Path("/dev", path.name).exists()
    )
    status = os.stat(f"/dev/{name}")
    return f"/dev/{name}", f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


DEVICE, NUMBERS = block_device()
# What is asked for; and commands with what they must print ("~" before it: must contain, "!": must not contain).
FIELDS = {
    "config": (
        {
            "Hostname": "my_host", "Domainname": "example.org", "User": "1000:2000", "Env": ["A=b c", "HOSTNAME"],
            "WorkingDir": "/var/made", "HostConfig": {"GroupAdd": ["root", "1234"]},
        },
        [
            ("hostname", "my_host"), ("id -u", "1000"), ("id -g", "2000"), ("id -G", "2000 0 1234"),
            ("pwd", "/var/made"), ("echo $A", "b c"), ("env | grep -c ^HOSTNAME=", "0"),
            ("cat /etc/hosts", "~my_host.example.org my_host"),
        ],
    ),
    "limits": (
        {"HostConfig": {
            "Memory": 64 << 20, "MemoryReservation": 32 << 20, "CpuShares": 512, "NanoCpus": 500_000_000,
            "PidsLimit": 30, "CpusetCpus": "0", "CpusetMems": "0", "ShmSize": 8 << 20, "OomScoreAdj": 500,
            "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}, {"Name": "core", "Soft": 0, "Hard": 0}],
            "BlkioDeviceReadBps": [{"Path": DEVICE, "Rate": 1048576}],
            "BlkioDeviceWriteIOps": [{"Path": DEVICE, "Rate": 77}],
        }},
        [
            (SELF_CGROUP.format("memory/memory.limit_in_bytes", "memory.max"), str(64 << 20)),
            (SELF_CGROUP.format("memory/memory.soft_limit_in_bytes", "memory.low"), str(32 << 20)),
            (SELF_CGROUP.format("cpu/cpu.cfs_quota_us", "cpu.max"), "~50000"),
            (SELF_CGROUP.format("pids/pids.max", "pids.max"), "30"),
            (SELF_CGROUP.format("blkio/blkio.throttle.read_bps_device", "io.max"), f"~{NUMBERS} "),
            (SELF_CGROUP.format("blkio/blkio.throttle.read_bps_device", "io.max"), "~1048576"),
            (SELF_CGROUP.format("blkio/blkio.throttle.write_iops_device", "io.max"), "~77"),
            ("grep Cpus_allowed_list /proc/self/status | cut -f2", "0"),
            ("ulimit -Sn; ulimit -Hn; ulimit -c", "100\n200\n0"), ("cat /proc/self/oom_score_adj", "500"),
            ("df -k /dev/shm | tail -1", "~8192"),
        ],
    ),
    "capabilities": (
        {"HostConfig": {
            "CapDrop": ["ALL"], "CapAdd": ["NET_ADMIN"], "SecurityOpt": ["no-new-privileges", "seccomp=unconfined"],
            "ReadonlyRootfs": True, "MaskedPaths": ["/proc/meminfo", "/proc/fs"], "ReadonlyPaths": ["/proc/irq"],
        }},
        [
            ("grep CapEff /proc/self/status | cut -f2", f"{NET_ADMIN:016x}"),
            ("grep NoNewPrivs /proc/self/status | cut -f2", "1"), ("grep Seccomp: /proc/self/status | cut -f2", "0"),
            ("touch /x 2>&1", "~Read-only file system"), ("cat /proc/meminfo", ""), ("ls /proc/fs", ""),
            ("grep ' /proc/irq ' /proc/mounts", "~ro,"), ("grep -c ' /proc/sys ' /proc/mounts", "0"),
        ],
    ),
    "defaults": (
        {},
        [
            ("grep Seccomp: /proc/self/status | cut -f2", "2"), ("(echo x > /proc/sys/kernel/domainname) 2>&1", "~Read-only"),
            ("mount -t tmpfs x /tmp 2>&1", "~denied"), ("df -k /dev/shm | tail -1", "~65536"),
            ("grep ' /sys/fs/cgroup' /proc/mounts | tail -1", "~ro,"), ("cat /proc/1/comm", "sh"),
            ("cat /proc/kcore | head -c 1", ""), ("ls /sys/firmware", ""),
        ],
    ),
    "privileged": (
        {"HostConfig": {"Privileged": True, "CgroupnsMode": "private", "Init": True}},
        [
            ("grep Seccomp: /proc/self/status | cut -f2", "0"), (f"test -b {DEVICE}; echo $?", "0"),
            ("mkdir /m && mount -t tmpfs x /m; echo $?", "0"), ("cat /proc/1/comm", "!sh"),
            ("grep ' /sys/fs/cgroup' /proc/mounts | tail -1", "~rw,"), ("head -1 /proc/self/cgroup", "~:/"),
        ],
    ),
    "mounts": (
        {
            "Volumes": {"/anonymous": {}},
            "HostConfig": {
                "Binds": ["/etc:/host-etc:ro", "fields-named:/named"],
                "Tmpfs": {"/t1": "size=1m,mode=700,exec", "/t2": ""},
                "Mounts": [
                    {"Type": "tmpfs", "Target": "/t3", "TmpfsOptions": {"SizeBytes": 2 << 20, "Mode": 0o1777}},
                    {"Type": "image", "Source": "busybox", "Target": "/image", "ImageOptions": {"Subpath": "etc"}},
                    {"Type": "volume", "Source": "fields-copied", "Target": "/home"},
                    {"Type": "volume", "Source": "fields-ro", "Target": "/ro", "ReadOnly": True},
                ],
                "SecurityOpt": ["writable-cgroups=true"],
            },
        },
        [
            ("cat /host-etc/hostname", Path("/etc/hostname").read_text().strip()), ("touch /host-etc/x 2>&1", "~Read-only"),
            ("echo hi > /named/x; cat /named/x", "hi"), ("touch /anonymous/x; ls /anonymous", "x"),
            ("df -k /t1 | tail -1", "~1024"), ("stat -c %a /t1 /t3", "700\n1777"), ("grep ' /t1 ' /proc/mounts", "!noexec"),
            ("grep ' /t2 ' /proc/mounts", "~noexec"), ("df -k /t3 | tail -1", "~2048"), ("head -1 /image/passwd", "~root:"),
            ("touch /image/x 2>&1", "~Read-only"), ("touch /ro/x 2>&1", "~Read-only"),
            ("grep ' /sys/fs/cgroup' /proc/mounts | tail -1", "~rw,"),
        ],
    ),
    "network": (
        {
            "HostConfig": {
                "NetworkMode": "fields-net", "Dns": ["192.0.2.53"], "DnsSearch": ["search.example"],
                "DnsOptions": ["ndots:3"], "ExtraHosts": ["extra:192.0.2.7", "gateway:host-gateway", "six:2001:db8::1"],
                "Sysctls": {"net.ipv4.ip_local_port_range": "2000 3000"}, "ShmSize": 1 << 20,
            },
            "NetworkingConfig": {"EndpointsConfig": {
                "fields-net": {
                    "IPAMConfig": {"IPv4Address": "10.215.8.77", "LinkLocalIPs": ["169.254.8.7"]},
                    "MacAddress": "02:42:0a:d7:08:4d", "Aliases": ["fields-alias"],
                },
                "fields-other": {"GwPriority": -1},
            }},
        },
        [
            ("cat /etc/resolv.conf", "~search search.example"), ("cat /etc/resolv.conf", "~ndots:3"),
            ("cat /etc/hosts", "~192.0.2.7\textra"), ("grep -c gateway /etc/hosts", "1"),
            ("cat /etc/hosts", "~2001:db8::1\tsix"),
            ("ip addr", "~10.215.8.77/24"), ("ip addr", "~169.254.8.7/16"), ("ip link", "~02:42:0a:d7:08:4d"),
            ("ip route | grep default", "~10.215.8.1"), ("ls /sys/class/net | grep -c eth", "2"),
            ("cat /proc/sys/net/ipv4/ip_local_port_range", "2000\t3000"), ("nslookup fields-alias | tail -4", "~10.215.8.77"),
        ],
    ),
    "host": (
        {"HostConfig": {"NetworkMode": "host", "PidMode": "host", "IpcMode": "host", "UTSMode": "host"}},
        [
            ("hostname", os.uname().nodename), ("ls -d /proc/self; test -d /proc/$PPID; cat /proc/1/comm", "!sh"),
            ("readlink /proc/self/ns/net", os.readlink("/proc/self/ns/net")),
            ("readlink /proc/self/ns/ipc", os.readlink("/proc/self/ns/ipc")),
        ],
    ),
    "alone": (
        {"HostConfig": {"NetworkMode": "none", "IpcMode": "none", "CgroupParent": "/fields-parent"}},
        [("ls /sys/class/net", "lo"), ("grep -c ' /dev/shm ' /proc/mounts", "0"), ("cat /proc/self/cgroup", "~/fields-parent/")],
    ),
    "devices": (
        {"HostConfig": {
            "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "r"}],
            "DeviceCgroupRules": ["c 1:11 rwm"],
        }},
        [
            ("test -c /dev/nothing; echo $?", "0"), ("cat /dev/nothing", ""),
            ("mknod /k c 1 11 && cat /k </dev/null >/dev/null & sleep 0.1; test -c /k; echo $?", "0"),
        ],
    ),
}  # fmt: skip


def asked(path, method, target, body=None):
    return raw.request(path, method, f"/v1.51{target}", body, timeout=60)


@pytest.fixture(scope="module")
def sock(daemon):
    path = daemon.paths.socket
    for name, subnet in (("fields-net", "10.215.8.0/24"), ("fields-other", "10.215.9.0/24")):
        answer = asked(
            path,
            "POST",
            "/networks/create",
            {"Name": name, "IPAM": {"Config": [{"Subnet": subnet}]}},
        )
        assert answer.status == 201, answer
    yield path
    daemon.clear()


@pytest.mark.parametrize("name", FIELDS)
def test_a_container_finds_what_was_asked_for(sock, name):
    config, checks = FIELDS[name]
    script = "\n".join(f"( {command} ) 2>/dev/null; echo; echo ----" for command, _ in checks)
    body = {"Image": "busybox", **config, "Cmd": ["sh", "-c", script]}
    made = asked(sock, "POST", "/containers/create", body)
    assert made.status == 201, made
    where = f"/containers/{made.json['Id']}"
    started = asked(sock, "POST", f"{where}/start")
    assert started.status == 204, started
    asked(sock, "POST", f"{where}/wait")
    output = asked(sock, "GET", f"{where}/logs?stdout=1").body
    text = b"".join(payload for _, payload in raw.frames(output)).decode()
    said = [part.strip("\n") for part in text.split("\n----\n")][:-1]
    wrong = [
        f"{command}\n  must print {expected!r}\n  and printed {found!r}"
        for (command, expected), found in zip(checks, said, strict=True)
        if not fits(found, expected)
    ]
    assert not wrong, "\n".join(wrong)


def fits(found, expected):
    if expected.startswith("~"):
        return expected[1:] in found
    if expected.startswith("!"):
        return bool(found) and expected[1:] not in found
    return found == expected


@pytest.mark.parametrize(
    ("host", "status", "words"),
    [
        ({"StorageOpt": {"size": "10G"}}, 501, "StorageOpt"),
        ({"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]}, 501, "DeviceRequests"),
        ({"Isolation": "hyperv"}, 400, "isolation"),
        ({"UsernsMode": "keep-id"}, 400, "user namespace mode"),
        ({"LogConfig": {"Type": "gelf"}}, 400, "gelf"),
        ({"VolumeDriver": "elsewhere", "Binds": ["v:/v"]}, 404, "elsewhere"),
        ({"Runtime": "kata"}, 400, "kata"),
        ({"CpusetCpus": "4095"}, 400, "not available"),
        ({"PidMode": "container:nobody"}, 400, "nobody"),
        ({"Links": ["nobody:x"]}, 400, "nobody"),
        ({"VolumesFrom": ["nobody"]}, 400, "nobody"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(sock, host, status, words):
    answer = asked(
        sock,
        "POST",
        "/containers/create",
        {"Image": "busybox", "Cmd": ["true"], "HostConfig": host},
    )
    assert answer.status == status, answer
    assert words in json.loads(answer.body)["message"]


@pytest.mark.parametrize(
    ("words", "host", "code", "oom"),
    [
        (["sh", "-c", "exit 7"], {}, 7, False),
        (["sh", "-c", "kill -9 $$"], {"Init": True}, 137, False),
        (["sh", "-c", "trap - TERM; kill -TERM $$"], {"Init": True}, 143, False),
        (["sh", "-c", "x=$(head -c 200000000 /dev/zero | tr '\\0' x)"], {"Memory": 16 << 20, "MemorySwap": 16 << 20}, 137, True),
    ],
)  # fmt: skip
def test_how_a_container_ended_is_told(sock, words, host, code, oom):
    made = asked(
        sock, "POST", "/containers/create", {"Image": "busybox", "Cmd": words, "HostConfig": host}
    )
    where = f"/containers/{made.json['Id']}"
    assert asked(sock, "POST", f"{where}/start").status == 204
    assert asked(sock, "POST", f"{where}/wait").json == {"StatusCode": code}
    state = asked(sock, "GET", f"{where}/json").json["State"]
    assert (state["ExitCode"], state["OOMKilled"], state["Error"]) == (code, oom, "")


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [(["/no/such"], 127, "no such file or directory"), (["/etc/passwd"], 126, "permission denied")],
)
def test_what_cannot_be_started_is_told_by_start_state_and_wait(sock, words, code, reason):
    made = asked(sock, "POST", "/containers/create", {"Image": "busybox", "Cmd": words})
    where = f"/containers/{made.json['Id']}"
    refused = asked(sock, "POST", f"{where}/start")
    assert refused.status == 400
    assert reason in refused.json["message"]
    state = asked(sock, "GET", f"{where}/json").json["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", code)
    assert reason in state["Error"]
    told = asked(sock, "POST", f"{where}/wait").json
    assert told["StatusCode"] == code
    assert reason in told["Error"]["Message"]


def test_an_update_is_checked_like_a_create(sock):
    made = asked(sock, "POST", "/containers/create", {"Image": "busybox", "Cmd": ["sleep", "1000"]})
    where = f"/containers/{made.json['Id']}"
    assert asked(sock, "POST", f"{where}/start").status == 204
    refused = asked(sock, "POST", f"{where}/update", {"CpusetCpus": "4095"})
    assert (refused.status, "not available" in refused.json["message"]) == (400, True)
    assert (
        asked(sock, "POST", f"{where}/update", {"Memory": 64 << 20, "MemorySwap": -1}).status == 200
    )
    assert asked(sock, "GET", f"{where}/json").json["HostConfig"]["Memory"] == 64 << 20


def test_events_tell_of_files_that_came_and_went(sock):
    made = asked(sock, "POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"]})
    where = f"/containers/{made.json['Id']}"
    assert asked(sock, "GET", f"{where}/archive?path=/etc/passwd").status == 200
    assert asked(sock, "PUT", f"{where}/archive?path=/tmp", bytes(1024)).status == 200
    filters = urllib.parse.quote(json.dumps({"container": [made.json["Id"]]}))
    until = int(time.time()) + 1
    lines = asked(sock, "GET", f"/events?since={until - 300}&until={until}&filters={filters}").body
    actions = [json.loads(line)["Action"] for line in lines.splitlines()]
    assert actions == ["create", "archive-path", "extract-to-dir"]


def test_a_network_may_come_between_create_and_start(sock):
    body = {
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "HostConfig": {"NetworkMode": "fields-late"},
        "NetworkingConfig": {"EndpointsConfig": {"fields-late": {"Aliases": ["x"]}}},
    }
    made = asked(sock, "POST", "/containers/create", body)
    assert made.status == 201, made
    where = f"/containers/{made.json['Id']}"
    for _ in range(2):
        refused = asked(sock, "POST", f"{where}/start")
        words = "failed to set up container networking: network fields-late not found"
        assert (refused.status, refused.json["message"]) == (404, words)
    assert place_of(sock, where)["NetworkID"] == ""
    network = asked(sock, "POST", "/networks/create", {"Name": "fields-late"}).json["Id"]
    assert asked(sock, "POST", f"{where}/start").status == 204
    place = place_of(sock, where)
    assert (place["NetworkID"], place["Aliases"]) == (network, ["x"])
    assert place["IPAddress"]
    assert "x" in place["DNSNames"]
    # Another of the same name, after the first was used, is not the same network.
    assert asked(sock, "POST", f"{where}/stop?t=0").status == 204
    assert asked(sock, "DELETE", "/networks/fields-late").status == 204
    assert asked(sock, "POST", f"{where}/start").status == 404


def place_of(sock, where):
    return asked(sock, "GET", f"{where}/json").json["NetworkSettings"]["Networks"]["fields-late"]


def test_a_volume_s_path_may_be_without_its_slash(sock):
    script = "grep -c ' /data ' /proc/mounts"
    body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "Volumes": {"data": {}}}
    where = f"/containers/{asked(sock, 'POST', '/containers/create', body).json['Id']}"
    assert asked(sock, "POST", f"{where}/start").status == 204
    assert asked(sock, "POST", f"{where}/wait").json == {"StatusCode": 0}


@pytest.mark.parametrize(
    ("kind", "options", "shown"),
    [
        ("json-file", {}, ""),
        ("json-file", {"env": "A,X,EMPTY,NONE"}, "A=b+c,EMPTY=,X=%C3%A9%3D1"),
        ("json-file", {"labels-regex": "^l", "env-regex": "^A"}, "A=b+c,AB=d%2Ce,l.one=1,l.two=2%26"),
        ("json-file", {"labels": "other", "tag": "{{.Name}}/t"}, "other=z,tag=fields-log%2Ft"),
        ("local", {}, ""),
    ],
)  # fmt: skip
def test_details_of_a_log_are_its_attributes(sock, kind, options, shown):
    body = {
        "Image": "busybox", "Cmd": ["sh", "-c", "echo one; printf two"],
        "Env": ["A=b c", "AB=d,e", "X=é=1", "EMPTY="],
        "Labels": {"l.one": "1", "l.two": "2&", "other": "z"},
        "HostConfig": {"LogConfig": {"Type": kind, "Config": options}},
    }  # fmt: skip
    where = (
        f"/containers/{asked(sock, 'POST', '/containers/create?name=fields-log', body).json['Id']}"
    )
    assert asked(sock, "POST", f"{where}/start").status == 204
    asked(sock, "POST", f"{where}/wait")
    output = asked(sock, "GET", f"{where}/logs?stdout=1&details=1").body
    said = b"".join(payload for _, payload in raw.frames(output)).decode()
    assert said == f"{shown} one\n{shown} two"
    last = asked(sock, "GET", f"{where}/logs?stdout=1&details=1&timestamps=1&tail=1").body
    ((_, line),) = raw.frames(last)
    assert line.decode().partition(" ")[2] == f"{shown} two"
    asked(sock, "DELETE", where)
