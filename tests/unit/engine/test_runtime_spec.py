"""Unit tests of the runtime specification."""

from dataclasses import replace

import pytest

from stackctl.contracts.container import ContainerRecord, ContainerSpec, MountPoint, Ulimit
from stackctl.engine.runtime_spec import HostDevice, SpecInputs, runtime_spec
from stackctl.engine.users import User
from stackctl.errors import InvalidInputError

ID = "ab" * 32


def inputs(spec: dict | None = None, record: dict | None = None, **fields) -> SpecInputs:
    asked = ContainerSpec(image="x", **(spec or {}))
    made = ContainerRecord(
        id=ID, name="c", created=0.0, spec=asked, image_id="", layers=(),
        **{"path": "/bin/app", "args": ("-x",), **(record or {})},
    )  # fmt: skip
    return SpecInputs(
        **{"record": made, "rootfs": "/merged", "netns_path": "/run/netns/1", **fields}
    )


def tree(spec: dict | None = None, record: dict | None = None, **fields) -> dict:
    return runtime_spec(inputs(spec, record, **fields)).tree


def mount(made: dict, target: str) -> dict:
    (found,) = [item for item in made["mounts"] if item["destination"] == target]
    return found


def test_a_plain_container_has_dockers_defaults() -> None:
    made = runtime_spec(inputs())
    process, linux = made.tree["process"], made.tree["linux"]
    assert process["args"] == ["/bin/app", "-x"]
    assert process["cwd"] == "/"
    assert process["env"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME=abababababab",
        "HOME=/",
    ]
    assert process["noNewPrivileges"] is False
    assert len(process["capabilities"]["bounding"]) == 14
    assert "inheritable" not in process["capabilities"]
    assert "ambient" not in process["capabilities"]
    assert made.tree["root"] == {"path": "/merged", "readonly": False}
    assert made.tree["hostname"] == "abababababab"
    assert made.seccomp == "default"
    assert linux["cgroupsPath"] == f"/stackctl/{ID}"
    assert {"type": "network", "path": "/run/netns/1"} in linux["namespaces"]
    assert [item["type"] for item in linux["namespaces"]] == [
        "mount",
        "network",
        "pid",
        "ipc",
        "uts",
    ]
    assert linux["sysctl"]["net.ipv4.ip_unprivileged_port_start"] == "0"
    assert "/proc/kcore" in linux["maskedPaths"]
    assert "/proc/sys" in linux["readonlyPaths"]
    assert linux["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert mount(made.tree, "/sys/fs/cgroup")["options"][-1] == "ro"
    assert "size=67108864" in mount(made.tree, "/dev/shm")["options"]


def test_the_environment_overrides_and_takes_away() -> None:
    made = tree({"tty": True}, {"env": ("PATH=/x", "A=1", "A=2", "TERM", "HOME=/h")})
    assert made["process"]["env"] == ["PATH=/x", "HOSTNAME=abababababab", "A=2", "HOME=/h"]


def test_a_privileged_container_gets_what_the_daemon_has_and_no_more() -> None:
    held = frozenset({"CAP_SYS_ADMIN", "CAP_CHOWN"})
    made = runtime_spec(inputs({"privileged": True}, capabilities=held, cgroup_version="2"))
    linux = made.tree["linux"]
    assert set(made.tree["process"]["capabilities"]["effective"]) == held
    assert (linux["maskedPaths"], linux["readonlyPaths"]) == ([], [])
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert made.seccomp == "unconfined"
    assert mount(made.tree, "/sys")["options"][-1] == "rw"


def test_capabilities_are_added_and_dropped() -> None:
    asked = {"cap_drop": ("ALL",), "cap_add": ("net_admin", "CAP_CHOWN")}
    assert tree(asked)["process"]["capabilities"]["bounding"] == ["CAP_CHOWN", "CAP_NET_ADMIN"]
    everything = tree({"cap_add": ("ALL",), "cap_drop": ("SYS_ADMIN",)})["process"]["capabilities"]
    assert "CAP_SYS_ADMIN" not in everything["bounding"]
    assert "CAP_BPF" in everything["bounding"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"cap_add": ("NOPE",)}, "unknown capability"),
        ({"cap_drop": ("NOPE",)}, "invalid CapDrop"),
        ({"ulimits": (Ulimit(name="nope", soft=1, hard=1),)}, "ulimit type: nope"),
        ({"ulimits": (Ulimit(name="nofile", soft=2, hard=1),)}, "soft limit"),
        ({"sysctls": {"kernel.panic": "1"}}, "kernel.panic"),
        ({"sysctls": {"net/ipv4/../../kernel/panic": "1"}}, "not allowed"),
        ({"sysctls": {"net.ipv4.tcp_syncookies": "1"}, "network_mode": "host"}, "not allowed"),
        ({"security_opt": ("nope=1",)}, "invalid --security-opt"),
        ({"security_opt": ("seccomp={",)}, "seccomp"),
        ({"security_opt": ("no-new-privileges=maybe",)}, "invalid --security-opt"),
        ({"memory": 1000}, "6MB"),
        ({"memory": 8 << 20, "memory_swap": 7 << 20}, "memoryswap"),
        ({"memory_swap": 8 << 20}, "Memoryswap"),
        ({"nano_cpus": 1, "cpu_quota": 5}, "Nano CPUs"),
        ({"blkio_weight": 5}, "blkio weight"),
        ({"memory_swappiness": 101}, "swappiness"),
        ({"oom_score_adj": 1001}, "oom score adj"),
        ({"device_cgroup_rules": ("x 1:3 rwm",)}, "device cgroup rule"),
    ],
)
def test_what_cannot_be_honoured_is_refused(spec: dict, said: str) -> None:
    host = spec.get("network_mode") == "host"
    with pytest.raises(InvalidInputError, match=said):
        tree(spec, netns_path=None if host else "/run/netns/1")


