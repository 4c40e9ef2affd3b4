"""Build, push and pull against a real registry, as docker compose's users type it."""

import json

import pytest

from tests.contracts.test_registry import LocalRegistry
from tests.system.typist import Typist

pytestmark = pytest.mark.root


@pytest.fixture
def registry(tmp_path):
    """Debian's docker-registry on a free port of the loopback address; yields host:port."""
    home = tmp_path / "registry"
    home.mkdir()
    local = LocalRegistry(home)
    yield local.host
    local.stop()


@pytest.fixture
def cli(engine, tmp_path, registry):
    """A stack of two built services, of which one depends on the other."""
    engine.import_busybox()
    (tmp_path / "Dockerfile").write_text(
        # The step differs from test to test, so that each makes its own layer.
        f"FROM busybox\nARG WORD=none\nRUN : {tmp_path.name}; dd if=/dev/urandom of=/blob bs=1M count=3; echo $WORD > /word\n"
    )
    (tmp_path / "stack.yaml").write_text(f"""
name: i
services:
  app:
    image: {registry}/i/app:1
    build: {{context: ., args: {{WORD: app}}}}
    command: [cat, /word]
    depends_on: [base]
  base:
    image: {registry}/i/base:1
    build: {{context: ., args: {{WORD: base}}}}
    command: [sleep, "1000"]
    stop_signal: SIGKILL
""")

    def type_(*argv, **options):
        return engine.stackctl(*argv, cwd=tmp_path, **options)

    type_.engine = engine
    type_.folder = tmp_path
    yield type_
    engine.stackctl("down", cwd=tmp_path, check=False)
    for name in ("app", "base"):
        engine.stackctl("image", "rm", f"{registry}/i/{name}:1", check=False)


def images(cli) -> set[str]:
    text = cli.engine.docker("images", "--format", "{{.Repository}}").stdout
    return {name.rpartition("/")[2] for name in text.split() if "/i/" in name}


def test_build_takes_dependencies_and_pushes_and_pull_brings_them_back(cli, registry):
    cli("build", "app")
    assert images(cli) == {"app"}
    cli("build", "--with-dependencies", "--push", "app")
    assert images(cli) == {"app", "base"}

    for name in ("app", "base"):
        cli("image", "rm", f"{registry}/i/{name}:1")
    cli("pull", "--include-deps", "app")
    assert images(cli) == {"app", "base"}
    assert cli("run", "--rm", "--no-deps", "app").stdout == "app\n"
    assert "pulled" not in cli("pull", "--policy", "missing").stderr


def test_push_goes_on_after_a_failure_where_told_to(cli, registry):
    cli("build", "app")
    failed = cli("push", "--include-deps", "app", check=False)
    assert failed.returncode == 1
    assert "base" in failed.stderr
    done = cli("push", "--include-deps", "--ignore-push-failures", "app")
    assert "cannot push" in done.stderr
    assert "pushed" in done.stderr


def test_the_terminal_shows_bytes_of_a_pull_and_steps_of_a_build(cli, registry):
    with Typist(["build", "app"], cwd=cli.folder, environ=cli.engine.environ) as terminal:
        terminal.see(rb"app: Step 3/\d+ : RUN : ")
        assert terminal.code() == 0
    cli("build", "--push", "--with-dependencies", "app")
    for name in ("app", "base"):
        cli("image", "rm", f"{registry}/i/{name}:1")
    file = cli.folder / "stack.yaml"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if "build:" not in line))
    lines = cli("--progress", "json", "up", "-d", "--pull", "always").stderr.splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    pulls = [event for event in events if event["id"].startswith("pull ") and "total" in event]
    assert any(event["current"] == event["total"] > 1_000_000 for event in pulls)

    cli("down")
    for name in ("app", "base"):
        cli("image", "rm", f"{registry}/i/{name}:1")
    quiet = cli("--progress", "json", "up", "-d", "--pull", "always", "--quiet-pull").stderr
    assert '"total"' not in quiet
