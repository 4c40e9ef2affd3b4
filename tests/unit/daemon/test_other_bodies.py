"""Images, networks, volumes, progress, events and statistics on the wire."""

import json
import re
from dataclasses import replace

import pytest

from stackctl.api.codec import Reader
from stackctl.contracts.container import (
    ContainerRecord,
    ContainerSpec,
    Endpoint,
    Healthcheck,
    MountRequest,
)
from stackctl.contracts.registry import SearchResult
from stackctl.contracts.runtime import Usage
from stackctl.contracts.state import (
    BuildCacheRecord,
    ImageConfig,
    ImageRecord,
    NetworkRecord,
    Subnet,
    VolumeRecord,
)
from stackctl.daemon.bodies import events, images, networks, progress, stats, usage, volumes
from stackctl.engine import merge
from stackctl.engine.image_values import Progress, Removal, check_platform
from stackctl.engine.requests import Event, NetworkCounters
from stackctl.errors import InvalidInputError, NotFoundError

IMAGE = ImageRecord(
    id="sha256:" + "a" * 64,
    created="2026-01-02T03:04:05.123456789Z",
    config=ImageConfig(labels={"a": "b"}, exposed_ports=("80/tcp",), cmd=("sh",)),
    tags=("busybox:latest", "reg.example:5000/team/app:v1"),
    digests=("busybox@sha256:" + "b" * 64,),
    size=5,
)


def test_an_image_shows_what_clients_read():
    body = images.inspect_body(IMAGE)
    assert json.loads(json.dumps(body)) == body
    assert body["Config"]["Cmd"] == ["sh"]
    assert body["Config"]["ExposedPorts"] == {"80/tcp": {}}
    entry = images.entry_body(IMAGE)
    assert entry["Created"] == 1767323045
    assert entry["RepoTags"] == ["busybox:latest", "reg.example:5000/team/app:v1"]


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("busybox", True),
        ("busybox:latest", True),
        ("busybox:1", False),
        ("busy*", True),
        ("reg.example:5000/team/app", True),
        ("reg.example:5000/*/app:v?", True),
        ("app", False),
        ("docker.io/library/busybox", False),
        ("**box", True),
        ("b[a-u]sybox", True),
    ],
)
def test_the_reference_filter_matches_names_and_tags(pattern, fits):
    assert images.selector({"reference": (pattern,)})(IMAGE) is fits


def test_dangling_and_label_select_images():
    untagged = replace(IMAGE, tags=())
    assert not images.selector({"dangling": ("true",)})(IMAGE)
    assert images.selector({"dangling": ("false",)})(IMAGE)
    # One with a digest alone is neither.
    assert images.selector({"dangling": ("true",)})(untagged)
    assert images.selector({"dangling": ("false",)})(untagged)
    assert not images.selector({"dangling": ("false",)})(replace(untagged, digests=()))
    assert images.selector({"label": ("a=b",)})(IMAGE)
    with pytest.raises(InvalidInputError, match="syntax error in pattern"):
        images.selector({"reference": ("[",)})


def test_older_versions_show_an_image_as_they_did():
    untagged = replace(IMAGE, tags=(), digests=())
    assert images.entry_body(untagged)["RepoTags"] == []
    old = images.entry_body(untagged, containers=3, version=(1, 42))
    assert (old["RepoTags"], old["Containers"], old["VirtualSize"]) == (["<none>:<none>"], -1, 5)
    assert images.entry_body(untagged, containers=3)["Containers"] == 3


def test_an_image_without_a_date_is_of_the_zero_time():
    assert images.created_at(ImageRecord(id="x", created="0001-01-01T00:00:00Z")) == 0.0
    assert images.created_at(ImageRecord(id="x", created="")) == 0.0


def test_removals_and_labels_have_their_forms():
    gone = images.removals_body([Removal(untagged="a:1"), Removal(deleted="sha256:1")])
    assert gone == [{"Untagged": "a:1"}, {"Deleted": "sha256:1"}]
    assert images.label_pairs(("a", "b=c")) == (("a", None), ("b", "c"))


def test_a_commits_config_goes_over_the_containers():
    container = ContainerRecord(
        id="c", name="c", created=1.0, spec=ContainerSpec(image="x", mounts=(
            MountRequest(type="volume", target="/own", origin="volumes"),)),
        image_id="i", layers=(), path="p", args=(), env=("A=1", "B=2"), labels={"old": "1"}, cmd=("old",),
        working_dir="/w", healthcheck=Healthcheck(test=("CMD", "x"), interval=5.0),
    )  # fmt: skip
    image = ImageConfig(volumes=("/image",), on_build=("RUN x",), shell=("ash",), labels={"i": "1"})
    own = merge.container_config(container, image)
    assert (own.volumes, own.on_build, own.shell) == (("/image", "/own"), (), ())
    assert own.labels == {"old": "1"}
    assert images.commit_config(Reader({"Env": None})) is None
    asked = images.commit_config(
        Reader({"Env": ["A=9"], "Labels": {"new": "2"}, "Cmd": ["new"], "Volumes": {"/asked": {}}})
    )
    found = merge.over(asked, own)
    assert found.env == ("A=9", "B=2")
    assert found.labels == {"old": "1", "new": "2"}
    assert found.volumes == ("/asked", "/image", "/own")
    assert (found.cmd, found.working_dir) == (("new",), "/w")
    assert found.healthcheck == container.healthcheck
    assert merge.over(own, own) == own


