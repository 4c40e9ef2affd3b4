"""The images service on real stores: names, rules of removal, tars in and out, collection."""

import asyncio
import gzip
import io
import json
import tarfile

import pytest

from stackctl.builder.changes import apply_changes
from stackctl.contracts.container import ContainerRecord, ContainerSpec, Status
from stackctl.contracts.state import ImageConfig
from stackctl.engine.image_values import ImagePruneFilter, Progress, Removal
from stackctl.errors import ConflictError, InvalidInputError, NotFoundError
from stackctl.oci.digest import digest_of
from tests.fakes.storage import Shelf, chunks, collected, tar_of


@pytest.fixture
async def shelf(tmp_path):
    made = Shelf(tmp_path)
    await made.images.start()
    yield made
    await made.layers.close()


async def made(shelf: Shelf, name: str = "", content: bytes = b"x", changes=()) -> str:
    data = tar_of({"f": content})
    config = apply_changes(ImageConfig(), changes)
    return await shelf.images.import_(chunks(data), reference=name, config=config)


def container(image_id: str, status: Status = Status.EXITED, layers=()) -> ContainerRecord:
    return ContainerRecord(
        id="c" * 64,
        name="box",
        created=1.0,
        spec=ContainerSpec(image="x"),
        image_id=image_id,
        layers=tuple(layers),
        path="sh",
        args=(),
        status=status,
        cmd=("sh",),
        env=("A=1",),
    )


async def loaded(shelf: Shelf, data: bytes) -> list[str]:
    return [message.stream async for message in shelf.images.load(chunks(data))]


async def nothing_is_left(shelf: Shelf) -> bool:
    return (
        shelf.images.all() == ()
        and await shelf.content.digests() == []
        and await shelf.layers.layers() == ()
        and shelf.state.records == {}
    )


async def test_an_image_is_found_by_every_name_it_has(shelf):
    image_id = await made(shelf, "busybox")
    for name in (
        "busybox", "busybox:latest", "docker.io/library/busybox", "index.docker.io/busybox:latest",
        image_id, image_id[:19], image_id[7:], image_id[7:11],
    ):  # fmt: skip
        assert shelf.images.resolve(name).id == image_id


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nothing", "No such image: nothing:latest"),
        ("ghcr.io/a/b:v1", r"No such image: ghcr\.io/a/b:v1"),
        ("sha256:" + "0" * 64, "No such image: sha256:0{64}"),
        ("0" * 64, "No such image: 0{64}"),
    ],
)
async def test_what_is_not_there_is_said_as_docker_says_it(shelf, name, text):
    await made(shelf, "busybox")
    with pytest.raises(NotFoundError, match=f"^{text}$"):
        shelf.images.resolve(name)


async def test_a_prefix_of_two_images_is_refused(shelf):
    ids = [await made(shelf, content=bytes([number])) for number in range(17)]
    first = {}
    twice = next(
        key for image_id in ids if (key := image_id[7]) in first or first.setdefault(key, None)
    )
    with pytest.raises(InvalidInputError, match="multiple IDs found with provided prefix"):
        shelf.images.resolve(twice)


async def test_a_tag_moves_and_the_image_that_had_it_stays(shelf):
    first = await made(shelf, "a:1", b"1")
    second = await made(shelf, "b:1", b"2")
    await shelf.images.tag("b:1", "a:1")
    assert shelf.images.resolve("a:1").id == second
    assert shelf.images.resolve(first).tags == ()
    assert shelf.images.resolve(second).tags == ("a:1", "b:1")
    with pytest.raises(InvalidInputError, match="digest reference"):
        await shelf.images.tag("a:1", "a@" + digest_of(b""))
    with pytest.raises(NotFoundError):
        await shelf.images.tag("nothing", "a:2")


