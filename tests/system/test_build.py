"""Building images on the real stores and the real runtime, with a busybox of the test's own as the base."""

import asyncio
import contextlib
import io
import os
import secrets
import tarfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stackctl.adapters.git import GitProgram
from stackctl.adapters.network.bridge import BridgeNetworks
from stackctl.adapters.network.keeper import KeeperClient
from stackctl.adapters.runtime.runc import ConmonRuntime, RuntimeSettings
from stackctl.adapters.storage.roottree import OpenAtRootTree
from stackctl.builder.build import Builder, build
from stackctl.builder.image import DEFAULT_PATH
from stackctl.builder.request import BuildOutput, BuildRequest
from stackctl.builder.run import Joined
from stackctl.contracts.state import ImageRecord
from stackctl.engine.core import Engine
from stackctl.engine.requests import NetworkRequest
from stackctl.engine.world import HostFacts, World
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.paths import engine_paths
from tests.fakes.storage import MemoryState, QuickClock, Shelf

pytestmark = pytest.mark.root

BUSYBOX = (
    'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'
)


class HostNetwork:
    """Every step in the host's network, so that these tests need no bridge."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextlib.asynccontextmanager
    async def join(self, record):
        files = {}
        for name in ("hosts", "resolv.conf", "hostname"):
            files[name] = self._directory / name
            files[name].write_text(f"{name} of a step\n")
        yield Joined(
            record=record, netns=None, hosts_file=str(files["hosts"]),
            resolv_file=str(files["resolv.conf"]), hostname_file=str(files["hostname"]),
        )  # fmt: skip


class Bench:
    """A builder on stores of the test's own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.parent = f"/stackctl-test-{secrets.token_hex(3)}"
        self.shelf = Shelf(home / "data")
        self.shelf.open()
        self.runtime = ConmonRuntime(
            RuntimeSettings(run_root=home / "run", cgroup_parent=self.parent)
        )
        self.builder = self.make_builder()

    def make_builder(self) -> Builder:
        parts = self.shelf.images.parts
        host = HostFacts(
            boot_id="test", data_root=self.home / "data", run_root=self.home / "run",
            cgroup_parent=self.parent, machine=os.uname().machine,
        )  # fmt: skip
        world = World(
            runtime=self.runtime, content=parts.content, layers=parts.layers, volumes=None,
            files=OpenAtRootTree(), network=None, keeper=None, registry=parts.registry, repositories=GitProgram(),
            state=parts.state, clock=parts.clock, processes=None, host=host,
        )  # fmt: skip
        return Builder(world, self.shelf.images, HostNetwork(self.home))

    async def build(
        self, text: str, files: dict[str, object] | None = None, **request
    ) -> list[BuildOutput]:
        context = _chunks(pack({"Dockerfile": text, **(files or {})}))
        return [item async for item in self.builder.build(BuildRequest(context=context, **request))]

    async def image(
        self, dockerfile: str, files: dict[str, object] | None = None, **request
    ) -> ImageRecord:
        outputs = await self.build(dockerfile, files, **request)
        errors = [item.error for item in outputs if item.error]
        assert not errors, errors
        (image_id,) = [item.image_id for item in outputs if item.image_id]
        return self.shelf.images.resolve(image_id)

    @contextlib.asynccontextmanager
    async def root(self, record: ImageRecord):
        async with self.shelf.layers.view(record.layers) as root:
            yield root


