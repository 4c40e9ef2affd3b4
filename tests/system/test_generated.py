"""Stacks made up at random, on the real engine: the second plan is empty, also after the daemon was replaced."""

import random

import pytest

from tests.peers import EVERY_ENGINE, PodmanEngine

pytestmark = [
    pytest.mark.root,
    pytest.mark.parametrize("any_engine", EVERY_ENGINE, indirect=True),
]


def text(seed: int) -> str:
    """Return a stack file with some of everything that a container is made from."""
    pick = random.Random(seed)
    some = lambda chance, words: words if pick.random() < chance else ""  # noqa: E731
    services = []
    names = [f"s{number}" for number in range(pick.randint(1, 4))]
    for number, name in enumerate(names):
        before = names[:number]
        shared = some(0.2, f"    network_mode: service:{pick.choice(before)}\n") if before else ""
        networks = pick.sample(["front", "back"], pick.randint(1, 2))
        services.append(
            f"  {name}:\n    image: busybox\n    stop_signal: SIGKILL\n"
            + pick.choice(
                [
                    "    command: sleep 1000\n",
                    '    command: ["sleep", "1000"]\n',
                    "    entrypoint: [sh, -c]\n    command: [exec sleep 1000]\n",
                ]
            )
            + (shared or f"    networks: {{{networks[0]}: {{aliases: [a{number}]}}}}\n")
            + some(0.5, f"    environment: {{N: {number}, EMPTY: '', TOKEN: t{seed}, NONE: }}\n")
            + some(0.4, "    env_file: [vars.env]\n")
            + some(0.4, f"    labels: {{seed: '{seed}', quoted: 'a \"b\" $$c'}}\n")
            + some(0.4, "    volumes: [data:/data, ./:/here:ro, /anonymous]\n")
            + some(0.3, "    tmpfs: [/scratch:size=1m]\n")
            + some(0.3, "    configs: [{source: words, target: /etc/words}]\n")
            + some(0.3, "    secrets: [token]\n")
            + some(0.3, "    ulimits: {nofile: {soft: 256, hard: 512}}\n")
            + some(0.3, "    mem_limit: 64m\n    cpus: 0.5\n")
            + some(0.3, "    cap_drop: [ALL]\n    cap_add: [NET_BIND_SERVICE]\n")
            + some(0.3, "    user: '1000:1000'\n    working_dir: /tmp\n")
            + some(0.3, "    healthcheck: {disable: true}\n")
            + some(0.3, "    restart: unless-stopped\n    stop_grace_period: 1m2s\n")
            + some(0.3, "    init: true\n    shm_size: 8m\n")
            + (some(0.5, f"    depends_on: [{pick.choice(before)}]\n") if before else "")
            + (some(0.3, "    scale: 2\n") if not shared else "")
            + ("" if shared else some(0.3, "    ports: ['127.0.0.1::80']\n    hostname: h\n"))
            + ("" if shared else some(0.3, "    extra_hosts: ['other:10.1.2.3']\n    dns: [127.0.0.1]\n"))
        )  # fmt: skip
    return (
        f"name: gen{seed}\nservices:\n"
        + "".join(services)
        + f"networks:\n  front: {pick.choice(['{}', '{internal: true}', '{labels: {a: b}}'])}\n  back: {{}}\n"
        + f"volumes:\n  data: {pick.choice(['{}', '{labels: {a: b}}', f'{{name: other{seed}}}'])}\n"
        "configs: {words: {content: some words}}\nsecrets: {token: {file: token.txt}}\n"
    )


def all_current(engine, folder, seeds) -> None:
    for seed in seeds:
        plan = engine.stackctl("-f", f"{seed}.yaml", "plan", cwd=folder).stdout
        assert "Nothing to do" in plan, f"{plan}\n{text(seed)}"


@pytest.mark.parametrize("count", [3, pytest.param(40, marks=pytest.mark.long)])
@pytest.mark.timeout(1800)
def test_the_second_plan_is_empty_also_after_the_daemon_was_replaced(any_engine, tmp_path, count):
    engine = any_engine
    engine.import_busybox()
    (tmp_path / "token.txt").write_text("s3cret")
    (tmp_path / "vars.env").write_text("FROM_FILE=1\nTOKEN=file\n")
    seeds = range(count)
    try:
        for seed in seeds:
            made = text(seed)
            if isinstance(engine, PodmanEngine):  # whose init (catatonit) is a package of its own
                made = made.replace("    init: true\n", "")
            (tmp_path / f"{seed}.yaml").write_text(made)
            engine.stackctl("-f", f"{seed}.yaml", "up", "-d", cwd=tmp_path)
        all_current(engine, tmp_path, seeds)
        engine.restart()
        all_current(engine, tmp_path, seeds)
    finally:
        for seed in seeds:
            engine.stackctl("-p", f"gen{seed}", "down", "-v", "-t", "0", check=False)