async def test_removing_one_of_two_names_keeps_the_image(shelf):
    image_id = await made(shelf, "a:1")
    await shelf.images.tag("a:1", "a:2")
    assert await shelf.images.remove("a:1") == [Removal(untagged="a:1")]
    assert shelf.images.resolve("a:2").id == image_id
    gone = await shelf.images.remove("a:2")
    layer = digest_of(tar_of({"f": b"x"}))
    assert gone == [Removal(untagged="a:2"), Removal(deleted=image_id), Removal(deleted=layer)]
    assert await nothing_is_left(shelf)


async def test_an_image_with_names_in_two_repositories_is_not_removed_by_its_id(shelf):
    image_id = await made(shelf, "a:1")
    await shelf.images.tag("a:1", "b:1")
    short = image_id[7:19]
    with pytest.raises(
        ConflictError,
        match=rf"unable to delete {short} \(must be forced\) - image is referenced in multiple",
    ):
        await shelf.images.remove(image_id)
    await shelf.images.remove(image_id, force=True)
    assert await nothing_is_left(shelf)


async def test_an_image_that_a_container_uses_stays(shelf):
    image_id = await made(shelf, "a:1")
    short = image_id[7:19]
    shelf.containers = [container(image_id)]
    with pytest.raises(
        ConflictError,
        match=r'unable to remove repository reference "a:1" \(must force\) - '
        rf"container cccccccccccc is using its referenced image {short}",
    ):
        await shelf.images.remove("a:1")
    with pytest.raises(
        ConflictError, match=r"must be forced.*used by stopped container cccccccccccc"
    ):
        await shelf.images.remove(image_id)
    shelf.containers = [container(image_id, Status.RUNNING)]
    with pytest.raises(ConflictError, match=r"cannot be forced.*running container cccccccccccc"):
        await shelf.images.remove(image_id, force=True)


async def test_forcing_an_image_from_under_a_stopped_container_keeps_its_layers(shelf):
    image_id = await made(shelf, "a:1")
    layers = shelf.images.resolve(image_id).layers
    shelf.containers = [container(image_id, layers=layers)]
    assert Removal(deleted=image_id) in await shelf.images.remove("a:1", force=True)
    assert await shelf.layers.layers() == layers
    shelf.containers = []
    await shelf.images.start()
    assert await nothing_is_left(shelf)


async def test_a_layer_of_two_images_goes_with_the_last(shelf):
    await made(shelf, "a:1", changes=["CMD a"])
    await made(shelf, "b:1", changes=["CMD b"])
    await shelf.images.remove("a:1")
    layer = digest_of(tar_of({"f": b"x"}))
    assert shelf.layers.has(layer)
    assert shelf.content.has(layer)
    await shelf.images.remove("b:1")
    assert await nothing_is_left(shelf)


async def test_an_image_with_children_stays_and_an_unnamed_parent_goes_with_its_last_child(shelf):
    parent = await made(shelf, "parent:1")
    config = await shelf.images.config_json(parent)
    record = shelf.images.resolve(parent)
    config["config"] = {"Cmd": ["child"]}
    layers = [await shelf.content.ingest(chunks(tar_of({"f": b"x"})))]
    child = await shelf.images.add(config, layers=layers, tags=["child:1"], parent=parent)
    assert child.layers == record.layers
    with pytest.raises(ConflictError, match="image has dependent child images"):
        await shelf.images.remove(parent, force=True)
    assert await shelf.images.remove("parent:1") == [Removal(untagged="parent:1")]
    gone = await shelf.images.remove("child:1")
    assert [item.deleted for item in gone if item.deleted][:2] == [child.id, parent]
    assert await nothing_is_left(shelf)


async def test_what_is_held_is_not_collected(shelf):
    image_id = await made(shelf, "a:1")
    record = shelf.images.resolve(image_id)
    with shelf.images.held.hold([*record.layers, *record.layer_blobs]):
        await shelf.images.remove("a:1")
        assert shelf.layers.has(record.layers[0])
        assert shelf.content.has(record.layer_blobs[0])
    await shelf.images.start()
    assert await nothing_is_left(shelf)


