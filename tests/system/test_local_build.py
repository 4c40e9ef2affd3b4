"""``stackctl build`` on the built-in engine: the context is read where it is; contexts, secrets, SSH agents, results."""

import base64
import contextlib
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import tarfile
import time
import urllib.request
from pathlib import Path

import docker
import pytest

from tests.conformance.cases import write_layout
from tests.contracts.test_registry import LocalRegistry
from tests.sourceserver import Sources, context_tar
from tests.sshserver import SshServer

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


def test_a_step_that_fails_is_told_with_its_line(engine, tmp_path):
    home = stack(tmp_path / "fails", {}, "FROM busybox\n\nRUN echo why >&2; \\\n  exit 7\n")
    failed = engine.stackctl("build", cwd=home, check=False)
    assert failed.returncode == 1
    assert "Dockerfile:3: The command '/bin/sh -c echo why >&2;   exit 7'" in failed.stderr
    assert "returned a non-zero code: 7\n  3 | RUN echo why >&2; \\" in failed.stderr


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


def test_the_stages_of_no_cache_filter_are_built_anew(engine, tmp_path):
    uuid = "cat /proc/sys/kernel/random/uuid"
    text = (
        f"FROM busybox AS Old\nRUN {uuid} > /id\nFROM busybox AS new\nRUN : ; {uuid} > /id\n"
        "FROM busybox\nCOPY --from=old /id /old\nCOPY --from=new /id /new\n"
    )
    home = stack(tmp_path / "n", {"no_cache_filter": ["New"]}, text)
    engine.stackctl("build", cwd=home)
    first = printed(engine, "cat /old /new").split()
    engine.stackctl("build", cwd=home)
    second = printed(engine, "cat /old /new").split()
    assert first[0] == second[0]
    assert first[1] != second[1]


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
        {
            "additional_contexts": {
                "code": f"{sources.url}/project.git#v1",
                "packed": f"{sources.url}/ignoring.tar.gz",
            }
        },
        "FROM busybox\nCOPY --from=code readme.txt /readme\nCOPY --from=packed . /packed/\n",
    )
    # What comes from elsewhere comes whole.
    ignoring = {".dockerignore": b"data\n", "data": b"d"}
    sources.files["/ignoring.tar.gz"] = context_tar(ignoring)
    engine.stackctl("build", cwd=home)
    assert printed(engine, "cat /readme /packed/data") == "first\nd"


def test_a_remote_context_over_the_classic_wire(engine, sources):
    engine.import_busybox("conformance-base")
    engine.start()
    with contextlib.closing(docker.DockerClient(base_url=engine.docker_host)) as client:
        image, _ = client.images.build(path=f"{sources.url}/project.git#v1", tag="made:v1")
        assert image.tags == ["made:v1"]
    assert printed(engine, "cat /made/readme.txt").strip() == "first"


def made(engine) -> dict:
    return json.loads(engine.stackctl("image", "inspect", "made:v1").stdout)[0]


def test_an_image_in_an_oci_layout_is_a_base_and_a_source(engine, tmp_path):
    digest = write_layout(tmp_path / "layout", {"l": b"from the layout"}, "one")
    text = "FROM base\nCOPY --from=base /l /m\nCOPY --from=busybox /bin /bin\n"
    for name in ("../layout", "../layout:one", f"../layout:one@{digest}"):
        home = stack(
            tmp_path / "o", {"additional_contexts": {"base": f"oci-layout://{name}"}}, text
        )
        engine.stackctl("build", cwd=home)
        assert printed(engine, "/bin/cat /l /m") == "from the layout" * 2
        assert made(engine)["Config"]["Env"] == ["PATH=/bin", "L=1"]
        assert made(engine)["Config"]["Labels"]["of"] == "layout"
    assert engine.stackctl("image", "ls", "-q").stdout.split().count("<none>") == 0


