"""docker compose 2.40 and stackctl on one Docker Engine: what either made, the other's ``up`` leaves as it is."""

import json

import pytest

from tests.peers import DockerEngine

pytestmark = [pytest.mark.root, pytest.mark.long]

FILE = """
name: both
services:
  web:
    image: busybox
    command: sh -c 'echo up; exec sleep 1000'
    stop_signal: SIGKILL
    init: true
    environment: {LEVEL: info, EMPTY: "", FROM_SHELL: "${WHO:-nobody}", DB_PASSWORD: hunter2}
    env_file: [vars.env]
    labels: {tier: front, quoted: 'a "b" <c> & d'}
    ports: ["127.0.0.1::80", "8081-8082:81-82/udp"]
    networks: {front: {aliases: [site]}, back: {}}
    volumes:
      - data:/data
      - ./here:/here:ro
      - type: tmpfs
        target: /scratch
        tmpfs: {size: 1m}
      - /anonymous
    configs: [{source: motd, target: /etc/motd}, words]
    secrets: [token]
    depends_on: {db: {condition: service_healthy, restart: true}}
    deploy: {resources: {limits: {cpus: "0.5", memory: 64M}}}
    ulimits: {nofile: {soft: 256, hard: 512}, nproc: 512}
    logging: {driver: json-file, options: {max-size: 1m}}
    extra_hosts: ["other:10.1.2.3"]
    sysctls: {net.core.somaxconn: "99"}
    cap_drop: [ALL]
    dns: [127.0.0.1]
    restart: unless-stopped
    stop_grace_period: 1m3s
    x-extra: {kept: true}
  db:
    image: busybox
    command: ["sleep", "1000"]
    stop_signal: SIGKILL
    networks: {back: {ipv4_address: 172.31.7.9}}
    user: "1000:1000"
    working_dir: /tmp
    healthcheck: {test: ["CMD", "true"], interval: 200ms, retries: 3}
    volumes: ["data:/var/lib:nocopy"]
  built:
    build: {context: ., dockerfile_inline: "FROM busybox\\nRUN echo made > /made\\n", args: {A: "1"}}
    entrypoint: [sh, -c]
    command: ["exec sleep 1000"]
    stop_signal: SIGKILL
    network_mode: "service:db"
    volumes_from: ["db:ro"]
    profiles: [all, other]
  plain: {image: busybox, command: sleep 1000, stop_signal: SIGKILL, scale: 2}
networks:
  front: {labels: {side: front}}
  back: {internal: true, ipam: {config: [{subnet: 172.31.7.0/24}]}}
volumes: {data: {labels: {keep: "yes"}}}
configs: {motd: {file: motd.txt}, words: {content: "said by ${WHO:-nobody}"}}
secrets: {token: {file: token.txt}}
"""


@pytest.fixture(scope="module", params=["docker"])
def docker_engine(request):
    from tests.conftest import one_engine

    for made in one_engine(DockerEngine):
        made.start()
        made.import_busybox()
        yield made


@pytest.fixture
def both(docker_engine, tmp_path):
    """The two tools beside one stack file; the stack is gone afterwards."""
    (tmp_path / "here").mkdir()
    for name, text in (
        ("stack.yaml", FILE),
        ("compose.yaml", FILE),
        ("motd.txt", "hello\n"),
        ("token.txt", "s3cret\n"),
        ("vars.env", "LEVEL=debug\nFILE_ONLY=1\n"),
    ):
        (tmp_path / name).write_text(text)
    made = Both(docker_engine, tmp_path)
    yield made
    made.ours("down", "-v", "--remove-orphans", "-t", "0")


class Both:
    def __init__(self, engine, folder):
        self.engine, self.folder = engine, folder

    def ours(self, *argv, **options):
        return self.engine.stackctl(
            "-f", "compose.yaml", "--profile", "all", *argv, cwd=self.folder, **options
        )

    def theirs(self, *argv):
        return self.engine.compose("--profile", "all", *argv, cwd=self.folder)

    def write(self, text):
        (self.folder / "compose.yaml").write_text(text)

    def state(self) -> dict:
        """All that a second tool could have touched."""
        found = self.engine.docker("ps", "-aq").stdout.split()
        bodies = json.loads(self.engine.docker("inspect", *found).stdout) if found else []
        networks = self.engine.docker(
            "network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}}"
        )
        return {
            "containers": {
                item["Name"]: (item["Id"], item["State"]["StartedAt"], item["State"]["Status"])
                for item in bodies
            },
            "networks": sorted(networks.stdout.splitlines()),
            "volumes": sorted(self.engine.docker("volume", "ls", "-q").stdout.split()),
        }


NAMES = {"/both-web-1", "/both-plain-2", "/both-db-1", "/both-built-1", "/both-plain-1"}


def test_what_docker_compose_made_is_ours_without_a_change(both):
    both.theirs("up", "-d")
    before = both.state()
    assert {*before["containers"]} == NAMES
    plan = both.ours("plan", "--detailed-exitcode", check=False)
    assert plan.returncode == 0, plan.stdout
    both.ours("up", "-d")
    assert both.state() == before
    both.ours("down", "-v", "-t", "0")
    assert both.state()["containers"] == {}
    assert both.state()["volumes"] == []


def test_what_we_made_is_docker_compose_s_without_a_change(both):
    both.ours("up", "-d")
    before = both.state()
    assert {*before["containers"]} == NAMES
    done = both.theirs("up", "-d")
    assert both.state() == before, done.stderr
    both.ours("up", "-d")
    assert both.state() == before
    both.theirs("down", "-v", "-t", "0")
    assert both.state()["containers"] == {}
    assert not [line for line in both.state()["networks"] if "both_" in line]


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_a_change_concerns_the_same_service_whoever_comes_second(both, first):
    second = {"theirs": "ours", "ours": "theirs"}[first]
    getattr(both, first)("up", "-d")
    before = both.state()["containers"]
    both.write(
        FILE.replace("LEVEL: info", "LEVEL: warn").replace("sleep 1000, stop", "sleep 999, stop")
    )
    # LEVEL is the file's already (environment wins over env_file), so web changes too.
    getattr(both, second)("up", "-d", "-t", "0")
    after = both.state()["containers"]
    assert {*after} == NAMES
    changed = {name for name in NAMES if after[name][0] != before[name][0]}
    assert changed == {"/both-web-1", "/both-plain-2", "/both-plain-1"}
    getattr(both, first)("up", "-d", "-t", "0")
    assert both.state()["containers"] == after


def test_the_hashes_are_docker_compose_s_own(both):
    theirs = dict(line.split() for line in both.theirs("config", "--hash", "*").stdout.splitlines())
    ours = dict(line.split() for line in both.ours("config", "--hash", "*").stdout.splitlines())
    assert ours == theirs