async def test_prune_takes_what_has_no_name_or_no_user(shelf):
    unnamed = await made(shelf, content=b"1")
    await made(shelf, "a:1", b"22")
    used = await made(shelf, "b:1", b"3")
    shelf.containers = [container(used)]
    gone, freed = await shelf.images.prune(ImagePruneFilter())
    assert gone[0] == Removal(deleted=unnamed)
    assert freed == 1
    gone, freed = await shelf.images.prune(ImagePruneFilter(dangling=False, until=1.0))
    assert (gone, freed) == ([], 0)
    gone, freed = await shelf.images.prune(ImagePruneFilter(dangling=False))
    assert gone[0] == Removal(untagged="a:1")
    assert freed == 2
    assert [record.id for record in shelf.images.all()] == [used]


async def test_prune_minds_labels(shelf):
    await made(shelf, "a:1", b"1", changes=["LABEL keep=yes"])
    await made(shelf, "b:1", b"2", changes=["LABEL other=1"])
    keep = ImagePruneFilter(dangling=False, not_labels=(("keep", None),))
    await shelf.images.prune(keep)
    assert [record.tags for record in shelf.images.all()] == [("a:1",)]
    await shelf.images.prune(ImagePruneFilter(dangling=False, labels=(("keep", "no"),)))
    assert len(shelf.images.all()) == 1


async def test_what_was_saved_is_loaded_as_the_same_images(shelf, tmp_path):
    first = await made(shelf, "a:1", b"1", changes=["CMD a"])
    second = await made(shelf, "b:1", b"2")
    await shelf.images.tag("b:1", "c:2")
    data = await collected(shelf.images.save_archive(["a", "b:1", "c:2"]))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        listed = json.load(tar.extractfile("manifest.json"))
        assert [item["RepoTags"] for item in listed] == [["a:1"], ["b:1", "c:2"]]
        index = json.load(tar.extractfile("index.json"))
        assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == (
            "docker.io/library/a:1"
        )
    other = Shelf(tmp_path / "other")
    assert await loaded(other, gzip.compress(data)) == [
        "Loaded image: a:1\n", "Loaded image: b:1\n", "Loaded image: c:2\n"
    ]  # fmt: skip
    assert [record.id for record in other.images.all()] == [first, second]
    assert other.images.resolve("a:1").config == shelf.images.resolve("a:1").config
    assert await collected(other.images.save_archive(["a", "b:1", "c:2"])) == data
    await other.layers.close()


async def test_an_oci_layout_alone_is_loaded(shelf, tmp_path):
    image_id = await made(shelf, "a:1")
    data = await collected(shelf.images.save_archive(["a:1"]))
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as tar,
        tarfile.open(fileobj=buffer, mode="w") as out,
    ):
        for info in tar:
            if info.name not in ("manifest.json", "repositories"):
                out.addfile(info, tar.extractfile(info) if info.isfile() else None)
    other = Shelf(tmp_path / "other")
    assert await loaded(other, buffer.getvalue()) == ["Loaded image: a:1\n"]
    assert other.images.resolve("a:1").id == image_id
    await other.layers.close()


async def test_saving_by_id_names_nothing(shelf):
    image_id = await made(shelf, "a:1")
    data = await collected(shelf.images.save_archive([image_id]))
    await shelf.images.remove("a:1")
    assert await loaded(shelf, data) == [f"Loaded image ID: {image_id}\n"]