@pytest.mark.parametrize(
    ("spoil", "name", "words"),
    [
        (lambda home: home.joinpath("index.json").unlink(), "", "cannot read index.json"),
        (lambda home: home.joinpath("index.json").write_text("[]"), "", "not a JSON object"),
        (lambda home: shutil.rmtree(home / "blobs"), "", "has no blobs/sha256/"),
        (lambda home: [*map(_spoil, home.rglob("sha256/*"))], "", "is not what its name says"),
        (lambda home: None, f"@sha256:{'0' * 64}", "has no blobs/sha256/000"),
        (lambda home: None, "@sha256:../../../etc/passwd", "is not a digest"),
        (lambda home: _two(home), ":other", "no image with the tag 'other'"),
    ],
)
def test_a_layout_that_is_none_is_told_with_the_line(engine, tmp_path, spoil, name, words):
    write_layout(tmp_path / "layout", {"l": b"x"}, "one")
    spoil(tmp_path / "layout")
    contexts = {"base": f"oci-layout://{tmp_path}/layout{name}"}
    home = stack(tmp_path / "o", {"additional_contexts": contexts}, "\nFROM base\n")
    refused = engine.stackctl("build", cwd=home, check=False)
    assert refused.returncode == 1
    assert words in refused.stderr
    assert "Dockerfile:2" in refused.stderr
    assert "2 | FROM base" in refused.stderr


def _spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _two(home: Path) -> None:
    index = json.loads((home / "index.json").read_text())
    index["manifests"] *= 2
    (home / "index.json").write_text(json.dumps(index))


def test_a_directory_is_a_base_without_what_it_ignores(engine, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_text("of the root")
    (root / "hidden").write_text("x")
    (root / ".dockerignore").write_text("hidden\n.dockerignore\n")
    home = stack(
        tmp_path / "p",
        {"additional_contexts": {"root": "../root"}},
        "FROM root\nCOPY --from=busybox /bin /bin\n",
    )
    engine.stackctl("build", cwd=home)
    assert printed(engine, "/bin/cat /file; /bin/ls -a /").split()[:3] == ["of", "the", "root."]
    assert "hidden" not in printed(engine, "/bin/ls -a /")


BOTH = ["linux/amd64", "linux/arm64"]
CROSS = (
    "FROM --platform=$BUILDPLATFORM busybox AS here\nARG TARGETPLATFORM\n"
    "RUN echo $TARGETPLATFORM > /made\nFROM scratch\nCOPY --from=here /made /made\n"
    'LABEL of=made\nCMD ["/made"]\n'
)


def test_several_platforms_are_one_index_and_here_is_the_machines_own(engine, tmp_path):
    home = stack(tmp_path / "q", {"platforms": BOTH, "labels": {"a": "b"}}, CROSS)
    target = tmp_path / "q.tar"
    engine.stackctl("build", "--output", f"type=oci,dest={target}", cwd=home)
    assert made(engine)["Architecture"] == "amd64"
    with tarfile.open(target) as archive:

        def blob(digest: str) -> bytes:
            return archive.extractfile(f"blobs/{digest.replace(':', '/')}").read()

        listed = json.load(archive.extractfile("index.json"))["manifests"]
        assert [item["annotations"]["org.opencontainers.image.ref.name"] for item in listed] == [
            "v1"
        ]
        entries = json.loads(blob(listed[0]["digest"]))["manifests"]
        found = {}
        for entry in entries:
            manifest = json.loads(blob(entry["digest"]))
            config = json.loads(blob(manifest["config"]["digest"]))
            assert config["architecture"] == entry["platform"]["architecture"]
            assert config["config"]["Labels"]["a"] == "b"
            with tarfile.open(fileobj=io.BytesIO(blob(manifest["layers"][0]["digest"]))) as layer:
                found[config["architecture"]] = layer.extractfile("made").read().decode().strip()
    assert found == {"amd64": "linux/amd64", "arm64": "linux/arm64"}
    # It is a layout that we take ourselves, by platform.
    layout = tmp_path / "layout"
    shutil.unpack_archive(target, layout, filter="data")
    home = stack(
        tmp_path / "q2",
        {
            "additional_contexts": {"both": f"oci-layout://{layout}"},
            "platforms": ["linux/arm64"],
        },
        "FROM both\n",
    )
    engine.stackctl("build", cwd=home)
    assert made(engine)["Architecture"] == "arm64"
    left = engine.stackctl("image", "ls", "-q", "--filter", "dangling=true").stdout.split()
    engine.stackctl("image", "rm", "made:v1", *left)


def test_files_of_several_platforms_go_to_a_directory_each(engine, tmp_path):
    home = stack(tmp_path / "r", {"platforms": BOTH}, CROSS)
    engine.stackctl("build", "-o", str(tmp_path / "out"), cwd=home)
    for architecture in ("amd64", "arm64"):
        text = (tmp_path / "out" / f"linux_{architecture}" / "made").read_text()
        assert text == f"linux/{architecture}\n"
    refused = engine.stackctl("build", "-o", "type=tar,dest=x", cwd=home, check=False)
    assert refused.returncode == 1
    assert "type tar is of one platform, and 2 are asked for" in refused.stderr


def test_several_platforms_are_pushed_as_an_index(engine, tmp_path):
    (tmp_path / "registry").mkdir()
    registry = LocalRegistry(tmp_path / "registry")
    try:
        other = f"{registry.host}/made:again"
        home = stack(tmp_path / "s", {"platforms": BOTH, "tags": [other]}, CROSS)
        text = (home / "stack.yaml").read_text().replace("made:v1", f"{registry.host}/made:v1")
        (home / "stack.yaml").write_text(text)
        engine.stackctl("build", "--push", cwd=home)

        def manifest(name: str, kind: str) -> dict:
            accept = {"Accept": f"application/vnd.oci.image.{kind}.v1+json"}
            url = f"http://{registry.host}/v2/made/manifests/{name}"
            with urllib.request.urlopen(urllib.request.Request(url, headers=accept)) as answer:
                return json.load(answer)

        index = manifest("v1", "index")
        assert manifest("again", "index") == index
        assert [item["platform"]["architecture"] for item in index["manifests"]] == [
            "arm64",
            "amd64",
        ]
        for entry in index["manifests"]:
            layers = manifest(entry["digest"], "manifest")["layers"]
            assert layers[0]["mediaType"].endswith("tar+gzip")
        engine.stackctl("image", "rm", f"{registry.host}/made:v1")
        engine.stackctl("image", "pull", f"{registry.host}/made:v1")
        engine.stackctl("image", "rm", f"{registry.host}/made:v1", other)
        unnamed = json.loads((home / "stack.yaml").read_text())
        del unnamed["services"]["web"]["image"]
        del unnamed["services"]["web"]["build"]["tags"]
        (home / "stack.yaml").write_text(json.dumps(unnamed))
        said = engine.stackctl("build", "--push", cwd=home)
        assert "its image has no name of its own" in said.stdout + said.stderr
    finally:
        registry.stop()


def test_a_step_of_a_platform_that_does_not_run_here_is_told(engine, tmp_path):
    elf = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, 183, 1) + bytes(40)
    home = stack(
        tmp_path / "t", {"platforms": BOTH}, "FROM scratch\nCOPY --chmod=755 sh /bin/sh\nRUN true\n"
    )
    (home / "sh").write_bytes(elf)
    refused = engine.stackctl("build", cwd=home, check=False)
    assert refused.returncode == 1
    assert "Dockerfile:3: RUN for linux/arm64 does not run on this machine" in refused.stderr
    assert "FROM --platform=$BUILDPLATFORM" in refused.stderr


