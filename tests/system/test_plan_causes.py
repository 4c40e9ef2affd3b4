"""`stackctl plan` on examples/webapp says why, whichever way the world or the file changed."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from tests.peers import EVERY_ENGINE

pytestmark = [
    pytest.mark.root,
    # Podman has no probes without systemd, and the application's services wait for each other's health.
    pytest.mark.parametrize("any_engine", EVERY_ENGINE[:2], indirect=True),
]

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("db", "cache", "app", "web")
SCHEMA = json.loads((ROOT / "schemas" / "plan.schema.json").read_text())
# Stand-ins: what a plan is about is the containers, not what runs in them.
OVERRIDE = "services:\n" + "".join(
    f"  {name}:\n    entrypoint: [sleep, '1000']\n    stop_signal: SIGKILL\n"
    f"    healthcheck: {{test: [CMD, 'true'], interval: 1s, start_interval: 200ms}}\n"
    for name in SERVICES
)


@pytest.fixture(scope="module")
def webapp(any_engine, tmp_path_factory):
    """The example, up and running."""
    folder = tmp_path_factory.mktemp("causes") / "webapp"
    shutil.copytree(ROOT / "examples" / "webapp", folder)
    (folder / "stack.override.yaml").write_text(OVERRIDE)
    for name in SERVICES:
        any_engine.import_busybox(f"webapp-{name}")
    made = Webapp(any_engine, folder)
    made("up", "-d")
    yield made
    made("down", "-v", "-t", "0", "--remove-orphans")


class Webapp:
    def __init__(self, engine, folder):
        self.engine, self.folder = engine, folder

    def __call__(self, *argv, **options):
        return self.engine.stackctl(*argv, cwd=self.folder, environ={"WEBAPP_PORT": "0"}, **options)

    def planned(self, *said: str, services: set[str]) -> None:
        """The plan has changes, says why, concerns these services, and its JSON form is as documented."""
        plan = self("plan", "--detailed-exitcode", check=False)
        assert plan.returncode == 2, plan.stdout + plan.stderr
        assert "hunter2" not in plan.stdout
        for words in said:
            assert words in plan.stdout, plan.stdout
        body = json.loads(self("plan", "--format", "json").stdout)
        jsonschema.validate(body, SCHEMA)
        touched = {op["service"] for op in body["operations"] if op["service"]}
        waits = {op["service"] for op in body["operations"] if op["verb"] == "wait"}
        assert touched - waits == services - waits, plan.stdout


FILE_CHANGES = [
    ("app.env", "Hello from stackctl", "Good day", ["environment.", '"Good day'], {"app"}),
    ("stack.yaml", "CACHE_HOST: cache", "CACHE_HOST: other",
     ['environment.CACHE_HOST: "cache" -> "other"'], {"app"}),
    ("stack.yaml", "CACHE_HOST: cache", "CACHE_HOST: cache\n      API_TOKEN: hunter2",
     ["environment.API_TOKEN: (none) -> (secret"], {"app"}),
    ("stack.yaml", ":80\"", ":81\"", ["ports"], {"web"}),
    ("stack.yaml", "shm_size: 128m", "shm_size: 64m", ["shm_size: "], {"db"}),
    ("stack.yaml", "    networks: [back]\n    healthcheck:\n      test: [CMD, redis",
     "    networks: [back, front]\n    healthcheck:\n      test: [CMD, redis",
     ["networks.webapp_front"], {"cache"}),
    ("stack.override.yaml", "interval: 1s", "interval: 2s", ["healthcheck.interval"], {*SERVICES}),
    ("stack.yaml", "internal: true", "internal: false",
     ["network webapp_back", "definition changed", "internal: true -> (none)"], {"db", "cache", "app"}),
    ("stack.yaml", "  db-data:\n", "  db-data: {labels: {kept: 'no'}}\n",
     ["volume webapp_db-data", "its data is lost", "removes volumes and the data"], {"db"}),
    ("db_password.txt", "", "another", ["secrets.db_password.content: (secret"], {"db", "app"}),
    ("stack.yaml", "\nnetworks:\n  front:", "\n  extra: {image: webapp-web, networks: [front]}\n\nnetworks:\n  front:",
     ["create container webapp-extra-1: not there"], {"extra"}),
    ("stack.yaml", "    build: ./cache\n", "    build: ./cache\n    scale: 2\n",
     ["create container webapp-cache-2: not there"], {"cache"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "before", "after", "said", "services"),
    FILE_CHANGES,
    ids=[f"{number}-{item[3][-1][:24]}" for number, item in enumerate(FILE_CHANGES)],
)
def test_a_change_of_a_file_is_the_cause(webapp, file, before, after, said, services):
    path = webapp.folder / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after) if before else after)
    try:
        webapp.planned(*said, services=services)
    finally:
        path.write_text(text)


def test_what_happened_behind_our_back_is_the_cause(webapp):
    docker = webapp.engine.docker
    docker("kill", "webapp-cache-1")
    webapp.planned("start container webapp-cache-1: not running", services={"cache"})
    docker("rm", "-f", "webapp-web-1")
    webapp.planned("create container webapp-web-1: not there", services={"cache", "web"})
    webapp("up", "-d")
    docker("network", "disconnect", "webapp_front", "webapp-app-1")
    webapp.planned(
        "connect container webapp-app-1 to webapp_front: was disconnected", services={"app"}
    )
    webapp("up", "-d")
    docker("pause", "webapp-web-1")
    webapp.planned("unpause container webapp-web-1: was paused", services={"web"})
    webapp("up", "-d")
    docker("commit", "webapp-web-1", "webapp-web")
    webapp.planned("recreate container webapp-web-1: image changed", "image ID:", services={"web"})
    webapp("up", "-d", "-t", "0")
    assert "Nothing to do" in webapp("plan").stdout


def test_a_service_that_left_the_file_and_the_whole_stack_s_end(webapp):
    path = webapp.folder / "stack.yaml"
    text, over = path.read_text(), webapp.folder / "stack.override.yaml"
    start, end = text.index("  web:\n"), text.index("networks:\n  front:")
    path.write_text(text[:start] + text[end:])
    over.write_text(OVERRIDE.split("  web:")[0])
    try:
        assert "Not in the stack file: webapp-web-1" in webapp("plan").stdout
        plan = webapp("plan", "--remove-orphans").stdout
        assert "remove container webapp-web-1: its service is no longer in the stack file" in plan
    finally:
        path.write_text(text)
        over.write_text(OVERRIDE)
    body = json.loads(webapp("plan", "--destroy", "-v", "--format", "json").stdout)
    jsonschema.validate(body, SCHEMA)
    assert body["destroys_data"]
    removed = {(op["kind"], op["name"]) for op in body["operations"] if op["verb"] == "remove"}
    assert removed == {
        *(("container", f"webapp-{name}-1") for name in SERVICES),
        ("network", "webapp_front"), ("network", "webapp_back"), ("volume", "webapp_db-data"),
    }  # fmt: skip
    plain = webapp("plan", "--destroy", "--detailed-exitcode", check=False)
    assert plain.returncode == 2
    assert "volume" not in plain.stdout
    assert "Nothing to do" in webapp("plan").stdout