async def test_a_load_tells_its_layers_and_whose_name_it_takes(shelf):
    first = await made(shelf, "a:1", b"1")
    await shelf.images.tag("a:1", "b:1")
    data = await collected(shelf.images.save_archive(["b:1", "a:1"]))
    layer = shelf.images.resolve(first).diff_ids[0]
    await shelf.images.remove(first, force=True)
    other = await made(shelf, "a:1", b"2")
    told = [item async for item in shelf.images.load(chunks(data), quiet=False)]
    size = told[0].total
    assert size > 0
    assert told == [
        Progress(status="Loading layer", id=layer[7:19], current=0, total=size),
        Progress(status="Loading layer", id=layer[7:19], current=size, total=size),
        Progress(stream="Loaded image: b:1\n"),
        Progress(
            stream=f"The image a:1 already exists, renaming the old one with ID {other} to empty string\n"
        ),
        Progress(stream="Loaded image: a:1\n"),
    ]
    assert shelf.images.resolve(other).tags == ()
    again = [item async for item in shelf.images.load(chunks(data), quiet=False)]
    assert [item.stream for item in again] == ["Loaded image: b:1\n", "Loaded image: a:1\n"]


async def test_saving_what_is_not_there_fails_before_the_first_byte(shelf):
    with pytest.raises(NotFoundError, match=r"No such image: nothing$"):
        await anext(shelf.images.save_archive(["nothing"]))


async def replaced(data: bytes, name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as tar,
        tarfile.open(fileobj=buffer, mode="w") as out,
    ):
        for info in tar:
            body = tar.extractfile(info).read() if info.isfile() else b""
            if info.name == name:
                body = content
            info.size = len(body)
            out.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


async def test_an_archive_whose_layer_was_exchanged_is_refused_and_leaves_nothing(shelf):
    image_id = await made(shelf, "a:1")
    layer = shelf.images.resolve(image_id).layer_blobs[0]
    data = await collected(shelf.images.save_archive(["a:1"]))
    await shelf.images.remove("a:1")
    evil = await replaced(data, f"blobs/{layer.replace(':', '/')}", tar_of({"f": b"evil"}))
    with pytest.raises(InvalidInputError, match="but the image says"):
        await loaded(shelf, evil)
    assert await nothing_is_left(shelf)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"manifest.json": b"{}"},
        {"manifest.json": b'[{"Config":"../../etc/passwd","Layers":[]}]'},
        {"manifest.json": b"[1]"},
        {"manifest.json": b"["},
        {"index.json": b'{"schemaVersion":2,"manifests":[]}'},
        {"a": b"x"},
    ],
)
async def test_a_tar_that_is_no_image_is_refused_and_leaves_nothing(shelf, files):
    with pytest.raises(InvalidInputError):
        await loaded(shelf, tar_of(files))
    assert await nothing_is_left(shelf)


async def test_an_import_has_its_configuration_and_history(shelf):
    image_id = await shelf.images.import_(
        chunks(gzip.compress(tar_of({"f": b"x" * 5000}))),
        reference="a:1",
        config=ImageConfig(cmd=("sh",), exposed_ports=("80/tcp",), env=("A=1",)),
        message="made by hand",
    )
    record = shelf.images.resolve("a:1")
    assert record.config.cmd == ("sh",)
    assert record.config.exposed_ports == ("80/tcp",)
    assert (record.size, record.comment, record.os) == (5000, "made by hand", "linux")
    [line] = await shelf.images.history("a:1")
    assert (line.id, line.size, line.comment) == (image_id, 5000, "made by hand")
    with pytest.raises(InvalidInputError, match="not a tar"):
        await shelf.images.import_(chunks(b"no tar at all, really" * 50))


async def test_a_commit_adds_a_layer_with_the_containers_configuration(shelf):
    base = await made(shelf, "base:1", changes=["LABEL a=b"])
    layers = shelf.images.resolve(base).layers
    box = container(base, layers=layers)
    shelf.containers = [box]
    await shelf.layers.prepare(box.id, layers)
    (shelf.root / "data/snapshots" / box.id / "upper/new").write_text("12345")
    image_id = await shelf.images.commit(
        box, reference="mine:1", message="m", author="me", config=ImageConfig(env=("B=2",))
    )
    record = shelf.images.resolve("mine:1")
    assert record.id == image_id
    assert record.parent == base
    assert record.layers[:1] == layers
    assert record.config.env == ("B=2", "A=1")
    assert (record.author, record.comment, record.size) == ("me", "", 6)
    lines = await shelf.images.history("mine:1")
    assert [(line.size, line.comment) for line in lines] == [(5, "m"), (1, "Imported from -")]
    assert ("image", "create", image_id) in shelf.events