def step(number, *layers, description=""):
    return BuildCacheRecord(
        id=f"sha256:{number}", image_id="x", layers=layers, description=description,
        created_at=float(number), used_at=100.0, uses=number,
    )  # fmt: skip


def test_each_layer_of_the_build_cache_counts_once():
    steps = [
        step(1, "base", "a", description="RUN a"),
        step(2, "base", "a", description="ENV x"),
        step(3, "base", "a", "b"),
        step(4, "base", "c"),
        BuildCacheRecord(id="note:x", image_id="sha256:x"),
    ]
    sizes = {"base": 1000, "a": 1, "b": 20, "c": 300}
    rows = usage.cache_rows(steps, sizes, {"base", "c"})
    found = [(row["ID"], row["Size"], row["Shared"]) for row in rows]
    assert found == [
        ("sha256:4", 300, True),
        ("sha256:3", 20, False),
        ("sha256:2", 0, False),
        ("sha256:1", 1, False),
    ]
    assert rows[-1] == {
        "ID": "sha256:1", "Type": "regular", "Description": "RUN a", "InUse": False, "Shared": False, "Size": 1,
        "CreatedAt": "1970-01-01T00:00:01Z", "LastUsedAt": "1970-01-01T00:01:40Z", "UsageCount": 1,
    }  # fmt: skip
    # Without an image the base is the first step's that stands on it.
    assert sum(row["Size"] for row in usage.cache_rows(steps, sizes, ())) == 1321


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '{"os":"linux","architecture":"arm64"}',
            "does not match the specified platform (linux/arm64)",
        ),
        ('{"os":"linux","architecture":"arm64","variant":"v8"}', "(linux/arm64/v8)"),
        ('{"os":"linux"}', "both OS and Architecture must be provided"),
        ("{}", "both OS and Architecture must be provided"),
        ("x", "failed to parse platform"),
        ("[]", "failed to parse platform"),
        ('{"os":1}', "os"),
    ],
)
def test_a_platform_that_is_not_the_image_s_is_refused(text, words):
    def check(text):
        check_platform(IMAGE, "busybox", images.read_platform(text))

    check("")
    check('{"os":"linux","architecture":"amd64"}')
    with pytest.raises((InvalidInputError, NotFoundError), match=re.escape(words)):
        check(text)


def test_what_a_search_found_is_filtered():
    found = [SearchResult(name="a", stars=5, official=True), SearchResult(name="b", stars=1)]

    def names(**filters):
        pairs = {key.replace("_", "-"): values for key, values in filters.items()}
        return [item["name"] for item in images.search_body(found, pairs)]

    assert names() == ["a", "b"]
    assert names(is_official=("true",)) == ["a"]
    assert names(is_official=("false",)) == ["b"]
    assert names(stars=("1", "3")) == ["a"]
    assert names(is_automated=("true",)) == []
    with pytest.raises(InvalidInputError, match="invalid filter 'stars=x'"):
        names(stars=("x",))


def test_subnets_read_and_are_checked():
    config = {
        "IPAM": {
            "Config": [{"Subnet": "10.5.0.0/16", "IPRange": "10.5.1.0/24", "Gateway": "10.5.0.254"}]
        }
    }
    assert networks.read_subnets(Reader(config)) == (
        Subnet(subnet="10.5.0.0/16", ip_range="10.5.1.0/24", gateway="10.5.0.254"),
    )
    assert networks.read_subnets(Reader({"IPAM": {"Config": [{}]}})) == ()


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"Subnet": "nonsense"}, "Subnet"),
        ({"Subnet": "10.0.0.1"}, "Subnet"),
        ({"Gateway": "10.0.0.1"}, "Subnet"),
        ({"Subnet": "10.5.0.0/16", "Gateway": "10.6.0.1"}, "Gateway"),
        ({"Subnet": "10.5.0.0/16", "Gateway": "x"}, "Gateway"),
        ({"Subnet": "10.5.0.0/16", "IPRange": "10.0.0.0/8"}, "IPRange"),
    ],
)
def test_subnets_that_cannot_be_are_refused_by_name(entry, field):
    with pytest.raises(InvalidInputError, match=rf"IPAM\.Config\[0\]\.{field}"):
        networks.read_subnets(Reader({"IPAM": {"Config": [entry]}}))