def test_up_builds_for_this_machine_alone(engine, tmp_path):
    home = stack(tmp_path / "u", {"platforms": BOTH}, CROSS)
    said = engine.stackctl("create", "--build", cwd=home)
    assert "linux/arm64" not in said.stdout + said.stderr
    engine.stackctl("down", cwd=home)


def test_a_check_finds_what_could_be_better_and_builds_nothing(engine, tmp_path):
    home = stack(tmp_path / "v", {"ssh": ["default"]}, "FROM nowhere AS One\nCMD echo x\n")
    found = engine.stackctl("build", "--check", cwd=home, check=False)
    assert found.returncode == 1
    assert "web: the check of Dockerfile has 2 findings" in found.stdout
    assert "Dockerfile:1: StageNameCasing" in found.stdout
    assert "2 | CMD echo x" in found.stdout
    home = stack(
        tmp_path / "v", {}, '# check=skip=StageNameCasing\nFROM nowhere AS One\nCMD ["x"]\n'
    )
    assert engine.stackctl("build", "--check", cwd=home).stdout == "web: no findings\n"
    home = stack(tmp_path / "v", {}, "FROM busybox\nFOO x\n")
    wrong = engine.stackctl("build", "--check", cwd=home, check=False)
    assert wrong.returncode == 1
    assert "Dockerfile:2: unknown instruction: FOO" in wrong.stdout


