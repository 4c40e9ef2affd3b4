"""What a project's tests do with testcontainers; a program of its own, since it reads its settings when imported."""

import sys
import time
import urllib.request
from pathlib import Path

from testcontainers.compose import DockerCompose
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import (
    CompositeWaitStrategy,
    ExecWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    PortWaitStrategy,
)

SERVE = "mkdir -p /www; echo page > /www/index.html; echo serving; exec httpd -f -p 80 -h /www"


def containers() -> None:
    box = (
        DockerContainer("busybox")
        .with_command(["sh", "-c", "echo out; echo err >&2; env; sleep 1000"])
        .with_env("GREETING", "hello")
        .with_volume_mapping("/etc", "/host-etc", "ro")
        .with_kwargs(labels={"mine": "yes"})
    )
    with box.waiting_for(LogMessageWaitStrategy("GREETING=hello")):
        out, err = box.get_logs()
        assert out.startswith(b"out\n"), out
        assert err == b"err\n"
        code, said = box.exec(["sh", "-c", "cat /host-etc/hostname >/dev/null && echo $GREETING"])
        assert (code, said) == (0, b"hello\n")
        assert box.exec("false")[0] == 1
        assert box.get_wrapped_container().labels["mine"] == "yes"
    print("containers work", flush=True)


def waiting() -> None:
    web = DockerContainer("busybox").with_command(["sh", "-c", SERVE]).with_exposed_ports(80)
    ready = CompositeWaitStrategy(
        LogMessageWaitStrategy("serving"),
        PortWaitStrategy(80),
        HttpWaitStrategy(80, "/").for_status_code(200),
        ExecWaitStrategy(["test", "-e", "/www/index.html"]),
    )
    with web.waiting_for(ready):
        url = f"http://{web.get_container_host_ip()}:{web.get_exposed_port(80)}/"
        with urllib.request.urlopen(url) as page:
            assert page.read() == b"page\n"
    healthy = DockerContainer("busybox").with_command("sleep 1000").with_kwargs(
        healthcheck={"test": ["CMD", "true"], "interval": 100_000_000}
    )  # fmt: skip
    with healthy.waiting_for(HealthcheckWaitStrategy()):
        pass
    print("wait strategies work", flush=True)


def networks() -> None:
    with Network() as network:
        web = DockerContainer("busybox").with_command(["sh", "-c", SERVE]).with_network(network)
        with web.with_network_aliases("web").waiting_for(LogMessageWaitStrategy("serving")):
            client = DockerContainer("busybox").with_command("sleep 1000").with_network(network)
            with client:
                assert client.exec(["wget", "-qO-", "http://web/"]) == (0, b"page\n")
    print("networks work", flush=True)


def composition(folder: str, docker: str) -> None:
    with DockerCompose(
        folder, compose_file_name="compose.yaml", docker_command_path=docker
    ) as stack:
        port = int(stack.get_service_port("web", 80))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
            assert page.read() == b"page\n"
        assert "serving" in stack.get_logs("web")[0]
        out, _, code = stack.exec_in_container(["cat", "/www/index.html"], "web")
        assert (out, code) == ("page\n", 0)
        assert stack.get_container("web").State == "running"
    print("compose works", flush=True)


def abandoned() -> None:
    """Leave a container and a network behind, as a test run that is killed does."""
    Network().create()
    DockerContainer("busybox").with_name("abandoned").with_command("sleep 1000").start()
    print("abandoned", flush=True)
    time.sleep(1000)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["all", folder, docker]:
            containers()
            waiting()
            networks()
            composition(str(Path(folder)), docker)
        case ["compose", folder, docker]:
            composition(folder, docker)
        case ["abandon"]:
            abandoned()
