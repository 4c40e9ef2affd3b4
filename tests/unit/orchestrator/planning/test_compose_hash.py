"""The config hash of docker compose 2.40, as `docker compose config --hash` printed it for this file."""

from stackctl.orchestrator.planning.compose_hash import compose_hash
from stackctl.orchestrator.stackfile.load import LoadOptions, load

FILE = """
name: h
services:
  web:
    image: busybox
    command: sh -c 'echo "<&>"'
    cpu_percent: 10
    deploy: {resources: {limits: {cpus: "1", memory: 64M}}, replicas: 3}
    environment: {B: "2", A: "1"}
    ports: ["127.0.0.1:8080:80"]
    volumes: ["data:/data", "/srv:/srv:ro"]
    networks: {front: {aliases: [site]}}
    healthcheck: {test: [CMD, "true"], interval: 200ms}
    depends_on: [cache]
    x-kept: {is: there}
  db: {image: busybox, pid: "service:web", volumes_from: ["web:ro"], networks: [front]}
  cache: {image: busybox}
networks: {front: {}}
volumes: {data: {}}
"""
RECORDED = {
    "cache": "2afd7866203dca40993313263173003833e9de9c3ad83f2f59484e32a5605234",
    "db": "02c6542205dcc960926c2dcaf5ea056756f58ad2f75b3acf9f422b556631a847",
    "web": "af560adb7c6d945bee3d27b7581cce12ae0c7c41fd562039646c6b4303faff75",
}


def loaded(tmp_path, text=FILE):
    (tmp_path / "stack.yaml").write_text(text)
    return load(LoadOptions(environ={}, cwd=str(tmp_path))).stack


def test_the_hash_is_the_one_docker_compose_prints(tmp_path):
    stack = loaded(tmp_path)
    assert {name: compose_hash(stack, stack.services[name]) for name in stack.services} == RECORDED


def test_what_does_not_concern_the_container_is_left_out(tmp_path):
    stack = loaded(
        tmp_path,
        FILE.replace("replicas: 3", "replicas: 5")
        .replace("[cache]", "[cache, other]")
        .replace("  cache:", "  other: {image: busybox}\n  cache:"),
    )
    assert compose_hash(stack, stack.services["web"]) == RECORDED["web"]


def test_who_shares_with_another_service_is_made_anew_with_it(tmp_path):
    stack = loaded(tmp_path)
    first, second = (
        compose_hash(stack, stack.services["db"], lambda _, identity=identity: identity)
        for identity in ("c1", "c2")
    )
    assert len({first, second, RECORDED["db"]}) == 3
    assert compose_hash(stack, stack.services["web"], lambda _: "c1") == RECORDED["web"]