def test_builds_are_shown_as_a_file_for_bake(engine, tmp_path):
    home = stack(
        tmp_path / "w",
        {"args": {"A": "1"}, "platforms": BOTH, "provenance": True, "privileged": True},
        "FROM busybox\n",
    )
    printed_file = json.loads(
        engine.stackctl("build", "--print", "--build-arg", "B=2", cwd=home).stdout
    )
    assert printed_file["group"] == {"default": {"targets": ["web"]}}
    web = printed_file["target"]["web"]
    assert web["args"] == {"A": "1", "B": "2"}
    assert web["tags"] == ["made:v1"]
    assert web["attest"] == ["type=provenance"]
    assert web["output"] == ["type=image,push=false"]
    assert web["entitlements"] == ["security.insecure"]


def test_what_cannot_be_honoured_is_said_in_a_line(engine, tmp_path):
    home = stack(
        tmp_path / "x",
        {"sbom": True},
        "FROM busybox\nRUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes || true\n",
    )
    done = engine.stackctl("build", "--provenance", "mode=max", "--memory", "64m", cwd=home)
    assert "--provenance is left aside: no attestation is made" in done.stderr
    assert "build.sbom is left aside: no attestation is made" in done.stderr
    assert "67108864" in done.stderr + done.stdout
    quiet = engine.stackctl("build", "--provenance", "false", "--builder", "default", cwd=home)
    assert "--provenance" not in quiet.stderr
    refused = engine.stackctl("build", "--builder", "other", cwd=home, check=False)
    assert refused.returncode == 1
    assert 'no builder "other"' in refused.stderr


def test_a_step_sees_the_context_without_what_is_ignored(engine, tmp_path):
    home = stack(
        tmp_path / "y",
        {},
        "FROM busybox\nRUN --mount=target=/c find /c | sort > /seen\n"
        "RUN --mount=target=/c,rw echo x > /c/deep/new && find /c | sort > /written\n",
    )
    (home / "deep").mkdir()
    for name in ("deep/kept", "deep/gone", "gone"):
        (home / name).write_text("x")
    (home / ".dockerignore").write_text("**/gone\n*.yaml\nDockerfile\n.dockerignore\n")
    engine.stackctl("build", cwd=home)
    assert printed(engine, "cat /seen").split() == ["/c", "/c/deep", "/c/deep/kept"]
    assert "/c/deep/new" in printed(engine, "cat /written")
    assert not (home / "deep" / "new").exists()


@pytest.fixture
def shell_server(tmp_path):
    server = SshServer(tmp_path / "sshd", path=os.environ["PATH"])
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", tmp_path / "key"], stdout=subprocess.DEVNULL)
    environ = {"SSH_AUTH_SOCK": str(tmp_path / "key")}
    try:
        while not (tmp_path / "key").exists():
            assert agent.poll() is None
            time.sleep(0.01)
        key = tmp_path / "sshd" / "user"
        subprocess.run(
            ["ssh-add", "-q", key], env={**os.environ, **environ}, check=True, capture_output=True
        )
        yield f"ssh://root@127.0.0.1:{server.port}", environ
    finally:
        agent.terminate()
        agent.wait(10)
        server.stop()


def test_repositories_over_ssh_are_read_with_the_builds_agent(
    engine, sources, shell_server, tmp_path
):
    url, environ = shell_server
    engine.import_busybox("conformance-base")
    text = (
        f"FROM busybox\nADD {url}{sources.home}/project.git#v1 /added\n"
        "COPY --from=code run.sh /named\nCOPY --from=outer inner/readme.txt /of-a-submodule\n"
    )
    contexts = {
        "code": f"{url}{sources.home}/project.git#v1:sub",
        "outer": f"{url}{sources.home}/outer.git",
    }
    home = stack(tmp_path / "ssh", {"ssh": ["default"], "additional_contexts": contexts}, text)
    engine.stackctl("build", cwd=home, environ=environ)
    assert printed(engine, "cat /added/readme.txt /of-a-submodule") == "first\n" * 2
    assert "#!/bin/sh" in printed(engine, "cat /named")
    services = {"web": {"image": "made:v1", "build": {"context": contexts["outer"]}}}
    services["web"]["build"]["ssh"] = ["default"]
    (home / "stack.yaml").write_text(json.dumps({"name": "lb", "services": services}))
    engine.stackctl("build", cwd=home, environ=environ)
    assert printed(engine, "cat /made/inner/readme.txt") == "first\n"
    del services["web"]["build"]["ssh"]
    (home / "stack.yaml").write_text(json.dumps({"name": "lb", "services": services}))
    refused = engine.stackctl("build", cwd=home, check=False)
    assert refused.returncode == 1
    assert "Permission denied" in refused.stderr
    assert "build.ssh" in refused.stderr
