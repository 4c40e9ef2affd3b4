"""An image from a registry that the test starts: pushed by skopeo, pulled by ``up``, run by runc."""

import http.client
import http.server
import json
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.contracts.test_registry import LocalRegistry

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.root


@pytest.fixture
def registry(tmp_path):
    """Debian's docker-registry on a free port of the loopback address; yields host:port."""
    home = tmp_path / "registry"
    home.mkdir()
    local = LocalRegistry(home)
    yield local.host
    local.stop()


def push(engine, reference, folder):
    """Put busybox into a registry under a name, and out of the engine."""
    archive = folder / "image.tar"
    archive.unlink(missing_ok=True)
    engine.docker("tag", "busybox", reference)
    engine.docker("save", "-o", str(archive), reference)
    subprocess.run(
        [
            "skopeo",
            "copy",
            "--dest-tls-verify=false",
            f"docker-archive:{archive}",
            f"docker://{reference}",
        ],
        check=True,
        capture_output=True,
    )
    engine.stackctl("image", "rm", reference)


def test_up_pulls_what_it_runs_and_the_second_up_does_not(engine, tmp_path, registry):
    engine.import_busybox()
    reference = f"{registry}/team/tool:1"
    push(engine, reference, tmp_path)
    (tmp_path / "stack.yaml").write_text(
        f"name: pulled\nservices:\n  a: {{image: '{reference}', command: [sh, -c, 'echo pulled'], restart: 'no'}}\n"
    )
    done = engine.stackctl("up", "--no-log-prefix", cwd=tmp_path)
    assert "pulled\n" in done.stdout
    assert f"image {reference} pulled" in done.stderr
    plan = engine.stackctl("plan", cwd=tmp_path).stdout
    assert "pull image" not in plan
    engine.stackctl("down", "--rmi", "all", cwd=tmp_path)


class Gate(http.server.BaseHTTPRequestHandler):
    """Passes requests on to a registry; what concerns the image called slow waits until the gate is opened."""

    upstream = ""
    opened = threading.Event()
    waiting = threading.Event()

    def do_GET(self):
        if "/slow/" in self.path:
            self.waiting.set()
            self.opened.wait(120)
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        connection.request(
            self.command, self.path, headers={k: v for k, v in self.headers.items() if k != "Host"}
        )
        answer = connection.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(body)
        connection.close()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