@pytest.mark.parametrize(
    "path",
    ["/proc/self/fd/7", "/proc/1/fd", "//proc/self/./fd/9/../9", "/proc/thread-self/fd/3", "/dev/fd/8", "/proc/self/task/1/fd/7", "/proc/self/cwd", "relative"],
)  # fmt: skip
def test_a_working_directory_that_leads_out_of_the_container_is_refused(path: str) -> None:
    with pytest.raises(InvalidInputError, match="working directory"):
        tree(record={"working_dir": path})


def test_mounts_come_parents_first_and_replace_the_defaults() -> None:
    made = tree(
        mounts=(
            MountPoint(type="volume", target="/data/deep", source="/v1"),
            MountPoint(
                type="bind", target="/data", source="/b", read_only=True, propagation="rslave"
            ),
            MountPoint(type="tmpfs", target="/dev/shm", tmpfs_options=("size=1m", "exec")),
            MountPoint(type="bind", target="/one", source="/o", read_only=True, non_recursive=True),
        ),
        hosts_file="/c/hosts",
        resolv_file="/c/resolv.conf",
        hostname_file="/c/hostname",
    )
    targets = [item["destination"] for item in made["mounts"]]
    assert targets.index("/data") < targets.index("/data/deep")
    assert targets.count("/dev/shm") == 1
    assert mount(made, "/data")["options"] == ["rbind", "rslave", "rro"]
    assert mount(made, "/one")["options"] == ["bind", "rprivate", "ro"]
    assert mount(made, "/dev/shm")["options"] == [
        "nosuid",
        "nodev",
        "rw",
        "size=1m",
        "exec",
        "rprivate",
    ]
    assert mount(made, "/etc/hosts")["source"] == "/c/hosts"
    assert made["linux"]["rootfsPropagation"] == "rslave"


def test_a_mount_over_the_root_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="invalid mount config"):
        tree(mounts=(MountPoint(type="bind", target="/x/..", source="/b"),))


def test_an_init_is_bound_in_and_comes_first() -> None:
    made = tree(init=True, init_path="/usr/bin/tini-static")
    assert made["process"]["args"] == ["/sbin/docker-init", "--", "/bin/app", "-x"]
    assert mount(made, "/sbin/docker-init")["source"] == "/usr/bin/tini-static"


