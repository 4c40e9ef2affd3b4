"""Bad input gets one clear message and exit code 1; nothing half made stays behind."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import free_port

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fails(engine, tmp_path):
    """Run a command that must fail; return what it said."""
    engine.import_busybox()

    def run(
        *argv: str, stack: str | None = None, code: int = 1, environ: dict[str, str] | None = None
    ) -> str:
        if stack is not None:
            (tmp_path / "stack.yaml").write_text(stack)
        done = engine.stackctl(*argv, cwd=tmp_path, check=False, environ=environ)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.strip()
        return done.stderr

    run.folder = tmp_path
    yield run
    engine.stackctl("-p", "bad", "down", "-v", cwd=tmp_path)
    assert engine.docker("ps", "-aq").stdout == ""


def test_no_stack_file(fails):
    assert "stack.yaml" in fails("up", "-d")
    assert "missing.yaml" in fails("-f", "missing.yaml", "up", "-d")


def test_not_yaml(fails):
    assert "stack.yaml:3:1: not valid YAML" in fails("up", "-d", stack="services:\n  a: [\n")


def test_wrong_types_and_unknown_keys_all_at_once_with_their_place(fails):
    said = fails(
        "up",
        "-d",
        stack="name: bad\nservices:\n  web:\n    imagee: busybox\n    ports: yes please\n",
    )
    assert "stack.yaml:4:5" in said
    assert '"image"' in said
    assert "stack.yaml:5:" in said


def test_an_undefined_network(fails):
    said = fails(
        "up", "-d", stack="name: bad\nservices:\n  a:\n    image: busybox\n    networks: [nope]\n"
    )
    assert "stack.yaml:5:" in said
    assert "nope" in said


def test_a_dependency_cycle(fails):
    said = fails(
        "up",
        "-d",
        stack="name: bad\nservices:\n  a: {image: busybox, depends_on: [b]}\n  b: {image: busybox, depends_on: [a]}\n",
    )
    assert "a" in said
    assert "cycle" in said


def test_a_taken_port_says_by_whom(fails):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        said = fails(
            "up",
            "-d",
            stack=f'name: bad\nservices:\n  a: {{image: busybox, command: [sleep, "9"], ports: ["{port}:80"]}}\n',
        )
    assert str(port) in said
    assert f"{os.getpid()}" in said


def test_a_port_that_a_container_has_says_which(fails, engine):
    port = free_port()
    stack = f'{{image: busybox, command: [sleep, "900"], init: true, ports: ["{port}:80"]}}'
    other = fails.folder / "other.yaml"
    other.write_text(f"name: other\nservices:\n  web: {stack}\n")
    engine.stackctl("-f", str(other), "up", "-d")
    said = fails("up", "-d", stack=f"name: bad\nservices:\n  a: {stack}\n")
    assert f":{port} failed: port is already allocated (held by container other-web-1)" in said
    engine.stackctl("-f", str(other), "down")


def test_an_image_that_cannot_be_found_says_where_it_was_looked_for(fails):
    said = fails("up", "-d", stack="name: bad\nservices:\n  a: {image: 127.0.0.1:9/no/such}\n")
    assert "127.0.0.1:9" in said
    assert "no/such" in said


def test_a_command_that_is_not_in_the_image(fails, engine):
    said = fails(
        "up", "-d", stack="name: bad\nservices:\n  a: {image: busybox, command: [nosuch]}\n"
    )
    assert "nosuch" in said
    assert "not found" in said


def test_wrong_usage_exits_2_and_under_detailed_exitcode_1(fails):
    assert "did you mean" in fails("upp", code=2)
    assert "--nope" in fails("up", "--nope", code=2)
    fails("plan", "--detailed-exitcode", "--nope", code=1)


def test_no_permission_on_the_socket(fails, engine):
    engine.start()
    engine.home.chmod(0o755)
    engine.paths.run_root.chmod(0o755)
    code = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "os.chdir('/'); sys.argv = ['stackctl', '-p', 'x', 'ps'];"
        "from stackctl.cli.main import main; main()"
    )
    done = subprocess.run(
        [_python_for_all(), "-c", code],
        env={**engine.environ, "PYTHONPATH": _packages_for_all(engine.home), "HOME": "/"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "permission" in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_not_root_and_no_engine_names_both_ways_out(engine):
    code = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "os.chdir('/'); sys.argv = ['stackctl', '-p', 'x', 'ps'];"
        "from stackctl.cli.main import main; main()"
    )
    engine.home.chmod(0o755)
    done = subprocess.run(
        [_python_for_all(), "-c", code],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/",
            "PYTHONPATH": _packages_for_all(engine.home),
            "XDG_RUNTIME_DIR": "/nonexistent",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "sudo stackctl engine start" in done.stderr
    assert "--engine docker" in done.stderr


def test_a_missing_runc_is_named_with_the_command_that_installs_it(engine, tmp_path):
    empty = tmp_path / "bin"
    empty.mkdir()
    environ = {
        "PATH": str(empty),
        "STACKCTL_RUN_ROOT": str(engine.home / "run2"),
        "STACKCTL_DATA_ROOT": str(engine.home / "data2"),
    }
    done = engine.stackctl("engine", "check", "--format", "json", check=False, environ=environ)
    assert done.returncode == 1
    checks = {row["name"]: row for row in json.loads(done.stdout)}
    assert checks["runc"]["state"] == "missing"
    assert "apt-get install" in checks["runc"]["mend"]


def test_up_without_runc_says_so_and_leaves_nothing(engine, tmp_path):
    bare = tmp_path / "bin"
    bare.mkdir()
    for program in ("conmon", "nft", "sh"):
        (bare / program).symlink_to(shutil.which(program))
    home = engine.home / "norunc"
    environ = {
        "PATH": str(bare),
        "STACKCTL_RUN_ROOT": str(home / "run"),
        "STACKCTL_DATA_ROOT": str(home / "data"),
    }
    (tmp_path / "stack.yaml").write_text(
        'name: bare\nservices:\n  a:\n    build: {context: ., dockerfile_inline: "FROM scratch\\nCOPY stack.yaml /x"}\n    command: [/x]\n'
    )
    done = engine.stackctl("up", "-d", cwd=tmp_path, check=False, environ=environ)
    assert done.returncode == 1
    assert "runc is not installed" in done.stderr
    assert "apt install runc" in done.stderr
    rows = engine.stackctl("ps", "-a", "--format", "json", cwd=tmp_path, environ=environ).stdout
    assert rows == ""
    engine.stackctl("down", cwd=tmp_path, environ=environ)
    engine.stackctl("engine", "stop", environ=environ)


def test_a_full_disk_is_named_and_nothing_half_made_stays(engine, tmp_path):
    data = engine.home / "full"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", data], check=True)
    environ = {"STACKCTL_RUN_ROOT": str(engine.home / "fullrun"), "STACKCTL_DATA_ROOT": str(data)}
    try:
        (tmp_path / "blob").write_bytes(os.urandom(30 << 20))
        (tmp_path / "stack.yaml").write_text(
            'name: full\nservices:\n  a:\n    build: {context: ., dockerfile_inline: "FROM scratch\\nCOPY blob /blob"}\n    command: [/blob]\n'
        )
        done = engine.stackctl("up", "-d", cwd=tmp_path, check=False, environ=environ)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "image prune" in done.stderr
        assert engine.stackctl("image", "ls", "--format", "json", environ=environ).stdout == ""
        assert not [
            path for path in data.rglob("*") if path.is_file() and path.stat().st_size > 100_000
        ]
        engine.stackctl("down", cwd=tmp_path, environ=environ)
        engine.stackctl("engine", "stop", environ=environ)
    finally:
        subprocess.run(["umount", "-l", data], check=True)


def _python_for_all() -> str:
    """Return an interpreter that another user may run: the one of this environment is under /root at times."""
    real = Path(sys.executable).resolve()
    return (
        str(real)
        if not str(real).startswith("/root")
        else shutil.which("python3", path="/usr/bin") or str(real)
    )


def _packages_for_all(home: Path) -> str:
    """Copy the program and what it imports to where every user may read it; return the search path."""
    target = home / "packages"
    if not target.exists():
        shutil.copytree(ROOT / "stackctl", target / "stackctl")
        shutil.copytree(ROOT / "schemas", target / "stackctl" / "_schemas")
        site = Path(shutil.__file__).parent / "site-packages"
        for path in [*sys.path, str(site)]:
            for name in (
                "typer",
                "click",
                "yaml",
                "typing_extensions.py",
                "shellingham",
                "rich",
                "annotated_doc",
                "pygments",
                "markdown_it",
                "mdurl",
                "_yaml",
            ):
                source = Path(path) / name
                if (
                    path.endswith("site-packages")
                    and source.exists()
                    and not (target / name).exists()
                ):
                    (shutil.copytree if source.is_dir() else shutil.copy)(source, target / name)
    return str(target)
