"""``stackctl build`` on the built-in engine: the context is read where it is; contexts, secrets, SSH agents, results."""

import base64
import contextlib
import json
import os
import socket
import tarfile
from pathlib import Path

import docker
import pytest

from tests.sourceserver import Sources, context_tar

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
        ("http://127.0.0.1:9/x.git#main", "cannot read the repository http://127.0.0.1:9/x.git"),
        (
            "http://u:hush@127.0.0.1:9/x.git",
            "cannot read the repository http://u:xxxxx@127.0.0.1:9",
        ),
        ("ssh://127.0.0.1:9/x.git", "cannot read the repository ssh://127.0.0.1:9/x.git"),
        ("http://127.0.0.1:9/x.git#main:../up", "leads out of the repository"),
        ("http://127.0.0.1:9/x.git#--upload-pack=x", "is not a ref"),
        ("http://127.0.0.1:9/x.git?wrong=1", "not known in the query"),
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


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    with Sources(tmp_path_factory.mktemp("sources")).serving() as served:
        yield served


def test_a_repository_that_did_not_move_is_asked_but_not_fetched_again(engine, sources, tmp_path):
    home = stack(tmp_path / "h", {}, f"FROM busybox\nADD {sources.url}/project.git /r/\n")
    engine.stackctl("build", cwd=home)
    first = json.loads(engine.stackctl("image", "inspect", "made:v1").stdout)[0]["Id"]
    sources.asked.clear()
    engine.stackctl("build", cwd=home)
    assert json.loads(engine.stackctl("image", "inspect", "made:v1").stdout)[0]["Id"] == first
    # Only what ls-remote asks; a fetch would send what it wants in a second POST.
    assert [method for method, _, _ in sources.asked] == ["GET", "POST"]
    sources.commit("readme.txt", "third\n")
    engine.stackctl("build", cwd=home)
    assert printed(engine, "cat /r/readme.txt").strip() == "third"
    assert not [*(engine.paths.data_root / "build").glob("remote-*")]


def test_a_token_goes_to_its_host_and_is_kept_nowhere(engine, sources, tmp_path):
    sources.token = f"basic {base64.b64encode(b'x-access-token:x7Qz').decode()}"
    text = f"FROM busybox\nADD --keep-git-dir=true {sources.url}/project.git#v1 /r/\n"
    try:
        open_ = stack(tmp_path / "i", {}, text)
        refused = engine.stackctl("build", cwd=open_, check=False)
        assert refused.returncode == 1
        assert "cannot read the repository" in refused.stderr
        home = stack(
            tmp_path / "j",
            {"secrets": ["GIT_AUTH_TOKEN"]},
            text,
            secrets={"GIT_AUTH_TOKEN": {"environment": "TOKEN"}},
        )
        engine.stackctl("build", cwd=home, environ={"TOKEN": "x7Qz"})
    finally:
        sources.token = ""
    assert printed(engine, "cat /r/readme.txt").strip() == "first"
    archive = tmp_path / "i.tar"
    engine.stackctl("image", "save", "-o", str(archive), "made:v1")
    assert b"x7Qz" not in archive.read_bytes()
    assert b"eC1hY2Nlc3M" not in archive.read_bytes()


@pytest.mark.parametrize(
    ("context", "made"),
    [
        ("{url}/project.git", "readme.txt topic.txt? sub"),
        ("{url}/project.git#topic", "topic.txt"),
        ("{url}/project.git#v1:sub", "/sub.sh"),
        ("{url}/context.tar.gz", "/from-tar"),
        ("{url}/Containerfile", "/from-text"),
    ],
)
def test_a_context_is_fetched_from_a_repository_a_tar_or_a_file(
    engine, sources, tmp_path, context, made
):
    engine.import_busybox("conformance-base")
    sources.files["/context.tar.gz"] = context_tar(
        {"Dockerfile": b"FROM busybox\nCOPY data /from-tar\n", "data": b"d"}
    )
    sources.files["/Containerfile"] = b"FROM busybox\nRUN touch /from-text\n"
    home = tmp_path / "k"
    home.mkdir()
    services = {"web": {"image": "made:v1", "build": {"context": context.format(url=sources.url)}}}
    (home / "stack.yaml").write_text(json.dumps({"name": "lb", "services": services}))
    engine.stackctl("build", cwd=home)
    listed = printed(engine, "find / -xdev -maxdepth 2 | sort")
    assert made.split()[0] in listed


def test_a_context_that_is_not_there_says_so(engine, sources, tmp_path):
    home = tmp_path / "l"
    home.mkdir()
    for context in ("/missing.tar", "/project.git#nothing", "/project.git#main:nothing"):
        services = {"web": {"image": "made:v1", "build": sources.url + context}}
        (home / "stack.yaml").write_text(json.dumps({"name": "lb", "services": services}))
        refused = engine.stackctl("build", cwd=home, check=False)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
        assert ("nothing" if "#" in context else "404") in refused.stderr


def test_named_contexts_are_fetched_too(engine, sources, tmp_path):
    home = stack(
        tmp_path / "m",
        {"additional_contexts": {"code": f"{sources.url}/project.git#v1"}},
        "FROM busybox\nCOPY --from=code readme.txt /readme\n",
    )
    engine.stackctl("build", cwd=home)
    assert printed(engine, "cat /readme").strip() == "first"


def test_a_remote_context_over_the_classic_wire(engine, sources):
    engine.import_busybox("conformance-base")
    engine.start()
    with contextlib.closing(docker.DockerClient(base_url=engine.docker_host)) as client:
        image, _ = client.images.build(path=f"{sources.url}/project.git#v1", tag="made:v1")
        assert image.tags == ["made:v1"]
    assert printed(engine, "cat /made/readme.txt").strip() == "first"
