"""A machine of our own to test on: Debian with systemd and cgroup v2, emulated by qemu, without KVM and without network.

What is slow to make is kept in ``$XDG_CACHE_HOME/stackctl-guest``, by a digest of what it is made from: the system
(mmdebstrap, a few minutes) and the packages that stackctl depends on. stackctl itself is built anew each time and
comes on a second disk, with ``inside.py``, which runs there and writes a line of JSON for each test.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
PYTHON = "3.11"  # that of the suite
PACKAGES = (
    "linux-image-cloud-amd64",
    "systemd",
    "systemd-sysv",
    "dbus",
    "kmod",
    "procps",
    "runc",
    "conmon",
    "nftables",
    "iproute2",
    "tini",
    "python3",
    "ca-certificates",
    "golang-github-containers-common",
    "busybox-static",
)
NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "unshare": "util-linux",
}
PLACE = "/opt/payload"
UNIT = f"""
[Unit]
Description=The tests of this machine
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/mount /dev/vdb {PLACE}
ExecStart=/usr/bin/python3 {PLACE}/inside.py /dev/ttyS1
ExecStopPost=/bin/systemctl --no-block poweroff
TimeoutStartSec=infinity
[Install]
WantedBy=graphical.target
"""
HOOK = f"""
set -e
mkdir -p "$1{PLACE}"
cp guest-tests.service "$1/etc/systemd/system/"
ln -sf /dev/null "$1/etc/systemd/system/apt-daily.timer"
ln -sf /dev/null "$1/etc/systemd/system/apt-daily-upgrade.timer"
ln -sf /dev/null "$1/etc/systemd/system/e2scrub_reap.service"
chroot "$1" systemctl enable guest-tests.service
chroot "$1" systemctl set-default graphical.target
echo guest > "$1/etc/hostname"
printf '127.0.0.1 localhost guest\\n::1 localhost\\n' > "$1/etc/hosts"
printf 'nameserver 127.0.0.1\\n' > "$1/etc/resolv.conf"
"""


def lacking() -> list[str]:
    """Return the Debian packages without which there is no guest."""
    return [package for program, package in NEEDED.items() if shutil.which(program) is None]


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "stackctl-guest"


def system() -> Path:
    """Return the folder with the guest's disk, kernel and initial file system, made where they are missing."""
    digest = hashlib.sha256("\n".join((SUITE, *PACKAGES, UNIT, HOOK)).encode()).hexdigest()[:16]
    made = cache() / f"system-{digest}"
    if made.exists():
        return made
    with _scratch() as scratch:
        root = scratch / "root"
        (scratch / "guest-tests.service").write_text(UNIT)
        (scratch / "hook").write_text(f"#!/bin/sh\n{HOOK}")
        (scratch / "hook").chmod(0o755)
        # What it mounts (/proc, /sys, /dev) is seen by nobody else and goes with it, also when it is killed: the
        # folder may then be removed.
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        argv += ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
        for what in ("doc", "man", "locale"):
            argv.append(f"--dpkgopt=path-exclude=/usr/share/{what}/*")
        _run(*argv, f"--customize-hook={scratch}/hook", SUITE, str(root), cwd=scratch)
        out = scratch / "system"
        out.mkdir()
        for name in ("vmlinuz", "initrd.img"):
            shutil.copy(next((root / "boot").glob(f"{name}-*")), out / name)
        _disk(root, out / "disk.img", "3G")
        out.rename(made)
    return made


def packages() -> Path:
    """Return the folder with what stackctl depends on, as the guest's Python needs it."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()[:16]
    made = cache() / f"packages-{digest}"
    if made.exists():
        return made
    with _scratch() as scratch:
        (wheel,) = _wheel(scratch)
        _pip("install", "--target", str(scratch / "lib"), *_for_guest(), str(wheel), cwd=scratch)
        for left in ("stackctl", *(p.name for p in (scratch / "lib").glob("stackctl-*"))):
            shutil.rmtree(scratch / "lib" / left)
        (scratch / "lib").rename(made)
    return made


def payload(disk: Path) -> None:
    """Make the second disk: stackctl, installed from its wheel, and the tests."""
    with _scratch() as scratch:
        shutil.copytree(packages(), scratch / "payload" / "lib", symlinks=True)
        (wheel,) = _wheel(scratch)
        lib = scratch / "payload" / "lib"
        _pip("install", "--target", str(lib), "--no-deps", "--upgrade", str(wheel), cwd=scratch)
        for name in ("stackctl", "stackctld"):
            program = lib / "bin" / name
            _, _, rest = program.read_text().partition("\n")
            program.write_text(f"#!/usr/bin/python3\n{rest}")
        for part in ("tests/guest/inside.py", "tests/leaks.py"):
            shutil.copy(ROOT / part, scratch / "payload")
        shutil.copytree(ROOT / "examples" / "hello", scratch / "payload" / "hello")
        _disk(scratch / "payload", disk, "400M")


def boot(folder: Path, *, timeout: float) -> str:
    """Run the guest until it powers itself off; return what ``inside.py`` wrote. Raises RuntimeError."""
    made, extra = system(), folder / "payload.img"
    payload(extra)
    console, report = folder / "console.log", folder / "report.jsonl"
    # Timers are late under emulation, and a kernel that finds so at its start gives up.
    kernel = (
        "root=/dev/vda rw console=ttyS0 quiet mitigations=off net.ifnames=0 no_timer_check panic=-1"
    )
    argv = [
        "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max",
        "-smp", "2", "-m", "1536", "-nodefaults", "-display", "none", "-no-reboot",
        "-kernel", f"{made}/vmlinuz", "-initrd", f"{made}/initrd.img", "-append", kernel,
        "-drive", f"file={made}/disk.img,format=raw,if=virtio,snapshot=on",
        "-drive", f"file={extra},format=raw,if=virtio,snapshot=on",
        "-serial", f"file:{console}", "-serial", f"file:{report}",
    ]  # fmt: skip
    try:
        subprocess.run(argv, check=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        said = report.read_text() + "".join(console.read_text(errors="replace")[-3000:])
        raise RuntimeError(f"the guest did not end by itself: {error}\n{said}") from error
    return report.read_text()


def _scratch() -> tempfile.TemporaryDirectory:
    """A folder beside the cache, so that what is ready moves there in one step."""
    cache().mkdir(parents=True, exist_ok=True)

    class Folder(tempfile.TemporaryDirectory):
        def __enter__(self) -> Path:
            return Path(super().__enter__())

    return Folder(dir=cache(), prefix="making-", ignore_cleanup_errors=True)


def _wheel(folder: Path) -> list[Path]:
    _pip("wheel", "--no-deps", "--wheel-dir", str(folder / "wheel"), str(ROOT), cwd=folder)
    return list((folder / "wheel").glob("stackctl-*.whl"))


def _for_guest() -> list[str]:
    return ["--python-version", PYTHON, "--only-binary=:all:"]


def _disk(content: Path, image: Path, size: str) -> None:
    argv = ["-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0"]
    _run("mke2fs", *argv, "-d", str(content), str(image), size, cwd=content.parent)


def _pip(*argv: str, cwd: Path) -> None:
    quiet = ["--quiet", "--disable-pip-version-check"]
    _run(sys.executable, "-m", "pip", argv[0], *quiet, *argv[1:], cwd=cwd)


def _run(*argv: str, cwd: Path) -> None:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(argv[:4])} … exited {done.returncode}\n{done.stderr[-3000:]}"
        )