def test_host_modes_leave_the_namespaces_out() -> None:
    made = tree({"pid_mode": "host", "ipc_mode": "host", "uts_mode": "host"}, netns_path=None)
    assert [item["type"] for item in made["linux"]["namespaces"]] == ["mount"]
    assert made["linux"]["sysctl"] == {}
    assert "hostname" not in made
    assert mount(made, "/dev/shm")["source"] == "/dev/shm"


def test_namespaces_of_another_container_are_joined() -> None:
    made = tree(
        {"network_mode": "container:x"}, pid_namespace="/proc/5/ns/pid", ipc_namespace="/proc/5/ns/ipc",
        shm_path="/shm5", cgroup_version="2",
    )  # fmt: skip
    namespaces = made["linux"]["namespaces"]
    assert {"type": "pid", "path": "/proc/5/ns/pid"} in namespaces
    assert {"type": "cgroup"} in namespaces
    assert made["linux"]["sysctl"] == {}
    assert mount(made, "/dev/shm")["source"] == "/shm5"


def test_limits_are_written_in_the_runtimes_units() -> None:
    spec = {
        "memory": 8 << 20,
        "nano_cpus": 1_500_000_000,
        "cpuset_cpus": "0",
        "pids_limit": -1,
        "blkio_weight": 10,
        "cpu_shares": 2,
    }
    found = tree(spec)["linux"]["resources"]
    assert found["memory"] == {"limit": 8 << 20, "swap": 16 << 20}
    assert found["cpu"] == {"period": 100_000, "quota": 150_000, "cpus": "0", "shares": 2}
    assert (found["pids"], found["blockIO"]) == ({"limit": -1}, {"weight": 10})
    assert tree(spec, swap_limit=False)["linux"]["resources"]["memory"] == {"limit": 8 << 20}


def test_devices_and_their_rules_are_listed() -> None:
    device = HostDevice(path="/dev/fuse", kind="c", major=10, minor=229, permissions="rw")
    linux = tree({"device_cgroup_rules": ("c 42:* rm",)}, devices=(device,))["linux"]
    assert linux["devices"][0]["path"] == "/dev/fuse"
    rules = linux["resources"]["devices"]
    assert {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"} in rules
    assert {"allow": True, "type": "c", "major": 42, "access": "rm"} in rules


def test_a_cgroup_parent_cannot_leave_the_hierarchy() -> None:
    assert tree({"cgroup_parent": "../../x"})["linux"]["cgroupsPath"] == f"/x/{ID}"


def test_limits_beyond_the_daemons_own_are_cut() -> None:
    made = tree(
        {"ulimits": (Ulimit(name="nofile", soft=-1, hard=-1),)}, max_rlimits={"nofile": 4096}
    )
    assert made["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096}]


def test_the_score_for_the_oom_killer_is_lowered_only_where_that_is_allowed() -> None:
    assert tree({"oom_score_adj": -5})["process"]["oomScoreAdj"] == -5
    held = frozenset({"CAP_CHOWN"})
    assert "oomScoreAdj" not in tree({"oom_score_adj": -5}, capabilities=held)["process"]
    assert tree({"oom_score_adj": 5}, capabilities=held)["process"]["oomScoreAdj"] == 5


def test_security_options_are_read_in_both_forms() -> None:
    asked = (
        "no-new-privileges",
        "label:disable",
        "apparmor=x",
        "systempaths=unconfined",
        "seccomp:unconfined",
    )
    made = runtime_spec(inputs({"security_opt": asked}))
    assert made.seccomp == "unconfined"
    assert made.tree["process"]["noNewPrivileges"] is True
    assert made.tree["linux"]["maskedPaths"] == []
    profile = '{"defaultAction": "SCMP_ACT_ALLOW"}'
    own = runtime_spec(inputs({"security_opt": (f"seccomp={profile}",), "privileged": True}))
    assert own.seccomp == profile


def test_user_and_groups_are_given_to_the_process() -> None:
    made = tree(user=User(uid=5, gid=6, groups=(6, 7), home="/home/x"))
    assert made["process"]["user"] == {"uid": 5, "gid": 6, "additionalGids": [6, 7]}
    assert "HOME=/home/x" in made["process"]["env"]


def test_the_same_container_gives_the_same_specification() -> None:
    given = inputs({"memory": 8 << 20})
    assert runtime_spec(given) == runtime_spec(replace(given))