def pack(files: dict[str, object]) -> bytes:
    """A context: text or bytes is a file, (mode, text) one with a mode, None a directory, a Path a copy of it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, value in files.items():
            info = tarfile.TarInfo(name)
            info.mode, info.mtime, info.uid = 0o644, int(time.time()), 1234
            if isinstance(value, tuple) and value[0] == "link":
                info.type, info.linkname = tarfile.SYMTYPE, value[1]
                tar.addfile(info)
                continue
            if isinstance(value, tuple):
                info.mode, value = value
            if value is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
                continue
            data = (
                value.read_bytes()
                if isinstance(value, Path)
                else value.encode()
                if isinstance(value, str)
                else value
            )
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65536):
        yield data[start : start + 65536]


def text_of(outputs: list[BuildOutput]) -> str:
    return "".join(item.stream for item in outputs)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    assert await bench.shelf.layers.snapshots() == []
    assert list(await bench.runtime.known()) == []
    left = list((tmp_path / "data/build").iterdir()) if (tmp_path / "data/build").exists() else []
    assert left == []
    await bench.shelf.layers.close()
    bench.runtime.close()


@pytest.fixture
async def busybox(bench: Bench) -> Bench:
    await bench.image(BUSYBOX, {"busybox": (0o755, Path("/bin/busybox"))}, tags=("busybox",))
    return bench


async def test_an_image_from_scratch_holds_what_was_copied_and_says_so_in_dockers_words(
    bench: Bench,
):
    outputs = await bench.build(
        'FROM scratch\nCOPY hello /hello\nENV A="b c"\nCMD ["/hello"]\n',
        {"hello": (0o755, "hi")},
        tags=("x", "reg.test/y:1"),
    )
    record = bench.shelf.images.resolve("x")
    lines = text_of(outputs).splitlines()
    assert lines[0] == "Step 1/4 : FROM scratch"
    assert lines[2] == "Step 2/4 : COPY hello /hello"
    assert lines[-3:] == [
        f"Successfully built {record.id[7:19]}", "Successfully tagged x:latest", "Successfully tagged reg.test/y:1",
    ]  # fmt: skip
    assert f" ---> {record.id[7:19]}" in lines
    assert [item.image_id for item in outputs if item.image_id] == [record.id]
    assert record.config.env == (f"PATH={DEFAULT_PATH}", "A=b c")
    assert record.config.cmd == ("/hello",)
    assert len(record.layers) == 1
    assert [entry.empty_layer for entry in record.history] == [False, True, True]
    async with bench.root(record) as root:
        info = (root / "hello").stat()
        assert (root / "hello").read_text() == "hi"
        assert (info.st_mode & 0o7777, info.st_uid, info.st_gid) == (0o755, 0, 0)


async def test_run_sees_environment_arguments_user_and_directory(busybox: Bench):
    record = await busybox.image(
        "FROM busybox\nARG WHO=me\nENV X=1\nRUN echo app:x:5:6:app:/home/app:/bin/sh > /etc/passwd\n"
        "WORKDIR /srv/data\nRUN chown 5:6 .\nUSER app\n"
        'RUN echo "$WHO $X $(id -u):$(id -g) $(pwd) $HOME" > out\n',
        args={"WHO": "you"},
    )
    async with busybox.root(record) as root:
        assert (root / "srv/data/out").read_text() == "you 1 5:6 /srv/data /home/app\n"
        assert (root / "srv/data/out").stat().st_uid == 5
    assert record.config.user == "app"
    assert record.history[-1].created_by.startswith("|1 WHO=you /bin/sh -c echo")


async def test_what_the_runtime_mounts_leaves_no_trace_in_the_layer(busybox: Bench):
    before = busybox.shelf.images.resolve("busybox")
    record = await busybox.image("FROM busybox\nRUN true\n")
    assert record.layers == before.layers
    async with busybox.root(before) as root:
        assert sorted(path.name for path in root.iterdir()) == ["bin"]


async def test_a_failing_run_tells_its_code_and_leaves_no_image(busybox: Bench):
    count = len(busybox.shelf.images.all())
    outputs = await busybox.build("FROM busybox\nRUN echo bad >&2; exit 7\n")
    assert (
        outputs[-1].error
        == "The command '/bin/sh -c echo bad >&2; exit 7' returned a non-zero code: 7"
    )
    assert outputs[-1].code == 7
    assert "bad\n" in text_of(outputs)
    assert len(busybox.shelf.images.all()) == count


async def test_a_second_build_takes_every_step_from_the_cache_even_after_a_restart(busybox: Bench):
    text = "FROM busybox\nCOPY a /a\nRUN date +%s%N > /t\nWORKDIR /w\nLABEL a=b\n"
    first = await busybox.image(text, {"a": "1"})
    busybox.builder = busybox.make_builder()
    await asyncio.sleep(0.01)
    outputs = await busybox.build(text, {"a": "1"})
    assert text_of(outputs).count("Using cache") == 4
    assert [item.image_id for item in outputs if item.image_id] == [first.id]
    changed = await busybox.build(text, {"a": "2"})
    assert text_of(changed).count("Using cache") == 0
    again = await busybox.build(text, {"a": "1"}, no_cache=True)
    assert "Using cache" not in text_of(again)


async def test_a_mode_counts_for_the_cache_and_a_time_does_not(busybox: Bench):
    text = "FROM busybox\nCOPY a /a\n"
    await busybox.image(text, {"a": "1"})
    await asyncio.sleep(1.1)
    assert "Using cache" in text_of(await busybox.build(text, {"a": "1"}))
    assert "Using cache" not in text_of(await busybox.build(text, {"a": (0o600, "1")}))


async def test_twenty_cached_steps_take_less_than_a_quarter_of_a_second_of_work(busybox: Bench):
    text = "FROM busybox\n" + "".join(f"RUN echo {n} > /f{n}\n" for n in range(3))
    text += (
        "".join(f"ENV N{n}={n}\n" for n in range(13))
        + "COPY . /src\nWORKDIR /src\nLABEL a=b\nCMD true\n"
    )
    await busybox.image(text, {"x/y": "z"})
    # Of the processor: the wall's clock says as much of the machine's other work.
    start = time.process_time()
    outputs = await busybox.build(text, {"x/y": "z"})
    assert time.process_time() - start < 0.25
    assert text_of(outputs).count("Using cache") == 20


async def test_stages_copy_from_each_other_and_unneeded_ones_are_skipped(busybox: Bench):
    outputs = await busybox.build(
        "FROM busybox AS a\nRUN echo a > /out; chown 7:8 /out\n"
        "FROM busybox AS never\nRUN exit 1\n"
        "FROM scratch\nCOPY --from=a /out /a\nCOPY --from=0 --chown=3 /out /b/\nCOPY --from=busybox /bin/busybox /bb\n",
        tags=("multi",),
    )
    record = busybox.shelf.images.resolve("multi")
    assert "exit 1" not in text_of(outputs)
    async with busybox.root(record) as root:
        assert (root / "a").read_text() == "a\n"
        assert ((root / "a").stat().st_uid, (root / "a").stat().st_gid) == (7, 8)
        assert ((root / "b/out").stat().st_uid, (root / "b/out").stat().st_gid) == (3, 3)
        assert (root / "bb").stat().st_size > 100_000
    again = await busybox.build(
        "FROM busybox AS a\nRUN echo a > /out; chown 7:8 /out\nFROM scratch\nCOPY --from=a /out /a\n"
    )
    assert text_of(again).count("Using cache") == 2
    record = await busybox.image(
        "FROM busybox AS a\nENV A=1\nFROM a AS b\nENV B=2\nFROM b\nRUN exit 1\n", target="b"
    )
    assert record.config.env == (f"PATH={DEFAULT_PATH}", "A=1", "B=2")


async def test_directories_are_copied_as_docker_does(busybox: Bench):
    files = {
        "d": None,
        "d/x": "x",
        "d/sub": None,
        "d/sub/y": (0o600, "y"),
        "d/l": ("link", "x"),
        "e.txt": "e",
        "f.txt": "f",
    }
    record = await busybox.image(
        "FROM busybox\nCOPY d /one\nCOPY d /two/\nCOPY e.txt /three/\nCOPY e.txt /four\nCOPY *.txt /five/\n"
        "WORKDIR /w\nCOPY d .\nCOPY e.txt f.txt ./rel/\nCOPY --chmod=750 --chown=1:2 e.txt /six/e\n"
        'COPY ["e.txt", "/with space/"]\nCOPY --exclude=sub d /seven\nCOPY --parents d/sub/y /eight/\n',
        files,
    )
    async with busybox.root(record) as root:
        for place in ("one", "two", "w"):
            assert (root / place / "sub/y").read_text() == "y"
            assert (root / place / "sub/y").stat().st_mode & 0o777 == 0o600
            assert os.readlink(root / place / "l") == "x"
        assert (root / "three/e.txt").read_text() == "e"
        assert (root / "four").is_file()
        assert sorted(path.name for path in (root / "five").iterdir()) == ["e.txt", "f.txt"]
        assert (root / "w/rel/f.txt").exists()
        six = (root / "six/e").stat()
        assert (six.st_mode & 0o777, six.st_uid, six.st_gid) == (0o750, 1, 2)
        assert (root / "with space/e.txt").exists()
        assert sorted(path.name for path in (root / "seven").iterdir()) == ["l", "x"]
        assert (root / "eight/d/sub/y").exists()


async def test_add_unpacks_archives_and_copy_does_not(busybox: Bench):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        info = tarfile.TarInfo("in/file")
        info.size, info.uid = 2, 42
        tar.addfile(info, io.BytesIO(b"ok"))
    record = await busybox.image(
        "FROM busybox\nADD a.tgz /x/\nCOPY a.tgz /y/\nADD --chown=9:9 a.tgz /z\nADD plain.gz /p/\n",
        {"a.tgz": archive.getvalue(), "plain.gz": b"\x1f\x8bnot really"},
    )
    async with busybox.root(record) as root:
        assert (root / "x/in/file").read_text() == "ok"
        assert (root / "x/in/file").stat().st_uid == 42
        assert (root / "y/a.tgz").read_bytes() == archive.getvalue()
        assert (root / "z/in/file").stat().st_gid == 9
        assert (root / "p/plain.gz").exists()


async def test_dockerignore_hides_what_was_sent_all_the_same(busybox: Bench):
    files = {
        ".dockerignore": "secret\n**/*.o\n!keep.o\n",
        "secret": "s",
        "a.o": "",
        "keep.o": "",
        "b": "b",
    }
    record = await busybox.image("FROM busybox\nCOPY . /c/\n", files)
    async with busybox.root(record) as root:
        assert sorted(path.name for path in (root / "c").iterdir()) == [
            ".dockerignore",
            "Dockerfile",
            "b",
            "keep.o",
        ]
    outputs = await busybox.build("FROM busybox\nCOPY secret /\n", files)
    assert outputs[-1].error.startswith("Dockerfile:2: COPY failed: ")
    assert "2 | COPY secret /" in outputs[-1].error


async def test_heredocs_run_and_copy(busybox: Bench):
    record = await busybox.image(
        "FROM busybox\nARG N=1\nRUN <<EOF\necho one > /r\necho two >> /r\nEOF\n"
        "RUN <<P\n#!/bin/sh -e\necho own $0 > /p\nP\n"
        "RUN cat <<A > /a && cat <<B > /b\nfrom a\nA\nfrom b\nB\n"
        'COPY <<X <<"Y" /files/\nn is $N\nX\nn is $N\nY\n'
    )
    async with busybox.root(record) as root:
        assert (root / "p").read_text() == "own /dev/pipes/P\n"
        assert (root / "r").read_text() == "one\ntwo\n"
        assert (root / "a").read_text() == "from a\n"
        assert (root / "b").read_text() == "from b\n"
        assert (root / "files/X").read_text() == "n is 1\n"
        assert (root / "files/Y").read_text() == "n is $N\n"


async def test_mounts_of_run_are_there_and_leave_nothing(busybox: Bench):
    record = await busybox.image(
        "FROM busybox AS src\nRUN mkdir /d && echo src > /d/f\n"
        "FROM busybox\n"
        "RUN --mount=target=/ctx --mount=type=bind,from=src,source=/d,target=/from cat /ctx/a /from/f > /out\n"
        "RUN --mount=type=cache,target=/cache echo 1 >> /cache/n; wc -l < /cache/n > /n1\n"
        "RUN --mount=type=cache,target=/cache echo 1 >> /cache/n; wc -l < /cache/n > /n2\n"
        "RUN --mount=type=secret,id=pw cat /run/secrets/pw | md5sum > /sum\n"
        "RUN --mount=type=tmpfs,target=/tmp/t echo x > /tmp/t/x\n"
        "RUN --mount=type=bind,rw,target=/ctx echo x > /ctx/a; cat /ctx/a > /rw\n",
        {"a": "context\n"},
        secrets={"pw": b"hidden"},
    )
    async with busybox.root(record) as root:
        assert (root / "out").read_text() == "context\nsrc\n"
        assert [(root / name).read_text().strip() for name in ("n1", "n2")] == ["1", "2"]
        assert (root / "rw").read_text() == "x\n"
        assert not (root / "ctx").exists()
        assert not (root / "cache").exists()
        assert not (root / "run").exists()
        assert not (root / "tmp").exists()


async def test_metadata_reaches_the_image(busybox: Bench):
    record = await busybox.image(
        'FROM busybox\nMAINTAINER me\nEXPOSE 80 53/udp\nVOLUME /data\nSTOPSIGNAL SIGINT\nSHELL ["/bin/ash", "-c"]\n'
        'HEALTHCHECK --interval=1m30s --retries=2 CMD curl x\nENTRYPOINT echo\nLABEL a=1 b="2 3"\nUSER 1:2\n',
        labels={"given": "yes"},
    )
    config = record.config
    assert record.author == "me"
    assert config.exposed_ports == ("53/udp", "80/tcp")
    assert config.volumes == ("/data",)
    assert config.stop_signal == "SIGINT"
    assert config.entrypoint == ("/bin/ash", "-c", "echo")
    assert config.healthcheck.test == ("CMD-SHELL", "curl x")
    assert (config.healthcheck.interval, config.healthcheck.retries) == (90.0, 2)
    assert config.labels == {"a": "1", "b": "2 3", "given": "yes"}
    assert config.user == "1:2"


async def test_triggers_of_the_base_run_once(busybox: Bench):
    base = await busybox.image(
        "FROM busybox\nONBUILD RUN echo t >> /t\nONBUILD ENV T=1\n", tags=("base",)
    )
    assert base.config.on_build == ("RUN echo t >> /t", "ENV T=1")
    outputs = await busybox.build("FROM base\n", tags=("child",))
    assert "# Executing 2 build triggers\n" in text_of(outputs)
    child = busybox.shelf.images.resolve("child")
    assert child.config.on_build == ()
    assert "T=1" in child.config.env


async def test_wrong_requests_are_refused_before_any_output(bench: Bench):
    for text, words in (
        ("FRUM x\n", "Dockerfile:1: unknown instruction: FRUM (did you mean FROM?)"),
        (
            "FROM scratch\nCOPY --form=a b c\n",
            "Dockerfile:2: unknown flag: --form for COPY (did you mean from?)",
        ),
        ("RUN x\n", "Dockerfile:1: no build stage"),
    ):
        with pytest.raises(InvalidInputError) as caught:
            await bench.build(text)
        assert caught.value.message.startswith(words)
    with pytest.raises(InvalidInputError, match="Cannot locate specified Dockerfile"):
        await bench.build("FROM scratch\n", dockerfile="Other")
    with pytest.raises(InvalidInputError, match="failed to reach build target"):
        await bench.build("FROM scratch AS a\n", target="b")
    with pytest.raises((InvalidInputError, NotFoundError)):
        [item async for item in bench.builder.build(BuildRequest(context=_chunks(b"no tar")))]


async def test_stopping_a_build_ends_its_container(busybox: Bench):
    stream = busybox.builder.build(
        BuildRequest(
            context=_chunks(pack({"Dockerfile": "FROM busybox\nRUN echo go; sleep 100\n"}))
        )
    )
    async for item in stream:
        if item.stream == "go\n":
            break
    start = time.monotonic()
    await stream.aclose()
    assert time.monotonic() - start < 10


async def test_a_program_that_is_not_there_is_one_clear_error(busybox: Bench):
    outputs = await busybox.build('FROM busybox\nRUN ["/nowhere"]\n')
    assert outputs[-1].error.startswith("Dockerfile:2: ")
    assert "/nowhere" in outputs[-1].error


async def test_two_builds_at_once_share_their_steps(busybox: Bench):
    text = "FROM busybox\nRUN date +%s%N > /t; sleep 0.3\n"
    first, second = await asyncio.gather(busybox.image(text), busybox.image(text))
    assert first.id == second.id


async def test_a_given_epoch_makes_the_same_image_twice_and_in_another_store(tmp_path: Path):
    text = (
        f"{BUSYBOX}COPY a /x/a\nWORKDIR /w\nRUN mkdir -p /deep/er && echo x > /deep/er/f && ln -s f /deep/l"
        " && touch -d @5 /old && rm /x/a\nENV A=b\n"
    )
    ids = []
    for name in ("one", "one", "two"):
        bench = Bench(tmp_path / name)
        record = await bench.image(
            text,
            {"busybox": (0o755, Path("/bin/busybox")), "a": "1"},
            args={"SOURCE_DATE_EPOCH": "1000"},
            no_cache=True,
        )
        assert record.created == record.history[-1].created == "1970-01-01T00:16:40Z"
        ids.append((record.id, record.layer_blobs))
        async with bench.root(record) as root:
            assert (root / "deep/er/f").lstat().st_mtime == 1000
            assert (root / "old").lstat().st_mtime == 5
        await bench.shelf.layers.close()
        bench.runtime.close()
    assert ids[0] == ids[1] == ids[2]


async def test_stages_that_do_not_need_each_other_run_at_the_same_time(busybox: Bench):
    # Each waits for a sign of the other, which is only there while the other runs.
    wait = "for i in $(seq 600); do test -e /c/{} && exit 0; sleep 0.1; done; exit 1"
    text = "".join(
        f"FROM busybox AS s{one}\n"
        f"RUN --mount=type=cache,target=/c,id=meet touch /c/{one}; {wait.format(other)}\n"
        f"RUN echo {one} > /made\n"
        for one, other in ((1, 2), (2, 1))
    )
    text += "FROM busybox\nCOPY --from=s1 /made /1\nCOPY --from=s2 /made /2\n"
    record = await busybox.image(text)
    async with busybox.root(record) as root:
        assert (root / "1").read_text() + (root / "2").read_text() == "1\n2\n"


async def test_the_cache_outlives_the_images_and_prune_empties_it(busybox: Bench):
    record = await busybox.image("FROM busybox\nRUN echo x > /x\n", tags=("gone",))
    await busybox.shelf.images.remove("gone")
    outputs = await busybox.build("FROM busybox\nRUN echo x > /x\n", tags=("back",))
    assert "Using cache" in text_of(outputs)
    assert busybox.shelf.images.resolve("back").id == record.id
    await busybox.shelf.images.remove("back")
    steps, size = await busybox.builder.prune()
    assert steps
    assert size > 0


async def test_a_step_is_on_the_engines_bridge_and_gives_everything_back(tmp_path: Path):
    paths = engine_paths(
        {"STACKCTL_RUN_ROOT": str(tmp_path / "run"), "STACKCTL_DATA_ROOT": str(tmp_path / "data")},
        uid=0,
    )
    paths.run_root.mkdir()
    shelf = Shelf(tmp_path)
    keeper = KeeperClient(paths.keeper_socket, tmp_path / "keeper.log")
    runtime = ConmonRuntime(
        RuntimeSettings(run_root=paths.run_root, cgroup_parent=paths.cgroup_parent)
    )
    host = HostFacts(
        boot_id="test", data_root=paths.data_root, run_root=paths.run_root,
        cgroup_parent=paths.cgroup_parent, bridge_prefix=paths.bridge_prefix,
        veth_prefix=paths.veth_prefix, address_pool=paths.address_pool, resolv_conf="nameserver 192.0.2.7\n",
    )  # fmt: skip
    engine = Engine(
        World(
            runtime=runtime, content=shelf.content, layers=shelf.layers, volumes=None,
            files=OpenAtRootTree(), network=BridgeNetworks(paths, keeper), keeper=keeper,
            registry=NoRegistry(), repositories=GitProgram(), state=KeyedState(), clock=QuickClock(), processes=None, host=host,
        )
    )  # fmt: skip
    await engine.start()
    try:
        text = (
            BUSYBOX
            + "RUN ip addr > /ip; cat /etc/resolv.conf /etc/hosts > /files\nRUN --network=none ip addr > /none\n"
        )
        files = {"Dockerfile": text, "busybox": (0o755, Path("/bin/busybox"))}
        request = BuildRequest(
            context=_chunks(pack(files)), extra_hosts=("db:192.0.2.9",), tags=("t",)
        )
        outputs = [item async for item in build(request, engine)]
        assert [item.error for item in outputs if item.error] == []
        async with shelf.layers.view(engine.images.resolve("t").layers) as root:
            assert paths.address_pool.rpartition(".0.0")[0] in (root / "ip").read_text()
            assert "eth0" not in (root / "none").read_text()
            assert "nameserver 192.0.2.7" in (root / "files").read_text()
            assert "192.0.2.9\tdb" in (root / "files").read_text()
        assert engine.containers.all() == ()
        assert list(await engine.world.network.sandboxes()) == []
        assert engine.files.known() == []
        await engine.networks.create(NetworkRequest(name="mine"))
        for step, fails in (("ip addr | grep eth0", False), ("false", True)):
            files = {**files, "Dockerfile": f"{BUSYBOX}RUN {step}\n"}
            request = BuildRequest(context=_chunks(pack(files)), network_mode="mine")
            outputs = [item async for item in build(request, engine)]
            assert any(item.error for item in outputs) is fails
        await engine.networks.remove("mine")
    finally:
        await engine.stop()
        await shelf.layers.close()
        runtime.close()


class NoRegistry:
    """A registry that is never asked."""

    async def close(self) -> None:
        """Nothing is open."""


class KeyedState(MemoryState):
    """Records of every kind in memory, volumes by their name."""

    def save(self, record) -> None:
        self.records[getattr(record, "id", "") or record.name] = record