async def test_a_commit_of_nothing_new_is_an_image_without_a_new_layer(shelf):
    base = await made(shelf, "base:1")
    layers = shelf.images.resolve(base).layers
    box = container(base, layers=layers)
    await shelf.layers.prepare(box.id, layers)
    image_id = await shelf.images.commit(box)
    assert shelf.images.resolve(image_id).layers == layers
    assert [line.size for line in await shelf.images.history(image_id)] == [0, 1]


async def test_a_restarted_daemon_knows_its_images_and_unpacks_what_was_lost(shelf):
    image_id = await made(shelf, "a:1")
    layers = shelf.images.resolve("a:1").layers
    await shelf.layers.close()
    await shelf.layers.remove(layers[0])
    shelf.open()
    await shelf.images.start()
    assert shelf.images.resolve("a:1").id == image_id
    assert shelf.layers.has(layers[0])


async def test_the_history_of_an_image_that_lost_a_layer_is_told_all_the_same(shelf):
    await made(shelf, "a:1", b"12345")
    await shelf.layers.remove(shelf.images.resolve("a:1").layers[0])
    [line] = await shelf.images.history("a:1")
    assert (line.size, line.comment) == (0, "Imported from -")


async def test_what_a_crash_left_unnamed_is_collected_at_the_start(shelf):
    await made(shelf, "a:1")
    stray = await shelf.content.put(b"stray", "")
    orphan = await shelf.content.ingest_tar(chunks(tar_of({"o": b"o"})))
    await shelf.layers.unpack(orphan.digest, shelf.content.path(orphan.digest), "", orphan.digest)
    await shelf.images.start()
    assert not shelf.content.has(stray.digest)
    assert not shelf.layers.has(orphan.digest)
    assert shelf.images.resolve("a:1")


async def test_a_configuration_that_does_not_fit_its_layers_is_refused(shelf):
    layer = await shelf.content.ingest_tar(chunks(tar_of({"a": b"a"})))
    config = {"rootfs": {"type": "layers", "diff_ids": []}}
    with pytest.raises(InvalidInputError, match="0 layers, the image 1"):
        await shelf.images.add(config, layers=[layer])
    with pytest.raises(InvalidInputError, match="no rootfs"):
        await shelf.images.add({}, layers=[layer])


async def test_adding_and_removing_at_once_never_leaves_an_image_without_its_layers(shelf):
    async def churn(number: int) -> None:
        for _ in range(5):
            name = f"n{number}:1"
            await made(shelf, name, b"same")
            for record in shelf.images.all():
                assert all(shelf.layers.has(layer) for layer in record.layers)
            await shelf.images.remove(name, force=True)

    await asyncio.gather(*(churn(number) for number in range(4)))
    assert await nothing_is_left(shelf)


async def test_events_are_told(shelf):
    image_id = await made(shelf, "a:1")
    await shelf.images.tag("a:1", "a:2")
    await shelf.images.remove(image_id, force=True)
    actions = [action for _, action, _ in shelf.events]
    assert actions == ["tag", "import", "tag", "untag", "untag", "delete"]
    shelf.events.clear()
    first = await made(shelf, "a:1", changes=["LABEL l=1"])
    await collected(shelf.images.save_archive(["a:1"]))
    await shelf.images.prune(ImagePruneFilter())
    assert shelf.events == [
        ("image", "tag", first),
        ("image", "import", first),
        ("image", "save", first),
        ("image", "prune", ""),
    ]
