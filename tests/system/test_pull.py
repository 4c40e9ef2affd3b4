"""An image from a registry that the test starts: pushed by skopeo, pulled by ``up``, run by runc."""

import shutil
import socket
import subprocess
import time

import pytest

pytestmark = pytest.mark.root


@pytest.fixture
def registry(tmp_path):
    """Debian's docker-registry on a free port of the loopback address; yields host:port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = tmp_path / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    server = subprocess.Popen(
        [shutil.which("docker-registry"), "serve", config],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def test_up_pulls_what_it_runs_and_the_second_up_does_not(engine, tmp_path, registry):
    engine.import_busybox()
    reference = f"{registry}/team/tool:1"
    archive = tmp_path / "image.tar"
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
    (tmp_path / "stack.yaml").write_text(
        f"name: pulled\nservices:\n  a: {{image: '{reference}', command: [sh, -c, 'echo pulled'], restart: 'no'}}\n"
    )
    done = engine.stackctl("up", "--no-log-prefix", cwd=tmp_path)
    assert "pulled\n" in done.stdout
    assert f"image {reference} pulled" in done.stderr
    plan = engine.stackctl("plan", cwd=tmp_path).stdout
    assert "pull image" not in plan
    engine.stackctl("down", "--rmi", "all", cwd=tmp_path)