NETWORK = NetworkRecord(
    id="n" * 64,
    name="front",
    created=1.0,
    subnets=(Subnet(subnet="10.5.0.0/24", gateway="10.5.0.1"),),
    labels={"a": "b"},
)


def test_a_network_shows_its_members():
    member = ContainerRecord(
        id="c" * 64,
        name="web",
        created=1.0,
        spec=ContainerSpec(image="x"),
        image_id="i",
        layers=(),
        path="p",
        args=(),
    )
    endpoint = Endpoint(
        network_id="n",
        network_name="front",
        endpoint_id="e",
        ipv4_address="10.5.0.2",
        ipv4_prefix=24,
    )
    body = networks.network_body(NETWORK, [(member, endpoint)])
    assert body["Containers"]["c" * 64]["IPv4Address"] == "10.5.0.2/24"
    assert body["IPAM"]["Config"] == [{"Subnet": "10.5.0.0/24", "Gateway": "10.5.0.1"}]


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        ({"name": ("fro",)}, True),
        ({"name": ("back",)}, False),
        ({"id": ("nnn",)}, True),
        ({"driver": ("bridge",)}, True),
        ({"type": ("builtin",)}, False),
        ({"dangling": ("true",)}, True),
        ({"label": ("a=c",)}, False),
    ],
)
def test_networks_are_selected(filters, fits):
    assert networks.matches(NETWORK, filters, used=False) is fits


def test_volumes_are_shown_and_selected():
    record = VolumeRecord(name="data", created=1.0, mountpoint="/m", labels={"a": "b"})
    body = volumes.volume_body(record, size=9, users=2)
    assert (body["Name"], body["Scope"], body["UsageData"]) == (
        "data",
        "local",
        {"RefCount": 2, "Size": 9},
    )
    assert volumes.matches(record, {"dangling": ("true",)}, used=False)
    assert not volumes.matches(record, {"dangling": ("true",)}, used=True)
    assert not volumes.matches(record, {"name": ("other",)}, used=False)


def test_progress_lines_are_dockers():
    assert progress.line(Progress(status="Downloading", id="ab", current=50, total=100)) == {
        "status": "Downloading",
        "progressDetail": {"current": 50, "total": 100},
        "progress": "[=========================>                         ]      50B/100B",
        "id": "ab",
    }
    assert progress.line(Progress(status="Pull complete", id="ab")) == {
        "status": "Pull complete",
        "progressDetail": {},
        "id": "ab",
    }
    assert progress.line(Progress(stream="Loaded image: x\n")) == {"stream": "Loaded image: x\n"}
    assert progress.line(Progress(status="Pulling from x", id="v1", bare=True)) == {
        "status": "Pulling from x",
        "id": "v1",
    }
    assert progress.line(Progress(aux={"Tag": "x"})) == {"progressDetail": {}, "aux": {"Tag": "x"}}
    assert progress.error_line("no", code=3) == {
        "errorDetail": {"message": "no", "code": 3},
        "error": "no",
    }
    assert progress.human_size(1234567) == "1.235MB"


def test_events_carry_the_old_fields_too():
    body = events.event_body(
        Event(
            type="container",
            action="start",
            id="c",
            attributes={"image": "x", "name": "n"},
            time_ns=5_000_000_001,
        )
    )
    assert (body["status"], body["id"], body["from"]) == ("start", "c", "x")
    assert (body["time"], body["timeNano"], body["scope"]) == (5, 5_000_000_001, "local")


def test_stats_have_what_clients_compute_with():
    usage = Usage(
        cpu_total=100, memory_usage=10, memory_limit=1 << 62, pids=3, memory_stats={"total_inactive_file": 1},
        block_bytes=((8, 0, "Read", 7),),
    )  # fmt: skip
    sample = stats.Sample(
        read_at=2.0,
        usage=usage,
        system_cpu=1000,
        cpus=2,
        networks={"eth0": NetworkCounters(rx_bytes=4)},
    )
    body = stats.stats_body("c", "n", sample, None, host_memory=4096, v2=False)
    assert body["memory_stats"]["limit"] == 4096
    assert body["networks"]["eth0"]["rx_bytes"] == 4
    assert body["blkio_stats"]["io_service_bytes_recursive"][0]["op"] == "read"
    assert body["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    empty = stats.stats_body("c", "n", stats.Sample(read_at=2.0), None, host_memory=1, v2=True)
    assert empty["memory_stats"] == {}


def test_the_machines_cpu_time_is_read():
    assert stats.parse_system_cpu("cpu  1 2 3 4 5 6 7 100 0 0\ncpu0 ...") == 28 * 10_000_000
