"""``stackctl build`` on the built-in engine: the context is read where it is; contexts, secrets, SSH agents, results."""

import json
import os
import socket
import tarfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


def stack(home: Path, build: dict, dockerfile: str, **more) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    (home / "Dockerfile").write_text(dockerfile)
    services = {"web": {"image": "made:v1", "build": {"context": ".", **build}}}
    (home / "stack.yaml").write_text(json.dumps({"name": "lb", "services": services, **more}))
    return home


def printed(engine, command: str) -> str:
    return engine.docker("run", "--rm", "--network", "none", "made:v1", "sh", "-c", command).stdout


@pytest.fixture(autouse=True)
def _busybox(engine):
    engine.import_busybox("busybox")


def test_a_context_is_read_where_it_is_and_only_what_counts_rebuilds(engine, tmp_path):
    home = stack(tmp_path / "a", {}, "FROM busybox\nCOPY . /ctx/\n")
    (home / "word").write_text("one")
    (home / ".dockerignore").write_text("hidden\nstack.yaml\n")
    (home / "hidden").write_text("x")
    engine.stackctl("build", cwd=home)
    first = json.loads(engine.stackctl("image", "inspect", "made:v1").stdout)[0]["Id"]
    assert printed(engine, "cat /ctx/word; echo; ls /ctx").split() == ["one", "Dockerfile", "word"]
    assert printed(engine, "stat -c %u:%g /ctx/word").strip() == "0:0"
    (home / "hidden").write_text("y")
    os.utime(home / "word", (1, 1))
    engine.stackctl("build", cwd=home)
    assert json.loads(engine.stackctl("image", "inspect", "made:v1").stdout)[0]["Id"] == first
    (home / "word").write_text("two")
    engine.stackctl("build", cwd=home)
    assert printed(engine, "cat /ctx/word") == "two"
    assert not [*(engine.paths.data_root / "build").glob("context-*")]


def test_named_contexts_are_directories_and_images_and_go_before_stages(engine, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    (more / "file").write_text("from the directory")
    home = stack(
        tmp_path / "b",
        {"additional_contexts": {"extra": "../more", "base": "docker-image://busybox"}},
        "FROM scratch AS extra\nFROM base\nCOPY --from=extra file /file\n"
        "RUN --mount=type=bind,from=extra,target=/m cp /m/file /again\n"
        "COPY --from=base /etc/passwd /passwd\n",
    )
    engine.stackctl("build", cwd=home)
    assert printed(engine, "cat /file /again") == "from the directory" * 2
    assert "root:" in printed(engine, "cat /passwd")
    (more / "file").write_text("changed")
    engine.stackctl("build", cwd=home)
    assert printed(engine, "cat /file /again") == "changed" * 2


def test_secrets_reach_their_step_and_nothing_else(engine, tmp_path):
    home = stack(
        tmp_path / "c",
        {"secrets": ["token", "word"]},
        "FROM busybox\n"
        "RUN --mount=type=secret,id=token,required=true sha256sum < /run/secrets/token > /sum\n"
        'RUN --mount=type=secret,id=word,env=WORD test "$WORD" = inside && ! test -e /run/secrets/token\n',
        secrets={"token": {"file": "./token"}, "word": {"environment": "THE_WORD"}},
    )
    (home / "token").write_text("hush-hush")
    (home / ".dockerignore").write_text("*\n")
    engine.stackctl("build", cwd=home, environ={"THE_WORD": "inside"})
    assert (
        printed(engine, "cat /sum").startswith("c9ec7d8d") or len(printed(engine, "cat /sum")) > 64
    )
    archive = tmp_path / "c.tar"
    engine.stackctl("image", "save", "-o", str(archive), "made:v1")
    assert b"hush-hush" not in archive.read_bytes()
    missing = stack(
        tmp_path / "c2", {}, "FROM busybox\nRUN --mount=type=secret,id=no,required=true true\n"
    )
    refused = engine.stackctl("build", cwd=missing, check=False)
    assert refused.returncode == 1
    assert "secret no: not found" in refused.stderr
    assert "Dockerfile:2" in refused.stderr


def test_an_ssh_agent_reaches_its_step(engine, tmp_path):
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        home = stack(
            tmp_path / "d",
            {"ssh": ["default"]},
            'FROM busybox\nRUN --mount=type=ssh test -S "$SSH_AUTH_SOCK" && echo yes > /seen\n',
        )
        engine.stackctl("build", cwd=home, environ={"SSH_AUTH_SOCK": str(path)})
    assert (
        printed(engine, "cat /seen; find /run/buildkit -type s 2>/dev/null; true").strip() == "yes"
    )
    refused = engine.stackctl("build", cwd=home, check=False)
    assert refused.returncode == 1
    assert "SSH_AUTH_SOCK" in refused.stderr


def test_steps_are_kept_in_a_directory_and_taken_from_it(engine, tmp_path):
    cache = tmp_path / "cache"
    build = {
        "cache_to": [f"type=local,dest={cache}"],
        "cache_from": [f"type=local,src={cache}"],
    }
    home = stack(
        tmp_path / "e",
        build,
        "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\nCOPY w /w\n",
    )
    (home / "w").write_text("w")
    engine.stackctl("build", cwd=home)
    first = printed(engine, "cat /id")
    engine.stackctl("image", "rm", "made:v1")
    engine.stackctl("image", "prune", "--builds")
    engine.stackctl("build", cwd=home)
    assert printed(engine, "cat /id") == first
    # What is not what its digest says is not taken.
    for blob in (cache / "blobs" / "sha256").iterdir():
        blob.write_bytes(b"x" + blob.read_bytes())
    engine.stackctl("image", "rm", "made:v1")
    engine.stackctl("image", "prune", "--builds")
    engine.stackctl("build", cwd=home)
    assert printed(engine, "cat /id") != first


@pytest.mark.parametrize("kind", ["tar", "local"])
def test_the_files_of_the_last_stage_go_where_they_were_asked_for(engine, tmp_path, kind):
    home = stack(tmp_path / "f", {}, "FROM scratch\nCOPY --chmod=640 w /deep/w\n")
    (home / "w").write_text("w")
    target = tmp_path / f"out.{kind}"
    engine.stackctl("build", "--output", f"type={kind},dest={target}", cwd=home)
    if kind == "tar":
        with tarfile.open(target) as archive:
            assert sorted(archive.getnames()) == ["deep", "deep/w"]
            assert archive.getmember("deep/w").mode == 0o640
    else:
        assert (target / "deep" / "w").read_text() == "w"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("https://example.invalid/x.git#main", "git repositories are not offered"),
        ("git@example.invalid:x.git", "git repositories are not offered"),
        ("file:///etc/passwd", "file:// is not a source"),
    ],
)
def test_sources_that_are_not_offered_are_named_with_their_line(engine, tmp_path, source, words):
    home = stack(tmp_path / "g", {}, f"FROM busybox\nADD {source} /x\n")
    refused = engine.stackctl("build", cwd=home, check=False)
    assert refused.returncode == 1
    assert words in refused.stderr
    assert "Dockerfile:2" in refused.stderr
    assert f"ADD {source} /x" in refused.stderr
