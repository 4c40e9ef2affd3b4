"""What runs inside the guest, with Python alone: each test writes a line of JSON to the place named first.

The order counts: the engine is brought up under systemd, used, and taken away.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
import traceback
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
LIB = HERE / "lib"
HELLO = HERE / "hello"
SOCKET = "/run/stackctl/engine.sock"
CGROUPS = Path("/sys/fs/cgroup")
os.environ["PATH"] = f"{LIB}/bin:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"
os.environ["PYTHONPATH"] = str(LIB)
os.environ["HOME"] = "/root"
sys.path[:0] = [str(LIB), str(HERE)]


def sh(*argv: str, code: int | None = 0, cwd: Path = Path("/root"), timeout: float = 300) -> str:
    """Run a program; its output, both streams of it."""
    done = subprocess.run(
        argv,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if code is not None and done.returncode != code:
        raise AssertionError(f"{' '.join(argv)} exited {done.returncode}:\n{done.stdout}")
    return done.stdout


def engine():
    import docker

    return docker.DockerClient(base_url=f"unix://{SOCKET}", timeout=300)


def until(check, seconds: float = 120):
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "it did not become so"
        time.sleep(0.2)
    return found


def unit(name: str, what: str) -> str:
    return sh("systemctl", "show", "-P", what, name).strip()


@contextlib.contextmanager
def container(*command: str, **options):
    one = engine().containers.run("busybox", list(command), detach=True, **options)
    try:
        yield one
    finally:
        one.remove(force=True)


def inside(one, path: str) -> str:
    done = one.exec_run(["cat", path])
    assert done.exit_code == 0, done.output
    return done.output.decode().strip()


def pid_of(one) -> int:
    one.reload()
    return one.attrs["State"]["Pid"]


def busybox() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("bin", "tmp", "proc", "sys", "dev", "etc"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        tar.add("/bin/busybox", "bin/busybox")
        for name in sh("/bin/busybox", "--list").split():
            if name != "busybox":
                member = tarfile.TarInfo(f"bin/{name}")
                member.type, member.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(member)
    return out.getvalue()


# The machine


def test_the_machine_has_systemd_and_cgroup_v2_alone():
    assert sh("stat", "-f", "-c", "%T", str(CGROUPS)).strip() == "cgroup2fs"
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    assert {"cpu", "memory", "pids", "io"} <= set(
        (CGROUPS / "cgroup.controllers").read_text().split()
    )


def test_engine_check_finds_all_that_is_needed():
    sh("stackctl", "engine", "check")


# systemd


def test_the_units_are_well_formed_and_the_socket_starts_the_engine():
    sh("stackctl", "engine", "install-units")
    said = sh("systemd-analyze", "verify", "/etc/systemd/system/stackctl.service", code=None)
    assert "stackctl" not in said, said
    dropin = Path("/etc/systemd/system/stackctl.service.d/guest.conf")
    dropin.parent.mkdir()
    dropin.write_text(f"[Service]\nEnvironment=PYTHONPATH={LIB}\nTimeoutStartSec=300\n")
    sh("systemctl", "daemon-reload")
    sh("systemctl", "enable", "--now", "stackctl.socket")
    assert unit("stackctl.service", "ActiveState") == "inactive"
    assert engine().ping()
    assert unit("stackctl.service", "ActiveState") == "active"
    status = json.loads(sh("stackctl", "engine", "status", "--format", "json"))
    assert str(status["pid"]) == unit("stackctl.service", "MainPID")


def test_the_engine_knows_that_it_is_on_cgroup_v2():
    info = engine().info()
    assert info["CgroupVersion"] == "2"
    assert info["MemoryLimit"]
    assert info["PidsLimit"]


def test_an_image_is_made_of_an_archive():
    Path("/root/busybox.tar").write_bytes(busybox())
    sh("stackctl", "image", "import", "/root/busybox.tar", "busybox")


# Limits


def test_limits_are_those_of_the_containers_own_cgroup():
    options = {
        "mem_limit": "64m",
        "memswap_limit": "96m",
        "mem_reservation": "32m",
        "nano_cpus": 250_000_000,
        "cpu_shares": 512,
        "pids_limit": 33,
        "cpuset_cpus": "1",
    }
    with container("sleep", "1000", **options) as one:
        seen = {
            name: inside(one, f"/sys/fs/cgroup/{name}")
            for name in (
                "memory.max",
                "memory.swap.max",
                "memory.low",
                "cpu.max",
                "pids.max",
                "cpuset.cpus",
            )
        }
        assert seen == {
            "memory.max": str(64 << 20),
            "memory.swap.max": str(32 << 20),
            "memory.low": str(32 << 20),
            "cpu.max": "25000 100000",
            "pids.max": "33",
            "cpuset.cpus": "1",
        }
        where = Path(f"/proc/{pid_of(one)}/cgroup").read_text()
        assert where.startswith("0::/stackctl/"), where
        assert inside(one, "/proc/self/cgroup") == "0::/"
        weight = inside(one, "/sys/fs/cgroup/cpu.weight")
        one.update(mem_limit="80m", memswap_limit="120m", cpu_shares=2048)
        assert inside(one, "/sys/fs/cgroup/memory.max") == str(80 << 20)
        assert inside(one, "/sys/fs/cgroup/memory.swap.max") == str(40 << 20)
        assert int(inside(one, "/sys/fs/cgroup/cpu.weight")) > int(weight)


def test_who_takes_too_much_memory_is_killed_and_that_is_told():
    with container("tail", "/dev/zero", mem_limit="24m", memswap_limit="24m") as one:
        assert one.wait(timeout=300)["StatusCode"] == 137
        one.reload()
        assert one.attrs["State"]["OOMKilled"] is True
    with container("sh", "-c", "exit 3", mem_limit="24m") as one:
        assert one.wait(timeout=300)["StatusCode"] == 3
        one.reload()
        assert one.attrs["State"]["OOMKilled"] is False


def test_no_more_processes_than_allowed():
    script = "(for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done); while :; do :; done"
    with container("sh", "-c", script, pids_limit=6) as one:
        until(lambda: b"fork" in one.logs())
        assert one.stats(stream=False)["pids_stats"]["limit"] == 6


def test_cpu_time_is_limited_and_told():
    with container("sh", "-c", "while :; do :; done", nano_cpus=200_000_000) as one:
        before = one.stats(stream=False)
        time.sleep(5)
        after = one.stats(stream=False)
        used = after["cpu_stats"]["cpu_usage"]["total_usage"]
        used -= before["cpu_stats"]["cpu_usage"]["total_usage"]
        assert 0 < used < 0.5 * (time_of(after) - time_of(before)) * 1e9
        assert after["cpu_stats"]["throttling_data"]["throttled_periods"] > 0
        assert after["cpu_stats"]["online_cpus"] == 2


def time_of(stats: dict) -> float:
    from datetime import datetime

    return datetime.fromisoformat(stats["read"][:26]).timestamp()


def test_stats_tell_of_memory_processes_and_traffic():
    with container("sh", "-c", "sleep 1000", mem_limit="64m") as one:
        stats = one.stats(stream=False)
        assert 0 < stats["memory_stats"]["usage"] < stats["memory_stats"]["limit"] == 64 << 20
        assert "inactive_file" in stats["memory_stats"]["stats"]
        assert stats["pids_stats"]["current"] >= 1
        assert stats["networks"]
        assert "io_service_bytes_recursive" in stats["blkio_stats"]


def test_a_paused_container_stands_still():
    with container("sh", "-c", "while :; do date +%s%N > /tmp/now; done") as one:
        until(lambda: one.exec_run(["test", "-s", "/tmp/now"]).exit_code == 0)
        one.pause()
        now = Path(f"/proc/{pid_of(one)}/root/tmp/now")
        assert one.attrs["State"]["Status"] == "paused"
        seen = now.read_text()
        time.sleep(1)
        assert now.read_text() == seen
        one.unpause()
        until(lambda: now.read_text() not in (seen, ""))


# A stack, and the daemon's life under systemd


def test_the_hello_stack_comes_up_is_served_and_needs_nothing_more():
    sh("stackctl", "up", "-d", "--wait", cwd=HELLO)
    with urllib.request.urlopen("http://127.0.0.1:8000/", timeout=60) as answer:
        assert answer.status == 200
    (line,) = sh("stackctl", "ps", "--format", "json", cwd=HELLO).splitlines()
    assert json.loads(line)["Health"] == "healthy"
    assert "Hello from a stack." in sh("stackctl", "run", "--rm", "greeter", cwd=HELLO)
    assert "nothing to do" in sh("stackctl", "up", "-d", cwd=HELLO)


def test_containers_outlive_the_restart_the_death_and_the_stop_of_the_unit():
    one = engine().containers.get("hello-web-1")
    first = pid_of(one)
    sh("systemctl", "restart", "stackctl.service")
    assert pid_of(engine().containers.get("hello-web-1")) == first
    main = unit("stackctl.service", "MainPID")
    sh("systemctl", "kill", "--kill-who=main", "-s", "KILL", "stackctl.service")
    until(lambda: unit("stackctl.service", "MainPID") not in ("0", main))
    one = until(lambda: alive("hello-web-1"))
    assert pid_of(one) == first
    assert one.exec_run(["/bin/busybox", "true"]).exit_code == 0
    sh("systemctl", "stop", "stackctl.service", "stackctl.socket")
    assert Path(f"/proc/{first}").exists()
    with urllib.request.urlopen("http://127.0.0.1:8000/", timeout=60) as answer:
        assert answer.status == 200
    sh("systemctl", "start", "stackctl.socket")
    assert pid_of(engine().containers.get("hello-web-1")) == first


def alive(name: str):
    import docker

    try:
        return engine().containers.get(name)
    except (docker.errors.DockerException, OSError):
        return None


def test_the_journal_has_what_the_daemon_says():
    said = sh("journalctl", "--no-pager", "-u", "stackctl.service")
    assert "stackctld" in said


def test_the_journal_takes_containers_logs_and_so_does_its_syslog_socket():
    import docker

    assert {"journald", "syslog"} <= set(engine().info()["Plugins"]["Log"])
    fields = {"journald": "CONTAINER_NAME=journalled", "syslog": "SYSLOG_IDENTIFIER=syslogged"}
    for driver, name in (("journald", "journalled"), ("syslog", "syslogged")):
        config = docker.types.LogConfig(type=driver, config={"tag": name})
        with container("echo", f"said by {driver}", name=name, log_config=config) as one:
            one.wait()
            read = ("journalctl", "--no-pager", "-o", "cat", fields[driver])
            until(lambda read=read, driver=driver: f"said by {driver}" in sh(*read))
            assert one.logs() == f"said by {driver}\n".encode()


def test_down_leaves_the_engine_empty():
    sh("stackctl", "down", cwd=HELLO)
    assert engine().containers.list(all=True) == []
    assert {one.name for one in engine().networks.list()} == {"bridge", "host", "none"}


def test_an_engine_started_by_hand_outlives_the_scope_it_was_started_in():
    sh("systemctl", "disable", "--now", "stackctl.socket", "stackctl.service")
    scope = ("systemd-run", "--scope", "--quiet", "--unit=caller")
    holding = subprocess.Popen([*scope, "sh", "-c", "stackctl up -d && exec sleep 1000"], cwd=HELLO)
    one = until(lambda: Path(SOCKET).exists() and alive("hello-web-1"))
    until(lambda: pid_of(one) > 0)
    first = pid_of(one)
    until(lambda: b"sleep" in Path(f"/proc/{holding.pid}/cmdline").read_bytes())
    sh("systemctl", "stop", "caller.scope")
    holding.wait()
    assert Path(f"/proc/{first}").exists()
    assert pid_of(engine().containers.get("hello-web-1")) == first
    sh("stackctl", "down", cwd=HELLO)


def test_nothing_is_left_behind():
    from leaks import leftovers

    from stackctl.paths import engine_paths

    sh("stackctl", "engine", "stop", "--remove-all")
    paths = engine_paths({}, uid=0)
    end = time.monotonic() + 60
    while (left := leftovers(paths)) and time.monotonic() < end:
        time.sleep(0.5)
    assert not left, left


def main() -> None:
    tests = [(name, thing) for name, thing in globals().items() if name.startswith("test_")]
    with open(sys.argv[1], "w", buffering=1) as report:
        for name, test in tests:
            begun, why = time.monotonic(), ""
            try:
                test()
            except BaseException:  # noqa: BLE001 - it is told, and the next one goes on
                why = traceback.format_exc(limit=-4)
                if unit("stackctl.service", "ActiveState") == "failed":
                    why += sh("journalctl", "--no-pager", "-n", "40", "-u", "stackctl", code=None)
            spent = round(time.monotonic() - begun, 1)
            report.write(json.dumps({"test": name, "why": why, "seconds": spent}) + "\n")
        report.write(json.dumps({"end": True}) + "\n")


if __name__ == "__main__":
    main()