def test_a_slow_pull_holds_back_only_those_who_need_it(engine, tmp_path, registry):
    engine.import_busybox()
    Gate.upstream = registry
    for name in ("slow", "fast"):
        push(engine, f"{registry}/{name}/tool:1", tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    sleeper = "command: [sleep, '1000'], stop_signal: SIGKILL"
    (tmp_path / "stack.yaml").write_text(
        "name: gated\nservices:\n"
        f"  a-slow: {{image: '{host}/slow/tool:1', {sleeper}}}\n"
        f"  b-fast: {{image: '{host}/fast/tool:1', {sleeper}, volumes: ['data:/data']}}\n"
        f"  c-after-fast: {{image: busybox, {sleeper}, depends_on: [b-fast]}}\n"
        f"  d-after-slow: {{image: busybox, {sleeper}, depends_on: [a-slow]}}\n"
        "volumes: {data: {}}\n"
    )

    def running() -> set[str]:
        listed = engine.stackctl("-p", "gated", "ps", "--format", "json").stdout.splitlines()
        return {json.loads(line)["Service"] for line in listed}

    up = subprocess.Popen(
        [*engine.argv, "up", "-d"],
        cwd=tmp_path,
        env={**engine.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert Gate.waiting.wait(60)
        deadline = time.monotonic() + 60
        while running() != {"b-fast", "c-after-fast"}:
            assert time.monotonic() < deadline, running()
            time.sleep(0.1)
        assert up.poll() is None
        Gate.opened.set()
        _, errors = up.communicate(timeout=60)
        assert up.returncode == 0, errors
        assert running() == {"a-slow", "b-fast", "c-after-fast", "d-after-slow"}
    finally:
        Gate.opened.set()
        up.kill()
        up.communicate()
        server.shutdown()
        server.server_close()
        engine.stackctl("-p", "gated", "down", "-v", "--rmi", "all", check=False)


def test_an_image_that_fails_leaves_a_state_that_up_and_down_go_on_from(engine, tmp_path, registry):
    engine.import_busybox()
    sleeper = "command: [sleep, '1000'], stop_signal: SIGKILL"
    text = (
        "name: failing\nservices:\n"
        f"  base: {{image: busybox, {sleeper}, networks: [net]}}\n"
        f"  broken: {{image: '{registry}/not/there:1', {sleeper}, depends_on: [base], networks: [net]}}\n"
        f'  built: {{build: {{context: ., dockerfile_inline: "FROM busybox\\nRUN exit 3\\n"}}, {sleeper}}}\n'
        "networks: {net: {}}\n"
    )
    file = tmp_path / "stack.yaml"

    def up(**options):
        return engine.stackctl("up", "-d", cwd=tmp_path, **options)

    for _ in range(2):
        file.write_text(text)
        done = up(check=False)
        assert done.returncode == 1
        assert "broken" in done.stderr or "built" in done.stderr
        assert "Traceback" not in done.stderr
        file.write_text(
            text.replace(f"{registry}/not/there:1", "busybox").replace("exit 3", "true")
        )
        up()
        assert "Nothing to do" in engine.stackctl("plan", cwd=tmp_path).stdout
        engine.stackctl("down", "--rmi", "local", cwd=tmp_path)
        assert engine.docker("ps", "-aq").stdout == ""
        assert "failing_" not in engine.docker("network", "ls").stdout
    file.write_text(text)
    assert up(check=False).returncode == 1
    engine.stackctl("down", cwd=tmp_path)
    assert engine.docker("ps", "-aq").stdout == ""


def test_a_timed_pull_policy_counts_from_the_last_pull(engine, tmp_path, registry):
    engine.import_busybox()
    reference = f"{registry}/timed/tool:1"
    push(engine, reference, tmp_path)
    file = tmp_path / "stack.yaml"

    def policy(words: str) -> None:
        file.write_text(
            f"name: timed\nservices:\n  a: {{image: '{reference}', command: [sleep, '1000'],"
            f" stop_signal: SIGKILL, {words}}}\n"
        )

    def stackctl(*argv):
        return engine.stackctl(*argv, cwd=tmp_path)

    def container() -> str:
        return stackctl("ps", "-q", "--no-trunc").stdout.strip()

    policy("pull_policy: daily")
    try:
        stackctl("up", "-d")
        first = container()
        assert "Nothing to do" in stackctl("plan").stdout
        policy("pull_policy: every_1s")
        time.sleep(1.1)
        plan = stackctl("plan").stdout
        assert f"pull image {reference}: pull policy is every_1s, and it was last pulled" in plan
        assert "(if the image changes)" in plan
        stackctl("up", "-d")
        assert container() == first
        policy("pull_policy: weekly")  # and it was looked for just now
        assert "Nothing to do" in stackctl("plan").stdout
        engine.docker("commit", first, "changed")
        engine.docker("tag", reference, "kept")
        changed = tmp_path / "changed.tar"
        engine.docker("save", "-o", str(changed), "changed")
        subprocess.run(
            ["skopeo", "copy", "--dest-tls-verify=false", f"docker-archive:{changed}", f"docker://{reference}"],
            check=True, capture_output=True,
        )  # fmt: skip
        policy("pull_policy: refresh, pull_refresh_after: 1s")
        time.sleep(1.1)
        stackctl("up", "-d")
        assert container() != first
    finally:
        stackctl("down", "--rmi", "all", "-t", "0")


def test_names_as_old_compose_versions_had_them_and_no_limit_of_operations(engine, tmp_path):
    engine.import_busybox()
    (tmp_path / "stack.yaml").write_text(
        "name: old\nservices:\n  a: {image: busybox, command: [sleep, '1000'], stop_signal: SIGKILL, scale: 2}\n"
    )

    def stackctl(*argv, **options):
        return engine.stackctl(*argv, cwd=tmp_path, **options)

    try:
        stackctl("--compatibility", "--parallel", "-1", "up", "-d")
        names = engine.docker("ps", "--format", "{{.Names}}").stdout.split()
        assert sorted(names) == ["old_a_1", "old_a_2"]
        environ = {"COMPOSE_COMPATIBILITY": "1"}
        assert "Nothing to do" in stackctl("plan", environ=environ).stdout
        done = stackctl("ps", environ={"COMPOSE_PARALLEL_LIMIT": "many"}, check=False)
        assert done.returncode == 2
        assert "COMPOSE_PARALLEL_LIMIT" in done.stderr
    finally:
        stackctl("down")
