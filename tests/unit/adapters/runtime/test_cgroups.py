"""Unit tests of cgroup files, on directories that look like them."""

import os
from pathlib import Path

from stackctl.adapters.runtime.cgroups import CgroupFacts, Cgroups, read_facts

V1 = """\
30 25 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
V2 = "30 25 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def test_hierarchies_are_read_from_mountinfo() -> None:
    hybrid = read_facts(V1)
    assert hybrid.version == "1"
    assert (
        hybrid.controllers["cpuacct"]
        == hybrid.controllers["cpu"]
        == Path("/sys/fs/cgroup/cpu,cpuacct")
    )
    assert set(hybrid.controllers) == {"cpu", "cpuacct", "memory", "name=systemd"}
    assert hybrid.unified == Path("/sys/fs/cgroup/unified")
    pure = read_facts(V2)
    assert (pure.version, pure.unified) == ("2", Path("/sys/fs/cgroup"))


def test_usage_of_cgroup_v2_is_in_bytes_and_nanoseconds(tmp_path: Path) -> None:
    group = tmp_path / "p/c"
    group.mkdir(parents=True)
    files = {
        "cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 1\nnr_throttled 1\nthrottled_usec 7\n",
        "memory.current": "100\n", "memory.max": "max\n", "memory.peak": "200\n",
        "memory.stat": "anon 4\ninactive_file 9\n", "memory.events": "oom 2\noom_kill 1\n",
        "pids.current": "3\n", "pids.max": "10\n",
        "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n(unknown) rbytes=3\n",
    }  # fmt: skip
    for name, text in files.items():
        (group / name).write_text(text)
    cgroups = Cgroups(CgroupFacts(unified=tmp_path), "/p")
    usage = cgroups.usage("/p/c")
    assert (usage.cpu_total, usage.cpu_user, usage.cpu_throttled_time) == (5000, 3000, 7000)
    assert (usage.memory_usage, usage.memory_limit, usage.memory_max_usage) == (100, 0, 200)
    assert usage.memory_stats == {"anon": 4, "inactive_file": 9}
    assert (usage.pids, usage.pids_limit, usage.memory_failcnt) == (3, 10, 2)
    assert usage.block_bytes == ((8, 0, "read", 1), (8, 0, "write", 2), (8, 0, "discard", 0))
    assert cgroups.oom_kills("/p/c") == 1


def test_usage_of_a_container_that_is_gone_is_zero(tmp_path: Path) -> None:
    assert Cgroups(CgroupFacts(unified=tmp_path), "/p").usage("/p/none").cpu_total == 0


def test_processes_of_nested_groups_are_counted_and_the_groups_removed(tmp_path: Path) -> None:
    nested = tmp_path / "p/c/inner"
    nested.mkdir(parents=True)
    cgroups = Cgroups(CgroupFacts(unified=tmp_path), "/p")
    (tmp_path / "p/c/cgroup.procs").write_text("12\n")
    (nested / "cgroup.procs").write_text("7\n12\n")
    assert cgroups.processes("/p/c") == [7, 12]
    (tmp_path / "p/c/cgroup.procs").unlink()
    (nested / "cgroup.procs").unlink()
    assert cgroups.remove("/p/c")
    assert cgroups.remove("/p/c")
    cgroups.remove_parent()
    assert not (tmp_path / "p").exists()


def test_the_whole_machine_is_never_killed(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    Cgroups(CgroupFacts(unified=tmp_path), "/p").kill("/")
    assert os.getpid() > 0


def test_the_daemon_goes_back_from_the_monitors_to_the_root(tmp_path: Path) -> None:
    monitors = tmp_path / "p/monitors"
    monitors.mkdir(parents=True)
    (monitors / "cgroup.procs").write_text("7\n8\n")
    cgroups = Cgroups(CgroupFacts(unified=tmp_path), "/p")
    assert not cgroups.give_back(9)
    assert not (tmp_path / "cgroup.procs").exists()
    assert not cgroups.give_back(7)
    assert (tmp_path / "cgroup.procs").read_text() == "7"
